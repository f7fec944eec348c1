"""The hook: what agents put in, and what they get, in every tier and at every event.

Answers of refusals stand in data/hook/*.json: budgets, what has been spent, the payload, and the answer to it."""
import json
import os
import shutil
import subprocess
import unittest

from homes import Home, call_line, fixture, payload, read_json_lines, spent_line, user_line
from support import DATA

NOW = '2026-11-23T12:00:00Z'
ACME = 'timezone: UTC\nbudgets:\n  - arm: acme\n    path: ~/clients/acme\n    total_usd_cap: %s\n'
TIERS = {'ok': 100000, 'alert': 8000000, 'warn': 10000000, 'hard_stop': 11000000, 'halt': 15000000}     # of a cap of 10
EXPENSIVE = ('Agent', 'Task', 'Workflow', 'SendMessage', 'spawn_agent', 'collab__spawn_agent', 'WebSearch', 'WebFetch',
             'mcp__playwright__browser_click', 'mcp__plugin_x_playwright__y', 'mcp__puppeteer__z',
             'mcp__claude-in-chrome__navigate', 'mcp__my_browser__open', 'mcp__computer-use__click', 'CronCreate',
             'ScheduleWakeup', 'RemoteTrigger',
             'agent', 'task', 'webfetch', 'web_search', 'Web_Fetch', 'google_web_search', 'write_agent', 'invoke_agent', 'MCP__Playwright__x')
CHEAP = ('Bash', 'Read', 'Write', 'Edit', 'TaskCreate', 'TaskOutput', 'TaskUpdate', 'AgentX', 'read_agent', 'XAgent', 'tasks',
         'WebSearchX', 'mcp__github__get', 'mcp__computer__click', 'CronList', 'apply_patch', 'TodoWrite', 'Skill', 'x')


def spend(home, micro_usd, cwd='clients/acme', pieces=100, session='old'):
    """Spent in small calls, so that the next one of that size is far from the next tier."""
    parts = [micro_usd // pieces] * (pieces - 1)
    parts.append(micro_usd - sum(parts))
    home.log(session, *(spent_line('%s-%d' % (session, n), part, cwd=home.at(cwd), session=session)
                        for n, part in enumerate(parts)))


def at_tier(tier, **more):
    home = Home(ACME % '10.00', **more).__enter__()
    home.folder('clients/acme')
    spend(home, TIERS[tier])
    return home


def begin(home, record):
    """Write the transcript that a recorded payload names, as it is when the session has just begun."""
    path = record.get('transcript_path')
    if path and not os.path.exists(path):
        head = [user_line(session=record['session_id'], cwd=record['cwd'])]
        if 'rollout' in path:
            head = [{'timestamp': '2026-11-10T12:00:00.000Z', 'type': 'session_meta', 'payload': {
                'id': record['session_id'], 'cwd': record['cwd'], 'cli_version': '0.169.0'}}]
        home.write(path, head)


class Said:
    """An answer, by what it means: `refused` however it was said, `ended` the turn, `told` the user."""

    def __init__(self, result):
        self.result = result
        self.out = json.loads(result.out) if result.out else {}
        decision = self.out.get('hookSpecificOutput', {})
        self.refused = 'deny' in (decision.get('permissionDecision'), self.out.get('permissionDecision'), self.out.get('decision'),
                                  self.out.get('behavior')) or self.out.get('decision') == 'block' or result.code == 2
        self.ended = self.out.get('continue') is False
        self.told = self.out.get('systemMessage', '')
        self.silent = (result.code, result.out, result.err) == (0, '', '')
        self.reason = decision.get('permissionDecisionReason') or self.out.get('reason') or result.err


class HookCase(unittest.TestCase):

    def home_at(self, tier, **more):
        home = at_tier(tier, **more)
        self.addCleanup(home.__exit__)
        return home

    def said(self, result):
        """A well-formed answer: exit 0 or 2, at most one JSON object, never an allow, never a traceback."""
        self.assertIn(result.code, (0, 2), result)
        self.assertNotIn('Traceback', result.err + result.out)
        said = Said(result)
        self.assertNotEqual(said.out.get('hookSpecificOutput', {}).get('permissionDecision'), 'allow')
        if result.code == 2:
            self.assertEqual(result.out, '')
            self.assertNotEqual(result.err, '')
        else:
            self.assertEqual(result.err, '')
        return said

    def ask(self, home, *args, on_sleep=None, **more):
        return self.said(home.gate(payload(home, *args, **more), on_sleep=on_sleep))


class RecordedPayloadsTest(HookCase):
    """Each payload of the real clients, through the real script."""

    def payloads(self, home):
        folder, found = fixture('hook-payloads'), []
        for name in sorted(os.listdir(folder)):
            for record in read_json_lines(os.path.join(folder, name)):
                found.append((name[:-6], json.loads(json.dumps(record).replace('/home/op', home.path))))
        self.assertGreater(len(found), 9)
        for _, record in found:
            begin(home, record)
        return found

    def test_through_the_script_at_a_hard_stop(self):
        home = self.home_at('hard_stop')
        for n, (event, record) in enumerate(self.payloads(home)):
            with self.subTest(event, tool=record.get('tool_name'), agent=record.get('agent_id')):
                said = self.said(home.hook(record))
                is_subs_own = bool(record.get('agent_id'))
                self.assertEqual(said.refused, event == 'PreToolUse' and (record['tool_name'] == 'Agent' or is_subs_own))
                self.assertFalse(said.ended)
                if event not in ('PreToolUse', 'UserPromptSubmit'):
                    self.assertTrue(said.silent)

    def test_at_each_tier(self):
        for tier in TIERS:
            home = self.home_at(tier)
            for event, record in self.payloads(home):
                with self.subTest(tier, event=event, tool=record.get('tool_name')):
                    said = self.said(home.gate(record))
                    decided = event in ('PreToolUse', 'UserPromptSubmit')
                    is_stopped = event == 'PreToolUse' and (record['tool_name'] == 'Agent' or 'agent_id' in record)
                    self.assertEqual(said.refused, decided and (tier == 'halt' or tier == 'hard_stop' and is_stopped))
                    self.assertEqual(said.ended, tier == 'halt' and event == 'PreToolUse')
                    if tier == 'ok' or not decided:
                        self.assertTrue(said.silent)

    def test_of_codex(self):
        for tier in TIERS:
            home = self.home_at(tier)
            for record in read_json_lines(os.path.join(DATA, 'codex-0.169.0', 'hook-payloads.jsonl')):
                record = json.loads(json.dumps(record).replace('/home/op', home.path).replace('clients/beta', 'clients/acme'))
                event = record['hook_event_name']
                begin(home, record)
                with self.subTest(tier, event=event):
                    result = home.gate(record)
                    said = self.said(result)
                    self.assertEqual(said.refused, tier == 'halt' and event != 'SessionStart')
                    self.assertFalse(set(said.out) & {'continue', 'stopReason', 'suppressOutput', 'decision'})
                    if said.refused:
                        self.assertEqual(result.code, 2 if event == 'UserPromptSubmit' else 0)
                        self.assertTrue(said.reason.strip())
                    if tier == 'ok' or event == 'SessionStart':
                        self.assertTrue(said.silent)


class GoldenTest(HookCase):

    def test_answers(self):
        folder = os.path.join(DATA, 'hook')
        names = sorted(name for name in os.listdir(folder) if name.endswith('.json'))
        self.assertGreater(len(names), 9)
        for name in names:
            with open(os.path.join(folder, name), encoding='utf-8') as stream:
                case = json.load(stream)
            with self.subTest(name), Home(case['budgets']) as home:
                # All of it minutes ago, in pieces that leave the next call far from the next tier.
                home.log('old', *(spent_line('m%d' % n, case['spent_micro_usd'] // 50, time='2026-11-23T11:50:00.000Z',
                                             cwd=home.at(case['cwd']), session='old') for n in range(50)))
                home.folder(case['cwd'])
                given = {'session_id': 's-1', 'transcript_path': None, 'tool_input': {}} if 'agent' not in case else {}
                result = home.gate(dict(given, cwd=home.at(case['cwd']), **case['payload']), now=NOW, agent=case.get('agent'))

                def filled(value):
                    if isinstance(value, dict):
                        return {key: filled(inner) for key, inner in value.items()}
                    return value.replace('{budgets}', home.budgets).replace('{home}', home.path) \
                        if isinstance(value, str) else value
                answer = {'code': result.code, 'out': json.loads(result.out) if result.out else None, 'err': result.err}
                self.assertEqual(answer, filled(case['answer']))


class DecisionTest(HookCase):

    def test_which_tools_are_expensive(self):
        home = self.home_at('hard_stop')
        for tool in EXPENSIVE:
            with self.subTest(tool):
                said = self.ask(home, tool=tool)
                self.assertTrue(said.refused and not said.ended)
                self.assertIn('Do not retry', said.reason)
                for part in 'acme', '11.00', '10.00', '110', 'total_usd_cap', home.budgets:
                    self.assertIn(part, said.reason + said.told)
        for tool in CHEAP:
            with self.subTest(tool):
                self.assertFalse(self.ask(home, tool=tool).refused)

    def test_a_list_of_ones_own_replaces_it(self):
        home = self.home_at('hard_stop')
        for tools, refused, passed in ((['Bash', '"mcp__*"'], ('Bash', 'mcp__x__y'), ('Agent', 'WebSearch')),
                                       ([], (), ('Agent', 'Bash'))):
            home.write(home.budgets, 'expensive_tools: [%s]\n' % ', '.join(tools) + ACME % '10.00')
            for tool in refused + passed:
                with self.subTest(tools, tool=tool):
                    self.assertEqual(self.ask(home, tool=tool).refused, tool in refused)

    def test_sub_agents_are_gated_as_well(self):
        for tier, tool, refused in (('hard_stop', 'Agent', True), ('hard_stop', 'Bash', True), ('warn', 'Bash', False),
                                    ('hard_stop', 'StructuredOutput', False), ('hard_stop', 'SendMessage', False),
                                    ('halt', 'StructuredOutput', True), ('halt', 'Bash', True)):
            with self.subTest(tier, tool=tool):
                said = self.ask(self.home_at(tier), tool=tool, agent_id='a1', agent_type='general-purpose')
                self.assertEqual((said.refused, said.ended), (refused, tier == 'halt'))

    def test_a_list_without_what_starts_sub_agents_leaves_them_alone(self):
        home = self.home_at('hard_stop')
        for tools, refused in (('[WebSearch]', False), ('[Task]', True), ('["*"]', True)):
            home.write(home.budgets, 'expensive_tools: %s\n' % tools + ACME % '10.00')
            with self.subTest(tools):
                self.assertEqual(self.ask(home, tool='Bash', agent_id='a1').refused, refused)

    def test_other_arms_and_unlisted_folders_pass(self):
        home = self.home_at('halt')
        for n, cwd in enumerate(('clients/acme-web', 'clients', '.', '/')):
            with self.subTest(cwd):
                self.assertTrue(self.ask(home, cwd=cwd, session='s-%d' % n).silent)
        self.assertTrue(self.ask(home, cwd='clients/acme/deep/er').refused)

    def test_a_cap_that_is_raised_counts_at_once(self):
        home = self.home_at('halt')
        self.assertTrue(self.ask(home).refused)
        home.write(home.budgets, ACME % '100.00')
        self.assertTrue(self.ask(home).silent)

    def test_what_is_on_disk_counts_at_once(self):
        home = self.home_at('ok')
        self.assertTrue(self.ask(home, tool='Bash').silent)
        for n in range(2):
            home.append('.claude/projects/p/old.jsonl', [spent_line('more-%d' % n, 8000000, cwd=home.at('clients/acme'))])
        self.assertTrue(self.ask(home, tool='Bash').ended)

    def test_spend_of_a_repos_folders_is_its_arms(self):
        with Home('default:\n  total_usd_cap: 10.00\n') as home:
            home.repo('loose')
            home.repo('other')
            spend(home, 11000000, cwd='loose/src')
            self.assertTrue(self.ask(home, cwd='loose/docs').refused)
            self.assertTrue(self.ask(home, cwd='other', session='s-2').silent)

    def test_an_arm_that_only_warns_is_never_refused(self):
        for action in 'alert', 'warn':
            with self.subTest(action), Home(ACME % '1.00' + '    action_on_breach: %s\n' % action) as home:
                spend(home, 9000000)
                for event, tool in ('PreToolUse', 'Agent'), ('PreToolUse', 'Bash'), ('UserPromptSubmit', None):
                    said = self.ask(home, event, tool, session=event + str(tool))
                    self.assertFalse(said.refused)
                    self.assertIn('9.00', said.told)

    def test_never_is_never(self):
        with Home(ACME % '1.00' + '    halt_pct: never\n') as home:
            spend(home, 9000000)
            self.assertTrue(self.ask(home, tool='Agent').refused)
            self.assertFalse(self.ask(home, tool='Bash').refused)
            self.assertFalse(self.ask(home, 'UserPromptSubmit').refused)

    def test_what_an_answer_says_of_other_arms(self):
        with Home(ACME % '10.00' + '  - arm: rivalcorp\n    path: ~/clients/rivalcorp\n    total_usd_cap: 5\n') as home:
            spend(home, 11000000)
            spend(home, 6543210, cwd='clients/rivalcorp', session='theirs')
            result = self.ask(home).result
            text = result.out + result.err
            self.assertIn('acme', text)
            self.assertNotIn('rival', text)
            self.assertNotIn('6.54', text)


class TellingTest(HookCase):

    def test_once_for_each_session_and_tier(self):
        home = self.home_at('alert')
        asked = [self.ask(home, 'PreToolUse', 'Bash', session=session).told
                 for session in ('s-1', 's-1', 's-2', 's-1', 's-2')]
        self.assertEqual([bool(told) for told in asked], [True, False, True, False, False])
        self.assertEqual(asked[0], asked[2])
        self.assertIn('8.00', asked[0])
        self.assertEqual(self.ask(home, 'UserPromptSubmit', session='s-1').told, '')
        spend(home, 2000000, session='new')
        told = [self.ask(home, 'UserPromptSubmit', session='s-1').told, self.ask(home, 'PreToolUse', 'Bash', session='s-1').told]
        self.assertIn('10.00', told[0])
        self.assertEqual(told[1], '')

    def test_other_events_use_up_no_telling(self):
        home = self.home_at('alert')
        for event in 'PostToolUse', 'Stop', 'SessionStart', 'Unheard':
            self.assertTrue(self.ask(home, event).silent)
        self.assertTrue(self.ask(home, 'PreToolUse', 'Bash').told)

    def test_two_arms_in_one_session(self):
        with Home(ACME % '10.00' + '  - arm: beta\n    path: ~/clients/beta\n    total_usd_cap: 10.00\n') as home:
            spend(home, 8500000)
            spend(home, 8700000, cwd='clients/beta', session='b')
            self.assertNotIn('beta', self.ask(home, tool='Bash').told)
            self.assertIn('beta', self.ask(home, tool='Bash', cwd='clients/beta').told)
            self.assertTrue(self.ask(home, tool='Bash').silent)


class OddPayloadsTest(HookCase):

    def test_other_events_pass_in_silence(self):
        home = self.home_at('halt')
        for event in 'SessionStart', 'SessionEnd', 'Stop', 'SubagentStop', 'Notification', 'Unheard', 'pretooluse', '':
            with self.subTest(event):
                self.assertTrue(self.ask(home, event).silent)
        for event in 'PostToolUse', 'PostToolUseFailure', 'PermissionRequest', 'PermissionDenied', 'AfterTool', 'postToolUse':
            with self.subTest(event):
                self.assertTrue(self.ask(home, event, tool_name='Agent').silent)

    def test_a_tool_passes_under_no_odd_event(self):
        home, broken = self.home_at('hard_stop'), self.home_at('ok', own_scripts=True)
        os.unlink(os.path.join(broken.hooks, 'budget-check.py'))
        for event in 'Unheard', 'pretooluse', '', None, 7:
            for tool in 'Agent', 'Bash':
                with self.subTest(event, tool=tool):
                    given = payload(home, tool=tool)
                    given['hook_event_name'] = event
                    self.assertEqual(self.said(home.gate(given)).refused, tool == 'Agent')
                    self.assertEqual(self.said(broken.hook(given)).refused, tool == 'Agent')

    def test_a_tool_without_a_name(self):
        home = self.home_at('hard_stop')
        for more in {}, {'on_error': 'x'}:
            if more:
                home.write(home.budgets, 'budgets: [')
            for tool in '', None, 7:
                with self.subTest(more, tool=tool):
                    said = self.ask(home, tool=tool)
                    self.assertTrue(said.refused)
                    self.assertNotIn('  ', said.reason + said.told)
                    self.assertRegex(said.reason, 'so this (tool|call) is refused')

    def test_unknown_fields_change_nothing(self):
        home = self.home_at('hard_stop')
        odd = {'new_field': {'deep': [1, {'permissionDecision': 'allow'}]}, 'tool_response': None, 'continue': True,
               'effort': 7, 'prompt_id': [], 'agent_type': {}, 'permission_mode': None}
        self.assertTrue(self.ask(home, **odd).refused)
        self.assertFalse(self.ask(home, tool='Bash', **odd).refused)

    def test_fields_of_wrong_types_or_missing(self):
        home = self.home_at('hard_stop')
        for more in ({'tool_input': None}, {'tool_input': 'text'}, {'tool_input': []}, {'tool_use_id': 7}, {'tool_use_id': None},
                     {'session_id': None}, {'session_id': {}}, {'transcript_path': None}, {'transcript_path': []},
                     {'transcript_path': '\0'}, {'agent_id': 7}, {'agent_id': '../..'}):
            with self.subTest(more):
                self.assertTrue(self.ask(home, **more).refused)
                is_a_sub_agent = type(more.get('agent_id')) is str
                self.assertEqual(self.ask(home, tool='Bash', **more).refused, is_a_sub_agent)
        ok = self.home_at('ok')
        for n, more in enumerate(({'tool_input': None}, {'tool_use_id': None}, {'session_id': None}, {'transcript_path': None},
                                  {'transcript_path': ''}, {'agent_id': '\ud800'})):
            with self.subTest(more):
                self.assertTrue(self.ask(ok, **dict({'tool_use_id': 'toolu_%d' % n}, **more)).silent)

    def broken(self, home):
        whole = json.dumps(payload(home)).encode()
        return {'empty': b'', 'blank': b' \n', 'torn': whole[:-9], 'not JSON': b'tool: Agent', 'a list': b'[' + whole + b']',
                'a text': b'"Agent"', 'null': b'null', 'a number': b'1e999', 'not UTF-8': whole[:-1] + b',"x":"\xff"}',
                'UTF-16': whole.decode().encode('utf-16'), 'nested': b'{"hook_event_name":"PreToolUse","x":' + b'[' * 200000,
                'two': whole + whole, 'NUL': b'\0' * 100}

    def test_a_broken_one_is_refused_where_a_cap_is_set(self):
        for tier in 'ok', 'halt':
            home = self.home_at(tier)
            for name, text in self.broken(home).items():
                with self.subTest(name, tier=tier):
                    said = self.said(home.gate(text))
                    self.assertTrue(said.refused)
                    self.assertIn('armledger', said.reason)

    def test_a_broken_one_passes_where_errors_are_allowed(self):
        home = self.home_at('ok')
        home.write(home.budgets, 'on_error: allow\n' + ACME % '10.00')
        for name, text in self.broken(home).items():
            with self.subTest(name):
                said = self.said(home.gate(text))
                self.assertFalse(said.refused)
                self.assertIn('armledger', said.told)

    def test_a_broken_one_passes_where_nothing_is_armed(self):
        for budgets in None, '\n', 'budgets:\n', '# budgets:\n#   - arm: acme\n#     monthly_usd_cap: 1\n':
            with self.subTest(budgets), Home(budgets) as home:
                for text in self.broken(home).values():
                    self.assertTrue(self.said(home.gate(text)).silent)
                self.assertTrue(self.ask(home).silent)
                self.assertFalse(os.path.exists(home.state))

    def test_a_large_one(self):
        home = self.home_at('hard_stop')
        for tool in 'Agent', 'Write':
            with self.subTest(tool):
                said = self.said(home.hook(payload(home, tool=tool, tool_input={'content': 'ä' * (5 << 20)})))
                self.assertEqual(said.refused, tool == 'Agent')

    def test_deep_but_whole(self):
        home = self.home_at('ok')
        for depth in 100, 900, 100000:
            with self.subTest(depth=depth):
                text = json.dumps(payload(home, tool='Bash')).encode()[:-1] + b',"x":' + b'[' * depth + b']' * depth + b'}'
                said = self.said(home.gate(text))
                if depth < 500:
                    self.assertTrue(said.silent)

    def test_folders_that_are_no_folders(self):
        home = self.home_at('halt')
        for cwd in ('', '/x\0y', '\ud800', '/\udcff', 'x' * 100000, '/nowhere/at/all', '~', 'C:\\x', '/proc/self/mem'):
            for tool in 'Agent', 'Bash':
                with self.subTest(cwd[:20], tool=tool):
                    self.said(home.gate(dict(payload(home, tool=tool), cwd=cwd)))


@unittest.skipUnless(os.name == 'posix', 'no sh here')
class StreamsTest(HookCase):

    def shell(self, home, redirections, text=b''):
        command = 'exec "$0" "$@" ' + redirections
        with subprocess.Popen(['/bin/sh', '-c', command] + home.command('pretooluse-hook.py'), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home.environ(), cwd=home.root) as process:
            out, err = process.communicate(text, timeout=60)
        return process.returncode, out, err

    def test_stderr_is_closed(self):
        home = self.home_at('ok')
        self.assertEqual(self.shell(home, '2>&-', b'{')[:2], (2, b''))

    def test_all_are_closed(self):
        home = self.home_at('ok')
        self.assertEqual(self.shell(home, '<&- >&- 2>&-')[0], 2)


class ErrorTest(HookCase):
    """Unreadable files: expensive tools are refused, others pass with a message; where nothing is armed, all pass."""

    def decided(self, home, told, gate=None):
        gate = gate or home.gate
        expensive = self.said(gate(payload(home, tool='Agent')))
        self.assertTrue(expensive.refused)
        cheap = self.said(gate(payload(home, tool='Bash')))
        self.assertFalse(cheap.refused)
        prompt = self.said(gate(payload(home, 'UserPromptSubmit')))
        self.assertFalse(prompt.refused)
        for said in expensive, cheap, prompt:
            self.assertIn(told, said.told + said.reason)
        self.assertTrue(self.said(gate(payload(home, 'Stop'))).silent)

    def test_broken_budgets(self):
        home = self.home_at('ok')
        for text in ('budgets: [\n', 'on_error: allow\nbudgets:\n  - arm: acme\n    monthly_usd_cpa: 1\n', '\xff', 'arms:\n  acme: 1\n'):
            with self.subTest(text):
                home.write(home.budgets, text.encode('latin-1'))
                self.decided(home, home.budgets)

    def test_broken_prices(self):
        home = self.home_at('ok', own_scripts=True)
        for text in '{', '[]', '{"models": {}}':
            with self.subTest(text):
                prices = home.write(os.path.join(home.hooks, 'prices.json'), text)
                self.decided(home, prices)
        os.unlink(prices)
        self.decided(home, prices)
        home.write(home.budgets, 'on_error: allow\n' + ACME % '10.00')
        said = self.ask(home)
        self.assertFalse(said.refused)
        self.assertIn(prices, said.told)
        os.unlink(home.budgets)
        self.assertTrue(self.ask(home).silent)

    def test_unlisted_folders_pass_whatever_is_broken(self):
        home = self.home_at('ok')
        home.write('state/ledger.sqlite3', b'this is no ledger ' * 999)
        self.assertTrue(self.ask(home, cwd='elsewhere', session='s-9').silent)

    def test_without_budget_check(self):
        home = self.home_at('ok', own_scripts=True)
        os.unlink(os.path.join(home.hooks, 'budget-check.py'))
        self.assertTrue(self.said(home.hook(payload(home))).refused)
        cheap = self.said(home.hook(payload(home, tool='Bash')))
        self.assertFalse(cheap.refused)
        self.assertIn('armledger', cheap.told)
        self.assertTrue(self.said(home.hook(payload(home, 'Stop'))).silent)
        shutil.copy(os.path.join(os.path.dirname(os.path.dirname(DATA)), 'budgets.yaml'), home.hooks)
        self.assertTrue(self.said(home.hook(payload(home))).refused, 'the file beside the script sets no cap, ~/.claude does')
        os.unlink(home.budgets)
        self.assertTrue(self.said(home.hook(payload(home))).silent)


class ScriptTest(HookCase):

    def test_linked_into_another_folder(self):
        home = self.home_at('hard_stop')
        os.makedirs(home.at('links'))
        for name in 'pretooluse-hook.py', 'budget-check.py':
            os.symlink(os.path.join(home.hooks, name), home.at('links/' + name))
        home.hooks = home.at('links')
        self.assertTrue(self.said(home.hook(payload(home))).refused)

    def test_the_clients_environment_stays_outside(self):
        home = self.home_at('hard_stop')
        home.write('evil/json.py', 'raise SystemExit(0)\n')
        home.write('evil/sitecustomize.py', 'raise SystemExit(0)\n')
        said = self.said(home.hook(payload(home), PYTHONPATH=home.at('evil'), PYTHONSTARTUP=home.at('evil/json.py')))
        self.assertTrue(said.refused)

    def test_many_at_the_same_time(self):
        home = self.home_at('alert')
        given = [json.dumps(payload(home, tool='Bash', session='s-%d' % (n % 2), tool_use_id='toolu_%d' % n)).encode()
                 for n in range(6)]
        processes = [home.start('pretooluse-hook.py') for _ in given]
        for process, text in zip(processes, given):
            process.stdin.write(text)
            process.stdin.close()
        told = 0
        for process in processes:
            with process:
                out, err = process.stdout.read(), process.stderr.read()
            self.assertEqual((process.returncode, err), (0, b''))
            told += bool(out)
        self.assertEqual(told, 2, 'once for each session')

    def test_the_pending_response_is_waited_for(self):
        """The response that asks for a tool is written a moment later; where it may tip the scales, it counts."""
        # A hard stop at $0.1045, of which a sub-agent may cost a quarter, or as much as the only one that there was.
        for agent, spent in (None, 73000), ('a1', 94000):
            with self.subTest(agent=agent), Home(ACME % '0.095') as home:
                spend(home, spent)
                name = 's-1/subagents/workflows/w/agent-a1' if agent else 's-1'
                line = dict(cwd=home.at('clients/acme'), session='s-1', agent=agent)
                path = home.log(name, spent_line('first', 4000, **line))
                asking = call_line('asking', input=9000, content=[
                    {'type': 'tool_use', 'id': 'toolu_1', 'name': 'Agent', 'input': {}}], **line)
                written = []

                def write():
                    if not written:
                        written.append(home.append(path, [asking]))
                self.assertTrue(self.ask(home, agent_id=agent, on_sleep=write).refused)
                self.assertTrue(written)

    def test_the_pending_response_is_not_waited_for_in_vain(self):
        with Home(ACME % '10.00') as home:
            spend(home, 100000)
            self.assertTrue(self.ask(home, on_sleep=self.fail).silent)


if __name__ == '__main__':
    unittest.main()
