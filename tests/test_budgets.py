"""budgets.yaml, from its text to the verdict: what is read, what is refused, whose place it is, and when."""
import json
import os
import random
import re
import tempfile
import time
import unittest
from calendar import timegm

from support import DATA, ROOT, load_script

check = load_script('budget-check.py')
UserError, PICO, Place = check.UserError, check.PICO, check.Place
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
    return check.parse_budgets('\n'.join(lines) + '\n', 'budgets.yaml', home)


def listed(arm, *paths, more='    monthly_usd_cap: 5\n'):
    """The text of an entry."""
    return '  - arm: %s\n%s%s' % (arm, '    paths: [%s]\n' % ', '.join('"%s"' % p for p in paths) if paths else '', more)


def utc(*fields):
    """Milliseconds of a UTC time: year, month, day, hour, minute."""
    return timegm((fields + (0, 0, 0))[:6]) * 1000


class Refusals(unittest.TestCase):
    def test_there_are_cases(self):
        self.assertGreater(len(cases(REFUSED, '.txt')), 100)

    def test_each_message(self):
        for name, text, message in cases(REFUSED, '.txt'):
            with self.subTest(name):
                with self.assertRaises(UserError) as caught:
                    check.parse_budgets(text, 'budgets.yaml', HOME)
                self.assertEqual(str(caught.exception) + '\n', message)

    def test_a_refusal_names_the_file_it_is_about(self):
        with self.assertRaises(UserError) as caught:
            check.parse_budgets('a: 1\n', '/etc/b.yaml', HOME)
        self.assertEqual((caught.exception.name, caught.exception.line, caught.exception.column), ('/etc/b.yaml', 1, 1))

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
            self.assertEqual(str(caught.exception), 'budgets.yaml:1:11: ' + message)

    def test_a_machine_without_time_zones(self):
        folders, check.ZONE_FOLDERS = check.ZONE_FOLDERS, ()
        try:
            self.assertEqual(budgets_of('timezone: UTC').timezone, 'UTC')
            if hasattr(time, 'tzset'):
                with self.assertRaisesRegex(UserError, 'no time zone database: install tzdata, or write local or UTC'):
                    budgets_of('timezone: Europe/Berlin')
        finally:
            check.ZONE_FOLDERS = folders


class Yaml(unittest.TestCase):
    def test_there_are_cases(self):
        self.assertGreater(len(cases(READ, '.json')), 5)

    def test_each_text_reads_as_recorded(self):
        for name, text, recorded in cases(READ, '.json'):
            with self.subTest(name):
                # Numbers with decimals stay text, as they are written.
                self.assertEqual(check.parse_yaml(text), json.loads(recorded, parse_float=str))

    def test_types(self):
        found = check.parse_yaml('a: 5\nb: 5.0\nc: true\nd: "5"\n')
        self.assertEqual([type(value) for value in found.values()], [int, check.Number, bool, str])

    def test_values_know_where_they_stand(self):
        found = check.parse_yaml('a: 1\nb:\n  - "x"\n  - k:   [w, z]\n')
        self.assertEqual(found.at, {'a': (1, 1), 'b': (2, 1)})
        self.assertEqual(found.value_at, {'a': (1, 4), 'b': (2, 1)})
        self.assertEqual(found['b'].value_at, [(3, 5), (4, 5)])
        self.assertEqual(found['b'][1]['k'].value_at, [(4, 11), (4, 14)])

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
                check.parse_budgets(text, 'b', HOME)
            except UserError as error:
                self.assertTrue(error.line and error.column, repr(text))
            except Exception as error:
                self.fail('%r for %r' % (error, text))


class Reading(unittest.TestCase):
    def test_the_shipped_file_arms_nothing(self):
        budgets = check.parse_budgets(read_text(ROOT, 'budgets.yaml'))
        self.assertEqual((budgets.entries, budgets.default), ((), None))

    def test_the_shipped_file_without_its_comment_signs_shows_every_default(self):
        text = re.sub(r'(?m)^#(?=\S|  )', '', read_text(ROOT, 'budgets.yaml'))
        budgets = check.parse_budgets(text, home=HOME)
        acme, globex, website = budgets.entries
        self.assertEqual([e.arm for e in budgets.entries], ['acme', 'globex', 'website'])
        self.assertEqual([window for window, _ in globex.caps], ['day', 'week', 'month', 'total'])
        for field in ('alert_pct', 'grace_pct', 'halt_pct', 'action', 'rate_pct', 'markup_pct'):
            self.assertEqual(getattr(globex, field), getattr(acme, field), field)
        self.assertEqual((budgets.default.caps, budgets.default.action), ((('month', 100 * PICO),), 'warn'))
        self.assertEqual((budgets.timezone, budgets.on_error), ('local', 'deny'))
        for key in check.TOP_KEYS + check.ENTRY_KEYS:
            self.assertRegex(text, r'(?m)\b%s:' % key)

    def test_octorato_arms(self):
        budgets = check.parse_budgets(read_text(READ, 'octorato-arms.yaml'))
        self.assertEqual(
            [(e.arm, e.caps, e.action, e.grace_pct) for e in budgets.entries + (budgets.default,)],
            [('client-x', (('month', 200 * PICO),), 'hard_stop', 110 * 10 ** 6),
             ('home', (('month', 50 * PICO),), 'alert', 110 * 10 ** 6),
             (None, (('month', 100 * PICO),), 'warn', 120 * 10 ** 6)])

    def test_octorato_spend_json(self):
        budgets = check.parse_budgets(read_text(READ, 'octorato-spend-json.yaml'), home=HOME)
        self.assertEqual(budgets.spend_json, '/home/op/.claude/spend.json')
        self.assertEqual(budgets.entries[0].paths, ('/nonexistent/fixture-hot',))
        self.assertEqual(budgets.entries[0].grace_pct, 100 * 10 ** 6)

    def test_nothing_is_armed(self):
        for text in ('', '# nothing\n', 'budgets:\n', 'budgets: []\n', 'budgets:\ndefault:\n', '---\n', 'on_error: allow\n'):
            with self.subTest(text):
                budgets = check.parse_budgets(text)
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
        self.assertEqual((budgets.timezone, budgets.on_error, budgets.expensive_tools, budgets.notify),
                         ('UTC', 'allow', ('Agent', 'mcp__*'), 'wall'))


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
                ('binary', b'budgets:\n  - arm: \xff\xfe\x00', ':2:10: is not UTF-8 text: save it as UTF-8'),
                ('utf-16', 'budgets:'.encode('utf-16'), ':1:1: is UTF-16: save it as UTF-8'),
                ('large', b'# ' * (1 << 20), ': is larger than 1024 KiB: is it the right file?')]:
            with self.subTest(name):
                path = self.write(name, content)
                with self.assertRaises(UserError) as caught:
                    check.load_budgets(path, HOME)
                self.assertEqual(str(caught.exception), path + message)

    def test_what_is_no_file(self):
        os.symlink('loop', os.path.join(self.folder, 'loop'))
        os.mkfifo(os.path.join(self.folder, 'pipe'))
        for name, message in [('', 'is a folder: a file is expected'), ('absent', 'cannot be read: No such file'),
                              ('loop', 'cannot be read: .*(symbolic links|link)'), ('pipe', 'is not a plain file'),
                              ('nul\0', 'cannot be read: ')]:
            with self.subTest(name), self.assertRaisesRegex(UserError, message):
                check.load_budgets(os.path.join(self.folder, name), HOME)

    def test_where_it_is_looked_for(self):
        beside, at_home, named = [self.write(name) for name in (
            'scripts/budgets.yaml', 'home/.claude/budgets.yaml', 'named.yaml')]
        scripts, home, nowhere = (os.path.join(self.folder, name) for name in ('scripts', 'home', 'nowhere'))
        for explicit, environ, script_dir, home_dir, expected in [
                (named, {'ARMLEDGER_BUDGETS': beside}, scripts, home, named),
                (None, {'ARMLEDGER_BUDGETS': named}, scripts, home, named),
                (None, {'ARMLEDGER_BUDGETS': ''}, scripts, home, beside),
                (None, {'ARMLEDGER_BUDGETS': '~/.claude/budgets.yaml'}, scripts, home, at_home),
                (None, {}, scripts, home, beside),
                (None, {}, nowhere, home, at_home),
                (None, {}, nowhere, nowhere, None),
                (None, {}, nowhere, None, None)]:
            with self.subTest(expected=expected, environ=environ):
                self.assertEqual(check.find_budgets(explicit, environ, script_dir, home_dir), expected)

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
        self.assertEqual(check.find_budgets(None, {}, self.folder, None), os.path.join(self.folder, 'budgets.yaml'))


class Arms(unittest.TestCase):
    """Places that are not on this machine: their real path is the one that is given."""

    def arm_of(self, budgets, cwd, root=None, is_repo=True, path=None):
        arm = check.match_arm(budgets, Place(cwd, path or cwd, root or path or cwd, is_repo))
        return arm and arm.name

    def test_folder_boundaries_and_the_longest_path(self):
        budgets = budgets_of('budgets:', listed('acme', '/clients/acme'), listed('acme-web', '/clients/acme-web'),
                             listed('inner', '/clients/acme/inner/'), listed('dotted', '/clients/acme.web'),
                             listed('homed', '~/acme'), listed('two', '/x/one', '/x/two'))
        for cwd, expected in [
                ('/clients/acme', 'acme'), ('/clients/acme/src', 'acme'), ('/clients/acme-web', 'acme-web'),
                ('/clients/acme-webs', None), ('/clients/acme.web/a', 'dotted'), ('/clients/acm', None),
                ('/clients/acme/inner', 'inner'), ('/clients/acme/inner/a/b', 'inner'), ('/clients/acme/innermost', 'acme'),
                ('/other/acme', None), ('/home/op/acme/x', 'homed'), ('/x/one/a', 'two'), ('/x/two', 'two'), ('/x', None),
                ('/', None), ('(unattributed)', None), ('', None)]:
            with self.subTest(cwd):
                self.assertEqual(self.arm_of(budgets, cwd), expected)

    def test_patterns(self):
        for pattern, holds, not_holds in [
                ('/c/acme-*', ['/c/acme-', '/c/acme-web/src'], ['/c/acme', '/c/x/acme-web']),
                ('/c/*', ['/c/a', '/c/.hidden/b'], ['/c', '/d/a']),
                ('/c/a?', ['/c/ab/c'], ['/c/a', '/c/abc']),
                ('/c/[ab]x', ['/c/ax', '/c/bx/y'], ['/c/cx', '/c/[ab]x']),
                ('/c/[!ab]x', ['/c/cx'], ['/c/ax']),
                ('/c/[a-c]', ['/c/b'], ['/c/d']),
                ('/c/[]x]', ['/c/]', '/c/x'], ['/c/[']),
                ('/c/[[]x', ['/c/[x'], ['/c/x']),
                ('/c/[^a]', ['/c/^', '/c/a'], ['/c/b']),
                ('/c/*/src', ['/c/a/src/b'], ['/c/src', '/c/a/b/src']),
                ('/c/**/src', ['/c/src', '/c/a/b/src/d'], ['/c/a', '/c/a/srcs']),
                ('/c/**', ['/c', '/c/a/b'], ['/cc', '/']),
                ('/c/a+b.*', ['/c/a+b.x'], ['/c/aab.x', '/c/a+bx'])]:
            budgets = budgets_of('budgets:', listed('it', pattern))
            for path in holds + not_holds:
                with self.subTest(pattern, path=path):
                    self.assertEqual(self.arm_of(budgets, path), 'it' if path in holds else None)

    def test_the_narrowest_wins(self):
        """Of two patterns that hold a folder, in either order of the file."""
        for wins, loses, path in [
                ('/c/acme', '/c/*', '/c/acme/src'), ('/c/*/src', '/c/acme', '/c/acme/src'),
                ('/c/acme', '/c/**', '/c/acme/a/b/c'), ('/c/a*', '/c/*', '/c/acme'), ('/c/**/src', '/c/**', '/c/a/src'),
                ('/c/acme/*', '/*/acme/src', '/c/acme/src'), ('/c', '/', '/c/x')]:
            for order in (wins, loses), (loses, wins):
                budgets = budgets_of('budgets:', *[listed('wins' if p == wins else 'loses', p) for p in order])
                with self.subTest(wins=wins, loses=loses):
                    self.assertEqual(self.arm_of(budgets, path), 'wins')

    def test_recorded_folder_then_main_repo(self):
        budgets = budgets_of('budgets:', listed('acme', '/clients/acme'), listed('beta', '/clients/beta'))
        for cwd, path, root, expected in [
                ('/clients/acme', '/mnt/elsewhere', '/mnt/elsewhere', 'acme'),         # a link that has been turned
                ('/tmp/tree', '/tmp/tree', '/clients/acme', 'acme'),                   # a worktree outside of the arm
                ('/clients/beta/tree', '/clients/beta/tree', '/clients/acme', 'beta'),
                ('/clients/acme', '/clients/beta', '/clients/beta', 'beta')]:          # where it really lies
            with self.subTest(cwd=cwd, path=path):
                self.assertEqual(self.arm_of(budgets, cwd, root, True, path), expected)

    def test_an_arm_around_a_worktree_and_its_repo_gives_way(self):
        budgets = budgets_of('budgets:', listed('all', '~'), listed('acme', '~/clients/acme'))
        for path, root, expected in [('/home/op/.trees/a1', '/home/op/clients/acme', 'acme'),
                                     ('/home/op/.trees/b1', '/home/op/clients/beta', 'all'),
                                     ('/home/op/clients/acme/x', '/home/op/clients/acme', 'acme')]:
            with self.subTest(path):
                self.assertEqual(self.arm_of(budgets, path, root), expected)

    def test_entries_without_a_path(self):
        budgets = budgets_of('budgets:', listed('acme'), listed('all', '/home/op'), listed('deep', '/home/op/acme/deep'))
        for path, root, expected in [('/w/acme/src', '/w/acme', 'acme'), ('/w/acme-web', '/w/acme-web', None),
                                     ('/home/op/acme/src', '/home/op/acme', 'acme'), ('/home/op/x', '/home/op/x', 'all'),
                                     ('/home/op/acme/deep/a', '/home/op/acme', 'deep'), ('/tmp/tree', '/w/acme', 'acme'),
                                     ('/w/x/acme', '/w/x', None), ('C:\\w\\Acme\\src', 'C:\\w\\Acme', 'acme')]:
            with self.subTest(path):
                self.assertEqual(self.arm_of(budgets, path, root), expected)

    def test_windows_paths(self):
        budgets = budgets_of('budgets:', listed('acme', 'c:/users/me/Acme'), "  - arm: back\n    path: D:\\code\\b",
                             '    monthly_usd_cap: 5', listed('wild', 'c:/users/*/wild'))
        for cwd, expected in [('C:\\Users\\me\\acme', 'acme'), ('c:\\users\\ME\\acme\\src', 'acme'),
                              ('C:\\Users\\me\\acme-web', None), ('C:/Users/me/ACME/', 'acme'), ('d:/code/b/c', 'back'),
                              ('C:\\Users\\You\\Wild\\x', 'wild'), ('/users/me/acme', None),
                              ('\\\\?\\C:\\Users\\me\\acme', 'acme')]:
            with self.subTest(cwd):
                self.assertEqual(self.arm_of(budgets, cwd), expected)

    def test_unlisted_places(self):
        budgets = budgets_of('budgets:', listed('acme', '/acme'), 'default:', '  daily_usd_cap: 1')
        arm = check.match_arm(budgets, Place('/other/src', '/other/src', '/other', True))
        self.assertEqual((arm.name, arm.listed, arm.root, arm.entry), ('/other', False, '/other', budgets.default))
        arm = check.match_arm(budgets, Place('/acme/src', '/acme/src', '/acme/src', False))
        self.assertEqual((arm.name, arm.listed, arm.root, arm.entry), ('acme', True, '/acme', budgets.entries[0]))

    def test_a_name_that_fits_two_repos(self):
        budgets = budgets_of('budgets:', listed('acme'), listed('here', '/here'), listed('beta'))
        place = {path: Place(path, path, path, True) for path in ('/a/acme', '/b/acme', '/here/acme', '/a/beta')}
        gone = Place('/gone/acme', '/gone/acme', '/gone/acme', False)
        message = 'budgets.yaml:2:5: arm acme has no path, and its name fits /a/acme and /b/acme: add the one that is ' \
                  'meant, as in "path: /a/acme"'
        for paths, arm, expected in [
                (['/a/acme', '/a/beta'], None, None), (['/a/acme', '/b/acme'], None, message),
                (['/a/acme', '/b/acme'], 'acme', message), (['/a/acme', '/b/acme'], 'beta', None)]:
            with self.subTest(paths=paths, arm=arm):
                try:
                    check.check_ambiguous(budgets, [place[path] for path in paths] + [gone], arm)
                    self.assertIsNone(expected)
                except UserError as error:
                    self.assertEqual(str(error), expected)
        budgets = budgets_of('budgets:', listed('acme'), listed('here', '/here/acme'))
        check.check_ambiguous(budgets, [place['/a/acme'], place['/here/acme']])

    def test_two_thousand_places_are_soon_told(self):
        budgets = budgets_of('budgets:', *[listed('a%d' % i, '/clients/a%d' % i) for i in range(50)], listed('w', '/w/*/x'))
        began = time.perf_counter()
        for i in range(2000):
            self.arm_of(budgets, '/clients/a%d/src/deep/er' % (i % 70))
        self.assertLess(time.perf_counter() - began, 2)


class Links(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = os.path.realpath(temporary.name)
        os.makedirs(self.folder + '/disk/op/clients/acme/src')
        os.makedirs(self.folder + '/disk/op/clients/acme-web')
        os.symlink('disk/op', self.folder + '/home')
        os.symlink('clients/acme', self.folder + '/home/current')

    def test_a_linked_home_and_linked_folders(self):
        for path, cwd in [('~/clients/acme', '/home/clients/acme/src'), ('~/clients/acme', '/home/current/src'),
                          ('~/current', '/disk/op/clients/acme'), ('~/clients/../current', '/home/clients/acme'),
                          ('~/clients/ac*[!b]', '/home/current'), ('~/./clients//acme', '/disk/op/clients/acme/src')]:
            budgets = budgets_of('budgets:', listed('acme', path), home=self.folder + '/home')
            cwd = self.folder + cwd
            place = Place(cwd, os.path.realpath(cwd), os.path.realpath(cwd), False)
            with self.subTest(path, cwd=cwd):
                self.assertEqual(check.match_arm(budgets, place).name, 'acme')

    def test_two_names_of_one_folder_are_one_path(self):
        with self.assertRaisesRegex(UserError, ':7:13: the path ~/current stands here twice, first on line 3'):
            budgets_of('budgets:', listed('a', '~/clients/acme'), listed('b', '~/current'), home=self.folder + '/home')


@unittest.skipUnless(HAS_ZONES, 'no time zone database')
class Windows(unittest.TestCase):
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
                self.assertEqual(check.window_bounds(window, now, zone), (start, end))
                self.assertEqual(check.window_start(window, now, zone), start)
                self.assertEqual(check.window_end(window, now, zone), end)

    def test_total_has_no_end(self):
        self.assertEqual(check.window_bounds('total', utc(2025, 1, 1), 'UTC'), (0, None))

    def test_windows_follow_each_other(self):
        """Also where a clock was set back over midnight: Goose Bay, from 00:01 to 23:01."""
        dice = random.Random(3)
        for zone, around in [('America/Goose_Bay', utc(2010, 11, 7, 3)), ('America/Havana', utc(2024, 11, 3, 5)),
                             ('Asia/Beirut', utc(2022, 3, 26, 22)), ('Africa/Casablanca', utc(2024, 3, 10, 2))]:
            for _ in range(20):
                now = around + dice.randint(-100000, 100000) * 1000 + dice.randint(0, 999)
                for window in ('day', 'week', 'month'):
                    check.WINDOW_MEMO.clear()
                    start, end = check.window_bounds(window, now, zone)
                    with self.subTest(zone, now=now, window=window):
                        self.assertLessEqual(start, now)
                        self.assertLess(now, end)
                        self.assertEqual(check.window_bounds(window, end, zone)[0], end)
                        self.assertEqual(check.window_bounds(window, start - 1, zone)[1], start)

    @unittest.skipUnless(hasattr(time, 'tzset'), 'the time zone of a process cannot be set here')
    def test_local_is_the_zone_of_the_machine(self):
        before = os.environ.get('TZ')
        try:
            for zone, start in [('Asia/Kathmandu', utc(2025, 1, 1, 18, 15)), ('America/New_York', utc(2025, 1, 1, 5))]:
                os.environ['TZ'] = zone
                time.tzset()
                self.assertEqual(check.window_start('day', utc(2025, 1, 1, 20), 'local'), start)
                self.assertEqual(check.window_start('day', utc(2025, 1, 1, 20), 'Europe/Berlin'), utc(2024, 12, 31, 23))
                self.assertEqual(os.environ['TZ'], zone)
                self.assertEqual(time.localtime(0)[:4], (1970, 1, 1, 5) if 'Asia' in zone else (1969, 12, 31, 19))
        finally:
            os.environ.pop('TZ') if before is None else os.environ.update(TZ=before)
            time.tzset()

    def test_format_time(self):
        for ms, zone, expected in [(utc(2025, 1, 1) + 999, 'UTC', '2025-01-01T00:00:00+00:00'),
                                   (utc(2025, 7, 1), 'Europe/Berlin', '2025-07-01T02:00:00+02:00'),
                                   (utc(2025, 1, 1), 'Asia/Kathmandu', '2025-01-01T05:45:00+05:45'),
                                   (utc(2025, 1, 1), 'America/New_York', '2024-12-31T19:00:00-05:00')]:
            with self.subTest(zone):
                self.assertEqual(check.format_time(ms, zone), expected)


MIDDLE = utc(2025, 6, 16)                                          # half of a month of 30 days has gone


class Verdicts(unittest.TestCase):
    def judge(self, lines, spent, reserved='0', now=MIDDLE, **more):
        entry = budgets_of('default:', *['  ' + line for line in lines]).default
        return check.judge(entry, {window: check.money(usd) for window, usd in spent.items()}, now, 'UTC',
                           check.money(reserved), **more)

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

    def test_reservations_count(self):
        found = self.judge(['monthly_usd_cap: 200', 'rate_pct: 50'], {'month': '399'}, reserved='1')
        self.assertEqual((found.tier, found.worst.spent, found.worst.reserved, found.worst.left),
                         ('warn', check.money('199.5'), check.money('0.5'), 0))

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
            (found.start, found.end, found.spent, found.cap, found.grace, found.halt, found.pct, found.left),
            (utc(2025, 6, 1), utc(2025, 7, 1), 60 * PICO, 100 * PICO, 110 * PICO, 150 * PICO, 60 * 10 ** 6, 40 * PICO))

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
        self.assertEqual(check.usd6(check.money('12.3456785')), '12.345678')

    def test_format_percent(self):
        for millionths, places, expected in [(0, 0, '0'), (99999999, 0, '99'), (99999999, 1, '99.9'), (10 ** 8, 1, '100.0'),
                                             (82500000, 1, '82.5')]:
            with self.subTest(millionths):
                self.assertEqual(check.format_percent(millionths, places), expected)


if __name__ == '__main__':
    unittest.main()
