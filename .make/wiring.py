"""The gate's entries in an agent's settings: texts in, texts out.

Most agents' settings have one shape; which events, and what an entry holds, budget-check.py knows:

    {"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": "..."}]}]}}
"""

import os
import shlex

import jsontext
from jsontext import JsonError

HOOK = 'pretooluse-hook.py'


def command_line(python, hook, agent='claude-code'):
    """What an agent runs. `python3 missing.py` exits 2, which says "refuse this tool": a script that was
    deleted must not stop all work. Where there is no Python, all is refused only if a cap is set."""
    there = exists_test(hook)
    call = f'{shlex.quote(python)} -IS {shlex.quote(hook)}'
    if agent == 'codex':
        return f'{there}exec {call}'       # Codex trusts a line as it is: any change asks every user again
    if agent != 'claude-code':
        call += f' --agent {agent}'
    why = (f'armledger: no {python} on PATH, so spend is unknown and all is refused; '
           'put it there, or: make install PYTHON=/usr/bin/python3')
    beside = shlex.quote(os.path.join(os.path.dirname(hook), 'budgets.yaml'))
    return (f'{there}{{ command -v {shlex.quote(python)} >/dev/null && exec {call}; '
            f'set -- "$ARMLEDGER_BUDGETS"; [ "$1" ] || set -- {beside} ~/.claude/budgets.yaml; '
            'for f; do [ -z "$ARMLEDGER_BUDGETS" ] && [ ! -e "$f" ] || '
            '{ grep -qs "^[^#]*_usd_cap" "$f"; [ $? = 1 ]; } || '
            f'{{ echo {shlex.quote(why)} >&2; exit 2; }}; done; }}')


def hook_entries(client, command):
    """{event: entry} that wire a client of budget-check.py to the gate, as its settings hold them."""
    handler = {name: value or command for name, value in client.handler.items()}
    if 'bash' in handler:                  # Copilot's form has no groups
        return dict.fromkeys(client.events, handler)
    group = {'hooks': [handler]}
    return {event: {'matcher': '*', **group} if 'Tool' in event else group for event in client.events}


def exists_test(hook):
    """How every line that an installer wrote begins."""
    return f'[ ! -f {shlex.quote(hook)} ] || '


def hook_path(command):
    """The path of the pretooluse-hook.py that a command line runs, or None."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    paths = [word for word in words if os.path.basename(word) == HOOK]
    return paths[-1] if paths else None


def is_ours(command):
    """True for any armledger's gate, wherever it lies; another tool's script of the same name is left alone."""
    path = hook_path(command)
    if path is None:
        return False
    return '-IS' in shlex.split(command) or os.path.exists(os.path.join(_real_folder(path), 'budget-check.py'))


def _real_folder(path):
    return os.path.realpath(os.path.dirname(os.path.expanduser(path)))


def lies_in(folder):
    """A test of command lines: does it run the hook in this folder?"""
    def test(command):
        path = hook_path(command)
        return path is not None and _real_folder(path) == os.path.realpath(folder)
    return test


def written_for(folder):
    """A test of command lines: was it written by the installer, for this folder? Others were wired by hand."""
    return lambda command: command.startswith(exists_test(os.path.join(folder, HOOK)))


def wire(text, groups):
    """The settings text with exactly these entries of ours; unchanged when they stand there already."""
    for event, group in groups.items():
        text = _wire_event(text, event, group)
    return text


def unwire(text, ours):
    """The settings text without our entries, and without what that leaves empty."""
    while True:
        found = _find(text, ours)
        if not found:
            return text
        text = _remove_handler(text, *found[0])


def wired_paths(text, ours=is_ours):
    return sorted({hook_path(handler.value['command']) for *_, handler in _find(text, ours)})


def _wire_event(text, event, group):
    found = [place for place in _find(text, is_ours) if place[0] == event]
    if len(found) == 1 and _stands(found[0], group):
        return text
    if len(found) == 1 and len(found[0][1].value['hooks']) == 1:
        return jsontext.replace(text, found[0][1], group)  # in its place: Codex tells hooks apart by position
    while found:
        text = _remove_handler(text, *found[-1])
        found = [place for place in _find(text, is_ours) if place[0] == event]
    return _append_group(text, event, group)


def _stands(place, group):
    event, node, handler = place
    matches_all = 'matcher' not in group or node.value.get('matcher', '*') in ('*', '')
    return matches_all and handler.value == group['hooks'][0]


def _append_group(text, event, group):
    root = jsontext.parse(text)
    hooks = root.children.get('hooks')
    if hooks is None:
        return jsontext.append(text, root, {event: [group]}, key='hooks')
    if event not in hooks.children:
        return jsontext.append(text, hooks, [group], key=event)
    return jsontext.append(text, hooks.children[event], group)


def _find(text, ours):
    """[(event, group node, handler node)] of the commands that `ours` accepts."""
    return [
        (event, group, handler)
        for event, groups in _events(text).items()
        for group in groups.children
        for handler in group.children['hooks'].children
        if isinstance(handler.value.get('command'), str) and ours(handler.value['command'])
    ]


def _events(text):
    """{event: node of its groups}, once the shape is known to be the one that agents read."""
    root = _expect(text, jsontext.parse(text), dict, 'the settings')
    hooks = root.children.get('hooks')
    if hooks is None:
        return {}
    _expect(text, hooks, dict, '"hooks"')
    for event, groups in hooks.children.items():
        _expect(text, groups, list, f'"hooks.{event}"')
        for group in groups.children:
            _check_group(text, group, f'"hooks.{event}"')
    return hooks.children


def _check_group(text, group, where):
    _expect(text, group, dict, f'an entry of {where}')
    if 'hooks' not in group.children:
        raise JsonError(f'an entry of {where} has no "hooks" list', text, group.start)
    handlers = _expect(text, group.children['hooks'], list, f'"hooks" in an entry of {where}')
    for handler in handlers.children:
        _expect(text, handler, dict, f'an item of "hooks" in an entry of {where}')


def _expect(text, node, kind, what):
    if not isinstance(node.value, kind):
        shape = 'an object {...}' if kind is dict else 'a list [...]'
        raise JsonError(f'{what} must be {shape}', text, node.start)
    return node


def _remove_handler(text, event, group, handler):
    handlers = group.children['hooks']
    if len(handlers.children) > 1:
        return jsontext.remove(text, handlers, handler)
    root = jsontext.parse(text)
    hooks = root.children['hooks']
    groups = hooks.children[event]
    if len(groups.children) > 1:
        return jsontext.remove(text, groups, group)
    if len(hooks.children) > 1:
        return jsontext.remove(text, hooks, groups)
    return jsontext.remove(text, root, hooks)
