"""What can go wrong, through the real scripts: the decision is the rule's, and the message says what to do.

The rule: where a cap could apply, expensive tools are refused and others pass with a message to the
user; where nothing is armed, all pass in silence. Exit 1 and tracebacks never reach the agent."""
import glob
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
from contextlib import redirect_stdout
from unittest import mock

from support import BUDGETS, QUICKLY, ROOT, Home, HookAnswer, load_script, run_script

try:
    import resource
except ImportError:                                    # Windows
    resource = None

TIME_OUT = 8.0                   # seconds: well inside of the hook's 10
UNARMED = 'timezone: local\n'


def without_root_powers():
    """In a child before it starts: root has to keep to permission bits like everybody else."""
    if os.geteuid() == 0:
        import ctypes
        for power in (1, 2):                           # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if ctypes.CDLL(None).prctl(24, power, 0, 0, 0) != 0:
                os._exit(99)


def permissions_hold():
    """Whether a file without permissions can be made unreadable for a child of ours."""
    try:
        return os.name == 'posix' and subprocess.run(
            [sys.executable, '-c', ''], preexec_fn=without_root_powers).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def sparse(path, size):
    with open(path, 'wb') as stream:
        stream.truncate(size)


# Holds ledgers until the programs that it starts meanwhile have ended, but for the last, a person's, which should be waiting still. Says how
# each ended, after how long, and whether the last one waited.
HOLDER = '''
import json, sqlite3, subprocess, sys, threading, time
job, said = json.load(sys.stdin), {}
holders = [sqlite3.connect(path, isolation_level=None) for path in job["ledgers"]]
for holder in holders:
    holder.execute("begin exclusive")

def run(name, command, environ, cwd, text, number):
    began = time.monotonic()
    process = subprocess.Popen(command, env=environ, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if number:
        threading.Timer(1.5, process.send_signal, (number,)).start()
    out, err = process.communicate(text.encode())
    said[name] = process.returncode, out.decode(), err.decode(), time.monotonic() - began

threads = [threading.Thread(target=run, args=program) for program in job["programs"]]
for thread in threads:
    thread.start()
for thread in threads[:-1]:
    thread.join()
time.sleep(0.5)
waited = threads[-1].is_alive()
for holder in holders:
    holder.execute("rollback")
threads[-1].join()
print(json.dumps([said, waited]))
'''


class locked:
    """What WhileLocked will ask about: it goes on while other tests run."""
    home = process = None


def setUpModule():
    test = unittest.TestCase()
    unittest.addModuleCleanup(test.doCleanups)
    locked.home, no_wal = Home(test), Home(test, ARMLEDGER_NO_WAL='1')
    for home in (locked.home, no_wal):
        home.add_calls(1, 1)
        home.run('budget-check.py')
        home.add_calls(1)
    hook = [sys.executable, '-IS', os.path.join(ROOT, 'pretooluse-hook.py')]
    cli = [*QUICKLY, os.path.join(ROOT, 'budget-check.py'), '--json']
    programs = [(name, command, home.environ, home.acme, home.payload(tool).decode() if tool else '', number)
                for name, command, home, tool, number in (
                    ('agent', hook, locked.home, 'Agent', None), ('bash', hook, locked.home, 'Bash', None),
                    ('no wal', hook, no_wal, 'Agent', None), ('term', hook, locked.home, 'Agent', 15),
                    ('int', hook, locked.home, 'Agent', 2), ('hup', hook, locked.home, 'Agent', 1),
                    ('term bash', hook, locked.home, 'Bash', 15), ('cli', cli, locked.home, None, None))]
    locked.process = subprocess.Popen([sys.executable, '-IS', '-c', HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    unittest.addModuleCleanup(end, locked.process)
    with locked.process.stdin as stream:
        stream.write(json.dumps({'ledgers': [locked.home.ledger, no_wal.ledger], 'programs': programs}).encode())
    locked.process.stdin = None


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


class Errors(unittest.TestCase):
    def decided(self, home, *fragments, cli=1, events=False, **options):
        """The rule, and every fragment in what the user gets to read; budget-check.py exits `cli`.

        With `events` other hooks than those before a tool are asked, too."""
        asked = [dict(tool='Agent'), dict(tool='Bash')]
        if events:
            asked += [dict(tool=None, hook_event_name='UserPromptSubmit', prompt='x'), dict(tool=None, hook_event_name='SessionStart')]
        agent, bash, *others = said = home.hooks(*[dict(options=options, **one) for one in asked])
        self.assertTrue(agent.refused, agent)
        self.assertFalse(bash.refused, bash)
        self.assertTrue(bash.json.get('systemMessage'), bash)
        if others:
            self.assertFalse(others[0].refused, others)
            self.assertTrue(others[1].silent, others)
            said.pop()
        done = home.run('budget-check.py', **options)
        self.assertEqual(cli, done.returncode, done)
        for answer in said:
            self.well_behaved(answer)
        for fragment in fragments:
            for text in [answer.text for answer in said] + [done.stderr.decode()]:
                self.assertIn(fragment, text)
        self.assertNotIn('Traceback', done.stderr.decode())
        self.assertNotIn('bug in armledger', agent.text + bash.text)

    def well_behaved(self, answer):
        self.assertIn(answer.code, (0, 2), answer)
        self.assertLess(answer.seconds, TIME_OUT, answer)
        self.assertNotIn('Traceback', answer.err)
        self.assertFalse(answer.code == 2 and answer.out, answer)

    def all_pass(self, home, **options):
        for answer in home.hooks(dict(tool='Agent', **options), dict(tool='Bash', **options)):
            self.assertTrue(answer.silent, answer)

    def over_cap(self, **environ):
        """A home whose arm has spent $12 of its $10: at its hard stop, not at its halt."""
        home = Home(self, **environ)
        home.add_calls(6, 6)
        return home

    def metered(self, home, usd, cli=0):
        """What budget-check.py --json says, called in this process."""
        with mock.patch.dict(os.environ, home.environ, clear=True), redirect_stdout(io.TextIOWrapper(io.BytesIO())) as out:
            self.assertEqual(cli, load_script('budget-check.py').main(['--json']))
        said = json.loads(out.buffer.getvalue())
        self.assertEqual(usd, said['arms'][0]['spent_usd'])
        return said


class BudgetsFile(Errors):
    def setUp(self):
        self.home = Home(self)
        self.home.add_calls(1)

    @unittest.skipUnless(permissions_hold(), 'nobody here is kept from a file')
    def test_unreadable(self):
        os.chmod(self.home.budgets, 0)
        self.decided(self.home, 'budgets.yaml: cannot be read: Permission denied', preexec_fn=without_root_powers)

    def test_dangling_symlink(self):
        os.remove(self.home.budgets)
        os.symlink('nowhere', self.home.budgets)
        self.decided(self.home, 'budgets.yaml: cannot be read: No such file')

    def test_missing_although_named(self):
        os.remove(self.home.budgets)
        self.decided(self.home, 'budgets.yaml: no such file; it is named by $ARMLEDGER_BUDGETS')

    def test_empty(self):
        for text in ('\n', '# nothing\n', UNARMED):
            with self.subTest(text=text):
                self.home.write(self.home.budgets, text)
                self.all_pass(self.home)
                done = self.home.run('budget-check.py')
                self.assertEqual(1, done.returncode)
                self.assertIn('budgets.yaml: no cap is set', done.stderr.decode())

    def test_no_byte_at_all(self):
        """That is half a file, not one that caps nothing."""
        self.home.write(self.home.budgets, '')
        self.decided(self.home, 'budgets.yaml: is empty')

    def test_folder(self):
        os.remove(self.home.budgets)
        os.mkdir(self.home.budgets)
        self.decided(self.home, 'budgets.yaml: cannot be read: it is not a plain file', events=True)

    def test_binary(self):
        for content, fragment in ((b'\x7fELF\x02\x01\x01' + bytes(range(256)), 'budgets.yaml:'),
                                  (BUDGETS.encode('utf-16'), 'budgets.yaml:1: is not UTF-8 text: save it as UTF-8'),
                                  (b'# caf\xe9\n' + BUDGETS.encode(), 'budgets.yaml:1: is not UTF-8 text: save it as UTF-8')):
            with self.subTest(content=content[:10]):
                self.home.write(self.home.budgets, content)
                self.decided(self.home, fragment)

    def test_50_megabytes(self):
        sparse(self.home.budgets, 50 << 20)
        self.decided(self.home, 'budgets.yaml: is larger than 1024 KiB: is it the right file?')

    def test_symlink_loop(self):
        os.remove(self.home.budgets)
        os.symlink('budgets.yaml', self.home.budgets)
        self.decided(self.home, 'budgets.yaml: cannot be read: Too many levels of symbolic links')

    @unittest.skipUnless(hasattr(os, 'mkfifo'), 'no named pipes')
    def test_pipe(self):
        os.remove(self.home.budgets)
        os.mkfifo(self.home.budgets)
        self.decided(self.home, 'budgets.yaml: cannot be read: it is not a plain file')

    def test_edited_half_way(self):
        text = BUDGETS[:BUDGETS.index('_cap')]
        self.home.write(self.home.budgets, text)
        self.decided(self.home, 'budgets.yaml:4:5: ')
        self.home.write(self.home.budgets, BUDGETS)
        self.all_pass(self.home)

    def test_unknown_key_names_the_nearest(self):
        self.home.write(self.home.budgets, BUDGETS.replace('monthly_usd_cap', 'monthly_usd_capp'))
        self.decided(self.home, 'budgets.yaml:4:5: ', 'monthly_usd_cap')

    def test_codex_is_told_in_its_own_words(self):
        self.home.write(self.home.budgets, '\t')
        agent = self.home.hook('spawn_agent', turn_id='t', model='gpt-5.2-codex', transcript_path=None)
        self.assertTrue(agent.refused, agent)
        self.assertNotIn('continue', agent.json)
        self.assertNotIn('stopReason', agent.json)
        self.assertFalse(self.home.hook('Bash', turn_id='t', model='gpt-5.2-codex').refused)


class PricesFile(Errors):
    def setUp(self):
        self.home = Home(self)
        self.home.add_calls(1)
        self.prices = self.home.environ['ARMLEDGER_PRICES'] = self.home.join('prices.json')

    def test_missing(self):
        self.decided(self.home, 'prices.json: cannot read the price list (No such file', 'put prices.json beside the script', events=True)

    def test_broken(self):
        with open(os.path.join(ROOT, 'prices.json'), 'rb') as stream:
            whole = stream.read()
        for text in (whole[:len(whole) // 2], b'', b'{"models": {}}', whole.replace(b'"input": 4', b'"input": -4'),
                     b'[' * 100000, b'\xff\xfe'):
            with self.subTest(text=text[-20:]):
                self.home.write(self.prices, text)
                self.decided(self.home, 'prices.json')
                self.assertNotIn('log cannot be read', self.home.hook('Agent').text)

    def test_folder(self):
        os.mkdir(self.prices)
        self.decided(self.home, 'prices.json: cannot read the price list')

    @unittest.skipUnless(hasattr(os, 'mkfifo'), 'no named pipes')
    def test_pipe(self):
        os.mkfifo(self.prices)
        self.decided(self.home, 'prices.json: cannot read the price list')

    def test_on_error_allow(self):
        self.home.write(self.home.budgets, 'on_error: allow\n' + BUDGETS)
        for tool in ('Agent', 'Bash'):
            answer = self.home.hook(tool)
            self.assertFalse(answer.refused, answer)
            self.assertIn('prices.json', answer.json['systemMessage'])

    def test_nothing_armed_here(self):
        self.all_pass(self.home, cwd=self.home.path, session_id='other', transcript_path=None)
        self.home.write(self.home.budgets, UNARMED)
        self.all_pass(self.home)


class LedgerFile(Errors):
    def setUp(self):
        self.home = self.over_cap()
        self.assertTrue(self.home.hook('Agent').refused)

    def restored(self, usd=12.0):
        """--rebuild makes the ledger anew; then the arm is at its hard stop again."""
        done = self.home.run('budget-check.py', '--rebuild')
        self.assertEqual(0, done.returncode, done)
        self.metered(self.home, usd, 2)

    def empty_write_ahead_log(self):
        """All that was metered stands in the ledger's file itself then."""
        db = sqlite3.connect(self.home.ledger)
        db.execute('pragma wal_checkpoint(truncate)').fetchall()
        db.close()

    def test_corrupt(self):
        self.empty_write_ahead_log()
        with open(self.home.ledger, 'rb') as stream:
            whole = stream.read()
        for name, content in (('head', b'garbage!' * 2000 + whole[16000:]), ('body', whole[:4096] + b'garbage!' * 9000),
                              ('half', whole[:len(whole) // 2 // 4096 * 4096])):
            with self.subTest(name):
                for path in glob.glob(self.home.ledger + '*'):
                    os.remove(path)
                self.home.write(self.home.ledger, content)
                self.decided(self.home, 'the ledger is damaged', '`budget-check.py --rebuild` makes it anew')
                self.restored()

    def test_corrupt_without_logs_keeps_what_can_be_read(self):
        """The damage is in an index: the calls, whose logs have gone, are taken over."""
        os.remove(self.home.transcript)
        self.empty_write_ahead_log()
        with open(self.home.ledger, 'r+b') as stream:
            stream.seek(0, os.SEEK_END)
            stream.truncate(stream.tell() - 4096)
        self.home.run('budget-check.py', '--rebuild')
        self.assertTrue(glob.glob(self.home.ledger + '.damaged-*'))

    def test_newer_version(self):
        db = sqlite3.connect(self.home.ledger)
        db.execute('pragma user_version = 99')
        db.close()
        self.decided(self.home, 'written by a newer armledger (version 99', 'install that one here too', events=True)

    def test_zero_bytes(self):
        for path in glob.glob(self.home.ledger + '*'):
            os.remove(path)
        self.home.write(self.home.ledger, '')
        self.assertTrue(self.home.hook('Agent').refused)
        self.metered(self.home, 12.0, 2)

    def test_lost(self):
        shutil.rmtree(os.path.dirname(self.home.ledger))
        self.assertTrue(self.home.hook('Agent').refused)
        self.metered(self.home, 12.0, 2)

    def test_folder(self):
        for path in glob.glob(self.home.ledger + '*'):
            os.remove(path)
        os.mkdir(self.home.ledger)
        self.decided(self.home, 'ledger.sqlite3: the ledger cannot be opened: Is a directory', 'or name another with --ledger')

    def test_its_folder_is_a_file(self):
        shutil.rmtree(os.path.dirname(self.home.ledger))
        self.home.write(os.path.dirname(self.home.ledger), '')
        self.decided(self.home, 'ledger.sqlite3: the ledger cannot be opened', 'or name another with --ledger')

    @unittest.skipUnless(hasattr(os, 'mkfifo'), 'no named pipes')
    def test_pipe(self):
        for path in glob.glob(self.home.ledger + '*'):
            os.remove(path)
        os.mkfifo(self.home.ledger)
        self.decided(self.home, 'ledger.sqlite3')

    @unittest.skipUnless(permissions_hold(), 'nobody here is kept from a file')
    def test_read_only(self):
        # Below its stop: above it, what the ledger holds is enough to refuse.
        self.home.write(self.home.budgets, BUDGETS.replace('monthly_usd_cap: 10', 'monthly_usd_cap: 100'))
        self.home.add_calls(1)
        for mode, cure in ((0o444, 'give its owner write access to it'), (0, 'mend that')):
            with self.subTest(mode=oct(mode)):
                for path in glob.glob(self.home.ledger + '*'):
                    os.chmod(path, mode)
                os.chmod(os.path.dirname(self.home.ledger), 0o555)
                self.addCleanup(os.chmod, os.path.dirname(self.home.ledger), 0o755)
                self.decided(self.home, 'ledger.sqlite3', cure, preexec_fn=without_root_powers)

    def test_full_disk(self):
        if not shutil.which('mount') or os.geteuid() != 0:
            self.skipTest('a small disk cannot be mounted here')
        folder = self.home.join('small')
        os.mkdir(folder)
        self.home.environ['ARMLEDGER_HOME'] = folder
        for size in (4, 12, 20, 40, 80):
            with self.subTest(kilobytes=size):
                mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%dk' % size, 'none', folder], stderr=subprocess.PIPE)
                if mount.returncode:
                    self.skipTest('a small disk cannot be mounted here')
                try:
                    self.decided(self.home, 'disk', 'nothing that was metered is lost')
                finally:
                    subprocess.run(['umount', folder])

    @unittest.skipUnless(resource, 'no resource limits')
    def test_no_more_room_for_a_file(self):
        """As with a quota: the ledger was written once, and cannot grow."""
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        self.home.add_calls(*[0.001] * 500)
        self.decided(self.home, 'disk', 'nothing that was metered is lost', preexec_fn=limited)
        self.metered(self.home, 12.5, 2)


class WhileLocked(Errors):
    """Another process holds the ledger for longer than the gate waits: all rows at once, and beside the tests above, to wait only once."""

    @classmethod
    def setUpClass(cls):
        out, _ = locked.process.communicate(timeout=60)
        said, cls.waited = json.loads(out)
        cls.home, cls.cli = locked.home, said.pop('cli')
        cls.answers = {name: HookAnswer(subprocess.CompletedProcess((), code, out.encode(), err.encode()), seconds)
                       for name, (code, out, err, seconds) in said.items()}

    def test_expensive_is_refused_in_time(self):
        for name in ('agent', 'no wal'):
            with self.subTest(name):
                answer = self.answers[name]
                self.well_behaved(answer)
                self.assertTrue(answer.refused, answer)
                self.assertIn('the ledger is in use by another process', answer.text)
                self.assertIn('try again', answer.text)

    def test_cheap_passes_with_a_message(self):
        answer = self.answers['bash']
        self.well_behaved(answer)
        self.assertFalse(answer.refused, answer)
        self.assertIn('the ledger is in use by another process', answer.json['systemMessage'])

    def test_signal(self):
        for name in ('term', 'int', 'hup'):
            with self.subTest(name):
                self.well_behaved(self.answers[name])
                self.assertTrue(self.answers[name].refused, self.answers[name])

    def test_signal_to_a_cheap_tool(self):
        self.well_behaved(self.answers['term bash'])
        self.assertFalse(self.answers['term bash'].refused)

    def test_a_person_waits_until_it_is_free(self):
        code, out, err, _ = self.cli
        self.assertEqual((0, ''), (code, err))
        self.assertTrue(self.waited)
        self.assertEqual(3.0, json.loads(out)['arms'][0]['spent_usd'])

    def test_afterwards_all_is_well(self):
        self.assertTrue(self.home.hook('Bash').silent)


class Logs(Errors):
    def setUp(self):
        self.home = Home(self)

    @unittest.skipUnless(permissions_hold(), 'nobody here is kept from a file')
    def test_unreadable(self):
        self.home.add_calls(1)
        self.home.hook('Bash')
        self.home.add_calls(20)
        os.chmod(self.home.transcript, 0)
        self.decided(self.home, '5e000000-0000-4000-8000-00000000ac3e.jsonl', 'Permission denied', 'read access',
                     events=True, preexec_fn=without_root_powers)

    @unittest.skipUnless(permissions_hold(), 'nobody here is kept from a file')
    def test_unreadable_folder(self):
        self.home.add_calls(1)
        folder = os.path.dirname(self.home.transcript)
        os.chmod(folder, 0)
        self.addCleanup(os.chmod, folder, 0o755)
        self.decided(self.home, '-clients-acme', 'Permission denied', 'read access', preexec_fn=without_root_powers)

    def test_vanishing_while_read(self):
        self.home.add_calls(1)
        folder, stop = os.path.dirname(self.home.transcript), threading.Event()

        def come_and_go():
            n = 0
            while not stop.is_set():
                n += 1
                paths = [os.path.join(folder, 'gone-%d-%d.jsonl' % (n, i)) for i in range(20)]
                for path in paths:
                    self.home.write(path, '{"type":"summary"}\n')
                os.makedirs(os.path.join(folder, 'sub%d' % n))
                for path in paths:
                    os.remove(path)
                os.rmdir(os.path.join(folder, 'sub%d' % n))
        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            for _ in range(10):
                answer = self.home.hook('Bash')
                self.assertTrue(answer.silent, answer)
        finally:
            stop.set()
            thread.join()
        self.metered(self.home, 1.0)

    def test_200_megabyte_line(self):
        with open(self.home.transcript, 'wb') as stream:
            stream.write(b'{"type":"assistant","message":"')
            stream.seek(200 << 20)
            stream.write(b'"}\n')
        self.home.add_calls(12)
        answer = self.home.hook('Agent')
        self.well_behaved(answer)
        self.assertTrue(answer.refused, answer)
        self.assertLess(self.home.hook('Bash').seconds, TIME_OUT)
        self.assertIn('1 log line could not be read', self.metered(self.home, 12.0, 2)['warnings'][0])

    def test_200_megabyte_line_without_an_end(self):
        self.home.add_calls(12)
        with open(self.home.transcript, 'r+b') as stream:
            stream.seek(0, os.SEEK_END)
            stream.write(b'{"type":"assistant","message":"')
            stream.truncate(200 << 20)
        for _ in range(2):
            answer = self.home.hook('Agent')
            self.well_behaved(answer)
            self.assertTrue(answer.refused, answer)

    @unittest.skipUnless(hasattr(os, 'mkfifo'), 'no named pipes')
    def test_pipes_instead_of_files(self):
        """They would keep a reader waiting for ever."""
        self.home.add_calls(12)
        self.home.hook('Bash')
        os.mkfifo(os.path.join(os.path.dirname(self.home.transcript), 'pipe.jsonl'))
        side = self.home.transcript[:-6] + '/subagents/agent-a1'
        self.home.add_calls(0.1, path=side + '.jsonl', isSidechain=True, agentId='a1')
        os.mkfifo(side + '.meta.json')
        os.mkfifo(os.path.join(self.home.acme, '.git'))
        folder = os.path.join(self.home.acme, 'new')
        self.home.add_calls(0.1, cwd=folder)
        answer = self.home.hook('Agent', cwd=folder)
        self.well_behaved(answer)
        self.assertTrue(answer.refused, answer)
        os.remove(self.home.transcript)
        os.mkfifo(self.home.transcript)
        answer = self.home.hook('Agent', tool_use_id='toolu_pending')
        self.well_behaved(answer)
        self.assertTrue(answer.refused, answer)

    def test_torn_last_line(self):
        line = self.home.call_line(12)
        self.home.add_calls(1)
        for at in (1, len(line) // 2, len(line) - 2):
            self.home.write(self.home.transcript, line[:at], 'a')
            self.assertTrue(self.home.gate('Bash').silent)
            self.metered(self.home, 1.0)
            with open(self.home.transcript, 'r+b') as stream:
                stream.seek(-at, os.SEEK_END)
                stream.truncate()
        self.home.write(self.home.transcript, line[:100], 'a')
        self.home.gate('Bash')
        self.home.write(self.home.transcript, line[100:], 'a')
        self.assertTrue(self.home.gate('Agent').refused)
        self.metered(self.home, 13.0, 2)

    def test_truncated(self):
        self.home.add_calls(3, 3)
        self.home.gate('Bash')
        for size in (os.path.getsize(self.home.transcript) // 2 + 10, 7, 0):
            os.truncate(self.home.transcript, size)
            self.assertTrue(self.home.gate('Bash').silent)
            self.metered(self.home, 6.0)
        self.home.add_calls(1)
        self.metered(self.home, 7.0)

    def test_replaced(self):
        """By another file under the same name, as long, shorter or longer; moved there, or written over it."""
        for lines in (3, 1, 7):
            for in_place in (False, True):
                with self.subTest(lines=lines, in_place=in_place):
                    home = Home(self)
                    home.add_calls(1, 1, 1)
                    home.gate('Bash')
                    text = ''.join(home.call_line(0.1) for _ in range(lines))
                    if in_place:
                        with open(home.transcript, 'r+b') as stream:
                            stream.truncate(len(text))
                            stream.write(text.encode())
                    else:
                        home.write(home.join('new'), text)
                        os.replace(home.join('new'), home.transcript)
                    self.assertTrue(home.gate('Bash').silent)
                    self.metered(home, round(3 + lines * 0.1, 6))

    def test_replaced_by_lines_of_the_same_length(self):
        for lines in (3, 7):
            with self.subTest(lines=lines):
                home = Home(self)
                home.add_calls(1, 1, 1, usual='as every line of the session ends, ' * 4)
                home.gate('Bash')
                before = os.path.getsize(home.transcript)
                text = ''.join(home.call_line(1.5, usual='as every line of the session ends, ' * 4) for _ in range(lines))
                self.assertEqual(before * lines, len(text) * 3)
                with open(home.transcript, 'r+b') as stream:
                    stream.write(text.encode())
                self.metered(home, 3.0 + 1.5 * lines, 0 if lines == 3 else 2)

    def test_clock_ahead_counts_now(self):
        for seconds in (3600, 365 * 86400):
            with self.subTest(seconds=seconds):
                home = Home(self)
                home.add_calls(12, ts=time.time() + seconds)
                self.assertTrue(home.gate('Agent').refused)
                self.metered(home, 12.0, 2)
                # And still when the clock is right again.
                home.add_calls(1)
                self.metered(home, 13.0, 2)

    def test_own_clock_was_ahead(self):
        """Calls that were metered while this machine was a year ahead still count when it isn't."""
        self.home.add_calls(12, ts=time.time() + 365 * 86400)
        later = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 366 * 86400))
        self.home.run('budget-check.py', '--now', later)
        self.assertTrue(self.home.gate('Agent').refused)

    def test_clock_behind_counts_in_total(self):
        for seconds in (3600, 365 * 86400):
            with self.subTest(seconds=seconds):
                home = Home(self, BUDGETS.replace('monthly', 'total'))
                home.add_calls(12, ts=time.time() - seconds)
                self.assertTrue(home.gate('Agent').refused)
                self.metered(home, 12.0, 2)

    def test_no_clock_at_all(self):
        for stamp in (None, '', 'yesterday', 5, '9999-12-31T23:59:59Z', '0001-01-01T00:00:00Z'):
            with self.subTest(stamp=stamp):
                home = Home(self, BUDGETS.replace('monthly', 'total'))
                home.add_calls(12, timestamp=stamp)
                self.assertTrue(home.gate('Agent').refused)
                self.metered(home, 12.0, 2)


class Surroundings(Errors):
    def closed(self, home, *asked):
        """The hook's answers for each (tool, redirection), under shells that give it no such stream."""
        answers = self.in_shell([(home.payload(tool), 'exec "$0" -IS "$1" %s' % redirection) for tool, redirection in asked], home)
        for answer in answers:
            self.well_behaved(answer)
        return answers

    def in_shell(self, asked, home, *arguments, **options):
        """HookAnswers to each (payload, shell command), all at the same time; $0 is Python, $1 the hook."""
        options = dict({'cwd': home.acme, 'env': home.environ}, **options)
        running = [subprocess.Popen(['sh', '-c', shell, sys.executable, os.path.join(ROOT, 'pretooluse-hook.py'), *arguments],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) for _, shell in asked]
        done = [process.communicate(text, timeout=30) for process, (text, _) in zip(running, asked)]
        return [HookAnswer(subprocess.CompletedProcess((), process.returncode, out, err), 0)
                for process, (out, err) in zip(running, done)]

    def test_home_unset(self):
        home = Home(self)
        home.write(home.budgets, BUDGETS.replace('~', home.path))
        home.add_calls(12)
        for value in (None, ''):
            with self.subTest(value=value):
                home.environ.pop('HOME', None)
                if value is not None:
                    home.environ['HOME'] = value
                agent, bash = home.hooks(dict(tool='Agent'), dict(tool='Bash'))
                self.assertTrue(agent.refused)
                self.assertFalse(bash.refused)
                self.metered(home, 12.0, 2)

    def test_stdin_closed(self):
        answer, = self.closed(Home(self), ('Bash', '<&-'))
        self.assertTrue(answer.refused, answer)
        self.assertIn('armledger cannot tell', answer.text)
        self.assertTrue(self.closed(Home(self, UNARMED), ('Agent', '<&-'))[0].silent)

    def test_stdin_without_a_payload(self):
        """Nobody can say that it is a cheap tool."""
        home, unarmed = Home(self), Home(self, UNARMED)
        whole = home.payload('Bash')
        texts = (b'', b'\n', whole[:-1], b'[]', b'null', b'"Bash"', b'\xff\xfe\x00', whole.replace(b'Bash', b'\xc3\x28'),
                 b'[' * 200000, b'{"a":' * 200000, b'{"tool_name":' + b'9' * 100000 + b'}', b'\x00' * 1000)
        for text, answer in zip(texts, home.hooks(*[dict(text=text) for text in texts])):
            with self.subTest(text=text[:30]):
                self.well_behaved(answer)
                self.assertTrue(answer.refused, answer)
                self.assertIn('armledger cannot tell', answer.text)
        for text, answer in zip(texts, unarmed.hooks(*[dict(text=text) for text in texts])):
            with self.subTest(text=text[:30], unarmed=True):
                self.assertTrue(answer.silent, answer)

    def test_deep_but_whole(self):
        home = self.over_cap()
        answer = home.hook(text=home.payload('Agent').replace(b'"tool_input": {}', b'"tool_input": ' + b'[' * 500 + b']' * 500))
        self.well_behaved(answer)
        self.assertTrue(answer.refused, answer)

    def test_odd_values(self):
        """A refusal stays one, whatever else the payload says."""
        home = self.over_cap()
        odd = [dict(tool_input=5), dict(tool_input=None), dict(tool_use_id=7), dict(tool_use_id='\ud800'),
               dict(transcript_path='/nonexistent\0'), dict(transcript_path='\ud800'), dict(transcript_path='/dev/zero'),
               dict(session_id='%_' * 10), dict(session_id='\ud800'), dict(agent_id='../..'), dict(agent_id='\0'),
               dict(cwd=home.acme + '/../acme/./gone'), dict(permission_mode=[]), dict(agent_type='\x1b[31m')]
        *answers, bash = home.hooks(*[dict(tool='Agent', **more) for more in odd], dict(tool='Bash', **odd[-1]))
        for more, answer in zip(odd, answers):
            with self.subTest(more=more):
                self.well_behaved(answer)
                self.assertTrue(answer.refused, answer)
        self.assertFalse(bash.refused, bash)

    def test_no_terminal_escapes(self):
        home = Home(self)
        home.write(home.budgets, BUDGETS.replace('monthly_usd_cap', '"\\e[31m"'))
        for tool in ('Agent', 'mcp__playwright__\x1b[31m\u202e'):
            answer = home.hook(tool)
            self.assertTrue(answer.refused, answer)
            self.assertTrue(answer.text.strip().isprintable(), answer)

    def test_working_folder_has_gone(self):
        home = self.over_cap()
        shell = 'cd "$2" && mkdir gone%d && cd gone%d && rmdir ../gone%d && exec "$0" -IS "$1"'
        asked = ('Agent', home.acme), ('Bash', home.acme), ('Bash', None)
        answers = self.in_shell([(home.payload(tool, cwd=cwd), shell % (n, n, n)) for n, (tool, cwd) in enumerate(asked)], home, home.path, cwd=None)
        for (tool, _), answer in zip(asked, answers):
            self.well_behaved(answer)
            self.assertEqual(tool == 'Agent', answer.refused, answer)

    def test_stdout_closed(self):
        home = self.over_cap()
        redirections = ['>&-', '>&- 2>&-'] + ['>/dev/full'] * os.path.exists('/dev/full')
        answers = self.closed(home, *[(tool, redirection) for redirection in redirections for tool in ('Agent', 'Bash')])
        for redirection, answer, bash in zip(redirections, answers[::2], answers[1::2]):
            with self.subTest(redirection):
                self.assertEqual(2, answer.code, answer)
                if '2>' not in redirection:
                    self.assertIn('armledger', answer.err)
                self.assertEqual(0, bash.code)

    def test_stdout_has_no_reader(self):
        home = self.over_cap()
        reading, writing = os.pipe()
        os.close(reading)
        try:
            answer = home.hook('Agent', options={'stdout': writing})
        finally:
            os.close(writing)
        self.assertEqual(2, answer.code, answer)

    def test_budget_check_without_a_reader(self):
        home = self.over_cap()
        for redirection in ('>&-', '>&- 2>&-', '| head -c 1 >/dev/null'):
            done = subprocess.run(['sh', '-c', '"$0" -IS "$1" --json ' + redirection, sys.executable, os.path.join(ROOT, 'budget-check.py')],
                                  env=home.environ, cwd=home.acme, stderr=subprocess.PIPE, timeout=30)
            self.assertNotIn(b'Traceback', done.stderr)
            if 'head' not in redirection:
                self.assertEqual(2, done.returncode, redirection)       # the arm is over its cap


class OldPython(Errors):
    @classmethod
    def setUpClass(cls):
        found = glob.glob(os.path.join(os.path.expanduser('~'), '.pyenv', 'versions', '3.8*', 'bin', 'python3.8'))
        for python in [shutil.which('python3.8')] + found:
            if python and subprocess.run([python, '-c', ''], stderr=subprocess.DEVNULL).returncode == 0:
                cls.python = python
                return
        raise unittest.SkipTest('there is no Python 3.8 here')

    def test_hook(self):
        home = Home(self)
        agent = home.hook('Agent', python=(self.python, '-IS'))
        self.well_behaved(agent)
        self.assertTrue(agent.refused, agent)
        bash = home.hook('Bash', python=(self.python, '-IS'))
        self.assertFalse(bash.refused, bash)
        for answer in (agent, bash):
            self.assertIn('armledger needs Python 3.9 or later, and python3 is 3.8 here', answer.text)
        self.assertTrue(Home(self, UNARMED).hook('Agent', python=(self.python, '-IS')).silent)

    def test_scripts(self):
        for script in ('budget-check.py', 'cost-report.py'):
            done = Home(self).run(script, python=(self.python,))
            self.assertEqual((1, b'armledger needs Python 3.9 or later; this is 3.8\n'), (done.returncode, done.stderr))


class BrokenInstallation(Errors):
    """The hook without a budget-check.py that it could load."""

    def setUp(self):
        self.home = Home(self)
        self.folder = self.home.join('hooks')
        os.mkdir(self.folder)
        shutil.copy(os.path.join(ROOT, 'pretooluse-hook.py'), self.folder)

    def hooks(self, *asked):
        """HookAnswers for each (tool, home)."""
        path = os.path.join(self.folder, 'pretooluse-hook.py')
        answers = [HookAnswer(run_script(path, env=home.environ, cwd=home.path, input=home.payload(tool)), 0) for tool, home in asked]
        for answer in answers:
            self.well_behaved(answer)
        return answers

    def test_decided_alone(self):
        for name, text in (('missing', None), ('syntax', 'def'), ('raises', 'raise OSError("broken")'), ('old', 'x = 1'),
                           ('exits', 'import sys; sys.exit(1)'), ('null', '\0'), ('no gate', 'gate = None')):
            with self.subTest(name):
                if text is not None:
                    self.home.write(os.path.join(self.folder, 'budget-check.py'), text)
                agent, bash, unarmed = self.hooks(('Agent', self.home), ('Bash', self.home), ('Agent', Home(self, UNARMED)))
                self.assertTrue(agent.refused, agent)
                self.assertFalse(bash.refused, bash)
                for answer in (agent, bash):
                    self.assertIn('armledger', answer.text)
                self.assertIn('reinstall', agent.text)
                self.assertTrue(unarmed.silent)


if __name__ == '__main__':
    unittest.main()
