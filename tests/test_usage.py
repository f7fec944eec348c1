"""What a newcomer does first, and what he mistypes: an answer and the right exit code, never a traceback."""
import json
import os
import pickle
import shutil
import subprocess
import unittest

from homes import Home, spent_line
from support import ROOT, load_script

script = load_script('budget-check.py')
NOW = '2026-11-23T12:00:00Z'
ACME = 'timezone: UTC\nbudgets:\n  - arm: acme\n    path: ~/clients/acme\n    monthly_usd_cap: 1.00\n'
TWO = ACME + '  - arm: globex\n    path: ~/clients/globex\n    monthly_usd_cap: 1.00\n'


def as_nobody(function):
    """What `function` gives in a forked process of another user, who may do nothing; None if nobody can be that."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                os.setgid(65534)
                os.setuid(65534)
            except OSError:
                answer = None
            else:
                answer = function()
        except BaseException as error:                             # the parent shows it
            answer = repr(error)
        with os.fdopen(writing, 'wb') as stream:
            pickle.dump(answer, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, 'rb') as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(text)


class UsageCase(unittest.TestCase):

    def refused(self, result, *parts, code=1):
        """Exit 1, nothing on stdout, and one line on stderr that begins with the script's name."""
        self.assertEqual((result.code, result.out), (code, ''), result)
        self.assertRegex(result.err, r'\Abudget-check: [^\n]+\n\Z')
        self.assertNotIn('Traceback', result.err)
        for part in parts:
            self.assertIn(part, result.err)


NO_LOGS = 'budget-check: no session logs were found: is CLAUDE_CONFIG_DIR or CODEX_HOME what the agents have?\n'


class FirstStepsTest(UsageCase):

    def test_no_budgets(self):
        with Home(own_scripts=True) as home:
            self.refused(home.run('budget-check.py'), 'budgets.yaml', 'make install')
            self.assertFalse(os.path.exists(home.state))

    def test_budgets_as_shipped(self):
        with Home(own_scripts=True) as home:
            shutil.copy(os.path.join(ROOT, 'budgets.yaml'), home.hooks)
            self.refused(home.run('budget-check.py'), os.path.join(home.hooks, 'budgets.yaml'))

    def test_no_logs_yet(self):
        with Home(ACME) as home:
            home.folder('clients/acme')
            shutil.rmtree(home.at('.claude/projects'))
            result = home.main('--now', NOW)
            self.assertEqual((result.code, result.err), (0, NO_LOGS))
            self.assertRegex(result.out, r'acme +ok +0\.00 +1\.00')
            self.assertEqual(home.verdict('--now', NOW)['arms'][0]['spent_usd'], '0.000000')

    def test_no_logs_and_only_a_default(self):
        with Home('default:\n  monthly_usd_cap: 1.00\n') as home:
            result = home.main('--now', NOW)
            self.assertEqual((result.code, result.err), (0, NO_LOGS))
            self.assertNotEqual(result.out, '')
            self.assertEqual(home.verdict('--now', NOW)['arms'], [])
            self.assertEqual(home.verdict('--now', NOW)['status'], 'OK')

    def test_no_prices(self):
        with Home(ACME, own_scripts=True) as home:
            os.unlink(os.path.join(home.hooks, 'prices.json'))
            self.refused(home.run('budget-check.py'), 'prices.json')

    def test_budgets_beside_the_script_go_before_those_at_home(self):
        with Home(ACME, own_scripts=True) as home:
            home.write(os.path.join(home.hooks, 'budgets.yaml'), ACME.replace('acme', 'beside'))
            named = home.write('named.yaml', ACME.replace('acme', 'named'))
            by_environ = home.write('environ.yaml', ACME.replace('acme', 'environ'))
            for args, environ, arm in ((), {}, 'beside'), ((), {'ARMLEDGER_BUDGETS': by_environ}, 'environ'), \
                    (('--budgets', named), {'ARMLEDGER_BUDGETS': by_environ}, 'named'):
                with self.subTest(arm):
                    result = home.run('budget-check.py', '--json', *args, **environ)
                    self.assertEqual([one['arm'] for one in json.loads(result.out)['arms']], [arm])

    def test_never_budgets_of_the_working_folder_or_the_repo(self):
        with Home(ACME) as home:
            home.repo('clients/acme')
            for folder in 'clients/acme', 'clients/acme/.claude':
                home.write(folder + '/budgets.yaml', ACME.replace('1.00', '1000000'))
            home.log('s-1', spent_line('a', 1100000, cwd=home.at('clients/acme'), time=NOW))
            with subprocess.Popen(home.command('budget-check.py', '--now', NOW), stdout=subprocess.DEVNULL,
                                  env=home.environ(), cwd=home.at('clients/acme')) as process:
                self.assertEqual(process.wait(60), 2)

    def test_help(self):
        with Home() as home:
            result = home.run('budget-check.py', '--help')
            self.assertEqual((result.code, result.err), (0, ''))
            for part in '--json', '--rebuild', 'ARM', 'monthly_usd_cap', 'Exit codes':
                self.assertIn(part, result.out)


class MistakesTest(UsageCase):

    def test_mistyped_options(self):
        with Home(ACME) as home:
            home.log('s-1', spent_line('a', 9000000, cwd=home.at('clients/acme'), time=NOW))
            self.assertEqual(home.main('acme', '--now', NOW).code, 2)
            for args in (['--jsn'], ['-j'], ['acme', '--jsonn'], ['acme', 'globex'], ['--now'], ['--budgets'], ['--force'],
                         ['--json=yes'], ['--now', 'yesterday'], ['--now', '2026-11-31x'], ['--now', ''], ['--ledger']):
                with self.subTest(args):
                    self.refused(home.main(*args))
            result = home.run('budget-check.py', '--jsn')
            self.refused(result, '--jsn')

    def test_an_arm_that_does_not_exist(self):
        with Home(TWO) as home:
            for text, near in ('acne', 'acme'), ('Acme', 'acme'), ('glbex', 'globex'), ('acme ', 'acme'):
                with self.subTest(text):
                    self.refused(home.main(text), text, 'did you mean %s?' % near)
            self.refused(home.main('zzzzzz'), 'zzzzzz', 'budgets.yaml')
            self.refused(home.main(''))

    def test_names_that_a_terminal_must_not_see(self):
        with Home(ACME) as home:
            result = home.main('acme\033[2J\u202e\n')
            self.refused(result)
            self.assertNotIn('\033', result.err)
            self.assertNotIn('\u202e', result.err)

    def test_a_file_instead_of_a_folder(self):
        with Home(ACME) as home:
            path = home.write('clients/acme/README', 'x')
            self.refused(home.main(path), path, 'folder')

    def test_a_folder_that_does_not_exist(self):
        with Home(ACME) as home:
            self.refused(home.main(home.at('clients/nowhere')), 'clients/nowhere')

    def test_a_folder_of_no_arm(self):
        with Home(ACME) as home:
            self.refused(home.main(home.folder('elsewhere')), 'elsewhere', home.budgets)

    def test_files_that_are_no_files(self):
        with Home(ACME) as home:
            folder = home.folder('folder')
            self.refused(home.main('--budgets', folder), folder)
            self.refused(home.main('--prices', folder), folder)
            self.refused(home.main('--ledger', folder), folder)
            self.refused(home.main('--budgets', home.at('missing.yaml')), 'missing.yaml')
            self.refused(home.main('--prices', home.at('missing.json')), 'missing.json')
            self.refused(home.main('--ledger', home.write('file', 'x') + '/ledger.sqlite3'))
            self.refused(home.main(ARMLEDGER_HOME=home.at('file')))

    def test_broken_files_are_named_with_the_place(self):
        with Home(ACME + '    monthly_usd_cpa: 2\n') as home:
            self.refused(home.main(), home.budgets + ':6:5: ', 'monthly_usd_cap')
            home.write(home.budgets, ACME)
            prices = home.write('p.json', '{\n  "models": {,}\n}\n')
            self.refused(home.main('--prices', prices), prices + ':2:14: ')

    def test_a_ledger_that_is_none(self):
        with Home(ACME) as home:
            ledger = home.write('state/ledger.sqlite3', 'this is no ledger ' * 500)
            self.refused(home.main('--now', NOW), ledger, '--rebuild')
            home.log('s-1', spent_line('a', 7, cwd=home.at('clients/acme')))
            self.assertEqual(home.main('--rebuild').code, 0)
            self.assertEqual(home.verdict('--now', NOW)['arms'][0]['spent_usd'], '0.000007')

    def test_a_ledger_of_a_newer_version(self):
        import sqlite3
        with Home(ACME) as home:
            home.main('--now', NOW)
            db = sqlite3.connect(os.path.join(home.state, 'ledger.sqlite3'))
            db.execute('pragma user_version = 99')
            db.close()
            self.refused(home.main('--now', NOW), 'newer', '99')

    def test_without_a_home_or_an_environment(self):
        with Home(ACME) as home:
            home.folder('clients/acme')
            result = home.run('budget-check.py', '--now', NOW, '--budgets', home.budgets, '--ledger', home.at('l'),
                              HOME=home.path, PATH=None, LANG=None, TZ=None)
            self.assertEqual((result.code, result.err), (0, NO_LOGS))

    def test_unreadable_lines_and_unknown_models_are_told(self):
        with Home(ACME) as home:
            home.folder('clients/acme')
            home.log('s-1', spent_line('a', 5, cwd=home.at('clients/acme')), '{"type":"assistant","message":{"usage":{"output_tokens":5\n',
                     spent_line('b', 5, cwd=home.at('clients/acme'), model='claude-nonesuch-9'))
            result = home.main('--now', NOW)
            self.assertEqual(result.code, 0)
            self.assertIn('1 log line', result.err)
            self.assertIn('claude-nonesuch-9', result.err)
            self.assertEqual(len(home.verdict('--now', NOW)['warnings']), 2)

    def test_a_closed_pipe(self):
        with Home(ACME) as home:
            home.folder('clients/acme')
            reading, writing = os.pipe()
            os.close(reading)
            with subprocess.Popen(home.command('budget-check.py', '--now', NOW), stdout=writing, stderr=subprocess.PIPE,
                                  env=home.environ(), cwd=home.root) as process:
                os.close(writing)
                err = process.stderr.read()
                self.assertNotEqual(process.wait(60), 2)
            self.assertEqual(err.decode(), NO_LOGS)

    def test_another_encoding(self):
        with Home(ACME.replace('acme', 'zürich')) as home:
            result = home.run('budget-check.py', '--now', NOW, LANG='C', PYTHONIOENCODING='ascii')
            self.assertEqual(result.code, 0, result)


@unittest.skipUnless(hasattr(os, 'fork') and os.name == 'posix', 'no other users here')
class PermissionTest(UsageCase):

    def as_other(self, home, function):
        """Run it as somebody whom no mode lets pass: oneself, or nobody in place of root."""
        import argparse, difflib, sqlite3, zlib, binascii, fnmatch, datetime  # noqa: F401, E401  nobody could import them
        if os.getuid():
            return function()
        for folder, _, names in os.walk(home.root):
            for name in names:
                os.chown(os.path.join(folder, name), 65534, 65534, follow_symlinks=False)
            os.chown(folder, 65534, 65534)
        home.main('--now', NOW, ARMLEDGER_HOME=home.at('warm-up'))           # what is imported late is imported now
        result = as_nobody(function)
        if result is None:
            self.skipTest('root may not become nobody here')
        return result

    def test_logs(self):
        with Home(ACME) as home:
            path = home.log('s-1', spent_line('a', 7, cwd=home.at('clients/acme')))
            home.log('s-2', spent_line('b', 20, cwd=home.at('clients/acme')))
            os.chmod(path, 0)
            result = self.as_other(home, lambda: home.main('--now', NOW))
            self.assertIn(path, getattr(result, 'err', result))
            self.assertNotIn('Traceback', result.err)
            self.assertEqual(result.code, 1)

    def test_a_folder_of_logs(self):
        with Home(ACME) as home:
            path = os.path.dirname(home.log('s-1', spent_line('a', 7, cwd=home.at('clients/acme'))))

            def check():
                os.chmod(path, 0)
                try:
                    return home.main('--now', NOW)
                finally:
                    os.chmod(path, 0o700)
            result = self.as_other(home, check)
            self.assertIn(path, getattr(result, 'err', result))
            self.assertEqual(result.code, 1)

    def test_a_ledger_that_cannot_be_written(self):
        for mode in 0o500, 0:
            with self.subTest(oct(mode)), Home(ACME) as home:
                def check():
                    os.makedirs(home.state)
                    os.chmod(home.state, mode)
                    try:
                        return home.main('--now', NOW)
                    finally:
                        os.chmod(home.state, 0o700)
                self.refused(self.as_other(home, check), home.state)

    def test_a_ledger_file_that_cannot_be_written(self):
        with Home(ACME) as home:
            home.log('s-1', spent_line('a', 7, cwd=home.at('clients/acme')))

            def check():
                home.main('--now', NOW)
                os.chmod(os.path.join(home.state, 'ledger.sqlite3'), 0o400)
                home.log('s-2', spent_line('b', 20, cwd=home.at('clients/acme')))
                return home.main('--now', NOW)
            self.refused(self.as_other(home, check), home.state)

    def test_budgets_and_prices(self):
        with Home(ACME) as home:
            prices = shutil.copy(os.path.join(ROOT, 'prices.json'), home.path)

            def check():
                os.chmod(home.budgets, 0)
                os.chmod(prices, 0)
                first = home.main('--now', NOW)
                os.chmod(home.budgets, 0o600)
                return first, home.main('--now', NOW, '--prices', prices)
            results = self.as_other(home, check)
            self.refused(results[0], home.budgets)
            self.refused(results[1], prices)


if __name__ == '__main__':
    unittest.main()
