"""The meter: log lines in, calls and totals out. Expected figures are recorded bills, or sums of what the test itself wrote."""
import glob
import json
import os
import tempfile
import unittest
from collections import Counter

from support import DATA, ROOT, load_script

script = load_script('budget-check.py')
SESSION = '5e000000-0000-4000-8000-00000000ac3e'
PATH = '/logs/-clients-acme/%s.jsonl' % SESSION
AT = '2026-11-23T11:30:46.708Z'
AT_MS = 1795433446708


def line(key='msg_1', request='req_1', ts=AT, cwd='/clients/acme', model='claude-opus-5-5', stop='end_turn', content=(),
         usage=None, message=None, **more):
    """A call's line as Claude Code writes it; what is None is left out."""
    used = {'input_tokens': 10, 'cache_creation_input_tokens': 700, 'cache_read_input_tokens': 3000, 'output_tokens': 50,
            'server_tool_use': {'web_search_requests': 2}, 'service_tier': 'standard',
            'cache_creation': {'ephemeral_1h_input_tokens': 500, 'ephemeral_5m_input_tokens': 200}, 'speed': 'standard'}
    inner = dict({'id': key, 'role': 'assistant', 'model': model, 'content': list(content), 'stop_reason': stop,
                  'usage': dict(used, **usage or {})}, **message or {})
    record = dict({'parentUuid': 'p', 'isSidechain': False, 'message': inner, 'apiBlockIndex': 0, 'requestId': request,
                   'type': 'assistant', 'uuid': 'u-1', 'timestamp': ts, 'cwd': cwd, 'sessionId': SESSION, 'version': '2.1.331'}, **more)
    return json.dumps({name: value for name, value in record.items() if value is not None}, separators=(',', ':')).encode()


TOKENS = 10, 50, 200, 500, 3000, 2


def prompt(ts=AT, cwd='/clients/acme', **more):
    return json.dumps(dict({'type': 'user', 'uuid': 'u-0', 'timestamp': ts, 'cwd': cwd, 'sessionId': SESSION}, **more)).encode()


def cost_state(**usage):
    return json.dumps({'type': 'cost-state', 'sessionId': SESSION, 'startTime': AT_MS, 'modelUsage': {'claude-opus-5-5': usage}}).encode()


def read(*lines, path=PATH, agent='claude-code', state=None):
    return script.AGENTS[agent].read(path, b''.join(one + b'\n' for one in lines), {} if state is None else state)


def read_folder(agent, environ, home, slices=1):
    """All that an agent's logs say, read in slices between which the state goes through JSON."""
    whole = script.Found()
    for root in agent.roots(environ, home):
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names] or [root]
        for path in sorted(filter(os.path.isfile, filter(agent.wanted, paths))):
            with open(path, 'rb') as stream:
                lines, state = stream.read().splitlines(True), {}
            size = max(1, -(-len(lines) // slices))
            for n in range(0, len(lines), size):
                found = agent.read(path, b''.join(lines[n:n + size]), state)
                state = json.loads(json.dumps(state))
                for name in 'calls', 'marks', 'sessions':
                    getattr(whole, name).extend(getattr(found, name))
                whole.skipped += found.skipped
    return whole


class ValuesTest(unittest.TestCase):

    def test_times(self):
        for text, expected in (
                (AT, AT_MS), ('2026-11-23T11:30:46Z', AT_MS - 708), ('2026-11-23T11:30', AT_MS - 46708), ('2026-11-23T11:30:46.7081239Z', AT_MS),
                ('2026-11-23T11:30:46,7', AT_MS - 8), ('2026-11-23 13:30:46.708+02:00', AT_MS), ('2026-11-23t04:00:46.708-0730', AT_MS),
                ('1970-01-01T00:00:00z', 0), ('1969-12-31T23:59:59Z', -1000), ('2024-02-29T00:00Z', 1709164800000),
                ('2026-02-29T00:00Z', None), ('2026-02-31T10:00:00Z', None), ('2026-13-01T10:00Z', None), ('2026-11-23T24:00Z', None),
                ('2026-11-23T11:60Z', None), ('2026-11-23', None), ('2026-W48-1T10:00', None), ('', None), ('yesterday', None),
                (AT + ' ', None), (AT + '\n', None), ('２０２６-11-23T11:30Z', None), (None, None), (AT_MS, None), ([], None), (True, None)):
            with self.subTest(text):
                self.assertEqual(script.parse_time(text), expected)

    def test_counts(self):
        for value, expected in ((7, 7), (0, 0), (-1, 0), (1000.0, 1000), (1.9, 1), (10 ** 10, 10 ** 10), (10 ** 10 + 1, 0), (10 ** 30, 0),
                                (float('inf'), 0), (float('nan'), 0), (True, 0), (None, 0), ([7], 0), ({}, 0),
                                ('7', 7), ('5000000', 5000000), (str(10 ** 10 + 1), 0), ('9' * 5000, 0), ('-7', 0), ('seven', 0), ('', 0),
                                ('\u0667', 0), ('7\n', 0)):
            with self.subTest(value):
                got, = script.counts({'n': value}, 'n')
                self.assertEqual((got, type(got)), (expected, int))

    def test_texts(self):
        for value, expected in (('acme', 'acme'), ('zürich', 'zürich'), ('全角　空白', '全角　空白'), ('a\nb', 'a\nb'), ('', ''), (None, ''),
                                (7, ''), ([], ''), ('a\0', ''), ('\ud800', ''), ('x' * 4096, 'x' * 4096), ('x' * 4097, '')):
            with self.subTest(value=repr(value)[:20]):
                self.assertEqual(script.text_of(value), expected)

    def test_printable(self):
        self.assertEqual(script.printable('a\x1b[2J\u202eb\nc'), 'a\ufffd[2J\ufffdb\ufffdc')
        self.assertEqual(script.printable('x' * 300, 10), 'x' * 9 + '…')

    def test_errors_say_where(self):
        for args, text in ((('m',), 'm'), (('m', 'f'), 'f: m'), (('m', 'f', 3), 'f:3: m'), (('m', 'f', 3, 7), 'f:3:7: m')):
            self.assertEqual(str(script.UserError(*args)), text)

    def test_plain_files_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'log')
            with open(path, 'wb') as stream:
                stream.write(b'x')
            with script.open_plain(path) as stream:
                self.assertEqual(stream.read(), b'x')
            if hasattr(os, 'mkfifo'):
                os.mkfifo(path + '.pipe')
                self.assertRaises(OSError, script.open_plain, path + '.pipe')
            self.assertRaises(OSError, script.open_plain, folder)


class LinesTest(unittest.TestCase):

    def test_what_a_line_is(self):
        whole = b'{"type":"x","n":1}'
        for text, expected in (
                (whole, [1]), (b'', []), (b' \r', []), (b'\xef\xbb\xbf' + whole, [1]), (b'\0' * 9 + whole + b'\0\r', [1]),
                (whole + whole.replace(b'1', b'2'), [1, 2]), (b'{"type":"x","text":"cut' + whole, ['?', 1]),
                (whole + b'{"type":"y","text":"cut', [1, '?']), (b'{"type":"a","b":{"type":"x"' + whole, ['?', None, '?', 1][::3]),
                (b'nonsense', ['?']), (b'[1]', ['?']), (b'3' + whole, ['?', 1]), (b'{"type":' * 9, ['?'] * 9),
                (b'{"n":1,"s":"\xff\xfe"}', [1]), (b'{"type":"x"' + b'[' * 100000, ['?'])):
            with self.subTest(text[:40]):
                got = [record.get('n') if record else '?' for record in script.parse_records(text)]
                if text.startswith(b'{"type":"a"'):
                    self.assertEqual((got[0], got[-1]), tuple(expected))
                else:
                    self.assertEqual(got, expected)

    def test_a_line_that_never_ends_well_costs_little(self):
        self.assertLessEqual(len(script.parse_records(b'{"type":' * 200000)), 20)

    def test_calls_on_odd_lines(self):
        other = line('msg_2', 'req_2')
        for name, text, keys, skipped in (
                ('torn', line()[:300] + other, ['msg_2'], 1), ('glued', line() + other, ['msg_1', 'msg_2'], 0),
                ('behind a prompt', prompt() + line(), ['msg_1'], 0), ('behind a torn prompt', prompt()[:40] + line(), ['msg_1'], 1),
                ('NULs', b'\0' * 4096 + line(), ['msg_1'], 0), ('a BOM', b'\xef\xbb\xbf' + line() + b'\r', ['msg_1'], 0),
                ('bytes that are no text', line(content=['xx']).replace(b'xx', b'\xff\x80'), ['msg_1'], 0),
                ('torn at the end', line()[:-20], [], 1)):
            with self.subTest(name):
                found = read(text)
                self.assertEqual(([call.key for call in found.calls], found.skipped), (keys, skipped))


class ClaudeTest(unittest.TestCase):

    def only(self, *lines, **more):
        call, = read(*lines, **more).calls
        return call

    def test_a_call(self):
        self.assertEqual(self.only(line(stop='tool_use')), script.Call(
            'msg_1', 'req_1', SESSION, '', 0, 'call', AT_MS, '/clients/acme', 'claude-opus-5-5', '', TOKENS, True))

    def test_what_it_may_be(self):
        for name, more, changed in (
                ('ended', {}, {'uses_tool': False}),
                ('a side chain', {'isSidechain': True}, {'agent': 'sidechain', 'standing': 4}),
                ('a sub-agent', {'isSidechain': True, 'agentId': 'a1'}, {'agent': 'a1', 'standing': 4}),
                ('a copy', {'forkedFrom': {}}, {'standing': 1}),
                ('without a request', {'request': None}, {'request': '', 'standing': 2}),
                ('without an id', {'key': None}, {'key': 'req_1'}),
                ('without either', {'key': None, 'request': None}, {'key': 'u-1', 'request': '', 'standing': 2}),
                ('fast, US, in a batch', {'usage': {'service_tier': 'batch', 'speed': 'fast', 'inference_geo': 'us'}}, {'variant': 'batch fast us'}),
                ('tags of no kind', {'usage': {'service_tier': [], 'speed': 7, 'inference_geo': 'eu'}}, {}),
                ('no model', {'model': ''}, {'model': '?'}), ('a null model', {'message': {'model': None}}, {'model': '?'}),
                ('a router\'s', {'model': 'anthropic/claude-4.6-sonnet-20260205'}, {'model': 'claude-sonnet-4-6'}),
                ('no folder', {'cwd': None}, {'cwd': ''}), ('another session', {'sessionId': 's'}, {'session': 's'}),
                ('no session', {'sessionId': None}, {'session': os.path.basename(PATH)[:-6]})):
            with self.subTest(name):
                self.assertEqual(self.only(line(**more)), self.only(line())._replace(**changed))

    def test_figures(self):
        for name, usage, expected in (
                ('no split', {'cache_creation': None}, (10, 50, 700, 0, 3000, 2)),
                ('a split below its sum', {'cache_creation': {'ephemeral_1h_input_tokens': 500}}, (10, 50, 200, 500, 3000, 2)),
                ('a split above its sum', {'cache_creation_input_tokens': 0}, TOKENS),
                ('negative', {'input_tokens': -5, 'output_tokens': -1}, (0, 0, 200, 500, 3000, 2)),
                ('floats', {'input_tokens': 10.0, 'output_tokens': 50.0}, TOKENS),
                ('numbers as texts', {'input_tokens': '10', 'cache_read_input_tokens': '3000'}, TOKENS),
                ('words and lists', {'input_tokens': 'ten', 'cache_read_input_tokens': [], 'server_tool_use': 3}, (0, 50, 200, 500, 0, 0))):
            with self.subTest(name):
                self.assertEqual(self.only(line(usage=usage)).tokens, expected)

    def test_what_is_not_billed(self):
        for name, text in (
                ('made up', line(model='<synthetic>')), ('an error', line(isApiErrorMessage=True)), ('no usage', line(message={'usage': None})),
                ('no id at all', line(key=None, request=None, uuid=None)), ('a prompt', line(type='user')),
                ('a text', prompt(message='"usage"')), ('a tool\'s input', prompt(toolUseResult={'type': 'assistant', 'message': {
                     'id': 'x', 'usage': {'output_tokens': 9}}}))):
            with self.subTest(name):
                found = read(text)
                self.assertEqual((found.calls, found.skipped), ([], 0))

    def test_the_content_tells_nothing(self):
        trap = {'type': 'tool_use', 'input': {'id': 'x', 'model': 'm', 'usage': {'output_tokens': 9}, 'stop_reason': 'tool_use', 'cwd': '/',
                                              'message': {'id': 'y', 'content': [], 'stop_reason': 'tool_use', 'usage': {'output_tokens': 1}}}}
        self.assertEqual(self.only(line(content=[trap, {'type': 'text', 'text': '"usage":{"output_tokens":9}'}])), self.only(line()))

    def test_lines_of_one_call(self):
        same = [line(content=[n], apiBlockIndex=n, uuid='u-%d' % n, ts=AT[:-2] + '%dZ' % n) for n in range(3)]
        self.assertEqual({call.key for call in read(*same).calls}, {'msg_1'})
        for name, other in (('more output', line(usage={'output_tokens': 51})), ('another stop', line(stop='tool_use')),
                            ('another model', line(model='claude-opus-5')), ('another request', line(request='req_2')),
                            ('another tier', line(usage={'speed': 'fast'}))):
            with self.subTest(name):
                self.assertEqual([call._replace(ts=0) for call in read(same[0], other).calls],
                                 [call._replace(ts=0) for one in (same[0], other) for call in read(one).calls])

    def test_iterations(self):
        found = read(line(model='claude-opus-5-5[1m]', usage={'iterations': [
            {'type': 'message', 'output_tokens': 1}, {'type': 'advisor_message', 'model': 'claude-haiku-4-5', 'output_tokens': 2},
            {'type': 'compaction', 'input_tokens': 3}, 7, {'type': []}]}))
        self.assertEqual([(call.key, call.kind, call.model, call.tokens) for call in found.calls], [
            ('msg_1', 'call', 'claude-opus-5-5', TOKENS), ('msg_1#1', 'advisor_message', 'claude-haiku-4-5', (0, 2, 0, 0, 0, 0)),
            ('msg_1#2', 'compaction', 'claude-opus-5-5', (3, 0, 0, 0, 0, 0))])

    def test_progress_lines(self):
        inner = json.loads(line('msg_9', ts='2026-11-23T11:30:40.000Z'))
        outer = json.loads(prompt(type='progress', data={'type': 'agent_progress', 'agentId': 'a1', 'message': inner}))
        call = self.only(json.dumps(outer).encode())
        self.assertEqual((call.key, call.agent, call.standing, call.tokens), ('msg_9', 'a1', 4, TOKENS))

    def test_a_call_without_a_time(self):
        self.assertEqual(self.only(prompt(), line(ts=None)).ts, AT_MS)
        self.assertIsNone(self.only(line(ts=None)).ts)
        self.assertIsNone(self.only(line(ts='1970-01-01T00:00:09Z')).ts)
        state = {}
        read(prompt(), state=state)
        self.assertEqual(read(line(ts='x'), state=json.loads(json.dumps(state))).calls[0].ts, AT_MS)

    def test_where_a_session_began(self):
        early, late = '2026-11-23T11:30:10.000Z', '2026-11-23T11:30:59.000Z'
        head = b'{"type":"mode","sessionId":"%s"}' % SESSION.encode()
        for name, lines, expected in (
                ('its first line', [head, prompt(), line(ts=late, cwd='/other')], [(AT_MS, '/clients/acme')]),
                ('a first line without a folder', [b'{"type":"queue-operation","timestamp":"%s"}' % early.encode(), prompt()],
                 [(AT_MS - 36708, '/clients/acme')]),
                ('a fork\'s copies are older', [prompt(late, '/fork'), prompt(early), line(ts=early)], [(AT_MS + 12292, '/clients/acme')]),
                ('a /branch\'s are marked', [prompt(early, '/parent', forkedFrom={}), line(ts=early, cwd='/parent', forkedFrom={}), prompt(late, '/b')],
                 [(AT_MS + 12292, '/b')]),
                ('nothing yet', [head], [])):
            for cut in range(len(lines) + 1):
                with self.subTest(name, cut=cut):
                    state, rows = {}, []
                    for some in lines[:cut], lines[cut:]:
                        rows += read(*some, state=state).sessions
                        state = json.loads(json.dumps(state))
                    began = [row.began for row in rows if row.began]
                    first = min(rows, key=lambda row: row.cwd_ts, default=None)
                    self.assertEqual([(min(began), first.cwd)] if rows else [], expected)
                    self.assertTrue(all(row[0] == SESSION and row[4] == '' for row in rows))

    def test_a_session_that_a_newer_version_went_on_with(self):
        lines = [line(), line('msg_2', version='2.1.331'), line('msg_3', version='2.1.20'), line('msg_4', version='2.1.331')]
        for cut in range(len(lines) + 1):
            state = {}
            rows = read(*lines[:cut], state=state).sessions
            rows += read(*lines[cut:], state=json.loads(json.dumps(state))).sessions
            self.assertEqual([row.version for row in rows], ['2.1.331', '2.1.20', '2.1.331'])

    def test_a_sub_agent_s_file_begins_no_session(self):
        path = '/logs/-clients-acme/%s/subagents/workflows/w/agent-1.jsonl' % SESSION
        found = read(prompt(), line(isSidechain=True), path=path)
        self.assertEqual((len(found.calls), found.sessions), (1, []))

    def test_versions(self):
        self.assertEqual(read(line()).sessions[0].version, '2.1.331')

    def test_a_cost_state(self):
        usage = dict(inputTokens=11, outputTokens=22, cacheReadInputTokens=33, cacheCreationInputTokens=44,
                     cacheCreationEphemeral1hInputTokens=40, cacheCreationEphemeral5mInputTokens=4, webSearchRequests=5, costUSD=0.25)
        mark, = read(prompt(cwd='/clients/b'), cost_state(**usage)).marks
        total = {'claude-opus-5-5': [11, 22, 4, 40, 33, 5, 250000000000]}
        self.assertEqual(mark, script.Mark(SESSION, AT_MS, '/clients/b', AT_MS, True, script.OPEN, total))
        del usage['cacheCreationEphemeral1hInputTokens'], usage['cacheCreationEphemeral5mInputTokens']
        mark, = read(prompt(), cost_state(**usage)).marks
        self.assertEqual((mark.is_split, mark.totals), (False, {'claude-opus-5-5': [11, 22, 44, 0, 33, 5, 250000000000]}))

    def test_two_names_of_one_model_are_one_total(self):
        one = {'inputTokens': 1, 'cacheCreationEphemeral1hInputTokens': 0}
        text = json.dumps({'type': 'cost-state', 'modelUsage': {'claude-opus-5-5': one, 'claude-opus-5-5[1m]': one, 'x': 7}}).encode()
        self.assertEqual(read(text).marks[0].totals['claude-opus-5-5'], [2, 0, 0, 0, 0, 0, 0])

    def test_when_a_stretch_ends(self):
        later = '2026-11-23T12:00:00.000Z'
        lines = [prompt(), line(), cost_state(outputTokens=60), line('msg_2', 'req_2', ts=later), cost_state(outputTokens=99)]
        for cut in range(len(lines) + 1):
            with self.subTest(cut=cut):
                state, ends = {}, {}
                for some in lines[:cut], lines[cut:]:
                    for mark in read(*some, state=state).marks:
                        output = mark.totals['claude-opus-5-5'][1]
                        ends[output] = min(mark.ended, ends.get(output, script.OPEN))
                    state = json.loads(json.dumps(state))
                self.assertEqual(ends, {60: script.parse_time(later), 99: script.OPEN})


class HostileTest(unittest.TestCase):
    VALUES = None, True, -1, 0.5, 10 ** 30, '', 'x', '\ud800', [], [1], {}, {'id': []}, 'y' * 5000

    def changed(self, value):
        """Copies of a JSON value with something else in each of its places."""
        for name in value if isinstance(value, dict) else ():
            for odd in self.VALUES:
                yield dict(value, **{name: odd})
            for inner in self.changed(value[name]):
                yield dict(value, **{name: inner})

    def test_wrong_values_anywhere_never_raise(self):
        copilot = {'type': 'session.usage_record', 'timestamp': AT, 'data': {'context': {'cwd': '/a'}, 'copilotVersion': '1', 'usage': {
            'model': 'gpt-5.5', 'inputTokens': 9, 'apiCallId': 'r', 'numToolCalls': 1}}}
        shutdown = {'type': 'session.shutdown', 'timestamp': AT, 'data': {'modelMetrics': {'gpt-5.5': {'usage': {'inputTokens': 9}}}}}
        chat = {'sessionId': 's', 'timestamp': AT, 'cwd': '/a', 'systemPayload': {'uiEvent': {
            'event.name': 'qwen-code.api_response', 'response_id': 'r', 'input_token_count': 9, 'total_token_count': 9, 'model': 'q'}}}
        totals = {'sessionId': 's', 'timestamp': AT_MS, 'project': '/a', 'models': {'q': {'inputTokens': 9}}}
        gemini = {'id': 'i', 'type': 'gemini', 'timestamp': AT, 'tokens': {'input': 9, 'tool': 1}, 'model': 'g', 'toolCalls': []}
        head = {'sessionId': 's', 'startTime': AT, 'kind': 'subagent'}
        for agent, path, records in (
                ('claude-code', PATH, [json.loads(line()), json.loads(cost_state(outputTokens=1, costUSD=0.5)), json.loads(prompt())]),
                ('copilot', '/l/s/events.jsonl', [copilot, shutdown]), ('qwen', '/l/chats/s.jsonl', [chat]),
                ('qwen', '/l/usage_record.jsonl', [totals]), ('gemini', '/l/acme/chats/s.jsonl', [head, gemini])):
            for record in records:
                for odd in self.changed(record):
                    state = {}
                    text = [json.dumps(one).encode() for one in (odd, *records, odd)]
                    found = read(*text, path=path, agent=agent, state=state)
                    json.dumps(state)
                    for call in found.calls:
                        self.assertTrue(all(type(part) is int and 0 <= part <= 2 * 10 ** 10 for part in call.tokens), odd)
                        json.dumps(call, ensure_ascii=False).encode()
                    for mark in found.marks:
                        self.assertTrue(0 <= mark.start < 1 << 63 and (mark.ts is None or 0 <= mark.ts < 1 << 63), odd)
                        json.dumps(mark, ensure_ascii=False).encode()


class FixturesTest(unittest.TestCase):
    """Real sessions of each client, against what the API said that it billed."""

    def check(self, name, agent, usage_of, without=lambda answer: False):
        folders = sorted(glob.glob(os.path.join(DATA, name, '*', '')))
        self.assertTrue(folders)
        for folder in folders:
            for slices in 1, 3, 10 ** 6:
                with self.subTest(folder=os.path.basename(folder[:-1]), slices=slices):
                    with open(os.path.join(folder, 'bill.jsonl'), encoding='utf-8') as lines:
                        billed = Counter(usage_of(one) for one in map(json.loads, lines) if not without(one))
                    found = read_folder(script.AGENTS[agent], {}, os.path.join(folder, 'home'), slices)
                    calls = {call.key: call for call in found.calls}.values()
                    metered = Counter((call.model, call.tokens[0] + call.tokens[2] + call.tokens[4], call.tokens[4], call.tokens[1])
                                      for call in calls)
                    self.assertEqual((metered, found.skipped), (billed, 0))
                    self.assertTrue(all(call.cwd.startswith('/home/op/clients/') and call.ts and call.session for call in calls))
                    self.assertLessEqual({call.session for call in calls}, {row.name for row in found.sessions})

    def test_copilot(self):
        def usage_of(answer):
            used = answer['usage']
            return answer['model'].replace('sonnet-4.5', 'sonnet-4-5'), used['input_tokens'], used['input_tokens_details']['cached_tokens'], used['output_tokens']
        self.check('copilot-1.0.102', 'copilot', usage_of)

    def test_gemini(self):
        def usage_of(answer):
            used = answer['usage']
            return (answer['model'], used['promptTokenCount'], used['cachedContentTokenCount'],
                    used['candidatesTokenCount'] + used['thoughtsTokenCount'])
        self.check('gemini-0.61.0', 'gemini', usage_of, without=lambda answer: not answer['stream'])

    def test_qwen(self):
        """The last totals of each session are the bill; its chat holds what they do, less suggestions."""
        for folder in sorted(glob.glob(os.path.join(DATA, 'qwen-0.24.4', '*', ''))):
            with self.subTest(folder), open(os.path.join(folder, 'bill.jsonl'), encoding='utf-8') as lines:
                answers = list(map(json.loads, lines))
                found = read_folder(script.AGENTS['qwen'], {}, os.path.join(folder, 'home'))
                billed = [sum(one['usage'][name] for one in answers) for name in ('prompt_tokens', 'completion_tokens')]
                read = sum(one['usage']['prompt_tokens_details']['cached_tokens'] for one in answers)
                last = {mark.session: mark for mark in sorted(found.marks, key=lambda mark: mark.ts)}.values()
                totals = [sum(column) for column in zip(*(total for mark in last for total in mark.totals.values()))]
                self.assertEqual([totals[0] + totals[4], totals[1], totals[4]], billed + [read])
                logged = Counter((one.tokens[0] + one.tokens[4], one.tokens[1]) for one in {one.key: one for one in found.calls}.values())
                asked = Counter((one['usage']['prompt_tokens'], one['usage']['completion_tokens']) for one in answers)
                self.assertLessEqual(sum((logged - asked).values()), 0)
                self.assertTrue(all(mark.cwd.startswith('/home/op/clients/') and mark.ended == mark.ts + 1 for mark in found.marks))

    def test_claude_code(self):
        """Each call once and token for token, but for those that only a cost-state knows."""
        folders = [one for one in glob.glob(os.path.join(DATA, 'claude-code-2.1.330', '*', '')) if os.path.exists(one + 'bill.jsonl')]
        self.assertGreater(len(folders), 5)
        for folder in folders:
            with self.subTest(folder), open(folder + 'bill.jsonl', encoding='utf-8') as lines:
                billed = {one['id']: script.claude_tokens(one['usage']) for one in map(json.loads, lines)}
                found = read_folder(script.AGENTS['claude-code'], {'CLAUDE_CONFIG_DIR': folder + 'claude'}, '/none', 5)
                self.assertTrue(found.calls)
                self.assertEqual(found.skipped, 0)
                for call in found.calls:
                    self.assertEqual(call.tokens, billed[call.key])


class CopilotTest(unittest.TestCase):

    def test_before_1_0_102_totals_alone(self):
        """Totals go on over resumes: each is told, and ends where a later version's first call stands."""
        def shutdown(ts, **usage):
            return json.dumps({'type': 'session.shutdown', 'timestamp': ts, 'data': {'modelMetrics': {'gpt-5.5': {'usage': usage}}}}).encode()
        start = json.dumps({'type': 'session.start', 'timestamp': AT, 'data': {'context': {'cwd': '/clients/acme'}, 'copilotVersion': '1.0.92'}}).encode()
        call = json.dumps({'type': 'session.usage_record', 'timestamp': '2026-11-25T12:00:00.000Z', 'data': {'usage': {
            'model': 'claude-sonnet-4.5', 'apiCallId': 'r1', 'inputTokens': 100, 'cacheReadTokens': 60, 'outputTokens': 7}}}).encode()
        lines = [start, shutdown('2026-11-23T12:00:00.000Z', inputTokens=1000, cacheReadTokens=400, outputTokens=50),
                 shutdown('2026-11-24T12:00:00.000Z', inputTokens=3000, cacheReadTokens=900, outputTokens=80), call,
                 shutdown('2026-11-25T13:00:00.000Z', inputTokens=3100, cacheReadTokens=960, outputTokens=87)]
        found = read(*lines, path='/logs/s-1/events.jsonl', agent='copilot')
        ends = {}
        for mark in found.marks:
            key = mark.session, mark.ts, mark.cwd, tuple(mark.totals['gpt-5.5'])
            ends[key] = min(mark.ended, ends.get(key, script.OPEN))
        at = script.parse_time('2026-11-25T12:00:00.000Z')
        self.assertEqual(ends, {
            ('s-1', script.parse_time('2026-11-23T12:00:00.000Z'), '/clients/acme', (600, 50, 0, 0, 400, 0, 0)): at,
            ('s-1', script.parse_time('2026-11-24T12:00:00.000Z'), '/clients/acme', (2100, 80, 0, 0, 900, 0, 0)): at})
        self.assertEqual([(one.model, one.tokens) for one in found.calls], [('claude-sonnet-4-5', (40, 7, 0, 0, 60, 0))])
        self.assertEqual([row.version for row in found.sessions], ['1.0.92'])


class GeminiTest(unittest.TestCase):

    def test_a_chat_whose_head_is_torn(self):
        """Its calls count; the session is the one that the file is named by, a sub-agent's its parent's."""
        call = json.dumps({'id': 'i', 'type': 'gemini', 'timestamp': AT, 'tokens': {'input': 9, 'output': 2, 'thoughts': 3}, 'model': 'gemini-2.5-pro'}).encode()
        for path, session, agent in (('/l/acme/chats/session-x-12345678.jsonl', 'session-x-12345678', ''),
                                     ('/l/acme/chats/%s/sub.jsonl' % SESSION, SESSION, 'sub')):
            with self.subTest(path):
                found = read(b'{"sessionId":"s","startTime":"2026', call, path=path, agent='gemini')
                self.assertEqual([(one.session, one.agent, one.tokens) for one in found.calls], [(session, agent, (9, 5, 0, 0, 0, 0))])
                self.assertEqual(found.skipped, 1)


class AgentsTest(unittest.TestCase):

    def test_where_logs_are(self):
        for agent, environ, expected in (
                ('claude-code', {}, ['/h/.claude/projects', '/h/.config/claude/projects']),
                ('claude-code', {'CLAUDE_CONFIG_DIR': '/a, /b/'}, ['/a/projects', '/b/projects']),
                ('codex', {'CODEX_HOME': '/a,/b'}, ['/a/sessions', '/a/archived_sessions', '/b/sessions', '/b/archived_sessions']),
                ('copilot', {}, ['/h/.copilot/session-state']), ('copilot', {'COPILOT_HOME': '/c'}, ['/c/session-state']),
                ('qwen', {}, ['/h/.qwen/projects', '/h/.qwen/usage_record.jsonl']), ('qwen', {'QWEN_HOME': '/q'}, ['/q/projects', '/q/usage_record.jsonl']),
                ('gemini', {}, ['/h/.gemini/tmp']), ('gemini', {'GEMINI_CLI_HOME': '/g'}, ['/g/.gemini/tmp'])):
            with self.subTest(agent, environ=environ):
                self.assertEqual(script.AGENTS[agent].roots(environ, '/h'), expected)

    def test_which_files_are_logs(self):
        for agent, path, wanted in (
                ('claude-code', '/p/x/s.jsonl', True), ('claude-code', '/p/x/s.json', False), ('claude-code', '/p/x/agent-1.meta.json', False),
                ('copilot', '/s/1/events.jsonl', True), ('copilot', '/s/1/other.jsonl', False),
                ('qwen', '/p/x/chats/s.jsonl', True), ('qwen', '/p/x/subagents/s/agent-a.jsonl', False), ('qwen', '/q/usage_record.jsonl', True),
                ('gemini', '/t/x/chats/s.jsonl', True), ('gemini', '/t/x/chats/p/s.jsonl', True), ('gemini', '/t/x/logs.jsonl', False)):
            with self.subTest(path):
                self.assertEqual(bool(script.AGENTS[agent].wanted(path)), wanted)

    def test_titles(self):
        self.assertEqual({name: agent.title for name, agent in script.AGENTS.items()}, {
            'claude-code': 'Claude Code', 'codex': 'Codex', 'copilot': 'Copilot CLI', 'qwen': 'Qwen Code', 'gemini': 'Gemini CLI'})

    def test_every_price_is_found_by_the_ids_of_agents(self):
        prices = script.load_prices(os.path.join(ROOT, 'prices.json'))
        for model in 'claude-sonnet-4.5', 'gpt-5.5', 'qwen3-coder-plus', 'gemini-3.8-flash', 'gemini-3.1-pro-preview-customtools':
            self.assertTrue(prices.known(model), model)


if __name__ == '__main__':
    unittest.main()
