"""`budget-check.py --doctor`: whether the cap would hold, with a cure for each finding. One row of the table for each thing it must see."""
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from homes import in_environ, text_of
from support import QUICKLY, ROOT, TEMPORARY, copy_scripts, ledgers_closed, load_script

budget_check = load_script('budget-check.py')
BUDGETS = 'budgets:\n  - arm: acme\n    path: ~/clients/acme\n    monthly_usd_cap: 10.00\n'


def command_for(hook, python=sys.executable):
    return '[ ! -f %s ] || exec %s -IS %s' % (hook, python, hook)


class Doctor(unittest.TestCase):

    def setUp(self):
        self.home = os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.hooks, self.arm = self.at('.claude/hooks'), self.at('clients/acme')
        self.hook, self.ledger = self.hooks + '/pretooluse-hook.py', self.at('.local/state/armledger/ledger.sqlite3')
        for folder in (self.hooks, self.arm, self.at('.claude/projects/x')):
            os.makedirs(folder)
        copy_scripts(self.hooks)
        with open(self.hooks + '/prices.json') as stream:
            self.as_of = budget_check.Prices(stream.read()).as_of
        self.write('.claude/hooks/budgets.yaml', BUDGETS)
        self.wire()
        self.spend()

    def at(self, name):
        return os.path.join(self.home, name)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
        with open(self.at(name), 'w') as stream:
            stream.write(content if isinstance(content, str) else json.dumps(content))

    def wire(self, path='.claude/settings.json', command=None, matcher='*', events=('PreToolUse', 'UserPromptSubmit', 'PreCompact'), top=None, **more):
        handler = dict({'type': 'command', 'command': command or command_for(self.hook), 'timeout': 10, 'onFailure': 'block'}, **more)
        handler = {name: value for name, value in handler.items() if value is not None}
        self.write(path, dict({'hooks': {event: [{'matcher': matcher, 'hooks': [handler]}] for event in events}}, **top or {}))

    def spend(self, cwd=None, model='claude-opus-4-5', name='.claude/projects/x/s.jsonl'):
        session = os.path.basename(name)[:-len('.jsonl')]
        self.write(name, json.dumps({
            'type': 'assistant', 'timestamp': self.as_of + 'T12:00:00.000Z', 'sessionId': session, 'cwd': cwd or self.arm, 'requestId': 'r',
            'message': {'id': 'm' + model, 'model': model, 'usage': {'input_tokens': 5, 'output_tokens': 5}}}) + '\n')

    def doctor(self, *arguments, cwd=None, python=None, **environ):
        """(exit code, text) on the day that the prices are from: in this process, or through a command line that begins with `python`."""
        environ = dict({'HOME': self.home, 'PATH': os.environ['PATH'], 'TZ': 'UTC'}, **environ)
        arguments, cwd = ('--doctor', '--now', self.as_of + 'T23:00:00Z') + arguments, cwd or self.arm
        if python:
            done = subprocess.run([*python, self.hooks + '/budget-check.py', *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, encoding='utf-8', env=environ, cwd=cwd, timeout=120)
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code, out, err = self.called(arguments, cwd, environ)
        self.assertEqual(err, '')
        self.assertNotIn('\033', out)
        return code, out

    def called(self, arguments, cwd, environ):
        """(exit code, stdout, stderr) of main(), as if it stood in the hooks folder."""
        out, err = (io.TextIOWrapper(io.BytesIO(), 'utf-8', newline='\n') for _ in range(2))
        before = os.getcwd()
        os.chdir(cwd)
        try:
            with in_environ(environ), mock.patch.object(budget_check, 'HERE', self.hooks), ledgers_closed(), redirect_stdout(out), redirect_stderr(err):
                code = budget_check.main(list(arguments))
        finally:
            os.chdir(before)
        return code, text_of(out), text_of(err)

    def sees(self, *words, **options):
        """The one finding whose text has these words; it has a cure, and the exit code is 1."""
        code, text = self.doctor(**options)
        lines = text.split('\n')
        findings = [line + lines[n + 1] for n, line in enumerate(lines) if line[:2] == '!!']
        found = [one for one in findings if all(word in one for word in words)]
        self.assertEqual((code, len(found)), (1, 1), text)
        self.assertIn(' -> ', found[0])
        return text

    def test_all_is_well(self):
        before = self.tree()
        code, text = self.doctor(python=[sys.executable])
        self.assertEqual(code, 0, text)
        self.assertTrue(text.endswith('The cap holds here.\n'))
        for about in ('budgets', 'prices', 'ledger', 'hooks', 'live test'):
            self.assertIn('\nok  ' + about, '\n' + text)
        self.assertIn('\nok  hooks      Claude Code runs the gate at PreToolUse, UserPromptSubmit, PreCompact\n', text)
        self.assertIn('ledger.sqlite3: ok, 1 log file\n', text)
        self.assertIn('a sub-agent of an arm over its cap was refused', text)
        self.assertNotIn('Codex', text)
        self.assertEqual({path for path in self.tree() - before if '__pycache__' not in path and '/armledger' not in path and '/.local' not in path}, set())

    def tree(self):
        return {os.path.join(where, name) for where, folders, names in os.walk(self.home) for name in folders + names}

    def test_a_real_installation_with_every_agent(self):
        for name in '.codex', '.copilot', '.qwen', '.gemini':
            os.makedirs(self.at(name))
        shutil.rmtree(self.hooks)
        os.remove(self.at('.claude/settings.json'))
        environ = {'HOME': self.home, 'PATH': os.environ['PATH']}
        subprocess.run([sys.executable, os.path.join(ROOT, '.make', 'install.py'), 'install', '--no-report', '--python', sys.executable],
                       env=environ, stdout=subprocess.DEVNULL, check=True, timeout=60)
        self.write('.claude/hooks/budgets.yaml', BUDGETS)
        code, text = self.doctor(python=QUICKLY)
        self.assertEqual(code, 0, text)
        for title in 'Claude Code', 'Codex', 'Copilot CLI', 'Qwen Code', 'Gemini CLI':
            self.assertIn(title + ': a sub-agent of an arm over its cap was refused', text)
        self.assertIn('type /hooks in Codex', text)
        # A line that doesn't say who asks gets Claude Code's answer, which Copilot lets pass.
        for name in '.copilot/hooks/armledger.json', '.gemini/settings.json':
            with self.subTest(name):
                with open(self.at(name)) as stream:
                    before = stream.read()
                self.write(name, before.replace(' --agent ', ' --nobody '))
                self.sees('live test', 'NOT refused')
                self.write(name, before)

    def test_how_the_hook_is_wired(self):
        for wiring, words in [
                ({'matcher': 'Agent|Task'}, ('PreToolUse', 'matcher is "Agent|Task", not "*"')),
                ({'matcher': '^Bash$'}, ('PreToolUse', 'matcher is "^Bash$", not "*"')),
                ({'events': ['PreToolUse', 'PreCompact']}, ('UserPromptSubmit: the gate is not run',)),
                ({'events': ['UserPromptSubmit', 'PreCompact']}, ('PreToolUse: the gate is not run',)),
                ({'events': ['PreToolUse', 'UserPromptSubmit']}, ('PreCompact: the gate is not run',)),
                ({'timeout': 2}, ('PreToolUse', 'timeout is 2, not 10')),
                ({'timeout': 0}, ('PreToolUse', 'timeout is 0, not 10')),
                ({'timeout': '10'}, ('PreToolUse', 'timeout is "10", not 10')),
                ({'top': {'cleanupPeriodDays': '30'}}, ('ignore all of it, hooks too',)),
                ({'top': {'model': 5}}, ('ignore all of it, hooks too',)),
                ({'top': {'permissions': {'defaultMode': 'bogus'}}}, ('ignore all of it, hooks too',)),
                ({'onFailure': None}, ('PreToolUse', 'onFailure is null, not "block"')),
                ({'async': True}, ('PreToolUse', 'async is true')),
                ({'if': 'Bash(git *)'}, ('PreToolUse', 'if is "Bash(git *)", not null')),
                ({'command': 'python3 %s' % self.hook}, ('PreToolUse', 'without -IS')),
                ({'top': {'disableAllHooks': True}}, ('turns hooks off',)),
                ({'top': {'cleanupPeriodDays': 0}}, ('ignore all of it, hooks too',)),
                ({'top': {'cleanupPeriodDays': 3}}, ('deletes transcripts after 3 days',)),
                ({'top': {'env': {'CLAUDE_CODE_SIMPLE': '1'}}}, ('sets CLAUDE_CODE_SIMPLE',))]:
            with self.subTest(wiring=wiring):
                self.wire(**wiring)
                self.sees(*words)

    def test_a_matcher_in_other_words_and_more_time_are_well(self):
        for wiring in {'matcher': ''}, {'matcher': '.*'}, {'matcher': None}, {'timeout': 60}, {'timeout': None}:
            with self.subTest(wiring=wiring):
                self.wire(**wiring)
                self.assertEqual(self.doctor()[0], 0)

    def test_managed_settings(self):
        managed = self.at('managed')
        with mock.patch.object(budget_check, 'MANAGED_SETTINGS', [managed + '/managed-settings.d/*.json']):
            for settings, words in [({'disableAllHooks': True}, ('turns hooks off',)),
                                    ({'allowManagedHooksOnly': True}, ('allowManagedHooksOnly', 'ask who manages it')),
                                    ({'strictPluginOnlyCustomization': True}, ('strictPluginOnlyCustomization',))]:
                with self.subTest(settings=settings):
                    self.write('managed/managed-settings.d/10-hooks.json', settings)
                    self.sees('10-hooks.json', *words)

    def test_homes_that_nobody_reads(self):
        self.assertEqual(self.doctor()[0], 0)
        for name, root in [('.claude-work', 'projects'), ('.codex-b', 'sessions'),
                           ('.config/Claude/local-agent-mode-sessions/o/a/local_x/.claude', 'projects'),
                           ('Library/Application Support/Claude/local-agent-mode-sessions/o/a/local_x/.claude', 'projects')]:
            with self.subTest(name):
                os.makedirs(self.at(os.path.join(name, root)))
                self.sees(self.at(name), 'what they cost is not counted')
                shutil.rmtree(self.at(name))
        os.makedirs(self.at('.claude-work/projects'))
        both = '%s,%s' % (self.at('.claude'), self.at('.claude-work'))
        self.assertEqual(self.doctor(CLAUDE_CONFIG_DIR=both)[0], 0)
        self.assertEqual(self.doctor()[0], 0)                      # and from then on it is known

    def test_settings_of_the_project(self):
        self.write('clients/acme/.claude/settings.local.json', {'disableAllHooks': True})
        self.sees('settings.local.json turns hooks off')
        self.write('clients/acme/.claude/settings.local.json', {'env': {'ARMLEDGER_BUDGETS': '/x', 'CI': '1'}})
        self.sees('sets ARMLEDGER_BUDGETS for hooks')
        self.write('clients/acme/.claude/settings.local.json', {'env': {'CLAUDE_CODE_SIMPLE': '1', 'BASH_ENV': '/x'}})
        self.sees('sets BASH_ENV, CLAUDE_CODE_SIMPLE for hooks')
        for name in 'CI', 'CLAUDE_CODE_SUBAGENT_MODEL', 'QWEN_MODEL':
            self.write('clients/acme/.claude/settings.local.json', {'env': {name: 'x'}})
            self.assertEqual(self.doctor()[0], 0, name)

    def test_settings_of_the_user(self):
        """What they set is the user's own choice, unless it turns the gate off."""
        self.wire(top={'env': {'PATH': '/usr/bin:/bin', 'ARMLEDGER_HOME': self.at('x'), 'CLAUDE_CODE_SUBAGENT_MODEL': 'haiku'}})
        for cwd in self.arm, self.home:                            # the home folder's settings are no project's
            self.assertEqual(self.doctor(cwd=cwd)[0], 0)

    def test_settings_of_every_listed_arm(self):
        """Also of arms where nobody has been yet, of such as have no path, and where a session began below one."""
        self.write('.claude/hooks/budgets.yaml', BUDGETS + '  - arm: beta\n    path: ~/clients/b*a\n    monthly_usd_cap: 1.00\n'
                   '  - arm: gamma\n    monthly_usd_cap: 1.00\n')
        os.makedirs(self.at('clients/beta'))
        os.makedirs(self.at('work/gamma/.git'))
        os.makedirs(self.at('clients/acme/web'))
        self.spend(cwd=self.at('work/gamma'), model='claude-haiku-4-5', name='.claude/projects/x/g.jsonl')
        self.spend(cwd=self.at('clients/acme/web'), model='claude-sonnet-4-5', name='.claude/projects/x/w.jsonl')
        self.assertEqual(self.doctor(cwd=self.home)[0], 0)
        for folder in 'clients/acme', 'clients/beta', 'work/gamma', 'clients/acme/web':
            for name in '.claude/settings.json', '.gemini/settings.json':
                with self.subTest(folder=folder, name=name):
                    self.write(os.path.join(folder, name), {'env': {'ARMLEDGER_BUDGETS': '/x'}})
                    self.sees(self.at(os.path.join(folder, name)), 'sets ARMLEDGER_BUDGETS for hooks', cwd=self.home)
                    os.remove(self.at(os.path.join(folder, name)))

    def test_a_gate_that_one_project_wires_is_none(self):
        self.wire('clients/acme/.claude/settings.json')
        self.write('.claude/settings.json', {})
        self.sees('Claude Code', 'PreToolUse: the gate is not run')

    def test_the_clock(self):
        self.assertEqual(self.doctor('--now', self.as_of + 'T11:55:00Z')[0], 0)       # the call was made at 12:00
        code, text = self.doctor('--now', self.as_of + 'T11:45:00Z')
        self.assertEqual(code, 1)
        self.assertIn('!!  clock      it is %sT11:45:00+00:00 here, before the newest call that is metered, of %sT12:00:00+00:00\n'
                      % (self.as_of, self.as_of), text)
        self.assertIn('-> set the clock', text)

    def test_settings_that_cannot_be_read(self):
        for text in ('{"hooks": ', '[]', '5', '{"a": 1,}'):
            with self.subTest(text=text):
                self.write('.claude/settings.json', text)
                self.sees('settings.json', 'ignores all of it')

    def test_settings_of_any_shape(self):
        for hooks in (5, [], {'PreToolUse': 5}, {'PreToolUse': [5]}, {'PreToolUse': [{'hooks': 5}]}, {'PreToolUse': [{'hooks': [5]}]},
                      {'PreToolUse': [{'hooks': [{'command': 5}]}]}):
            with self.subTest(hooks=hooks):
                self.write('.claude/settings.json', {'hooks': hooks})
                self.sees('Claude Code', 'PreToolUse: the gate is not run')

    def test_scripts(self):
        self.wire(command=command_for(self.hook, '/nowhere/python3'))
        self.sees('live test', 'NOT refused', '/nowhere/python3')
        self.wire(command=command_for(self.at('gone/pretooluse-hook.py')))
        self.sees('live test', 'NOT refused', 'silence')
        self.wire()
        os.remove(self.hooks + '/budget-check.py')
        self.sees('live test', 'NOT refused', 'budget-check.py')

    def test_a_gate_that_lets_through_is_found_by_the_live_test(self):
        for body in ('pass', 'raise SystemExit(1)', 'print("{}")', 'import sys; sys.stderr.write("no"); sys.exit(2)'):
            with self.subTest(body=body):
                self.write('.claude/hooks/pretooluse-hook.py', body)
                self.sees('live test', 'NOT refused')

    def test_budgets(self):
        for text, words in [('budgets:\n', ('budgets.yaml: no cap is set',)), ('budgets: 5\n', ('budgets.yaml:1:1: budgets is 5',)), ('', ('budgets.yaml',)),
                            ('on_error: allow\n' + BUDGETS, ('budgets', 'on_error: allow'))]:
            with self.subTest(text=text):
                self.write('.claude/hooks/budgets.yaml', text)
                self.assertIn('was refused', self.sees(*words))     # the live test has budgets of its own
        os.remove(self.hooks + '/budgets.yaml')
        self.sees('no cap is set', 'make install')

    def test_arms(self):
        other = BUDGETS + '  - %s\n    monthly_usd_cap: 1.00\n'
        for entry, words in [('arm: beta\n    path: ~/clients/betta', ('arm beta', 'clients/betta', 'guards nothing')),
                             ('arm: beta\n    paths: ["~/nothing-*"]', ('arm beta', '/nothing-*', 'guards nothing')),
                             ('arm: beta', ('arm beta', 'no repo of this name'))]:
            with self.subTest(entry=entry):
                self.write('.claude/hooks/budgets.yaml', other % entry)
                self.sees(*words)

    def test_prices(self):
        self.assertIn('0 days ago', self.doctor()[1])
        later = time.strftime('%Y-%m-%dT00:00:00Z', time.gmtime(budget_check.parse_time(self.as_of + 'T00:00:00Z') // 1000 + 61 * 86400))
        code, text = self.doctor('--now', later)
        self.assertEqual(code, 1)
        self.assertIn('61 days ago', text)
        self.spend(model='claude-nova-77', name='.claude/projects/x/t.jsonl')
        self.sees('no price is known for claude-nova-77')
        self.write('.claude/hooks/prices.json', '{')
        self.sees('error', 'prices.json:1:2')

    def test_logs(self):
        self.write('.codex/sessions/2026/rollout-x.jsonl.zst', 'x')
        self.sees('1 compressed log')
        shutil.rmtree(self.at('.codex'))
        shutil.rmtree(self.at('.claude/projects'))
        shutil.rmtree(self.at('.local'))
        self.sees('no session logs were found')

    @unittest.skipIf(not hasattr(os, 'geteuid') or os.geteuid() == 0, 'root can read all')
    def test_a_log_that_cannot_be_read(self):
        os.chmod(self.at('.claude/projects/x/s.jsonl'), 0)
        self.sees('cannot be read')

    def test_the_ledger(self):
        self.doctor()
        db = sqlite3.connect(self.ledger)
        db.execute('pragma user_version = 99')
        db.close()
        self.sees('ledger.sqlite3', '99')
        for name in os.listdir(os.path.dirname(self.ledger)):
            os.remove(os.path.join(os.path.dirname(self.ledger), name))
        self.write('.local/state/armledger/ledger.sqlite3', 'no database at all, but text' * 100)
        self.sees('ledger', '--rebuild')

    def test_codex_that_is_not_wired(self):
        os.makedirs(self.at('.codex'))
        self.sees('Codex PreToolUse: the gate is not run; UserPromptSubmit: the gate is not run')
        self.wire('.codex/hooks.json', onFailure=None)
        self.assertEqual(self.doctor()[0], 0)
        self.write('.codex/config.toml', '[features]\nhooks = false\n')
        self.sees('config.toml turns hooks off')


if __name__ == '__main__':
    unittest.main()
