"""The ledger against a second opinion: oracle.py reads the logs slowly, whole and in memory, and keeps nothing.

Both must tell the same calls, tokens by folder and, where the oracle has the price, micro-dollars: of recorded
sessions, of cases, and of generated families of forks, branches, sub-agents and runs that were killed; whatever the
order in which files are found, whole or a few bytes at a time."""
import glob
import json
import os
import random
import shutil
import unittest
from collections import Counter

import oracle
from homes import Home
from support import DATA, load_script

script = load_script('budget-check.py')
NOTHING = (0,) * 6
# The oracle's own few prices say nothing of these agents' models.
UNPRICED = 'gemini-0.61.0', 'qwen-0.24.4', 'copilot-1.0.102'


def opinion_of(home, environ):
    """(calls, {folder: tokens}, {folder: micro-dollars}) as the oracle tells them."""
    calls, tokens, usd = oracle.meter(home, environ), {}, Counter()
    for call in calls.values():
        cwd = script.composed(call.cwd) if script.text_of(call.cwd) else ''
        tokens[cwd] = tuple(map(sum, zip(tokens.get(cwd, NOTHING), call.tokens)))
        usd[cwd] += oracle.usd(call.model, call.variant, call.tokens, call.variant != 'rest') * 10 ** 6
    return len(calls), tokens, {cwd: round(cost) for cwd, cost in usd.items()}


def held_by(ledger):
    """The same of a ledger."""
    places, tokens, usd, number = ledger.places(), {}, Counter(), 0
    for place, *sums, cost, calls in ledger.rows(
            'select place, sum(input), sum(output), sum(write_short), sum(write_long), sum(read), sum(searches), '
            'sum(usd), count(*) from calls join pairs on pairs.id = pair where owned group by place'):
        cwd = places[place].cwd
        tokens[cwd] = tuple(map(sum, zip(tokens.get(cwd, NOTHING), sums)))
        usd[cwd] += cost
        number += calls
    return number, tokens, {cwd: round(cost / 10 ** 6) for cwd, cost in usd.items()}


def trees():
    """[(name, home, environ)] of what was recorded, and of cases whose logs lie ready."""
    found = []
    for folder in sorted(glob.glob(DATA + '/claude-code-*/*/claude')):
        found.append((folder[len(DATA) + 1:], DATA, {'CLAUDE_CONFIG_DIR': folder}))
    found.append(('codex-0.169.0', DATA, {'CODEX_HOME': DATA + '/codex-0.169.0/home'}))
    for folder in sorted(glob.glob(DATA + '/[cgq]*-[0-9]*/*/home') + glob.glob(DATA + '/cases/*/home')):
        found.append((folder[len(DATA) + 1:-5], folder, {}))
    return found


# What the oracle has no rule or no price for; want.json says what is right.
OTHERWISE = {
    'bedrock-arn': 'a price', 'model-router-names': 'a price', 'ollama-local-model-zero': 'a price',
    'codex-no-model': 'a price', 'codex-junk': 'it stops', 'rest-junk': 'it stops',
    'figure-iterations-junk': 'it stops', 'figure-null-and-list': 'it stops',
    'codex-set-back-to-same': 'a total may be set back to one that was there before',
    'codex-set-back-totals-only': 'a total of nothing is no total to it', 'file-fifo-and-folder': 'it stops',
    'codex-fork-first-without-last': 'it takes all of the total',
    'codex-fork-first-without-last-no-parent': 'it takes all of the total',
    'codex-no-record-id-same-time-other-usage': 'a record without an id is none', 'copilot-no-api-id': 'one without its first id is none',
    'gemini-no-id': 'all without an id are one', 'gemini-no-id-two-sessions': 'all without an id are one',
    'gemini-head-torn-glued': 'a torn head hides what is glued to it'}


class RecordedTest(unittest.TestCase):

    def compare(self, name, ledger, expected, is_split=True):
        ours, theirs = held_by(ledger), expected
        if name.startswith(UNPRICED):
            ours, theirs = ours[:2], theirs[:2]
        if not is_split:                                   # the oracle prices what a fork inherits as if it were
            ours, theirs = [(number, {cwd: (*one[:2], one[2] + one[3], *one[4:]) for cwd, one in tokens.items()})
                            for number, tokens, _ in (ours, theirs)]
        self.assertEqual(ours, theirs)

    def test_there_is_much_to_compare(self):
        self.assertGreater(len(trees()), 80)

    def test_every_recorded_session_and_case(self):
        for name, folder, environ in trees():
            if name.rpartition('/')[2] in OTHERWISE:
                continue
            expected = opinion_of(folder, environ)
            with self.subTest(name), Home() as home:
                ledger = script.Ledger(home.at('state/ledger.sqlite3'), folder, 60.0)
                for _ in range(2):                         # read again, no call counts twice
                    ledger.refresh(prices(), environ, NOW)
                    self.compare(name, ledger, expected)
                ledger.close()

    def test_recorded_sessions_in_any_order_and_a_few_bytes_at_a_time(self):
        for seed, (name, folder, environ) in enumerate(trees()):
            if 'claude-code' in name:
                with self.subTest(name):
                    top = environ['CLAUDE_CONFIG_DIR']
                    logs = {os.path.relpath(path, top): open_whole(path)
                            for path in glob.glob(top + '/projects/**/*.jsonl', recursive=True)}
                    self.trickle(name, logs, random.Random(seed))

    def trickle(self, name, logs, chance, rebuild=False, is_split=True):
        """Logs come in any order, in slices of any length, while the ledger is brought up to date between."""
        with Home() as home:
            environ = {'CLAUDE_CONFIG_DIR': home.at('.claude')}
            for path, text in logs.items():
                home.write('whole/' + path, text)
            expected = opinion_of(home.path, {'CLAUDE_CONFIG_DIR': home.at('whole')})
            left, slices = dict(logs), chance.choice((1, 1, 3, 10))
            while left:
                path = chance.choice(sorted(left))
                size = len(left[path]) if slices == 1 else chance.randrange(1, 2 + 2 * len(logs[path]) // slices)
                os.makedirs(os.path.dirname(home.at('.claude/' + path)), exist_ok=True)
                home.append('.claude/' + path, left[path][:size])
                left[path] = left[path][size:]
                if not left[path]:
                    del left[path]
                if chance.random() < 0.5 or not left:
                    ledger = script.Ledger(home.at('state/ledger.sqlite3'), home.path, 60.0)
                    ledger.refresh(prices(), environ, NOW)
                    if not left:
                        self.compare(name, ledger, expected, is_split)
                    ledger.close()
            if rebuild:
                if chance.random() < 0.5:                  # what no log tells any more stays
                    shutil.rmtree(home.at('.claude/projects'))
                script.rebuild_ledger(home.at('state/ledger.sqlite3'), home.path, prices(), environ, NOW)
                ledger = script.Ledger(home.at('state/ledger.sqlite3'), home.path, 60.0)
                self.compare(name, ledger, expected, is_split)
                ledger.close()


NOW = script.parse_time('2026-11-23T12:00:00Z')
_prices = []


def prices():
    if not _prices:
        _prices.append(script.load_prices(os.path.join(os.path.dirname(DATA), '..', 'prices.json')))
    return _prices[0]


def open_whole(path):
    with open(path, 'rb') as stream:
        return stream.read()


class Family:
    """Sessions that go on from each other, and what Claude Code writes of them: {path: lines}.

    An agent's own totals are kept as it keeps them: they go on over resumes and forks, without runs that were killed."""

    MODELS = 'claude-sonnet-4-6', 'claude-haiku-4-5'

    def __init__(self, chance):
        self.chance, self.number, self.clock = chance, 0, NOW - 10 ** 8
        self.is_split, self.start = chance.random() < 0.7, NOW - 10 ** 8 - 1000
        self.logs, self.totals, self.sessions = {}, {}, []
        self.saved, self.starts = {}, {}
        self.mode = chance.choice(('plain', 'plain', 'one id', 'odd'))

    def tick(self):
        self.clock += self.chance.randrange(1, 90000)
        ms = self.clock
        return oracle_time(ms)

    def name(self):
        self.number += 1
        return '%08d-0000-4000-8000-%012d' % (self.number, self.chance.randrange(10 ** 9))

    def path(self, session):
        return 'projects/p/%s.jsonl' % session

    def begin(self, parent=None, branch=False):
        """A new session, or one that goes on from another's lines."""
        session = self.name()
        lines, copies = self.logs.setdefault(self.path(session), []), []
        if parent:
            copies = [line for line in self.logs[self.path(parent)] if line['type'] != 'cost-state']
            if self.chance.random() < 0.3:                 # after a compaction only what came later is copied
                copies = copies[self.chance.randrange(len(copies)):]
        if branch:
            self.starts[session] = self.clock
            lines += [dict(line, sessionId=session, forkedFrom={'sessionId': parent, 'messageUuid': line['uuid']})
                      for line in copies]
            self.totals[session] = {}
        else:
            if parent:
                self.clock += 100000
                lines.append(self.line('user', session))
                lines += [dict(line, sessionId=session) for line in copies]
            self.starts[session] = self.starts.get(parent, self.start)
            self.totals[session] = dict(self.saved.get(parent, {})) if parent else {}
        self.sessions.append(session)
        self.run(session)
        return session

    def line(self, kind, session, **more):
        line = {'type': kind, 'uuid': 'u%d' % self.chance.randrange(10 ** 12), 'timestamp': self.tick(),
                'sessionId': session, 'cwd': '/clients/' + self.chance.choice('aab'), 'version': '2.1.331'}
        if kind == 'user':
            line['message'] = {'role': 'user', 'content': 'go'}
        return dict(line, **more)

    def call(self, session, agent=None, hidden=False):
        """Lines of one call, counted in the session's total."""
        self.number += 1
        model = self.chance.choice(self.MODELS)
        tokens = [self.chance.randrange(1, 5000) for _ in range(5)] + [self.chance.randrange(2)]
        held = self.totals[session].get(model, NOTHING)
        self.totals[session][model] = tuple(map(sum, zip(held, tokens)))
        if hidden:
            return []
        read, out, short, long, cached, searches = tokens
        usage = {'input_tokens': read, 'output_tokens': out, 'cache_creation_input_tokens': short + long,
                 'cache_read_input_tokens': cached, 'cache_creation': {
                     'ephemeral_5m_input_tokens': short, 'ephemeral_1h_input_tokens': long},
                 'server_tool_use': {'web_search_requests': searches}}
        message = {'id': 'msg_%d' % self.number, 'model': model, 'role': 'assistant', 'usage': usage,
                   'content': [{'type': 'text', 'text': '}{'}], 'stop_reason': 'end_turn'}
        if self.mode == 'one id' and not agent:
            message['id'] = 'msg_same'
        line = self.line('assistant', session, message=message, requestId='req_%d' % self.number,
                         isSidechain=bool(agent), **({'agentId': agent} if agent else {}))
        lines = []
        for _ in range(self.chance.randrange(1, 4)):       # a line for each block, early ones may have placeholders
            early = dict(usage, output_tokens=min(out, self.chance.randrange(1, 9)))
            is_early = self.chance.random() < 0.3
            lines.append(dict(line, uuid='u%d' % self.chance.randrange(10 ** 12),
                              message=dict(message, usage=early if is_early else usage)))
        lines.append(dict(line, uuid='u%d' % self.chance.randrange(10 ** 12)))
        if self.mode == 'odd' and self.chance.random() < 0.3:
            lines[0].pop('requestId')
        if self.mode == 'odd' and not agent and self.chance.random() < 0.4:
            side = dict(lines[-1], isSidechain=True, requestId='req_side_%d' % self.number, timestamp=self.tick())
            if self.chance.random() < 0.5:                 # another usage: a call of its own
                side['message'] = dict(message, usage=dict(usage, output_tokens=out + 7))
                own = read, out + 7, short, long, cached, searches
                self.totals[session][model] = tuple(map(sum, zip(self.totals[session][model], own)))
            lines.append(side)
        return lines

    def run(self, session):
        """One run: prompts, calls, sub-agents, calls that no line shows; it ends with a total, or is killed."""
        lines, before = self.logs[self.path(session)], dict(self.totals[session])
        for _ in range(self.chance.randrange(1, 5)):
            lines.append(self.line('user', session))
            lines += self.call(session)
            if self.chance.random() < 0.3:
                agent = 'a%d' % self.number
                path = 'projects/p/%s/subagents/agent-%s.jsonl' % (session, agent)
                for _ in range(self.chance.randrange(1, 4)):
                    self.logs.setdefault(path, []).extend(self.call(session, agent))
            if self.chance.random() < 0.4:
                self.call(session, hidden=True)
        if self.chance.random() < 0.25:
            self.totals[session] = before                  # killed: no total has it
        else:
            lines.append(self.cost_state(session))
            self.saved[session] = dict(self.totals[session])
        if self.chance.random() < 0.2:                     # a sync's copy, cut somewhere
            cut = lines[:self.chance.randrange(1, len(lines) + 1)]
            self.logs['projects/q/%s.jsonl' % session] = list(cut)

    def cost_state(self, session):
        usage = {}
        for model, tokens in self.totals[session].items():
            read, out, short, long, cached, searches = tokens
            cost = oracle.usd(model, '', tokens, False)
            usage[model] = {'inputTokens': read, 'outputTokens': out, 'cacheReadInputTokens': cached,
                            'cacheCreationInputTokens': short + long, 'webSearchRequests': searches,
                            'costUSD': float(cost)}
            if self.is_split:
                usage[model].update(cacheCreationEphemeral5mInputTokens=short, cacheCreationEphemeral1hInputTokens=long)
        return {'type': 'cost-state', 'sessionId': session, 'startTime': self.starts[session], 'modelUsage': usage}

    def grow(self):
        self.begin()
        for _ in range(self.chance.randrange(1, 8)):
            kind, session = self.chance.random(), self.chance.choice(self.sessions)
            if kind < 0.4:
                self.run(session)
            elif kind < 0.75:
                self.begin(session)
            else:
                self.begin(session, branch=True)
        return {path: ''.join(json.dumps(line, separators=(',', ':')) + '\n' for line in lines).encode()
                for path, lines in self.logs.items()}


def oracle_time(ms):
    import time
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms // 1000)) + '.%03dZ' % (ms % 1000)


class GeneratedTest(RecordedTest):
    test_there_is_much_to_compare = test_every_recorded_session_and_case = None
    test_recorded_sessions_in_any_order_and_a_few_bytes_at_a_time = None

    def test_families_of_sessions(self):
        for seed in range(int(os.environ.get('SEEDS', 40))):
            with self.subTest(seed=seed):
                chance = random.Random(seed)
                family = Family(chance)
                self.trickle('family', family.grow(), chance, seed % 4 == 0, family.is_split)


if __name__ == '__main__':
    unittest.main()
