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

from homes import in_environ
from support import QUICKLY, ROOT, TEMPORARY, copy_scripts, load_script

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
            self.as_of = budget_check.parse_prices(stream.read(), 'prices.json').as_of
        self.write('.claude/hooks/budgets.yaml', BUDGETS)
        self.wire()
        self.spend()

    def at(self, name):
        return os.path.join(self.home, name)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
        with open(self.at(name), 'w') as stream:
            stream.write(content if isinstance(content, str) else json.dumps(content))

    def wire(self, path='.claude/settings.json', command=None, matcher='*', events=('PreToolUse', 'UserPromptSubmit'), top=None, **more):
        handler = dict({'type': 'command', 'command': command or command_for(self.hook), 'timeout': 10, 'onFailure': 'block'}, **more)
        handler = {name: value for name, value in handler.items() if value is not None}
        self.write(path, dict({'hooks': {event: [{'matcher': matcher, 'hooks': [handler]}] for event in events}}, **top or {}))

    def spend(self, cwd=None, model='claude-opus-4-5', name='.claude/projects/x/s.jsonl'):
        self.write(name, json.dumps({
            'type': 'assistant', 'timestamp': self.as_of + 'T12:00:00.000Z', 'sessionId': 's', 'cwd': cwd or self.arm, 'requestId': 'r',
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
        out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
        os.chdir(cwd)
        try:
            with in_environ(environ), mock.patch.object(budget_check, 'HERE', self.hooks), redirect_stdout(out), redirect_stderr(err):
                code = budget_check.main(list(arguments))
        finally:
            os.chdir(before)
        return code, out.getvalue(), err.getvalue()

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
        for about in ('python', 'hooks', 'scripts', 'budgets', 'prices', 'ledger', 'logs', 'arms', 'live test'):
            self.assertIn('\nok  ' + about if about != 'python' else 'ok  python', text)
        self.assertIn('a sub-agent of an arm over its cap was refused', text)
        self.assertNotIn('Codex', text)
        self.assertEqual({path for path in self.tree() - before if '__pycache__' not in path and '/armledger' not in path and '/.local' not in path}, set())

    def tree(self):
        return {os.path.join(where, name) for where, folders, names in os.walk(self.home) for name in folders + names}

    def test_a_real_installation_with_codex(self):
        os.makedirs(self.at('.codex'))
        shutil.rmtree(self.hooks)
        os.remove(self.at('.claude/settings.json'))
        environ = {'HOME': self.home, 'PATH': os.environ['PATH']}
        subprocess.run([sys.executable, os.path.join(ROOT, '.make', 'install.py'), 'install', '--no-report', '--python', sys.executable],
                       env=environ, stdout=subprocess.DEVNULL, check=True, timeout=60)
        self.write('.claude/hooks/budgets.yaml', BUDGETS)
        code, text = self.doctor(python=QUICKLY)
        self.assertEqual(code, 0, text)
        self.assertIn('Codex: a sub-agent of an arm over its cap was refused', text)
        self.assertIn('Claude Code: a sub-agent of an arm over its cap was refused', text)

    def test_how_the_hook_is_wired(self):
        for wiring, words in [
                ({'matcher': 'Agent|Task'}, ('the matcher Agent|Task leaves out', 'Bash')),
                ({'matcher': '^Bash$'}, ('leaves out Agent',)),
                ({'events': ['PreToolUse']}, ('does not run the gate at UserPromptSubmit',)),
                ({'events': ['UserPromptSubmit']}, ('does not run the gate at PreToolUse',)),
                ({'timeout': 2}, ('PreToolUse', 'timeout of 2 s')),
                ({'onFailure': None}, ('PreToolUse', 'onFailure')),
                ({'async': True}, ('PreToolUse', 'async')),
                ({'top': {'disableAllHooks': True}}, ('turns all hooks off',)),
                ({'top': {'cleanupPeriodDays': 0}}, ('kept for 0 days',))]:
            with self.subTest(wiring=wiring):
                self.wire(**wiring)
                self.sees(*words)

    def test_a_matcher_in_other_words_is_well(self):
        for matcher in ('', '.*', None):
            with self.subTest(matcher=matcher):
                self.wire(matcher=matcher)
                self.assertEqual(self.doctor()[0], 0)

    def test_settings_of_the_project(self):
        self.write('clients/acme/.claude/settings.local.json', {'disableAllHooks': True})
        self.sees('settings.local.json turns all hooks off')
        self.write('clients/acme/.claude/settings.local.json', {'env': {'ARMLEDGER_BUDGETS': '/x', 'CI': '1'}})
        self.sees('sets ARMLEDGER_BUDGETS for hooks')
        os.makedirs(self.at('clients/acme/.git'))
        os.makedirs(self.at('clients/acme/src'))
        self.sees('sets ARMLEDGER_BUDGETS for hooks', cwd=self.at('clients/acme/src'))

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
                self.sees('live test', 'nothing is wired')

    def test_scripts(self):
        os.rename(self.hooks + '/budget-check.py', self.hooks + '/budget-check.txt')
        self.assertIn('no budget-check.py', self.findings_of_copy())
        os.rename(self.hooks + '/budget-check.txt', self.hooks + '/budget-check.py')
        self.wire(command=command_for(self.hook, '/nowhere/python3'))
        self.sees('/nowhere/python3 cannot load')
        self.sees('live test', 'NOT refused')
        self.wire(command=command_for(self.at('gone/pretooluse-hook.py')))
        self.sees('scripts', 'nothing is ever refused')
        self.sees('live test', 'NOT refused', 'silence')

    def findings_of_copy(self):
        """What the doctor says when it is run from another folder than the wired one."""
        shutil.copytree(self.hooks, self.at('copy'))
        os.rename(self.at('copy/budget-check.txt'), self.at('copy/budget-check.py'))
        done = subprocess.run([sys.executable, self.at('copy/budget-check.py'), '--doctor'], stdout=subprocess.PIPE, encoding='utf-8',
                              env={'HOME': self.home, 'PATH': os.environ['PATH']}, timeout=60)
        return done.stdout

    def test_a_gate_that_lets_through_is_found_by_the_live_test(self):
        for body in ('pass', 'raise SystemExit(1)', 'print("{}")', 'import sys; sys.stderr.write("no"); sys.exit(2)'):
            with self.subTest(body=body):
                self.write('.claude/hooks/pretooluse-hook.py', body)
                self.sees('live test', 'NOT refused')

    def test_budgets(self):
        for text, words in [('budgets:\n', ('sets no cap',)), ('budgets: 5\n', ('budgets.yaml:1:10',)),
                            ('on_error: allow\n' + BUDGETS, ('on_error: allow',))]:
            with self.subTest(text=text):
                self.write('.claude/hooks/budgets.yaml', text)
                self.assertIn('was refused', self.sees('budgets', *words))     # the live test has budgets of its own
        os.remove(self.hooks + '/budgets.yaml')
        self.sees('budgets', 'there is no budgets.yaml')

    def test_arms(self):
        other = BUDGETS + '  - %s\n    monthly_usd_cap: 1.00\n'
        for entry, words in [('arm: beta\n    path: ~/clients/betta', ('beta: no folder ~/clients/betta',)),
                             ('arm: beta\n    path: ~/clients', ('beta: matches nothing in the logs',)),
                             ('arm: beta\n    paths: ["~/nothing-*"]', ('beta: matches nothing in the logs',)),
                             ('arm: beta', ('beta: no repo in the logs has this name',))]:
            with self.subTest(entry=entry):
                self.write('.claude/hooks/budgets.yaml', other % entry)
                self.sees('arms', *words)

    def test_prices(self):
        self.assertIn('0 days ago', self.doctor()[1])
        later = time.strftime('%Y-%m-%dT00:00:00Z', time.gmtime(budget_check.parse_time(self.as_of + 'T00:00:00Z') // 1000 + 61 * 86400))
        code, text = self.doctor('--now', later)
        self.assertEqual(code, 1)
        self.assertIn('61 days ago', text)
        self.spend(model='claude-nova-77', name='.claude/projects/x/t.jsonl')
        self.sees('no price is known for claude-nova-77')
        self.write('.claude/hooks/prices.json', '{')
        self.sees('!!  prices', 'prices.json:1:2')

    def test_logs(self):
        self.write('.codex/sessions/2026/rollout-x.jsonl.zst', 'x')
        self.assertIn('1 compressed logs', self.sees('compressed logs'))
        shutil.rmtree(self.at('.codex'))
        shutil.rmtree(self.at('.claude/projects'))
        shutil.rmtree(self.at('.local'))
        self.sees('no log was found')

    @unittest.skipIf(not hasattr(os, 'geteuid') or os.geteuid() == 0, 'root can read all')
    def test_a_log_that_cannot_be_read(self):
        os.chmod(self.at('.claude/projects/x/s.jsonl'), 0)
        self.sees('cannot be read')

    def test_the_ledger(self):
        self.doctor()
        os.chmod(self.ledger, 0o644)
        self.sees('ledger', 'can be looked into by others (644)')
        os.chmod(self.ledger, 0o600)
        db = sqlite3.connect(self.ledger)
        db.execute('pragma user_version = 99')
        db.close()
        self.sees('ledger', 'written by a newer armledger', '99,')
        for name in os.listdir(os.path.dirname(self.ledger)):
            os.remove(os.path.join(os.path.dirname(self.ledger), name))
        self.write('.local/state/armledger/ledger.sqlite3', 'no database at all, but text' * 100)
        self.sees('ledger', '--rebuild')

    def test_codex_that_is_not_wired(self):
        os.makedirs(self.at('.codex'))
        text = self.sees('Codex does not run the gate at PreToolUse')
        self.assertIn('Codex does not run the gate at UserPromptSubmit', text)
        self.wire('.codex/hooks.json', onFailure=None)
        self.assertEqual(self.doctor()[0], 0)
        self.write('.codex/config.toml', '[features]\nhooks = false\n')
        self.sees('config.toml turns hooks off')

    def test_matchers(self):
        for matcher, tool, takes in [('*', 'X', True), ('', 'X', True), (None, 'X', True), ('Agent', 'Agent', True), ('Agent', 'AgentX', False),
                                     ('Bash|Agent', 'Agent', True), ('Bash, Agent', 'Agent', True), ('.*', 'X', True), ('Ag.*', 'Agent', True),
                                     ('mcp__.*', 'Bash', False), ('[', 'X', False), (5, 'X', False)]:
            with self.subTest(matcher=matcher, tool=tool):
                self.assertEqual(budget_check.matcher_takes(matcher, tool), takes)


if __name__ == '__main__':
    unittest.main()
