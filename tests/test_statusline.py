"""The status line: one short line, whatever comes in."""
import json
import os
import shutil
import tempfile
import time
import unittest

from support import TEMPORARY, copy_scripts, run_script

BUDGETS = 'budgets:\n  - arm: acme\n    path: ~/clients/acme\n    monthly_usd_cap: 10.00\n'
WAYS = (['budget-check.py', '--statusline'], ['pretooluse-hook.py', '--statusline'])


class StatusLine(unittest.TestCase):

    def setUp(self):
        self.home = os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.hooks, self.arm = os.path.join(self.home, '.claude/hooks'), os.path.join(self.home, 'clients/acme')
        self.logs = os.path.join(self.home, '.claude/projects/x')
        for folder in (self.hooks, self.arm, self.logs):
            os.makedirs(folder)
        copy_scripts(self.hooks)
        self.set_budgets(BUDGETS)
        self.calls = 0

    def set_budgets(self, text):
        with open(self.hooks + '/budgets.yaml', 'w') as stream:
            stream.write(text)

    def spend(self, usd, cwd=None):
        """A call of claude-opus-4-5 that costs so much: $25 per million tokens of output."""
        self.calls += 1
        with open(self.logs + '/s.jsonl', 'a') as stream:
            stream.write(json.dumps({
                'type': 'assistant', 'timestamp': time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime()), 'sessionId': 's',
                'cwd': cwd or self.arm, 'requestId': 'r%d' % self.calls,
                'message': {'id': 'm%d' % self.calls, 'model': 'claude-opus-4-5', 'usage': {'output_tokens': int(usd * 40000)}}}) + '\n')

    def show(self, payload=None, way=WAYS[0], **environ):
        if payload is None:
            payload = {'session_id': 's', 'cwd': self.arm, 'workspace': {'current_dir': self.arm, 'project_dir': self.arm},
                       'model': {'id': 'claude-opus-4-5', 'display_name': 'Opus'}, 'cost': {'total_cost_usd': 1.5}}
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        environ = dict({'HOME': self.home, 'PATH': os.environ['PATH'], 'TZ': 'UTC', 'NO_COLOR': '1'}, **environ)
        done = run_script(os.path.join(self.hooks, way[0]), *way[1:], input=payload, env=environ, cwd=self.home)
        self.assertEqual((done.returncode, done.stderr), (0, b''))
        line, end, rest = done.stdout.decode('utf-8').partition('\n')
        self.assertEqual((end, rest), ('\n', ''))
        return line

    def test_the_line(self):
        self.spend(4.25)
        for way in WAYS:
            with self.subTest(way=way):
                self.assertEqual(self.show(way=way), 'acme $4.25 of $10.00 this month ####...... 42 % ok')

    def test_tiers_and_their_colours(self):
        for more, tier, colour, bar in ((0, 'ok', '32', '..........'), (8.5, 'alert', '33', '########..'), (2, 'warn', '33', '##########'),
                                        (1, 'hard stop', '31', '##########'), (9, 'halt', '31;1', '##########')):
            if more:
                self.spend(more)
            line = self.show()
            self.assertTrue(line.endswith(' %% %s' % tier), line)
            self.assertIn(bar, line)
            self.assertEqual(self.coloured(), '\033[%sm%s\033[0m' % (colour, line))

    def coloured(self):
        done = run_script(self.hooks + '/budget-check.py', '--statusline', input=json.dumps({'cwd': self.arm}).encode(),
                          env={'HOME': self.home, 'PATH': os.environ['PATH'], 'TZ': 'UTC'})
        return done.stdout.decode().rstrip('\n')

    def test_where_no_cap_applies_the_line_is_empty(self):
        self.assertEqual(self.show({'cwd': self.home + '/elsewhere'}), '')
        self.set_budgets('budgets:\n')
        self.assertEqual(self.show(), '')
        os.remove(self.hooks + '/budgets.yaml')
        self.assertEqual(self.show(), '')

    def test_the_folder_is_the_current_one_then_that_in_which_the_session_began(self):
        self.spend(1)
        for payload in ({'workspace': {'current_dir': self.arm}}, {'cwd': self.arm}, {'cwd': '/', 'transcript_path': self.logs + '/s.jsonl'},
                        {'cwd': '/', 'session_id': 's'}, {'cwd': self.arm, 'workspace': {'current_dir': None}}):
            with self.subTest(payload=payload):
                self.assertIn('acme $1.00 of', self.show(payload))

    def test_an_unlisted_repo_is_named_by_its_folder(self):
        os.makedirs(self.home + '/x/shop/.git')
        self.set_budgets('default:\n  daily_usd_cap: 2.00\n')
        self.assertEqual(self.show({'cwd': self.home + '/x/shop'}), 'shop $0.00 of $2.00 today .......... 0 % ok')

    def test_errors_are_short_and_exit_0(self):
        for payload in (b'', b'no json', b'[]', b'\xff\xfe', b'[' * 100000):
            with self.subTest(payload=payload[:10]):
                self.assertEqual(self.show(payload), "armledger: ? Claude Code's status-line JSON is expected on stdin")
        self.set_budgets('budgets: 5')
        line = self.show()
        self.assertTrue(line.startswith('armledger: ? ') and 'budgets.yaml:1:' in line and len(line) < 200, line)
        self.set_budgets(BUDGETS)
        os.remove(self.hooks + '/prices.json')
        self.assertIn('armledger: ? ', self.show())

    def test_a_missing_script_is_no_traceback(self):
        os.remove(self.hooks + '/budget-check.py')
        self.assertEqual(self.show(way=WAYS[1]), 'armledger: ? FileNotFoundError')

    def test_no_escapes_from_a_name(self):
        place = self.home + '/x/\x1b[31mred'
        os.makedirs(place + '/.git')
        self.set_budgets('default:\n  daily_usd_cap: 2.00\n')
        self.assertNotIn('\x1b', self.show({'cwd': place}))


if __name__ == '__main__':
    unittest.main()
