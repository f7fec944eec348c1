"""Random input, from a seed: log lines, payloads, budgets and prices. Nothing but UserError may come out of a
reader, and the gate always answers.

ARMLEDGER_FUZZ_SECONDS: for how long (default 2.5; `make fuzz` 300). ARMLEDGER_SEED: another beginning.
"""
import copy
import glob
import json
import os
import random
import re
import time
import unittest
from unittest import mock

from support import BUDGETS, DATA, ROOT, SESSION, Clock, Home, load_script

SECONDS = float(os.environ.get('ARMLEDGER_FUZZ_SECONDS', '2.5'))
SEED = int(os.environ.get('ARMLEDGER_SEED', '7'))
ODD = (None, True, False, 0, 1, -1, 7, 10 ** 8, 10 ** 8 + 1, 10 ** 19, -10 ** 19, 1.5, -0.0, 1e308, float('inf'), float('nan'), '', ' ', 'x',
       '\0', '/\0', '\ud800', '\u202e', '\x1b[31m', '\uffff', '-1', '1e9', '~', '..', '/', '/dev/zero', '/proc/self/mem', 'a' * 5000,
       '9999-99-99', '2026-11-23T10:00:00.000Z', '0001-01-01T00:00:00Z', '9999-12-31T23:59:60+99:59', [], [[]], {}, {'': None}, [None],
       {'usage': {'output_tokens': 5}}, {'type': 'assistant'}, {'id': 'msg_1'}, ['message'], '<synthetic>', 'gpt-5', 'claude-opus-5-5[1m]')
WORDS = (b'"', b'{', b'}', b'[', b']', b',', b':', b'\\', b'\n', b'\r\n', b'\0', b'\xff', b'\xed\xa0\x80', b'\xef\xbb\xbf', b'null', b'1e999', b'-1',
         b'"usage":{', b'"type":"assistant"', b'"message":{', b'99999999999999999999', b'\\u0000', b'\\ud800', b'#', b'- ', b'  ', b'\t', b'|', b'&a ', b'*a', b'~')
FORBIDDEN = {'continue', 'stopReason', 'suppressOutput'}         # in an answer to Codex


class Mutations:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def value(self, value, rate=0.1):
        """A JSON value with some of its parts replaced, left out, doubled or moved."""
        rng = self.random
        if rng.random() < rate / 4:
            return rng.choice(ODD)
        if isinstance(value, dict):
            items = [(key if rng.random() > rate / 8 else rng.choice(('type', 'id', 'cwd', 'usage', '', '\0')), self.value(part, rate))
                     for key, part in value.items() if rng.random() > rate / 4]
            if rng.random() < rate:
                rng.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            return [self.value(part, rate) for part in value for _ in range(2 if rng.random() < rate / 4 else 1)]
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < rate:
            return rng.choice((0, -value, value + 1, value * 10 ** rng.randint(1, 20), 2 ** rng.randint(1, 70)))
        return value if rng.random() > rate / 2 else rng.choice(ODD)

    def text(self, text, most=4):
        """Bytes with a few places cut out, doubled, or written over."""
        rng = self.random
        for _ in range(rng.randint(0, most)):
            at, other = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
            kind = rng.randrange(6)
            if kind == 0:
                text = text[:at] + text[min(other, at + rng.randint(1, 30)):]
            elif kind == 1:
                text = text[:at]
            elif kind == 2:
                text = text[:at] + text[at:at + 40] + text[at:]
            elif kind == 3:
                text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1:]
            else:
                text = text[:at] + rng.choice(WORDS) + text[at + rng.randrange(3):]
        return text


def real_lines(pattern):
    """The lines of recorded logs, by the file that they stand in."""
    found = []
    for top in sorted(glob.glob(os.path.join(DATA, pattern))):
        for folder, _, names in sorted(os.walk(top)):      # hidden folders too
            for name in sorted(names):
                if name.endswith('.jsonl') and name not in ('bill.jsonl', 'usage_record.jsonl') and 'payload' not in name:
                    with open(os.path.join(folder, name), 'rb') as stream:
                        found.append(stream.read().splitlines(keepends=True))
    return found


class Fuzz(unittest.TestCase):
    SHARE = 0.1                                            # of the seconds that there are

    def setUp(self):
        self.gate = load_script('budget-check.py')
        patch = mock.patch.object(self.gate, 'time', Clock())            # it waits for an answer's line, in vain
        patch.start()
        self.addCleanup(patch.stop)
        self.changed = Mutations(SEED)
        self.random = self.changed.random
        with open(os.path.join(ROOT, 'prices.json'), encoding='utf-8') as stream:
            self.price_list = stream.read()
        self.prices = self.gate.Prices(self.price_list)

    def steps(self):
        """Numbers for as long as there is time; what fails is told with the number and the seed."""
        until, n = time.monotonic() + SECONDS * self.SHARE, 0
        while n < 5 or time.monotonic() < until:
            n += 1
            yield n

    def tell(self, error, n, given):
        import traceback
        where = ''.join(traceback.format_tb(error.__traceback__)[-3:])
        self.fail('%s: %s in step %d of seed %d, given %.3000r\n%s' % (type(error).__name__, error, n, SEED, given, where))

    def is_an_answer(self, answer, codex=False):
        """Silence, JSON on stdout with exit 0, or text on stderr with exit 2."""
        code, out, err = answer
        self.assertIn(code, (0, 2))
        self.assertFalse(out and code, answer)
        self.assertEqual(bool(err), code == 2, answer)
        self.assertNotIn('Traceback', err + out)
        self.assertTrue(err.isprintable(), answer)
        if out:
            said = json.loads(out)
            self.assertLessEqual(set(said), {'hookSpecificOutput', 'systemMessage', 'continue', 'stopReason', 'decision', 'reason'})
            for text in list(said.values()) + list(said.get('hookSpecificOutput', {}).values()):
                self.assertTrue(not isinstance(text, str) or text.isprintable() and text, answer)
            if codex:
                self.assertFalse(FORBIDDEN & set(said), answer)


class Lines(Fuzz):
    SHARE = 0.35

    def lines(self, files):
        chosen = self.random.choice(files)
        start = 0 if self.random.random() < 0.7 else self.random.randrange(len(chosen))
        kept = []
        for line in chosen[start:start + self.random.randint(1, 40)]:
            how = self.random.random()
            if how < 0.4:
                line = self.changed_line(json.loads(line))
            elif how < 0.5:
                own = b'_%d"' % self.random.getrandbits(60)
                line = self.changed.text(re.sub(rb'("(?:id|response_id)":"(?:msg|resp)_[^"]*)"', lambda found: found.group(1) + own, line))
            kept += [line] * (2 if self.random.random() < 0.1 else 1)
        if self.random.random() < 0.3:
            self.random.shuffle(kept)
        return b''.join(kept)

    def changed_line(self, record):
        """With an id of its own: which of two different tellings of one call counts is another test's matter."""
        record = self.changed.value(record, self.random.choice((0.02, 0.1, 0.4)))
        record = record if isinstance(record, dict) else {'odd': record}
        for part, keys in ((record, ('uuid', 'requestId')), (record.get('message'), ('id',)), (record.get('payload'), ('response_id',))):
            for key in keys:
                if isinstance(part, dict) and key in part:
                    part[key] = 'changed_%d' % self.random.getrandbits(60)
        return json.dumps(record).encode() + b'\n'

    def figures(self, ledger):
        return [sorted(ledger.rows(statement), key=repr) for statement in (
            'select key, sessions.name, calls.agent, kind, here.cwd, there.cwd, calls.ts, models.name, variant, input, output, '
            'write_short, write_long, read, searches, usd, assumed, owned from calls join sessions on sessions.id = session '
            'join models on models.id = model join pairs on pairs.id = calls.pair join places here on here.id = place '
            'join places there on there.id = pairs.origin',
            'select agent, name, began, origin_ts, cwd, sessions.root, version from sessions '
            'join places on places.id = origin')]

    def read_all(self, home, path, pieces, name):
        """The ledger's figures when a file is read each time that a piece has been added."""
        if os.path.exists(path):
            os.remove(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for n, piece in enumerate(pieces):
            home.write(path, piece, 'a')
            os.utime(path, (1.79e9, 1.79e9))
            os.utime(os.path.dirname(path), (n, n))
            ledger = self.gate.Ledger(home.join(name), home.path)
            try:
                ledger.refresh(self.prices, home.environ, 1790000000000)
                found = self.figures(ledger)
            finally:
                ledger.close()
        return found

    def split(self, text):
        cuts = sorted({0, len(text)} | {self.random.randint(0, len(text)) for _ in range(self.random.randint(1, 5))})
        return [text[a:b] for a, b in zip(cuts, cuts[1:])] or [b'']

    def test_claude(self):
        self.fuzz(real_lines('claude-code-*'), lambda home: os.path.join(os.path.dirname(home.transcript), self.random.choice((
            SESSION + '.jsonl', SESSION + '/subagents/agent-a1.jsonl'))))

    def test_codex(self):
        self.fuzz(real_lines('codex-*'), lambda home: home.join(
            '.codex', 'sessions', '2026', '11', '23', 'rollout-2026-11-23T10-28-24-01a207f3-2364-7ca3-b2af-4b53155dd0d0.jsonl'))

    def test_others(self):
        self.fuzz(real_lines('copilot-*'), lambda home: home.join('.copilot', 'session-state', SESSION, 'events.jsonl'))
        self.fuzz(real_lines('gemini-*'), lambda home: home.join('.gemini', 'tmp', 'acme', 'chats', 'session-x-12345678.jsonl'))
        self.fuzz(real_lines('qwen-*'), lambda home: home.join('.qwen', 'projects', '-acme', 'chats', SESSION + '.jsonl'))

    def fuzz(self, files, place):
        self.assertTrue(files, 'no recorded logs in tests/data')
        home = Home(self)
        for n in self.steps():
            text, path = self.lines(files), place(home)
            try:
                whole = self.read_all(home, path, [text], 'whole.sqlite3')
                parts = self.read_all(home, path, self.split(text), 'parts.sqlite3')
                for ours, theirs in zip(whole, parts):         # of lines in disorder another one may tell the time
                    self.assertEqual([row[:6] + row[7:] for row in ours], [row[:6] + row[7:] for row in theirs])
                self.plausible(whole)
            except Exception as error:
                self.tell(error, n, text)
            finally:
                for name in os.listdir(home.path):
                    if '.sqlite3' in name:
                        os.remove(home.join(name))
                os.remove(path)

    def plausible(self, figures):
        for key, session, _, kind, _, _, _, _, _, *tokens, usd, assumed, owned in figures[0]:
            self.assertTrue(key is not None or kind == 'untranscribed', figures[0])
            self.assertTrue(all(type(count) is int and 0 <= count <= 10 ** 11 for count in tokens), tokens)
            self.assertTrue(type(usd) is int and 0 <= usd <= 10 ** 16, usd)
            self.assertIn(assumed, (0, 1))
            self.assertIn(owned, (0, 1, None))


class Payloads(Fuzz):
    TOOLS = ('Agent', 'Task', 'Bash', 'Write', 'Edit', 'apply_patch', 'WebSearch', 'mcp__playwright__x', 'spawn_agent', 'TaskList')

    def payload(self, home):
        payload = {'session_id': SESSION, 'transcript_path': home.transcript, 'cwd': home.acme, 'permission_mode': 'default',
                   'hook_event_name': self.random.choice(('PreToolUse', 'PreToolUse', 'UserPromptSubmit', 'PostToolUse', 'Stop')),
                   'tool_name': self.random.choice(self.TOOLS), 'tool_use_id': 'toolu_1', 'prompt': 'x',
                   'tool_input': {'command': 'cat ~/budgets.yaml', 'file_path': home.budgets, 'prompt': 'x', 'run_in_background': True}}
        if self.random.random() < 0.3:
            payload.update(agent_id='a1', agent_type='general-purpose')
        if self.random.random() < 0.3:
            payload.update(turn_id='t', model='gpt-5.2-codex')
        return payload

    def test_payloads(self):
        """An arm over its hard stop: what is still a sub-agent's payload after the change is refused."""
        home = Home(self)
        home.add_calls(12)
        for n in self.steps():
            payload = self.changed.value(self.payload(home), self.random.choice((0, 0.1, 0.5)))
            text = json.dumps(payload).encode()
            if self.random.random() < 0.3:
                text = self.changed.text(text)
            try:
                answer = self.gate.gate(text, home.environ, ROOT)
                try:
                    given = json.loads(text.decode())
                except (ValueError, RecursionError):
                    given = None
                known = given if isinstance(given, dict) else {}
                self.is_an_answer(answer, 'turn_id' in known)
                refused = answer[0] == 2 or '"deny"' in answer[1] or '"block"' in answer[1]
                if known.get('cwd') == home.acme and known.get('hook_event_name') == 'PreToolUse' and known.get('tool_name') in ('Agent', 'WebSearch'):
                    self.assertTrue(refused, answer)
                if known.get('hook_event_name') == 'PostToolUse' or \
                        known.get('tool_name') == 'TaskList' and not known.get('agent_id'):
                    self.assertFalse(refused, answer)
            except Exception as error:
                self.tell(error, n, text)

    def test_through_the_hook(self):
        home = Home(self)
        home.add_calls(12)
        for _ in range(4):
            text = self.changed.text(json.dumps(self.changed.value(self.payload(home), 0.3)).encode())
            answer = home.hook(text=text)
            self.is_an_answer((answer.code, answer.out.strip(), answer.err.strip()), b'turn_id' in text)


class BudgetTexts(Fuzz):
    def test_budgets(self):
        texts = [BUDGETS.encode()]
        for path in sorted(glob.glob(os.path.join(DATA, 'budgets-re*', '*.yaml')) + [os.path.join(ROOT, 'budgets.yaml')]):
            with open(path, 'rb') as stream:
                texts.append(stream.read())
        home = Home(self)
        home.add_calls(12)
        for n in self.steps():
            text = self.changed.text(self.random.choice(texts), 8)
            try:
                try:
                    self.gate.Budgets(text.decode('utf-8', 'replace'), 'budgets.yaml', home.path)
                except self.gate.UserError as error:
                    self.assertRegex(str(error), r'^budgets\.yaml:\d+:\d+: \S')
                home.write(home.budgets, text)
                for tool in ('Agent', 'Bash'):
                    answer = self.gate.gate(home.payload(tool), home.environ, ROOT)
                    self.is_an_answer(answer)
                    self.assertFalse('bug in armledger' in answer[1], answer)
            except Exception as error:
                self.tell(error, n, text)


class PriceLists(Fuzz):
    SHARE = 0.15
    MODELS = ('claude-opus-5-5', 'us.anthropic.claude-opus-4-5-20251101-v1:0', 'gpt-5.5', 'gpt-5', '', '\0', 'claude-', 'a.b/c:d@e', 'claude-opus-5-5-fast', '?')
    VARIANTS = ('', 'fast', 'batch us', 'flex', 'priority', 'ultrafast', 'nonsense')

    def test_prices(self):
        whole = json.loads(self.price_list)
        few = dict(whole, models={name: whole['models'][name] for name in list(whole['models'])[::6]})
        for entry in (whole['fallbacks'].values() if isinstance(whole.get('fallbacks'), dict) else ()):
            if entry in whole['models']:
                few['models'][entry] = whole['models'][entry]
        small, accepted = json.dumps(few, indent=1).encode(), 0
        for n in self.steps():
            if self.random.random() < 0.5:
                text = self.changed.text(small, 3)
            else:
                text = json.dumps(self.changed.value(copy.deepcopy(few), 0.003)).encode()
            try:
                try:
                    prices = text.decode('utf-8', 'replace')
                    self.gate.check_prices(prices, 'prices.json')
                    prices = self.gate.Prices(prices)
                except self.gate.UserError as error:
                    self.assertTrue(str(error).startswith('prices.json'), error)
                    continue
                accepted += 1
                for model in self.MODELS:
                    self.assertIsInstance(prices.digest(model), str)
                    for variant in self.VARIANTS:
                        tokens = tuple(self.random.choice((0, 1, 5000, 10 ** 6, 10 ** 8)) for _ in range(6))
                        usd, assumed = prices.usd(model, self.random.choice((0, 1790000000000, 10 ** 14)), tokens, variant)
                        self.assertTrue(type(usd) is int and usd >= 0 and assumed in (False, True), (model, usd))
            except Exception as error:
                self.tell(error, n, text)


if __name__ == '__main__':
    unittest.main()
