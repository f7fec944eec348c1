"""A home of one's own for tests that read logs, and the log lines to put into it."""
import atexit
import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest
from collections import namedtuple
from unittest import mock

from support import DATA, ROOT, TEMPORARY, Clock, command_of, copy_scripts, ledgers_closed, load_script, run_script

Result = namedtuple('Result', 'code out err')
_hooks = []


def shared_hooks():
    """One folder of scripts for all homes: what is compiled once needn't be again."""
    if not _hooks:
        _hooks.append(os.path.realpath(tempfile.mkdtemp(prefix='armledger-hooks-', dir=TEMPORARY)))
        atexit.register(shutil.rmtree, _hooks[0], ignore_errors=True)
        copy_scripts(_hooks[0])
        os.chmod(_hooks[0], 0o755)
    return _hooks[0]


class Home:
    """A temporary home with budgets in ~/.claude/budgets.yaml, logs in ~/.claude/projects and a ledger in ~/state.

    `run` and `hook` start the real scripts; `main` and `gate` call them in this process, which costs a tenth."""

    def __init__(self, budgets=None, own_scripts=False, home='home', tz='UTC'):
        self.budgets_text, self.own_scripts, self.name, self.tz = budgets, own_scripts, home, tz

    def __enter__(self):
        self.root = os.path.realpath(tempfile.mkdtemp(prefix='armledger-test-', dir=TEMPORARY))
        self.path = os.path.join(self.root, self.name)
        os.makedirs(self.at('.claude/projects'))
        self.hooks = copy_scripts(self.at('.claude/hooks')) if self.own_scripts else shared_hooks()
        self.budgets = self.at('.claude/budgets.yaml')
        self.state = self.at('state')
        self.env = {'PATH': os.defpath, 'HOME': self.path, 'CLAUDE_CONFIG_DIR': self.at('.claude'),
                    'CODEX_HOME': self.at('.codex'), 'ARMLEDGER_HOME': self.state, 'LANG': 'C', 'TZ': self.tz}
        if self.budgets_text is not None:
            self.write(self.budgets, self.budgets_text)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def at(self, path):
        """An absolute path below this home; absolute ones, and None, stay."""
        return path and os.path.join(self.path, path)

    def write(self, path, content, mtime=None):
        """Write a file: text, bytes, or a list of lines; `mtime` in seconds."""
        path = self.at(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as stream:
            stream.write(as_bytes(content))
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        return path

    def append(self, path, content):
        path = self.at(path)
        with open(path, 'ab') as stream:
            stream.write(as_bytes(content))
        return path

    def folder(self, path):
        os.makedirs(self.at(path), exist_ok=True)
        return self.at(path)

    def repo(self, path):
        """A folder that looks like a git repo."""
        self.write(os.path.join(path, '.git/HEAD'), 'ref: refs/heads/main\n')
        return self.at(path)

    def worktree(self, path, main, name):
        """A git worktree of the repo `main`, as `git worktree add` leaves it."""
        self.write(os.path.join(path, '.git'), 'gitdir: %s/.git/worktrees/%s\n' % (self.at(main), name))
        self.write(os.path.join(main, '.git/worktrees', name, 'gitdir'), self.at(path) + '/.git\n')
        return self.at(path)

    def log(self, name, *lines):
        """A transcript below ~/.claude/projects/p; `name` without .jsonl. Its path."""
        return self.write('.claude/projects/p/%s.jsonl' % name, list(lines))

    def environ(self, **more):
        return {key: value for key, value in dict(self.env, **more).items() if value is not None}

    def command(self, script, *args):
        return command_of(os.path.join(self.hooks, script)) + [str(arg) for arg in args]

    def start(self, script, *args, **more):
        return subprocess.Popen(self.command(script, *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.environ(**more), cwd=self.root)

    def run(self, script, *args, stdin=b'', **more):
        """The real script in a process of its own."""
        done = run_script(os.path.join(self.hooks, script), *map(str, args), env=self.environ(**more), cwd=self.root, input=stdin)
        return Result(done.returncode, done.stdout.decode('utf-8'), done.stderr.decode('utf-8'))

    def hook(self, payload, *args, **more):
        return self.run('pretooluse-hook.py', *args, stdin=as_payload(payload), **more)

    def main(self, *args, **more):
        """budget-check.py's main() in this process."""
        script = load_script('budget-check.py')
        out, err = (io.TextIOWrapper(io.BytesIO(), 'utf-8', newline='\n') for _ in range(2))
        environ = self.environ(**more)
        if os.path.lexists(self.budgets):
            environ.setdefault('ARMLEDGER_BUDGETS', self.budgets)
        # A user who may not enter this checkout's folder can still read the prices beside the shared scripts.
        with in_environ(environ), mock.patch.object(script, 'HERE', self.hooks), prices_once(script), ledgers_closed(), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = script.main([str(arg) for arg in args])
        return Result(code, *map(text_of, (out, err)))

    def gate(self, payload, now=None, agent=None, on_sleep=None, **more):
        """The gate's answer in this process; `now` (ISO 8601) sets the clock. Where it would wait, `on_sleep` is called."""
        script, environ = load_script('budget-check.py'), self.environ(**more)
        clock = mock.patch.object(script.time, 'time', lambda: script.parse_time(now) / 1000) if now \
            else contextlib.nullcontext()
        with in_environ(environ), clock, ledgers_closed(), mock.patch.object(script, 'time', Clock(on_sleep)):
            return Result(*script.gate(as_payload(payload), environ, self.hooks, agent=agent))

    def verdict(self, *args, **more):
        """What --json says, with its figures as they are written."""
        result = self.main('--json', *args, **more)
        if not result.out:
            raise AssertionError(result)
        return json.loads(result.out, parse_float=str)

    @contextlib.contextmanager
    def ledger(self, now='2026-11-23T12:00:00Z', **more):
        """The ledger, brought up to date; its last Reading is ledger.reading."""
        script, environ = load_script('budget-check.py'), self.environ(**more)
        ledger = script.Ledger(script.find_ledger(None, environ, self.path), self.path)
        try:
            ledger.reading = ledger.refresh(list_prices(), environ, script.parse_time(now))
            yield ledger
        finally:
            ledger.close()


def text_of(stream):
    stream.flush()
    return stream.buffer.getvalue().decode('utf-8')


_prices = []
_sound = set()


def prices_once(script):
    """A price list that was found sound needn't be checked in each new home: that is most of a run's time."""
    check = getattr(script, 'check_prices', None)

    def check_once(text, *more):
        if text not in _sound:
            check(text, *more)
            _sound.add(text)
    return mock.patch.object(script, 'check_prices', check_once) if check else contextlib.nullcontext()


def list_prices():
    if not _prices:
        _prices.append(load_script('budget-check.py').load_prices(os.path.join(ROOT, 'prices.json')))
    return _prices[0]


@contextlib.contextmanager
def in_environ(environ):
    """os.environ, and the time zone with it, for a while."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


def as_bytes(content):
    if isinstance(content, list):
        content = ''.join(line if isinstance(line, str) else json.dumps(line, separators=(',', ':')) + '\n'
                          for line in content)
    return content.encode('utf-8') if isinstance(content, str) else content


def as_payload(payload):
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode('utf-8')


def payload(home, event='PreToolUse', tool='Agent', cwd='clients/acme', session='s-1', **more):
    """A hook's payload as Claude Code 2.1.330 writes it; None takes a key out. Its transcript is begun if it isn't there."""
    found = {'session_id': session, 'transcript_path': home.at('.claude/projects/p/%s.jsonl' % session),
             'cwd': home.at(cwd), 'prompt_id': 'a751fca2-0b8b-45c8-a457-7efc18c1810d',
             'permission_mode': 'bypassPermissions', 'effort': {'level': 'medium'}, 'hook_event_name': event}
    if event == 'PreToolUse':
        found.update(tool_name=tool, tool_input={'description': 'job', 'prompt': 'please'}, tool_use_id='toolu_1')
    elif event == 'UserPromptSubmit':
        found['prompt'] = 'delegate 1'
    if 'transcript_path' not in more and not os.path.lexists(found['transcript_path']):
        home.log(session, user_line(cwd=found['cwd'], session=session))
        os.makedirs(found['cwd'], exist_ok=True)
    return {key: value for key, value in dict(found, **more).items() if value is not None}


# ---- log lines, in the shape and the order of keys that Claude Code 2.1.330 writes ----------

def call_line(id, output=0, input=0, write_5m=0, write_1h=0, read=0, searches=0, model='claude-haiku-4-5',
              time='2026-11-10T12:00:00.000Z', cwd='/work', session='s-1', agent=None, sidechain=None,
              request=None, usage=None, content=None, **more):
    """A line of a billed call, as a dict. claude-haiku-4-5's input costs a micro-dollar a token."""
    line = {'parentUuid': None, 'isSidechain': agent is not None if sidechain is None else sidechain}
    if agent is not None:
        line['agentId'] = agent
    line['message'] = {
        'id': id, 'type': 'message', 'role': 'assistant', 'model': model,
        'content': content or [{'type': 'text', 'text': 'a secret answer'}], 'stop_reason': 'end_turn',
        'stop_sequence': None, 'usage': dict({
            'input_tokens': input, 'cache_creation_input_tokens': write_5m + write_1h, 'cache_read_input_tokens': read,
            'output_tokens': output, 'server_tool_use': {'web_search_requests': searches, 'web_fetch_requests': 0},
            'service_tier': 'standard', 'cache_creation': {'ephemeral_1h_input_tokens': write_1h,
                                                           'ephemeral_5m_input_tokens': write_5m},
            'inference_geo': 'not_available', 'iterations': [], 'speed': 'standard'}, **usage or {}),
        'stop_details': None}
    line.update(apiBlockIndex=0, requestId=request or 'req_%s' % id, type='assistant', uuid='u-%s' % id,
                timestamp=time, userType='external', cwd=cwd, sessionId=session, version='2.1.330', gitBranch='main')
    line.update(more)
    return {key: value for key, value in line.items() if value is not None or key == 'parentUuid'}


def spent_line(id, micro_usd, **more):
    """A line of a call that costs exactly that many micro-dollars: claude-haiku-4-5, 1 USD per million of input."""
    return call_line(id, input=micro_usd, **more)


def user_line(time='2026-11-10T12:00:00.000Z', cwd='/work', session='s-1', content='a secret prompt', **more):
    return dict({'parentUuid': None, 'isSidechain': False, 'type': 'user',
                 'message': {'role': 'user', 'content': content}, 'uuid': 'u-user', 'timestamp': time,
                 'userType': 'external', 'cwd': cwd, 'sessionId': session, 'version': '2.1.330'}, **more)


def queue_line(time, session):
    """What a headless run writes first: it tells when a session began."""
    return {'type': 'queue-operation', 'operation': 'enqueue', 'timestamp': time, 'sessionId': session, 'content': 'go'}


def cost_state(session, totals, start=1794304800000):
    """An agent's own total: {model: (input, output, write_5m, write_1h, read, searches)}, short ones are padded."""
    usage = {}
    for model, tokens in totals.items():
        fresh, output, short, long, read, searches = tuple(tokens) + (0,) * (6 - len(tokens))
        usage[model] = {'inputTokens': fresh, 'outputTokens': output, 'thinkingTokens': 0, 'cacheReadInputTokens': read,
                        'cacheCreationInputTokens': short + long, 'cacheCreationEphemeral5mInputTokens': short,
                        'cacheCreationEphemeral1hInputTokens': long, 'webSearchRequests': searches, 'costUSD': 0.5}
    return {'type': 'cost-state', 'sessionId': session, 'totalCostUSD': 0.5, 'totalAPIDuration': 76,
            'totalDuration': 778, 'startTime': start, 'modelUsage': usage, 'hasUnknownModelCost': False}


def fixture(*path):
    """A path in the recorded fixtures; the test is skipped where they are not."""
    found = os.path.join(DATA, 'claude-code-2.1.330', *path)
    if not os.path.exists(found):
        raise unittest.SkipTest('no fixture ' + found)
    return found


def read_json_lines(path):
    with open(path, encoding='utf-8') as stream:
        return [json.loads(line) for line in stream if line.strip()]
