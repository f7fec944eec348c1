"""The ledger: what is read from Claude Code's logs, once, however it is written, copied, cut or deleted.

Expected figures are the recorded bill of each fixture, or arithmetic on what the test itself wrote."""
import json
import os
import random
import re
import shutil
import sqlite3
import stat
import unittest
from collections import Counter
from unittest import mock

from homes import (Home, call_line, cost_state, fixture, queue_line, read_json_lines, spent_line, user_line)
from support import DATA, load_script

script = load_script('budget-check.py')

CLASSES = 'input, output, write_short, write_long, read, searches'
FIXTURES = ('cd-mid-session', 'interactive', 'resume-fork-compact', 'subagents', 'two-arms', 'usage-modifiers',
            'worktree')
# Published prices, micro-dollars per token: input, output, 5 min write, 1 h write, read.
LIST_PRICES = {'claude-opus-5-5': (4, 20, 5, 8, '0.2'), 'claude-sonnet-5-5': (2, 10, '2.5', 4, '0.1'),
               'claude-haiku-4-5': (1, 5, '1.25', 2, '0.1'),
               'claude-haiku-5-5': ('0.5', '2.5', '0.625', 1, '0.05'),            # above 100,000 tokens
               'claude-nonesuch-9': (4, 20, 5, 8, '0.2')}                          # its family's fallback
SONNET, HAIKU = 'claude-sonnet-5-5', 'claude-haiku-4-5'
LAST = '2026-11-23T12:00:00Z'


def pico(micro_usd):
    """Pico-dollars of a decimal text of micro-dollars."""
    whole, _, rest = str(micro_usd).partition('.')
    return int(whole + rest.ljust(6, '0'))


def bill_tokens(usage):
    split = usage.get('cache_creation')
    short = split['ephemeral_5m_input_tokens'] if split else usage['cache_creation_input_tokens']
    long = split['ephemeral_1h_input_tokens'] if split else 0
    return (usage['input_tokens'], usage['output_tokens'], short, long, usage['cache_read_input_tokens'],
            (usage.get('server_tool_use') or {}).get('web_search_requests', 0))


def bill_usd(model, usage):
    """What a line of a bill costs, in pico-dollars, by the published prices and rules."""
    tokens = bill_tokens(usage)
    units = [pico(price) for price in LIST_PRICES[model]]
    tenths = 20 if usage.get('speed') == 'fast' else 11 if usage.get('inference_geo') == 'us' else 10
    return sum(count * unit for count, unit in zip(tokens, units)) * tenths // 10 + tokens[5] * pico(10000)


def bill_of(name):
    """({model: tokens}, {model: pico-dollars}) of a fixture's bill."""
    tokens, usd = {}, Counter()
    for line in read_json_lines(fixture(name, 'bill.jsonl')):
        one = bill_tokens(line['usage'])
        tokens[line['model']] = tuple(map(sum, zip(tokens.get(line['model'], (0,) * 6), one)))
        usd[line['model']] += bill_usd(line['model'], line['usage'])
    return tokens, dict(usd)


def held_by(ledger):
    """({model: tokens}, {model: pico-dollars}) of what a ledger holds."""
    rows = ledger.rows('select name, sum(input), sum(output), sum(write_short), sum(write_long), sum(read), '
                       'sum(searches), sum(usd) from calls join models on models.id = model where owned group by name')
    return {row[0]: tuple(row[1:7]) for row in rows}, {row[0]: row[7] for row in rows}


def calls_of(ledger, *columns):
    """{key: values} of the calls that stand in transcripts."""
    return {row[0]: row[1] if len(row) == 2 else row[1:] for row in ledger.db.execute(
        "select key, %s from calls where owned and kind <> 'untranscribed'" % ', '.join(columns)).fetchall()}


def total(ledger):
    """Micro-dollars of everything, as verdicts sum it up, which must equal the calls'."""
    by_calls = ledger.one('select coalesce(sum(usd), 0) from calls where owned')[0]
    by_pairs = ledger.spent([pair for pair, in ledger.rows('select id from pairs')], 0)[0]
    assert by_calls == by_pairs, (by_calls, by_pairs)
    assert by_calls % 10 ** 6 == 0, by_calls
    return by_calls // 10 ** 6


def untranscribed(ledger):
    """Micro-dollars that only cost-state lines know, and the session that they are under: {session: usd}."""
    return {name: usd // 10 ** 6 for name, usd in ledger.db.execute(
        "select sessions.name, sum(usd) from calls join sessions on sessions.id = session "
        "where owned and kind = 'untranscribed' group by sessions.name").fetchall() if usd}


def fixture_logs(name):
    """[(path below projects, lines)] of a fixture's transcripts."""
    top, found = fixture(name, 'claude', 'projects'), []
    for folder, _, names in os.walk(top):
        for one in sorted(names):
            path = os.path.join(folder, one)
            with open(path, 'rb') as stream:
                found.append((os.path.relpath(path, top), stream.read()))
    return sorted(found)


class BillTest(unittest.TestCase):

    def check(self, name, ledger):
        tokens, usd = bill_of(name)
        self.assertEqual(held_by(ledger), (tokens, usd))
        by_id = {line['id']: bill_tokens(line['usage']) for line in read_json_lines(fixture(name, 'bill.jsonl'))}
        calls = calls_of(ledger, *CLASSES.split(', '))
        for key in set(calls) & set(by_id):
            if name != 'usage-modifiers':                  # its five sessions begin their ids anew
                self.assertEqual(calls[key], by_id[key], key)
        self.assertTrue(set(calls) <= set(by_id))

    def test_equals_what_the_provider_bills(self):
        for name in FIXTURES:
            with self.subTest(name), Home() as home, home.ledger(
                    CLAUDE_CONFIG_DIR=fixture(name, 'claude')) as ledger:
                self.check(name, ledger)
                self.assertEqual(ledger.reading.skipped, 0)

    def test_every_fixture_is_tested(self):
        there = {name for name in os.listdir(fixture()) if os.path.exists(os.path.join(fixture(), name, 'bill.jsonl'))}
        self.assertEqual(there, set(FIXTURES))

    def test_calls_that_only_cost_state_knows_are_apart(self):
        call = pico(22) + 500 * pico('2.5') + 1500 * pico(4) + 30000 * pico('0.1')     # without its output
        for name, outputs in ('resume-fork-compact', (705, 706)), ('interactive', (701, 703, 704)), ('subagents', ()):
            with self.subTest(name), Home() as home, home.ledger(
                    CLAUDE_CONFIG_DIR=fixture(name, 'claude')) as ledger:
                usd = ledger.one("select coalesce(sum(usd), 0) from calls where kind = 'untranscribed'")[0]
                self.assertEqual(usd, sum(call + output * pico(10) for output in outputs))

    def test_files_in_any_order_one_after_the_other(self):
        for name in FIXTURES:
            for backwards in False, True:
                with self.subTest(name, backwards=backwards), Home() as home:
                    for path, content in sorted(fixture_logs(name), reverse=backwards):
                        home.write('.claude/projects/' + path, content)
                        with home.ledger():
                            pass
                    with home.ledger() as ledger:
                        self.check(name, ledger)

    def test_logs_that_grow_line_by_line_in_turns(self):
        bills = {name: bill_of(name)[0] for name in ('resume-fork-compact', 'interactive', 'subagents')}
        for seed in range(6):
            chance = random.Random(seed)
            name = ('resume-fork-compact', 'resume-fork-compact', 'interactive', 'subagents')[seed % 4]
            with self.subTest(name, seed=seed), Home() as home:
                logs = [(path, content.splitlines(True)) for path, content in fixture_logs(name)]
                for path, _ in logs:
                    home.write('.claude/projects/' + path, b'')
                while logs:
                    path, lines = chance.choice(logs)
                    count = chance.randrange(1, 12)
                    home.append('.claude/projects/' + path, b''.join(lines[:count]))
                    del lines[:count]
                    logs = [log for log in logs if log[1]]
                    with home.ledger() as ledger:
                        self.assertGreaterEqual(min(map(min, held_by(ledger)[0].values()), default=0), 0)
                with home.ledger() as ledger:
                    self.assertEqual(held_by(ledger)[0], bills[name])

    def test_read_again_no_call_counts_twice(self):
        for name in FIXTURES:
            with self.subTest(name), Home() as home:
                for path, content in fixture_logs(name):
                    home.write('.claude/projects/' + path, content)
                with home.ledger():
                    pass
                shutil.copytree(home.at('.claude/projects'), home.at('second/projects'))
                both = home.at('.claude') + ', ' + home.at('second')
                with home.ledger(CLAUDE_CONFIG_DIR=both) as ledger:
                    self.check(name, ledger)
                for path, content in fixture_logs(name):           # the same names, other files
                    os.unlink(home.at('.claude/projects/' + path))
                    home.write('.claude/projects/' + path, content)
                with home.ledger(CLAUDE_CONFIG_DIR=both) as ledger:
                    self.check(name, ledger)


class CallTest(unittest.TestCase):
    """One call is written in many ways, and counts once."""

    def read(self, *lines, name='s-1'):
        with Home() as home:
            home.log(name, *lines)
            with home.ledger() as ledger:
                return calls_of(ledger, 'input', 'output', 'read'), total(ledger), ledger.reading.skipped

    def test_a_line_for_each_block(self):
        self.assertEqual(self.read(call_line('m', 7, 10), call_line('m', 7, 10), call_line('m', 7, 10)),
                         ({'m': (10, 7, 0)}, 10 + 35, 0))

    def test_the_fullest_line_counts_as_a_whole(self):
        whole, early, late = call_line('m', 700, 10, read=20), call_line('m', 5, 100), call_line('m', 1, 1, read=999)
        for lines in ((early, whole), (whole, late), (early, whole, late), (late, early, whole), (whole, early, late)):
            with self.subTest([line['message']['usage']['output_tokens'] for line in lines]):
                self.assertEqual(self.read(*lines)[0], {'m': (10, 700, 20)})

    def test_the_last_one_on_a_tie(self):
        self.assertEqual(self.read(call_line('m', 9, 10, read=20), call_line('m', 9, 10, read=30))[0], {'m': (10, 9, 30)})

    def test_a_placeholder_is_replaced_at_the_next_read(self):
        with Home() as home:
            home.log('s-1', call_line('m', 3, 10, read=20))
            with home.ledger() as ledger:
                self.assertEqual(calls_of(ledger, 'output'), {'m': 3})
            home.append('.claude/projects/p/s-1.jsonl', [call_line('m', 700, 10, read=20)])
            with home.ledger() as ledger:
                self.assertEqual(calls_of(ledger, 'output'), {'m': 700})
                self.assertEqual(total(ledger), 10 + 3500 + 2)

    def test_keys_without_an_id(self):
        with_id = call_line('m', input=1)
        lines = [with_id, dict(call_line('m', input=1), requestId='other')]
        for request, uuid in (('r-1', 'u-1'), ('r-1', 'u-2'), (None, 'u-3'), (None, 'u-3'), (None, 'u-4')):
            line = call_line('', input=1, uuid=uuid, requestId=request)
            del line['message']['id']
            if request is None:
                line.pop('requestId', None)
            lines.append(line)
        self.assertEqual(set(self.read(*lines)[0]), {'m', 'r-1', 'u-3', 'u-4'})

    def test_what_is_not_billed(self):
        lines = [call_line('a', 9, model='<synthetic>'), call_line('b', 9, isApiErrorMessage=True),
                 user_line(), dict(call_line('c', 9), type='user'), dict(call_line('d', 9), type='system')]
        self.assertEqual(self.read(*lines), ({}, 0, 0))

    def test_keys_with_the_same_names_elsewhere(self):
        usage = {'input_tokens': 5000, 'output_tokens': 5000}
        trap = {'usage': usage, 'model': 'claude-opus-5-5', 'cwd': '/elsewhere', 'id': 'trap', 'type': 'assistant',
                'message': {'id': 'trap', 'model': 'claude-opus-5-5', 'usage': usage}, 'timestamp': '2020-01-01T00:00:00Z'}
        text = json.dumps(call_line('trap', 5000))
        lines = [
            call_line('m', input=1, content=[{'type': 'tool_use', 'id': 'toolu_1', 'name': 'Write', 'input': trap}]),
            user_line(content=[{'type': 'tool_result', 'content': text}], toolUseResult=trap),
            user_line(content=text), dict(trap, type='user'), dict(trap, type='attachment', attachment=trap),
            {'type': 'api-request', 'sessionId': 's-1', 'params': {'model': 'x', 'usage': usage, 'messages': [trap]}},
            {'type': 'api-request-blob', 'sessionId': 's-1', 'message': trap},
            {'type': 'api-request-blob', 'sessionId': 's-1', 'message': text},
            {'type': 'last-prompt', 'message': 'a plain "usage":{"input_tokens":5} string', 'sessionId': 's-1'},
            {'type': 'progress', 'data': {'message': 'a plain string with usage tokens"'}, 'sessionId': 's-1'},
            {'type': 'assistant', 'message': 'a plain string with output_tokens', 'sessionId': 's-1'}]
        self.assertEqual(self.read(*lines), ({'m': (1, 0, 0)}, 1, 0))

    def test_a_text_search_does_not_decide(self):
        same = {'input_tokens': 1, 'output_tokens': 1}
        early, whole = call_line('m', 5), call_line('m', 700)
        behind = [dict(early, more={'usage': same}), dict(whole, more={'usage': same})]
        self.assertEqual(self.read(*behind)[0], {'m': (0, 700, 0)}, 'a usage at the end')
        between = [{**{k: line[k] for k in ('parentUuid', 'isSidechain', 'message')}, 'more': {'usage': same}, **line}
                   for line in (early, whole)]
        self.assertEqual(self.read(*between)[0], {'m': (0, 700, 0)}, 'a usage behind the message')
        block = [{'type': 'tool_use', 'id': 't', 'name': 'Write', 'input': {'usage': same}}]
        turned = [dict(line, message=dict([(k, v) for k, v in line['message'].items() if k != 'content'],
                                          content=block)) for line in (early, whole)]
        self.assertEqual(self.read(*turned)[0], {'m': (0, 700, 0)}, 'content behind the usage')

    def test_what_is_no_call_hides_none_in_the_same_words(self):
        for other in {'type': 'user'}, {'type': 'progress'}, {'isApiErrorMessage': True}:
            with self.subTest(other):
                lines = [call_line('m', 700, 10, **other), call_line('m', 700, 10)]
                self.assertEqual(self.read(*lines)[0], {'m': (10, 700, 0)})

    def test_what_tells_two_calls_apart_may_stand_behind_the_content(self):
        first, second = call_line('m', 700, 10), call_line('n', 700, 10)
        for last in 'id', 'model', 'role':
            with self.subTest(last):
                lines = [dict(line, message={**{key: value for key, value in line['message'].items() if key != last},
                                             last: line['message'][last]}) for line in (first, second)]
                self.assertEqual(self.read(*lines)[0], {'m': (10, 700, 0), 'n': (10, 700, 0)})

    def test_a_line_that_another_one_cut_off(self):
        half, whole, next_one = (json.dumps(call_line(name, 700, 10), separators=(',', ':')) for name in 'abc')
        half = half[:half.index('a secret answer') + 5]
        self.assertEqual(self.read(half + whole + '\n', next_one + '\n'), ({'b': (10, 700, 0), 'c': (10, 700, 0)}, 7020, 1))

    def test_what_an_answer_says_is_not_looked_at(self):
        line = json.dumps(call_line('m', 700, 10), separators=(',', ':')).replace('a secret answer', 'no \\escape')
        self.assertEqual(self.read(line + '\n'), ({'m': (10, 700, 0)}, 3510, 0))

    def test_spaces_and_another_order_of_keys(self):
        line = call_line('m', 7, 10)
        spaced = json.dumps(line, indent=None, separators=(', ', ': ')) + ' \r\n'
        turned = dict(reversed(list(call_line('n', 7, 10).items())))
        turned['message'] = dict(reversed(list(turned['message'].items())))
        self.assertEqual(self.read(spaced, turned)[0], {'m': (10, 7, 0), 'n': (10, 7, 0)})

    def test_a_side_chain_replay_is_the_same_call(self):
        main, later = call_line('m', 700, 10), {'sidechain': True, 'time': '2026-11-10T13:00:00.000Z'}
        early = call_line('m', 3, 10)
        replay, own = (call_line('m', output, 10, request='req_other', **later) for output in (700, 900))
        replays_early = call_line('m', 3, 10, request='req_third', **later)
        for expected, lines in ((3510, (main, replay)), (3510, (replay, main)), (3510, (early, main, replays_early)),
                                (3510, (replays_early, main, early)), (3510 + 4510, (main, own)),
                                (3510 + 4510, (own, main, replay))):
            for apart in False, True:                      # in one read, or each in a read of its own
                with self.subTest([line['requestId'] for line in lines], apart=apart), Home() as home:
                    path = home.log('s-1')
                    for line in lines:
                        home.append(path, [line])
                        if apart:
                            with home.ledger():
                                pass
                    with home.ledger() as ledger:
                        self.assertEqual(total(ledger), expected)
                        self.assertEqual(ledger.one("select output, agent from calls where owned and request = 'req_m'"),
                                         (700, ''))

    def test_one_id_for_many_requests(self):
        lines = [call_line('same', input=10 ** n, request='r%d' % n, time=at(n)) for n in range(4)]
        unsaid = call_line('same', input=9, time=at(9))
        del unsaid['requestId']
        for seed in range(6):
            order = random.Random(seed).sample(lines + [unsaid], 5)
            with self.subTest(seed=seed), Home() as home:
                for n, line in enumerate(order):
                    home.log('s-%d' % n, dict(line, sessionId='s-1'))
                    with home.ledger() as ledger:
                        pass
                with home.ledger() as ledger:              # the line without one goes with the first
                    self.assertEqual(total(ledger), 9 + 10 + 100 + 1000)

    def test_progress_lines_nest_a_copy_of_a_sub_agents_call(self):
        call = call_line('m', 700, 10, agent='a1')
        copy = {'type': 'progress', 'sessionId': 's-1', 'cwd': '/work', 'timestamp': '2026-11-10T12:00:01.000Z',
                'uuid': 'p-1', 'data': {'type': 'agent_progress', 'agentId': 'a1', 'message': {
                    'type': 'assistant', 'timestamp': '2026-11-10T12:00:00.000Z', 'message': call['message'],
                    'requestId': call['requestId'], 'uuid': call['uuid']}}}
        with Home() as home:
            home.log('s-1', user_line(), copy, copy)
            with home.ledger() as ledger:                          # its own file may be gone
                self.assertEqual(calls_of(ledger, 'output', 'agent'), {'m': (700, 'a1')})
            home.log('s-1/subagents/agent-a1', call)
            with home.ledger() as ledger:
                self.assertEqual(calls_of(ledger, 'output', 'agent'), {'m': (700, 'a1')})
                self.assertEqual(total(ledger), 10 + 3500)

    def test_cache_writes_with_and_without_their_split(self):
        for usage, expected in (
                ({'cache_creation_input_tokens': 100}, (100, 0)),
                ({'cache_creation_input_tokens': 100, 'cache_creation': None}, (100, 0)),
                ({'cache_creation_input_tokens': 100, 'cache_creation': {}}, (100, 0)),
                ({'cache_creation_input_tokens': 100, 'cache_creation': {
                    'ephemeral_5m_input_tokens': 30, 'ephemeral_1h_input_tokens': 70}}, (30, 70)),
                ({'cache_creation_input_tokens': 0, 'cache_creation': {
                    'ephemeral_5m_input_tokens': 30, 'ephemeral_1h_input_tokens': 70}}, (30, 70)),
                ({'cache_creation_input_tokens': None, 'cache_creation': {'ephemeral_1h_input_tokens': 70}}, (0, 70))):
            with self.subTest(usage), Home() as home:
                line = call_line('m', 1)
                del line['message']['usage']['cache_creation']
                line['message']['usage'].update(usage)
                home.log('s-1', line)
                with home.ledger() as ledger:
                    self.assertEqual(calls_of(ledger, 'write_short', 'write_long'), {'m': expected})

    def test_advisor_and_compaction_iterations_are_billed_besides(self):
        usage = {'input_tokens': 10, 'output_tokens': 20, 'iterations': [
            {'type': 'message', 'input_tokens': 10, 'output_tokens': 20},
            {'type': 'advisor_message', 'model': 'claude-opus-5-5', 'input_tokens': 100, 'output_tokens': 200,
             'cache_read_input_tokens': 0, 'cache_creation_input_tokens': 0},
            {'type': 'compaction', 'input_tokens': 1000, 'output_tokens': 2000}]}
        line = call_line('m', usage=usage)
        copy = dict(call_line('m', usage=usage), sessionId='s-2')
        with Home() as home:
            home.log('s-1', line, line)
            home.log('s-2', copy)
            with home.ledger() as ledger:
                self.assertEqual(sorted(calls_of(ledger, 'kind', 'input', 'output').values()), [
                    ('advisor_message', 100, 200), ('call', 10, 20), ('compaction', 1000, 2000)])
                self.assertEqual(total(ledger), 10 + 100 + 400 + 4000 + 1000 + 10000)

    def test_what_no_api_says_is_as_near_as_can_be(self):
        for bad, taken in (-1, 0), (2.0, 2), (True, 0), ('7', 7), ('x', 0), ([7], 0), ({'n': 7}, 0), (10 ** 12, 0), (None, 0):
            with self.subTest(bad=bad):
                calls, _, skipped = self.read(call_line('bad', 5, usage={'input_tokens': bad}), call_line('good', input=4))
                self.assertEqual((calls, skipped), ({'bad': (taken, 5, 0), 'good': (4, 0, 0)}, 0))

    def test_lines_that_are_no_records(self):
        for bad in ('{"type":"assistant","message":{"usage":{"output_tokens":7}\n', 'usage of an assistant"\n',
                    '[{"type":"assistant"}]\n', '{"assistant": \n', '\x00\x00\x00{"assistant"}\n',
                    '{"type":"assistant","output_tokens"' + '[' * 3000 + '}\n'):
            with self.subTest(bad[:40]):
                self.assertEqual(self.read(call_line('a', input=1), bad, call_line('b', input=2)),
                                 ({'a': (1, 0, 0), 'b': (2, 0, 0)}, 3, int('"assistant"' in bad)))

    def test_blank_lines_and_wrong_types_of_what_is_not_figures(self):
        odd = dict(call_line('odd', input=1), cwd=7, timestamp=[], sessionId={}, isSidechain='yes', agentId=3)
        self.assertEqual(self.read('\n', '  \n', odd, '\r\n', call_line('b', input=2))[0],
                         {'odd': (1, 0, 0), 'b': (2, 0, 0)})

    def test_text_that_cannot_be_encoded_or_never_ends(self):
        lines = [dict(call_line('m\ud800', input=1), cwd='/\ud800', sessionId='\udfff'),
                 call_line('n', input=2, cwd='/' + 'x' * 9000), call_line('o', input=4, model='claude-' + 'x' * 9000),
                 call_line('p', input=8)]
        with Home() as home:
            home.log('s-1', *lines)
            with home.ledger() as ledger:
                calls = calls_of(ledger, 'input')
                self.assertEqual((calls.get('n'), calls.get('p')), (2, 8))

    def test_no_prompt_and_no_answer_is_kept(self):
        with Home() as home:
            home.log('s-1', user_line(), call_line('m', 7))
            with home.ledger():
                pass
            kept = b''
            for name in os.listdir(home.state):
                with open(os.path.join(home.state, name), 'rb') as stream:
                    kept += stream.read()
            self.assertIn(b's-1', kept)
            self.assertNotIn(b'secret', kept)

    @unittest.skipUnless(os.name == 'posix', 'no modes here')
    def test_only_its_owner_can_read_it(self):
        with Home() as home:
            before = os.umask(0)
            try:
                with home.ledger():
                    for name in os.listdir(home.state):
                        mode = stat.S_IMODE(os.stat(os.path.join(home.state, name)).st_mode)
                        self.assertEqual(mode, 0o600, name)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(os.stat(home.state).st_mode), 0o700)


class GrowingLogTest(unittest.TestCase):
    """Nothing is stale, and nothing is lost."""

    def grown(self, home, expected):
        with home.ledger() as ledger:
            self.assertEqual(total(ledger), expected)
            return ledger

    def test_every_complete_line_counts_at_once(self):
        with Home() as home:
            path = home.log('s-1')
            for n in range(1, 6):
                home.append(path, [spent_line('m%d' % n, 10 ** n)])
                self.grown(home, sum(10 ** k for k in range(1, n + 1)))

    def test_a_record_that_is_glued_on_may_be_cut_anywhere(self):
        first, second = (json.dumps(spent_line(key, usd)).encode() for key, usd in (('a', 1), ('b', 20)))
        for cut in (0, 1, 5, 20, len(second) - 1):
            with self.subTest(cut=cut), Home() as home:
                path = home.write('.claude/projects/p/s-1.jsonl', first + second[:cut])
                with home.ledger():
                    pass
                home.append(path, second[cut:] + b'\n')
                self.assertEqual(self.grown(home, 21).reading.skipped, 0)

    def test_a_torn_line_counts_when_it_is_whole(self):
        first = json.dumps(spent_line('a', 1)).encode() + b'\n'
        second = json.dumps(dict(spent_line('b', 20), note='ä€😀'), ensure_ascii=False).encode() + b'\n'
        cuts = sorted({1, 2, 40, len(second) // 2, second.index('€'.encode()) + 1, len(second) - 3, len(second) - 2})
        for cut in cuts:
            with self.subTest(cut=cut), Home() as home:
                path = home.write('.claude/projects/p/s-1.jsonl', first + second[:cut])
                self.assertEqual(self.grown(home, 1).reading.skipped, 0)
                home.append(path, second[cut:])
                self.assertEqual(self.grown(home, 21).reading.skipped, 0)
                self.grown(home, 21)

    def test_a_whole_line_without_its_line_break(self):
        line = json.dumps(spent_line('a', 1)).encode()
        with Home() as home:
            path = home.write('.claude/projects/p/s-1.jsonl', line)
            self.grown(home, 1)
            home.append(path, b'\n' + json.dumps(spent_line('b', 20)).encode())
            self.assertEqual(self.grown(home, 21).reading.skipped, 0)

    def test_lines_over_the_borders_of_what_is_read_at_once(self):
        for seed in range(4):
            chance, lines, expected = random.Random(seed), [], 0
            for n in range(23):
                filler = 'x' * chance.choice((0, 10, 100, 1000, 3000))
                lines.append(user_line(content=filler) if chance.random() < .5 else
                             dict(spent_line('m%d' % n, 2 ** n), filler=filler))
                expected += 2 ** n * (lines[-1]['type'] == 'assistant')
            with self.subTest(seed=seed), Home() as home, mock.patch.object(
                    script, 'BLOCK', chance.choice((64, 1000, 1024))):
                home.log('s-1', *lines)
                self.assertEqual(self.grown(home, expected).reading.skipped, 0)

    def test_a_line_without_end_is_passed_over_and_counted(self):
        long = json.dumps(dict(spent_line('long', 5), filler='x' * 9000)) + '\n'
        with Home() as home, mock.patch.multiple(script, BLOCK=512, LONGEST_LINE=4096):
            path = home.log('s-1', spent_line('a', 1), long, spent_line('b', 20))
            self.assertEqual(self.grown(home, 21).reading.skipped, 1)
            home.append(path, long[:7000])
            self.grown(home, 21)
            home.append(path, long[7000:] + json.dumps(spent_line('c', 300)) + '\n')
            self.assertEqual(self.grown(home, 321).reading.skipped, 2)

    def test_a_file_of_any_age_can_grow(self):
        with Home() as home:
            path = home.log('s-1', spent_line('a', 1))
            os.utime(path, (10 ** 9, 10 ** 9))
            self.grown(home, 1)
            home.append(path, [spent_line('b', 20)])
            os.utime(path, (10 ** 9, 10 ** 9))
            self.grown(home, 21)

    def test_new_files_and_folders_are_found(self):
        with Home() as home:
            expected = 0
            for n, name in enumerate(('p/s-1', 'p/s-2', 'q/s-3', 'q/agent-old', 'q/s-3/subagents/agent-a1',
                                      'q/s-3/subagents/agent-a2', 'q/s-3/subagents/workflows/w1/agent-a3',
                                      'q/s-3/subagents/workflows/w1/deeper/agent-a4')):
                home.write('.claude/projects/%s.jsonl' % name, [spent_line('m%d' % n, 10 ** n)])
                expected += 10 ** n
                self.grown(home, expected)

    def test_folders_that_have_not_changed_for_long_are_listed_when_they_do(self):
        with Home() as home:
            home.log('s-1', spent_line('a', 1))
            for folder in '.claude/projects/p', '.claude/projects':
                os.utime(home.at(folder), (10 ** 9, 10 ** 9))
            self.grown(home, 1)
            home.log('s-2', spent_line('b', 20))
            self.grown(home, 21)
            home.write('.claude/projects/q/s-3.jsonl', [spent_line('c', 300)])
            self.grown(home, 321)

    def test_projects_folder_that_is_made_later(self):
        with Home() as home:
            shutil.rmtree(home.at('.claude/projects'))
            self.grown(home, 0)
            home.log('s-1', spent_line('a', 1))
            self.grown(home, 1)

    def test_truncated_then_grown(self):
        with Home() as home:
            path = home.log('s-1', spent_line('a', 1), spent_line('b', 20))
            self.grown(home, 21)
            os.truncate(path, 0)
            self.grown(home, 21)
            home.append(path, [spent_line('c', 300)])
            self.grown(home, 321)
            os.truncate(path, 100)
            self.grown(home, 321)

    def test_rewritten_in_place(self):
        with Home() as home:
            path = home.log('s-1', spent_line('a', 1), spent_line('b', 20))
            self.grown(home, 21)
            with open(path, 'r+b') as stream:                      # the same file, as long or longer
                stream.write(b''.join(json.dumps(spent_line(key, usd), separators=(',', ':')).encode() + b'\n'
                                      for key, usd in (('c', 300), ('d', 4000), ('b', 20))))
            self.grown(home, 4321)

    def test_replaced_by_another_file(self):
        with Home() as home:
            path = home.log('s-1', spent_line('a', 1))
            self.grown(home, 1)
            other = home.write('other', [spent_line('b', 2), spent_line('c', 30)])
            os.replace(other, path)
            self.grown(home, 33)
            home.append(path, [spent_line('d', 400)])
            self.grown(home, 433)

    def test_moved_to_another_folder(self):
        with Home() as home:
            path = home.log('s-1', spent_line('a', 1))
            self.grown(home, 1)
            os.makedirs(home.at('.claude/projects/q'))
            os.rename(path, home.at('.claude/projects/q/s-1.jsonl'))
            self.grown(home, 1)
            home.append('.claude/projects/q/s-1.jsonl', [spent_line('b', 20)])
            self.grown(home, 21)

    def test_deleted_transcripts_keep_their_spend(self):
        lines = [spent_line('a', 1), spent_line('b', 20), cost_state('s-1', {HAIKU: (321,)})]
        with Home() as home:
            path = home.log('s-1', *lines)
            self.grown(home, 321)
            os.unlink(path)
            self.grown(home, 321)
            home.log('s-1', *lines)                                # back from a backup
            self.grown(home, 321)
            shutil.rmtree(home.at('.claude/projects'))
            self.grown(home, 321)
            home.log('s-2', spent_line('c', 4000, session='s-2'))
            self.grown(home, 4321)

    def test_a_changed_price_list_prices_again_what_is_metered(self):
        with open(os.path.join(os.path.dirname(script.__file__), 'prices.json'), encoding='utf-8') as stream:
            prices = json.load(stream)
        for entry in prices['models'][HAIKU]['prices']:
            entry['input'] = 7
        budgets = 'budgets:\n  - arm: work\n    path: /work\n    total_usd_cap: 1000\n'
        with Home(budgets) as home:
            path = home.log('s-1', spent_line('a', 100), call_line('b', input=1000, model=SONNET),
                            cost_state('s-1', {HAIKU: (150,), SONNET: (1000,)}))
            for prices_path, expected in (None, '0.002150'), (home.write('p.json', json.dumps(prices)), '0.003050'), \
                    (None, '0.002150'):
                spent = home.verdict('work', '--now', LAST, ARMLEDGER_PRICES=prices_path)['arms'][0]['spent_usd']
                self.assertEqual(spent, expected)
            os.unlink(path)
            spent = home.verdict('work', '--now', LAST, ARMLEDGER_PRICES=home.at('p.json'))['arms'][0]['spent_usd']
            self.assertEqual(spent, '0.003050')


class TimeTest(unittest.TestCase):

    def times(self, *lines, now=LAST, mtime=None):
        with Home() as home:
            path = home.log('s-1', *lines)
            if mtime:
                os.utime(path, (mtime, mtime))
            with home.ledger(now) as ledger:
                return calls_of(ledger, 'ts')

    def test_without_a_timestamp_at_its_files_time(self):
        line = spent_line('a', 1)
        for stamp in None, '', 'yesterday', 7, '2026-13-01T00:00:00Z':
            with self.subTest(stamp):
                line['timestamp'] = stamp
                if stamp is None:
                    del line['timestamp']
                self.assertEqual(self.times(line, mtime=1700000000), {'a': 1700000000000})

    def test_ahead_of_the_clock_as_of_now(self):
        now = script.parse_time(LAST)
        self.assertEqual(self.times(spent_line('a', 1, time='2199-01-01T00:00:00.000Z')), {'a': now})
        self.assertEqual(self.times(spent_line('a', 1), spent_line('b', 1, time='9999-12-31T23:59:59.999Z'))['b'], now)

    def test_ways_to_write_a_time(self):
        expected = 1794312000000
        for stamp in ('2026-11-10T12:00:00.000Z', '2026-11-10T12:00:00Z', '2026-11-10T13:00:00+01:00',
                      '2026-11-10T12:00:00', '2026-11-10 12:00:00.000000Z', '2026-11-10T06:30:00-0530'):
            with self.subTest(stamp):
                self.assertEqual(self.times(spent_line('a', 1, time=stamp)), {'a': expected})

    def test_a_call_is_made_when_its_first_line_says(self):
        self.assertEqual(self.times(call_line('a', 1, time='2026-10-31T23:59:59.900Z'),
                                    call_line('a', 700, time='2026-11-01T00:00:05.000Z')),
                         {'a': script.parse_time('2026-10-31T23:59:59.900Z')})


def at(second):
    return '2026-11-10T12:00:%02d.000Z' % second


class UntranscribedTest(unittest.TestCase):
    """What only cost-state lines know: calls a, b, ... cost 1, 10, 100, ... micro-dollars, helpers in between."""

    def settled(self, logs, expected_total, expected_rest, orders=True):
        """The same result from the logs at once, in both orders one by one, and line by line in turns."""
        names = list(logs)
        arrivals = [[names]]
        if orders:
            arrivals += [[[name] for name in names], [[name] for name in reversed(names)]]
        for arrival in arrivals:
            with self.subTest(arrival=arrival), Home() as home:
                for group in arrival:
                    for name in group:
                        home.log(name, *logs[name])
                    with home.ledger():
                        pass
                for _ in range(2):
                    with home.ledger() as ledger:
                        self.assertEqual((total(ledger), untranscribed(ledger)), (expected_total, expected_rest))
                    os.utime(home.at('.claude/projects/p/%s.jsonl' % names[0]))
                result = home.main('--rebuild')
                self.assertEqual(result.code, 0, result)
                with home.ledger() as ledger:
                    self.assertEqual((total(ledger), untranscribed(ledger)), (expected_total, expected_rest), 'rebuilt')

    def test_the_rest_of_a_session(self):
        self.settled({'p': [spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (51,)})]}, 51, {'p': 50})

    def test_the_last_total_counts(self):
        self.settled({'p': [spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (51,)}),
                            cost_state('p', {HAIKU: (51,)}), spent_line('b', 10, session='p', time=at(5)),
                            cost_state('p', {HAIKU: (561,)})]}, 561, {'p': 550})

    def test_never_negative(self):
        self.settled({'p': [spent_line('a', 100, session='p', time=at(1)), cost_state('p', {HAIKU: (30,)})]}, 100, {})
        self.settled({'p': [spent_line('a', 100, session='p', time=at(1)),
                            cost_state('p', {HAIKU: (30, 2), SONNET: (5,)})]}, 100 + 10 + 10, {'p': 20})

    def test_a_model_that_has_no_line_at_all(self):
        self.settled({'p': [spent_line('a', 1, session='p', time=at(1)),
                            cost_state('p', {HAIKU: (1,), SONNET: (50, 2)})]}, 1 + 100 + 20, {'p': 120})

    def test_keys_with_a_suffix_are_the_same_model(self):
        self.settled({'p': [call_line('a', input=10, model=SONNET, session='p', time=at(1)),
                            cost_state('p', {SONNET + '[1m]': (10,)})]}, 20, {})
        self.settled({'p': [call_line('a', input=10, model='claude-haiku-4-5-20251001', session='p', time=at(1)),
                            cost_state('p', {HAIKU: (10,)})]}, 10, {})
        self.settled({'p': [call_line('a', input=10, session='p', time=at(1)),
                            cost_state('p', {'claude-haiku-4-5-20251001': (10,)})]}, 10, {})

    def test_two_keys_of_one_model_are_summed(self):
        self.settled({'p': [call_line('a', input=10, model=SONNET, session='p', time=at(1)),
                            cost_state('p', {SONNET + '[1m]': (6,), SONNET: (9,)})]}, 30, {'p': 10})

    def test_a_total_of_calls_that_were_fast_or_in_the_us_leaves_nothing(self):
        fast = call_line('a', 10, model='claude-opus-5-5', session='p', time=at(1), usage={'speed': 'fast'})
        self.settled({'p': [fast, cost_state('p', {'claude-opus-5-5': (0, 10)})]}, 400, {})

    def test_later_calls_of_a_resumed_session(self):
        lines = [spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (51,)}),
                 spent_line('b', 10, session='p', time=at(9)), spent_line('c', 100, session='p', time=at(10))]
        self.settled({'p': lines}, 161, {'p': 50})
        self.settled({'p': lines + [cost_state('p', {HAIKU: (161,)})]}, 161, {'p': 50})
        self.settled({'p': lines + [cost_state('p', {HAIKU: (171,)})]}, 171, {'p': 60})

    def test_sub_agents_are_in_their_sessions_total(self):
        main = [spent_line('a', 1, session='p', time=at(1)), spent_line('d', 10, session='p', time=at(8)),
                cost_state('p', {HAIKU: (1161,)})]
        one, two = [spent_line('b', 100, session='p', agent='a1', time=at(2))], \
            [spent_line('c', 1000, session='p', agent='a2', time=at(3))]
        self.settled({'p': main, 'p/subagents/agent-a1': one, 'p/subagents/workflows/w/agent-a2': two}, 1161, {'p': 50})

    def test_sub_agents_in_flight(self):
        main = [spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (11,)})]
        agent = [spent_line('b', 10, session='p', agent='a1', time=at(2)),
                 spent_line('c', 100, session='p', agent='a1', time=at(5))]      # after the total was written
        self.settled({'p': main, 'p/subagents/agent-a1': agent}, 111, {})

    def test_a_fork_goes_on_from_its_parents_total(self):
        parent = [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1)),
                  spent_line('b', 10, session='p', time=at(2)), cost_state('p', {HAIKU: (61,)})]
        fork = [queue_line(at(10), 'f'), spent_line('a', 1, session='f', time=at(1)),
                spent_line('b', 10, session='f', time=at(2)), spent_line('c', 100, session='f', time=at(11)),
                cost_state('f', {HAIKU: (761,)})]
        self.settled({'p': parent, 'f': fork}, 761, {'p': 50, 'f': 600})
        on = parent + [spent_line('d', 1000, session='p', time=at(20)), cost_state('p', {HAIKU: (1061,)})]
        self.settled({'p': on, 'f': fork}, 1761, {'p': 50, 'f': 600})
        self.settled({'p': on, 'f': fork[:-1]}, 1161, {'p': 50})

    def test_a_fork_of_a_fork(self):
        a, b, c = (lambda s: spent_line('a', 1, session=s, time=at(1))), \
            (lambda s: spent_line('b', 10, session=s, time=at(11))), (lambda s: spent_line('c', 100, session=s, time=at(21)))
        self.settled({'p': [queue_line(at(0), 'p'), a('p'), cost_state('p', {HAIKU: (6,)})],
                      'f': [queue_line(at(10), 'f'), a('f'), b('f'), cost_state('f', {HAIKU: (76,)})],
                      'g': [queue_line(at(20), 'g'), a('g'), b('g'), c('g'), cost_state('g', {HAIKU: (976,)})]},
                     976, {'p': 5, 'f': 60, 'g': 800})

    def test_sibling_forks(self):
        head = [('a', 1, at(1)), ('b', 10, at(2))]
        for first, second in ((100, 1000), (1000, 100)):
            logs = {'p': [queue_line(at(0), 'p')] + [spent_line(k, u, session='p', time=t) for k, u, t in head]
                    + [cost_state('p', {HAIKU: (61,)})]}
            for name, key, begin, own, helper in ('f', 'c', 10, first, 3), ('g', 'd', 20, second, 4):
                logs[name] = [queue_line(at(begin), name)] + [spent_line(k, u, session=name, time=t) for k, u, t in head] \
                    + [spent_line(key, own, session=name, time=at(begin + 1)),
                       cost_state(name, {HAIKU: (61 + own + helper * 10,)})]
            with self.subTest(first=first):
                self.settled(logs, 61 + 1100 + 70, {'p': 50, 'f': 30, 'g': 40})

    def test_a_fork_after_a_compaction(self):
        # a, b; a compaction of 500 that no line has; c; then the fork copies what came after the compaction.
        parent = [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1)),
                  spent_line('b', 10, session='p', time=at(2)), cost_state('p', {HAIKU: (11,)}),
                  cost_state('p', {HAIKU: (511,)}), spent_line('c', 100, session='p', time=at(5)),
                  cost_state('p', {HAIKU: (611,)})]
        fork = [queue_line(at(10), 'f'), spent_line('c', 100, session='f', time=at(5)),
                spent_line('d', 1000, session='f', time=at(11))]
        for helper in 0, 40, 30000:
            with self.subTest(helper=helper):
                rest = {'p': 500, 'f': helper} if helper else {'p': 500}
                self.settled({'p': parent, 'f': fork + [cost_state('f', {HAIKU: (1611 + helper,)})]},
                             1611 + helper, rest)
        on = parent + [spent_line('e', 100000, session='p', time=at(20)), cost_state('p', {HAIKU: (100611,)})]
        self.settled({'p': on, 'f': fork + [cost_state('f', {HAIKU: (1611,)})]}, 101611, {'p': 500})
        self.settled({'p': on, 'f': fork}, 101611, {'p': 500})

    def test_a_fork_right_after_a_compaction_copies_no_call(self):
        parent = [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1)), user_line(at(3), session='p'),
                  cost_state('p', {HAIKU: (501,)})]
        fork = [queue_line(at(10), 'f'), user_line(at(3), session='f'), spent_line('d', 1000, session='f', time=at(11)),
                cost_state('f', {HAIKU: (1501,)})]
        self.settled({'p': parent, 'f': fork}, 1501, {'p': 500})

    def test_sibling_forks_after_a_compaction(self):
        parent = [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (501,)}),
                  spent_line('b', 10, session='p', time=at(3)), cost_state('p', {HAIKU: (511,)})]
        first = [queue_line(at(10), 'f'), spent_line('b', 10, session='f', time=at(3)),
                 spent_line('c', 100, session='f', time=at(11)), cost_state('f', {HAIKU: (641,)})]
        second = [queue_line(at(20), 'g'), spent_line('b', 10, session='g', time=at(3)),
                  spent_line('d', 1000, session='g', time=at(21)), cost_state('g', {HAIKU: (1551,)})]
        self.settled({'p': parent, 'f': first, 'g': second}, 511 + 130 + 1040, {'p': 500, 'f': 30, 'g': 40})

    def test_a_fork_whose_parent_is_gone(self):
        fork = [queue_line(at(10), 'f'), spent_line('a', 1, session='f', time=at(1)),
                spent_line('b', 10, session='f', time=at(11)), cost_state('f', {HAIKU: (61,)})]
        self.settled({'f': fork}, 61, {'f': 50})

    def test_a_parent_that_is_deleted_before_its_fork_is_read(self):
        parent = [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1)), cost_state('p', {HAIKU: (51,)})]
        fork = [queue_line(at(10), 'f'), spent_line('a', 1, session='f', time=at(1)),
                spent_line('b', 10, session='f', time=at(11)), cost_state('f', {HAIKU: (661,)})]
        with Home() as home:
            path = home.log('p', *parent)
            with home.ledger():
                pass
            os.unlink(path)
            home.log('f', *fork)
            with home.ledger() as ledger:
                self.assertEqual((total(ledger), untranscribed(ledger)), (661, {'p': 50, 'f': 600}))
                self.assertEqual(calls_of(ledger, 'session')['a'], ledger.one('select id from sessions where name = ?', 'p')[0])
            home.main('--rebuild')
            with home.ledger() as ledger:
                self.assertEqual((total(ledger), untranscribed(ledger)), (661, {'p': 50, 'f': 600}))

    def test_a_shared_call_belongs_to_the_session_that_began_first(self):
        logs = {'p': [queue_line(at(0), 'p'), spent_line('a', 1, session='p', time=at(1))],
                'f': [queue_line(at(10), 'f'), spent_line('a', 1, session='f', time=at(1)),
                      spent_line('b', 10, session='f', time=at(11))]}
        for order in (['p', 'f'], ['f', 'p']):
            with self.subTest(order), Home() as home:
                for name in order:
                    home.log(name, *logs[name])
                    with home.ledger() as ledger:
                        pass
                with home.ledger() as ledger:
                    owners = dict(ledger.db.execute('select key, name from calls join sessions on sessions.id = session where owned'))
                    self.assertEqual(owners, {'a': 'p', 'b': 'f'})

    def test_it_counts_where_and_when_its_session_was(self):
        with Home() as home:
            home.log('p', spent_line('a', 1, session='p', time='2026-10-31T23:00:00.000Z', cwd='/code/one'),
                     user_line('2026-10-31T23:10:00.000Z', '/code/two', 'p'), cost_state('p', {HAIKU: (51,)}),
                     spent_line('b', 10, session='p', time='2026-11-02T00:00:00.000Z', cwd='/code/three'),
                     cost_state('p', {HAIKU: (661,)}))
            with home.ledger() as ledger:
                self.assertEqual(ledger.db.execute(
                    "select usd / 1000000, ts, cwd from calls join pairs on pairs.id = calls.pair "
                    "join places on places.id = place "
                    "where kind = 'untranscribed' order by ts").fetchall(),
                    [(50, script.parse_time('2026-10-31T23:10:00Z'), '/code/two'),
                     (600, script.parse_time('2026-11-02T00:00:00Z'), '/code/three')])


class Family:
    """Random sessions, as the client writes them: resumed, forked and compacted, with helper calls and sub-agents.

    Each run ends with a call, and then its total: so no two forks are alike in all that their logs tell."""

    def __init__(self, seed):
        self.chance, self.start, self.ms, self.number = random.Random(seed), 1794265200000 + seed, 0, 0
        self.logs, self.sessions, self.micro_usd = {}, [], 0
        self.begin('p', {}, [])
        for _ in range(self.chance.randrange(5)):
            name, totals, context = self.chance.choice(self.sessions)
            if self.chance.random() < .5:
                self.logs[name].append(queue_line(self.now(), name))
                self.run(name, totals, context)
            else:
                self.begin('f%d' % len(self.sessions), totals, context)

    def now(self):
        self.ms += self.chance.choice((1, 40, 900, 5000))
        return '2026-11-10T00:%02d:%02d.%03dZ' % (self.ms // 60000, self.ms // 1000 % 60, self.ms % 1000)

    def begin(self, name, totals, context):
        """A session that goes on from another's total, with copies of its calls since the last compaction."""
        self.logs[name] = [queue_line(self.now(), name)] + [dict(line, sessionId=name) for line in context]
        self.sessions.append((name, dict(totals), list(context)))
        self.run(*self.sessions[-1])

    def call(self, totals, **more):
        """A call, as a line; whether it is written down is another matter."""
        tokens, model = self.chance.randrange(1, 10 ** self.chance.randrange(2, 6)), self.chance.choice((HAIKU, HAIKU, SONNET))
        totals[model] = totals.get(model, 0) + tokens
        self.micro_usd += tokens * (2 if model == SONNET else 1)
        self.number += 1
        return call_line('m%d' % self.number, input=tokens, model=model, time=self.now(), **more)

    def run(self, name, totals, context):
        lines, steps = self.logs[name], self.chance.choices(('call', 'helper', 'agent', 'compaction'), (3, 1, 1, 1),
                                                            k=self.chance.randrange(4)) + ['call']
        for n, step in enumerate(steps):
            if step == 'agent' and 'call' in steps[:n]:
                agent = 'a%d' % self.number
                self.logs['%s/subagents/agent-%s' % (name, agent)] = [self.call(totals, session=name, agent=agent)]
                continue
            line = self.call(totals, session=name)
            if step == 'compaction':
                context.clear()
                lines.append(user_line(self.now(), session=name))
            elif step != 'helper':
                lines += [line] * self.chance.randrange(1, 4)
                context.append(line)
        lines.append(cost_state(name, {model: (tokens,) for model, tokens in totals.items()}, self.start))


class RandomFamiliesTest(unittest.TestCase):

    def test_all_is_billed_once_however_it_arrives(self):
        for seed in range(24):
            for way in 'at once', 'one by one', 'in turns':
                family, chance = Family(seed), random.Random(seed)
                with self.subTest(seed=seed, way=way), Home() as home:
                    names = sorted(family.logs)
                    chance.shuffle(names)
                    rest = {name: family.logs[name] for name in names}
                    while rest:
                        name = chance.choice(list(rest)) if way == 'in turns' else next(iter(rest))
                        count = chance.randrange(1, 12) if way == 'in turns' else len(rest[name])
                        path = home.at('.claude/projects/p/%s.jsonl' % name)
                        (home.append if os.path.exists(path) else home.write)(path, rest[name][:count])
                        rest[name] = rest[name][count:]
                        if not rest[name]:
                            del rest[name]
                        if way != 'at once':
                            with home.ledger():
                                pass
                    with home.ledger() as ledger:
                        self.assertEqual(total(ledger), family.micro_usd)


class RebuildTest(unittest.TestCase):

    def test_calls_whose_logs_are_gone_are_kept(self):
        with Home() as home:
            gone = home.log('s-1', spent_line('a', 1, session='s-1'), cost_state('s-1', {HAIKU: (6,)}))
            home.log('s-2', spent_line('b', 20, session='s-2'), spent_line('c', 300, session='s-2'))
            with home.ledger():
                pass
            os.unlink(gone)
            for _ in range(2):
                result = home.main('--rebuild')
                self.assertEqual((result.code, result.err), (0, ''))
                self.assertRegex(result.out, r'\b1 calls? (is|are) kept')
                with home.ledger() as ledger:
                    self.assertEqual((total(ledger), untranscribed(ledger)), (326, {'s-1': 5}))

    def test_without_a_ledger_it_makes_one(self):
        with Home() as home:
            home.log('s-1', spent_line('a', 1))
            self.assertEqual(home.main('--rebuild').code, 0)
            with home.ledger() as ledger:
                self.assertEqual(total(ledger), 1)

    def test_it_finds_again_what_was_taken_out_of_the_ledger(self):
        with Home() as home:
            home.log('s-1', spent_line('a', 1), spent_line('b', 20))
            with home.ledger() as ledger:
                ledger.db.execute("delete from calls where key = 'b'")
            home.main('--rebuild')
            with home.ledger() as ledger:
                self.assertEqual(total(ledger), 21)


class OlderVersionTest(unittest.TestCase):
    """data/ledger-1.sql is what version 1 made of the logs of resume-fork-compact and of Codex; ledger-2.sql, version 2."""

    def begin(self, home, *changes, version=1):
        with open(os.path.join(DATA, 'ledger-%d.sql' % version), encoding='utf-8') as stream:
            text = stream.read()
        os.makedirs(home.state)
        db = sqlite3.connect(os.path.join(home.state, 'ledger.sqlite3'))
        db.executescript(text)
        db.execute("insert into meta values ('prices', ?)", (load_prices().text,))
        for change in changes:
            self.assertGreater(db.execute(change).rowcount, 0, change)
        db.commit()
        db.close()

    def codex_usd(self):
        """gpt-5.5 and others at the prices of the bill: what version 1 held of Codex, to the pico-dollar."""
        found = sqlite3.connect(':memory:')
        with open(os.path.join(DATA, 'ledger-1.sql'), encoding='utf-8') as stream:
            found.executescript(stream.read())
        return found.execute("select sum(usd) from calls join sessions on sessions.id = session where cli = 'codex'").fetchone()[0]

    def held(self, ledger):
        return ledger.one('select sum(usd) from calls where owned')[0]

    def expected(self):
        return sum(bill_of('resume-fork-compact')[1].values()) + self.codex_usd()

    def with_logs(self, home, **more):
        return home.ledger(CLAUDE_CONFIG_DIR=fixture('resume-fork-compact', 'claude'),
                           CODEX_HOME=os.path.join(DATA, 'codex-0.169.0', 'home'), **more)

    def test_it_is_copied_as_it_is(self):
        with Home() as home:
            self.begin(home)
            for _ in range(2):
                with home.ledger() as ledger:
                    self.assertEqual(self.held(ledger), self.expected())
                    self.assertEqual(ledger.one('pragma user_version')[0], 3)
                    self.assertEqual(ledger.rows("select name from sqlite_master where name like 'v1%'"), [])
                    self.assertEqual(ledger.one('select count(*) from notices')[0], 1)
                    self.assertEqual({ledger.places()[place].cwd for place, in ledger.rows(
                        'select place from calls join pairs on pairs.id = pair')},
                        {'/home/op/clients/acme', '/home/op/clients/beta'})

    def test_of_version_2_all_is_kept(self):
        with Home() as home:
            self.begin(home, version=2)
            with home.ledger() as ledger:
                self.assertEqual(self.held(ledger), self.expected())
                self.assertEqual(ledger.one('pragma user_version')[0], 3)
                self.assertEqual(ledger.one('select count(*) from notices')[0], 1)
            with self.with_logs(home) as ledger:
                self.assertEqual(self.held(ledger), self.expected())
            home.log('s-9', spent_line('new', 7, cwd=home.repo('new'), session='s-9'))
            with home.ledger() as ledger:
                self.assertEqual(self.held(ledger), self.expected() + 7 * 10 ** 6)

    def test_logs_that_are_still_there_are_read_anew(self):
        wrong = "update calls set output = output + 5000, usd = usd * 7 where kind = '%s'"
        with Home() as home:
            self.begin(home, wrong % 'call', wrong % 'untranscribed')
            with home.ledger() as ledger:
                self.assertEqual(self.held(ledger), 7 * self.expected())
        with Home() as home:
            self.begin(home, wrong % 'call', wrong % 'untranscribed')
            with self.with_logs(home) as ledger:
                self.assertEqual(self.held(ledger), self.expected())
            home.main('--rebuild')                             # the logs are gone again
            with home.ledger() as ledger:
                self.assertEqual(self.held(ledger), self.expected())

    def test_what_has_no_log_any_more_stays(self):
        with Home() as home:
            self.begin(home, "update calls set usd = usd * 7")
            with home.ledger(CODEX_HOME=os.path.join(DATA, 'codex-0.169.0', 'home')) as ledger:
                self.assertEqual(self.held(ledger), 7 * (self.expected() - self.codex_usd()) + self.codex_usd())

    def test_of_a_damaged_one_is_kept_what_can_be_read(self):
        for table, lost in ('calls_session', 0), ('calls', 1):
            with self.subTest(table=table), Home() as home:
                self.begin(home)
                with home.ledger():
                    pass
                path = os.path.join(home.state, 'ledger.sqlite3')
                db = sqlite3.connect(path)
                db.execute('pragma wal_checkpoint(truncate)')
                (page,), (size,) = (db.execute(sql).fetchone() for sql in (
                    "select rootpage from sqlite_master where name = '%s'" % table, 'pragma page_size'))
                db.close()
                with open(path, 'r+b') as stream:
                    stream.seek((page - 1) * size)
                    stream.write(b'\0' * size)
                home.log('s-1', spent_line('a', 5))
                self.assertEqual(home.main('--rebuild').code, 0)
                self.assertTrue([name for name in os.listdir(home.state) if 'damaged' in name])
                with home.ledger() as ledger:
                    self.assertEqual(self.held(ledger), 5 * 10 ** 6 + (0 if lost else self.expected()))

    def test_a_later_one_is_refused_by_name(self):
        with Home() as home:
            with home.ledger() as ledger:
                ledger.db.execute('pragma user_version = 4')
            with self.assertRaisesRegex(script.UserError, 'newer armledger .version 4, this one knows 3'):
                script.Ledger(os.path.join(home.state, 'ledger.sqlite3'), home.path)


class PlaceTest(unittest.TestCase):
    """Calls belong to the repo that a folder was in when they were first metered."""

    def roots(self, home):
        with home.ledger() as ledger:
            places = ledger.places()
            return {key: (places[place].root, places[origin].root) for key, place, origin in ledger.rows(
                'select key, place, origin from calls join pairs on pairs.id = pair where owned and key is not null')}

    def test_a_folder_that_becomes_a_repo(self):
        with Home() as home:
            cwd = home.folder('a/b')
            path = home.log('s-1', spent_line('m', 1, cwd=cwd))
            self.assertEqual(self.roots(home), {'m': (cwd, cwd)})
            home.repo('a')
            home.append(path, [spent_line('n', 1, cwd=cwd)])
            self.assertEqual(self.roots(home), {'m': (cwd, cwd), 'n': (home.at('a'), cwd)})
            home.main('--rebuild')
            self.assertEqual(self.roots(home), {'m': (cwd, cwd), 'n': (home.at('a'), cwd)})
            shutil.rmtree(home.at('a'))                        # what it was last
            home.append(path, [spent_line('o', 1, cwd=cwd)])
            self.assertEqual(self.roots(home)['o'], (home.at('a'), cwd))

    def test_a_link_that_is_turned_and_turned_back(self):
        with Home() as home:
            one, two = home.repo('one'), home.repo('two')
            link, path = home.at('link'), home.log('s-1')
            for key, to in ('m', one), ('n', two), ('o', one):
                if os.path.lexists(link):
                    os.unlink(link)
                os.symlink(to, link)
                home.append(path, [spent_line(key, 1, cwd=link)])
                self.roots(home)
            self.assertEqual({key: root for key, (root, _) in self.roots(home).items()}, {'m': one, 'n': two, 'o': one})
            shutil.rmtree(one)
            os.unlink(link)
            home.append(path, [spent_line('p', 1, cwd=link)])
            self.assertEqual(self.roots(home)['p'][0], one)

    def test_worktrees_that_are_gone_before_they_were_seen(self):
        with Home() as home:
            main = home.repo('code/main')
            home.worktree('trees/fix', 'code/main', 'fix')
            home.worktree('code/beside', 'code/main', 'beside')
            shutil.rmtree(home.at('trees'))
            shutil.rmtree(home.at('code/beside'))
            home.log('s-1', spent_line('a', 1, cwd=home.at('code/beside/src/deep')))
            self.assertEqual(self.roots(home)['a'][0], main)
            home.log('s-2', spent_line('b', 1, cwd=home.at('trees/fix'), session='s-2'))   # the repo is known by now
            self.assertEqual(self.roots(home)['b'][0], main)
            home.log('s-3', spent_line('c', 1, cwd=home.at('trees/fixed'), session='s-3'))
            self.assertEqual(self.roots(home)['c'][0], home.at('trees/fixed'))

    def test_one_spelling_of_a_folder(self):
        with Home() as home:
            home.log('s-1', spent_line('a', 1, cwd='/x/caf\u00e9'), spent_line('b', 1, cwd='/x/cafe\u0301'),
                     spent_line('c', 1, cwd='c:\\Work'), spent_line('d', 1, cwd='C:\\Work'))
            with home.ledger() as ledger:
                self.assertEqual(len(ledger.places()), 3)

    def test_a_session_that_proves_to_have_begun_elsewhere(self):
        with Home() as home:
            one, two = home.repo('one'), home.repo('two')
            home.log('s-1/subagents/agent-a', spent_line('m', 1, cwd=two, agent='a', time=at(5)))
            self.assertEqual(self.roots(home)['m'], (two, ''))
            home.log('s-1', spent_line('n', 1, cwd=one, time=at(1)))
            self.assertEqual(self.roots(home), {'m': (two, one), 'n': (one, one)})
            home.log('s-1', user_line(cwd=two, time=at(0)), spent_line('n', 1, cwd=one, time=at(1)))
            self.assertEqual(self.roots(home), {'m': (two, two), 'n': (one, two)})
            with home.ledger() as ledger:
                self.assertEqual(ledger.rows('select arm from pairs join agents on agents.pair = pairs.id '
                                             'where place = origin and name = ?', 'a'), [(None,)])

    def test_a_codex_fork_began_where_its_root_did(self):
        def rollout(thread, cwd, second, **more):
            stamp = at(second)
            meta = dict({'id': thread, 'timestamp': stamp, 'cwd': cwd, 'cli_version': '0.169.0'}, **more)
            usage = {'input_tokens': 10 + second, 'output_tokens': 1}
            return [{'timestamp': stamp, 'type': 'session_meta', 'payload': meta},
                    {'timestamp': stamp, 'type': 'turn_context', 'payload': {'cwd': cwd, 'model': 'gpt-5.5'}},
                    {'timestamp': stamp, 'type': 'token_usage_record', 'payload': {
                        'thread_id': thread, 'response_id': 'r-' + thread, 'usage': usage}}]
        for order in ('root', 'fork', 'again'), ('again', 'fork', 'root'):
            with self.subTest(order), Home() as home:
                place = {name: home.repo(name) for name in order}
                logs = {'root': rollout('root', place['root'], 1),
                        'fork': rollout('fork', place['fork'], 2, forked_from_id='root'),
                        'again': rollout('again', place['again'], 3, forked_from_id='fork')}
                for name in order:
                    home.write('.codex/sessions/2026/11/10/rollout-2026-11-10T12-00-00-%s.jsonl' % name, logs[name])
                    self.roots(home)
                self.assertEqual(self.roots(home), {'r-' + name: (place[name], place['root']) for name in order})


class FoundTest(unittest.TestCase):
    """Logs are found wherever they are, and told of where they can't be read."""

    def test_a_named_transcript_is_metered_with_its_sub_agents_and_stays_known(self):
        with Home() as home:
            path = home.write('elsewhere/s-9.jsonl', [spent_line('a', 1, session='s-9')])
            environ, now = home.environ(), script.parse_time(LAST)

            def read(named):
                ledger = script.Ledger(script.find_ledger(None, environ, home.path), home.path)
                try:
                    ledger.refresh(load_prices(), environ, now, named=named)
                    return total(ledger)
                finally:
                    ledger.close()
            self.assertEqual(read(None), 0)
            self.assertEqual(read(('claude-code', path)), 1)
            home.append(path, [spent_line('b', 20, session='s-9')])
            self.assertEqual(read(None), 21)
            home.write('elsewhere/s-9/subagents/agent-1.jsonl', [spent_line('c', 300, session='s-9', agent='1')])
            self.assertEqual(read(('claude-code', path)), 321)
            home.write('elsewhere/s-9/subagents/agent-2.jsonl', [spent_line('d', 4000, session='s-9', agent='2')])
            self.assertEqual(read(None), 4321)
            os.mkfifo(home.at('elsewhere/pipe.jsonl'))
            for odd in home.at('elsewhere/pipe.jsonl'), home.at('elsewhere'), home.at('nothing.jsonl'), '/x\0y', '\ud800', '':
                self.assertEqual(read(('claude-code', odd)), 4321)

    def test_a_log_that_fails_while_it_is_read(self):
        with Home() as home:
            good, bad = home.log('s-1', spent_line('a', 1)), home.log('s-2', spent_line('b', 20))
            whole = script.open_plain

            class Failing:
                def __init__(self, stream):
                    self.stream = stream

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    self.stream.close()

                def __getattr__(self, name):
                    return getattr(self.stream, name)

                def read(self, *_):
                    raise OSError(5, 'Input/output error')
            with mock.patch.object(script, 'open_plain', lambda path: Failing(whole(path)) if path == bad else whole(path)):
                for _ in range(2):
                    with home.ledger() as ledger:
                        self.assertEqual((total(ledger), ledger.reading.unreadable), (1, [(bad, 'Input/output error')]))
            with home.ledger() as ledger:
                self.assertEqual((total(ledger), ledger.reading.unreadable, ledger.reading.files), (21, [], 2))
            self.assertTrue(good)

    def test_a_subagents_folder_that_is_a_link(self):
        with Home() as home:
            home.write('elsewhere/agent-1.jsonl', [spent_line('a', 1, agent='1')])
            home.log('s-1', spent_line('b', 20))
            os.makedirs(home.at('.claude/projects/p/s-1'))
            os.symlink(home.at('elsewhere'), home.at('.claude/projects/p/s-1/subagents'))
            os.symlink('..', home.at('elsewhere/subagents'))
            with home.ledger() as ledger:
                self.assertEqual((total(ledger), ledger.reading.files), (21, 2))
                self.assertEqual(ledger.one("select agent from calls where key = 'a'")[0], '1')

    def test_a_folder_without_logs_is_not_looked_at(self):
        with Home() as home:
            home.write('.claude/projects/p/s-1/tool-results/x.jsonl', [spent_line('a', 1)])
            with home.ledger() as ledger:
                self.assertEqual(ledger.reading.files, 0)

    def test_compressed_logs_are_counted(self):
        with Home() as home:
            name = 'rollout-2026-11-10T12-00-00-01a2082c-4ed4-74f3-af25-c3f334c0c62e.jsonl'
            home.write('.codex/sessions/2026/11/10/%s.zst' % name, b'x')
            with home.ledger() as ledger:
                self.assertEqual(ledger.reading.compressed, 1)

    def test_a_log_rewritten_in_its_first_part(self):
        with Home() as home:
            lines = [spent_line('a', 1), spent_line('b', 20)] + [user_line(content='x' * 500)] * 20
            path = home.log('s-1', *lines)
            with home.ledger():
                pass
            lines[0] = spent_line('c', 3)
            with open(path, 'r+b') as stream:                  # as long as it was, with the same tail
                stream.write(json.dumps(lines[0], separators=(',', ':')).encode())
            with home.ledger() as ledger:
                self.assertEqual(total(ledger), 24)

    def test_what_the_small_file_beside_a_transcript_says(self):
        with Home() as home:
            path = home.log('s-1/subagents/agent-a1', spent_line('a', 1, agent='a1', time=at(3)))
            told = {'agentType': 'Explore', 'toolUseId': 'toolu_7', 'requestShape': 'foreground'}
            beside = home.write(path[:-6] + '.meta.json', json.dumps(told))
            wanted = 'select sessions.name, agents.name, type, tool_use_id, path, finished, foreground, agents.ts ' \
                     'from agents join sessions on sessions.id = session'
            with home.ledger() as ledger:
                self.assertEqual(ledger.rows(wanted), [
                    ('s-1', 'a1', 'Explore', 'toolu_7', beside, 0, 1, script.parse_time(at(3)))])
            home.write(beside, json.dumps(dict(told, finished=True)))
            home.append(path, [spent_line('b', 1, agent='a1', time=at(4))])
            with home.ledger() as ledger:
                self.assertEqual([row[5] for row in ledger.rows(wanted)], [1])


class ManyProcessesTest(unittest.TestCase):

    BUDGETS = 'budgets:\n  - arm: work\n    path: /work\n    total_usd_cap: 1000\n'

    def test_they_make_one_ledger_at_the_same_time(self):
        with Home(self.BUDGETS) as home:
            for n in range(20):
                home.log('s-%d' % n, *(spent_line('m%d-%d' % (n, k), 1, session='s-%d' % n) for k in range(20)))
            processes = [home.start('budget-check.py', '--json', 'work') for _ in range(4)]
            for process in processes:
                with process:
                    out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, err), (0, b''))
                self.assertEqual(re.search(rb'"spent_usd": ([0-9.]+)', out).group(1), b'0.000400')
            with home.ledger() as ledger:
                self.assertEqual(total(ledger), 400)

    def test_one_writes_while_others_read(self):
        with Home(self.BUDGETS) as home:
            path, expected = home.log('s-1'), 0
            running = []
            for n in range(30):
                home.append(path, [spent_line('m%d' % n, 1), spent_line('m%d' % n, 1)])
                if n % 10 == 0:
                    running.append(home.start('budget-check.py', '--json', 'work'))
                with home.ledger() as ledger:
                    expected += 1
                    self.assertEqual(total(ledger), expected)
            for process in running:
                with process:
                    out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, err), (0, b''))

    def test_a_read_that_runs_out_of_time_is_gone_on_with(self):
        with Home() as home:
            for n in range(7):
                home.log('s-%d' % n, spent_line('m%d' % n, 10 ** n, session='s-%d' % n))
            environ, now = home.environ(), script.parse_time(LAST)
            for _ in range(20):
                ledger = script.Ledger(script.find_ledger(None, environ, home.path), home.path, 0.0)
                try:
                    ledger.refresh(load_prices(), environ, now)
                    break
                except script.NotYet:
                    pass
                finally:
                    ledger.close()
            else:
                self.fail('it gets nowhere')
            with home.ledger() as ledger:
                self.assertEqual(total(ledger), 1111111)


def load_prices():
    return script.load_prices(os.path.join(os.path.dirname(script.__file__), 'prices.json'))


if __name__ == '__main__':
    unittest.main()
