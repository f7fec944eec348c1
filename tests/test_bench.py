"""bench.py: its corpora cost what their truth says, and its arithmetic is right. Nothing here is timed."""
import collections
import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
from decimal import Decimal
from fractions import Fraction

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench

NOW = bench.parse_time('2026-11-23T12:00:00Z')
USAGE_KEYS = ('input_tokens', 'output_tokens', 'short', 'long', 'cache_read_input_tokens', 'searches')
COST_STATE_KEYS = ('inputTokens', 'outputTokens', 'cacheCreationEphemeral5mInputTokens', 'cacheCreationEphemeral1hInputTokens',
                   'cacheReadInputTokens', 'webSearchRequests')
USD_PER_MILLION = {'claude-opus-5-5': (4, 20, 5, 8, .2), 'claude-opus-5': (5, 25, 6.25, 10, .5), 'claude-sonnet-5-5': (2, 10, 2.5, 4, .1),
                   'claude-fable-5-1': (10, 50, 12.5, 20, .25), 'claude-haiku-5-5': (.1, .5, .125, .2, .01)}


def usd(model, tokens):
    prices = [Fraction(str(price)) / 10**6 for price in USD_PER_MILLION[model]] + [Fraction(1, 100)]
    return sum(count * price for count, price in zip(tokens, prices))


def usage_tokens(usage):
    split = usage['cache_creation']
    return (usage['input_tokens'], usage['output_tokens'], split['ephemeral_5m_input_tokens'], split['ephemeral_1h_input_tokens'],
            usage['cache_read_input_tokens'], usage['server_tool_use']['web_search_requests'])


class Count:
    """A corpus, read again with nothing but json: the fullest line of each call, and the last cost-state of each session."""

    def __init__(self, corpus):
        self.corpus, self.calls, self.cost_states, self.lines = corpus, {}, {}, collections.Counter()
        self.paths = corpus.transcripts()
        for path in sorted(self.paths):
            with open(path, encoding='utf-8') as file:
                for line in file:
                    self._read(json.loads(line))

    def _read(self, line):
        self.lines[line['type']] += 1
        if line['type'] == 'cost-state':
            self.cost_states[line['sessionId']] = line['modelUsage']
        if line['type'] != 'assistant' or line['message']['model'] == '<synthetic>':
            return
        message, place = line['message'], os.path.relpath(line['cwd'], self.corpus.path('clients')).split(os.sep)[0]
        call = (usage_tokens(message['usage']), message['model'], place, line['timestamp'], line['sessionId'])
        known = self.calls.get(message['id'])
        if known is None or known[0][1] <= call[0][1]:
            session = min(known[-1], call[-1]) if known else call[-1]      # a fork's name comes after its parent's
            self.calls[message['id']] = call[:-1] + (session,)

    def tokens(self, **picked):
        sums = collections.defaultdict(lambda: [0] * 6)
        for tokens, model, arm, stamp, session in self.calls.values():
            if picked.get('arm') in (None, arm) and stamp >= picked.get('since', '') and picked.get('session') in (None, session):
                sums[model] = [a + b for a, b in zip(sums[model], tokens)]
        return dict(sums)

    def untranscribed(self):
        rest = collections.Counter()
        for session, usage in self.cost_states.items():
            own = self.tokens(session=session)
            for model, counts in usage.items():
                rest.update({(model, key): counts[key] - own.get(model, [0] * 6)[place] for place, key in enumerate(COST_STATE_KEYS)})
        return rest


class CorpusTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = folder.name
        cls.shape = bench.Shape(bytes=1_000_000, files=150, folders=0, calls=300, arms=4, seed=7)
        cls.corpus = bench.make_corpus(os.path.join(cls.root, 'one'), cls.shape, NOW)
        cls.count = Count(cls.corpus)

    def test_has_the_shape_that_was_asked_for(self):
        agents = [path for path in self.count.paths if os.sep + 'subagents' + os.sep in path]
        self.assertEqual((len(self.count.paths), len(agents), len(self.count.calls)), (150, 30, 300))
        self.assertEqual(sum(map(os.path.getsize, self.count.paths)), self.corpus.size)
        self.assertAlmostEqual(self.corpus.size / self.shape.bytes, 1, delta=.25)
        self.assertEqual(self.corpus.folders, sum(len(names) for _, names, _ in os.walk(self.corpus.path('claude', 'projects'))))

    def test_has_the_lines_that_make_metering_hard(self):
        self.assertLess(len(self.count.calls), self.count.lines['assistant'])
        for kind in 'user', 'cost-state', 'api-request', 'api-request-blob', 'file-history-snapshot', 'queue-operation':
            self.assertTrue(self.count.lines[kind], kind)

    def test_calls_and_tokens_equal_the_truth(self):
        truth = self.corpus.truth
        self.assertEqual(len(self.count.calls), truth.total(transcribed=True)[0])
        for model, tokens in self.count.tokens().items():
            self.assertEqual(tuple(tokens), truth.total(model=model, transcribed=True)[1:7], model)

    def test_untranscribed_rest_equals_the_truth(self):
        rest = self.count.untranscribed()
        expected = self.corpus.truth.total(transcribed=False)
        self.assertEqual(tuple(sum(rest[model, key] for model in USD_PER_MILLION) for key in COST_STATE_KEYS), expected[1:7])
        self.assertTrue(expected[1])
        self.assertEqual({model for (model, _), count in rest.items() if count}, {bench.HELPER_MODEL})

    def test_month_to_date_of_each_arm_equals_the_truth(self):
        for arm in self.corpus.truth.arms():
            tokens = self.count.tokens(arm=arm, since='2026-11-01')
            expected = self.corpus.truth.total(arm=arm, since_ms=bench.month_start_ms(NOW), transcribed=True)
            self.assertEqual(sum(usd(model, counts) for model, counts in tokens.items()) * bench.PICO, expected[-1], arm)

    def test_copies_are_there_and_counted_once(self):
        texts = collections.Counter()
        for path in self.count.paths:
            with open(path, 'rb') as file:
                texts.update({line.split(b'"id":"msg_')[1][:22] for line in file if line.endswith(b'\n') and b'"id":"msg_' in line})
        self.assertEqual(set(texts.values()), {1, 2})

    def test_same_seed_same_corpus_and_it_is_used_again(self):
        other = bench.make_corpus(os.path.join(self.root, 'two'), self.shape, NOW)
        self.assertEqual(other.truth.rows(), self.corpus.truth.rows())
        again = bench.make_corpus(other.root, self.shape, NOW + 5)
        self.assertEqual((again.truth.rows(), again.now_ms, again.live), (other.truth.rows(), NOW, other.live))
        with self.assertRaisesRegex(ValueError, 'another shape'):
            bench.make_corpus(other.root, self.shape._replace(calls=301), NOW)

    def test_appended_calls_are_in_the_truth_until_they_are_taken_back(self):
        corpus = bench.make_corpus(os.path.join(self.root, 'live'), self.shape._replace(files=20), NOW)
        before = Count(corpus)
        corpus.append_calls(20)
        after = Count(corpus)
        self.assertEqual((len(corpus.live), len(after.calls) - len(before.calls)), (3, 20))
        for model, tokens in after.tokens().items():
            self.assertEqual(tuple(tokens), corpus.truth.total(model=model, transcribed=True)[1:7])
        corpus.restore()
        self.assertEqual(Count(corpus).calls, before.calls)

    def test_folders_as_asked_or_an_error(self):
        shape = bench.Shape(bytes=200_000, files=105, folders=40, calls=105, arms=3, seed=1)
        self.assertEqual(bench.Generator(os.path.join(self.root, 'stat'), shape, NOW).write().folders, 40)
        plan = bench.plan_files(bench.Shape(0, 10_500, 3750, 10_500, 25, 1))
        self.assertEqual((plan.projects + 2 * plan.with_agents, plan.mains, plan.agents), (3750, 8400, 2100))
        with self.assertRaisesRegex(ValueError, 'cannot lie'):
            bench.plan_files(shape._replace(folders=1000))


class ArithmeticTest(unittest.TestCase):
    def test_ratio_is_of_medians(self):
        timing = bench.Timing([2.0, 1.0, 99.0], [3.0, 500.0, 1.0])
        self.assertEqual(bench.ratio(timing), 1.5)
        self.assertEqual(bench.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]), (2.0, 4.0))
        self.assertEqual(bench.quartiles([1.0]), (1.0, 1.0))

    def test_floor_and_subject_take_turns_and_warm_ups_do_not_count(self):
        seen, ticks = [], iter(range(100))
        def step(name):
            return lambda: seen.append(name) or next(ticks)
        timing = bench.interleave(3, step('floor'), step('ours'), before=step('before'))
        self.assertEqual(seen, ['floor', 'before', 'ours'] * 5)
        self.assertEqual(timing, bench.Timing([6, 9, 12], [8, 11, 14]))

    def test_goals(self):
        row = bench.timed_row('gate', bench.Timing([.010, .010], [.025, .025]), 2.5)
        self.assertEqual((row.floor, row.ours, row.ratio, bench.verdict(row)), ('10.0 ms', '25.0 ms', 2.5, 'PASS'))
        self.assertEqual(bench.verdict(row._replace(goal=2.4)), 'over')
        self.assertEqual(bench.verdict(row._replace(ratio=None)), 'n/a')

    def test_shares_add_up(self):
        for total, weights, expected in ((10, [1, 1], [5, 5]), (3, [9, 1, 1], [1, 1, 1]), (103, [1, 3], [26, 77])):
            self.assertEqual(bench.share_out(total, weights), expected)

    def test_sizes_and_rows(self):
        self.assertEqual(list(map(bench.parse_size, ('5000', '300K', '1.5G', '2m'))), [5000, 300_000, 1_500_000_000, 2_000_000])
        self.assertEqual(bench.parse_rows('1,5'), {1, 5})
        for parse, text in (bench.parse_size, '5T'), (bench.parse_size, ''), (bench.parse_rows, '8'), (bench.parse_rows, 'x'):
            with self.subTest(text), self.assertRaises(bench.argparse.ArgumentTypeError):
                parse(text)

    def test_a_wrong_figure_is_named(self):
        wrong = lambda **found: list(bench.differences('acme', found, {'calls': 2, 'usd': Decimal('1.5')}))
        self.assertEqual(wrong(calls=2, usd=Decimal('1.500000')), [])
        self.assertEqual(wrong(calls=2, usd=Decimal('1.500001')), ['acme: usd is 1.500001, and the truth is 1.5'])
        self.assertEqual(len(wrong(calls=3)), 2)
        self.assertEqual(list(bench.check_rows('month:', [{'arm': 'b'}], ['arm'], [('a',)], lambda name: {'calls': 0})),
                         ['month: b should not be there'])

    def test_prices_agree_with_the_arithmetic_of_this_test(self):
        self.assertEqual(set(bench.LIST_PRICES), set(USD_PER_MILLION))
        for model in USD_PER_MILLION:
            self.assertEqual(bench.price_pico(model, (1, 2, 3, 4, 5, 6)), usd(model, (1, 2, 3, 4, 5, 6)) * bench.PICO)

    def test_process_output_status_and_memory(self):
        with tempfile.TemporaryDirectory() as scratch:
            runner = bench.Runner(scratch, dict(os.environ, **{bench.BENCH_MARK: str(os.getpid())}))
            run = runner.run([sys.executable, '-ISc', 'import sys; print(sys.stdin.read()); sys.exit(3)'], b'asked')
            self.assertEqual((run.status, run.output.strip(), run.errors), (3, 'asked', ''))
            peak = runner.peak_bytes([sys.executable, '-ISc', 'import time; held = b"x" * 30_000_000; time.sleep(.1)'])
            if peak is not None:
                self.assertGreater(peak, 30_000_000)

    def test_table(self):
        row = bench.Row('gate', '1.0 ms', '2.0 ms', '1.9 ms to 2.1 ms', 2.0, 2.5)
        self.assertIn('| gate | 1.0 ms | 2.0 ms        | 1.9 ms to 2.1 ms | 2.00  | 2.5  | PASS |', bench.bench_table([row], markdown=True))
        self.assertEqual(bench.bench_table([row]).splitlines()[2].split(), 'gate 1.0 ms 2.0 ms 1.9 ms to 2.1 ms 2.00 2.5 PASS'.split())

    def test_usage_error_is_one_line(self):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            status = bench.main(['--rows', '', '--files', '10', '--folders', '500'])
        self.assertEqual((status, errors.getvalue().count('\n')), (2, 1))


if __name__ == '__main__':
    unittest.main()
