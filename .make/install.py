"""Put armledger into an agent's hooks folder and its settings, or take back exactly that.

    python3 .make/install.py install   [--python PROGRAM] [--no-report]
    python3 .make/install.py uninstall

    HOOKS_DIR          where the scripts go (default: the `hooks` folder of Claude Code's settings)
    CLAUDE_CONFIG_DIR  Claude Code's settings (default: ~/.claude)
    CODEX_HOME         Codex's settings (default: ~/.codex); wired too when the folder is there

Nothing is changed before everything has been read and understood. Exit 0, or 1 with the reason.
"""

import argparse
import codecs
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple

import jsontext
import wiring
from files import UserError, read_bytes, run_main, write_whole
from jsontext import JsonError

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = ['budget-check.py', 'cost-report.py', 'pretooluse-hook.py']
SETTINGS = ['budgets.yaml', 'prices.json']
RECORD = '.armledger-install.json'
BACKUP_SUFFIX = '.bak-armledger'
CHECK_PYTHON = 'import sys, sqlite3; sys.exit(sys.version_info < (3, 9))'

# name: the agent's; path: its settings file; groups(command) -> {event: entry}.
Agent = namedtuple('Agent', 'name path groups')
# after: the new bytes (None: remove the file).
Rewiring = namedtuple('Rewiring', 'agent before after')


# --- where things are

def hooks_folder(environ):
    given = environ.get('HOOKS_DIR')
    return _absolute(given) if given else os.path.join(claude_folder(environ), 'hooks')


def claude_folder(environ):
    """Claude Code's settings folder; of a comma list (more log folders) the first."""
    given = environ.get('CLAUDE_CONFIG_DIR', '')
    if given and not os.path.isdir(_absolute(given)):
        given = next((part.strip() for part in given.split(',') if part.strip()), '')
    return _absolute(given or '~/.claude')


def codex_folder(environ):
    return _absolute(environ.get('CODEX_HOME') or '~/.codex')


def ledger_folder(environ):
    if environ.get('ARMLEDGER_HOME'):
        return _absolute(environ['ARMLEDGER_HOME'])
    return os.path.join(_absolute(environ.get('XDG_STATE_HOME') or '~/.local/state'), 'armledger')


def agents(environ):
    claude = Agent('Claude Code', os.path.join(claude_folder(environ), 'settings.json'), wiring.claude_groups)
    codex = Agent('Codex', os.path.join(codex_folder(environ), 'hooks.json'), wiring.codex_groups)
    return [claude] + [codex] * os.path.isdir(codex_folder(environ))


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))


# --- the record of what was installed
#
# {"files": {name: digest}, "folders": [created], "wired": {settings file: {"existed", "before", "after"}}}
# before, after: digests of the settings around our edit; with `after` still standing, the backup is what was there.

def load_record(folder):
    path = os.path.join(folder, RECORD)
    content = read_bytes(path)
    try:
        record = json.loads(content) if content is not None else {}
        return {'files': dict(record.get('files', {})), 'folders': list(record.get('folders', [])),
                'wired': dict(record.get('wired', {}))}
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: can't be understood; remove it, then run this again")


def save_record(folder, record):
    about = 'What `make install` of armledger put here, so that `make uninstall` takes back just that.'
    text = json.dumps(dict({'about': about}, **record), indent=2) + '\n'
    path = os.path.join(folder, RECORD)
    put(path, read_bytes(path), text.encode())


def digest(content):
    return hashlib.sha256(content).hexdigest()


# --- settings files

def ask_settings(path, content, question):
    """question(text) of a settings file's bytes; errors name the file, the line and the column."""
    try:
        return question(content.decode('utf-8-sig'))
    except JsonError as error:
        raise UserError(f'{path}:{error}\n  It was left alone. Mend it, then run this again.')
    except UnicodeDecodeError:
        raise UserError(f"{path}: isn't UTF-8 text; it was left alone")


def edit_settings(path, content, edit):
    """The bytes of a settings file after edit(text)."""
    bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b''
    return bom + ask_settings(path, content, edit).encode()


def plan_wiring(agent, command):
    before = read_bytes(agent.path)
    groups = agent.groups(command)
    after = edit_settings(agent.path, b'{}\n' if before is None else before, lambda text: wiring.wire(text, groups))
    return Rewiring(agent, before, after)


def rewire(plan, record):
    """Write the settings as planned, with a backup beside them and the record kept."""
    path = plan.agent.path
    if plan.after == plan.before:
        print(f'  wired     {path} (as before)')
        return
    check_unmoved(plan)
    known = record['wired'].get(path)
    if plan.before is None:
        origin, note = {'existed': False, 'before': None}, ''
    elif known and known['after'] == digest(plan.before):
        origin, note = known, ''  # still our own text: the backup that is there is the user's
    else:
        _copy_with_mode(path, path + BACKUP_SUFFIX)
        note = f' (backup: {os.path.basename(path)}{BACKUP_SUFFIX})'
        origin = {'existed': known['existed'] if known else True, 'before': digest(plan.before)}
    write_whole(path, plan.after)
    record['wired'][path] = dict(origin, after=digest(plan.after))
    print(f'  wired     {path}: PreToolUse, UserPromptSubmit{note}')


def check_unmoved(plan):
    if read_bytes(plan.agent.path) != plan.before:
        raise UserError(f'{plan.agent.path}: another program changed it just now; run this again')


def _copy_with_mode(source, target):
    mode = os.stat(source).st_mode & 0o7777
    write_whole(target, read_bytes(source), mode)
    os.chmod(target, mode)


# --- install

def install(environ, python, with_report):
    folder = hooks_folder(environ)
    shipped = {name: _shipped(name) for name in SCRIPTS + SETTINGS}
    record = load_record(folder)
    check_python(python)
    check_no_strangers(folder, record, shipped)
    command = wiring.command_line(python, os.path.join(folder, wiring.HOOK))
    plans, problems = plan_agents(environ, command)

    folders = [folder] + [os.path.dirname(os.path.realpath(plan.agent.path)) for plan in plans]
    for path in folders:
        check_writable(path)

    print(f'armledger, into {folder}')
    for path in folders:
        make_folder(path, record)
    save_record(folder, record)
    try:
        install_files(folder, dict(shipped, **moved_caps(folder, plans)), record)
        for plan in plans:
            rewire(plan, record)
    finally:
        save_record(folder, record)
    print_next_steps(folder, plans, python)
    if with_report:
        show_spend(folder)
    for problem in problems:
        print(f'\nerror: {problem}\n  That agent is NOT gated.', file=sys.stderr)
    return 1 if problems else 0


def plan_agents(environ, command):
    """Claude Code's settings must be sound; another agent's unsound ones don't keep Claude Code from its gate."""
    claude, *others = agents(environ)
    plans, problems = [plan_wiring(claude, command)], []
    for agent in others:
        try:
            plans.append(plan_wiring(agent, command))
        except UserError as error:
            problems.append(f'{agent.name}: {error}')
    return plans, problems


def _shipped(name):
    content = read_bytes(os.path.join(SOURCE, name))
    if content is None:
        raise UserError(f"{os.path.join(SOURCE, name)}: is missing; this checkout isn't whole")
    return content


def check_python(python):
    """The gate is wired to refuse when it can't run: a Python that doesn't run would stop all work."""
    try:
        code = subprocess.call([python, '-IS', '-c', CHECK_PYTHON], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        code = None
    if code != 0:
        what = "can't be run" if code is None else "isn't Python 3.9 or later with sqlite3"
        raise UserError(f'{python}: {what}; name one that is: make install PYTHON=/usr/bin/python3')


def check_no_strangers(folder, record, shipped):
    for name in SCRIPTS:
        there = read_bytes(os.path.join(folder, name))
        if there is not None and name not in record['files'] and there != shipped[name] and b'armledger' not in there:
            raise UserError(f"{os.path.join(folder, name)}: is another tool's; move it, or choose another folder: "
                            'make install HOOKS_DIR=...')


def check_writable(folder):
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: can't be written to; nothing was changed")


def make_folder(path, record):
    """Create a folder, noting each one that wasn't there, the deepest first."""
    missing = []
    while not os.path.isdir(path) and path not in missing:
        missing.append(path)
        path = os.path.dirname(path)
    for new in reversed(missing):
        try:
            os.mkdir(new)
        except OSError as error:
            raise UserError(f"{new}: this folder can't be made: {error.strerror}")
    record['folders'] += missing


def moved_caps(folder, plans):
    """The budgets.yaml of the folder that was wired until now: the caps move along."""
    for plan in plans:
        for hook in ask_settings(plan.agent.path, plan.before, wiring.wired_paths) if plan.before else []:
            caps = read_bytes(os.path.join(os.path.dirname(hook), 'budgets.yaml'))
            if caps is not None and os.path.realpath(os.path.dirname(hook)) != os.path.realpath(folder):
                return {'budgets.yaml': caps}
    return {}


def install_files(folder, shipped, record):
    for name in SCRIPTS:
        print('  ' + install_script(folder, name, shipped[name], record['files']))
    print('  ' + install_prices(folder, shipped['prices.json'], record['files']))
    print('  ' + install_budgets(folder, shipped['budgets.yaml'], record['files']))


def install_script(folder, name, new, installed):
    path = os.path.join(folder, name)
    there = read_bytes(path)
    if _is_the_source(path, name):
        return f"kept      {name} (it is this checkout's own)"
    edited = there not in (None, new) and installed.get(name) != digest(there)
    if edited:
        _copy_with_mode(path, path + BACKUP_SUFFIX)
    unchanged = put(path, there, new, 0o777)
    installed[name] = digest(new)
    if unchanged:
        return f'unchanged {name}'
    remove_bytecode(folder, [name])
    return f'wrote     {name}' + f' (yours was changed by hand: saved as {name}{BACKUP_SUFFIX})' * edited


def install_prices(folder, new, installed):
    name, path = 'prices.json', os.path.join(folder, 'prices.json')
    there = read_bytes(path)
    if _is_the_source(path, name):
        return f"kept      {name} (it is this checkout's own)"
    if there not in (None, new) and installed.get(name) != digest(there):
        return (f'kept      {name}: you edited it. The newest list is {os.path.join(SOURCE, name)}; '
                'to take it, delete yours and install again')
    unchanged = put(path, there, new)
    installed[name] = digest(new)
    return f'unchanged {name}' if unchanged else f'wrote     {name}'


def install_budgets(folder, new, installed):
    name, path = 'budgets.yaml', budgets_file(folder)
    if os.path.lexists(path):
        return f'kept      {path} (never overwritten)'
    write_whole(path, new)
    if new != _shipped(name):
        return f'copied    {name} from the folder that was wired before'
    installed[name] = digest(new)
    return f'wrote     {name} (arms nothing yet)'


def budgets_file(folder):
    """Where the caps are. A new file beside the scripts would switch the user's general one off."""
    beside, general = os.path.join(folder, 'budgets.yaml'), _absolute('~/.claude/budgets.yaml')
    return general if os.path.lexists(general) and not os.path.lexists(beside) else beside


def put(path, there, new, new_mode=0o666):
    """True when the file was like that already."""
    if there != new:
        write_whole(path, new, new_mode)
    return there == new


def _is_the_source(path, name):
    source = os.path.join(SOURCE, name)
    return os.path.exists(path) and os.path.samefile(path, source)


def print_next_steps(folder, plans, python):
    check = f"{python} {shlex.quote(os.path.join(folder, 'budget-check.py'))}"
    print('\nNext')
    print(f'  - Set caps in {budgets_file(folder)}')
    print(f'  - See where they stand: {check}')
    print(f'  - See whether they would hold here: {check} --doctor')
    for plan in plans:
        if plan.after == plan.before:
            pass
        elif plan.agent.name == 'Codex':
            print('  - Codex runs a new hook only once you trust it: start codex, type /hooks, '
                  'trust both entries of pretooluse-hook.py')
        else:
            print(f'  - Restart the {plan.agent.name} sessions that are open: they read their hooks when they start')
        if ask_settings(plan.agent.path, plan.after, hooks_are_off):
            print(f'  - {plan.agent.path} has "disableAllHooks": true: no hook runs until you remove that')
    for shim in find_shims(python):
        print(f"  - {shim} picks a Python by folder, slowly, and a client's repo can choose which;"
              ' better name one: make install PYTHON=/usr/bin/python3')


def find_shims(python):
    """Version managers' stand-ins for `python` on PATH; inside one, the real Python stands before it on PATH."""
    if os.sep in python:
        return []
    folders = [part for part in os.environ.get('PATH', '').split(os.pathsep) if os.path.basename(part) == 'shims']
    return [os.path.join(part, python) for part in folders if shutil.which(python, path=part)][:1]


def hooks_are_off(text):
    return jsontext.parse(text).value.get('disableAllHooks') is True


def show_spend(folder):
    print("\nSpend this month by arm, from the agents' logs (the first reading takes longest)", flush=True)
    report = os.path.join(folder, 'cost-report.py')
    try:
        code = subprocess.call([sys.executable, report], stdin=subprocess.DEVNULL)
    except OSError as error:
        code = error.strerror
    if code != 0:
        print(f"  The report didn't come through ({code}); the installation is whole. "
              f'Try: {sys.executable} {shlex.quote(report)}')


# --- uninstall

def uninstall(environ):
    folder = hooks_folder(environ)
    record = load_record(folder)
    ours = wiring.lies_in(folder)
    plans = [plan for path in settings_files(environ, record) for plan in plan_unwiring(path, record, ours)]
    if not os.path.exists(os.path.join(folder, RECORD)) and not plans:
        return say_nothing_there(environ, folder)

    print(f'armledger, out of {folder}')
    for plan in plans:
        undo_wiring(plan, record)
    for name in SCRIPTS + SETTINGS:
        remove_if_unchanged(folder, name, record['files'])
    remove_bytecode(folder, SCRIPTS)
    _remove(os.path.join(folder, RECORD))
    for path in sorted(record['folders'], key=len, reverse=True):
        _remove_empty_folder(path)
    print(f"  kept      the ledger, what was metered so far: {ledger_folder(environ)} (delete it if you won't need it)")
    return 0


def settings_files(environ, record):
    return sorted({agent.path for agent in agents(environ)} | set(record['wired']))


def plan_unwiring(path, record, ours):
    """[] where nothing of ours stands, else [Rewiring] to what was there before, or to the text without our entries."""
    before = read_bytes(path)
    if before is None:
        return []
    after = edit_settings(path, before, lambda text: wiring.unwire(text, ours))
    if after == before:
        return []
    known = record['wired'].get(path, {})
    if not known.get('existed', True) and after.strip() in (b'{}', b''):
        after = None
    elif known.get('after') == digest(before):
        after = _untouched_backup(path, known) or after
    return [Rewiring(Agent('', path, None), before, after)]


def _untouched_backup(path, known):
    backup = read_bytes(path + BACKUP_SUFFIX)
    return backup if backup is not None and digest(backup) == known.get('before') else None


def undo_wiring(plan, record):
    path = plan.agent.path
    check_unmoved(plan)
    if plan.after is None:
        _remove(os.path.realpath(path))
        print(f'  removed   {path} (nothing else was in it)')
        return
    backup = _untouched_backup(path, record['wired'].get(path, {}))
    write_whole(path, plan.after)
    if backup is not None and backup == plan.after:
        _remove(path + BACKUP_SUFFIX)
        print(f'  restored  {path}, byte for byte')
    else:
        print(f'  unwired   {path}: our entries are out, what was changed since is kept (the backup, too)')


def remove_if_unchanged(folder, name, installed):
    path = os.path.join(folder, name)
    there = read_bytes(path)
    if there is None:
        return
    if installed.get(name) == digest(there):
        _remove(path)
        print(f'  removed   {name}')
    else:
        why = 'changed since it was installed' if name in installed else 'not put there by the installer'
        print(f'  kept      {name} ({why})')


def remove_bytecode(folder, names):
    cache = os.path.join(folder, '__pycache__')
    stems = tuple(name[:-len('py')] for name in names)
    for name in os.listdir(cache) if os.path.isdir(cache) else []:
        if name.startswith(stems) and '.pyc' in name:
            _remove(os.path.join(cache, name))
    _remove_empty_folder(cache)


def say_nothing_there(environ, folder):
    print(f'Nothing of armledger is installed in {folder}.')
    for agent in agents(environ):
        content = read_bytes(agent.path)
        for hook in ask_settings(agent.path, content, wiring.wired_paths) if content else []:
            print(f'{agent.path} runs {hook}: make uninstall HOOKS_DIR={shlex.quote(os.path.dirname(hook))}')
    return 0


def _remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{path}: can't be removed: {error.strerror}")


def _remove_empty_folder(path):
    try:
        os.rmdir(path)
    except OSError:
        pass  # not there, or the user keeps something in it


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('action', choices=['install', 'uninstall'])
    parser.add_argument('--python', default='python3', help='the Python that runs the gate (default: python3)')
    parser.add_argument('--no-report', action='store_true', help="don't show this month's spend at the end")
    options = parser.parse_args()
    if options.action == 'uninstall':
        return uninstall(os.environ)
    python = _absolute(options.python) if os.sep in options.python else options.python
    return install(os.environ, python, not options.no_report)


if __name__ == '__main__':
    run_main(main)
