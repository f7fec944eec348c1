"""What README shows is what the scripts do: its transcript, its settings, its options, its test command."""
import json
import os
import re
import subprocess
import sys
import unittest

from support import ROOT, load_script

sys.path.insert(0, os.path.join(ROOT, '.make'))
import wiring  # noqa: E402

with open(os.path.join(ROOT, 'README.md'), encoding='utf-8') as stream:
    README = stream.read()


def blocks(language):
    """The fenced blocks of a language."""
    return re.findall(r'^```%s\n(.*?)^```' % language, README, re.DOTALL | re.MULTILINE)


def squeezed(text):
    return ' '.join(text.split())


class TranscriptTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        done = subprocess.run([sys.executable, os.path.join(ROOT, '.make', 'demo.py')], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                              env={'PATH': os.environ.get('PATH', os.defpath), 'HOME': '/nonexistent', 'LANG': 'C.UTF-8'})
        cls.demo = done.stdout.decode('utf-8')
        cls.code = done.returncode

    def test_the_demo_shows_the_table(self):
        self.assertEqual(self.code, 0, self.demo)
        command, *table = blocks('console')[0].splitlines()
        self.assertIn(command, self.demo)
        for line in table:
            self.assertIn(line, self.demo.splitlines())
        self.assertEqual(len(table), 3)

    def test_the_demo_shows_the_refusal(self):
        self.assertIn(squeezed(blocks('text')[0]), squeezed(self.demo))


class SettingsTest(unittest.TestCase):

    def test_the_settings_are_what_install_wires(self):
        check = load_script('budget-check.py')
        wired = json.loads(blocks('json')[0])['hooks']
        command = wired['PreToolUse'][0]['hooks'][0]['command']
        self.assertRegex(command, r'^\[ ! -f (\S+) \] \|\| exec python3 -IS \1$')
        entries = wiring.hook_entries(check.CLIENTS['claude-code'], command)
        self.assertEqual(wired, {event: [entry] for event, entry in entries.items()})
        self.assertEqual(sorted(wired), ['PreCompact', 'PreToolUse', 'UserPromptSubmit'])

    def test_every_settings_file_that_install_wires_is_named(self):
        for client in load_script('budget-check.py').CLIENTS.values():
            self.assertIn('`%s`' % client.settings({}, '~'), README)

    def test_the_budgets_are_read(self):
        gate = load_script('budget-check.py')
        read = 0
        for text in blocks('yaml'):
            if text.startswith('notify:'):
                for line in text.splitlines():
                    self.assertTrue(gate.Budgets(line + '\n', 'README.md', '/home/op').notify)
                    read += 1
            else:
                self.assertTrue(gate.Budgets(text, 'README.md', '/home/op').armed())
                read += 1
        self.assertEqual(read, 4)


class CommandsTest(unittest.TestCase):

    def test_each_option_is_one(self):
        shown = {}
        for script in ('budget-check.py', 'cost-report.py'):
            shown[script] = subprocess.run([sys.executable, os.path.join(ROOT, script), '--help'], timeout=60,
                                           stdout=subprocess.PIPE).stdout.decode('utf-8')
        lines = [line for text in blocks('console') + blocks('crontab') for line in text.splitlines()]
        options = 0
        for line in lines:
            for script, help_text in shown.items():
                if script in line:
                    for option in re.findall(r'(?<= )--[a-z-]+', line.split('#')[0]):
                        self.assertRegex(help_text, re.escape(option) + r'\b', line)
                        options += 1
        self.assertGreater(options, 10)

    def test_make_test_runs_what_is_said(self):
        command = re.search(r'`make test` \(`python3 (-m unittest [^`]+)`\)', README).group(1)
        with open(os.path.join(ROOT, 'Makefile'), encoding='utf-8') as makefile:
            self.assertIn('$(PYTHON) ' + command, makefile.read())


if __name__ == '__main__':
    unittest.main()
