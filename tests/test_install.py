"""`make install` and `make uninstall`, the demo and the Makefile, as a user runs them: in a home of their own.

The installer is copied into a checkout whose hook and report are stand-ins, so that these tests say nothing about the
gate's own work.
"""
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
import unittest
import unittest.mock
from datetime import datetime, timedelta, timezone

from support import ROOT, TEMPORARY, load_script

sys.path.insert(0, os.path.join(ROOT, '.make'))
import demo  # noqa: E402
import files  # noqa: E402
import install  # noqa: E402
import jsontext  # noqa: E402
import wiring  # noqa: E402

budget_check = load_script('budget-check.py')  # the installer asks it how each agent is wired
with open(os.path.join(ROOT, 'budget-check.py'), encoding='utf-8') as stream:
    REAL = stream.read()
SHIPPED = {
    'budget-check.py': REAL,
    'cost-report.py': 'import sys\nprint("arm acme 12.00")\nsys.exit(0)  # armledger\n',
    'pretooluse-hook.py': 'import sys\nprint("hook ran:", sys.flags.isolated, sys.flags.no_site)  # armledger\n',
    'budgets.yaml': '# budgets:\n#   - arm: acme\n',
    'prices.json': '{"about": "prices"}\n',
}
USERS_SETTINGS = '''{
    "model": "opus",
    "permissions": {"allow": ["Bash(ls:*)", "caf\\u00e9"], "deny": []},
    "ratio": 1.50,
    "hooks": {
        "PreToolUse": [
            {"matcher": "Bash", "hooks": [{"type": "command", "command": "my-check --strict"}]}
        ],
        "Stop": [
            {
                "hooks": [{"type": "command", "command": "say done"}]
            }
        ]
    },
    "zzz": null
}
'''
SCRIPTS = ['budget-check.py', 'cost-report.py', 'pretooluse-hook.py']


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8', newline='') as f:
        f.write(text)


def read(path):
    with open(path, encoding='utf-8', newline='') as f:
        return f.read()


def tree(folder):
    """{path: bytes, or a link's target} of everything under a folder; folders are there as None."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isdir(path):
                found[path] = None
            else:
                with open(path, 'rb') as f:
                    found[path] = f.read()
    return found


class Home(unittest.TestCase):
    """A checkout of stand-ins and an empty home, both gone afterwards."""

    folder_name = 'plain'

    def setUp(self):
        self.top = os.path.join(os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY)), self.folder_name)
        self.addCleanup(shutil.rmtree, os.path.dirname(self.top))
        self.checkout, self.home = os.path.join(self.top, 'checkout'), os.path.join(self.top, 'home')
        self.claude = os.path.join(self.home, '.claude')
        self.hooks = os.path.join(self.claude, 'hooks')
        self.settings = os.path.join(self.claude, 'settings.json')
        self.codex = os.path.join(self.home, '.codex')
        os.makedirs(self.home)
        shutil.copytree(os.path.join(ROOT, '.make'), os.path.join(self.checkout, '.make'))     # with what has been compiled of it
        for name, text in SHIPPED.items():
            write(os.path.join(self.checkout, name), text)

    def ship(self, name, text):
        write(os.path.join(self.checkout, name), text)

    def start(self, *command, **environ):
        """Run a program in a clean environment."""
        environ = dict({'PATH': os.environ['PATH'], 'HOME': self.home, 'LC_ALL': 'C.UTF-8'}, **environ)
        return subprocess.run(command, env=environ, cwd=self.top, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, encoding='utf-8', timeout=60)

    def run_installer(self, action, *arguments, **environ):
        """A process of its own: with a report it is started as `make` does, and else forked from this one, which costs a fourth."""
        if action == 'install':
            arguments = ('--python', sys.executable) + arguments
        if '--no-report' in arguments or action == 'uninstall':
            return self.fork_installer(action, *arguments, **environ)
        installer = os.path.join(self.checkout, '.make', 'install.py')
        return self.start(sys.executable, installer, action, *arguments, **environ)

    def fork_installer(self, *arguments, **environ):
        environ = dict({'PATH': os.environ['PATH'], 'HOME': self.home, 'LC_ALL': 'C.UTF-8'}, **environ)
        with tempfile.TemporaryFile(dir=TEMPORARY) as out, tempfile.TemporaryFile(dir=TEMPORARY) as err:
            sys.stdout.flush()
            child = os.fork()
            if not child:
                code = 99
                try:
                    for number, stream in ((1, out), (2, err)):
                        os.dup2(stream.fileno(), number)
                        open_stream = open(number, 'w', encoding='utf-8', closefd=False)
                        setattr(sys, ('stdout', 'stderr')[number - 1], open_stream)
                    os.environ.clear()
                    os.environ.update(environ)
                    os.chdir(self.top)
                    install.SOURCE, sys.argv = self.checkout, ['install.py', *arguments]
                    files.run_main(install.main)
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else 0 if error.code is None else 98
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            code = os.WEXITSTATUS(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read().decode('utf-8'), err.read().decode('utf-8'))

    def install(self, *arguments, report=False, **environ):
        done = self.run_installer('install', *arguments, *['--no-report'] * (not report), **environ)
        self.assertEqual((done.returncode, done.stderr), (0, ''), done.stdout)
        return done.stdout

    def uninstall(self, **environ):
        done = self.run_installer('uninstall', **environ)
        self.assertEqual((done.returncode, done.stderr), (0, ''), done.stdout)
        return done.stdout

    def refused(self, action='install', *arguments, **environ):
        """The message of a run that must fail with one and change nothing."""
        before = tree(self.home)
        done = self.run_installer(action, *arguments, *['--no-report'] * (action == 'install'), **environ)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        self.assertEqual(tree(self.home), before)
        return done.stderr

    def entry(self, event='PreToolUse', path=None, index=-1):
        return json.loads(read(path or self.settings))['hooks'][event][index]

    def hook(self):
        return os.path.join(self.hooks, 'pretooluse-hook.py')

    def command(self, **where):
        return self.entry(**where)['hooks'][0]['command']

    def run_wired(self, **where):
        return self.start('sh', '-c', self.command(**where))


class Install(Home):
    def test_an_empty_home(self):
        said = self.install(report=True)
        for name, text in SHIPPED.items():
            self.assertEqual(read(os.path.join(self.hooks, name)), text)
        for name in SCRIPTS:
            self.assertTrue(os.access(os.path.join(self.hooks, name), os.X_OK), name)
        command = self.command()
        handler = {'type': 'command', 'command': command, 'timeout': 10, 'onFailure': 'block'}
        self.assertEqual(json.loads(read(self.settings)), {'hooks': {
            'PreToolUse': [{'matcher': '*', 'hooks': [handler]}], 'UserPromptSubmit': [{'hooks': [handler]}],
            'PreCompact': [{'hooks': [handler]}]}})
        self.assertIn(' -IS ', command)
        self.assertTrue(said.rstrip().endswith('arm acme 12.00'), said)
        self.assertFalse(os.path.exists(self.codex))

    def test_a_second_run_changes_nothing(self):
        os.makedirs(self.codex)
        write(self.settings, USERS_SETTINGS)
        self.install(report=True)
        before = tree(self.home)
        self.install(report=True)
        self.assertEqual(tree(self.home), before)

    def test_the_wired_command_runs_isolated_and_tolerates_a_missing_script(self):
        self.install()
        done = self.run_wired()
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, 'hook ran: 1 1\n', ''))
        os.unlink(self.hook())
        done = self.run_wired(event='UserPromptSubmit')
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''))

    def test_python3_is_wired_when_nothing_else_is_asked_for(self):
        done = self.start(sys.executable, os.path.join(self.checkout, '.make', 'install.py'), 'install', '--no-report')
        if done.returncode == 0:
            self.assertIn('exec python3 -IS ', self.command())

    def test_every_other_setting_keeps_its_bytes(self):
        write(self.settings, USERS_SETTINGS)
        self.install()
        after = read(self.settings)
        kept = iter(after.splitlines())
        for line in USERS_SETTINGS.splitlines():  # in order, whatever was put between them
            self.assertTrue(any(line in (found, found.rstrip(',')) for found in kept), line)
        settings = json.loads(after)
        self.assertEqual([group.get('matcher') for group in settings['hooks']['PreToolUse']], ['Bash', '*'])
        self.assertEqual(list(settings), ['model', 'permissions', 'ratio', 'hooks', 'zzz'])
        self.assertEqual(read(self.settings + '.bak-armledger'), USERS_SETTINGS)

    def test_permission_bits_are_kept_on_settings_and_backup(self):
        write(self.settings, USERS_SETTINGS)
        os.chmod(self.settings, 0o600)
        self.install()
        for path in (self.settings, self.settings + '.bak-armledger'):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600, path)

    def test_a_symlinked_settings_file_stays_a_link(self):
        target = os.path.join(self.home, 'dotfiles', 'claude.json')
        write(target, USERS_SETTINGS)
        os.makedirs(self.claude)
        os.symlink(target, self.settings)
        self.install()
        self.assertEqual(os.readlink(self.settings), target)
        self.assertIn('pretooluse-hook.py', read(target))
        self.uninstall()
        self.assertEqual(os.readlink(self.settings), target)
        self.assertEqual(read(target), USERS_SETTINGS)

    def test_an_older_entry_of_ours_is_replaced_in_its_place(self):
        old = 'python3 /old/place/hooks/pretooluse-hook.py'
        write('%s/old/hooks/budget-check.py' % self.top, '')
        for command in ('python3 -IS ~/.claude/hooks/pretooluse-hook.py',
                        'python3 "%s/old/hooks/pretooluse-hook.py"' % self.top):
            with self.subTest(command):
                group = {'matcher': 'Agent|Task', 'hooks': [{'type': 'command', 'command': command}]}
                # Without budget-check.py beside it, and not run as ours are: some other tool's.
                after = {'matcher': 'Bash', 'hooks': [{'type': 'command', 'command': old}]}
                write(self.settings, json.dumps({'hooks': {'PreToolUse': [group, after]}}, indent=2))
                self.install()
                groups = json.loads(read(self.settings))['hooks']['PreToolUse']
                self.assertEqual([group['matcher'] for group in groups], ['*', 'Bash'])
                self.assertEqual(wiring.hook_path(groups[0]['hooks'][0]['command']), self.hook())
                self.assertEqual(groups[1], after)

    def test_doubled_entries_and_ones_among_others_become_one(self):
        ours = {'type': 'command', 'command': 'python3 -IS /x/pretooluse-hook.py'}
        other = {'type': 'command', 'command': 'lint'}
        write(self.settings, json.dumps({'hooks': {'PreToolUse': [
            {'matcher': 'Bash', 'hooks': [other, ours]},
            {'matcher': '*', 'hooks': [ours]},
            {'matcher': 'Task', 'hooks': [ours]}]}}))
        self.install()
        groups = json.loads(read(self.settings))['hooks']['PreToolUse']
        self.assertEqual(groups[0], {'matcher': 'Bash', 'hooks': [other]})
        self.assertEqual([group['matcher'] for group in groups[1:]], ['*'])

    def test_settings_that_are_not_understood_are_left_alone(self):
        for text, place, word in [
            ('{\n  "a": 1\n  "b": 2\n}\n', ':3:3:', ''),
            ('{\n  // mine\n}\n', ':2:3:', ''),
            ('{"a": 1,\n "b": {"c": 1, "c": 2}}', ':2:16:', 'duplicate key "c"'),
            ('[]', ':1:1:', 'must be an object'),
            ('{"hooks": []}', ':1:11:', '"hooks" must be an object'),
            ('{"hooks":\n null}', ':2:2:', '"hooks" must be an object'),
            ('{"hooks": {"PreToolUse": {"matcher": "*"}}}', ':1:26:', 'must be a list'),
            ('{"hooks": {"PreToolUse": ["x"]}}', ':1:27:', 'must be an object'),
            ('{"hooks": {"Stop": [{"matcher": ""}]}}', ':1:21:', 'no "hooks" list'),
            ('{"hooks": {"Stop": [{"hooks": ["x"]}]}}', ':1:32:', 'must be an object'),
            ('{"a": NaN}', ':1:7:', 'not JSON'),
            ('[' * 100000, ':1:', ''),
        ]:
            with self.subTest(text[:60]):
                write(self.settings, text)
                said = self.refused()
                self.assertIn(self.settings + place, said)
                self.assertIn(word, said)
                self.assertIn('left alone', said)

    def test_settings_that_are_no_readable_text(self):
        os.makedirs(self.settings)
        self.assertIn(self.settings + ": can't be read", self.refused())
        os.rmdir(self.settings)
        with open(self.settings, 'wb') as f:
            f.write(b'{"a": "\xff"}')
        self.assertIn("isn't UTF-8", self.refused())

    def test_a_byte_order_mark_and_windows_line_ends_are_kept(self):
        text = '\ufeff{\r\n\t"model": "opus"\r\n}\r\n'
        write(self.settings, text)
        self.install()
        after = read(self.settings)
        self.assertTrue(after.startswith('\ufeff{\r\n\t"model": "opus",\r\n\t"hooks": {\r\n\t\t"PreToolUse": ['), after)
        self.assertEqual(after.count('\n'), after.count('\r\n'))
        self.uninstall()
        self.assertEqual(read(self.settings), text)

    def test_budgets_are_never_overwritten(self):
        mine = os.path.join(self.hooks, 'budgets.yaml')
        write(mine, 'budgets: mine\n')
        self.install()
        self.ship('budgets.yaml', '# newer\n')
        self.install()
        self.assertEqual(read(mine), 'budgets: mine\n')
        self.uninstall()
        self.assertEqual(read(mine), 'budgets: mine\n')

    def test_what_to_do_next_says_that_nothing_is_checked_yet(self):
        out = self.install()
        self.assertIn('  - Set caps in %s\n  - See where they stand (exit code 1 until one is set' % os.path.join(self.hooks, 'budgets.yaml'), out)
        done = self.start(sys.executable, os.path.join(self.hooks, 'budget-check.py'))
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertIn('no cap is set', done.stderr)

    def test_an_empty_home_is_not_the_root_folder(self):
        named = {'CLAUDE_CONFIG_DIR': self.claude, 'HOOKS_DIR': self.hooks}       # should it not be refused
        for action in 'install', 'uninstall':
            self.assertIn('$HOME is empty', self.refused(action, HOME='', **named))

    def test_a_general_budgets_file_stays_in_force(self):
        general = os.path.join(self.claude, 'budgets.yaml')
        write(general, 'budgets: mine\n')
        self.assertIn('Set caps in %s\n' % general, self.install())
        self.assertFalse(os.path.exists(os.path.join(self.hooks, 'budgets.yaml')))

    def test_prices_follow_an_upgrade_unless_they_were_edited(self):
        prices = os.path.join(self.hooks, 'prices.json')
        self.install()
        self.ship('prices.json', '{"about": "newer"}\n')
        self.install()
        self.assertEqual(read(prices), '{"about": "newer"}\n')
        write(prices, '{"about": "mine"}\n')
        self.ship('prices.json', '{"about": "newest"}\n')
        self.assertIn('prices.json: you edited it', self.install())
        self.assertEqual(read(prices), '{"about": "mine"}\n')

    def test_prices_that_were_there_before_are_kept(self):
        prices = os.path.join(self.hooks, 'prices.json')
        write(prices, '{"about": "mine"}\n')
        self.assertIn('prices.json: you edited it', self.install())
        self.uninstall()
        self.assertEqual(read(prices), '{"about": "mine"}\n')

    def test_scripts_follow_an_upgrade_and_an_edited_one_is_saved(self):
        script = os.path.join(self.hooks, 'budget-check.py')
        self.install()
        write(script, '# armledger, my own way\n')
        self.ship('budget-check.py', REAL + '# 2\n')
        self.assertIn('changed by hand', self.install())
        self.assertEqual(read(script), REAL + '# 2\n')
        self.assertEqual(read(script + '.bak-armledger'), '# armledger, my own way\n')

    def test_another_tools_script_of_the_same_name_is_not_overwritten(self):
        write(self.hook(), 'print("another tool")\n')
        said = self.refused()
        self.assertIn("pretooluse-hook.py: is another tool's", said)
        self.assertIn('HOOKS_DIR=', said)

    def test_hooks_dir_and_config_dir_are_respected(self):
        hooks, config = os.path.join(self.home, 'my hooks'), os.path.join(self.home, 'cfg')
        self.install(HOOKS_DIR=hooks, CLAUDE_CONFIG_DIR=config + ', ' + self.claude)
        self.assertEqual(wiring.hook_path(self.command(path=os.path.join(config, 'settings.json'))),
                         os.path.join(hooks, 'pretooluse-hook.py'))
        self.assertFalse(os.path.exists(self.claude))
        self.assertIn('make uninstall HOOKS_DIR=', self.uninstall(CLAUDE_CONFIG_DIR=config))
        self.uninstall(HOOKS_DIR=hooks, CLAUDE_CONFIG_DIR=config)
        self.assertEqual(tree(self.home), {})

    def test_a_python_that_cannot_run_the_gate_is_refused(self):
        self.assertIn("no-such-python: can't be run", self.refused('install', '--python', 'no-such-python'))
        self.assertIn("isn't Python 3.9", self.refused('install', '--python', 'false'))

    def test_a_report_that_fails_does_not_fail_the_installation(self):
        self.ship('cost-report.py', 'import sys\nsys.exit(3)  # armledger\n')
        self.assertIn("The report didn't come through (3)", self.install(report=True))

    def test_an_incomplete_checkout_is_refused(self):
        os.unlink(os.path.join(self.checkout, 'prices.json'))
        self.assertIn('prices.json: is missing', self.refused())

    def test_a_file_where_the_hooks_folder_should_be(self):
        write(self.hooks, 'a file')
        self.assertIn(self.hooks, self.refused())

    def test_disabled_hooks_are_pointed_out(self):
        write(self.settings, '{"disableAllHooks":true}')
        self.assertIn('"disableAllHooks"', self.install())

    @unittest.skipIf(os.name == 'nt' or os.geteuid() == 0, 'root may write everywhere')
    def test_a_folder_that_cannot_be_written(self):
        os.makedirs(self.claude)
        os.chmod(self.claude, 0o500)
        self.addCleanup(os.chmod, self.claude, 0o700)
        self.assertIn("can't be written", self.refused())


class QuotedPaths(Home):
    """Where every path needs quoting."""

    folder_name = "it's a \"home\" $HOME `x` \\ ü"
    test_second_run = Install.test_a_second_run_changes_nothing
    test_wired_command = Install.test_the_wired_command_runs_isolated_and_tolerates_a_missing_script
    test_folders = Install.test_hooks_dir_and_config_dir_are_respected


class Codex(Home):
    def setUp(self):
        super().setUp()
        self.file = os.path.join(self.codex, 'hooks.json')

    def test_it_is_wired_when_its_home_exists(self):
        os.makedirs(self.codex)
        said = self.install()
        # As the first installer wrote it: Codex trusts a line as it is.
        command = '[ ! -f %s ] || exec %s -IS %s' % (self.hook(), sys.executable, self.hook())
        handler = {'type': 'command', 'command': command, 'timeout': 10}
        self.assertEqual(json.loads(read(self.file)), {'hooks': {
            'PreToolUse': [{'matcher': '*', 'hooks': [handler]}], 'UserPromptSubmit': [{'hooks': [handler]}]}})
        self.assertIn('/hooks', said)
        self.assertEqual(self.run_wired(path=self.file).stdout, 'hook ran: 1 1\n')

    def test_an_upgrade_leaves_the_trusted_entries_alone(self):
        os.makedirs(self.codex)
        self.install()
        before = read(self.file)
        self.ship('pretooluse-hook.py', '# armledger 2\n')
        self.assertNotIn('/hooks,', self.install())
        self.assertEqual(read(self.file), before)

    def test_codex_home_is_respected(self):
        home = os.path.join(self.home, 'my codex')
        os.makedirs(home)
        self.install(CODEX_HOME=home)
        self.assertTrue(os.path.exists(os.path.join(home, 'hooks.json')))
        self.uninstall(CODEX_HOME=home)
        self.assertEqual(tree(self.home), {home: None})

    def test_an_unsound_file_is_left_alone_and_claude_code_gets_its_gate(self):
        write(self.file, '{"hooks": }')
        done = self.run_installer('install')
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.file + ':1:11:', done.stderr)
        self.assertIn('NOT gated', done.stderr)
        self.assertEqual(read(self.file), '{"hooks": }')
        self.assertIn('pretooluse-hook.py', read(self.settings))


class OtherAgents(Home):
    EVENTS = {'.copilot/hooks/armledger.json': ['preToolUse', 'permissionRequest', 'userPromptSubmitted'],
              '.qwen/settings.json': ['PreToolUse', 'UserPromptSubmit'],
              '.gemini/settings.json': ['BeforeTool', 'BeforeAgent', 'BeforeModel']}

    def folders(self):
        for name in '.copilot', '.qwen', '.gemini':
            os.makedirs(os.path.join(self.home, name))

    def handlers(self, name):
        """[(event, matcher, handler)] of an agent's settings."""
        hooks = json.loads(read(os.path.join(self.home, name)))['hooks']
        return [(event, group.get('matcher'), handler) for event, groups in hooks.items() for group in groups
                for handler in group.get('hooks', [group])]

    def test_each_is_wired_at_its_events_in_its_form(self):
        self.folders()
        self.install()
        for name, events in self.EVENTS.items():
            with self.subTest(name):
                agent = name[1:].split('/')[0]
                self.assertEqual([event for event, _, _ in self.handlers(name)], events)
                for event, matcher, handler in self.handlers(name):
                    command = handler.pop('bash' if agent == 'copilot' else 'command')
                    self.assertEqual(handler, {'type': 'command', 'timeoutSec': 10} if agent == 'copilot' else
                                     {'type': 'command', 'timeout': 10000})
                    self.assertEqual(matcher, '*' if event in ('PreToolUse', 'BeforeTool') else None)
                    self.assertIn(' --agent %s;' % agent, command)
                    self.assertEqual(self.start('sh', '-c', command).stdout, 'hook ran: 1 1\n')
        self.assertEqual(json.loads(read(os.path.join(self.home, '.copilot/hooks/armledger.json')))['version'], 1)

    def test_what_is_not_here_is_not_made(self):
        self.install()
        self.assertEqual(os.listdir(self.home), ['.claude'])

    def test_other_settings_stay_and_all_is_taken_back(self):
        self.folders()
        for name in self.EVENTS:
            write(os.path.join(self.home, name), '' if 'qwen' in name else '{"version": 1, "theme": "dark"}')
        before = tree(self.home)
        self.install()
        self.assertEqual(json.loads(read(os.path.join(self.home, '.gemini/settings.json')))['theme'], 'dark')
        self.install('--python', shutil.which('python3') or sys.executable)
        self.uninstall()
        self.assertEqual(tree(self.home), before)

    def test_folders_named_by_variables(self):
        named = {name: os.path.join(self.home, 'x', name) for name in ('COPILOT_HOME', 'QWEN_HOME', 'GEMINI_CLI_HOME')}
        for name, folder in named.items():
            os.makedirs(os.path.join(folder, '.gemini') if name.startswith('GEMINI') else folder)
        self.install(**named)
        for path in 'COPILOT_HOME/hooks/armledger.json', 'QWEN_HOME/settings.json', 'GEMINI_CLI_HOME/.gemini/settings.json':
            self.assertIn('pretooluse-hook.py', read(os.path.join(self.home, 'x', path)))


class WithoutPython(Home):
    """The wired command line where the agent's PATH has no Python."""

    def run_line(self, agent='claude-code', **environ):
        programs = os.path.join(self.top, 'bin')
        os.makedirs(programs, exist_ok=True)
        for name in 'sh', 'grep':
            if not os.path.exists(os.path.join(programs, name)):
                os.symlink(shutil.which(name), os.path.join(programs, name))
        write(self.hook(), 'never run')
        line = wiring.command_line('python3', self.hook(), agent)
        return self.start('sh', '-c', line, PATH=programs, **environ)

    def test_it_names_armledger_and_the_cure_where_something_is_capped(self):
        cap, none = '  - arm: a\n    monthly_usd_cap: 5\n', '# monthly_usd_cap: 5\nbudgets:\n  # - daily_usd_cap: 5\n'
        beside, general = os.path.join(self.hooks, 'budgets.yaml'), os.path.join(self.claude, 'budgets.yaml')
        named = os.path.join(self.home, 'mine.yaml')
        for texts, environ, refuses in [
                ({}, {}, False), ({beside: none}, {}, False), ({beside: cap}, {}, True), ({general: cap}, {}, True),
                ({beside: none, general: cap}, {}, True), ({beside: none, general: none}, {}, False),
                ({beside: cap, named: none}, {'ARMLEDGER_BUDGETS': named}, False),
                ({named: cap}, {'ARMLEDGER_BUDGETS': named}, True), ({}, {'ARMLEDGER_BUDGETS': named}, True),
                ({os.path.join(beside, 'a_folder'): ''}, {}, True)]:
            with self.subTest(texts=texts, environ=environ):
                shutil.rmtree(self.home)
                for path, text in texts.items():
                    write(path, text)
                done = self.run_line(**environ)
                self.assertEqual((done.returncode, done.stdout), (2 if refuses else 0, ''))
                for word in ('armledger: ', 'no python3', 'make install PYTHON=') if refuses else ():
                    self.assertIn(word, done.stderr)
                self.assertEqual(bool(done.stderr), refuses)

    def test_codex_keeps_the_line_that_it_trusts(self):
        self.assertEqual(wiring.command_line('python3', '/h/pretooluse-hook.py', 'codex'),
                         '[ ! -f /h/pretooluse-hook.py ] || exec python3 -IS /h/pretooluse-hook.py')


class Uninstall(Home):
    def test_files_that_were_there_before_stay_alike_or_not(self):
        theirs = {'budget-check.py': SHIPPED['budget-check.py'], 'cost-report.py': '# armledger, my own\n',
                  'prices.json': SHIPPED['prices.json'], 'budgets.yaml': SHIPPED['budgets.yaml']}
        for name, text in theirs.items():
            write(os.path.join(self.hooks, name), text)
        write(os.path.join(self.hooks, 'x.bak-armledger'), 'mine')
        before = tree(self.home)
        self.install()
        self.ship('budget-check.py', REAL + '# 2\n')
        self.install()
        self.uninstall()
        self.assertEqual(tree(self.home), before)

    def test_our_backups_are_listed_and_removed(self):
        write(self.settings, USERS_SETTINGS)
        self.install()
        write(self.settings, read(self.settings).replace('"opus"', '"sonnet"'))
        said = self.uninstall()
        self.assertIn(self.settings + '.bak-armledger (our backup)', said)
        self.assertEqual(os.listdir(self.claude), ['settings.json'])

    def test_a_hook_that_was_wired_by_hand_keeps_its_script(self):
        by_hand = 'python3 -IS %s' % self.hook()
        for path in os.path.join(self.home, '.claude-work', 'settings.json'), self.settings:
            with self.subTest(path):
                self.install()
                settings = json.loads(read(path)) if os.path.exists(path) else {}
                settings.setdefault('hooks', {}).setdefault('Stop', []).append(
                    {'hooks': [{'type': 'command', 'command': by_hand}]})
                write(path, json.dumps(settings))
                self.assertIn('kept      the scripts: %s runs them' % path, self.uninstall())
                self.assertEqual(json.loads(read(path))['hooks'], {'Stop': [{'hooks': [
                    {'type': 'command', 'command': by_hand}]}]})
                self.assertEqual(sorted(name for name in os.listdir(self.hooks) if name.endswith('.py')), SCRIPTS)
                os.remove(path)
                self.assertIn('removed   pretooluse-hook.py', self.uninstall())
                self.assertFalse(os.path.exists(self.hooks))

    def test_an_empty_home_is_empty_again(self):
        os.makedirs(self.codex)
        self.install(report=True)
        cache = os.path.join(self.hooks, '__pycache__')
        write(os.path.join(cache, 'budget-check.cpython-311.pyc'), '')
        said = self.uninstall()
        self.assertEqual(tree(self.home), {self.codex: None})
        self.assertIn(os.path.join(self.home, '.local', 'state', 'armledger'), said)
        self.assertIn('Nothing of armledger is installed', self.uninstall())

    def test_settings_are_restored_byte_for_byte(self):
        for text in ['', ' \n', USERS_SETTINGS, '{}', '{ }\n', '{"hooks":{}}', '{"a":1,"b":[1,2]}', '{\n\t"a": 1\n}',
                     '{"hooks": {"PreToolUse": []}}\n']:
            with self.subTest(text):
                write(self.settings, text)
                before = tree(self.home)
                self.install()
                self.ship('prices.json', text)
                self.install()
                self.uninstall()
                self.assertEqual(tree(self.home), before)

    def test_an_upgrade_that_rewires_keeps_the_first_backup(self):
        write(self.settings, USERS_SETTINGS)
        before = tree(self.home)
        self.install()
        other = os.path.join(self.top, 'python')
        os.symlink(sys.executable, other)
        self.install('--python', other)
        self.assertIn(os.path.basename(other), self.command())
        self.uninstall()
        self.assertEqual(tree(self.home), before)

    def test_a_line_of_the_first_installer_is_taken_out_too(self):
        self.install()
        settings = read(self.settings)
        line = '[ ! -f %s ] || exec python3 -IS %s' % (self.hook(), self.hook())
        write(self.settings, settings.replace(json.dumps(self.command()), json.dumps(line)))
        self.uninstall()
        self.assertEqual(tree(self.home), {})

    def test_later_changes_are_kept(self):
        write(self.settings, USERS_SETTINGS)
        self.install()
        edited = read(self.settings).replace('"opus"', '"sonnet"')
        write(self.settings, edited)
        self.assertIn('what was changed since is kept', self.uninstall())
        self.assertEqual(read(self.settings), USERS_SETTINGS.replace('"opus"', '"sonnet"'))

    def test_settings_that_we_made_and_someone_added_to(self):
        self.install()
        write(self.settings, json.dumps(dict(json.loads(read(self.settings)), model='opus')))
        self.uninstall()
        self.assertEqual(json.loads(read(self.settings)), {'model': 'opus'})

    def test_what_was_changed_since_is_kept(self):
        self.install()
        for name in ('budgets.yaml', 'prices.json', 'cost-report.py'):
            write(os.path.join(self.hooks, name), 'mine')
        said = self.uninstall()
        self.assertEqual(sorted(os.listdir(self.hooks)), ['budgets.yaml', 'cost-report.py', 'prices.json'])
        self.assertEqual(said.count('changed since it was installed'), 3)

    def test_others_files_and_entries_are_kept(self):
        write(os.path.join(self.hooks, 'other.py'), 'x')
        self.install()
        elsewhere = {'type': 'command', 'command': 'python3 -IS /else/pretooluse-hook.py'}
        settings = json.loads(read(self.settings))
        settings['hooks']['PreToolUse'].append({'hooks': [elsewhere]})
        write(self.settings, json.dumps(settings))
        self.uninstall()
        self.assertEqual(os.listdir(self.hooks), ['other.py'])
        self.assertEqual(wiring.wired_paths(read(self.settings)), ['/else/pretooluse-hook.py'])

    def test_unsound_settings_stop_it_before_anything_is_changed(self):
        self.install()
        write(self.settings, '{')
        self.assertIn(self.settings + ':1:2:', self.refused('uninstall'))

    def test_a_record_that_is_broken(self):
        self.install()
        write(os.path.join(self.hooks, '.armledger-install.json'), '[')
        self.assertIn("can't be understood", self.refused('uninstall'))


class SettingsTexts(unittest.TestCase):
    """The edits themselves, on generated texts; ARMLEDGER_SETTINGS_TEXTS: how many (default 150)."""

    def test_what_is_put_in_comes_out_again(self):
        random_ = random.Random(5)
        command = wiring.command_line('python3', '/h/pretooluse-hook.py')
        groups = wiring.hook_entries(budget_check.CLIENTS['claude-code'], command)
        for n in range(int(os.environ.get('ARMLEDGER_SETTINGS_TEXTS', '150'))):
            settings = self.settings(random_)
            text = json.dumps(settings, indent=random_.choice([None, 2, 4, '\t']), ensure_ascii=random_.random() < 0.5)
            wired = wiring.wire(text, groups)
            with self.subTest(n, text=text):
                expected = json.loads(text)
                for event, group in groups.items():
                    expected.setdefault('hooks', {}).setdefault(event, []).append(group)
                self.assertEqual(json.loads(wired), expected)
                self.assertEqual(wiring.wire(wired, groups), wired)
                self.assertEqual(json.loads(wiring.unwire(wired, wiring.is_ours)), without_empty_events(settings))

    def settings(self, random_):
        handlers = [{'type': 'command', 'command': 'c%d' % i, 'timeout': 1.5} for i in range(3)]
        groups = [{'matcher': 'Bash', 'hooks': [handler]} for handler in handlers]
        events = {event: random_.sample(groups, random_.randrange(3)) for event in
                  random_.sample(['PreToolUse', 'UserPromptSubmit', 'Stop'], random_.randrange(4))}
        members = [('model', 'é"\\'), ('n', 1e300), ('list', [1, [], {}]), ('hooks', events)]
        return dict(random_.sample(members, random_.randrange(5)))

    def test_an_edit_touches_nothing_else(self):
        text = '{\n  "a" : [1,2 ,\n3],   "b": "\\u00e9"\n}'
        root = jsontext.parse(text)
        self.assertEqual(jsontext.append(text, root, True, key='c'), text[:-2] + ', "c": true\n}')
        self.assertEqual(jsontext.append(text, root.children['a'], 4), text.replace('3]', '3,\n4]'))
        self.assertEqual(jsontext.remove(text, root, root.children['a']), '{\n  "b": "\\u00e9"\n}')
        self.assertEqual(jsontext.replace(text, root.children['b'], 5), text.replace('"\\u00e9"', '5'))

    def test_a_foreign_hook_of_the_same_name_is_not_ours(self):
        for command, ours in [
            ('python3 -IS /x/pretooluse-hook.py', True),
            (wiring.command_line('/opt/my python', "/it's/pretooluse-hook.py"), True),
            ('python3 /nowhere/pretooluse-hook.py', False),
            ('python3 -IS /x/my-pretooluse-hook.py', False),
            ("echo 'unbalanced pretooluse-hook.py", False),
            ('', False),
        ]:
            self.assertEqual(wiring.is_ours(command), ours, command)


def without_empty_events(settings):
    """What is left empty by taking our entries out goes too; an empty list in another event is the user's."""
    settings = json.loads(json.dumps(settings))
    hooks = settings.get('hooks', {})
    for event in ('PreToolUse', 'UserPromptSubmit'):
        if not hooks.get(event, True):
            del hooks[event]
    if not hooks:
        settings.pop('hooks', None)
    return settings


class WriteWhole(unittest.TestCase):
    def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'settings.json')
            write(path, 'old')
            with unittest.mock.patch('os.replace', side_effect=OSError(28, 'No space left on device')):
                with self.assertRaisesRegex(files.UserError, 'No space left'):
                    files.write_whole(path, b'new')
            self.assertEqual(tree(folder), {path: b'old'})


class SharedBlock(Home):
    def sync(self, *arguments):
        done = subprocess.run([sys.executable, os.path.join(self.checkout, '.make', 'sync.py')] + list(arguments),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8')
        return done.returncode, done.stdout + done.stderr

    def test_a_stale_copy_names_its_cure(self):
        block = '# --- BEGIN shared block: the same in both\n%s\n# --- END shared block\n'
        self.ship('budget-check.py', 'a\n' + block % 'x = 2' + 'b\n')
        self.ship('cost-report.py', 'c\n' + block % 'x = 1' + 'd\n')
        self.assertEqual(self.sync('--check'), (1, 'cost-report.py: stale copy of the shared block; run `make sync`\n'))
        self.assertEqual(self.sync()[0], 0)
        self.assertEqual(read(os.path.join(self.checkout, 'cost-report.py')), 'c\n' + block % 'x = 2' + 'd\n')
        self.assertEqual(self.sync('--check'), (0, ''))

    def test_a_marker_that_is_missing(self):
        self.ship('budget-check.py', '# no block\n')
        self.assertIn('budget-check.py: needs one line `# --- BEGIN shared block`', self.sync('--check')[1])


@unittest.skipUnless(shutil.which('bash'), 'no bash here')
class ContinuousIntegration(Home):
    TESTS = """
import unittest
class T(unittest.TestCase):
    def test_good(self): pass
    def test_skipped(self): self.skipTest('')
    @unittest.expectedFailure
    def test_known(self): self.fail()
"""
    BAD = """
    def test_bad(self):
        for n in range(3):
            with self.subTest(n): self.assertEqual(n, 1)
    def test_error(self): raise OSError
"""

    def setUp(self):
        super().setUp()
        shutil.copytree(os.path.join(ROOT, '.ci'), os.path.join(self.checkout, '.ci'))
        for name in SCRIPTS[:2]:
            self.ship(name, '# --- BEGIN shared block\n# --- END shared block\n')
        self.programs = os.path.join(self.top, 'bin')
        commands = {'python3': 'exec %s -ES "$@"' % sys.executable, 'python3.9': 'exit 127', 'pypy3': 'exit 127'}
        for name, text in commands.items():
            write(os.path.join(self.programs, name), '#!/bin/sh\n%s\n' % text)
            os.chmod(os.path.join(self.programs, name), 0o755)

    def run_ci(self, tests):
        write(os.path.join(self.checkout, 'tests', 'test_it.py'), tests)
        path = self.programs + os.pathsep + os.environ['PATH']
        done = self.start('bash', os.path.join(self.checkout, '.ci', 'run'), PATH=path)
        return done.returncode, done.stdout.splitlines()[-1]

    def test_the_last_line_is_what_happened(self):
        self.assertEqual(self.run_ci(self.TESTS), (0, '2 passed, 0 failed, 1 skipped'))
        self.assertEqual(self.run_ci(self.TESTS + self.BAD), (1, '2 passed, 2 failed, 1 skipped'))
        self.assertEqual(self.run_ci(''), (1, '0 passed, 1 failed, 0 skipped'))
        self.assertEqual(self.run_ci('syntax error'), (1, '0 passed, 1 failed, 0 skipped'))

    def test_a_stale_block_is_a_failure(self):
        self.ship('cost-report.py', '# --- BEGIN shared block\nx = 1\n# --- END shared block\n')
        self.assertEqual(self.run_ci(self.TESTS), (1, '2 passed, 1 failed, 1 skipped'))


@unittest.skipUnless(shutil.which('make'), 'no make here')
class Make(unittest.TestCase):
    def make(self, *arguments, **environ):
        environ = dict({'PATH': os.environ['PATH'], 'HOME': os.environ.get('HOME', '/')}, **environ)
        return subprocess.run(['make', *arguments], cwd=ROOT, env=environ, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8').stdout

    def test_help_is_the_default_and_names_every_target(self):
        with open(os.path.join(ROOT, 'Makefile')) as f:
            targets = [name for line in f if line.startswith('.PHONY:') for name in line.split()[1:]]
        said = self.make()
        self.assertIn('install', targets)
        for target in targets:
            self.assertIn('make %s ' % target, said)

    def test_folders_given_on_the_command_line_arrive_whole(self):
        with tempfile.TemporaryDirectory() as home:
            hooks = os.path.join(home, "it's my hooks")
            said = self.make('uninstall', 'PYTHON=' + sys.executable, 'HOOKS_DIR=' + hooks, HOME=home)
            self.assertIn('Nothing of armledger is installed in %s.' % hooks, said)


class DemoLogs(unittest.TestCase):
    def test_the_sample_calls_are_of_this_month_also_when_it_has_just_begun(self):
        begun = datetime(2026, 11, 1, tzinfo=timezone.utc)
        for now in (begun, begun + timedelta(seconds=1), begun + timedelta(hours=3), begun + timedelta(days=20)):
            times = demo.times_this_month(now, 57)
            self.assertEqual(len(times), 57)
            self.assertTrue(begun <= min(times) and max(times) <= now, now)


@unittest.skipUnless(all(os.path.exists(os.path.join(ROOT, name)) for name in SHIPPED), 'needs the whole checkout')
class Demo(unittest.TestCase):
    def test_every_step_shows_what_it_should_and_nothing_is_left(self):
        with tempfile.TemporaryDirectory() as temporary:
            environ = {'PATH': os.environ['PATH'], 'HOME': '/nowhere', 'TMPDIR': temporary}
            done = subprocess.run([sys.executable, os.path.join(ROOT, '.make', 'demo.py')],
                                  env=environ, encoding='utf-8', stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn('REFUSED', done.stdout)
            self.assertIn('(silence: the tool runs)', done.stdout)
            self.assertEqual(os.listdir(temporary), [])


if __name__ == '__main__':
    unittest.main()
