"""The price list. Expected figures come from arithmetic, from recorded bills and from tests/data/prices-evidence.json,
a copy of the evidence's figures (USD per million tokens), with its reading of dates: entries of `history`
go before the top-level price for their days, tiers and fast prices have days of their own."""
import glob
import json
import os
import tempfile
import time
import unittest
from fractions import Fraction

from support import DATA, ROOT, load_script

script = load_script('budget-check.py')

CLASSES = (('input',), ('output',), ('cache_write_5m', 'cache_write_30m'), ('cache_write_1h', 'cache_write_12h'),
           ('cache_read',))
DAY_MS = 86400000
NOW = 1795433449000              # 2026-11-23T11:30:49Z
MILLION = 10 ** 6
OLD = ('claude-3', 'claude-opus-4-1', 'claude-opus-4-2', 'claude-sonnet-4-2')   # before the 4.5 generation


def load_real():
    return script.load_prices(os.path.join(ROOT, 'prices.json'))


def day_ms(day):
    return script.parse_time(day + 'T00:00:00.000Z')


def usd(prices, model, tokens, variant='', ts=NOW, is_one_call=True):
    """Exact dollars of a call, and whether they are assumed."""
    pico, assumed = prices.usd(model, ts, tokens, variant, is_one_call)
    assert type(pico) is int
    return Fraction(pico, 10 ** 12), assumed


def dollars(text):
    return Fraction(text)


class TestBills(unittest.TestCase):
    """What Claude Code 2.1.330 itself said that calls cost."""

    MILLIONS = {                 # of input / output / 1 h write / read
        'claude-opus-5-5': '4 20 8 0.2', 'claude-opus-5': '5 25 10 0.5', 'claude-opus-4-5': '5 25 10 0.5',
        'claude-opus-4-6': '5 25 10 0.5', 'claude-opus-4-7': '5 25 10 0.5', 'claude-opus-4-8': '5 25 10 0.5',
        'claude-sonnet-5-5': '2 10 4 0.1', 'claude-sonnet-5': '2 10 4 0.2', 'claude-sonnet-4-6': '3 15 6 0.3',
        'claude-haiku-4-5': '1 5 2 0.1', 'claude-fable-5-2': '8 40 16 0.2', 'claude-fable-5-1': '10 50 20 0.25',
        'claude-fable-5': '10 50 20 1'}

    def test_a_million_of_each(self):
        prices = load_real()
        for model, listed in self.MILLIONS.items():
            for n, price in zip((0, 1, 3, 4), listed.split()):
                tokens = [0] * 6
                tokens[n] = MILLION
                with self.subTest(model=model, n=n):
                    self.assertEqual(usd(prices, model, tokens), (dollars(price), False))

    def test_long_context_of_haiku(self):
        prices = load_real()
        for tokens, expected in (((90000, MILLION, 0, 0, 20000, 0), '2.546'), ((90000, MILLION, 0, 0, 10000, 0), '0.5091')):
            with self.subTest(expected):
                self.assertEqual(usd(prices, 'claude-haiku-5-5', tokens), (dollars(expected), False))

    def test_usage_modifiers(self):
        folder = os.path.join(DATA, 'claude-code-2.1.330', 'usage-modifiers')
        said, where = {}, {}
        for path in glob.glob(os.path.join(folder, 'claude', 'projects', '*', '*.jsonl')):
            with open(path, encoding='utf-8') as stream:
                for record in map(json.loads, stream):
                    if record['type'] == 'cost-state':
                        said[path] = record
                    elif record['type'] == 'assistant':
                        where[record['message']['id']] = path
        with open(os.path.join(folder, 'bill.jsonl'), encoding='utf-8') as stream:
            bill = list(map(json.loads, stream))
        self.assertEqual((len(bill), len(said)), (5, 5))
        prices = load_real()
        for line in bill:
            with self.subTest(line['id']):
                usage, record = line['usage'], said[where[line['id']]]
                got, assumed = usd(prices, line['model'], script.claude_tokens(usage),
                                   ' '.join(tag for tag in ('fast', 'us', 'batch') if tag in usage.values()))
                # Binary floats as the agent sums them, so to the nano-dollar.
                self.assertAlmostEqual(float(got), record['totalCostUSD'], delta=1e-9)
                self.assertEqual(assumed, record['hasUnknownModelCost'])


class TestEvidence(unittest.TestCase):
    """Each figure of the evidence, on each side of each of its days."""

    # The evidence's tiers are of today; for days when the base price was another, its rule holds:
    # OpenAI 2x and 1.5x for output (12 h writes 2.5x the input price), xAI 2x.
    OLD_TIERS = {('gpt-5.6-sol', '2026-08-20'): '10 45 12.5 25 1', ('gpt-5.6-terra', '2026-07-29'): '5 22.5 6.25 12.5 0.5',
                 ('gpt-5.6-luna', '2026-07-29'): '2 9 2.5 5 0.2', ('grok-4.20', '2026-04-29'): '4 12 - - 0.4'}
    OLD_12H = {'gpt-5.6-sol': '12.5', 'gpt-5.6-terra': '6.25', 'gpt-5.6-luna': '2.5'}

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(DATA, 'prices-evidence.json'), encoding='utf-8') as stream:
            cls.evidence = json.load(stream, parse_float=Fraction, parse_int=Fraction)
        cls.prices = load_real()

    def days_of(self, record):
        """The record's days, the one before and after each, and today."""
        entries = record.get('history', []) + record.get('tiers', []) + [record.get('fast', {})]
        named = {entry[key] for entry in entries for key in ('from', 'until') if key in entry}
        return sorted({day_ms(day) + step * DAY_MS for day in named for step in (-1, 0, 1)} | {NOW // DAY_MS * DAY_MS})

    def expected(self, model, record, ts, tokens, fast=False):
        """Unit prices by the evidence; None where it has none, or leaves it open."""
        def in_force(entry):
            return day_ms(entry.get('from', '2000-01-01')) <= ts < day_ms(entry.get('until', '2100-01-01'))
        listed, overridden = dict(record), False
        for entry in filter(in_force, record.get('history', [])):
            listed.update(entry)
            overridden = any(entry[key] != record[key] for (key, *_) in CLASSES if key in entry and key != 'cache_read')
        if overridden and 'cache_write_12h' in record:
            listed['cache_write_12h'] = Fraction(self.OLD_12H[model])
        multiplier = Fraction(1)
        if fast:
            multiplier = record['fast']['multiplier']
        context = sum(tokens[n] for n in (0, 2, 3, 4))
        flat = record['provider'] == 'anthropic' and fast and ts >= day_ms('2026-02-22')
        for tier in filter(in_force, record.get('tiers', [])):
            limit = tier['above_input_tokens']
            if not flat and (context >= limit if tier.get('inclusive') else context > limit):
                if overridden:
                    return None
                listed = tier
                if record.get('fast', {}).get('applies_above_272k') is False:
                    multiplier = Fraction(1)
        found = [next((listed[key] for key in keys if key in listed), None) for keys in CLASSES]
        return [price and price * multiplier for price in found]

    def compare(self, model, record, ts, tokens, fast=False):
        """How many classes were compared: 0 where the evidence leaves the price open."""
        expected = self.expected(model, record, ts, tokens, fast)
        if expected is None:
            return 0
        units, _ = self.prices.units(model, ts, tokens, 'fast' if fast else '')
        compared = [(Fraction(unit, MILLION), price) for unit, price in zip(units, expected) if price is not None]
        self.assertGreaterEqual(len(compared), 2)
        self.assertEqual([got for got, _ in compared], [price for _, price in compared])
        for n in range(5) if not fast else ():
            one = [int(n == each) for each in range(5)] + [0]
            self.assertEqual(self.prices.usd(model, ts, one, '')[1], expected[n] is None, 'assumed only what is not sold')
        return len(compared)

    def test_every_figure(self):
        compared = 0
        for model, record in self.evidence.items():
            began = [entry.get('from', '2000-01-01') for entry in record.get('history', [])[:1]]
            for ts in self.days_of(record):
                for total in [1] + [int(tier['above_input_tokens']) + more for tier in record.get('tiers', [])
                                    for more in (-1, 0, 1)]:
                    with self.subTest(model=model, day=time.strftime('%Y-%m-%d', time.gmtime(ts // 1000)), total=total):
                        if began and ts < day_ms(began[0]):
                            continue                     # before it was sold: see the test of gaps
                        compared += self.compare(model, record, ts, (total, 0, 0, 0, 0, 0))
                        compared += self.compare(model, record, ts + DAY_MS - 1, (total // 2, 0, 0, 0, total - total // 2, 0))
        self.assertGreater(compared, 2500)

    def test_every_fast_price(self):
        seen = 0
        for model, record in self.evidence.items():
            fast = record.get('fast')
            for ts in self.days_of(record) if fast else ():
                if not day_ms(fast.get('from', '2000-01-01')) <= ts < day_ms(fast.get('until', '2100-01-01')):
                    with self.subTest(model=model, ts=ts, fast='not sold'):
                        plain, _ = self.prices.units(model, ts, (1, 0, 0, 0, 0, 0), '')
                        self.assertEqual(self.prices.units(model, ts, (1, 0, 0, 0, 0, 0), 'fast'), (plain, True))
                    continue
                if record.get('history') and ts < day_ms(record['history'][0].get('from', '2000-01-01')):
                    continue
                for total in (1, 199999, 200001, 272000, 272001):
                    with self.subTest(model=model, day=time.strftime('%Y-%m-%d', time.gmtime(ts // 1000)), total=total):
                        seen += self.compare(model, record, ts, (total, 0, 0, 0, 0, 0), fast=True)
                        if total == 1 and not record.get('history'):
                            units, assumed = self.prices.units(model, ts, (1, 0, 0, 0, 0, 0), 'fast')
                            self.assertEqual([Fraction(unit, MILLION) for unit in units[:2]], [fast['input'], fast['output']])
                            self.assertFalse(assumed)
        self.assertGreater(seen, 500)

    def test_tiers_of_former_prices(self):
        for (model, last), listed in self.OLD_TIERS.items():
            for day in (last, '2026-07-09' if model.startswith('gpt') else '2025-12-01'):
                with self.subTest(model=model, day=day):
                    units, assumed = self.prices.units(model, day_ms(day), (300000, 0, 0, 0, 0, 0), '')
                    compared = [(Fraction(unit, MILLION), Fraction(price))
                                for unit, price in zip(units, listed.split()) if price != '-']
                    self.assertEqual([got for got, _ in compared], [price for _, price in compared])
                    self.assertFalse(assumed)

    def test_multipliers(self):
        one = (1, 1, 0, 0, 0, 0)
        for model, record in self.evidence.items():
            base, _ = usd(self.prices, model, one)
            rules = {'batch': record.get('batch_multiplier'), 'flex': record.get('flex_multiplier'),
                     'priority': record.get('priority_multiplier'), 'us': record.get('inference_geo_us_multiplier')}
            for variant, multiplier in rules.items():
                if multiplier is not None:
                    with self.subTest(model=model, variant=variant):
                        self.assertEqual(usd(self.prices, model, one, variant), (base * multiplier, False))
            if record['provider'] == 'anthropic':
                surcharge = 1 if model.startswith(OLD) else Fraction(11, 10)
                for region in ('us.anthropic.', 'eu.anthropic.', 'apac.anthropic.', 'anthropic.'):
                    with self.subTest(model=model, region=region):
                        self.assertEqual(usd(self.prices, region + model + '-v1:0', one), (base * surcharge, False))
            if record['provider'] == 'openai':
                listed = self.prices.listed[0][script.model_name(model)].get('regional', 0)
                self.assertEqual(listed, record.get('regional_processing_multiplier', 0) * MILLION)

    def test_ultrafast(self):
        one = (MILLION, 0, 0, 0, 0, 0)
        for model, day, expected in (('gpt-6.2-sol', '2026-11-17', '6'), ('gpt-6.2-sol', '2027-02-28', '6'),
                                     ('gpt-6.2-sol', '2027-03-01', '12'), ('gpt-6.1-sol', '2026-11-23', '12'),
                                     ('gpt-6-astra', '2026-11-23', '60')):
            with self.subTest(model=model, day=day):
                # A million tokens is a long context: twice the price.
                self.assertEqual(usd(self.prices, model, one, 'ultrafast', day_ms(day)), (2 * dollars(expected), False))
                self.assertEqual(usd(self.prices, model, one, 'ultrafast', day_ms(day), is_one_call=False),
                                 (dollars(expected), False))

    def test_every_id_is_known(self):
        for model, record in self.evidence.items():
            for name in [model] + record.get('aliases', []):
                with self.subTest(name):
                    self.assertTrue(self.prices.known(name))
                    self.assertEqual(usd(self.prices, name, (1, 1, 0, 0, 0, 0)),
                                     usd(self.prices, model, (1, 1, 0, 0, 0, 0)))


class TestRules(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.prices = load_real()

    def test_calls(self):
        tokens = (1000, 1000, 1000, 1000, 1000, 0)
        for what, model, day, tokens, variant, expected, assumed in (
                ('fast, all classes', 'claude-opus-5-5', '2026-11-23', tokens, 'fast', '0.0744', False),
                ('fast and US', 'claude-opus-5-5', '2026-11-23', tokens, 'fast us', '0.08184', False),
                ('fast is not sold in batches', 'claude-opus-5-5', '2026-11-23', tokens, 'batch fast', '0.0744', False),
                ('batch and US', 'claude-opus-5-5', '2026-11-23', tokens, 'batch us', '0.02046', False),
                ('searches are not multiplied', 'claude-opus-5-5', '2026-11-23', (0, 0, 0, 0, 0, 3), 'fast us', '0.03', False),
                ('searches in a batch', 'claude-opus-5-5', '2026-11-23', (0, 0, 0, 0, 0, 3), 'batch', '0.03', False),
                ('no US surcharge before 2026-02', 'claude-haiku-4-5', '2026-11-23', tokens, 'us', '0.00935', False),
                ('fast had ended', 'claude-opus-4-6', '2026-07-01', (MILLION, 0, 0, 0, 0, 0), 'fast', '5', True),
                ('fast never was', 'claude-sonnet-5-5', '2026-11-23', (MILLION, 0, 0, 0, 0, 0), 'fast', '2', True),
                ('fast and long, at first', 'claude-opus-4-6', '2026-02-21', (MILLION, 0, 0, 0, 0, 0), 'fast', '60', False),
                ('fast and long, its output', 'claude-opus-4-6', '2026-02-21', (200001, 10 ** 6, 0, 0, 0, 0), 'fast', '237.00006', False),
                ('fast and long, then', 'claude-opus-4-6', '2026-02-22', (MILLION, 0, 0, 0, 0, 0), 'fast', '30', False),
                ('long, then', 'claude-opus-4-6', '2026-03-12', (200001, 0, 0, 0, 0, 0), '', '2.00001', False),
                ('long no more', 'claude-opus-4-6', '2026-03-13', (200001, 0, 0, 0, 0, 0), '', '1.000005', False),
                ('a priority call', 'gpt-6-sol', '2026-11-23', (100000, 0, 0, 0, 0, 0), 'priority', '0.4', False),
                ('a fast call', 'gpt-6-sol', '2026-11-23', (100000, 0, 0, 0, 0, 0), 'fast', '0.4', False),
                ('both names', 'gpt-6-sol', '2026-11-23', (100000, 0, 0, 0, 0, 0), 'fast priority', '0.4', False),
                ('a flex call', 'gpt-6-sol', '2026-11-23', (100000, 0, 0, 0, 0, 0), 'flex', '0.1', False),
                ('272,000 is not long', 'gpt-5.5', '2026-11-23', (2000, 10, 0, 0, 270000, 0), '', '0.1453', False),
                ('272,001 is', 'gpt-5.5', '2026-11-23', (2001, 10, 0, 0, 270000, 0), '', '0.29046', False),
                ('fast below', 'gpt-5.5', '2026-11-23', (272000, 0, 0, 0, 0, 0), 'fast', '3.4', False),
                ('no fast above', 'gpt-5.5', '2026-11-23', (272001, 0, 0, 0, 0, 0), 'fast', '2.72001', False),
                ('fast above', 'gpt-6-sol', '2026-11-23', (272001, 0, 0, 0, 0, 0), 'fast', '2.176008', False),
                ('xAI is long at 200,000', 'grok-4.7', '2026-11-23', (200000, 0, 0, 0, 0, 0), '', '0.8', False),
                ('and not below', 'grok-4.7', '2026-11-23', (199999, 0, 0, 0, 0, 0), '', '0.399998', False),
                ('not discounted', 'codex-mini-latest', '2026-11-23', (MILLION, 0, 0, 0, 0, 0), 'flex', '1.5', False),
                ('no batch price', 'grok-4.7', '2026-11-23', (100000, 0, 0, 0, 0, 0), 'batch', '0.2', True),
                ('Gemini search', 'gemini-2.5-pro', '2026-11-23', (0, 0, 0, 0, 0, 1), '', '0.035', False),
                ('Gemini 3 search', 'gemini-3.5-flash', '2026-11-23', (0, 0, 0, 0, 0, 1), '', '0.014', False),
                ('an unknown Claude', 'claude-nonesuch-9', '2026-11-23', (MILLION, 0, 0, 0, 0, 0), 'us', '4.4', True),
                ('an unknown GPT', 'gpt-99', '2026-11-23', (100000, 0, 0, 0, 0, 0), '', '0.5', True),
                ('an unknown, long', 'gpt-99', '2026-11-23', (300000, 0, 0, 0, 0, 0), '', '3', True),
                ('an unknown o', 'o3-deep', '2026-11-23', (100000, 0, 0, 0, 0, 0), '', '0.2', True),
                ('an unknown Gemini', 'gemini-9', '2026-12-01', (100000, 0, 0, 0, 0, 0), '', '0.4', True),
                ('an unknown Grok', 'grok-9', '2026-11-23', (100000, 0, 0, 0, 0, 0), '', '0.3', True),
                ('anything', 'nonesuch', '2026-11-23', (100000, 0, 0, 0, 0, 0), '', '0.4', True),
                ('no name', '', '2026-11-23', (100000, 0, 0, 0, 0, 0), '', '0.4', True),
                ('a read that is not sold: its family\'s', 'gpt-5.5-pro', '2026-11-23', (0, 0, 0, 0, 100000, 0), '', '0.05', True),
                ('and in a long context', 'gpt-5.5-pro', '2026-11-23', (0, 0, 0, 0, 300000, 0), '', '0.3', True),
                ('a write: the last resort\'s', 'gpt-5.5', '2026-11-23', (0, 0, 100000, 0, 0, 0), '', '0.5', True),
                ('a search', 'grok-4', '2026-11-23', (0, 0, 0, 0, 0, 2), '', '0.02', True),
                ('without them nothing is assumed', 'gpt-5.5', '2026-11-23', (1, 1, 0, 0, 1, 0), '', '0.0000355', False)):
            with self.subTest(what):
                self.assertEqual(usd(self.prices, model, tokens, variant, day_ms(day)), (dollars(expected), assumed))

    def test_qwen(self):
        """By the input tokens of one call: USD per million of input and of output up to a step, and above the last."""
        for model, *listed in (
                ('qwen3-coder-plus', (32000, '1', '5'), (128000, '1.8', '9'), (256000, '3', '15'), (None, '6', '60')),
                ('qwen3-coder-flash', (32000, '0.3', '1.5'), (128000, '0.5', '2.5'), (256000, '0.8', '4'), (None, '1.6', '9.6')),
                ('qwen3-max-preview', (32000, '1.2', '6'), (128000, '2.4', '12'), (None, '3', '15')),
                ('qwen-plus-latest', (256000, '0.4', '1.2'), (None, '1.2', '3.6')),
                ('qwen-flash', (256000, '0.05', '0.4'), (None, '0.25', '2'))):
            least = 1
            for most, given, output in listed:
                for context in least, most or 10 ** 6:
                    with self.subTest(model=model, context=context):
                        expected = (context * dollars(given) + 7 * dollars(output)) / MILLION
                        self.assertEqual(usd(self.prices, model, (context, 7, 0, 0, 0, 0)), (expected, False))
                        self.assertEqual(usd(self.prices, model, (context - 1, 7, 0, 0, 1, 0)), (expected, True))
                least = (most or 0) + 1
        self.assertEqual(usd(self.prices, 'qwen9-nonesuch', (1000, 0, 0, 0, 0, 0)), (dollars('0.001'), True))

    def test_days_are_utc(self):
        edge = day_ms('2026-10-07')
        for ts, expected in ((edge - 1, '0.2'), (edge, '0.1')):
            with self.subTest(ts):
                self.assertEqual(usd(self.prices, 'claude-sonnet-5-5', (0, 0, 0, 0, MILLION, 0), ts=ts),
                                 (dollars(expected), False))

    def test_a_sum_is_no_long_context(self):
        tokens = (90000, 0, 0, 0, 20000, 0)
        self.assertEqual(usd(self.prices, 'claude-haiku-5-5', tokens, is_one_call=False), (dollars('0.0092'), False))

    def test_units_are_whole_and_add_up(self):
        tokens = (3, 5, 7, 11, 13, 2)
        units, _ = self.prices.units('eu.anthropic.claude-opus-5-5', NOW, tokens, 'batch us')
        self.assertTrue(all(type(unit) is int for unit in units))
        self.assertEqual(self.prices.usd('eu.anthropic.claude-opus-5-5', NOW, tokens, 'batch us')[0],
                         sum(count * unit for count, unit in zip(tokens, units)))

    def test_rounding(self):
        for price, factor, expected in (('0.000001', '0.5', 1), ('0.000003', '0.5', 2), ('0.000005', '0.5', 3),
                                        ('0.000001', '0.500001', 1), ('0.000007', '1.1', 8), ('0', '1.1', 0)):
            with self.subTest(price=price, factor=factor):
                text = SMALL.replace('"input": 5,', '"input": %s,' % price).replace('"batch": 0.5', '"batch": ' + factor)
                prices = script.Prices(text, 'p')
                self.assertEqual(prices.usd('claude-a', NOW, (1, 0, 0, 0, 0, 0), 'batch'), (expected, False))


class TestIds(unittest.TestCase):

    CANONICAL = {
        'claude-opus-5-5': 'claude-opus-5-5', 'claude-opus-5-5[1m]': 'claude-opus-5-5', 'Claude-Opus-5-5[1M]': 'claude-opus-5-5',
        'claude-opus-4-5-20251101': 'claude-opus-4-5', 'claude-sonnet-4-5-20250929[1m]': 'claude-sonnet-4-5',
        'claude-3-7-sonnet-latest': 'claude-3-7-sonnet-latest', 'claude-3-5-sonnet-20241022': 'claude-3-5-sonnet',
        'claude-sonnet-4-5@20250929': 'claude-sonnet-4-5', 'claude-opus-4-6@default': 'claude-opus-4-6',
        'vertex_ai/claude-opus-4-6@default': 'claude-opus-4-6', 'anthropic/claude-sonnet-4.6': 'claude-sonnet-4-6',
        'openrouter/anthropic/claude-sonnet-4.6': 'claude-sonnet-4-6', 'anthropic:claude-opus-4-5': 'claude-opus-4-5',
        'azure_ai/claude-opus-5': 'claude-opus-5', 'github_copilot/claude-opus-4.8': 'claude-opus-4-8',
        'claude-opus-4.8': 'claude-opus-4-8', 'claude-opus-4.8-fast': 'claude-opus-4-8-fast',
        'claude-sonnet-4-5-thinking': 'claude-sonnet-4-5', 'anthropic/claude-3.7-sonnet:thinking': 'claude-3-7-sonnet',
        'us.anthropic.claude-sonnet-4-5-20250929-v1:0': 'us.claude-sonnet-4-5',
        'us.anthropic.claude-sonnet-4-5-20250929-v1:0[1m]': 'us.claude-sonnet-4-5',
        'bedrock/us.anthropic.claude-opus-4-6-v1': 'us.claude-opus-4-6', 'us-gov.anthropic.claude-opus-4-6-v1': 'us-gov.claude-opus-4-6',
        'global.anthropic.claude-opus-4-5-20251101-v1:0': 'claude-opus-4-5',
        'anthropic.claude-opus-4-7': 'anthropic.claude-opus-4-7', 'eu.claude-opus-5': 'eu.claude-opus-5',
        'arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1': 'us.claude-opus-4-6',
        'arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-7': 'anthropic.claude-opus-4-7',
        'gpt-5.5-2026-04-23': 'gpt-5.5', 'openai/gpt-5.4': 'gpt-5.4', 'gpt-5.5': 'gpt-5.5', 'gpt-4.1-2025-04-14': 'gpt-4.1',
        'models/gemini-2.5-pro': 'gemini-2.5-pro', 'google/gemini-2.5-pro': 'gemini-2.5-pro', 'x-ai/grok-4': 'grok-4',
        'kimi-k2-thinking': 'kimi-k2-thinking', 'deepseek-v3': 'deepseek-v3', '': '?', '?': '?',
        'anthropic/claude-4.6-sonnet-20260205': 'claude-sonnet-4-6', 'claude-sonnet-4.5': 'claude-sonnet-4-5',
        'anthropic/claude-sonnet-4.5:beta': 'claude-sonnet-4-5', 'qwen/qwen3-coder-plus-2025-09-23': 'qwen3-coder-plus',
        'arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0': 'eu.claude-sonnet-4-5'}

    def test_what_is_no_name_has_one(self):
        for value in None, 7, [], {}, '\0', '\ud800', 'x' * 5000, True:
            self.assertEqual(script.model_name(value), '?')

    def test_canonical(self):
        for model, expected in self.CANONICAL.items():
            with self.subTest(model):
                self.assertEqual(script.model_name(model), expected)
                self.assertEqual(script.model_name(expected), expected, 'of a canonical name: itself')

    def test_whole_versions(self):
        prices = load_real()
        for model, known in (('claude-opus-5', True), ('claude-opus-50', False), ('claude-opus-5-6', False),
                             ('claude-opus', False), ('claude-opus-5-5-1', False), ('claude-opus-4-7-2', False),
                             ('claude-opus-5-20260724', True), ('claude-opus-5-2026072', False), ('gpt-5', True),
                             ('gpt-5.7', False), ('gpt-50', False), ('gpt-5.6', True), ('gpt-5-2025-08-07', True), ('gpt', False),
                             ('grok-4-fast', True), ('grok-code-fast-1', True), ('gemini-flash-latest', True), ('o3-mini', True),
                             ('codex-auto-review', False), ('<synthetic>', False)):
            with self.subTest(model):
                self.assertEqual(prices.known(model), known)
                self.assertEqual(usd(prices, model, (1, 1, 0, 0, 0, 0))[1], not known)

    def test_input_price(self):
        prices = load_real()
        for model, expected in (('claude-opus-5', '5'), ('claude-opus-5-5', '4'), ('claude-opus-4-8-fast', '10'),
                                ('claude-opus-4.8-fast[1m]', '10'), ('us.anthropic.claude-opus-4-8', '5.5'),
                                ('global.anthropic.claude-opus-4-8', '5'), ('anthropic.claude-opus-4-8', '5.5'),
                                ('us-gov.anthropic.claude-opus-4-8', '6'), ('us.anthropic.claude-opus-4-20250514-v1:0', '15'),
                                ('us.anthropic.claude-sonnet-4-20250514-v1:0', '3'), ('us.anthropic.claude-sonnet-4-5-20250929-v1:0', '3.3'),
                                ('anthropic.claude-3-haiku-20240307-v1:0', '0.25'), ('vertex_ai/claude-opus-5@default', '5'),
                                ('claude-4.5-opus-high-thinking', '5'), ('claude-opus-4-0', '15'), ('gpt-5.6', '4')):
            with self.subTest(model):
                tokens, price = (100000, 0, 0, 0, 0, 0), dollars(expected) / 10
                self.assertEqual(usd(prices, model, tokens), (price, False))
                self.assertEqual(usd(prices, script.model_name(model), tokens), (price, False))


SMALL = '''{
"unit": "USD per million tokens",
"fallbacks": {"claude": "claude-a", "*": "claude-a"},
"providers": {"anthropic": {"web_search_usd": 0.01, "batch": 0.5}},
"models": {
  "claude-a": {"provider": "anthropic", "aliases": ["claude-b"],
    "prices": [
      {"from": "2026-01-10", "until": "2026-02-01", "input": 3, "output": 15, "cache_write_5m": 3, "cache_write_1h": 6, "cache_read": 1, "source": "s", "as_of": "2026-01-10"},
      {"from": "2026-03-01", "input": 5, "output": 25, "cache_write_5m": 6, "cache_write_1h": 7, "cache_read": 1, "source": "s", "as_of": "2026-03-02"}],
    "long_context": [{"above": 100, "input": 6, "output": 30, "cache_write_5m": 6, "cache_write_1h": 12, "cache_read": 2}],
    "fast": [{"from": "2026-03-01", "multiplier": 2}]},
  "claude-c": {"provider": "anthropic", "prices": [{"input": 1, "output": 2, "source": "s", "as_of": "2026-01-05"}]}
}
}
'''


class TestFile(unittest.TestCase):

    # What to replace in SMALL, with what, and at which key's path the error is.
    C = 'models.claude-c.prices[0]'
    A = 'models.claude-a'
    MALFORMED = [
        ('"output": 2,', '"output": -2,', C + '.output'),
        ('"output": 2,', '"output": "2",', C + '.output'),
        ('"output": 2,', '"output": true,', C + '.output'),
        ('"output": 2,', '"output": null,', C + '.output'),
        ('"output": 2,', '"output": [2],', C + '.output'),
        ('"output": 2,', '"output": NaN,', C + '.output'),
        ('"output": 2,', '"output": 2e-1,', C + '.output'),
        ('"output": 2,', '"output": 0.1234567,', C + '.output'),
        ('"output": 2,', '"output": 1234567890123,', C + '.output'),
        ('"output": 2,', '"output": 2, "output": 3,', C + '.output'),
        ('"claude-c": {', '"claude-c": {}, "claude-c": {', 'models.claude-c'),
        ('"output": 2,', '"output": 2, "cache_reed": 1,', C + '.cache_reed'),
        ('"output": 2,', '"output": 2, "cache_read": "inptu",', C + '.cache_read'),
        ('"unit"', '"models_": {}, "unit"', 'models_'),
        ('"aliases"', '"aliased": [], "aliases"', A + '.aliased'),
        ('"batch": 0.5', '"bach": 0.5', 'providers.anthropic.bach'),
        ('"multiplier": 2', '"multiplier": 2, "long_context": "flatt"', A + '.fast[0].long_context'),
        ('"multiplier": 2', '"multiplier": 0', A + '.fast[0].multiplier'),
        ('"batch": 0.5', '"batch": 0', 'providers.anthropic.batch'),
        ('"batch": 0.5', '"batch": "half"', 'providers.anthropic.batch'),
        ('{"from": "2026-03-01", "multiplier": 2}', '{"from": "2026-03-01"}', A + '.fast[0]'),
        ('"above": 100,', '"above": 100.5,', A + '.long_context[0].above'),
        ('"above": 100,', '"above": 0,', A + '.long_context[0].above'),
        ('"above": 100,', '"above": 100, "inclusive": 1,', A + '.long_context[0].inclusive'),
        ('{"above": 100,', '{', A + '.long_context[0]'),
        ('"as_of": "2026-01-05"', '"as_of": "2026-02-30"', C + '.as_of'),
        ('"as_of": "2026-01-05"', '"as_of": 20260105', C + '.as_of'),
        ('"from": "2026-01-10"', '"from": "2026-13-01"', A + '.prices[0].from'),
        ('"from": "2026-01-10"', '"from": "2026-01-10T00:00"', A + '.prices[0].from'),
        ('"until": "2026-02-01"', '"until": "2026-01-10"', A + '.prices[0]'),
        ('{"from": "2026-03-01", "input"', '{"from": "2026-01-31", "input"', A + '.prices[1]'),
        ('{"input": 1, "output": 2,', '{"input": 1,', C),
        (', "as_of": "2026-01-05"', '', C),
        ('"claude": "claude-a"', '"claude": "claude-aa"', 'fallbacks.claude'),
        ('"claude": "claude-a"', '"claude": 1', 'fallbacks.claude'),
        ('{"claude": "claude-a", "*": "claude-a"}', '{"claude": "claude-a"}', 'fallbacks'),
        ('"*": "claude-a"', '"*": "claude-c"', 'fallbacks.*'),
        ('"unit": "USD per million tokens"', '"unit": "EUR"', 'unit'),
        ('"claude-c": {"provider": "anthropic"', '"claude-c": {"provider": "anthropics"', 'models.claude-c.provider'),
        ('"claude-c": {"provider": "anthropic", ', '"claude-c": {', 'models.claude-c'),
        ('"aliases": ["claude-b"]', '"aliases": "claude-b"', A + '.aliases'),
        ('"aliases": ["claude-b"]', '"aliases": [7]', A + '.aliases[0]'),
        ('"claude-c": {', '"claude-a-20260101": {', 'models.claude-a-20260101'),
        ('[{"input": 1, "output": 2, "source": "s", "as_of": "2026-01-05"}]', '[]', 'models.claude-c.prices'),
        ('[{"input": 1, "output": 2, "source": "s", "as_of": "2026-01-05"}]', '[3]', C),
        ('[{"input": 1, "output": 2, "source": "s", "as_of": "2026-01-05"}]', '{"input": 1}', 'models.claude-c.prices'),
        ('"web_search_usd": 0.01', '"web_search_usd": -0.01', 'providers.anthropic.web_search_usd'),
    ]

    def read_error(self, text):
        with self.assertRaises(script.UserError) as caught:
            script.check_prices(text, 'prices.json')
        return caught.exception

    def test_small_is_valid(self):
        script.check_prices(SMALL, 'prices.json')
        prices = script.Prices(SMALL, 'prices.json')
        self.assertEqual((prices.as_of, prices.text), ('2026-03-02', SMALL))

    def test_our_own_is_valid(self):
        prices = load_real()
        script.check_prices(prices.text, prices.path)

    def test_malformed(self):
        for old, new, path in self.MALFORMED:
            with self.subTest(new=new[:80]):
                self.assertIn(old, SMALL)
                self.assertEqual(str(self.read_error(SMALL.replace(old, new, 1))).split(': ')[:2], ['prices.json', path])

    def test_not_json(self):
        for text, line in ((SMALL.replace('"output": 2,', '"output": 2'), 12), (SMALL.replace('}\n}\n', '}\n'), None),
                           ('', 1), ('\n\n{"unit": }', 3), (SMALL + 'x', 15), ('{"unit": 01}', 1), ('// prices\n{}', 1),
                           (SMALL.replace('"models": {', "'models': {"), 5)):
            with self.subTest(text[:40]):
                place, _, message = str(self.read_error(text)).partition(': ')
                self.assertEqual(message, 'not JSON from here on; is there a comma, a quote or a bracket too many or too few?')
                self.assertRegex(place, r'^prices\.json:%s:[1-9]\d*$' % (line or r'\d+'))
        for text in '[]', '3', 'null', '\"x\"', '-1':
            with self.subTest(text):
                self.assertTrue(str(self.read_error(text)).startswith('prices.json: '))

    def test_what_prices_calls_is_never_a_bug_of_ours(self):
        for text in ('', '[]', '3', '{}', '{"models": {}}', SMALL[:-30], SMALL.replace('"models"', '"model"'),
                     SMALL.replace('"output": 2', '"output": -2'), SMALL.replace('"output": 2', '"output": 2e-1'),
                     SMALL.replace('"output": 2', '"output": 0.1234567'), '[' * 200000 + ']' * 200000,
                     SMALL.replace('"claude-c": {"provider": "anthropic"', '"claude-c": {"provider": "x"')):
            with self.subTest(text[:40]), self.assertRaises(script.UserError) as caught:
                script.Prices(text, 'p.json').usd('claude-a', NOW, (1, 0, 0, 0, 0, 0))
            self.assertTrue(str(caught.exception).startswith('p.json: '))

    def test_a_class_that_another_lends_its_price(self):
        text = SMALL.replace('"output": 2,', '"output": 2, "cache_read": "input",')
        prices = script.Prices(text, 'p')
        self.assertEqual(usd(prices, 'claude-c', (1, 1, 0, 0, 0, 0)), (Fraction(3, MILLION), False))
        self.assertEqual(usd(prices, 'claude-c', (0, 0, 0, 0, 1, 0)), (Fraction(1, MILLION), True))
        self.assertEqual(usd(prices, 'claude-c', (0, 0, 0, 0, 2, 0), 'batch'), (Fraction(1, MILLION), True))

    def test_gaps(self):
        march = '{"from": "2026-03-01", "until": "2026-04-01", "input"'
        prices = script.Prices(SMALL.replace('{"from": "2026-03-01", "input"', march), 'p')
        for day, expected, assumed in (('2026-01-09', 5, True), ('2026-01-10', 3, False), ('2026-01-31', 3, False),
                                       ('2026-02-01', 5, True), ('2026-02-28', 5, True), ('2026-03-01', 5, False),
                                       ('2026-03-31', 5, False), ('2026-04-01', 5, True), ('1970-01-01', 5, True)):
            for name in ('claude-a', 'claude-b', 'claude-b[1m]'):
                with self.subTest(day=day, name=name):
                    self.assertEqual(usd(prices, name, (100, 0, 0, 0, 0, 0), ts=day_ms(day)),
                                     (Fraction(expected, 10000), assumed))
        self.assertEqual(usd(prices, 'claude-a', (100, 0, 0, 0, 0, 0), ts=-1), (Fraction(5, 10000), True))

    def test_a_tag_that_is_over_changes_nothing(self):
        over = SMALL.replace('"multiplier": 2}', '"until": "2026-04-01", "multiplier": 2, "long_context": "flat"}')
        prices = script.Prices(over, 'p')
        for day, expected, assumed in (('2026-03-31', 10, False), ('2026-04-01', 6, True)):
            with self.subTest(day):
                self.assertEqual(usd(prices, 'claude-a', (101, 0, 0, 0, 0, 0), 'fast', day_ms(day)),
                                 (Fraction(101 * expected, MILLION), assumed))

    def test_digest(self):
        def digests(text):
            prices = script.Prices(text, 'p')
            return [prices.digest(model) for model in ('claude-a', 'claude-b', 'claude-c', 'claude-z')]
        before = digests(SMALL)
        self.assertEqual(before[0], before[1])
        self.assertTrue(all(type(digest) is str for digest in before))
        for what, old, new, changed in (
                ('a note', '"source": "s", "as_of": "2026-01-10"', '"source": "t", "as_of": "2026-01-11", "note": "n"', [0, 0, 0, 0]),
                ('a price', '"input": 5', '"input": 5.5', [1, 1, 1, 1]),
                ('one that no other leans on', '"input": 1,', '"input": 1.5,', [0, 0, 1, 0]),
                ('a class that was borrowed', '"output": 2,', '"output": 2, "cache_read": 1,', [0, 0, 1, 0]),
                ('a multiplier', '"batch": 0.5', '"batch": 0.6', [1, 1, 1, 1]),
                ('a web search', '"web_search_usd": 0.01', '"web_search_usd": 0.02', [1, 1, 1, 1]),
                ('a day', '"until": "2026-02-01"', '"until": "2026-02-02"', [1, 1, 1, 1]),
                ('a tier', '"above": 100', '"above": 101', [1, 1, 1, 1]),
                ('an unknown model listed', '"aliases": ["claude-b"]', '"aliases": ["claude-b", "claude-z"]', [0, 0, 0, 1])):
            with self.subTest(what):
                after = digests(SMALL.replace(old, new, 1))
                self.assertEqual([int(one != other) for one, other in zip(before, after)], changed)

    def test_the_example_in_about(self):
        with open(os.path.join(ROOT, 'prices.json'), encoding='utf-8') as stream:
            text = stream.read()
        example = next(line for line in json.loads(text)['about'] if line.startswith('To add a model: '))[16:]
        prices = script.Prices(text.replace('"models": {', '"models": {\n' + example + ',', 1), 'p')
        self.assertEqual(usd(prices, 'claude-next-1', (MILLION, 0, 0, 0, 0, 0), ts=day_ms('2027-02-01')), (5, False))

    def test_finding(self):
        self.assertEqual(script.find_prices(None, {}, '/hooks'), os.path.join('/hooks', 'prices.json'))
        self.assertEqual(script.find_prices(None, {'ARMLEDGER_PRICES': ''}, '/hooks'), os.path.join('/hooks', 'prices.json'))
        self.assertEqual(script.find_prices(None, {'ARMLEDGER_PRICES': '/e.json'}, '/hooks'), '/e.json')
        self.assertEqual(script.find_prices('/f.json', {'ARMLEDGER_PRICES': '/e.json'}, '/hooks'), '/f.json')
        self.assertEqual(script.find_prices('~/f.json', {}, '/hooks'), os.path.expanduser('~/f.json'))

    def test_unreadable(self):
        cure = '; put prices.json beside the script, or name one with --prices FILE or $ARMLEDGER_PRICES'
        with tempfile.TemporaryDirectory() as folder:
            latin = os.path.join(folder, 'latin.json')
            with open(latin, 'wb') as stream:
                stream.write(b'{"unit": "\xe9"}')
            missing = os.path.join(folder, 'none.json')
            for path, reason in ((missing, os.strerror(2)), (latin, 'not UTF-8 text')):
                with self.subTest(path), self.assertRaises(script.UserError) as caught:
                    script.load_prices(path)
                self.assertEqual(str(caught.exception), '%s: cannot read the price list (%s)%s' % (path, reason, cure))
            with self.assertRaises(script.UserError):
                script.load_prices(folder)
            marked = os.path.join(folder, 'bom.json')
            with open(marked, 'wb') as stream:
                stream.write(b'\xef\xbb\xbf' + SMALL.replace('\n', '\r\n').encode())
            self.assertEqual(script.load_prices(marked).as_of, '2026-03-02')


if __name__ == '__main__':
    unittest.main()
