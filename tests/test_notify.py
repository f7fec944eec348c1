"""`notify:` in budgets.yaml: once for each arm, window and tier, in its own time, and its failures are told once."""
import json
import os
import shutil
import tempfile
import time
import unittest

from support import TEMPORARY, copy_scripts, run_script

NOW = time.time()
BUDGETS = '''budgets:
  - arm: acme
    path: ~/clients/acme
    monthly_usd_cap: 10.00
    notify: %s
'''


def entries(folder):
    return [os.path.join(folder, name) for name in os.listdir(folder)]


def read_json(path):
    with open(path) as stream:
        return json.load(stream)


class Notify(unittest.TestCase):
    counts = {}                  # {folder: (test, how often it should have been told)}

    def setUp(self):
        self.home = os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY))
        self.addClassCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.hooks, self.arm = os.path.join(self.home, '.claude/hooks'), os.path.join(self.home, 'clients/acme')
        self.logs, self.told = os.path.join(self.home, '.claude/projects/x'), os.path.join(self.home, 'told')
        for folder in (self.hooks, self.arm, self.logs, self.told):
            os.makedirs(folder)
        copy_scripts(self.hooks)
        self.calls, self.environ = 0, {}
        self.command = 'cat > "%s/$$"' % self.told

    def budgets(self, command=None, text=BUDGETS):
        with open(self.hooks + '/budgets.yaml', 'w') as stream:
            stream.write(text % ("'%s'" % (command or self.command).replace("'", "''")))

    def spend(self, usd, cwd=None):
        """A call of claude-opus-4-5 that costs so much: $25 per million tokens of output."""
        self.calls += 1
        with open('%s/s.jsonl' % self.logs, 'a') as stream:
            stream.write(json.dumps({
                'type': 'assistant', 'timestamp': time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(NOW)), 'sessionId': 's',
                'cwd': cwd or self.arm, 'requestId': 'r%d' % self.calls, 'uuid': 'u%d' % self.calls,
                'message': {'id': 'm%d' % self.calls, 'model': 'claude-opus-4-5', 'content': [{'type': 'tool_use', 'id': 't1'}],
                            'usage': {'input_tokens': 0, 'output_tokens': int(usd * 40000)}}}) + '\n')

    def run_script(self, name, *arguments, text=''):
        done = run_script(os.path.join(self.hooks, name), *arguments, input=text.encode(), cwd=self.arm,
                          env={'HOME': self.home, 'PATH': os.environ['PATH'], 'TZ': 'UTC', **self.environ})
        done.stdout, done.stderr = done.stdout.decode('utf-8'), done.stderr.decode('utf-8')
        return done

    def gate(self, tool='Bash', session='s'):
        done = self.run_script('pretooluse-hook.py', text=json.dumps({
            'session_id': session, 'cwd': self.arm, 'hook_event_name': 'PreToolUse', 'tool_name': tool, 'tool_use_id': 't1', 'tool_input': {}}))
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def wait_for(self, count):
        """What has been told, oldest first, once it is so many; that it's no more is seen again at the end of all tests."""
        Notify.counts[self.told] = self.id(), count
        until = time.monotonic() + 10
        while True:
            try:
                told = [read_json(path) for path in sorted(entries(self.told), key=os.path.getmtime)]
                if len(told) >= count:
                    break
            except ValueError:                             # it is being written
                told = []
            if time.monotonic() > until:
                break
            time.sleep(.01)
        self.assertEqual(len(told), count, told)
        return told

    @classmethod
    def tearDownClass(cls):
        """Nothing more was told while the other tests ran."""
        time.sleep(.3)
        for folder, (test, count) in cls.counts.items():
            told = [read_json(path) for path in entries(folder)]
            if len(told) != count:
                raise AssertionError('%s: %d expected, and told: %s' % (test, count, told))

    def failures(self, count):
        path = os.path.join(self.home, '.local/state/armledger/notify-failures.jsonl')
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if os.path.exists(path):
                with open(path) as stream:
                    lines = stream.read().splitlines()
                if len(lines) >= count:
                    return [json.loads(line) for line in lines]
            time.sleep(.02)
        self.fail('no failure was recorded')

    def test_once_for_each_tier(self):
        self.budgets()
        self.gate()
        self.spend(5)
        self.gate()
        self.wait_for(0)
        self.spend(3.5)
        for session in 'abc':                              # however many sessions and calls
            self.gate(session=session)
        self.run_script('budget-check.py')
        told, = self.wait_for(1)
        self.assertEqual((told['arm'], told['window'], told['tier']), ('acme', 'month', 'alert'))
        self.assertEqual(told['text'], 'armledger: acme has spent $8.50 of its $10.00 cap this month (85 %: alert; an estimate at list price).')
        self.assertEqual((told['status'], told['estimate'], told['arms'][0]['spent_usd']), ('ALERT', True, 8.5))
        self.spend(9)
        self.gate('Agent')                                 # a refusal tells as well
        told = self.wait_for(2)
        self.assertEqual((told[1]['tier'], told[1]['status']), ('halt', 'HARD_STOP'))

    def test_budget_check_tells_too(self):
        self.budgets()
        self.spend(10.5)
        self.run_script('budget-check.py', '--json')
        self.assertEqual(self.wait_for(1)[0]['tier'], 'warn')

    def test_looking_back_tells_nobody(self):
        self.budgets()
        self.spend(20)
        self.run_script('budget-check.py', '--now', time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(NOW + 60)))
        self.wait_for(0)

    def test_each_window_by_itself(self):
        self.budgets(text=BUDGETS + '    daily_usd_cap: 1.00\n')
        self.spend(9)
        self.gate()
        self.assertEqual(sorted((one['window'], one['tier']) for one in self.wait_for(2)), [('day', 'halt'), ('month', 'alert')])

    def test_an_arms_own_command_goes_first(self):
        self.budgets(text='notify: exit 3\n' + BUDGETS)
        self.spend(9)
        self.gate()
        self.wait_for(1)

    def test_top_level_and_default(self):
        self.budgets(text='notify: %s\ndefault:\n  monthly_usd_cap: 10.00\n')
        self.spend(9)
        self.gate()
        told, = self.wait_for(1)
        self.assertEqual(told['arm'], self.arm)

    def test_a_name_never_gets_into_the_command_line(self):
        self.arm = os.path.join(self.home, 'clients', '$(touch pwned)`touch pwned`;touch pwned')
        os.makedirs(self.arm)
        self.budgets(text='notify: %s\ndefault:\n  monthly_usd_cap: 10.00\n')
        self.spend(9)
        self.gate()
        told, = self.wait_for(1)
        self.assertEqual(told['arm'], self.arm)
        self.assertEqual([where for where, _, names in os.walk(self.home) if 'pwned' in names], [])

    def test_the_gate_waits_for_no_command(self):
        self.budgets('sleep 5')
        self.gate()                                        # compiles and makes the ledger
        quick = min(self.timed() for _ in range(5))
        self.spend(9)
        first = self.timed()
        self.assertLess(first - quick, 1.0)                # far from five seconds, on a busy machine too

    def timed(self):
        began = time.monotonic()
        self.gate()
        return time.monotonic() - began

    def test_it_does_not_run_in_the_clients_repo(self):
        self.budgets('pwd > "%s/pwd"; cat' % self.home)
        self.spend(9)
        self.gate()
        path, until = self.home + '/pwd', time.monotonic() + 10
        while not (os.path.exists(path) and os.path.getsize(path)) and time.monotonic() < until:
            time.sleep(.02)
        with open(path) as stream:
            self.assertEqual(stream.read().strip(), self.home)

    def test_a_failure_is_reported_once(self):
        for command, code in (('exit 3', 3), ('no-such-command-here', 127)):
            with self.subTest(command=command):
                shutil.rmtree(self.home + '/.local', ignore_errors=True)
                self.budgets(command)
                self.spend(9)
                self.gate()
                self.assertEqual([one['code'] for one in self.failures(1)], [code])
                first, second = self.run_script('budget-check.py'), self.run_script('budget-check.py')
                self.assertIn('the notify command of acme failed (exit code %d) at ' % code, first.stderr)
                self.assertNotIn('notify', second.stderr)
                os.remove(self.logs + '/s.jsonl')

    def test_one_that_cannot_be_started_is_reported(self):
        self.budgets()
        self.spend(20)
        self.home, home = self.home + '/gone', self.home
        self.environ = {'ARMLEDGER_HOME': home + '/state', 'CLAUDE_CONFIG_DIR': home + '/.claude', 'ARMLEDGER_BUDGETS': self.hooks + '/budgets.yaml'}
        with open(self.hooks + '/budgets.yaml') as stream:
            text = stream.read()
        with open(self.hooks + '/budgets.yaml', 'w') as stream:
            stream.write(text.replace('~/', home + '/'))
        self.assertIn('continue', self.gate())             # it decides as ever
        first, second = self.run_script('budget-check.py'), self.run_script('budget-check.py')
        self.assertIn('the notify command of acme failed (exit code FileNotFoundError) at ', first.stderr)
        self.assertNotIn('notify', second.stderr)

    def test_a_report_of_one_arm_leaves_anothers_failure(self):
        self.budgets('exit 1', BUDGETS + '  - arm: other\n    path: ~/other\n    monthly_usd_cap: 1.00\n')
        self.spend(9)
        self.gate()
        self.failures(1)
        os.makedirs(self.home + '/other')
        self.assertNotIn('acme', self.run_script('budget-check.py', 'other').stderr)
        self.assertIn('acme', self.run_script('budget-check.py', '--json').stdout.partition('"warnings"')[2])

    def test_what_it_prints_reaches_nobody(self):
        self.budgets('echo noise; echo noise >&2')
        self.spend(9)
        self.assertNotIn('noise', self.gate())


if __name__ == '__main__':
    unittest.main()
