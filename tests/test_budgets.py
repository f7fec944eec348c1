"""budgets.yaml, from its text to the verdict: what is read and what is refused; the price list's spelling."""
import json
import os
import random
import re
import tempfile
import unittest
from calendar import timegm
from unittest import mock

from support import DATA, ROOT, load_script

check = load_script('budget-check.py')
UserError, PICO = check.UserError, check.PICO
REFUSED, READ = os.path.join(DATA, 'budgets-refused'), os.path.join(DATA, 'budgets-read')
HOME = '/home/op'
HAS_ZONES = bool(check.zone_file('Europe/Berlin'))


def read_text(*path):
    with open(os.path.join(*path), encoding='utf-8', newline='') as stream:
        return stream.read()


def cases(folder, ending):
    """[(name, text of NAME.yaml, text of NAME + ending)]; each file must have its other half."""
    names = {os.path.splitext(name)[0] for name in os.listdir(folder)}
    return [(name, read_text(folder, name + '.yaml'), read_text(folder, name + ending)) for name in sorted(names)]


def budgets_of(*lines, home=HOME):
    return check.Budgets('\n'.join(lines) + '\n', 'budgets.yaml', home)


def listed(arm, *paths, more='    monthly_usd_cap: 5\n'):
    """The text of an entry."""
    return '  - arm: %s\n%s%s' % (arm, '    paths: [%s]\n' % ', '.join('"%s"' % p for p in paths) if paths else '', more)


def utc(*fields):
    """Milliseconds of a UTC time: year, month, day, hour, minute."""
    return timegm((fields + (0, 0, 0))[:6]) * 1000


def set_back(zone):
    """Give the process its time zone back."""
    os.environ.pop('TZ', None) if zone is None else os.environ.update(TZ=zone)
    check.set_zone('local')


class Refusals(unittest.TestCase):
    def test_there_are_cases(self):
        self.assertGreater(len(cases(REFUSED, '.txt')), 100)

    def test_each_message(self):
        for name, text, message in cases(REFUSED, '.txt'):
            with self.subTest(name):
                with self.assertRaises(UserError) as caught:
                    check.Budgets(text, 'budgets.yaml', HOME)
                self.assertEqual(str(caught.exception) + '\n', message)

    def test_what_a_later_version_reads_is_not_ignored(self):
        for lines, at in [(('default:', '  session_usd_cap: 5', '  daily_usd_cap: 1'), 2), (('others: [/mnt/x.json]',), 1),
                          (('session_usd_cap: 5',), 1)]:
            with self.subTest(lines), self.assertRaisesRegex(
                    UserError, r'budgets.yaml:%d:\d+: \w+ is not read by this version, and a cap must not be ignored' % at):
                budgets_of(*lines)

    def test_advice_that_helps(self):
        for lines, advice in [
                (('budgets:', '  - arm: a', '    path: ~'), 'home itself is ~/'),
                (('default:', '  monthly_usd_cap: yes'), 'as a plain number such as 200.00'),
                (('default:', '  cap: yes'), 'did you mean daily_usd_cap?'),
                (('default:', '  action: warn'), 'did you mean action_on_breach?'),
                (('default:', '  monthly_usd_cap: 1,200'), 'such as 200.00$'), (('default:', '  monthly_usd_cap: .5'), 'such as 200.00$'),
                (('halt_signal: no',), 'write once or never'), (('halt_signal: nevr',), 'write once or never')]:
            with self.subTest(lines), self.assertRaisesRegex(UserError, advice):
                budgets_of(*lines)

    def test_a_refusal_names_the_file_it_is_about(self):
        with self.assertRaises(UserError) as caught:
            check.Budgets('a: 1\n', '/etc/b.yaml', HOME)
        self.assertTrue(str(caught.exception).startswith('/etc/b.yaml:1:1: '))

    @unittest.skipUnless(HAS_ZONES, 'no time zone database')
    def test_an_unknown_time_zone_names_the_nearest(self):
        for written, message in [
                ('Europe/Berlim', 'unknown time zone Europe/Berlim: did you mean Europe/Berlin?'),
                ('Berlin', 'unknown time zone Berlin: did you mean Europe/Berlin?'),
                ('america/new york', 'unknown time zone america/new york: did you mean America/New_York?'),
                ('../../../etc/passwd', 'unknown time zone ../../../etc/passwd: write local, or a name such as '
                                        'Europe/Berlin')]:
            with self.subTest(written), self.assertRaises(UserError) as caught:
                budgets_of('timezone: ' + written)
            self.assertEqual(str(caught.exception), 'budgets.yaml:1:1: ' + message)

    def test_a_machine_without_time_zones(self):
        with mock.patch.object(check, 'ZONE_FOLDERS', ()), mock.patch('zoneinfo.available_timezones', set):
            self.assertEqual(budgets_of('timezone: UTC').timezone, 'UTC')
            with self.assertRaisesRegex(UserError, 'no time zone database: install tzdata, or write local or UTC'):
                budgets_of('timezone: Europe/Berlin')


class Yaml(unittest.TestCase):
    def test_there_are_cases(self):
        self.assertGreater(len(cases(READ, '.json')), 5)

    def test_each_text_reads_as_recorded(self):
        for name, text, recorded in cases(READ, '.json'):
            with self.subTest(name):
                # Numbers stay text, as they are written.
                self.assertEqual(check.parse_yaml(text), json.loads(recorded, parse_int=str, parse_float=str))

    def test_types(self):
        found = check.parse_yaml('a: 5\nb: 5.0\nc: true\nd: "5"\ne: 05\n')
        self.assertEqual([type(value) for value in found.values()], [check.Number, check.Number, bool, str, check.Unclear])

    def test_values_know_where_they_stand(self):
        places = {}
        check.parse_yaml('a: 1\nb:\n  - "x"\n  - k:   [w, z]\n', 'f', places)
        self.assertEqual(places, {(): ('f', 1, 1), ('a',): ('f', 1, 1), ('b',): ('f', 2, 1), ('b', 0): ('f', 3, 3),
                                  ('b', 1): ('f', 4, 3), ('b', 1, 'k'): ('f', 4, 5)})

    def test_any_text_is_read_or_refused(self):
        """Broken versions of good texts: a value or a UserError with a position, never anything else."""
        good = [text for _, text, _ in cases(READ, '.json') + cases(REFUSED, '.txt')]
        pieces = list(' \n:-#[]{},"\'\\\t&*!|>%@`?~\x00\ufeff\x85\ud800é0') + ['- ', ': ', ' #', '---', '\r\n', '  ', '<<']
        dice = random.Random(20)
        for _ in range(3000):
            text = dice.choice(good)
            for _ in range(dice.randint(1, 4)):
                at = dice.randint(0, len(text))
                text = text[:at] + dice.choice(pieces) + text[at + dice.choice((0, 0, 1, 5)):]
            try:
                check.Budgets(text, 'b', HOME)
            except UserError as error:
                self.assertRegex(str(error), r'^b:[1-9]\d*:[1-9]\d*: ', repr(text))
            except Exception as error:
                self.fail('%r for %r' % (error, text))


class Reading(unittest.TestCase):
    def test_the_shipped_file_arms_nothing(self):
        budgets = check.Budgets(read_text(ROOT, 'budgets.yaml'))
        self.assertEqual((budgets.entries, budgets.default), ((), None))

    def test_the_shipped_file_without_its_comment_signs_shows_every_default(self):
        text = re.sub(r'(?m)^#(?=\S|  )', '', read_text(ROOT, 'budgets.yaml'))
        budgets = check.Budgets(text, home=HOME)
        acme, globex, website = budgets.entries
        hundred = 100 * 10 ** 6
        self.assertEqual((acme.caps, acme.grace_pct, acme.halt_pct), ((('month', 200 * PICO),), hundred, hundred))
        self.assertEqual([e.arm for e in budgets.entries], ['acme', 'globex', 'website'])
        self.assertEqual([window for window, _ in globex.caps], ['day', 'week', 'month', 'total'])
        unsaid = budgets_of('budgets:', listed('x')).entries[0]
        for field in ('alert_pct', 'grace_pct', 'halt_pct', 'action', 'rate_pct', 'markup_pct'):
            self.assertEqual(getattr(globex, field), getattr(unsaid, field), field)
        self.assertEqual((unsaid.alert_pct, unsaid.grace_pct, unsaid.halt_pct), (80 * 10 ** 6, 110 * 10 ** 6, 150 * 10 ** 6))
        self.assertEqual(budgets.halt_signal, 'once')
        self.assertEqual((budgets.default.caps, budgets.default.action), ((('month', 100 * PICO),), 'warn'))
        self.assertEqual((budgets.timezone, budgets.on_error), ('local', 'deny'))
        for key in list(check.SHAPES['FILE']) + list(check.SHAPES['ENTRY']):
            self.assertRegex(text, r'(?m)\b%s:' % key)

    def test_octorato_arms(self):
        budgets = check.Budgets(read_text(READ, 'octorato-arms.yaml'))
        self.assertEqual(
            [(e.arm, e.caps, e.action, e.grace_pct) for e in budgets.entries + (budgets.default,)],
            [('client-x', (('month', 200 * PICO),), 'hard_stop', 110 * 10 ** 6),
             ('home', (('month', 50 * PICO),), 'alert', 110 * 10 ** 6),
             (None, (('month', 100 * PICO),), 'warn', 120 * 10 ** 6)])

    def test_octorato_spend_json(self):
        budgets = check.Budgets(read_text(READ, 'octorato-spend-json.yaml'), home=HOME)
        self.assertEqual(budgets.spend_json, '/home/op/.claude/spend.json')
        self.assertEqual([one.path for one in budgets.entries[0].patterns], ['/nonexistent/fixture-hot'])
        self.assertEqual(budgets.entries[0].grace_pct, 100 * 10 ** 6)

    def test_nothing_is_armed(self):
        for text in ('', '# nothing\n', 'budgets:\n', 'budgets: []\n', 'budgets:\ndefault:\n', '---\n', 'on_error: allow\n'):
            with self.subTest(text):
                budgets = check.Budgets(text)
                self.assertEqual((budgets.entries, budgets.default), ((), None))

    def test_values(self):
        for line, field, expected in [
                ('daily_usd_cap: 0', 'caps', (('day', 0),)),
                ('monthly_usd_cap: 0.000001', 'caps', (('month', 10 ** 6),)),
                ('monthly_usd_cap: 1234.56', 'caps', (('month', 1234560000000000),)),
                ('weekly_usd_cap: 7\n  daily_usd_cap: 1', 'caps', (('day', PICO), ('week', 7 * PICO))),
                ('total_usd_cap: 5\n  alert_pct: 82.5', 'alert_pct', 82500000),
                ('total_usd_cap: 5\n  halt_pct: never', 'halt_pct', None),
                ('total_usd_cap: 5\n  grace_pct: 200', 'halt_pct', 200 * 10 ** 6),
                ('total_usd_cap: 5\n  grace_pct: 150\n  halt_pct: 150', 'halt_pct', 150 * 10 ** 6),
                ('total_usd_cap: 5\n  rate_pct: 62.5', 'rate_pct', 62500000),
                ('total_usd_cap: 5\n  notify: mail me', 'notify', 'mail me'),
                ('total_usd_cap: 5', 'action', 'hard_stop')]:
            with self.subTest(line):
                self.assertEqual(getattr(budgets_of('default:', '  ' + line).default, field), expected)

    def test_top_values(self):
        budgets = budgets_of('timezone: UTC', 'on_error: allow', 'expensive_tools: [Agent, "mcp__*"]', 'notify: wall')
        self.assertEqual((budgets.timezone, budgets.on_error, budgets.expensive_tools, budgets.notify, budgets.halt_signal),
                         ('UTC', 'allow', ['Agent', 'mcp__*'], 'wall', 'once'))
        self.assertEqual(budgets_of('halt_signal: never').halt_signal, 'never')


class Files(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = os.path.realpath(self.temporary.name)
        self.addCleanup(self.temporary.cleanup)

    def write(self, name, content=b''):
        path = os.path.join(self.folder, *name.split('/'))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as stream:
            stream.write(content)
        return path

    def test_what_cannot_be_read(self):
        for name, content, message in [
                ('binary', b'budgets:\n  - arm: \xff\xfe\x00', ':2: is not UTF-8 text: save it as UTF-8'),
                ('utf-16', 'budgets:'.encode('utf-16'), ':1: is not UTF-8 text: save it as UTF-8'),
                ('large', b'# ' * (1 << 20), ': is larger than 1024 KiB: is it the right file?')]:
            with self.subTest(name):
                path = self.write(name, content)
                with self.assertRaises(UserError) as caught:
                    check.load_budgets(path, HOME)
                self.assertEqual(str(caught.exception), path + message)

    def test_what_is_no_file(self):
        os.symlink('loop', os.path.join(self.folder, 'loop'))
        os.mkfifo(os.path.join(self.folder, 'pipe'))
        for name, message in [('', 'cannot be read: it is not a plain file'), ('absent', 'cannot be read: No such file'),
                              ('loop', 'cannot be read: .*(symbolic links|link)'), ('pipe', 'it is not a plain file')]:
            with self.subTest(name), self.assertRaisesRegex(UserError, message):
                check.load_budgets(os.path.join(self.folder, name), HOME)

    def test_where_it_is_looked_for(self):
        beside, at_home, named = [self.write(name, b'default:\n  daily_usd_cap: 1\n') for name in (
            'scripts/budgets.yaml', 'home/.claude/budgets.yaml', 'named.yaml')]
        scripts, home, nowhere = (os.path.join(self.folder, name) for name in ('scripts', 'home', 'nowhere'))
        for explicit, environ, script_dir, home_dir, expected in [
                (named, {'ARMLEDGER_BUDGETS': beside}, scripts, home, named),
                (None, {'ARMLEDGER_BUDGETS': named}, scripts, home, named),
                (None, {'ARMLEDGER_BUDGETS': ''}, scripts, home, beside),
                (None, {'ARMLEDGER_BUDGETS': '~/.claude/budgets.yaml'}, scripts, home, at_home),
                (None, {}, scripts, home, beside),
                (None, {}, nowhere, home, at_home),
                (None, {}, nowhere, nowhere, None)]:
            with self.subTest(expected=expected, environ=environ):
                self.assertEqual(check.find_budgets(explicit, environ, script_dir, home_dir), expected)

    def test_the_first_that_sets_a_cap(self):
        scripts, home = os.path.join(self.folder, 'scripts'), os.path.join(self.folder, 'home')
        capped, bare = b'default:\n  monthly_usd_cap: 5\n', b'#default:\n#  monthly_usd_cap: 5\nbudgets:\n'
        for beside, at_home, first in [
                (bare, capped, False), (capped, capped, True), (bare, bare, True), (b'', capped, True), (b'\xff', capped, True),
                (bare, b'', False), (b'x: &a _usd_cap', bare, True)]:
            paths = self.write('scripts/budgets.yaml', beside), self.write('home/.claude/budgets.yaml', at_home)
            with self.subTest(beside=beside, at_home=at_home):
                self.assertEqual(check.find_budgets(None, {}, scripts, home), paths[0 if first else 1])

    def test_a_file_of_nothing_is_half_a_file(self):
        with self.assertRaisesRegex(UserError, 'is empty: was it cut off'):
            check.load_budgets(self.write('empty'), HOME)
        self.assertFalse(check.load_budgets(self.write('said', b'budgets: []\n'), HOME).armed())

    def test_no_file_is_named_to_switch_caps_off(self):
        """$ARMLEDGER_BUDGETS=/dev/null in a client's settings must not silence the gate."""
        with self.assertRaisesRegex(UserError, '/dev/null: cannot be read: it is not a plain file'):
            check.load_budgets('/dev/null', HOME)

    def test_never_in_the_working_folder(self):
        self.write('repo/budgets.yaml')
        before = os.getcwd()
        os.chdir(os.path.join(self.folder, 'repo'))
        self.addCleanup(os.chdir, before)
        self.assertIsNone(check.find_budgets(None, {}, self.folder, self.folder))
        with self.assertRaisesRegex(UserError, 'depends on the working folder: write an absolute path'):
            check.find_budgets(None, {'ARMLEDGER_BUDGETS': 'budgets.yaml'}, self.folder, self.folder)

    def test_a_named_file_must_be_there(self):
        absent = os.path.join(self.folder, 'absent.yaml')
        for explicit, environ, by in [(absent, {}, '--budgets'), (None, {'ARMLEDGER_BUDGETS': absent}, '$ARMLEDGER_BUDGETS')]:
            with self.subTest(by), self.assertRaises(UserError) as caught:
                check.find_budgets(explicit, environ, self.folder, self.folder)
            self.assertEqual(str(caught.exception), '%s: no such file; it is named by %s' % (absent, by))

    def test_a_dangling_link_is_not_no_file(self):
        os.symlink('nowhere', os.path.join(self.folder, 'budgets.yaml'))
        self.assertEqual(check.find_budgets(None, {}, self.folder, self.folder), os.path.join(self.folder, 'budgets.yaml'))


MIDDLE = utc(2025, 6, 16)                                          # half of a month of 30 days has gone


class Verdicts(unittest.TestCase):
    def setUp(self):
        zone = os.environ.get('TZ')
        self.addCleanup(set_back, zone)
        check.set_zone('UTC')

    def judge(self, lines, spent, now=MIDDLE, **more):
        entry = budgets_of('default:', *['  ' + line for line in lines]).default
        return check.judge(entry, {window: check.money(usd) for window, usd in spent.items()}, now, **more)

    def test_tiers(self):
        month = ['monthly_usd_cap: 200.00']
        for lines, spent, tier, verdict in [
                (month, '0', 'ok', 'OK'), (month, '159.999999', 'ok', 'OK'), (month, '160', 'alert', 'ALERT'),
                (month, '199.999999', 'alert', 'ALERT'), (month, '199.999999999999', 'alert', 'ALERT'),
                (month, '200', 'warn', 'WARN'), (month, '219.999999', 'warn', 'WARN'),
                (month, '220', 'hard_stop', 'HARD_STOP'), (month, '299.999999', 'hard_stop', 'HARD_STOP'),
                (month, '300', 'halt', 'HARD_STOP'), (month, '9999', 'halt', 'HARD_STOP'),
                (month + ['action_on_breach: alert'], '9999', 'alert', 'ALERT'),
                (month + ['action_on_breach: warn'], '9999', 'warn', 'WARN'),
                (month + ['action_on_breach: warn'], '160', 'alert', 'ALERT'),
                (month + ['halt_pct: never'], '9999', 'hard_stop', 'HARD_STOP'),
                (month + ['grace_pct: 100'], '200', 'hard_stop', 'HARD_STOP'),
                (month + ['grace_pct: 100', 'halt_pct: 100'], '200', 'halt', 'HARD_STOP'),
                (month + ['alert_pct: 100'], '199.999999', 'ok', 'OK'),
                (month + ['alert_pct: 82.5'], '164.999999', 'ok', 'OK'),
                (month + ['alert_pct: 82.5'], '165', 'alert', 'ALERT'),
                (month + ['rate_pct: 50'], '399.999999', 'alert', 'ALERT'), (month + ['rate_pct: 50'], '400', 'warn', 'WARN'),
                (month + ['rate_pct: 33.333333'], '600', 'alert', 'ALERT'),
                (month + ['rate_pct: 33.333334'], '600', 'warn', 'WARN'),
                (['monthly_usd_cap: 0'], '0', 'halt', 'HARD_STOP'),
                (['monthly_usd_cap: 0', 'action_on_breach: warn'], '0', 'warn', 'WARN'),
                (['monthly_usd_cap: 0.07', 'grace_pct: 107'], '0.074899', 'warn', 'WARN'),
                (['monthly_usd_cap: 0.07', 'grace_pct: 107'], '0.0749', 'hard_stop', 'HARD_STOP')]:
            with self.subTest(lines=lines, spent=spent):
                found = self.judge(lines, {'month': spent})
                self.assertEqual((found.tier, found.verdict), (tier, verdict))

    def test_the_worst_cap(self):
        lines = ['daily_usd_cap: 10', 'monthly_usd_cap: 100', 'total_usd_cap: 1000']
        for spent, worst, tier in [
                ({'day': '5', 'month': '20', 'total': '100'}, 'day', 'ok'),
                ({'day': '5', 'month': '60', 'total': '100'}, 'month', 'ok'),
                ({'day': '8', 'month': '90', 'total': '100'}, 'month', 'alert'),
                ({'day': '9', 'month': '100', 'total': '100'}, 'month', 'warn'),
                ({'day': '12', 'month': '300', 'total': '5000'}, 'total', 'halt'),
                ({'day': '9', 'month': '90', 'total': '900'}, 'day', 'alert'),
                ({}, 'day', 'ok')]:
            with self.subTest(spent=spent):
                found = self.judge(lines, spent)
                self.assertEqual((found.worst.window, found.tier), (worst, tier))
                self.assertEqual([each.window for each in found.windows], ['day', 'month', 'total'])

    def test_the_figures_of_a_window(self):
        found = self.judge(['monthly_usd_cap: 100'], {'month': '60'}).worst
        self.assertEqual(
            (found.start, found.spent, found.cap, found.grace, found.halt, found.pct, found.left),
            (utc(2025, 6, 1), 60 * PICO, 100 * PICO, 110 * PICO, 150 * PICO, 60 * 10 ** 6, 40 * PICO))

    def test_projections(self):
        """$60 in 15 of 30 days are $4 a day: $100 are reached after 25 days, and $120 at the end."""
        month = ['monthly_usd_cap: 100']
        for lines, spent, now, began, cap_at, projected in [
                (month, {'month': '60'}, MIDDLE, None, utc(2025, 6, 26), '120'),
                (month, {'month': '50'}, MIDDLE, None, None, '100'),
                (month, {'month': '100'}, MIDDLE, None, None, '200'),
                (month, {'month': '0'}, MIDDLE, None, None, '0'),
                (month, {'month': '60'}, utc(2025, 6, 1), None, None, None),
                (['total_usd_cap: 100'], {'total': '60'}, MIDDLE, None, None, None),
                (['total_usd_cap: 100'], {'total': '60'}, MIDDLE, utc(2025, 6, 1), utc(2025, 6, 26), None)]:
            with self.subTest(lines=lines, spent=spent, now=now):
                found = self.judge(lines, spent, now=now, began_ms=began).worst
                self.assertEqual((found.cap_at, found.projected), (cap_at, projected and check.money(projected)))


class Figures(unittest.TestCase):
    def test_money(self):
        for text, expected in [('0', 0), ('200', 200 * PICO), ('200.00', 200 * PICO), ('0.000000000001', 1),
                               ('1.5', 1500000000000), ('', None), ('.5', None), ('5.', None), ('-1', None), ('1e3', None),
                               ('1_0', None), (' 1', None), ('٣', None), ('0.0000000000001', None), ('nan', None)]:
            with self.subTest(text):
                try:
                    self.assertEqual(check.money(text), expected)
                except ValueError:
                    self.assertIsNone(expected)

    def test_format_usd(self):
        for usd, options, expected in [
                ('0', {}, '0.00'), ('1234.5', {}, '1234.50'), ('1234567.891', {'thousands': True}, '1,234,567.89'),
                ('0.005', {}, '0.00'), ('0.015', {}, '0.02'), ('0.025', {}, '0.02'), ('0.025000000001', {}, '0.03'),
                ('0.5', {'places': 0}, '0'), ('1.5', {'places': 0}, '2'), ('999.995', {'thousands': True}, '1,000.00'),
                ('0.1234567', {'places': 6}, '0.123457')]:
            with self.subTest(usd, **options):
                self.assertEqual(check.format_usd(check.money(usd), **options), expected)
        self.assertEqual(check.format_usd(-1500 * PICO, thousands=True), '-1,500.00')
        self.assertEqual(check.format_usd(-1), '0.00')
        for usd, expected in [('31.07', '$31.07'), ('1234.5', '$1234.50'), ('0.0042', '$0.0042'), ('0', '$0.00')]:
            self.assertEqual(check.dollars(check.money(usd)), expected)
        self.assertEqual(check.dollars(-3107 * PICO // 100), '-$31.07')
        self.assertEqual(check.dollars(-PICO // 200), '-$0.0050')

    def test_format_percent(self):
        for millionths, places, expected in [(0, 0, '0'), (99999999, 0, '99'), (99999999, 1, '99.9'), (10 ** 8, 1, '100.0'),
                                             (82500000, 1, '82.5')]:
            with self.subTest(millionths):
                self.assertEqual(check.format_percent(millionths, places), expected)


if __name__ == '__main__':
    unittest.main()
