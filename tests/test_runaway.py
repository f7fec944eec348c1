"""A runaway against a cap, simulated through the real hook; and what keeps its overshoot small.

    python tests/test_runaway.py        shows the numbers of one run
"""
import io
import json
import os
import sqlite3
import sys
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from heapq import heappop, heappush
from unittest import mock

from support import SESSION, Home, load_script

USD = 10 ** 12
FLUSHED_S = 0.1                  # how late a response stands in the transcript
ANSWER_S = 0.03                  # a model's time for an answer, scaled down
READING_S = 0.2                  # and for one to a whole round of refusals
CAP, GRACE, HALT = 20.0, 22.0, 30.0
AT_ONCE, SUB_AGENT_CALLS, SUB_AGENT_CALL_USD = 8, 4, 0.5
BUDGETS = """\
budgets:
  - arm: acme
    path: ~/clients/acme
    monthly_usd_cap: 20.00
"""


class Runaway:
    """A main agent that spawns 8 sub-agents at once, again and again, and an agent that loops over Bash,
    both as sessions of one arm. They retry what is refused, and stop only when a turn is ended."""

    def __init__(self, home, seconds):
        self.home, self.until = home, time.monotonic() + seconds
        self.lock, self.due, self.calls, self.hooks = threading.Lock(), [], [], []
        self.on_disk, self.stopped, self.spawned, self.refused = 0.0, threading.Event(), 0, 0
        self.slots = threading.Semaphore(2 * (os.cpu_count() or 2))     # as many processes as help
        self.wrong = []

    def run(self):
        flusher = threading.Thread(target=self.flush)
        flusher.start()
        with ThreadPoolExecutor(2) as sessions:
            done = [sessions.submit(self.spawner, SESSION), sessions.submit(self.looper, '10000000' + SESSION[8:])]
        self.stopped.set()
        flusher.join()
        for one in done:
            one.result()

    # -- the API and the transcripts

    def call(self, session, usd, tools, agent=None):
        """A billed call that asks for tools; its line is written a little later."""
        with self.lock:
            number = len(self.calls)
            self.calls.append((time.monotonic(), usd, session))
        time.sleep(ANSWER_S)
        ids = ['toolu_%d_%d' % (number, n) for n in range(tools)]
        more = {'sessionId': session}
        path = os.path.join(os.path.dirname(self.home.transcript), session + '.jsonl')
        if agent:
            more.update(isSidechain=True, agentId=agent)
            path = path[:-6] + '/subagents/agent-%s.jsonl' % agent
        record = json.loads(self.home.call_line(usd, key='msg_run_%d' % number, **more))
        record['message']['content'] = [{'type': 'tool_use', 'id': one, 'name': 'x', 'input': {}} for one in ids]
        with self.lock:
            heappush(self.due, (time.monotonic() + FLUSHED_S, number, path, json.dumps(record) + '\n', usd))
        return ids

    def flush(self):
        while not self.stopped.is_set() or self.due:
            with self.lock:
                while self.due and self.due[0][0] <= time.monotonic():
                    _, _, path, line, usd = heappop(self.due)
                    self.home.write(path, line, 'a')
                    self.on_disk += usd
            time.sleep(0.005)

    def allowed(self, tool, session, tool_use_id, agent=None):
        """(may go on, is the turn over), as the hook says; what it says is compared with what is on disk."""
        with self.slots:
            with self.lock:
                before = self.on_disk
            answer = self.home.hook(tool, session_id=session, agent_id=agent, tool_use_id=tool_use_id,
                                    transcript_path=os.path.join(os.path.dirname(self.home.transcript), session + '.jsonl'))
            with self.lock:
                made = sum(usd for _, usd, _ in self.calls)
        self.hooks.append(answer)
        if answer.code not in (0, 2) or 'cannot tell' in answer.text:
            self.wrong.append('an error: %r' % answer)
        if before >= HALT and not answer.halted:
            self.wrong.append('$%.2f on disk and no halt: %r' % (before, answer))
        if before >= GRACE and tool == 'Agent' and not answer.refused:
            self.wrong.append('$%.2f on disk and a sub-agent allowed' % before)
        if answer.halted and made < HALT:
            self.wrong.append('a halt at $%.2f' % made)
        return not answer.refused, answer.halted

    # -- the agents

    def spawner(self, session):
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while time.monotonic() < self.until and not self.wrong:
                ids, refused = self.call(session, 0.1, AT_ONCE), self.refused
                rounds = [threads.submit(self.spawn, session, one) for one in ids]
                if any([one.result() for one in rounds]):
                    return
                if self.refused - refused == AT_ONCE:
                    time.sleep(READING_S)

    def spawn(self, session, tool_use_id):
        """Ask for a sub-agent and run it to its end; whether the turn is over."""
        go, over = self.allowed('Agent', session, tool_use_id)
        with self.lock:
            self.spawned += go
            self.refused += not go
        if go:
            for _ in range(SUB_AGENT_CALLS):
                bash, = self.call(session, SUB_AGENT_CALL_USD, 1, 'a' + tool_use_id)
                if self.allowed('Bash', session, bash, 'a' + tool_use_id)[1]:
                    break
        return over

    def looper(self, session):
        while time.monotonic() < self.until and not self.wrong:
            bash, = self.call(session, 0.3, 1)
            if self.allowed('Bash', session, bash)[1]:
                return


class RunawayTest(unittest.TestCase):
    def simulate(self, **environ):
        home = Home(self, BUDGETS, **environ)
        began = time.monotonic()
        run = Runaway(home, 60)                # it stops by itself; slow machines take longer
        run.run()
        total = sum(usd for _, usd, _ in run.calls)
        numbers = {
            'cap_usd': CAP, 'grace_usd': GRACE, 'halt_usd': HALT, 'spent_usd': round(total, 2), 'calls': len(run.calls),
            'sub_agents': run.spawned, 'sub_agents_refused': run.refused, 'hooks': len(run.hooks),
            'slowest_hook_s': round(max(answer.seconds for answer in run.hooks), 2),
            'seconds': round(time.monotonic() - began, 1)}
        return home, run, numbers

    def test_runaway(self):
        home, run, numbers = self.simulate()
        self.assertEqual([], run.wrong, numbers)
        one_round = AT_ONCE * SUB_AGENT_CALLS * SUB_AGENT_CALL_USD
        self.assertLess(numbers['spent_usd'], GRACE + one_round, numbers)
        # Reservations do better than that: sub-agents alone never pass the grace cap.
        self.assertLessEqual(numbers['sub_agents'] * 2.0, GRACE, numbers)
        self.assertGreaterEqual(numbers['sub_agents'], AT_ONCE, numbers)
        # The loop of Bash ends it at the halt: each agent's last call is the one that it heard of the halt after.
        self.assertGreaterEqual(numbers['spent_usd'], HALT, numbers)
        self.assertLess(numbers['spent_usd'], HALT + 2 * 0.3 + SUB_AGENT_CALL_USD * AT_ONCE, numbers)
        self.assertLess(numbers['slowest_hook_s'], 8, numbers)
        self.no_call_after_halt(home, numbers)

    def no_call_after_halt(self, home, numbers):
        """Every tool, every prompt, in old sessions and new ones, of agents and sub-agents."""
        for session in (SESSION, 'ffffffff' + SESSION[8:]):
            prompt = home.hook(tool=None, hook_event_name='UserPromptSubmit', prompt='go on', session_id=session)
            self.assertTrue(prompt.refused, prompt)
            self.assertIn('budgets.yaml', prompt.text)
            for tool in ('Agent', 'Bash', 'Read', 'mcp__x__y'):
                for agent in (None, 'a1'):
                    answer = home.hook(tool, session_id=session, agent_id=agent)
                    self.assertTrue(answer.refused and answer.halted, answer)
        prompt = home.hook(tool=None, hook_event_name='UserPromptSubmit', turn_id='t')
        self.assertEqual((2, ''), (prompt.code, prompt.out), prompt)
        answer = home.hook('Bash', turn_id='t')
        self.assertTrue(answer.refused)
        self.assertNotIn('continue', answer.json)
        self.assertNotIn('stopReason', answer.json)
        done = home.run('budget-check.py', '--json')
        self.assertEqual(2, done.returncode, done)
        self.assertEqual(numbers['spent_usd'], round(json.loads(done.stdout)['arms'][0]['spent_usd'], 6))


class Gate(unittest.TestCase):
    """In this process, with a clock and a transcript of our own."""

    def setUp(self):
        self.home = Home(self, BUDGETS)
        self.gate = load_script('budget-check.py')
        self.environ = {name: value for name, value in self.home.environ.items()}
        self.folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

    def ask(self, tool='Agent', **more):
        code, out, err = self.gate.gate(self.home.payload(tool, **more), self.environ, self.folder)
        self.assertNotIn('cannot tell', out + err)
        return 'deny' in out or code == 2

    def check(self, *arguments):
        with mock.patch.dict(os.environ, self.environ, clear=True), redirect_stdout(io.TextIOWrapper(io.BytesIO())) as out:
            self.gate.main(['--json', *arguments])
        return json.loads(out.buffer.getvalue())['arms'][0]

    def reserved(self):
        return self.check().get('reserved_usd', 0)

    def age(self, seconds):
        """Make every reservation older."""
        db = sqlite3.connect(self.home.ledger)
        db.execute('update running set ts = ts - ?', (int(seconds * 1000),))
        db.commit()
        db.close()


class Reservations(Gate):
    def spawn(self, n, **more):
        return self.ask('Agent', tool_use_id='toolu_%d' % n, **more)

    def test_default_before_history(self):
        self.home.add_calls(0.1)
        self.spawn(1)
        self.assertEqual(1.0, self.reserved())

    def test_other_tools_by_the_dearest_call(self):
        self.ask('WebSearch')
        self.assertEqual(0.25, self.reserved())
        self.home.add_calls(0.4)
        self.ask('WebFetch', tool_use_id='toolu_2')
        self.assertIn(self.reserved(), (0.4, 0.65))        # the first one's agent has called again since, or has not

    def test_by_the_dearest_of_the_last_sub_agents(self):
        for n, usd in enumerate((0.5, 3.0, 1.0)):
            for part in (1, 2):
                self.home.add_calls(usd / 2, path=self.home.transcript[:-6] + '/subagents/agent-a%d.jsonl' % n, isSidechain=True,
                                    agentId='a%d' % n, ts=time.time() - 3600)
        self.spawn(1)
        self.assertEqual(3.0, self.reserved())

    def test_shown_apart(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        arm = self.check()
        self.assertEqual((1.0, 1.0), (arm['spent_usd'], arm['reserved_usd']))
        text = self.home.run('budget-check.py').stdout.decode()
        self.assertRegex(text, r'acme +ok +1\.00 ')
        self.assertRegex(text, r'acme: \$1\.00\d* is set aside for tools that are running')

    def test_one_head_room_for_many(self):
        """$19.50 of the grace cap's $22, and each sub-agent may cost $1: two fit, however many ask at once."""
        self.home.add_calls(19.5)
        self.home.hook('Bash')
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: self.home.hook('Agent', tool_use_id='toolu_%d' % n), range(8)))
        self.assertEqual(6, sum(answer.refused for answer in answers), answers)
        self.assertEqual(2.0, self.reserved())
        refusal = next(answer for answer in answers if answer.refused)
        for fragment in ('acme', '$19.50', '$2.00 set aside', '$1.00 that this sub-agent may cost', '$22.00', '$20.00 x 110 %', 'this month', 'monthly_usd_cap', 'budgets.yaml'):
            self.assertIn(fragment, refusal.text)
        self.assertFalse(self.home.hook('Bash').refused)

    def test_asked_twice_is_reserved_once(self):
        """A hook that stands in two settings files runs twice for one tool."""
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        self.spawn(1)
        self.assertEqual(1.0, self.reserved())

    def test_refused_is_not_reserved(self):
        self.home.add_calls(23)
        self.assertTrue(self.spawn(1))
        self.assertEqual(0, self.reserved())

    def test_warn_only_reserves_nothing(self):
        self.home.write(self.home.budgets, BUDGETS + '    action_on_breach: warn\n')
        self.home.add_calls(23)
        self.assertFalse(self.spawn(1))
        self.assertEqual(0, self.reserved())

    def test_taken_back_as_its_cost_shows(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        side = dict(path=self.home.transcript[:-6] + '/subagents/agent-a1.jsonl', isSidechain=True, agentId='a1')
        self.age(2)
        self.home.add_calls(0.6, **side)
        self.assertAlmostEqual(0.4, self.reserved())
        self.home.add_calls(0.6, **side)
        self.assertEqual(0, self.reserved())

    def test_a_running_one_may_cost_as_much_as_the_dearest_has_by_now(self):
        """Two were allowed when $1 each was all that was known; then one of them shows $3."""
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        self.spawn(2)
        self.assertEqual(2.0, self.reserved())
        self.age(2)
        self.home.add_calls(3, path=self.home.transcript[:-6] + '/subagents/agent-a1.jsonl', isSidechain=True, agentId='a1')
        self.assertEqual(3.0, self.reserved())

    def test_taken_back_when_the_tool_is_done(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        self.age(2)
        self.home.add_calls(0.1)
        self.assertEqual(0, self.reserved())

    def test_done_counts_at_once(self):
        """A reservation whose tool is done refuses nothing any more."""
        self.home.add_calls(20.5, ts=time.time() - 10)
        self.assertFalse(self.spawn(1))
        self.assertTrue(self.spawn(2))
        self.age(2)
        self.home.add_calls(0.01)
        self.assertFalse(self.spawn(3))

    def test_another_agents_call_takes_nothing_back(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        self.age(2)
        self.home.add_calls(0.1, path=self.home.transcript.replace('5e00', '6e00'), sessionId='other')
        self.assertEqual(1.0, self.reserved())

    def test_in_the_background_it_lasts(self):
        """The main agent goes on while a background sub-agent runs."""
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1, tool_input={'run_in_background': True})
        self.age(2)
        self.home.add_calls(0.1)
        self.assertEqual(1.0, self.reserved())

    def test_taken_back_when_the_session_ends(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1, tool_input={'run_in_background': True})
        self.age(2)
        self.home.add_calls(0.001)
        self.home.write(self.home.transcript, json.dumps({'type': 'cost-state', 'sessionId': SESSION, 'modelUsage': {
            'claude-opus-5-5': {'inputTokens': 0, 'outputTokens': 50050}}}) + '\n', 'a')
        self.assertEqual(0, self.reserved())

    def test_taken_back_after_30_minutes(self):
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1, tool_input={'run_in_background': True})
        self.age(29 * 60)
        self.assertEqual(1.0, self.reserved())
        self.age(61)
        self.assertEqual(0, self.reserved())

    def test_at_the_arms_rate(self):
        self.home.write(self.home.budgets, BUDGETS + '    rate_pct: 50\n')
        self.home.add_calls(1, ts=time.time() - 10)
        self.spawn(1)
        arm = self.check()
        self.assertEqual((0.5, 0.5), (arm['spent_usd'], arm['reserved_usd']))


class PendingResponse(Gate):
    """How often the transcript is looked at, counted by a clock that goes on only when the gate sleeps."""

    def setUp(self):
        Gate.setUp(self)
        self.slept, self.on_sleep = [], lambda: None

        class Clock:
            """The time module, but for the wait."""
            def __getattr__(_, name):
                return getattr(time, name)

            def sleep(_, seconds):
                self.slept.append(seconds)
                self.on_sleep()

            def monotonic(_):
                return time.monotonic() + sum(self.slept)
        self.gate.time, held = Clock(), self.gate.time
        self.addCleanup(setattr, self.gate, 'time', held)

    def near(self, usd=21.0):
        """An arm whose dearest call of late is $2, at `usd` of the grace cap's $22."""
        self.home.add_calls(2, usd - 2 - int(usd - 2), *[1] * int(usd - 2))

    def test_away_from_the_cap_it_never_waits(self):
        self.near(15)
        for tool in ('Agent', 'Bash', 'WebSearch'):
            self.assertFalse(self.ask(tool, tool_use_id='toolu_pending'))
        self.assertEqual([], self.slept)

    def test_a_new_arm_does_not_wait(self):
        self.assertFalse(self.ask(tool_use_id='toolu_pending'))
        self.assertEqual([], self.slept)

    def test_near_the_cap_it_waits_for_250_ms_at_most(self):
        self.near()
        self.assertFalse(self.ask(tool_use_id='toolu_pending'))
        self.assertTrue(self.slept)
        self.assertLess(sum(self.slept), 0.28)
        self.assertGreater(sum(self.slept), 0.2)

    def test_the_line_that_comes_is_counted(self):
        self.near()

        def flush():
            if sum(self.slept) > 0.09 and self.on_sleep:
                self.on_sleep = lambda: None
                self.home.add_calls(1.5, key='pending')
        self.on_sleep = flush
        self.assertTrue(self.ask(tool_use_id='toolu_pending'))
        self.assertLess(sum(self.slept), 0.15)

    def test_a_line_that_is_there_is_not_waited_for(self):
        self.near()
        self.home.add_calls(0.1, key='pending')
        self.ask(tool_use_id='toolu_pending')
        self.assertEqual([], self.slept)

    def test_a_sub_agents_line_stands_in_its_own_file(self):
        self.near()
        side = self.home.transcript[:-6] + '/subagents/workflow/agent-a1.jsonl'
        self.home.add_calls(0.1, key='pending', path=side, isSidechain=True, agentId='a1')
        self.ask(agent_id='a1', tool_use_id='toolu_pending')
        self.assertEqual([], self.slept)
        self.ask(agent_id='a2', tool_use_id='toolu_other')       # its file isn't there yet
        self.assertLess(sum(self.slept), 0.28)

    def test_cheap_tools_wait_near_the_halt_only(self):
        self.near(21)
        self.ask('Bash', tool_use_id='toolu_pending')
        self.assertEqual([], self.slept)
        self.home.add_calls(*[1] * 8)                            # $29 of the halt's $30
        self.assertFalse(self.ask('Bash', tool_use_id='toolu_pending'))
        self.assertTrue(self.slept)

    def test_past_the_stop_it_does_not_wait(self):
        self.near(23)
        self.assertTrue(self.ask(tool_use_id='toolu_pending'))
        self.assertEqual([], self.slept)

    def test_a_cap_that_only_warns_is_not_waited_for(self):
        self.home.write(self.home.budgets, BUDGETS + '    action_on_breach: warn\n')
        self.near()
        self.ask(tool_use_id='toolu_pending')
        self.assertEqual([], self.slept)

    def test_no_id_no_wait(self):
        self.near()
        self.ask(tool_use_id=None)
        self.ask(transcript_path=None, session_id=None)
        self.assertEqual([], self.slept)


if __name__ == '__main__':
    if sys.argv[1:]:
        unittest.main()
    test = RunawayTest()
    print(json.dumps(test.simulate()[2], indent=1))
    test.doCleanups()
