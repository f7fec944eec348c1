"""cost-report.py: the figures, each format, and what a name may do to them."""
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from decimal import Decimal

from support import DATA, ROOT, load_script

REPORT = load_script('cost-report.py')
FOLDER = os.path.join(DATA, 'report')
PICO = 10 ** 12
MILLION = 10 ** 6
NOW = '2026-11-16T12:00:00Z'

# The months of the golden outputs: what was called, and what it cost by data/report/prices.json.
#   (folder, session, agent, day, model, tokens)         tokens: input, output, 5 min writes, 1 h writes, reads, searches
CALLS = [
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000001', '', '2026-10-05', 'claude-opus-5-5', (0, MILLION)),           # 20
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000001', '', '2026-10-20', 'claude-haiku-4-5', (10 * MILLION,)),       # 10
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000002', '', '2026-11-02', 'claude-opus-5-5', (5 * MILLION,)),         # 20
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000002', '', '2026-11-03', 'claude-opus-5-5', (5 * MILLION,)),         # 20
    ('/clients/acme/web', 'aaaaaaaa-0000-4000-8000-000000000002', '', '2026-11-04', 'claude-opus-5-5', (5 * MILLION,)),     # 20
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000003', '', '2026-11-05', 'claude-opus-5-5', (5 * MILLION,)),         # 20
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000003', '', '2026-11-06', 'claude-opus-5-5', (5 * MILLION,)),         # 20
    ('/clients/acme', 'aaaaaaaa-0000-4000-8000-000000000003', '', '2026-11-16', 'claude-opus-5-5', (0, 5 * MILLION)),       # 100
    ('/clients/globex', 'bbbbbbbb-0000-4000-8000-000000000001', '', '2026-11-10', 'claude-haiku-4-5',
     (MILLION, 0, 0, 0, 10 * MILLION, 3)),                                                                  # 1 + 1 + 0.03
    ('/clients/globex', 'bbbbbbbb-0000-4000-8000-000000000001', 'abc', '2026-11-10', 'claude-haiku-4-5', (0, 100000)),      # 0.5
    ('/clients/initech', 'cccccccc-0000-4000-8000-000000000001', '', '2026-11-12', 'claude-nonesuch-9', (MILLION,)),  # 4, assumed
    (None, 'dddddddd-0000-4000-8000-000000000001', '', '2026-11-13', 'claude-haiku-4-5', (0, 200000)),                      # 1
]
# The session of globex ends with a total that has 40,000 output tokens more than its calls: 0.2 untranscribed.
COST_STATE = {'type': 'cost-state', 'sessionId': 'bbbbbbbb-0000-4000-8000-000000000001', 'startTime': 1, 'modelUsage': {
    'claude-haiku-4-5': {'inputTokens': MILLION, 'outputTokens': 140000, 'cacheReadInputTokens': 10 * MILLION,
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


def write_logs(root, calls, more=''):
    """Transcripts of these calls under root/projects; `more` is added to the first session's end."""
    texts = {}
    for n, call in enumerate(calls):
        session, agent = call[1], call[2]
        name = '%s/subagents/agent-%s' % (session, agent) if agent else session
        texts[name] = texts.get(name, '') + log_line(n, *call)
    for name, text in texts.items():
        path = os.path.join(root, 'projects', 'p', name + '.jsonl')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as stream:
            stream.write(text + (more if name == COST_STATE['sessionId'] else ''))
        if 'agent-' in name:
            with open(path[:-6] + '.meta.json', 'w', encoding='utf-8') as stream:
                stream.write('{"agentType": "Explore"}')


class Machine(unittest.TestCase):
    """A throwaway home with logs; `report` runs the real script there."""

    calls, more = CALLS, json.dumps(COST_STATE) + '\n{"type": "assistant", "message"\n'
    budgets = os.path.join(FOLDER, 'budgets.yaml')
    prices = os.path.join(FOLDER, 'prices.json')

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix='armledger-')
        cls.addClassCleanup(shutil.rmtree, cls.home)
        cls.logs = os.path.join(cls.home, 'claude')
        write_logs(cls.logs, cls.calls, cls.more)

    def start(self, *options, script=os.path.join(ROOT, 'cost-report.py'), now=NOW, budgets=True, **environ):
        places = ['--prices', self.prices] + (['--budgets', self.budgets] if budgets else [])
        environ = dict({'PATH': os.environ.get('PATH', ''), 'HOME': self.home, 'CLAUDE_CONFIG_DIR': self.logs,
                        'CODEX_HOME': self.home + '/none', 'ARMLEDGER_HOME': self.home + '/ledger', 'TZ': 'UTC',
                        'PYTHONIOENCODING': 'utf-8', 'PYTHONDONTWRITEBYTECODE': '1'}, **environ)
        return subprocess.run([sys.executable, script, '--now', now] + places + list(options), env=environ,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def report(self, *options, code=0, errors='', **more):
        result = self.start(*options, **more)
        self.assertEqual((result.stderr.decode(), result.returncode), (errors, code))
        return result.stdout.decode()

    def rows(self, *options, **more):
        """{all keys but the arm, or the arm: row}, as JSON has it."""
        found = json.loads(self.report(*options, '--format', 'json', **more), parse_float=Decimal)
        return found, found['rows']
