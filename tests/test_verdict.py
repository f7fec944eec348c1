"""Verdicts, from logs whose cost is known by arithmetic, through the command line with --now.

A token of claude-haiku-4-5's input costs a micro-dollar, one that is read from its cache a tenth of that."""
import json
import os
import unittest

from homes import Home, call_line, cost_state, spent_line
from support import load_script

script = load_script('budget-check.py')
NOW = '2026-11-23T12:00:00Z'
TEN_MILLION = 10 ** 7                                              # the most tokens that one line may claim


def acme(caps='monthly_usd_cap: 1.00', zone='UTC', top=''):
    """A budgets file with one arm; `caps` are its further keys, on lines of their own."""
    return 'timezone: %s\n%sbudgets:\n  - arm: acme\n    path: ~/acme\n%s' % (
        zone, top, ''.join('    %s\n' % line for line in caps.split('\n')))


class VerdictCase(unittest.TestCase):

    def arm(self, home, *args, now=NOW, **more):
        """(exit code, the arm's part of the JSON)."""
        result = home.main('--json', 'acme', '--now', now, *args, **more)
        self.assertIn(result.code, (0, 2), result)
        found = json.loads(result.out, parse_float=str)
        self.assertEqual((found['status'], result.code), (found['arms'][0]['verdict'],
                                                          2 if found['arms'][0]['verdict'] == 'HARD_STOP' else 0))
        return result.code, found['arms'][0]

    def spend(self, home, *lines, name='s-1'):
        home.log(name, *(dict(line, cwd=home.at('acme')) for line in lines))


class TierTest(VerdictCase):

    def tier(self, caps, micro_usd, tenths=0):
        """The tier and exit code of an arm that has spent so much, in pieces that stay below what a line may claim."""
        lines = [spent_line('m%d' % n, min(TEN_MILLION, micro_usd - n * TEN_MILLION), time=NOW)
                 for n in range(micro_usd // TEN_MILLION + 1)]
        with Home(acme(caps)) as home:
            self.spend(home, *lines, call_line('tenths', read=tenths, time=NOW))
            code, arm = self.arm(home)
            return arm['tier'], code

    def test_edges_to_the_micro_dollar(self):
        for caps, edges in (
                ('monthly_usd_cap: 1.00', (('ok', 0), ('alert', 800000), ('warn', 1000000), ('hard_stop', 1100000),
                                           ('halt', 1500000))),
                ('daily_usd_cap: 33.333333', (('ok', 0), ('alert', 26666667), ('warn', 33333333), ('hard_stop', 36666667),
                                              ('halt', 50000000))),
                ('weekly_usd_cap: 2\nalert_pct: 33.3333\ngrace_pct: 100\nhalt_pct: 100.0001',
                 (('ok', 0), ('alert', 666666), ('hard_stop', 2000000), ('halt', 2000002))),
                ('total_usd_cap: 0.000001\nhalt_pct: 300', (('ok', 0), ('warn', 1), ('hard_stop', 2), ('halt', 3))),
                ('total_usd_cap: 0.5\nhalt_pct: never', (('alert', 400000), ('warn', 500000), ('hard_stop', 550000),
                                                         ('hard_stop', 60000000))),
                ('total_usd_cap: 0.5\ngrace_pct: 200', (('warn', 500000), ('halt', 1000000), ('halt', 1000001))),
                ('total_usd_cap: 0.5\naction_on_breach: warn', (('alert', 400000), ('warn', 500000), ('warn', 9000000))),
                ('total_usd_cap: 0.5\naction_on_breach: alert', (('ok', 0), ('alert', 400000), ('alert', 9000000)))):
            before = None
            for tier, micro in edges:
                with self.subTest(caps, micro_usd=micro):
                    self.assertEqual(self.tier(caps, micro), (tier, 2 if tier in ('hard_stop', 'halt') else 0))
                    if before not in (None, tier):
                        self.assertEqual(self.tier(caps, micro - 1)[0], before)
                before = tier

    def test_edges_to_a_tenth_of_a_micro_dollar(self):
        for tier, micro in ('alert', 800000), ('warn', 1000000), ('hard_stop', 1100000), ('halt', 1500000):
            with self.subTest(tier):
                self.assertNotEqual(self.tier('monthly_usd_cap: 1.00', micro - 1, 9)[0], tier)
                self.assertEqual(self.tier('monthly_usd_cap: 1.00', micro - 1, 10)[0], tier)

    def test_a_cap_of_nothing(self):
        self.assertEqual(self.tier('monthly_usd_cap: 0', 1), ('halt', 2))

    def test_a_rate_below_and_above_the_list(self):
        for rate, edge in ('80', 1250000), ('50', 2000000), ('33.333333', 3000001), ('200', 500000):
            with self.subTest(rate):
                caps = 'monthly_usd_cap: 1.00\nrate_pct: ' + rate
                self.assertEqual([self.tier(caps, edge)[0], self.tier(caps, edge - 1)[0]], ['warn', 'alert'])

    def test_spent_is_at_the_rate_and_the_cap_is_as_written(self):
        with Home(acme('monthly_usd_cap: 1.00\nrate_pct: 80')) as home:
            self.spend(home, spent_line('a', 1000001))
            arm = self.arm(home)[1]
            self.assertEqual((arm['spent_usd'], arm['cap_usd'], arm['grace_usd']), ('0.800001', '1.000000', '1.100000'))

    def test_the_worst_cap_decides(self):
        with Home(acme('daily_usd_cap: 1.00\nmonthly_usd_cap: 4.00\ntotal_usd_cap: 1000')) as home:
            self.spend(home, spent_line('a', 3000000, time='2026-11-02T12:00:00.000Z'), spent_line('b', 500000, time=NOW))
            arm = self.arm(home)[1]
            self.assertEqual((arm['tier'], arm['spent_usd'], arm['cap_usd']), ('alert', '3.500000', '4.000000'))
            self.assertEqual([(w['window'], w['tier'], w['spent_usd'], w['pct']) for w in arm['windows']], [
                ('day', 'ok', '0.500000', '50.00'), ('month', 'alert', '3.500000', '87.50'),
                ('total', 'ok', '3.500000', '0.35')])
            self.spend(home, spent_line('c', 700000, time=NOW), name='s-2')
            arm = self.arm(home)[1]
            self.assertEqual((arm['tier'], arm['spent_usd'], arm['cap_usd']), ('hard_stop', '1.200000', '1.000000'))

    def test_untranscribed_and_assumed_spend_counts_and_is_shown(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 100000), call_line('b', input=10000, model='claude-nonesuch-9'),
                       cost_state('s-1', {'claude-haiku-4-5': (300000,), 'claude-nonesuch-9': (10000,)}))
            arm = self.arm(home)[1]
            # The unknown one costs as opus-5-5: 4 USD a million.
            self.assertEqual((arm['spent_usd'], arm['untranscribed_usd'], arm['assumed_usd']),
                             ('0.340000', '0.200000', '0.040000'))

    def test_spend_from_elsewhere(self):
        with Home() as home:
            export = home.at('finops/spend.json')
            budgets = 'spend_json: ~/finops/spend.json\nbudgets:\n  - arm: fixture-hot\n    path: /nonexistent/fixture-hot\n' \
                      '    monthly_usd_cap: 10.00\n    action_on_breach: hard_stop\n    grace_pct: 100\n'
            home.write(home.budgets, budgets)
            for text, tier, code in (('10.0', 'hard_stop', 2), ('9.999999999999', 'alert', 0), ('7.99', 'ok', 0), ('15', 'halt', 2),
                                     ('1e1', 'hard_stop', 2), ('-1', None, 1), ('1e400', None, 1), ('NaN', None, 1), ('"nine"', None, 1), ('null', None, 1), ('[]', None, 1)):
                with self.subTest(text):
                    home.write(export, '{"other": 99, "fixture-hot": %s}' % text)
                    result = home.main('--json', '--now', NOW)
                    self.assertEqual(result.code, code, result)
                    self.assertEqual(json.loads(result.out)['arms'][0]['tier'] if result.out else None, tier)
            home.write(export, '{"other": 99}')
            said = home.verdict('--now', NOW)
            self.assertEqual(said['arms'][0]['spent_usd'], '0.000000')
            self.assertIn('spend_json has no fixture-hot', ' '.join(said['warnings']))
            os.unlink(export)
            self.assertEqual(home.main('--now', NOW).code, 1)


if __name__ == '__main__':
    unittest.main()
