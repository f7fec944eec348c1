"""The command line: its table and JSON, exit codes, and what it answers to a tired user."""
import json
import os
import re
import subprocess
import unittest

from homes import Home, spent_line
from support import ROOT, copy_scripts, load_script
from test_verdict import NOW, TEN_MILLION, VerdictCase, acme

script = load_script('budget-check.py')


class CliCase(VerdictCase):

    def spend(self, home, *lines, **more):
        home.folder('acme')
        super().spend(home, *lines, **more)


class OutputTest(CliCase):

    ARM = ['arm', 'path', 'tier', 'verdict', 'action_on_breach', 'spent_usd', 'cap_usd', 'grace_usd', 'untranscribed_usd',
           'assumed_usd', 'reserved_usd', 'windows']
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

    def test_the_next_tiers_are_told(self):
        # 110 % and 150 % of $200.00.
        for micro, said in ((0, 'from $220.00'), (200000000, 'from $220.00'), (230000000, 'from now on')):
            with self.subTest(micro), Home(acme('monthly_usd_cap: 200.00')) as home:
                self.spend(home, *(spent_line('m%d' % n, TEN_MILLION) for n in range(micro // TEN_MILLION)))
                out = home.main('--now', NOW).out
                self.assertIn(said, out)
                self.assertIn('from $300.00 everything', out)
        with Home(acme('monthly_usd_cap: 200.00\ngrace_pct: 100\nhalt_pct: 100')) as home:
            out = home.main('--now', NOW).out
            self.assertIn('from $200.00 everything is refused', out)
            self.assertNotIn('sub-agents', out)

    def test_an_arm_by_its_name_its_folder_and_below_it(self):
        with Home(acme('total_usd_cap: 1.00')) as home:
            self.spend(home, spent_line('a', 1200000))
            for arm in 'acme', home.at('acme'), home.at('acme/src'), '~/acme', '~/acme/':
                with self.subTest(arm):
                    self.assertEqual(home.main(arm, '--now', NOW).code, 2)

    def test_an_arms_output_names_no_other(self):
        budgets = 'timezone: UTC\nbudgets:\n' + ''.join(
            '  - arm: %s\n    path: ~/%s\n    total_usd_cap: 1.00\n' % (arm, arm) for arm in ('acme', 'umbrella')) + \
            '  - arm: ghost\n    path: ~/not/there\n    total_usd_cap: 1.00\n'
        with Home(budgets) as home:
            for arm, micro in ('acme', 1600000), ('umbrella', 1234567):
                home.log(arm, spent_line(arm, micro, session=arm, cwd=home.folder(arm)))
            everything = home.main('--now', NOW)
            for word in 'umbrella', 'ghost', '1.23':
                self.assertIn(word, everything.out + everything.err)
            for args in ('acme',), ('acme', '--json'):
                result = home.main(*args, '--now', NOW)
                for word in 'umbrella', 'ghost', '1.23':
                    self.assertNotIn(word, result.out + result.err)
                self.assertEqual(result.code, 2)

    def test_homes_that_nobody_reads_are_told_once(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1))
            self.assertEqual(home.main('--now', NOW).err, '')
            home.folder('.claude-work/projects')
            result = home.main('--now', NOW)
            self.assertEqual(sum('.claude-work' in line for line in (result.out + result.err).splitlines()), 1)
            self.assertIn('CLAUDE_CONFIG_DIR', result.err)

    def test_names_of_logs_never_reach_a_terminal_raw(self):
        with Home('default:\n  total_usd_cap: 1.00\n') as home:
            self.spend(home, spent_line('a', 1100000), name='x')
            home.log('y', spent_line('b', 1, cwd=home.folder('bad\033[31m\u202ename'), session='y'))
            out = home.main('--now', NOW).out
            self.assertNotIn('\033', out)
            self.assertNotIn('\u202e', out)
            self.assertIn('name', out)


class MistakeTest(CliCase):
    """Every mistake: exit 1, one line that says where and what to do; never 2, which is a hard stop, nor a traceback."""

    def mistake(self, home, words, *args, **more):
        result = home.main(*args, **more)
        self.assertEqual((result.code, result.out), (1, ''), result)
        self.assertTrue(result.err.startswith('budget-check: '), result.err)
        self.assertEqual(result.err.count('\n'), 1, result.err)
        for word in words:
            self.assertIn(word, result.err)

    def test_options(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1600000))
            for args, words in [(['--jsn'], ['--jsn', '--help']), (['--js'], ['--js', '--help']), (['--force'], ['--force', '--help']),
                                (['acme', 'beta'], ['beta', '--help']), (['--now'], ['--now', '--help']), (['--json=x'], ['--json', '--help']),
                                (['--now', 'yesterday'], ['--now yesterday is not a time', '2026-10-31T23:59:59Z']),
                                (['--now', '2026-02-31T00:00:00Z'], ['is not a time']),
                                (['--doctor', '--rebuild'], ['--help'])]:
                with self.subTest(args):
                    self.mistake(home, words, *args)

    def test_arms(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1600000))
            for arm, words in [('acne', ['acne', 'did you mean acme?']), ('', []), ('~/elsewhere', ['~/elsewhere', 'has a cap', home.budgets])]:
                with self.subTest(arm):
                    self.mistake(home, words, arm)

    def test_budgets(self):
        with Home() as home:
            self.mistake(home, ['no cap is set', 'make install'])
            for text, words in [('', ['budgets.yaml: is empty', 'budgets: []']), ('budgets:\n', ['no cap is set']),
                                ('arms:\n  acme:\n    cap: 5\n', ['budgets.yaml:1:1', 'budgets:']),
                                ('budgets:\n  - arm: acme\n    monthly_cap: 5\n', ['budgets.yaml:3:5', 'monthly_usd_cap']),
                                ('budgets:\n  - arm: acme\n\tmonthly_usd_cap: 5\n', ['budgets.yaml:3:1', 'tab'])]:
                with self.subTest(text):
                    home.write(home.budgets, text)
                    self.mistake(home, words)
            self.mistake(home, ['nowhere.yaml'], '--budgets', home.at('nowhere.yaml'))

    def test_prices_and_ledger(self):
        with Home(acme()) as home:
            self.mistake(home, ['nowhere.json'], '--prices', home.at('nowhere.json'))
            self.mistake(home, [home.path], '--ledger', home.write('text', 'no database at all, but text' * 100))


    @unittest.skipUnless(os.path.exists('/dev/full'), 'no /dev/full here')
    def test_a_full_disk(self):
        with Home(acme()) as home:
            self.spend(home, spent_line('a', 1600000))
            for args in (), ('--json',), ('--help',), ('--version',):
                with self.subTest(args), open('/dev/full', 'wb') as full:
                    done = subprocess.run(home.command('budget-check.py', *args), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                                          env=home.environ(ARMLEDGER_BUDGETS=home.budgets), timeout=60)
                    self.assertEqual((done.returncode, done.stderr), (1, b'budget-check: [Errno 28] No space left on device\n'))

    def test_a_reader_that_has_seen_enough(self):
        with Home(acme()) as home:
            reading, writing = os.pipe()
            os.close(reading)
            done = subprocess.run(home.command('budget-check.py', '--help'), stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE,
                                  env=home.environ(), timeout=60)
            os.close(writing)
            self.assertEqual((done.returncode, done.stderr), (1, b''))


class VersionTest(unittest.TestCase):

    def test_both_scripts_print_the_same_one(self):
        with Home(own_scripts=True) as home:
            copy_scripts(home.hooks, ['cost-report.py'])
            said = {home.run(name, '--version').out for name in ('budget-check.py', 'cost-report.py')}
            self.assertEqual(len(said), 1)
            self.assertRegex(said.pop(), r'^armledger \d+\.\d+\.\d+\n$')

    def test_the_scripts_can_be_executed(self):
        for name in 'budget-check.py', 'cost-report.py', 'pretooluse-hook.py':
            self.assertTrue(os.access(os.path.join(ROOT, name), os.X_OK), name)


if __name__ == '__main__':
    unittest.main()
