"""Windows of time: when days, weeks, months begin and end in any time zone, and which calls are in them."""
import json
import os
import random
import time
import unittest
from calendar import timegm
from unittest import mock

from homes import Home, spent_line
from support import load_script

check = load_script('budget-check.py')
NOW = '2026-11-23T12:00:00Z'
HAS_ZONES = bool(check.zone_file('Europe/Berlin'))


def utc(*fields):
    """Milliseconds of a UTC time: year, month, day, hour, minute."""
    return timegm((fields + (0, 0, 0))[:6]) * 1000


def set_back(zone):
    """Give the process its time zone back."""
    os.environ.pop('TZ', None) if zone is None else os.environ.update(TZ=zone)
    check.set_zone('local')


class WithoutTzset:
    """The time module of a system on which a process can't set its time zone."""

    def __getattr__(self, name):
        if name == 'tzset':
            raise AttributeError(name)
        return getattr(time, name)


def acme(caps='monthly_usd_cap: 1.00', zone='UTC', top=''):
    """A budgets file with one arm; `caps` are its further keys, on lines of their own."""
    return 'timezone: %s\n%sbudgets:\n  - arm: acme\n    path: ~/acme\n%s' % (
        zone, top, ''.join('    %s\n' % line for line in caps.split('\n')))


@unittest.skipUnless(HAS_ZONES, 'no time zone database')
class Windows(unittest.TestCase):
    def setUp(self):
        self.addCleanup(set_back, os.environ.get('TZ'))

    def test_bounds(self):
        for zone, window, now, start, end in [
                ('UTC', 'day', utc(2025, 6, 15, 12), utc(2025, 6, 15), utc(2025, 6, 16)),
                ('UTC', 'day', utc(2025, 6, 15), utc(2025, 6, 15), utc(2025, 6, 16)),
                ('UTC', 'day', utc(2025, 6, 15) - 1, utc(2025, 6, 14), utc(2025, 6, 15)),
                ('UTC', 'month', utc(2024, 2, 29, 23), utc(2024, 2, 1), utc(2024, 3, 1)),
                ('UTC', 'month', utc(2025, 12, 31, 23), utc(2025, 12, 1), utc(2026, 1, 1)),
                ('UTC', 'week', utc(2026, 1, 1), utc(2025, 12, 29), utc(2026, 1, 5)),
                # Berlin is at +1, from the last Sunday of March to that of October at +2
                ('Europe/Berlin', 'day', utc(2025, 3, 30, 12), utc(2025, 3, 29, 23), utc(2025, 3, 30, 22)),
                ('Europe/Berlin', 'day', utc(2025, 10, 26, 0), utc(2025, 10, 25, 22), utc(2025, 10, 26, 23)),
                ('Europe/Berlin', 'month', utc(2025, 10, 31, 22, 59), utc(2025, 9, 30, 22), utc(2025, 10, 31, 23)),
                ('Europe/Berlin', 'month', utc(2025, 10, 31, 23), utc(2025, 10, 31, 23), utc(2025, 11, 30, 23)),
                ('Europe/Berlin', 'week', utc(2025, 3, 30, 21, 59), utc(2025, 3, 23, 23), utc(2025, 3, 30, 22)),
                # New York is at -5, from 9 March 2025 at -4
                ('America/New_York', 'week', utc(2025, 3, 9, 12), utc(2025, 3, 3, 5), utc(2025, 3, 10, 4)),
                ('America/New_York', 'month', utc(2026, 1, 1, 4, 59), utc(2025, 12, 1, 5), utc(2026, 1, 1, 5)),
                # Kathmandu is at +5:45; Lord Howe goes from +11 to +10:30
                ('Asia/Kathmandu', 'day', utc(2025, 1, 1, 0), utc(2024, 12, 31, 18, 15), utc(2025, 1, 1, 18, 15)),
                ('Australia/Lord_Howe', 'day', utc(2025, 4, 6, 0), utc(2025, 4, 5, 13), utc(2025, 4, 6, 13, 30)),
                # Sao Paulo went from -3 to -2 at midnight: no 00:00 on 4 November 2018, and back: two 23:00 on 17 February
                ('America/Sao_Paulo', 'day', utc(2018, 11, 4, 12), utc(2018, 11, 4, 3), utc(2018, 11, 5, 2)),
                ('America/Sao_Paulo', 'day', utc(2018, 11, 4, 2, 59), utc(2018, 11, 3, 3), utc(2018, 11, 4, 3)),
                ('America/Sao_Paulo', 'day', utc(2018, 2, 18, 2, 30), utc(2018, 2, 17, 2), utc(2018, 2, 18, 3)),
                # Apia went from -10 to +14: it had no 30 December 2011
                ('Pacific/Apia', 'day', utc(2011, 12, 30, 9), utc(2011, 12, 29, 10), utc(2011, 12, 30, 10)),
                ('Pacific/Apia', 'day', utc(2011, 12, 30, 10), utc(2011, 12, 30, 10), utc(2011, 12, 31, 10)),
                ('Pacific/Apia', 'month', utc(2011, 12, 30, 10), utc(2011, 12, 1, 10), utc(2011, 12, 31, 10))]:
            with self.subTest(zone, window=window, now=now):
                check.set_zone(zone)
                self.assertEqual(check.window_bounds(window, now), (start, end))

    def test_total_has_no_end(self):
        self.assertEqual(check.window_bounds('total', utc(2025, 1, 1)), (0, None))

    def test_windows_follow_each_other(self):
        """Also where a clock was set back over midnight: Goose Bay, from 00:01 to 23:01."""
        dice = random.Random(3)
        for zone, around in [('America/Goose_Bay', utc(2010, 11, 7, 3)), ('America/Havana', utc(2024, 11, 3, 5)),
                             ('Asia/Beirut', utc(2022, 3, 26, 22)), ('Africa/Casablanca', utc(2024, 3, 10, 2))]:
            check.set_zone(zone)
            for _ in range(20):
                now = around + dice.randint(-100000, 100000) * 1000 + dice.randint(0, 999)
                for window in ('day', 'week', 'month'):
                    start, end = check.window_bounds(window, now)
                    with self.subTest(zone, now=now, window=window):
                        self.assertLessEqual(start, now)
                        self.assertLess(now, end)
                        self.assertEqual(check.window_bounds(window, end)[0], end)
                        self.assertEqual(check.window_bounds(window, start - 1)[1], start)

    @unittest.skipUnless(hasattr(time, 'tzset'), 'the time zone of a process cannot be set here')
    def test_local_is_the_zone_of_the_machine(self):
        for zone, start in [('Asia/Kathmandu', utc(2025, 1, 1, 18, 15)), ('America/New_York', utc(2025, 1, 1, 5))]:
            os.environ['TZ'] = zone
            check.set_zone('local')
            self.assertEqual(check.window_bounds('day', utc(2025, 1, 1, 20))[0], start)

    def test_an_unknown_zone_is_an_error_and_not_utc(self):
        with self.assertRaisesRegex(check.UserError, 'unknown time zone Europe/Nowhere'):
            check.check_zone('Europe/Nowhere')
        with self.assertRaises(KeyError):
            check.set_zone('Europe/Nowhere')

    def test_without_tzset(self):
        """As on Windows: the zone comes from zoneinfo."""
        with mock.patch.object(check, 'time', WithoutTzset()):
            check.set_zone('Europe/Berlin')
            self.assertEqual(check.window_bounds('day', utc(2025, 10, 26, 12)), (utc(2025, 10, 25, 22), utc(2025, 10, 26, 23)))
            self.assertEqual(check.format_time(utc(2025, 7, 1)), '2025-07-01T02:00:00+02:00')
            with mock.patch('zoneinfo.ZoneInfo', side_effect=KeyError('no database')):
                check.set_zone('UTC')
            self.assertEqual(check.format_time(utc(2025, 7, 1)), '2025-07-01T00:00:00+00:00')
        check.set_zone('local')

    def test_days_without_midnight(self):
        """In Cairo the clock went from 24:00 to 1:00, from +2 to +3; in Havana, from -5 to -4."""
        for zone, date, start, end in [
                ('Africa/Cairo', '2025-04-25', utc(2025, 4, 24, 22), utc(2025, 4, 25, 21)),
                ('America/Havana', '2025-03-09', utc(2025, 3, 9, 5), utc(2025, 3, 10, 4))]:
            with self.subTest(zone):
                check.set_zone(zone)
                self.assertEqual(check.window_bounds('day', start), (start, end))
                self.assertEqual(check.window_bounds('day', end - 1), (start, end))
                self.assertEqual(check.start_of(date), start)
                self.assertEqual([check.date_of(start - 1), check.date_of(start), check.date_of(end - 1)],
                                 ['2025-%02d-%02d' % (int(date[5:7]), int(date[8:]) - 1), date, date])

    def test_no_such_date(self):
        check.set_zone('UTC')
        for text in '2026-02-31', '2025-02-29', '2026-13-01', '2026-00-01', 'today', '':
            with self.subTest(text), self.assertRaises(ValueError):
                check.start_of(text)

    def test_labels(self):
        """ISO weeks: 2026 begins in a week of Thursday 1 January; 2027-01-01 is a Friday, of 2026's week 53."""
        check.set_zone('UTC')
        for window, now, label in [
                ('day', utc(2026, 11, 23), '2026-11-23'), ('month', utc(2026, 11, 23), '2026-11'),
                ('week', utc(2025, 12, 28, 23), '2025-W52'), ('week', utc(2025, 12, 29), '2026-W01'),
                ('week', utc(2027, 1, 3), '2026-W53'), ('week', utc(2027, 1, 4), '2027-W01')]:
            with self.subTest(window, now=now):
                self.assertEqual(check.label_of(window, now), label)

    def test_windows_between(self):
        check.set_zone('Europe/Berlin')
        self.assertEqual(list(check.windows_between('month', utc(2025, 9, 30, 22), utc(2025, 10, 31, 23) + 1)), [
            ('2025-10', utc(2025, 9, 30, 22), utc(2025, 10, 31, 23)), ('2025-11', utc(2025, 10, 31, 23), utc(2025, 11, 30, 23))])
        self.assertEqual([label for label, _, _ in check.windows_between('day', utc(2025, 10, 25, 12), utc(2025, 10, 27, 12))],
                         ['2025-10-25', '2025-10-26', '2025-10-27'])
        self.assertEqual(list(check.windows_between('day', utc(2025, 1, 1), utc(2025, 1, 1))), [])

    def test_format_time(self):
        for ms, zone, expected in [(utc(2025, 1, 1) + 999, 'UTC', '2025-01-01T00:00:00+00:00'),
                                   (utc(2025, 7, 1), 'Europe/Berlin', '2025-07-01T02:00:00+02:00'),
                                   (utc(2025, 1, 1), 'Asia/Kathmandu', '2025-01-01T05:45:00+05:45'),
                                   (utc(2025, 1, 1), 'America/New_York', '2024-12-31T19:00:00-05:00')]:
            with self.subTest(zone):
                check.set_zone(zone)
                self.assertEqual(check.format_time(ms), expected)


class WindowsInVerdicts(unittest.TestCase):
    """Which calls count, through the command line with --now."""

    def arm(self, home, now=NOW):
        """(exit code, the arm's part of the JSON)."""
        result = home.main('--json', 'acme', '--now', now)
        self.assertIn(result.code, (0, 2), result)
        return result.code, json.loads(result.out, parse_float=str)['arms'][0]

    def spend(self, home, *lines, name='s-1'):
        home.log(name, *(dict(line, cwd=home.at('acme')) for line in lines))

    def zone(self, name):
        if name != 'UTC' and not check.zone_file(name):
            self.skipTest('this machine knows no time zone ' + name)
        return name

    def starts(self, zone, window, now, first, end):
        """The window that holds `now` holds `first` and nothing before it, and ends before `end`."""
        caps = {'day': 'daily', 'week': 'weekly', 'month': 'monthly'}[window] + '_usd_cap: 1000'
        with Home(acme(caps, self.zone(zone))) as home:
            began = check.parse_time(first)
            times = [began - 1, began, check.parse_time(now), check.parse_time(end) - 1, check.parse_time(end)]
            self.spend(home, *(spent_line('m%d' % n, 2 ** n, time=stamp(ms)) for n, ms in enumerate(times)))
            arm = self.arm(home, now=now)[1]
            self.assertEqual(arm['spent_usd'], '0.%06d' % 0b01110)
            self.assertEqual(check.parse_time(arm['windows'][0]['start']), began, arm['windows'][0]['start'])

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


def stamp(ms):
    """ISO 8601 of milliseconds since the epoch."""
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms // 1000)) + '.%03dZ' % (ms % 1000)


if __name__ == '__main__':
    unittest.main()
