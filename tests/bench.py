#!/usr/bin/env python3
"""Measure the gate, the first read and the report on a generated month of logs.

    python tests/bench.py                     # 1 GB in 5,000 files, and the other layouts: a few minutes
    python tests/bench.py --quick             # a twentieth of it: less than a minute
    python tests/bench.py --rows 1,2,5        # some rows only
    python tests/bench.py --sweep             # how a first read grows with bytes, files and calls
    python tests/bench.py --corpus ~/corpus   # keep the corpus there, and use it again the next time

A corpus of Claude Code transcripts is written from a seed, so that what it cost is known by arithmetic before
anything reads it. Each row of the table is a ratio: the median time of one of our scripts over the median time of
its floor (the least that any such script needs), the two taking turns in the same run. Every figure that the
scripts report is compared with the truth.

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
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from decimal import Decimal

PICO = 10**12                    # money is whole pico-dollars: a price per million tokens is exact per token
DAY_MS = 86_400_000
SCRIPTS = ('budget-check.py', 'pretooluse-hook.py', 'cost-report.py', 'prices.json')
PAYLOAD_BYTES_MAX = 60_000       # the longest text that one tool result of the corpus holds

# USD per million tokens: input, output, 5 min write, 1 h write, read; as the vendor lists them, in force since 2026-10-07.
# They are written down again here so that the truth owes nothing to prices.json.
LIST_PRICES = {
    'claude-opus-5-5': ('4', '20', '5', '8', '0.2'),
    'claude-opus-5': ('5', '25', '6.25', '10', '0.5'),
    'claude-sonnet-5-5': ('2', '10', '2.5', '4', '0.1'),
    'claude-fable-5-1': ('10', '50', '12.5', '20', '0.25'),
    'claude-haiku-5-5': ('0.1', '0.5', '0.125', '0.2', '0.01'),   # to 100,000 tokens of input, which no call here reaches
}
SEARCH_PRICE = '0.01'            # USD each
MAIN_MODELS = ('claude-opus-5-5',) * 6 + ('claude-sonnet-5-5',) * 2 + ('claude-opus-5', 'claude-fable-5-1')
AGENT_MODELS = ('claude-sonnet-5-5', 'claude-sonnet-5-5', 'claude-haiku-5-5', 'claude-opus-5-5')
HELPER_MODEL = 'claude-haiku-5-5'    # writes the titles, which stand in no transcript

UNIT_PRICES = {model: tuple(int(Decimal(usd) * 10**6) for usd in prices) + (int(Decimal(SEARCH_PRICE) * PICO),)
               for model, prices in LIST_PRICES.items()}


# ---------------------------------------------------------------- the truth

class Truth:
    """What a corpus cost: calls, tokens and pico-USD, by arm, day, model and whether a transcript has it."""

    def __init__(self, rows=()):
        self._sums = {tuple(row[:4]): list(row[4:]) for row in rows}

    def add(self, arm, ts_ms, model, tokens, calls=1, transcribed=True):
        key = (arm, ts_ms - ts_ms % DAY_MS, model, bool(transcribed))
        sums = self._sums.setdefault(key, [0] * 8)
        sums[0] += calls
        for place, count in enumerate(tokens, 1):
            sums[place] += count
        sums[7] += price_pico(model, tokens)

    def total(self, arm=None, since_ms=0, model=None, transcribed=None):
        """Sums: (calls, input, output, 5 min writes, 1 h writes, reads, searches, pico-USD)."""
        picked = [sums for (of_arm, day, of_model, kind), sums in self._sums.items()
                  if arm in (None, of_arm) and model in (None, of_model) and transcribed in (None, kind) and day >= since_ms]
        return tuple(map(sum, zip(*picked))) if picked else (0,) * 8

    def rows(self):
        return [list(key) + sums for key, sums in sorted(self._sums.items())]

    def arms(self):
        return sorted({key[0] for key in self._sums})

    def models(self):
        return sorted({key[2] for key in self._sums})


def price_pico(model, tokens):
    return sum(count * unit for count, unit in zip(tokens, UNIT_PRICES[model]))


def month_start_ms(now_ms):
    year, month = time.gmtime(now_ms // 1000)[:2]
    return calendar.timegm((year, month, 1, 0, 0, 0)) * 1000


def format_time(ts_ms):
    return '%s.%03dZ' % (time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ts_ms // 1000)), ts_ms % 1000)


def parse_time(text):
    return calendar.timegm(time.strptime(text[:19], '%Y-%m-%dT%H:%M:%S')) * 1000


# ---------------------------------------------------------------- the lines of a transcript

TAIL = b'"userType":"external","entrypoint":"cli","cwd":%b,"sessionId":"%b","version":"2.1.330","gitBranch":"main"}\n'
USER = (b'{"parentUuid":"%b","isSidechain":%b,"promptId":"%b","type":"user","message":{"role":"user","content":"%b"},'
        b'"uuid":"%b","timestamp":"%b","permissionMode":"default","promptSource":"typed",%b')
RESULT = (b'{"parentUuid":"%b","isSidechain":%b,"promptId":"%b","type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_%b",'
          b'"type":"tool_result","content":"%b","is_error":false}]},"uuid":"%b","timestamp":"%b","toolUseResult":%b,'
          b'"permissionDecision":{"decision":"accept","source":"config","reasonType":"mode"},%b')
ATTACHMENT = (b'{"parentUuid":"%b","isSidechain":%b,"attachment":{"type":"edited_text_file","content":"%b"},"type":"attachment","uuid":"%b",'
              b'"timestamp":"%b","rendered":"","renderedRole":"system",%b')
BLOB = b'{"type":"api-request-blob","sessionId":"%b","hash":"%064x","message":{"role":"user","content":"%b"}}\n'
SHAPE = b'{"type":"api-request-shape","sessionId":"%b","shapeHash":"%064x","timestamp":"%b","version":"2.1.330","shape":{"system":"%b"}}\n'
REQUEST = (b'{"type":"api-request","sessionId":"%b","id":"%b","timestamp":"%b","version":"2.1.330","querySource":"sdk","params":{"model":"%b",'
           b'"betas":["claude-code-20250219","interleaved-thinking-2025-05-14","context-management-2025-06-27","per-turn-control-2026-07-01"],'
           b'"max_tokens":128000,"thinking":{"type":"adaptive","display":"omitted"},"output_config":{"effort":"medium"}},"keep":2,'
           b'"tail":["%064x","%064x"],"cacheControl":[{"path":["system",0],"value":{"type":"ephemeral"}}],"requestDigest":"%064x"}\n')
ASSISTANT = (b'{"parentUuid":"%b","isSidechain":%b,"message":{"id":"msg_%b","type":"message","role":"assistant","model":"%b","content":[%b],'
             b'"stop_reason":"%b","stop_sequence":null,"usage":{"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,'
             b'"output_tokens":%d,"output_tokens_details":{"thinking_tokens":0},"server_tool_use":{"web_search_requests":%d,"web_fetch_requests":0},'
             b'"service_tier":"standard","cache_creation":{"ephemeral_1h_input_tokens":%d,"ephemeral_5m_input_tokens":%d},'
             b'"inference_geo":"not_available","iterations":[],"speed":"standard","fallback_credit":null},"stop_details":null},"apiBlockIndex":%d,'
             b'"requestId":"req_%b","requestRef":"%b","requestedModel":"%b","promptCacheRequested":"5m","type":"assistant","uuid":"%b",'
             b'"timestamp":"%b","effort":"medium","perTurnEffort":"medium","madeBy":"model",%b')
SYNTHETIC = (b'{"parentUuid":"%b","isSidechain":%b,"type":"assistant","uuid":"%b","timestamp":"%b","isApiErrorMessage":true,"message":{"id":"%b",'
             b'"type":"message","role":"assistant","model":"<synthetic>","content":[{"type":"text","text":"API Error: 529 overloaded"}],'
             b'"usage":{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}},%b')
SNAPSHOT = (b'{"type":"file-history-snapshot","messageId":"%b","snapshot":{"messageId":"%b","trackedFileBackups":{"src/main.py":{"backupFileName":'
            b'"c0ffee@v2","version":2}},"timestamp":"%b"},"isSnapshotUpdate":false}\n')
LAST_PROMPT = b'{"type":"last-prompt","lastPrompt":"%b","leafUuid":"%b","sessionId":"%b"}\n'
QUEUE = b'{"type":"queue-operation","operation":"enqueue","timestamp":"%b","sessionId":"%b","content":"%b"}\n'
AGENT_RESULT = (b'{"status":"completed","agentId":"%b","agentType":"general-purpose","totalTokens":90000,"usage":{"input_tokens":11,'
                b'"cache_creation_input_tokens":2000,"cache_read_input_tokens":30000,"output_tokens":702}}')
BLOCKS = (b'{"type":"thinking","thinking":"","signature":"%b"}',
          b'{"type":"text","text":"%b"}',
          b'{"type":"tool_use","id":"toolu_%b","name":"Bash","input":{"command":"%b","usage":{"input_tokens":7},"model":"none"}}')


class Text:
    """Text as tool results hold it, ready to stand in a JSON string, cut from a pool at multiples of 64 bytes."""
    WORDS = 'def return self import for in if else value result path lines tokens model cwd null None true 0x7f 42'.split()
    UNUSUAL = '→ naïve … ✓ é'.split()       # a line in a hundred has one: the text around it is slower to decode
    TRAP = '\\"type\\":\\"assistant\\",\\"usage\\":{\\"output_tokens\\":9}'     # a transcript that a tool has printed

    def __init__(self, rng, lines=4096):
        self._random = rng.random
        self._count = lines
        self._pool = b''.join(self._line(rng, number) for number in range(lines))
        self._signature = ''.join(rng.choices('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/', k=8192)).encode()

    def _line(self, rng, number):
        words = self.TRAP if number % 512 == 0 else '\\"%s\\": ' % rng.choice(self.UNUSUAL if number % 100 == 1 else self.WORDS)
        while len(words.encode()) < 50:
            words += rng.choice(self.WORDS) + ' '
        whole = words.encode()[:62].decode('utf-8', 'ignore').encode()
        return whole.ljust(62) + b'\\n'

    def cut(self, size):
        pieces = min(max(int(size) >> 6, 1), self._count >> 1)
        start = int(self._random() * (self._count - pieces)) << 6
        return self._pool[start:start + (pieces << 6)]

    def signature(self, size):
        start = int(self._random() * (8192 - size))
        return self._signature[start:start + int(size)]


Call = namedtuple('Call', 'number model tokens lines')      # one billed call; tokens as a price has them: see LIST_PRICES, and searches


class Transcript:
    """The lines of one file, and the clock that stamps them."""

    def __init__(self, source, session, cwd, start_ms, step_ms, agent=''):
        self.lines, self.size, self.calls = [], 0, []
        self.source, self.agent, self._session = source, agent, session.encode()
        self._sidechain = b'true,"agentId":"%b"' % agent.encode() if agent else b'false'
        self._tail = TAIL % (json.dumps(cwd).encode(), self._session)
        self._leaf = self._uuid()
        self.ts_ms, self._step_ms = start_ms, step_ms

    def write(self, line):
        self.lines.append(line)
        self.size += len(line)

    def _uuid(self):
        return b'%08x-4b1d-4c7e-8a9b-%012x' % (self.source.serial(), self.source.salt)

    def _stamp(self, ahead_ms=0):
        return format_time(self.ts_ms + ahead_ms).encode()

    def header(self, room):
        self.write(QUEUE % (self._stamp(), self._session, b'go on'))
        if room > 20_000:
            shape = self.source.text.cut(min(room / 8, 30_000))
            self.write(SHAPE % (self._session, self.source.serial(), self._stamp(), shape))

    def prompt(self):
        uuid = self._uuid()
        self.write(SNAPSHOT % (uuid, uuid, self._stamp()))
        self.write(USER % (self._leaf, self._sidechain, uuid, self.source.text.cut(300), uuid, self._stamp(), self._tail))
        self._leaf = uuid

    def fill(self, room):
        """Write what stands between two calls: a tool's result three times over, attachments; about `room` bytes."""
        text = self.source.text.cut(min(room / 3.2, PAYLOAD_BYTES_MAX))
        uuid = self._uuid()
        result = b'{"stdout":"%b","stderr":"","interrupted":false}' % text
        self.write(RESULT % (self._leaf, self._sidechain, uuid, uuid, text, uuid, self._stamp(), result, self._tail))
        self._leaf = uuid
        self.write(BLOB % (self._session, self.source.serial(), text))
        if room > 4000:
            self.attach(room / 12)

    def attach(self, room):
        uuid = self._uuid()
        self.write(ATTACHMENT % (self._leaf, self._sidechain, self.source.text.cut(room), uuid, self._stamp(), self._tail))
        self._leaf = uuid

    def attach_rest(self, size):
        """Bring the file to this size, if it is much smaller."""
        if size - self.size > 1000:
            self.attach(size - self.size - 500)

    def agent_result(self, agent):
        uuid = self._uuid()
        self.write(RESULT % (self._leaf, self._sidechain, uuid, uuid, b'hand-back', uuid, self._stamp(), AGENT_RESULT % agent.encode(), self._tail))

    def request(self, model):
        serial = self.source.serial()
        uuid = self._uuid()
        self.write(REQUEST % (self._session, uuid, self._stamp(), model.encode(), serial, serial + 1, serial + 2))

    def synthetic(self):
        uuid = self._uuid()
        self.write(SYNTHETIC % (self._leaf, self._sidechain, uuid, self._stamp(), uuid, self._tail))

    def call(self, call):
        """The lines of one call: a line per content block, the usage equal, or a placeholder on all but the last."""
        self.ts_ms += self._step_ms
        fresh, output, short, long, read, searches = call.tokens
        name, model = self.source.name(call.number), call.model.encode()
        placeholder = call.number % 10 == 0        # as older versions wrote them
        for index in range(call.lines):
            last = index == call.lines - 1
            uuid = self._uuid()
            self.write(ASSISTANT % (
                self._leaf, self._sidechain, name, model, self._block(index, call.lines, uuid), b'tool_use', fresh, short + long, read,
                min(output, 1 + index) if placeholder and not last else output, searches, long, short, index, name, uuid, model,
                uuid, self._stamp(index), self._tail))
            self._leaf = uuid
        self.calls.append(call)

    def _block(self, index, lines, uuid):
        if lines == 1:
            return BLOCKS[1] % b'done'
        kind = index if lines == 3 else index + 1
        size = self.source.random() * (2000, 1500, 3000)[kind]
        if kind == 0:
            return BLOCKS[0] % self.source.text.signature(size)
        text = self.source.text.cut(size)
        return BLOCKS[2] % (uuid, text) if kind == 2 else BLOCKS[1] % text

    def footer(self):
        self.write(LAST_PROMPT % (b'go on', self._leaf, self._session))

    def cost_state(self, began_ms, totals):
        self.write(json.dumps(cost_state(self._session.decode(), began_ms, totals), separators=(',', ':')).encode() + b'\n')


def cost_state(session, began_ms, totals):
    usage = {model: {
        'inputTokens': tokens[0], 'outputTokens': tokens[1], 'thinkingTokens': 0, 'cacheReadInputTokens': tokens[4],
        'cacheCreationInputTokens': tokens[2] + tokens[3], 'cacheCreationEphemeral5mInputTokens': tokens[2],
        'cacheCreationEphemeral1hInputTokens': tokens[3], 'webSearchRequests': tokens[5],
        'costUSD': price_pico(model, tokens) / PICO} for model, tokens in sorted(totals.items())}
    return {'type': 'cost-state', 'sessionId': session, 'totalCostUSD': sum(entry['costUSD'] for entry in usage.values()),
            'totalAPIDuration': 140, 'totalToolDuration': 209, 'totalDuration': 594, 'startTime': began_ms, 'modelUsage': usage,
            'hasUnknownModelCost': False}


class Source:
    """Where a corpus draws its randomness, its serial numbers and its texts from."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.random = self.rng.random
        self.salt = self.rng.getrandbits(48)
        self.text = Text(self.rng)
        self._serial = 0

    def serial(self):
        self._serial += 1
        return self._serial

    def name(self, number):
        return b'01%012x%08x' % (self.salt, number)

    def pick(self, options):
        return options[int(self.random() * len(options))]

    def draw_call(self, number, models, lines):
        model = self.pick(models)
        reach = 70_000 if model == HELPER_MODEL else 160_000
        tokens = (2 + int(self.random() * 60), 30 + int(self.random()**3 * 6000), int(self.random() * 900), int(self.random()**2 * 9000),
                  9000 + int(self.random() * reach), 1 + int(self.random() * 3) if self.random() < 0.01 else 0)
        return Call(number, model, tokens, lines)


# ---------------------------------------------------------------- the corpus

Shape = namedtuple('Shape', 'bytes files folders calls arms seed')
Plan = namedtuple('Plan', 'mains agents projects with_agents')
Session = namedtuple('Session', 'index name arm cwd folder start_ms length_ms')
Live = namedtuple('Live', 'path size mtime_ms session agent cwd arm')
LIVE_SESSIONS = 2               # the first ones: still running, so without a cost-state


def plan_files(shape):
    """Main files, sub-agents' files, project folders, and sessions with sub-agents (two more folders each)."""
    agents = shape.files // 5
    mains = shape.files - agents
    projects = min(3 * shape.arms, mains)
    if not shape.folders:
        return Plan(mains, agents, projects, min(mains, max(1, agents * 2 // 5)))
    with_agents = max(1, min(agents, mains, (shape.folders - projects) // 2))
    projects = shape.folders - 2 * with_agents
    if not 1 <= projects <= mains:
        raise ValueError('%d files cannot lie in %d folders: from 3 to %d can' % (shape.files, shape.folders, mains + 2 * agents))
    return Plan(mains, agents, projects, with_agents)


def share_out(total, weights):
    """Whole numbers, each at least 1, in proportion to the weights, that add up to `total`."""
    spare, full, given, reached, shares = total - len(weights), sum(weights), 0, 0.0, []
    for weight in weights:
        reached += weight
        shares.append(1 + round(spare * reached / full) - given)
        given = round(spare * reached / full)
    return shares


def lines_per_call(room, source):
    return 1 if room < 4000 else 2 if source.random() < 0.5 else 3


def write_call(script, call, room):
    """One call with what leads up to it; the file grows by `room` bytes a call, most of them in few long results."""
    due = room * (len(script.calls) + 1) - script.size - call.lines * 2400 - 1000
    if len(script.calls) % 6 == 0 and room > 2000:
        script.prompt()
    if due > 0:
        script.fill(due * min(script.source.rng.expovariate(1.0), 6.0))
    if room > 2000:
        script.request(call.model)
    script.call(call)


def make_room(root, bytes_needed):
    os.makedirs(root, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < bytes_needed * 1.3:
        raise ValueError('%s has %d MB free and the corpus needs %d: give --corpus DIR elsewhere, or fewer --bytes' % (
            root, free >> 20, bytes_needed >> 20))


class Generator:
    """Writes a corpus from a seed, and keeps the truth while it does."""

    def __init__(self, root, shape, now_ms):
        self.root, self.shape, self.now_ms = os.path.realpath(root), shape, now_ms
        self.plan = plan_files(shape)
        self.source, self.truth, self.live = Source(shape.seed), Truth(), []
        self._room = shape.bytes / shape.calls
        self._number = self._bytes = 0
        self._folder_times = {}
        self._previous = None

    def write(self):
        self._make_places()
        self._shares = share_out(self.shape.calls, self._weights())
        gap = self.plan.mains / self.plan.with_agents
        rank = {int(number * gap): number for number in range(self.plan.with_agents)}
        for index in range(self.plan.mains):
            agents = range(rank[index], self.plan.agents, self.plan.with_agents) if index in rank else ()
            self._write_session(self._plan_session(index), agents)
        for folder, ts_ms in self._folder_times.items():
            set_mtime(folder, ts_ms)
        return Corpus(self.root, self.shape, self.now_ms, self.truth, self.live, self._bytes, len(self._folder_times))

    def _weights(self):
        """Most sessions are short, a few very long. The live ones are of middling size."""
        weights = [0.05 + self.source.rng.expovariate(1.0)**2 for _ in range(self.shape.files)]
        return [1.0] * LIVE_SESSIONS + weights[LIVE_SESSIONS:]

    def _make_places(self):
        arms, self._places = min(self.shape.arms, self.plan.projects), []
        for number in range(self.plan.projects):
            inner = ('', 'src', 'docs')[number // arms] if number < 3 * arms else 'packages/p%d' % number
            arm = 'client-%02d' % (number % arms)
            self._places.append((arm, os.path.normpath(os.path.join(self.root, 'clients', arm, inner))))
        for _, cwd in self._places:
            os.makedirs(cwd, exist_ok=True)
        for repo in sorted({os.path.join('clients', arm) for arm, _ in self._places}) + ['elsewhere']:
            os.makedirs(os.path.join(self.root, repo, '.git'))
        os.makedirs(os.path.join(self.root, 'home'))

    def _plan_session(self, index):
        arm, cwd = self._places[index % len(self._places)]
        folder = os.path.join(self.root, 'claude', 'projects', munge(cwd))
        start_ms, length_ms = self._window(index, self._shares[index])
        return Session(index, '%08x-0000-4000-8000-%012x' % (index, self.source.salt), arm, cwd, folder, start_ms, length_ms)

    def _window(self, index, calls):
        """When a session runs: within one day of the last 30, and before now. Live sessions run until now."""
        today = self.now_ms - self.now_ms % DAY_MS
        if self.now_ms - today < 3_600_000:
            today -= DAY_MS
        live = index < LIVE_SESSIONS
        day = today if live else today - DAY_MS * int(self.source.random() * 30)
        end = min(day + DAY_MS, self.now_ms) - 60_000
        length = min(calls * 20_000, (end - day) * 9 // 10)
        return end - length if live else day + int(self.source.random() * (end - day - length)), length

    def _write_session(self, session, agent_numbers):
        fork_of = None if agent_numbers else self._fork_of(session)
        if fork_of:
            session = session._replace(arm=fork_of[0].arm, cwd=fork_of[0].cwd, folder=fork_of[0].folder)
        totals, agents = {}, []
        for number in agent_numbers:
            agents.append('a%016x' % (number + 1))
            self._write_agent(session, agents[-1], self._shares[self.plan.mains + number], totals)
        script = self._begin_fork(session, fork_of) if fork_of else self._begin(session, self._shares[session.index])
        for agent in agents:
            script.agent_result(agent)
        self._write_calls(script, self._shares[session.index], session, totals, resumed=session.index % 10 == 3 and not agents)
        script.footer()
        if session.index >= LIVE_SESSIONS and session.index % 5 != 4 and not fork_of:
            self._write_cost_state(script, session, totals, titled=session.index % 5 < 2)
        self._save(os.path.join(session.folder, session.name + '.jsonl'), script, session, '')
        self._previous = session, script

    def _write_agent(self, session, agent, calls, totals):
        script = self._begin(session, calls, agent)
        self._write_calls(script, calls, session, totals)
        path = os.path.join(session.folder, session.name, 'subagents', 'agent-%s.jsonl' % agent)
        self._save(path, script, session, agent)
        with open(path[:-len('.jsonl')] + '.meta.json', 'w') as file:
            json.dump({'agentType': 'general-purpose', 'isBuiltIn': True, 'spawnDepth': 1, 'finished': True}, file)

    def _begin(self, session, calls, agent=''):
        script = Transcript(self.source, session.name, session.cwd, session.start_ms, session.length_ms // (calls + 1), agent)
        script.header(self._room * calls)
        return script

    def _fork_of(self, session):
        """A session in fifty is a fork of the one before it, if there is time left for it before now."""
        if session.index % 50 != 49:
            return None
        _, parent = self._previous
        return self._previous if parent.ts_ms + 3_600_000 < self.now_ms else None

    def _begin_fork(self, session, previous):
        """A fork's file begins with a line of its own, later than the copies of the parent's lines that follow."""
        parent, lines, step_ms = previous[0], previous[1].lines, min(1000, 3_000_000 // (self._shares[session.index] + 1))
        script = Transcript(self.source, session.name, session.cwd, previous[1].ts_ms + 60_000, step_ms)
        script.header(0)
        for line in lines[:200]:
            if line.startswith(b'{"parentUuid"'):
                script.write(line.replace(parent.name.encode(), session.name.encode()))
        return script

    def _write_calls(self, script, count, session, totals, resumed=False):
        models = AGENT_MODELS if script.agent else MAIN_MODELS
        for place in range(count):
            self._number += 1
            call = self.source.draw_call(self._number, models, lines_per_call(self._room, self.source))
            write_call(script, call, self._room)
            self.truth.add(session.arm, script.ts_ms, call.model, call.tokens)
            add_tokens(totals, call.model, call.tokens)
            if self._number % 211 == 0:
                script.synthetic()
            if resumed and place == count // 2:
                script.cost_state(session.start_ms, totals)
        script.attach_rest(self._room * count)

    def _write_cost_state(self, script, session, totals, titled):
        if titled:
            tokens = (300 + int(self.source.random() * 2000), 20 + int(self.source.random() * 200), 0, 0, 0, 0)
            self.truth.add(session.arm, script.ts_ms, HELPER_MODEL, tokens, transcribed=False)
            add_tokens(totals, HELPER_MODEL, tokens)
        script.cost_state(session.start_ms, totals)

    def _save(self, path, script, session, agent):
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        with open(path, 'wb') as file:
            file.write(b''.join(script.lines))
        set_mtime(path, script.ts_ms)
        self._bytes += script.size
        self._touch(folder, session)
        if session.index < LIVE_SESSIONS and len(self.live) < 3:
            self.live.append(Live(path, script.size, script.ts_ms, session.name, agent, session.cwd, session.arm))

    def _touch(self, folder, session):
        """A folder changed when its newest file was made; so did the folders above it, if it is new in them."""
        projects = os.path.join(self.root, 'claude', 'projects')
        while folder != projects:
            self._folder_times[folder] = max(session.start_ms, self._folder_times.get(folder, 0))
            folder = os.path.dirname(folder)


def munge(cwd):
    return ''.join(letter if letter.isalnum() and letter.isascii() else '-' for letter in cwd)


def add_tokens(totals, model, tokens):
    totals[model] = tuple(map(sum, zip(totals.get(model, (0,) * 6), tokens)))


def set_mtime(path, ts_ms):
    os.utime(path, (ts_ms / 1000, ts_ms / 1000))


class Corpus:
    """A folder with Claude Code's logs in `claude`, the clients' repos that they name, and the truth about them."""

    def __init__(self, root, shape, now_ms, truth, live, size, folders):
        self.root, self.shape, self.now_ms, self.truth, self.live = root, shape, now_ms, truth, live
        self.size, self.folders = size, folders
        self._source, self._next = Source(shape.seed + 1), shape.calls

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def transcripts(self):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.path('claude'))
                      for name in names if name.endswith('.jsonl'))

    def append_calls(self, count):
        """Append fresh calls to the live files, as a running session and its sub-agents do."""
        room = self.shape.bytes / self.shape.calls
        for place, live in enumerate(self.live):
            script = Transcript(self._source, live.session, live.cwd, live.mtime_ms + 1000, 0, live.agent)
            for _ in range(count // len(self.live) + (place < count % len(self.live))):
                self._next += 1
                call = self._source.draw_call(self._next, MAIN_MODELS, lines_per_call(room, self._source))
                write_call(script, call, room)
                self.truth.add(live.arm, script.ts_ms, call.model, call.tokens)
            with open(live.path, 'ab') as file:
                file.write(b''.join(script.lines))

    def restore(self):
        """Take back what append_calls wrote, so that a kept corpus is again what its truth says."""
        for live in self.live:
            os.truncate(live.path, live.size)
            set_mtime(live.path, live.mtime_ms)

    def save(self):
        values = {'shape': self.shape, 'now_ms': self.now_ms, 'truth': self.truth.rows(), 'live': self.live, 'size': self.size,
                  'folders': self.folders, 'root': self.root}
        with open(self.path('truth.json'), 'w', encoding='utf-8') as file:
            json.dump(values, file)


def load_corpus(root):
    with open(os.path.join(root, 'truth.json'), encoding='utf-8') as file:
        values = json.load(file)
    if values['root'] != os.path.realpath(root):
        raise ValueError('%s was moved, and its lines name the old place: remove it' % root)
    corpus = Corpus(values['root'], Shape(*values['shape']), values['now_ms'], Truth(values['truth']),
                    [Live(*live) for live in values['live']], values['size'], values['folders'])
    corpus.restore()
    return corpus


def make_corpus(root, shape, now_ms):
    """The corpus in this folder; written now unless it is there already, of the same shape."""
    if os.path.exists(os.path.join(root, 'truth.json')):
        corpus = load_corpus(root)
        if corpus.shape != shape:
            raise ValueError('%s holds a corpus of another shape (%s): remove it' % (root, corpus.shape))
        return corpus
    make_room(root, shape.bytes)
    corpus = Generator(root, shape, now_ms).write()
    corpus.save()
    os.sync() if hasattr(os, 'sync') else None
    return corpus


# ---------------------------------------------------------------- running and measuring

class WrongFigure(Exception):
    """A script did not answer, or answered something else than the truth."""


Run = namedtuple('Run', 'seconds status output errors')
Timing = namedtuple('Timing', 'floor_s ours_s')          # of each run
PAYLOAD = {'session_id': 'bench', 'permission_mode': 'default', 'hook_event_name': 'PreToolUse', 'tool_name': 'Bash',
           'tool_input': {'command': 'ls', 'description': 'list'}, 'tool_use_id': 'toolu_bench'}
BENCH_MARK = 'ARMLEDGER_BENCH_RUN'      # in the environment of what is measured, so that every process of it is found


class Runner:
    """Starts processes as cheaply as can be, with files as their stdin and stdout."""

    def __init__(self, scratch, env):
        self.env = env
        self._stdin, self._stdout, self._stderr = (os.path.join(scratch, name) for name in ('stdin', 'stdout', 'stderr'))

    def run(self, argv, stdin=b''):
        self._give(stdin)
        began = time.perf_counter()
        started = self._start(argv)
        try:
            status = self._wait(started)
        except BaseException:                   # it must not go on writing where we clean up
            stop(started)
            raise
        return Run(time.perf_counter() - began, status, self._read(self._stdout), self._read(self._stderr))

    def peak_bytes(self, argv, stdin=b''):
        """The most memory that all processes of a run held together, shared pages counted once. None where it can't be seen."""
        if not os.path.exists('/proc/self/smaps_rollup') or not hasattr(os, 'posix_spawn'):
            return None
        self._give(stdin)
        pid, peak, seen = self._start(argv), 0, {}
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            peak = max(peak, sum(map(pss_bytes, marked_processes(seen))))
            time.sleep(0.002)
        return peak

    def _give(self, stdin):
        with open(self._stdin, 'wb') as file:
            file.write(stdin)

    def _start(self, argv):
        if not hasattr(os, 'posix_spawn'):
            with open(self._stdin, 'rb') as stdin, open(self._stdout, 'wb') as stdout, open(self._stderr, 'wb') as stderr:
                return subprocess.Popen(argv, env=self.env, stdin=stdin, stdout=stdout, stderr=stderr)
        write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return os.posix_spawn(argv[0], argv, self.env, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, self._stdin, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, self._stdout, write, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, self._stderr, write, 0o600)])

    def _wait(self, started):
        if not hasattr(os, 'posix_spawn'):
            return started.wait()
        return os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])

    def _read(self, path):
        with open(path, 'rb') as file:
            return file.read().decode('utf-8', 'replace')


def stop(started):
    if hasattr(started, 'kill'):
        started.kill()
        started.wait()
    else:
        os.kill(started, signal.SIGKILL)
        os.waitpid(started, 0)


def marked_processes(seen):
    """The processes that were started by this bench. `seen` remembers the answer for each process number."""
    mark = ('%s=%d' % (BENCH_MARK, os.getpid())).encode()
    for pid in filter(str.isdigit, os.listdir('/proc')):
        if not seen.get(pid):
            seen[pid] = mark in read_proc(pid, 'environ')
    return [pid for pid, ours in seen.items() if ours]


def pss_bytes(pid):
    found = read_proc(pid, 'smaps_rollup').partition(b'\nPss:')[2].split(None, 1)
    return int(found[0]) * 1024 if found else 0


def read_proc(pid, name):
    try:
        with open('/proc/%s/%s' % (pid, name), 'rb') as file:
            return file.read()
    except OSError:         # it has ended, or is another user's
        return b''


def interleave(runs, floor, ours, before=None):
    """Floor and subject in turn, so that what slows the machine down slows both. Two warm-ups are not counted."""
    floors, subjects = [], []
    for number in range(-2, runs):
        floor_s = floor()
        if before:
            before()
        ours_s = ours()
        if number >= 0:
            floors.append(floor_s)
            subjects.append(ours_s)
    return Timing(floors, subjects)


def ratio(timing):
    return statistics.median(timing.ours_s) / statistics.median(timing.floor_s)


def quartiles(seconds):
    """The first and the third quartile."""
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    cuts = statistics.quantiles(seconds, n=4, method='inclusive')
    return cuts[0], cuts[2]


class Rig:
    """The scripts beside a budgets.yaml that arms every client of one corpus, with a ledger of their own."""

    def __init__(self, scratch, corpus, options):
        self.corpus, self.python, self.tool = corpus, options.python, options.tool
        self.hooks, self.home = os.path.join(scratch, 'hooks'), os.path.join(scratch, 'ledger')
        os.makedirs(self.hooks)
        os.makedirs(self.home, 0o700)
        for name in SCRIPTS:
            shutil.copy(os.path.join(options.scripts, name), self.hooks)
        self.arm_all()
        self.runner = Runner(scratch, self._environment())

    def _environment(self):
        path = self.corpus.path
        env = {'HOME': path('home'), 'USERPROFILE': path('home'), 'CLAUDE_CONFIG_DIR': path('claude'), 'CODEX_HOME': path('codex'),
               'ARMLEDGER_HOME': self.home, 'TZ': 'UTC', 'PATH': os.environ.get('PATH', os.defpath), BENCH_MARK: str(os.getpid())}
        env.update((name, os.environ[name]) for name in ('SYSTEMROOT', 'LD_LIBRARY_PATH') if name in os.environ)
        return env

    def arm_all(self, special={}):
        """Write budgets.yaml: caps that nobody reaches, but for the arms given as {arm: line with its cap}."""
        lines = ['budgets:']
        for arm in self.corpus.truth.arms():
            lines += ['  - arm: ' + arm, '    path: ' + json.dumps(self.corpus.path('clients', arm)),
                      '    ' + special.get(arm, 'monthly_usd_cap: 900000.00'), '    action_on_breach: hard_stop']
        with open(os.path.join(self.hooks, 'budgets.yaml'), 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')

    def command(self, script, *arguments):
        return [self.python, '-IS', os.path.join(self.hooks, script)] + list(arguments)

    def json_answer(self, script, *arguments):
        run = self.runner.run(self.command(script, *arguments, '--now', format_time(self.corpus.now_ms)))
        try:
            return json.loads(run.output, parse_float=Decimal)
        except ValueError:
            raise WrongFigure('%s %s: exit %d, %s' % (script, ' '.join(arguments), run.status, run.errors.strip() or run.output[:300]))

    def floor(self, imports):
        argv = [self.python, '-ISc', 'import ' + imports]
        return lambda: self.runner.run(argv).seconds

    def ask_gate(self, cwd, tool):
        payload = dict(PAYLOAD, cwd=cwd, tool_name=tool, transcript_path=self.corpus.live[-1].path)
        return self.runner.run(self.command('pretooluse-hook.py'), json.dumps(payload).encode())

    def silent_gate(self, cwd):
        def ask():
            run = self.ask_gate(cwd, self.tool)
            if run.status or run.output or run.errors:
                raise WrongFigure('the gate was not silent: exit %d, %s%s' % (run.status, run.output[:500], run.errors[-500:]))
            return run.seconds
        return ask

    @property
    def armed_cwd(self):
        return self.corpus.live[0].cwd

    def first_read(self, ledger):
        run = self.runner.run(self.first_read_command(ledger))
        if run.status:
            raise WrongFigure('the first read failed: exit %d, %s' % (run.status, run.errors[-500:]))
        remove_ledger(ledger)
        return run.seconds

    def first_read_command(self, ledger):
        return self.command('budget-check.py', '--json', '--ledger', ledger, '--now', format_time(self.corpus.now_ms))


def remove_ledger(path):
    for name in os.listdir(os.path.dirname(path)):
        if name.startswith(os.path.basename(path)):
            os.remove(os.path.join(os.path.dirname(path), name))


def read_once(runner, paths):
    """Seconds that it takes to read these files once, as `cat FILES > /dev/null` does."""
    cat = shutil.which('cat')
    began = time.perf_counter()
    if not cat or not hasattr(os, 'posix_spawn'):
        for path in paths:
            with open(path, 'rb', buffering=0) as file:
                while file.read(1 << 17):
                    pass
        return time.perf_counter() - began
    for batch in batches(paths):
        pid = os.posix_spawn(cat, [cat] + batch, runner.env, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
        os.waitpid(pid, 0)
    return time.perf_counter() - began


def batches(paths):
    """As few lists as fit on command lines."""
    limit, batch, size = os.sysconf('SC_ARG_MAX') * 3 // 4, [], 0
    for path in paths:
        if batch and size + len(path) + 16 > limit:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += len(path) + 16
    yield batch


# ---------------------------------------------------------------- the figures against the truth

REPORT_TOKENS = ('input_tokens', 'output_tokens', 'cache_write_tokens', 'cache_read_tokens', 'web_searches')


def expected_row(sums):
    calls, fresh, output, short, long, read, searches, pico = sums
    return {'calls': calls, 'input_tokens': fresh, 'output_tokens': output, 'cache_write_tokens': short + long, 'cache_read_tokens': read,
            'web_searches': searches, 'usd': Decimal(pico) / PICO}


def differences(name, found, expected):
    """What is wrong in one row, as texts. Money may be rounded to the micro-dollar, and to nothing coarser."""
    for key, value in expected.items():
        given = found.get(key)
        near = given is not None and abs(Decimal(given) - value) < Decimal('0.000001') if isinstance(value, Decimal) else given == value
        if not near:
            yield '%s: %s is %s, and the truth is %s' % (name, key, given, value)


def check_rows(what, rows, keys, names, truth_of):
    """What is wrong in rows that are told apart by these keys: one for each name that cost something, and no other."""
    by_name = {tuple(row.get(key) for key in keys): row for row in rows}
    for name in names:
        expected = truth_of(*name)
        if any(expected.values()) or name in by_name:
            for wrong in differences(' '.join((what,) + name), by_name.pop(name, {}), expected):
                yield wrong
    for name in by_name:
        yield '%s %s should not be there' % (what, ' '.join(map(str, name)))


def check_figures(rig):
    """Every figure of the verdict and of two reports that is not the truth."""
    truth, month_ms = rig.corpus.truth, month_start_ms(rig.corpus.now_ms)
    arms = [(arm,) for arm in truth.arms()]
    pairs = [(arm, model) for arm in truth.arms() for model in truth.models()]

    def usd(**picked):
        return Decimal(truth.total(**picked)[-1]) / PICO

    def verdict_of(arm):
        return {'spent_usd': usd(arm=arm, since_ms=month_ms), 'untranscribed_usd': usd(arm=arm, since_ms=month_ms, transcribed=False),
                'assumed_usd': Decimal(0), 'tier': 'ok'}

    def row_of(arm, model=None, since_ms=month_ms):
        picked = {'arm': arm, 'model': model, 'since_ms': since_ms}
        return dict(expected_row(truth.total(**picked)), calls=truth.total(transcribed=True, **picked)[0],
                    untranscribed_usd=usd(transcribed=False, **picked), assumed_usd=Decimal(0))

    wrong = list(check_rows('verdict:', rig.json_answer('budget-check.py', '--json')['arms'], ['arm'], arms, verdict_of))
    report = rig.json_answer('cost-report.py', '--format', 'json')
    wrong += check_rows('month to date:', report['rows'], ['arm'], arms, row_of)
    wrong += differences('month to date', report, {'total_usd': usd(since_ms=month_ms), 'unattributed_usd': Decimal(0), 'skipped_lines': 0})
    since = format_time(rig.corpus.now_ms - 40 * DAY_MS)[:10]
    report = rig.json_answer('cost-report.py', '--format', 'json', '--by', 'model', '--since', since)
    wrong += check_rows('by model:', report['rows'], ['arm', 'model'], pairs, lambda arm, model: row_of(arm, model, 0))
    return wrong


def check_last_byte(rig):
    """A cap that the calls so far keep and the next ones break: the verdict before them warns, the gate after them refuses."""
    arm, wrong = rig.corpus.live[0].arm, []
    grace_usd = Decimal(rig.corpus.truth.total(arm=arm)[-1]) / PICO + Decimal('0.01')
    rig.arm_all({arm: 'total_usd_cap: %.6f' % (grace_usd / Decimal('1.1'))})
    tiers = {row['arm']: row['tier'] for row in rig.json_answer('budget-check.py', '--json')['arms']}
    if tiers[arm] != 'warn':
        wrong.append('%s: tier is %s a cent below its grace' % (arm, tiers[arm]))
    rig.corpus.append_calls(20)
    answer = rig.ask_gate(rig.armed_cwd, 'Agent').output
    if '"permissionDecision": "deny"' not in answer.replace('":"', '": "'):
        wrong.append('%s: the gate let a sub-agent pass though the last calls on disk take it over its grace: %s' % (arm, answer))
    rig.arm_all()
    return wrong


# ---------------------------------------------------------------- the rows

Row = namedtuple('Row', 'what floor ours ours_range ratio goal')      # texts, but ratio and goal


def timed_row(what, timing, goal):
    low, high = quartiles(timing.ours_s)
    return Row(what, format_seconds(statistics.median(timing.floor_s)), format_seconds(statistics.median(timing.ours_s)),
               '%s to %s' % (format_seconds(low), format_seconds(high)), ratio(timing), goal)


def format_seconds(seconds):
    return '%.1f ms' % (seconds * 1000) if seconds < 1 else '%.2f s' % seconds


def format_count(count):
    return '{:,}'.format(count)


def verdict(row):
    if row.goal is None:
        return ''
    return 'n/a' if row.ratio is None else 'PASS' if row.ratio <= row.goal else 'over'


class Bench:
    """Makes corpora as rows need them, runs the rows, and keeps what was wrong."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.rows, self.wrong, self._rigs = [], [], {}

    def run(self, picked):
        for number in sorted(picked):
            for row in getattr(self, 'row_%d' % number)():
                self.rows.append(row)
                say('%-64s %s' % (row.what, format_row(row)))

    def rig(self, name):
        """The corpus of this name with its scripts, its ledger already built and its figures checked."""
        if name not in self._rigs:
            shape = self.options.shapes[name]
            began = time.perf_counter()
            corpus = make_corpus(os.path.join(self.options.corpus or self.scratch, name), shape, self.options.now_ms)
            say('corpus %s: %s bytes, %s files in %s folders, %s calls (%.1f s)' % (
                name, *map(format_count, (corpus.size, shape.files, corpus.folders, shape.calls)), time.perf_counter() - began))
            rig = Rig(tempfile.mkdtemp(dir=self.scratch), corpus, self.options)
            self._rigs[name] = rig
            self.check(rig)
        return self._rigs[name]

    def check(self, rig):
        wrong = check_figures(rig)
        for text in wrong[:20]:
            say('WRONG: ' + text)
        self.wrong += wrong

    def restore(self):
        for rig in self._rigs.values():
            rig.corpus.restore()

    def row_1(self):
        rig = self.rig('main')
        ask = rig.silent_gate(rig.corpus.path('elsewhere'))
        yield timed_row('gate, nothing armed for this arm', interleave(self.options.gate_runs, rig.floor('json'), ask), 1.5)

    def row_2(self):
        yield self._nothing_new('main', 2.5)

    def row_3(self):
        yield self._nothing_new('stat', 4.0)

    def _nothing_new(self, name, goal):
        rig = self.rig(name)
        what = 'gate, armed, nothing new, %s files in %s folders' % (format_count(rig.corpus.shape.files), format_count(rig.corpus.folders))
        timing = interleave(self.options.gate_runs, rig.floor('json, sqlite3'), rig.silent_gate(rig.armed_cwd))
        return timed_row(what, timing, goal)

    def row_4(self):
        rig = self.rig('main')
        timing = interleave(self.options.gate_runs, rig.floor('json, sqlite3'), rig.silent_gate(rig.armed_cwd),
                            before=lambda: rig.corpus.append_calls(20))
        yield timed_row('gate, armed, 20 new calls in %d files' % len(rig.corpus.live), timing, 2.7)
        self.check(rig)
        self.wrong += check_last_byte(rig)
        self.check(rig)

    def row_5(self):
        rig = self.rig('main')
        paths, ledger = rig.corpus.transcripts(), os.path.join(rig.home, 'first.sqlite3')
        timing = interleave(self.options.runs, lambda: read_once(rig.runner, paths), lambda: rig.first_read(ledger))
        yield timed_row('first read of %s' % format_bytes(rig.corpus.size), timing, 2.5)
        peak = rig.runner.peak_bytes(rig.first_read_command(ledger))
        remove_ledger(ledger)
        yield Row('its peak memory, all processes together', '128 MB', '%d MB' % (peak / 1e6) if peak else 'n/a', '', peak and peak / 128e6, 1.0)

    def row_6(self):
        rig = self.rig('main')
        argv = rig.command('cost-report.py')
        timing = interleave(self.options.gate_runs, rig.floor('json, sqlite3'), lambda: rig.runner.run(argv).seconds)
        yield timed_row('cost-report by arm, month to date, warm', timing, 5.0)

    def row_7(self):
        few, many = self.rig('few'), self.rig('many')
        what = 'verdict in the gate, %s calls against %s' % (format_count(many.corpus.shape.calls), format_count(few.corpus.shape.calls))
        yield timed_row(what, interleave(self.options.gate_runs, few.silent_gate(few.armed_cwd), many.silent_gate(many.armed_cwd)), 1.3)

    def sweep(self):
        """Yields (what varies, bytes, files, calls, seconds of a first read, seconds of the floor)."""
        base = self.options.shapes['main']._replace(folders=0)
        base = base._replace(bytes=base.bytes // 4, files=base.files // 4, calls=base.calls // 4)
        shapes = [('bytes', base._replace(bytes=base.bytes * times)) for times in (1, 2, 4)]
        shapes += [('files', base._replace(files=base.files * times)) for times in (2, 4)]
        shapes += [('calls', base._replace(calls=base.calls * times)) for times in (2, 4)]
        for number, (what, shape) in enumerate(shapes):
            root = os.path.join(self.scratch, 'sweep%d' % number)
            corpus = make_corpus(root, shape, self.options.now_ms)
            rig = Rig(tempfile.mkdtemp(dir=self.scratch), corpus, self.options)
            paths, ledger = corpus.transcripts(), os.path.join(rig.home, 'first.sqlite3')
            timing = interleave(3, lambda: read_once(rig.runner, paths), lambda: rig.first_read(ledger))
            yield what, corpus.size, shape.files, shape.calls, statistics.median(timing.ours_s), statistics.median(timing.floor_s)
            shutil.rmtree(root)


def say(text):
    print(text, file=sys.stderr, flush=True)


def format_bytes(count):
    return '%.1f GB' % (count / 1e9) if count >= 10**9 else '%d MB' % (count / 1e6)


def format_row(row):
    shown = '%.2f' % row.ratio if row.ratio else 'n/a'
    return '%s / %s = %s (goal %.1f) %s' % (row.ours, row.floor, shown, row.goal, verdict(row))


def format_table(header, rows, markdown):
    rows = [header] + [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    edge, between = ('| ', ' | ') if markdown else ('', '  ')
    lines = [(edge + between.join(cell.ljust(width) for cell, width in zip(row, widths)) + edge[::-1]).rstrip() for row in rows]
    rule = '|' + '|'.join('-' * (width + 2) for width in widths) + '|' if markdown else '-' * len(lines[0])
    return '\n'.join(lines[:1] + [rule] + lines[1:])


def bench_table(rows, markdown=False):
    header = ('what', 'floor', 'ours (median)', 'middle half', 'ratio', 'goal', '')
    cells = [(row.what, row.floor, row.ours, row.ours_range, '%.2f' % row.ratio if row.ratio else 'n/a', '%.1f' % row.goal, verdict(row))
             for row in rows]
    return format_table(header, cells, markdown)


def sweep_table(lines, markdown=False):
    cells = [(what, format_bytes(size), format_count(files), format_count(calls), format_seconds(ours), format_seconds(floor))
             for what, size, files, calls, ours, floor in lines]
    return format_table(('more', 'bytes', 'files', 'calls', 'first read', 'cat'), cells, markdown)


def describe_machine(python):
    """Of the machine and the interpreter, what explains a time."""
    processor = platform.processor() or platform.machine()
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            processor = next((line.split(':')[1].strip() for line in file if line.startswith('model name')), processor)
    except OSError:
        pass
    version = subprocess.run([python, '-c', 'import platform, sqlite3; print(platform.python_implementation(), platform.python_version() '
                              '+ ", SQLite", sqlite3.sqlite_version)'], stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    return '%s, %d cores, %s %s, %s' % (processor, os.cpu_count(), platform.system(), platform.release(), version)


# ---------------------------------------------------------------- the command line

UNITS = {'': 1, 'K': 10**3, 'M': 10**6, 'G': 10**9}


def parse_size(text):
    """'1G', '300K', '5_000' -> a whole number."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ''
    try:
        return int(Decimal(text[:len(text) - len(unit)]) * UNITS[unit])
    except (ArithmeticError, KeyError):
        raise argparse.ArgumentTypeError('%r: give a number such as 5000, 300K or 1.5G' % text)


def parse_rows(text):
    try:
        rows = {int(number) for number in text.split(',') if number}
    except ValueError:
        rows = {0}
    if not rows <= set(range(1, 8)):
        raise argparse.ArgumentTypeError('%r: give numbers from 1 to 7, such as 1,2,5' % text)
    return rows


def parse_options(arguments):
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_argument_group('the corpus (numbers as 5000, 300K, 1G)')
    sizes.add_argument('--bytes', type=parse_size, default='1G', help='size of the main corpus (%(default)s)')
    sizes.add_argument('--files', type=parse_size, default='5000', help='its transcripts, a fifth of them sub-agents\' (%(default)s)')
    sizes.add_argument('--folders', type=parse_size, default='0', help='its folders (as many as such a month makes: about a sixth of the files)')
    sizes.add_argument('--calls', type=parse_size, help='its calls (40,000 per GB)')
    sizes.add_argument('--arms', type=parse_size, default='25', help='clients, all of them armed (%(default)s)')
    sizes.add_argument('--stat-files', type=parse_size, default='10500', help='files of the layout of row 3 (%(default)s)')
    sizes.add_argument('--stat-folders', type=parse_size, default='3750', help='folders of the layout of row 3 (%(default)s)')
    sizes.add_argument('--growth-calls', type=parse_size, default='400K', help='calls of row 7\'s larger ledger (%(default)s)')
    sizes.add_argument('--quick', action='store_true', help='everything at a twentieth')
    sizes.add_argument('--seed', type=int, default=1, help='(%(default)s)')
    sizes.add_argument('--now', help='the time up to which the logs reach, such as 2026-11-23T12:00:00Z (now; the gate always goes by the clock)')
    sizes.add_argument('--corpus', metavar='DIR', help='write the corpora here and keep them; a corpus of the same shape that is here is used again')
    sizes.add_argument('--keep', action='store_true', help='keep the scratch folder, and say where it is')
    runs = parser.add_argument_group('the runs')
    runs.add_argument('--rows', type=parse_rows, default='1,2,3,4,5,6,7', help='rows to run; empty: only write the main corpus (%(default)s)')
    runs.add_argument('--runs', type=int, default=9, help='runs of a first read (%(default)s)')
    runs.add_argument('--gate-runs', type=int, default=31, help='runs of everything that takes milliseconds (%(default)s)')
    runs.add_argument('--tool', default='Bash', help='the tool that the gate is asked about; Agent is an expensive one (%(default)s)')
    runs.add_argument('--sweep', action='store_true', help='also show how a first read grows with bytes, files and calls')
    runs.add_argument('--python', default=sys.executable, help='the interpreter to measure (this one)')
    runs.add_argument('--scripts', metavar='DIR', default=os.path.dirname(here), help='where the scripts are (the folder above tests)')
    runs.add_argument('--markdown', action='store_true', help='print the tables as Markdown')
    runs.add_argument('--strict', action='store_true', help='a missed goal fails too')
    options = parser.parse_args(arguments)
    options.now_ms = parse_time(options.now) if options.now else int(time.time() * 1000)
    options.calls = options.calls or max(options.files, options.bytes // 25_000)
    options.shapes = corpus_shapes(options)
    return options


def corpus_shapes(options):
    scale = 20 if options.quick else 1
    main = Shape(options.bytes // scale, options.files // scale, options.folders // scale, options.calls // scale, options.arms, options.seed)
    stat_files = options.stat_files // scale
    stat = Shape(stat_files * 9000, stat_files, options.stat_folders // scale, stat_files, options.arms, options.seed)
    many = options.growth_calls // scale
    few = Shape(many * 120, min(2000, many // 20), 0, many // 10, options.arms, options.seed)
    return {'main': main, 'stat': stat, 'few': few, 'many': few._replace(bytes=many * 1200, calls=many)}


def real_interpreter(python):
    """The interpreter itself: a version manager's shim would be timed too."""
    return subprocess.run([python, '-c', 'import sys; print(sys.executable)'], stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout.strip()


def bench(options, scratch):
    if not options.rows and not options.sweep:
        root = os.path.join(options.corpus or scratch, 'main')
        corpus = make_corpus(root, options.shapes['main'], options.now_ms)
        print('%s: %s bytes in %s files, %s folders' % (root, *map(format_count, (corpus.size, corpus.shape.files, corpus.folders))))
        return 0
    runs = Bench(options, scratch)
    try:
        runs.run(options.rows)
        swept = list(runs.sweep()) if options.sweep else []
    finally:
        runs.restore()
    print(describe_machine(options.python))
    if runs.rows:
        print(bench_table(runs.rows, options.markdown))
    if swept:
        print('\nHow a first read grows:\n\n' + sweep_table(swept, options.markdown))
    if runs.rows:
        print('\n' + ('%d figures are wrong' % len(runs.wrong) if runs.wrong else 'every figure equals the truth'))
    return 1 if runs.wrong or options.strict and any(verdict(row) == 'over' for row in runs.rows) else 0


def main(arguments=None):
    options = parse_options(arguments)
    options.python = real_interpreter(options.python)
    scratch = tempfile.mkdtemp(prefix='armledger-bench-')
    try:
        return bench(options, scratch)
    except WrongFigure as error:
        print('bench: %s' % error, file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print('bench: %s' % error, file=sys.stderr)
        return 2
    finally:
        if options.keep:
            say('kept %s' % scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # so that what was written is removed
    sys.exit(main())
