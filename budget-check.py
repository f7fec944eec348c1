#!/usr/bin/env python3
"""Hard budget caps for coding agents, client by client.

    budget-check.py                     every armed arm, as a table
    budget-check.py ~/clients/acme      the arm that a path is in; or an arm's name
    budget-check.py --json acme         the verdict for programs
    budget-check.py --doctor            would the cap really hold here?

What an agent has used stands in its own session logs. Priced at list price and keyed by the repo
that each call was made in, they are an arm's ledger; budgets.yaml sets the arm's caps:

    budgets:
      - arm: acme
        path: ~/clients/acme
        monthly_usd_cap: 200.00

Exit codes: 0 all is well, or an arm is at `alert` or `warn`; 2 an arm is at its hard stop; 1 it
could not be told (a bad budgets.yaml, prices.json or ledger, a mistyped option).

The same file decides for pretooluse-hook.py, which agents call before each tool: see gate().
"""
import sys

if sys.version_info < (3, 9):
    sys.exit('armledger needs Python 3.9 or later; this is %d.%d' % sys.version_info[:2])

import json
import os
import re
import time
from collections import namedtuple
from functools import lru_cache, partial

RELEASE = '2.0.0'


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
# folder of the least `cwd_ts`. `root` is the session that it was forked from, '' for none;
# `version` is the agent's, and there is a row for each that wrote of it.
Session = namedtuple('Session', 'name began cwd_ts cwd root version')


class Found:
    """What some lines of a log say. `state` is what its reader keeps of the lines before them."""

    def __init__(self, state=None):
        self.calls = []
        self.marks = []
        self.sessions = []
        self.skipped, self.state = 0, state

    def add_session(self, record, session, began, ts):
        """Note where a session was at a time, and with which version of the agent, unless no more
        than that is known of an earlier time."""
        known = self.state.setdefault('known', {})
        cwd, version = texts(record, 'cwd', 'version')
        earliest, before = known.get(session, (OPEN, ''))
        if cwd and ts and (ts < earliest or version not in ('', before)):
            known[session] = min(ts, earliest), version
            self.sessions.append(Session(session, began, ts, cwd, '', version))

    def add_mark(self, mark):
        """`open`: those after which the session may yet go on."""
        self.marks.append(mark)
        self.state.setdefault('open', []).append(mark)

    def end_marks(self, ts):
        """The session went on: its totals are told again, with the end of their stretch, which
        isn't before them, whatever a line is stamped."""
        for mark in map(Mark._make, self.state.pop('open', ()) if ts else ()):
            self.marks.append(mark._replace(ended=max(ts, (mark.ts or 0) + 1)))


class UserError(Exception):
    """A mistake that its user can mend; str() is `name:line:column: message`, 1-based."""

    def __init__(self, message, *place):
        place = ':'.join(map(str, filter(None, place)))
        super().__init__(place + ': ' + message if place else message)


def printable(text, limit=200):
    """Log text and names for a terminal: no control characters, no bidi tricks, not endless."""
    kept = ''.join(c if c.isprintable() else '\ufffd' for c in text[:limit + 1])
    return kept if len(kept) <= limit else kept[:limit - 1] + '…'


# -- values


def parse_time(text):
    """Milliseconds since the epoch of an ISO 8601 time; None if it isn't one. No zone is UTC."""
    form = (r'(?a)(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::([0-5]\d))?(?:[.,](\d+))?'
            r'(?:[Zz]|([+-]\d\d:?\d\d))?\Z')
    try:                                       # what isn't said is a nought: +0000
        day, minute, second, fraction, zone = re.match(form, text).groups('+0000')
        minutes = minutes_to(day + ' ' + minute + zone[:3] + ':' + zone[-2:])
    except (AttributeError, TypeError, ValueError):
        return None
    return (minutes * 60 + int(second)) * 1000 + int(fraction[:3].ljust(3, '0'))


@lru_cache(1000)
def minutes_to(minute):
    """From the epoch to a minute; ValueError if there is none such."""
    try:
        from _datetime import datetime         # `datetime` alone takes 1 ms more to import
    except ImportError:
        from datetime import datetime
    return int(datetime.fromisoformat(minute).timestamp()) // 60


def time_of(record):
    """When a line was written; None for no time, and for one of a clock that was never set."""
    ts = parse_time(record.get('timestamp'))
    return ts if ts and ts > 1577836800000 else None


def figure(value, most=10**10):
    """A figure that a gateway got wrong is no reason to lose a call: -1 or a word is 0, and a
    text that is a number counts as that number."""
    if type(value) is str and re.match(r'(?a)\d{1,19}\Z', value):
        value = int(value)
    return value if type(value) in (int, float) and 0 < value <= most else 0


def counts(record, *names):
    return [int(figure(record.get(name))) for name in names]


def text_of(value, longest=4096):
    """A log's text as it may be kept; '' if it isn't text, or endless, or can't be encoded."""
    if type(value) is not str or len(value) > longest:
        return ''
    return value if value.isprintable() or not re.search('[\0\ud800-\udfff]', value) else ''


def text_in(record, name):
    return text_of(record.get(name))


def texts(record, *names):
    return [text_of(record.get(name)) for name in names]


def part(value, name):
    """A map inside of a map, {} if there is none."""
    inner = value.get(name)
    return inner if type(inner) is dict else {}


def split_input(whole, read, written, output):
    """A call's tokens where cache reads and writes stand inside of input."""
    read = min(read, whole)
    written = min(written, whole - read)
    return whole - read - written, output, written, 0, read, 0


def tokens_of(usage, names):
    """The same, of a map; the names are those of input, reads, writes and output."""
    return split_input(*counts(usage, *names))


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
OPENING = r'\{"(?:parentUuid|isSidechain|type|uuid|timestamp|sessionId|id)":'


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
        if at < len(text):
            begun = re.compile(OPENING).search(text, at)
            at = begun.start() if begun else len(text)
    return found


def lines_with(words, text):
    """(start, line) of the lines that hold one of some words; the parse decides what they are."""
    ends = {}
    for word in words:
        at = text.find(word)
        while at >= 0:
            end = text.find(b'\n', at)
            ends[text.rfind(b'\n', 0, at) + 1] = end
            at = text.find(word, end)
    for start in sorted(ends):
        yield start, text[start:ends[start]]


def reader(words, read_record):
    """The `read` of an Agent whose records can be read one by one."""
    def read(path, text, state):
        found = Found(state)
        for _, line in lines_with(words, text):
            records = parse_records(line)
            found.skipped += {} in records
            for record in records:
                read_record(record, path, found)
        return found
    return read


def totals_of(models, tokens_in, names):
    """A Mark's totals; what the names of one model have used is put together."""
    totals = {}
    for model in models:
        name = model_name(model)
        usage = part(models, model)
        usd = figure(usage.get('costUSD'), MILLION)
        used = [*tokens_in({**usage, **part(usage, 'usage')}, names), round(usd * PICO)]
        totals[name] = list(map(int.__add__, totals.get(name) or [0] * 7, used))
    return totals


# -- Claude Code: transcripts

CLAUDE_WORDS = b'"assistant"', b'"cost-state"'
CLAUDE_USAGE = (
    'input_tokens', 'output_tokens', 'cache_creation_input_tokens', 'ephemeral_5m_input_tokens',
    'ephemeral_1h_input_tokens', 'cache_read_input_tokens', 'web_search_requests')
CLAUDE_TOTAL = (
    'inputTokens', 'outputTokens', 'cacheCreationInputTokens',
    'cacheCreationEphemeral5mInputTokens', 'cacheCreationEphemeral1hInputTokens',
    'cacheReadInputTokens', 'webSearchRequests')


def read_claude(path, text, state):
    """What complete lines of a transcript say (an internal format, as of 2.1.331)."""
    found = Found(state)
    name = os.path.basename(path)[:-6]
    is_agent = name.startswith('agent-')
    if not (is_agent or state.get('known')):
        find_beginning(name, text, found)
    if state.get('open'):
        found.end_marks(time_after((), text, 0))
    told = state.get('told') or (None, '')
    seen = 0
    last_gist = b''
    for start, line in lines_with(CLAUDE_WORDS, text):
        gist, short = split_call(line)
        if gist and gist == last_gist and b'"cost-state"' not in line:
            continue                           # another line of the call before
        last_gist = b''
        records = parse_records(short)
        if [part(record, 'message').get('content') for record in records] != [[]]:
            records = parse_records(line)
        found.skipped += {} in records
        for n, record in enumerate(records):
            ts = time_of(record)
            here, cwd = ts, told[1]
            if not ts:
                told = told_before(text, seen, start, told)
                seen = start
                here, cwd = told_by(records[:n], told)
            if record.get('type') == 'cost-state':
                found.add_mark(claude_mark(record, name, here, cwd))
                found.end_marks(time_after(records[n:], text, start + len(line)))
            calls = claude_calls(record, name, here)
            if calls:
                found.calls += calls
                last_gist = gist
                if not (is_agent or 'forkedFrom' in record):
                    found.add_session(record, calls[0].session, None, ts)
    state['told'] = told_before(text, seen, len(text), told)
    return found


def find_beginning(name, text, found):
    """A session began with its first line that has a time, and is not marked as a copy.

    The copies that a fork's file has are older: they tell where its family began."""
    for line in re.finditer(b'.+', text):
        for record in parse_records(line.group()):
            ts = time_of(record)
            if ts and 'forkedFrom' not in record:
                began = found.state.setdefault('began', ts)
                found.add_session(record, text_in(record, 'sessionId') or name, began, ts)
            if found.sessions:
                return


def told_by(records, told):
    """(time, folder) as the last of some records tell, else as was told before."""
    for record in records:
        told = time_of(record) or told[0], text_in(record, 'cwd') or told[1]
    return told


def told_before(text, begin, end, told):
    """The same of the lines of a part of a text."""
    here = None, ''
    while end > begin and not all(here):
        start = text.rfind(b'\n', 0, end - 1) + 1
        ts, cwd = told_by(parse_records(text[start:end]), (None, ''))
        here = here[0] or ts, here[1] or cwd
        end = start
    return here[0] or told[0], here[1] or told[1]


def time_after(records, text, at):
    """The first time that is told by some records, else behind a place of a text; None if none."""
    lines = re.compile(b'.+').finditer(text, at)
    following = (record for line in lines for record in parse_records(line.group()))
    for some in records, following:
        for ts in filter(None, map(time_of, some)):
            return ts
    return None


def split_call(line):
    """(what all lines of a call have in common, the line without its content) of a line with one
    call, blanks for another. Only for speed: content is most of a line, and isn't billed.

    A quote inside of a text is escaped, so what is found are keys; the parse proves which."""
    stop = line.rfind(b'],"stop_reason":')
    request = line.rfind(b'"requestId":')
    content = line.rfind(b'"content":[', 0, stop) + 11
    if not 11 <= content <= stop < request:
        return b'', b''
    head = line.find(b'"message":')
    end = line.rfind(b'},', stop, request)
    gist = line[head:content] + line[stop:end] + line[request:line.find(b',', request)]
    return gist, line[:content] + line[stop:]


def claude_calls(record, name, ts):
    """The call that a line is of, and those that only its iterations name; [] if unbilled."""
    if record.get('type') == 'progress':       # older versions: a copy of a sub-agent's line
        data = part(record, 'data')
        record = {**record, **data, **part(data, 'message'), 'isSidechain': True}
    message = part(record, 'message')
    usage = part(message, 'usage')
    model = message.get('model')
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
        key, request, session or name,
        agent or 'sidechain' * is_side,
        standing, 'call',
        ts, cwd,
        model_name(model),
        ' '.join([tag for tag in tags if tag in TAGS]),
        claude_tokens(usage),
        message.get('stop_reason') == 'tool_use')]
    iterations = usage.get('iterations')
    for n, one in enumerate(iterations if type(iterations) is list else ()):
        kind = type(one) is dict and text_in(one, 'type')
        if kind in ('advisor_message', 'compaction'):
            calls.append(calls[0]._replace(
                key='%s#%d' % (key, n),
                kind=kind,
                tokens=claude_tokens(one),
                model=model_name(one.get('model') or model)))
    return calls


def claude_tokens(usage, names=CLAUDE_USAGE):
    """Writes that aren't split are for 5 minutes; a split above its sum is the truth."""
    whole = {**usage, **part(usage, 'cache_creation'), **part(usage, 'server_tool_use')}
    fresh, output, written, short, long, read, searches = counts(whole, *names)
    return fresh, output, max(short, written - long), long, read, searches


def claude_mark(record, name, ts, cwd):
    """A cost-state has neither time nor folder. Up to 2.1.308 it doesn't split cache writes."""
    models = part(record, 'modelUsage')
    return Mark(
        text_in(record, 'sessionId') or name,
        ts, cwd,
        int(figure(record.get('startTime'), OPEN)),
        all(CLAUDE_TOTAL[4] in part(models, model) for model in models),
        OPEN,
        totals_of(models, claude_tokens, CLAUDE_TOTAL))


# -- Codex CLI: rollouts

CODEX_WORDS = (
    b'"session_meta"', b'"turn_context"', b'"thread_settings_applied"', b'_call"', b'"token_')


def read_codex(record, path, found):
    """A record of a rollout (an internal format, from 2025-09 to 0.169)."""
    state = found.state
    payload = part(record, 'payload')
    if not state:          # until its head says more: rollout-<local time>-<thread>.jsonl
        thread = path[-42:-6]
        state.update(
            thread=thread, session=thread, root=thread, began=None, ts=None,
            version='', cwd='', model='', tier='', tool=False,
            total=[], drops=0, last=([], '', False))
    kind = payload.get('type', record.get('type'))
    state['ts'] = time_of(record) or state['ts']
    is_own = payload.get('thread_id') in (None, state['thread'])
    if kind == 'session_meta':
        codex_head(payload, state, found)
    elif kind == 'turn_context':
        model, cwd = texts(payload, 'model', 'cwd')
        state.update(model=model or state['model'], cwd=cwd or state['cwd'])
    elif kind == 'thread_settings_applied' and is_own:
        tier = text_in(part(payload, 'thread_settings'), 'service_tier')
        state['tier'] = tier if tier in TAGS else ''   # all settings: what is absent is off
    elif kind in ('function_call', 'custom_tool_call', 'local_shell_call'):
        state['tool'] = True
    elif kind == 'token_usage_record' and is_own:
        usage = codex_usage(payload, 'usage')
        key = text_in(payload, 'response_id') or '%s@%s %s' % (state['thread'], state['ts'], usage)
        add_codex_call(usage, key, True, state, found)
    elif kind == 'token_count':
        codex_count(part(payload, 'info'), path, state, found)


def codex_head(meta, state, found):
    """The first one is the file's own. A copied history has those of the threads above, upwards.

    A sub-agent's calls are its session's; a fork is a session of its own."""
    thread, session, parent, fork_of, cwd, version = texts(
        meta, 'id', 'session_id', 'parent_thread_id', 'forked_from_id', 'cwd', 'cli_version')
    if thread and not state['version']:
        session = parent or thread if session in ('', thread) else session
        state.update(
            thread=thread, root=thread, session=session, cwd=cwd,
            began=state['ts'],
            version=version or '?')
    if thread == state['root']:
        state['root'] = root = fork_of or parent or thread
        is_session = state['session'] == state['thread']       # else nothing is known of it
        found.sessions.append(Session(
            state['session'],
            state['began'] if is_session else None,
            state['began'],
            state['cwd'],
            root if is_session and root != state['thread'] else '',
            state['version']))


def codex_count(info, path, state, found):
    """A call, unless it is told again.

    A copy of a parent's history has the parent's totals, whatever its times: the family's root,
    the total, and how often totals were set back before (by a compaction) are the key."""
    total = codex_usage(info, 'total_token_usage')
    before = state['total']
    usage = codex_usage(info, 'last_token_usage')
    if total and total != before:
        if not (before or any(usage) or state['root'] == state['thread']):
            before = total_before(total, path, state['root'])
        risen = [now - then for now, then in zip(total, before or [0] * 4)]
        state['drops'] += min(risen) < 0
        state['total'] = total
        if not any(usage):
            usage = [max(0, tokens) for tokens in risen]
    elif total:
        return
    key = '%s:%d:%s' % (state['root'], state['drops'], total or [state['ts'], usage])
    add_codex_call(usage, key, False, state, found)


def total_before(total, path, parent):
    """A fork's first total has its parent's in it: the highest one in that log that is below. The
    first itself, which then counts nothing, where there is none."""
    from glob import escape, glob
    home, told = re.split(r'[/\\](?:archived_)?sessions[/\\]', path)[0], []
    for log in glob(escape(home) + '/*sessions/**/*' + escape(parent) + '.jsonl', recursive=True):
        with open_plain(log) as stream:
            told += re.findall(rb'"total_token_usage":(\{[^{}]+\})', stream.read())
    totals = [counts(json.loads(one), *CODEX_USAGE) for one in told]
    return max([one for one in totals if one != total and max(map(int.__sub__, one, total)) <= 0],
               default=total)


CODEX_USAGE = (
    'input_tokens', 'cached_input_tokens', 'cache_write_input_tokens', 'output_tokens')


def codex_usage(record, name):
    """Four counts, or {}."""
    usage = part(record, name)
    return usage and counts(usage, *CODEX_USAGE)


def add_codex_call(usage, key, is_record, state, found):
    """A call's record, of newer versions, or its token_count, of all. The two in the same words,
    in either order, are one call: an echo, which bills nothing, takes the place of the count."""
    (last, last_key, was_record), state['last'] = state['last'], (usage, key, is_record)
    if not any(usage):
        return
    is_twin = usage == last and is_record != was_record
    thread = state['thread']
    session = state['session']
    model = state['model']
    call = Call(
        key, '', session,
        thread * (thread != session),
        2 * (not is_record), 'call',
        state['ts'], state['cwd'],
        model_name(model or 'gpt-5'),
        state['tier'] + ' unsaid' * (not model),       # no tag, so its price is assumed
        split_input(*usage),
        state['tool'])
    if is_twin:
        found.calls.append(call._replace(
            key=last_key if is_record else key,
            standing=0,
            kind='echo',
            tokens=(0,) * 6))
    if is_record or not is_twin:
        found.calls.append(call)
        state['tool'] = False


# -- Copilot CLI, Qwen Code, Gemini CLI

COPILOT_USAGE = 'inputTokens', 'cacheReadTokens', 'cacheWriteTokens', 'outputTokens'
QWEN_TOTAL = 'inputTokens', 'cachedTokens', None, 'outputTokens'


def read_copilot(record, path, found):
    """Of events.jsonl. Before 1.0.102 it has totals alone, written as a session ends."""
    data = part(record, 'data')
    ts = time_of(record)
    state = found.state
    session = os.path.basename(os.path.dirname(path))
    place = part(data, 'context') or data
    state['cwd'] = text_in(place, 'cwd') or state.get('cwd', '')
    found.add_session(dict(place, version=data.get('copilotVersion')), session, ts, ts)
    usage = part(data, 'usage') or part(data, 'compactionTokensUsed')
    models = part(data, 'modelMetrics')
    call = text_in(usage, 'apiCallId') or text_in(part(usage, 'accounting'), 'usageId')
    tokens = tokens_of(usage, COPILOT_USAGE)
    key = call or text_in(data, 'compactionAttemptId')
    if key and any(tokens):
        state['has_calls'] = True
        found.end_marks(ts)
        found.calls.append(Call(
            key, '', session,
            text_in(record, 'agentId'),
            0, 'call' if call else 'compaction',
            ts, state['cwd'],
            model_name(usage.get('model')), '',
            tokens,
            bool(usage.get('numToolCalls'))))
    elif models and 'has_calls' not in state:
        totals = totals_of(models, tokens_of, COPILOT_USAGE)
        found.add_mark(Mark(session, ts, state['cwd'], 0, True, OPEN, totals))


def read_qwen(record, path, found):
    """Of a session's chat, or of usage_record.jsonl: a session's totals, whenever it ends."""
    session, uuid, cwd, project = texts(record, 'sessionId', 'uuid', 'cwd', 'project')
    event = part(part(record, 'systemPayload'), 'uiEvent')
    models = part(record, 'models')
    if event.get('event.name') == 'qwen-code.api_response':
        ts, key, agent = time_of(record), *texts(event, 'response_id', 'subagent_name')
        found.add_session(record, session, ts, ts)
        whole, read, output, thoughts, total = counts(
            event, 'input_token_count', 'cached_content_token_count', 'output_token_count',
            'thoughts_token_count', 'total_token_count')
        output += thoughts * (total == whole + output + thoughts)      # as some APIs count
        found.calls.append(Call(
            key or uuid, '', session, agent,
            0, 'call',
            ts, cwd,
            model_name(event.get('model')), '',
            split_input(whole, read, 0, output),
            False))
    elif models:
        ts = int(figure(record.get('timestamp'), OPEN))
        totals = totals_of(models, tokens_of, QWEN_TOTAL)
        found.marks.append(Mark(session, ts, project, 0, True, ts + 1, totals))


def read_gemini(record, path, found):
    """Of a session's or sub-agent's chat; its folder stands in .project_root, beside all chats."""
    tokens = part(record, 'tokens')
    state = found.state
    name = text_in(record, 'sessionId')
    if name or not state:        # a head, at each start and resume; the path, where it is torn
        home, _, inner = path.rpartition(os.sep + 'chats' + os.sep)
        parent, log = os.path.split(inner[:-6])
        state.update(
            session=parent or name or log,
            agent=parent and (name or log),
            cwd=state.get('cwd') or read_small(home + '/.project_root'))
        began = parse_time(record.get('startTime')) or time_of(record)
        found.add_session(state, state['session'], began, began)
    if record.get('type') == 'gemini' and tokens:
        whole, read, output, thoughts, tool = counts(
            tokens, 'input', 'cached', 'output', 'thoughts', 'tool')
        ts = time_of(record)
        found.calls.append(Call(
            text_in(record, 'id') or '%s@%s %s' % (state['session'], ts, tokens), '',
            state['session'], state['agent'],
            0, 'call',
            ts, state['cwd'],
            model_name(record.get('model')), '',
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

    def wanted(self, path):
        """Is a file below a root a log?"""
        return re.search(self.logs, path)

    def roots(self, environ, home):
        """Folders and files to look in."""
        named = filter(None, map(str.strip, environ.get(self.variable, '').split(',')))
        homes = list(named) or [os.path.join(home, one) for one in self.homes]
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

UNIT_NAMES = ('input', 'output', 'cache_write_5m', 'cache_write_1h', 'cache_read',
              'web_search_usd')
LIKE = {'cache_write_30m': 'cache_write_5m', 'cache_write_12h': 'cache_write_1h'}
TAGS = 'batch', 'flex', 'priority', 'fast', 'ultrafast', 'us'


def model_name(name):
    """A model's name without what doesn't change its price: provider, date, [1m], -v1:0.

    So the names that agents and routers have for one model become one. What changes the price
    stays: a cloud region (us.claude-opus-4-5; anthropic.claude-opus-4-5 is one of Bedrock's) and
    -fast.
    """
    return '.'.join(filter(None, split_model(text_of(name, 400) or '?')))


@lru_cache(None)
def split_model(model):
    """(cloud region or '', name); what follows tells a region from the dot inside of `gpt-5.5`."""
    region, bedrock, name = re.match(
        r'(?:.*/)?(?:[a-z_]+:)?(?:(global|us-gov|[a-z]{2,4})\.(?=anthropic\.|claude-))?'
        r'(?:(anthropic)\.)?(.*)',
        model.lower(), re.DOTALL).groups('')
    suffix = r'(?:-20\d{6}|-20\d\d-\d\d-\d\d|@[\w.-]+|\[1m\])+$'
    if name.startswith('claude-'):
        name = name.replace('.', '-')
        suffix = r'(?:-20\d{6}|-v\d+(?::\d+)?|@[\w-]+|[-:](?:thinking|beta)|\[1m\])+$'
    name = re.sub(suffix, '', name) or '?'
    # As routers have it.
    name = re.sub(r'^claude-([4-9][\d-]*)-([a-z]+)$', r'claude-\2-\1', name)
    return '' if region == 'global' else region or bedrock, name


def find_prices(explicit, environ, script_dir):
    """The price list's path: --prices, $ARMLEDGER_PRICES, or beside the script."""
    beside = os.path.join(script_dir, 'prices.json')
    return os.path.expanduser(explicit or environ.get('ARMLEDGER_PRICES') or beside)


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

    A call is priced at its own time. Where no entry is of its day the last one holds, and such a
    price is assumed. So is that of a tag (fast, flex, ...) that the list doesn't have, or not
    then: the price is the one without it."""

    def __init__(self, text, path='prices.json'):
        self.text, self.path = text, path

    @property
    @lru_cache(None)  # most gates never ask for more than its text
    def listed(self):
        """({name: model}, {family: model}); a model has its provider's values too, and its
        long-context prices among the others."""
        try:
            listed = json.loads(
                self.text, parse_float=millionths, parse_int=millionths, object_hook=priced)
            models = {}
            for name, model in listed['models'].items():
                model = {**listed['providers'][model['provider']], **model}
                model['prices'] = model.pop('long_context', []) + model['prices']
                for alias in [name] + model.pop('aliases', []):
                    models[split_model(alias)[1]] = model
            families = {family: models[split_model(name)[1]]
                        for family, name in listed['fallbacks'].items()}
            return models, families
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise UserError(
                'this is no price list; `budget-check.py --doctor` says where', self.path)

    @property
    def as_of(self):
        return max(re.findall(r'"as_of": *"(\d{4}-\d\d-\d\d)"', self.text), default='')

    def known(self, model):
        return self.resolve(model)[0]

    def digest(self, model):
        """Changes with everything that this model is priced by."""
        from binascii import crc32

        return '%08x' % crc32(repr((PRICING, self.resolve(model)[2])).encode())

    def usd(self, model, ts, tokens, *more):
        """Pico-dollars of a call, and whether a price is assumed; more: as for units."""
        units, assumed = self.units(model, ts, tokens, *more)
        return sum([number * unit for number, unit in zip(tokens, units)]), assumed

    def units(self, model, ts, tokens, variant='', is_one_call=True):
        """Pico-dollars per token of each class and per search, and whether a price is assumed.

        The tokens are one call's, or a sum over calls: no long context is seen in that."""
        context = (tokens[0] + tokens[2] + tokens[3] + tokens[4]) * is_one_call
        for size, units, assumed in self.rows(model, ts // 86400000, variant):
            if context > size:
                return units, any([tokens[n] for n in assumed])

    @lru_cache(None)                           # few, and calls are many
    def rows(self, model, day, variant):
        """[(size, units, the classes at an assumed price)] of calls above sizes, the largest
        first."""
        is_listed, tags, links = self.resolve(model, variant)
        day = time.strftime('%Y-%m-%d', time.gmtime(day * 86400))
        sizes = {price.get('above', -1) for link in links for price in link['prices']}
        rows = []
        for size in sorted(sizes, reverse=True):
            units = [None] * 6
            for link in reversed(links):
                units, assumed = listed_units(link, tags, day, size, units)
            rows.append((size, units, assumed if is_listed else range(6)))
        return rows

    def resolve(self, model, variant=''):
        """(whether a model is listed, the tags that change its price, what to price it by: itself,
        and what lends it the classes that it hasn't: its family's fallback, that for all else)."""
        models, families = self.listed
        region, name = split_model(model)
        tags = set(variant.split())
        if region:
            tags.add('us_gov' if region == 'us-gov' else 'regional')
        if name.endswith('-fast') and name not in models:      # as Foundry and OpenRouter say it
            name = name[:-5]
            tags.add('fast')
        if 'fast' in tags:
            tags -= {'batch', 'priority'}      # not sold together; another name of it
        family = max((key for key in families if name.startswith(key)), key=len, default='*')
        links = models.get(name), families[family], families['*']
        return name in models, tags, list(filter(None, links))


PRICING = 3  # raise it when prices.json is read in another way


def millionths(text):
    """A number of prices.json in whole millionths: a price per million tokens is then one in
    pico-dollars per token, and exact."""
    whole, _, decimals = text.partition('.')
    if '-' in whole or len(decimals) > 6:
        raise ValueError
    return int(whole + decimals.ljust(6, '0'))


def priced(entry):
    """What of a map prices something, a search as a million are; a tier's `above` is the whole
    number above which it holds."""
    entry = {LIKE.get(key, key): value * MILLION if key == 'web_search_usd' else value
             for key, value in entry.items() if key not in ('source', 'note', 'as_of')}
    if 'above' in entry:
        entry['above'] = entry['above'] // MILLION - entry.get('inclusive', False)
    return entry


def listed_units(model, tags, day, size, lent):
    """(units, the classes at an assumed price) of a listed model; what it doesn't have is lent."""
    entry, is_assumed = in_force(model['prices'], day, size)
    factor = scale = 1
    for tag in tags:
        modifier = model.get(tag, model.get('fast') if tag == 'priority' else None)
        tagged, is_over = in_force(modifier, day)
        rule = tagged.get('long_context') if 'above' in entry else ''
        if is_over:
            is_assumed = True
        elif rule == 'flat':
            entry, _ = in_force(model['prices'], day)
        if not is_over and rule != 'standard':
            factor *= tagged['multiplier']
            scale *= MILLION
    listed = list(map({**model, **entry}.get, UNIT_NAMES))
    units = [entry.get(unit) if type(unit) is str else unit for unit in listed]
    # To the nearest pico-dollar, if it has decimals.
    units[:5] = [unit and (unit * factor + scale // 2) // scale for unit in units[:5]]
    units = [theirs if own is None else own for own, theirs in zip(units, lent)]
    return units, [n for n in range(6) if is_assumed or type(listed[n]) is not int]


def in_force(dated, day, size=-1):
    """Of dated entries that of a day and a size, else the last one; and whether that isn't the
    day's. A tag may be a number for all days, or None."""
    if type(dated) is not list:
        return {'multiplier': dated}, not dated
    now = [one for one in dated if one.get('above', -1) <= size
           and one.get('from', '') <= day < one.get('until', '9999')]
    return max(now or dated[-1:], key=lambda one: one.get('above', -1)), not now


# --- END shared block


# ---- places: which repo a folder belongs to -----------------------------------------------------

# A folder as records name it, where it really is, the repo that it belongs to (of a worktree, its
# main one; of repos inside of each other, the outer one: else `git init` would be a way out of a
# cap), and the innermost, whose name an arm may have. A place without a repo is its own root.
Place = namedtuple('Place', 'cwd path root is_repo inner', defaults=('',))
NOWHERE = 0                      # the place of a call whose record names no folder
MOST_LOOKED_AT = 200             # repos that a vanished folder is looked for in


def composed(text):
    """One spelling of a path: macOS may write é as two characters, Windows a drive in either
    case."""
    if not text.isascii():
        from unicodedata import normalize
        text = normalize('NFC', text)
    return text[0].upper() + text[1:] if text[1:3] in (':\\', ':/') else text


def resolve_place(cwd, home):
    """Where a folder is and what repo it belongs to, now. A repo that is the home folder, or lies
    above it, is not looked at."""
    name = path = composed(cwd)
    repos = []
    try:
        if cwd.startswith('/') or os.sep != '/':       # else recorded on another kind of system
            folder = path = os.path.realpath(cwd)
            path.encode()
            above = os.path.realpath(home) + os.sep
            while not above.startswith(folder.rstrip(os.sep) + os.sep):
                repos += filter(None, [repo_at(folder)])
                folder = os.path.dirname(folder)
    except (OSError, ValueError):              # this locale can't say it to the system
        path = name
    path, *repos = map(composed, [path] + repos)
    return Place(name, path, *((repos[-1], True, repos[0]) if repos else (path, False)))


def repo_at(folder):
    """The main repo of a folder that has a `.git`, None if it has none."""
    dot_git = os.path.join(folder, '.git')
    text = read_small(dot_git)
    if not text.startswith('gitdir:'):
        return folder if os.path.isdir(dot_git) else None
    git_folder = os.path.normpath(os.path.join(folder, text[7:].strip())).replace('\\', '/')
    main, is_worktree, _ = git_folder.rpartition('/.git/worktrees/')
    # If it isn't known there as well, anyone could name another's repo.
    return os.path.realpath(main) if is_worktree and worktree_at(git_folder) == folder else folder


def worktree_at(git_folder):
    """Where a worktree is, as its folder in its repo's .git says; '' if it doesn't."""
    back = os.path.dirname(read_small(git_folder + '/gitdir'))
    return back and os.path.realpath(os.path.join(git_folder, back))


@lru_cache(None)
def worktrees_of(repos):
    """[(where a worktree is or was, its repo)] of the repos that a pattern fits."""
    from glob import glob
    folders = glob(repos + '/.git/worktrees/*')
    return [(worktree_at(folder), folder.rpartition('/.git/')[0]) for folder in folders]


# ---- ledger: every billed call once, in an SQLite file that many processes share ----------------
# Times are milliseconds since the epoch, money is pico-dollars. sqlite3.Error passes through: see
# ledger_error for what to tell of it.

VERSION = 3
SCHEMA = '''
create table meta (key text primary key, value) without rowid;
create table folders (path text primary key, agent text,
    changed_ns int,              -- as it was listed last; -1: list it again
    compressed int,              -- logs in it that can't be read here
    entries text                 -- {"/name": [size, changed_ns]} of its logs, as last read
    ) without rowid;
create table files (path text primary key, agent text, ino int,
    offset int,                  -- behind the last line that was read
    seam int,                    -- a checksum of its beginning, and of what is before the offset
    skipped int, state text) without rowid;
create index files_skipped on files (skipped) where skipped;
create table places (id integer primary key, cwd text, path text, root text, is_repo int,
    inner text,
    seen int,                    -- when it was last found to be so
    unique (cwd, path, root, is_repo, inner));
create index places_path on places (path);
create table pairs (id integer primary key, place int, origin int, arm text,
    unique (place, origin));
create index pairs_arm on pairs (arm);
create table sessions (id integer primary key, agent text, name text, began int,
    origin_ts int,
    origin int default 0,        -- the place where it began, as a line of that time tells
    pair int default 0,          -- of that place, with itself
    root text default '',        -- the session that it goes on from
    version text default '',     -- the oldest of its client, as in 0002.0001.0331
    tool_ts int, unique (agent, name));
create index sessions_name on sessions (name);
create index sessions_pair on sessions (pair);
create index sessions_root on sessions (root) where root <> '';
create table agents (session int, name text, type text, tool_use_id text, path text, finished int,
    foreground int, pair int, ts int, primary key (name, session)) without rowid;
create index agents_tool on agents (session, tool_use_id);
create index agents_pair on agents (pair, ts);
create table marks (id integer primary key, session int, ts int, place int,
    start int,                   -- what a family of forks has in common
    is_split int, ended int,     -- when the session went on
    size int, totals text, unique (session, ts, totals));
create index marks_start on marks (start) where start;
create table models (id integer primary key, name text unique,
    digest text default ''       -- of its price; '': its calls are to be priced again
    );
create table calls (id integer primary key, key text, request text, session int, agent text,
    standing int, kind text, ts int, pair int, model int, variant text, input int, output int,
    write_short int, write_long int, read int, searches int, usd int, assumed int,
    owned int,                   -- 1: it counts; 0: another session's, copied; null: told twice
    told text                    -- the usages that its lines told, if there were several
    );
create index calls_key on calls (key, request);
create index calls_odd on calls (key) where standing >= 2;
create index calls_pair on calls (pair, ts, usd, kind, assumed) where owned;
create index calls_session on calls (session, agent, ts, usd);
create table running (session text, id text, agent text, arm text, tool text, ts int, usd int,
    primary key (session, id)) without rowid;
create index running_arm on running (arm);
create table gates (session text, arm text, first int, last int, primary key (session, arm))
    without rowid;
create table notices (key text primary key, ts int) without rowid;
insert into places values (0, '', '', '', 0, '', 0);
insert into pairs values (0, 0, 0, null);
insert into meta values ('created', strftime('%s') * 1000);
pragma user_version = 3'''
# A row of `calls`; as it comes from a log, its session, pair and model are still names.
COLUMNS = ('key, request, session, agent, standing, kind, ts, pair, model, variant, input, '
           'output, write_short, write_long, read, searches, usd, assumed, owned, told')
STORED = 'calls.' + COLUMNS.replace(', ', ', calls.')
Row = namedtuple('Row', COLUMNS)
OLD = 8                          # added to the standing of rows that go once a log tells them anew
Reading = namedtuple('Reading', 'files skipped unreadable compressed')
BATCH = 2000                     # rows to a transaction
COMMIT_S = 0.5                   # a kill loses no more than so much work
LONG_READ = 32 << 20             # bytes that are worth processes of their own
FOLDERS_WITHOUT_LOGS = ('tool-results', 'memory')
MOST_FOLDERS = 100000            # listed at once: it takes some seconds
# When a file changed: on POSIX no one can set it back.
CHANGED_NS = 'st_mtime_ns' if os.name == 'nt' else 'st_ctime_ns'
NOT_READ = -1, 0                 # a log's entry before it is read
RACY_NS = 3 * 10**9              # a folder changed this recently may change again unseen


class NotYet(UserError):
    """The time is up; what was done is kept, and the next call goes on."""


@lru_cache(None)
def sqlite():
    """The module sqlite3 without dates and times, whose import takes longer than opening a
    ledger."""
    try:
        import _sqlite3 as module
    except ImportError:
        import sqlite3 as module
    return module


def find_ledger(explicit, environ, home):
    """--ledger, $ARMLEDGER_HOME, else the folder where this system keeps such state."""
    if os.name == 'nt':
        state = environ.get('LOCALAPPDATA') or home
    else:
        state = environ.get('XDG_STATE_HOME') or home + '/.local/state'
    folder = environ.get('ARMLEDGER_HOME') or os.path.join(state, 'armledger')
    return os.path.abspath(os.path.expanduser(explicit or folder + '/ledger.sqlite3'))


class Ledger:

    def __init__(self, path, home, seconds=5.0):
        self.path, self.home, self.limit = path, home, time.monotonic() + seconds
        self.is_alone = False
        flags = os.O_RDONLY | os.O_CREAT | getattr(os, 'O_NONBLOCK', 0)
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.close(os.open(path, flags, 0o600))
        except OSError as error:
            raise UserError('the ledger cannot be opened: %s; mend that, or name another with '
                            '--ledger' % error.strerror, path)
        self.db = sqlite().connect(path, timeout=5, isolation_level=None)
        # Half a second more than refresh() has: a unit that it has begun is to end well.
        self.db.set_progress_handler(lambda: time.monotonic() > self.limit + 0.5, 20000)
        version, = self.one('pragma user_version')
        if version > VERSION:
            raise UserError('the ledger was written by a newer armledger (version %d, this one '
                            'knows %d); install that one here too' % (version, VERSION), path)
        if version < VERSION:
            try:
                if not os.environ.get('ARMLEDGER_NO_WAL'):         # network folders can't share it
                    self.one('pragma journal_mode = wal')
            except sqlite().OperationalError:
                pass                           # others are at work in it: it stays as it is
            self.write(self.create)
        self.run('pragma synchronous = normal;\npragma temp_store = memory')

    def create(self):
        """Make the tables, unless another process has just done so; bring older ones over."""
        version, = self.one('pragma user_version')
        if version < VERSION:
            self.run([SCHEMA, FROM_VERSION_1, FROM_VERSION_2][version])

    def close(self):
        self.db.close()

    def rows(self, sql, *values):
        return self.db.execute(sql, values).fetchall()

    def one(self, sql, *values):
        """The first row or None; no statement is left open."""
        rows = self.rows(sql, *values)
        return rows[0] if rows else None

    def rows_in(self, sql, values):
        """The rows for any number of values, which take the place of a %s."""
        values, rows = list(values), []
        for n in range(0, len(values), 500):
            some = values[n:n + 500]
            rows += self.rows(sql % ', '.join('?' * len(some)), *some)
        return rows

    def meta(self, key):
        return self.one('select (select value from meta where key = ?)', key)[0]

    def set_meta(self, key, value):
        self.db.execute('insert or replace into meta values (?, ?)', (key, value))

    def write(self, change, seconds=60.0):
        """Run `change` in a transaction of its own, which is kept whole or not at all, but for
        what was done when it called go_on()."""
        self.lock(seconds)
        with self.db:
            return change()

    def go_on(self, why):
        """Between two units of work: keep what is done, and end if the time is up."""
        self.db.execute('commit')
        if time.monotonic() > self.limit:
            raise NotYet(why + '; the next call goes on', self.path)
        self.lock(60.0)

    def lock(self, seconds):
        """Begin to write. SQLite's own wait sleeps longer and longer, and starves in a crowd."""
        until = min(self.limit, time.monotonic() + seconds)
        self.one('pragma busy_timeout = 0')
        try:
            while True:
                try:
                    return self.db.execute('begin immediate')
                except sqlite().OperationalError as error:
                    if 'locked' not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(0.005 + time.time_ns() % 15000 / 10**6)
        finally:
            self.one('pragma busy_timeout = 5000')

    def spent(self, pairs, since_ms, until_ms=None):
        """(all, untranscribed, assumed) pico-dollars of calls in some pairs. Forged figures may go
        beyond SQLite's integers: millions and the rest are summed apart."""
        rows = self.rows_in(SPENT % (since_ms or 0, until_ms or OPEN), pairs)
        sums = list(map(sum, zip((0,) * 6, *rows)))
        return tuple(millions * MILLION + rest for millions, rest in zip(sums[::2], sums[1::2]))

    # -- bringing it up to date

    def refresh(self, prices, environ, now_ms, progress=None, named=None):
        """Take in every complete line that is on disk, also of a transcript that was `named`:
        (agent's name, path). NotYet if the time is up before that is done."""
        self.prices, self.now_ms, self.progress = prices, now_ms, progress
        if self.meta('prices') != prices.text:
            prices.listed                      # it is read: an error changes nothing
            self.write(self.reprice)
        while self.survey(environ, named) and not self.write(self.take_in):
            pass
        skipped, = self.one('select coalesce(sum(skipped), 0) from files where skipped')
        folders = self.folders.values()
        return Reading(sum([len(logs) for *_, logs in folders]), skipped, self.unreadable,
                       sum([compressed for _, _, compressed, _ in folders]))

    def survey(self, environ, named=None):
        """What has changed on disk: `pending` files, `listed` folders; whether there is any. A
        folder is listed again when its time says that names came or went; a file is looked at
        every time."""
        self.pending, self.listed, self.gone, self.unreadable = [], [], [], []
        rows = self.rows('select path, agent, changed_ns, compressed, entries from folders')
        logs = json.loads('[%s]' % ','.join([row[4] for row in rows]))
        self.folders = {row[0]: (*row[1:4], each) for row, each in zip(rows, logs)}
        self.roots = {root: agent.name for agent in AGENTS.values()
                      for root in agent.roots(environ, self.home)}
        agent, path = named or ('', '')
        if os.path.dirname(path) not in self.folders and is_own_file(path):
            self.roots.update({path: agent, os.path.splitext(path)[0]: agent})
        self.seen, stat = set(), os.stat       # (device, inode) of folders
        # Those that are known come first, so that no link to one takes its place.
        folders = [row[:2] for row in rows]
        folders += [one for one in self.roots.items() if one[0] not in self.folders]
        for folder, agent in folders:
            folders += self.list_folder(folder, agent)
            if len(self.listed) > MOST_FOLDERS:
                raise UserError('more than %d folders of logs: a link leads elsewhere; take it '
                                'away' % MOST_FOLDERS, folder)
        for folder, (agent, _, _, logs) in self.folders.items():
            for name, (size, changed_ns) in logs.items():
                try:
                    status = stat(folder + name)
                    if getattr(status, CHANGED_NS) != changed_ns or status.st_size != size:
                        self.pending.append((folder, name, agent, status.st_size))
                except FileNotFoundError:
                    pass                       # its folder tells, next time
                except OSError as error:
                    self.unreadable.append((folder + name, error.strerror))
        return self.pending or self.listed

    def list_folder(self, folder, agent):
        """Note what logs a folder has, unless it is as it was; a root may be a single log. Returns
        the folders in it."""
        before = self.folders.get(folder, (agent, None, 0, {}))
        compressed, known, logs, inner = 0, before[3], {}, []
        try:
            status = os.stat(folder)
            identity, changed_ns = (status.st_dev, status.st_ino), getattr(status, CHANGED_NS)
            if identity in self.seen:
                return []                      # a link to what is listed already
            self.seen.add(identity)
            if changed_ns == before[1]:
                return []
            if changed_ns > time.time_ns() - RACY_NS:
                changed_ns = -1
            is_folder = os.path.isdir(folder)
            for entry in os.scandir(folder) if is_folder else ():
                kind = self.kind_of(entry, folder, agent)
                compressed += kind == 'compressed'
                if kind == 'log':
                    logs[os.sep + entry.name] = known.get(os.sep + entry.name, NOT_READ)
                elif kind == 'folder':
                    inner.append((entry.path, agent))
            if not is_folder:
                logs[''] = known.get('', NOT_READ)
        except (FileNotFoundError, NotADirectoryError):
            changed_ns = None                  # it has gone
        except OSError as error:               # tried, and told of, until it can be listed
            self.unreadable.append((folder, error.strerror))
            changed_ns, logs = -1, known
        self.gone += [folder + name for name in known if name not in logs]
        now = agent, changed_ns, compressed, logs
        if now != before:
            self.listed.append(folder)
            self.folders[folder] = now
        if changed_ns is None:
            self.folders.pop(folder, None)
        return inner

    def kind_of(self, entry, folder, agent):
        """What an entry of a folder is to the survey: 'log', 'folder', 'compressed' or None."""
        path, name = entry.path, entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:                        # a link that leads nowhere
            return None
        if not text_of(path):
            return None                        # no agent names a log so, and no ledger can
        if is_folder and name not in FOLDERS_WITHOUT_LOGS:
            # Links are followed in a root, and to sub-agents.
            may_lead = folder in self.roots or name == 'subagents'
            return 'folder' if may_lead or not entry.is_symlink() else None
        if is_file and AGENTS[agent].wanted(path):
            return 'log'
        if is_file and name.endswith('.jsonl.zst'):
            thread = name[:-10][-36:]
            return None if self.one(METERED, thread, thread) else 'compressed'

    def take_in(self):
        """Read what is pending and put it into the ledger, batch by batch; whether that was all.
        It is read from where the last process that held the lock came to."""
        held = {path: row for path, *row in self.rows_in(
            'select path, ino, offset, seam, skipped, state from files where path in (%s)',
            [folder + name for folder, name, *_ in self.pending])}
        # Long ones first, so that none of them comes at the end; else a session's files together.
        jobs = [(folder, name, agent, *held.get(folder + name, (0, 0, 0, 0, '{}')))
                for folder, name, agent, size
                in sorted(self.pending, key=lambda one: (-one[3] >> 20, one[:2]))]
        size = sum([one[3] for one in self.pending]) - sum([job[4] for job in jobs])
        is_long = size > LONG_READ and hasattr(os, 'fork') and not self.is_alone
        if is_long:                            # few waits for the disk (pages); little kept (KB)
            self.run('pragma wal_autocheckpoint = 16384;\npragma cache_size = -4000')
        self.run(TEMPORARY)
        change = self.db.executemany
        change('delete from files where path = ?', [(path,) for path in self.gone])
        change('delete from folders where path = ?', [(path,) for path in self.listed])
        for path in filter(self.folders.get, self.listed):
            *row, logs = self.folders[path]
            self.db.execute('insert into folders values (?, ?, ?, ?, ?)',
                            (path, *row, packed(logs)))
        batch, weight, files, done, due = [], 0, 0, 0, time.monotonic() + COMMIT_S
        results = (read_apart if is_long else read_files)(jobs, self.prices, self.now_ms)
        for result in results:
            if len(result) == 2:
                self.unreadable.append(result)
                files += 1
                continue
            result = Result(*result)
            batch.append(result)
            weight += 10 + len(result.calls)
            done += result.file[3] - result.held
            files += bool(result.entry)
            if self.progress:
                self.progress(files, len(jobs), done, size)
            if weight > BATCH or time.monotonic() > min(due, self.limit):
                self.apply_or_report(batch)
                batch, weight, due = [], 0, time.monotonic() + COMMIT_S
                if files < len(jobs):
                    self.go_on('the ledger is being built: %d of %d changed log files are read'
                               % (files, len(jobs)))
        self.apply_or_report(batch)
        self.is_alone = files < len(jobs)      # a process that read has died
        return not self.is_alone

    def apply_or_report(self, batch):
        """What can't be stored of one file must not keep the others out."""
        self.db.execute('savepoint files')
        try:
            self.apply(batch)
        except (ArithmeticError, LookupError, TypeError, ValueError,
                sqlite().IntegrityError) as error:
            self.db.execute('rollback to files')
            if len(batch) == 1:
                self.unreadable.append((batch[0].file[0], reason_of(error)))
            else:
                for result in batch:
                    self.apply_or_report([result])
        self.db.execute('release files')

    def apply(self, batch):
        """Put what was read of files into the ledger. What is shared with others' copies, and
        rests, are settled in Python, all else by the statements below."""
        insert = self.db.executemany
        # What another process has read meanwhile is left out.
        batch = [one for one in batch
                 if self.db.execute(TAKE_FILE, (*one.file, one.held)).rowcount > 0]
        for one in batch:
            insert(SESSION_TOLD, one.sessions)
            insert(CALL_TOLD, one.calls)
            insert(MARK_TOLD, one.marks)
        insert('insert into cwds values (?, ?)',
               [(cwd, self.place(cwd)) for cwd, in self.rows(NEW_CWDS)])
        self.run(SESSIONS_BEGIN)
        if self.one('select 1 from moved'):
            self.run(MOVE)
        self.run(CALLS_ARRIVE)
        self.settle_shared()
        for one in batch:
            insert(FACTS, one.facts)
        self.run(MARKS_ARRIVE)
        self.settle_rests()
        self.run(FORGET)
        for one in batch:                      # only now: what fails above isn't read
            if one.entry:
                self.folders[one.folder][3][one.name] = one.entry
        insert('update folders set entries = ? where path = ?', [
            (packed(self.folders[folder][3]), folder)
            for folder in {one.folder for one in batch if one.entry}])

    def run(self, statements, values=()):
        for statement in statements.split(';\n'):
            self.db.execute(statement, values)

    # -- places

    def places(self):
        return {row[0]: Place(*row[1:]) for row in self.rows(
            'select id, cwd, path, root, is_repo, inner from places')}

    def place(self, cwd):
        """The place that a folder is now; one that is gone is what it was last."""
        latest = 'select id from places where cwd = ? order by seen desc, id desc limit 1'
        known = self.one(latest, composed(cwd))
        if os.path.isdir(cwd) or not known:
            self.db.execute(SEE_PLACE, (*self.find_place(cwd), time.time_ns()))
            known = self.one(latest, composed(cwd))
        return known[0]

    def find_place(self, cwd):
        """The Place of a folder, as it is or, of one that is gone, as far as is known."""
        place = resolve_place(cwd, self.home)
        folder = place.path
        if place.is_repo or os.path.isdir(folder) or not folder.startswith('/'):
            return place
        while not os.path.isdir(folder):       # what it lay in may be known
            known = self.one('select root, 1, inner from places where path = ? and is_repo '
                             'order by seen desc', folder)
            if known:
                return Place(*place[:2], *known)
            folder = os.path.dirname(folder)
        # Or it was a worktree, of a repo beside it or of one that is known.
        known = self.rows('select root from places where is_repo order by id desc limit %d'
                          % MOST_LOOKED_AT)
        for repos, in [(folder + '/*',), *known]:
            for worktree, repo in worktrees_of(repos):
                if worktree and (place.path + os.sep).startswith(worktree + os.sep):
                    repo = composed(os.path.realpath(repo))
                    return Place(*place[:2], repo, True, repo)
        return place

    # -- calls and their owners

    def settle_shared(self):
        """Settle the keys that several rows have, of which some may be held already."""
        held = {Row(*row): number for number, *row in self.rows(HELD)}
        whole = dict(self.rows('select key, is_whole from shared'))
        began = {number: one for number, *one in self.rows(BEGAN)}
        groups = {}
        for row in [*held, *map(Row._make, self.rows('select * from stage'))]:
            groups.setdefault((row.key, whole[row.key] or row.request), []).append(row)
        settled = {row for group in groups.values() for row in settle(group, began)}
        stale, new = held.keys() - settled, settled - held.keys()
        self.db.executemany('delete from calls where id = ?', [(held[row],) for row in stale])
        self.db.executemany(INSERT, new)
        self.db.executemany('insert into changed values (?, ?, ?)',
                            [(row.session, row.ts, row.owned) for row in stale | new])

    # -- what no transcript line shows

    # A total is what a session has used up to then, in all its runs, sub-agents and helpers
    # included. Its untranscribed rest is counted by stretches: a total, less the one before it,
    # less the session's own calls between. Say its totals are 100, 150 and 400 output tokens:
    #
    #     calls of 30 and 50  | total 100 |  resumed: a call of 40  | total 150 |
    #     resumed: a call of 90, killed;  resumed: a call of 200  | total 400 |
    #
    # The first stretch has 100 - 80 = 20 untranscribed (a title), the second 50 - 40 = 10. The
    # third is 250 - 290 < 0, so 0: what a run that was killed has used is in no total. A fork's
    # first total goes on from its parent's, here maybe from 150: the largest total of its family,
    # or sum of the calls that it copied, that leaves room for its own calls is taken off first.

    def settle_rests(self):
        """Work out again the stretches in which something has changed, and the ones behind
        those."""
        self.run(STRETCHES_CHANGED)
        for stretch in self.rows(STRETCHES):
            self.settle_rest(*stretch)

    def settle_rest(self, number, session, ts, place, start, is_split, ended, totals, since,
                    before):
        spent = self.sums(session, 1, since, ended)
        totals = json.loads(totals)
        base = json.loads(before) if before else \
            self.inherited(session, start, is_split, totals, spent)
        for model in totals:
            *rest, paid = left_of(model, is_split, totals, base, spent)
            tokens = [max(0, count) for count in rest]
            if not is_split:
                tokens[2:4] = split_writes(self.prices, model, ts, tokens, paid)
            if any(tokens):
                usd, assumed = price(self.prices, model, ts, tokens, '', False)
                self.run(INSERT_REST, dict(
                    zip(Row._fields[10:16], tokens), mark=str(number), session=session, ts=ts,
                    place=place, model=model, usd=usd, assumed=assumed))

    def sums(self, session, owned, since, ended):
        """{model: six counts, pico-dollars} of some of a session's calls."""
        return {name: (*sums, millions * MILLION + rest) for name, *sums, millions, rest
                in self.rows(SUMS, session, session, owned, since, ended)}

    def inherited(self, session, start, is_split, totals, spent):
        """What a fork's first total had in it when the session began."""
        began, is_fork = self.one(
            'select began, ? < coalesce((select min(ts) from calls where session = sessions.id '
            'and owned = 0), began - 60000) from sessions where id = ?', start, session)
        if not start or not is_fork:           # a /branch starts at 0
            return {}
        candidates = [self.sums(session, 0, -1, OPEN)]
        candidates += [json.loads(text) for text, in self.rows(
            'select totals from marks where start = ? and start and session <> ? and ts <= ?',
            start, session, began)]

        def fits(one):
            return all(min(left_of(model, is_split, totals, one, spent)[:6]) >= 0 for model in one)
        return max(filter(fits, candidates), default={}, key=size_of)

    def reprice(self):
        """Price again the calls of models whose price has changed, from where the last one who did
        so came to."""
        prices, last = self.prices, self.meta('repriced')
        digests = [(prices.digest(name), number, digest)
                   for number, name, digest in self.rows('select * from models')]
        if self.meta('repricing') != prices.text:
            self.set_meta('repricing', prices.text)
            self.set_meta('prices', '')
            self.db.executemany("update models set digest = '' where digest is not ? and id = ?",
                                [one[:2] for one in digests])
            last = 0
        while rows := self.rows(TO_REPRICE, last):
            self.db.executemany('update calls set usd = ?, assumed = ? where id = ?', [
                (*price(prices, name, ts, tokens, variant, kind != 'untranscribed'), number)
                for number, name, ts, variant, kind, *tokens in rows])
            last = rows[-1][0]
            self.set_meta('repriced', last)
            self.go_on('prices have changed and the ledger is being priced again')
        self.db.executemany('update models set digest = ? where id = ?',
                            [one[:2] for one in digests])
        self.set_meta('prices', prices.text)


SEE_PLACE = """insert into places (cwd, path, root, is_repo, inner, seen) values (?, ?, ?, ?, ?, ?)
    on conflict (cwd, path, root, is_repo, inner) do update set seen = excluded.seen"""
INSERT = 'insert into calls (%s) values (%s)' % (COLUMNS, ', '.join('?' * len(Row._fields)))
METERED = """select 1 from sessions where name = ?
    union all select 1 from agents where name = ?"""
SPENT = """select
    coalesce(sum(usd / 1000000), 0), coalesce(sum(usd %%%% 1000000), 0),
    coalesce(sum(usd / 1000000 * (kind = 'untranscribed')), 0),
    coalesce(sum(usd %%%% 1000000 * (kind = 'untranscribed')), 0),
    coalesce(sum(usd / 1000000 * assumed), 0), coalesce(sum(usd %%%% 1000000 * assumed), 0)
    from calls where owned and pair in (%%s) and ts >= %d and ts < %d"""

# What files told, by names; `stage` has the same rows as they are stored.
TEMPORARY = """create temp table if not exists begun (agent, name, began, ts, cwd, root, version,
    tool_ts);
create temp table if not exists told (cli, uses_tool, %s);
create temp table if not exists cwds (cwd primary key, place);
create temp table if not exists moved (id integer primary key);
create temp table if not exists stage (%s);
create temp table if not exists shared (key primary key, is_whole);
create temp table if not exists changed (session, ts, owned);
create temp table if not exists heard (cli, session, ts, cwd, start, is_split, ended,
    totals, size);
create temp table if not exists unsettled (mark integer primary key)""" % (COLUMNS, COLUMNS)
NEW_CWDS = """select cwd from begun union select pair from told union select cwd from heard
    except select cwd from cwds"""
FORGET = """delete from begun;
delete from told;
delete from moved;
delete from stage;
delete from shared;
delete from changed;
delete from heard;
delete from unsettled"""
# A file, unless another process has read on in it.
TAKE_FILE = """replace into files select ?1, ?2, ?3, ?4, ?5, ?6, ?7
    where ?8 = coalesce((select offset from files where path = ?1), 0)"""
SESSION_TOLD = 'insert into begun values (?, ?, ?, ?, ?, ?, ?, null)'
CALL_TOLD = "insert into told values (%s, null, '')" % ', '.join('?' * 20)
MARK_TOLD = 'insert into heard values (?, ?, ?, ?, ?, ?, ?, ?, ?)'

# A session begins where its earliest line says, or where the one did that it goes on from. Keys of
# one that has begun earlier than was thought may belong to it now. `moved`: it, and its forks, if
# they began elsewhere than their calls say.
SESSIONS_BEGIN = """insert into begun select cli, session, null, null, '', '', '', max(ts)
    from told where uses_tool and not standing & 1 group by cli, session;
insert or ignore into shared select distinct mine.key, 1
    from begun cross join sessions using (agent, name)
    cross join calls as mine on session = sessions.id
    where begun.began < coalesce(sessions.began, %d) and mine.key is not null and exists (
        select 1 from calls where calls.key = mine.key and calls.session <> mine.session);
insert or ignore into unsettled select marks.id
    from begun cross join sessions using (agent, name) cross join marks on session = sessions.id
    where begun.began < coalesce(sessions.began, %d);
insert or ignore into sessions (agent, name)
    select cli, session from told union select cli, session from heard;
insert into sessions (agent, name, began, origin_ts, origin, root, version, tool_ts)
    select agent, name, began, case when cwd <> '' then coalesce(ts, 0) end, coalesce(place, 0),
    root, version, tool_ts from begun left join cwds using (cwd) where true
    on conflict (agent, name) do update set
    began = min(coalesce(began, excluded.began), coalesce(excluded.began, began)),
    origin = case when excluded.origin_ts < coalesce(origin_ts, %d) then excluded.origin
        else origin end,
    origin_ts = min(coalesce(origin_ts, excluded.origin_ts),
        coalesce(excluded.origin_ts, origin_ts)),
    root = coalesce(nullif(excluded.root, ''), root),
    version = min(coalesce(nullif(version, ''), excluded.version),
        coalesce(nullif(excluded.version, ''), version)),
    tool_ts = max(coalesce(tool_ts, excluded.tool_ts), coalesce(excluded.tool_ts, tool_ts));
insert into moved with recursive below (id, agent, name) as (
        select sessions.id, agent, name from begun join sessions using (agent, name)
        union select fork.id, fork.agent, fork.name from below join sessions as fork
        on fork.root = below.name and fork.agent = below.agent where fork.root <> '')
    select id from below;
update sessions set origin_ts = -1, origin = (with recursive above (name, origin, n) as (
            select sessions.root, null, 0
            union all select next.root, next.origin, n + 1 from above join sessions as next
            on next.agent = sessions.agent and next.name = above.name
            where origin_ts is not null and n < 100)
        select origin from above order by n desc limit 1)
    where id in (select id from moved) and root <> '' and exists (
        select 1 from sessions as above where above.agent = sessions.agent
        and above.name = sessions.root and origin_ts is not null);
delete from moved where exists (select 1 from sessions
    join pairs on pairs.id = pair and place = sessions.origin and pairs.origin = place
    where sessions.id = moved.id)""" % (OPEN, OPEN, OPEN)
# What belongs to sessions that prove to have begun elsewhere is of other pairs.
MOVE_OF = """insert or ignore into pairs (place, origin) select distinct place, sessions.origin
    from moved cross join sessions using (id) cross join {0} on session = moved.id
    cross join pairs on pairs.id = {0}.pair;
update {0} set pair = (select new.id from pairs as old, sessions, pairs as new
        where old.id = {0}.pair and sessions.id = session
        and new.place = old.place and new.origin = sessions.origin)
    where session in (select id from moved);
"""
MOVE = MOVE_OF.format('calls') + MOVE_OF.format('agents') + """
insert or ignore into pairs (place, origin)
    select origin, origin from sessions where id in (select id from moved);
update sessions set pair = (select pairs.id from pairs
        where place = sessions.origin and pairs.origin = place)
    where id in (select id from moved)"""
# Codex's calls that are keyed by a thread are keyed by the one that it goes on from, as soon as
# that is known. Old rows go once their session's log tells them anew; a call keeps the place that
# it was first metered in. What shares its key with nothing is stored as it is. (A `+` and
# `standing >= 2` are there for the choice of an index.)
REPLACED = """from stage cross join calls on calls.key = stage.key and calls.standing >= 2
    where calls.standing >= %d and +calls.session = stage.session
    and +calls.request in (stage.request, '')""" % OLD
CALLS_ARRIVE = """insert or ignore into models (name) select distinct model from told;
insert or ignore into pairs (place, origin) select distinct place, origin from told
    cross join cwds on cwd = told.pair
    cross join sessions on sessions.agent = cli and name = told.session;
insert into stage select key, request, sessions.id, told.agent, standing, kind, ts, pairs.id,
    models.id, variant, input, output, write_short, write_long, read, searches, usd, assumed,
    case when kind <> 'echo' then 1 end, told from told cross join cwds on cwd = told.pair
    cross join sessions on sessions.agent = cli and sessions.name = told.session
    cross join pairs on pairs.place = cwds.place and pairs.origin = sessions.origin
    cross join models on models.name = told.model;
insert into stage select distinct {stored} from begun
    cross join calls on key >= begun.name || ':' and key < begun.name || ';'
    where begun.agent = 'codex' and begun.root <> '';
delete from calls where id in (select id from begun
    cross join calls on key >= begun.name || ':' and key < begun.name || ';'
    where begun.agent = 'codex' and begun.root <> '');
update stage set key = (with recursive above (name, n) as (
            select substr(key, 1, instr(key, ':') - 1), 0
            union all select root, n + 1 from above join sessions
            on sessions.agent = 'codex' and sessions.name = above.name
            where root <> '' and n < 100)
        select name from above order by n desc limit 1) || substr(key, instr(key, ':'))
    where instr(key, ':');
update stage set pair = coalesce((
        select pair from calls where calls.key = stage.key and calls.standing >= 2
        and calls.standing >= {old} and +calls.session = stage.session
        and calls.ts = stage.ts), pair)
    where exists (select 1 from calls where calls.key = stage.key and calls.standing >= 2);
insert into changed select calls.session, calls.ts, calls.owned {replaced};
delete from calls where id in (select calls.id {replaced});
insert into agents select session, agent, '', '', '', 0, 0, pair, min(ts) from stage
    where agent <> '' group by session, agent on conflict (name, session) do update set
    pair = case when excluded.ts < ts then excluded.pair else pair end, ts = min(ts, excluded.ts);
insert or ignore into shared select key, 0 from stage group by key
    having count(*) > 1 or exists (select 1 from calls where calls.key = stage.key);
insert into changed select session, ts, owned from stage
    where key not in (select key from shared);
insert into calls ({columns}) select * from stage where key not in (select key from shared);
delete from stage where key not in (select key from shared);
update shared set is_whole = 1 where key in (select key from stage where standing >= 2)
    or exists (select 1 from calls where calls.key = shared.key and standing >= 2)""".format(
        old=OLD, replaced=REPLACED, columns=COLUMNS, stored=STORED)
# Rows are settled by key and request; by the whole key where some line has no request, or is a
# side chain's.
HELD = """select calls.id, {0} from shared cross join calls using (key) where is_whole
    union select calls.id, {0} from stage cross join shared using (key)
    cross join calls using (key, request) where not is_whole""".format(STORED)
BEGAN = """select id, coalesce(began, %d), name from sessions where id in (
    select session from stage union
    select session from shared cross join calls using (key))""" % OPEN
FACTS = """update agents set type = ?, tool_use_id = ?, path = ?, finished = ?, foreground = ?
    where name = ? and session = (select id from sessions where agent = ? and name = ?)"""
# A total that is new, or has ended earlier than was thought, changes its stretch, and what
# sessions begin with that may have been forked from it. What a version 1 ledger had worked out
# of a session is worked out anew, too.
MARKS_ARRIVE = """delete from heard where exists (
    select 1 from sessions cross join marks on marks.session = sessions.id
    where sessions.agent = cli and name = heard.session and marks.ts = heard.ts
    and marks.totals = heard.totals and marks.ended <= heard.ended);
insert into marks (session, ts, place, start, is_split, ended, size, totals)
    select sessions.id, ts, place, start, is_split, min(ended), size, totals from heard
    cross join sessions on sessions.agent = cli and name = heard.session
    cross join cwds using (cwd) group by sessions.id, ts, totals
    on conflict (session, ts, totals) do update set ended = excluded.ended;
insert or ignore into unsettled select marks.id from heard
    cross join sessions on sessions.agent = cli and name = heard.session
    cross join marks on marks.session = sessions.id and marks.ts = heard.ts;
insert or ignore into unsettled select marks.id from heard
    cross join marks on marks.start = heard.start and marks.start
    cross join sessions on sessions.id = marks.session and began >= heard.ts;
delete from calls where key is null and request in (
    select 'v1 ' || sessions.id from heard
    cross join sessions on sessions.agent = cli and name = heard.session)"""
# Between the first and the last change; of copied calls, from the session's beginning on.
STRETCHES_CHANGED = """insert or ignore into unsettled select marks.id
    from (select session, min(case when owned then ts else -1 end) as first, max(ts) as last
        from changed group by session) as calls
    cross join marks on marks.session = calls.session and ended > first and ts <= coalesce((
        select min(ts) from marks as next
        where next.session = calls.session and ended > last), %d);
insert or ignore into unsettled select id from (
        select id, lag(id) over (partition by session order by ts, size, totals) as before
        from marks where session in (
            select session from unsettled cross join marks on marks.id = mark))
    where before in (select mark from unsettled);
delete from calls where key is null and request in (select cast(mark as text) from unsettled)
    """ % OPEN
STRETCHES = """select id, session, ts, place, start, is_split, ended, totals, since, before from (
        select *, lag(ended, 1, -1) over own as since, lag(totals) over own as before
        from marks where session in (
            select session from unsettled cross join marks on marks.id = mark)
        window own as (partition by session order by ts, size, totals))
    where id in (select mark from unsettled)"""
SUMS = """select models.name, sum(input), sum(output), sum(write_short), sum(write_long),
    sum(read), sum(searches), sum(usd / 1000000), sum(usd % 1000000)
    from calls join models on models.id = model where session = ?
    and agent in (select '' union select name from agents where session = ?)
    and key is not null and owned = ? and ts >= ? and ts < ? group by model"""
INSERT_REST = """insert or ignore into models (name) values (:model);
insert or ignore into pairs (place, origin)
    select :place, origin from sessions where id = :session;
insert into calls (%s) select null, :mark, :session, '', 0, 'untranscribed', :ts, pairs.id,
    models.id, '', :input, :output, :write_short, :write_long, :read, :searches, :usd, :assumed,
    1, '' from sessions cross join pairs on place = :place and pairs.origin = sessions.origin
    cross join models on models.name = :model where sessions.id = :session""" % COLUMNS
TO_REPRICE = """select calls.id, name, ts, variant, kind, input, output, write_short, write_long,
    read, searches from calls join models on models.id = model
    where digest = '' and calls.id > ? order by calls.id limit %d""" % BATCH
FROM_VERSION_2 = """create unique index places_same on places (cwd, path, root, is_repo, inner);
pragma user_version = 3"""
FROM_VERSION_1 = """drop index sessions_dirty;
drop index sessions_family;
drop index sessions_name;
drop index calls_session;
drop index calls_spawned;
drop table copies;
drop table files;
drop table folders;
drop table marks;
drop table readings;
drop table reservations;
drop table spend;
alter table agents rename to v1_agents;
alter table calls rename to v1_calls;
alter table meta rename to v1_meta;
alter table models rename to v1_models;
alter table notices rename to v1_notices;
alter table places rename to v1_places;
alter table sessions rename to v1_sessions;
%s;
insert or ignore into places
    select id, cwd, path, root, is_repo, inner, 0 from v1_places;
insert or ignore into pairs select id, id, 0, null from v1_places;
insert into sessions (id, agent, name) select id, cli, name from v1_sessions;
insert into models (name, digest) select name, digest from v1_models;
insert into notices select * from v1_notices;
insert or replace into meta select key, value from v1_meta where key in ('prices', 'created');
insert into calls (%s) select case when kind <> 'untranscribed' then key end,
    case when kind = 'untranscribed' then 'v1 ' || session else '' end, session, agent, %d,
    kind, ts, place, (select id from models where name = model), variant, input, output,
    write_short, write_long, read, searches, usd, assumed, 1, '' from v1_calls;
insert into agents select old.session, agent, coalesce(type, ''), '', '', 0, 0, place, min(ts)
    from v1_calls as old left join v1_agents as told
    on told.session = old.session and told.name = agent
    where agent <> '' group by old.session, agent;
drop table v1_agents;
drop table v1_calls;
drop table v1_meta;
drop table v1_models;
drop table v1_notices;
drop table v1_places;
drop table v1_sessions""" % (SCHEMA, COLUMNS, OLD)


def packed(logs):
    return json.dumps(logs, separators=(',', ':'))


# Of a call's lines the one with most output counts, on a tie the one that costs most; place and
# time are those of the first one. What came first stands first, and keeps its place on a tie.


def worth(row):
    return row.output, row.usd, row[10:16]


def merge(rows):
    """Lines of one session's copy of a call."""
    first = min(rows, key=lambda row: (row.ts, row.agent))
    return max(rows, key=worth)._replace(
        ts=first.ts, pair=first.pair, agent=first.agent, kind=first.kind,
        standing=min([row.standing for row in rows]), told=all_told(rows))


def usages(row):
    return row.told.split() or ['.'.join(map(str, row[10:16]))]


def all_told(rows):
    told = sorted({usage for row in rows for usage in usages(row)})
    return ' '.join(told[:50]) if len(told) > 1 else ''


def settle(rows, began):
    """The rows of one key, or of one request of it, as they have to stand, whatever their order:
    each session's copy of each call, one of them owned: by the session that began first.

    `began` has (when, name) of sessions."""
    if len(rows) == 1:
        return rows
    rows = [row for row in rows if row.kind == 'echo'] or rows
    main = [row for row in rows if not row.standing & 4]
    asked = {row.request for row in main}
    told = {usage for row in main for usage in usages(row)}
    # A side chain's line under another request that tells a usage again is a replay, else a call
    # of its own.
    rows = [row for row in rows
            if not main or row.request in asked or usages(row)[-1] not in told]
    rows.sort(key=lambda row: (row.ts, row.request))
    first = ([row.request for row in rows if row.request] or [''])[0]
    calls, replayed = {}, {}
    for row in rows:
        request = row.request or first         # a line without one goes with the first
        if not main:
            request = min([replayed.setdefault(usage, request) for usage in usages(row)],
                          key=request.__ne__)
        copies = calls.setdefault(request, {})
        copies.setdefault((row.request, row.session), []).append(row)
    settled = []
    for copies in calls.values():
        ranked = sorted(map(merge, copies.values()), key=lambda row: (
            row.standing & 1, began[row.session], not row.request, row.ts))
        best, told, seen = max(ranked, key=worth), all_told(ranked), set()
        for n, row in enumerate(ranked):
            owned = None if row.session in seen or row.kind == 'echo' else int(not n)
            seen.add(row.session)
            # A line without a request may prove to be another's: it keeps what it tells.
            if owned or row.request or not first:
                row = row._replace(told=told, **dict(zip(FIGURES, best[8:18])))
            settled.append(row._replace(owned=owned))
    return settled


FIGURES = Row._fields[8:18]


def left_of(model, is_split, totals, *others):
    """What totals have of a model beyond others: six counts, pico-dollars; without the split of
    cache writes where that isn't known."""
    left = totals.get(model) or [0] * 7
    for other in others:
        left = [count - less for count, less in zip(left, other.get(model) or [0] * 7)]
    return left if is_split else [*left[:2], left[2] + left[3], 0, *left[4:]]


def split_writes(prices, model, ts, tokens, paid):
    """Cache writes for 5 minutes and for an hour, of which the sum is known, and what all tokens
    have cost."""
    units, _ = prices.units(model, ts, tokens, '', False)
    more, each = paid - sum(map(int.__mul__, tokens, units)), units[3] - units[2]
    hours = min(tokens[2], max(0, divide_even(more, each))) if each > 0 else 0
    return tokens[2] - hours, hours


MOST_USD = 10000 * PICO          # of one call: forged figures stay below SQLite's end


def price(prices, *call):
    usd, assumed = prices.usd(*call)
    return min(usd, MOST_USD), assumed or usd > MOST_USD


# ---- reading logs -------------------------------------------------------------------------------

BLOCK = 1 << 20                  # bytes that are read at once
LONGEST_LINE = 32 << 20

# What was read of a file: its row of `files`; the offset `held` before; its entry in its folder,
# None if there is more to read; what it tells (see told_in).
Result = namedtuple('Result', 'folder name file held entry sessions calls marks facts')


def read_files(jobs, prices, now_ms):
    """Yield what a Result has for each block of each file, (path, reason) for one that can't be
    read."""
    for job in jobs:
        try:
            yield from read_file(job, prices, now_ms)
        except FileNotFoundError:
            pass                               # it has gone meanwhile
        except Exception as error:             # one log that can't be read, whatever it holds
            yield job[0] + job[1], reason_of(error)


def reason_of(error):
    return getattr(error, 'strerror', None) or '%s: %s' % (type(error).__name__, error)


def is_whole(line):
    try:
        return bool(json.loads(line))
    except (ValueError, RecursionError):
        return False


def read_file(job, prices, now_ms):
    folder, name, agent, ino, held, seam, skipped, state = job
    path, offset, state = folder + name, held, json.loads(state)
    with open_plain(path) as stream:
        status = os.fstat(stream.fileno())
        if held and (status.st_ino, seam_of(stream, held)) != (ino, seam):
            offset, skipped, state = 0, 0, {}  # another file, or written anew
        text, more = b'', True
        while more:
            stream.seek(offset + len(text))
            block = stream.read(BLOCK)
            text, more = text + block, len(block) == BLOCK
            end = text.rfind(b'\n') + 1
            if more and not end:
                if len(text) < LONGEST_LINE:
                    continue
                end = len(text)                # of a line without end each part is one
            lines, last = text[:end], text[end:]
            if not more and is_whole(last):    # without its end
                lines, end = text + b'\n', len(text)
            found = AGENTS[agent].read(path, lines, state)
            offset, text, skipped = offset + end, text[end:], skipped + found.skipped
            row = (path, agent, status.st_ino, offset, seam_of(stream, offset), skipped,
                   json.dumps(state))
            entry = None if more else (status.st_size, getattr(status, CHANGED_NS))
            yield (folder, name, row, held, entry,
                   *told_in(found, path, agent, status, prices, now_ms))
            held = offset


def seam_of(stream, offset):
    """A checksum of a file's beginning, and of what is before an offset."""
    from binascii import crc32
    stream.seek(0)
    begin = stream.read(min(offset, 1024))
    stream.seek(max(0, offset - 4096))
    return crc32(begin + stream.read(min(offset, 4096)))


def told_in(found, path, agent, status, prices, now_ms):
    """(sessions, calls, marks, facts) as the ledger takes them, and as they pass between
    processes."""
    latest = max(now_ms, int(time.time() * 1000)) + 300000

    def stamp(ts):
        """A time that no clock told is the file's; one that is yet to come is now."""
        ts = ts or status.st_mtime_ns // 1000000
        return ts if ts <= latest or ts == OPEN else now_ms

    sessions = [(agent, one.name, one.began and stamp(one.began), *one[2:5], padded(one.version))
                for one in found.sessions]
    calls = []
    for call in found.calls:
        ts = stamp(call.ts)
        usd, assumed = price(prices, call.model, ts, call.tokens, call.variant)
        calls.append(
            (agent, call.uses_tool, *call[:6], ts, *call[7:10], *call.tokens, usd, assumed))
    marks = [(agent, mark.session, stamp(mark.ts), mark.cwd, mark.start, mark.is_split,
              stamp(mark.ended), json.dumps(mark.totals, sort_keys=True), size_of(mark.totals))
             for mark in found.marks]
    facts = [(*facts_of(path), one.agent, agent, one.session) for one in found.calls[:1]
             if os.path.basename(path).startswith('agent-')]
    return sessions, calls, marks, facts


def size_of(totals):
    return sum([sum(total[:6]) for total in totals.values()])


def padded(version):
    """A version as text that can be compared: 0002.0001.0331; '' for none."""
    return '.'.join([part.zfill(4) for part in re.findall(r'\d+', version)[:3]])


def facts_of(path):
    """(type, tool_use_id, path, finished, foreground) as the small file beside a sub-agent's
    transcript says."""
    beside = os.path.splitext(path)[0] + '.meta.json'
    told = (parse_records(read_small(beside).encode()) or [{}])[0]
    return (*texts(told, 'agentType', 'toolUseId'), beside,
            told.get('finished') is True, told.get('requestShape') == 'foreground')


def read_apart(jobs, prices, now_ms):
    """What read_files() yields, by two processes beside this one."""
    import marshal
    from multiprocessing import connection, get_context
    ends, readers, fork = [], [], get_context('fork')
    try:
        for share in jobs[::2], jobs[1::2]:
            end, others_end = fork.Pipe(False)
            ends.append(end)

            def read():
                for one in ends:               # held by its parent alone, they end with it
                    one.close()
                try:
                    for result in read_files(share, prices, now_ms):
                        others_end.send_bytes(marshal.dumps(result))
                except (BrokenPipeError, KeyboardInterrupt):
                    pass
            readers.append(fork.Process(target=read, daemon=True))
            readers[-1].start()
            others_end.close()
        while ends:
            for end in connection.wait(ends):
                try:
                    yield marshal.loads(end.recv_bytes())
                except EOFError:
                    ends.remove(end)
    finally:
        for reader in readers:
            reader.kill()
            reader.join()


# ---- errors, and making the ledger anew ---------------------------------------------------------

# What SQLite says, and what to tell of it. The first that fits; the ledger is damaged else.
PROBLEMS = (
    ('locked', NotYet,
     'the ledger is in use by another process for too long; try again, or see who holds it'),
    ('interrupted', NotYet,
     'the ledger has more to do than there is time for here; run `budget-check.py` once: it has '
     'more'),
    ('no such column|no such table|has no column', UserError,
     'the ledger was made by another version of armledger (%s); `budget-check.py --rebuild` makes '
     'it anew from the logs'),
    ('readonly|unable to open', UserError,
     'the ledger cannot be written (%s); give its owner write access to it and its folder'),
    ('full', UserError, 'the disk is full: make room; nothing that was metered is lost'),
    ('disk I/O error', UserError,
     'the ledger cannot be read or written (%s): see whether its disk is full or failing; nothing '
     'that was metered is lost'),
    ('', UserError,
     'the ledger is damaged (%s); `budget-check.py --rebuild` makes it anew from the logs'))


def ledger_error(path, error):
    """The UserError for an sqlite3.Error."""
    kind, message = next(one[1:] for one in PROBLEMS if re.search(one[0], str(error)))
    return kind(message.replace('%s', str(error)), path)


def rebuild_ledger(path, home, prices, environ, now_ms, progress=None):
    """Read every log again; (calls kept whose logs are gone, Reading).

    A ledger that is damaged is moved aside first, and what can still be read of it is kept."""
    errors = sqlite()
    try:
        ledger = Ledger(path, home, 3600.0)
        if ledger.one('pragma quick_check(1)')[0] != 'ok':
            raise errors.DatabaseError('damaged')
    except errors.OperationalError:
        raise
    except errors.DatabaseError:
        ledger = None                          # closes it
        damaged = '%s.damaged-%s' % (path, time.strftime('%Y%m%dT%H%M%SZ', time.gmtime()))
        for ending in ('', '-wal', '-shm'):
            if os.path.lexists(path + ending):
                os.replace(path + ending, damaged + ending)
        ledger = Ledger(path, home, 3600.0)
        salvage(ledger, damaged)
    ledger.write(lambda: ledger.run(READ_ANEW))
    reading = ledger.refresh(prices, environ, now_ms, progress)
    kept, = ledger.one(
        'select count(distinct key) from calls where owned and standing >= %d' % OLD)
    ledger.close()
    return kept, reading


# A row that no log tells any more stays as it is.
READ_ANEW = """update calls set standing = standing | %d where key is not null;
delete from files;
update folders set changed_ns = -1, entries = '{}'""" % OLD


def salvage(ledger, damaged):
    """Take over what can still be read of a damaged ledger."""
    def take(sql, *values):
        try:
            return ledger.rows(sql, *values)
        except sqlite().DatabaseError:
            return [(0,)]                      # it is lost

    copy, size = 'insert or ignore into main.%s select * from old.%s', 1000
    take('attach ? as old', damaged)
    for table in 'places', 'pairs', 'sessions', 'models', 'agents', 'marks', 'notices', 'gates':
        take(copy % (table, table))
    last = take('select max(id) from old.calls')[0][0] or 0
    for first in range(1, last + 1, size):
        take(copy % ('calls', 'calls') + ' where id >= ? and id < ?', first, first + size)
    take('detach old')


# ---- budgets.yaml: the text ---------------------------------------------------------------------

class Number(str):
    """A number, kept as it is written: money is never a float."""


class Unclear(str):
    """What readers take in different ways, such as yes, 012 or 1e3: no value may be that."""


def keys_once(pairs):
    """A map of JSON, with a value that none may have where a key stands twice."""
    found = {}
    for key, value in pairs:
        found[key] = Unclear('here twice') if key in found else value
    return found


READ_JSON = json.JSONDecoder(object_pairs_hook=keys_once, parse_int=Number, parse_float=Number,
                             parse_constant=str).decode
# A line is an indentation, perhaps a dash, perhaps a key, perhaps a value, perhaps a comment.
FORM = '( {0,40})(-(?: +|$))?(?:(%s) *:(?: +|$))?(%s|) *(?:(?<![^ ])#.*)?'
USUAL_LINE = FORM % ('[a-z_]+', r'[\w./~][\w./~-]*') + '$'      # quick to compile, at each gate
QUOTED = r'''"(?:\\["\\]|[^"\\])*"|'(?:''|[^'])*'(?!')'''
BEGINS = r'''(?:-(?=\d)|[^][ ?:,{}#&*!|>"'%@`-])'''
ITEM = QUOTED + '|' + BEGINS + '[^][ ,:?#{}]*(?: +[^][ ,:?#{}]+)*'
LIST = r'\[(?: *(?:%s) *(?:,|(?=\])))* *\]' % ITEM
PLAIN_TEXT = BEGINS + '(?:[^ :]+|:(?! |$)| +(?![ #]|$))*'
KEY = QUOTED + r'|[\w.<][\w.<-]*(?: +[\w.-]+)*'
LINE = FORM % (KEY, '|'.join([QUOTED, LIST, PLAIN_TEXT]))
# A first line of three dashes says nothing.
BEGINNING = '((?: *(?:#.*)?\n)*)(?:---(?= *(?: #.*)?(?:\n|$)))?'
# What is written as in JSON, and what YAML's versions and readers take in different ways.
CONSTANTS = {'': None, 'null': None, 'true': True, 'false': False}
NUMBER = r'(?=.{1,30}$)-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$'
UNCLEAR_NUMBER = r'(?i)(?:[-+]?\.(?:inf|nan)|\._.*|(?=.*\d)[-+.\d][-+\da-fxo_.,:tz ]*)$'
UNCLEAR_WORDS = frozenset('y n yes no on off true false null ~ = <<'.split())
# Not even in a comment: control characters, and what ends a line for some readers.
FORBIDDEN = '[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]'

# What to say of a text that is no value, by the first pattern that fits.
REFUSALS = r'''
.{950}   a line of more than 1000 characters: write a list as one "- item" a line
\s       more than 40 columns of indentation: write it flatter
(---|\.\.\.)(\s|$)|%(YAML|TAG)\s
         one document a file, without directives: delete this line
\[.*\]\s*:(\s|$)
         a list cannot be a key: write "key: [a, b]"
("(\\["\\]|[^"\\])*"|'(''|[^'])*'(?!')|\[[^[]*\])\s*\S
         unexpected text after the closing quote or bracket: delete it, or put quotes around the
         whole
["[](\\["\\]|[^\\])*\\
         in double quotes only \\ and \" are read: for a backslash write \\, or use single quotes
["']     this quote is not closed on its line: close it, and write a long text on one line
&        anchors are not read: write the value itself, or put it in quotes
(\[(.*,\s*)?)?\*
         aliases are not read: write the value itself; a pattern that begins with * goes in
         quotes: "*..."
!        tags are not read: leave the tag out, or put the value in quotes
(\[(.*,\s*)?)?{
         one-line maps are not read: write each "key: value" on a line of its own, indented below
\[       a list in one line is closed there, with one comma between items and no list in it, and
         an item with one of { } : ? # in quotes, as in [a, "b: c"]: mend it, or write one
         "- item" a line
\?       "? key" is not read: write "key: value"; a value that begins with ? goes in quotes
-        a value cannot begin with -: put it in quotes; a list in a list needs a key of its own
[|>]     text blocks are not read: write the text on one line, in quotes
[^\w./~$<]
         a value cannot begin with this character: put it in quotes
.*:(\s|$)
         a colon inside of a text, or a second key: put the text in quotes, or the key on its own
         line
\w+:     a space is missing after the colon: write "key: value"
.*       expected "key: value" here; a value stands on the line of its key
'''
KEY_NO_TEXT = 'a key must be text: put it in quotes'
KEY_TWICE = 'the key "%s" stands here twice, first on line %d: keep one'
MISPLACED = 'this line does not fit what is above it: line it up with its neighbours, or a list ' \
            'below its key; a value ends on the line that it begins on'
ODD = 'the character U+%04X is not read here: delete it, or type a plain one'


def refuse_if(is_wrong, message, place):
    if is_wrong:
        raise UserError(message, *place)


def entries_in(table):
    """{what begins a line: all behind it, with the lines that are indented below it}"""
    lines = re.sub(r'\n +', ' ', table.strip()).split('\n')
    return dict(line.split(None, 1) for line in lines)


def advice_on(text, table):
    """What a table says of a text, by the first pattern that fits; None if none does."""
    known = entries_in(table).items()
    return next((advice for form, advice in known if re.match(form, text)), None)


def parse_yaml(text, name='budgets.yaml', places=None):
    """What a full YAML reader gives for this strict subset of YAML; UserError for everything else.

        # block maps and lists, plain and quoted scalars, one-line lists of scalars, comments
        key: plain text
        list:
          - key: 200.00
            other: ["a", b, 'it''s']

    Gives dict, list, str, Number, bool and None; and Unclear, which the checker refuses with what
    to write instead. `places` gets {keys and numbers that lead to it: (name, line, column)}."""
    places = {} if places is None else places
    places[()] = name, 1, 1
    text = text.replace('\r\n', '\n').replace('\r', '\n').lstrip('\ufeff')
    if '---' in text:
        text = re.sub(BEGINNING, r'\1', text, count=1)
    rows = list(rows_in(text.split('\n'), name))[::-1]
    return block(rows, (0, False), (), places) if rows else None


def rows_in(lines, name):
    """Each dash and each key: (column, whether it is a dash), place, key, text of its value."""
    usual = re.compile(USUAL_LINE).match
    for number, line in enumerate(lines, 1):
        found = usual(line) or re.match(LINE, line)
        indent, dash, key, value = found.groups()
        place = name, number, len(indent) + 1
        if not line.isprintable():
            odd = re.findall(FORBIDDEN, line)
            odd += [char for char in line[:found.end(4)] if not char.isprintable()]
            for char in odd[:1]:
                advice = 'a tab: use spaces' if char == '\t' else ODD % ord(char)
                raise UserError(advice, name, number, line.index(char) + 1)
        # YAML readers look for a key's colon no further than column 1024.
        if found.end() < len(line) or line[1000:] or value and not (dash or key):
            raise UserError(advice_on(line[found.start(4):], REFUSALS), *place)
        if dash:
            yield (place[2], True), place, None, '' if key else value
        if key:
            place, key = (name, number, found.start(3) + 1), value_of(key)
            refuse_if(type(key) is not str, KEY_NO_TEXT, place)
            yield (place[2], False), place, key, value


def value_of(text):
    """What a scalar or a one-line list says."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] == '[':
        return list(map(value_of, re.findall(ITEM, text[1:-1])))
    if text[0] == '"':
        return READ_JSON(text)
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    may_be_number = text[0] in '-+.0123456789'
    if may_be_number and re.match(NUMBER, text):
        return Number(text)
    is_unclear = may_be_number and re.match(UNCLEAR_NUMBER, text)
    return Unclear(text) if is_unclear or text.lower() in UNCLEAR_WORDS else text


def block(rows, above, path, places):
    """The map or list that the next rows are, those that stand deeper than what is above them; it
    takes them off the end."""
    own, found = rows[-1][0], {}
    while rows and rows[-1][0] > above:
        depth, place, key, text = rows.pop()
        refuse_if(depth != own, MISPLACED, place)
        here = *path, len(found) if key is None else key
        first = places.setdefault(here, place)
        if first is not place:
            raise UserError(KEY_TWICE % (key, first[1]), *place)
        if rows and rows[-1][0] > own:     # a list may stand right below its key
            refuse_if(text, MISPLACED, rows[-1][1])
            found[here[-1]] = block(rows, own, here, places)
        else:
            found[here[-1]] = value_of(text)
    return [*found.values()] if own[1] else found


# ---- the keys of budgets.yaml and prices.json, and their one checker ----------------------------

# What maps may have: those of one shape the keys of another, too; with ! what they must have, with
# ? what may stand there empty; * is any name. Then kinds (in capitals), words, a [list] (with + of
# one or more); the least and the most; = what holds where nothing is said.
SHAPE_TABLE = '''
DEFAULT
    daily_usd_cap     USD 0 10000000
    weekly_usd_cap    USD 0 10000000
    monthly_usd_cap   USD 0 10000000
    total_usd_cap     USD 0 10000000
    alert_pct         PERCENT 1 100 = 80
    grace_pct         PERCENT 100 1000 = 110
    halt_pct          never|PERCENT 100 10000
    action_on_breach  alert|warn|hard_stop = hard_stop
    rate_pct          PERCENT 1 1000 = 100
    markup_pct        PERCENT 0 1000 = 0
    notify            TEXT
ENTRY DEFAULT
    arm!              NAME
    path              PATH
    paths             [PATH]+
FILE
    timezone          TEXT = local
    on_error          deny|allow = deny
    halt_signal       once|never = once
    expensive_tools   [TEXT]
    spend_json        PATH
    notify            TEXT
    budgets?          [ENTRY]
    default?          DEFAULT
DATED
    from              DAY
    until             DAY
    as_of             DAY
    source            TEXT
    note              TEXT
PRICED DATED
    input!            PRICE
    output!           PRICE
    cache_write_5m    PRICE|input|output
    cache_write_30m   PRICE|input|output
    cache_write_1h    PRICE|input|output
    cache_write_12h   PRICE|input|output
    cache_read        PRICE|input|output|cache_write_5m|cache_write_1h
LIST_PRICE PRICED
    source!           TEXT
    as_of!            DAY
TIER PRICED
    above!            TOKENS
    inclusive         FLAG
DATED_FACTOR DATED
    multiplier!       FACTOR
    long_context      flat|standard
PROVIDER
    batch             FACTOR|[DATED_FACTOR]+
    flex              FACTOR|[DATED_FACTOR]+
    priority          FACTOR|[DATED_FACTOR]+
    fast              FACTOR|[DATED_FACTOR]+
    ultrafast         FACTOR|[DATED_FACTOR]+
    us                FACTOR|[DATED_FACTOR]+
    regional          FACTOR|[DATED_FACTOR]+
    us_gov            FACTOR|[DATED_FACTOR]+
    web_search_usd    PRICE
    note              TEXT
MODEL PROVIDER
    provider!         TEXT
    aliases           [TEXT]+
    prices!           [LIST_PRICE]+
    long_context      [TIER]+
SOURCES
    *                 TEXT
FALLBACKS
    *!                TEXT
PROVIDERS
    *                 PROVIDER
MODELS
    *                 MODEL
PRICE_LIST
    about             [TEXT]
    sources           SOURCES
    unit!             UNIT
    fallbacks!        FALLBACKS
    providers!        PROVIDERS
    models!           MODELS
'''
PERCENT = 10 ** 6
ABSOLUTE_PATH = r'/|[A-Za-z]:([\\/]|$)|\\\\'
CAPS = {'daily_usd_cap': 'day', 'weekly_usd_cap': 'week', 'monthly_usd_cap': 'month',
        'total_usd_cap': 'total'}
# What values look like, texts in double quotes.
FORMS = entries_in(r'''
TEXT     (?s)".*\S.*"$
NAME     "(?!\()[^\s/\\]([^/\\]{0,98}[^\s/\\])?"$
PATH     "(/|~[/"]|[A-Za-z]:[\\/"]|\\\\)
DAY      "\d{4}-(?!02-3|(0[469]|11)-31)(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"$
UNIT     "USD per million tokens"$
FLAG     (True|False)$
USD      [0-9]+(\.[0-9]{1,12})?\Z
PERCENT  \d{1,5}(\.\d{1,6})?$
PRICE    \d{1,7}(\.\d{1,6})?$
FACTOR   (?=.*[1-9])\d{1,7}(\.\d{1,6})?$
TOKENS   [1-9]\d{,7}$
''')
# Of numbers that are kept: in how many parts of a whole.
PARTS = {'USD': PICO, 'PERCENT': PERCENT}
# What to write instead, by key or else by kind; its %s are the least and the most.
ADVICE = '''
timezone         local, or a name such as Europe/Berlin
expensive_tools  a list, as in ["Agent", "mcp__*"]
budgets          a list under budgets: with, for each arm, "- arm: NAME" and below it
                 "monthly_usd_cap: 200.00"
path             an absolute path, or one that begins with ~/ (home itself is ~/; variables are not
                 filled in); several go in paths: [...]
paths            a list, as in [~/clients/acme, ~/clients/acme-web]
TEXT             a text, in quotes
PATH             an absolute path, or one that begins with ~/ (variables are not filled in)
NAME             a name of at most 100 characters, with no slash, no space at its ends and no ( at
                 its beginning; where the arm lies is said by path:
FILE             "budgets:" on a line of its own above it
ENTRY            "- arm: NAME", with a space behind the colon, and its keys below
DEFAULT          its caps below it, indented, as in "  monthly_usd_cap: 100.00"
USD              US dollars from %s to %s, with at most 12 decimals, as a plain number such as
                 200.00
PERCENT          a percentage from %s to %s, as a plain number without %%
PRICE            a number such as 0.25, not negative, with at most 6 decimals
FACTOR           a number above 0 such as 0.5
TOKENS           a whole number of tokens, above 0
DAY              a day such as "2026-11-23"
UNIT             "USD per million tokens"
FLAG             true or false
[TEXT]           a list, as in ["a", "b"]
[TIER]           a list, as in [{"above": 200000, ...}]
[LIST_PRICE]     a list, as in [{"input": 5, ...}]
[DATED_FACTOR]   a list, as in [{"from": "2026-11-23", "multiplier": 0.5}]
LIST_PRICE       a map in { }
TIER             a map in { }
DATED_FACTOR     a map in { }
MODEL            a map in { }
MODELS           a map in { }
PROVIDER         a map in { }
PROVIDERS        a map in { }
SOURCES          a map in { }
FALLBACKS        a map in { }
PRICE_LIST       a map in { }
'''


def read_shapes(table):
    """{shape: {key: (its mark, kinds, (least, most), default)}}"""
    shapes = {}
    for line in table.strip().split('\n'):
        row, _, default = line.partition(' = ')
        key, *more = row.split()
        if line[0] != ' ':
            shape = shapes[key] = dict(*map(shapes.get, more))
            continue
        kinds, *bounds = more
        default = int(default) * PERCENT if default.isdigit() else default or None
        shape[key.strip('!?')] = key[-1], kinds.split('|'), tuple(map(int, bounds)), default
    return shapes


def money(text):
    """Pico-dollars of a decimal text such as 200.00; ValueError for anything else."""
    if not re.match(FORMS['USD'], text):
        raise ValueError(text)
    whole, _, behind = text.partition('.')
    return int(whole + behind.ljust(12, '0'))


SHAPES = read_shapes(SHAPE_TABLE)


def checked_map(name, found, at, path):
    """{key: value} of all that a map may have: what it hasn't is None, or what its row says."""
    shape, values = SHAPES[name], {}
    for key, (mark, _, _, values[key]) in shape.items():
        if mark == '!' and key not in found:
            said = 'this entry has no arm: begin it with "- arm: NAME"' if key == 'arm' else \
                'the key %s is missing here' % key
            raise UserError(said, *at(*path))
    for key, value in found.items():
        here, row = path + (key,), shape.get(key) or shape.get('*')
        if not row:
            raise UserError(unknown_key(key, name), *at(*here))
        mark, kinds, bounds, _ = row
        if value is not None or mark != '?':
            values[key] = checked(kinds, bounds, value, at, here)
    return values


def checked(kinds, bounds, value, at, path):
    """A value as one of its kinds has it, numbers in their units; UserError at its place."""
    for kind in kinds:
        if kind in SHAPES and type(value) is dict:
            return checked_map(kind, value, at, path)
        if kind[0] == '[' and type(value) is list and (value or kind[-1] == ']'):
            inner = kind.strip('[]+')
            found = [checked([inner], (), item, at, path + (n,)) for n, item in enumerate(value)]
            if 'from' in SHAPES.get(inner, ()):
                check_days(value, at, path)
            return found
        if kind.islower() and kind == value:
            return value
        if kind in FORMS and re.match(FORMS[kind], literal(value)):
            if kind not in PARTS:
                return value
            number = money(value)
            if bounds[0] * PICO <= number <= bounds[1] * PICO:
                return number * PARTS[kind] // PICO
    *_, above, key = '', 'this file', *path
    key, known = 'an item of ' + above if type(key) is int else key, entries_in(ADVICE)
    advice = known.get(key) or ' or '.join(known.get(kind.strip('+'), kind) for kind in kinds)
    raise UserError('%s is %s: write %s' % (key, printable(literal(value), 120), advice % bounds),
                    *at(*path))


LITERALS = {dict: 'a map', list: 'a list', str: '"%s"',
            Unclear: '%s, which readers take in different ways'}


def literal(value):
    """A value as it is written: a text in quotes."""
    if value in (None, '', [], {}):
        return 'empty'
    return LITERALS.get(type(value), '%s').replace('%s', str(value))


# Of keys that a map doesn't have: what to say, by the map's shape and the key.
UNKNOWN_KEYS = r'''
\w+\s(session_usd_cap|others)$
        %s is not read by this version, and a cap must not be ignored: delete it, or use a later
        one
FILE\sarms$
        the key %s: is not read, and its caps would not hold: write a list under budgets: with, for
        each arm, "- arm: NAME" and below it "monthly_usd_cap: 200.00"
FILE\s(arm|paths?|action_on_breach|\w+_(usd_cap|pct))$
        %s belongs to an arm: indent it below its "- arm: NAME", or below default:
DEFAULT\s(arm|paths?)$
        default: has no %s: it is for every repo that no entry lists; an arm of its own stands
        under budgets:
(ENTRY|DEFAULT)\s(timezone|on_error|halt_signal|expensive_tools|spend_json|budgets|default)$
        %s is for the whole file: write it at the left margin
'''


def unknown_key(key, name):
    near, known = nearest(key, SHAPES[name]), 'write one of ' + ', '.join(SHAPES[name])
    advice = 'unknown key %s: ' + ('did you mean %s?' % near if near else known)
    return (advice_on(name + ' ' + key, UNKNOWN_KEYS) or advice) % printable(key, 80)


def nearest(word, known):
    """The known word that it may be a slip or a part of, None if none is like it."""
    from difflib import get_close_matches
    word, by_folded = word.lower(), {one.lower(): one for one in known}
    parts = [one for one in by_folded if word in one and len(word) > 2]
    return by_folded.get(next(iter(get_close_matches(word, by_folded, 1) + parts), None))


# ---- prices.json: the same checker, and what it can't tell --------------------------------------

def check_prices(text, name='prices.json'):
    """UserError at the key's path for what a price list can't say."""
    def at(*path):
        keys = ''.join('[%d]' % key if type(key) is int else '.' + key for key in path)
        return [(name + ': ' + keys[1:]).rstrip(': ')]
    try:
        found = READ_JSON(text)
    except (json.JSONDecodeError, RecursionError) as error:
        place = [getattr(error, one, None) for one in ('lineno', 'colno')]
        raise UserError('not JSON from here on; is there a comma, a quote or a bracket too many '
                        'or too few?', name, *place) from None
    checked(['PRICE_LIST'], (), found, at, ())
    models, providers, owners = found['models'], found['providers'], {}
    for key, model in models.items():
        provider = model['provider']
        refuse_if(provider not in providers, 'providers has no ' + provider,
                  at('models', key, 'provider'))
        for alias in [key] + model.get('aliases', []):
            owner = owners.setdefault(split_model(alias)[1], model)
            refuse_if(owner is not model, alias + ' is a name of another model already',
                      at('models', key))
    for family, model in found['fallbacks'].items():
        owner = owners.get(split_model(model)[1])
        if not owner:
            raise UserError('models has no %s: the nearest is %s'
                            % (model, nearest(model, models)), *at('fallbacks', family))
    last = owners[split_model(found['fallbacks']['*'])[1]]
    classes = set(SHAPES['PRICED']) - set(SHAPES['DATED'])
    is_whole = 'web_search_usd' in {**providers[last['provider']], **last} and \
        all(len(classes & set(price)) == 5 for price in last['prices'])
    refuse_if(not is_whole, 'this model, for all else, needs a price of every class and of web '
                            'searches', at('fallbacks', '*'))


def check_days(entries, at, path):
    """Of two entries for calls of one size, one ends before the other begins."""
    spans = {}
    for n, entry in enumerate(entries):
        since, until = entry.get('from', ''), entry.get('until', '~')      # days compare as texts
        others = spans.setdefault(entry.get('above'), [])
        is_over = since >= until or any(since < end and start < until for start, end in others)
        refuse_if(is_over, 'its days are in another entry as well, or end before they begin: mend '
                           'from or until, which is the day after the last', at(*path, n))
        others.append((since, until))


# ---- budgets.yaml: what it says -----------------------------------------------------------------

LARGEST_BUDGETS = 1 << 20        # bytes
NO_CAP = '%s has no cap: write monthly_usd_cap: 200.00 (or daily_, weekly_, total_usd_cap), or ' \
         'delete the entry'
MONTHLY_ONLY = ' cannot be known from spend_json, which is month-to-date: write ' \
               'monthly_usd_cap, or delete spend_json'
EARLY_HALT = 'halt_pct is below grace_pct (%s): a halt comes after the hard stop'
ARM_TWICE = 'the arm %s stands here twice, first on line %d: make one entry of the two; an arm ' \
            'may have several caps, and paths: [...]'
PATH_TWICE = 'the path %s stands here twice, first on line %d: a folder belongs to one arm'
# An item of `budgets:`, or `default:` (its arm is None). caps: ((window, pico-dollars), ...);
# at: (name of the file, line, column).
Entry = namedtuple('Entry', 'arm caps alert_pct grace_pct halt_pct action rate_pct markup_pct '
                            'notify at patterns')


class Budgets:
    """A whole file: what its keys say, and what arms are found by: entries, by_name: {arm: Entry},
    patterns: all paths, named: {repo_name: arm}. UserError at line:column for what can't be."""

    def __init__(self, text, name='budgets.yaml', home=None):
        self.name, self.by_name, self.named, places, by_path = name, {}, {}, {}, {}
        found = parse_yaml(text, name, places) or {}

        def at(*path):           # of what isn't written: what it would stand in
            return places.get(path) or at(*path[:-1])
        vars(self).update(checked(['FILE'], (), found, at, ()))
        check_zone(self.timezone, at('timezone'))
        self.spend_json = self.spend_json and expand_home(self.spend_json, home)
        real_folder.cache_clear()
        read = partial(entry_from, home, self.spend_json)
        self.default = self.default and read(self.default, partial(at, 'default'))
        self.entries = tuple(read(values, partial(at, 'budgets', n))
                             for n, values in enumerate(self.budgets or ()))
        for entry in self.entries:
            first = self.by_name.setdefault(entry.arm, entry)
            refuse_if(first is not entry, ARM_TWICE % (entry.arm, first.at[1]), entry.at)
            for one in entry.patterns:
                first = by_path.setdefault(one.text, one)
                refuse_if(first is not one, PATH_TWICE % (one.path, first.at[1]), one.at)
            if not entry.patterns:
                written = folded(entry.arm)
                self.named.update({written: entry.arm, '\\' + written.lower(): entry.arm})
        # What was recorded below a link counts after it was turned, too.
        written = {folded(one.path): one.arm for one in by_path.values()}
        links = [pattern_at(text, arm) for text, arm in written.items() if text not in by_path]
        self.patterns = [*by_path.values(), *links]

    def armed(self):
        return bool(self.entries or self.default)

    def digest(self):
        """Changes with all that decides which arm a folder is, also with a link in a path."""
        return ascii(([(one.text, one.arm) for one in self.patterns], self.named))


def find_budgets(explicit, environ, script_dir, home):
    """The budgets file to read, None if there is none.

    Never the working folder: it is a client's, whose repo must not raise its own cap."""
    named = explicit or environ.get('ARMLEDGER_BUDGETS')
    if named:
        path = expand_home(named, home)
        refuse_if(not explicit and not os.path.isabs(path),
                  '$ARMLEDGER_BUDGETS is %s, and which file that is depends on the working '
                  'folder: write an absolute path' % path, ())
        refuse_if(not os.path.lexists(path), 'no such file; it is named by ' +
                  ('--budgets' if explicit else '$ARMLEDGER_BUDGETS'), [path])
        return path
    paths = [script_dir + '/budgets.yaml', home + '/.claude/budgets.yaml']
    there = list(filter(os.path.lexists, paths))
    return [*filter(sets_cap, there), *there, None][0]


def sets_cap(path):
    """Whether a file sets a cap. One that can't be read may: reading it says what is wrong."""
    try:
        return bool(re.search(r'(?m)^[^#\n]*_usd_cap', read_budgets(path)))
    except UserError:
        return True


def load_budgets(path, home=None):
    return Budgets(read_budgets(path), path, home)


def read_budgets(path):
    text = read_text(path, LARGEST_BUDGETS)
    # Half a file isn't one without caps.
    refuse_if(not text, 'is empty: was it cut off while it was written? To cap nothing, write '
                        'budgets: []', [path])
    return text


def read_text(path, most_bytes):
    """The text of a small UTF-8 file; UserError for anything else that may lie there."""
    try:
        with open_plain(path) as stream:
            content = stream.read(most_bytes + 1)
        refuse_if(len(content) > most_bytes,
                  'is larger than %d KiB: is it the right file?' % (most_bytes >> 10), [path])
        return content.decode('utf-8')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise UserError('is not UTF-8 text: save it as UTF-8', path, line) from None
    except OSError as error:
        raise UserError('cannot be read: ' + error.strerror, path) from None


def entry_from(home, spend_json, values, at):
    """The Entry of a map; `at` tells where its keys stand. Unsaid, a halt is at 150 %, or at a
    higher grace_pct."""
    arm, grace, halt = values.get('arm'), values['grace_pct'], values['halt_pct']
    caps = {window: values[key] for key, window in CAPS.items() if values[key] is not None}
    refuse_if(not caps, NO_CAP % ('arm ' + arm if arm else 'default:'), at())
    for key in [key for key in CAPS if spend_json and CAPS[key] in caps and CAPS[key] != 'month']:
        raise UserError(key + MONTHLY_ONLY, *at(key))
    halt = {None: max(150 * PERCENT, grace), 'never': None}.get(halt, halt)
    if halt is not None and halt < grace:
        raise UserError(EARLY_HALT % format_percent(grace), *at('halt_pct'))
    one, paths = values.get('path'), values.get('paths')
    refuse_if(one and paths, 'path and paths in one entry: write all of them in paths: [...]',
              at('paths'))
    key = 'paths' if paths else 'path'
    patterns = [pattern_of(expand_home(path, home), arm, at(key, n))
                for n, path in enumerate(paths or filter(None, [one]))]
    values.update(caps=tuple(caps.items()), halt_pct=halt, action=values['action_on_breach'],
                  at=at(), patterns=patterns)
    return Entry(*map(values.get, Entry._fields))


# ---- paths in budgets.yaml ----------------------------------------------------------------------

# A path of an arm. text: as folders are compared; of it, head is what stands before the first
# wildcard, or all; path: as written, but for ~; at: its place. Of two that hold a folder the
# higher rank wins: more names (** isn't one), then a first wildcard farther behind.
Pattern = namedtuple('Pattern', 'text head rank arm path at')
WILD = '[*?[]'


def pattern_of(path, arm, at):
    """The Pattern of a path, with what stands before its first wildcard as it really lies."""
    ranges = re.findall(r'\[[^]/]*([^]/])-([^]/])', path) if '[' in path else ()
    refuse_if(any(low > high for low, high in ranges),
              'the pattern %s cannot be read: write [ itself as [[]' % path, at)
    path, real = path.replace(os.sep, '/'), path
    if os.name == 'nt' or not is_windows_path(path):               # else recorded elsewhere
        folder = re.split(WILD, path + '/')[0].rpartition('/')[0]
        real = real_folder(folder or '/').rstrip('/') + path[len(folder):]
    return pattern_at(folded(real), arm, path, at)


def pattern_at(text, arm, path='', at=None):
    head = re.split(WILD, text + '/')[0]
    rank = sum(name != '**' for name in text.split('/')), len(head), len(text)
    return Pattern(text, head, rank, arm, path, at)


def holds(pattern, path):
    """Whether a folded path is in the pattern's, or is it."""
    return (path + '/').startswith(pattern.head) and (
        pattern.head == pattern.text + '/' or fits(path.split('/'), pattern.text.split('/')))


def fits(names, forms):
    """* ? [abc] [!abc] stay within a name; ** is any number of names, also none."""
    from fnmatch import fnmatchcase
    if not forms:
        return True
    form, *forms = forms
    if form == '**':
        return any(fits(names[n:], forms) for n in range(len(names) + 1))
    return names and fnmatchcase(names[0], form) and fits(names[1:], forms)


@lru_cache(None)                 # cleared at each reading: entries share most of their folders
def real_folder(path):
    head, name = os.path.split(path)
    is_plain = name.strip('.') and os.name == 'posix' and not os.path.islink(path)
    return os.path.join(real_folder(head), name) if is_plain else os.path.realpath(path)


def expand_home(path, home=None):
    if home and re.match(r'~([/\\]|$)', path):
        return home.rstrip('/') + path[1:] or '/'
    return os.path.expanduser(path)


def is_windows_path(path):
    return path[:1] != '/' and bool(re.match(r'[A-Za-z]:([\\/]|$)|\\\\', path))


def folded(path):
    """A path as it is compared: NFC, no slash at its end; Windows' without case, with slashes."""
    if is_windows_path(path):
        path = '/' + path.replace('\\\\?\\', '').replace('\\', '/').lower().lstrip('/')
    return composed(path).rstrip('/')


def repo_name(path):
    """The key in Budgets.named of a repo: its folder's name; of Windows behind a backslash."""
    return '\\' * is_windows_path(path) + folded(path).rpartition('/')[2]


# ---- time zones ---------------------------------------------------------------------------------

ZONE_FOLDERS = ('/usr/share/zoneinfo', '/usr/lib/zoneinfo', '/usr/share/lib/zoneinfo',
                '/etc/zoneinfo')
ZONE = []                        # where none can be set for a process: the zone


def zone_file(zone):
    """The file of an IANA name in the system's database, None if there is none."""
    paths = [folder + '/' + zone for folder in ZONE_FOLDERS if re.match(r'\w[\w/+-]*\Z', zone)]
    return next(filter(os.path.isfile, paths), None)


def check_zone(zone, place=()):
    """UserError if a time zone isn't known."""
    if zone in ('local', 'UTC') or zone_file(zone):
        return
    from zoneinfo import available_timezones
    names = sorted(available_timezones())
    if zone not in names:
        near = nearest(zone.replace(' ', '_'), names)
        raise UserError('unknown time zone %s: %s' % (
            zone, 'did you mean %s?' % near if near else
            'write local, or a name such as Europe/Berlin' if names else
            'this machine has no time zone database: install tzdata, or write local or UTC'),
            *place)


def set_zone(timezone):
    """Make 'local' or an IANA name that is known the time zone of this process."""
    first_ms.cache_clear()
    del ZONE[:]
    path = zone_file(timezone)
    if hasattr(time, 'tzset') and (path or timezone in ('local', 'UTC')):
        if timezone != 'local':
            os.environ['TZ'] = ':' + path if path else 'UTC0'
        time.tzset()
    elif timezone != 'local':
        from datetime import timezone as fixed
        from zoneinfo import ZoneInfo
        ZONE.append(fixed.utc if timezone == 'UTC' else ZoneInfo(timezone))


# ---- arms: which arm a session, a folder is -----------------------------------------------------

# An arm's key is a listed arm's name, or the path of a repo that no entry lists; '' is nobody's.
UNATTRIBUTED = '(unattributed)'


def is_path(key):
    return '/' in key or '\\' in key


def arm_of(budgets, place, origin=None):
    """The key of the arm of a call, or of a tool, in `place`; its session began in `origin`."""
    places = [one for one in (place, origin) if one and re.match(ABSOLUTE_PATH, one.path)]
    listed = [listed_in(budgets, one) for one in places if budgets]
    places.sort(key=lambda one: not one.is_repo)
    return next(filter(None, listed + [one.root for one in places]), '')


def entry_of(budgets, key):
    """The Entry with an arm's caps, None if it has none."""
    if budgets and key:
        return budgets.default if is_path(key) else budgets.by_name.get(key)


def listed_in(budgets, place):
    """The arm with the longest path that holds a folder, or the main repo of its worktree."""
    found = longest(budgets, place.path) or longest(budgets, place.cwd)
    for root in filter(None, (place.inner, place.root)):
        pattern = longest(budgets, root, budgets.named.get(repo_name(root)))
        # A worktree in another arm's folder stays there, unless that arm holds its repo as well.
        if pattern and (not found or pattern.rank > found.rank and holds(found, folded(root))):
            found = pattern
    return found and found.arm


def longest(budgets, path, named=None):
    """The pattern with the longest path that holds a folder; of a repo, `named` has its name."""
    text = folded(path)
    found = [pattern for pattern in budgets.patterns if holds(pattern, text)]
    if named:
        found.append(pattern_at(text, named))
    return max(found, key=lambda pattern: pattern.rank, default=None)


def assign_arms(ledger, budgets):
    """Note the arm of each pair (folder, where its session began) that has none yet; of all pairs
    if what budgets.yaml says of folders has changed."""
    digest = budgets.digest() if budgets else ''
    changed = ledger.meta('budgets') != digest
    pairs = ledger.rows('select id, place, origin from pairs' +
                        ' where arm is null' * (not changed))
    if not pairs and not changed:
        return
    places = ledger.places()
    arms = [(arm_of(budgets, places.get(place), places.get(origin)), number)
            for number, place, origin in pairs]

    def note():
        ledger.db.executemany('update pairs set arm = ? where id = ?', arms)
        ledger.set_meta('budgets', digest)
    ledger.write(note)


def pairs_of(ledger, key):
    return [number for number, in ledger.rows('select id from pairs where arm = ?', key)]


def seen_arms(ledger):
    rows = ledger.rows('select distinct arm from pairs where arm is not null order by arm')
    return [key for key, in rows]


def armed_keys(ledger, budgets):
    """Every listed arm, then, if there is a default, each repo that is not listed."""
    if not budgets:
        return []
    repos = filter(is_path, seen_arms(ledger)) if budgets.default else ()
    return [*budgets.by_name, *repos]


def entries_of(budgets, key=None):
    """The entry of one arm, or all of them. A repo that none lists has that with its name: its
    path may be mistyped."""
    return [entry for entry in (budgets.entries if budgets else ())
            if key is None or entry.arm in (key, tails_of(key)[0])]


def check_ambiguous(ledger, budgets, key=None):
    """UserError if an entry without a path fits two repos."""
    for entry in entries_of(budgets, key):
        seen = ledger.rows('select root, inner from pairs join places on places.id = place '
                           'where arm = ? and is_repo', entry.arm)
        repos = sorted({path for row in seen for path in row
                        if budgets.named.get(repo_name(path)) == entry.arm})
        if repos[1:]:
            raise UserError('arm %s has no path, and its name fits %s and %s: add the one that is '
                            'meant, as in "path: %s"'
                            % (entry.arm, *repos[:2], repos[0]), *entry.at)


def cap_warnings(ledger, budgets, key=None):
    """What to tell of caps that guard nothing: of one arm, or of all."""
    for entry in entries_of(budgets, key):
        at = '%s:%d' % entry.at[:2]
        missing = [one.path for one in entry.patterns if not is_there(one.path)]
        if missing:
            yield ('arm %s: nothing is at its path %s, so its cap guards nothing there: mend it '
                   'in %s' % (entry.arm, ', '.join(missing), at))
        if not entry.patterns and not pairs_of(ledger, entry.arm):
            yield ('arm %s: no repo of this name has been seen, so its cap guards nothing yet: if '
                   'its folder has another name, add path: in %s' % (entry.arm, at))


def is_there(path):
    """Whether something lies at a path or fits a pattern, in either Unicode spelling of it."""
    from glob import glob
    from unicodedata import normalize
    return is_windows_path(path) and os.name != 'nt' or any(
        glob(normalize(form, path)) for form in ('NFC', 'NFD'))


def tails_of(path):
    """What a path ends in, from its last name on: [site, x/site, ...]."""
    names = path.replace('\\', '/').strip('/').split('/')
    return ['/'.join(names[-n:]) for n in range(1, len(names) + 1)]


def short_names(keys):
    """{key: the name to show}: of paths the shortest tail that no other key has."""
    from collections import Counter
    tails = {key: tails_of(key) for key in keys}
    seen = Counter(tail for each in tails.values() for tail in each)
    return {key: next((tail for tail in each if seen[tail] == 1), key) if key else UNATTRIBUTED
            for key, each in tails.items()}


def find_arm(text, ledger, budgets, home):
    """The key of the arm that somebody means by its name, its short name, or a path in it."""
    known = [*(budgets.by_name if budgets else ()), *seen_arms(ledger)]
    by_name = {name: key for key, name in short_names(known).items()}
    if text in by_name or text in known:
        return by_name.get(text, text)
    path = os.path.abspath(expand_home(text, home))
    is_folder = os.path.isdir(path)
    # Another word must not become a folder below the working one: that may be another client's.
    if is_folder or re.match(r'(\.\.?|~)(/|$)|' + ABSOLUTE_PATH, text):
        gone = not is_folder and ledger.rows(
            'select max(id) from places where ? in (cwd, path)', path)[0][0]
        return arm_of(budgets, ledger.places()[gone] if gone else resolve_place(path, home))
    near = nearest(text, by_name)
    raise UserError('no arm is named %s: %s' % (
        printable(text), 'did you mean %s?' % near if near else
        'name one of budgets.yaml, or a path in it'))


# ---- windows of time ----------------------------------------------------------------------------

# A date is a number here, of days since the epoch: 0 was a Thursday.
DAY_S = 86400


def local_time(seconds):
    from datetime import datetime, timezone
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone(*ZONE)


def ahead_of_utc(seconds):
    """How far the clock is ahead at a time. (To import datetime takes longer than a verdict.)"""
    if ZONE:
        return int(local_time(seconds).utcoffset().total_seconds())
    return time.localtime(seconds).tm_gmtoff


@lru_cache(None)
def first_ms(day):
    """When a date begins. Where the clock skips midnight, or the day, that is right after; where
    it is set back over midnight, the first of the two."""
    midnight = day * DAY_S
    offsets = [ahead_of_utc(midnight + near) for near in (-DAY_S, DAY_S)]
    fits = [ahead for ahead in offsets if ahead_of_utc(midnight - ahead) == ahead]
    return (midnight - [*fits, offsets[0]][0]) * 1000


def local_date(ms):
    day = (ms // 1000 + ahead_of_utc(ms // 1000)) // DAY_S
    # The next has begun where the clock was set back over midnight.
    return day + (first_ms(day + 1) <= ms)


def date_at(day):
    return time.gmtime(day * DAY_S)


def window_bounds(window, now_ms):
    """(start, end) in ms of the day, ISO week, month or total of a moment; end is outside."""
    if window == 'total':
        return 0, None
    day = local_date(now_ms)
    date = date_at(day)
    first = day - {'day': 0, 'week': date.tm_wday, 'month': date.tm_mday - 1}[window]
    length = {'day': 1, 'week': 7, 'month': 32 - date_at(first + 31).tm_mday}[window]
    return first_ms(first), first_ms(first + length)


def windows_between(window, since_ms, until_ms):
    """(label, start, end) of each day, week or month that has a moment in [since, until)."""
    while since_ms < until_ms:
        start, end = window_bounds(window, since_ms)
        yield label_of(window, since_ms), start, end
        since_ms = end


def label_of(window, ms):
    """2026-11-23, 2026-W48 or 2026-11: the day, week or month of a moment."""
    form = {'day': '%Y-%m-%d', 'week': '%G-W%V', 'month': '%Y-%m'}[window]
    return time.strftime(form, date_at(local_date(ms)))


def date_of(ms):
    return label_of('day', ms)


def start_of(text):
    """When the date YYYY-MM-DD begins, in ms; ValueError if there is no such date."""
    return first_ms(minutes_to(text + ' 00:00+00:00') * 60 // DAY_S)


def format_time(ms):
    """ISO 8601 with its offset, to the second: 2026-11-01T00:00:00+01:00."""
    return local_time(ms // 1000).isoformat()


# ---- figures ------------------------------------------------------------------------------------

TIER_COLOURS = {'ok': '32', 'alert': '33', 'warn': '33', 'hard_stop': '31', 'halt': '31;1'}


def divide_even(dividend, divisor):
    """Division of whole numbers, rounded to the nearest, halves to the even one."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest + quotient % 2 > divisor)


def format_usd(pico, places=2, thousands=False):
    """Dollars as plain text, exactly rounded: 1234.50, or 1,234.50 with thousands."""
    units = divide_even(abs(pico), 10 ** (12 - places))
    return '-' * (pico < 0 < units) + decimal(units, places, '{:,}' if thousands else '{}')


def decimal(units, places, form='{}'):
    """A number in units of 10**-places, as text."""
    whole, rest = divmod(units, 10 ** places)
    return form.format(whole) + ('.%0*d' % (places, rest) if places else '')


def dollars(pico):
    """An amount in a sentence: $31.07, -$31.07; below a dollar $0.0042."""
    return '-' * (pico < 0) + '$' + format_usd(abs(pico), 4 if 0 < abs(pico) < PICO else 2)


def format_percent(millionths, places=0):
    """A percentage, rounded down: 99.99 % of a cap is not yet 100 %."""
    return decimal(millionths * 10 ** places // PERCENT, places)


def bar(spent, cap, width=12):
    filled = min(width, spent * width // cap) if cap else width
    return '#' * filled + '.' * (width - filled)


def columns(text):
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width
    return sum(0 if combining(char) else 2 if east_asian_width(char) in 'WF' else 1
               for char in text)


# ---- the verdict: what is spent, and may still be, against an arm's caps ------------------------

TIERS = ('ok', 'alert', 'warn', 'hard_stop', 'halt')
FULL = 100 * PERCENT             # 100 %, in the millionths of a per cent that budgets are kept in
FAR_MS = 100 * 365 * 86400000    # a cap that is reached in a hundred years is not reached

# An arm's caps: `windows`, of which the worst decides.
Verdict = namedtuple('Verdict', 'tier verdict worst windows')

# One cap, in pico-dollars at the arm's rate. `pct` of the cap is None for a cap of 0; at the rate
# so far `cap_at` is when it is reached, `projected` what is spent at the window's end.
WindowVerdict = namedtuple(
    'WindowVerdict', 'window start spent cap grace halt tier pct left cap_at projected')

# Where an arm stands. shown: its name as people read it; reserved: what is set aside for running
# tools, at the arm's rate as well; cost: what the tool that is asked for may cost, at list price.
Standing = namedtuple(
    'Standing', 'key entry name shown verdict reserved cost untranscribed_usd assumed_usd')


def judge(entry, spent_by_window, now_ms, began_ms=None):
    """The Verdict on an entry's caps, from {window: pico-dollars at list price}.

    The worst window has the highest tier, then the largest share of its cap, then is shorter."""
    windows = [judge_window(entry, window, cap, spent_by_window.get(window, 0), now_ms, began_ms)
               for window, cap in entry.caps]
    worst = max(windows, key=lambda one: (TIERS.index(one.tier), one.pct or 0))
    verdict = 'HARD_STOP' if worst.tier == 'halt' else worst.tier.upper()
    return Verdict(worst.tier, verdict, worst, windows)


def judge_window(entry, window, cap, spent, now_ms, began_ms=None):
    start, end = window_bounds(window, now_ms)
    ours = at_rate(entry, spent)
    alert, grace, halt = (pct and divide_even(cap * pct, FULL)
                          for pct in (entry.alert_pct, entry.grace_pct, entry.halt_pct))
    reached = [tier for tier, least in zip(TIERS, (0, alert, cap, grace, halt))
               if least is not None and ours >= least]
    highest = 'halt' if entry.action == 'hard_stop' else entry.action
    return WindowVerdict(
        window, start, ours, cap, grace, halt, min(reached[-1], highest, key=TIERS.index),
        ours * FULL // cap if cap else None, max(0, cap - ours),
        *project(ours, cap, start if end else began_ms, end, now_ms))


def at_rate(entry, usd):
    return divide_even(usd * entry.rate_pct, FULL)


def project(spent, cap, start, end, now_ms):
    """(when the cap is reached, what is spent at the end) if it goes on as from `start` to now."""
    if start is None or now_ms <= start:
        return None, None
    elapsed = now_ms - start
    cap_at = start - (elapsed * cap // -spent) if 0 < spent < cap else None
    if cap_at is not None and cap_at >= (end or now_ms + FAR_MS):
        cap_at = None
    return cap_at, None if end is None else divide_even(spent * (end - start), elapsed)


def stand(ledger, budgets, key, now_ms, looking_back=False, request=None):
    """Where an arm stands. A call that is later than the window counts as well (a clock was
    wrong), unless someone is looking back."""
    entry, pairs, name = entry_of(budgets, key), pairs_of(ledger, key), key
    sums, began_ms = {}, None
    for window, _ in entry.caps:
        start, end = window_bounds(window, now_ms)
        sums[window] = (spend_elsewhere(budgets, key), 0, 0) if budgets.spend_json else \
            ledger.spent(pairs, start, end if looking_back else None)
    if 'total' in sums:                                    # from the index, pair by pair
        began_ms, = ledger.one('select min((select min(ts) from calls where owned and '
                               'pair = pairs.id)) from pairs where arm = ?', key)
    verdict = judge(entry, {window: usd for window, (usd, *_) in sums.items()}, now_ms, began_ms)
    reserved = 0 if looking_back else set_aside(ledger, key, entry, now_ms)
    is_expensive = request and request.refused_as == 'expensive'
    cost = may_cost(ledger, key, entry, request) if is_expensive else 0
    if is_path(key):
        name = short_names([key, *armed_keys(ledger, budgets)])[key]
    return Standing(key, entry, name, printable(name, 60), verdict, reserved, cost,
                    *sums[verdict.worst.window][1:])


def spend_elsewhere(budgets, arm):
    """Month-to-date spend of an arm from a JSON export; one that isn't in it has spent nothing."""
    pico = load_export(budgets).get(arm, 0)
    if type(pico) is not int or not 0 <= pico < 10 ** 30:
        raise UserError('spend_json must be {"arm": usd}, with plain numbers; that of %s is not '
                        'one' % printable(arm), budgets.spend_json)
    return pico


def load_export(budgets):
    """{arm: pico-dollars} of spend_json."""
    def pico(text):                                        # 1e3 is a number, too
        from decimal import Decimal
        return int(Decimal(text) * PICO)
    text = read_text(budgets.spend_json, 16 << 20)
    try:
        export = json.loads(text, parse_float=pico, parse_int=pico)
        if type(export) is not dict:
            raise ValueError('it is no map')
        return export
    except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise UserError('spend_json is not {"arm": usd} in JSON: %s; write it anew, or take '
                        'spend_json out of the budgets file' % error, budgets.spend_json) from None


# ---- tools that are running: what they may still cost -------------------------------------------
#
# An allowed tool is a row of `running` until it is done: when its sub-agent's own small file says
# so; else when the agent that asked has called again (`agent` is null if the tool goes on
# besides); when its session has ended; or after 30 minutes. Set aside is what it was thought to
# cost, or the dearest has cost by now, less what its own sub-agent has spent: the end of that is
# in no log yet. `tool` is '' where it starts no sub-agent. Micro-dollars are summed here, since
# forged figures overflow.

RUNNING_MS = 30 * 60 * 1000
LASTING = ('Workflow', 'SendMessage', '*spawn_agent', '*followup_task', '*send_input',
           '*resume_agent', 'write_agent')
SPAWNERS = ('Agent', 'Task', 'invoke_agent') + LASTING
# The dearest of an arm's (?1) last ten sub-agents, but no more than a tool may cost (?2).
DEAREST = '''
    select min(?2, 1000000 * max(micro)) from (
        select sum(usd / 1000000) as micro from (
            select session, name from pairs join agents on agents.pair = pairs.id
            where arm = ?1 order by agents.ts desc limit 10) as last
        join calls on calls.session = last.session and calls.agent = last.name
        group by last.session, last.name)'''
# In all, of an arm (?1) between two times (?3, ?4). A tool that no small file ties to a sub-agent
# (a workflow's, other agents', old versions') is judged with all such of its session: what untied
# sub-agents have spent since the oldest is taken off them together.
RUNNING = '''
    select sum(max(0, usd - 1000000 * coalesce(case when agent is null then (
            select sum(usd / 1000000) from agents  -- first, of which there are fewer
            cross join calls on calls.session = agents.session and calls.agent = agents.name
            where agents.session = tools.session and coalesce(tool_use_id, '') = ''
            and not coalesce(finished, 0) and calls.ts >= since)
        else (select sum(usd / 1000000) from calls
              where calls.session = tools.session and calls.agent = tools.agent) end, 0)))
    from (
        select sessions.id as session, agents.name as agent, min(running.ts) as since,
            sum(case tool when '' then running.usd
                else max(running.usd, coalesce((%s), 0)) end) as usd
        from running left join sessions on sessions.name = running.session
        left join agents on agents.session = sessions.id and agents.tool_use_id = running.id
        where running.arm = ?1 and running.ts between ?3 and ?4 and not coalesce(finished, 0)
        and not (coalesce(foreground, 1) and exists (
            select 1 from calls where calls.session = sessions.id and calls.agent = running.agent
            and calls.ts > running.ts and kind = 'call'))
        and not exists (select 1 from marks
                        where marks.session = sessions.id and marks.ts > running.ts)
        group by 1, 2) as tools''' % DEAREST


def set_aside(ledger, key, entry, now_ms):
    """What this arm's running tools may still cost, in pico-dollars at its rate."""
    usd, = ledger.one(RUNNING, key, quarter_of(entry), now_ms - RUNNING_MS, now_ms + RUNNING_MS)
    return at_rate(entry, usd or 0)


def quarter_of(entry):
    """The most that a tool is thought to cost: so small caps don't lock themselves. Above $10,000
    the sum of some would be more than SQLite can hold."""
    least = min(cap for _, cap in entry.caps)
    return min(least * entry.grace_pct // entry.rate_pct // 4, 10000 * PICO)


def may_cost(ledger, key, entry, request):
    """What an expensive tool may cost, at list price: as much as the dearest of the arm's last
    sub-agents, or $1; one that starts none, as the asking agent's dearest call of late."""
    most, usd = quarter_of(entry), dearest_call(ledger, request)
    if matches(request.tool, SPAWNERS):
        known, = ledger.one(DEAREST, key, most)
        usd = known or PICO
    return min(usd, most)


def dearest_call(ledger, request):
    """Pico-dollars of the dearest of the asking agent's last calls; $0.25 before the first."""
    usd, = ledger.one('select max(usd) from (select usd from calls where agent = ? and session in '
                      '(select id from sessions where name = ?) order by ts desc limit 50)',
                      request.agent, request.session)
    return usd or PICO // 4


# ---- the words for it ---------------------------------------------------------------------------

WINDOW_WORDS = {'day': 'today', 'week': 'this week', 'month': 'this month', 'total': 'in total'}
CAP_KEYS = {window: key for key, window in CAPS.items()}
ESTIMATE = 'an estimate at list price'


def arithmetic(standing, one=None, tier=None, tool=''):
    """Why a stop holds: arm, window, spent, and the cap times its percentage. At 'room' it is what
    a tool may cost, with those that are running."""
    one, tier = one or standing.verdict.worst, tier or standing.verdict.tier
    entry, window, spent = standing.entry, WINDOW_WORDS[one.window], dollars(one.spent)
    percent, stop = (entry.halt_pct, one.halt) if tier == 'halt' else (entry.grace_pct, one.grace)
    percent, aside = format_percent(percent, 4).rstrip('0').rstrip('.'), ''
    cap = '(cap %s x %s %%; %s)' % (dollars(one.cap), percent, ESTIMATE)
    if tier != 'room':
        return '%s has spent %s %s, and its %s is at %s %s' % (
            standing.shown, spent, window, tier.replace('_', ' '), dollars(stop), cap)
    if standing.reserved:
        aside = ' + %s set aside for tools that are running' % dollars(standing.reserved)
    return '%s %s: %s spent%s + %s that this %s may cost > %s, its hard stop %s' % (
        standing.shown, window, spent, aside, dollars(at_rate(entry, standing.cost)),
        'sub-agent' if matches(tool, SPAWNERS) else 'tool', dollars(stop), cap)


def how_to_lift(budgets, standing, one=None):
    name = 'default' if is_path(standing.key) else standing.shown
    return 'To lift it, raise %s of %s in %s; that counts from the next call on.' % (
        CAP_KEYS[(one or standing.verdict.worst).window], name, printable(budgets.name, 300))


def next_tiers(standing, budgets):
    """'from $220.00 sub-agents, web and browsers are refused, from $300.00 everything', or ''."""
    one = standing.verdict.worst
    if standing.entry.action != 'hard_stop' or one.tier == 'halt':
        return ''
    if one.halt == one.grace:
        return 'from %s everything is refused' % dollars(one.halt)
    first = 'now on' if one.tier == 'hard_stop' else dollars(one.grace)
    what = 'sub-agents, web and browsers' if budgets.expensive_tools is None else 'expensive tools'
    rest = '' if one.halt is None else ', from %s everything' % dollars(one.halt)
    return 'from %s %s are refused%s' % (first, what, rest)


def describe_window(standing, one, budgets):
    """acme has spent $85.20 of its $200.00 cap this month (42 %: ok; an estimate at list price)"""
    percent = '-' if one.pct is None else format_percent(one.pct)
    nexts = next_tiers(standing, budgets) if one.tier not in ('ok', 'alert') else ''
    return '%s has spent %s of its %s cap %s (%s %%: %s; %s)%s' % (
        standing.shown, dollars(one.spent), dollars(one.cap),
        WINDOW_WORDS[one.window], percent, one.tier.replace('_', ' '), ESTIMATE,
        nexts and '; ' + nexts)


# ---- what a person should be told besides -------------------------------------------------------

# What transcripts of Claude Code behind one version and up to another can't tell, or its hooks
# can't do.
OLD_VERSIONS = (
    ('', '2.1.20', 'hold no output tokens, so their cost is not known'),
    ('2.1.20', '2.1.200', 'could go on after a halt, a billed call for each refusal'),
    ('2.1.200', '2.1.270', 'have no totals, so titles and compactions are not counted'))


def warnings_of(ledger, budgets, prices, reading, key=None):
    """[what the user should know]; with an arm's key no word of what may be another's."""
    keys = [key] if key else armed_keys(ledger, budgets)
    return [*log_warnings(ledger, budgets, prices, reading, key),
            *cap_warnings(ledger, budgets, key),
            *ungated(ledger, keys),
            *export_warnings(budgets, keys),
            *(() if key else version_warnings(ledger))]


def log_warnings(ledger, budgets, prices, reading, key):
    if not reading.files and not (budgets and budgets.spend_json):
        yield 'no session logs were found: is CLAUDE_CONFIG_DIR or CODEX_HOME what the agents ' \
            'have?'
    if reading.skipped:
        yield '%s could not be read and not counted' % counted(reading.skipped, 'log line')
    if reading.unreadable:
        first = '' if key else ', first %s (%s)' % reading.unreadable[0]
        yield '%s cannot be read%s, so no call that stands there is counted: give the owner ' \
            'read access' % (counted(len(reading.unreadable), 'log'), first)
    if reading.compressed:
        yield '%s (.jsonl.zst) cannot be read here and what they cost is not counted: unpack ' \
            'with `zstd -d`' % counted(reading.compressed, 'compressed log')
    unpriced = sorted(unpriced_models(ledger, prices, key))
    if unpriced:
        yield 'no price is known for %s: a fallback is assumed; add it to prices.json' \
            % ', '.join(map(printable, unpriced[:5]))
    # To look where all folders of the ledger really are takes long.
    unread = unmetered(os.environ, ledger.home) and list(map(printable, unmetered(
        os.environ, ledger.home, [path for path, in ledger.rows('select path from folders')])))
    if unread:
        yield '%s of logs that nobody named, so what they cost is not counted: %s; run ' \
            '`CLAUDE_CONFIG_DIR=~/.claude,%s budget-check.py` once (CODEX_HOME for Codex): it ' \
            'is read from then on' % (
                counted(len(unread), 'folder'), ', '.join(unread[:3]), unread[0])


def unpriced_models(ledger, prices, key):
    """Models without a price: all of the ledger's, or those that one arm used."""
    unknown = {name for name, in ledger.rows('select name from models') if not prices.known(name)}
    if unknown and key:
        unknown &= {name for name, in ledger.rows(
            'select distinct name from pairs join calls on pair = pairs.id '
            'join models on models.id = model where arm = ? and owned and assumed', key)}
    return set(map(model_name, unknown))


def export_warnings(budgets, keys):
    """A spend_json that is more than a day old, or in which an arm is missing."""
    path = budgets and budgets.spend_json
    if not path:
        return
    export = load_export(budgets)
    hours = int(time.time() - os.stat(path).st_mtime) // 3600
    if hours >= 24:
        yield 'spend_json is %d hours old, and what was spent since is not in it; write %s anew' \
            % (hours, path)
    missing = [printable(key, 60) for key in keys if key not in export]
    if missing:
        yield 'spend_json has no %s, which counts as nothing spent; add it to %s' % (
            ', '.join(missing), path)


def version_warnings(ledger):
    for before, latest, what in OLD_VERSIONS:
        number, = ledger.one("select count(*) from sessions where agent = 'claude-code' "
                             'and version > ? and version <= ?', padded(before), padded(latest))
        if number:
            yield '%s of Claude Code up to %s %s; upgrade it' % (
                counted(number, 'session'), latest, what)


# The gate leaves a mark at most every ten minutes. It was not asked in sessions that used tools
# later than theirs, or have none, since the arm's first mark.
UNGATED_SESSIONS = '''
    select count(*), begun from (select min(first) as begun from gates where arm = ?1)
    join sessions on tool_ts > begun join pairs on pairs.id = pair
    left join gates on gates.session = sessions.name and gates.arm = pairs.arm
    where pairs.arm = ?1 and tool_ts > coalesce(last, 0) + ?2'''


def ungated(ledger, keys):
    for key in keys:
        number, begun = ledger.one(UNGATED_SESSIONS, key, GATE_MARK_MS + 60000)
        if number:
            yield '%s in %s since %s used tools without the gate; `budget-check.py --doctor` ' \
                'may say why' % (counted(number, 'session'), printable(tails_of(key)[0], 60),
                             date_of(begun))


def counted(number, noun):
    return '%d %s%s' % (number, noun, '' if number == 1 else 's')


# ---- the gate: payload in, answer out -----------------------------------------------------------

GATE_SECONDS = 5.0               # for everything; the hook's own time-out is 10
PENDING_SECONDS = 0.25           # how long a response may take from the API to the transcript
GATE_MARK_MS = 10 * 60 * 1000    # how often the gate leaves a mark for a session
HEAD = 1 << 16                   # bytes of a transcript that say where its session began,
TAIL = 1 << 20                   # and those in which the response that asks for a tool stands

# Of all agents; a name counts in any case.
EXPENSIVE_TOOLS = SPAWNERS + (
    'WebSearch', 'WebFetch', 'web_search', 'google_web_search', 'web_fetch', '*playwright*',
    '*puppeteer*', 'mcp_*chrome*', 'mcp_*browser*', 'mcp_*computer-use*', 'CronCreate',
    'ScheduleWakeup', 'RemoteTrigger')
# With these a sub-agent hands over what it has: a hard stop leaves it them.
HANDING_OVER = ('StructuredOutput', 'SendMessage', 'TaskUpdate', 'TodoWrite')

# What an agent is about to do, whichever it is. event: a kind of EVENTS; agent: a sub-agent; own:
# its session's arm; form: how no is said; problem: why it can't be decided; refused_as: what a
# hard stop refuses it as.
Request = namedtuple(
    'Request', 'cli event tool tool_input tool_use_id session agent cwd transcript '
               'own form problem refused_as', defaults=('',) * 11)

# refused: it may not go on; reason: for the model; told: for the user; end: the turn ends, and the
# reason says all.
Answer = namedtuple('Answer', 'refused reason told end', defaults=(False,))
SILENCE = Answer(False, '', '')


# -- how each agent is asked and answered

# {event: (what is about to happen, how no is said to it, with the reason in it)}; '': by exit 2.
BLOCKS, DENIES = '{"decision": "block", "reason": %s}', '{"decision": "deny", "reason": %s}'
EVENTS = {
    'PreToolUse': ('tool', '{"hookSpecificOutput": {"hookEventName": "PreToolUse", '
                           '"permissionDecision": "deny", "permissionDecisionReason": %s}}'),
    'UserPromptSubmit': ('prompt', BLOCKS),
    'PreCompact': ('compact', ''),
    'preToolUse': ('tool', '{"permissionDecision": "deny", "permissionDecisionReason": %s}'),
    'permissionRequest': ('permission', '{"behavior": "deny", "message": %s, "interrupt": true}'),
    'userPromptSubmitted': ('prompt', BLOCKS),
    'BeforeTool': ('tool', DENIES),
    'BeforeAgent': ('prompt', DENIES),
    'BeforeModel': ('model', DENIES)}
ONE_TEXT = ('codex', 'copilot')  # for model and user; no refusal of a tool ends their turns


class Client(namedtuple('Client', 'agent file events handler')):
    """An agent as the gate knows it. file: its settings; events: what is wired in them, the one
    before a tool first; handler: how, with None for the command line."""

    def settings(self, environ, home):
        """The path of the settings that wire it."""
        moved = environ.get(self.agent.variable, '').split(',')[0].strip()
        return os.path.join(expand_home(moved or '~/' + self.agent.homes[0], home), self.file)


def handler_of(timeout, **more):
    return {'type': 'command', 'command': None, 'timeout': timeout, **more}


CLIENTS = {name: Client(AGENTS[name], *row) for name, row in {
    'claude-code': ('settings.json', ('PreToolUse', 'UserPromptSubmit', 'PreCompact'),
                    handler_of(10, onFailure='block')),
    'codex': ('hooks.json', ('PreToolUse', 'UserPromptSubmit'), handler_of(10)),
    'copilot': ('hooks/armledger.json',
                ('preToolUse', 'permissionRequest', 'userPromptSubmitted'),
                {'type': 'command', 'bash': None, 'timeoutSec': 10}),
    'qwen': ('settings.json', ('PreToolUse', 'UserPromptSubmit'), handler_of(10000)),
    'gemini': ('.gemini/settings.json', ('BeforeTool', 'BeforeAgent', 'BeforeModel'),
               handler_of(10000))}.items()}


def parse_request(text, agent):
    """The Request of a hook's payload, None for an event that isn't decided here; one that can't
    be read may be for any tool."""
    problem = ''
    try:
        payload = {**json.loads(text.decode('utf-8'))}
    except (TypeError, ValueError, RecursionError) as error:
        payload, problem = {}, 'the hook got no payload that it can read (%s)' % error
    cli = agent if agent in CLIENTS else 'codex' if 'turn_id' in payload else 'claude-code'

    def field(*names):
        return next(filter(None, (text_of(payload.get(name)) for name in names)), '')

    event, tool = field('hook_event_name', 'hookName'), field('tool_name', 'toolName')
    if cli == 'copilot' and not event:                     # its own form names few events
        event = 'preToolUse' if 'toolArgs' in payload else 'userPromptSubmitted'
    is_odd = tool and event not in EVENTS and not re.match('(?i)post|after|permission', event)
    if is_odd or problem:                                  # a tool passes under no odd name
        event = CLIENTS[cli].events[0]
    if event not in CLIENTS[cli].events:
        return None
    (kind, form), cwd = EVENTS[event], field('cwd') or os.environ.get('PWD', '')
    if cli == 'codex' and kind == 'prompt' or problem and not agent:
        form = ''
    return Request(
        cli, kind, tool, payload.get('tool_input', payload.get('toolArgs')), field('tool_use_id'),
        field('parentAgentId', 'session_id', 'sessionId'), field('agent_id', 'agentId'),
        cwd, field('transcript_path'), '', form, problem)


def reply(request, answer):
    """(exit code, stdout, stderr) that say an answer in the words of the agent that asks."""
    refused, reason, told, end = answer
    if refused and not end and (request.cli in ONE_TEXT or not request.form):
        reason, told = reason + ' ' + told, ''
    if refused and not request.form:
        return 2, '', reason
    out = json.loads(request.form % json.dumps(reason)) if refused else {}
    if told and not end and request.cli != 'copilot':      # which shows no messages
        out['systemMessage'] = told
    if end and request.event == 'tool' and request.cli not in ONE_TEXT:
        # Of Gemini's the stopReason is shown alone, of the others' beside the reason.
        out.update({'continue': False, 'stopReason': reason if request.cli == 'gemini' else told})
    return 0, json.dumps(out) if out else '', ''


def home_of(environ):
    return environ.get('HOME') or os.path.expanduser('~')


def matches(tool, patterns):
    """Exact names or globs, in any case: `Task` is not `TaskCreate`."""
    tool = tool.lower()
    for one in map(str.lower, patterns):
        # Most are told by their plain parts alone: no regular expression is compiled for them.
        if '[' in one or all(part in tool for part in one.replace('?', '*').split('*')):
            from fnmatch import fnmatchcase
            if fnmatchcase(tool, one):
                return True
    return False


def refused_as(request, budgets):
    """As what a hard stop refuses a tool: 'expensive', one of a 'sub-agent', or '' if it doesn't.
    A tool without a name may be expensive. A user's own list that leaves out what starts
    sub-agents leaves them their tools."""
    listed = budgets.expensive_tools if budgets else None
    if request.event != 'tool' or request.agent and request.tool == 'SendMessage':
        return ''
    if not request.tool or matches(request.tool, EXPENSIVE_TOOLS if listed is None else listed):
        return 'expensive'
    is_capped = listed is None or any(matches(one.strip('*'), listed) for one in SPAWNERS)
    is_ended = request.agent and request.tool not in HANDING_OVER
    return 'sub-agent' if is_ended and is_capped else ''


# -- the decision

def gate(text, environ, folder, agent=None):
    """Decide a hook's payload (bytes); (exit code, stdout, stderr).

    An error is decided too: where a cap could apply, what is expensive is refused (on_error: deny)
    and the rest passes with a message; where nothing is armed, all passes in silence."""
    home, budgets, keys = home_of(environ), None, ()
    if not agent and environ.get('COPILOT_CLI') == '1' and \
            os.path.exists(CLIENTS['copilot'].settings(environ, home)):
        return 0, '', ''         # a repo's hooks for Claude Code run in Copilot, which has its own
    request, path = parse_request(text, agent), find_ledger(None, environ, home)
    try:
        name = request and find_budgets(None, environ, folder, home)
        budgets = load_budgets(name, home) if name else None
        if budgets and budgets.armed():
            request, keys = keys_of(request, budgets, environ, home, path)
        if not keys:
            return 0, '', ''
        prices = load_prices(find_prices(None, environ, folder))
        # A unit of work takes half a second more than the ledger is given; so may what it holds.
        # It is left open: who ends at once needn't wait for SQLite's log to be copied.
        ledger = Ledger(path, home, GATE_SECONDS - 1)
        answer = decide(request, budgets, keys, ledger, prices, environ)
    except BaseException as error:
        answer = answer_error(error, request, budgets, path)
    if keys and request.event == 'tool' and not answer.refused:
        entry = entry_of(budgets, keys[0])
        answer = guard(request, budgets, entry, environ, folder, home) or answer
    return reply(request, answer)


def keys_of(request, budgets, environ, home, ledger_path):
    """(request, keys of the capped arms that decide it): its folder's, and that in which its
    session began, which no `cd` leaves. UserError where its repo says what decides about it."""
    if request.problem:
        raise UserError(request.problem)
    request, began, root = beginning(request)
    cwd = request.cwd or began
    if not cwd:
        raise UserError('the payload names no folder')
    place = resolve_place(cwd, home)
    for name in ('ARMLEDGER_BUDGETS', 'ARMLEDGER_PRICES', 'ARMLEDGER_HOME'):
        named = environ.get(name) and os.path.realpath(expand_home(environ[name], home))
        # A folder that is no client's, such as /tmp, may well hold them; so may the home.
        if named and (named + os.sep).startswith(place.root + os.sep) and (
                place.is_repo or place.root != os.path.realpath(home)
                and listed_in(budgets, place)):
            raise UserError('$%s names a file in the repo whose cap it decides about: keep it '
                            'elsewhere' % name, named)
    if (root or not began) and os.path.exists(ledger_path):
        # A fork or a sub-agent began where its family did; where no log is named, or it has
        # moved, the ledger knows.
        ledger = Ledger(ledger_path, home, GATE_SECONDS)
        row = ledger.one('select places.cwd from sessions join places on places.id = origin '
                         'where name = ? and places.id <> 0', root or request.session)
        began = row[0] if row else began
        ledger.close()
    origin = resolve_place(began, home) if began not in ('', cwd) else place
    here, own = arm_of(budgets, place, origin), arm_of(budgets, origin)
    keys = [key for key in dict.fromkeys((here, own)) if entry_of(budgets, key)]
    # What began in a folder that is no client's is no other client's session.
    own = own if origin.is_repo or own in keys else here
    return request._replace(own=own, refused_as=refused_as(request, budgets)), keys


def beginning(request):
    """(request, the folder in which its session began, its family's root or ''), as the head of
    its transcript says. It tells a sub-agent of Codex, too: a thread in another's session."""
    try:
        with open_plain(request.transcript) as stream:
            head = stream.read(HEAD)
    except (OSError, ValueError):
        return request, '', ''
    head = head[:head.rfind(b'\n') + 1]
    here = json.dumps(request.cwd, ensure_ascii=False)[1:-1].encode(errors='replace')
    if request.cli != 'codex' and {here} == set(re.findall(b'"cwd":"([^"]*)', head)):
        return request, request.cwd, ''    # it was nowhere else: no line need be parsed
    rows = AGENTS[request.cli].read(request.transcript, head, {}).sessions
    if not rows:
        return request, '', ''
    first = min(rows, key=lambda row: row.cwd_ts or OPEN)
    if request.cli != 'codex' or first.began is not None:
        return request, first.cwd, rows[-1].root
    thread = request.transcript[-42:-6]
    return request._replace(session=first.name, agent=thread), first.cwd, first.name


def decide(request, budgets, keys, ledger, prices, environ):
    """The Answer for a request of arms that have a cap."""
    now_ms = int(time.time() * 1000)
    set_zone(budgets.timezone)
    leave_mark(ledger, request, keys, now_ms)

    def look():
        return bring_up(ledger, request, budgets, keys, prices, environ, now_ms)
    try:
        reading, standings = look()
        usual = dearest_call(ledger, request)
        if first_stop(request, standings) != first_stop(request, standings, usual) and \
                wait_for_response(ledger, request):        # one more call may tip the scales
            reading, standings = look()
    except Exception:                      # what it has not read can only add to what it holds
        ledger.limit = time.monotonic()
        stop = first_stop(request, stand_all(ledger, request, budgets, keys, now_ms))
        if not stop:
            raise
        return refusal(ledger, request, budgets, *stop)
    for standing in standings:
        notify(ledger, budgets, standing, prices)
    stop = first_stop(request, standings)
    if not stop and request.refused_as == 'expensive':
        stop = ledger.write(lambda: reserve(ledger, request, standings, now_ms))
    if stop:
        return refusal(ledger, request, budgets, *stop)
    if request.event not in ('tool', 'prompt'):
        return SILENCE
    # What a command of one's own would warn of is told once a session.
    is_due = request.event == 'tool' and first_time(ledger, request.session, 'warned')
    warnings = warnings_of(ledger, budgets, prices, reading, keys[-1]) if is_due else []
    told = [describe_window(one, one.verdict.worst, budgets) for one in standings
            if one.verdict.tier != 'ok'
            and first_time(ledger, request.session, one.key, one.verdict.tier)]
    told += [printable(one, 600) for one in warnings]
    return Answer(False, '', ' '.join(map('armledger: {}.'.format, told)))


def leave_mark(ledger, request, keys, now_ms):
    """Note that the gate was asked in a session, unless it was lately or others are writing."""
    for key in keys if request.event == 'tool' else ():
        lately = ledger.one('select 1 from gates where session = ? and arm = ? and last between ? '
                            'and ?', request.session, key, now_ms - GATE_MARK_MS, now_ms)
        try:
            if not lately:
                ledger.write(lambda: ledger.db.execute(
                    'insert into gates (session, arm, first, last) values (?, ?, ?, ?) '
                    'on conflict (session, arm) do update set last = excluded.last',
                    (request.session, key, now_ms, now_ms)), 0.1)
        except sqlite().OperationalError:
            pass


def bring_up(ledger, request, budgets, keys, prices, environ, now_ms):
    """(Reading, standings) by all that is on disk; UserError where what was spent isn't known."""
    path = request.event == 'tool' and not budgets.spend_json and request.transcript

    def is_there():                        # or elsewhere: a worktree moves it
        return not path or is_own_file(path) or known_log(ledger, request)
    wait_until(is_there)
    reading = ledger.refresh(prices, environ, now_ms, named=(request.cli, request.transcript))
    for log, reason in () if budgets.spend_json else reading.unreadable:
        # It may be another client's: then its path is the operator's alone.
        is_own = request.transcript.startswith(log) or request.session and request.session in log
        raise UserError('a log cannot be read (%s), so what it cost is not known: give its owner '
                        'read access to it; `budget-check.py --doctor` names it' % reason,
                        log if is_own else None)
    if not is_there():
        raise UserError('the agent names a transcript that is not there, so what its session has '
                        'spent is not known: let it keep its sessions (no '
                        '--no-session-persistence)', path)
    return reading, stand_all(ledger, request, budgets, keys, now_ms)


def stand_all(ledger, request, budgets, keys, now_ms):
    """The standings of arms by what the ledger holds."""
    assign_arms(ledger, budgets)
    for key in keys:
        check_ambiguous(ledger, budgets, key)
    return [stand(ledger, budgets, key, now_ms, request=request) for key in keys]


def is_own_file(path):
    """Whether it is a plain file of this user's."""
    try:
        is_own = os.name == 'nt' or os.stat(path).st_uid == os.geteuid()
        return is_own and os.path.isfile(path)
    except (OSError, ValueError):
        return False


def known_log(ledger, request, agent=''):
    """The path of a session's log, or its sub-agent's, in any known folder; '' if none has it."""
    name = ('-' if request.cli == 'codex' else os.sep) + request.session + '.jsonl'
    if agent:
        name = os.sep + 'agent-' + agent + '.jsonl'
    row = ledger.one('select path from files where substr(path, ?) = ?', -len(name), name)
    return row[0] if row else ''


def wait_until(is_so):
    until = time.monotonic() + PENDING_SECONDS
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def wait_for_response(ledger, request):
    """Whether the response that asks for this tool has come, or comes into the transcript."""
    asked = request.tool_use_id.encode('utf-8', 'ignore')
    return bool(asked) and wait_until(lambda: asked in tail_of(ledger, request)[1])


def tail_of(ledger, request):
    """(where it begins, text) of the last of the log that the asking response comes into."""
    path = request.transcript
    if request.agent and request.cli == 'claude-code':     # a sub-agent's lies beside the main one
        path = known_log(ledger, request, request.agent)
    try:
        with open_plain(path or known_log(ledger, request)) as stream:
            start = stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            return start, stream.read()
    except (OSError, ValueError):
        return 0, b''


def first_stop(request, standings, more=0):
    """(standing, tier, window) that stops a request, had so much more been spent: of its session's
    own arm, then of its folder's. None if it passes; at 'room' it would get to its hard stop by
    what the tool may cost."""
    for standing in reversed(standings):
        entry, verdict = standing.entry, standing.verdict
        aside = standing.reserved + at_rate(entry, standing.cost)
        for one in (verdict.worst, *verdict.windows) if entry.action == 'hard_stop' else ():
            spent = one.spent + at_rate(entry, more)
            if one.halt is not None and spent >= one.halt:
                return standing, 'halt', one
            if request.refused_as and spent >= one.grace:
                return standing, 'hard_stop', one
            if request.refused_as == 'expensive' and spent + aside > one.grace:
                return standing, 'room', one
    return None


def refusal(ledger, request, budgets, standing, tier, one):
    """The Answer where an arm stops a request. A session of one client hears neither name nor
    figures of another's."""
    is_own, is_halt = standing.key == request.own, tier == 'halt'
    tool, arm = printable(request.tool or 'this tool', 60), standing.shown
    why = arithmetic(standing, one, tier, request.tool) if is_own else \
        'the arm that this folder belongs to is stopped'
    is_ended = is_halt and request.event == 'tool' and (
        request.cli not in ONE_TEXT or end_codex(ledger, request, budgets, standing, one, why))
    if not is_own:
        why = 'armledger: %s, so nothing more is spent in it. Do not retry here: go back to ' \
              'your own folder, or hand over to the user.' % why
        return Answer(True, why, why, is_halt)
    lift, nexts = how_to_lift(budgets, standing, one), next_tiers(standing, budgets)
    if is_halt:                  # it is said in full once; beside it stands a short sentence
        what = 'No prompt and no tool goes through'
        if request.event == 'tool':
            what = 'Every tool is refused%s. Do not retry' % (' and this turn ends' * is_ended)
        return Answer(True, 'armledger stopped %s: %s. %s. %s' % (arm, why, what, lift),
                      'armledger stopped %s at its halt.' % arm, True)
    left = 'Other tools still work: finish what you can, summarise, or hand over to the user.'
    if request.refused_as == 'sub-agent':
        left = 'No tool of a sub-agent works any more but those that hand over: end with what ' \
               'you have.'
    return Answer(
        True, 'armledger: %s, so %s is refused. Do not retry it or look for a way around it. %s'
        % (why, tool, left),
        'armledger refused %s: %s%s. %s' % (tool, why, nexts and '; ' + nexts, lift))


def reserve(ledger, request, standings, now_ms):
    """Set aside what the tool may cost, unless others have taken the room for it meanwhile: then
    the stop."""
    standings = [one._replace(reserved=set_aside(ledger, one.key, one.entry, now_ms))
                 for one in standings]
    stop, first = first_stop(request, standings), standings[0]
    if not stop and first.entry.action == 'hard_stop':
        goes_on = matches(request.tool, LASTING) or \
            part(request._asdict(), 'tool_input').get('run_in_background')
        ledger.db.execute('delete from running where ts < ?', (now_ms - RUNNING_MS,))
        ledger.db.execute(
            'insert or ignore into running (session, id, agent, arm, tool, ts, usd) '
            'values (?, ?, ?, ?, ?, ?, ?)',
            (request.session, request.tool_use_id or 'at %d' % time.time_ns(),
             None if goes_on else request.agent, first.key,
             request.tool if matches(request.tool, SPAWNERS) else '', now_ms, first.cost))
    return stop


def first_time(ledger, *key, note=0):
    """Whether this has not been told yet."""
    key = json.dumps(key)
    if ledger.one('select 1 from notices where key = ?', key):
        return False             # without a wait for others that write
    insert = 'insert or ignore into notices (key, ts) values (?, ?)'
    return ledger.db.execute(insert, (key, note)).rowcount > 0


# -- the rule for errors

def answer_error(error, request, budgets, ledger_path):
    """Where it can't be told what was spent: on_error decides what is expensive."""
    what, unknown = error_text(error, ledger_path), 'cannot tell what this arm has spent'
    tool = printable(request.tool or 'this call', 60)
    is_expensive = refused_as(request, budgets) == 'expensive'
    if is_expensive and (budgets is None or budgets.on_error == 'deny'):
        # What went wrong may name another arm's folder, which is not for the model.
        told = 'The user can run budget-check.py --doctor, which says why.' \
            if request.cli in ONE_TEXT else \
            'armledger refused %s, because it %s. %s' % (tool, unknown, what)
        return Answer(
            True, 'armledger %s, so %s is refused. Do not retry; go on with other tools, or hand '
            'over to the user.' % (unknown, tool), told)
    if request.event not in ('tool', 'prompt'):
        return SILENCE
    return Answer(False, '', 'armledger %s, and lets this pass. %s' % (unknown, what))


def error_text(error, ledger_path):
    if isinstance(error, sqlite().Error):
        error = ledger_error(ledger_path, error)
    text = str(error)
    if not isinstance(error, (UserError, SystemExit)):
        text = '%s: %s (a bug in armledger; `budget-check.py --doctor` may tell more)' % (
            type(error).__name__, text)
    return printable(text, 800)


# -- Codex at a halt: no hook of its ends a turn, and each refusal is a billed call

# The arguments of a Codex that is one session: options, then `exec`, `resume` or a prompt of
# several words, or nothing. A server hosts many sessions in one process.
CODEX_SESSION = r'''(?xs) [^\0]*\0
    (?! (?:.*\0)? (?:app-server|mcp-server|exec-server|mcp|cloud|proto|remote-control) \0)
    (?: -[^\0]*\0 (?:[^\0-][^\0]*\0)? )*
    (?: (?:exec|e|resume|fork)\0 | [^\0-][^\0]*[ ][^\0]*\0 | $ )'''


def end_codex(ledger, request, budgets, standing, one, why):
    """Send the Codex that asks one SIGINT, where a tool of a later response than the first refused
    one is refused; whether that was done."""
    if request.cli != 'codex' or os.name != 'posix' or budgets.halt_signal == 'never':
        return False
    halted = 'halt', request.session, standing.key, one.start, one.halt
    response = asking_response(ledger, request)
    first_time(ledger, *halted, note=response)
    first, = ledger.one('select ts from notices where key = ?', json.dumps(halted))
    process = codex_above() if response > first else None
    if not process or not first_time(ledger, 'signal', *halted):
        return False
    sys.stderr.write('armledger ends this Codex: %s. `codex resume %s` goes on once the cap is '
                     'raised.\n' % (why, printable(request.session, 60)))
    sys.stderr.flush()
    os.kill(process, 2)
    return True


def asking_response(ledger, request):
    """Which response asks for a tool: where in its log the usage before it stands. All that one
    response asks for stands before its own usage, though it may run long before that comes."""
    start, text = tail_of(ledger, request)
    usage = b'"token_usage_record"' if b'"token_usage_record"' in text else b'"token_count"'
    asked = request.tool_use_id.encode('utf-8', 'ignore') or b'\0'
    return start + text.partition(asked)[0].rfind(usage)


def codex_above():
    """The parent's process id if it surely is this user's `codex exec` or terminal client."""
    parent = os.getppid()
    try:
        os.kill(parent, 0)                 # may it be sent a signal?
        if os.path.isdir('/proc/self'):
            program = os.readlink('/proc/%d/exe' % parent)
            with open('/proc/%d/cmdline' % parent, 'rb') as stream:
                words = stream.read().decode()
        else:
            from subprocess import check_output
            said = check_output(['ps', '-o', 'comm=,args=', '-p', str(parent)])
            program, _, words = re.sub(r'\s+|$', '\0', said.decode().strip()).partition('\0')
    except (OSError, ValueError):
        return None
    is_codex = os.path.basename(program) == 'codex' and re.match(CODEX_SESSION, words)
    return parent if is_codex else None


# ---- tripwire: what an agent may not do to its own cap ------------------------------------------
#
# No sandbox: it catches what an agent tries when a cap is in its way. An edit is known by the file
# that it names. A shell command is refused if a word of it leads to what a cap rests on, unless
# that part of it and all that follow plainly read.

LOGS, WIRING = 'the session logs', 'the settings that wire the gate'
MOST_CHARACTERS, MOST_MOVES, MOST_LOOKS = 20000, 12, 1000      # what there is time for

# Tools are told by their names, in any agent and any MCP server alike.
SHELLS = 'bash shell exec monitor stdin'
EDITORS = 'write edit create move rename delete remove replace insert patch append'
COMMAND_KEYS = 'command cmd script chars input'.split()
PATH_KEYS = 'file_path notebook_path path relative_path source destination'.split()
PATCHED = r'(?m)^[ \t]*\*\*\* (?:Add File|Update File|Delete File|Move to):(.+)$'

# What the gate needs of an agent's settings, the user's and a project's: that hooks run, in
# surroundings that are the user's own, and that logs are kept.
AGENT_SETTINGS = r'''(?x) / \.(?:claude|codex|copilot|qwen|gemini)
    (?: /settings(?:\.local)?\.json | /config\.toml | /hooks\.json | /hooks/[^/]+\.json )? $'''
GUARDED_SETTINGS = ('hooks', 'hooksConfig', 'disableAllHooks', 'allowManagedHooksOnly',
                    'strictPluginOnlyCustomization', 'cleanupPeriodDays')
GUARDED_VARIABLES = r'''(?x) ARMLEDGER | CLAUDE_CONFIG | CLAUDE_CODE_S(?!UBAGENT) | \w*HOME$
    | USERPROFILE | LOCALAPPDATA | PATH$ | PYTHON | LD_ | DYLD_ | BASH_ | ENV$ | SHELL$ | ZDOTDIR
    | TZ$'''

# A gate that is killed, replaced or switched off; a clock that is moved.
LIFTS = r'''(?x) disableAllHooks | \bdate\s(?:-s|--set) | timedatectl\sset | \.make/install\.py
    | \bhwclock\s[^;|&]*(?:--set|\s-s\b) | \bfaketime\s
    | (?:pretooluse|budget-check) .{0,200} \bkill\b
    | \bp?kill(?:all)?\b (?: .{0,200} (?:pretooluse|budget-check)
                           | [^;&|\n]{0,200} \bpython[\d.]*\s?(?:[;&|)\n]|$) )
    | armledger [\s\S]{0,200} \bmake\s .{0,200} install | \bmake\s .{0,200} armledger .* install'''
LIFT_WORDS = 'disableAllHooks date kill install hwclock faketime'
# An agent that is started, and what may start it without its gate.
AGENT_NAMES = 'claude codex copilot qwen gemini'
AGENT_STARTS = r'''(?x) (?:^|[\s;&|(/])
    (?:claude(?:-code)?|codex|copilot|qwen(?:-code)?|gemini(?:-cli)?) (?=\s|$|@)'''
UNGATED = r'''(?x) \b(?:ARMLEDGER_\w+|CLAUDE_C\w+|\w*HOME|USERPROFILE|PATH)=(?!\$PATH)
    | \b(?:env\s-|unset\s|sudo\s|su\s) | hooks= | \s--(?:settings|setting-sources|bare|safe-mode
    |no-session-persistence|disable\shooks)\b'''
# Beside one of these a protected file's name is taken for that file.
BESIDE = r'\.(?:claude|codex|copilot|qwen|gemini)\b|armledger|\$[^\s$]*hooks'

# What a shell takes as one, from left to right: a comment; a message as Claude Code writes it, and
# a text in quotes in which nothing is run; what is quoted otherwise.
WHOLES = r'''(?x) (?P<comment> (?<!\S)\#.* )
    | (?P<literal> "\$\(cat\ <<'EOF'\n [\s\S]{0,5000}? \nEOF\n\s*\)" | '[^']*' )
    | \\[\s\S] | \$'(?:[^'\\]|\\[\s\S])*' | "(?:[^"\\]|\\[\s\S])*" '''
QUOTES = dict.fromkeys(map(ord, '"\'\\'))
WORD_ENDS = r'[\s;|&<>()`=,:}]+'
# How a command gets to other folders, and what takes a folder with all that lies below it.
GOES_TO = r'(?:\bcd|\bpushd|\s-C|--directory)\b(?:\s-\S*)*[ =]?([^\s;&|)]*)'
TAKES_WHOLE = r'''(?x) \s-(?:delete|exec|ok|fprint) | (?<![\w.-]) (?:
    (?:rm|rmdir|mv|shred|trash|chmod|chown|chgrp|rsync|tar|unzip|cpio|patch)\s
    | (?:cp|ln|install|scp)\s .{0,200} -\w*[rRa] )'''

# Three ways to write a file; the first two are put in the words of the third.
COPIES = r'(?<![\w.-])cp (?:-[pfv]+ )?([^\s-]\S*) ([^\s-]\S*)(?= ?(?:[;&|\n]|$))'
PUTS_OUT = r'\s(?:--o(?:u\w*)?|-\w*o)[= ]+(?=[\w./])'
REDIRECTS = r'[\d&]?>>?[|&]?\s?([\w./+@-]+)(?=[\s;|&)]|$)'

# Simple commands that plainly read, unless something in them writes or runs another. What is put
# in front (`do`, `sudo`, `xargs`) reads if what follows does.
READS = r'''(?x) [\s({]* (?: (?:do|then|else|if|while|sudo|time|xargs(?:\s-\w+)*) (?:\s+|$) )*
    (?: [\s)}]*$ | \w+=\S*\s?$
    | (?:cat|head|tail|grep|egrep|fgrep|rg|ls|stat|file|diff|cmp|du|wc|jq|sha256sum|md5sum|shasum
        |realpath|readlink|basename|dirname|test|\[|\[\[|echo|printf|sort|cut|tr|nl|find|cd|pwd
        |true|false|which|type|for|read|done|fi) (?:\s|$)
    | git\s(?:log|show|diff|status|add|commit|grep|blame|rm\s--cached)\b
    | gh\s(?:pr|issue)\s(?:create|comment|view|list)\b
    | uniq(?:\s-\w+)*\s?$ | sed\s-n\s[\d,$]+p(?!.*\s-)\s | mkdir\s(?:-p\s)?\.claude\s?$
    | \S*python[\d.]*\s-m\sjson\.tool\s\S+\s?$ )'''
ASKS_GATE = r'''(?x) (?!.*\s--r) \s* (?: \S*python[\d.]*\s (?:-[ISBEuO]+\s)* )?
    (\S*(?:budget-check|cost-report)\.py) (?:\s|$)'''
WRITES = r'''(?x) [`>] | \$\( | <\( | <<
    | \s-(?:delete|exec|ok|fprint|fls|-pre|-hostname-bin|-com|-op|\w*O)'''


class Protected:
    """What a cap rests on: {real path: what it is}, each with all that lies below it."""

    def __init__(self, budgets, environ, folder, home):
        """`folder`: where the scripts lie."""
        paths = {find_prices(None, environ, folder): 'the price list',
                 os.path.dirname(find_ledger(None, environ, home)): 'the ledger'}
        for name in ('budget-check.py', 'cost-report.py', 'pretooluse-hook.py', '__pycache__'):
            paths[folder + '/' + name] = 'the gate'
        for path in (budgets.name, budgets.spend_json or budgets.name,
                     folder + '/budgets.yaml', home + '/.claude/budgets.yaml'):
            paths[path] = 'the caps'
        for name, agent in AGENTS.items():
            paths.update(dict.fromkeys(agent.roots(environ, home), LOGS))
            paths[CLIENTS[name].settings(environ, home)] = WIRING
        self.home = home
        self.paths = {os.path.realpath(path).lower(): what for path, what in paths.items()}
        self.names = {os.path.basename(path) for path, what in self.paths.items() if what != LOGS}

    def what(self, path, is_taken):
        """What a path leads to, '' if to nothing. A `*` in it is whatever a shell may put there.

        What lies in a folder counts; if is_taken() tells that the folder is taken whole, all below
        it does."""
        folded = os.path.realpath(path).lower()
        for known, what in self.paths.items():
            is_inside = (folded + '/').startswith(known + '/')
            if is_inside and not re.search('/(?:memory|tool-results)/', folded):
                return what
            if known.startswith(folded.partition('*')[0]):
                below = '.*' if is_taken() else '[^/]*'
                pattern = re.escape(folded).replace(r'\*', below) + '(?:/%s)?$' % below
                if re.match(pattern, known):
                    return what
        return WIRING if '/.' in folded and re.search(AGENT_SETTINGS, folded) else ''


def has(words, text):
    """Whether a text has one of some words: told first, since to compile a pattern takes longer
    than to look through most commands."""
    return any(word in text for word in words.split())


def guard(request, budgets, entry, environ, folder, home):
    """The refusal of a tool that would lift the cap it runs under; None if it wouldn't."""
    tool = request.tool.rpartition('__')[2].lower()
    is_shell = has(SHELLS, tool)
    if not (is_shell or has(EDITORS, tool)) or entry.action != 'hard_stop':
        return None
    try:
        found = tampering(request, is_shell, Protected(budgets, environ, folder, home))
    except BaseException:    # what can't be told is refused; so is what a signal ends
        found = 'files', 'its input has a form that is not known'
    return answer_tampering(request, entry, is_shell, found) if found else None


def tampering(request, is_shell, protected):
    """(what a tool may change, the word that leads to it); None if nothing."""
    values = request.tool_input
    if type(values) is not dict:
        values = {'command': values}
    commands = [values[key] for key in COMMAND_KEYS if values.get(key)]
    text = '\n'.join(map(command_text, commands))
    if is_shell:
        folder = os.path.join(request.cwd, values.get('workdir') or '')
        return shell_tampering(text, folder, protected)
    paths = [values[key] for key in PATH_KEYS if values.get(key)]
    for path in paths + re.findall(PATCHED, text) if text else paths:
        path = os.path.join(request.cwd, expand_home(path.strip(), protected.home))
        what = protected.what(path, lambda: True)
        if what and (what != WIRING or changes_settings(path, values)):
            return what, path
    return None


def command_text(command):
    """A command, or its words: Codex may send ['bash', '-lc', a command]."""
    if type(command) is not list:
        return str(command)
    return ' '.join(map(str, command[2:] if command[1:2] == ['-lc'] else command))


def changes_settings(path, values):
    """Whether an edit changes what the gate needs of an agent's settings; if in doubt, it does."""
    before = read_text(path, 1 << 20) if os.path.exists(path) else '{}'
    after = values.get('content')
    if after is None:
        after = before
        for edit in values.get('edits') or [values]:
            if 'old_string' not in edit:
                return True
            after = after.replace(edit['old_string'], edit['new_string'][:MOST_CHARACTERS])
    return guarded_settings(before) != guarded_settings(after)


def guarded_settings(text):
    try:
        settings = json.loads(text.lstrip('\ufeff'))
        surroundings = {name: value for name, value in part(settings, 'env').items()
                        if re.match(GUARDED_VARIABLES, name)}
        return surroundings, [settings.get(name) for name in GUARDED_SETTINGS]
    except (ValueError, AttributeError):
        return re.findall(r'hooks[\s\S]*', text)           # TOML: all from their first mention on


def shell_tampering(text, cwd, protected):
    """(what a command may change, the word that leads to it); None if no word does, or if all from
    there on plainly reads."""
    unquoted = text.translate(QUOTES)
    names = [name for name in protected.names if name in unquoted]
    plain = plain_command(text[:MOST_CHARACTERS], protected.home)
    folders = [cwd]
    for target in re.findall(GOES_TO, plain):
        known = folders[:MOST_MOVES - len(folders)]
        folders += [os.path.join(folder, target or protected.home) for folder in known]
    takes = lru_cache(None)(lambda: re.search(TAKES_WHOLE, plain))

    @lru_cache(None)
    def leads(word):
        word = re.sub(r'(?:\{.*|\$\w*|\[.*|[?*])+', '*', word)
        for folder in folders:
            what = word.strip('/') and protected.what(os.path.join(folder, word), takes)
            if what:
                return what
        return ''

    def found_in(part):
        for word in re.split(WORD_ENDS, part):
            if leads(word):
                return leads(word), word
        near = [name for name in names if name in part and re.search(BESIDE, part)]
        return near and ('files', near[0])

    lifts = LIFTS + r' | \bmake\s.*install' * any(
        os.path.exists(folder + '/.make/install.py') for folder in folders)
    escape = has(LIFT_WORDS, plain) and re.search(lifts, plain) or \
        has(AGENT_NAMES, plain) and re.search(AGENT_STARTS, plain) and re.search(UNGATED, plain)
    found = escape and ('whether the gate runs', escape.group())
    looks = len(set(re.split(WORD_ENDS, plain))) * len(folders)
    if looks > MOST_LOOKS or len(text) > MOST_CHARACTERS:
        names += re.findall(BESIDE, unquoted)
        return found or names and ('files', 'a long command that names %s' % names[0])
    if not found and not found_in(plain):
        return None
    # What goes to a file that isn't protected changes nothing.
    plain = re.sub(PUTS_OUT, ' > ', re.sub(COPIES, r'cat \1 > \2', plain))
    plain = re.sub(REDIRECTS, lambda to: to.group() if found_in(to.group(1)) else '', plain)
    for part in re.split(r'[;|&\n]+', plain):
        found = found or found_in(part)
        if found and not reads(part, leads):
            return found
    return None


def plain_command(text, home):
    """A command without quotes and comments; what was quoted separates nothing."""
    def plain(whole):
        inside = whole.group().translate(QUOTES)
        separators = r'[;|&<>\n`(]' if whole['literal'] else r'[;|&<>\n]'
        return '' if whole['comment'] else re.sub(separators, ' ', inside)
    text = text.replace('\0', '')
    if has('" \' \\ #', text):
        text = re.sub(WHOLES, plain, text)
    text = re.sub(r'[^\S\n]+', ' ', text)
    text = re.sub(r'(\s-\w)(?=[/~$])', r'\1 ', text)       # -C~/folder
    return re.sub(r'\$\{?HOME\b\}?|(?<![^\s=:,(<>|&;])~(?=[/\s;|&)]|$)', lambda _: home, text)


def reads(part, leads):
    """Whether a simple command plainly reads, or asks the gate's own scripts something."""
    asked = re.match(ASKS_GATE, part)
    is_reader = re.match(READS, part) or asked and leads(asked.group(1)) == 'the gate'
    return is_reader and not re.search(WRITES, part)


def answer_tampering(request, entry, is_shell, found):
    what, word, tool = found[0], printable(found[1], 300), printable(request.tool, 60)
    reason = 'armledger: this may change %s (%s), which the cap of %s rests on, so %s is ' \
        'refused. Do not retry it or look for a way around it; if it is needed, ask the user to ' \
        'do it.%s'
    hint = ' A command that names such files may do nothing but read (cat, grep, ls, jq, ... ' \
        'joined by pipes, && or ;), without redirection to them, loop or substitution.'
    told = 'armledger refused %s, which may change %s (%s). If you want that, do it yourself, ' \
        'outside of the agent.'
    reason %= what, word, printable(entry.arm or 'this repo', 60), tool, hint if is_shell else ''
    return Answer(True, reason, told % (tool, what, word))


# ---- alerts that reach a person -----------------------------------------------------------------

NOTIFY_FAILURES = 'notify-failures.jsonl'

# Runs the command by itself, long after its starter is gone. The command is the user's own text;
# all that is told goes to its standard input: nothing from logs or names is in a command line. One
# that takes longer than a minute is ended, and has failed.
NOTIFIER = '''
import json, subprocess, sys, time
command, path = sys.argv[1:]
notice = sys.stdin.buffer.read()
try:
    code = subprocess.run(command, shell=True, input=notice, timeout=60, stdout=-3,
                          stderr=-3).returncode
except subprocess.TimeoutExpired:
    code = 'no end in 60 s'
except BaseException as error:
    code = type(error).__name__
if code:
    failure = {**json.loads(notice), 'ts': int(time.time() * 1000), 'code': code}
    with open(path, 'a') as stream:
        stream.write(json.dumps(failure) + '\\n')
'''


def notify(ledger, budgets, standing, prices):
    """Run the arm's notify command for each window that has come to a tier above ok, once."""
    command = standing.entry.notify or budgets.notify
    for one in standing.verdict.windows if command else ():
        key = 'notify', standing.key, one.window, one.start, one.tier
        if one.tier != 'ok' and first_time(ledger, *key):
            start_notifier(command, ledger, {
                **verdict_json([standing], budgets, prices, []), 'arm': standing.key,
                'tier': one.tier, 'window': one.window,
                'text': 'armledger: %s.' % describe_window(standing, one, budgets)})


def start_notifier(command, ledger, notice):
    """It is started and left alone: the caller waits for neither its work nor its end."""
    import subprocess
    path = os.path.join(os.path.dirname(ledger.path), NOTIFY_FAILURES)
    try:
        runner = subprocess.Popen(
            [sys.executable or 'python3', '-IS', '-c', NOTIFIER, command, path],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd=ledger.home,       # never a client's repo
            creationflags=0x8 | 0x200 if os.name == 'nt' else 0)       # detached, in its own group
        runner.stdin.write(format_json(notice).encode('utf-8', 'replace') + b'\n')
        runner.stdin.close()               # it fits into a pipe
        runner.returncode = 0              # it outlives us: there is nothing to wait for
    except (OSError, ValueError) as error:
        failure = {**notice, 'ts': int(time.time() * 1000), 'code': type(error).__name__}
        with open(path, 'a') as stream:
            stream.write(json.dumps(failure) + '\n')


def notify_failures(ledger, keys):
    """Warnings for notify commands of some arms that failed since last asked."""
    try:
        with open(os.path.join(os.path.dirname(ledger.path), NOTIFY_FAILURES), 'rb') as stream:
            lines = stream.readlines()
    except OSError:
        return []
    return ['the notify command of %s failed (exit code %s) at %s, when the arm came to %s; see '
            'what it says: echo "{}" | COMMAND'
            % (printable(one['arm'], 60), one['code'], format_time(one['ts']), one['tier'])
            for number, line in enumerate(lines) for one in parse_records(line)
            if one.get('arm') in keys and first_time(ledger, 'notify failed', number, one['ts'])]


# -- Claude Code's status line

STATUS_SECONDS = 2.0             # a line that comes later is of no use


def statusline(options=None):
    """Print one short line for the payload on stdin, empty where no cap applies; exit code 0."""
    options = options or parse_options(['--statusline'])
    try:
        standing = standing_of_status(options)
        line = format_status(standing, 'NO_COLOR' not in os.environ) if standing else ''
    except Exception as error:
        line = 'armledger: ? ' + printable(error_text(error, options.ledger), 160)
    sys.stdout.buffer.write(line.encode('utf-8', 'replace') + b'\n')
    sys.stdout.buffer.flush()
    return 0


def standing_of_status(options):
    """The standing of the arm that a session is in, or began in; None where no cap applies."""
    text = b'' if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    payload = (parse_records(text) + [{}])[0]
    if not payload:
        raise UserError("Claude Code's status-line JSON is expected on stdin")
    path = find_budgets(options.budgets, os.environ, HERE, options.home)
    if not path:
        return None
    budgets = load_budgets(path, options.home)
    cwd = text_in(part(payload, 'workspace'), 'current_dir') or text_in(payload, 'cwd')
    request = Request('claude-code', 'status', session=text_in(payload, 'session_id'),
                      cwd=cwd or os.getcwd(), transcript=text_in(payload, 'transcript_path'))
    request, keys = keys_of(request, budgets, os.environ, options.home, options.ledger)
    if not keys:
        return None
    set_zone(budgets.timezone)
    prices = load_prices(options.prices)
    ledger = Ledger(options.ledger, options.home, STATUS_SECONDS)
    return bring_up(ledger, request, budgets, keys, prices, os.environ, options.now_ms)[1][0]


def format_status(standing, colour):
    """acme $85.20 of $200.00 this month ####...... 42 % ok"""
    one, aside = standing.verdict.worst, standing.reserved
    percent = '-' if one.pct is None else format_percent(one.pct) + ' %'
    line = '%s %s of %s %s %s %s %s' % (
        printable(standing.name, 30), dollars(one.spent), dollars(one.cap),
        WINDOW_WORDS[one.window], bar(one.spent, one.cap, 10), percent,
        one.tier.replace('_', ' '))
    if aside:
        line += ' (%s held)' % dollars(aside)
    return '\033[%sm%s\033[0m' % (TIER_COLOURS[one.tier], line) if colour else line


# ---- doctor: would the cap really hold here? ----------------------------------------------------
#
# One list of (about, what is said, its cure: '' where all is well). Its heart is a live test: each
# command line that is wired runs as its agent would run it, in an arm that is over its cap, and
# has to refuse. No list of what turns a gate off is complete, but the ledger sees sessions that
# used tools without it, whatever the cause.

def doctor(options):
    """Print whether the cap would hold here, with cures; exit code 0, or 1 with findings."""
    found = 0
    for about, said, cure in findings(options):
        print('%s  %-10s %s' % ('!!' if cure else 'ok', about, printable(said, 600)))
        if cure:
            found += 1
            print('%14s -> %s' % ('', printable(cure, 600)))
    print(counted(found, 'finding') + '.' if found else 'The cap holds here.')
    return int(found > 0)


def findings(options):
    """(about, said, cure) of all that is looked at."""
    folders = [os.curdir]                  # in which agents look for a project's settings
    for check in (check_figures(options, folders), check_projects(options.home, folders),
                  check_agents(options.home)):
        try:
            yield from check
        except Exception as error:         # a check that fails stops no other
            yield 'error', error_text(error, options.ledger), 'mend that, then run this again'


# ---- doctor: budgets, prices, ledger, logs ------------------------------------------------------

PRICES_AGE_DAYS = 60
CLOCK_SLACK_MS = 10 * 60 * 1000


def check_figures(options, folders):
    """What is capped and metered, and all that a person's own command would warn of; those of
    capped arms are added to `folders`."""
    budgets, prices, ledger, reading = load_all(options)
    folders += arm_folders(ledger, budgets)
    yield 'budgets', budgets.name, ''
    if budgets.on_error == 'allow':
        yield ('budgets', 'on_error: allow lets expensive tools run while spend cannot be known',
               'write on_error: deny')
    days = (options.now_ms - parse_time(prices.as_of + 'T00:00:00Z')) // 86400000
    old = "compare them with the vendors' pages, or take a newer armledger"
    yield ('prices', '%s: as of %s, %d days ago' % (prices.path, prices.as_of, days),
           old * (days > PRICES_AGE_DAYS))
    health, = ledger.one('pragma quick_check(1)')
    yield ('ledger', '%s: %s, %s' % (ledger.path, health, counted(reading.files, 'log file')),
           'budget-check.py --rebuild makes it anew from the logs' * (health != 'ok'))
    newest = ledger.one('select max(ts) from calls')[0] or 0
    if newest > options.now_ms + CLOCK_SLACK_MS:
        yield ('clock', 'it is %s here, before the newest call that is metered, of %s' % (
            format_time(options.now_ms), format_time(newest)),
               'set the clock: by it days, weeks and months begin')
    check_ambiguous(ledger, budgets)
    for warning in warnings_of(ledger, budgets, prices, reading):
        said, _, cure = warning.rpartition('; ' if '; ' in warning else ': ')
        yield 'logs', said or warning, cure if said else ''
    ledger.close()


def arm_folders(ledger, budgets):
    """The folders of capped arms that are here, and those in which their sessions began."""
    from glob import glob
    began = ledger.rows_in('select cwd, root from pairs join places on places.id = origin '
                           'where arm in (%s)', armed_keys(ledger, budgets))
    listed = [glob(one.path) for one in budgets.patterns]
    return [path for paths in listed + began for path in paths]


# Where logs of other profiles of Claude Code and Codex lie, and of Claude's desktop app.
UNNAMED_LOGS = ('.claude*/projects', '.codex*/sessions', '.config/Claude/*/*/*/*/.claude/projects',
                'Library/Application Support/Claude/*/*/*/*/.claude/projects')


def unmetered(environ, home, folders=()):
    """Folders that hold such logs and that nobody reads; `folders` are those that the ledger
    knows, which it goes on reading."""
    from glob import escape, glob
    roots = [root for agent in AGENTS.values() for root in agent.roots(environ, home)]
    known = set(map(os.path.realpath, [*roots, *folders]))
    return [os.path.dirname(path) for pattern in UNNAMED_LOGS
            for path in sorted(glob(os.path.join(escape(home), pattern)))
            if os.path.realpath(path) not in known]


# ---- doctor: the agents' settings ---------------------------------------------------------------

USER_SETTINGS = 'settings*.json', 'hooks.json', 'hooks/armledger.json', 'config.toml'
PROJECT_SETTINGS = ('.claude/settings*.json', '.qwen/settings.json', '.gemini/settings.json',
                    '.github/copilot/settings.json')
MANAGED_SETTINGS = [folder + name for folder in (
    '/etc/claude-code', '/Library/Application Support/ClaudeCode', 'C:/ProgramData/ClaudeCode',
    'C:/Program Files/ClaudeCode')
    for name in ('/managed-settings.json', '/managed-settings.d/*.json')]
OFF_SWITCHES = ('disableAllHooks', 'allowManagedHooksOnly', 'strictPluginOnlyCustomization',
                'disabled', 'hooks = false')
PERMISSION_MODES = (None, 'default', 'acceptEdits', 'plan', 'bypassPermissions', 'dontAsk', 'auto',
                    'delegate')
CODEX_OFF = r'(?m)^\s*(?:features\.)?(?:codex_)?hooks\s*=\s*false'
OFF_VARIABLES = 'CLAUDE_CODE_S(?:IMPLE|KIP_PROMPT_HISTORY)$'


def check_projects(home, folders):
    """What a repo sets for hooks. It may be a client's, who has no say in where the gate looks."""
    from glob import escape, glob
    for folder in sorted({*map(os.path.realpath, folders)} - {os.path.realpath(home)}):
        for pattern in PROJECT_SETTINGS:
            for path in sorted(glob(os.path.join(escape(folder), pattern))):
                yield from check_settings(path, GUARDED_VARIABLES, [])


def check_settings(path, guarded, gates):
    """What a settings file does to the gate. `gates` gets how it runs it: (event, command line,
    all that is said of it there)."""
    try:
        text = read_text(path, 1 << 20).strip('\ufeff\r\n\t ')
        if path.endswith('.toml'):
            settings = {'hooks = false': re.search(CODEX_OFF, text)}
        else:
            settings = {**json.loads(text or '{}')}
    except (UserError, ValueError, TypeError, RecursionError) as error:
        said = '%s is no JSON object, so its agent ignores all of it: %s' % (path, error)
        yield 'hooks', said, 'mend the file'
        return
    for said, cure in settings_faults(settings, guarded):
        yield 'hooks', '%s %s' % (path, said), cure
    for event, groups in part(settings, 'hooks').items():
        gates += [(event, *one) for one in gates_in(groups)]


def settings_faults(settings, guarded):
    """(what, cure) of what is known to turn the gate off, or to bend it."""
    switches = {**settings, **part(settings, 'hooksConfig')}
    off = [name for name in OFF_SWITCHES if switches.get(name)]
    off += ['enabled: false'] * (switches.get('enabled') is False)
    if off:
        yield ('turns hooks off (%s)' % ', '.join(off),
               'take that out of it, or ask who manages it to add the gate there')
    bent = ', '.join(name for name in sorted(part(settings, 'env')) if re.match(guarded, name))
    if bent:
        yield ('sets %s for hooks as well: the gate is off, or may look at other files' % bent,
               'take that out of its "env"')
    days = settings.get('cleanupPeriodDays', 30)
    mode = part(settings, 'permissions').get('defaultMode')
    if type(days) is not int or days < 1 or type(settings.get('model', '')) is not str or \
            mode not in PERMISSION_MODES:
        yield ('has a "model", "defaultMode" or "cleanupPeriodDays" that is not valid, so its '
               'agent may ignore all of it, hooks too', 'correct that value')
    elif days < 7:
        yield ('deletes transcripts after %s days, so what was not metered by then is lost' % days,
               'set cleanupPeriodDays to 30 or more')


def gates_in(groups, outer=()):
    """(command line, all that is said of it) of all that runs the gate, in any shape."""
    for one in groups if type(groups) is list else ():
        if type(one) is dict:
            settings = dict(outer, **one)
            command = str(one.get('command') or one.get('bash'))
            if 'pretooluse-hook.py' in command:
                yield command, settings
            yield from gates_in(one.get('hooks'), settings)


# ---- doctor: the agents -------------------------------------------------------------------------

LIVE_ARM = 'armledger-live-test'
LIVE_BUDGETS = 'budgets:\n  - arm: %s\n    path: %s\n' \
               '    monthly_usd_cap: 0.01\n    halt_pct: never\n'
LIVE_CALL = '{"type": "assistant", "sessionId": "live", "cwd": %s, "timestamp": "%s", "message":' \
            ' {"id": "x", "model": "claude-sonnet-4-5", "usage": {"output_tokens": 1000000}}}\n'


def check_agents(home):
    """How each agent that is here runs the gate, at each of its events; and the live test."""
    from glob import escape, glob
    for agent, client in CLIENTS.items():
        own = client.settings(os.environ, home)
        folder = re.sub(r'[/\\](?:hooks[/\\])?[^/\\]+$', '', own)
        if agent != 'claude-code' and not os.path.isdir(folder):
            continue
        title, faults, gates = AGENTS[agent].title, [], []
        patterns = MANAGED_SETTINGS * (agent == 'claude-code')
        patterns += [os.path.join(escape(folder), name) for name in USER_SETTINGS]
        for pattern in patterns:
            for path in glob(pattern):
                yield from check_settings(path, OFF_VARIABLES, gates)
        for event in client.events:
            wired = [weaknesses(*one, client) for at, *one in gates if at == event]
            least = min(wired, key=len, default=['the gate is not run'])
            faults += ['%s: %s' % (event, one) for one in least]
        well = 'runs the gate at ' + ', '.join(client.events)
        well += '; it does once you trust it: type /hooks in Codex' * (agent == 'codex')
        yield ('hooks', '%s %s' % (title, '; '.join(faults) or well),
               'run `make install`' * bool(faults))
        for command in sorted({command for at, command, _ in gates if at == client.events[0]}):
            said, cure = try_live(agent, client, command)
            yield 'live test', '%s: a sub-agent of an arm over its cap %s' % (title, said), cure


def weaknesses(command, settings, client):
    """Where a gate differs from the one that is installed, unless it only has more time."""
    found = []
    if '-IS' not in command:
        found.append("without -IS a client's repo could change what Python loads")
    for name, want in {'matcher': '*', 'if': None, 'async': None, **client.handler}.items():
        value = settings.get(name)
        if type(want) is int and (value is None or type(value) is int and value > want):
            value = want                   # a time-out: without one it has longer
        if name == 'matcher' and value in ('.*', '', None):
            value = want
        if value not in (want, command):
            found.append('%s is %s, not %s' % (name, json.dumps(value), json.dumps(want)))
    return found


def try_live(agent, client, command):
    """(what happens to a sub-agent of an arm over its cap, the cure: '' if it was refused)."""
    began = time.monotonic()
    code, text = run_live(agent, client, command)
    # The refusal has to be of this arm, for its spend, and in the form that this agent obeys.
    form = json.loads(EVENTS[client.events[0]][1] % '"-"')
    if LIVE_ARM + ' has spent' in text and all('"%s":' % key in text for key in form):
        return 'was refused, in %d ms' % ((time.monotonic() - began) * 1000), ''
    words = ' '.join(text.split())[-450:] or 'silence'
    return ('was NOT refused by the budget (exit code %s; %s)' % (code, words),
            'mend what is found above; if nothing is, run `make install` again')


def run_live(agent, client, command):
    """(exit code, output) of a command line, with budgets, a log and a ledger of its own: nothing
    of the user's is read or written, but the scripts and prices."""
    import subprocess
    from pathlib import Path
    from tempfile import TemporaryDirectory
    with TemporaryDirectory(prefix='armledger-') as home:
        arm, budgets = home + '/projects/x', Path(home, 'budgets.yaml')
        quoted, now = json.dumps(arm), format_time(time.time() * 1000)
        os.makedirs(arm)
        budgets.write_text(LIVE_BUDGETS % (LIVE_ARM, quoted))
        Path(arm, 'live.jsonl').write_text(LIVE_CALL % (quoted, now))
        environ = {**os.environ, **{one.variable: home + '/none' for one in AGENTS.values()},
                   'CLAUDE_CONFIG_DIR': home, 'ARMLEDGER_HOME': home,
                   'ARMLEDGER_BUDGETS': str(budgets)}
        payload = {'session_id': 'live', 'cwd': arm, 'hook_event_name': client.events[0],
                   'tool_name': EXPENSIVE_TOOLS[0]}
        if agent == 'codex':
            payload['turn_id'] = 'live'
        try:
            done = subprocess.run(
                command, shell=True, input=json.dumps(payload), env=environ, cwd=arm, timeout=10,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
                errors='replace')
            return done.returncode, done.stdout
        except subprocess.TimeoutExpired:
            return 'none', 'no answer within its time'


# ---- command line -------------------------------------------------------------------------------

HERE = os.path.dirname(os.path.realpath(__file__))
HELP = """%s
  ARM               a path in an arm, or its name; none: every armed arm
  --json            print the verdict as JSON
  --doctor          say whether the cap would really hold here; exit 1 with findings
  --rebuild         re-read all logs; calls whose logs are gone are kept
  --statusline      one line for Claude Code's status line; its JSON on stdin
  --budgets FILE    instead of budgets.yaml
  --prices FILE     instead of prices.json
  --ledger FILE     instead of the usual ledger
  --now TIME        look at the windows that hold this ISO 8601 time: 2026-10-31T23:59:59Z
  --version         show the version
  --help            show this""" % __doc__


def main(argv):
    """Exit code: 0, 2 when an arm is at its hard stop, 1 when it could not be told."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors='backslashreplace')      # names must not fail in a plain locale
    commands = {
        '--doctor': doctor, '--rebuild': rebuild, '--statusline': statusline,
        '--help': lambda _: print(HELP), '--version': lambda _: print('armledger ' + RELEASE)}
    try:
        options = parse_options(argv)
        code = commands.get(options.command, check)(options)
        if sys.stdout:                     # it may be closed
            sys.stdout.flush()
        return code
    except (BrokenPipeError, KeyboardInterrupt):           # whoever asked has seen enough
        problem = ''
    except (UserError, OSError) as error:
        problem = str(error)
    except sqlite().Error as error:
        problem = error_text(error, options.ledger)
    sys.stdout = None            # what can't be written, as to a full disk, isn't tried again
    if problem:
        print('budget-check: ' + printable(problem, 2000), file=sys.stderr)
    return 1


def parse_options(argv):
    """A mistake is a UserError, and so exit 1: 2 means a hard stop."""
    from argparse import ArgumentParser

    def refuse(message):
        raise UserError(message + '; see budget-check.py --help')
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument('arm', nargs='?')
    add_command = partial(parser.add_mutually_exclusive_group().add_argument,
                          dest='command', action='store_const')
    add_command('-h', const='--help')
    for option, value in re.findall('(?m)^  (--[a-z]+) ([A-Z]*)', HELP):
        if value:
            parser.add_argument(option)
        else:
            add_command(option, const=option)
    options = parser.parse_args(argv)
    if '' in vars(options).values():       # a variable that isn't set: never all arms
        refuse('one of these words is empty')
    options.now_ms = parse_time(options.now) if options.now else int(time.time() * 1000)
    if options.now_ms is None:
        raise UserError('--now %s is not a time; write it as 2026-10-31T23:59:59Z' % options.now)
    options.home = home_of(os.environ)
    options.ledger = find_ledger(options.ledger, os.environ, options.home)
    options.prices = find_prices(options.prices, os.environ, HERE)
    return options


def load_all(options):
    """(budgets, prices, ledger, reading): all that a verdict needs, up to date. UserError where
    nothing is armed: then there is no need of a ledger."""
    path = find_budgets(options.budgets, os.environ, HERE, options.home)
    budgets = path and load_budgets(path, options.home)
    if not budgets or not budgets.armed():
        cure = 'write one as its comments show' if path else \
            '`make install` puts a budgets.yaml beside this script'
        raise UserError('no cap is set, so there is nothing to check: ' + cure, path)
    set_zone(budgets.timezone)
    prices, ledger = load_prices(options.prices), Ledger(options.ledger, options.home, 3600.0)
    check_prices(prices.text, prices.path)
    reading = ledger.refresh(prices, os.environ, options.now_ms, progress_on(sys.stderr))
    assign_arms(ledger, budgets)
    return budgets, prices, ledger, reading


def progress_on(stream):
    """A function that keeps one line of progress on a terminal; None where nobody watches."""
    if not stream or not stream.isatty():
        return None

    def show(files, all_files, done, total):
        stream.write('\rreading logs: %d of %d files, %d of %d MB \033[K%s' % (
            files, all_files, done >> 20, total >> 20, '\r\033[K' * (files == all_files)))
        stream.flush()
    return show


def check(options):
    """Where the caps stand, for people or as JSON."""
    budgets, prices, ledger, reading = load_all(options)
    key = find_arm(options.arm, ledger, budgets, options.home) if options.arm else None
    if options.arm and not entry_of(budgets, key):
        raise UserError('%s is in no arm that has a cap; list it in %s, or set a default: there'
                        % (options.arm, budgets.name))
    check_ambiguous(ledger, budgets, key)
    standings = [stand(ledger, budgets, one, options.now_ms, bool(options.now))
                 for one in ([key] if key else armed_keys(ledger, budgets))]
    standings.sort(key=lambda one: (-TIERS.index(one.verdict.tier), one.name))
    for standing in [] if options.now else standings:
        notify(ledger, budgets, standing, prices)
    warnings = warnings_of(ledger, budgets, prices, reading, key)
    warnings += notify_failures(ledger, [one.key for one in standings])
    verdict = verdict_json(standings, budgets, prices, warnings)
    ledger.close()
    if options.command == '--json':
        print(format_json(verdict))
    else:
        has_colour = sys.stdout and sys.stdout.isatty() and 'NO_COLOR' not in os.environ
        print('\n'.join(format_standings(standings, budgets, prices, has_colour)))
        for warning in warnings:
            print('budget-check: ' + printable(warning, 1000), file=sys.stderr)
    if verdict['status'] == 'HARD_STOP':
        return 2
    return int(bool(reading.unreadable) and not budgets.spend_json)


def verdict_json(standings, budgets, prices, warnings):
    """The verdict for programs, from standings of which the worst is first; see format_json for
    its figures."""
    reasons = [arithmetic(one) for one in standings if one.verdict.verdict == 'HARD_STOP']
    return {
        'status': standings[0].verdict.verdict if standings else 'OK',
        'estimate': True,
        'prices_as_of': prices.as_of,
        'arms': [arm_json(one) for one in standings],
        'halt_reason': '; '.join(reasons) or None,
        'warnings': warnings}


def arm_json(standing):
    verdict, entry = standing.verdict, standing.entry
    path = standing.key if is_path(standing.key) else None
    return {
        'arm': standing.name, 'path': entry.patterns[0].path if entry.patterns else path,
        'tier': verdict.tier, 'verdict': verdict.verdict, 'action_on_breach': entry.action,
        **usd_figures(verdict.worst), 'reserved_usd': usd_number(standing.reserved),
        'untranscribed_usd': usd_number(standing.untranscribed_usd),
        'assumed_usd': usd_number(standing.assumed_usd),
        'windows': [{
            'window': one.window, 'start': format_time(one.start), 'tier': one.tier,
            **usd_figures(one),
            'pct': None if one.pct is None else number(format_percent(one.pct, 2))}
            for one in verdict.windows]}


def usd_figures(window):
    return {name + '_usd': usd_number(getattr(window, name)) for name in ('spent', 'cap', 'grace')}


def usd_number(pico):
    return number(format_usd(pico, 6))


def number(text):
    """A decimal text that format_json writes as a JSON number: no float comes near it."""
    return '\0' + text


def format_json(value):
    return re.sub(r'"\\u0000(-?[0-9.]+)"', r'\1', json.dumps(value, indent=2))


def format_standings(standings, budgets, prices, has_colour):
    """Lines for people: a table with a row for each cap, and what there is to say."""
    rows, said = [('ARM', 'TIER', 'SPENT', 'CAP', '', 'LEFT', 'CAP REACHED')], []
    for standing in standings:
        name, verdict = printable(standing.name, 30), standing.verdict
        for one in verdict.windows:
            spent, cap, left = (format_usd(usd, 2, True) for usd in (one.spent, one.cap, one.left))
            mark = '~' if standing.assumed_usd and one is verdict.worst else ''
            reached = 'yes' if one.left == 0 else date_of(one.cap_at) if one.cap_at else '-'
            rows.append((name, one.tier, mark + spent, cap + '/' + one.window,
                         bar(one.spent, one.cap), left, reached))
        if standing.reserved:
            said.append('%s: %s is set aside for tools that are running.'
                        % (name, dollars(standing.reserved)))
        if verdict.verdict == 'HARD_STOP':
            said.append('%s. %s' % (arithmetic(standing), how_to_lift(budgets, standing)))
        nexts = next_tiers(standing, budgets)
        if nexts and (len(standings) == 1 or verdict.tier not in ('ok', 'alert')):
            said.append('%s: %s.' % (name, nexts))
    if any(standing.assumed_usd for standing in standings):
        said.append('~ some of it at an assumed price: its model has none in prices.json.')
    said.append('Estimates at list price; prices as of %s.' % prices.as_of)
    return format_table(rows, (2, 3, 5), 1 if has_colour else None) + said


def format_table(rows, right, tier_column=None):
    """Lines of a table whose first row is its head; `right` columns end alike."""
    widths = [max(map(columns, cells)) for cells in zip(*rows)]
    lines = []
    for row in rows:
        cells = []
        for at, cell in enumerate(row):
            gap = ' ' * (widths[at] - columns(cell))
            if at == tier_column and cell in TIER_COLOURS:
                cell = '\033[%sm%s\033[0m' % (TIER_COLOURS[cell], cell)
            cells.append(gap + cell if at in right else cell + gap)
        lines.append('  '.join(cells).rstrip())
    return lines


def rebuild(options):
    """Read all logs anew. What they no longer hold is kept from the ledger as it was."""
    prices = load_prices(options.prices)
    check_prices(prices.text, prices.path)
    kept, reading = rebuild_ledger(options.ledger, options.home, prices, os.environ,
                                   options.now_ms, progress_on(sys.stderr))
    print('%s: rebuilt from %d log files; %d calls are kept whose logs are gone'
          % (printable(options.ledger, 1000), reading.files, kept))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
