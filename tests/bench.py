#!/usr/bin/env python3
"""Measure the gate, the first read and the report on generated logs.

    python tests/bench.py                      # 1 GB in 5,000 files, and the other layouts: about ten minutes
    python tests/bench.py --quick              # a twentieth of it: a minute
    python tests/bench.py --rows silent,first  # some rows only
    python tests/bench.py --large              # also 2,000,000 calls in 50,000 files of 300 clients

Transcripts of Claude Code are written from a seed, so that what they cost is known by arithmetic before anything reads
them. A row is a ratio: the median time of one of our scripts over the median time of its floor (the least that any such
script needs), the two taking turns in the same run. Every figure that the scripts report is compared with the truth.

Exit code: 0, 1 when a figure is wrong (or a goal is missed, with --strict), 2 for bad usage.
"""
import argparse
import calendar
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from decimal import Decimal

PICO = 10**12                    # money is whole pico-dollars: a price per million tokens is exact per token
DAY_MS = 86_400_000
SCRIPTS = 'budget-check.py', 'pretooluse-hook.py', 'cost-report.py', 'prices.json'

# USD per million tokens: input, output, 5 min write, 1 h write, read; as the vendor lists them. They are written down
# again here so that the truth owes nothing to prices.json.
LIST_PRICES = {
    'claude-opus-5-5': ('4', '20', '5', '8', '0.2'),
    'claude-opus-5': ('5', '25', '6.25', '10', '0.5'),
    'claude-sonnet-5-5': ('2', '10', '2.5', '4', '0.1'),          # since 2026-10-07
    'claude-fable-5-1': ('10', '50', '12.5', '20', '0.25'),
    'claude-haiku-5-5': ('0.1', '0.5', '0.125', '0.2', '0.01'),   # to 100,000 tokens of input, which no call here reaches
}
SEARCH_PICO = PICO // 100        # each
UNIT_PRICES = {model: [int(Decimal(usd) * 10**6) for usd in prices] for model, prices in LIST_PRICES.items()}
MAIN_MODELS = ('claude-opus-5-5',) * 6 + ('claude-sonnet-5-5',) * 2 + ('claude-opus-5', 'claude-fable-5-1')
AGENT_MODELS = 'claude-sonnet-5-5', 'claude-sonnet-5-5', 'claude-haiku-5-5', 'claude-opus-5-5'
UNDATED_MODELS = 'claude-opus-5-5', 'claude-opus-5', 'claude-fable-5-1'     # one price all year
HELPER_MODEL = 'claude-haiku-5-5'    # writes the titles, which stand in no transcript


# ---------------------------------------------------------------- the truth

FIGURES = ('calls', 'input_tokens', 'output_tokens', 'cache_write_tokens', 'cache_read_tokens', 'web_searches', 'usd',
           'untranscribed_usd')


class Truth:
    """What logs cost: calls and tokens by arm, day, model and whether a transcript has them."""

    def __init__(self):
        self.sums, self.times = {}, 1          # token prices are `times` the list's

    def add(self, arm, ts_ms, model, tokens, transcribed=True):
        sums = self.sums.setdefault((arm, format_time(ts_ms)[:10], model, transcribed), [0] * 7)
        sums[0] += transcribed
        for place, count in enumerate(tokens, 1):
            sums[place] += count

    def table(self, keys, since=''):
        """{values of `keys` (arm, day, model): what a report's row must say}, from a day on."""
        rows = {}
        for (arm, day, model, transcribed), sums in self.sums.items():
            if day < since:
                continue
            key = tuple({'arm': arm, 'day': day, 'model': model}[name] for name in keys)
            calls, fresh, output, short, long, read, searches = sums
            usd = Decimal(price_pico(model, sums[1:], self.times)) / PICO
            figures = calls, fresh, output, short + long, read, searches, usd, Decimal(0) if transcribed else usd
            before = rows.get(key, dict.fromkeys(FIGURES, 0))
            rows[key] = {name: before[name] + figure for name, figure in zip(FIGURES, figures)}
        return rows

    def usd(self, arm, since=''):
        return self.table(['arm'], since).get((arm,), {'usd': Decimal(0)})['usd']


def price_pico(model, tokens, times=1):
    return sum(count * unit * times for count, unit in zip(tokens, UNIT_PRICES[model])) + tokens[5] * SEARCH_PICO


def format_time(ts_ms):
    return '%s.%03dZ' % (time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ts_ms // 1000)), ts_ms % 1000)


def parse_time(text):
    return calendar.timegm(time.strptime(text[:19], '%Y-%m-%dT%H:%M:%S')) * 1000


# ---------------------------------------------------------------- the lines of a transcript

TAIL = b'"userType":"external","cwd":%b,"sessionId":"%b","version":"2.1.330","gitBranch":"main"}\n'
USER = (b'{"parentUuid":"%b","isSidechain":%b,"type":"user","message":{"role":"user","content":"%b"},"uuid":"%b",'
        b'"timestamp":"%b","permissionMode":"default",%b')
# A tool's result, three times over as the client writes it; it can hold what looks like a usage.
RESULT = (b'{"parentUuid":"%b","isSidechain":%b,"type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_%b",'
          b'"type":"tool_result","content":"%b"}]},"uuid":"%b","timestamp":"%b","toolUseResult":{"stdout":"%b","usage":{"input_tokens":11}},%b')
BLOB = b'{"type":"api-request-blob","sessionId":"%b","message":{"role":"user","content":"%b"}}\n'
REQUEST = b'{"type":"api-request","sessionId":"%b","timestamp":"%b","params":{"model":"%b","max_tokens":128000},"tail":["%0512x"]}\n'
ASSISTANT = (b'{"parentUuid":"%b","isSidechain":%b,"message":{"id":"msg_%b","type":"message","role":"assistant","model":"%b",'
             b'"content":[%b],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":%d,'
             b'"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":%d,'
             b'"server_tool_use":{"web_search_requests":%d,"web_fetch_requests":0},"service_tier":"standard","cache_creation":'
             b'{"ephemeral_1h_input_tokens":%d,"ephemeral_5m_input_tokens":%d},"inference_geo":"not_available","iterations":[],'
             b'"speed":"standard"}},"apiBlockIndex":%d,"requestId":"req_%b","requestedModel":"%b","type":"assistant","uuid":"%b",'
             b'"timestamp":"%b",%b')
SAID = b'{"type":"text","text":"%b"}'
TOOL = b'{"type":"tool_use","id":"toolu_%b","name":"Bash","input":{"command":"%b","usage":{"input_tokens":7},"model":"none"}}'
WORDS = 'def return self import for in if else value result path lines → naïve model cwd null None true 0x7f 42'.split()
TRAP = '\\"type\\":\\"assistant\\",\\"usage\\":{\\"output_tokens\\":9}'     # a transcript that a tool has printed
LONGEST_TEXT = 60_000


class Source:
    """Where logs draw their randomness, their serial numbers and their texts from."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.random, self.salt, self.count = self.rng.random, self.rng.getrandbits(48), 0
        self._pool = b''.join(self._line(number) for number in range(4096))

    def _line(self, number):
        """64 bytes of text as tool results hold it, ready to stand in a JSON string."""
        words = TRAP if number % 512 == 0 else ' '.join(self.rng.choices(WORDS, k=20))
        return words.encode()[:62].decode('utf-8', 'ignore').encode().ljust(62) + b'\\n'

    def text(self, size):
        pieces = min(max(int(size) >> 6, 1), 2048)
        start = int(self.random() * (4096 - pieces)) << 6
        return self._pool[start:start + (pieces << 6)]

    def serial(self):
        self.count += 1
        return self.count

    def uuid(self):
        return b'%08x-4b1d-4c7e-8a9b-%012x' % (self.serial(), self.salt)

    def draw_call(self, models):
        model = models[int(self.random() * len(models))]
        reach = 70_000 if model == HELPER_MODEL else 160_000
        searches = 1 + int(self.random() * 3) if self.random() < 0.01 else 0
        return model, (2 + int(self.random() * 60), 30 + int(self.random()**3 * 6000), int(self.random() * 900),
                       int(self.random()**2 * 9000), 9000 + int(self.random() * reach), searches)


class Transcript:
    """The lines of one file, the clock that stamps them, and what its session has used."""

    def __init__(self, source, session, cwd, start_ms, step_ms, agent=''):
        self.source, self.session, self.agent, self.lines, self.size, self.calls = source, session, agent, [], 0, 0
        self.start_ms = self.ts_ms = start_ms
        self._step_ms, self._leaf = step_ms, source.uuid()
        self._side = b'true,"agentId":"%b"' % agent.encode() if agent else b'false'
        self._tail = TAIL % (json.dumps(cwd).encode(), session.encode())

    def write(self, line):
        self.lines.append(line)
        self.size += len(line)

    def _stamp(self, ahead_ms=0):
        return format_time(self.ts_ms + ahead_ms).encode()

    def _follow(self):
        """Ids of the line before and of the next one."""
        above, self._leaf = self._leaf, self.source.uuid()
        return above, self._leaf

    def prompt(self):
        above, uuid = self._follow()
        self.write(USER % (above, self._side, self.source.text(300), uuid, self._stamp(), self._tail))

    def result(self, room):
        (above, uuid), text = self._follow(), self.source.text(min(room / 3.2, LONGEST_TEXT))
        self.write(RESULT % (above, self._side, uuid, text, uuid, self._stamp(), text, self._tail))
        self.write(BLOB % (self.session.encode(), text))

    def call(self, model, tokens, room, tool=b''):
        """One call with what leads up to it; the file grows by `room` bytes a call, most of them in few long results."""
        lines = 1 if room < 4000 else 2 if self.source.random() < 0.5 else 3
        due = room * (self.calls + 1) - self.size - lines * 2400 - 1000
        if self.calls % 6 == 0 and room > 2000:
            self.prompt()
        if due > 0:
            self.result(due * min(self.source.rng.expovariate(1.0), 6.0))
        if room > 2000:
            self.write(REQUEST % (self.session.encode(), self._stamp(), model.encode(), self.source.serial()))
        self.ts_ms += self._step_ms
        self._answer(b'01%012x%08x' % (self.source.salt, self.source.serial()), model.encode(), tokens, lines, tool)
        self.calls += 1

    def _answer(self, name, model, tokens, lines, tool):
        """A line for each content block, the usage equal, or a placeholder on all but the last as older versions had it."""
        fresh, output, short, long, read, searches = tokens
        for index in range(lines):
            is_last = index == lines - 1
            said = output if is_last or self.calls % 10 else 1 + index
            above, uuid = self._follow()
            text = self.source.text(self.source.random() * 3000 * (lines > 1))
            block = TOOL % (tool or uuid, text) if is_last and (tool or lines > 1) else SAID % text
            self.write(ASSISTANT % (above, self._side, name, model, block, fresh, short + long, read, said, searches, long,
                                    short, index, name, model, uuid, self._stamp(index), self._tail))

    def cost_state(self, totals, began_ms):
        usage = {model: {
            'inputTokens': tokens[0], 'outputTokens': tokens[1], 'cacheReadInputTokens': tokens[4],
            'cacheCreationInputTokens': tokens[2] + tokens[3], 'cacheCreationEphemeral5mInputTokens': tokens[2],
            'cacheCreationEphemeral1hInputTokens': tokens[3], 'webSearchRequests': tokens[5],
            'costUSD': price_pico(model, tokens) / PICO} for model, tokens in sorted(totals.items())}
        self.write(json.dumps({
            'type': 'cost-state', 'sessionId': self.session, 'totalCostUSD': sum(one['costUSD'] for one in usage.values()),
            'startTime': began_ms, 'modelUsage': usage, 'hasUnknownModelCost': False}, separators=(',', ':')).encode() + b'\n')


# ---------------------------------------------------------------- the corpora

Live = namedtuple('Live', 'path session agent cwd arm')
Shape = namedtuple('Shape', 'bytes files folders calls arms days')
LIVE_SESSIONS = 2               # the first ones: still running, so without a cost-state


class Corpus:
    """A folder with Claude Code's logs in `claude`, the clients' repos that they name, and the truth about them."""

    def __init__(self, root, now_ms, seed=1):
        self.root, self.now_ms, self.source, self.truth = os.path.realpath(root), now_ms, Source(seed), Truth()
        self.live, self.size, self.files, self.calls, self.models, self.room = [], 0, 0, 0, MAIN_MODELS, 1200
        self._folders = {}
        os.makedirs(self.path('home'))
        os.makedirs(self.path('elsewhere', '.git'))

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    @property
    def folders(self):
        return len(self._folders)

    def cwd(self, arm, inner=''):
        folder = os.path.normpath(self.path('clients', arm, inner))
        os.makedirs(folder, exist_ok=True)
        os.makedirs(self.path('clients', arm, '.git'), exist_ok=True)
        return folder

    def begin(self, arm, cwd, start_ms, step_ms, session='', agent=''):
        number = self.source.serial()
        script = Transcript(self.source, session or '%08x-0000-4000-8000-%012x' % (number, self.source.salt), cwd, start_ms, step_ms, agent)
        script.arm, script.cwd, script.totals = arm, cwd, {}
        return script

    def write_calls(self, script, count, models=None, tool=b''):
        """Calls of a session, into the truth and into what its cost-state will say."""
        for _ in range(count):
            model, tokens = self.source.draw_call(models or self.models)
            script.call(model, tokens, self.room, tool)
            self.calls += 1
            self.truth.add(script.arm, script.ts_ms, model, tokens)
            add_tokens(script.totals, model, tokens)

    def write_title(self, script):
        """A helper's call: in the session's cost-state, and in no transcript."""
        tokens = 300 + int(self.source.random() * 2000), 20 + int(self.source.random() * 200), 0, 0, 0, 0
        self.truth.add(script.arm, script.ts_ms, HELPER_MODEL, tokens, transcribed=False)
        add_tokens(script.totals, HELPER_MODEL, tokens)

    def save(self, script, is_live=False, **facts):
        """Write a file as it would lie there, and the small file beside a sub-agent's."""
        munged = ''.join(letter if letter.isalnum() and letter.isascii() else '-' for letter in script.cwd)
        folder, name = self.path('claude', 'projects', munged), script.session
        if script.agent:
            folder, name = os.path.join(folder, name, 'subagents'), 'agent-' + script.agent
            self._folders[os.path.dirname(folder)] = script.start_ms
        self._folders[folder] = max(script.start_ms, self._folders.get(folder, 0))
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name + '.jsonl')
        with open(path, 'wb') as file:
            file.write(b''.join(script.lines))
        os.utime(path, (script.ts_ms / 1000,) * 2)
        if script.agent:
            with open(path[:-6] + '.meta.json', 'w') as file:
                json.dump(dict({'agentType': 'general-purpose', 'spawnDepth': 1}, **facts), file)
        self.size, self.files = self.size + script.size, self.files + 1
        if is_live and len(self.live) < 3:
            self.live.append(Live(path, script.session, script.agent, script.cwd, script.arm))
        return path

    def finish(self):
        for folder, ts_ms in sorted(self._folders.items(), reverse=True):
            os.utime(folder, (ts_ms / 1000,) * 2)
        return self

    def transcripts(self):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.path('claude'))
                      for name in names if name.endswith('.jsonl'))

    def append_calls(self, count):
        """Fresh calls in the live files, as a running session and its sub-agents write them."""
        for place, live in enumerate(self.live):
            script = self.begin(live.arm, live.cwd, int(time.time() * 1000), 0, live.session, live.agent)
            self.write_calls(script, count // len(self.live) + (place < count % len(self.live)))
            with open(live.path, 'ab') as file:
                file.write(b''.join(script.lines))


def add_tokens(totals, model, tokens):
    totals[model] = tuple(map(sum, zip(totals.get(model, (0,) * 6), tokens)))


def share_out(total, weights):
    """Whole numbers, each at least 1, in proportion to the weights, that add up to `total`."""
    spare, full, given, reached, shares = total - len(weights), sum(weights), 0, 0.0, []
    for weight in weights:
        reached += weight
        shares.append(1 + round(spare * reached / full) - given)
        given = round(spare * reached / full)
    return shares


def write_sessions(corpus, shape):
    """Days of an agency's sessions, most short, some very long, a fifth of the files sub-agents', some resumed or forked."""
    agents = shape.files // 5
    mains = shape.files - agents
    with_agents = max(1, (shape.folders - 3 * shape.arms) // 2 if shape.folders else agents * 2 // 5)
    corpus.room = shape.bytes / shape.calls
    corpus.models = MAIN_MODELS if shape.days < 45 else UNDATED_MODELS
    weights = [0.05 + corpus.source.rng.expovariate(1.0)**2 for _ in range(shape.files)]
    shares = share_out(shape.calls, [1.0] * LIVE_SESSIONS + weights[LIVE_SESSIONS:])
    asking = {int(number * mains / with_agents): number for number in range(with_agents)}
    before = None
    for index in range(mains):
        arm = 'client-%02d' % (index % shape.arms)
        cwd = corpus.cwd(arm, ('', 'src', 'docs')[index // shape.arms % 3])
        numbers = range(asking[index], agents, with_agents) if index in asking else ()
        start_ms, length_ms = session_window(corpus, index, shares[index], shape.days)
        if index % 50 == 49 and not numbers and before.ts_ms + 3_600_000 < corpus.now_ms:
            script = begin_fork(corpus, before, min(1000, 3_000_000 // (shares[index] + 1)))
        else:
            script = corpus.begin(arm, cwd, start_ms, length_ms // (shares[index] + 1))
        for number in numbers:
            share = shares[mains + number]
            helper = corpus.begin(arm, cwd, start_ms, length_ms // (share + 1), script.session, 'a%016x' % (number + 1))
            corpus.write_calls(helper, share, AGENT_MODELS if corpus.models is MAIN_MODELS else None)
            for model, tokens in helper.totals.items():
                add_tokens(script.totals, model, tokens)
            corpus.save(helper, index < LIVE_SESSIONS, finished=True)
        corpus.write_calls(script, shares[index] // 2)
        if index % 10 == 3 and not numbers:                  # ended, and resumed
            script.cost_state(script.totals, script.start_ms)
        corpus.write_calls(script, shares[index] - shares[index] // 2)
        if index >= LIVE_SESSIONS and index % 5 != 4:
            if index % 5 < 2:
                corpus.write_title(script)
            script.cost_state(script.totals, script.start_ms)
        corpus.save(script, index < LIVE_SESSIONS)
        before = script


def session_window(corpus, index, calls, days):
    """When a session begins and how long it runs: within one day, and before now. Live sessions run until now."""
    today = corpus.now_ms - corpus.now_ms % DAY_MS
    if corpus.now_ms - today < 3_600_000:
        today -= DAY_MS
    is_live = index < LIVE_SESSIONS
    day = today if is_live else today - DAY_MS * int(corpus.source.random() * days)
    end = min(day + DAY_MS, corpus.now_ms) - 60_000
    length = min(calls * 20_000, (end - day) * 9 // 10)
    return (end - length if is_live else day + int(corpus.source.random() * (end - day - length))), length


def begin_fork(corpus, parent, step_ms):
    """A fork's file begins with a line of its own, later than the copies of the parent's lines that follow."""
    script = corpus.begin(parent.arm, parent.cwd, parent.ts_ms + 60_000, step_ms)
    script.prompt()
    for line in parent.lines[:200]:
        if line.startswith(b'{"parentUuid"'):
            script.write(line.replace(parent.session.encode(), script.session.encode()))
    return script


def write_family(corpus, forks):
    """A session of 60 calls that goes on, and its forks: each has copies of all 60, calls of its own, and a total that goes on."""
    began_ms = corpus.now_ms - 6 * 3_600_000
    parent = corpus.begin('client-00', corpus.cwd('client-00'), began_ms, 1000)
    corpus.write_calls(parent, 60)
    parent.cost_state(parent.totals, began_ms)
    corpus.save(parent, is_live=True)
    for _ in range(forks):
        script = begin_fork(corpus, parent, 1000)
        script.totals = dict(parent.totals)
        corpus.write_calls(script, 5)
        corpus.write_title(script)
        script.cost_state(script.totals, began_ms)
        corpus.save(script)


def write_long_session(corpus, calls, totals):
    """A session that was resumed again and again: its total stands after every so many calls."""
    script = corpus.begin('client-00', corpus.cwd('client-00'), corpus.now_ms - 6 * 3_600_000, 1000)
    for _ in range(totals):
        script.prompt()
        corpus.write_calls(script, calls // totals)
        corpus.write_title(script)
        script.cost_state(script.totals, script.start_ms)
    corpus.save(script, is_live=True)


def write_folders(corpus, folders):
    """A session of three calls in each of many folders."""
    for number in range(folders):
        arm = 'client-%02d' % (number % 25)
        script = corpus.begin(arm, corpus.cwd(arm, 'packages/p%d' % number), corpus.now_ms - 3_600_000 * (1 + number % 99), 1000)
        corpus.write_calls(script, 3)
        corpus.save(script, is_live=not number)


RUNNING = 30


def write_running(corpus):
    """A session whose sub-agents have begun and not ended, as the last of the corpus; the ids of the tools that run them."""
    cwd, now_ms = corpus.cwd('client-00'), int(time.time() * 1000)
    script = corpus.begin('client-00', cwd, now_ms - 600_000, 1000)
    ids = ['run%04d' % number for number in range(RUNNING)]
    for name in ids:
        corpus.write_calls(script, 1, tool=name.encode())
    for number, name in enumerate(ids):
        helper = corpus.begin('client-00', cwd, now_ms - 300_000, 1000, script.session, 'b%016x' % number)
        corpus.write_calls(helper, 20)
        corpus.save(helper, toolUseId='toolu_' + name, requestShape='background')
    corpus.live.append(Live(corpus.save(script), script.session, '', cwd, 'client-00'))
    return ['toolu_' + name for name in ids]


# ---------------------------------------------------------------- running and measuring

class WrongFigure(Exception):
    """A script did not answer, or answered something else than the truth."""


Run = namedtuple('Run', 'seconds status output errors')
GATE_LIMIT_S = 10                # a hook's time-out in the agent's settings


class Rig:
    """The scripts beside a budgets.yaml that arms every client of one corpus, with a ledger of their own."""

    def __init__(self, scratch, corpus, scripts):
        self.corpus, self.scripts, self.hooks, self.home = corpus, scripts, scratch + '/hooks', scratch + '/ledger'
        self._files = [os.path.join(scratch, name) for name in ('stdin', 'stdout', 'stderr')]
        os.makedirs(self.hooks)
        os.makedirs(self.home, 0o700)
        for name in SCRIPTS:
            shutil.copy(os.path.join(scripts, name), self.hooks)
        self.arm_all()
        self._env = {
            'HOME': corpus.path('home'), 'CLAUDE_CONFIG_DIR': corpus.path('claude'), 'CODEX_HOME': corpus.path('codex'),
            'ARMLEDGER_HOME': self.home, 'TZ': 'UTC', 'PATH': os.environ.get('PATH', os.defpath),
            'LD_LIBRARY_PATH': os.environ.get('LD_LIBRARY_PATH', '')}

    def start(self, argv, stdin=b''):
        """A process as cheap as can be, with files as its stdin and stdout."""
        with open(self._files[0], 'wb') as file:
            file.write(stdin)
        with open(self._files[0], 'rb') as given, open(self._files[1], 'wb') as out, open(self._files[2], 'wb') as err:
            return subprocess.Popen(argv, env=self._env, stdin=given, stdout=out, stderr=err, close_fds=False)

    def run(self, argv, stdin=b'', limit_s=None):
        process, began = self.start(argv, stdin), time.perf_counter()
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        seconds = time.perf_counter() - began
        process.kill()
        process.wait()
        return Run(seconds, status, *(read_file(path).decode('utf-8', 'replace') for path in self._files[1:]))

    def arm_all(self, special={}):
        """Write budgets.yaml: caps that nobody reaches, but for the arms given as {arm: line with its cap}."""
        lines = ['budgets:']
        for arm in sorted({key[0] for key in self.corpus.truth.sums}):
            lines += ['  - arm: ' + arm, '    path: ' + json.dumps(self.corpus.path('clients', arm)),
                      '    ' + special.get(arm, 'monthly_usd_cap: 900000.00')]
        with open(os.path.join(self.hooks, 'budgets.yaml'), 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')

    def price_times(self, times):
        """Put another price list in place: token prices of all models that occur are so many times as high."""
        with open(os.path.join(self.scripts, 'prices.json'), encoding='utf-8') as file:
            listed = json.load(file)
        for model in LIST_PRICES:
            for entry in listed['models'][model]['prices']:
                entry.update({key: value * times for key, value in entry.items() if type(value) in (int, float)})
        with open(os.path.join(self.hooks, 'prices.json'), 'w', encoding='utf-8') as file:
            json.dump(listed, file)
        self.corpus.truth.times = times

    def command(self, script, *arguments):
        return [sys.executable, '-IS', os.path.join(self.hooks, script), *arguments]

    def seconds(self, *command):
        run = self.run(self.command(*command))
        if run.status:
            raise WrongFigure('%s: exit %s, %s' % (command, run.status, run.errors[-500:]))
        return run.seconds

    def json_answer(self, *command):
        run = self.run(self.command(*command))
        try:
            return json.loads(run.output, parse_float=Decimal)
        except ValueError:
            raise WrongFigure('%s: exit %s, %s' % (command, run.status, run.errors.strip() or run.output[:300]))

    def ask_gate(self, live, tool='Bash', tool_use_id='toolu_bench', limit_s=None):
        payload = {'session_id': live.session, 'transcript_path': live.path, 'cwd': live.cwd, 'permission_mode': 'default',
                   'hook_event_name': 'PreToolUse', 'tool_name': tool, 'tool_input': {}, 'tool_use_id': tool_use_id}
        return self.run(self.command('pretooluse-hook.py'), json.dumps(payload).encode(), limit_s)

    def silent_gate(self, live=None, **asked):
        run = self.ask_gate(live or self.corpus.live[-1], **asked)
        if run.status or run.output or run.errors:
            raise WrongFigure('the gate was not silent: exit %s, %s%s' % (run.status, run.output[:500], run.errors[-500:]))
        return run.seconds

    def import_floor(self, modules='json, sqlite3'):
        return self.run([sys.executable, '-ISc', 'import ' + modules]).seconds

    def cat(self):
        """Seconds that it takes to read the logs once, as `cat FILES > /dev/null` does."""
        names = '\0'.join(self.corpus.transcripts()).encode()
        return self.run(['/bin/sh', '-c', 'xargs -0 cat > /dev/null'], names).seconds

    def first_read(self, peak=False):
        """Seconds of a first read into an empty ledger, or the most memory that all its processes held together."""
        ledger = os.path.join(self.home, 'first.sqlite3')
        command = 'budget-check.py', '--json', '--ledger', ledger
        found = self._peak_bytes(self.command(*command)) if peak else self.seconds(*command)
        for name in os.listdir(self.home):
            if name.startswith('first.'):
                os.remove(os.path.join(self.home, name))
        return found

    def _peak_bytes(self, argv):
        process, peak = self.start(argv), 0
        while process.poll() is None:
            peak = max(peak, sum(map(pss_bytes, family_of(str(process.pid)))))
            time.sleep(0.002)
        return peak


def family_of(pid):
    """A process and those that it has started, as Linux tells them."""
    yield pid
    for child in read_file('/proc/%s/task/%s/children' % (pid, pid)).split():
        yield from family_of(child.decode())


def pss_bytes(pid):
    """Memory of a process, pages that it shares counted in part."""
    found = read_file('/proc/%s/smaps_rollup' % pid).partition(b'\nPss:')[2].split(None, 1)
    return int(found[0]) * 1024 if found else 0


def read_file(path):
    """Its bytes; none of a process that has ended."""
    try:
        with open(path, 'rb') as file:
            return file.read()
    except OSError:
        return b''


def interleave(runs, floor, ours, before=None, warm_ups=2):
    """Seconds of floor and subject in turn, so that what slows the machine down slows both. Warm-ups are not counted."""
    floors, subjects = [], []
    for _ in range(warm_ups + runs):
        floors.append(floor())
        if before:
            before()
        subjects.append(ours())
    return floors[warm_ups:], subjects[warm_ups:]


# ---------------------------------------------------------------- the figures against the truth

def differences(what, rows, keys, expected):
    """What is wrong in rows, summed by these keys, as texts. Money may be rounded to the micro-dollar in each row."""
    found = {}
    for row in rows:
        sums = found.setdefault(tuple(row[key] for key in keys), {'rows': 0})
        sums['rows'] += 1
        for name, value in row.items():
            if type(value) in (int, Decimal):
                sums[name] = sums.get(name, 0) + value
    for name in sorted({*found, *expected}):
        given = found.get(name, {'rows': 1})
        if name not in expected and any(given.get(key) for key in ('calls', 'usd', 'spent_usd')):
            yield '%s %s should not be there' % (what, ' '.join(name))
        for key, value in expected.get(name, {}).items():
            near = given['rows'] * Decimal('0.000001') if type(value) is Decimal else 1
            if abs(given.get(key, 0) - value) >= near:
                yield '%s %s: %s is %s, and the truth is %s' % (what, ' '.join(name), key, given.get(key), value)


def check_figures(rig, by=('arm', 'model')):
    """Every figure of the verdict and of two reports that is not the truth."""
    truth, month = rig.corpus.truth, time.strftime('%Y-%m-01', time.gmtime())
    spent = {arm: {'spent_usd': row['usd'], 'untranscribed_usd': row['untranscribed_usd']}
             for arm, row in truth.table(['arm'], month).items()}
    wrong = list(differences('verdict', rig.json_answer('budget-check.py', '--json')['arms'], ['arm'], spent))
    report = rig.json_answer('cost-report.py', '--format', 'json')
    wrong += differences('month to date', report['rows'], ['arm'], truth.table(['arm'], month))
    if report['unattributed_usd'] or report['skipped_lines']:
        wrong.append('unattributed %s, %s lines skipped' % (report['unattributed_usd'], report['skipped_lines']))
    report = rig.json_answer('cost-report.py', '--format', 'json', '--by', ','.join(by), '--since', '2020-01-01')
    return wrong + list(differences('by ' + ','.join(by), report['rows'], by, truth.table(by)))


# ---------------------------------------------------------------- the rows

Row = namedtuple('Row', 'what floor ours ratio goal')      # texts, but ratio and goal


def timed_row(what, timing, goal, times=1):
    """`times`: how much more work the subject had than the floor."""
    floor_s, ours_s = map(statistics.median, timing)
    return Row(what, format_seconds(floor_s), format_seconds(ours_s), ours_s / floor_s / times, goal)


def format_seconds(seconds):
    return '%.1f ms' % (seconds * 1000) if seconds < 1 else '%.2f s' % seconds


def verdict(row):
    return 'n/a' if row.ratio is None else 'PASS' if row.ratio <= row.goal else 'over'


class Bench:
    """Makes corpora as rows need them, runs the rows, and keeps what was wrong."""
    ROWS = 'silent', 'armed', 'new', 'first', 'report', 'family', 'session', 'folders', 'calls', 'running', 'year', 'price'

    def __init__(self, options, scratch):
        self.options, self.scratch, self.rows, self.wrong, self._rigs = options, scratch, [], [], {}
        self.scale = 20 if options.quick else 1

    def run(self, names):
        for name in names:
            try:
                for row in getattr(self, 'row_' + name)():
                    self.rows.append(row)
                    say(format_row(row))
            except WrongFigure as error:
                self.note([str(error)])

    def note(self, wrong):
        for text in wrong[:20]:
            say('WRONG: ' + text)
        self.wrong += wrong

    def rig(self, name, write, *sizes):
        """The corpus of this name with its scripts; its ledger is built and its figures are checked."""
        if name not in self._rigs:
            corpus = Corpus(os.path.join(self.scratch, name), int(time.time() * 1000))
            write(corpus, *sizes)
            corpus.finish()
            say('corpus %s: %.2f GB, %d files in %d folders, %d calls' % (
                name, corpus.size / 1e9, corpus.files, corpus.folders, corpus.calls))
            self._rigs[name] = Rig(tempfile.mkdtemp(dir=self.scratch), corpus, self.options.scripts)
            self.note(check_figures(self._rigs[name]))
        return self._rigs[name]

    def sessions(self, name, size, files, folders, calls, arms, days):
        sizes = [count // self.scale for count in (size, files, folders, calls)]
        return self.rig(name, write_sessions, Shape(*sizes, arms, days))

    def month(self):
        return self.sessions('month', 10**9, 5000, 0, 40_000, 25, 30)

    def year(self):
        return self.sessions('year', 480 * 10**6, 2000, 0, 400_000, 25, 365)

    def gate_row(self, what, rig, goal, new_calls=0, **asked):
        before = (lambda: rig.corpus.append_calls(new_calls)) if new_calls else None
        timing = interleave(self.options.gate_runs, rig.import_floor, lambda: rig.silent_gate(**asked), before)
        self.note(check_figures(rig) if new_calls else [])
        return timed_row(what, timing, goal)

    def row_silent(self):
        rig, cwd = self.month(), self.month().corpus.path('elsewhere')
        script = rig.corpus.begin('', cwd, rig.corpus.now_ms - 60_000, 0)
        script.prompt()
        live = Live(rig.corpus.save(script), script.session, '', cwd, '')
        timing = interleave(self.options.gate_runs, lambda: rig.import_floor('json'), lambda: rig.silent_gate(live))
        yield timed_row('gate, nothing armed for this arm', timing, 1.3)

    def row_armed(self):
        for rig, goal in ((self.month(), 2.0), (self.sessions('stat', 94_500_000, 10_500, 3750, 10_500, 25, 30), 4.0)):
            yield self.gate_row('gate, armed, nothing new, {:,} files in {:,} folders'.format(rig.corpus.files, rig.corpus.folders),
                                rig, goal)

    def row_new(self):
        """Then a cap that the calls so far keep and the next ones break: the gate refuses a sub-agent after them."""
        rig = self.month()
        yield self.gate_row('gate, armed, 20 new calls in 3 files', rig, 2.3, new_calls=20)
        arm = rig.corpus.live[-1].arm
        rig.arm_all({arm: 'total_usd_cap: %.6f' % ((rig.corpus.truth.usd(arm) + Decimal('0.01')) / Decimal('1.1'))})
        tiers = {row['arm']: row['tier'] for row in rig.json_answer('budget-check.py', '--json')['arms']}
        rig.corpus.append_calls(20)
        answer = rig.ask_gate(rig.corpus.live[-1], 'Agent').output
        if tiers[arm] != 'warn' or '"deny"' not in answer:
            self.note(['%s: %s a cent below its hard stop; after the next calls the gate says %r' % (arm, tiers[arm], answer)])
        rig.arm_all()

    def row_first(self):
        rig = self.month()
        timing = interleave(self.options.runs, rig.cat, rig.first_read)
        yield timed_row('first read of %.1f GB' % (rig.corpus.size / 1e9), timing, 3.0)
        if os.path.exists('/proc/self/smaps_rollup'):
            peak = rig.first_read(peak=True)
            yield Row('its peak memory, all processes together', '128 MB', '%d MB' % (peak / 1e6), peak / 128e6, 0.5)
        if self.options.ccusage:
            argv = [self.options.ccusage, 'claude', 'monthly', '--offline', '--json']
            timing = interleave(self.options.runs, lambda: rig.run(argv).seconds, rig.first_read)
            yield timed_row('the same against ccusage', timing, 1.0)

    def row_report(self):
        rig = self.month()
        timing = interleave(self.options.gate_runs, rig.import_floor, lambda: rig.seconds('cost-report.py'))
        yield timed_row('cost-report by arm, month to date, warm', timing, 3.0)

    def row_family(self):
        forks = 200 // self.scale
        rig = self.rig('family', write_family, forks)
        yield self.gate_row('gate, a new call in a family of %d forks' % forks, rig, 3.0, new_calls=1)

    def row_session(self):
        calls, totals = 20_000 // self.scale, 200 // self.scale
        rig = self.rig('session', write_long_session, calls, totals)
        yield self.gate_row('gate, a new call in a session of {:,} and {} totals'.format(calls, totals), rig, 3.0, new_calls=1)

    def row_folders(self):
        few, many = (self.rig('folders%d' % count, write_folders, count // self.scale) for count in (1000, 8000))
        timing = interleave(self.options.runs, few.first_read, many.first_read, warm_ups=0)
        yield timed_row('first read, {:,} folders against {:,}, per folder'.format(many.corpus.files, few.corpus.files), timing, 1.2, 8)

    def row_calls(self):
        few, many = self.sessions('few', 30 * 10**6, 2000, 0, 25_000, 25, 365), self.year()
        timing = interleave(self.options.runs, few.first_read, many.first_read, warm_ups=0)
        counts = '{:,} calls against {:,}'.format(many.corpus.calls, few.corpus.calls)
        yield timed_row('first read, %s, per call' % counts, timing, 1.2, many.corpus.calls / few.corpus.calls)
        yield timed_row('gate, ' + counts, interleave(self.options.gate_runs, few.silent_gate, many.silent_gate), 1.3)

    def row_running(self):
        rig = self.year()
        for name in write_running(rig.corpus):
            rig.silent_gate(tool='Agent', tool_use_id=name)
        self.note(check_figures(rig))
        for tool in 'Bash', 'Agent':
            yield self.gate_row('gate, {} sub-agents running, {:,} calls, {}'.format(RUNNING, rig.corpus.calls, tool), rig, 2.5, tool=tool)

    def row_year(self):
        rig = self.year()
        command = 'cost-report.py', '--by', 'day,model', '--since', time.strftime('%Y-%m-%d', time.gmtime(time.time() - 366 * 86400))
        timing = interleave(self.options.runs, rig.import_floor, lambda: rig.seconds(*command))
        self.note(check_figures(rig, ('day', 'model')))
        yield timed_row('cost-report by day and model of a year of {:,} calls'.format(rig.corpus.calls), timing, 25.0)

    def row_price(self):
        """Gates while every call is priced anew. A cap that the new price alone breaks by half tells when all of it is done."""
        rig, worst_s, most = self.year(), 0, 0
        live = rig.corpus.live[-1]
        for times in 2, 4, 8:
            rig.price_times(times)
            rig.arm_all({live.arm: 'total_usd_cap: %.2f' % (rig.corpus.truth.usd(live.arm) * Decimal('0.65'))})
            gates, answer = 0, ''
            while gates < 12 and '"deny"' not in answer:
                seconds, _, answer, _ = rig.ask_gate(live, limit_s=GATE_LIMIT_S)
                gates, worst_s = gates + 1, max(worst_s, seconds)
            most = max(most, gates)
        rig.arm_all()
        calls = '{:,} calls'.format(rig.corpus.calls)
        yield Row('the longest gate while %s get a new price' % calls, '5 s', format_seconds(worst_s), worst_s / 5, 1.0)
        yield Row('gates until that is done', '1', '%d' % most if most < 12 else 'never', most, 4.0)
        self.note(check_figures(rig))

    def row_large(self):
        rig = self.sessions('large', 24 * 10**8, 50_000, 0, 2_000_000, 300, 365)
        what = '{:,} files, {:,} calls, 300 clients'.format(rig.corpus.files, rig.corpus.calls)
        yield self.gate_row('gate, armed, nothing new, ' + what, rig, 6.0)
        yield self.gate_row('gate, armed, 20 new calls, ' + what, rig, 6.0, new_calls=20)


def say(text):
    print(text, file=sys.stderr, flush=True)


def format_row(row):
    shown = '%.2f' % row.ratio if row.ratio else 'n/a'
    return '| %-72s | %8s | %8s | %6s | %4.1f | %-4s |' % (*row[:3], shown, row.goal, verdict(row))


def format_table(rows):
    head = '| %-72s | %8s | %8s | %6s | %4s | %-4s |' % ('what', 'floor', 'ours', 'ratio', 'goal', '')
    return '\n'.join([head, ''.join(letter if letter == '|' else '-' for letter in head), *map(format_row, rows)])


def parse_rows(text):
    names = [name for name in text.split(',') if name]
    for name in names:
        if name not in Bench.ROWS + ('large',):
            raise argparse.ArgumentTypeError('%r: rows are %s, large' % (name, ', '.join(Bench.ROWS)))
    return names


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='everything at a twentieth')
    parser.add_argument('--large', action='store_true', help='also 2,000,000 calls: 3 GB of logs, and some minutes more')
    parser.add_argument('--rows', type=parse_rows, default=list(Bench.ROWS), help=', '.join(Bench.ROWS))
    parser.add_argument('--runs', type=int, default=9, help='runs of what takes seconds (%(default)s)')
    parser.add_argument('--gate-runs', type=int, default=31, help='runs of what takes milliseconds (%(default)s)')
    parser.add_argument('--scripts', metavar='DIR', default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                        help='where the scripts are (the folder above tests)')
    parser.add_argument('--scratch', metavar='DIR', help='where to write, and to remove, some GB of logs (the temporary folder)')
    parser.add_argument('--ccusage', metavar='FILE', default=shutil.which('ccusage'), help='its native binary, to compare with')
    parser.add_argument('--strict', action='store_true', help='a missed goal fails too')
    options = parser.parse_args(arguments)
    scratch = tempfile.mkdtemp(prefix='armledger-bench-', dir=options.scratch)
    bench = Bench(options, scratch)
    try:
        bench.run(options.rows + ['large'] * options.large)
    except OSError as error:
        say('bench: %s' % error)
        return 2
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print('%s %s, %d cores, Python %s, SQLite %s' % (platform.system(), platform.machine(), os.cpu_count(),
                                                     platform.python_version(), sqlite3.sqlite_version))
    print(format_table(bench.rows))
    print('\n%s' % ('%d figures are wrong' % len(bench.wrong) if bench.wrong else 'every figure equals the truth'))
    return 1 if bench.wrong or options.strict and any(verdict(row) == 'over' for row in bench.rows) else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # so that what was written is removed
    sys.exit(main())
