"""Put armledger into an agent's hooks folder and the agents' settings, or take back exactly that.

    python3 .make/install.py install   [--python PROGRAM] [--no-report]
    python3 .make/install.py uninstall

    HOOKS_DIR          where the scripts go (default: the `hooks` folder of Claude Code's settings)
    CLAUDE_CONFIG_DIR, CODEX_HOME, COPILOT_HOME, QWEN_HOME, GEMINI_CLI_HOME
                       the agents' settings, if not the usual; all but Claude Code only where their folder is

Nothing is changed before everything has been read and understood. Exit 0, or 1 with the reason.
"""

import argparse
import codecs
import glob
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.machinery import SourceFileLoader

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

# path: the agent's settings file; is_own: it is ours alone. after: the new bytes (None: remove the file).
Agent = namedtuple('Agent', 'name title path client is_own')
Rewiring = namedtuple('Rewiring', 'agent before after')


# --- where things are

def agents(environ):
    """Claude Code, and the others that are here: how each is wired, budget-check.py knows."""
    check, home, found = gate(), os.path.expanduser('~'), []
    for name, client in check.CLIENTS.items():
        path = os.path.abspath(client.settings(environ, home))
        folder = os.path.dirname(path)
        is_own = os.path.basename(folder) == 'hooks'
        if name == 'claude-code' or os.path.isdir(os.path.dirname(folder) if is_own else folder):
            found.append(Agent(name, check.AGENTS[name].title, path, client, is_own))
    return found


def gate():
    """This checkout's budget-check.py as a module."""
    if 'budget_check' not in sys.modules:
        path = os.path.join(SOURCE, 'budget-check.py')
        if not os.path.exists(path):
            raise UserError(f"{path}: is missing; this checkout isn't whole")
        sys.dont_write_bytecode = True
        module = sys.modules['budget_check'] = type(sys)('budget_check')
        module.__file__ = path
        exec(SourceFileLoader('budget_check', path).get_code('budget_check'), module.__dict__)
    return sys.modules['budget_check']


def hooks_folder(environ):
    given = environ.get('HOOKS_DIR')
    return _absolute(given) if given else os.path.join(os.path.dirname(agents(environ)[0].path), 'hooks')


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))


# --- the record of what was installed
#
# files: {name: digest} of what we wrote; folders: those we made; wired: {settings file: {existed, before, after}},
# digests around our edit; backups: {file: digest of the copy that lies beside it}. What was there before and is the
# same as ours is in no list: it stays.

def load_record(folder):
    path = os.path.join(folder, RECORD)
    content = read_bytes(path)
    try:
        record = json.loads(content) if content is not None else {}
        found = {name: dict(record.get(name, {})) for name in ('files', 'wired', 'backups')}
        for path_, known in found['wired'].items():
            if known['before']:
                found['backups'].setdefault(path_, known['before'])
        return dict(found, folders=list(record.get('folders', [])))
    except (ValueError, AttributeError, TypeError, KeyError):
        raise UserError(f"{path}: can't be understood; remove it, then run this again")


def save_record(folder, record):
    about = 'What `make install` of armledger put here, so that `make uninstall` takes back just that.'
    text = json.dumps(dict({'about': about}, **record), indent=2) + '\n'
    path = os.path.join(folder, RECORD)
    put(path, read_bytes(path), text.encode())


def digest(content):
    return hashlib.sha256(content).hexdigest()


def back_up(path, record):
    """Keep what is there beside it; what it says to the user."""
    content = read_bytes(path)
    copy_with_mode(path, path + BACKUP_SUFFIX, content)
    record['backups'][path] = digest(content)
    return os.path.basename(path) + BACKUP_SUFFIX


def backup_of(path, record):
    """The bytes that were there before us, or None."""
    content = read_bytes(path + BACKUP_SUFFIX) if path in record['backups'] else None
    return content if content is not None and digest(content) == record['backups'][path] else None


def copy_with_mode(source, target, content):
    mode = os.stat(source).st_mode & 0o7777
    write_whole(target, content, mode)
    os.chmod(target, mode)


# --- settings files

def ask_settings(path, content, question):
    """question(text) of a settings file's bytes; errors name the file, the line and the column."""
    try:
        text = content.decode('utf-8-sig')
        return question(text if text.strip() else '{}\n')     # as the agents read an empty file
    except JsonError as error:
        raise UserError(f'{path}:{error}\n  It was left alone. Mend it, then run this again.')
    except UnicodeDecodeError:
        raise UserError(f"{path}: isn't UTF-8 text; it was left alone")


def edit_settings(path, content, edit):
    """The bytes of a settings file after edit(text)."""
    bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b''
    return bom + ask_settings(path, content, edit).encode()


def plan_wiring(agent, python, hook):
    before = read_bytes(agent.path)
    command = wiring.command_line(python, hook, agent.name)
    entries = wiring.hook_entries(agent.client, command)
    if agent.is_own:
        hooks = {event: [entry] for event, entry in entries.items()}
        after = (json.dumps({'version': 1, 'hooks': hooks}, indent=2) + '\n').encode()
    else:
        after = edit_settings(agent.path, before or b'{}\n', lambda text: wiring.wire(text, entries))
    return Rewiring(agent, before, after)


def rewire(plan, record):
    """Write the settings as planned, with a backup beside them and the record kept."""
    path = plan.agent.path
    if plan.after == plan.before:
        print(f'  wired     {path} (as before)')
        return
    check_unmoved(plan)
    known = record['wired'].get(path)
    origin, note = {'existed': plan.before is not None, 'before': None}, ''
    if known and plan.before is not None and known['after'] == digest(plan.before):
        origin = known                     # still our own text: the backup that is there is the user's
    elif plan.before is not None:
        note = f' (backup: {back_up(path, record)})'
        origin['existed'] = known['existed'] if known else True
        origin['before'] = digest(plan.before)
    write_whole(path, plan.after)
    record['wired'][path] = dict(origin, after=digest(plan.after))
    print(f"  wired     {path}: {', '.join(plan.agent.client.events)}{note}")


def check_unmoved(plan):
    if read_bytes(plan.agent.path) != plan.before:
        raise UserError(f'{plan.agent.path}: another program changed it just now; run this again')


# --- install

def install(environ, python, with_report):
    folder = hooks_folder(environ)
    shipped = {name: _shipped(name) for name in SCRIPTS + SETTINGS}
    record = load_record(folder)
    check_python(python)
    check_no_strangers(folder, record, shipped)
    plans, problems = plan_agents(environ, python, os.path.join(folder, wiring.HOOK))
    folders = [folder] + [os.path.dirname(os.path.realpath(plan.agent.path)) for plan in plans]
    for path in folders:
        check_writable(path)

    print(f'armledger, into {folder}')
    for path in folders:
        make_folder(path, record)
    save_record(folder, record)
    try:
        shipped.update(moved_caps(folder, plans))
        for name in SCRIPTS:
            print('  ' + install_script(folder, name, shipped[name], record))
        print('  ' + install_prices(folder, shipped['prices.json'], record['files']))
        print('  ' + install_budgets(folder, shipped['budgets.yaml'], record['files']))
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


def plan_agents(environ, python, hook):
    """Claude Code's settings must be sound; another agent's unsound ones don't keep Claude Code from its gate."""
    claude, *others = agents(environ)
    plans, problems = [plan_wiring(claude, python, hook)], []
    for agent in others:
        try:
            plans.append(plan_wiring(agent, python, hook))
        except UserError as error:
            problems.append(f'{agent.title}: {error}')
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
        for hook in hooks_in(plan.agent, plan.before) if plan.before else ():
            caps = read_bytes(os.path.join(os.path.dirname(hook), 'budgets.yaml'))
            if caps is not None and os.path.realpath(os.path.dirname(hook)) != os.path.realpath(folder):
                return {'budgets.yaml': caps}
    return {}


def hooks_in(agent, content, ours=wiring.is_ours):
    """The pretooluse-hook.py files that an agent's settings run."""
    return [] if agent.is_own else \
        ask_settings(agent.path, content, lambda text: wiring.wired_paths(text, ours))


def install_script(folder, name, new, record):
    path, installed = os.path.join(folder, name), record['files']
    there = read_bytes(path)
    if _is_the_source(path, name):
        return f"kept      {name} (it is this checkout's own)"
    if there == new:
        return f'unchanged {name}'
    note = ''
    if there is not None and installed.get(name) != digest(there):
        note = f' (yours was changed by hand: saved as {back_up(path, record)})'
    put(path, there, new, 0o777)
    installed[name] = digest(new)
    remove_bytecode(folder, [name])
    return f'wrote     {name}{note}'


def install_prices(folder, new, installed):
    name, path = 'prices.json', os.path.join(folder, 'prices.json')
    there = read_bytes(path)
    if _is_the_source(path, name):
        return f"kept      {name} (it is this checkout's own)"
    if there == new:
        return f'unchanged {name}'
    if there is not None and installed.get(name) != digest(there):
        return (f'kept      {name}: you edited it. The newest list is {os.path.join(SOURCE, name)}; '
                'to take it, delete yours and install again')
    put(path, there, new)
    installed[name] = digest(new)
    return f'wrote     {name}'


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
    """Where the caps are: a general file that is there already stays the one to edit."""
    beside, general = os.path.join(folder, 'budgets.yaml'), _absolute('~/.claude/budgets.yaml')
    return general if os.path.lexists(general) and not os.path.lexists(beside) else beside


def put(path, there, new, new_mode=0o666):
    if there != new:
        write_whole(path, new, new_mode)


def _is_the_source(path, name):
    source = os.path.join(SOURCE, name)
    return os.path.exists(path) and os.path.samefile(path, source)


def print_next_steps(folder, plans, python):
    check = f"{python} {shlex.quote(os.path.join(folder, 'budget-check.py'))}"
    print('\nNext')
    print(f'  - Set caps in {budgets_file(folder)}')
    print(f'  - See where they stand (exit code 1 until one is set: there is nothing to check): {check}')
    print(f'  - See whether they would hold here: {check} --doctor')
    for plan in plans:
        if plan.after == plan.before:
            pass
        elif plan.agent.name == 'codex':
            print('  - Codex runs a new hook only once you trust it: start codex, type /hooks in Codex to trust it '
                  '(both entries of pretooluse-hook.py)')
        else:
            print(f'  - Restart the {plan.agent.title} sessions that are open: they read their hooks when they start')
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
    record, known = load_record(folder), agents(environ)
    ours = wiring.written_for(folder)
    plans = [plan for agent in wired_agents(known, record) for plan in plan_unwiring(agent, record, ours)]
    if not os.path.exists(os.path.join(folder, RECORD)) and not plans:
        return say_nothing_there(known, folder)

    print(f'armledger, out of {folder}')
    for plan in plans:
        undo_wiring(plan, record)
    user = wired_by_hand(known, folder)
    if user:
        record['wired'] = {}
        save_record(folder, record)
        print(f'  kept      the scripts: {user} runs them and was not wired by `make install`')
        return 0
    for name in SCRIPTS + SETTINGS:
        take_back(os.path.join(folder, name), name, record)
    for path in record['backups']:
        if backup_of(path, record) is not None:
            _remove(path + BACKUP_SUFFIX)
            print(f'  removed   {path}{BACKUP_SUFFIX} (our backup)')
    remove_bytecode(folder, SCRIPTS)
    _remove(os.path.join(folder, RECORD))
    for path in sorted(record['folders'], key=len, reverse=True):
        _remove_empty_folder(path)
    ledger = os.path.dirname(gate().find_ledger(None, environ, os.path.expanduser('~')))
    print(f"  kept      the ledger, what was metered so far: {ledger} (delete it if you won't need it)")
    return 0


def wired_agents(known, record):
    """The agents that are here, and those whose settings were wired when other folders were named."""
    paths = {agent.path for agent in known}
    return known + [Agent('', '', path, None, os.path.basename(path) == 'armledger.json')
                    for path in record['wired'] if path not in paths]


def plan_unwiring(agent, record, ours):
    """[] where nothing of ours stands, else [Rewiring] to what was there before, or to the text without our entries."""
    before, known = read_bytes(agent.path), record['wired'].get(agent.path, {})
    backup = backup_of(agent.path, record)
    if before is None:
        return []
    if agent.is_own:
        return [Rewiring(agent, before, backup)] if known else []
    after = edit_settings(agent.path, before, lambda text: wiring.unwire(text, ours))
    if not hooks_in(agent, before, ours):
        return []
    if known.get('after') == digest(before) and backup is not None:
        after = backup
    elif not known.get('existed', True) and after.strip() in (b'{}', b''):
        after = None
    return [Rewiring(agent, before, after)]


def undo_wiring(plan, record):
    path = plan.agent.path
    check_unmoved(plan)
    if plan.after is None:
        _remove(os.path.realpath(path))
        print(f'  removed   {path} (nothing else was in it)')
        return
    write_whole(path, plan.after)
    if plan.after == backup_of(path, record):
        print(f'  restored  {path}, byte for byte')
    else:
        print(f'  unwired   {path}: our entries are out, what was changed since is kept')


def wired_by_hand(known, folder):
    """Settings that run this folder's hook, once our own entries are out."""
    paths = [agent.path for agent in known]
    for path in paths + glob.glob(os.path.join(glob.escape(os.path.expanduser('~')), '.claude*', 'settings*.json')):
        text = (read_bytes(path) or b'{}').decode('utf-8', 'replace')
        try:
            if wiring.wired_paths(text, wiring.lies_in(folder)):
                return path
        except JsonError:
            if os.path.join(folder, wiring.HOOK) in text:
                return path
    return None


def take_back(path, name, record):
    there, before = read_bytes(path), backup_of(path, record)
    if there is None:
        return
    if record['files'].get(name) != digest(there):
        why = 'changed since it was installed' if name in record['files'] else 'not put there by the installer'
        print(f'  kept      {name} ({why})')
    elif before is not None:
        copy_with_mode(path + BACKUP_SUFFIX, path, before)
        print(f'  restored  {name}, as it was before')
    else:
        _remove(path)
        print(f'  removed   {name}')


def remove_bytecode(folder, names):
    cache = os.path.join(folder, '__pycache__')
    stems = tuple(name[:-len('py')] for name in names)
    for name in os.listdir(cache) if os.path.isdir(cache) else []:
        if name.startswith(stems) and '.pyc' in name:
            _remove(os.path.join(cache, name))
    _remove_empty_folder(cache)


def say_nothing_there(known, folder):
    print(f'Nothing of armledger is installed in {folder}.')
    for agent in known:
        content = read_bytes(agent.path)
        for hook in hooks_in(agent, content) if content else []:
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
    if os.environ.get('HOME') == '':       # `~` would be the root folder
        raise UserError('$HOME is empty, so whose settings are meant is not known; set it: HOME=/home/you make install')
    if options.action == 'uninstall':
        return uninstall(os.environ)
    python = _absolute(options.python) if os.sep in options.python else options.python
    return install(os.environ, python, not options.no_report)


if __name__ == '__main__':
    run_main(main)
