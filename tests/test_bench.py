"""bench.py: its corpora cost what their truth says, and its arithmetic is right. Nothing here is timed."""
import argparse
import collections
import io
import json
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stderr
from decimal import Decimal
from fractions import Fraction

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench

NOW = bench.parse_time('2026-11-23T12:00:00Z')
USD_PER_MILLION = {'claude-opus-5-5': (4, 20, 5, 8, .2), 'claude-opus-5': (5, 25, 6.25, 10, .5),
                   'claude-sonnet-5-5': (2, 10, 2.5, 4, .1), 'claude-fable-5-1': (10, 50, 12.5, 20, .25),
                   'claude-haiku-5-5': (.1, .5, .125, .2, .01)}
COST_STATE_KEYS = ('inputTokens', 'outputTokens', 'cacheCreationEphemeral5mInputTokens', 'cacheCreationEphemeral1hInputTokens',
                   'cacheReadInputTokens', 'webSearchRequests')


def usd(model, tokens):
    prices = [Fraction(str(price)) / 10**6 for price in USD_PER_MILLION[model]] + [Fraction(1, 100)]
    return sum(count * price for count, price in zip(tokens, prices))


def tokens_of(usage):
    split = usage['cache_creation']
    return (usage['input_tokens'], usage['output_tokens'], split['ephemeral_5m_input_tokens'], split['ephemeral_1h_input_tokens'],
            usage['cache_read_input_tokens'], usage['server_tool_use']['web_search_requests'])


class Count:
    """A corpus, read again with nothing but json: the fullest line of each call, and the last cost-state of each session."""

    def __init__(self, corpus):
        self.calls, self.cost_states, self.kinds, self.files = {}, {}, collections.Counter(), collections.defaultdict(set)
        for path in corpus.transcripts():
            with open(path, encoding='utf-8') as file:
                for line in map(json.loads, file):
                    self._read(corpus, path, line)

    def _read(self, corpus, path, line):
        self.kinds[line['type']] += 1
        if line['type'] == 'cost-state':
            self.cost_states[line['sessionId']] = line['modelUsage']
        if line['type'] != 'assistant':
            return
        message, arm = line['message'], os.path.relpath(line['cwd'], corpus.path('clients')).split(os.sep)[0]
        tokens, stamp = tokens_of(message['usage']), line['timestamp']
        self.files[message['id']].add(path)
        known = self.calls.get(message['id'])
        if known is None or known[0][1] <= tokens[1]:
            stamp, session = min([(stamp, line['sessionId'])] + ([known[3:]] if known else []))      # a fork's copy is no earlier
            self.calls[message['id']] = tokens, message['model'], arm, stamp, session

    def table(self, since=''):
        """{(arm, model): [calls, input, output, writes, reads, searches, usd]} of calls that a transcript has."""
        rows = collections.defaultdict(lambda: [0] * 7)
        for tokens, model, arm, stamp, _ in self.calls.values():
            if stamp >= since:
                fresh, output, short, long, read, searches = tokens
                figures = 1, fresh, output, short + long, read, searches, usd(model, tokens)
                rows[arm, model] = [a + b for a, b in zip(rows[arm, model], figures)]
        return dict(rows)


def truth_of(corpus, since=''):
    """The same of the truth, without what no transcript has."""
    transcribed = bench.Truth()
    transcribed.sums = {key: sums for key, sums in corpus.truth.sums.items() if key[3]}
    return {key: [*(row[name] for name in bench.FIGURES[:6]), Fraction(row['usd'])]
            for key, row in transcribed.table(['arm', 'model'], since).items()}


class CorpusTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def corpus(self, write, *sizes, name='logs', seed=7):
        corpus = bench.Corpus(os.path.join(self.folder, name), NOW, seed)
        write(corpus, *sizes)
        return corpus.finish()

    def test_sessions_cost_what_the_truth_says(self):
        corpus = self.corpus(bench.write_sessions, bench.Shape(6_000_000, 150, 0, 300, 4, 30))
        count, paths = Count(corpus), corpus.transcripts()
        self.assertEqual((len(paths), sum('subagents' in path for path in paths), len(count.calls)), (150, 30, 300))
        self.assertEqual((corpus.files, corpus.calls, corpus.size), (150, 300, sum(map(os.path.getsize, paths))))
        self.assertAlmostEqual(corpus.size / 6_000_000, 1, delta=.35)
        self.assertEqual(corpus.folders, sum(len(names) for _, names, _ in os.walk(corpus.path('claude', 'projects'))))
        for since in '', '2026-11-01', '2026-11-20':
            self.assertEqual(truth_of(corpus, since), count.table(since))
        self.assertLess(len(count.calls), count.kinds['assistant'], 'calls of several lines')
        self.assertEqual(set(map(len, count.files.values())), {1, 2}, 'copies in forks')
        for kind in 'user', 'cost-state', 'api-request', 'api-request-blob':
            self.assertTrue(count.kinds[kind], kind)

    def test_untranscribed_rests_are_those_of_the_truth(self):
        corpus = self.corpus(bench.write_sessions, bench.Shape(100_000, 120, 0, 250, 4, 30))
        count, rest = Count(corpus), collections.Counter()
        for session, usage in count.cost_states.items():
            for model, counts in usage.items():
                own = [sum(part) for part in zip((0,) * 6, *(call[0] for call in count.calls.values() if call[1] == model and call[4] == session))]
                rest.update({(model, key): counts[key] - own[place] for place, key in enumerate(COST_STATE_KEYS)})
        titles = [sums for key, sums in corpus.truth.sums.items() if not key[3]]
        self.assertEqual({key: left for key, left in rest.items() if left}, {
            (bench.HELPER_MODEL, 'inputTokens'): sum(sums[1] for sums in titles),
            (bench.HELPER_MODEL, 'outputTokens'): sum(sums[2] for sums in titles)})
        self.assertTrue(titles)

    def test_other_corpora_cost_what_the_truth_says(self):
        for write, *sizes in ((bench.write_family, 6), (bench.write_long_session, 60, 6), (bench.write_folders, 9), (bench.write_running,)):
            with self.subTest(write.__name__):
                corpus = self.corpus(write, *sizes, name=write.__name__)
                self.assertEqual(truth_of(corpus), Count(corpus).table())
                self.assertTrue(corpus.live)

    def test_as_many_folders_as_asked(self):
        self.assertEqual(self.corpus(bench.write_sessions, bench.Shape(200_000, 105, 40, 105, 3, 30)).folders, 3 * 3 + 2 * ((40 - 9) // 2))

    def test_the_same_seed_makes_the_same_corpus(self):
        shape = bench.Shape(100_000, 30, 0, 60, 3, 30)
        one, two, other = (self.corpus(bench.write_sessions, shape, name=name, seed=seed) for name, seed in (('a', 7), ('b', 7), ('c', 8)))
        self.assertEqual(one.truth.sums, two.truth.sums)
        self.assertNotEqual(one.truth.sums, other.truth.sums)

    def test_appended_calls_are_in_the_truth(self):
        corpus = self.corpus(bench.write_sessions, bench.Shape(200_000, 20, 0, 60, 2, 30))
        corpus.append_calls(20)
        self.assertEqual((len(corpus.live), len(Count(corpus).calls)), (3, 80))
        self.assertEqual(truth_of(corpus), Count(corpus).table())


class ArithmeticTest(unittest.TestCase):
    def test_ratio_is_of_medians_for_as_much_work(self):
        row = bench.timed_row('x', ([2.0, 1.0, 99.0], [6.0, 500.0, 1.0]), 2.5, times=2)
        self.assertEqual((row.floor, row.ours, row.ratio), ('2.00 s', '6.00 s', 1.5))
        self.assertEqual([bench.verdict(row), bench.verdict(row._replace(goal=1.4)), bench.verdict(row._replace(ratio=None))],
                         ['PASS', 'over', 'n/a'])

    def test_floor_and_subject_take_turns_and_warm_ups_do_not_count(self):
        seen = []
        step = {name: lambda name=name: seen.append(name) or len(seen) for name in ('floor', 'before', 'ours')}
        timing = bench.interleave(3, step['floor'], step['ours'], step['before'])
        self.assertEqual((seen, timing), (['floor', 'before', 'ours'] * 5, ([7, 10, 13], [9, 12, 15])))

    def test_shares_add_up(self):
        for total, weights, expected in ((10, [1, 1], [5, 5]), (3, [9, 1, 1], [1, 1, 1]), (103, [1, 3], [26, 77])):
            self.assertEqual(bench.share_out(total, weights), expected)

    def test_a_wrong_figure_is_named(self):
        def wrong(rows, expected={('acme',): {'calls': 2, 'usd': Decimal('1.5')}}):
            return list(bench.differences('month', rows, ['arm'], expected))
        half = {'arm': 'acme', 'calls': 1, 'usd': Decimal('0.75')}
        self.assertEqual(wrong([half, dict(half, usd=Decimal('0.7500009'))]), [])
        self.assertEqual(wrong([half, dict(half, usd=Decimal('0.750002'))]), ['month acme: usd is 1.500002, and the truth is 1.5'])
        self.assertEqual(wrong([half, half, dict(half, arm='b')]), ['month b should not be there'])
        self.assertEqual(len(wrong([])), 2)
        self.assertEqual(wrong([dict(half, arm='b', calls=0, usd=0)], {}), [])

    def test_prices_agree_with_the_arithmetic_of_this_test(self):
        self.assertEqual(set(bench.LIST_PRICES), set(USD_PER_MILLION))
        for model in USD_PER_MILLION:
            self.assertEqual(bench.price_pico(model, (1, 2, 3, 4, 5, 6)), usd(model, (1, 2, 3, 4, 5, 6)) * bench.PICO)
            self.assertEqual(bench.price_pico(model, (1, 2, 3, 4, 5, 0), 2), 2 * usd(model, (1, 2, 3, 4, 5, 0)) * bench.PICO)

    def test_rows_and_table(self):
        self.assertEqual(bench.parse_rows('silent,large'), ['silent', 'large'])
        with self.assertRaises(argparse.ArgumentTypeError):
            bench.parse_rows('x')
        for name in bench.Bench.ROWS + ('large',):
            self.assertTrue(hasattr(bench.Bench, 'row_' + name))
        table = bench.format_table([bench.Row('gate', '1.0 ms', '2.0 ms', 2.0, 2.5)]).splitlines()
        self.assertEqual(table[-1].split(), '| gate | 1.0 ms | 2.0 ms | 2.00 | 2.5 | PASS |'.split())
        self.assertEqual(set(map(len, table)), {len(table[0])})

    def test_a_usage_error_is_told(self):
        with self.assertRaises(SystemExit) as left, redirect_stderr(io.StringIO()) as errors:
            bench.main(['--rows', 'x'])
        self.assertEqual(left.exception.code, 2)
        self.assertIn('silent', errors.getvalue())


if __name__ == '__main__':
    unittest.main()
