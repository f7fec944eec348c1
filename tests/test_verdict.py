"""Verdicts, from logs whose cost is known by arithmetic, through the command line with --now.

A token of claude-haiku-4-5's input costs a micro-dollar, one that is read from its cache a tenth of that."""
import json
import os
import re
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
                                     ('1e1', None, 1), ('-1', None, 1), ('"nine"', None, 1), ('null', None, 1), ('[]', None, 1)):
                with self.subTest(text):
                    home.write(export, '{"other": 99, "fixture-hot": %s}' % text)
                    result = home.main('--json', '--now', NOW)
                    self.assertEqual(result.code, code, result)
                    self.assertEqual(json.loads(result.out)['arms'][0]['tier'] if result.out else None, tier)
            home.write(export, '{"other": 99}')
            self.assertEqual(home.verdict('--now', NOW)['arms'][0]['spent_usd'], '0.000000')
            os.unlink(export)
            self.assertEqual(home.main('--now', NOW).code, 1)


class WindowTest(VerdictCase):

    def zone(self, name):
        if name != 'UTC' and not script.zone_file(name):
            self.skipTest('this machine knows no time zone ' + name)
        return name

    def starts(self, zone, window, now, first, end):
        """The window that holds `now` holds `first` and nothing before it, and ends before `end`."""
        caps = {'day': 'daily', 'week': 'weekly', 'month': 'monthly'}[window] + '_usd_cap: 1000'
        with Home(acme(caps, self.zone(zone))) as home:
            began = script.parse_time(first)
            times = [began - 1, began, script.parse_time(now), script.parse_time(end) - 1, script.parse_time(end)]
            self.spend(home, *(spent_line('m%d' % n, 2 ** n, time=stamp(ms)) for n, ms in enumerate(times)))
            arm = self.arm(home, now=now)[1]
            self.assertEqual(arm['spent_usd'], '0.%06d' % 0b01110)
            self.assertEqual(script.parse_time(arm['windows'][0]['start']), began, arm['windows'][0]['start'])

    def test_where_windows_begin(self):
        for zone, window, now, first, end in (
                ('UTC', 'month', '2025-11-30T23:59:59.998Z', '2025-11-01T00:00:00Z', '2025-12-01T00:00:00Z'),
                ('UTC', 'month', '2025-12-31T23:59:59Z', '2025-12-01T00:00:00Z', '2026-01-01T00:00:00Z'),
                ('UTC', 'month', '2024-02-29T12:00:00Z', '2024-02-01T00:00:00Z', '2024-03-01T00:00:00Z'),
                ('UTC', 'week', '2026-01-04T23:00:00Z', '2025-12-29T00:00:00Z', '2026-01-05T00:00:00Z'),
                ('UTC', 'week', '2025-11-24T00:00:00Z', '2025-11-24T00:00:00Z', '2025-12-01T00:00:00Z'),
                ('UTC', 'day', '2025-11-23T00:00:00Z', '2025-11-23T00:00:00Z', '2025-11-24T00:00:00Z'),
                ('Europe/Berlin', 'month', '2025-10-31T23:30:00Z', '2025-10-31T23:00:00Z', '2025-11-30T23:00:00Z'),
                ('Europe/Berlin', 'month', '2025-10-31T22:30:00Z', '2025-09-30T22:00:00Z', '2025-10-31T23:00:00Z'),
                ('Europe/Berlin', 'day', '2026-03-29T12:00:00Z', '2026-03-28T23:00:00Z', '2026-03-29T22:00:00Z'),
                ('Europe/Berlin', 'day', '2025-10-26T12:00:00Z', '2025-10-25T22:00:00Z', '2025-10-26T23:00:00Z'),
                ('Europe/Berlin', 'week', '2025-10-27T12:00:00Z', '2025-10-26T23:00:00Z', '2025-11-02T23:00:00Z'),
                ('Europe/Berlin', 'week', '2025-10-26T22:59:59Z', '2025-10-19T22:00:00Z', '2025-10-26T23:00:00Z'),
                ('America/New_York', 'day', '2025-11-03T04:59:59Z', '2025-11-02T04:00:00Z', '2025-11-03T05:00:00Z'),
                ('America/Los_Angeles', 'month', '2025-11-01T06:59:59Z', '2025-10-01T07:00:00Z', '2025-11-01T07:00:00Z'),
                ('Asia/Kolkata', 'day', '2025-11-23T12:00:00Z', '2025-11-22T18:30:00Z', '2025-11-23T18:30:00Z'),
                ('Asia/Kathmandu', 'day', '2025-11-23T12:00:00Z', '2025-11-22T18:15:00Z', '2025-11-23T18:15:00Z'),
                ('Australia/Lord_Howe', 'day', '2025-10-05T01:00:00Z', '2025-10-04T13:30:00Z', '2025-10-05T13:00:00Z'),
                ('Pacific/Chatham', 'month', '2025-10-31T12:00:00Z', '2025-10-31T10:15:00Z', '2025-11-30T10:15:00Z'),
                ('Pacific/Kiritimati', 'day', '2025-11-23T10:00:00Z', '2025-11-23T10:00:00Z', '2025-11-24T10:00:00Z'),
                # There the clock went from 24:00 to 1:00.
                ('America/Havana', 'day', '2025-03-09T12:00:00Z', '2025-03-09T05:00:00Z', '2025-03-10T04:00:00Z'),
                ('America/Santiago', 'day', '2025-09-07T12:00:00Z', '2025-09-07T04:00:00Z', '2025-09-08T03:00:00Z')):
            with self.subTest(zone, window=window, now=now):
                self.starts(zone, window, now, first, end)

    def test_the_local_zone(self):
        # 23:00 the day before, 18:00 the day before as is all, 8:00 the same day as is all.
        for zone, spent in ('UTC', '0.000010'), ('America/New_York', '0.000011'), ('Asia/Tokyo', '0.000011'):
            with self.subTest(zone), Home(acme('daily_usd_cap: 1', 'local'), tz=self.zone(zone)) as home:
                self.spend(home, spent_line('a', 1, time='2026-11-22T23:00:00.000Z'),
                           spent_line('b', 10, time='2026-11-23T01:00:00.000Z'))
                self.assertEqual(self.arm(home, now='2026-11-23T02:00:00Z')[1]['spent_usd'], spent)

    def test_a_named_zone_beats_the_local_one(self):
        with Home(acme('daily_usd_cap: 1', self.zone('Asia/Tokyo')), tz='America/New_York') as home:
            self.spend(home, spent_line('a', 1, time='2026-11-22T14:59:59.999Z'), spent_line('b', 10, time='2026-11-22T15:00:00.000Z'))
            self.assertEqual(self.arm(home, now='2026-11-23T02:00:00Z')[1]['spent_usd'], '0.000010')

    def test_all_time(self):
        with Home(acme('total_usd_cap: 1')) as home:
            self.spend(home, spent_line('a', 1, time='1999-12-31T23:59:59.999Z'), spent_line('b', 10, time='2026-11-22T15:00:00.000Z'),
                       spent_line('c', 100, time='1970-01-01T00:00:00.000Z'))
            self.assertEqual(self.arm(home)[1]['spent_usd'], '0.000111')

    def test_looking_back(self):
        with Home(acme('monthly_usd_cap: 1')) as home:
            for n, month in enumerate(('2026-09', '2026-10', '2026-11')):
                self.spend(home, spent_line('m%d' % n, 10 ** n, time=month + '-15T12:00:00.000Z', session=month), name=month)
            for now, spent in (('2026-11-20T00:00:00Z', '0.000100'), ('2026-10-31T23:59:59Z', '0.000010'),
                               ('2026-09-15T00:00:00Z', '0.000001'), ('2026-12-01T00:00:00Z', '0.000000'),
                               ('2026-10-31T23:59:59', '0.000010'), ('2026-11-01T00:30:00+01:00', '0.000010')):
                with self.subTest(now):
                    self.assertEqual(self.arm(home, now=now)[1]['spent_usd'], spent)

    def test_a_record_from_the_future_counts_now(self):
        with Home(acme('daily_usd_cap: 1.00')) as home:
            self.spend(home, spent_line('a', 1200000, time='2199-01-01T00:00:00.000Z'))
            self.assertEqual(self.arm(home)[0], 2)
            code = home.main('acme').code                          # and by this machine's clock
            self.assertIn(code, (0, 2))
        with Home(acme('monthly_usd_cap: 1.00')) as home:
            self.spend(home, spent_line('a', 1200000, time='2199-01-01T00:00:00.000Z'))
            self.assertEqual(home.main('acme').code, 2)

    def test_a_record_without_a_time_counts_at_its_files(self):
        with Home(acme()) as home:
            self.spend(home, dict(spent_line('a', 1200000), timestamp=None))
            os.utime(home.at('.claude/projects/p/s-1.jsonl'), (1793000000, 1793000000))    # 2026-10-26T07:33:20Z
            self.assertEqual(self.arm(home, now='2026-10-31T23:59:59Z')[0], 2)
            self.assertEqual(self.arm(home, now='2026-11-01T00:00:00Z')[0], 0)
            self.assertEqual(self.arm(home, now='2026-09-30T23:59:59Z')[0], 0)

    def test_nothing_is_stale(self):
        with Home(acme('total_usd_cap: 1.00')) as home:
            self.spend(home)
            for n, code in enumerate((0, 0, 0, 2)):
                home.append('.claude/projects/p/s-1.jsonl', [dict(spent_line('m%d' % n, 275000), cwd=home.at('acme'))])
                self.assertEqual(self.arm(home)[0], code)
            home.write(home.budgets, acme('total_usd_cap: 2.00'))
            self.assertEqual(self.arm(home)[0], 0)


class OutputTest(VerdictCase):

    ARM = ['arm', 'path', 'tier', 'verdict', 'action_on_breach', 'spent_usd', 'cap_usd', 'grace_usd', 'untranscribed_usd',
           'assumed_usd', 'windows']
    WINDOW = ['window', 'start', 'spent_usd', 'cap_usd', 'grace_usd', 'pct', 'tier']
    TOP = ['status', 'estimate', 'prices_as_of', 'arms', 'halt_reason', 'warnings']

    def test_the_shape_of_json(self):
        with Home(acme('monthly_usd_cap: 1.00\ndaily_usd_cap: 7')) as home:
            self.spend(home, spent_line('a', 1600000))
            result = home.main('--json', '--now', NOW)
            found = json.loads(result.out, parse_float=str)
            self.assertEqual(sorted(found), sorted(self.TOP))
            arm, = found['arms']
            self.assertEqual(sorted(arm), sorted(self.ARM))
            for window in arm['windows']:
                self.assertEqual(sorted(window), sorted(self.WINDOW))
            self.assertEqual((found['status'], found['estimate'], found['warnings']), ('HARD_STOP', True, []))
            self.assertRegex(found['prices_as_of'], r'^20\d\d-\d\d-\d\d$')
            self.assertEqual([arm[key] for key in self.ARM[:10]],
                             ['acme', home.at('acme'), 'halt', 'HARD_STOP', 'hard_stop', '1.600000', '1.000000', '1.100000',
                              '0.000000', '0.000000'])
            month, = [window for window in arm['windows'] if window['window'] == 'month']
            self.assertEqual([month[key] for key in self.WINDOW],
                             ['month', '2026-11-01T00:00:00+00:00', '1.600000', '1.000000', '1.100000', '160.00', 'halt'])
            for part in 'acme', '1.60', '1.00':
                self.assertIn(part, found['halt_reason'])

    def test_status_of_each_tier(self):
        for micro, status, tier in ((0, 'OK', 'ok'), (800000, 'ALERT', 'alert'), (1000000, 'WARN', 'warn'),
                                    (1100000, 'HARD_STOP', 'hard_stop'), (1500000, 'HARD_STOP', 'halt')):
            with self.subTest(tier), Home(acme()) as home:
                self.spend(home, spent_line('a', micro))
                found = home.verdict('--now', NOW)
                self.assertEqual((found['status'], found['arms'][0]['verdict'], found['arms'][0]['tier']),
                                 (status, status, tier))
                self.assertEqual(found['halt_reason'] is None, status != 'HARD_STOP')

    def test_the_worst_arm_is_the_status(self):
        budgets = 'timezone: UTC\nbudgets:\n' + ''.join(
            '  - arm: %s\n    path: ~/%s\n    total_usd_cap: 1.00\n' % (arm, arm) for arm in ('fine', 'full', 'near'))
        with Home(budgets) as home:
            for arm, micro in ('fine', 1), ('full', 1100000), ('near', 900000):
                home.log(arm, spent_line(arm, micro, session=arm, cwd=home.at(arm)))
            result = home.main('--json', '--now', NOW)
            found = json.loads(result.out)
            self.assertEqual((result.code, found['status']), (2, 'HARD_STOP'))
            self.assertEqual([one['arm'] for one in found['arms']], ['full', 'near', 'fine'])
            self.assertEqual([home.main(arm, '--now', NOW).code for arm in ('fine', 'full', 'near')], [0, 2, 0])

    def test_the_table_for_people(self):
        with Home(acme('monthly_usd_cap: 2000.00')) as home:
            self.spend(home, *(spent_line('m%d' % n, TEN_MILLION) for n in range(125)))
            result = home.main('--now', NOW)
            self.assertEqual((result.code, result.err), (0, ''))
            for part in 'acme', 'ok', '1,250.00', '2,000.00', '750.00', 'month', 'stimate', 'list price':
                self.assertIn(part, result.out)
            # 1250 of 2000 after 22.5 days: 2000 after 36 days, which is after this month's end.
            self.assertNotIn('2026-12', result.out)
            home.write(home.budgets, acme('monthly_usd_cap: 1600.00'))
            # 1600 after 28.8 days.
            self.assertIn('2026-11-29', home.main('--now', NOW).out)
            self.assertEqual(max(map(len, result.out.splitlines())) < 100, True)

    def test_a_stop_says_what_to_do(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1234567))
            result = home.main('--now', NOW)
            self.assertEqual(result.code, 2)
            for part in 'hard_stop', '1.23', '1.00', '1.10', 'monthly_usd_cap', home.budgets:
                self.assertIn(part, result.out)
            self.assertEqual(home.main('--force').code, 1)

    def test_no_colours_where_nobody_looks(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1234567))
            self.assertNotIn('\033', home.main('--now', NOW).out)

    def test_the_real_script(self):
        with Home(acme(), own_scripts=True) as home:
            self.spend(home, spent_line('a', 1099999))
            result = home.run('budget-check.py', '--json', 'acme', '--now', NOW)
            self.assertEqual((result.code, result.err), (0, ''))
            self.assertEqual(re.findall(r'"spent_usd": ([^,\s]+)', result.out), ['1.099999'] * 2)
            home.append('.claude/projects/p/s-1.jsonl', [dict(spent_line('b', 1), cwd=home.at('acme'))])
            self.assertEqual(home.run('budget-check.py', home.at('acme'), '--now', NOW).code, 2)
            self.assertEqual(home.run('budget-check.py', '--now', NOW).code, 2)


def stamp(ms):
    """ISO 8601 of milliseconds since the epoch."""
    import time
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms // 1000)) + '.%03dZ' % (ms % 1000)


if __name__ == '__main__':
    unittest.main()
