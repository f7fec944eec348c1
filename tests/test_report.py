"""cost-report.py: the figures, each format, and what a name may do to them."""
import csv
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal

from homes import in_environ
from support import DATA, QUICKLY, ROOT, TEMPORARY, ledgers_closed, load_script, run_script

REPORT = load_script('cost-report.py')
FOLDER = os.path.join(DATA, 'report')
PICO = 10 ** 12
MILLION = 10 ** 6
NOW = '2026-11-16T12:00:00Z'

# The months of the golden outputs: what was called, and what it cost by data/report/prices.json.
#   (folder, session, agent, day, model, tokens: input, output, 5 min writes, 1 h writes, reads, searches)
A1, A2, A3 = ['aaaaaaaa-0000-4000-8000-00000000000%d' % n for n in (1, 2, 3)]
B1, C1, D1 = [letter * 8 + '-0000-4000-8000-000000000001' for letter in 'bcd']
OPUS, HAIKU = 'claude-opus-5-5', 'claude-haiku-4-5'
CALLS = [
    ('/clients/acme', A1, '', '2026-10-05', OPUS, (0, MILLION)),                                # 20
    ('/clients/acme', A1, '', '2026-10-20', HAIKU, (10 * MILLION,)),                            # 10
    ('/clients/acme', A2, '', '2026-11-02', OPUS, (5 * MILLION,)),                              # 20
    ('/clients/acme', A2, '', '2026-11-03', OPUS, (5 * MILLION,)),                              # 20
    ('/clients/acme/web', A2, '', '2026-11-04', OPUS, (5 * MILLION,)),                          # 20
    ('/clients/acme', A3, '', '2026-11-05', OPUS, (5 * MILLION,)),                              # 20
    ('/clients/acme', A3, '', '2026-11-06', OPUS, (5 * MILLION,)),                              # 20
    ('/clients/acme', A3, '', '2026-11-16', OPUS, (0, 5 * MILLION)),                            # 100
    ('/clients/globex', B1, '', '2026-11-10', HAIKU, (MILLION, 0, 0, 0, 10 * MILLION, 3)),      # 1 + 1 + 0.03
    ('/clients/globex', B1, 'abc', '2026-11-10', HAIKU, (0, 100000)),                           # 0.5
    ('/clients/initech', C1, '', '2026-11-12', 'claude-nonesuch-9', (MILLION,)),                # 4, assumed
    (None, D1, '', '2026-11-13', HAIKU, (0, 200000)),                                           # 1
]
# The session of globex ends with a total that has 40,000 output tokens more than its calls: 0.2 untranscribed.
COST_STATE = {'type': 'cost-state', 'sessionId': B1, 'startTime': 1, 'modelUsage': {
    HAIKU: {'inputTokens': MILLION, 'outputTokens': 140000, 'cacheReadInputTokens': 10 * MILLION,
                         'cacheCreationInputTokens': 0, 'webSearchRequests': 3}}}


def log_line(n, folder, session, agent, day, model, tokens):
    tokens = tuple(tokens) + (0,) * (6 - len(tokens))
    line = {'type': 'assistant', 'uuid': 'u%d' % n, 'timestamp': day + 'T10:00:00.000Z' if len(day) == 10 else day,
            'sessionId': session, 'requestId': 'r%d' % n, 'isSidechain': bool(agent), 'message': {
                'id': 'msg_%d' % n, 'model': model, 'usage': {
                    'input_tokens': tokens[0], 'output_tokens': tokens[1], 'cache_read_input_tokens': tokens[4],
                    'cache_creation_input_tokens': tokens[2] + tokens[3],
                    'cache_creation': {'ephemeral_5m_input_tokens': tokens[2], 'ephemeral_1h_input_tokens': tokens[3]},
                    'server_tool_use': {'web_search_requests': tokens[5]}}}}
    if folder is not None:
        line['cwd'] = folder
    if agent:
        line['agentId'] = agent
    return json.dumps(line) + '\n'


def write_logs(root, calls, more='', home=''):
    """Transcripts of these calls under root/projects; `more` is added to the end of session B1's."""
    texts = {}
    for n, call in enumerate(calls):
        session, agent = call[1], call[2]
        name = '%s/subagents/agent-%s' % (session, agent) if agent else session
        folder = call[0] and home + call[0]
        texts[name] = texts.get(name, '') + log_line(n, folder, *call[1:])
    for name, text in texts.items():
        path = os.path.join(root, 'projects', 'p', name + '.jsonl')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(text + (more if name == B1 else ''))
        if 'agent-' in name:
            with open(path[:-6] + '.meta.json', 'w', encoding='utf-8') as stream:
                stream.write('{"agentType": "Explore"}')


class Machine(unittest.TestCase):
    """A throwaway home with logs; `report` runs the real script there. The home's own path is left out of what it says."""

    forked = False               # whether it runs in a process of its own, as it does for a person
    calls = CALLS
    more = json.dumps(COST_STATE) + '\n{"type": "assistant", "message": {"usage": {\n'
    prices = os.path.join(FOLDER, 'prices.json')

    @classmethod
    def setUpClass(cls):
        cls.home = os.path.realpath(tempfile.mkdtemp(prefix='armledger-', dir=TEMPORARY))
        cls.addClassCleanup(shutil.rmtree, cls.home)
        cls.logs = os.path.join(cls.home, 'claude')
        for name in 'acme/web', 'globex', 'initech':
            os.makedirs(os.path.join(cls.home, 'clients', name))
        with open(os.path.join(FOLDER, 'budgets.yaml'), encoding='utf-8') as stream:
            cls.budgets = cls.write('budgets.yaml', stream.read().replace('/clients', cls.home + '/clients'))
        write_logs(cls.logs, cls.calls, cls.more, cls.home)

    @classmethod
    def write(cls, name, text):
        path = os.path.join(cls.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(text)
        return path

    def environ(self, **more):
        return dict({'PATH': os.environ.get('PATH', ''), 'HOME': self.home, 'CLAUDE_CONFIG_DIR': self.logs,
                     'CODEX_HOME': self.home + '/none', 'ARMLEDGER_HOME': self.home + '/ledger', 'TZ': 'UTC',
                     'PYTHONIOENCODING': 'utf-8', 'LC_ALL': 'C.UTF-8'}, **more)

    def command(self, *options, script=os.path.join(ROOT, 'cost-report.py'), now=NOW, budgets=True, typed=False):
        places = ['--prices', self.prices] + (['--budgets', self.budgets] if budgets else [])
        # From cached bytecode: that saves half of the time. What a user types is tried by test_as_a_user_types_it.
        return [*((sys.executable,) if typed else QUICKLY), script, *(['--now', now] if now else []), *places, *options]

    def start(self, *options, cwd=None, forked=False, **more):
        settings = {key: more.pop(key) for key in ('script', 'now', 'budgets', 'typed') if key in more}
        command = self.command(*options, **settings)
        if settings.get('typed'):
            return subprocess.run(command, env=self.environ(**more), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        script, *arguments = command[len(QUICKLY):]
        if script != REPORT.__file__ or forked or self.forked:
            return run_script(script, *arguments, env=self.environ(**more), cwd=cwd)
        return self.called(arguments, self.environ(**more), cwd or os.getcwd())

    def called(self, arguments, environ, cwd):
        """The same by its main() in this process, in a third of the time."""
        out, err = (io.TextIOWrapper(io.BytesIO(), 'utf-8', newline='\n') for _ in range(2))
        modules = [REPORT] + [one for one in vars(REPORT).values() if getattr(one, '__name__', '') == 'budget_check']
        for value in [value for one in modules for value in vars(one).values()]:
            if hasattr(value, 'cache_clear'):              # a process of its own would know nothing yet
                value.cache_clear()
        before = os.getcwd()
        os.chdir(cwd)
        try:
            with in_environ(environ), redirect_stdout(out), redirect_stderr(err), ledgers_closed():
                code = REPORT.main(arguments)
        finally:
            os.chdir(before)
        out.flush()
        err.flush()
        return subprocess.CompletedProcess(arguments, code, out.buffer.getvalue(), err.buffer.getvalue())

    def report(self, *options, code=0, errors='', **more):
        """What it prints; `errors` is all of stderr but for its notes."""
        result = self.start(*options, **more)
        lines = [line for line in result.stderr.decode().splitlines(True) if not line.startswith('cost-report: note: ')]
        self.assertEqual((''.join(lines), result.returncode), (errors, code))
        return result.stdout.decode().replace(self.home, '')

    def rows(self, *options, **more):
        """(all that JSON says, its rows)"""
        found = json.loads(self.report(*options, '--format', 'json', **more), parse_float=Decimal)
        return found, found['rows']

    def failing(self, *options, **more):
        """What it says where it makes no report."""
        result = self.start(*options, **more)
        self.assertEqual((result.returncode, result.stdout), (1, b''))
        return result.stderr.decode().replace(self.home, '')


def date_ledger(folder, began):
    """As if the ledger in this folder had been begun then."""
    db = sqlite3.connect(os.path.join(folder, 'ledger.sqlite3'))
    with db:
        db.execute("update meta set value = ? where key = 'created'", (REPORT.parse_time(began),))
    db.close()


def words_of(text):
    return ' '.join(text.split())


GOLDEN = {
    'table.txt': [],
    'by-day.txt': ['--by', 'day'],
    'by-arm-day.txt': ['--by', 'arm,day'],
    'internal.md': ['--arm', 'acme', '--month', '2026-10', '--format', 'markdown', '--internal'],
    'by-week-compare.txt': ['--by', 'week', '--compare'],
    'compare.txt': ['--compare'],
    'baseline.txt': ['--baseline', 'claude-opus-5-5'],
    'by-session.txt': ['--by', 'session'],
    'by-agent.txt': ['--by', 'agent,kind,agent-cli'],
    'billed.txt': ['--billed', os.path.join(FOLDER, 'billed.csv')],
    'report.json': ['--format', 'json'],
    'by-day-model.csv': ['--by', 'day,model', '--format', 'csv'],
    'report.md': ['--format', 'markdown', '--compare'],
    'report.html': ['--format', 'html'],
    'focus.csv': ['--format', 'focus'],
    'metrics.prom': ['--format', 'prometheus'],
    'statement.md': ['--arm', 'acme', '--month', '2026-10', '--format', 'markdown'],
    'statement.csv': ['--arm', 'acme', '--month', '2026-10', '--format', 'csv'],
    'statement.html': ['--arm', 'acme', '--month', '2026-10', '--format', 'html'],
}


class GoldenTest(Machine):
    """ARMLEDGER_GOLDEN=write writes them anew: then read the difference, line by line."""

    forked, maxDiff = True, None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls('test_outputs').report()
        date_ledger(cls.home + '/ledger', '2026-09-01T00:00:00Z')    # else each would tell when this was run

    def test_outputs(self):
        for name, options in GOLDEN.items():
            with self.subTest(name):
                path, text = os.path.join(FOLDER, name), self.report(*options)
                if os.environ.get('ARMLEDGER_GOLDEN') == 'write':
                    with open(path, 'w', encoding='utf-8', newline='') as stream:
                        stream.write(text)
                with open(path, encoding='utf-8', newline='') as stream:
                    self.assertEqual(text, stream.read())

    def test_each_file_is_used(self):
        self.assertEqual(set(os.listdir(FOLDER)), set(GOLDEN) | {'prices.json', 'budgets.yaml', 'billed.csv'})

    def test_as_a_user_types_it(self):
        result = self.start(typed=True)
        self.assertEqual((result.returncode, result.stdout), (0, self.start().stdout), result.stderr)
        self.assertIn(b'acme', result.stdout)


class FiguresTest(Machine):
    """The figures of CALLS, worked out by hand."""

    def test_month_to_date(self):
        found, rows = self.rows()
        by_arm = {row['arm']: row for row in rows}
        # acme: five days of 5M input at 4 and a day of 5M output at 20, at its rate of 90 %; its cap is 200.
        acme = (5 * 20 + 100) * Decimal('0.9')
        self.assertEqual([by_arm['acme'][key] for key in ('usd', 'calls', 'cap_usd', 'pct')],
                         [acme, 6, 200, 100 * acme / 200])
        # 15.5 of 30 days have gone by.
        self.assertEqual(by_arm['acme']['projected_usd'], round(acme * 30 / Decimal('15.5'), 6))
        # globex: 1M input at 1, 10M reads at 0.1, 3 searches at 0.01, 100k output at 5, 40k output untranscribed.
        globex = by_arm['日本 globex']
        keys = ('usd', 'calls', 'untranscribed_usd', 'web_searches', 'output_tokens')
        self.assertEqual([globex[key] for key in keys],
                         [1 + 1 + Decimal('0.03') + Decimal('0.5') + Decimal('0.2'), 2, Decimal('0.2'), 3, 140000])
        # A model without a price is taken at its family's, opus: 1M input at 4.
        self.assertEqual([by_arm['/clients/initech'][key] for key in ('usd', 'assumed_usd', 'cap_usd')], [4, 4, None])
        self.assertEqual([found[key] for key in ('total_usd', 'unattributed_usd', 'unpriced_models', 'skipped_lines')],
                         [acme + Decimal('2.73') + 4 + 1, 1, ['claude-nonesuch-9'], 1])
        self.assertEqual(found['total_usd'], sum(row['usd'] for row in rows))

    def test_shape(self):
        found, rows = self.rows('--by', 'model')
        self.assertEqual(list(found), [
            'estimate', 'currency', 'since', 'until', 'timezone', 'prices_as_of', 'total_usd', 'rows',
            'unattributed_usd', 'unpriced_models', 'skipped_lines', 'warnings'])
        self.assertEqual(list(rows[0]), [
            'model', 'usd', 'calls', 'input_tokens', 'output_tokens', 'cache_write_tokens', 'cache_read_tokens',
            'web_searches', 'untranscribed_usd', 'assumed_usd', 'cap_usd', 'pct', 'projected_usd'])
        self.assertRegex(self.report('--format', 'json'), r'"total_usd": 187\.730000,')
        self.assertEqual((found['since'], found['until']), ('2026-11-01T00:00:00+00:00', '2026-11-16T12:00:00+00:00'))

    def test_every_grouping_has_the_same_total(self):
        for by in REPORT.BY + ('day,model', 'session,agent,kind', 'month,week,day', 'week,month', 'model,arm'):
            with self.subTest(by):
                found, rows = self.rows('--by', by)
                self.assertEqual(list(rows[0])[:len(by.split(','))], by.split(','))       # exactly these keys
                self.assertEqual(sum(row['usd'] for row in rows), Decimal('187.73'))
                self.assertEqual(sum(row['calls'] for row in rows), 10)

    def test_caps_stand_beside_arms_alone(self):
        for by in 'day', 'month', 'model', 'arm,model', 'session':
            for row in self.rows('--by', by)[1]:
                self.assertEqual([row[key] for key in ('cap_usd', 'pct', 'projected_usd')], [None] * 3)
        self.assertEqual({row['cap_usd'] for row in self.rows('--by', 'arm,day')[1]}, {20, None})

    def test_order(self):
        _, rows = self.rows('--by', 'arm,day')
        self.assertEqual([(row['arm'], row['day'][-2:]) for row in rows][:7],
                         [('acme', day) for day in ('02', '03', '04', '05', '06', '16')] + [('/clients/initech', '12')])
        _, rows = self.rows('--by', 'day', '--by', 'arm')
        self.assertEqual([row['day'][-2:] for row in rows], ['02', '03', '04', '05', '06', '10', '12', '13', '16'])
        self.assertEqual(self.rows()[1][-1]['arm'], '(unattributed)')

    def test_a_week_that_is_of_two_months(self):
        # The week of November 30th: a call in each month.
        logs = os.path.join(self.home, 'weeks')
        write_logs(logs, [('/clients/acme', A1, '', day, HAIKU, (MILLION,)) for day in ('2026-11-30', '2026-12-01')])
        _, rows = self.rows('--by', 'week,month', '--since', '2026-11-01', CLAUDE_CONFIG_DIR=logs, ARMLEDGER_HOME=logs,
                            budgets=False, now='2026-12-05T12:00:00Z')
        self.assertEqual([(row['week'], row['month'], row['usd']) for row in rows],
                         [('2026-W49', '2026-11', 1), ('2026-W49', '2026-12', 1)])

    def test_spans(self):
        for options, usd in ((['--month', '2026-10'], 27), (['--month', '2026-11'], Decimal('187.73')),
                             (['--yesterday'], 0), (['--last', '1d'], 90), (['--last', '5d'], 95),
                             (['--since', '4d'], 91), (['--since', 'today'], 90), (['--until', 'yesterday'], Decimal('124.73')),
                             (['--since', 'yesterday', '--until', 'yesterday'], 0),
                             (['--since', '2026-11-02', '--until', '2026-11-04'], 54),
                             (['--since', '2026-11-02T10:00:01Z', '--until', '2026-11-04T10:00:00Z'], 18),
                             (['--until', '2026-10-31'], 27), (['--since', '2026-10-20'], Decimal('196.73')),
                             (['--since', '2026-11-16T11:00:00+01:00'], 90), (['--since', '2026-11-16T11:00'], 0)):
            with self.subTest(options):
                self.assertEqual(self.rows(*options)[0]['total_usd'], usd)

    def test_a_time_without_a_zone_is_the_calendars(self):
        budgets = self.write('berlin.yaml', 'timezone: Europe/Berlin\n')
        for since, usd in ('2026-11-16T11:00', 100), ('2026-11-16T11:01', 0):            # the call is at 10:00 UTC
            found, _ = self.rows('--since', since, budgets=False, ARMLEDGER_BUDGETS=budgets)
            self.assertEqual((found['total_usd'], found['since']), (usd, since + ':00+01:00'))

    def test_looking_back(self):
        self.assertEqual(self.rows(now='2026-11-03T10:00:00Z')[0]['total_usd'], 36)
        self.assertEqual(self.rows(now='2026-11-03T09:59:59Z')[0]['total_usd'], 18)
        self.assertEqual(self.rows('--yesterday', now='2026-11-07T00:00:00Z')[0]['total_usd'], 18)

    def test_arm(self):
        clients = self.home + '/clients/'
        for arm in 'acme', clients + 'acme', clients + 'acme/web', clients + 'acme/no/such/folder', '~/clients/acme':
            with self.subTest(arm):
                found, rows = self.rows('--arm', arm)
                self.assertEqual((found['total_usd'], [row['arm'] for row in rows]), (180, ['acme']))
                self.assertEqual(found['unattributed_usd'], 0)
        self.assertEqual(self.rows('--arm', '(unattributed)')[0]['total_usd'], 1)
        self.assertEqual(self.rows('--arm', 'initech')[0]['total_usd'], 4)             # a short name
        self.assertEqual(self.rows('--arm', '日本 globex', '--month', '2026-10')[0]['total_usd'], 0)

    def test_short_names(self):
        logs = os.path.join(self.home, 'sites')
        folders = ['/x/site', '/y/site', '/y/shop']
        write_logs(logs, [(folder, A1[:-1] + str(n), '', '2026-11-10', HAIKU, (MILLION * (n + 1),))
                          for n, folder in enumerate(folders)], home=self.home)
        more = {'CLAUDE_CONFIG_DIR': logs, 'ARMLEDGER_HOME': logs, 'budgets': False}
        text = self.report(**more)
        self.assertEqual([line.split()[0] for line in text.splitlines()[3:6]], ['shop', 'y/site', 'x/site'])
        self.assertEqual([row['arm'] for row in self.rows(**more)[1]], ['/y/shop', '/y/site', '/x/site'])
        self.assertEqual(self.rows('--arm', 'y/site', **more)[0]['total_usd'], 2)
        self.assertEqual(self.rows('--arm', 'shop', **more)[0]['total_usd'], 3)

    def test_compare(self):
        # To the middle of the 16th there are 18 in October (the 5th); the 9 of the 20th come later.
        _, rows = self.rows('--compare')
        self.assertEqual([(row['before_usd'], row['change_usd']) for row in rows if row['arm'] == 'acme'], [(18, 162)])
        _, rows = self.rows('--compare', '--month', '2026-11', now='2026-12-03T00:00:00Z')
        self.assertEqual(rows[0]['before_usd'], 27)
        _, rows = self.rows('--compare', '--by', 'day', '--arm', 'acme')
        self.assertEqual([(row['day'][-2:], row['before_usd'], row['change_usd']) for row in rows],
                         [('02', 0, 18), ('03', 18, 0), ('04', 18, 0), ('05', 18, 0), ('06', 18, 0), ('16', 0, 90)])

    def test_before_the_oldest_call_nothing_is_known(self):
        # The oldest call is of October 5th: of the first of October the others can't be said to have spent nothing.
        _, rows = self.rows('--compare')
        self.assertEqual({row['arm']: row['before_usd'] for row in rows},
                         {'acme': 18, '/clients/initech': None, '日本 globex': None, '(unattributed)': None})
        self.assertRegex(self.report('--compare'), r'initech .*\? +\?\n')
        _, rows = self.rows('--compare', '--by', 'day', '--month', '2026-10')
        self.assertEqual([(row['day'], row['before_usd']) for row in rows], [('2026-10-05', None), ('2026-10-20', 0)])

    def test_the_running_row_is_set_beside_as_much(self):
        # Thursday noon. The week before had 18 on each of Monday to Friday: three of them by then.
        _, rows = self.rows('--compare', '--by', 'week', '--since', '2026-11-03', '--until', '2026-11-12',
                            now='2026-11-12T09:00:00Z', **{})
        # The first row is clipped at its beginning, Tuesday, and so is the one before it, which has nothing.
        self.assertEqual([(row['week'], row['usd'], row['before_usd']) for row in rows],
                         [('2026-W45', 72, 0), ('2026-W46', Decimal('2.73'), 54)])

    def test_clocks_that_are_ahead(self):
        """Without --now the running window is compared as far as it has come, too."""
        import time
        stamp = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() - 40 * 86400))
        logs = os.path.join(self.home, 'lately')
        write_logs(logs, [('/clients/acme', A1, '', stamp, HAIKU, (MILLION,))])
        _, rows = self.rows('--compare', '--last', '39d', CLAUDE_CONFIG_DIR=logs, ARMLEDGER_HOME=logs, now='', budgets=False)
        self.assertEqual([(row['usd'], row['before_usd']) for row in rows], [(0, 1)])

    def test_sums_that_overlap_have_no_total(self):
        for by in 'day', 'week', 'arm,month':
            lines = self.report('--compare', '--by', by, '--format', 'markdown').splitlines()
            heads = [cell.strip() for cell in lines[2].split('|')]
            total = next(line for line in lines if line.startswith('| TOTAL')).split('|')
            self.assertEqual([total[heads.index(name)].strip() for name in ('Before', 'Change')], ['', ''])
        self.assertIn('18.00', self.report('--compare', '--format', 'csv').replace('0000', '0'))

    def test_what_was_there_before_alone(self):
        _, rows = self.rows('--compare', '--since', '2026-11-07', '--until', '2026-11-11')      # after five days of 18
        self.assertEqual([(row['arm'], row['usd'], row['before_usd']) for row in rows if row['before_usd']],
                         [('acme', 0, 90)])

    def test_baseline(self):
        # On opus, globex: 1M input at 4, 10M reads at 0.2, 3 searches at 0.01, 140k output at 20;
        # unattributed: 200k output at 20.
        _, rows = self.rows('--baseline', 'claude-opus-5-5')
        self.assertEqual({row['arm']: row['baseline_usd'] for row in rows}, {
            'acme': 180, '/clients/initech': 4, '日本 globex': 4 + 2 + Decimal('0.03') + Decimal('2.8'),
            '(unattributed)': 4})
        self.assertEqual([row['saved_usd'] for row in rows if row['arm'] == '日本 globex'],
                         [Decimal('8.83') - Decimal('2.73')])
        _, rows = self.rows('--baseline', 'claude-opus-5-5', '--by', 'day,model')
        self.assertEqual(sum(row['baseline_usd'] for row in rows), Decimal('196.83'))

    def test_spikes(self):
        # acme's 16th: 90 is above 3 times 18, the median of five days with spend. The 6th: 18 is not.
        _, rows = self.rows('--by', 'arm,day')
        self.assertEqual([(row['arm'], row['day']) for row in rows if row['spike']], [('acme', '2026-11-16')])
        # All arms together: eight days of 18, 18, 18, 18, 18, 2.73, 4 and 1 before it.
        _, rows = self.rows('--by', 'day')
        self.assertEqual([row['day'] for row in rows if row['spike']], ['2026-11-16'])

    def test_a_part_of_a_day_has_no_cap(self):
        for options, caps in ((['--since', '2026-11-05', '--until', '2026-11-06'], [20, 20]),
                              (['--since', '2026-11-05T01:00', '--until', '2026-11-06T23:00'], [None, None])):
            _, rows = self.rows('--by', 'arm,day', '--arm', 'acme', *options)
            self.assertEqual([row['cap_usd'] for row in rows], caps)

    def test_one_figure_stands_against_a_cap(self):
        """acme's rate is 90 %: spent, percentage and projection of its row are those of budget-check."""
        row = next(row for row in self.rows()[1] if row['arm'] == 'acme')
        self.assertEqual(row['pct'], 100 * row['usd'] / row['cap_usd'])
        self.assertRegex(self.report('--arm', 'acme', COLUMNS='100'), r'acme +180\.00 +6 +200\.00 +##########\.\. +90 %')
        self.assertIn('| acme | 180.00 | 6 | 30.0M | 200.00 | ##########.. | 90 % |', self.report('--format', 'markdown'))
        self.assertIn('acme,180.000000,6,25000000,5000000,0,0,0,0.000000,0.000000,200.000000,90.0,',
                      self.report('--format', 'csv'))
        self.assertRegex(self.report('--format', 'html'), r'>acme</th><td class="num">180\.00</td>.*width="90\.0".*>90 %<')
        metrics = self.report('--format', 'prometheus')
        for name in 'spend_usd', 'counted_usd':
            self.assertIn('armledger_%s{arm="acme",window="month"} 180.000000\n' % name, metrics)

    def test_agents(self):
        _, rows = self.rows('--by', 'agent', '--arm', '日本 globex')
        self.assertEqual({row['agent']: row['usd'] for row in rows},
                         {'main': Decimal('2.23'), 'Explore': Decimal('0.5')})
        _, rows = self.rows('--by', 'kind', '--arm', '日本 globex')
        self.assertEqual({row['kind']: row['usd'] for row in rows},
                         {'call': Decimal('2.53'), 'untranscribed': Decimal('0.2')})

    def test_spend_outside_of_the_arms_folders(self):
        """A session that began in acme goes to ~/oss: $7 there are acme's, and the operator is told."""
        logs = os.path.join(self.home, 'strays')
        write_logs(logs, [('/clients/acme', A1, '', '2026-11-10', HAIKU, (MILLION,)),
                          ('/oss', A1, '', '2026-11-11', HAIKU, (7 * MILLION,))], home=self.home)
        more = {'CLAUDE_CONFIG_DIR': logs, 'ARMLEDGER_HOME': logs}
        found, rows = self.rows(**more)
        self.assertEqual([row['usd'] for row in rows if row['arm'] == 'acme'], [8 * Decimal('0.9')])
        told = '$6.30 of acme was spent in ~/oss'                                           # at 90 %
        self.assertIn(told, found['warnings'])
        self.assertIn(told, self.report(**more))
        for form in 'html', 'markdown', 'csv':
            result = self.start('--arm', 'acme', '--month', '2026-11', '--format', form, **more)
            self.assertNotIn(b'oss', result.stdout + result.stderr)

    def test_statement_by_hand(self):
        # October: opus 1M output at 20, haiku 10M input at 1; 90 % of that; and 25 % on top.
        statement = ('--arm', 'acme', '--month', '2026-10', '--format', 'csv')
        lines = list(csv.DictReader(io.StringIO(self.report(*statement))))
        self.assertEqual([(line['arm'], line['day'], line['model'], Decimal(line['invoice_usd'])) for line in lines],
                         [('acme', '2026-10-05', 'claude-opus-5-5', Decimal('22.5')),
                          ('acme', '2026-10-20', 'claude-haiku-4-5', Decimal('11.25'))])
        lines = list(csv.DictReader(io.StringIO(self.report(*statement, '--internal'))))
        columns = 'list_usd', 'contracted_usd', 'invoice_usd', 'margin_usd'
        self.assertEqual([[Decimal(line[column]) for column in columns] for line in lines],
                         [[20, 18, Decimal('22.5'), Decimal('4.5')], [10, 9, Decimal('11.25'), Decimal('2.25')]])

    def test_a_statement_shows_invoice_amounts_alone(self):
        """Whatever other options stand beside it: no list or contracted amount, rate, markup, cap, tier, path, other arm."""
        secrets = ('20.00', '18.00', '27.00', '30.00', '10.00', '9.00', '200', '90', '25 %', 'alert', 'halt', 'cap',
                   'rate_pct', 'markup', '/clients', 'globex', 'initech', 'list price', 'contracted', 'margin', 'Baseline')
        for form in 'html', 'markdown', 'csv':
            for more in [], ['--by', 'session'], ['--by', 'arm,week']:
                with self.subTest((form, more)):
                    text = self.report('--arm', 'acme', '--month', '2026-10', '--format', form, *more)
                    self.assertRegex(text, r'33\.75|11\.25')
                    text = text.split('</style>')[-1]
                    for word in secrets:
                        self.assertNotIn(word, re.sub('0000', '', text))
        self.assertIn('INTERNAL', self.report('--arm', 'acme', '--month', '2026-10', '--format', 'html', '--internal'))
        self.assertIn('--internal goes with a statement', self.failing('--internal'))

    def test_what_a_statement_cannot_show_is_refused(self):
        for form in 'html', 'markdown', 'csv':
            for more in ['--compare'], ['--baseline', 'gpt-5.5'], ['--billed', 'x']:
                self.assertIn('--format %s with --arm and --month is a statement, for the client: leave out %s'
                              % (form, more[0]),
                              self.failing('--arm', 'acme', '--month', '2026-10', '--format', form, *more))

    def test_statement_of_an_arm_without_an_entry(self):
        for form in 'html', 'markdown', 'csv':
            text = self.report('--arm', 'initech', '--month', '2026-11', '--format', form)
            self.assertIn('initech', text)
            self.assertNotIn('/', re.sub('</?[^>]*>', '', text.split('</style>')[-1]))
            self.assertIn('4.0', text)

    def test_cents_of_a_statement_add_up(self):
        # Three calls of 3,333 tokens at 1 per million: a third of a cent each, 1 cent together; at 125 % 1.25 cents.
        logs = os.path.join(self.home, 'cents')
        write_logs(logs, [('/clients/acme', A1, '', '2026-11-0%d' % day, HAIKU, (3334,)) for day in (1, 2, 3)], home=self.home)
        more = {'CLAUDE_CONFIG_DIR': logs, 'ARMLEDGER_HOME': logs}
        text = self.report('--arm', 'acme', '--month', '2026-11', '--format', 'markdown', **more)
        cents = re.findall(r'\| (\d\.\d\d) \|\n', text)
        self.assertEqual(cents, ['0.00', '0.01', '0.00', '0.01'])
        lines = csv.DictReader(io.StringIO(self.report('--arm', 'acme', '--month', '2026-11', '--format', 'csv', **more)))
        self.assertEqual([line['invoice_usd'][:4] for line in lines], cents[:3])

    def test_statement_of_a_running_month(self):
        text = self.report('--arm', '日本 globex', '--month', '2026-11', '--format', 'markdown')
        self.assertIn('# Statement 日本 globex, 2026-11 to date (2026-11-16)', text)
        self.assertEqual(self.failing('--arm', 'acme', '--month', '2026-12', '--format', 'markdown'),
                         'cost-report: --month has to begin before it ends, and not in the future\n')

    def test_time_zone_of_a_statement(self):
        for zone, name in ('UTC0', 'UTC (UTC+0000)'), ('XYZ-2', 'XYZ (UTC+0200)'):
            text = self.report('--arm', 'globex', '--month', '2026-11', '--format', 'markdown', TZ=zone, budgets=False)
            self.assertIn('Days are whole in the time zone %s.' % name, text)

    def test_cautions(self):
        """Formats that have no room for it tell on stderr what is not counted, and how far the ledger goes back."""
        folder = os.path.join(self.home, 'cautious')
        self.report(ARMLEDGER_HOME=folder)
        date_ledger(folder, '2026-11-02T08:00:00Z')
        for options, arm in ((['--format', 'csv'], ''), (['--format', 'focus'], ''),
                             (['--arm', 'acme', '--month', '2026-11', '--format', 'markdown'], 'acme')):
            with self.subTest(options):
                text = self.start(*options, ARMLEDGER_HOME=folder).stderr.decode()
                self.assertIn('cost-report: note: 1 log line could not be read', text)
                self.assertIn('cost-report: note: This ledger was begun on 2026-11-02', text)
                self.assertEqual('$4.00 of it is at an assumed price' in text, not arm)
                self.assertNotIn('globex', text)
                self.assertNotIn('Warning', text)

    def test_an_arm_by_a_folder_that_is_gone(self):
        """A worktree is its main repo's, after it has been deleted too."""
        main, tree = (os.path.join(self.home, 'repos', name) for name in ('main', 'tree'))
        os.makedirs(main + '/.git/worktrees/tree')
        os.makedirs(tree)
        self.write('repos/tree/.git', 'gitdir: %s/.git/worktrees/tree\n' % main)
        self.write('repos/main/.git/worktrees/tree/gitdir', tree + '/.git\n')
        logs = os.path.join(self.home, 'gone')
        write_logs(logs, [(tree, A1, '', '2026-11-10', OPUS, (0, MILLION))])
        environ = {'CLAUDE_CONFIG_DIR': logs, 'ARMLEDGER_HOME': logs, 'budgets': False}
        self.assertEqual(self.rows('--arm', tree, **environ)[0]['total_usd'], 20)
        shutil.rmtree(tree)
        _, rows = self.rows('--arm', tree, **environ)
        self.assertEqual([(row['arm'], row['usd']) for row in rows], [('/repos/main', 20)])

    def test_bills_without_amounts(self):
        for text in '', '{}', 'arm,usd\n':
            self.assertIn('no amounts are in it', self.failing('--billed', self.write('none.csv', text)))
        path = self.write('none.csv', 'TOTAL,300\n')
        found, _ = self.rows('--billed', path)
        self.assertEqual(found['billed'][0]['estimate_usd'], Decimal('187.73'))
        self.assertIn('it has no amount of this arm', self.report('--billed', path, '--arm', 'acme'))

    def test_billed(self):
        path = self.write('bill.json', '{"acme": 171.00, "total": "$300", "nobody": 1}')
        found, _ = self.rows('--billed', path)
        # acme at its rate: 180. All: 180 + 4 + 2.73 + 1.
        columns = ('arm', 'estimate_usd', 'difference_usd', 'factor', 'over_20_pct')
        self.assertEqual([tuple(bill[column] for column in columns) for bill in found['billed']],
                         [('acme', 180, -9, Decimal('0.95'), False),
                          ('total', Decimal('187.73'), Decimal('112.27'), round(300 / Decimal('187.73'), 6), True),
                          ('nobody', 0, 1, None, True)])
        self.assertNotIn('total', self.report('--billed', path, '--arm', 'acme').lower().split('billed')[1])
        lines = self.report('--billed', path, '--format', 'csv').splitlines()
        self.assertEqual(lines[:2], ['arm,estimate_usd,billed_usd,difference_usd,factor,over_20_pct',
                                     'acme,180.000000,171.000000,-9.000000,0.950000,false'])


class FixturesTest(Machine):
    """Real logs add up to their bills, here too."""

    prices = os.path.join(ROOT, 'prices.json')
    # USD per million: input, output, 5 min writes, 1 h writes, reads
    PRICES = {'claude-sonnet-5-5': ('2', '10', '2.5', '4', '0.1'), 'claude-opus-5-5': ('4', '20', '5', '8', '0.2'),
              'claude-haiku-4-5': ('1', '5', '1.25', '2', '0.1')}

    def billed(self, folder):
        total = 0
        with open(os.path.join(folder, 'bill.jsonl'), encoding='utf-8') as stream:
            for line in stream:
                answer = json.loads(line)
                usage, written = answer['usage'], answer['usage']['cache_creation']
                counts = (usage['input_tokens'], usage['output_tokens'], written['ephemeral_5m_input_tokens'],
                          written['ephemeral_1h_input_tokens'], usage['cache_read_input_tokens'])
                total += sum(count * Decimal(price) for count, price in zip(counts, self.PRICES[answer['model']]))
        return total / MILLION

    def test_bills(self):
        for name in ('two-arms', 'subagents', 'cd-mid-session', 'resume-fork-compact', 'interactive', 'worktree'):
            with self.subTest(name):
                folder = os.path.join(DATA, 'claude-code-2.1.330', name)
                more = {'CLAUDE_CONFIG_DIR': folder + '/claude', 'ARMLEDGER_HOME': self.home + '/' + name,
                        'now': '2026-11-23T23:00:00Z', 'budgets': False}
                for by in 'arm', 'day', 'model', 'session', 'agent':
                    found, rows = self.rows('--by', by, **more)
                    self.assertEqual(found['total_usd'], round(self.billed(folder), 6))
                    self.assertEqual(sum(row['usd'] for row in rows), found['total_usd'])
                lines = csv.DictReader(io.StringIO(self.report('--format', 'focus', **more)))
                self.assertEqual(sum(Decimal(line['ListCost']) for line in lines), self.billed(folder))


class FocusTest(Machine):
    calls = CALLS[:2] + [
        # At the threshold; then above it, where the prices are 4, 15 and 1.
        ('/clients/acme', 's', '', '2026-10-30T22:30:00.000Z', 'gpt-5.5', (200000, 10, 0, 0, 72000)),
        ('/clients/acme', 's', '', '2026-10-30T22:31:00.000Z', 'gpt-5.5', (200000, 10, 0, 0, 72001)),
        ('/clients/acme', 's', '', '2026-10-30T22:32:00.000Z', 'azure/gpt-5.5', (7,)),
        ('/clients/acme', 's', '', '2026-10-30T23:30:00.000Z', 'us.anthropic.claude-haiku-4-5-20251001-v1:0',
         (0, 0, 3, 5, 0, 2)),
    ]
    more = ''

    def lines(self, *options, **more):
        options = options or ('--since', '2026-10-01')
        return list(csv.DictReader(io.StringIO(self.report('--format', 'focus', *options, **more))))

    def test_columns(self):
        wanted = ('BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart '
                  'ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost '
                  'EffectiveCost HostProviderName InvoiceIssuerName ListCost PricingQuantity PricingUnit '
                  'ServiceCategory ServiceName ServiceProviderName ConsumedQuantity ConsumedUnit ListUnitPrice SkuId '
                  'SkuMeter SubAccountId SubAccountName Tags').split()
        lines = self.lines('--month', '2026-10')
        self.assertEqual(set(wanted) - set(lines[0]), set())
        self.assertTrue(all(column[0].isupper() or column.startswith('x_') for column in lines[0]))
        for line in lines:
            empty = {column for column in line if line[column] == ''}
            self.assertEqual(empty, {'ChargeClass'})
            self.assertEqual((line['BilledCost'], line['BillingCurrency']), ('0.0', 'USD'))
            self.assertEqual((line['ChargeCategory'], line['ServiceCategory']), ('Usage', 'AI and Machine Learning'))

    def test_quantity_times_price_is_cost(self):
        lines = self.lines('--month', '2026-10')
        for line in lines:
            quantity = Decimal(line['PricingQuantity'])
            self.assertEqual(quantity * Decimal(line['ListUnitPrice']), Decimal(line['ListCost']))
            self.assertEqual(quantity * Decimal(line['ContractedUnitPrice']), Decimal(line['ContractedCost']))
            self.assertEqual(Decimal(line['ListCost']) * Decimal('0.9'), Decimal(line['ContractedCost']))
            self.assertEqual(line['ContractedCost'], line['EffectiveCost'])
            for column in line:
                if column.endswith(('Cost', 'Price', 'Quantity')):
                    self.assertRegex(line[column], r'^\d+(\.\d+)?$')
        found, _ = self.rows('--month', '2026-10')
        self.assertEqual(round(sum(Decimal(line['ContractedCost']) for line in lines), 6), found['total_usd'])

    def test_a_long_context_has_rows_of_its_own(self):
        found = {(line['SkuMeter'], line['ListUnitPrice']): line['ConsumedQuantity']
                 for line in self.lines() if line['x_Model'] == 'gpt-5.5' and line['InvoiceIssuerName'] == 'OpenAI'}
        self.assertEqual(found, {('Input Tokens', '2.0'): '200007', ('Input Tokens', '4.0'): '200000',
                                 ('Output Tokens', '10.0'): '10', ('Output Tokens', '15.0'): '10',
                                 ('Cache Read Tokens', '0.5'): '72000', ('Cache Read Tokens', '1.0'): '72001'})

    def test_providers(self):
        found = {(line['x_Model'], line['ServiceProviderName'], line['ServiceName']) for line in self.lines()}
        self.assertIn(('gpt-5.5', 'OpenAI', 'OpenAI API'), found)
        self.assertIn(('us.claude-haiku-4-5', 'Amazon Web Services', 'Amazon Bedrock'), found)
        self.assertIn(('claude-opus-5-5', 'Anthropic', 'Claude API'), found)

    def test_searches(self):
        line, = [line for line in self.lines() if line['SkuMeter'] == 'Web Searches']
        columns = ('ConsumedQuantity', 'ConsumedUnit', 'PricingQuantity', 'ListUnitPrice', 'ListCost')
        self.assertEqual([line[column] for column in columns],
                         ['2', 'Requests', '2', '0.01', '0.02'])

    def test_days_are_the_time_zones(self):
        budgets = self.write('berlin.yaml', 'timezone: Europe/Berlin\n')
        lines = self.lines('--since', '2026-10-30', '--until', '2026-10-31', budgets=False, ARMLEDGER_BUDGETS=budgets)
        self.assertEqual({(line['x_Model'], line['ChargePeriodStart'], line['ChargePeriodEnd']) for line in lines},
                         {('gpt-5.5', '2026-10-29T23:00:00Z', '2026-10-30T23:00:00Z'),
                          ('us.claude-haiku-4-5', '2026-10-30T23:00:00Z', '2026-10-31T23:00:00Z')})
        self.assertEqual({(line['BillingPeriodStart'], line['BillingPeriodEnd']) for line in lines},
                         {('2026-09-30T22:00:00Z', '2026-10-31T23:00:00Z')})

    def test_what_belongs_to_no_arm_has_no_sub_account(self):
        found = {line['x_Arm']: line['SubAccountId'] for line in csv.DictReader(io.StringIO(
            self.report('--format', 'focus', '--since', '2026-10-01')))}
        self.assertEqual(found, {'acme': 'acme'})


NASTY = ['=1+1', '+1', '-1', '@SUM(A1)', '|', '<script>alert(1)</script>', '\x1b[31mred\x1b[0m', 'a\nb', '\u202egnp',
         '日本' * 40,
         'x' * 150, '`*_[]', '&amp;', '"quoted"', "'", '%s%d', 'a\x9bb', '\uff1d1', 'a\tb', '\u0301\u0301']


class NamesTest(Machine):
    """Names come from logs: whatever they are, they stay names."""

    more = ''
    calls = [('/clients/%s' % name.replace('/', '_'), name.replace('/', '_'), '', '2026-11-10', name,
              (1000 + n,)) for n, name in enumerate(NASTY)]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        shutil.rmtree(cls.logs)
        cls.write('claude/projects/p/s.jsonl', ''.join(log_line(n, *call) for n, call in enumerate(cls.calls)))

    def test_table(self):
        for by in 'arm', 'model', 'session', 'arm,day,week,month,model,session,agent,kind,agent-cli':
            with self.subTest(by):
                text = self.report('--by', by)
                self.assertFalse([c for c in text if c != '\n' and not c.isprintable()])
                if by != 'session' and ',' not in by:                # ids of any length are given whole
                    self.assertLessEqual(max(map(REPORT.columns, text.splitlines())), 80)

    def test_csv(self):
        for options in (['--format', 'csv'], ['--format', 'csv', '--by', 'model,session'], ['--format', 'focus']):
            with self.subTest(options):
                lines = list(csv.reader(io.StringIO(self.report(*options))))
                self.assertEqual(len({len(line) for line in lines}), 1)
                cells = [cell for line in lines for cell in line]
                self.assertEqual([cell for cell in cells if cell.lstrip()[:1] in tuple('=+-@\uff1d')], [])
                self.assertFalse([cell for cell in cells if not cell.isprintable()])

    def test_markdown(self):
        text = self.report('--format', 'markdown', '--by', 'model,session')
        table = [line.replace('\\|', '') for line in text.split('\n\n')[1].splitlines()]
        self.assertEqual({line.count('|') for line in table}, {table[0].count('|')})
        self.assertEqual(len(table), 2 + len(NASTY) + 1)
        self.assertNotIn('<script', text)
        self.assertIn('| =1+1 | =1+1 |', text)                # no sheet reads it: no guard of sheets

    def test_html(self):
        text = self.report('--format', 'html', '--by', 'model,session')
        self.assertNotIn('<script', text)
        self.assertFalse([c for c in text if c != '\n' and not c.isprintable()])
        self.assertNotRegex(text, r'https?://|src=|@import|url\(')
        parse_strictly(self, text)

    def test_json(self):
        _, rows = self.rows('--by', 'model')
        self.assertLessEqual({'=1+1', '|', '\x1b[31mred\x1b[0m'}, {row['model'] for row in rows})

    def test_prometheus(self):
        check_metrics(self, self.report('--format', 'prometheus'))


HARMLESS = set('lang charset name content class scope tabindex role aria-label aria-hidden aria-labelledby style id '
               'viewbox preserveaspectratio width height rx fill x y x1 x2 y1 y2 text-anchor'.split())


def parse_strictly(test, text):
    """Each tag is closed in order; no attribute comes from outside."""
    from html.parser import HTMLParser
    open_tags = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ('meta', 'rect', 'line'):
                open_tags.append(tag)
            test.assertLessEqual({name for name, _ in attributes}, HARMLESS)

        def handle_endtag(self, tag):
            if tag not in ('rect', 'line'):
                test.assertEqual(open_tags.pop(), tag)
    Parser().feed(text)
    test.assertEqual(open_tags, [])


def check_metrics(test, text):
    """The text format's rules; promtool's too, where it is."""
    families = set()
    for line in text.splitlines():
        if line.startswith('# TYPE '):
            families.add(line.split()[2])
        elif not line.startswith('# HELP '):
            test.assertRegex(line, r'^[a-z_]+(\{arm="([^"\\\n]|\\[\\"n])*",window="[a-z]+"\})? -?[0-9.]+$')
            test.assertIn(line.split('{')[0].split(' ')[0], families)
    test.assertTrue(text.endswith('\n'))
    promtool = shutil.which('promtool')
    if promtool:
        checked = subprocess.run([promtool, 'check', 'metrics'], input=text.encode(), stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        test.assertEqual((checked.stdout.decode(), checked.returncode), ('', 0))


class FormatsTest(Machine):
    def test_metrics(self):
        check_metrics(self, self.report('--format', 'prometheus'))

    def test_html_stands_alone_and_is_well_formed(self):
        for options, chart in (([], 'day'), (['--by', 'day'], ''), (['--arm', 'acme', '--month', '2026-10'], None),
                               (['--since', '2025-11-20'], 'week'), (['--since', '2025-01-01'], 'month'),
                               (['--baseline', 'gpt-5.5'], 'day')):
            text = self.report('--format', 'html', *options)
            self.assertNotRegex(text, r'https?://|src=|href=|@import|url\(|<script')
            self.assertEqual(re.findall(r'<h2>By (day|week|month)</h2>', text), [chart] if chart else [])
            self.assertEqual('class="meter spend"' in text, chart is not None)
            parse_strictly(self, text)

    def test_80_columns(self):
        for options in ([], ['--compare'], ['--compare', '--baseline', 'gpt-5.5'], ['--by', 'day,model'],
                        ['--by', 'session'], ['--by', 'session,agent'],
                        ['--by', 'arm,day,week,month,model,kind,agent-cli']):
            with self.subTest(options):
                self.assertLessEqual(max(map(REPORT.columns, self.report(*options).splitlines())), 80)

    def test_no_word_of_another_arm(self):
        os.makedirs(self.logs + '/projects/-clients-umbrella.jsonl', exist_ok=True)
        for form in REPORT.FORMATS:
            for more in [], ['--by', 'session,model'], ['--month', '2026-11'], ['--compare'], ['--baseline', OPUS]:
                if form not in ('focus', 'prometheus') or not more or form == 'focus' and more[0] == '--month':
                    with self.subTest((form, more)):
                        text = self.report('--format', form, '--arm', 'acme', *more)
                        for word in 'globex', 'initech', 'umbrella', 'unattributed', 'nonesuch', 'bbbb', 'cccc', 'dddd':
                            if not (word == 'unattributed' and form == 'json'):
                                self.assertNotIn(word, text)

    @unittest.skipIf(os.name == 'nt', 'needs a pseudo-terminal')
    def test_colour_only_on_a_terminal(self):
        self.assertNotIn('\x1b', self.report())
        self.assertIn('\x1b[33malert', self.on_terminal())
        self.assertNotIn('\x1b[3', self.on_terminal(NO_COLOR='1'))
        self.assertNotIn('\x1b[3', self.on_terminal(TERM='dumb'))

    def on_terminal(self, **more):
        import pty
        main, terminal = pty.openpty()
        environ = self.environ(**dict({'TERM': 'xterm'}, **more))
        child = subprocess.Popen(self.command(), stdout=terminal, stderr=terminal, env=environ)
        os.close(terminal)
        text = b''
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        child.wait()
        os.close(main)
        return text.decode()

    def test_a_terminal_without_unicode(self):
        text = self.report('--by', 'arm,day', PYTHONIOENCODING='ascii', typed=True)
        self.assertIn('? 90.00', text)
        self.assertTrue(text.isascii())

    def test_columns_counts_in_a_pipe(self):
        wide = self.report('--compare', COLUMNS='150')
        self.assertGreater(max(map(REPORT.columns, wide.splitlines())), 80)
        self.assertIn('Used', wide.split('Other caps')[0])
        for columns in '60', '100':
            text = self.report('--compare', COLUMNS=columns)
            self.assertLessEqual(max(map(REPORT.columns, text.splitlines())), int(columns))


class CronTest(Machine):
    def calm(self, name):
        """What is spent is far below its cap, all can be read, and no model lacks a price."""
        calm = os.path.join(self.home, name)
        write_logs(calm, CALLS[:8], home=self.home)
        budgets = self.write(name + '.yaml', 'budgets:\n  - arm: acme\n    path: %s/clients/acme\n'
                             '    monthly_usd_cap: 1000\n' % self.home)
        return {'budgets': False, 'ARMLEDGER_BUDGETS': budgets, 'CLAUDE_CONFIG_DIR': calm, 'ARMLEDGER_HOME': calm}

    def test_quiet(self):
        self.assertIn('acme', self.report('--quiet'))                        # at alert
        calm = self.calm('calm')
        self.assertEqual(self.report('--quiet', '--yesterday', **calm), '')
        self.assertIn('acme', self.report('--yesterday', **calm))
        self.assertIn('days old', self.report('--quiet', now='2027-02-01T00:00:00Z', **calm))
        path = os.path.join(self.home, 'quiet.json')
        self.assertEqual(self.report('--quiet', '--format', 'json', '--output', path, **calm), '')
        self.assertTrue(os.path.exists(path))

    def test_quiet_again(self):
        """What could not be read in logs that were written before the window begins is told of, and no alarm."""
        calm = self.calm('calmer')
        garbled = os.path.join(calm['ARMLEDGER_HOME'], 'projects', 'p', 'garbled.jsonl')
        for written, told in ('2026-11-14T23:00:00Z', False), ('2026-11-15T01:00:00Z', True):
            with open(garbled, 'a') as stream:
                stream.write('{"type": "assistant", "message": {"usage": {\n')
            os.utime(garbled, (REPORT.parse_time(written) // 1000,) * 2)
            self.assertEqual('could not be read' in words_of(self.report('--quiet', '--yesterday', **calm)), told)
        self.assertIn('2 log lines could not be read', words_of(self.report('--yesterday', **calm)))

    def test_why_cron_is_told(self):
        """acme is over its day's cap and near its month's on the 16th; the 15th was calm."""
        for options in [], ['--by', 'model'], ['--by', 'session'], ['--format', 'markdown'], ['--format', 'html']:
            with self.subTest(options):
                text = self.report('--yesterday', '--quiet', *options)
                self.assertIn('Other caps, now', text)
                for word in 'halt', '450 %', 'alert', '90 %':
                    self.assertIn(word, text)
                self.assertNotIn('27 %', text)                           # globex is well below its cap
        self.assertNotIn('caps, now', self.report('--yesterday', '--arm', '日本 globex'))

    def test_no_spend_has_empty_bars(self):
        text = self.report('--yesterday', COLUMNS='100')
        self.assertIn('acme', text)
        self.assertIn('............', text.split('Other caps')[0])
        self.assertNotIn('#', text.split('Other caps')[0])

    def test_assumed_spend_is_marked_in_the_total(self):
        self.assertIn('~187.73', self.report())
        self.assertIn('~187.73', self.report('--format', 'markdown'))
        self.assertNotIn('~', self.report('--arm', 'acme'))

    def test_when_the_ledger_was_begun(self):
        folder, told = os.path.join(self.home, 'young'), 'This ledger was begun on 2026-11-02'
        self.report(ARMLEDGER_HOME=folder)
        date_ledger(folder, '2026-11-02T08:00:00Z')
        text = ' '.join(self.report(ARMLEDGER_HOME=folder).split())
        self.assertIn(told + '; its oldest call is of 2026-10-05: spend whose logs had been deleted before', text)
        self.assertIn('its oldest call is of 2026-10-05', ' '.join(
            self.report('--arm', '日本 globex', ARMLEDGER_HOME=folder).split()))
        self.assertIn(told, ' '.join(self.rows(ARMLEDGER_HOME=folder)[0]['warnings']))
        self.assertNotIn(told, self.report('--since', '2026-11-03', ARMLEDGER_HOME=folder))
        calm = {'CLAUDE_CONFIG_DIR': self.home + '/none', 'budgets': False, 'ARMLEDGER_HOME': self.home + '/empty'}
        self.report(**calm)
        date_ledger(self.home + '/empty', '2026-11-02T08:00:00Z')
        self.assertIn(told + ': spend whose logs', ' '.join(self.report(**calm).split()))

    def test_a_notify_command_that_failed(self):
        folder = os.path.join(self.home, 'notified')
        self.report(ARMLEDGER_HOME=folder)
        for arm, said in ('acme', True), ('日本 globex', False):
            with open(os.path.join(folder, load_script('budget-check.py').NOTIFY_FAILURES), 'a') as stream:
                stream.write('{"ts": %d, "arm": "acme", "tier": "halt", "code": 3}\n' % REPORT.parse_time(NOW))
            text = ' '.join(self.report('--arm', arm, ARMLEDGER_HOME=folder).split())
            self.assertEqual('the notify command of acme failed (exit code 3)' in text, said)
        self.assertIn('notify command', ' '.join(self.rows(ARMLEDGER_HOME=folder)[0]['warnings']))
        self.assertNotIn('notify command', self.report(ARMLEDGER_HOME=folder))       # it is told once

    def test_output(self):
        path = os.path.join(self.home, 'out.csv')
        self.assertEqual(self.report('--format', 'csv', '--output', path), '')
        with open(path, encoding='utf-8', newline='') as stream:
            self.assertEqual(stream.read().replace(self.home, ''), self.report('--format', 'csv'))
        with open(path, 'w') as stream:
            stream.write('as before')
        result = self.start('--format', 'csv', '--output', path, '--baseline', 'claude-opus-55')
        self.assertEqual((result.returncode, result.stderr.decode()),
                         (1, 'cost-report: --baseline: prices.json has no claude-opus-55; '
                             'did you mean claude-opus-5-5?\n'))
        with open(path) as stream:
            self.assertEqual(stream.read(), 'as before')
        self.assertEqual([name for name in os.listdir(self.home) if '.tmp' in name], [])
        self.assertEqual(self.failing('--output', os.path.join(self.home, 'no', 'such', 'file.html')),
                         'cost-report: /no/such/file.html: --output: there is no such folder; make it first\n')

    @unittest.skipIf(os.name == 'nt', 'devices')
    def test_output_to_standard_output(self):
        folder = tempfile.mkdtemp(dir=self.home)
        for name in '-', '/dev/stdout', '/dev/fd/1':
            result = self.start('--output', name, cwd=folder, forked=True)
            self.assertEqual((result.stdout.decode().replace(self.home, ''), result.returncode, os.listdir(folder)),
                             (self.report(), 0, []))

    @unittest.skipUnless(os.path.exists('/dev/full'), 'there is no /dev/full here')
    def test_a_disk_that_is_full(self):
        for options in [], ['--version'], ['--help'], ['--output', '/dev/full']:
            with open('/dev/full', 'w') as full:
                result = subprocess.run(self.command(*options), env=self.environ(), stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(result.returncode, 1)
            self.assertIn(b'No space left on device', result.stderr)
            self.assertEqual(result.stderr.count(b'\n'), 1)

    def test_without_standard_output(self):
        result = subprocess.run(['sh', '-c', '"$@" >&-', 'sh', *self.command()], env=self.environ(), stderr=subprocess.PIPE)
        self.assertEqual((result.returncode, result.stderr), (0, b''))

    def test_a_reader_that_has_seen_enough(self):
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(self.command(), env=self.environ(), stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        self.assertEqual((result.returncode, result.stderr), (1, b''))

    @unittest.skipIf(os.name == 'nt', 'links and modes')
    def test_output_keeps_links_modes_and_devices(self):
        path, link = os.path.join(self.home, 'kept'), os.path.join(self.home, 'link')
        open(path, 'w').close()
        os.chmod(path, 0o640)
        os.symlink(path, link)
        self.report('--output', link)
        self.assertTrue(os.path.islink(link) and os.path.getsize(path))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)
        self.report('--output', '/dev/null')
        self.assertFalse(os.path.isfile('/dev/null'))

    def spend_json(self, text):
        spend = self.write('spend.json', text)
        budgets = self.write('elsewhere.yaml', 'spend_json: %s\nbudgets:\n  - arm: hot\n    path: %s/clients/acme\n'
                             '    monthly_usd_cap: 10.00\n    rate_pct: 90\n' % (spend, self.home))
        return {'budgets': False, 'ARMLEDGER_BUDGETS': budgets}

    def test_spend_from_elsewhere(self):
        """hot: 15 of the export at 90 % is 13.50, 135 % of its cap; 180 in the logs, which don't stand against it."""
        environ = self.spend_json('{"hot": 15.00}')
        found, rows = self.rows(**environ)
        self.assertEqual([(row['usd'], row['cap_usd'], row['pct']) for row in rows if row['arm'] == 'hot'], [(180, None, None)])
        self.assertIn('spend.json has (spend_json in budgets.yaml), as the gate does', ' '.join(found['warnings']))
        text = self.report(COLUMNS='100', **environ)
        self.assertRegex(text, r'Other caps, now\n.*\nhot +month +13\.50 +10\.00 +#+ +135 % +hard_stop .*yes')
        self.assertIn('spend_json in budgets.yaml', words_of(text))
        metrics, where = self.report('--format', 'prometheus', **environ), '{arm="hot",window="month"} '
        for name, value in ('spend_usd', '180.000000'), ('counted_usd', '13.500000'), ('cap_ratio', '1.350000'), ('tier', '3'):
            self.assertIn('armledger_' + name + where + value + '\n', metrics)
        self.assertEqual([row['pct'] for row in self.rows('--month', '2026-10', **environ)[1] if row['arm'] == 'hot'],
                         [270])                                          # 30 at 90 %: the export is of this month

    def test_spend_from_elsewhere_that_cannot_be_read(self):
        for text in '{', '{"hot": "x"}':
            environ = self.spend_json(text)
            for form in REPORT.FORMATS:
                result = self.start('--format', form, **environ)
                self.assertEqual(result.returncode, 1)
                self.assertIn('spend_json', result.stderr.decode().splitlines()[-1])
                self.assertIn(b'hot', result.stdout)
            self.assertNotIn('10.00', self.start(**environ).stdout.decode())

    def test_an_arm_that_is_none_is_no_folder(self):
        """A slip must not become the working folder's arm: it is another client's."""
        web = os.path.join(self.home, 'clients', 'web')
        os.makedirs(os.path.join(web, 'src'))
        budgets = self.write('two.yaml', 'budgets:\n  - arm: web\n    path: %s\n    monthly_usd_cap: 9\n  - arm: globex\n'
                             '    path: %s/clients/globex\n    monthly_usd_cap: 9\n' % (web, self.home))
        for arm, words in (('globx', 'no arm is named globx: did you mean globex?'), ('GLOBEX', 'did you mean globex?'),
                           ('nope', 'no arm is named nope'), ('no/pe', 'no/pe'), ('~x/y', '~x/y'),
                           ('', '--arm is empty'), (' ', '--arm is empty'),
                           ('/elsewhere', 'nothing was spent in /elsewhere')):
            with self.subTest(arm):
                for more in [], ['--month', '2026-11', '--format', 'csv']:
                    result = self.start('--arm', arm, *more, budgets=False, cwd=web, ARMLEDGER_BUDGETS=budgets)
                    self.assertEqual((result.returncode, result.stdout), (1, b''))
                    self.assertIn(words, result.stderr.decode())
        for arm in '.', 'src', './src', '../web', web, '~/clients/web', '~/clients/web/gone':
            with self.subTest(arm):
                result = self.start('--arm', arm, budgets=False, cwd=web, ARMLEDGER_BUDGETS=budgets)
                self.assertEqual(result.returncode, 0)
                self.assertIn(b', arm web', result.stdout)

    def test_bills_of_no_arm(self):
        path = self.write('slip.csv', 'acm,3\nacme,180\n')
        self.assertIn('--billed: there is no arm acm; did you mean acme?', self.rows('--billed', path)[0]['warnings'])

    def test_help(self):
        text = self.report('--help')
        self.assertEqual(text, self.report('-h', '--format', 'csv'))
        self.assertGreater(len(REPORT.OPTIONS), 18)
        for name in REPORT.OPTIONS:
            self.assertRegex(text, '(?m)^  %s ' % name)
        self.assertRegex(self.report('--version'), r'^armledger \d+\.\d+')

    def test_broken_budgets(self):
        budgets = self.write('broken.yaml', 'budgets:\n  - arm: acme\n\tpath: x\n')
        for options in [], ['--format', 'json'], ['--format', 'focus'], ['--quiet']:
            result = self.start(*options, budgets=False, ARMLEDGER_BUDGETS=budgets)
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, b'broken.yaml:3(:1)?: ')
            self.assertIn(b'acme', result.stdout)

    def test_broken_budgets_and_one_arm(self):
        """Which calls are an arm's is not known then: another's could be shown."""
        budgets = self.write('broken.yaml', 'budgets:\n  - arm: acme\n\tpath: x\n')
        result = self.start('--arm', 'acme', budgets=False, ARMLEDGER_BUDGETS=budgets)
        self.assertEqual((result.returncode, result.stdout), (1, b''))
        self.assertRegex(result.stderr, b'broken.yaml:3(:1)?: ')

    def test_the_verdict_is_budget_checks(self):
        checked = self.start('--json', script=os.path.join(ROOT, 'budget-check.py'))
        found = {}
        for arm in json.loads(checked.stdout.decode())['arms']:
            for one in arm['windows']:
                amounts = [Decimal(str(one[key])) for key in ('spent_usd', 'cap_usd')]
                found[arm['arm'], one['window']] = amounts + [one['tier']]
        self.assertEqual(found, {('acme', 'day'): [90, 20, 'halt'], ('acme', 'month'): [180, 200, 'alert'],
                                 ('日本 globex', 'month'): [Decimal('2.73'), 10, 'ok']})
        tiers = ('ok', 'alert', 'warn', 'hard_stop', 'halt')
        metrics = self.report('--format', 'prometheus')
        for (arm, window), (spent, cap, tier) in found.items():
            where = '{arm="%s",window="%s"} ' % (arm, window)
            self.assertIn('armledger_cap_ratio%s%.6f\n' % (where, spent / cap), metrics)
            self.assertIn('armledger_tier%s%d\n' % (where, tiers.index(tier)), metrics)

    def test_caps_of_weeks_and_of_all_time(self):
        """acme at 90 %: 90 this week, 207 (27 of them in October) since October 5th; globex has spent 2.73."""
        budgets = self.write('weeks.yaml', 'budgets:\n  - arm: acme\n    path: %s/clients/acme\n    rate_pct: 90\n'
                             '    weekly_usd_cap: 100\n    total_usd_cap: 414\n  - arm: globex\n'
                             '    path: %s/clients/globex\n    total_usd_cap: 0\n' % (self.home, self.home))
        environ = {'budgets': False, 'ARMLEDGER_BUDGETS': budgets}
        metrics = self.report('--format', 'prometheus', **environ)
        for name, arm, window, value in (
                ('counted_usd', 'acme', 'week', '90.000000'), ('cap_ratio', 'acme', 'week', '0.900000'),
                ('counted_usd', 'acme', 'total', '207.000000'), ('cap_ratio', 'acme', 'total', '0.500000'),
                ('tier', 'acme', 'week', '1'), ('tier', 'acme', 'total', '0'), ('tier', 'globex', 'total', '4')):
            self.assertIn('armledger_%s{arm="%s",window="%s"} %s\n' % (name, arm, window, value), metrics)
        self.assertNotIn('cap_ratio{arm="globex"', metrics)                              # of nothing there is no share
        text = self.report(COLUMNS='100', **environ)
        self.assertRegex(text, r'\nacme +week +90\.00 +100\.00 .* 90 % +alert')
        # 207 in the 42.08 days since the first call: another 207 are spent 42 days later.
        self.assertRegex(text, r'\nacme +total +207\.00 +414\.00 .* 50 % +ok .* 2026-12-28\n')

    def test_errors(self):
        for options, words in ((['--by', 'arms'], "--by: 'arms' is none; write one of arm, day"),
                               (['--month', '2026-13'], "--month: '2026-13' is no month; write 2026-10"),
                               (['--since', '2026-02-30'], "--since: '2026-02-30' is no date"),
                               (['--since', '0001-01-01'], "--since: '0001-01-01' is no date"),
                               (['--month', '0000-01'], "--month: '0000-01' is no month"),
                               (['--since', '2026-11-05', '--until', '2026-11-04'], '--since has to begin before it ends'),
                               (['--since', '2026-12-05'], '--since has to begin before it ends, and not in the future'),
                               (['--last', '0d'], "--last: '0d' is no date"), (['--last', 'week'], "--last: 'week' is no date"),
                               (['--month', '2026-W47'], "is no month"), (['--since', '2026-W47'], "is no date"),
                               (['--last', '7d', '--since', '3d'], '--last and --since cannot go together'),
                               (['--month', '2026-11', '--yesterday'], '--month and --yesterday cannot go together'),
                               (['--arm', 'nobody'], "no arm is named nobody"),
                               (['--format', 'xml'], "--format: 'xml' is none; write one of table, json"),
                               (['--forma', 'csv'], 'there is no option --forma; did you mean --format?'),
                               (['acme'], 'there is no option acme; see --help'),
                               (['--quiet=yes'], '--quiet takes no value'),
                               (['--arm'], '--arm is empty: write --arm ARM'),
                               (['--arm', '--quiet'], '--arm is empty'), (['--month='], '--month is empty'),
                               (['--format', 'focus', '--by', 'day'], '--format focus has its own columns'),
                               (['--format', 'prometheus', '--yesterday'], '--format prometheus has its own'),
                               (['--billed', '/no/such'], '/no/such: --billed: cannot be read'),
                               (['--billed', 'x', '--by', 'day'], '--billed goes with --by arm'),
                               (['--billed', 'x', '--format', 'csv', '--compare'], '--billed has the bills alone: leave out --compare'),
                               (['--prices', '/no/such'], '/no/such'), (['--now', 'x'], '--now')):
            with self.subTest(options):
                result = self.start(*options)
                self.assertEqual((result.returncode, result.stdout), (1, b''))
                self.assertIn(words, result.stderr.decode())
                self.assertEqual(result.stderr.count(b'\n'), 1)

    def alone(self):
        folder = os.path.join(self.home, 'alone')
        os.makedirs(folder, exist_ok=True)
        shutil.copy(os.path.join(ROOT, 'cost-report.py'), folder)
        shutil.copy(self.prices, folder)
        return os.path.join(folder, 'cost-report.py')

    def test_alone(self):
        """Without budget-check.py: what the logs tell, by folder; and what they can't is said."""
        script = self.alone()
        text = self.report(script=script, budgets=False)
        self.assertIn('made without budget-check.py', text)
        # globex without what no transcript line shows
        self.assertEqual([line.split() for line in text.split('\n\n')[0].split('\n')[1:]], [
            ['180.000000', '5', '/clients/acme'], ['20.000000', '1', '/clients/acme/web'], ['4.000000', '1', '/clients/initech'],
            ['2.530000', '2', '/clients/globex'], ['1.000000', '1', '(unattributed)']])
        self.assertIn('could not be read: 1.\n', text)
        text = self.report('--since', '2026-11-16', script=script, budgets=False)
        self.assertRegex(text, r'SINCE 2026-11-16\n +100\.000000 +\d  /clients/acme\n\n')
        for options in ['--by', 'day'], ['--arm', 'acme'], ['--format', 'html'], ['--format', 'json'], ['--budgets', 'x']:
            self.assertIn(' needs budget-check.py beside this script; `make install`',
                          self.failing(*options, script=script, budgets=False))

    def test_a_neighbour_of_another_version(self):
        script = self.alone()
        with open(os.path.join(ROOT, 'budget-check.py'), encoding='utf-8') as stream:
            text = stream.read()
        path = os.path.join(os.path.dirname(script), 'budget-check.py')
        try:
            for changed, code in (text, 0), (text.replace('# --- END shared', '# other\n# --- END shared'), 1):
                self.assertEqual(changed == text, not code)
                with open(path, 'w', encoding='utf-8') as stream:
                    stream.write(changed)
                result = self.start('--version', script=script, budgets=False)
                self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn(b'another version than the cost-report.py beside it; `make install` puts both there', result.stderr)
        finally:
            os.unlink(path)

    def test_its_own_errors_are_budget_checks(self):
        checker = REPORT.neighbour
        for name in 'UserError', 'Prices', 'parse_time', 'AGENTS', 'printable':
            self.assertIs(getattr(REPORT, name), getattr(checker, name))

    def test_no_name_is_given_twice(self):
        """What one part of a script calls by a name, a later part must not."""
        import ast
        for script in 'cost-report.py', 'budget-check.py':
            with open(os.path.join(ROOT, script), encoding='utf-8') as stream:
                names = [node.name for node in ast.parse(stream.read()).body if hasattr(node, 'name')]
            self.assertEqual(sorted(name for name in set(names) if names.count(name) > 1), [])

    def test_empty_ledger(self):
        empty = {'budgets': False, 'CLAUDE_CONFIG_DIR': '/none', 'ARMLEDGER_HOME': self.home + '/empty'}
        for form in REPORT.FORMATS:
            for more in [], ['--by', 'day', '--compare'] * (form not in ('focus', 'prometheus')):
                with self.subTest(form):
                    self.assertTrue(self.report('--format', form, *more, **empty))
        text = words_of(self.report(**empty))
        self.assertIn('No spend in this time.', text)
        self.assertIn('no session logs were found', text)


class ArithmeticTest(unittest.TestCase):
    def test_exact(self):
        for value, scale, text in ((0, 6, '0.0'), (1, 6, '0.000001'), (1500000, 6, '1.5'), (20 * MILLION, 6, '20.0'),
                                   (125, 2, '1.25')):
            self.assertEqual(REPORT.exact(value, scale), text)
            self.assertEqual(Decimal(text), Decimal(value) / 10 ** scale)

    def test_short_counts(self):
        for number, text in ((0, '0'), (999, '999'), (1000, '1.0k'), (12345, '12.3k'), (999999, '999k'),
                             (10 ** 6, '1.0M'), (123456789, '123M'), (5 * 10 ** 9, '5.0G'), (10 ** 13, '10.0T')):
            self.assertEqual(REPORT.short_count(number), text)

    def test_amounts_as_people_write_them(self):
        for text, usd in (
                ('1', PICO), ('1,234.50', 1234 * PICO + PICO // 2), ('$5', 5 * PICO), (' 7 USD ', 7 * PICO),
                ('-3', -3 * PICO), ('-$3.5', -3 * PICO - PICO // 2), ('0.000000000001', 1),
                ('', None),
                ('1e3', None), ('x', None), ('1,23', None), ('\u0663', None), ('1.2.3', None)):
            with self.subTest(text):
                self.assertEqual(REPORT.parse_usd(text), usd)

    def test_bills(self):
        for text, found in (
                ('{"a": 1.10, "b": "2"}', {'a': 11 * PICO // 10, 'b': 2 * PICO}),
                ('arm,usd\na,1.10\n"b, c","1,000.00"\n', {'a': 11 * PICO // 10, 'b, c': 1000 * PICO}),
                ('\ufeffa,1\n\n', {'a': PICO}), ('{"a": 0.1}', {'a': PICO // 10}),
                ('a,1\na,2\n', 'f: a: stands here twice'), ('{"a": 1, "a": 2}', 'f: a: stands here twice'),
                ('proj;5', 'f: proj;5: expected are lines of arm,usd'), ('arm;usd\nacme;20,50\n', 'f: arm;usd: expected'),
                ('arm,usd\nacme;20,50\n', 'f: acme;20,50: expected'), ('acme\t20,50', 'f: acme.20,50: expected'),
                ('"a;b",5\n', {'a;b': 5 * PICO}),
                ('a,1\nb,x\n', 'f: b: expected are'), ('{"a": null}', 'f: a: expected are'), ('{', 'f: not JSON')):
            with self.subTest(text):
                if type(found) is dict:
                    self.assertEqual(REPORT.parse_bills(text, 'f'), found)
                else:
                    with self.assertRaisesRegex(REPORT.UserError, found):
                        REPORT.parse_bills(text, 'f')

    def test_widths(self):
        self.assertEqual(REPORT.cut('日本語', 4), '日…')
        self.assertEqual(REPORT.cut('/clients/acme', 8), '…ts/acme')
        self.assertEqual(REPORT.cut('abcdef', 4), 'abc…')

    def test_no_formulas_in_sheets(self):
        for text in NASTY:
            cell = next(csv.reader([REPORT.csv_cell(text)]))[0]
            self.assertNotIn(cell.lstrip()[:1] or 'x', tuple('=+-@\uff1d'))
        self.assertEqual(REPORT.csv_cell(REPORT.number('-9.50')), '-9.50')           # an amount stays one


class SpikeTest(Machine):
    """A day is marked above $5 and above 3 times the median of at least five days in the 28 before it."""

    calls = ()

    def spikes(self, days):
        name = 'spikes%d' % len(os.listdir(self.home))
        logs = os.path.join(self.home, name)
        write_logs(logs, [('/clients/globex', A1, '', '2026-11-%02d' % day, HAIKU, (round(usd * MILLION),))
                          for day, usd in days.items()], home=self.home)
        _, rows = self.rows('--by', 'arm,day', '--since', '2026-11-01', CLAUDE_CONFIG_DIR=logs, ARMLEDGER_HOME=logs)
        return [int(row['day'][-2:]) for row in rows if row['spike']]

    def test_rule(self):
        usual = {1: 10, 2: 12, 3: 8, 4: 10, 5: 11}                               # the median is 10
        self.assertEqual(self.spikes(usual), [])
        self.assertEqual(self.spikes({**usual, 6: 30}), [])
        self.assertEqual(self.spikes({**usual, 6: 30.01}), [6])
        self.assertEqual(self.spikes({1: 10, 2: 12, 3: 8, 4: 10, 6: 99}), [])             # four days tell too little
        self.assertEqual(self.spikes({1: .1, 2: .1, 3: .1, 4: .1, 5: .1, 6: 5}), [])      # pennies
        self.assertEqual(self.spikes({1: .1, 2: .1, 3: .1, 4: .1, 5: .1, 6: 5.01}), [6])
        self.assertEqual(self.spikes({1: 10, 2: 20, 3: 10, 4: 20, 5: 10, 6: 20, 7: 46}), [7])       # the median of six: 15


if __name__ == '__main__':
    unittest.main()
