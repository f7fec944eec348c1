"""Small logs from real use, each with what is right: tests/data/cases.

A case is a folder. `home/` is copied to a new home (@H in its files stands for where that lies, @T for the time now,
@T+10 for ten minutes later), `cmd` is run there in bash with the functions of PRELUDE, and `want.json` says what must
come out: total, least (USD), rows (how many have spend), arm (all rows'), arms {folder's name: USD}, days {day: calls},
assumed, gate (deny or pass), says (a regular expression), or `any` of several such. `why` says more. The values were
worked out by hand from what a provider would bill.
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from support import DATA, LAUNCHER, ROOT, TEMPORARY, run_script

CASES = os.path.join(DATA, 'cases')
NAMES = sorted(os.listdir(CASES))
SCRIPTS = 'budget-check.py', 'cost-report.py', 'pretooluse-hook.py', 'prices.json'
PRELUDE = r'''
run() { "$PYTHON" -IS -c "$LAUNCHER" "$SCRIPTS/$1" "${@:2}"; }
report() { run cost-report.py --month 2026-11 --now "$NOW" --format json "$@"; }
since() { run cost-report.py --now "$NOW" --format json --since "$@"; }
check() { run budget-check.py --now "$NOW" "$@"; }
gate() { "$PYTHON" -IS "$SCRIPTS/pretooluse-hook.py" < "${1:-payload.json}"; }
# worktree MAIN FOLDER: what `git worktree add FOLDER` leaves of it
worktree() {
    mkdir -p "$1/.git/worktrees/f" "$2"
    echo "$HOME/$2/.git" > "$1/.git/worktrees/f/gitdir"
    echo "gitdir: $HOME/$1/.git/worktrees/f" > "$2/.git"
}
H=$HOME
F=.claude/projects/-H-acme/11111111-1111-4111-8111-111111111111.jsonl
'''
NOW = '2026-11-26T12:00:00Z'
# The same functions for a case of one word or a few, which needs no bash.
ALONE = {
    'report': ('cost-report.py', '--month', '2026-11', '--now', NOW, '--format', 'json'),
    'since': ('cost-report.py', '--now', NOW, '--format', 'json', '--since'),
    'check': ('budget-check.py', '--now', NOW)}
COMPILE = ('import sys; from importlib.machinery import SourceFileLoader\n'
           'for path in sys.argv[1:]: SourceFileLoader("x", path).get_code("x")')


def format_stamp(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(seconds)).encode()


def make_home(case, home):
    """Copy a case's files to where they stand for a person's, with the names and times of here and now."""
    shutil.copytree(os.path.join(CASES, case, 'home'), home)
    now = time.time()
    marks = (b'@H', home.encode()), (b'@T+10', format_stamp(now + 600)), (b'@T', format_stamp(now))
    for folder, _, names in os.walk(home):
        for path in (os.path.join(folder, name) for name in names):
            with open(path, 'rb') as stream:
                text = stream.read()
            for mark, value in marks:
                text = text.replace(mark, value)
            with open(path, 'wb') as stream:
                stream.write(text)
    for folder in 'acme', 'beta':
        os.makedirs(os.path.join(home, folder), exist_ok=True)
    if not os.path.exists(os.path.join(home, 'budgets.yaml')):
        with open(os.path.join(home, 'budgets.yaml'), 'w') as stream:
            stream.write('budgets: []\n')


def run_case(case, scripts, home):
    """All that its commands print."""
    make_home(case, home)
    environ = {
        'PATH': os.environ.get('PATH', os.defpath), 'HOME': home, 'LANG': 'C.UTF-8', 'TZ': 'UTC', 'TMPDIR': home,
        'CLAUDE_CONFIG_DIR': home + '/.claude', 'CODEX_HOME': home + '/.codex', 'ARMLEDGER_HOME': home + '/state',
        'ARMLEDGER_BUDGETS': home + '/budgets.yaml', 'SCRIPTS': scripts, 'PYTHON': sys.executable, 'LAUNCHER': LAUNCHER, 'NOW': NOW}
    with open(os.path.join(CASES, case, 'cmd'), encoding='utf-8') as stream:
        commands = stream.read()
    first, *words = commands.split()
    if commands.strip() == 'gate' or first in ALONE and not set(commands) & set(';|&<>$"\'\\*#('):
        script, *options = ALONE.get(first, ['pretooluse-hook.py'])
        with open(os.path.join(home, 'payload.json') if first == 'gate' else os.devnull, 'rb') as stream:
            done = run_script(os.path.join(scripts, script), *options, *words, env=environ, cwd=home, input=stream.read())
        return (done.stdout + done.stderr).decode('utf-8', 'replace')
    done = subprocess.run(['bash', '-c', PRELUDE + commands], env=environ, cwd=home, timeout=60, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode('utf-8', 'replace')


def report_in(text):
    """The last report that was printed as JSON, {} if there is none."""
    begin = text.rfind('{\n  "estimate"')
    return json.JSONDecoder().raw_decode(text[begin:])[0] if begin >= 0 else {}


def sum_by(rows, name_of, key):
    sums = {}
    for row in rows:
        sums[name_of(row)] = round(sums.get(name_of(row), 0) + row[key], 6)
    return sums


def tell_difference(want, text):
    """What is not as it should be, in words; None if all is."""
    if 'any' in want:
        told = [tell_difference(one, text) for one in want['any']]
        return None if None in told else told[0]
    report = report_in(text)
    total, rows = report.get('total_usd'), [row for row in report.get('rows', ()) if row['usd'] or row.get('calls')]
    found = {
        'total': total,
        'rows': len(rows),
        'arm': sorted({row.get('arm') for row in rows}, key=str),
        'arms': sum_by(rows, lambda row: row['arm'].rpartition('/')[2], 'usd') if 'arms' in want else None,
        'days': sum_by(rows, lambda row: row['day'], 'calls') if 'days' in want else None,
        'assumed': any(row['assumed_usd'] for row in rows),
        'gate': 'deny' if '"deny"' in text or '"block"' in text else 'pass',
    }
    for key, value in want.items():
        if key == 'least' and (total is None or total < value - 6e-7):
            return 'total %s is less than %s' % (total, value)
        if key == 'says' and not re.search(value, text):
            return 'nothing of %s in %.900s' % (value, text)
        if key == 'total' and total is not None and abs(total - value) <= 6e-7:
            continue
        if key in found and found[key] != ([value] if key == 'arm' else value):
            return '%s is %s, not %s%s' % (key, found[key], value, '' if report else '; printed: %.900s' % text)
    if 'gate' not in want and not text.strip():
        return 'nothing was printed'
    return None


@unittest.skipUnless(shutil.which('bash'), 'the commands of cases are for bash')
class CasesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.realpath(tempfile.mkdtemp(prefix='armledger-cases-', dir=TEMPORARY))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.scripts = os.path.join(cls.folder, 'scripts')
        os.makedirs(cls.scripts)
        for name in SCRIPTS:
            shutil.copy2(os.path.join(ROOT, name), cls.scripts)
        # Compiled once, before several cases would do it at the same time.
        paths = [os.path.join(cls.scripts, name) for name in SCRIPTS if name.endswith('.py')]
        subprocess.run([sys.executable, '-IS', '-c', COMPILE, *paths], check=True)

    def try_case(self, case):
        home = os.path.join(self.folder, case)
        try:
            return run_case(case, self.scripts, home)
        except subprocess.TimeoutExpired:
            return 'no answer in 60 s'
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def test_each_case_is_as_it_should_be(self):
        self.assertGreater(len(NAMES), 150)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for case, text in zip(NAMES, pool.map(self.try_case, NAMES)):
                with self.subTest(case), open(os.path.join(CASES, case, 'want.json'), encoding='utf-8') as stream:
                    want = json.load(stream)
                    difference = tell_difference(want, text)
                    self.assertIsNone(difference, '%s (%s)' % (difference, want.get('why')))
        self.assertEqual(os.listdir(self.folder), ['scripts'], 'something was left behind')


class DifferenceTest(unittest.TestCase):
    """What compares must be able to fail."""
    REPORT = '''x{\n  "estimate": true, "total_usd": 0.111, "rows": [
        {"arm": "acme", "day": "2026-11-05", "usd": 0.033, "calls": 1, "assumed_usd": 0},
        {"arm": "/c/beta", "day": "2026-11-06", "usd": 0.078, "calls": 2, "assumed_usd": 0},
        {"arm": "none", "day": "2026-11-07", "usd": 0, "calls": 0, "assumed_usd": 0}]}'''
    RIGHT = ({'total': .111}, {'least': .111}, {'rows': 2}, {'arms': {'acme': .033, 'beta': .078}}, {'says': 'bet.'}, {'gate': 'pass'},
             {'days': {'2026-11-05': 1, '2026-11-06': 2}}, {'any': [{'total': 1}, {'rows': 2}]})
    WRONG = ({'total': .1111}, {'least': .112}, {'rows': 3}, {'arm': 'acme'}, {'arms': {'acme': .033}}, {'says': 'gamma'}, {'gate': 'deny'},
             {'days': {'2026-11-05': 1}}, {'assumed': True}, {'any': [{'total': 1}, {'rows': 3}]})

    def test_tells_right_from_wrong(self):
        for want in self.RIGHT:
            self.assertIsNone(tell_difference(want, self.REPORT), want)
        for want in self.WRONG:
            self.assertIsNotNone(tell_difference(want, self.REPORT), want)
        for want in {'total': .111}, {'rows': 2}, {'says': 'x'}:
            self.assertIsNotNone(tell_difference(want, ''), want)
        self.assertIsNone(tell_difference({'gate': 'deny'}, '{"permissionDecision": "deny"}'))


if __name__ == '__main__':
    unittest.main()
