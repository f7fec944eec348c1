"""Faults: readers that are killed, and many gates at once on one ledger while logs grow.

ARMLEDGER_FAULT_ROUNDS: how often a reader is killed (default 20 with and 20 without SQLite's WAL).
ARMLEDGER_GATES_SECONDS: how long 32 gates run at once (default 1.2, in each of the two modes).
"""
import json
import os
import random
import signal
import sqlite3
import threading
import time
import unittest
from unittest import mock

from support import SESSION, Home, load_script

ROUNDS = int(os.environ.get('ARMLEDGER_FAULT_ROUNDS', '20'))
SECONDS = float(os.environ.get('ARMLEDGER_GATES_SECONDS', '1.2'))
SEED = int(os.environ.get('ARMLEDGER_SEED', '4'))
GATES = 32
TIME_OUT = 8.0                   # seconds: inside of the hook's 10
FIGURES = '''
    select key, case when key is not null then request end, sessions.name, calls.agent, kind, here.cwd, there.cwd, calls.ts,
        models.name, variant, input, output, write_short, write_long, read, searches, usd, assumed, owned, told
        from calls join sessions on sessions.id = session join models on models.id = model join pairs on pairs.id = calls.pair
        join places here on here.id = place join places there on there.id = pairs.origin;
    select agent, name, began, origin_ts, cwd, sessions.root, version, tool_ts from sessions
        join places on places.id = origin;
    select sessions.name, agents.name, type, tool_use_id, finished, foreground, agents.ts, cwd from agents
        join sessions on sessions.id = session join pairs on pairs.id = agents.pair join places on places.id = place;
    select name, ts, cwd, start, is_split, ended, totals from marks join sessions on sessions.id = session
        join places on places.id = place'''

def figures(path):
    db = sqlite3.connect(path)
    try:
        return [sorted(db.execute(statement).fetchall(), key=repr) for statement in FIGURES.split(';')]
    finally:
        db.close()


class Growth:
    """Log files that grow: calls on several lines, copies in forks, sub-agents, totals, torn and broken lines."""

    def __init__(self, home, seed):
        self.home, self.random, self.torn = home, random.Random(seed), {}
        self.folder = os.path.dirname(home.transcript)
        self.lines, self.age = [], 10 ** 9

    def grow(self, files):
        for _ in range(files):
            number = self.random.randrange(40)
            session = '%08x' % (number % 12) + SESSION[8:]
            path, more = os.path.join(self.folder, session + '.jsonl'), {}
            if number >= 24:
                path, more = path[:-6] + '/subagents/agent-a%d.jsonl' % number, dict(isSidechain=True, agentId='a%d' % number)
            text = self.torn.pop(path, '') + ('' if os.path.exists(path) else self.new_line(session, more))
            text += ''.join(self.line(session, more) for _ in range(self.random.randint(1, 12)))
            if self.random.random() < 0.3:
                cut = self.random.randrange(len(text))
                text, self.torn[path] = text[:cut], text[cut:]
            self.home.write(path, text, 'a')
        # Folders that have been quiet for long: a reader may trust their times.
        self.age += 10
        for folder, _, _ in os.walk(self.home.join('.claude')):
            os.utime(folder, (self.age, self.age))

    def line(self, session, more):
        kind = self.random.random()
        if kind < 0.05:
            return '{"type":"assistant","message":{"usage":{"output_tokens":"x"\n'
        if kind < 0.2 and self.lines:
            return self.random.choice(self.lines)          # a copy, as forks and resumes make them
        if kind < 0.25 and not more:
            return json.dumps({'type': 'cost-state', 'sessionId': session, 'startTime': 5, 'modelUsage': {
                'claude-opus-5-5': {'inputTokens': 10 ** 5, 'outputTokens': 10 ** 5 * self.random.randint(1, 9)}}}) + '\n'
        line = self.new_line(session, more)
        if self.random.random() < 0.2:                     # an early line of the same call
            line = line.replace('"output_tokens":', '"output_tokens":0,"was":') + line
        return line

    def new_line(self, session, more):
        line = self.home.call_line(self.random.randint(1, 50) / 100, ts=1.79e9 + self.random.randint(0, 10 ** 6),
                                   sessionId=session, **more)
        self.lines.append(line)
        return line


@unittest.skipUnless(hasattr(os, 'fork'), 'no fork')
class Killed(unittest.TestCase):
    def setUp(self):
        self.gate = load_script('budget-check.py')
        self.prices = self.gate.load_prices(os.path.join(os.path.dirname(self.gate.__file__), 'prices.json'))

    def read(self, home, path, pace=0.5):
        ledger = self.gate.Ledger(path, home.path)
        with mock.patch.object(self.gate, 'COMMIT_S', pace):
            ledger.refresh(self.prices, home.environ, int(time.time() * 1000))
        ledger.close()

    def killed(self, work, seconds):
        """Run `work` in a child and kill it after a while; its exit code, None if it was killed."""
        child = os.fork()
        if not child:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def same_as_a_fresh_read(self, home, path):
        self.read(home, path)
        fresh = home.join('fresh.sqlite3')
        self.read(home, fresh)
        for ours, theirs in zip(figures(path), figures(fresh)):
            self.assertEqual(sorted(set(theirs) - set(ours))[:5], sorted(set(ours) - set(theirs))[:5])
        db = sqlite3.connect(path)
        self.assertEqual([('ok',)], db.execute('pragma integrity_check').fetchall())
        db.close()
        for name in os.listdir(home.path):
            if name.startswith('fresh.sqlite3'):
                os.remove(home.join(name))

    def kill_often(self, rounds, seed):
        home, rng = Home(self), random.Random(seed)
        growth, path, took, kills = Growth(home, seed), home.ledger, 0.02, 0
        os.makedirs(os.path.dirname(path))
        growth.grow(40)
        for n in range(rounds):
            growth.grow(rng.randint(1, 10))
            if n % 10 == 3:                                # killed while the ledger is made
                for name in os.listdir(os.path.dirname(path)):
                    os.remove(os.path.join(os.path.dirname(path), name))
            rebuild = n % 10 == 7

            def work():
                if rebuild:
                    self.gate.rebuild_ledger(path, home.path, self.prices, home.environ, int(time.time() * 1000), None)
                else:
                    self.read(home, path, pace=0.001)
            code = self.killed(work, rng.uniform(0, took))
            self.assertIn(code, (0, None), 'a reader failed in round %d of seed %d' % (n, seed))
            kills += code is None
            took = min(0.5, took * 1.3) if code is None else max(0.003, took * 0.8)     # about as many as not get through
            if n % 10 in (3, 7) or n == rounds - 1:
                self.same_as_a_fresh_read(home, path)
        self.assertGreater(kills, rounds // 5)
        return kills

    def test_out_of_time(self):
        """A first read that takes longer than there is time for goes on with the next call."""
        home = Home(self)
        for n in range(10):
            home.add_calls(1, path=home.transcript.replace('ac3e', '%04d' % n))
        Growth(home, SEED).grow(0)
        counts = [0]
        while counts[-1] < 10:
            ledger = self.gate.Ledger(home.ledger, home.path)
            ledger.limit = 0
            try:
                ledger.refresh(self.prices, home.environ, int(time.time() * 1000))
            except self.gate.NotYet as error:
                self.assertIn('the ledger is being built', str(error))
                self.assertIn('the next call goes on', str(error))
            counts.append(ledger.one('select count(*) from calls')[0])
            ledger.close()
            self.assertGreater(counts[-1], counts[-2], 'no call gets any further')
        self.assertGreater(len(counts), 5, 'all was read although the time was up')
        self.same_as_a_fresh_read(home, home.ledger)

    def test_a_process_that_has_ended_is_not_killed(self):
        """Its number may be another's by then."""
        home = Home(self)
        home.add_calls(1.0)
        folder, name = os.path.split(home.transcript)
        job = folder, os.sep + name, 'claude-code', 0, 0, 0, 0, '{}'
        ended, wait, end = [], os.waitpid, os.kill

        def wait_for_end(child, _):
            ended.append(child)
            return wait(child, 0)

        def kill(child, number):
            self.assertNotIn(child, ended)
            end(child, number)
        with mock.patch.object(os, 'waitpid', wait_for_end), mock.patch.object(os, 'kill', kill):
            results = self.gate.read_apart([job, job], self.prices, 0)
            self.assertEqual(len(self.gate.Result(*next(results)).calls), 1)
            self.assertEqual(len(ended), 1)
            results.close()
        self.assertEqual(len(ended), 2)

    def test_kill_at_any_moment(self):
        self.kill_often(ROUNDS, SEED)

    def test_kill_at_any_moment_without_wal(self):
        with mock.patch.dict(os.environ, ARMLEDGER_NO_WAL='1'):
            self.kill_often(ROUNDS, SEED + 1)


class Crowd(unittest.TestCase):
    """32 gates at once, as processes, while the arm's logs grow from under its cap to beyond its halt."""

    def crowd(self, **environ):
        self.home = Home(self, 'budgets:\n  - arm: acme\n    path: ~/clients/acme\n    monthly_usd_cap: 20.00\n', **environ)
        self.until, self.lock, self.written = time.monotonic() + SECONDS, threading.Lock(), 0.0
        self.starting, self.answers, self.wrong = 0.0, [], []
        threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(GATES)] + [threading.Thread(target=self.spend)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], self.wrong[:3], len(self.wrong))
        self.assertGreaterEqual(len(self.answers), GATES)
        done = self.home.run('budget-check.py', '--json')
        self.assertEqual(2, done.returncode, done)
        self.assertEqual(round(self.written, 6), json.loads(done.stdout)['arms'][0]['spent_usd'])

    def spend(self):
        """$36 over the whole time: hard stop at $22, halt at $30; a line comes in two parts."""
        step = 36.0 / 120
        for n in range(120):
            line, path = self.home.call_line(step), self.home.transcript
            if n % 3:
                path = path[:-6] + '/subagents/agent-a%d.jsonl' % (n % 7)
            self.home.write(path, line[:100], 'a')
            with self.lock:
                self.starting += step
            self.home.write(path, line[100:], 'a')
            with self.lock:
                self.written += step
            time.sleep(max(0, SECONDS * 0.9 / 120 - 0.001))

    def ask(self, number):
        tool = 'Agent' if number % 4 == 0 else 'Bash'
        done = 0
        while time.monotonic() < self.until or not done:
            done += 1
            with self.lock:
                least = self.written
            answer = self.home.hook(tool, tool_use_id='toolu_%d_%d' % (number, len(self.answers)),
                                    session_id='%08x' % number + SESSION[8:], options={'timeout': 60})
            with self.lock:
                most = self.starting
            problem = self.problem(answer, tool, least + 1e-6, most + 1e-6)
            if problem:
                self.wrong.append('%s at $%.2f to $%.2f: %r' % (problem, least, most, answer))
            self.answers.append(answer)

    def problem(self, answer, tool, least, most):
        if answer.code not in (0, 2) or 'cannot tell' in answer.text or answer.err:
            return 'an error'
        if answer.seconds > TIME_OUT:
            return 'too late'
        if least >= 30 and not answer.halted:
            return 'no halt'
        if least >= 22 and tool == 'Agent' and not answer.refused:
            return 'no hard stop'
        if answer.halted and most < 30:
            return 'a halt too early'
        if answer.refused and tool == 'Bash' and most < 30:
            return 'a cheap tool refused'

    def test_32_gates(self):
        self.crowd()

    def test_32_gates_without_wal(self):
        self.crowd(ARMLEDGER_NO_WAL='1')


if __name__ == '__main__':
    unittest.main()
