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

A statement is for the client: any html, markdown or csv with --arm and --month. Figures are
estimates from the agents' own session logs: list price times each arm's rate_pct. budget-check.py,
which lies beside this script, has the ledger, arms and caps; without it the logs are read by
folder, and what can't be known so is said.

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
from collections import Counter, defaultdict, namedtuple
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


# ---- budget-check.py, which lies beside this script ---------------------------------------------

HERE = os.path.dirname(os.path.realpath(__file__))
UNATTRIBUTED = '(unattributed)'
DAY_MS = 86400000


def load_neighbour(folder):
    """budget-check.py as a module from its cached bytecode, None if it isn't there."""
    path = os.path.join(folder, 'budget-check.py')
    if not os.path.isfile(path):
        return None
    if block_of(path) != block_of(__file__):
        sys.exit('cost-report: %s is of another version than the cost-report.py beside it; '
                 '`make install` puts both there' % path)
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


neighbour = load_neighbour(HERE)
if neighbour:
    # As `from budget_check import *` would: its calendar, money and ledger serve here too, and of
    # the block its copy counts: there is one UserError, one price list. What follows goes before.
    globals().update((name, value) for name, value in vars(neighbour).items()
                     if not name.startswith('__'))


# ---- without it: what the logs tell by themselves -----------------------------------------------

ALONE = '''     SPENT USD   CALLS  FOLDER, SINCE %s
%s

Estimate; made without budget-check.py beside this script: each folder stands by itself, days
are UTC, and nothing is known of arms and caps, of calls that no transcript line shows, of which
session began a call that two logs have, and of logs that have been deleted. Log lines or files
that could not be read: %d.
'''


def run_alone(options):
    """A table with a row for each folder."""
    since = options.since or time.strftime('%Y-%m-01', time.gmtime(options.now_ms // 1000))
    since_ms = parse_time(since + 'T00:00' * (len(since) == 10))
    if since_ms is None:
        raise UserError('--since: %s is no date; write 2026-11-01' % printable(repr(since)))
    prices = load_prices(find_prices(options.prices, os.environ, HERE))
    folders, lost = read_alone(prices, since_ms)
    rows = []
    for folder, usd in sorted(folders.items(), key=lambda item: -sum(item[1])):
        whole, rest = divmod(sum(usd) // MILLION, MILLION)
        rows.append('%7d.%06d %7d  %s' % (whole, rest, len(usd), printable(folder)))
    put(options.output, ALONE % (since, '\n'.join(rows), lost))
    return 0


def read_alone(prices, since_ms):
    """({folder: [pico-dollars of each call]}, how much could not be read) of all logs."""
    lines = defaultdict(list)
    folders = defaultdict(list)
    lost = 0
    for agent, path in all_logs():
        try:
            with open_plain(path) as stream:
                text = stream.read()
        except OSError:
            lost += 1
            continue
        whole_lines = text[:text.rfind(b'\n') + 1]
        found = agent.read(path, whole_lines, {})
        lost += found.skipped
        for call in found.calls:
            lines[agent.name, call.key].append(call)
    for same in lines.values():
        call = max(same, key=fullness)
        if call.kind != 'echo' and (call.ts or 0) >= since_ms:
            usd, _ = prices.usd(call.model, call.ts, call.tokens, call.variant)
            folders[call.cwd or UNATTRIBUTED].append(usd)
    return folders, lost


def fullness(call):
    """Of the lines of one call the main session's goes first, then that with most output."""
    return -(call.standing // 2), call.tokens[1], call.tokens


def all_logs():
    for agent in AGENTS.values():
        roots = map(os.path.realpath, agent.roots(os.environ, os.path.expanduser('~')))
        for root in dict.fromkeys(roots):
            found = [root] * os.path.isfile(root)
            for folder, _, names in os.walk(root):
                found += [os.path.join(folder, name) for name in names]
            for path in filter(agent.wanted, found):
                yield agent, path


# ---- windows: which calls a report is about -----------------------------------------------------

TIMES = ('day', 'week', 'month')

# Calls of [since, until). They are of the `window` that begins at `start` and ends at `end`, all
# of it unless it is clipped; without a window both are the span's own.
Span = namedtuple('Span', 'since until window start end')


def span_of(window, ms, until):
    start, end = window_bounds(window, ms)
    return Span(start, until, window, start, end)


def choose_span(options, books):
    """What the options ask for, by itself the month to date."""
    asked = [name for name in ('month', 'yesterday', 'last', 'since', 'until')
             if getattr(options, name)]
    if len(asked) > 1 and asked != ['since', 'until']:
        raise UserError('--%s and --%s cannot go together' % tuple(asked[:2]))
    now = books.now
    option = '--' + (asked or ['month'])[0]
    if option == '--month':
        inside = parse_month(options.month) if options.month else now
        since, end = window_bounds('month', inside)
    else:
        first = options.last or options.since
        last = options.until or 'today'
        if options.yesterday:
            first = last = 'yesterday'
        since = min(books.oldest, now)
        if first:
            since, _ = parse_moment(first, option, now)
        end, is_day = parse_moment(last, '--until' if options.until else option, now)
        if is_day:               # all of it is meant
            _, end = window_bounds('day', end)
    if since >= end or since > now:
        raise UserError('%s has to begin before it ends, and not in the future' % option)
    until = max(since, min(end, books.through))
    whole = [window for window in TIMES if window_bounds(window, since) == (since, end)]
    return Span(since, until, whole[0] if whole else None, since, end)


def parse_month(text):
    """When the month YYYY-MM begins, in ms."""
    try:
        start = start_of(text + '-01')
        if start > 0:
            return start
    except (ValueError, OverflowError):
        pass
    raise UserError('--month: %s is no month; write 2026-10' % printable(repr(text)))


def parse_moment(text, option, now):
    """(ms, whether a whole day is meant) of a time, a date, today, yesterday, or 7d."""
    days = re.match(r'0*([1-9]\d{0,4})d\Z', text, re.ASCII)
    ago = int(days[1]) - 1 if days else {'today': 0, 'yesterday': 1}.get(text)
    is_day = ago is not None or len(text) == 10
    try:
        if ago is not None:
            midnight, _ = window_bounds('day', now)
            noon = midnight + DAY_MS // 2      # days have 23 to 25 hours
            ms, _ = window_bounds('day', noon - ago * DAY_MS)
        else:
            start = start_of(text[:10])
            ms = start if is_day else parse_time(text)
            if parse_time(text + 'Z'):         # no zone is said: it is the calendar's
                ms = start + ms % DAY_MS
        if ago is not None or ms and ms > 0:
            return ms, is_day
    except (ValueError, OverflowError):
        pass
    raise UserError('%s: %s is no date; write 2026-11-01, 2026-11-01T09:30, today, yesterday or 7d'
                    % (option, printable(repr(text))))


def split(span, unit):
    """The days, weeks or months of a span, clipped as it is at its ends; all of it without one."""
    if not unit:
        return [span]
    return [Span(max(start, span.since), min(end, span.until), unit, start, end)
            for _, start, end in windows_between(unit, span.since, span.until)]


def unit_of(by):
    """The window that --by divides time into: of several the day, which others consist of."""
    times = [key for key in TIMES if key in by]
    if len(times) > 1:
        return 'day'
    return times[0] if times else None


def before(span, now):
    """The window before, to stand beside this one under its name: of a clipped one the same part,
    of a running one what has passed."""
    until = min(span.until, now + 1)
    if not span.window:
        return span._replace(since=2 * span.since - until, until=span.since)
    start, end = window_bounds(span.window, span.start - 1)
    since = min(end, start + span.since - span.start)
    if until < span.end:
        end = min(end, start + until - span.start)
    return span._replace(since=since, until=end)


# ---- sums over the calls in the ledger ----------------------------------------------------------

# A field, and how it is summed up. Amounts are at the arm's own rate; list_usd is at list price.
# SQLite's integers end at nine million dollars: an amount is summed up in halves.
HALVES = 'sum(usd >> 20){0}, sum(usd & 1048575){0}'
PLAIN = {                        # an index holds what these need
    'usd': HALVES.format(''),
    'untranscribed_usd': HALVES.format(" filter (where kind = 'untranscribed')"),
    'assumed_usd': HALVES.format(' filter (where assumed)'),
    'calls': "sum(kind <> 'untranscribed')"}
AMOUNTS = tuple(PLAIN)[:3]
TOKENS = 'sum(input + output + write_short + write_long + read)'
FIELDS = dict(
    PLAIN,
    input_tokens='sum(input)',
    output_tokens='sum(output)',
    cache_write_tokens='sum(write_short + write_long)',
    cache_read_tokens='sum(read)',
    web_searches='sum(searches)',
    tokens=TOKENS)
METERS = {name: 'sum(%s)' % name
          for name in ('input', 'output', 'write_short', 'write_long', 'read', 'searches')}

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
    'utc-day': ('ts / %d utc_day' % DAY_MS, 'utc_day')}                # prices change there
BY = ('arm',) + TIMES + tuple(DETAILS)[:-1]
BY_PAIR = 'pairs cross join calls on pair = pairs.id'
WHOLE = 100 * MILLION            # percentages are in millionths


def key_of(row, by):
    return tuple([row[key] for key in by])


def sum_by(books, spans, by, fields=PLAIN):
    """{the values of these keys: {field: sum}} over all calls of some spans."""
    details = [key for key in by if key in DETAILS]
    times = [key for key in by if key in TIMES]
    found = defaultdict(lambda: dict.fromkeys([*fields, 'list_usd'], 0))
    for span in spans:
        labels = {key: label_of(key, span.start) for key in times}
        for names, arm, sums in groups_of(books, span, details, 'arm' in by, fields):
            known = dict(zip(details, names), arm=arm, **labels)
            add_up(found[key_of(known, by)], iter(sums), fields, books.rate(arm))
    return found


def groups_of(books, span, keys, has_arm, fields):
    """(names of the keys, arm, sums) of each group of calls."""
    has_arm = has_arm or books.has_rates
    columns = [column for key in keys for column in DETAILS[key][0].split(', ')]
    names = [DETAILS[key][1] for key in keys]
    shown = ['arm' if has_arm else "'' arm", *columns, *fields.values()]
    # By their numbers in `shown`, and by no more than is asked for: few groups are fast.
    group = [str(n) for n in range(1 if has_arm else 2, len(columns) + 2)]
    tables = BY_PAIR
    is_all = books.arm is None and span.since <= books.oldest and span.until > books.latest
    if is_all and (columns or fields is not PLAIN):
        # And more than an index has: as they lie in the file.
        tables = 'calls not indexed' + ' join pairs on pair = pairs.id' * has_arm
    rows = books.rows(
        ', '.join(shown), span,
        'group by ' + (', '.join(group) or "''"),
        tables,
        'select %s from (%%s) calls' % ', '.join([*names, '*']))
    for row in rows:
        arm, *sums = row[len(keys):]
        yield row[:len(keys)], arm, sums[len(columns):]


def add_up(row, sums, fields, rate):
    for name in fields:
        number = next(sums) or 0
        if name in AMOUNTS:
            number = (number << 20) + (next(sums) or 0)
            if name == 'usd':
                row['list_usd'] += number
            number = divide_even(number * rate, WHOLE)
        row[name] += number


# ---- rows: a row is {key of --by, field, name of a column: value} -------------------------------

# Amounts are pico-dollars. None is what can't be known; what isn't there says nothing.

SPIKE_TIMES = 3
SPIKE_FLOOR = 5 * PICO
SPIKE_DAYS = 28
SPIKE_LEAST = 5


def make_rows(books, span, by, fields=PLAIN):
    """Arms by spend, times as they come, the rest by spend; each with its cap, if it has one."""
    unit = unit_of(by)
    spans = {unit and label_of(unit, one.start): one for one in split(span, unit)}
    summed = sum_by(books, spans.values(), by, fields)
    if by == ('arm',):
        for arm in books.listed:
            summed[arm,]         # is a row, though it may have spent nothing
    rows = [dict(zip(by, key), **sums) for key, sums in summed.items()]
    by_arm = Counter()
    for row in rows:
        by_arm[row.get('arm')] += row['usd']
        if set(by) in ({'arm'}, {'arm', unit}):
            set_against_cap(books, row, spans[row.get(unit)])

    def order(row):
        first = []
        for key in by:
            if key == 'arm':
                first += [-by_arm[row['arm']], row['arm']]
            elif key in TIMES:
                first.append(row[key])
        return first, -row['usd'], str(row)
    return sorted(rows, key=order)


def set_against_cap(books, row, span):
    """What a row comes to, and its cap, if it is all that its arm spent in a window."""
    now = books.now
    entry = books.entry(row['arm'])
    is_running = span.start < now < span.end
    is_cut = span.since > span.start or span.until < span.end and not is_running
    if not span.window or is_cut:
        return                   # a part of a week says little of its cap
    if is_running:
        row['projected_usd'] = divide_even(row['usd'] * (span.end - span.start), now - span.start)
    # A spend_json tells of the month that is running: there the logs don't stand against the cap.
    cap = dict(entry.caps).get(span.window) if entry else None
    if cap is not None and not (is_running and books.budgets.spend_json):
        at = min(now, span.end - 1)
        row.update(against_cap(judge_window(entry, span.window, cap, row['list_usd'], at)))


def against_cap(one):
    """The columns of budget-check's verdict on one window."""
    reached = label_of('day', one.cap_at) if one.cap_at else '-'
    return {
        'cap_usd': one.cap,
        'bar': (one.spent, one.cap, one.tier),
        'pct': one.pct,
        'tier': one.tier,
        'cap_at': 'yes' if one.left == 0 else reached}


def mark_spikes(books, rows, by):
    """A day is marked when it is above SPIKE_FLOOR and above SPIKE_TIMES the median of the days
    with spend among the SPIKE_DAYS days before it, of which there are at least SPIKE_LEAST."""
    others = [key for key in by if key != 'day']
    since = books.span.since - (SPIKE_DAYS + 1) * DAY_MS
    days = split(books.span._replace(since=since), 'day')
    labels = [label_of('day', day.start) for day in days]
    sums = sum_by(books, days, ('day', *others))
    for row in rows:
        at = labels.index(row['day'])
        key = key_of(row, others)
        spent = [sums[(day, *key)]['usd'] for day in labels[at - SPIKE_DAYS:at]]
        spent = sorted(filter(None, spent))
        row['spike'] = False
        if len(spent) >= SPIKE_LEAST:
            middle = len(spent) // 2
            twice_median = spent[middle] + spent[-1 - middle]
            row['spike'] = row['usd'] > SPIKE_FLOOR and 2 * row['usd'] > SPIKE_TIMES * twice_median


def set_beside(books, rows, by):
    """What each row's window before was: None, if nothing is known of it."""
    times = [key for key in by if key in TIMES]
    earlier = [before(one, books.now) for one in split(books.span, unit_of(by))]
    spent = sum_by(books, earlier, by)
    unknown = {tuple([label_of(key, one.start) for key in times])
               for one in earlier if one.since < books.oldest}
    if not times:                # what was there before, and is no more, is a row too
        nothing = dict.fromkeys([*FIELDS, 'list_usd'], 0)
        known = {key_of(row, by) for row in rows}
        rows += [dict(zip(by, key), **nothing) for key in spent if key not in known]
    for row in rows:
        usd = spent[key_of(row, by)]['usd']
        is_known = usd or key_of(row, times) not in unknown
        row['before_usd'] = usd if is_known else None
        row['change_usd'] = row['usd'] - usd if is_known else None


def set_baseline(books, rows, by):
    """What each row's tokens would have cost on one model, at its standard price of their day."""
    prices = books.prices
    model = books.options.baseline
    if not prices.known(model):
        raise UserError('--baseline: prices.json has no %s%s' % (
            printable(model), did_you_mean(model, prices.listed[0])))
    used = sum_by(books, split(books.span, unit_of(by)), ('arm', 'utc-day', *by), METERS)
    costs = Counter()
    for (arm, day, *key), sums in used.items():
        tokens = [sums[name] for name in METERS]
        usd, _ = prices.usd(model, day * DAY_MS, tokens, '', False)
        costs[tuple(key)] += divide_even(usd * books.rate(arm), WHOLE)
    for row in rows:
        row['baseline_usd'] = costs[key_of(row, by)]
        row['saved_usd'] = row['baseline_usd'] - row['usd']


def set_invoice(books, rows):
    """Cents that add up: each amount is rounded so that the rounded ones are the rounded total."""
    entry = books.entry(books.arm)
    markup_pct = entry.markup_pct if entry else 0
    factor = books.rate(books.arm) * (WHOLE + markup_pct)
    cent = PICO // 100
    total = billed = 0
    for row in rows:
        total += row['list_usd'] * factor
        upto = divide_even(total, WHOLE * WHOLE * cent) * cent
        row['invoice_usd'] = upto - billed
        row['contracted_usd'] = row['usd']
        row['margin_usd'] = row['invoice_usd'] - row['usd']
        billed = upto


def total_of(rows, by):
    """The last row: what can be added up. Windows before rows of days, weeks, months overlap."""
    total = dict.fromkeys(by, '')
    apart = ['cap_usd']
    if unit_of(by):
        apart += ['before_usd', 'change_usd']
    for column in COLUMNS:
        name = column.name
        values = [row[name] for row in rows if name in row]
        is_whole = len(values) == len(rows)
        if column.kind in SUMMED and name not in apart and is_whole:
            total[name] = None if None in values else sum(values)
    return total


# ---- columns: the one list that every format draws from -----------------------------------------

# title: for people, `-`: programs alone are told. kind: see KINDS. rank: which goes first where
# there is no room, 0: never. part: what brings it in.
Column = namedtuple('Column', 'name title kind rank part')
SUMMED = ('usd', 'count', 'short')
NUMBERS = SUMMED + ('percent',)
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
    share               Of the most    bar      2  chart
    bar                 Used           bar      2  spend
    pct                 %              percent  0  spend
    tier                Tier           tier     4  spend
    projected_usd       Projected      usd      5  spend
    cap_at              Cap reached    text     6  spend
    spike               -              flag     0  spike
    before_usd          Before         usd      8  compare
    change_usd          Change         usd      0  compare
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


def columns_of(by, *parts):
    titles = {'agent-cli': 'Agent CLI'}
    keys = [Column(key, titles.get(key, key.capitalize()), 'name', '0', 'key') for key in by]
    return keys + [column for column in COLUMNS if column.part in parts]


# ---- reports: what every format is made from ----------------------------------------------------

# below: reports without a total and notes of their own. notes: the small print. cautions: what is
# told on standard error where there is no room for it.
Report = namedtuple('Report', 'books title by rows total columns below notes cautions',
                    defaults=((), (), ()))
NOTHING = 'No spend in this time.'


def tables_of(report, draw):
    """(heading, columns, [[text]]) for people; a column that no row has is left out. `draw` is how
    a bar is shown, given what is spent, the cap, the tier."""
    for one in (report, *report.below):
        if not one.rows:
            continue
        told = {name for row in one.rows for name, value in row.items() if value != ''}
        told.update(one.by)
        shown = [column for column in one.columns if column.title != '-' and column.name in told]
        rows = [[cell_of(one, column, row, draw) for column in shown] for row in one.rows]
        if one.total:
            total = [cell_of(one, column, one.total, draw) for column in shown[1:]]
            rows.append(['TOTAL', *total])
        yield '' if one is report else one.title, shown, rows


def cell_of(report, column, row, draw=None):
    """A text, never raw. What isn't known is a question mark."""
    value = row.get(column.name, '')
    if value is None:
        return '?'
    if column.name == 'arm' and row is not report.total:
        value = report.books.names.get(value, value)
    if value == '':
        return ''
    if column.kind == 'bar':
        return draw(*value)
    for_people, _ = KINDS[column.kind]
    text = for_people(value)
    if column.name == 'usd':
        if row.get('assumed_usd'):
            text = '~' + text
        if row.get('spike'):
            text = '\u25b2 ' + text
    return text


def short_count(number):
    """12345 -> 12.3k; four or five characters for whatever there is."""
    for power, unit in (12, 'T'), (9, 'G'), (6, 'M'), (3, 'k'):
        tenths = number // 10 ** (power - 1)
        if tenths >= 1000:
            return '%d%s' % (tenths // 10, unit)
        if tenths >= 10:
            return '%.1f%s' % (tenths / 10, unit)
    return str(number)


# How each kind is written for people; and for programs, if they are told at all.
KINDS = {
    'name': (printable, str),
    'text': (printable, None),
    'tier': (printable, None),
    'bar': (None, None),
    'count': (short_count, int),
    'short': (short_count, None),
    'flag': (('', 'yes').__getitem__, bool),
    'usd': (lambda usd: format_usd(usd, 2, True), lambda usd: number(format_usd(usd, 6))),
    'percent': (lambda millionths: format_percent(millionths) + ' %',
                lambda millionths: number(format_percent(millionths, 1)))}


def values_of(report, row, names):
    """What programs are told of a row."""
    found = {}
    for column in report.columns:
        _, write = KINDS[column.kind]
        value = row.get(column.name)
        if column.name == 'arm':
            value = names.get(value, value)
        if write:
            found[column.name] = None if value is None else write(value)
    return found


def format_page(report, write, table, title='%s', heading='%s\n', note='%s',
                draw=lambda spent, cap, tier: bar(spent, cap)):
    """`write` is how a text, `table` how a table, `draw` how a bar is written; the rest stands
    around them."""
    parts = [title % write(report.title)]
    if not report.rows:
        parts.append(NOTHING)
    for name, heads, rows in tables_of(report, draw):
        above = heading % name if name else ''
        parts.append(above + table(heads, rows))
    notes = [printable(text, 1000) for text in report.notes + report.cautions]
    parts.append('\n'.join(note % write(text) for text in notes))
    return '\n\n'.join(parts) + '\n'


# ---- the table for terminals and mail -----------------------------------------------------------

def format_text(report):
    from textwrap import fill

    width, colour = terminal()

    def table(heads, rows):
        return lay_out(heads, rows, width, colour)
    return format_page(report, lambda text: fill(text, width), table)


def lay_out(heads, rows, width, colour):
    """Lines no wider than `width`: names are cut, and columns left out until they fit."""
    table = [[head.title, *cells] for head, cells in zip(heads, zip(*rows))]
    ranked = sorted((head.rank, head) for head in heads if head.rank > '0')

    def width_of(cells):
        return max(map(columns, cells))

    def excess():
        return sum(width_of(cells) + 2 for cells in table) - 2 - width
    for least in 24, 8:
        for n, head in enumerate(heads):
            if head.kind == 'name':
                size = max(least, width_of(table[n]) - max(0, excess()))
                table[n] = [cut(cell, size) for cell in table[n]]
        while ranked and excess() > 0:
            _, head = ranked.pop(0)
            n = heads.index(head)
            del heads[n], table[n]
    kinds = [head.kind for head in heads]
    right = [n for n, kind in enumerate(kinds) if kind in NUMBERS]
    tiers = [n for n, kind in enumerate(kinds) if kind == 'tier' and colour]
    return '\n'.join(format_table(list(zip(*table)), right, *tiers))


def cut(text, size):
    """Of a path its end is kept."""
    while columns(text) > size:
        text = '\u2026' + text[2:] if '/' in text else text[:-2] + '\u2026'
    return text


def terminal():
    """(width, colour) of standard output."""
    is_terminal = sys.stdout and sys.stdout.isatty()
    width = os.environ.get('COLUMNS', '')
    if not width.isdigit():
        width = os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal else 80
    colour = is_terminal and not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'
    return max(40, int(width) or 80), colour


# ---- JSON, CSV, Markdown ------------------------------------------------------------------------

def format_json(report):
    """Arms by their paths in full."""
    books = report.books
    span = books.span
    names = {'': UNATTRIBUTED}
    unattributed = sum_by(books, [span], ('arm',))['',]
    unpriced = books.rows(
        'distinct (select name from models where id = model)', span, 'and assumed')
    facts = {
        'estimate': True,
        'currency': 'USD',
        'since': format_time(span.since),
        'until': format_time(max(span.since, min(span.until, books.now))),
        'timezone': books.timezone,
        'prices_as_of': books.prices.as_of,
        'total_usd': number(format_usd(report.total['usd'], 6)),
        'rows': [values_of(report, row, names) for row in report.rows],
        'unattributed_usd': number(format_usd(unattributed['usd'], 6)),
        'unpriced_models': sorted(name for name, in unpriced),
        'skipped_lines': books.reading.skipped,
        'warnings': report.cautions}
    if books.options.billed:
        bills = report.below[-1]
        facts['billed'] = [values_of(bills, row, {}) for row in bills.rows]
    return neighbour.format_json(facts) + '\n'


def format_csv(report):
    """Rows alone, of bills where there are some."""
    if report.books.options.billed:
        report = report.below[-1]
    heads = values_of(report, {}, {})
    rows = [values_of(report, row, report.books.names) for row in report.rows]
    return csv_text([heads] + [row.values() for row in rows])


def csv_text(lines):
    return ''.join(','.join(map(csv_cell, line)) + '\n' for line in lines)


def csv_cell(value):
    if value is None:
        return ''
    if type(value) is not str:
        return str(value).lower()
    if value[:1] == '\0':        # it is a number
        return value[1:]
    text = printable(value, 4096)
    # A sheet takes what begins like this for a formula; an apostrophe says that it is text.
    if text.lstrip().startswith(tuple('=+-@\uff1d\uff0b\uff0d\uff20')):
        text = "'" + text
    return '"%s"' % text.replace('"', '""') if re.search('[,"]|^\'', text) else text


def format_markdown(report):
    return format_page(report, markdown_escaped, markdown_table, '# %s', '## %s\n\n', '- %s')


def markdown_table(heads, rows):
    lines = [[head.title for head in heads]]
    lines.append(['---:' if head.kind in NUMBERS else '---' for head in heads])
    lines += [map(markdown_escaped, row) for row in rows]
    return '\n'.join('| %s |' % ' | '.join(line) for line in lines)


def markdown_escaped(text):
    """No name becomes markup or breaks a table."""
    text = re.sub(r'([\\`*\[\]|])', r'\\\1', printable(text, 4096))
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', text)     # not within a word
    text = html_escaped(text).replace('&quot;', '"')
    return text.replace('://', ':\u200b//')                      # no link either


# ---- HTML: one file, no network, no script ------------------------------------------------------

STYLE = '''
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4;
  --back: #ffffff; --card: #f6f8fa; --green: #1a7f37; --yellow: #9a6700; --red: #cf222e; --s0: #0969da }
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
.spend { color: var(--s0) }
.meter { display: block; width: 7rem; height: .8rem }
.meter.spend { width: 100%; min-width: 7rem } .track { fill: var(--line) }
.ok { color: var(--green) } .alert, .warn { color: var(--yellow) }
.hard_stop, .halt { color: var(--red) }
.notes { color: var(--soft); font-size: .9rem } .wide + .notes { margin-top: 1.5rem }
@media (max-width: 40rem) {
  main { padding: 1rem .75rem 2rem } .meter { width: 3.5rem } th[scope=row] { min-width: 7.5rem } }
@media print {
  :root { color-scheme: light } main { max-width: none; padding: 0 } body { font-size: 11pt }
  h2, tr { break-inside: avoid } .wide { overflow: visible }
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
HEADING = '<h1>%s</h1>\n<p class="soft">Estimate, in US dollars.</p>\n<dl>CARDS</dl>'
CARD = '<div><dt>%s</dt><dd>%s</dd></div>'
TABLE = ('<div class="wide" tabindex="0" role="region" aria-label="By %s"><table>\n<thead><tr>%s'
         '</tr></thead>\n<tbody>\n%s\n</tbody></table></div>')
# The figures beside it are what a screen reader is told.
METER = ('<svg class="meter %s" viewBox="0 0 100 10" preserveAspectRatio="none" '
         'aria-hidden="true"><rect class="track" width="100" height="10" rx="2"/>'
         '<rect fill="currentColor" width="%.1f" height="10" rx="2"/></svg>')


def html_escaped(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').replace(
        '"', '&quot;')


def format_html(report):
    cards = ''
    for column in report.columns:
        if column.kind in SUMMED and column.title != '-' and column.name in report.total:
            cards += CARD % (column.title, cell_of(report, column, report.total))
    page = format_page(report, html_escaped, html_table, HEADING.replace('CARDS', cards),
                       '<h2>%s</h2>\n', '<p class="notes">%s</p>', html_meter)
    return PAGE % (html_escaped(report.title), STYLE, page)


def html_meter(spent, cap, tier):
    return METER % (tier, max(0, min(100, spent * 100 / cap)) if cap else 100)


def html_table(heads, rows):
    titles = ''
    for head in heads:
        right = ' class="num"' * (head.kind in NUMBERS)
        titles += '<th scope="col"%s>%s</th>' % (right, html_escaped(head.title))
    lines = []
    for first, *cells in rows:
        line = '<th scope="row">%s</th>' % html_escaped(first)
        line += ''.join(map(html_cell, heads[1:], cells))
        lines.append('<tr%s>%s</tr>' % (' class="total"' * (first == 'TOTAL'), line))
    return TABLE % (heads[0].title, titles, '\n'.join(lines))


def html_cell(head, cell):
    if head.kind == 'bar':
        return '<td>%s</td>' % cell            # it is HTML already
    text = html_escaped(cell)
    if head.kind == 'tier' and cell:
        return '<td class="%s">%s</td>' % (text, text)
    right = ' class="num"' * (head.kind in NUMBERS)
    return '<td%s>%s</td>' % (right, text)


# ---- FOCUS 1.4: Cost and Usage ------------------------------------------------------------------

# A column, and how its cells are filled in; 0 to 3 are the bounds of its day and month.
FOCUS = '''
    BilledCost=0.0
    BillingAccountId=armledger
    BillingAccountName=armledger (metered from session logs)
    BillingCurrency=USD
    BillingPeriodEnd={3}
    BillingPeriodStart={2}
    ChargeCategory=Usage
    ChargeClass=
    ChargeDescription={meter} of {model} at ${unit_price}{per}; an estimate from session logs
    ChargePeriodEnd={1}
    ChargePeriodStart={0}
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
# {decimals of a price: (unit, what is priced, for how many)}; tokens are sold by the million.
LOTS = {6: ('Tokens', '1000000 Tokens', ' for 1000000'), 12: ('Requests', 'Requests', ' each')}
PROVIDERS = (('claude', 'Anthropic', 'Claude API'), ('gpt|codex|o[134]', 'OpenAI', 'OpenAI API'),
             ('gemini', 'Google', 'Gemini API'), ('grok', 'xAI', 'xAI API'),
             (r'[a-z-]+\.', 'Amazon Web Services', 'Amazon Bedrock'),
             ('', 'Unknown', 'Language model API'))
CALLS = "arm, ts, (select name from models where id = model), variant, kind = 'untranscribed', " \
    'assumed, ' + ', '.join(METERS)


def format_focus(report):
    """BilledCost is 0: the specification wants there what an issuer has invoiced, no estimate,
    so that this file and the provider's own can be added up."""
    books = report.books
    heads, cells = zip(*(column.strip().split('=') for column in FOCUS))
    lines = [heads]
    for day in split(books.span, 'day'):
        bounds = *window_bounds('day', day.since), *window_bounds('month', day.since)
        periods = [time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(ms // 1000)) for ms in bounds]
        for key, quantities in sorted(sold_in(books, day).items()):
            if quantities[0]:
                values = focus_values(books, *key, *quantities)
                lines.append([cell.format(*periods, **values) for cell in cells])
    return csv_text(lines)


def sold_in(books, day):
    """{(arm, model, meter, price): [quantity, of it untranscribed, of it assumed]}"""
    sold = defaultdict(lambda: [0, 0, 0])
    for arm, ts, model, variant, is_rest, assumed, *tokens in books.rows(CALLS, day):
        units, _ = books.prices.units(model, ts, tokens, variant, not is_rest)
        for meter, price, count in zip(SOLD, units, tokens):
            held = sold[arm, model, meter, price]
            held[0] += count
            held[1] += count * is_rest
            held[2] += count * assumed
    return sold


def focus_values(books, arm, model, meter, price, quantity, untranscribed, assumed):
    """Prices are pico-dollars for one. Quantity times price is the cost, exactly."""
    rate = books.rate(arm)
    scale = 12 if meter == 'Web Searches' else 6
    unit, pricing_unit, per = LOTS[scale]
    provider, service = next(names for form, *names in PROVIDERS if re.match(form, model))
    arm_or_none = arm or UNATTRIBUTED
    return dict(
        model=model, meter=meter, sku='%s/%s' % (model, SOLD[meter]),
        provider=provider, service=service,
        unit=unit, pricing_unit=pricing_unit, per=per,
        quantity=quantity,
        priced=exact(quantity, scale) if scale == 6 else quantity,
        unit_price=exact(price, scale),
        contracted_price=exact(price * rate, scale + 8),
        cost=exact(quantity * price, 12),
        contracted=exact(quantity * price * rate, 20),
        untranscribed=exact(untranscribed * price, 12),
        assumed=exact(assumed * price, 12),
        arm=arm, arm_or_none=arm_or_none,
        name=books.names[arm] if arm else '',
        tags=json.dumps({'arm': arm_or_none}),
        as_of=books.prices.as_of)


def exact(value, scale):
    """value / 10**scale, every digit of it: 1.5, 20.0, 0.000125."""
    text = '%0*d' % (scale + 1, value)
    return text[:-scale] + '.' + (text[-scale:].rstrip('0') or '0')


# ---- Prometheus: for node_exporter's textfile collector -----------------------------------------

# A metric, of what there is a sample of it, the column that it shows.
METRICS = '''
  spend_usd  spent  usd  Spend in the current window at the arm's rate, an estimate in US dollars.
  cap_usd  caps  cap_usd  Cap of the window, in US dollars.
  counted_usd  caps  usd  Spend that counts against the cap, at the arm's rate, in US dollars.
  cap_ratio  caps  ratio_usd  Spend at the arm's rate divided by the cap; 1 is the cap.
  tier  caps  level  Tier of the cap: 0 ok, 1 alert, 2 warn, 3 hard_stop, 4 halt.
  last_read_timestamp_seconds  machine  now  When the session logs were read last.
  prices_as_of_timestamp_seconds  machine  as_of  The day that the prices are as of.
  skipped_lines  machine  skipped  Log lines that could not be read.
  unreadable_files  machine  unreadable  Log files that could not be read.
  budgets_ok  machine  budgets  Whether budgets.yaml could be read: 1 or 0.
'''


def format_prometheus(report):
    books = report.books
    reading = books.reading
    spent = []
    for window in TIMES:
        span = span_of(window, books.now, books.through)
        spent += [dict(row, window=window) for row in make_rows(books, span, ('arm',))]
    # A percentage is in millionths, an amount in millionths of a millionth.
    caps = [dict(row, level=TIERS.index(row['tier']), ratio_usd=row['pct'] and row['pct'] * 10000)
            for row in books.caps]
    machine = {
        'now': books.now // 1000,
        'as_of': (books.as_of_ms or 0) // 1000,
        'skipped': reading.skipped,
        'unreadable': len(reading.unreadable) + reading.compressed,
        'budgets': int(not books.problem)}
    subjects = {'spent': spent, 'caps': caps, 'machine': [machine]}
    lines = []
    for metric in METRICS.strip().split('\n'):
        name, subject, column, text = re.split('  +', metric.strip())
        name = 'armledger_' + name
        if subjects[subject]:
            lines += ['# HELP %s %s' % (name, text), '# TYPE %s gauge' % name]
        for row in subjects[subject]:
            value = row[column]
            if value is not None:
                value = format_usd(value, 6) if 'usd' in column else value
                lines.append('%s%s %s' % (name, metric_labels(row), value))
    return '\n'.join(lines) + '\n'


def metric_labels(row):
    if 'arm' not in row:
        return ''
    arm = printable(row['arm'] or UNATTRIBUTED, 4096)
    escaped = re.sub(r'[\\"]', r'\\\g<0>', arm)
    return '{arm="%s",window="%s"}' % (escaped, row['window'])


# ---- bills beside estimates ---------------------------------------------------------------------

BILL = r'\s*(?:"([^"]*)"|([^",;\t]*?))\s*,\s*"?([^";\t]*)"?\s*'


def read_bills(path):
    try:
        with open(path, encoding='utf-8', newline='') as stream:
            return parse_bills(stream.read(1 << 20), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise UserError('--billed: cannot be read: %s' % reason, path)


def parse_bills(text, name):
    """{arm or 'total': pico-dollars} of a JSON object, or of CSV lines `arm,usd`."""
    text = text.lstrip('\ufeff \t\r\n')
    pairs = pairs_of_json(text, name) if text.startswith('{') else pairs_of_csv(text)
    bills = {}
    for key, value in pairs:
        usd = parse_usd(value)
        if usd is None:
            raise UserError('%s: expected are lines of arm,usd, or {"arm": usd}, in plain dollars '
                            'such as 123.45' % printable(key), name)
        if key in bills:
            raise UserError('%s: stands here twice' % printable(key), name)
        bills[key] = usd
    if not bills:
        raise UserError('no amounts are in it; write {"acme": 123.45}, or lines of arm,usd', name)
    return bills


def pairs_of_json(text, name):
    try:
        return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=list)
    except ValueError as error:
        raise UserError('not JSON: %s' % error, name)


def pairs_of_csv(text):
    pairs = []
    for line in filter(str.strip, text.splitlines()):
        cells = re.fullmatch(BILL, line)
        pairs.append((cells[1] or cells[2], cells[3]) if cells else (line, None))
    _, first = pairs[0] if pairs else ('', None)
    if first is not None and parse_usd(first) is None:
        del pairs[0]             # the headings
    return pairs


def parse_usd(text):
    """Pico-dollars of an amount as people write it: -$1,234.50, 5 USD; None if it isn't one."""
    pattern = r'\s*(-?)\s*\$?(\d{1,12}|\d{1,3}(?:,\d{3}){1,3})(?:\.(\d{1,12}))?\s*(?:USD)?\s*$'
    match = re.match(pattern, text if type(text) is str else '', re.ASCII)
    if match:
        sign, whole, rest = match.groups('')
        return int(sign + whole.replace(',', '') + rest.ljust(12, '0'))


def reconcile(books, billed, rows):
    """([{what each arm, or the total, was billed, beside its estimate}], warnings)"""
    estimates = {}
    if books.arm is None:
        estimates['total'] = sum(row['usd'] for row in rows)
    for row in rows:
        estimates[row['arm']] = estimates[books.names[row['arm']]] = row['usd']
    bills = []
    told = []
    for name, usd in billed.items():
        estimate = estimates.get(name, estimates.get(name.lower()))
        if estimate is None and books.arm is not None:
            continue             # it may be another client's
        if estimate is None:
            near = did_you_mean(name, estimates)
            told.append('--billed: there is no arm %s%s' % (printable(name), near))
            estimate = 0
        difference = usd - estimate
        bills.append({
            'arm': name,
            'estimate_usd': estimate,
            'billed_usd': usd,
            'difference_usd': difference,
            'factor': divide_even(usd * PICO, estimate) if estimate > 0 else None,
            'over_20_pct': 5 * abs(difference) > abs(estimate)})
    if not bills:
        told = ['--billed: it has no amount of this arm']
    return bills, told


# ---- the books: all that a report is made from --------------------------------------------------

class Books:
    """The ledger brought up to date, prices, budgets, the clock, what is asked for."""

    def __init__(self, options, home, ledger_path):
        self.options = options
        self.home = home
        self.now = options.now_ms
        self.through = self.now + 1 if options.now else OPEN   # else a clock may be ahead
        self.problem = self.arm = None
        self.budgets = self.attempt(self.read_budgets)
        self.timezone = self.budgets.timezone if self.budgets else 'local'
        set_zone(self.timezone)
        self.prices = load_prices(find_prices(options.prices, os.environ, HERE))
        self.as_of_ms = parse_time(self.prices.as_of + 'T00:00')
        self.ledger = Ledger(ledger_path, home, 3600.0)
        progress = progress_on(sys.stderr)
        self.reading = self.ledger.refresh(self.prices, os.environ, self.now, progress)
        assign_arms(self.ledger, self.budgets)
        self.attempt(lambda: check_ambiguous(self.ledger, self.budgets))
        self.survey()
        if options.arm:
            self.arm = self.choose_arm(options.arm)
        self.span = choose_span(options, self)
        self.caps = self.attempt(lambda: list(self.find_caps())) or []
        shown = [*self.oldest_of, *self.listed] if self.arm is None else [self.arm]
        self.names = dict(short_names(dict.fromkeys(shown)))
        self.names[''] = UNATTRIBUTED

    def attempt(self, step):
        """Where budgets.yaml can't be gone by, there is none: that is told when the costs are."""
        try:
            return step()
        except UserError as error:
            self.problem = str(error)
            self.budgets = None

    def read_budgets(self):
        path = find_budgets(self.options.budgets, os.environ, HERE, self.home)
        return load_budgets(path, self.home) if path else None

    @property
    def listed(self):
        names = self.budgets.by_name if self.budgets else ()
        return [arm for arm in names if self.arm in (None, arm)]

    def survey(self):
        """Which arms there are, and how far their calls reach."""
        reach = self.ledger.rows(REACH)
        self.oldest_of = {arm: first or OPEN for arm, first, _ in reach}
        self.oldest = min(self.oldest_of.values(), default=OPEN)
        self.latest = max([last or 0 for _, _, last in reach], default=0)
        self.has_rates = any(self.rate(arm) != WHOLE for arm in self.oldest_of)

    def choose_arm(self, text):
        """A word that is no arm is refused: as a folder, a slip would show another client."""
        if self.problem:
            raise UserError(self.problem)      # which calls are the arm's is not known
        if text == UNATTRIBUTED:
            return ''
        arm = find_arm(text, self.ledger, self.budgets, self.home)
        if arm and arm not in [*self.oldest_of, *self.listed]:
            raise UserError('--arm: nothing was spent in %s, and no arm of budgets.yaml has it'
                            % printable(text))
        return arm

    def find_caps(self):
        """A row for each cap as it stands now."""
        for key in armed_keys(self.ledger, self.budgets):
            if self.arm not in (None, key):
                continue
            entry = self.entry(key)
            for window, cap in entry.caps:
                if self.budgets.spend_json:
                    usd = spend_elsewhere(self.budgets, key)
                else:
                    usd = self.spent_in(window)[key,]['list_usd']
                oldest = self.oldest_of.get(key)
                one = judge_window(entry, window, cap, usd, self.now, oldest)
                if usd or key in self.listed:
                    yield dict(against_cap(one), arm=key, window=window, usd=one.spent,
                               projected_usd=one.projected)

    @lru_cache(None)
    def spent_in(self, window):
        """By arm, with what a clock that is ahead has written."""
        return sum_by(self, [span_of(window, self.now, self.through)], ('arm',))

    def rows(self, columns, span, tail='', tables=BY_PAIR, around='%s'):
        """Of the calls in a span: pair by pair, as the index has them."""
        until = min(span.until, self.latest + 1)
        of_arm = '' if self.arm is None else ' and arm = ?'
        sql = 'select %s from %s where owned and ts >= %d and ts < %d%s %s' % (
            columns, tables, span.since, until, of_arm, tail)
        return self.ask(around % sql)

    @lru_cache(8)                # the month of the caps is that of most reports
    def ask(self, sql):
        values = [self.arm] if 'arm = ?' in sql else []
        return self.ledger.rows(sql, *values)

    def entry(self, arm):
        return entry_of(self.budgets, arm)

    def rate(self, arm):
        entry = self.entry(arm)
        return entry.rate_pct if entry else WHOLE


REACH = """select arm, min((select min(ts) from calls where pair = pairs.id and owned)),
    max((select max(ts) from calls where pair = pairs.id and owned)) from pairs group by arm"""


# ---- what is said of the figures ----------------------------------------------------------------

STALE_DAYS = 60
STALE = ('the prices are %d days old (%s): look whether they still hold, and put the new ones '
         'into prices.json')


def warnings_of_books(books):
    """What may be wrong with the figures."""
    told = []
    options = books.options
    reading = books.reading
    age = (books.now - (books.as_of_ms or books.now)) // DAY_MS
    if age > STALE_DAYS:
        told.append(STALE % (age, books.prices.as_of))
    if options.quiet:            # what is long gone, and can't be mended, is no alarm each morning
        reading = reading._replace(skipped=skipped_lately(books))
    told += warnings_of(books.ledger, books.budgets, books.prices, reading, books.arm)
    if options.format not in ('focus', 'prometheus') and not options.statement:
        told += notify_failures(books.ledger, [books.arm] if books.arm else books.listed)
        told += strays_of(books)
    return told


def skipped_lately(books):
    """Lines that could not be read, of logs that were written since the report's window began."""
    rows = books.ledger.rows('select path, skipped from files where skipped')
    return sum(skipped for path, skipped in rows if os.path.exists(path)
               and os.stat(path).st_mtime * 1000 >= books.span.since)


def strays_of(books):
    """A line for each arm that has spent outside of its folders, in sessions begun in them."""
    places = books.ledger.places()
    home = books.home.rstrip('/') + '/'
    outside = defaultdict(Counter)
    rows = books.rows('arm, place, sum(usd / 1000000)', books.span,
                      'and place <> origin group by pairs.id')
    for arm, place, millionths in rows:
        if arm in books.listed and arm_of(books.budgets, places.get(place)) != arm:
            path = places[place].path if place else 'no known folder'
            usd = millionths * MILLION * books.rate(arm) // WHOLE
            outside[arm][path.replace(home, '~/')] += usd
    for arm, folders in outside.items():
        (path, _), *others = folders.most_common()
        yield '%s of %s was spent in %s%s' % (
            dollars(sum(folders.values())), arm, path, ' and elsewhere' * bool(others))


def title_of(books):
    span = books.span
    now = books.now
    first = label_of('day', span.since)
    last = label_of('day', max(span.since, min(span.until, now + 1) - 1))
    if span.window not in ('month', 'day'):
        return '%s to %s' % (first, last)
    title = label_of(span.window, span.since)
    return title + ' to date (%s)' % last if now < span.end else title


UNTRANSCRIBED = ('%s of it is untranscribed: titles, compactions and other helper calls that '
                 "stand in no transcript line, only in the agent's own totals.")
SPIKE = '\u25b2 A day far above the usual: more than %d times the median of the days with spend ' \
    'in the %d days before it, and more than $%d.' % (SPIKE_TIMES, SPIKE_DAYS, SPIKE_FLOOR // PICO)
BASELINE = 'Baseline: what the same tokens would have cost on %s, at its standard price.'
BEFORE = ('Before: the window before, as far as this one has come; ? is before the oldest call '
          'that is known.')


def small_print(books, rows, total):
    """What has to be known of the figures."""
    options = books.options
    told = ['Estimate at list price, not a bill; prices as of %s.' % books.prices.as_of]
    rates = ['%s (%g %%)' % (printable(books.names[arm]), books.rate(arm) / MILLION)
             for arm in sorted(books.names) if books.rate(arm) != WHOLE]
    if rates:
        told.append('At its rate_pct of list price, as the gate counts it: %s.' % ', '.join(rates))
    if total['untranscribed_usd']:
        told.append(UNTRANSCRIBED % dollars(total['untranscribed_usd']))
    if any(row.get('arm') == '' and row['usd'] for row in rows):
        told.append('%s: calls whose record names no folder.' % UNATTRIBUTED)
    if any(row.get('spike') for row in rows):
        told.append(SPIKE)
    if options.baseline:
        told.append(BASELINE % printable(options.baseline))
    if options.compare:
        told.append(BEFORE)
    return told


def cautions_of(books, assumed_usd):
    """What whoever sends the figures on has to know."""
    told = []
    if assumed_usd:
        told.append('~ %s of it is at an assumed price: its model has none in prices.json.'
                    % dollars(assumed_usd))
    if books.budgets and books.budgets.spend_json:
        told.append('Caps are compared with the spend that %s has (spend_json in budgets.yaml), '
                    'as the gate does, not with the logs.'
                    % printable(books.budgets.spend_json, 500))
    created = books.ledger.meta('created') or 0
    if books.span.since < created:
        oldest = ''
        if books.oldest < OPEN:
            oldest = '; its oldest call is of ' + label_of('day', books.oldest)
        told.append('This ledger was begun on %s%s: spend whose logs had been deleted before that '
                    'is missing.' % (label_of('day', created), oldest))
    return told


def make_report(books, warnings):
    """The operator's."""
    options = books.options
    by = options.by or ('arm',)
    fields = FIELDS
    if options.format in ('table', 'prometheus'):      # what it has no room for takes time
        fields = PLAIN if by == ('arm',) else dict(PLAIN, tokens=TOKENS)
    rows = make_rows(books, books.span, by, fields)
    parts = ['spend', 'usage']
    if set(by) in ({'day'}, {'arm', 'day'}):
        mark_spikes(books, rows, by)
        parts.append('spike')
    if options.compare:
        set_beside(books, rows, by)
        parts.append('compare')
    if options.baseline:
        set_baseline(books, rows, by)
        parts.append('baseline')
    total = total_of(rows, by)
    below = []

    def add_below(title, keys, more, *of):
        below.append(Report(books, title, keys, more, None, columns_of(keys, *of)))
    caps = other_caps(books, rows, by)
    if caps:
        add_below('Other caps, now', ('arm', 'window'), caps, 'spend')
    if options.format == 'html':
        parts.append('chart')
        unit = chart_unit(books, by)
        charted = rows if by == (unit,) else make_rows(books, books.span, (unit,))
        if charted is not rows:
            add_below('By ' + unit, (unit,), charted, 'spend', 'chart')
        most = max([row['usd'] for row in charted], default=0)
        for row in charted:
            row['share'] = row['usd'], most, 'spend'
    if options.billed:
        bills, told = reconcile(books, read_bills(options.billed), rows)
        add_below('Billed', ('arm',), bills, 'billed')
        warnings = warnings + told
    title = 'Spend by %s: %s' % (', '.join(by), title_of(books))
    if books.arm is not None:
        title += ', arm ' + printable(books.names[books.arm])
    return Report(
        books, title, by, rows, total, columns_of(by, *parts), below,
        small_print(books, rows, total),
        cautions_of(books, total['assumed_usd']) + warnings)


def other_caps(books, rows, by):
    """The caps that no row shows; of a window that has ended those at alert or above, which are
    why cron is told."""
    span = books.span
    if books.now >= span.end:
        return [cap for cap in books.caps if cap['tier'] != 'ok']
    has_caps = any('cap_usd' in row for row in rows) and unit_of(by) in (None, span.window)
    shown = span.window if has_caps else None
    return [cap for cap in books.caps if cap['window'] != shown]


def chart_unit(books, by):
    """Bars stand beside what was spent day by day, week by week or month by month."""
    days = (books.span.until - books.span.since) // DAY_MS
    return unit_of(by) or ('day' if days <= 62 else 'week' if days <= 400 else 'month')


def make_statement(books):
    """For the client: what is to be paid, and nothing that it is made of."""
    options = books.options
    by = options.by or ('arm',) * (options.format == 'csv') + ('day', 'model')
    rows = [row for row in make_rows(books, books.span, by, FIELDS) if row['tokens'] or row['usd']]
    set_invoice(books, rows)
    zone = books.timezone
    if zone == 'local':
        zone = time.strftime('%Z (UTC%z)', time.localtime(books.span.since // 1000))
    parts = ['usage', 'invoice']
    title = 'Statement %s, %s' % (printable(books.names[books.arm]), title_of(books))
    notes = ['An estimate, metered from session logs, in US dollars.',
             'Days are whole in the time zone %s.' % zone]
    if options.internal:
        parts.append('internal')
        title = 'INTERNAL: ' + title
        notes.insert(0, 'INTERNAL, not for the client: list price, contracted amount and margin.')
    total = total_of(rows, by)
    return Report(books, title, by, rows, total, columns_of(by, *parts), (), notes, [])


# ---- the command line ---------------------------------------------------------------------------

FORMATS = {'table': format_text, 'json': format_json, 'csv': format_csv,
           'markdown': format_markdown, 'html': format_html, 'focus': format_focus,
           'prometheus': format_prometheus}
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
NONE_SUCH = '--%s: %s is none; write one of %s'
# What a report of a kind has no room for.
LEFT_OUT = {
    'statement': ('compare baseline billed',
                  'with --arm and --month is a statement, for the client'),
    'bills': ('compare baseline', 'with --billed has the bills alone'),
    'focus': ('by compare baseline billed', 'has its own columns and windows'),
    'prometheus': ('by compare baseline billed since until last month yesterday',
                   'has its own columns and windows'),
    'alone': (
        'by until last month yesterday arm quiet compare baseline billed internal budgets ledger',
        'needs budget-check.py beside this script; `make install` puts both there')}


def parse_options(argv):
    """Each option by its name, None where it was not given. (argparse would take a tenth of the
    whole run.)"""
    from types import SimpleNamespace

    options = SimpleNamespace(**{name[2:]: None for name in OPTIONS})
    words = list(argv)
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
        if wants and not value.strip():        # a variable that isn't set: never all arms
            raise UserError('%s is empty: write %s %s; see --help' % (option, option, wants))
        if option == '--by' and options.by:
            value = options.by + ',' + value
        setattr(options, option[2:], value or True)
    problem = complete(options)
    if problem:
        raise UserError(problem)
    return options


def complete(options):
    """Fill in what wasn't said; what is wrong with them, None if nothing is."""
    options.format = options.format or 'table'
    if options.by:
        options.by = tuple(dict.fromkeys(key.strip() for key in options.by.split(',')))
    for key in options.by or ():
        if key not in BY:
            return NONE_SUCH % ('by', printable(repr(key)), ', '.join(BY))
    if options.format not in FORMATS:
        return NONE_SUCH % ('format', printable(repr(options.format)), ', '.join(FORMATS))
    options.now_ms = parse_time(options.now) if options.now else int(time.time() * 1000)
    if options.now_ms is None:
        return '--now: %s is no time; write it as 2026-10-31T23:59:59Z' % printable(
            repr(options.now))
    is_for_clients = options.format in ('html', 'markdown', 'csv')
    options.statement = bool(options.arm and options.month) and is_for_clients
    # Nothing that was asked for is left out without a word.
    kind = options.format
    if options.statement:
        kind = 'statement'
    elif not neighbour:
        kind = 'alone'
    elif kind == 'csv' and options.billed:
        kind = 'bills'
    without, why = LEFT_OUT.get(kind, ('', ''))
    for name in without.split():
        if getattr(options, name):
            return '--format %s %s: leave out --%s' % (options.format, why, name)
    if not neighbour and options.format != 'table':
        return '--format %s %s' % (options.format, LEFT_OUT['alone'][1])
    if options.billed and options.by not in (None, ('arm',)):
        return '--billed goes with --by arm'
    if options.internal and not options.statement:
        return '--internal goes with a statement: --arm, --month, --format html, markdown or csv'


def did_you_mean(word, known):
    """The known word that it may be a slip of, as the rest of a sentence."""
    near = neighbour and nearest(word, list(known))
    return '; did you mean %s?' % printable(near) if near else ''


def main(argv=None):
    """Exit code: 0 when the report was made, 1 when it could not be, or not with its caps."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors='replace')     # names must not fail in a plain locale
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        if options.help:
            put(None, HELP % (__doc__, ', '.join(BY), ', '.join(FORMATS)))
        elif options.version:
            put(None, 'armledger %s\n' % (RELEASE if neighbour else 'without budget-check.py'))
        else:
            return run(options) if neighbour else run_alone(options)
        return 0
    except BrokenPipeError:      # who reads it has seen enough
        pass
    except (UserError, OSError) as error:
        complain(error)
    except KeyboardInterrupt:
        complain('interrupted')
    return 1


def complain(text):
    print('cost-report: ' + printable(str(text), 2000), file=sys.stderr)


def run(options):
    home = home_of(os.environ)
    path = find_ledger(options.ledger, os.environ, home)
    try:
        books = Books(options, home, path)
        warnings = warnings_of_books(books)
        report = make_report(books, warnings)
        shown = make_statement(books) if options.statement else report
        text = FORMATS[options.format](shown)
    except sqlite().Error as error:
        raise ledger_error(path, error)
    is_shown = not options.quiet or any([
        warnings, books.problem, options.billed, report.total['assumed_usd'],
        *[row['tier'] != 'ok' for row in books.caps]])
    if is_shown and (options.statement or options.format in ('csv', 'focus')):
        for note in report.cautions:           # that have no room in it
            complain('note: ' + note)
    if books.problem:
        complain(books.problem)
    if options.output or is_shown:
        put(options.output, text)
    return 1 if books.problem else 0


def put(path, text):
    """Print it, or write all of it or nothing: under another name, then renamed."""
    if path in (None, '-'):
        print(text, end='', flush=True)
        return
    target = os.path.realpath(path)              # a link stays a link
    is_device = os.path.exists(path) and not os.path.isfile(path)
    written = path if is_device else '%s.%d.tmp' % (target, os.getpid())
    try:
        with open(written, 'w', encoding='utf-8', newline='') as stream:
            stream.write(text)
        if not is_device:
            if os.path.exists(target):
                os.chmod(written, os.stat(target).st_mode & 0o777)
            os.replace(written, target)
    except OSError as error:
        if not is_device and os.path.exists(written):
            os.unlink(written)
        is_nowhere = isinstance(error, FileNotFoundError)
        raise UserError('--output: ' + (
            'there is no such folder; make it first' if is_nowhere else error.strerror), path)


if __name__ == '__main__':
    os._exit(main())             # tearing an interpreter down takes as long as the report's sums
