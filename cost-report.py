#!/usr/bin/env python3
"""What coding agents have cost, client by client: for people, sheets, FinOps tools and cron.

    cost-report.py                                     month to date, by arm
    cost-report.py --by day,model --last 7d            one or more of the keys that --help lists
    cost-report.py --by day --arm acme --compare       each day beside the one before
    cost-report.py --yesterday --quiet                 from cron: prints if something is the matter
    cost-report.py --arm acme --month 2026-10 --format html --output acme.html       a statement
    cost-report.py --format focus --month 2026-10      for a FinOps tool
    cost-report.py --baseline claude-opus-5-5          what routing to other models has saved
    cost-report.py --billed bill.csv                   estimates beside what was billed

A statement is for the client: any html, markdown or csv with --arm and --month. Figures are estimates
from the agents' own session logs: list price times each arm's rate_pct. budget-check.py, which lies
beside this script, has the ledger, arms and caps; without it the logs are read by folder, and what
can't be known so is said.

Exit codes: 0 the report was made; 1 it could not be, or budgets.yaml could not be read (the costs
are shown without it).
"""
import sys

if sys.version_info < (3, 9):
    sys.exit('armledger needs Python 3.9 or later; this is %d.%d' % sys.version_info[:2])

import json
import os
import re
import time
from collections import namedtuple
from functools import lru_cache


# --- BEGIN shared block: the same in budget-check.py and cost-report.py; edit it here, then `make sync`

# ---- meter --------------------------------------------------------------------------------------
# Log lines -> calls, a call -> its price. It keeps nothing: what a log has told so far is in the
# `state` of its reader. Times are milliseconds since the epoch, None where no line tells one.

PICO = 10**12  # money is kept in whole pico-dollars: sums are exact
MILLION = 10**6
OPEN = 1 << 62  # later than any time

# A line of a billed call; several lines, and copies in other files, are one call. Calls are told
# apart by key and request. Of the lines with one key only those of the least standing // 2 count;
# those with an odd standing are marked as copies.
#   kind    call, advisor_message, compaction; echo: a call that is told under another key
#   tokens  input, output, cache writes for 5 minutes, for an hour, cache reads, web searches
Call = namedtuple(
    'Call', 'key request session agent standing kind ts cwd model variant tokens uses_tool')

# What an agent itself says that a session has used up to now.
#   start     what a family of forks has in common, or 0
#   is_split  whether 5-minute and 1-hour cache writes are told apart
#   ended     when the session went on, as far as is known: its stretch ends there
#   totals    {model: (the six counts of a call, pico-dollars or 0)}
Mark = namedtuple('Mark', 'session ts cwd start is_split ended totals')

# What a log says of a session; of several rows of one session the least `began` holds, and the
# folder of the least `cwd_ts`. `root` is the session that it was forked from, '' for none.
Session = namedtuple('Session', 'name began cwd_ts cwd root version')


class Found:
    """What some lines of a log say. `state` is what its reader keeps of the lines before them."""

    def __init__(self, state=None):
        self.calls, self.marks, self.sessions, self.skipped, self.state = [], [], [], 0, state

    def records_of(self, line):
        records = parse_records(line)
        self.skipped += {} in records
        return records

    def add_session(self, record, session, began, ts):
        """Note where a session was at a time, if nothing earlier is known of it."""
        earliest, cwd = self.state.setdefault('earliest', {}), text_in(record, 'cwd')
        if cwd and ts and ts < earliest.get(session, OPEN):
            earliest[session] = ts
            self.sessions.append(Session(session, began, ts, cwd, '', text_in(record, 'version')))

    def add_mark(self, mark):
        self.marks.append(mark)
        self.state.setdefault('open', []).append(mark)

    def end_marks(self, ts):
        """A session went on: its totals are told again, with the end of their stretch."""
        self.marks += [Mark(*mark)._replace(ended=ts) for mark in self.state.pop('open', ())]


class UserError(Exception):
    """A mistake that its user can mend; str() is `name:line:column: message`, 1-based."""

    def __init__(self, message, name=None, line=None, column=None):
        place = ':'.join(str(one) for one in (name, line, column) if one is not None)
        Exception.__init__(self, place + ': ' + message if place else message)
        self.message, self.name, self.line, self.column = message, name, line, column


BIDI = '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'


def printable(text, limit=200):
    """Log text and names for a terminal: no control characters, no bidi tricks, not endless."""
    kept = ''.join(c if c.isprintable() and c not in BIDI else '\ufffd'
                   for c in text[:limit + 1])
    return kept if len(kept) <= limit else kept[:limit - 1] + '…'


# -- values


def parse_time(text):
    """Milliseconds since the epoch of an ISO 8601 time; None if it isn't one. No zone is UTC."""
    try:
        from _datetime import datetime         # `datetime` alone takes 1 ms more to import
    except ImportError:
        from datetime import datetime
    form = r'(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?([Zz]|[+-]\d\d:?\d\d)?\Z'
    try:
        day, minute, second, fraction, zone = re.match(form, text, re.ASCII).groups()
        zone = zone[:3] + ':' + zone[-2:] if zone and zone not in 'Zz' else '+00:00'
        when = datetime.fromisoformat(day + ' ' + minute + (second or ':00') + zone)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None
    return int(when.timestamp()) * 1000 + int((fraction or '')[:3].ljust(3, '0'))


def time_of(record):
    """When a line was written; None for no time, and for one of a clock that was never set."""
    ts = parse_time(record.get('timestamp'))
    return ts if ts and ts > 1577836800000 else None


def figure(value, most=10**10):
    """A figure that a gateway got wrong is no reason to lose a call: -1 or a text is 0."""
    return value if type(value) in (int, float) and 0 < value <= most else 0


def count(value):
    return int(figure(value))


def counts(record, *names):
    return [count(record.get(name)) for name in names]


def text_of(value, longest=4096):
    """A log's text as it may be kept; '' if it isn't text, or endless, or can't be encoded."""
    if type(value) is not str or len(value) > longest:
        return ''
    return value if value.isprintable() or not re.search('[\0\ud800-\udfff]', value) else ''


def text_in(record, name):
    return text_of(record.get(name))


def texts(record, *names):
    return [text_in(record, name) for name in names]


def part(value, name):
    """A map inside of a map, {} if there is none."""
    inner = value.get(name)
    return inner if type(inner) is dict else {}


def split_input(whole, read, written, output):
    """A call's tokens where cache reads and writes stand inside of input."""
    read = min(read, whole)
    written = min(written, whole - read)
    return whole - read - written, output, written, 0, read, 0


# -- lines


def open_plain(path):
    """A file for reading bytes; OSError for a pipe or device, which keeps its reader waiting."""
    flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
    number = os.open(path, flags)
    if os.fstat(number).st_mode & 0o170000 != 0o100000:
        os.close(number)
        raise OSError(0, 'it is not a plain file')
    return open(number, 'rb', buffering=0)


SCAN = json.JSONDecoder().scan_once    # json.loads without its preparations: half the time
OPENING = re.compile(r'\{"(?:parentUuid|isSidechain|type|uuid|timestamp|sessionId|id)":')


def parse_records(line):
    """The JSON objects of a line, [] for a blank one, {} in the place of what can't be read.

    Agents' lines get torn, with the next one glued on, or come behind NULs or a BOM: so it goes
    on at the next place where a record can begin. After 20 that can't be read it gives up."""
    text = line.decode('utf-8', 'replace').replace('\0', '').strip('\ufeff \t\r\n')
    at, found = 0, []
    while at < len(text) and found.count({}) < 20:
        try:
            record, at = SCAN(text, at)
        except (StopIteration, ValueError, RecursionError):
            record, at = {}, at + 1
        found.append(record if type(record) is dict else {})
        begun = OPENING.search(text, at)
        at = begun.start() if begun else len(text)
    return found


def lines_with(words, text):
    """(start, line) of the lines that hold one of some words; the parse decides what they are."""
    starts = set()
    for word in words:
        at = text.find(word)
        while at >= 0:
            starts.add(text.rfind(b'\n', 0, at) + 1)
            at = text.find(word, text.find(b'\n', at))
    for start in sorted(starts):
        yield start, text[start:text.find(b'\n', start)]


def reader(words, read_record):
    """The `read` of an Agent whose records can be read one by one."""
    def read(path, text, state):
        found = Found(state)
        for _, line in lines_with(words, text):
            for record in found.records_of(line):
                read_record(record, path, found)
        return found
    return read


def totals_of(models, tokens_of):
    """A Mark's totals; what the names of one model have used is put together."""
    totals = {}
    for model in models:
        name, usage = model_name(model), part(models, model)
        used = [*tokens_of(usage), round(figure(usage.get('costUSD'), MILLION) * PICO)]
        totals[name] = list(map(int.__add__, totals.get(name) or [0] * 7, used))
    return totals


# -- Claude Code: transcripts

CLAUDE_WORDS = b'"assistant"', b'"cost-state"', b'"output_tokens"'
EXTRA_CALLS = 'advisor_message', 'compaction'
BESIDES = re.compile(b'"(?:toolInputStreamMs|apiBlockIndex|requestId)":')


def read_claude(path, text, state):
    """What complete lines of a transcript say (an internal format, as of 2.1.331)."""
    found, name, last_gist = Found(state), os.path.basename(path)[:-6], b''
    is_agent = name.startswith('agent-')
    if not (is_agent or state.get('earliest')):
        find_beginning(name, text, found)
    told, seen = state.get('told') or (None, ''), 0
    for start, line in lines_with(CLAUDE_WORDS, text):
        gist, short = split_call(line)
        if gist and gist == last_gist:
            continue                           # another line of the call before
        last_gist = b''
        records = parse_records(short)
        if [part(record, 'message').get('content') for record in records] != [[]]:
            records = found.records_of(line)
        for record in records:
            ts = time_of(record)
            if not ts:
                told, seen = told_before(text[seen:start], told), start
            if record.get('type') == 'cost-state':
                found.add_mark(claude_mark(record, name, *told))
            calls = claude_calls(record, name, ts or told[0])
            if calls:
                found.calls += calls
                last_gist = gist
                found.end_marks(calls[0].ts or OPEN)
                if not (is_agent or 'forkedFrom' in record):
                    found.add_session(record, calls[0].session, None, ts)
    state['told'] = told_before(text[seen:], told)
    return found


def find_beginning(name, text, found):
    """A session began with its first line that has a time, and is not marked as a copy.

    The copies that a fork's file has are older: they tell where its family began."""
    for line in re.finditer(b'.+', text):
        for record in parse_records(line.group()):
            ts, session = time_of(record), text_in(record, 'sessionId') or name
            if ts and 'forkedFrom' not in record:
                found.add_session(record, session, found.state.setdefault('began', ts), ts)
            if found.sessions:
                return


def told_before(text, told):
    """(time, folder) as the last lines of a text tell, else as was told before."""
    ts, cwd, end = None, '', len(text)
    while end > 0 and not (ts and cwd):
        start = text.rfind(b'\n', 0, end - 1) + 1
        for record in reversed(parse_records(text[start:end])):
            ts, cwd = ts or time_of(record), cwd or text_in(record, 'cwd')
        end = start
    return ts or told[0], cwd or told[1]


def split_call(line):
    """(what all lines of a call have in common, the line without its content) of a line with one
    call, blanks for another. Only for speed: content is most of a line, and isn't billed.

    A quote inside of a text is escaped, so what is found are keys; the parse proves which."""
    stop = line.rfind(b'],"stop_reason":') + 2
    start, request = line.find(b'"message":'), line.find(b'"requestId":', stop)
    content = line.find(b'"content":[', start)
    if not 0 < start < content < stop < request or line.count(b'"message":') > 1:
        return b'', b''
    end = BESIDES.search(line, stop).start()
    gist = line[start:content] + line[stop:end] + line[request:line.find(b',', request)]
    return gist, line[:content] + b'"content":[],' + line[stop:]


def claude_calls(record, name, ts):
    """The call that a line is of, and those that only its iterations name; [] if none is billed."""
    if record.get('type') == 'progress':       # older versions: a copy of a sub-agent's line
        data = part(record, 'data')
        record = {**record, **data, **part(data, 'message'), 'isSidechain': True}
    message = part(record, 'message')
    usage, model = part(message, 'usage'), message.get('model')
    request, session, agent, cwd, uuid = texts(
        record, 'requestId', 'sessionId', 'agentId', 'cwd', 'uuid')
    key = text_in(message, 'id') or request or uuid
    is_failure = model == '<synthetic>' or record.get('isApiErrorMessage') is True
    if record.get('type') != 'assistant' or not usage or not key or is_failure:
        return []
    is_side = record.get('isSidechain') is True
    standing = is_side * 4 + (not request) * 2 + ('forkedFrom' in record)
    tags = map(usage.get, ('service_tier', 'speed', 'inference_geo'))
    calls = [Call(
        key, request, session or name, agent or 'sidechain' * is_side, standing, 'call', ts, cwd,
        model_name(model), ' '.join(tag for tag in tags if tag in TAGS), claude_tokens(usage),
        message.get('stop_reason') == 'tool_use')]
    iterations = usage.get('iterations')
    for n, one in enumerate(iterations if type(iterations) is list else ()):
        kind = type(one) is dict and text_in(one, 'type')
        if kind in EXTRA_CALLS:
            calls.append(calls[0]._replace(
                key='%s#%d' % (key, n),
                kind=kind,
                tokens=claude_tokens(one),
                model=model_name(one.get('model') or model)))
    return calls


def claude_tokens(usage):
    """Writes that aren't split are for 5 minutes; a split above its sum is the truth."""
    fresh, output, written, read = counts(
        usage, 'input_tokens', 'output_tokens', 'cache_creation_input_tokens',
        'cache_read_input_tokens')
    short, long = counts(
        part(usage, 'cache_creation'), 'ephemeral_5m_input_tokens', 'ephemeral_1h_input_tokens')
    searches = count(part(usage, 'server_tool_use').get('web_search_requests'))
    return fresh, output, max(short, written - long), long, read, searches


def claude_mark(record, name, ts, cwd):
    """A cost-state has neither time nor folder. Up to 2.1.308 it doesn't split cache writes."""
    models, long_writes = part(record, 'modelUsage'), 'cacheCreationEphemeral1hInputTokens'

    def tokens_of(usage):
        fresh, output, written, long, read, searches = counts(
            usage, 'inputTokens', 'outputTokens', 'cacheCreationInputTokens', long_writes,
            'cacheReadInputTokens', 'webSearchRequests')
        return fresh, output, max(0, written - long), long, read, searches

    return Mark(
        text_in(record, 'sessionId') or name,
        ts,
        cwd,
        int(figure(record.get('startTime'), OPEN)),
        all(long_writes in part(models, model) for model in models),
        OPEN,
        totals_of(models, tokens_of))


# -- Codex CLI: rollouts

CODEX_WORDS = (b'"session_meta"', b'"turn_context"', b'"thread_settings_applied"', b'_call"',
               b'"token_usage_record"', b'"token_count"')
CODEX_USAGE = 'input_tokens', 'cached_input_tokens', 'cache_write_input_tokens', 'output_tokens'
CODEX_TOOLS = 'function_call', 'custom_tool_call', 'local_shell_call'


def read_codex(record, path, found):
    """A record of a rollout (an internal format, from 2025-09 to 0.169)."""
    state, thread = found.state, os.path.basename(path)[-42:-6]
    if not state:          # until its head says more: rollout-<local time>-<thread>.jsonl
        state.update(
            dict.fromkeys(('cwd', 'model', 'tier', 'version'), ''),
            thread=thread,
            session=thread,
            root=thread,
            began=None,
            ts=None,
            total={},
            last=({}, '', False),
            drops=0,
            tool=False)
    kind, payload = record.get('type'), part(record, 'payload')
    if kind in ('event_msg', 'response_item'):
        kind = payload.get('type')
    state['ts'] = time_of(record) or state['ts']
    is_own = payload.get('thread_id') in (None, state['thread'])
    if kind == 'session_meta':
        codex_head(payload, state, found)
    elif kind == 'turn_context':
        model, cwd = texts(payload, 'model', 'cwd')
        state.update(model=model or state['model'], cwd=cwd or state['cwd'])
    elif kind == 'thread_settings_applied' and is_own:
        settings = part(payload, 'thread_settings')    # all of them: what is absent is off
        tier, model = texts(settings, 'service_tier', 'model')
        state.update(tier=tier if tier in TAGS else '', model=state['model'] or model)
    elif kind in CODEX_TOOLS:
        state['tool'] = True
    elif kind == 'token_usage_record' and is_own:
        key = text_in(payload, 'response_id') or '%s@%s' % (state['thread'], state['ts'])
        add_codex_call(codex_usage(payload, 'usage'), key, True, state, found)
    elif kind == 'token_count':
        codex_count(part(payload, 'info'), state, found)


def codex_head(meta, state, found):
    """The first one is the file's own. A copied history has those of the threads above, upwards.

    A sub-agent's calls are its session's; a fork is a session of its own."""
    thread, session, parent, fork_of, cwd, version = texts(
        meta, 'id', 'session_id', 'parent_thread_id', 'forked_from_id', 'cwd', 'cli_version')
    spawn = part(part(part(meta, 'source'), 'subagent'), 'thread_spawn')
    parent = parent or text_in(spawn, 'parent_thread_id')
    if thread and not state['version']:
        session = parent or thread if session in ('', thread) else session
        state.update(
            thread=thread,
            root=thread,
            session=session,
            cwd=cwd,
            began=time_of(meta) or state['ts'],
            version=version or '?')
    if thread == state['root']:
        state['root'] = fork_of or parent or thread
    began, root = state['began'], state['root']
    if state['session'] != state['thread']:
        began, root = None, ''                 # of the session above nothing is known
    found.sessions.append(Session(
        state['session'],
        began,
        state['began'],
        state['cwd'],
        root * (root != state['thread']),
        state['version']))


def codex_count(info, state, found):
    """A call, unless it is told again.

    A copy of a parent's history has the parent's totals, whatever its times: the family's root,
    the total, and how often totals were set back before (by a compaction) are the key."""
    total, before = codex_usage(info, 'total_token_usage'), state['total']
    usage = codex_usage(info, 'last_token_usage')
    if total and total == before:
        return
    if total:
        risen = [now - then for now, then in zip(total, before or [0] * 4)]
        state['drops'] += min(risen) < 0
        state['total'] = total
        is_fork = state['root'] != state['thread']
        if not any(usage) and (before or not is_fork):     # a fork's first has its parent's in it
            usage = [max(0, tokens) for tokens in risen]
    key = '%s:%d:%s' % (state['root'], state['drops'], total or [state['ts'], usage])
    add_codex_call(usage, key, False, state, found)


def codex_usage(record, name):
    """Four counts, or {}."""
    usage = part(record, name)
    return usage and counts(usage, *CODEX_USAGE)


def add_codex_call(usage, key, is_record, state, found):
    """A call's record, of newer versions, or its token_count, of all. The two in the same words,
    in either order, are one call: an echo, which bills nothing, takes the place of the count."""
    (last, last_key, was_record), state['last'] = state['last'], (usage, key, is_record)
    is_twin = usage == last and is_record != was_record
    if not any(usage):
        return
    thread, session = state['thread'], state['session']
    variant = state['tier'] + ' unsaid' * (not state['model'])         # so its price is assumed
    call = Call(
        key,
        '',
        session,
        thread * (thread != session),
        2 * (not is_record),
        'call',
        state['ts'],
        state['cwd'],
        model_name(state['model'] or 'gpt-5'),
        variant,
        split_input(*usage),
        state['tool'])
    if is_twin:
        found.calls.append(call._replace(
            key=last_key if is_record else key,
            standing=0,
            kind='echo',
            tokens=(0,) * 6,
            uses_tool=False))
    if is_record or not is_twin:
        found.calls.append(call)
        state['tool'] = False


# -- Copilot CLI, Qwen Code, Gemini CLI

def read_copilot(record, path, found):
    """Of events.jsonl. Before 1.0.102 it has totals alone, written as a session ends."""
    data, ts, state = part(record, 'data'), time_of(record), found.state
    session, place = os.path.basename(os.path.dirname(path)), part(data, 'context') or data
    state['cwd'] = text_in(place, 'cwd') or state.get('cwd', '')
    found.add_session(dict(place, version=data.get('copilotVersion')), session, ts, ts)
    usage = part(data, 'usage') or part(data, 'compactionTokensUsed')
    call, models = text_in(usage, 'apiCallId'), part(data, 'modelMetrics')
    key, tokens = call or text_in(data, 'compactionAttemptId'), copilot_tokens(usage)
    if key and any(tokens):
        state['has_calls'] = True
        found.end_marks(ts or OPEN)
        found.calls.append(Call(
            key,
            '',
            session,
            text_in(record, 'agentId'),
            0,
            'call' if call else 'compaction',
            ts,
            state['cwd'],
            model_name(usage.get('model')),
            '',
            tokens,
            bool(usage.get('numToolCalls'))))
    elif models and 'has_calls' not in state:
        totals = totals_of(models, lambda model: copilot_tokens(part(model, 'usage')))
        found.add_mark(Mark(session, ts, state['cwd'], 0, True, OPEN, totals))


def copilot_tokens(usage):
    return split_input(*counts(
        usage, 'inputTokens', 'cacheReadTokens', 'cacheWriteTokens', 'outputTokens'))


def read_qwen(record, path, found):
    """Of a session's chat, or of usage_record.jsonl: a session's totals, whenever it ends."""
    session, uuid, cwd, project = texts(record, 'sessionId', 'uuid', 'cwd', 'project')
    event, models = part(part(record, 'systemPayload'), 'uiEvent'), part(record, 'models')
    if event.get('event.name') == 'qwen-code.api_response':
        ts, key, agent = time_of(record), *texts(event, 'response_id', 'subagent_name')
        found.add_session(record, session, ts, ts)
        whole, read, output, thoughts, total = counts(
            event, 'input_token_count', 'cached_content_token_count', 'output_token_count',
            'thoughts_token_count', 'total_token_count')
        output += thoughts * (total == whole + output + thoughts)      # as some APIs count
        found.calls.append(Call(
            key or uuid,
            '',
            session,
            agent,
            0,
            'call',
            ts,
            cwd,
            model_name(event.get('model')),
            '',
            split_input(whole, read, 0, output),
            False))
    elif models and path.endswith('usage_record.jsonl'):
        ts = int(figure(record.get('timestamp'), OPEN))
        totals = totals_of(models, lambda usage: split_input(
            *counts(usage, 'inputTokens', 'cachedTokens', None, 'outputTokens')))
        found.marks.append(Mark(session, ts, project, 0, True, ts + 1, totals))


def read_gemini(record, path, found):
    """Of a session's or sub-agent's chat; its folder stands in .project_root, beside all chats."""
    tokens, state, name = part(record, 'tokens'), found.state, text_in(record, 'sessionId')
    if name:                                   # a head, at each start and resume
        home, _, inner = path.rpartition(os.sep + 'chats' + os.sep)
        above, is_agent = os.path.dirname(inner), record.get('kind') == 'subagent'
        state.update(session=above if is_agent else name, agent=name * is_agent,
                     cwd=state.get('cwd') or read_small(home + '/.project_root'))
        began = parse_time(record.get('startTime'))
        found.add_session(state, state['session'], began, began)
    elif record.get('type') == 'gemini' and tokens and state:
        whole, read, output, thoughts, tool = counts(
            tokens, 'input', 'cached', 'output', 'thoughts', 'tool')
        found.calls.append(Call(
            text_in(record, 'id'),
            '',
            state['session'],
            state['agent'],
            0,
            'call',
            time_of(record),
            state['cwd'],
            model_name(record.get('model')),
            '',
            split_input(whole + tool, read, 0, output + thoughts),
            bool(record.get('toolCalls'))))


def read_small(path):
    """The text of a small file, '' if it can't be read."""
    try:
        with open_plain(path) as stream:
            return text_of(stream.read(4096).decode('utf-8', 'replace').strip())
    except OSError:
        return ''


# -- the agents that are metered

class Agent(namedtuple('Agent', 'name title read logs variable homes inner')):
    """An agent. read(path, bytes of complete lines, state) -> Found; a state is a map that JSON
    can hold, {} for a log's first lines. `logs` finds the names of its logs; they lie at each of
    `inner` in its homes: those that a variable lists, with commas, else the usual ones."""

    __slots__ = ()

    def wanted(self, path):
        """Is a file below a root a log?"""
        return re.search(self.logs, path)

    def roots(self, environ, home):
        """Folders and files to look in."""
        named = [one.strip() for one in environ.get(self.variable, '').split(',') if one.strip()]
        homes = named or [os.path.join(home, one) for one in self.homes]
        return [os.path.abspath(os.path.join(os.path.expanduser(one), name))
                for one in homes for name in self.inner]


AGENTS = {agent.name: agent for agent in (
    Agent('claude-code', 'Claude Code', read_claude, r'\.jsonl$',
          'CLAUDE_CONFIG_DIR', ('.claude', '.config/claude'), ('projects',)),
    Agent('codex', 'Codex', reader(CODEX_WORDS, read_codex), r'\brollout-[^/\\]*\.jsonl$',
          'CODEX_HOME', ('.codex',), ('sessions', 'archived_sessions')),
    Agent('copilot', 'Copilot CLI', reader([b'"session.'], read_copilot), r'\bevents\.jsonl$',
          'COPILOT_HOME', ('.copilot',), ('session-state',)),
    Agent('qwen', 'Qwen Code', reader([b'api_response"', b'"models"'], read_qwen),
          r'\bchats[/\\].*\.jsonl$|\busage_record\.jsonl$',
          'QWEN_HOME', ('.qwen',), ('projects', 'usage_record.jsonl')),
    Agent('gemini', 'Gemini CLI', reader([b'"startTime"', b'"tokens"'], read_gemini),
          r'\bchats[/\\].*\.jsonl$',
          'GEMINI_CLI_HOME', ('',), ('.gemini/tmp',)))}


# -- prices

UNIT_NAMES = 'input', 'output', 'cache_write_5m', 'cache_write_1h', 'cache_read'
LIKE = {'cache_write_30m': 'cache_write_5m', 'cache_write_12h': 'cache_write_1h'}
TAGS = 'batch', 'flex', 'priority', 'fast', 'ultrafast', 'us'


def model_name(name):
    """A model's name without what doesn't change its price: provider, date, [1m], -v1:0, -thinking.

    So the names that agents and routers have for one model become one. What changes the price stays:
    a cloud region (us.claude-opus-4-5; anthropic.claude-opus-4-5 is one of Bedrock's) and -fast.
    """
    region, name = split_model(text_of(name, 400) or '?')
    return region + '.' + name if region else name


@lru_cache(None)
def split_model(model):
    """(cloud region or '', name); a region is told from the dot inside of `gpt-5.5` by what follows."""
    region, bedrock, name = re.match(
        r'(?:.*/)?(?:[a-z_]+:)?(?:(global|us-gov|[a-z]{2,4})\.(?=anthropic\.|claude-))?'
        r'(?:(anthropic)\.)?(.*)',
        model.lower(), re.DOTALL).groups()
    suffix = r'(?:-20\d{6}|-20\d\d-\d\d-\d\d|@[\w.-]+|\[1m\])+$'
    if name.startswith('claude-'):
        name = name.replace('.', '-')
        suffix = r'(?:-20\d{6}|-v\d+(?::\d+)?|@[\w-]+|[-:](?:thinking|beta)|\[1m\])+$'
    name = re.sub(suffix, '', name) or '?'
    # As routers have it.
    name = re.sub(r'^claude-([4-9][\d-]*)-([a-z]+)$', r'claude-\2-\1', name)
    return '' if region == 'global' else region or bedrock or '', name


def find_prices(explicit, environ, script_dir):
    """The price list's path: --prices, $ARMLEDGER_PRICES, or beside the script."""
    named = explicit or environ.get('ARMLEDGER_PRICES')
    return os.path.expanduser(named) if named else os.path.join(script_dir, 'prices.json')


def load_prices(path):
    try:
        with open_plain(path) as stream:
            text = stream.read().decode('utf-8-sig')
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'not UTF-8 text'
        raise UserError('cannot read the price list (%s); put prices.json beside the script, or '
                        'name one with --prices FILE or $ARMLEDGER_PRICES' % reason, path)
    return Prices(text, path)


class Prices:
    """A price list. Unit prices are whole pico-dollars per token, so sums of them are exact.

    A call is priced at its own time. Between two dated entries the earlier one holds, before the
    first one the first, and after the last one the last: such a price is assumed. So is that of a
    tag (fast, flex, ...) that the list doesn't have: the price is the one without it."""

    def __init__(self, text, path='prices.json'):
        self.text, self.path = text, path

    @property
    @lru_cache(None)  # most gates never ask for more than its text
    def listed(self):
        """({name: model}, {family: name}); a model has its provider's values too."""
        try:
            listed = json.loads(
                self.text, parse_float=millionths, parse_int=millionths, object_hook=priced)
            models = {}
            for name, model in listed['models'].items():
                model = dict(listed['providers'][model['provider']], **model)
                for alias in [name] + model.pop('aliases', []):
                    models[split_model(alias)[1]] = model
            families = listed['fallbacks'].items()
            return models, {family: split_model(name)[1] for family, name in families}
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise UserError('this is no price list (%s); `budget-check.py --doctor` says more'
                            % printable(str(error)), self.path)

    @property
    def as_of(self):
        return max(re.findall(r'"as_of": *"(\d{4}-\d\d-\d\d)"', self.text), default='')

    def known(self, model):
        return self.resolve(model)[0]

    def digest(self, model):
        """Changes with everything that this model is priced by, and with nothing else."""
        from binascii import crc32

        is_listed, _, links = self.resolve(model)
        return '%08x' % crc32(repr((PRICING, is_listed, links)).encode())

    def usd(self, model, ts, tokens, variant='', is_one_call=True):
        """Pico-dollars of a call, and whether a price is assumed."""
        units, assumed = self.units(model, ts, tokens, variant, is_one_call)
        return sum([number * unit for number, unit in zip(tokens, units)]), assumed

    def units(self, model, ts, tokens, variant='', is_one_call=True):
        """Pico-dollars per token of each class and per search, and whether a price is assumed.

        The tokens are one call's, or a sum over calls: no long context is seen in that."""
        rows, assumed = self.rows(model, ts // 86400000, variant)
        context = (tokens[0] + tokens[2] + tokens[3] + tokens[4]) * is_one_call
        for above, units, lent in rows:
            if context > above:
                return units, assumed or any([tokens[n] for n in lent])

    @lru_cache(None)                           # few, and calls are many
    def rows(self, model, day, variant):
        """As model_rows, with the prices that other models lend."""
        is_listed, tags, links = self.resolve(model, variant)
        day, rows = time.strftime('%Y-%m-%d', time.gmtime(day * 86400)), ()
        for link in reversed(links):
            rows, assumed = model_rows(link, tags, day, rows)
        return rows, assumed or not is_listed

    def resolve(self, model, variant=''):
        """(whether a model is listed, the tags that change its price, what to price it by: itself,
        its family's fallback, that for all else, up to one that has every class)."""
        (models, families), (region, name) = self.listed, split_model(model)
        tags, links = set(variant.split()), []
        if region:
            tags.add('us_gov' if region == 'us-gov' else 'regional')
        if name.endswith('-fast') and name not in models:  # Foundry's way to say it
            name = split_model(name[:-5])[1]
            tags.add('fast')
        if 'fast' in tags:
            tags.discard('batch')  # they are not sold together
        family = max((key for key in families if name.startswith(key)), key=len, default='*')
        for link in map(models.get, (name, families[family], families['*'])):
            if link and link not in links:
                links.append(link)
                entries = link['prices'] + link.get('long_context', [])
                if not any(None in units_of(entry, link)[0] for entry in entries):
                    break
        return name in models, tags, links


PRICING = 2  # raise it when prices.json is read in another way


def millionths(text):
    """A number of prices.json in whole millionths: a price per million tokens is then one in
    pico-dollars per token, and exact."""
    whole, _, decimals = text.partition('.')
    if not (whole + decimals).isdigit() or len(decimals) > 6:
        raise ValueError('%s is not a number such as 0.25' % text)
    return int(whole + decimals.ljust(6, '0'))


def priced(entry):
    """What of a map prices something."""
    return {LIKE.get(key, key): value for key, value in entry.items()
            if key not in ('source', 'note', 'as_of')}


def model_rows(model, tags, day, lenders):
    """([(context, units, lent classes)], of which the first that is below a call's context holds;
    whether they are assumed) of a listed model."""
    entry, assumed = in_force(model['prices'], day)
    rows = [(-1, *units_of(entry, model))]
    for tier in model.get('long_context', ()):
        if not in_force([tier], day)[1]:
            above = tier['above'] // MILLION - bool(tier.get('inclusive'))
            rows.append((above, *units_of(tier, model)))
    for tag in {'fast' if tag == 'priority' and tag not in model else tag for tag in tags}:
        modifier = model.get(tag)
        dated = modifier if type(modifier) is list else [{'multiplier': modifier}]
        tagged, is_over = in_force(dated, day)
        if is_over or not modifier:
            assumed = True
            continue
        context, factor = tagged.get('long_context'), tagged['multiplier']
        rows = rows[:1] if context == 'flat' else rows
        for _, units, _ in rows[:1] if context == 'standard' else rows:
            # To the nearest pico-dollar: no list price has that many decimals.
            units[:5] = [unit and (unit * factor + MILLION // 2) // MILLION for unit in units[:5]]
    for above, units, _ in rows if lenders else ():
        lender = next(theirs for at, theirs, _ in lenders if at <= above)
        units[:] = [own if own is not None else theirs for own, theirs in zip(units, lender)]
    return sorted(rows, key=lambda row: -row[0]), assumed


def in_force(entries, day):
    """Of dated entries that of a day, else the one before it, else the first; and whether it isn't
    the day's."""
    entries = sorted(entries, key=lambda entry: entry.get('from', ''))
    entry = ([one for one in entries if one.get('from', '') <= day] or entries[:1])[-1]
    return entry, not entry.get('from', '') <= day < entry.get('until', '9999')


def units_of(entry, model):
    """(pico-dollars per token of each class, and per search; the classes that are lent a price).
    None: there is none here. A text names the class that lends its own."""
    search = model.get('web_search_usd')
    units = [entry.get(name) for name in UNIT_NAMES] + [search and search * MILLION]
    lent = [n for n, unit in enumerate(units) if type(unit) is not int]
    return [entry.get(unit) if type(unit) is str else unit for unit in units], lent


# --- END shared block


# ---- budget-check.py, which lies beside this script ---------------------------------------------

HERE = os.path.dirname(os.path.realpath(__file__))
BLOCK = [name for name in globals() if not name.startswith('__')]
UNATTRIBUTED = '(unattributed)'
DAY_MS = 86400000


def load_neighbour(folder):
    """budget-check.py as a module from its cached bytecode, None if it isn't there."""
    path = os.path.join(folder, 'budget-check.py')
    if not os.path.isfile(path):
        return None
    if block_of(path) != block_of(__file__):
        raise UserError('it is of another version than the cost-report.py beside it; '
                        '`make install` puts both there', path)
    from _frozen_importlib_external import SourceFileLoader      # importlib.machinery imports more
    module = type(sys)('budget_check')
    module.__file__ = path
    exec(SourceFileLoader('budget_check', path).get_code('budget_check'), module.__dict__)
    return module


def block_of(path):
    """The block that both scripts have a copy of."""
    with open(path, 'rb') as stream:
        text = stream.read()
    return text[text.find(b'\n# --- BEGIN shared'):text.find(b'\n# --- END shared')]


try:
    check = load_neighbour(HERE)
except UserError as problem:
    sys.exit('cost-report: %s' % problem)
if check:
    # One UserError, one price list: the block that counts is there, and so are calendar and money.
    globals().update((name, getattr(check, name)) for name in BLOCK + [
        'label_of', 'window_bounds', 'start_of', 'format_time', 'divide_even', 'dollars',
        'format_usd',
        'format_percent', 'number', 'columns'])


# ---- without it: what the logs tell by themselves -----------------------------------------------

ALONE = ('made without budget-check.py beside this script: each folder stands by itself, days are '
         'UTC, and nothing is known of arms and caps, of calls that no transcript line shows, of '
         'which session began a call that two logs have, and of logs that have been deleted')


def run_alone(options):
    """A table or JSON with a row for each folder."""
    given = [name for name, value in vars(options).items()
             if value and name not in ('since', 'format', 'output', 'prices', 'now', 'now_ms')]
    if given or options.format not in ('table', 'json'):
        raise UserError('--%s needs budget-check.py beside this script; `make install` puts both '
                        'there' % (given or ['format ' + options.format])[0])
    since = options.since or time.strftime('%Y-%m-01', time.gmtime(options.now_ms // 1000))
    since_ms = parse_time(since + 'T00:00' * (len(since) == 10))
    if since_ms is None:
        raise UserError('--since: %s is no date; write 2026-11-01' % printable(repr(since)))
    prices = load_prices(find_prices(options.prices, os.environ, HERE))
    folders, lost = read_alone(prices, since_ms)
    is_json = options.format == 'json'
    line = '{"usd": %s, "calls": %d, "arm": %s}' if is_json else '%14s %7d  %s'
    lines = [line % ('%d.%06d' % divmod(usd // MILLION, MILLION), calls,
                     json.dumps(folder or UNATTRIBUTED) if is_json
                     else printable(folder or UNATTRIBUTED))
             for folder, (usd, calls) in sorted(folders.items(), key=lambda item: -item[1][0])]
    if is_json:
        text = ('{"estimate": true, "prices_as_of": "%s", "skipped_lines": %d, "warnings": '
                '["%s"], "rows": [\n%s]}\n' % (prices.as_of, lost, ALONE, ',\n'.join(lines)))
    else:
        text = ('     SPENT USD   CALLS  FOLDER, SINCE %s\n%s\n\nEstimate; %s.\n%d log lines or '
                'files could not be read.\n' % (since, '\n'.join(lines), ALONE, lost))
    put(options.output, text)
    return 0


def read_alone(prices, since_ms):
    """({folder: [pico-dollars, calls]}, how much could not be read) of all logs."""
    lines, folders, lost = {}, {}, 0
    for agent, path in all_logs():
        try:
            with open_plain(path) as stream:
                text = stream.read()
        except OSError:
            lost += 1
            continue
        found = agent.read(path, text[:text.rfind(b'\n') + 1], {})
        lost += found.skipped
        for call in found.calls:
            # Of a call's lines that with the most output counts.
            rank = -(call.standing // 2), call.tokens[1], call.tokens
            lines.setdefault((agent.name, call.key), []).append((rank, call))
    for same in lines.values():
        call = max(same, key=lambda line: line[0])[1]
        if call.kind != 'echo' and (call.ts or 0) >= since_ms:
            held = folders.setdefault(call.cwd, [0, 0])
            held[0] += prices.usd(call.model, call.ts, call.tokens, call.variant)[0]
            held[1] += 1
    return folders, lost


def all_logs():
    home = os.environ.get('HOME') or os.path.expanduser('~')
    for agent in AGENTS.values():
        for root in dict.fromkeys(map(os.path.realpath, agent.roots(os.environ, home))):
            found = [os.path.join(folder, name) for folder, _, names in os.walk(root)
                     for name in names]
            found += [root] * os.path.isfile(root)
            yield from ((agent, path) for path in filter(agent.wanted, found))


# ---- windows: which calls a report is about -----------------------------------------------------

TIMES = ('day', 'week', 'month')

# Calls of [since, until). They are of the `window` that begins at `start` and ends at `end`, all
# of it unless it is clipped; without a window both are the span's own.
Span = namedtuple('Span', 'since until window start end')


def span_of(window, ms, through):
    start, end = window_bounds(window, ms)
    return Span(start, max(start, min(end, through)), window, start, end)


def choose_span(options, now, through, oldest):
    """What the options ask for, by itself the month to date; up to `through`."""
    asked = [name for name in ('month', 'yesterday', 'last', 'since', 'until')
             if getattr(options, name)]
    if len(asked) > 1 and asked != ['since', 'until']:
        raise UserError('--%s and --%s cannot go together' % tuple(asked[:2]))
    option = '--' + (asked or ['month'])[0]
    first, last = {
        '--month': (options.month or label_of('month', now),) * 2,
        '--yesterday': ('yesterday', 'yesterday'),
        '--last': (options.last, 'today')}.get(option, (options.since, options.until or 'today'))
    since = parse_moment(first, option, now)[0] if first else oldest
    end, window = parse_moment(last, '--until' if options.until else option, now)
    if window:                   # a date is meant with all of its day
        end = window_bounds(window, end)[1]
    if since >= end or since > now:
        raise UserError('%s has to begin before it ends, and not in the future' % option)
    whole = [one for one in TIMES if window_bounds(one, since) == (since, end)]
    return Span(since, max(since, min(end, through)), whole[0] if whole else None, since, end)


def parse_moment(text, option, now):
    """(ms, the window that is meant) of a time, date, month, today, yesterday, or 7d."""
    days = re.match(r'0*([1-9]\d{0,4})d\Z', text, re.ASCII)
    ago = int(days[1]) - 1 if days else {'today': 0, 'yesterday': 1}.get(text)
    try:
        if ago is not None:
            noon = window_bounds('day', now)[0] + DAY_MS // 2 - ago * DAY_MS
            return window_bounds('day', noon)[0], 'day'
        is_month = option == '--month'
        start = start_of(text[:10] + '-01' * is_month)
        if start > 0 and len(text) == (7 if is_month else 10):
            return start, 'month' if is_month else 'day'
        ms = parse_time(text)
        if parse_time(text + 'Z'):               # no zone is said: it is the calendar's
            ms = start + ms % DAY_MS
        if ms and ms > 0 and not is_month:
            return ms, None
    except (ValueError, OverflowError):
        pass
    raise UserError('%s: %s is no %s' % (
        option, printable(repr(text)), 'month; write 2026-10' if option == '--month' else
        'date; write 2026-11-01, 2026-11-01T09:30, today, yesterday or 7d'))


def split(span, unit):
    """The days, weeks or months of a span, clipped as it is at its ends."""
    return [Span(max(start, span.since), min(end, span.until), unit, start, end)
            for _, start, end in check.windows_between(unit, span.since, span.until)]


def before(span, now):
    """The window before: of a clipped one the same part, of a running one what has passed."""
    until = min(span.until, now + 1)
    if not span.window:
        start, end = 2 * span.since - until, span.since
        return Span(start, end, None, start, end)
    start, end = window_bounds(span.window, span.start - 1)
    last = end if until == span.end else min(end, start + until - span.start)
    return Span(min(end, start + span.since - span.start), last, span.window, start, end)


# ---- sums over the calls in the ledger ----------------------------------------------------------

UNTRANSCRIBED = "kind = 'untranscribed'"
FIELDS = {
    'usd': 'usd', 'untranscribed_usd': 'usd', 'assumed_usd': 'usd',
    'calls': 'not ' + UNTRANSCRIBED,
    'input_tokens': 'input', 'output_tokens': 'output',
    'cache_write_tokens': 'write_short + write_long',
    'cache_read_tokens': 'read', 'web_searches': 'searches',
    'tokens': 'input + output + write_short + write_long + read'}
ONLY = {'untranscribed_usd': UNTRANSCRIBED,
        'assumed_usd': 'assumed'}          # calls that count in a field
AMOUNTS = tuple(FIELDS)[:3]      # at the arm's own rate; list_usd is at list price
PLAIN = {name: FIELDS[name] for name in AMOUNTS + ('calls',)}      # an index holds these
METERS = {name: name for name in ('input', 'output', 'write_short', 'write_long', 'read',
                                  'searches')}

# What a key of --by is grouped by, and how it reads.
DETAILS = {
    'model': ('model', '(select name from models where id = model)'),
    'session': ('session', '(select name from sessions where id = session)'),
    'agent': ('session, agent',
              "case agent when '' then 'main' else coalesce((select type from agents where "
              "agents.session = calls.session and name = agent), case agent when 'sidechain' then "
              "'side chain' else 'sub-agent' end) end"),
    'kind': ('kind', 'kind'),
    'agent-cli': ('session', '(select agent from sessions where id = session)'),
    'utc-day': ('ts / %d utc_day' % DAY_MS, 'utc_day')}        # prices change there
BY = ('arm',) + TIMES + tuple(DETAILS)[:-1]
WHOLE = 100 * MILLION            # percentages are in millionths


def sum_by(books, spans, by, fields=PLAIN):
    """{the values of these keys: {field: sum}} over all calls of some spans."""
    details = [DETAILS[key] for key in by if key in DETAILS]
    shown = [one for _, one in details]
    columns = ', '.join(column for column, _ in details).split(', ') if details else []
    arm = ['arm'] * ('arm' in by or books.has_rates)       # few groups are fast
    found = {}
    for run in runs_of(spans):
        since, length = run[0].since, max(1, run[0].until - run[0].since)
        labels = [{key: label_of(key, span.since) for key in by if key in TIMES} for span in run]
        at = ['(ts - %d) / %d at' % (since, length)] * (len(run) > 1)
        keys = at + arm + columns
        group = list(map(str, range(1, len(keys) + 1))) or ["''"]
        if at and not arm and columns[:1] in (['model'], ['session']):
            group[:2] = ['at + %d * %s' % (len(run), columns[0])]   # one number sorts faster
        options = {'around': 'select %s from (%%s) calls' % ', '.join(shown + ['*'])}
        if books.arm is None and since <= books.oldest:
            options['tables'] = 'calls not indexed join pairs'          # as they lie in the file
        for values in books.rows(
                ', '.join([*keys, *sums_of(fields)]), run[0]._replace(until=run[-1].until),
                'group by ' + ', '.join(group), **options):
            names, values = iter(values[:len(shown)]), iter(values[len(shown):])
            known = dict(labels[next(values) if at else 0], arm=next(values) if arm else '')
            key = tuple([known[key] if key in known else next(names) for key in by])
            row = found.setdefault(key, dict.fromkeys([*fields, 'list_usd'], 0))
            add_up(row, list(values)[len(columns):], fields, books.rate(known['arm']))
    return found


def sums_of(fields):
    """SQLite's integers end at nine million dollars: amounts are summed up in halves."""
    for name, sql in fields.items():
        only = ' filter (where %s)' % ONLY[name] if name in ONLY else ''
        halves = ('%s >> 20', '%s & 1048575') if name in AMOUNTS else ('%s',)
        yield from ('sum(%s)%s' % (half % sql, only) for half in halves)


def add_up(row, values, fields, rate):
    values = iter(values)
    for name in fields:
        number = next(values)
        if name in AMOUNTS:
            number = ((number or 0) << 20) + (next(values) or 0)
            row['list_usd'] += number * (name == 'usd')
            number = number if rate == WHOLE else divide_even(number * rate, WHOLE)
        row[name] += number


def runs_of(spans):
    """Spans of the same length that follow each other, together: a statement does for all."""
    runs = []
    for span in spans:
        last = runs[-1][-1] if runs else None
        if last and (span.since, span.until) == (last.until, 2 * last.until - last.since):
            runs[-1].append(span)
        else:
            runs.append([span])
    return runs


def unit_of(by):
    """The window that --by divides time into: of several the day, which others consist of."""
    times = [key for key in TIMES if key in by]
    return 'day' if len(times) > 1 else times[0] if times else None


def spans_of(span, by):
    return split(span, unit_of(by)) if unit_of(by) else [span]


# ---- rows: a row is {key of --by, field, name of a column: value} -------------------------------
#
# Amounts are pico-dollars. None is what can't be known; what isn't there says nothing.

SPIKE_TIMES, SPIKE_FLOOR, SPIKE_DAYS, SPIKE_LEAST = 3, 5 * PICO, 28, 5


def make_rows(books, span, by, fields=PLAIN):
    """Arms by spend, times as they come, the rest by spend; each with its cap, if it has one."""
    summed = sum_by(books, spans_of(span, by), by, fields)
    for arm in books.listed if by == ('arm',) else ():
        summed.setdefault((arm,), dict.fromkeys([*fields, 'list_usd'], 0))
    rows = [dict(zip(by, key), **sums) for key, sums in summed.items()]
    unit = unit_of(by)
    if set(by) in ({'arm'}, {'arm', unit}):
        spans = {unit and label_of(unit, one.since): one for one in spans_of(span, by)}
        for row in rows:
            set_against_cap(books, row, spans[row.get(unit)])
    by_arm = {}
    for row in rows:
        by_arm[row.get('arm')] = by_arm.get(row.get('arm'), 0) + row['usd']
    return sorted(rows, key=lambda row: (
        [(-by_arm[row[key]], row[key]) if key == 'arm' else row[key] for key in by if key == 'arm'
         or key in TIMES],
        -row['usd'], str(row)))


def set_against_cap(books, row, span):
    """What a row comes to, and its cap, if it is all that its arm spent in a window."""
    now, entry = books.now, books.entry(row['arm'])
    is_running = span.start < now < span.end
    if not span.window or span.since > span.start or span.until < span.end and not is_running:
        return                   # a part of a week says little of its cap
    if is_running:
        row['projected_usd'] = divide_even(row['usd'] * (span.end - span.start), now - span.start)
    # A spend_json tells of the month that is running: there the logs don't stand against the cap.
    cap = dict(entry.caps).get(span.window) if entry and not (is_running
        and books.budgets.spend_json) else None
    if cap is not None:
        at = min(now, span.end - 1)
        row.update(against_cap(check.judge_window(entry, span.window, cap, row['list_usd'], at)))


def against_cap(one):
    """The columns of budget-check's verdict on one window."""
    reached = 'yes' if one.left == 0 else label_of('day', one.cap_at) if one.cap_at else '-'
    row = {'cap_usd': one.cap, 'bar': (one.spent, one.cap, one.tier), 'tier': one.tier,
           'cap_at': reached}
    return row if one.pct is None else dict(row, pct=one.pct)


def mark_spikes(books, rows, span, by):
    """A day is marked when it is above SPIKE_FLOOR and above SPIKE_TIMES the median of the days
    with spend among the SPIKE_DAYS days before it, of which there are at least SPIKE_LEAST."""
    history, with_arm = {}, ('arm',) * ('arm' in by)
    days = split(span._replace(since=span.since - (SPIKE_DAYS + 1) * DAY_MS), 'day')
    for (day, *key), sums in sum_by(books, days, ('day',) + with_arm).items():
        history.setdefault(tuple(key), []).append((day, sums['usd']))
    for row in rows:
        first = label_of('day', start_of(row['day']) - SPIKE_DAYS * DAY_MS + DAY_MS // 2)
        same = history[tuple(row[key] for key in with_arm)]
        spent = sorted(usd for day, usd in same if first <= day < row['day'] and usd)
        middle = len(spent) // 2
        row['spike'] = len(spent) >= SPIKE_LEAST and row['usd'] > SPIKE_FLOOR and \
            2 * row['usd'] > SPIKE_TIMES * (spent[middle] + spent[-1 - middle])


def set_beside(books, rows, span, by):
    """What each row's window before was: None, if nothing is known of it."""
    spent, since = {}, {}
    for one in spans_of(span, by):
        earlier = before(one, books.now)
        labels = {key: label_of(key, one.since) for key in by if key in TIMES}
        since.setdefault(tuple(labels.values()), earlier.since)
        for key, sums in sum_by(books, [earlier],
                                tuple(key for key in by if key not in TIMES)).items():
            values = iter(key)
            full = tuple([labels[key] if key in labels else next(values) for key in by])
            spent[full] = spent.get(full, 0) + sums['usd']
    if not unit_of(by):          # what was there before, and is no more, is a row too
        known = {tuple([row[key] for key in by]) for row in rows}
        rows += [dict(zip(by, key), **dict.fromkeys([*FIELDS, 'list_usd'], 0)) for key in spent
                 if key not in known]
    for row in rows:
        earliest = since[tuple(row[key] for key in by if key in TIMES)]
        row['before_usd'] = spent.get(tuple(row[key] for key in by)) or (0
            if earliest >= books.oldest else None)
        set_change(row)


def set_change(row):
    now, earlier = row['usd'], row.get('before_usd')
    row['change_usd'], row['change'] = None, '?'
    if earlier is not None:
        row['change_usd'] = now - earlier
        share = abs(now - earlier) * 100 // abs(earlier) if earlier else 0
        row['change'] = '%s%d %%' % ('-' if now < earlier else '+',
                                     share) if earlier else 'new' if now else ''


def set_baseline(books, rows, span, by):
    """What each row's tokens would have cost on one model, at its standard price of their day."""
    prices, model = books.prices, books.options.baseline
    if not prices.known(model):
        raise UserError('--baseline: prices.json has no %s%s' % (printable(model),
            did_you_mean(model, prices.listed[0])))
    costs, keys = {}, tuple(key for key in by if key != 'arm')
    for (arm, day, *key), sums in sum_by(books, spans_of(span, by), ('arm', 'utc-day') + keys,
                                         METERS).items():
        units = prices.units(model, day * DAY_MS, (0,) * 6, '', False)[0]
        usd = sum(sums[name] * unit for name, unit in zip(METERS, units))
        key = tuple(key), arm if 'arm' in by else None
        costs[key] = costs.get(key, 0) + divide_even(usd * books.rate(arm), WHOLE)
    for row in rows:
        row['baseline_usd'] = costs.get((tuple(row[key] for key in keys), row.get('arm')), 0)
        row['saved_usd'] = row['baseline_usd'] - row['usd']


def set_invoice(books, rows):
    """Cents that add up: each amount is rounded so that the rounded ones are the rounded total."""
    entry, total, billed = books.entry(books.arm), 0, 0
    factor = books.rate(books.arm) * (WHOLE + (entry.markup_pct if entry else 0))
    for row in rows:
        total += row['list_usd'] * factor
        upto = divide_even(total, WHOLE * WHOLE * PICO // 100) * (PICO // 100)
        row['invoice_usd'] = upto - billed
        row['contracted_usd'], row['margin_usd'] = row['usd'], row['invoice_usd'] - row['usd']
        billed = upto


def total_of(rows, by):
    """The last row: what can be added up. Windows before rows of days, weeks, months overlap."""
    total = dict.fromkeys(by, '')
    for column in COLUMNS:
        values = [row.get(column.name) for row in rows]
        if column.kind in ('usd', 'count', 'short') and column.name not in (
                'cap_usd', 'before_usd', 'change_usd') and None not in values:
            total[column.name] = sum(values)
    if rows and 'before_usd' in rows[0] and not unit_of(by):
        known = [row['before_usd'] for row in rows if row['before_usd'] is not None]
        total['before_usd'] = sum(known) if any(known) or len(known) == len(rows) else None
        set_change(total)
    return total


# ---- columns: the one list that every format draws from -----------------------------------------

# title: for people, `-`: programs alone are told. kind: how it is written; PEOPLES are for people
# alone. rank: which goes first where there is no room, 0: never. part: what brings it in.
Column = namedtuple('Column', 'name title kind rank part')
PEOPLES = ('short', 'bar', 'tier', 'text')
COLUMNS = [Column(*re.split('  +', line.strip())) for line in '''
    usd                 Spent          usd      0  spend
    calls               Calls          count    3  usage
    input_tokens        -              count    0  usage
    output_tokens       -              count    0  usage
    cache_write_tokens  -              count    0  usage
    cache_read_tokens   -              count    0  usage
    web_searches        -              count    0  usage
    tokens              Tokens         short    1  usage
    untranscribed_usd   -              usd      0  spend
    assumed_usd         -              usd      0  spend
    cap_usd             Cap            usd      0  spend
    bar                 Used           bar      2  spend
    pct                 %              percent  0  spend
    tier                Tier           tier     4  spend
    projected_usd       Projected      usd      5  spend
    cap_at              Cap reached    text     6  spend
    spike               -              flag     0  spike
    before_usd          Before         usd      8  compare
    change_usd          -              usd      0  compare
    change              Change         text     0  compare
    baseline_usd        Baseline       usd      7  baseline
    saved_usd           Saved          usd      0  baseline
    invoice_usd         Invoice USD    usd      0  invoice
    list_usd            List USD       usd      0  internal
    contracted_usd      Contracted USD  usd      0  internal
    margin_usd          Margin USD     usd      0  internal
    estimate_usd        Estimate       usd      0  billed
    billed_usd          Billed         usd      0  billed
    difference_usd      Difference     usd      0  billed
    factor              Factor         usd      0  billed
    over_20_pct         Over 20 % off  flag     0  billed
'''.strip().split('\n')]


def columns_of(by, parts):
    titles = {'agent-cli': 'Agent CLI'}
    keys = [Column(key, titles.get(key, key.capitalize()), 'name', '0', 'key') for key in by]
    return keys + [column for column in COLUMNS if column.part in parts]


# ---- reports: what every format is made from ----------------------------------------------------

# names: {arm: how it is shown}. below: reports without a total and notes of their own. notes: the
# small print. cautions: what is told on standard error where there is no room for it. facts: for
# JSON. chart: see chart_of.
Report = namedtuple('Report', 'title by rows total columns names below notes cautions facts chart',
                    defaults=(None, (), {}, (), (), (), {}, None))


def table_of(report):
    """(columns, [[text]]) for people; a column that no row has is left out."""
    shown = [column for column in report.columns if column.title != '-' and
             (column.name in report.by or any(row.get(column.name, '') != ''
                                              for row in report.rows))]
    rows = [[text_of_cell(report, column, row) for column in shown] for row in report.rows]
    if report.total:
        rows.append(['TOTAL'] + [text_of_cell(report, column, report.total)
                                 for column in shown[1:]])
    return shown, rows


def tables_of(report):
    return [one for one in (report, *report.below) if one.rows]


def text_of_cell(report, column, row):
    """Texts are never raw. What isn't known is a question mark."""
    value = row.get(column.name, '')
    if column.kind == 'bar':
        return value or None
    if column.name == 'arm' and row is not report.total:
        value = report.names.get(value, value)
    if type(value) is str:
        return printable(value)
    text = show_value(value, column.kind)
    if column.name == 'usd':
        return '\u25b2 ' * row.get('spike', False) + '~' * bool(row.get('assumed_usd')) + text
    return text


def show_value(value, kind):
    if value is None:
        return '?'
    if kind == 'percent':
        return format_percent(value) + ' %'
    if kind == 'usd':
        return format_usd(value, 2, True)
    return ('', 'yes')[value] if kind == 'flag' else short_count(value)


def short_count(number):
    """12345 -> 12.3k; four or five characters for whatever there is."""
    for limit, unit in ((10 ** 12, 'T'), (10 ** 9, 'G'), (10 ** 6, 'M'), (10 ** 3, 'k')):
        if number >= limit:
            tenths = number * 10 // limit
            return '%d.%d%s' % (*divmod(tenths, 10), unit) if tenths < 1000 else '%d%s' % (
                tenths // 10, unit)
    return str(number)


def notes_of(report):
    return [printable(note, 1000) for note in report.notes + report.cautions]


def is_number(column):
    return column.kind in ('usd', 'count', 'short', 'percent')


# ---- the table for terminals and mail -----------------------------------------------------------

def format_text(report):
    import textwrap
    width, colour = terminal()
    parts = [textwrap.fill(report.title, width)] + ['No spend in this time.'] * (not report.rows)
    for one in tables_of(report):
        parts.append((one.title + '\n') * (one is not report) + lay_out(*table_of(one), width,
            colour))
    parts.append('\n'.join(textwrap.fill(note, width) for note in notes_of(report)))
    return '\n\n'.join(parts) + '\n'


def lay_out(heads, rows, width, colour):
    """Lines no wider than `width`: names are cut, and columns left out until they fit."""
    rows = [[head.title for head in heads]] + [
        [cell if type(cell) is str else '' if cell is None else check.bar(*cell[:2])
         for cell in row] for row in rows]

    def wide(n):
        return max(columns(row[n]) for row in rows)

    def excess():
        return sum(wide(n) + 2 for n in range(len(heads))) - 2 - width
    for least in 24, 8:
        for n in [n for n, head in enumerate(heads) if head.kind == 'name']:
            size = max(least, wide(n) - max(0, excess()))
            for row in rows:
                row[n] = cut(row[n], size)
        while least > 8 and excess() > 0 and any(head.rank > '0' for head in heads):
            first = min((head.rank, n) for n, head in enumerate(heads) if head.rank > '0')[1]
            for row in [heads] + rows:
                del row[first]
    tiers = [n for n, head in enumerate(heads) if head.kind == 'tier']
    right = [n for n, head in enumerate(heads) if is_number(head)]
    return '\n'.join(check.format_table(rows, right, tiers[0] if tiers and colour else None))


def cut(text, size):
    """Of a path its end is kept."""
    while columns(text) > size:
        text = '\u2026' + text[2:] if '/' in text else text[:-2] + '\u2026'
    return text


def terminal():
    """(width, colour) of standard output."""
    is_terminal, width = sys.stdout and sys.stdout.isatty(), os.environ.get('COLUMNS', '')
    if not width.isdigit():
        width = os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal else 80
    colour = is_terminal and not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'
    return max(40, min(int(width) or 80, 400)), colour


# ---- JSON, CSV, Markdown ------------------------------------------------------------------------

def values_of(report, row):
    """What programs are told of a row."""
    found = {}
    for column in report.columns:
        value, kind = row.get(column.name), column.kind
        if kind in ('usd', 'percent') and value is not None:
            value = number(format_usd(value, 6) if kind == 'usd' else format_percent(value, 1))
        if kind not in PEOPLES:
            found[column.name] = value
    return found


def format_json(report):
    rows = [values_of(report, dict(row, arm=row['arm'] or UNATTRIBUTED) if 'arm' in row else row)
            for row in report.rows]
    return check.format_json(dict(report.facts, rows=rows)) + '\n'


def format_csv(report):
    """Rows alone."""
    rows = [values_of(report, dict(row, arm=report.names.get(row.get('arm'), row.get('arm'))))
            for row in report.rows]
    heads = list(values_of(report, {}))
    return csv_text([heads] + [list(row.values()) for row in rows])


def csv_text(lines):
    return ''.join(','.join(map(csv_cell, line)) + '\n' for line in lines)


def csv_cell(value):
    if type(value) is not str:
        return '' if value is None else str(value).lower()
    if value[:1] == '\0':        # it is a number
        return value[1:]
    text = printable(value, 4096)
    # A sheet takes what begins like this for a formula; an apostrophe says that it is text.
    text = "'" * text.lstrip().startswith(tuple('=+-@\uff1d\uff0b\uff0d\uff20')) + text
    return '"%s"' % text.replace('"', '""') if re.search('[,"]|^\'', text) else text


def format_markdown(report):
    parts = ['# ' + markdown_escaped(report.title)] + ['No spend in this time.'] * (
        not report.rows)
    for one in tables_of(report):
        parts += ['## ' + one.title] * (one is not report) + [markdown_table(*table_of(one))]
    parts.append('\n'.join('- ' + markdown_escaped(note) for note in notes_of(report)))
    return '\n\n'.join(parts) + '\n'


def markdown_table(heads, rows):
    kept = [n for n, head in enumerate(heads) if head.kind != 'bar']
    lines = [[heads[n].title for n in kept],
             ['---:' if is_number(heads[n]) else '---' for n in kept]]
    lines += [[markdown_escaped(row[n]) for n in kept] for row in rows]
    return '\n'.join('| %s |' % ' | '.join(line) for line in lines)


def markdown_escaped(text):
    """No name becomes markup or breaks a table."""
    text = re.sub(r'([\\`*\[\]|])', r'\\\1', printable(text, 4096))
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', text)
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').replace('://',
        ':\u200b//')


# ---- HTML: one file, no network, no script ------------------------------------------------------

STYLE = '''
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --back: #ffffff;
  --card: #f6f8fa; --green: #1a7f37; --yellow: #9a6700; --red: #cf222e; --s0: #0969da }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --line: #30363d; --back: #0d1117;
    --card: #161b22; --green: #3fb950; --yellow: #d29922; --red: #f85149; --s0: #58a6ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p { margin: .25rem 0 } .soft { color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem }
dt { color: var(--soft); font-size: .85rem }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } .wide:focus-visible { outline: 2px solid var(--s0) }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line);
  font-weight: normal; white-space: nowrap }
thead th { color: var(--soft); font-size: .85rem }
th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
.num { text-align: right; font-variant-numeric: tabular-nums } tr.total > * { font-weight: 600 }
.chart { display: block; width: 100%; min-width: 34rem; height: auto }
.chart text { fill: var(--soft); font-size: 13px } .grid { stroke: var(--line) }
.column { fill: var(--s0) }
.meter { display: block; width: 7rem; height: .8rem } .track { fill: var(--line) }
.ok { color: var(--green) } .alert, .warn { color: var(--yellow) }
.hard_stop, .halt { color: var(--red) }
.notes { color: var(--soft); font-size: .9rem; padding-left: 1.1rem }
@media (max-width: 40rem) {
  main { padding: 1rem .75rem 2rem } .meter { width: 3.5rem } th[scope=row] { min-width: 7.5rem } }
@media print {
  :root { color-scheme: light } main { max-width: none; padding: 0 } body { font-size: 11pt }
  h2, tr, .chart { break-inside: avoid } .wide { overflow: visible }
  rect, dl div { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
'''
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>%s</title>
<style>%s</style>
</head>
<body>
<main>
%s
</main>
</body>
</html>
"""
WIDTH, HEIGHT, LEFT, FLOOR = 720, 240, 64, 216     # of a chart; its columns stand on FLOOR


def html_escaped(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').replace('"',
        '&quot;')


def format_html(report):
    title = html_escaped(report.title)
    cards = [(column.title, text_of_cell(report, column, report.total))
             for column in report.columns
             if column.kind in ('usd', 'count', 'short') and column.title != '-'
             and column.name in report.total]
    body = ['<h1>%s</h1>' % title, '<p class="soft">Estimate, in US dollars.</p>',
            '<dl>%s</dl>' % ''.join('<div><dt>%s</dt><dd>%s</dd></div>' % card for card in cards)]
    if report.chart and report.rows:
        unit, amounts = report.chart
        body += ['<h2>By %s</h2>' % unit,
                 '<div class="wide" tabindex="0" role="region" aria-label="Chart of spend by %s">'
                 '%s</div>' % (unit, svg_columns(unit, amounts))]
    body += ['<p>No spend in this time.</p>'] * (not report.rows)
    for one in tables_of(report):
        heading = 'By ' + ', '.join(report.by) if one is report else one.title
        body += ['<h2>%s</h2>' % heading, html_table(heading, *table_of(one))]
    notes = ''.join('<li>%s</li>' % html_escaped(note) for note in notes_of(report))
    body.append('<h2>Notes</h2>\n<ul class="notes">%s</ul>' % notes)
    return PAGE % (title, STYLE, '\n'.join(body))


def html_table(heading, columns, rows):
    heads = ''.join('<th scope="col"%s>%s</th>' % (' class="num"' * is_number(column),
                                                   html_escaped(column.title))
                    for column in columns)
    lines = []
    for row in rows:
        cells = [html_cell(column, cell, not n)
                 for n, (column, cell) in enumerate(zip(columns, row))]
        lines.append('<tr%s>%s</tr>' % (' class="total"' * (row[0] == 'TOTAL'), ''.join(cells)))
    return ('<div class="wide" tabindex="0" role="region" aria-label="%s"><table>\n<thead><tr>%s'
            '</tr></thead>\n<tbody>\n%s\n</tbody></table></div>'
            % (heading, heads, '\n'.join(lines)))


def html_cell(column, cell, is_first):
    if column.kind == 'bar':     # the figures beside it are what a screen reader is told
        return '<td>%s</td>' % ('' if cell is None else METER % (
            cell[2], min(100, cell[0] * 100 / cell[1]) if cell[1] else 100))
    text = html_escaped(cell)
    if is_first:
        return '<th scope="row">%s</th>' % text
    name = 'num' if is_number(column) else cell if column.kind == 'tier' else ''
    return '<td%s>%s</td>' % (' class="%s"' % name if name else '', text)


METER = ('<svg class="meter %s" viewBox="0 0 100 10" preserveAspectRatio="none" '
         'aria-hidden="true"><rect class="track" width="100" height="10" rx="2"/>'
         '<rect fill="currentColor" width="%.1f" height="10" rx="2"/></svg>')


def chart_of(books, span):
    """(day, week or month; [(label, what was spent)])"""
    days = (span.until - span.since) // DAY_MS
    unit = 'day' if days <= 62 else 'week' if days <= 400 else 'month'
    spans = split(span._replace(until=max(span.since, min(span.until, books.now + 1))), unit)
    spent = sum_by(books, spans, (unit,))
    labels = [label_of(unit, one.since) for one in spans]
    return unit, [(label, spent[label,]['usd'] if (label,) in spent else 0) for label in labels]


def svg_columns(unit, amounts):
    most = max(usd for _, usd in amounts)
    top, step = axis(most)
    scale, width = (FLOOR - 10) / top, (WIDTH - LEFT) / len(amounts)
    shapes = []
    for value in range(0, top + 1, step):
        y = FLOOR - value * scale
        shapes.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH,
            y, y))
        shapes.append('<text x="%d" y="%.1f" text-anchor="end">$%s</text>' % (
            LEFT - 6, y + 4, format_usd(value, 2 if step % PICO else 0, True)))
    for n, (label, usd) in enumerate(amounts):
        x, height = LEFT + n * width, max(0, usd) * scale
        shapes.append('<rect class="column" x="%.1f" y="%.2f" width="%.1f" height="%.2f"><title>%s '
                      '$%s</title></rect>' % (
            x + width * .1, FLOOR - height, width * .8, height, label, format_usd(usd, 2, True)))
        if n % -(-len(amounts) // 12) == 0:
            shapes.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (
                min(x + width / 2, WIDTH - 20), HEIGHT - 6, label[2 if unit == 'month' else 5:]))
    return ('<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="chart-title">'
            '<title id="chart-title">Spend by %s, at most $%s</title>%s</svg>'
            % (WIDTH, HEIGHT, unit, format_usd(most, 2, True), ''.join(shapes)))


def axis(most):
    """(where an axis ends, its step): up to six round steps, the last one close above `most`."""
    power = PICO // 100
    while True:
        for step in power, 2 * power, power * 5 // 2, 5 * power:
            if step * 6 >= most:
                return max(1, -(-most // step)) * step, step
        power *= 10


# ---- FOCUS 1.4: Cost and Usage ------------------------------------------------------------------

# A column, and how its cells are filled in.
FOCUS = '''
    BilledCost=0.0
    BillingAccountId=armledger
    BillingAccountName=armledger (metered from session logs)
    BillingCurrency=USD
    BillingPeriodEnd={month_end}
    BillingPeriodStart={month}
    ChargeCategory=Usage
    ChargeClass=
    ChargeDescription={meter} of {model} at ${unit_price}{per}; an estimate from session logs
    ChargePeriodEnd={day_end}
    ChargePeriodStart={day}
    ConsumedQuantity={quantity}
    ConsumedUnit={unit}
    ContractedCost={contracted}
    ContractedUnitPrice={contracted_price}
    EffectiveCost={contracted}
    HostProviderName={provider}
    InvoiceIssuerName={provider}
    ListCost={cost}
    ListUnitPrice={unit_price}
    PricingCategory=Standard
    PricingQuantity={priced}
    PricingUnit={pricing_unit}
    ServiceCategory=AI and Machine Learning
    ServiceName={service}
    ServiceProviderName={provider}
    ServiceSubcategory=Generative AI
    SkuId={sku}
    SkuMeter={meter}
    SkuPriceId={sku}@{unit_price}
    SubAccountId={arm}
    SubAccountName={name}
    Tags={tags}
    x_Arm={arm_or_none}
    x_AssumedCost={assumed}
    x_Estimate=true
    x_Model={model}
    x_PricesAsOf={as_of}
    x_UntranscribedCost={untranscribed}
'''.split('\n')[1:-1]
SOLD = {'Input Tokens': 'input', 'Output Tokens': 'output',
        'Short Cache Write Tokens': 'cache-write-short',
        'Long Cache Write Tokens': 'cache-write-long', 'Cache Read Tokens': 'cache-read',
        'Web Searches': 'web-search'}
PROVIDERS = (('claude', 'Anthropic', 'Claude API'), ('gpt|codex|o[134]', 'OpenAI', 'OpenAI API'),
             ('gemini', 'Google', 'Gemini API'), ('grok', 'xAI', 'xAI API'),
             (r'[a-z-]+\.', 'Amazon Web Services', 'Amazon Bedrock'),
             ('', 'Unknown', 'Language model API'))
CALLS = 'arm, ts, (select name from models where id = model), variant, %s, assumed, %s' % (
    UNTRANSCRIBED, ', '.join(METERS))


def format_focus(books, span):
    """BilledCost is 0: the specification wants there what an issuer has invoiced, no estimate,
    so that this file and the provider's own can be added up."""
    heads, cells = zip(*(column.strip().split('=') for column in FOCUS))
    lines = [heads]
    for day in split(span, 'day'):
        sold = {}        # {(arm, model, meter, price): [quantity, of it untranscribed, assumed]}
        for arm, ts, model, variant, is_rest, assumed, *tokens in books.rows(CALLS, day):
            units = books.prices.units(model, ts, tokens, variant, not is_rest)[0]
            for meter, price, number in zip(SOLD, units, tokens):
                held = sold.setdefault((arm, model, meter, price), [0, 0, 0])
                for n, times in enumerate((1, is_rest, assumed)):
                    held[n] += number * times
        for key in sorted(sold):
            if sold[key][0]:
                values = focus_values(books, day, *key, *sold[key])
                lines.append([cell.format(**values) for cell in cells])
    return csv_text(lines)


def focus_values(books, day, arm, model, meter, price, quantity, untranscribed, assumed):
    """Prices are pico-dollars for one; tokens are sold by the million. Quantity times price is the
    cost, exactly."""
    rate, is_search = books.rate(arm), meter == 'Web Searches'
    scale, unit = (12, 'Requests') if is_search else (6, 'Tokens')
    provider, service = next(one[1:] for one in PROVIDERS if re.match(one[0], model))
    periods = [time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(ms // 1000))
               for window in ('day', 'month') for ms in window_bounds(window, day.since)]
    return dict(
        zip(('day', 'day_end', 'month', 'month_end'), periods), meter=meter, model=model,
        quantity=quantity,
        unit=unit, pricing_unit='1000000 ' * (not is_search) + unit, per=' each' if is_search
        else ' for 1000000',
        priced=quantity if is_search else exact(quantity, 6), unit_price=exact(price, scale),
        contracted_price=exact(price * rate, scale + 8), cost=exact(quantity * price, 12),
        contracted=exact(quantity * price * rate, 20), assumed=exact(assumed * price, 12),
        untranscribed=exact(untranscribed * price, 12), provider=provider, service=service,
        sku='%s/%s' % (model, SOLD[meter]), arm=arm, name=books.names[arm] * bool(arm),
        arm_or_none=arm or UNATTRIBUTED, tags=json.dumps({'arm': arm or UNATTRIBUTED}),
        as_of=books.prices.as_of)


def exact(value, scale):
    """value / 10**scale, every digit of it: 1.5, 20.0, 0.000125."""
    text = '%0*d' % (scale + 1, value)
    return text[:-scale] + '.' + (text[-scale:].rstrip('0') or '0')


# ---- Prometheus: for node_exporter's textfile collector -----------------------------------------

def format_prometheus(books):
    spent, caps, lines = [], books.caps, []
    for window in TIMES:
        rows = make_rows(books, span_of(window, books.now, books.through), ('arm',))
        spent += [dict(row, window=window) for row in sorted(rows, key=lambda row: row['arm'])]
    for row in caps:
        row['ratio'] = row['usd'] * PICO // row['cap_usd'] if row['cap_usd'] else None
    lost = len(books.reading.unreadable) + books.reading.compressed
    as_of = (parse_time(books.prices.as_of + 'T00:00') or 0) // 1000
    for name, text, samples, column in (
            ('spend_usd', "Spend in the current window at the arm's rate, an estimate in US dollars.",
             spent, 'usd'),
            ('cap_usd', 'Cap of the window, in US dollars.', caps, 'cap_usd'),
            ('counted_usd', "Spend that counts against the cap, at the arm's rate, in US dollars.",
             caps, 'usd'),
            ('cap_ratio', "Spend at the arm's rate divided by the cap; 1 is the cap.", caps,
             'ratio'),
            ('tier', 'Tier of the cap: 0 ok, 1 alert, 2 warn, 3 hard_stop, 4 halt.', caps, 'tier'),
            ('last_read_timestamp_seconds', 'When the session logs were read last.',
             books.now // 1000, ''),
            ('prices_as_of_timestamp_seconds', 'The day that the prices are as of.', as_of, ''),
            ('skipped_lines', 'Log lines that could not be read.', books.reading.skipped, ''),
            ('unreadable_files', 'Log files that could not be read.', lost, ''),
            ('budgets_ok', 'Whether budgets.yaml could be read: 1 or 0.', int(not books.problem),
             '')):
        if samples != []:
            lines += ['# HELP armledger_%s %s' % (name, text), '# TYPE armledger_%s gauge' % name]
        if not column:
            lines.append('armledger_%s %d' % (name, samples))
            continue
        for row in samples:
            value = row[column]
            arm = printable(row['arm'] or UNATTRIBUTED, 4096).replace('\\', '\\\\').replace('"',
                '\\"')
            if value is not None:
                lines.append('armledger_%s{arm="%s",window="%s"} %s' % (
                    name, arm, row['window'], check.TIERS.index(value) if column == 'tier'
                    else format_usd(value, 6)))
    return '\n'.join(lines) + '\n'


# ---- bills beside estimates ---------------------------------------------------------------------

def read_bills(path):
    """{arm or 'total': pico-dollars} of a JSON object, or of CSV lines `arm,usd`."""
    try:
        with open(path, encoding='utf-8', newline='') as stream:
            return parse_bills(stream.read(1 << 20), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise UserError('--billed: cannot be read: %s' % reason, path)


def parse_bills(text, name):
    text = text.lstrip('\ufeff \t\r\n')
    if text.startswith('{'):
        try:
            pairs = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=list)
        except ValueError as error:
            raise UserError('not JSON: %s' % error, name)
    else:
        import csv
        pairs = [(row[0].strip(), ','.join(row[1:])) for row in csv.reader(text.splitlines())
                 if row]
        if pairs and parse_usd(pairs[0][1]) is None:
            del pairs[0]         # the headings
    bills = {}
    for key, value in pairs:
        usd = parse_usd(value)
        if usd is None or key in bills:
            raise UserError('%s: %s' % (
                printable(key), 'stands here twice' if key in bills else
                'its amount is expected as plain dollars, such as 123.45'), name)
        bills[key] = usd
    if not bills:
        raise UserError('no amounts are in it; write {"acme": 123.45}, or lines of arm,usd', name)
    return bills


def parse_usd(text):
    """Pico-dollars of an amount as people write it: -$1,234.50, 5 USD; None if it isn't one."""
    pattern = r'\s*(-?)\s*\$?(\d{1,12}|\d{1,3}(?:,\d{3}){1,3})(?:\.(\d{1,12}))?\s*(?:USD)?\s*$'
    match = re.match(pattern, text if type(text) is str else '', re.ASCII)
    if not match:
        return None
    return int(match[1] + match[2].replace(',', '') + (match[3] or '').ljust(12, '0'))


def reconcile(books, billed, rows):
    """(a report of what each arm, or the total, was billed, beside its estimate; warnings)"""
    estimates, bills, told = {}, [], []
    for row in rows:
        estimates[row['arm']] = estimates[books.names[row['arm']]] = row['usd']
    for name, usd in billed.items():
        estimate = estimates.get(name)
        if estimate is None and books.arm is not None:
            continue             # it may be another client's
        if estimate is None and name.lower() == 'total':
            estimate = sum(row['usd'] for row in rows)
        elif estimate is None:
            estimate = 0
            told.append('--billed: there is no arm %s%s' % (printable(name),
                                                            did_you_mean(name, estimates)))
        bills.append({
            'arm': name, 'estimate_usd': estimate, 'billed_usd': usd,
            'difference_usd': usd - estimate,
            'factor': divide_even(usd * PICO, estimate) if estimate > 0 else None,
            'over_20_pct': 5 * abs(usd - estimate) > abs(estimate)})
    report = Report('Billed', ('arm',), bills, None, columns_of(('arm',), ['billed']))
    return report, told if bills else ['--billed: it has no amount of this arm']


# ---- the books: all that a report is made from --------------------------------------------------

class Books:
    """The ledger brought up to date, prices, budgets, the clock, the arm that is asked for."""

    def __init__(self, options):
        self.options, self.home, self.now = options, check.home_of(os.environ), options.now_ms
        self.through = self.now + 1 if options.now else OPEN  # else a clock may be ahead
        self.problem = self.arm = None
        self.budgets = self.load_budgets()
        self.timezone = self.budgets.timezone if self.budgets else 'local'
        check.set_zone(self.timezone)
        self.prices = load_prices(find_prices(options.prices, os.environ, HERE))
        path = check.find_ledger(options.ledger, os.environ, self.home)
        self.ledger = check.Ledger(path, self.home, 3600.0)
        self.reading = self.ledger.refresh(self.prices, os.environ, self.now,
                                           check.progress_on(sys.stderr))
        self.caps = self.assign_arms()
        self.arms = [arm for arm, in self.ledger.rows(
            'select distinct arm from pairs where arm is not null')]
        self.has_rates = any(self.rate(arm) != WHOLE for arm in self.arms)
        self.listed = list(self.budgets.by_name) if self.budgets else []
        shown = self.arms + self.listed
        if options.arm:
            self.arm = self.find_arm(options.arm)
            self.caps = [row for row in self.caps if row['arm'] == self.arm]
            self.listed, shown = [arm for arm in self.listed if arm == self.arm], [self.arm]
        self.names = dict(check.short_names(dict.fromkeys(shown)), **{'': UNATTRIBUTED})
        first = self.ledger.rows(
            'select (select min(ts) from calls where pair = pairs.id and owned) from pairs')
        self.oldest = min((ts for ts, in first if ts), default=OPEN)

    def load_budgets(self):
        """None if there are none or they cannot be read; that is told when the costs are."""
        try:
            path = check.find_budgets(self.options.budgets, os.environ, HERE, self.home)
            return check.load_budgets(path, self.home) if path else None
        except UserError as error:
            self.problem = str(error)

    def assign_arms(self):
        """A row for each cap as it stands now, none where budgets.yaml can't be gone by."""
        try:
            check.assign_arms(self.ledger, self.budgets)
            check.check_ambiguous(self.ledger, self.budgets)
            keys = check.armed_keys(self.ledger, self.budgets)
            standings = [check.stand(self.ledger, self.budgets, key, self.now,
                                     bool(self.options.now)) for key in keys]
        except UserError as error:
            self.problem, self.budgets, standings = str(error), None, []
        return [dict(against_cap(one), arm=standing.key, window=one.window, usd=one.spent,
                     projected_usd=one.projected)
                for standing in standings for one in standing.verdict.windows
                if one.spent or standing.key in self.budgets.by_name]

    def find_arm(self, text):
        """A word that is no arm is refused: as a folder, a slip would show another client."""
        if self.problem:
            raise UserError(self.problem)        # which calls are the arm's is not known
        if text == UNATTRIBUTED:
            return ''
        arm = check.find_arm(text, self.ledger, self.budgets, self.home)
        if arm not in self.arms + self.listed:
            raise UserError('--arm: nothing was spent in %s, and no arm of budgets.yaml has it'
                            % printable(text))
        return arm

    def rows(self, columns, span, tail='', around='%s', tables='pairs cross join calls'):
        """Of the calls in a span: pair by pair, as the index has them."""
        sql = 'select %s from %s on pair = pairs.id where owned and ts >= %d and ts < %d and ' \
              'arm is coalesce(?, arm) %s' % (columns, tables, span.since, span.until, tail)
        return self.ledger.rows(around % sql, self.arm)

    def entry(self, arm):
        return check.entry_of(self.budgets, arm)

    def rate(self, arm):
        entry = self.entry(arm)
        return entry.rate_pct if entry else WHOLE

    def strays(self, span):
        """A line for each arm that has spent outside of its folders, in sessions begun in them."""
        places, outside = self.ledger.places(), {}
        for arm, place, usd in self.rows('arm, place, sum(usd / 1000000)', span,
                                         'and place <> origin group by pairs.id'):
            if arm in self.listed and check.arm_of(self.budgets, places.get(place)) != arm:
                folder = places[place].path.replace(self.home.rstrip('/') + '/',
                                                    '~/') if place else 'no known folder'
                folders = outside.setdefault(arm, {})
                folders[folder] = folders.get(folder, 0) + usd * MILLION * self.rate(arm) // WHOLE
        for arm, folders in outside.items():
            others = ' and elsewhere' * (len(folders) > 1)
            yield '%s of %s was spent in %s%s' % (
                dollars(sum(folders.values())), arm, max(folders, key=folders.get), others)

    def skipped_since(self, ms):
        """Lines that could not be read, in logs that were written to since then."""
        rows = self.ledger.rows('select path, skipped from files where skipped')
        return sum(skipped for path, skipped in rows
                   if os.path.exists(path) and os.stat(path).st_mtime * 1000 >= ms)

    def warnings(self, span):
        """What may be wrong with the figures."""
        as_of = self.prices.as_of
        age = (self.now - (parse_time(as_of + 'T00:00') or self.now)) // DAY_MS
        told, reading = [], self.reading
        if age > STALE_DAYS:
            told.append('the prices are %d days old (%s): look whether they still hold, and put '
                        'the new ones into prices.json' % (age, as_of))
        if self.options.quiet:   # what is long gone, and can't be mended, is no alarm each morning
            reading = reading._replace(skipped=self.skipped_since(span.since))
        told += check.warnings_of(self.ledger, self.budgets, self.prices, reading, self.arm)
        if self.options.format not in ('focus', 'prometheus') and not self.options.statement:
            told += check.notify_failures(self.ledger, [self.arm] if self.arm else self.listed)
            told += self.strays(span)
        return told


# ---- what is said of the figures ----------------------------------------------------------------

def title_of(span, now):
    first = label_of('day', span.since)
    last = label_of('day', max(span.since, min(span.until, now + 1) - 1))
    if span.window in ('month', 'day'):
        running = ' to date (%s)' % last * (now < span.end)
        return first[:7 if span.window == 'month' else 10] + running
    return '%s to %s' % (first, last)


def small_print(books, rows, total):
    """A sentence for each thing that has to be known of the figures."""
    rates = ['%s (%s %%)' % (printable(books.names[arm]), exact(books.rate(arm), 6))
             for arm in sorted(books.names) if books.rate(arm) != WHOLE]
    told = ['Estimate at list price, not a bill; prices as of %s.' % books.prices.as_of]
    if rates:
        told.append('At its rate_pct of list price, as the gate counts it: %s.'
                    % ', '.join(rates).replace('.0 %', ' %'))
    if total['untranscribed_usd']:
        told.append("%s of it is untranscribed: titles, compactions and other helper calls that "
                    "stand in no transcript line, only in the agent's own totals."
                    % dollars(total['untranscribed_usd']))
    if any(row.get('arm') == '' and row['usd'] for row in rows):
        told.append('%s: calls whose record names no folder.' % UNATTRIBUTED)
    if any(row.get('spike') for row in rows):
        told.append('\u25b2 A day far above the usual: more than %d times the median of the days '
                    'with spend in the %d days before it, and more than $%d.'
                    % (SPIKE_TIMES, SPIKE_DAYS, SPIKE_FLOOR // PICO))
    if books.options.baseline:
        told.append('Baseline: on %s, at its standard price, the same tokens would have cost %s; '
                    'routing %s %s.' % (
                        printable(books.options.baseline), dollars(total['baseline_usd']),
                        'cost' if total['saved_usd'] < 0 else 'saved',
                        dollars(abs(total['saved_usd']))))
    if books.options.compare:
        told.append('Before: the window before, as far as this one has come; ? is before the '
                    'oldest call that is known.')
    return told


def cautions_of(books, span, assumed_usd):
    """What whoever sends the figures on has to know."""
    created, told = books.ledger.meta('created'), []
    if assumed_usd:
        told.append('~ %s of it is at an assumed price: its model has none in prices.json.'
                    % dollars(assumed_usd))
    if books.budgets and books.budgets.spend_json:
        told.append('Caps are compared with the spend that %s has (spend_json in budgets.yaml), '
                    'as the gate does, not with the logs.' % printable(books.budgets.spend_json, 500))
    if created and span.since < created:
        oldest = ''
        if books.oldest < OPEN:
            oldest = '; its oldest call is of ' + label_of('day', books.oldest)
        told.append('This ledger was begun on %s%s: spend whose logs had been deleted before that '
                    'is missing.' % (label_of('day', created), oldest))
    return told


def make_report(books, span, warnings):
    """The operator's."""
    options, by, below = books.options, books.options.by or ('arm',), []
    fields = FIELDS
    if options.format == 'table':                # what it has no room for takes time
        fields = PLAIN if by == ('arm',) else dict(PLAIN, tokens=FIELDS['tokens'])
    rows = make_rows(books, span, by, fields)
    parts = ['spend', 'usage'] + [name for name in ('compare', 'baseline')
                                  if getattr(options, name)]
    if set(by) in ({'day'}, {'arm', 'day'}):
        mark_spikes(books, rows, span, by)
        parts.append('spike')
    if options.compare:
        set_beside(books, rows, span, by)
    if options.baseline:
        set_baseline(books, rows, span, by)
    total = total_of(rows, by)
    # The caps that no row shows; of a window that has ended those at alert or above, which are why
    # cron is told.
    is_running = books.now < span.end
    shown = {(row['arm'], span.window) for row in rows
             if is_running and 'cap_usd' in row and unit_of(by) in (None, span.window)}
    caps = [row for row in books.caps if (row['arm'], row['window']) not in shown
            and (is_running or row['tier'] != 'ok')]
    if caps:
        keys = 'arm', 'window'
        below.append(Report('Other caps, now', keys, caps, None, columns_of(keys, ['spend']),
                            books.names))
    if options.billed:
        bills, told = reconcile(books, read_bills(options.billed), rows)
        below.append(bills)
        warnings = warnings + told
    title = 'Spend by %s: %s' % (', '.join(by), title_of(span, books.now))
    if books.arm is not None:
        title += ', arm ' + printable(books.names[books.arm])
    report = Report(title, by, rows, total, columns_of(by, parts), books.names, below,
                    small_print(books, rows, total),
                    cautions_of(books, span, total['assumed_usd']) + warnings)
    if options.format == 'html':
        return report._replace(chart=chart_of(books, span))
    if options.format == 'json':
        return report._replace(facts=facts_of(books, span, report))
    return report


def facts_of(books, span, report):
    """What JSON says beside its rows."""
    unattributed = sum_by(books, [span], ('arm',)).get(('',), {'usd': 0})
    facts = {
        'estimate': True, 'currency': 'USD', 'since': format_time(span.since),
        'until': format_time(max(span.since, min(span.until, books.now))),
        'timezone': books.timezone,
        'prices_as_of': books.prices.as_of,
        'total_usd': number(format_usd(report.total['usd'], 6)), 'rows': [],
        'unattributed_usd': number(format_usd(unattributed['usd'], 6)),
        'unpriced_models': sorted(name for name, in books.rows(
            'distinct (select name from models where id = model)', span, 'and assumed')),
        'skipped_lines': books.reading.skipped, 'warnings': report.cautions}
    if books.options.billed:
        facts['billed'] = [values_of(report.below[-1], row) for row in report.below[-1].rows]
    return facts


def make_statement(books, span):
    """For the client: what is to be paid, and nothing that it is made of."""
    options = books.options
    by = options.by or ('arm',) * (options.format == 'csv') + ('day', 'model')
    rows = [row for row in make_rows(books, span, by, FIELDS) if row['tokens'] or row['usd']]
    set_invoice(books, rows)
    zone = time.strftime('%Z (UTC%z)', time.localtime(span.since // 1000))
    notes = ['An estimate, metered from session logs, in US dollars.',
             'Days are whole in the time zone %s.' % (zone if books.timezone == 'local'
                                                      else books.timezone)]
    title = 'Statement %s, %s' % (printable(books.names[books.arm]), title_of(span, books.now))
    parts = ['usage', 'invoice']
    if options.internal:
        title = 'INTERNAL: ' + title
        notes.insert(0, 'INTERNAL, not for the client: list price, contracted amount and margin.')
        parts.append('internal')
    return Report(title, by, rows, total_of(rows, by), columns_of(by, parts), books.names, (),
                  notes, [])


# ---- the command line ---------------------------------------------------------------------------

STALE_DAYS = 60
FORMATS = {'table': format_text, 'json': format_json, 'csv': format_csv,
           'markdown': format_markdown,
           'html': format_html, 'focus': format_focus, 'prometheus': format_prometheus}
HELP = '''usage: cost-report.py [OPTION ...]

%s
  --by KEYS         one or more of %s
  --since DATE      a date or time, today, yesterday, or 7d: the first that counts
  --until DATE      a date, counted to its end, or a time
  --last DAYS       7d: the last seven days, today among them
  --month YYYY-MM   a whole month
  --yesterday       the whole of yesterday
  --arm ARM         one arm: its name, or a folder in it
  --format FORMAT   one of %s
  --output FILE     write there instead, whole or not at all; - is standard output
  --quiet           print only if an arm is at alert or above, or something is wrong
  --compare         set the window before beside
  --baseline MODEL  what the same tokens would have cost on MODEL
  --billed FILE     what was billed: JSON {"arm or total": usd} or CSV arm,usd
  --internal        in a statement (--arm, --month): list price, contracted amount, margin too
  --budgets FILE    instead of budgets.yaml
  --prices FILE     instead of prices.json
  --ledger FILE     instead of the usual ledger
  --now TIME        an ISO 8601 time to look from
  --version         show the version
  --help            show this
'''
# What the help says is what there is: {'--by': 'KEYS', ..., '--help': ''}
OPTIONS = dict(re.findall('(?m)^  (--[a-z]+) ([A-Z-]*)', HELP))


class Options:
    """The command line: each option by its name, None where it was not given."""


def parse_options(argv):
    """Options. (argparse would take a tenth of the whole run.)"""
    options, words = Options(), list(argv)
    vars(options).update((name[2:], None) for name in OPTIONS)
    while words:
        option, equals, value = words.pop(0).partition('=')
        option = '--help' if option == '-h' else option
        if option not in OPTIONS:
            raise UserError('there is no option %s%s; see --help'
                            % (printable(option), did_you_mean(option, OPTIONS)))
        wants = OPTIONS[option]
        if not wants and equals:
            raise UserError('%s takes no value; see --help' % option)
        if wants and not equals and words and not words[0].startswith('--'):
            value = words.pop(0)
        if wants and not value.strip():  # a variable that isn't set: never all arms
            raise UserError('%s is empty: write %s %s; see --help' % (option, option, wants))
        if option == '--by' and options.by:
            value = options.by + ',' + value
        setattr(options, option[2:], value or True)
    return check_options(options)


def check_options(options):
    options.by = options.by and tuple(dict.fromkeys(key.strip() for key in options.by.split(',')))
    options.format = options.format or 'table'
    given = [('by', key, BY) for key in options.by or ()] + [('format', options.format, FORMATS)]
    for name, value, known in given:
        if value not in known:
            raise UserError('--%s: %s is none; write one of %s'
                            % (name, printable(repr(value)), ', '.join(known)))
    if options.output == '-':
        options.output = None
    is_for_clients = options.format in ('html', 'markdown', 'csv')
    options.statement = bool(options.arm and options.month) and is_for_clients
    windows = ('since', 'until', 'last', 'month', 'yesterday') * (options.format == 'prometheus')
    given = [name for name in ('by', 'compare', 'baseline', 'billed', *windows)
             if getattr(options, name)]
    if options.format in ('focus', 'prometheus') and given:
        raise UserError('--format %s has its own columns and windows: leave out --%s' % (
            options.format, given[0]))
    if options.billed and options.by not in (None, ('arm',)):
        raise UserError('--billed goes with --by arm')
    if options.internal and not options.statement:
        raise UserError('--internal goes with a statement: --arm, --month, and --format html, '
                        'markdown or csv')
    options.now_ms = parse_time(options.now) if options.now else int(time.time() * 1000)
    if options.now_ms is None:
        raise UserError('--now: %s is no time; write it as 2026-10-31T23:59:59Z' % printable(
            repr(options.now)))
    return options


def did_you_mean(word, known):
    """The known word that it may be a slip of, as the rest of a sentence."""
    near = check and check.nearest(word, list(known))
    return '; did you mean %s?' % printable(near) if near else ''


def main(argv=None):
    """Exit code: 0 when the report was made, 1 when it could not be, or not with its caps."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors='replace')     # names must not fail in a plain locale
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        if options.help:
            sys.stdout.write(HELP % (__doc__, ', '.join(BY), ', '.join(FORMATS)))
        elif options.version:
            print('armledger ' + (check.RELEASE if check else 'without budget-check.py'))
        else:
            return run(options) if check else run_alone(options)
        return 0
    except UserError as error:
        complain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain('interrupted')
    except OSError as error:
        complain(error)
    except Exception as error:
        if not check or not isinstance(error, check.sqlite().Error):
            raise
        home = check.home_of(os.environ)
        complain(check.ledger_error(check.find_ledger(options.ledger, os.environ, home), error))
    return 1


def complain(error):
    print('cost-report: ' + printable(str(error), 2000), file=sys.stderr)


def run(options):
    books = Books(options)
    text, is_alarming, notes = make(books, options)
    is_shown = is_alarming or not options.quiet
    for note in notes * is_shown + [books.problem] * bool(books.problem):
        complain(note)
    if options.output or is_shown:
        put(options.output, text)
    return 1 if books.problem else 0


def make(books, options):
    """(the report's text, whether --quiet has to let it through, notes that have no room in it)"""
    span = choose_span(options, books.now, books.through, min(books.oldest, books.now))
    form, warnings = FORMATS[options.format], books.warnings(span)
    is_alarming = bool(warnings or books.problem) or any(row['tier'] != 'ok' for row in books.caps)
    if options.format == 'prometheus':
        return form(books), is_alarming, []
    report = make_report(books, span, warnings)
    is_alarming = is_alarming or bool(report.total['assumed_usd'] or options.billed)
    notes = ['note: ' + note for note in report.cautions]
    if options.format == 'focus':
        return form(books, span), is_alarming, notes
    if options.statement:
        return form(make_statement(books, span)), is_alarming, notes
    if options.format == 'csv':
        return form(report.below[-1] if options.billed else report), is_alarming, notes
    return form(report), is_alarming, []


def put(path, text):
    """Print it, or write all of it or nothing: under another name, then renamed."""
    if not path:
        sys.stdout.write(text)
        return
    is_there, is_plain = os.path.exists(path), os.path.isfile(path) or not os.path.exists(path)
    target = os.path.realpath(path) if is_plain else path  # a link stays a link
    written = '%s.%d.tmp' % (target, os.getpid()) if is_plain else path
    if is_plain and not os.path.isdir(os.path.dirname(target)):
        raise UserError('--output: there is no such folder; make it first',
                        os.path.dirname(target))
    try:
        with open(written, 'w', encoding='utf-8', newline='') as stream:
            stream.write(text)
        if is_plain and is_there:
            os.chmod(written, os.stat(target).st_mode & 0o777)
        if is_plain:
            os.replace(written, target)
    except OSError as error:
        if is_plain and os.path.exists(written):
            os.unlink(written)
        raise UserError('--output: %s' % error.strerror, path)


def leave(code):
    """End at once: tearing an interpreter down takes as long as the report's sums."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = 1
    os._exit(code)


if __name__ == '__main__':
    leave(main())
