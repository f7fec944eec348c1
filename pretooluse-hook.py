#!/usr/bin/env python3
"""Hook for coding agents: refuses an expensive tool where an arm's budget is burned through.

Wire it in front of every tool and prompt (`make install` does):

    python3 -IS ~/.claude/hooks/pretooluse-hook.py      the agent's payload on stdin
    ... pretooluse-hook.py --agent copilot              of an agent that its payload doesn't tell

budget-check.py, which lies beside it, decides. Silence and exit 0 let the agent go on; a refusal
is an answer on stdout, or exit 2 with the reason on stderr. It never exits 1 and never shows a
traceback: where budget-check.py itself can't be used, tools that cost little pass with a message
and expensive ones are refused, if a cap is set at all.
"""
import gc
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))

# The same as in budget-check.py, for the day when that can't be loaded.
EXPENSIVE_TOOLS = (
    'Agent', 'Task', 'invoke_agent', 'Workflow', 'SendMessage', '*spawn_agent', '*followup_task',
    '*send_input', '*resume_agent', 'write_agent', 'WebSearch', 'WebFetch', 'web_search',
    'google_web_search', 'web_fetch', '*playwright*', '*puppeteer*', 'mcp_*chrome*',
    'mcp_*browser*', 'mcp_*computer-use*', 'CronCreate', 'ScheduleWakeup', 'RemoteTrigger')
EVENTS = 'PreToolUse', 'BeforeTool', 'UserPromptSubmit', 'BeforeAgent'


class OldPython(Exception):
    pass


def main():
    gc.disable()                           # it ends too soon for anything to be worth collecting
    if sys.argv[1:] == ['--statusline']:
        show_status()
    agent = sys.argv[2] if sys.argv[1:2] == ['--agent'] and len(sys.argv) > 2 else None
    text = b''
    try:
        decide_on_signals()
        text = read_payload()
        if sys.version_info < (3, 9):
            raise OldPython('armledger needs Python 3.9 or later, and python3 is %d.%d here; put '
                            'a newer one first on PATH' % sys.version_info[:2])
        gate = load(os.path.join(HERE, 'budget-check.py'))
        code, out, err = gate.gate(text, os.environ, HERE, agent)
    except BaseException as error:
        code, out, err = decide_alone(text, agent, error)
    finish(code, out, err)


def show_status():
    """The status line, in a third of the time: from here budget-check.py is not compiled anew."""
    try:
        load(os.path.join(HERE, 'budget-check.py')).statusline()
        out = ''
    except BaseException as error:
        out = 'armledger: ? %s' % type(error).__name__
    finish(0, out, '')


def decide_on_signals():
    """Told to end, a hook decides by its rule for errors: killed, it would let the tool run."""
    try:
        import _signal as signal           # without the enums of `signal`: a millisecond less
    except ImportError:
        import signal

    def end(number, frame):
        raise SystemExit('it was told to end (signal %d)' % number)
    for name in ('SIGTERM', 'SIGHUP', 'SIGINT'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)


def read_payload():
    try:
        return sys.stdin.buffer.read()
    except (AttributeError, OSError, ValueError):          # stdin is closed
        return b''


def load(path):
    """budget-check.py as a module; its bytecode is cached beside it."""
    try:
        # What importlib.machinery gives, without its imports.
        from _frozen_importlib_external import SourceFileLoader
    except ImportError:
        from importlib.machinery import SourceFileLoader
    module = type(sys)('budget_check')
    module.__file__ = path
    sys.modules['budget_check'] = module
    exec(SourceFileLoader('budget_check', path).get_code('budget_check'), module.__dict__)
    return module


def decide_alone(text, agent, error):
    """The rule for errors, as (exit code, stdout, stderr), with nothing but this file."""
    import fnmatch
    import json
    import re
    if not caps_may_be_set():
        return 0, '', ''
    try:
        payload = json.loads(text.decode('utf-8'))
        tool = payload.get('tool_name', payload.get('toolName'))
        event = payload.get('hook_event_name', payload.get('hookName'))
        if event is None and agent == 'copilot':           # its own form names few events
            event = 'PreToolUse' if 'toolArgs' in payload else 'UserPromptSubmit'
    except (AttributeError, ValueError, RuntimeError):
        event, tool = 'PreToolUse', None
    is_odd = tool and event not in EVENTS and not re.match('(?i)post|after|permission', str(event))
    name = '' if isinstance(error, OldPython) else type(error).__name__ + ': '
    why = 'armledger cannot tell what this arm has spent: %s%s' % (name, error)
    why = ''.join(c if c.isprintable() else '?' for c in why)[:600]
    is_expensive = not isinstance(tool, str) or any(
        fnmatch.fnmatchcase(tool.lower(), one.lower()) for one in EXPENSIVE_TOOLS)
    if is_expensive and (is_odd or event in EVENTS[:2]):
        why += '. Expensive tools are refused until that is mended; the user can reinstall ' \
               'armledger.'
        if agent != 'copilot':
            return 2, '', why
        out = {'permissionDecision': 'deny', 'permissionDecisionReason': why}
    elif (is_odd or event in EVENTS) and agent != 'copilot':
        out = {'systemMessage': why + '. This one passes, expensive tools are refused.'}
    else:
        return 0, '', ''
    return 0, json.dumps(out), ''


def caps_may_be_set():
    """Whether the budgets file that counts sets a cap: any line that isn't a comment names one."""
    named = os.environ.get('ARMLEDGER_BUDGETS')
    usual = os.path.join(os.path.expanduser('~'), '.claude', 'budgets.yaml')
    for path in [named] if named else [os.path.join(HERE, 'budgets.yaml'), usual]:
        try:
            with open(path, 'rb') as stream:
                text = stream.read(1 << 20)
            if not text or any(b'_usd_cap' in line.split(b'#')[0] for line in text.split(b'\n')):
                return True
        except (IOError, OSError):
            if named or os.path.lexists(path):
                return True                                # it can't be read: it may
    return False


def finish(code, out, err):
    """Say it and end at once: tearing an interpreter down costs more than the answer."""
    try:
        if out:
            sys.stdout.write(out + '\n')
        sys.stdout.flush()
    except (AttributeError, IOError, OSError, ValueError):
        if '"deny"' in out or '"block"' in out:            # a refusal is one without stdout, too
            code, err = 2, err or 'armledger refused this and could not say why'
    try:
        if err:
            sys.stderr.write(err + '\n')
            sys.stderr.flush()
    except (AttributeError, IOError, OSError, ValueError):
        pass
    os._exit(code)


if __name__ == '__main__':
    main()
