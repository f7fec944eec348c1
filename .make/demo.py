"""Show armledger at work in a throwaway home: nothing outside it is read or written.

    python3 .make/demo.py

Exit 0 when every step showed what it should, else 1.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone

from files import UserError, run_main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUDGETS = """\
budgets:
  - arm: acme                   # all stops at $50.00
    path: ~/clients/acme
    monthly_usd_cap: 50.00
    grace_pct: 100
    halt_pct: 100
  - arm: beta                   # sub-agents stop at 110 % of it, all at 150 %
    path: ~/clients/beta
    monthly_usd_cap: 40.00
"""
# One call at list price: Opus 5.5 $1.00 (input 0.02, cache write 0.32, cache read 0.02, output 0.64), Sonnet 5.5 half.
USAGE = {
    'input_tokens': 5000, 'cache_creation_input_tokens': 40000, 'cache_read_input_tokens': 100000,
    'output_tokens': 32000,
    'cache_creation': {'ephemeral_1h_input_tokens': 40000, 'ephemeral_5m_input_tokens': 0},
    'server_tool_use': {'web_search_requests': 0, 'web_fetch_requests': 0},
    'service_tier': 'standard', 'inference_geo': 'not_available', 'iterations': [], 'speed': 'standard',
}
# arm: (session, model, calls). acme: $57.00 of $50.00, beta: $41.00 of $40.00.
WORK = {
    'acme': ('5e000000-0000-4000-8000-00000000ac3e', 'claude-opus-5-5', 57),
    'beta': ('5e000000-0000-4000-8000-00000000be7a', 'claude-sonnet-5-5', 82),
}
SUB_AGENT = 'a0000000000000001'


# --- the throwaway home

def clean_environment(home):
    """Only what programs need to run; every place that armledger looks at is inside `home`."""
    return {
        'PATH': os.environ.get('PATH', os.defpath), 'LANG': os.environ.get('LANG', 'C.UTF-8'), 'TZ': 'UTC',
        'HOME': home, 'TMPDIR': home, 'PYTHONIOENCODING': 'utf-8',
        'XDG_STATE_HOME': os.path.join(home, '.local', 'state'), 'XDG_CONFIG_HOME': os.path.join(home, '.config'),
    }


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def transcript(home, arm):
    session = WORK[arm][0]
    folder = ''.join(c if c.isascii() and c.isalnum() else '-' for c in os.path.join(home, 'clients', arm))
    return os.path.join(home, '.claude', 'projects', folder, session + '.jsonl')


def write_logs(home, now):
    for arm, (session, model, calls) in WORK.items():
        cwd = os.path.join(home, 'clients', arm)
        os.makedirs(cwd)
        lines = [call_line(arm, n, session, cwd, model, when) for n, when in enumerate(times_this_month(now, calls))]
        main, side = lines[::2], lines[1::2]
        path = transcript(home, arm)
        write(path, ''.join(json.dumps(line) + '\n' for line in main))
        aside = [dict(line, isSidechain=True, agentId=SUB_AGENT) for line in side]
        write(os.path.join(path[:-len('.jsonl')], 'subagents', f'agent-{SUB_AGENT}.jsonl'),
              ''.join(json.dumps(line) + '\n' for line in aside))


def times_this_month(now, count):
    """`count` times of the last six hours, none before the month began: the caps are monthly."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = max(month, now - timedelta(hours=6))
    return [start + (now - start) * n / count for n in range(count)]


def call_line(arm, n, session, cwd, model, when):
    """A billed call, as Claude Code 2.1 writes it."""
    tool = {'type': 'tool_use', 'id': f'toolu_{arm}_{n}', 'name': 'Bash', 'input': {'command': 'make'}}
    message = {'id': f'msg_{arm}_{n}', 'type': 'message', 'role': 'assistant', 'model': model, 'content': [tool],
               'stop_reason': 'tool_use', 'stop_sequence': None, 'usage': USAGE}
    return {'parentUuid': None, 'isSidechain': False, 'message': message, 'requestId': f'req_{arm}_{n}',
            'type': 'assistant', 'uuid': f'00000000-0000-4000-8000-{n:08d}{arm.encode().hex()[:4]}',
            'timestamp': when.strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z', 'userType': 'external', 'entrypoint': 'cli',
            'cwd': cwd, 'sessionId': session, 'version': '2.1.330', 'gitBranch': 'main'}


# --- what is shown

class Demo:
    def __init__(self, home):
        self.home = home
        self.environ = clean_environment(home)
        self.hooks = os.path.join(home, '.claude', 'hooks')
        self.wrong = 0

    def say(self, text):
        print(f'\n# {text}', flush=True)

    def expect(self, what, holds):
        if not holds:
            self.wrong += 1
            print(f'!! this should have shown: {what}', flush=True)

    def call(self, command, cwd, given=''):
        return subprocess.run(command, input=given, env=self.environ, cwd=cwd, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8')

    def run(self, shown, command):
        """Run a program, show its output under the command line that a person would type; (exit code, stdout)."""
        print(f'$ {shown}', flush=True)
        done = self.call(command, self.home)
        print(self.tidy(done.stdout + done.stderr), end='', flush=True)
        return done.returncode, done.stdout

    def tidy(self, text):
        return text.replace(self.home, '~').replace(sys.executable, 'python3')

    def script(self, name, *arguments):
        return self.run(' '.join(['python3', f'~/.claude/hooks/{name}', *arguments]),
                        [sys.executable, os.path.join(self.hooks, name), *arguments])

    def ask_gate(self, arm, tool, tool_input):
        """The gate's answer, {} for silence, when the agent in `arm` wants to use a tool; shown as its user sees it."""
        print(f'> the agent in ~/clients/{arm} wants to use {tool}', flush=True)
        session, _, calls = WORK[arm]
        cwd = os.path.join(self.home, 'clients', arm)
        payload = {'session_id': session, 'transcript_path': transcript(self.home, arm), 'cwd': cwd,
                   'permission_mode': 'default', 'hook_event_name': 'PreToolUse', 'tool_name': tool,
                   'tool_input': tool_input, 'tool_use_id': f'toolu_{arm}_{calls - 1}'}
        done = self.call(['sh', '-c', self.wired_command()], cwd, json.dumps(payload))
        self.expect('exit 0 and nothing on stderr', done.returncode == 0 and not done.stderr)
        print(self.tidy(done.stderr), end='')
        answer = json.loads(done.stdout or '{}')
        self.show_answer(answer)
        return answer

    def wired_command(self):
        with open(os.path.join(self.home, '.claude', 'settings.json'), encoding='utf-8') as f:
            return json.load(f)['hooks']['PreToolUse'][0]['hooks'][0]['command']

    def show_answer(self, answer):
        decision = answer.get('hookSpecificOutput', {})
        if decision.get('permissionDecision') == 'deny':
            print(self.tidy('REFUSED. The model is told: ' + decision['permissionDecisionReason']))
        for key, words in ('systemMessage', 'You are told: '), ('stopReason', 'The turn ends: '):
            if answer.get(key):
                print(self.tidy(words + answer[key]))
        if not answer:
            print('(silence: the tool runs)')


def show(home):
    demo = Demo(home)
    write_logs(home, datetime.now(timezone.utc))
    write(os.path.join(demo.hooks, 'budgets.yaml'), BUDGETS)

    demo.say('Two clients, one cap each (budgets.yaml)')
    print(BUDGETS, end='')
    demo.say("Install: the scripts beside it, the gate wired into the agent's settings")
    python, installer = sys.executable, os.path.join(ROOT, '.make', 'install.py')
    code, _ = demo.run('make install', [python, installer, 'install', '--python', python, '--no-report'])
    if code != 0:
        raise UserError("the demo can't go on: the installation failed")

    demo.say("What the agents' own logs cost this month, by client")
    code, out = demo.script('cost-report.py')
    demo.expect('acme 57.00 and beta 41.00', code == 0 and '57.00' in out and '41.00' in out)
    demo.say('Where the caps stand (exit 2: a hard stop)')
    code, out = demo.script('budget-check.py')
    demo.expect('acme at halt, beta at warn, exit 2', code == 2 and ' halt ' in out and ' warn ' in out)
    demo.say('beta is over its cap, but not yet at its hard stop: the tool runs, and you hear of it')
    tests = {'command': 'make test'}
    answer = demo.ask_gate('beta', 'Bash', tests)
    demo.expect('a message to the user, no refusal', bool(answer.get('systemMessage')) and not refused(answer))
    demo.say("acme's agent wants to go on: refused, through the very command line that is wired")
    demo.expect('a refusal', refused(demo.ask_gate('acme', 'Bash', tests)))
    demo.say('There is no --force. You lift a stop in budgets.yaml')
    write(os.path.join(demo.hooks, 'budgets.yaml'), BUDGETS.replace('_cap: 50.00', '_cap: 100.00'))
    print('-    monthly_usd_cap: 50.00\n+    monthly_usd_cap: 100.00')
    demo.expect('silence', demo.ask_gate('acme', 'Bash', tests) == {})
    return demo.wrong


def refused(answer):
    return answer.get('hookSpecificOutput', {}).get('permissionDecision') == 'deny'


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes then, too
    home = os.path.realpath(tempfile.mkdtemp(prefix='armledger-demo-'))
    try:
        wrong = show(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if wrong:
        print(f"\n{wrong} of these steps didn't show what they should")
        return 1
    print('\nThat was all in a throwaway home, and is gone again. Yours: make install')
    return 0


if __name__ == '__main__':
    run_main(main)
