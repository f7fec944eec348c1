"""The Codex reader: rollouts in, calls out. Expected figures are sums of what the test itself wrote."""
import glob
import json
import os
import unittest
from collections import defaultdict

from support import DATA, ROOT, load_script

script = load_script('budget-check.py')

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
        self.path, self.state, self.malformed = '/logs/' + name, '{}', 0
        self.found, self.sessions, self.roots = {}, {}, {}

    def grow(self, *lines):
        """Append lines (dicts, or bytes as they are), read on; self."""
        text = b''.join((line if type(line) is bytes else json.dumps(line, separators=(',', ':')).encode()) + b'\n'
                        for line in lines)
        state = json.loads(self.state)
        found = script.AGENTS['codex'].read(self.path, text, state)
        self.state = json.dumps(state)
        for one in found.calls:
            self.found.setdefault(one.key, []).append(one)
        for one in found.sessions:
            self.sessions[one.name], self.roots[one.name] = one.began, one.root
        self.malformed += found.skipped
        return self

    @property
    def calls(self):
        """{key: call}: of the lines with one key those of the least standing count, and an echo bills nothing."""
        least = {key: min(rows, key=lambda one: one.standing) for key, rows in self.found.items()}
        return {key: one for key, one in least.items() if one.kind != 'echo'}

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
                places.add((one.session in path, one.agent, one.cwd, one.variant))
        self.assertEqual({model: sorted(calls) for model, calls in billed.items()},
                         {model: sorted(calls) for model, calls in metered.items()})
        self.assertEqual({(True, '', '/home/op/clients/' + arm, '') for arm in ('acme', 'beta')}, places)

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

    def test_what_only_looks_like_a_call_is_none(self):
        reading = Reading().grow(
            meta(), turn(), line('compacted', {'latest_token_usage_record': {'usage': usage(9, 0, 9)}}),
            event('agent_message', message='token_count'), event('token_counter', info={'last_token_usage': usage(9, 0, 9)}),
            line('response_item', {'type': 'message', 'token_usage_record': {'response_id': 'r', 'usage': usage(9, 0, 9)}}))
        self.assertEqual(({}, 0), (reading.calls, reading.malformed))

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

    def test_keys_are_the_family_s_own(self):
        lines = turn(), tally((5000, 0, 100), (5000, 0, 100))
        here, there = Reading().grow(meta(), *lines), Reading().grow(meta(PARENT), *lines)
        self.assertFalse(set(here.calls) & set(there.calls))

    def test_no_model_is_assumed(self):
        one = Reading().grow(meta(), tally((5000, 0, 100), (5000, 0, 100))).only()
        prices = script.load_prices(os.path.join(ROOT, 'prices.json'))
        self.assertEqual(('gpt-5', (7250000000, True)),              # 5,000 at $1.25 and 100 at $10 per million
                         (one.model, prices.usd(one.model, one.ts, one.tokens, one.variant)))



class ForksTest(unittest.TestCase):
    HISTORY = ((50000, 0, 100), (50000, 0, 100)), ((90000, 0, 300), (40000, 0, 200))
    EACH = [call(50000, 0, 100), call(40000, 0, 200)]

    def history(self, at, step=0.002):
        """The parent's two calls, as a fork writes them down again."""
        for n, (total, last) in enumerate(self.HISTORY):
            yield tally(total, last, at + n * step)

    def family(self, *lines):
        """The parent's rollout, and one that goes on from it, read in either order."""
        parent = [meta(PARENT), turn(), *self.history(-600, 60)]
        for files in (parent, lines), (lines, parent):
            reading = Reading()
            for one in files:
                reading.state = '{}'
                reading.grow(*one)
            yield reading

    def test_a_copied_history_is_its_parent_s(self):
        own = tally((96000, 0, 310), (6000, 0, 10), 9)
        heads = {
            'named': [meta(forked_from_id=PARENT)],
            'named, with the parent\'s head': [meta(forked_from_id=PARENT), meta(PARENT)],
            'a spawned agent': [meta(parent_thread_id=PARENT)],
        }
        for name, head in heads.items():
            for at in 0.01, 1.1, 8:              # whatever the copies' times, and however fast its own comes
                with self.subTest(name, at=at):
                    for reading in self.family(*head, turn(), *self.history(at), turn(at=8.9), own):
                        self.assertEqual(sorted(self.EACH + [call(6000, 0, 10)]), reading.tokens())

    def test_a_family_s_root_is_told_by_the_heads_in_a_copied_history(self):
        grandparent = '01a10000-0000-7000-8000-000000000001'
        reading = Reading().grow(meta(forked_from_id=PARENT), meta(PARENT, forked_from_id=grandparent), meta(AFTER),
                                 meta(grandparent), *self.history(0.01))
        first = Reading().grow(meta(grandparent), *self.history(0.01))
        self.assertEqual(first.calls.keys(), reading.calls.keys())
        self.assertEqual({THREAD: grandparent}, reading.roots)

    def test_history_said_again_later_is_no_call(self):
        total, last = self.HISTORY[-1]
        for reading in self.family(meta(forked_from_id=PARENT), *self.history(0.01), tally(total, last, 30),
                                   tally((96000, 0, 310), (6000, 0, 10), 40)):
            self.assertEqual(sorted(self.EACH + [call(6000, 0, 10)]), reading.tokens())

    def test_another_head_after_own_calls_changes_nothing(self):
        reading = Reading().grow(meta(), turn(), tally((5000, 0, 100), (5000, 0, 100)), meta(PARENT, at=11),
                                 tally((11000, 0, 300), at=11.2))
        self.assertEqual([call(5000, 0, 100), call(6000, 0, 200)], reading.tokens())

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
        for reading in self.family(meta(forked_from_id=PARENT), *self.history(0.01), record('resp_0', (7, 0, 7), 0.02, PARENT),
                                   record('resp_1', (6000, 0, 10), 0.3), tally((96000, 0, 310), (6000, 0, 10), 0.31)):
            self.assertEqual(sorted(self.EACH + [call(6000, 0, 10)]), reading.tokens())
            self.assertIn('resp_1', reading.calls)

    def test_a_fork_is_a_session_of_its_own(self):
        reading = Reading().grow(meta(forked_from_id=PARENT), turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual((THREAD, ''), (reading.only().session, reading.only().agent))
        self.assertEqual(({THREAD: NOON}, {THREAD: PARENT}), (reading.sessions, reading.roots))


class TwinsTest(unittest.TestCase):
    """A record and the token_count in the same words, in either order: one call, also where only the one was copied."""

    def test_a_count_before_its_record(self):
        calls = (5000, 4000, 100), (6000, 5000, 200)
        lines = (meta(), turn(), tally(calls[0], calls[0]), record('resp_1', calls[0]),
                 tally((11000, 9000, 300), calls[1], 20), record('resp_2', calls[1], 20))
        for cut in range(len(lines) + 1):
            with self.subTest(cut=cut):
                reading = Reading().grow(*lines[:cut]).grow(*lines[cut:])
                self.assertEqual({'resp_1': call(*calls[0]), 'resp_2': call(*calls[1])},
                                 {key: one.tokens for key, one in reading.calls.items()})

    def test_an_echo_outranks_its_copies(self):
        lines = turn(), record('resp_1', (5000, 0, 100)), tally((5000, 0, 100), (5000, 0, 100), 10.001)
        for first, second in ((0, 1), (1, 0)):
            reading = Reading()
            for one in [[meta(), *lines], [meta(AFTER, forked_from_id=THREAD), lines[2]]][::1 if first < second else -1]:
                reading.state = '{}'
                reading.grow(*one)
            self.assertEqual(['resp_1'], list(reading.calls))

    def test_tools_that_a_response_asked_for(self):
        asked = line('response_item', {'type': 'function_call', 'name': 'exec_command', 'call_id': 'c'})
        done = line('response_item', {'type': 'function_call_output', 'call_id': 'c', 'output': ''})
        for last in record('resp_1', (9, 0, 9)), tally((9, 0, 9), (9, 0, 9)):
            reading = Reading().grow(meta(), turn(), asked, last, done, record('resp_2', (7, 0, 7)))
            self.assertEqual({9: True, 7: False}, {one.tokens[1]: one.uses_tool for one in reading.calls.values()})


class AttributionTest(unittest.TestCase):
    def test_a_sub_agent_belongs_to_its_root_session(self):
        spawn = {'subagent': {'thread_spawn': {'parent_thread_id': PARENT, 'agent_role': 'explorer'}}}
        for name, head, session in (
                ('new', {'session_id': PARENT, 'parent_thread_id': AFTER, 'source': spawn}, PARENT),
                ('no session id', {'parent_thread_id': PARENT, 'source': spawn}, PARENT),
                ('own session id', {'session_id': THREAD, 'parent_thread_id': PARENT}, PARENT),
                ('review', {'session_id': PARENT, 'source': {'subagent': 'review'}}, PARENT),
                ('other', {'session_id': PARENT, 'source': {'subagent': {'other': 'guardian'}}}, PARENT)):
            with self.subTest(name):
                reading = Reading().grow(meta(**head), turn(at=2), record('resp_1', (6000, 0, 10)))
                one = reading.only()
                self.assertEqual((session, THREAD, 'call'), (one.session, one.agent, one.kind))
                self.assertEqual(({session: None}, {session: ''}), (reading.sessions, reading.roots))

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

    def test_a_head_without_a_time_begins_nowhere(self):
        reading = Reading().grow(dict(meta(), timestamp=None), turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual(({THREAD: None}, THREAD), (reading.sessions, reading.only().session))

    def test_without_a_head_the_name_tells_the_thread(self):
        reading = Reading().grow(turn(), record('resp_1', (6000, 0, 10)))
        self.assertEqual((THREAD, ''), (reading.only().session, reading.only().agent))


class HostileLinesTest(unittest.TestCase):
    VALUES = None, True, -1, 0.5, 10**30, '', 'x', '\ud800', [], [1], {}, {'id': []}, 'y' * 5000

    def test_wrong_values_anywhere_never_raise(self):
        spawned = meta(parent_thread_id=PARENT, session_id=PARENT)
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

    def test_one_odd_figure_throws_no_call_away(self):
        for name, value, expected in (
                ('input_tokens', -1, (0, 100, 0, 0, 0, 0)), ('input_tokens', 10**12, (0, 100, 0, 0, 0, 0)),
                ('output_tokens', 1.5, (1000, 1, 0, 0, 4000, 0)), ('output_tokens', True, (1000, 0, 0, 0, 4000, 0)),
                ('output_tokens', [], (1000, 0, 0, 0, 4000, 0)), ('output_tokens', 1000.0, (1000, 1000, 0, 0, 4000, 0)),
                ('output_tokens', float('nan'), (1000, 0, 0, 0, 4000, 0)),
                ('cached_input_tokens', 5001, (0, 100, 0, 0, 5000, 0)), ('cached_input_tokens', '9', (4991, 100, 0, 0, 9, 0)), ('cached_input_tokens', 'x', (5000, 100, 0, 0, 0, 0)),
                ('cache_write_input_tokens', 3000, (0, 100, 1000, 0, 4000, 0))):
            with self.subTest(name=name, value=value):
                bad = record('resp_1', (1, 0, 1))
                bad['payload']['usage'] = dict(usage(5000, 4000, 100), **{name: value})
                reading = Reading().grow(meta(), turn(), bad, record('resp_2', (6000, 0, 10)))
                self.assertEqual((expected, call(6000, 0, 10)), (reading.calls['resp_1'].tokens, reading.calls['resp_2'].tokens))

    def test_broken_json_is_reported(self):
        reading = Reading().grow(meta(), turn(), b'{"type":"token_usage_record","payload":{]}', b'[]', b'nonsense',
                                 record('resp_1', (6000, 0, 10)))
        self.assertEqual((['resp_1'], 1), (list(reading.calls), reading.malformed))

    def test_torn_and_glued_lines(self):
        whole = json.dumps(record('resp_1', (6000, 0, 10))).replace(': ', ':').encode()
        for torn in whole[:60], whole[:200], b'\0' * 50, b'\xef\xbb\xbf', json.dumps(turn()).encode(), b'{"type":"x","a":"':
            with self.subTest(torn):
                reading = Reading().grow(meta(), turn(), torn + whole)
                self.assertEqual([call(6000, 0, 10)], reading.tokens())



class FilesTest(unittest.TestCase):
    def test_roots(self):
        for environ, *folders in (({}, '/home/op/.codex'), ({'CODEX_HOME': ''}, '/home/op/.codex'),
                                ({'CODEX_HOME': '/srv/codex/'}, '/srv/codex'), ({'CODEX_HOME': ' /a, ,/b '}, '/a', '/b')):
            with self.subTest(environ=environ):
                self.assertEqual({folder + name for folder in folders for name in ('/sessions', '/archived_sessions')},
                                 set(script.AGENTS['codex'].roots(environ, '/home/op')))

    def test_wanted(self):
        for name, wanted in ((NAME, True), (NAME + '.zst', False), ('session_index.jsonl', False),
                             ('rollout-x.json', False)):
            with self.subTest(name=name):
                self.assertEqual(wanted, bool(script.AGENTS['codex'].wanted('/x/' + name)))


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
