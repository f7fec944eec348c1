"""The Codex reader: rollouts in, calls out. Expected figures are sums of what the test itself wrote."""
import glob
import io
import json
import os
import unittest
from collections import defaultdict, namedtuple

from support import DATA, load_script

script = load_script('budget-check.py')

Call = namedtuple('Call', 'key session agent sidechain kind ts cwd model variant tokens assumed')
FIXTURE = os.path.join(DATA, 'codex-0.169.0')
THREAD = '01a2082c-4ed4-74f3-af25-c3f334c0c62e'      # version 7 ids sort by their time
PARENT = '01a20000-0000-7000-8000-000000000001'
BEFORE = '01a20000-9999-7000-8000-000000000001'      # a turn between the two
AFTER = '01a2082c-5000-7000-8000-000000000001'       # a turn after both
NAME = 'rollout-2026-11-23T11-30-51-%s.jsonl' % THREAD
NOON = 1795435200000                                 # 2026-11-23T12:00:00Z


class Reading:
    """A rollout that is read as it grows: the state goes through JSON between reads, as in the ledger."""

    def __init__(self, name=NAME):
        self.name, self.content, self.offset, self.state = name, b'', 0, '{}'
        self.calls, self.sessions, self.agents, self.malformed = {}, {}, {}, 0

    def grow(self, *lines):
        """Append lines (dicts, or bytes as they are), read on; self."""
        for line in lines:
            text = line if type(line) is bytes else json.dumps(line, separators=(',', ':')).encode()
            self.content += text + b'\n'
        source = script.Source('/logs/' + self.name, io.BytesIO(self.content), self.offset, NOON)
        batch, state = script.Batch(None, NOON), json.loads(self.state)
        script.read_codex(source, state, batch)
        self.offset, self.state = source.offset, json.dumps(state)
        self.calls.update((key, Call(*call)) for key, call in batch.calls.items())
        self.sessions.update(batch.sessions)
        self.agents.update(batch.agents)
        self.malformed += batch.malformed + source.malformed
        return self

    def tokens(self):
        return sorted(call.tokens for call in self.calls.values())

    def only(self):
        call, = self.calls.values()
        return call


def line(kind, payload, at=0, **more):
    """A line written `at` seconds after noon."""
    second, ms = divmod(round(at * 1000), 1000)
    time = '2026-11-23T12:%02d:%02d.%03dZ' % (second // 60, second % 60, ms)
    return dict({'timestamp': time, 'type': kind, 'payload': payload}, **more)


def event(kind, at=0, **payload):
    return line('event_msg', dict({'type': kind}, **payload), at)


def meta(thread=THREAD, at=0, **more):
    return line('session_meta', dict({'id': thread, 'cwd': '/clients/acme'}, **more), at)


def turn(model='gpt-5.5', at=0, **more):
    return line('turn_context', dict({'cwd': '/clients/acme', 'model': model}, **more), at)


def usage(given, cached=0, output=0, written=0):
    return {'input_tokens': given, 'cached_input_tokens': cached, 'cache_write_input_tokens': written,
            'output_tokens': output, 'reasoning_output_tokens': output // 2, 'total_tokens': given + output}


def tally(total, last=None, at=10):
    """A token_count; `total` and `last` are (input, cached, output)."""
    info = {'total_token_usage': usage(*total), 'model_context_window': 258400}
    if last is not None:
        info['last_token_usage'] = usage(*last)
    return event('token_count', at, info=info, rate_limits=None)


def record(response, used, at=10, thread=THREAD):
    return line('token_usage_record', {'thread_id': thread, 'session_id': thread, 'response_id': response,
                                       'usage': usage(*used), 'thread_token_usage': usage(*used)}, at)


def call(given, cached=0, output=0, written=0):
    """The six token classes of a usage: input holds cache reads and writes."""
    return given - cached - written, output, written, 0, cached, 0


class RecordsTest(unittest.TestCase):
    def test_fixture_equals_the_bill(self):
        billed, metered = defaultdict(list), defaultdict(list)
        with open(os.path.join(FIXTURE, 'bill.jsonl'), encoding='utf-8') as lines:
            for answer in map(json.loads, lines):
                used = answer['usage']
                billed[answer['model']].append((answer['id'], call(
                    used['input_tokens'], used['input_tokens_details']['cached_tokens'], used['output_tokens'])))
        paths = glob.glob(os.path.join(FIXTURE, 'home', 'sessions', '*', '*', '*', '*.jsonl'))
        self.assertEqual(2, len(paths))
        places = set()
        for path in paths:
            with open(path, 'rb') as stream:
                reading = Reading(os.path.basename(path)).grow(*stream.read().splitlines())
            self.assertEqual(0, reading.malformed)
            self.assertEqual([THREAD] if THREAD in path else ['01a2082c-51dd-7d53-b538-ffd56c07e60a'],
                             list(reading.sessions))
            for one in reading.calls.values():
                metered[one.model].append((one.key, one.tokens))
                places.add((one.session in path, one.agent, one.cwd, one.assumed))
        self.assertEqual({model: sorted(calls) for model, calls in billed.items()},
                         {model: sorted(calls) for model, calls in metered.items()})
        self.assertEqual({(True, '', '/home/op/clients/' + arm, False) for arm in ('acme', 'beta')}, places)

    def test_fixture_line_by_line(self):
        path, = glob.glob(os.path.join(FIXTURE, 'home', 'sessions', '*', '*', '*', '*' + THREAD + '.jsonl'))
        with open(path, 'rb') as stream:
            lines = stream.read().splitlines()
        reading, whole = Reading(), Reading().grow(*lines)
        for one in lines:
            reading.grow(one)
        self.assertEqual(4, len(whole.calls))
        self.assertEqual(whole.calls, reading.calls)
        self.assertEqual(whole.sessions, reading.sessions)

    def test_unneeded_lines_are_not_looked_at(self):
        for one, wanted in (
                (line('response_item', {'type': 'message', 'role': 'user'}), False),
                (line('compacted', {'latest_token_usage_record': {}}), False),
                (line('world_state', {}, ordinal=4), False),
                (event('agent_message', message='token_count'), False),
                (event('token_counter'), False),
                (event('token_count'), True),
                (event('thread_settings_applied'), True),
                (meta(), True), (turn(), True), (record('resp_1', (9, 0, 9)), True)):
            for head in ({}, {'ordinal': 12}):
                text = json.dumps(dict({'timestamp': one['timestamp']}, **dict(head, **one)), separators=(',', ':'))
                with self.subTest(text=text):
                    self.assertEqual(wanted, not script.codex_skip()(text.encode()))

    def test_spaces_and_order_do_not_matter(self):
        spaced = json.dumps(record('resp_1', (1000, 400, 50)), indent=None).encode()
        turned = json.dumps(dict(reversed(list(record('resp_2', (2000, 0, 60)).items())))).encode()
        reading = Reading().grow(meta(), turn(), spaced, turned)
        self.assertEqual(sorted([call(1000, 400, 50), call(2000, 0, 60)]), reading.tokens())

    def test_cache_writes_are_inside_input(self):
        reading = Reading().grow(meta(), turn(), record('resp_1', (1000, 400, 50, 250)))
        self.assertEqual((350, 50, 250, 0, 400, 0), reading.only().tokens)

    def test_twin_is_not_counted(self):
        calls = (5000, 4000, 100), (6000, 5000, 200)
        lines = (meta(), turn(), record('resp_1', calls[0]), tally(calls[0], calls[0]),
                 record('resp_2', calls[1], 20), tally((11000, 9000, 300), calls[1], 20))
        for cut in range(len(lines) + 1):
            with self.subTest(cut=cut):
                reading = Reading().grow(*lines[:cut]).grow(*lines[cut:])
                self.assertEqual({'resp_1': call(*calls[0]), 'resp_2': call(*calls[1])},
                                 {key: one.tokens for key, one in reading.calls.items()})

    def test_a_usage_record_without_a_twin_counts(self):
        reading = Reading().grow(meta(), turn(), record('resp_1', (5000, 0, 100)), record('resp_2', (700, 0, 9)))
        self.assertEqual(sorted([call(5000, 0, 100), call(700, 0, 9)]), reading.tokens())

    def test_an_old_rollout_that_a_new_version_resumed(self):
        reading = Reading().grow(
            meta(), turn(), tally((5000, 0, 100), (5000, 0, 100)),
            record('resp_2', (6000, 0, 200), 20), tally((11000, 0, 300), (6000, 0, 200), 20))
        self.assertEqual(sorted([call(5000, 0, 100), call(6000, 0, 200)]), reading.tokens())

    def test_records_of_other_threads_are_dropped(self):
        reading = Reading().grow(meta(), turn(), record('resp_1', (5000, 0, 100), thread=PARENT),
                                 record('resp_2', (6000, 0, 200)))
        self.assertEqual(['resp_2'], list(reading.calls))

    def test_two_copies_of_a_file_have_the_same_calls(self):
        lines = (meta(), turn(), tally((5000, 0, 100), (5000, 0, 100)), record('resp_1', (6000, 0, 200)))
        self.assertEqual(Reading().grow(*lines).calls, Reading().grow(*lines).calls)


class CountsTest(unittest.TestCase):
    """Older versions: token_count alone."""

    def check(self, expected, *lines, malformed=0):
        lines = (meta(), turn()) + lines
        for cut in range(len(lines) + 1):
            reading = Reading().grow(*lines[:cut]).grow(*lines[cut:])
            with self.subTest(cut=cut):
                self.assertEqual(sorted(call(*one) for one in expected), reading.tokens())
                self.assertEqual(malformed, reading.malformed)

    def test_last_usage_counts_when_the_total_moved(self):
        self.check([(5000, 4000, 100), (6000, 5000, 200)],
                   tally((5000, 4000, 100), (5000, 4000, 100)),
                   tally((5000, 4000, 100), (5000, 4000, 100), 11),      # said again with new rate limits
                   tally((11000, 9000, 300), (6000, 5000, 200), 20),
                   tally((11000, 9000, 300), (6000, 5000, 200), 21))

    def test_two_calls_of_the_same_size_are_two(self):
        self.check([(5000, 0, 100)] * 2, tally((5000, 0, 100), (5000, 0, 100)),
                   tally((10000, 0, 200), (5000, 0, 100), 20))

    def test_null_info(self):
        self.check([(5000, 0, 100)], event('token_count', 1, info=None, rate_limits={}),
                   tally((5000, 0, 100), (5000, 0, 100)), event('token_count', 12, info=None))

    def test_differences_of_totals_without_last_usage(self):
        self.check([(5000, 4000, 100), (6000, 5000, 200)], tally((5000, 4000, 100)),
                   tally((5000, 4000, 100), at=11), tally((11000, 9000, 300), at=20))

    def test_total_goes_down_after_a_compaction(self):
        self.check([(50000, 0, 100), (60000, 0, 200), (9000, 0, 300), (9500, 0, 50)],
                   tally((50000, 0, 100), (50000, 0, 100)), tally((110000, 0, 300), (60000, 0, 200), 20),
                   tally((9000, 0, 300), (9000, 0, 300), 30), tally((18500, 0, 350), (9500, 0, 50), 40))

    def test_total_that_comes_back_to_a_figure_it_had(self):
        self.check([(1000, 0, 10), (1000, 0, 10), (1000, 0, 10), (1000, 0, 10)],
                   tally((1000, 0, 10), (1000, 0, 10)), tally((2000, 0, 20), (1000, 0, 10), 20),
                   tally((1000, 0, 10), (1000, 0, 10), 30), tally((2000, 0, 20), (1000, 0, 10), 40))

    def test_total_alone_that_goes_down_is_a_new_start(self):
        self.check([(50000, 0, 100), (1000, 0, 10)],
                   tally((50000, 0, 100)), tally((9000, 0, 50), at=20), tally((10000, 0, 60), at=30))

    def test_an_estimate_after_a_compaction_is_no_usage(self):
        self.check([(5000, 0, 100), (800, 0, 30)], tally((5000, 0, 100), (5000, 0, 100)),
                   tally((5000, 0, 100), (0, 0, 0), 20),                 # the estimate alone
                   tally((5800, 0, 130), (0, 0, 0), 30))                 # it hides the last usage: the totals tell

    def test_totals_may_be_larger_than_any_call(self):
        self.check([(5000, 0, 100), (6000, 0, 200)], tally((5000, 0, 100), (5000, 0, 100)),
                   tally((3 * 10**9, 0, 300), (6000, 0, 200), 20))

    def test_keys_are_the_thread_s_own(self):
        lines = turn(), tally((5000, 0, 100), (5000, 0, 100))
        here, there = Reading().grow(meta(), *lines), Reading().grow(meta(PARENT), *lines)
        self.assertFalse(set(here.calls) & set(there.calls))

    def test_no_model_is_assumed(self):
        reading = Reading().grow(meta(), tally((5000, 0, 100), (5000, 0, 100)))
        self.assertEqual(('gpt-5', True), (reading.only().model, reading.only().assumed))


class ForksTest(unittest.TestCase):
    HISTORY = ((50000, 0, 100), (50000, 0, 100)), ((90000, 0, 300), (40000, 0, 200))

    def history(self, at):
        """The parent's two calls, as an old fork writes them down again."""
        for n, (total, last) in enumerate(self.HISTORY):
            yield tally(total, last, at + n * 0.002)

    def test_replayed_history_is_not_counted(self):
        own = tally((96000, 0, 310), (6000, 0, 10), 9)
        heads = {
            'named': [meta(forked_from_id=PARENT)],
            'named, with the parent\'s head': [meta(forked_from_id=PARENT), meta(PARENT)],
            'the parent\'s head alone': [meta(), meta(PARENT)],
            'a spawned agent': [meta(source={'subagent': {'thread_spawn': {'parent_thread_id': PARENT}}})],
            'within one second, not at once': [meta(at=0.9, forked_from_id=PARENT)],
        }
        for name, head in heads.items():
            lines = head + [turn()] + list(self.history(1.1 if 'not at once' in name else 0.01)) + [turn(at=7), own]
            for cut in range(len(lines) + 1):
                with self.subTest(name, cut=cut):
                    reading = Reading().grow(*lines[:cut]).grow(*lines[cut:])
                    self.assertEqual([call(6000, 0, 10)], reading.tokens())
                    self.assertEqual(THREAD, reading.only().key[:36])

    def test_a_long_history_is_written_in_small_steps(self):
        steps = [tally((1000 * n, 0, n), (1000, 0, 1), 0.7 * n) for n in range(1, 6)]
        reading = Reading().grow(meta(forked_from_id=PARENT), *(steps + [tally((6000, 0, 10), (1000, 0, 5), 9)]))
        self.assertEqual([call(1000, 0, 5)], reading.tokens())

    def test_history_ends_once(self):
        for name, later in (('quick', 9.4), ('the clock was set back', 0.5)):
            with self.subTest(name):
                reading = Reading().grow(
                    meta(forked_from_id=PARENT), *self.history(0.01), tally((96000, 0, 310), (6000, 0, 10), 9),
                    tally((97000, 0, 330), (1000, 0, 20), later))
                self.assertEqual([call(1000, 0, 20), call(6000, 0, 10)], reading.tokens())

    def test_another_head_after_own_calls_changes_nothing(self):
        reading = Reading().grow(meta(), turn(), tally((5000, 0, 100), (5000, 0, 100)), meta(PARENT, at=11),
                                 tally((11000, 0, 300), at=11.2))
        self.assertEqual([call(5000, 0, 100), call(6000, 0, 200)], reading.tokens())

    def test_a_quick_first_call_is_told_by_its_turn(self):
        reading = Reading().grow(
            meta(forked_from_id=PARENT), turn(turn_id=BEFORE), *self.history(0.01),
            turn(at=0.1, turn_id=AFTER), tally((96000, 0, 310), (6000, 0, 10), 0.5))
        self.assertEqual([call(6000, 0, 10)], reading.tokens())

    def test_history_said_again_later_is_no_call(self):
        total, last = self.HISTORY[-1]
        reading = Reading().grow(meta(forked_from_id=PARENT), *self.history(0.01), tally(total, last, 30),
                                 tally((96000, 0, 310), (6000, 0, 10), 40))
        self.assertEqual([call(6000, 0, 10)], reading.tokens())

    def test_a_quick_first_call_of_a_session_that_is_no_fork_counts(self):
        reading = Reading().grow(meta(), turn(), tally((5000, 0, 100), (5000, 0, 100), 0.2))
        self.assertEqual([call(5000, 0, 100)], reading.tokens())

    def test_first_total_that_goes_on_from_the_parent(self):
        for name, first in (('last usage', tally((96000, 0, 310), (6000, 0, 10), 9)),
                            ('record', record('resp_1', (6000, 0, 10), 9))):
            with self.subTest(name):
                reading = Reading().grow(meta(forked_from_id=PARENT), turn(at=5), first,
                                         tally((96000, 0, 310), (6000, 0, 10), 9.001))
                self.assertEqual([call(6000, 0, 10)], reading.tokens())

    def test_first_total_of_a_fork_is_never_its_own(self):
        reading = Reading().grow(meta(forked_from_id=PARENT), turn(at=5), tally((96000, 0, 310), at=9),
                                 tally((97000, 0, 330), at=20))
        self.assertEqual([call(1000, 0, 20)], reading.tokens())

    def test_a_new_fork_s_own_records_count_at_once(self):
        reading = Reading().grow(meta(forked_from_id=PARENT), *self.history(0.01),
                                 record('resp_0', (7, 0, 7), 0.02, PARENT),
                                 record('resp_1', (6000, 0, 10), 0.3), tally((96000, 0, 310), (6000, 0, 10), 0.31))
        self.assertEqual(['resp_1'], list(reading.calls))

    def test_a_fork_is_a_session_of_its_own(self):
        reading = Reading().grow(meta(forked_from_id=PARENT), turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual((THREAD, ''), (reading.only().session, reading.only().agent))
        self.assertEqual({THREAD: NOON}, reading.sessions)


class AttributionTest(unittest.TestCase):
    def test_a_sub_agent_belongs_to_its_root_session(self):
        spawn = {'subagent': {'thread_spawn': {'parent_thread_id': PARENT, 'agent_role': 'explorer'}}}
        for name, head, session, role in (
                ('new', {'session_id': PARENT, 'parent_thread_id': AFTER, 'source': spawn}, PARENT, 'explorer'),
                ('old', {'source': spawn}, PARENT, 'explorer'),
                ('own session id', {'session_id': THREAD, 'parent_thread_id': PARENT}, PARENT, 'subagent'),
                ('review', {'session_id': PARENT, 'source': {'subagent': 'review'}}, PARENT, 'review'),
                ('other', {'session_id': PARENT, 'source': {'subagent': {'other': 'guardian'}}}, PARENT, 'guardian')):
            with self.subTest(name):
                reading = Reading().grow(meta(**head), turn(at=2), record('resp_1', (6000, 0, 10)))
                one = reading.only()
                self.assertEqual((session, THREAD, 1, 'call'), (one.session, one.agent, one.sidechain, one.kind))
                self.assertEqual({(session, THREAD): role}, reading.agents)
                self.assertEqual({}, reading.sessions)

    def test_model_and_folder_change_by_turn(self):
        reading = Reading().grow(
            meta(), turn('gpt-5.5'), record('resp_1', (1, 0, 1)), record('resp_2', (2, 0, 2)),
            turn('gpt-5.6-sol', cwd='/clients/beta'), record('resp_3', (3, 0, 3)))
        self.assertEqual([('gpt-5.5', '/clients/acme')] * 2 + [('gpt-5.6-sol', '/clients/beta')],
                         [(one.model, one.cwd) for one in reading.calls.values()])

    def test_time_is_the_line_s(self):
        reading = Reading().grow(meta(), turn(), record('resp_1', (6000, 0, 10), 42.5))
        self.assertEqual(NOON + 42500, reading.only().ts)

    def test_service_tier_is_a_variant(self):
        def settings(thread=THREAD, **tier):
            return event('thread_settings_applied', thread_id=thread, thread_settings=dict(tier, model='gpt-5.5'))
        for name, lines, variant in (
                ('none', [], ''),
                ('priority', [settings(service_tier='priority')], 'priority'),
                ('fast', [settings(service_tier='fast')], 'fast'),
                ('flex', [settings(service_tier='flex')], 'flex'),
                ('default', [settings(service_tier='default')], ''),
                ('not known', [settings(service_tier='warp')], ''),
                ('switched off', [settings(service_tier='fast'), settings()], ''),
                ('another thread\'s', [settings(PARENT, service_tier='fast')], ''),
                ('from before threads had names', [settings(None, service_tier='flex')], 'flex'),
                ('not text', [settings(service_tier=['fast'])], '')):
            with self.subTest(name):
                reading = Reading().grow(meta(), turn(), *lines).grow(record('resp_1', (6000, 0, 10)))
                self.assertEqual(variant, reading.only().variant)

    def test_model_of_the_settings_until_a_turn_says(self):
        settings = event('thread_settings_applied', thread_settings={'model': 'gpt-5.4'})
        reading = Reading().grow(meta(), settings, record('resp_1', (1, 0, 1)), turn('gpt-5.5'), settings,
                                 record('resp_2', (2, 0, 2)))
        self.assertEqual(['gpt-5.4', 'gpt-5.5'], [one.model for one in reading.calls.values()])

    def test_a_head_without_a_time_begins_nowhere(self):
        reading = Reading().grow(dict(meta(), timestamp=None), turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual(({}, THREAD), (reading.sessions, reading.only().session))

    def test_without_a_head_the_name_tells_the_thread(self):
        reading = Reading().grow(turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual((THREAD, ''), (reading.only().session, reading.only().agent))


class HostileLinesTest(unittest.TestCase):
    VALUES = None, True, -1, 0.5, 10**30, '', 'x', '\ud800', [], [1], {}, {'id': []}, 'y' * 5000

    def test_wrong_values_anywhere_never_raise(self):
        spawned = meta(source={'subagent': {'thread_spawn': {'parent_thread_id': PARENT}}}, session_id=PARENT)
        settings = event('thread_settings_applied', thread_settings={'model': 'gpt-5.5', 'service_tier': 'fast'})
        good = meta(), turn(), record('resp_1', (6000, 0, 10))
        count = tally((9, 0, 9), (9, 0, 9))
        for written in (spawned, turn(turn_id=AFTER), settings, record('resp_2', (5, 0, 5)), count):
            for path in paths(written):
                for value in self.VALUES:
                    with self.subTest(kind=written['type'], path=path, value=repr(value)[:40]):
                        bad = changed(written, path, value)
                        first, last = Reading().grow(bad, *good), Reading().grow(*(good + (bad, bad)))
                        self.assertIn('resp_1', last.calls)
                        if (path, value) != (('payload', 'id'), 'x'):    # else these are another thread's
                            self.assertIn('resp_1', first.calls)
                        for one in list(first.calls.values()) + list(last.calls.values()):
                            json.dumps(one, ensure_ascii=False).encode()
                            self.assertTrue(all(0 <= part <= 10**8 for part in one.tokens))

    def test_counts_that_no_api_gives_are_reported(self):
        good = usage(5000, 4000, 100)
        for name, value in (('input_tokens', -1), ('input_tokens', 10**12), ('output_tokens', 1.5),
                            ('output_tokens', True), ('output_tokens', []),
                            ('cached_input_tokens', 5001), ('cached_input_tokens', '9')):
            with self.subTest(name=name, value=value):
                bad = record('resp_1', (1, 0, 1))
                bad['payload']['usage'] = dict(good, **{name: value})
                reading = Reading().grow(meta(), turn(), bad, record('resp_2', (6000, 0, 10)))
                self.assertEqual((['resp_2'], 1), (list(reading.calls), reading.malformed))

    def test_usage_without_the_known_names_is_reported(self):
        bad = record('resp_1', (1, 0, 1))
        bad['payload']['usage'] = {'prompt': 5000, 'completion': 100}
        reading = Reading().grow(meta(), turn(), bad)
        self.assertEqual(({}, 1), (reading.calls, reading.malformed))

    def test_broken_json_is_reported(self):
        reading = Reading().grow(meta(), turn(), b'{"type":"token_usage_record","payload":{]}', b'[]', b'nonsense',
                                 record('resp_1', (6000, 0, 10)))
        self.assertEqual((['resp_1'], 3), (list(reading.calls), reading.malformed))


class FilesTest(unittest.TestCase):
    def test_roots(self):
        for environ, folder in (({}, '/home/op/.codex'), ({'CODEX_HOME': ''}, '/home/op/.codex'),
                                ({'CODEX_HOME': '/srv/codex/'}, '/srv/codex')):
            with self.subTest(environ=environ):
                self.assertEqual({folder + '/sessions', folder + '/archived_sessions'},
                                 set(script.codex_roots(environ, '/home/op')))

    def test_wanted(self):
        for name, wanted in ((NAME, True), (NAME + '.zst', False), ('session_index.jsonl', False),
                             ('rollout-x.json', False)):
            with self.subTest(name=name):
                self.assertEqual(wanted, script.codex_wanted(name))


def paths(value, path=()):
    """Every place in a JSON value."""
    if path:
        yield path
    for name in value if isinstance(value, dict) else ():
        yield from paths(value[name], path + (name,))


def changed(value, path, new):
    return dict(value, **{path[0]: changed(value[path[0]], path[1:], new)}) if path else new


if __name__ == '__main__':
    unittest.main()
