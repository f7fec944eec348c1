"""What several tests need."""
import atexit
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from unittest import mock

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
DATA = os.path.join(TESTS, 'data')


def load_script(name):
    """The script `name` beside the Makefile, as a module: its file name is no module name."""
    module = name[:-3].replace('-', '_')
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, os.path.join(ROOT, name))
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return sys.modules[module]


# Ledgers are synchronised to disk, which takes most of a test's time where temporary files are on one.
TEMPORARY = '/dev/shm' if os.access('/dev/shm', os.W_OK | os.X_OK) and 'TMPDIR' not in os.environ else None
# A main script is compiled anew at every run; this runs it from its cached bytecode, as the hook does, in a third of the time.
LAUNCHER = '''
import sys
from importlib.machinery import SourceFileLoader
del sys.argv[0]
name, path = 'budget_check', sys.argv[0]
exec(SourceFileLoader(name, path).get_code(name), {'__name__': '__main__', '__file__': path, '__builtins__': __builtins__})
'''
QUICKLY = sys.executable, '-IS', '-c', LAUNCHER
AS_WIRED = sys.executable, '-IS'


def command_of(path):
    """How a test runs a copy of a script: the hook as it is wired, budget-check.py quickly."""
    return [*(QUICKLY if os.path.basename(path) == 'budget-check.py' else (sys.executable, '-IS')), path]


@contextlib.contextmanager
def ledgers_closed():
    """Where a script's function runs in this process: a ledger that it leaves open ends with it, as in a process of its own."""
    opened, connect = [], sqlite3.connect

    def note(*given, **more):
        opened.append(connect(*given, **more))
        return opened[-1]
    try:
        with mock.patch('sqlite3.connect', note), mock.patch('_sqlite3.connect', note):
            yield
    finally:
        for one in opened:
            one.close()


class Server:
    """An interpreter that runs scripts in forks of itself, see server.py. Tests in threads use several."""
    idle, started, most = [], 0, 4

    def __init__(self):
        Server.started += 1
        self.folder = tempfile.mkdtemp(prefix='armledger-server-', dir=TEMPORARY)
        self.streams = [os.path.join(self.folder, name) for name in ('stdin', 'stdout', 'stderr')]
        self.process = subprocess.Popen([sys.executable, '-IS', os.path.join(TESTS, 'server.py')], cwd=self.folder, start_new_session=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={'LC_ALL': 'C.UTF-8', 'PATH': os.defpath})
        atexit.register(self.close)

    def close(self):
        with self.process:
            self.process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, path, arguments, cwd, environ, text, seconds):
        for stream, content in zip(self.streams, (text, b'', b'')):
            with contextlib.suppress(FileNotFoundError):   # what a script started may still write to the last one
                os.remove(stream)
            with open(stream, 'xb') as new:
                new.write(content)
        self.process.stdin.write(json.dumps(dict(
            path=path, arguments=arguments, cwd=cwd, environ=environ, streams=self.streams, seconds=seconds)).encode() + b'\n')
        self.process.stdin.flush()
        code = self.process.stdout.readline()
        if not code:
            raise OSError('server.py has ended: %s' % path)
        said = []
        for stream in self.streams[1:]:
            with open(stream, 'rb') as whole:
                said.append(whole.read())
        return subprocess.CompletedProcess([path, *arguments], int(code), *said)


def run_script(path, *arguments, env, cwd=None, input=b'', timeout=60):
    """A script in a process of its own, as `python3 -IS` would run it, in a third of the time where processes can fork.

    ARMLEDGER_NO_FORK=1 starts a new interpreter for each."""
    try:
        server = Server.idle.pop()
    except IndexError:
        if not hasattr(os, 'fork') or 'ARMLEDGER_NO_FORK' in os.environ or Server.started >= Server.most:
            return subprocess.run([*command_of(path), *arguments], env=env, cwd=cwd, input=input, timeout=timeout,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        server = Server()
    done = server.run(path, arguments, cwd or os.getcwd(), env, input, timeout)
    Server.idle.append(server)
    if done.returncode == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(done.args, timeout, done.stdout, done.stderr)
    return done


SESSION = '5e000000-0000-4000-8000-00000000ac3e'
BUDGETS = """\
budgets:
  - arm: acme
    path: ~/clients/acme
    monthly_usd_cap: 10.00
"""


class Clock:
    """The time module for budget-check.py, but for the wait: sleeping only sets it forward, and calls `on_sleep`."""

    def __init__(self, on_sleep=None):
        self.slept, self.on_sleep = 0.0, on_sleep

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        self.slept += seconds
        time.sleep(min(seconds, 0.001))                    # whatever is waited for can go on meanwhile
        if self.on_sleep:
            self.on_sleep()

    def monotonic(self):
        return time.monotonic() + self.slept


def copy_scripts(folder, names=('budget-check.py', 'pretooluse-hook.py', 'prices.json')):
    """The scripts and the price list as they are installed, and what has been compiled of them."""
    os.makedirs(os.path.join(folder, '__pycache__'), exist_ok=True)
    load_script('budget-check.py')
    for name in names:
        shutil.copy2(os.path.join(ROOT, name), folder)
    if 'budget-check.py' in names:
        path = cache_from_source('budget-check.py')
        if os.path.exists(os.path.join(ROOT, path)):
            shutil.copy2(os.path.join(ROOT, path), os.path.join(folder, path))
    return folder


class Home:
    """A throwaway home with one arm, acme, and the real scripts; nothing outside it is read or written."""

    def __init__(self, test, budgets=BUDGETS, **environ):
        self.path = os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY))
        test.addCleanup(shutil.rmtree, self.path, ignore_errors=True)
        self.acme = self.join('clients', 'acme')
        self.budgets = self.join('budgets.yaml')
        self.ledger = self.join('state', 'ledger.sqlite3')
        self.transcript = self.join('.claude', 'projects', '-clients-acme', SESSION + '.jsonl')
        os.makedirs(self.acme)
        os.makedirs(os.path.dirname(self.transcript))
        self.environ = dict({
            'PATH': os.environ.get('PATH', os.defpath), 'HOME': self.path, 'TZ': 'UTC', 'TMPDIR': self.path,
            'PYTHONIOENCODING': 'utf-8', 'ARMLEDGER_HOME': os.path.dirname(self.ledger), 'ARMLEDGER_BUDGETS': self.budgets,
            'CLAUDE_CONFIG_DIR': self.join('.claude'), 'CODEX_HOME': self.join('.codex')}, **environ)
        self.calls = 0
        if budgets is not None:
            self.write(self.budgets, budgets)

    def join(self, *names):
        return os.path.join(self.path, *names)

    def write(self, path, text, mode='w'):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode + 'b') as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())

    def call_line(self, usd=1.0, ts=None, key=None, **more):
        """A billed call of claude-opus-5-5 as a transcript's line: `usd` of output at $20 per million; `ts` in seconds."""
        self.calls += 1
        key = key or 'msg_%06d' % self.calls
        ts = time.time() if ts is None else ts
        stamp = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ts)) + '.%03dZ' % (ts * 1000 % 1000)
        record = {
            'parentUuid': None, 'isSidechain': False, 'message': {
                'id': key, 'type': 'message', 'role': 'assistant', 'model': 'claude-opus-5-5',
                'content': [{'type': 'tool_use', 'id': 'toolu_' + key, 'name': 'Bash', 'input': {}}],
                'usage': {'input_tokens': 0, 'cache_creation_input_tokens': 0, 'cache_read_input_tokens': 0,
                          'output_tokens': round(usd * 50000), 'service_tier': 'standard'}},
            'requestId': 'req_' + key, 'type': 'assistant', 'uuid': 'uuid_' + key, 'timestamp': stamp,
            'cwd': self.acme, 'sessionId': SESSION, 'version': '2.1.330', 'gitBranch': 'main'}
        record.update(more)
        return json.dumps(record, separators=(',', ':')) + '\n'

    def add_calls(self, *usd, path=None, **more):
        self.write(path or self.transcript, ''.join(self.call_line(one, **more) for one in usd), 'a')

    def payload(self, tool='Agent', **more):
        record = {'session_id': SESSION, 'transcript_path': self.transcript, 'cwd': self.acme, 'permission_mode': 'default',
                  'hook_event_name': 'PreToolUse', 'tool_name': tool, 'tool_input': {}, 'tool_use_id': 'toolu_msg_%06d' % self.calls}
        record.update(more)
        if record['transcript_path'] == self.transcript and not os.path.lexists(self.transcript):
            self.write(self.transcript, json.dumps({'type': 'user', 'timestamp': '2026-01-01T00:00:00.000Z', 'cwd': self.acme,
                                                    'sessionId': SESSION}) + '\n')
        return json.dumps({name: value for name, value in record.items() if value is not None}).encode()

    def run(self, script, *arguments, python=QUICKLY, **options):
        """The real script in a process of its own."""
        if python in (QUICKLY, AS_WIRED) and not options.keys() - {'input', 'timeout'}:
            return run_script(os.path.join(ROOT, script), *arguments, env=self.environ, cwd=self.acme, **options)
        options = dict({'cwd': self.acme, 'env': self.environ, 'timeout': 60, 'stdout': subprocess.PIPE,
                        'stderr': subprocess.PIPE}, **options)
        if 'stdin' not in options:
            options.setdefault('input', b'')
        return subprocess.run([*python, os.path.join(ROOT, script), *arguments], **options)

    def hook(self, tool='Agent', text=None, python=AS_WIRED, options=None, **payload):
        """The gate's answer through the real hook."""
        began = time.monotonic()
        options = dict({'timeout': 30}, **options or {})
        if 'stdin' not in options:
            options['input'] = self.payload(tool, **payload) if text is None else text
        return HookAnswer(self.run('pretooluse-hook.py', python=python, **options), time.monotonic() - began)

    def gate(self, tool='Agent', **payload):
        """The gate's answer in this process, which costs a tenth."""
        began = time.monotonic()
        script = load_script('budget-check.py')
        with mock.patch.object(script, 'time', Clock()), ledgers_closed():
            code, out, err = script.gate(self.payload(tool, **payload), self.environ, ROOT)
        return HookAnswer(subprocess.CompletedProcess((), code, out.encode(), err.encode()), time.monotonic() - began)

    def hooks(self, *asked):
        """The gate's answers to several calls of `hook`, given as dicts, that run at the same time."""
        if not any(one.get('options') for one in asked):
            with ThreadPoolExecutor(2) as threads:
                return list(threads.map(lambda one: self.hook(**one), asked))
        began, running = time.monotonic(), []
        for one in asked:
            payload = dict(one)
            text, options = payload.pop('text', None), payload.pop('options', None) or {}
            text = self.payload(**payload) if text is None else text
            running.append(subprocess.Popen([sys.executable, '-IS', os.path.join(ROOT, 'pretooluse-hook.py')], **dict({
                'cwd': self.acme, 'env': self.environ, 'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE,
                'stderr': subprocess.PIPE}, **options)))
            running[-1].stdin.write(text)
            running[-1].stdin.close()
            running[-1].stdin = None
        answers = []
        for process in running:
            out, err = process.communicate(timeout=30)
            answers.append(HookAnswer(subprocess.CompletedProcess((), process.returncode, out, err), time.monotonic() - began))
        return answers


class HookAnswer:
    """What the hook said: `refused` however it said so, `text` all the words of it, `seconds` how long it took."""

    def __init__(self, done, seconds):
        self.code, self.seconds = done.returncode, seconds
        self.out, self.err = ((text or b'').decode('utf-8') for text in (done.stdout, done.stderr))
        self.json = json.loads(self.out) if self.out.strip() else {}
        decision = self.json.get('hookSpecificOutput', {})
        self.refused = self.code == 2 or decision.get('permissionDecision') == 'deny' or \
            self.json.get('decision') == 'block'
        self.halted = self.json.get('continue') is False
        self.silent = self.code == 0 and not self.out and not self.err
        self.text = ' '.join([decision.get('permissionDecisionReason', ''), self.json.get('systemMessage', ''),
                              self.json.get('reason', ''), self.err])

    def __repr__(self):
        return '<exit %s, %.2f s, stdout %.600r, stderr %.600r>' % (self.code, self.seconds, self.out, self.err)
