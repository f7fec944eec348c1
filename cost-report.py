#!/usr/bin/env python3
"""What coding agents have cost, client by client: for people, sheets, FinOps tools and cron.

    cost-report.py                                      month to date, by arm
    cost-report.py --by day --arm acme --compare        each day beside the one before; far outliers marked
    cost-report.py --yesterday --quiet                  from cron: prints only if something is the matter
    cost-report.py --arm acme --month 2026-10 --format html --output acme.html     a client's statement
    cost-report.py --format focus --month 2026-10       for a FinOps tool
    cost-report.py --baseline claude-opus-5-5           what routing to other models has saved
    cost-report.py --billed bill.csv                    estimates beside what was billed

Figures are estimates at list price, from the agents' own session logs. Works alone, with costs by repo
path; with budget-check.py beside it, the arms, caps and rates of budgets.yaml count here too.

Exit codes: 0 the report was made; 1 it could not be, or budgets.yaml could not be read (the costs are
shown without it).
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

PICO = 10 ** 12                  # money is kept in whole pico-dollars: sums are exact
CHUNK = 1 << 20                  # bytes read at once
LONGEST_LINE = 32 << 20          # a longer line is passed over and counted
SLICE = 16 << 20                 # a log is taken in by so many bytes at a time: each is kept when the time is up
BUCKET_MS = 15 * 60 * 1000       # every time zone's midnight falls on a quarter of an hour
HIGHEST = 1 << 60                # forged figures stay far above any cap, and SQLite integers
EARLIEST_MS = 1577836800000      # 2020-01-01: an earlier call is stamped by no clock at all
CHANGED_NS = 'st_mtime_ns' if os.name == 'nt' else 'st_ctime_ns'   # no one can set the latter back
RACY_NS = 3 * 10 ** 9            # a folder changed this recently may change again unseen


class UserError(Exception):
    """A mistake that its user can mend; str() is `name:line:column: message`, 1-based."""

    def __init__(self, message, name=None, line=None, column=None):
        place = [str(part) for part in (name, line, column) if part is not None]
        Exception.__init__(self, ':'.join(place) + ': ' + message if place else message)
        self.message, self.name, self.line, self.column = message, name, line, column


class NotYet(UserError):
    """The ledger could not be brought up to date in the time there was."""


def printable(text, limit=200):
    """Log text and names for a terminal: no control characters, no bidi tricks, not endless."""
    kept = ''.join(c if c.isprintable() and c not in BIDI else '\ufffd' for c in text[:limit + 1])
    return kept if len(kept) <= limit else kept[:limit - 1] + '…'


BIDI = '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'


# ---- time ----------------------------------------------------------------------------------

HOURS = {}                       # 'YYYY-MM-DDThh' -> ms: a log has few hours and many lines


def parse_time(text):
    """Milliseconds since the epoch of an ISO 8601 time; None if it isn't one. No zone is UTC."""
    try:
        if len(text) == 24 and text[23] == 'Z':        # what agents write: ...T11:30:46.708Z
            hour = HOURS.get(text[:13])
            if hour is not None and text[13] == text[16] == ':' and text[19] == '.':
                return hour + int(text[14:16]) * 60000 + int(text[17:19]) * 1000 + int(text[20:23])
        match = iso_time()(text)
        if not match:
            return None
        date, hour, minute, second, fraction, zone = match.groups()
        ms = (days_from_civil(*map(int, date.split('-'))) * 24 + int(hour)) * 3600000
        HOURS[text[:13]] = ms
        ms += (int(minute) * 60 + int(second or 0)) * 1000 + int((fraction or '')[:3].ljust(3, '0'))
        if zone and zone not in 'Zz':
            offset = int(zone[1:3]) * 60 + int(zone[-2:])
            ms -= offset * 60000 if zone[0] == '+' else -offset * 60000
        return ms
    except (TypeError, ValueError):
        return None


@lru_cache(None)                 # compiled when it is needed: most gates read nothing
def iso_time():
    return re.compile(r'(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))[Tt ]([01]\d|2[0-3]):([0-5]\d)'
                      r'(?::([0-5]\d|60)(?:[.,](\d+))?)?([Zz]|[+-]\d\d:?\d\d)?$', re.ASCII).match


def days_from_civil(year, month, day):
    """Days since 1970-01-01 in the proleptic Gregorian calendar."""
    year -= month <= 2
    month += 12 * (month <= 2)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469


# ---- log files -----------------------------------------------------------------------------

def open_plain(path):
    """A file for reading bytes; OSError for a pipe or device, which would keep its reader waiting."""
    number = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    if os.fstat(number).st_mode & 0o170000 != 0o100000:
        os.close(number)
        raise OSError(0, 'it is not a plain file')
    return open(number, 'rb', buffering=0)


def count(value):
    """Tokens of one call: a whole number, absent is 0; ValueError for what no API would say."""
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= 10 ** 7:
        raise ValueError(value)
    return value


def text_of(value, longest=200):
    """A log's text as it may be kept; None if it isn't text, or empty, endless or not encodable."""
    if type(value) is not str or not 0 < len(value) <= longest or '\0' in value:
        return None
    try:
        return value if value.isascii() or value.encode() else None
    except UnicodeEncodeError:
        return None


class Source:
    """One log file, read on from `offset`; afterwards `offset` is behind its last complete line, or behind
    that of a slice, and there is `more`. `inside`: it is in a line that is too long, whose rest is passed over."""

    def __init__(self, path, stream, offset, mtime_ms, inside=False, buffer=None):
        self.path, self.stream, self.offset, self.mtime_ms = path, stream, offset, mtime_ms
        self.name, self.buffer = os.path.basename(path), buffer or bytearray(CHUNK)
        self.malformed, self.more, self.inside = 0, False, inside

    def lines(self, skip):
        """Yield (buffer, start, end) of each complete line that `skip` does not match at its start."""
        began = base = self.pass_over(self.offset) if self.inside else self.offset
        if self.inside:
            return
        buffer, filled, ended = self.buffer, 0, False
        self.stream.seek(base)
        while not ended:
            with memoryview(buffer) as view:
                got = self.stream.readinto(view[filled:])
            ended, filled, start = not got, filled + (got or 0), 0
            while True:
                end = buffer.find(b'\n', start, filled)
                if end < 0:
                    break
                self.offset = base + end + 1
                if end > start:
                    if buffer[start] != 123 or buffer[end - 1] not in b'}\r':
                        self.malformed += not buffer[start:end].isspace()
                    elif not skip(buffer, start, end):
                        yield buffer, start, end
                start = end + 1
            if ended and filled > start:
                # JSON that is whole without its line break is a line: no part of one is valid JSON.
                rest = buffer[start:filled]
                if rest.rstrip()[-1:] == b'}' and parse_line(rest) is not None:
                    self.offset = base + filled
                    yield rest, 0, len(rest)
            self.more = not ended and self.offset - began >= SLICE
            if self.more:
                return
            filled -= start
            buffer[:filled] = buffer[start:start + filled]
            base += start
            if filled == len(buffer):
                if filled >= LONGEST_LINE:
                    self.malformed += not skip(buffer, 0, filled)
                    base, filled = self.pass_over(base + filled), 0
                    if self.inside:
                        return
                buffer = buffer + bytes(len(buffer))       # a new one: other files go on with the small one

    def pass_over(self, position):
        """Leave out the rest of a line that is too long, a slice of it at a time; where the next line starts."""
        self.stream.seek(position)
        self.offset, self.inside = position, True
        while True:
            piece = self.stream.read(CHUNK)
            end = piece.find(b'\n')
            self.offset += end + 1 or len(piece)
            self.inside = end < 0
            self.more = bool(piece) and self.inside and self.offset - position >= SLICE
            if not piece or self.more or not self.inside:
                self.stream.seek(self.offset)
                return self.offset

    def read_at(self, start, size):
        """Bytes from elsewhere in the file; the reader's own place is kept."""
        here = self.stream.tell()
        self.stream.seek(start)
        text = self.stream.read(size)
        self.stream.seek(here)
        return text

    def before(self, position):
        """(time, folder) that the lines just before a position tell, the nearest one that does; None for neither."""
        ts = cwd = None
        for reach in 1 << 12, 1 << 16:
            start = max(0, position - reach)
            for line in reversed(self.read_at(start, position - start).split(b'\n')):
                at = line.rfind(b'"timestamp":')
                if at >= 0 or b'"cwd"' in line:
                    # What is an object by itself up to the line's end is the end of the record, not of a part.
                    record = parse_line(b'{' + line[at:]) if at >= 0 else None
                    if record is None or 'cwd' not in record:
                        record = parse_line(line) or {}
                    ts = parse_time(record.get('timestamp')) if ts is None else ts
                    cwd = cwd or text_of(record.get('cwd'), 4096)
                    if ts is not None and cwd is not None:
                        return ts, cwd
        return ts, cwd

    def first_time(self):
        """The time of the first line that has one, None if there is none near the start."""
        for reach in 1 << 12, 1 << 18:
            text = self.read_at(0, reach)
            at = text.find(b'"timestamp"')
            while at >= 0:
                start, end = text.rfind(b'\n', 0, at) + 1, text.find(b'\n', at)
                when = parse_time((parse_line(text[start:end]) or {}).get('timestamp')) if end >= 0 else None
                if when is not None:
                    return when
                at = text.find(b'"timestamp"', end) if end >= 0 else -1
        return None


SCAN = json.JSONDecoder().scan_once                # json.loads without its preparations: half the time


def parse_line(line):
    """The JSON object on a line, None if it isn't one."""
    text = line.decode('utf-8', 'replace')
    try:
        record, end = SCAN(text, 0)
    except (StopIteration, ValueError, RecursionError):
        return None
    return record if type(record) is dict and not text[end:].strip() else None


REST = '~rest '                  # what a session's untranscribed rests are keyed by, and no call is


class Batch:
    """What one read of one file found; plain lists and tuples, so that it can cross a pipe."""

    def __init__(self, prices, mtime_ms):
        self.prices, self.mtime_ms = prices, mtime_ms
        self.calls, self.sessions, self.agents, self.marks = {}, {}, {}, []
        self.malformed = 0

    def call(self, key, session, agent, sidechain, kind, ts, cwd, model, variant, tokens, assumed=False):
        """One line of a call: the whole line that costs most counts, which is the one with the most output, the
        last on a tie; a line that was forged can take nothing away. A replay in a side chain never counts instead
        of the call. Where and when it was made is told by its first line."""
        if key.startswith(REST):
            raise ValueError(key)
        held = self.calls.get(key)
        if held is None:
            ts = self.mtime_ms if ts is None or ts < EARLIEST_MS else ts
        else:
            ts, cwd = held[5], held[6]
            usd = self.prices.usd
            if sidechain > held[3] or sidechain == held[3] and \
                    usd(model, ts, tokens, variant) < usd(held[7], ts, held[9], held[8]):
                return
        self.calls[key] = (key, session, agent, sidechain, kind, ts, cwd, model, variant, tokens, assumed)

    def session(self, session, began):
        self.sessions[session] = began

    def agent(self, session, name, kind):
        self.agents[session, name] = kind

    def mark(self, session, ts, cwd, family, totals):
        """What the agent itself says that a session has used up to now: {model: tokens}."""
        self.marks.append((session, ts, cwd, family, totals))

    def skip(self):
        self.malformed += 1

    def priced(self):
        """Calls with their price: (..., tokens, usd, assumed)."""
        usd = self.prices.usd
        for call in self.calls.values():
            cost, assumed = usd(call[7], call[5], call[9], call[8])
            yield call[:10] + (min(cost, HIGHEST), int(assumed or call[10]))


# ---- Claude Code ---------------------------------------------------------------------------

UP_TO_TYPE = rb'\{(?:"(?!type")[^"\\]*":(?:"[^"\\]*"|[^"\\{\[,]*),)*"type":"'
SCALARS = rb'(?:"[^"\\]*":(?:"[^"\\]*"|[^"\\{\[,]*),)*'
CLAUDE_TAGS = {'batch': 'batch', 'fast': 'fast', 'us': 'us'}
EXTRA_CALLS = {'advisor_message': 'advisor', 'compaction': 'compaction'}


@lru_cache(None)
def claude_skip():
    """What starts like a line that no bill depends on need not be looked at: scalars up to such a type."""
    return re.compile(UP_TO_TYPE + rb'(?!assistant"|cost-state"|progress")').match


@lru_cache(None)
def claude_opening():
    """How a call's line begins, up to its content: all scalars, those of the message included."""
    return re.compile(rb'\{"parentUuid":(?:"[^"\\]*"|null),'
                      rb'("isSidechain":[a-z]+,%b"message":\{%b?"id":"[^"\\]+",%b)"content":\[' % ((SCALARS,) * 3)).match


def claude_roots(environ, home):
    """Folders of transcripts: $CLAUDE_CONFIG_DIR (a comma list), else the two usual places."""
    listed = [part.strip() for part in environ.get('CLAUDE_CONFIG_DIR', '').split(',') if part.strip()]
    folders = listed or [home + '/.claude', home + '/.config/claude']
    return [os.path.abspath(os.path.expanduser(folder)) + '/projects' for folder in folders]


def read_claude(source, state, batch):
    """Claude Code transcripts (internal format, as of 2.1.330)."""
    if source.name.startswith('agent-'):
        read_agent_type(source, state, batch)
    elif 'began' not in state:
        began = source.first_time()
        if began is not None:
            state['began'] = began
            batch.session(source.name[:-6], began)
    opening, head, ahead, counted = claude_opening(), b'', 0, b''
    for buffer, start, end in source.lines(claude_skip()):
        # A call stands on a line for each of its content blocks: one in the same words has nothing new in it.
        if counted and buffer.startswith(head, start + ahead) and \
                buffer.startswith(counted, buffer.rfind(b'"usage":{', start, end)):
            continue
        record, usage, counted, opened = None, b'', b'', opening(buffer, start, end)
        if opened:
            known, content = opened.span(1)
            record, usage = parse_around(buffer, start, content, end)
        if record is None:
            if buffer.find(b'okens"', start, end) < 0:
                continue
            record = parse_line(buffer[start:end])
        if record is None:
            batch.skip()
            continue
        kind = record.get('type')
        try:
            if kind == 'assistant':
                if claude_call(source, record, state, batch) and usage:
                    head, ahead, counted = buffer[known:content], known - start, usage
            elif kind == 'cost-state':
                claude_mark(source, record, state, batch)
            elif kind == 'progress':
                claude_call(source, nested_call(record), state, batch)
        except (ValueError, TypeError, AttributeError):
            batch.skip()


def parse_around(buffer, start, content, end):
    """A call's record without its content, which is most of the line and is not billed, and the text of its usage,
    which stands behind the content; (None, b'') for a line that isn't so, or has a second usage or message in it."""
    at = buffer.rfind(b'"usage":{', content, end)
    if at < 0 or buffer.find(b'"usage":{', content, at) >= 0 or buffer.find(b'"message":{', content, at) >= 0:
        return None, b''
    try:
        text = buffer[at + 8:end].decode('utf-8', 'replace')
        usage, length = SCAN(text, 0)
        around = buffer[start:content].decode('utf-8', 'replace') + '"usage":null' + text[length:]
        record, stop = SCAN(around, 0)
    except (StopIteration, ValueError, RecursionError):
        return None, b''
    message = record.get('message')
    if around[stop:].strip() or type(message) is not dict or not (message.get('id') and message.get('model')):
        return None, b''
    message['usage'] = usage
    return record, buffer[at:at + 8] + text[:length].encode()


def read_agent_type(source, state, batch):
    """A sub-agent's type stands in a small file beside its transcript."""
    if 'agent' in state:
        return
    try:
        with open_plain(source.path[:-6] + '.meta.json') as stream:
            kind = (parse_line(stream.read(CHUNK)) or {}).get('agentType')
    except OSError:
        return
    if text_of(kind):
        state['agent'] = kind


def nested_call(record):
    """Older versions copied a sub-agent's line into a progress line of the main transcript."""
    data = record.get('data')
    inner = data.get('message') if type(data) is dict else None
    if type(inner) is not dict or inner.get('type') != 'assistant':
        return {}
    return dict(record, **dict(inner, isSidechain=True, agentId=data.get('agentId')))


def claude_call(source, record, state, batch):
    """Whether the line is one of a billed call, which the batch has then; ValueError or so for an odd one."""
    message = record.get('message')
    usage = message.get('usage') if type(message) is dict else None
    if type(usage) is not dict or message.get('model') == '<synthetic>' or record.get('isApiErrorMessage') is True:
        return False
    key = text_of(message.get('id')) or text_of(record.get('requestId')) or text_of(record.get('uuid'))
    model, session = text_of(message.get('model')), text_of(record.get('sessionId')) or source.name[:-6]
    if key is None or model is None:
        raise ValueError('a call without an id or a model')
    sidechain = int(record.get('isSidechain') is True)
    agent = text_of(record.get('agentId')) or 'sidechain' * sidechain
    if agent and 'agent' in state:
        batch.agent(session, agent, state['agent'])
    cwd, ts = text_of(record.get('cwd'), 4096), parse_time(record.get('timestamp'))
    if ts is not None and not agent:
        state['ts'], state['cwd'] = max(ts, state.get('ts', ts)), cwd
    where = session, agent, sidechain
    batch.call(key, *where, 'call', ts, cwd, model, claude_variant(usage), claude_tokens(usage))
    extras = usage.get('iterations')
    for n, extra in enumerate(extras if type(extras) is list else ()):
        kind = EXTRA_CALLS.get(extra.get('type')) if type(extra) is dict else None
        if kind:
            batch.call('%s#%d' % (key, n), *where, kind, ts, cwd, text_of(extra.get('model')) or model,
                       claude_variant(usage), claude_tokens(extra))
    return True


def claude_tokens(usage):
    get = usage.get
    split, short, long = get('cache_creation'), 0, 0
    if split:
        short, long = count(split.get('ephemeral_5m_input_tokens')), count(split.get('ephemeral_1h_input_tokens'))
    written = count(get('cache_creation_input_tokens'))
    if written > short + long:
        short = written - long
    server = get('server_tool_use')
    return (count(get('input_tokens')), count(get('output_tokens')), short, long,
            count(get('cache_read_input_tokens')), count(server.get('web_search_requests')) if server else 0)


def claude_variant(usage):
    tags = CLAUDE_TAGS.get(usage.get('service_tier')), CLAUDE_TAGS.get(usage.get('speed')), \
        CLAUDE_TAGS.get(usage.get('inference_geo'))
    return ' '.join(filter(None, tags)) if any(tags) else ''


def claude_mark(source, record, state, batch):
    """A cost-state line has neither time nor folder: the lines just before it tell both."""
    session, totals = text_of(record.get('sessionId')) or source.name[:-6], {}
    for model, usage in (record.get('modelUsage') or {}).items():
        parts = [usage.get(name) or 0 for name in
                 ('inputTokens', 'outputTokens', 'cacheCreationEphemeral5mInputTokens',
                  'cacheCreationEphemeral1hInputTokens', 'cacheReadInputTokens', 'webSearchRequests')]
        written = usage.get('cacheCreationInputTokens') or 0
        if not all(type(part) is int and 0 <= part <= 10 ** 10 for part in parts + [written]):
            raise ValueError(model)
        parts[2] += max(0, written - parts[2] - parts[3])
        totals[text_of(model) or '?'] = tuple(parts)
    ts, cwd = source.before(source.offset)
    ts = max(filter(None, (ts, state.get('ts'))), default=source.mtime_ms)
    family = record.get('startTime')
    known = type(family) is int and 0 <= family < 1 << 53
    batch.mark(session, ts, cwd or state.get('cwd'), family if known else None, totals)


# ---- prices --------------------------------------------------------------------------------

MILLION = 10 ** 6                # amounts in prices.json are read in millionths
BEFORE, AFTER = -10 ** 9, 10 ** 9                   # days: an open `from`, an open `until`
CLASSES = {'input': 0, 'output': 1, 'cache_write_5m': 2, 'cache_write_30m': 2,
           'cache_write_1h': 3, 'cache_write_12h': 3, 'cache_read': 4}
Model = namedtuple('Model', 'prices tiers modifiers search complete')


def find_prices(explicit, environ, script_dir):
    """The price list's path: --prices, $ARMLEDGER_PRICES, or beside the script (symlinks resolved)."""
    named = explicit or environ.get('ARMLEDGER_PRICES')
    return os.path.expanduser(named) if named else os.path.join(script_dir, 'prices.json')


def load_prices(path):
    try:
        with open_plain(path) as stream:
            text = stream.read().decode('utf-8')
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'not UTF-8 text'
        raise UserError('cannot read the price list (%s); put prices.json beside the script, or name one '
                        'with --prices FILE or $ARMLEDGER_PRICES' % reason, path)
    return UnreadPrices(text[1:] if text[:1] == '\ufeff' else text, path)     # some editors put such a mark there


class UnreadPrices:
    """A price list that becomes Prices when it is first asked for more than its text: most gates never ask.

    `packed` is what pack_prices has made of the same text: checking it once is enough."""

    def __init__(self, text, path):
        self.text, self.path, self.packed = text, path, None

    def __getattr__(self, name):
        self.__dict__ = vars(unpack_prices(self.text, self.packed) or parse_prices(self.text, self.path))
        self.__class__ = Prices
        return getattr(self, name)


def pack_prices(prices):
    return json.dumps([PRICING, prices.as_of, prices.models, prices.fallbacks])


def unpack_prices(text, packed):
    """The Prices that were packed; None if there are none, or of another version."""
    pricing, as_of, models, fallbacks = json.loads(packed) if packed else (None,) * 4
    if pricing != PRICING:
        return None
    return Prices(text, as_of, {name: Model(*model) for name, model in models.items()}, fallbacks)


def canonical_model(model):
    """A model's name without what doesn't change its price: provider, date, [1m], -v1:0, -thinking.

    So the names that an agent has for one model become one. What changes the price stays, and is
    priced: a cloud region (us.claude-opus-4-5; anthropic.claude-opus-4-5 is one of Bedrock's
    regions) and -fast.
    """
    region, name = split_model(model)
    return region + '.' + name if region else name


@lru_cache(maxsize=None)
def split_model(model):
    """(cloud region or '', name); a region is told from a dot inside of `gpt-5.5` by what follows it."""
    region, bedrock, name = re.match(
        r'(?:.*/)?(?:[a-z_]+:)?(?:(global|us-gov|[a-z]{2,4})\.(?=anthropic\.|claude-))?(?:(anthropic)\.)?(.*)',
        model.lower(), re.DOTALL).groups()
    suffix = r'(?:-20\d{6}|-20\d\d-\d\d-\d\d|@[\w.-]+|\[1m\])+$'
    if name.startswith('claude-'):
        name = name.replace('.', '-')
        suffix = r'(?:-20\d{6}|-v\d+(?::\d+)?|@[\w-]+|[-:]thinking|\[1m\])+$'
    name = re.sub(suffix, '', name)
    return '' if region == 'global' else region or bedrock or '', name


PRICING = 1                      # raise it when prices.json is read in another way


class Prices:
    """A price list. Unit prices are whole pico-dollars per token, so sums of them are exact.

    A call is priced at its own time. Between two dated entries the earlier one holds, before the
    first one the first, and after the last one the last: such a price is assumed. So is that of a
    modifier (fast, flex, ...) that the list doesn't have: the price is the one without it.
    """

    def __init__(self, text, as_of, models, fallbacks):
        self.text, self.as_of, self.models, self.fallbacks = text, as_of, models, fallbacks
        self.rows = {}           # (model, day, variant) -> price_rows(): few, and calls are many

    def known(self, model):
        return self.resolve(model, '')[0] in self.models

    def units(self, model, ts_ms, tokens, variant, whole=True):
        """Pico-dollars per token of each class and per search, and whether a price is assumed.

        The tokens are one call's, or, if not `whole`, a sum over calls: no long context is seen in it."""
        key = model, ts_ms // 86400000, variant
        rows = self.rows.get(key)
        if rows is None:
            rows = self.rows[key] = self.price_rows(*key)
        context = tokens[0] + tokens[2] + tokens[3] + tokens[4] if whole else 0
        for limit, units, assumed, borrowed in rows:
            if context > limit:
                return units, assumed or any([tokens[n] for n in borrowed])

    def usd(self, model, ts_ms, tokens, variant, whole=True):
        """Pico-dollars of a call, and whether a price is assumed."""
        units, assumed = self.units(model, ts_ms, tokens, variant, whole)
        return sum([count * unit for count, unit in zip(tokens, units)]), assumed

    def digest(self, model):
        """Changes with everything that this model is priced by, and with nothing else."""
        from binascii import crc32
        name = self.resolve(model, '')[0]
        priced_by = name in self.models, [self.models[link] for link in self.chain(name)]
        return '%08x' % crc32(repr(priced_by).encode())

    def resolve(self, model, variant):
        """A model's name as the list would have it, and the set of what modifies its price."""
        region, name = ('', model) if model in self.models else split_model(model)
        modifiers = set(variant.split())
        if region:
            modifiers.add('us_gov' if region == 'us-gov' else 'regional')
        if name.endswith('-fast') and name not in self.models:      # Foundry's way to say it
            name = split_model(name[:-5])[1]
            modifiers.add('fast')
        return name, modifiers

    def chain(self, name):
        """Listed models to price a name by: itself, its family's fallback, the last; until one has all classes."""
        family = max([key for key in self.fallbacks if name.startswith(key)], key=len, default='*')
        links = []
        for link in (name, self.fallbacks[family], self.fallbacks['*']):
            if link in self.models and link not in links:
                links.append(link)
                if self.models[link].complete:
                    break
        return links

    def price_rows(self, model, day, variant):
        """[(limit, units, assumed, borrowed classes)]: the first with a limit below the call's context counts."""
        name, modifiers = self.resolve(model, variant)
        own, *others = [model_rows(self.models[link], day, modifiers) for link in self.chain(name)]
        rows = []
        for limit, units, assumed in own:
            borrowed = [n for n, unit in enumerate(units) if unit is None]
            for other in others:
                lent = next(row[1] for row in other if row[0] <= limit)
                units = [theirs if unit is None else unit for unit, theirs in zip(units, lent)]
            rows.append((limit, tuple(units), assumed or name not in self.models, borrowed))
        return rows


def model_rows(model, day, modifiers):
    """[(limit, units, assumed)] of one listed model on one day, longest context first."""
    begun = [entry for entry in model.prices if entry[0] <= day] or model.prices[:1]
    first, end, units = begun[-1]
    assumed, factors = not first <= day < end, {}
    for modifier in modifiers:
        if modifier == 'priority' and modifier not in model.modifiers:
            modifier = 'fast'                                       # OpenAI's two names for one thing
        in_force = [entry[2:] for entry in model.modifiers.get(modifier, ()) if entry[0] <= day < entry[1]]
        if in_force:
            factors[modifier] = in_force[0]
        else:
            assumed = True
    if 'fast' in factors:
        factors.pop('batch', None)                                  # not sold together
    rows = [(-1, scale(units, [factor for factor, _ in factors.values()]) + (model.search,), assumed)]
    if 'flat' not in [context for _, context in factors.values()]:
        long = [factor for factor, context in factors.values() if context != 'standard']
        rows += [(limit, scale(units, long) + (model.search,), assumed)
                 for first, end, units, limit in model.tiers if first <= day < end]
    return sorted(rows, key=lambda row: -row[0])


def scale(units, factors):
    """Unit prices times factors in millionths, to the nearest pico-dollar, halves to the even one.

    No list price needs that rounding; half a pico-dollar per token is half a micro-dollar in a million."""
    above, below = 1, MILLION ** len(factors)
    for factor in factors:
        above *= factor
    halves = [None if unit is None else divmod(unit * above, below) for unit in units]
    return tuple([half and half[0] + (2 * half[1] + half[0] % 2 > below) for half in halves])


class Amount(int):
    """A number of prices.json, in millionths: exact, and not taken for a bool."""


class Unfit(str):
    """A number of prices.json that no price can be."""


@lru_cache(maxsize=None)
def read_amount(text):
    whole, _, decimals = text.partition('.')
    if (whole + decimals).isdigit() and len(whole) <= 12 and len(decimals) <= 6:
        return Amount(whole + decimals.ljust(6, '0'))
    return Unfit(text)


@lru_cache(maxsize=None)
def parse_day(text):
    """Days since 1970-01-01 of a date, None if there is no such day."""
    match = re.match(r'(\d{4})-(\d\d)-(\d\d)\Z', text, re.ASCII)
    year, month, day = map(int, match.groups()) if match else (0, 0, 0)
    if not (1 <= month <= 12 and day and days_from_civil(year, month, day) < days_from_civil(year, month + 1, 1)):
        return None
    return days_from_civil(year, month, day)


# What prices.json may say, and of which type each value is.
DATED = dict.fromkeys(('from', 'until', 'as_of', 'source', 'note'), str)
PRICE = dict(DATED, **dict.fromkeys(CLASSES, Amount))
TIER = dict(PRICE, above=Amount, inclusive=bool)
FACTOR = dict(DATED, multiplier=Amount, long_context=str)
MODIFIERS = dict.fromkeys(('batch', 'flex', 'priority', 'fast', 'ultrafast', 'us', 'regional', 'us_gov'), object)
PROVIDER = dict(MODIFIERS, web_search_usd=Amount, note=str)
MODEL = dict(PROVIDER, provider=str, aliases=list, prices=list, long_context=list)
PRICE_LIST = dict(about=object, unit=str, sources=dict, fallbacks=dict, providers=dict, models=dict)
TYPE_NAMES = {str: 'text in quotes', Amount: 'a number such as 0.25', bool: 'true or false',
              list: 'a list in [ ]', dict: 'a map in { }'}
UNIT = 'USD per million tokens'


def parse_prices(text, name):
    """The Prices in the text of a prices.json; UserError at the place of what is wrong in it."""
    return PriceReader(text, name).prices()


class PriceReader:
    """Checks a price list as it reads it. Paths are tuples of keys and indexes; only an error looks up its place."""

    def __init__(self, text, name):
        self.text, self.name = text, name

    def fail(self, message, path=None, key=False):
        raise UserError(message, self.name, *place_in(self.text, path, key))

    def prices(self):
        try:
            top = json.loads(self.text, parse_int=read_amount, parse_float=read_amount, parse_constant=Unfit,
                             object_pairs_hook=self.unique)
        except json.JSONDecodeError as error:
            raise UserError('not JSON from here on; is there a comma, a quote or a bracket too many or too few?',
                            self.name, error.lineno, error.colno)
        except RecursionError:
            raise UserError('not a price list: too deeply nested', self.name)
        self.check(top, (), PRICE_LIST, 'unit', 'fallbacks', 'providers', 'models')
        if top['unit'] != UNIT:
            self.fail('"unit" must be "%s"' % UNIT, ('unit',))
        providers = {}
        for key, value in top['providers'].items():
            self.check(value, ('providers', key), PROVIDER)
            providers[key] = self.modifiers(value, ('providers', key)), value.get('web_search_usd')
        models, as_of = {}, ''
        for key, value in top['models'].items():
            model = self.model(value, ('models', key), providers)
            self.name_model(model, key, value, models)
            as_of = max([as_of] + [entry['as_of'] for entry in value['prices']])
        return Prices(self.text, as_of, models, self.fallbacks(top['fallbacks'], models))

    def unique(self, pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            self.fail('this key is here twice')
        return found

    def check(self, value, path, schema, *required):
        if type(value) is not dict:
            self.mistyped(value, dict, path)
        for key, item in value.items():
            kind = schema.get(key)
            if kind is None:
                self.fail('unknown key "%s"; %s' % (key, suggest(key, schema)), path + (key,), key=True)
            if type(item) is not kind and kind is not object:
                self.mistyped(item, kind, path + (key,))
        for key in required:
            if key not in value:
                self.fail('"%s" is missing here' % key, path)

    def mistyped(self, value, kind, path):
        what = 'this' if not path or type(path[-1]) is int else '"%s"' % path[-1]
        if kind is Amount and type(value) is Unfit and value[-1].isdigit():
            self.fail(what + (' must not be negative' if value[0] == '-' else
                              ' must be a plain number with at most 12 digits before the point and 6 after it'), path)
        self.fail('%s must be %s' % (what, TYPE_NAMES[kind]), path)

    def model(self, value, path, providers):
        self.check(value, path, MODEL, 'provider', 'prices')
        if value['provider'] not in providers:
            self.fail('"providers" has no "%s"; %s' % (value['provider'], suggest(value['provider'], providers)),
                      path + ('provider',))
        modifiers, search = providers[value['provider']]
        search = value.get('web_search_usd', search)
        prices = [(first, end, self.classes(entry, here)) for _, first, end, entry, here in
                  self.dated(value['prices'], path + ('prices',), PRICE, 'input', 'output', 'source', 'as_of')]
        tiers = value.get('long_context', [])
        tiers = [(first, end, self.classes(entry, here), limit) for limit, first, end, entry, here in
                 self.dated(tiers, path + ('long_context',), TIER, 'above', 'input', 'output')]
        complete = search is not None and not any([None in entry[2] for entry in prices + tiers])
        if not prices:
            self.fail('"prices" needs an entry', path + ('prices',))
        return Model(prices, tiers, dict(modifiers, **self.modifiers(value, path)),
                     None if search is None else search * MILLION, complete)

    def modifiers(self, value, path):
        """{modifier: [(first day, end day, factor in millionths, what it does to a long context)]}."""
        found = {}
        for key in MODIFIERS.keys() & value.keys():
            if type(value[key]) is list:
                entries = self.dated(value[key], path + (key,), FACTOR, 'multiplier')
            else:
                entries = [(0, BEFORE, AFTER, {'multiplier': value[key]}, path)]
            found[key] = [(first, end) + self.factor(entry, key, here) for _, first, end, entry, here in entries]
        return found

    def factor(self, entry, key, path):
        factor, context = entry['multiplier'], entry.get('long_context')
        here = path + ('multiplier' if type(path[-1]) is int else key,)
        if type(factor) is not Amount:
            self.mistyped(factor, Amount, here)
        if not factor:
            self.fail('a multiplier must be above 0', here)
        if context not in (None, 'flat', 'standard'):
            self.fail('"long_context" must be "flat" or "standard" here', path + ('long_context',))
        return factor, context

    def dated(self, entries, path, schema, *required):
        """[(limit, first day, end day, entry, its path)] by date; those of one limit must not overlap."""
        found = []
        for n, entry in enumerate(entries):
            here = path + (n,)
            self.check(entry, here, schema, *required)
            above = entry.get('above', MILLION)
            if not above or above % MILLION:
                self.fail('"above" must be a whole number of tokens', here + ('above',))
            limit = above // MILLION - (entry.get('inclusive') is True)
            found.append((limit,) + self.days(entry, here) + (n,))
        found.sort()
        for before, after in zip(found, found[1:]):
            if before[0] == after[0] and after[1] < before[2]:
                self.fail('this entry begins before the one ahead of it ends: mend "from" or "until"',
                          path + (after[3],))
        return [(limit, first, end, entries[n], path + (n,)) for limit, first, end, n in found]

    def days(self, entry, path):
        found = {'from': BEFORE, 'until': AFTER}
        for key in ('from', 'until', 'as_of'):
            if key in entry:
                found[key] = parse_day(entry[key])
                if found[key] is None:
                    self.fail('"%s" must be a day such as 2026-11-23' % key, path + (key,))
        if found['from'] >= found['until']:
            self.fail('"until" must be later than "from": it is the day after the last', path + ('until',))
        return found['from'], found['until']

    def classes(self, entry, path):
        """Prices by class, None where there is none: millionths of a dollar per million are pico-dollars per token."""
        units = [None] * 5
        for key, n in CLASSES.items():
            if key in entry:
                if units[n] is not None:
                    self.fail('an entry has one short and one long cache write, not both vendors\' kinds',
                              path + (key,), key=True)
                units[n] = int(entry[key])
        return units

    def name_model(self, model, key, value, models):
        for n, name in enumerate([key] + value.get('aliases', [])):
            path = ('models', key) + ('aliases', n - 1) * (n > 0)
            if type(name) is not str:
                self.mistyped(name, str, path)
            if models.setdefault(split_model(name)[1], model) is not model:
                self.fail('"%s" is a name of another model already' % name, path, key=n == 0)

    def fallbacks(self, value, models):
        found = {}
        for family, name in value.items():
            if type(name) is not str:
                self.mistyped(name, str, ('fallbacks', family))
            found[family] = split_model(name)[1]
            if found[family] not in models:
                self.fail('"models" has no "%s"; %s' % (name, suggest(name, models)), ('fallbacks', family))
        if '*' not in found:
            self.fail('"*" is missing here: the model that prices all else', ('fallbacks',))
        if not models[found['*']].complete:
            self.fail('the model for all else needs a price for every class and for web searches', ('fallbacks', '*'))
        return found


def suggest(word, words):
    from difflib import get_close_matches
    close = get_close_matches(word, words, 1)
    return 'did you mean "%s"?' % close[0] if close else 'known are ' + ', '.join(list(words)[:20])


def place_in(text, path, key=False):
    """(line, column) in a JSON text of a value, or of its key; without a path, of the first key written twice."""
    slots, seen, offset = [0], set(), 0
    for match in re.finditer(r'("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[][{},]|[^][{},:"\s]+', text):
        token, here = match.group(), tuple(slots[1:])
        if match.group(1):
            slots[-1] = json.loads(match.group(1))
            here = tuple(slots[1:])
            found = here == path and key or path is None and here in seen
            seen.add(here)
        elif token == ',':
            found = False
            slots[-1] += 1 if type(slots[-1]) is int else ''
        elif token in ('}', ']'):
            found = False
            slots.pop()
        else:
            found = here == path and not key
            slots += [0] if token == '[' else [''] if token == '{' else []
        if found:
            offset = match.start()
            break
    return text.count('\n', 0, offset) + 1, offset - text.rfind('\n', 0, offset)


# ---- Codex CLI -----------------------------------------------------------------------------

CODEX_USAGE = 'input_tokens', 'cached_input_tokens', 'cache_write_input_tokens', 'output_tokens'
CODEX_TIERS = 'batch', 'fast', 'flex', 'priority', 'ultrafast'
REPLAY_GAP_MS = 1000             # a fork writes its parent's history down at once; a model takes longer


@lru_cache(None)
def codex_skip():
    """As claude_skip: most lines, and the longest."""
    return re.compile(UP_TO_TYPE +
                      rb'(?:(?!session_meta"|turn_context"|token_usage_record"|event_msg")'
                      rb'|event_msg","payload":\{"type":"(?!token_count"|thread_settings_applied"))').match


def codex_roots(environ, home):
    """Folders of rollouts; the active copy of one that is in both is read last, so that it wins."""
    folder = os.path.abspath(os.path.expanduser(environ.get('CODEX_HOME') or home + '/.codex'))
    return [folder + '/archived_sessions', folder + '/sessions']


def codex_wanted(name):
    return name.startswith('rollout-') and name.endswith('.jsonl')


def read_codex(source, state, batch):
    """Codex rollouts (internal format, from 2025-09 to 0.169)."""
    if 'thread' not in state:    # until its first line says so: rollout-<local time>-<thread>.jsonl
        thread = source.name[:-6][-36:]
        state.update(thread=thread, session=thread, agent='', total=None, drops=0)
    for buffer, start, end in source.lines(codex_skip()):
        if buffer.find(b'"payload"', start, end) < 0:
            continue
        record = parse_line(buffer[start:end])
        try:
            kind, payload = record.get('type'), record.get('payload')
            if kind == 'event_msg':
                kind = payload.get('type')
            if kind in CODEX_LINES:
                CODEX_LINES[kind](payload, parse_time(record.get('timestamp')), state, batch)
        except (AttributeError, KeyError, TypeError, ValueError):
            batch.skip()


def codex_session(meta, ts, state, batch):
    """The first one is the file's own; any other is a parent's, at the head of its copied history."""
    thread = text_of(meta['id'])
    if thread is None:
        raise ValueError('a session without an id')
    if 'began' not in state:
        codex_head(thread, meta, ts or 0, state, batch)
    elif thread != state['thread'] and not any(state['total'] or ()):
        state.update(total=None, replay=ts or 0)


def codex_head(thread, meta, ts, state, batch):
    """A sub-agent is part of the session at its root; a fork is a session of its own."""
    spawned = part_of(meta.get('source'), 'subagent')
    spawn = part_of(spawned, 'thread_spawn')
    parent = text_of(meta.get('parent_thread_id')) or text_of(part_of(spawn, 'parent_thread_id'))
    session = text_of(meta.get('session_id'))
    if session in (None, thread):
        session = parent or thread
    began = parse_time(meta.get('timestamp')) or ts
    state.update(thread=thread, session=session, began=began, cwd=text_of(meta.get('cwd'), 4096), total=[0] * 4)
    if session != thread:
        roles = meta.get('agent_role'), part_of(spawn, 'agent_role'), part_of(spawned, 'other'), spawned
        batch.agent(session, thread, next(filter(None, map(text_of, roles)), 'subagent'))
        state['agent'] = thread
    elif began:
        batch.session(session, began)
    if session != thread or meta.get('forked_from_id') is not None:
        state.update(total=None, replay=ts)            # its totals may go on from its parent's


def codex_turn(turn, ts, state, batch):
    state['model'] = text_of(turn.get('model')) or state.get('model')
    state['cwd'] = text_of(turn.get('cwd'), 4096) or state.get('cwd')
    began, thread = text_of(turn.get('turn_id')) or '', state['thread']
    if is_uuid7(began) and is_uuid7(thread) and began > thread:
        state.pop('replay', None)                      # a turn younger than the thread is its own


def is_uuid7(text):
    """Whether an id sorts by the time it was made."""
    return len(text) == 36 and text[8] == text[13] == '-' and text[14] == '7'


def codex_settings(event, ts, state, batch):
    """A snapshot of all settings: what is absent is off."""
    settings, tier = event['thread_settings'], event['thread_settings'].get('service_tier')
    if event.get('thread_id') in (None, state['thread']):
        state['tier'] = tier if tier in CODEX_TIERS else ''
        state['model'] = state.get('model') or text_of(settings.get('model'))


def codex_record(record, ts, state, batch):
    if record.get('thread_id') in (None, state['thread']):      # else a copy of another thread's
        response = text_of(record['response_id'])
        if response is None:
            raise ValueError('a call without an id')
        if codex_call(response, record['usage'], ts, state, batch):
            state['records'] = True


def codex_count(event, ts, state, batch):
    """Older versions' only trace of a call; beside records, which come first, it is their echo."""
    if event.get('info') is None:
        return                                         # news of rate limits alone
    total = [event['info']['total_token_usage'].get(name) or 0 for name in CODEX_USAGE]
    if not all(type(part) is int and 0 <= part <= 10 ** 12 for part in total):
        raise ValueError(total)
    before, state['total'] = state['total'], total
    if total == before or 'records' in state:
        return
    if 'replay' in state:
        if ts is None or ts - state['replay'] < REPLAY_GAP_MS:
            state['replay'] = ts or state['replay']
            return
        del state['replay']
    risen = [now - then for now, then in zip(total, before or total)]
    state['drops'] += min(risen) < 0                   # a compaction may set totals back
    last = event['info'].get('last_token_usage') or {}
    if not any(last.get(name) for name in CODEX_USAGE):
        last = dict(zip(CODEX_USAGE, risen if min(risen) >= 0 else [0] * 4))
    key = '%s:%d:%s' % (state['thread'], state['drops'], '.'.join(map(str, total)))
    codex_call(key, last, ts, state, batch)


def codex_call(key, usage, ts, state, batch):
    """Cache reads and writes are inside input, reasoning is inside output."""
    read, written = count(usage.get('cached_input_tokens')), count(usage.get('cache_write_input_tokens'))
    fresh, agent, model = count(count(usage['input_tokens']) - read - written), state['agent'], state.get('model')
    tokens = fresh, count(usage['output_tokens']), written, 0, read, 0
    if any(tokens):
        batch.call(key, state['session'], agent, int(agent != ''), 'call', ts, state.get('cwd'),
                   model or 'gpt-5', state.get('tier', ''), tokens, assumed=not model)
    return any(tokens)


def part_of(value, name):
    return value.get(name) if type(value) is dict else None


CODEX_LINES = {'session_meta': codex_session, 'turn_context': codex_turn, 'thread_settings_applied': codex_settings,
               'token_usage_record': codex_record, 'token_count': codex_count}


# ---- the agents that are metered -----------------------------------------------------------

Agent = namedtuple('Agent', 'name roots wanted read')
AGENTS = (
    Agent('claude-code', claude_roots, lambda name: name.endswith('.jsonl'), read_claude),
    Agent('codex', codex_roots, codex_wanted, read_codex),
)
TAIL = 4096                      # bytes before the offset whose checksum tells whether a file was rewritten


def read_file(agent, prices, path, seen, buffer):
    """Read a log on from where it was left; yields a tuple for Ledger.apply for each slice of it, nothing if it
    has vanished, (agent's name, path, reason) if it can't be read.

    `seen` is (ino, offset, tail, malformed, state) of the last read, or None."""
    try:
        stream = open_plain(path)
    except FileNotFoundError:
        return
    except OSError as error:
        yield agent.name, path, error.strerror
        return
    with stream:
        status = os.fstat(stream.fileno())
        ino, start, tail, malformed, state = seen or (status.st_ino, 0, 0, 0, '{}')
        offset = start
        if offset and (ino != status.st_ino or offset > status.st_size or tail_of(stream, offset) != tail):
            offset, malformed, state = 0, 0, '{}'          # another file stands under this name
        state, more = json.loads(state), True
        while more:
            source = Source(path, stream, offset, status.st_mtime_ns // 1000000, state.pop('inside', False), buffer)
            batch = Batch(prices, source.mtime_ms)
            agent.read(source, state, batch)
            offset, more = source.offset, source.more
            if source.inside:
                state['inside'] = True
            malformed += source.malformed + batch.malformed
            yield (agent.name, path, start, status.st_ino, -1 if more else status.st_size, getattr(status, CHANGED_NS),
                   offset, tail_of(stream, offset), malformed, json.dumps(state), list(batch.sessions.items()),
                   list(batch.agents.items()), list(batch.priced()), batch.marks)
            start = offset


def tail_of(stream, offset):
    from binascii import crc32
    stream.seek(max(0, offset - TAIL))
    return crc32(stream.read(min(TAIL, offset)))


def read_files(prices, shares):
    """Yield what read_file does for each (agent, path, seen), and None behind each; each share in a process of its
    own, if there are several."""
    if len(shares) < 2:
        buffer = bytearray(CHUNK)
        for agent, path, seen in shares[0]:
            yield from read_file(agent, prices, path, seen, buffer)
            yield None                                     # that was all of it
        return
    import marshal
    import select
    import signal
    pipes = {}
    try:
        for share in shares:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                for other in [reading, *pipes]:            # else none would see it when this process has gone
                    os.close(other)
                read_as_child(prices, share, writing, marshal.dumps)
            os.close(writing)
            pipes[reading] = child, bytearray()
        while pipes:
            for reading in select.select(list(pipes), [], [])[0]:
                child, received = pipes[reading]
                piece = os.read(reading, CHUNK)
                received += piece
                while len(received) >= 8:
                    size = int.from_bytes(received[:8], 'big')
                    if len(received) < 8 + size:
                        break
                    result = marshal.loads(received[8:8 + size])
                    del received[:8 + size]
                    if type(result) is str:
                        raise UserError(result)
                    yield result
                if not piece:
                    os.close(reading)
                    os.waitpid(child, 0)
                    del pipes[reading]
    finally:
        for reading, (child, received) in pipes.items():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)


def read_as_child(prices, share, writing, dumps):
    """Work of a forked process: never returns. It goes on reading while the ledger is written."""
    from select import select
    unsent = bytearray()

    def send(result):
        text = dumps(result)
        unsent.extend(len(text).to_bytes(8, 'big') + text)
        send_all_but(4 << 20)

    def send_all_but(bearable):
        while unsent:
            try:
                del unsent[:os.write(writing, unsent)]
            except BlockingIOError:
                if len(unsent) <= bearable:
                    return
                select([], [writing], [])
    try:
        os.set_blocking(writing, False)
        buffer = bytearray(CHUNK)
        try:
            for agent, path, seen in share:
                for result in read_file(agent, prices, path, seen, buffer):
                    send(result)
                send(None)
        except Exception as error:
            send('%s: %s' % (path, error))
        send_all_but(0)
    finally:
        os._exit(0)


# ---- places: which repo a folder belongs to ------------------------------------------------

Place = namedtuple('Place', 'cwd path root is_repo inner', defaults=('',))
NOWHERE = 0                      # the place of a call whose record names no folder


def resolve_place(cwd, home):
    """Where a folder really is, and the repo that it belongs to: of a worktree, its main repo.

    A repo inside a repo belongs to the outer one (else `git init` in a subfolder would be a way out of
    a cap); `inner` is the innermost, whose name an arm may have. A repo that is the home folder, or lies
    above it, is not looked at."""
    if not cwd.startswith('/') and os.sep == '/':
        return Place(cwd, cwd, cwd, False)                 # recorded on another kind of system
    try:
        path, above, repos = os.path.realpath(cwd), os.path.realpath(home), []
        folder = path
        while folder != above and not (above + os.sep).startswith(folder.rstrip(os.sep) + os.sep):
            repos += filter(None, [repo_at(folder)])
            folder = os.path.dirname(folder)
        path.encode()
    except ValueError:                                     # this locale can't say it to the system, or to the ledger
        return Place(cwd, cwd, cwd, False)
    return Place(cwd, path, repos[-1], True, repos[0]) if repos else Place(cwd, path, path, False)


def repo_at(folder):
    """The main repo of a folder that has a `.git`, None if it has none."""
    dot_git = os.path.join(folder, '.git')
    try:
        with open_plain(dot_git) as stream:
            text = os.fsdecode(stream.read(4096)).strip()
    except OSError:
        return folder if os.path.isdir(dot_git) else None
    if not text.startswith('gitdir:'):
        return None
    if not text_of(text, 4096):
        return folder
    named = os.path.normpath(os.path.join(folder, text[7:].strip())).replace('\\', '/')
    around, marker, name = named.partition('/.git/modules/')
    if marker and folder.startswith(around + os.sep):
        return repo_at(around) or around                   # a submodule
    main, marker, name = named.rpartition('/.git/worktrees/')
    if not marker:
        return folder                                      # its git folder lies elsewhere
    try:
        with open_plain('%s/.git/worktrees/%s/gitdir' % (main, name)) as stream:
            back = os.path.dirname(os.fsdecode(stream.read(4096)).strip())
        if os.path.realpath(back) != folder:
            return folder                                  # it names a worktree that is another's
    except (OSError, ValueError):
        pass                                               # pruned, or the main repo has gone
    return os.path.realpath(main)


# ---- the ledger ----------------------------------------------------------------------------

VERSION = 1
SCHEMA = '''
create table meta (key text primary key, value) without rowid;
create table folders (path text primary key, cli text,
    changed_ns int,                  -- as it was listed last; -1: list it again
    compressed int                   -- logs in it that can't be read here
    ) without rowid;
create table files (path text primary key, ino int, size int, changed_ns int, malformed int) without rowid;
create table readings (path text primary key, cli text, ino int,
    offset int,                      -- behind the last line that was read
    tail int,                        -- a checksum of the bytes before it
    state text) without rowid;
create table places (id integer primary key, cwd text unique, path text, root text, is_repo int, inner text);
create table models (name text primary key, digest text) without rowid;
create table sessions (id integer primary key, cli text, name text, began int, family int,
    dirty int default 0,             -- its untranscribed rest has to be worked out again
    unique (cli, name));
create index sessions_dirty on sessions (dirty) where dirty;
create index sessions_family on sessions (family) where family is not null;
create index sessions_name on sessions (name);
create table agents (session int, name text, type text, primary key (session, name)) without rowid;
create table calls (key text primary key, session int, agent text, kind text, place int, ts int,
    model text, variant text, input int, output int, write_short int, write_long int, read int,
    searches int, usd int, assumed int, sidechain int) without rowid;
create index calls_session on calls (session, agent, ts);
create index calls_spawned on calls (place, ts) where agent <> '';
create table copies (session int, key text, primary key (session, key)) without rowid;
create table marks (session int, ts int, place int, totals text, primary key (session, ts, totals)) without rowid;
create table spend (place int, bucket int, usd int, untranscribed_usd int, assumed_usd int, calls int,
    input int, output int, cache_write int, cache_read int, searches int, dearest_usd int,
    primary key (place, bucket)) without rowid;
create table notices (key text primary key, ts int) without rowid;
create table reservations (key text primary key, session text, agent text, tool text, arm text, ts int,
    usd int, background int, transcript text) without rowid;
insert into places values (0, '', '', '', 0, '');
'''
COLUMNS = 'key, session, agent, kind, place, ts, model, variant, input, output, ' \
          'write_short, write_long, read, searches, usd, assumed, sidechain'
INSERT_CALL = 'insert into calls (%s) values (%s)' % (COLUMNS, ', '.join('?' * 17))

ADD_SPEND = '''insert into spend values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (place, bucket) do update set usd = usd + excluded.usd,
    untranscribed_usd = untranscribed_usd + excluded.untranscribed_usd,
    assumed_usd = assumed_usd + excluded.assumed_usd, calls = calls + excluded.calls,
    input = input + excluded.input, output = output + excluded.output,
    cache_write = cache_write + excluded.cache_write, cache_read = cache_read + excluded.cache_read,
    searches = searches + excluded.searches, dearest_usd = max(dearest_usd, excluded.dearest_usd)'''
Reading = namedtuple('Reading', 'files malformed unreadable compressed')
PARALLEL_BYTES = 32 << 20        # more than this to read is worth a process for each core
BATCH = 2000                     # so many files and calls are put into the ledger at once
MANY_FILES = 2000                # to be looked at are worth a second process
MOST_FOLDERS = 100000            # listed at once: it takes some seconds
FOLDERS_WITHOUT_LOGS = ('tool-results', 'memory')


def find_ledger(explicit, environ, home):
    """--ledger, $ARMLEDGER_HOME, else the folder where this system keeps such state."""
    if explicit:
        return os.path.abspath(os.path.expanduser(explicit))
    folder = environ.get('ARMLEDGER_HOME')
    if not folder and os.name == 'nt':
        folder = os.path.join(environ.get('LOCALAPPDATA') or home, 'armledger')
    if not folder:
        folder = os.path.join(environ.get('XDG_STATE_HOME') or home + '/.local/state', 'armledger')
    return os.path.join(os.path.abspath(os.path.expanduser(folder)), 'ledger.sqlite3')


@lru_cache(None)
def sqlite():
    """The module sqlite3 without dates and times, whose import takes longer than opening a ledger."""
    try:
        import _sqlite3 as module
    except ImportError:
        import sqlite3 as module
    return module


class Ledger:
    """Every billed call, once, with its price; an SQLite file that many processes share.

    Figures are pico-dollars, times are milliseconds. sqlite3.Error passes through: see ledger_error."""

    def __init__(self, path, home, seconds=5.0):
        import gc
        sqlite3 = sqlite()
        self.collects = gc.isenabled()
        if sys.implementation.name == 'cpython':           # rows make no cycles, and thousands are looked through;
            gc.disable()                                   # PyPy would free nothing at all
        self.path, self.home, self.limit = path, home, time.monotonic() + seconds
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | getattr(os, 'O_NONBLOCK', 0), 0o600))
        except OSError as error:
            raise UserError('the ledger cannot be opened: %s; mend that, or name another with --ledger'
                            % error.strerror, path)
        self.db = sqlite3.connect(path, timeout=min(seconds, 60.0), isolation_level=None)
        self.known, self.sums, self.commit_every = {}, {}, 0.5
        self.replaceable = set()                           # calls of side chains that were read just now
        version = self.one('pragma user_version')[0]
        if version > VERSION:
            raise UserError('the ledger was written by a newer armledger (version %d, this one knows %d); '
                            'install that one here too' % (version, VERSION), path)
        if not version:
            self.create()
        elif not self.one("select 1 from sqlite_master where name = 'sessions_name'"):
            self.db.execute('create index if not exists sessions_name on sessions (name)')
        self.db.execute('pragma synchronous = normal')

    def create(self):
        """Make the tables, unless another process has just done so."""
        sqlite3 = sqlite()
        if not os.environ.get('ARMLEDGER_NO_WAL'):         # network folders have no shared memory
            try:
                self.once_unlocked('pragma journal_mode = wal', 1.0)
            except sqlite3.OperationalError:
                pass                                       # others are at work in it already; it stays as it is
        self.begin()
        if not self.one('pragma user_version')[0]:
            for statement in SCHEMA.split(';\n'):
                self.db.execute(statement)
            self.db.execute('insert into meta values (?, ?)', ('created', int(time.time() * 1000)))
            self.db.execute('pragma user_version = %d' % VERSION)
        self.db.execute('commit')

    def close(self):
        import gc
        self.db.close()
        if self.collects:
            gc.enable()

    def meta(self, key):
        row = self.one('select value from meta where key = ?', key)
        return row[0] if row else None

    def one(self, sql, *values):
        """The first row or None; no statement is left open (PyPy could not commit then)."""
        rows = self.db.execute(sql, values).fetchall()
        return rows[0] if rows else None

    def look_up(self, sql, values):
        """The rows for any number of values; the place in `sql` for some of them is a %s."""
        for n in range(0, len(values), 500):
            some = values[n:n + 500]
            yield from self.db.execute(sql % ', '.join('?' * len(some)), some).fetchall()

    # -- bringing it up to date

    def refresh(self, prices, environ, now_ms, progress=None):
        """Take in every complete line that is on disk; NotYet if the time is up before that is done.

        A line that is stamped later than now, by a wrong clock, counts as of now."""
        self.prices, self.now_ms, self.progress, began = prices, now_ms, progress, time.monotonic()
        self.future_ms = max(int(time.time() * 1000), now_ms) + 300000
        if self.meta('prices') != prices.text:
            self.reprice()
        prices.packed = self.meta('packed_prices')
        sqlite3 = sqlite()
        while self.survey(environ):
            try:
                self.write(self.take_in, 0.1)
                break
            except sqlite3.OperationalError as error:      # while others hold the lock, they may read it all
                if 'locked' not in str(error) or time.monotonic() > min(self.limit, began + 60.0):
                    raise
        return Reading(self.files, self.malformed, self.unreadable, self.compressed)

    def survey(self, environ):
        """Find what has changed on disk: `pending` files, newly `listed` folders, files that have `gone`; is there any?

        A folder is listed again only when its time says that names came or went; a file is looked at
        every time, since one of any age can grow."""
        self.pending, self.listed, self.gone, self.unreadable = [], [], [], []
        agents, stat = {agent.name: agent for agent in AGENTS}, os.stat
        files = self.db.execute('select path, ino, size, changed_ns, malformed from files').fetchall()
        folders = self.db.execute('select * from folders').fetchall()
        roots = [(root, agent.name) for agent in AGENTS for root in agent.roots(environ, self.home)]
        self.roots = {root for root, _ in roots}
        self.files, self.malformed = len(files), sum([row[4] for row in files])
        self.compressed = sum([row[3] for row in folders])
        half = (len(files) + len(folders)) // 2 if len(files) > MANY_FILES and cores() > 1 else 0
        theirs = find_moved_aside(files[:half]) if half else list
        unlisted = self.roots.difference([row[0] for row in folders])
        changed = [(root, cli) for root, cli in roots if root in unlisted and not is_missing(root)]
        for path, cli, changed_ns, _ in folders:
            try:
                if getattr(stat(path), CHANGED_NS) != changed_ns:
                    changed.append((path, cli))
            except OSError:
                changed.append((path, cli))
        if changed:
            self.list_folders(changed, {row[0]: row[1:] for row in folders}, {row[0] for row in files}, agents)
        new, self.pending = self.pending, []               # read last: what is known comes before its copies
        for (path, _, size, _, _), status, error in find_moved(files[half:]) + theirs():
            if status:
                cli = self.one('select cli from readings where path = ?', path)[0]
                self.pending.append((agents[cli], path, max(0, status.st_size - size)))
            elif isinstance(error, FileNotFoundError):
                self.gone.append(path)
            else:
                self.unreadable.append((path, error.strerror))
        self.pending += new
        return self.pending or self.listed or self.gone or self.one('select 1 from sessions where dirty limit 1')

    def list_folders(self, changed, folders, known, agents):
        """List folders whose names have changed, and what is new below them; `folders` and files are `known`."""
        listed = 0
        while changed:
            listed += 1
            if listed > MOST_FOLDERS:
                raise UserError('more than %d folders of logs: a link leads elsewhere; take it away' % MOST_FOLDERS,
                                changed[-1][0])
            self.list_folder(*changed.pop(), folders, known, changed, agents)

    def list_folder(self, folder, cli, folders, known, changed, agents):
        try:
            changed_ns = getattr(os.stat(folder), CHANGED_NS)
            with os.scandir(folder) as entries:
                entries = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            if folder in folders:
                self.listed.append((folder, cli, None, 0))
            return
        except OSError as error:
            self.unreadable.append((folder, error.strerror))
            if folders.get(folder) != (cli, -1, 0):        # to be tried, and told of, until it can be listed
                self.listed.append((folder, cli, -1, 0))
            return
        compressed = 0
        for entry in entries:
            try:
                compressed += self.list_entry(entry, cli, folders, known, changed, agents)
            except OSError:
                pass                                       # it has gone meanwhile
        if changed_ns > time.time_ns() - RACY_NS:
            changed_ns = -1
        now = cli, changed_ns, compressed
        self.compressed += compressed - folders.get(folder, now)[2] * (folder in folders)
        if folders.get(folder) != now:
            self.listed.append((folder, *now))

    def list_entry(self, entry, cli, folders, known, changed, agents):
        """Note a new log as pending, a new folder as changed; 1 for a compressed log that was never metered."""
        if not text_of(entry.path, 1 << 16):
            return 0                                       # no agent names a log so, and no ledger can
        if entry.is_dir():
            # Links are followed in a root alone, and not to what lies above it: no walk without an end.
            around = os.path.dirname(entry.path)
            followed = not entry.is_symlink() or around in self.roots and not (
                os.path.realpath(around) + os.sep).startswith(os.path.realpath(entry.path).rstrip(os.sep) + os.sep)
            if entry.path not in folders and entry.name not in FOLDERS_WITHOUT_LOGS and followed:
                changed.append((entry.path, cli))
        elif agents[cli].wanted(entry.name):
            if entry.path not in known and entry.is_file():
                self.pending.append((agents[cli], entry.path, entry.stat().st_size))
        elif entry.name.endswith('.jsonl.zst'):
            thread = entry.name[:-10][-36:]
            return not self.one('select 1 from sessions where name = ? union all select 1 from agents where name = ?',
                                thread, thread)
        return 0

    def write(self, change, seconds=60.0):
        """Run `change` in a transaction of its own; what it did is kept whole or not at all."""
        self.begin(seconds)
        try:
            result = change()
            self.commit()
            return result
        except NotYet:
            self.commit()
            raise
        except BaseException:
            self.known.clear()
            self.sums.clear()
            if self.db.in_transaction:
                self.db.execute('rollback')
            raise

    def begin(self, seconds=60.0):
        self.once_unlocked('begin immediate', seconds)

    def once_unlocked(self, sql, seconds):
        """Wait for the lock. SQLite's own wait sleeps longer and longer, and starves in a crowd."""
        sqlite3 = sqlite()
        until = min(self.limit, time.monotonic() + seconds)
        self.one('pragma busy_timeout = 0')
        try:
            while True:
                try:
                    return self.one(sql)
                except sqlite3.OperationalError as error:
                    if 'locked' not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(0.002 + time.time_ns() % 7000 / 10 ** 6)
        finally:
            self.one('pragma busy_timeout = 5000')

    def commit(self):
        absurd = [key for key, sums in self.sums.items() if max(map(abs, sums)) > HIGHEST >> 10]
        for key in absurd:
            self.recount(*key)
            del self.sums[key]
        self.db.executemany(ADD_SPEND, [key + tuple(sums) for key, sums in self.sums.items()])
        for key, sums in self.sums.items():
            if abs(sums[0]) > 8 * PICO and not 0 <= self.one(
                    'select usd from spend where place = ? and bucket = ?', *key)[0] <= HIGHEST >> 2:
                self.recount(*key)
        self.sums.clear()
        self.db.execute('commit')

    def recount(self, place, bucket):
        """Sum up anew what forged figures would carry beyond SQLite's integers; such a sum is cut off, high up."""
        rows = self.db.execute('select %s from calls where place = ? and ts between ? and ?' % COLUMNS, (
            place, bucket * BUCKET_MS, (bucket + 1) * BUCKET_MS - 1)).fetchall()
        held, self.sums = self.sums, {}
        self.book(rows, 1)
        sums, self.sums = self.sums.get((place, bucket), [0] * 10), held
        self.db.execute('delete from spend where place = ? and bucket = ?', (place, bucket))
        self.db.execute(ADD_SPEND, (place, bucket, *[min(one, HIGHEST) for one in sums]))

    def insert(self, rows):
        self.db.executemany(INSERT_CALL, rows)
        self.book(rows, 1)

    def book(self, rows, sign):
        """Add calls to the sums of their places and quarters of an hour, or (sign -1) take them out.

        Every change of a call's place, time, tokens or price is booked, in the same transaction."""
        for (_, _, _, kind, place, ts, _, _, read_in, output, short, long, read, searches, usd, assumed, _) in rows:
            key, metered = (place, ts // BUCKET_MS), kind != 'untranscribed'
            sums = self.sums.get(key)
            if sums is None:
                sums = self.sums[key] = [0] * 10
            sums[0] += usd * sign
            sums[1] += 0 if metered else usd * sign
            sums[2] += usd * sign if assumed else 0
            sums[3] += sign if metered else 0
            sums[4] += read_in * sign
            sums[5] += output * sign
            sums[6] += (short + long) * sign
            sums[7] += read * sign
            sums[8] += searches * sign
            if metered and usd > sums[9]:
                sums[9] = usd

    def take_in(self):
        """Read what is pending, in as many processes as that is worth, and put it into the ledger bit by bit."""
        db, due = self.db, time.monotonic() + self.commit_every
        for table in ('files', 'readings'):
            db.executemany('delete from %s where path = ?' % table, [(path,) for path in self.gone])
        total, done, files, found, held = sum(size for _, _, size in self.pending), 0, 0, [], 0
        results = read_files(self.prices, self.share_out(cores() if total > PARALLEL_BYTES else 1))
        try:
            for result in results:
                pausable = result is None
                if pausable:
                    files += 1
                elif len(result) == 3:
                    self.note_unreadable(*result)
                else:
                    done += max(0, result[6] - result[2])
                    found.append(result)
                    held += 1 + len(result[12])
                    pausable = result[4] < 0               # a slice of a file
                now = time.monotonic()
                paused = pausable and now > self.limit and files < len(self.pending)
                if paused or now > due or held >= BATCH:
                    self.apply_or_report(found)
                    self.settle()
                    found, held = [], 0
                if paused:
                    raise NotYet('the ledger is being built: %d of %d changed log files are read; '
                                 'the next call goes on' % (files, len(self.pending)), self.path)
                if self.progress:
                    self.progress(files, len(self.pending), done, total)
                if now > due:
                    self.commit()                          # a kill loses no more than half a second
                    self.begin()
                    due = time.monotonic() + self.commit_every
            self.apply_or_report(found)
        finally:
            results.close()
        # Only now: a folder counts as listed when all that was found in it is read.
        db.executemany('delete from folders where path = ?', [row[:1] for row in self.listed if row[2] is None])
        db.executemany('insert or replace into folders values (?, ?, ?, ?)',
                       [row for row in self.listed if row[2] is not None])
        self.settle()

    def share_out(self, workers):
        """What is pending as one list of (agent, path, its last reading) for each process, of equal size in bytes."""
        if workers > 1:
            self.one('pragma wal_autocheckpoint = 16384')  # pages: few waits for the disk
            self.one('pragma cache_size = -32000')         # KB: ids come in no order, all over the table
            # What is one session's stands together, and is complete early; none of the largest comes at the end.
            self.pending.sort(key=lambda one: (-one[2] if one[2] > SLICE else 0, one[1]))
        seen = {row[0]: row[1:] for row in self.look_up(
            'select path, readings.ino, offset, tail, malformed, state from readings join files using (path) '
            'where path in (%s)', [path for _, path, _ in self.pending])}
        shares, sizes = [[] for _ in range(workers)], [0] * workers
        for agent, path, size in self.pending:
            least = sizes.index(min(sizes))
            shares[least].append((agent, path, seen.get(path)))
            sizes[least] += size + (1 << 14)               # to open one takes as long as to read so much
        return shares

    def note_unreadable(self, cli, path, reason):
        """It is tried, and told of, at each survey until it can be read: its size is none that a file has."""
        self.unreadable.append((path, reason))
        self.db.execute('insert or ignore into files values (?, -1, -1, -1, 0)', (path,))
        self.db.execute("insert or ignore into readings values (?, ?, -1, 0, 0, '{}')", (path, cli))

    def apply_or_report(self, results):
        """Apply what was read of some files; what can't be stored of one must not keep the others out."""
        sqlite3 = sqlite()
        sums, self.sums, before = self.sums, {}, (self.files, self.malformed)
        self.db.execute('savepoint files')
        try:
            self.apply(results)
        except (ArithmeticError, LookupError, TypeError, ValueError, sqlite3.IntegrityError) as error:
            self.db.execute('rollback to files')
            self.known.clear()
            self.sums.clear()
            self.files, self.malformed = before
            if len(results) == 1:
                self.note_unreadable(*results[0][:2], '%s: %s' % (type(error).__name__, error))
            else:
                for result in results:
                    self.apply_or_report([result])
        self.db.execute('release files')
        for key, added in self.sums.items():
            held = sums.get(key)
            sums[key] = added if held is None else [a + b for a, b in zip(held[:9], added)] + [max(held[9], added[9])]
        self.sums = sums

    def apply(self, results):
        """Put what was read of some files into the ledger."""
        db = self.db
        known = {path: (offset, malformed) for path, offset, malformed in self.look_up(
            'select path, offset, malformed from readings join files using (path) where path in (%s)',
            [result[1] for result in results])}
        files, readings, began, kinds, rows, marks = {}, {}, [], [], [], []
        for (cli, path, start, ino, size, changed_ns, offset, tail, malformed, state,
             sessions, agents, calls, totals) in results:
            held = known.get(path)
            if (held[0] if held else 0) != start:
                continue                                   # another process was here first
            self.malformed += malformed - (held[1] if held else 0)
            self.files += not held
            known[path] = offset, malformed
            files[path] = path, ino, size, changed_ns, malformed
            readings[path] = path, cli, ino, offset, tail, state
            began += [(when, self.session(cli, name)) for name, when in sessions]
            kinds += [(self.session(cli, session), name, kind) for (session, name), kind in agents]
            rows += [self.row(cli, *call) for call in calls]
            marks += [(self.session(cli, session), self.stamp(ts), self.place(cwd), json.dumps(total), family)
                      for session, ts, cwd, family, total in totals]
        db.executemany('insert or replace into files values (?, ?, ?, ?, ?)', files.values())
        db.executemany('insert or replace into readings values (?, ?, ?, ?, ?, ?)', readings.values())
        db.executemany('update sessions set began = ? where id = ? and began is null', began)
        db.executemany('insert or replace into agents values (?, ?, ?)', kinds)
        self.take_calls(rows)
        db.executemany('insert or ignore into marks values (?, ?, ?, ?)', [mark[:4] for mark in marks])
        db.executemany('update sessions set family = ? where id = ?', [(mark[4], mark[0]) for mark in marks])
        db.executemany('update sessions set dirty = 1 where id = ? and not dirty',
                       {one[:1] for one in marks}.union([row[1:2] for row in rows]))

    def row(self, cli, key, session, agent, sidechain, kind, ts, cwd, model, variant, tokens, usd, assumed):
        """A call as a row of the table, in the order of COLUMNS."""
        self.model(model)
        return (key, self.session(cli, session), agent, kind, self.place(cwd), self.stamp(ts), model, variant,
                *tokens, usd, assumed, sidechain)

    def stamp(self, ts):
        return ts if ts <= self.future_ms else self.now_ms

    def take_calls(self, rows):
        held = {row[0]: row for row in self.look_up('select %s from calls where key in (%%s)' % COLUMNS,
                                                    [row[0] for row in rows])}
        fresh = {}
        for row in rows:
            key = row[0]
            if key in fresh:                               # another file of these has it too
                self.take_new(fresh)
                held.update(fresh)
                fresh = {}
            if key in held:
                self.merge(held[key] or self.one('select %s from calls where key = ?' % COLUMNS, key), row)
                held[key] = None                           # it is another one now
            else:
                fresh[key] = row
        self.take_new(fresh)

    def take_new(self, fresh):
        self.insert(list(fresh.values()))
        self.replaceable.update(key for key, row in fresh.items() if row[16])

    def merge(self, held, row):
        """Another copy of a call that the ledger has. What was metered can be raised, never lowered,
        and stays where and when it was: a forged copy can take nothing away.

        The main line wins over a replay in a side chain, and of two sessions the one that began first."""
        replays = held[16] and not row[16] and row[0] in self.replaceable
        if replays or row[16] <= held[16] and row[14] >= held[14] and row[6:16] != held[6:16]:
            usd, assumed = self.prices.usd(row[6], held[5], row[8:14], row[7])
            row = row[:14] + (min(usd, HIGHEST), int(assumed)) + row[16:]
            self.db.execute(
                'update calls set model = ?, variant = ?, input = ?, output = ?, write_short = ?, write_long = ?, '
                'read = ?, searches = ?, usd = ?, assumed = ? where key = ?', row[6:16] + row[:1])
            self.book([held], -1)
            self.book([held[:6] + row[6:16] + held[16:]], 1)
        self.settle_owner(held, row)

    def settle_owner(self, held, row):
        """Of two copies of a call: the session that made it keeps it, the other's is noted as a copy."""
        db, key, session = self.db, row[0], held[1]
        if row[16] < held[16] or row[16] == held[16] and row[1] != session and self.rank(row[1]) < self.rank(session):
            session = row[1]
            db.execute('update calls set session = ?, agent = ?, sidechain = ? where key = ?',
                       (session, row[2], row[16], key))
        if row[1] != held[1]:
            other = held[1] if session == row[1] else row[1]
            db.execute('insert or ignore into copies values (?, ?)', (other, key))
            db.execute('delete from copies where session = ? and key = ?', (session, key))
        db.execute('update sessions set dirty = 1 where id in (?, ?)', (row[1], held[1]))

    def rank(self, session):
        began, name = self.one('select began, name from sessions where id = ?', session)
        return began is None, began, name

    def session(self, cli, name):
        number = self.known.get((cli, name))
        if number is None:
            self.db.execute('insert or ignore into sessions (cli, name) values (?, ?)', (cli, name))
            number = self.known[cli, name] = self.one(
                'select id from sessions where cli = ? and name = ?', cli, name)[0]
        return number

    def place(self, cwd):
        number = NOWHERE if cwd is None else self.known.get(cwd)
        if number is None:
            wanted = 'select id from places where cwd = ?'
            row = self.one(wanted, cwd)
            if not row:                                    # or ignore: another process may be as quick
                self.db.execute('insert or ignore into places (cwd, path, root, is_repo, inner) values (?, ?, ?, ?, ?)',
                                self.place_of(cwd))
                row = self.one(wanted, cwd)
            number = self.known[cwd] = row[0]
        return number

    def known_root(self, place):
        """What lies in a repo that is known, or in a worktree of one, stays in it, whatever its .git may say
        today, and if there is none any more."""
        for folder in place.path, place.cwd:
            while folder != os.path.dirname(folder):
                known = self.one('select root, inner from places where path = ? and is_repo', folder) or \
                    self.one('select root, ? from places where root = ? and is_repo', place.inner or folder, folder)
                if known:
                    return place._replace(root=known[0], is_repo=True, inner=known[1])
                folder = os.path.dirname(folder)
        return place

    def place_of(self, cwd):
        """The Place of a folder: as it was when a call was first made in it, else as it is now."""
        row = self.one('select cwd, path, root, is_repo, inner from places where cwd = ?', cwd)
        return Place(*row) if row else self.known_root(resolve_place(cwd, self.home))

    # -- prices

    def model(self, name):
        if name not in self.known:
            self.known[name] = True
            self.db.execute('insert or ignore into models values (?, ?)', (name, self.prices.digest(name)))

    def reprice(self):
        """prices.json has changed: price again the calls whose price has, model by model."""
        self.prices.as_of                                  # reads it: an error shows now, not at the next new call
        for name, digest in self.db.execute('select name, digest from models').fetchall():
            if digest != self.prices.digest(name):
                if time.monotonic() > self.limit:
                    raise NotYet('prices have changed and the ledger is being priced again; the next call goes on',
                                 self.path)
                self.write(lambda: self.reprice_model(name))
        self.db.executemany('insert or replace into meta values (?, ?)', (
            ('prices', self.prices.text), ('packed_prices', pack_prices(self.prices))))

    def reprice_model(self, name):
        for held in self.db.execute('select %s from calls where model = ?' % COLUMNS, (name,)).fetchall():
            usd, assumed = self.prices.usd(name, held[5], held[8:14], held[7], held[3] != 'untranscribed')
            usd = min(usd, HIGHEST)
            if (usd, assumed) != held[14:16]:
                self.db.execute('update calls set usd = ?, assumed = ? where key = ?', (usd, int(assumed), held[0]))
                self.book([held], -1)
                self.book([held[:14] + (usd, int(assumed), held[16])], 1)
        self.db.execute('update models set digest = ? where name = ?', (self.prices.digest(name), name))

    # -- what no transcript line shows

    def settle(self):
        """Work out the untranscribed rest of every session whose calls or totals have changed.

        A cost-state line holds a session's total up to then, helper calls and sub-agents included.
        Its rest is that total less the session's own calls up to then, less, in a fork, what the
        total had in it when the session began."""
        db = self.db
        rows = db.execute('select id, cli, name, began, family from sessions where dirty').fetchall()
        crowded = set()
        for family in {row[4] for row in rows if row[4] is not None}:
            relatives = db.execute('select id, cli, name, began, family, dirty from sessions where family = ?',
                                   (family,)).fetchall()
            if len(relatives) > 1:
                crowded.add(family)
                rows += [relative[:5] for relative in relatives if not relative[5]]
        forks = {row[0] for row in db.execute('select distinct session from copies').fetchall()}
        for session in rows:
            marks = self.marks_of(session[0])
            if marks:
                self.settle_session(session, marks, session[0] in forks or session[4] in crowded)
        db.execute('update sessions set dirty = 0 where dirty')

    def marks_of(self, session):
        marks = [(ts, place, totals_by_model(json.loads(totals)))
                 for ts, place, totals in self.db.execute(
                     'select ts, place, totals from marks where session = ? order by ts desc limit ?',
                     (session, MOST_MARKS))]
        return sorted(marks, key=lambda mark: (mark[0], sum(map(sum, mark[2].values()))))

    def settle_session(self, session, marks, fork):
        number, cli, name, began, family = session
        calls, held = [], {}
        for row in self.db.execute('select %s from calls where session = ?' % COLUMNS, (number,)).fetchall():
            if row[3] == 'untranscribed':
                held[row[0]] = row
            else:
                calls.append(row)
        rests, inherited = [], None
        for ts, place, totals in marks:
            resumed = min([call[5] for call in calls if call[5] > ts and not call[2]], default=None)
            rest = less(totals, sum_calls(calls if resumed is None else [call for call in calls if call[5] < resumed]))
            if inherited is None:
                inherited = self.inherited(number, began, family, rest) if fork else {}
            rests.append((ts, place, less(rest, inherited)))
        wanted, settled = {}, {}
        for n, (ts, place, rest) in enumerate(rests):
            for model, tokens in rest.items():
                # No more than what later totals leave: the last one counts.
                tokens = tuple(map(min, *(later[2].get(model, NONE) for later in rests[n:]), tokens))
                more = tuple(map(int.__sub__, tokens, settled.get(model, NONE)))
                if any(more):
                    settled[model] = tokens
                    usd, assumed = self.prices.usd(model, ts, more, '', False)
                    self.model(model)
                    key = REST + '%s %s %d %s' % (cli, name, ts, model)
                    wanted[key] = (key, number, '', 'untranscribed', place, ts, model, '', *more,
                                   min(usd, HIGHEST), int(assumed), 0)
        stale = [row for key, row in held.items() if wanted.get(key) != row]
        if stale:
            self.db.executemany('delete from calls where key = ?', [row[:1] for row in stale])
            self.book(stale, -1)
        new = [row for key, row in wanted.items() if held.get(key) != row]
        if new:
            self.insert(new)

    def inherited(self, session, began, family, rest):
        """What a fork's total held when it began: one of its family's earlier totals, or the calls
        that were copied into its file; the largest that fits into what its own calls leave.

        A total is no ancestor's if a call before it is missing among the copies that reach so far back."""
        copied = self.db.execute(
            'select %s from calls where key in (select key from copies where session = ?)' % COLUMNS, (session,)).fetchall()
        candidates = [sum_calls(copied)]
        keys, since = {row[0] for row in copied}, min((row[5] for row in copied), default=None)
        for other in self.ancestors(session, began, family, copied):
            for ts, _, totals in self.marks_of(other):
                if ts <= began and (since is None or all(key in keys for key, in self.db.execute(
                        "select key from calls where session = ? and agent = '' and kind = 'call' "
                        'and ts between ? and ?', (other, since, ts)).fetchall())):
                    candidates.append(totals)
        fitting = [one for one in candidates if all(
            part <= whole for model in one for part, whole in zip(one[model], rest.get(model, NONE)))]
        return max(fitting, key=lambda one: sum(map(sum, one.values())), default={})

    def ancestors(self, session, began, family, copied):
        """Sessions that a fork may go on from: earlier ones of its family; if some of them hold all
        that it has copied, one of those."""
        if family is None or began is None:
            return []
        earlier = [row[0] for row in self.db.execute(
            'select id from sessions where family = ? and id <> ? and began < ?', (family, session, began)).fetchall()]
        held = {other: {row[0] for row in self.db.execute('select key from copies where session = ?', (other,)).fetchall()}
                for other in earlier}
        holders = [other for other in earlier if all(row[1] == other or row[0] in held[other] for row in copied)]
        return holders or earlier


def find_moved(files):
    """[(row, its status, None)] of the files that aren't as they were, (row, None, the OSError) where there is none."""
    stat, moved = os.stat, []
    for row in files:
        path, ino, size, changed_ns, _ = row
        try:
            status = stat(path)
            if status.st_size != size or getattr(status, CHANGED_NS) != changed_ns or status.st_ino != ino:
                moved.append((row, status, None))
        except OSError as error:
            moved.append((row, None, error))
    return moved


def find_moved_aside(files):
    """Have another process look: nearly all of a gate's time goes by with it. What find_moved gives, as a function."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            moved = {row[0] for row, _, _ in find_moved(files)}
            with open(writing, 'w') as out:
                out.write(' '.join([str(n) for n, row in enumerate(files) if moved and row[0] in moved]))
            code = 0
        finally:
            os._exit(code)
    os.close(writing)

    def answer():
        with open(reading) as told:
            places = told.read().split()
        failed = os.waitpid(child, 0)[1]
        return find_moved(files if failed else [files[int(n)] for n in places])
    return answer


def is_missing(path):
    """Whether nothing lies there; what can't be looked at may."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


MOST_MARKS = 200                 # of a session's totals, the last so many: earlier ones are contained in them
NONE = (0,) * 6


def totals_by_model(totals):
    """Under the name that transcripts use: cost-state's keys can carry a suffix."""
    summed = {}
    for model, tokens in totals.items():
        model = canonical_model(model)
        summed[model] = tuple(map(int.__add__, summed[model], tokens)) if model in summed else tuple(tokens)
    return summed


def sum_calls(calls):
    """{model: tokens} of calls."""
    summed = {}
    for (_, _, _, _, _, _, model, _, read_in, output, short, long, read, searches, _, _, _) in calls:
        sums = summed.get(model)
        if sums is None:
            sums = summed[model] = [0] * 6
        sums[0] += read_in
        sums[1] += output
        sums[2] += short
        sums[3] += long
        sums[4] += read
        sums[5] += searches
    return totals_by_model(summed)


def less(whole, part):
    """{model: tokens} of what is left over, never negative."""
    return {model: tuple([max(0, a - b) for a, b in zip(tokens, part.get(model, NONE))])
            for model, tokens in whole.items() if part.get(model) != tokens}


def cores():
    """Processes worth starting for a long read; 1 where a process cannot simply be forked."""
    if not hasattr(os, 'fork'):
        return 1
    try:
        return min(8, len(os.sched_getaffinity(0)))
    except AttributeError:
        return min(8, os.cpu_count() or 1)


def ledger_error(path, error):
    """The UserError for an sqlite3.Error."""
    text = str(error)
    if 'locked' in text:
        return NotYet('the ledger is in use by another process for too long; try again, '
                      'or see who holds it', path)
    if 'no such column' in text or 'no such table' in text or 'has no column' in text:
        return UserError('the ledger was made by another version of armledger (%s); `budget-check.py --rebuild` makes '
                         'it anew from the logs' % text, path)
    if 'readonly' in text or 'unable to open' in text:
        return UserError('the ledger cannot be written (%s); give its owner write access to it and its folder'
                         % text, path)
    if 'full' in text:
        return UserError('the disk is full: make room; nothing that was metered is lost', path)
    if 'disk I/O error' in text:
        return UserError('the ledger cannot be read or written (disk I/O error): see whether its disk is full or '
                         'failing; nothing that was metered is lost', path)
    return UserError('the ledger is damaged (%s); `budget-check.py --rebuild` makes it anew from the logs' % text, path)


# --- END shared block


# ---- calendar: days, weeks and months of a time zone ---------------------------------------

DAY_MS = 86400000
TIME_KEYS = ('day', 'week', 'month')


class Calendar:
    """Whole days, ISO weeks and months in 'local' time or an IANA zone; times are ms since the epoch."""

    def __init__(self, timezone='local'):
        self.timezone = timezone
        self.offset_s = local_offset if timezone == 'local' else zone_offset(timezone)
        self.dates = {}

    def date(self, ms):
        """YYYY-MM-DD of a moment."""
        quarter = ms // BUCKET_MS                # no zone's clock changes within a quarter of an hour
        if quarter not in self.dates:
            second = quarter * (BUCKET_MS // 1000)
            self.dates[quarter] = '%04d-%02d-%02d' % time.gmtime(second + self.offset_s(second))[:3]
        return self.dates[quarter]

    def midnight(self, date):
        """The first moment of a date, also where the clocks are changed at midnight."""
        utc_s = days_from_civil(*map(int, date.split('-'))) * 86400
        ms = (utc_s - self.offset_s(utc_s - self.offset_s(utc_s))) * 1000
        while self.date(ms) < date:
            ms += BUCKET_MS
        while self.date(ms - 1) >= date:
            ms -= BUCKET_MS
        return ms

    def window(self, name, ms):
        """(start, end) of the day, week or month that a moment is in."""
        year, month, day = map(int, self.date(ms).split('-'))
        if name == 'month':
            after = (year + 1, 1) if month == 12 else (year, month + 1)
            return self.midnight('%04d-%02d-01' % (year, month)), self.midnight('%04d-%02d-01' % after)
        days = 1 if name == 'day' else 7
        first = days_from_civil(year, month, day)
        if name == 'week':
            first -= (first + 3) % 7             # 1970-01-01 was a Thursday
        return self.midnight(utc_date(first)), self.midnight(utc_date(first + days))

    def label(self, name, ms):
        return label_of(name, self.date(ms))

    def day_sql(self, span, moment):
        """SQL for the number of the day, counted from 1970-01-01, that a moment of the span is in."""
        cases, at, until = [], span.since, max(span.since, span.until)
        offset = self.offset_s(at // 1000)
        while at < until:
            after = min(at + DAY_MS, until)
            if self.offset_s(after // 1000) != offset:       # the clocks are changed in this day: when?
                while self.offset_s(at // 1000) == offset:
                    at += BUCKET_MS - at % BUCKET_MS
                cases.append('when %s < %d then %d ' % (moment, at, offset))
                offset = self.offset_s(at // 1000)
            else:
                at = after
        shift = 'case %selse %d end' % (''.join(cases), offset) if cases else str(offset)
        return '(%s + (%s) * 1000) / %d' % (moment, shift, DAY_MS)

    def iso(self, ms):
        """2026-11-01T00:00:00+01:00"""
        offset = self.offset_s(ms // 1000)
        sign, minutes = '-' if offset < 0 else '+', abs(offset) // 60
        return '%s%s%02d:%02d' % (utc_text(ms + offset * 1000)[:-1], sign, minutes // 60, minutes % 60)

    def zone_name(self, ms):
        """Europe/Berlin; of local time its name and offset at that moment."""
        if self.timezone != 'local':
            return self.timezone
        return '%s (UTC%s)' % (time.localtime(ms // 1000).tm_zone, self.iso(ms)[19:])

    def parse(self, text, option):
        """A date, or a time (without a zone: of this calendar's), as (ms, is_date)."""
        try:
            if len(text) == 10:
                ms = self.midnight(text)
                if ms >= 0 and self.date(ms) == text:
                    return ms, True
            ms = parse_time(text)
            if ms is not None and ms > 0:
                zoned = text[-1] in 'Zz' or text[-6:-5] in ('+', '-') or text[-5:-4] in ('+', '-')
                return (ms if zoned else ms - self.offset_s(ms // 1000) * 1000), False
        except (ValueError, OverflowError, OSError):
            pass
        raise UserError('%s: %s is no date; write 2026-11-01, or 2026-11-01T09:30' % (option, printable(repr(text))))


def local_offset(second):
    return time.localtime(second).tm_gmtoff


def zone_offset(timezone):
    if timezone == 'UTC':
        return lambda second: 0
    import datetime
    try:
        from zoneinfo import ZoneInfo
        zone = ZoneInfo(timezone)
    except Exception:
        raise UserError('time zone %s is not known here; write `local`, or a name like Europe/Berlin'
                        % printable(repr(timezone)))

    def offset_s(second):
        return int(datetime.datetime.fromtimestamp(second, zone).utcoffset().total_seconds())
    return offset_s


@lru_cache(maxsize=None)
def utc_date(days):
    return '%04d-%02d-%02d' % time.gmtime(days * 86400)[:3]


def utc_text(ms):
    """2026-11-01T00:00:00Z"""
    return '%04d-%02d-%02dT%02d:%02d:%02dZ' % time.gmtime(ms // 1000)[:6]


def label_of(name, date):
    if name == 'day':
        return date
    return date[:7] if name == 'month' else week_label(date)


def label_start(calendar, name, label):
    """The first moment of what `label` made a label of."""
    if name == 'week':
        january4 = days_from_civil(int(label[:4]), 1, 4)     # it is always in week 1
        monday = january4 - (january4 + 3) % 7 + 7 * (int(label[6:]) - 1)
        return calendar.midnight(utc_date(monday))
    return calendar.midnight(label if name == 'day' else label + '-01')


def week_label(date):
    """The ISO week of a date, as 2026-W48."""
    days = days_from_civil(*map(int, date.split('-')))
    thursday = days - (days + 3) % 7 + 3         # a week belongs to the year that its Thursday is in
    year = time.gmtime(thursday * 86400).tm_year
    return '%04d-W%02d' % (year, (thursday - days_from_civil(year, 1, 1)) // 7 + 1)


# since, until: what is counted, [since, until). window: the one calendar window that it is, or None.
# end: where that window ends, later than now while it is running.
Span = namedtuple('Span', 'since until window end')


def choose_span(options, calendar, now, through, first):
    """What the options ask for; by itself the month to date.

    Nothing after `through` is counted; `first` is the ledger's oldest moment."""
    asked = ['--' + name for name in ('month', 'yesterday') if getattr(options, name)]
    if options.since or options.until:
        asked.append('--since or --until')
    if len(asked) > 1:
        raise UserError('%s and %s cannot go together' % tuple(asked[:2]))
    if options.yesterday:
        return window_span(calendar, 'day', calendar.midnight(calendar.date(now)) - 1, through)
    if asked == ['--month']:
        start = parse_month(options.month, calendar)
        if start > now:
            raise UserError('--month: %s has not begun' % options.month)
        return window_span(calendar, 'month', start, through)
    if not asked:
        return window_span(calendar, 'month', now, through)
    since = calendar.parse(options.since, '--since')[0] if options.since else min(first, now)
    end, is_date = calendar.parse(options.until, '--until') if options.until else (through, False)
    end = calendar.window('day', end)[1] if is_date else end       # a date is meant with all of its day
    if since >= end:
        raise UserError('--since has to be before --until, and not in the future')
    window = next((name for name in TIME_KEYS if calendar.window(name, since) == (since, end)), None)
    return Span(since, max(since, min(end, through)), window, end)


def window_span(calendar, name, at, through):
    since, end = calendar.window(name, at)
    return Span(since, max(since, min(end, through)), name, end)


def parse_month(text, calendar):
    try:
        first = text + '-01'
        if len(text) == 7 and text >= '1970-01' and calendar.date(calendar.midnight(first)) == first:
            return calendar.midnight(first)
    except (ValueError, OverflowError):
        pass
    raise UserError('--month: %s is no month; write 2026-10' % printable(repr(text)))


def span_before(span, calendar):
    """The window before; of a running one as much as has passed of this one."""
    if span.window:
        since, end = calendar.window(span.window, span.since - 1)
        until = min(end, since + span.until - span.since) if span.until < span.end else end
        return Span(since, until, span.window, end)
    return Span(2 * span.since - span.until, span.since, None, span.since)


# ---- money as text -------------------------------------------------------------------------

def money(pico, places=2):
    """1,234.50, exactly rounded, halves to the even cent."""
    units = divide(abs(pico), 10 ** (12 - places))
    whole, rest = divmod(units, 10 ** places)
    return ('-' if pico < 0 < units else '') + '{:,}'.format(whole) + ('.%0*d' % (places, rest) if places else '')


def divide(dividend, divisor):
    """To the nearest whole number, halves to the even one."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or 2 * rest == divisor and quotient % 2)


def usd6(pico):
    """Six decimals, for programs."""
    return money(pico, 6).replace(',', '')


def exact(value, scale):
    """value / 10**scale, every digit of it: 1.5, 20.0, 0.000125."""
    if not value:
        return '0.0'
    text = '%0*d' % (scale + 1, value)
    return text[:-scale] + '.' + (text[-scale:].rstrip('0') or '0')


def parse_usd(text):
    """Pico-dollars of decimal text; None if it isn't an amount."""
    match = re.match(r'\s*(-?)\s*\$?\s*(-?)(\d{1,12}|\d{1,3}(?:,\d{3}){1,3})(?:\.(\d{1,12}))?\s*(?:USD)?\s*$',
                     text, re.ASCII)
    if not match:
        return None
    minus, sign, whole, fraction = match.groups()
    return (-1 if minus or sign else 1) * (int(whole.replace(',', '')) * PICO + int((fraction or '').ljust(12, '0')))


def add_up(amounts, places):
    """The amounts rounded so that the rounded ones add up to the rounded total (each by less than one unit)."""
    unit, total, shown, rounded = PICO // 10 ** places, 0, 0, []
    for amount in amounts:
        total += amount
        upto = divide(total, unit) * unit
        rounded.append(upto - shown)
        shown = upto
    return rounded


def short_count(number):
    """12345 -> 12.3k; four or five characters for whatever there is."""
    for limit, unit in ((10 ** 12, 'T'), (10 ** 9, 'G'), (10 ** 6, 'M'), (10 ** 3, 'k')):
        if number >= limit:
            tenths = number * 10 // limit
            return '%d.%d%s' % (tenths // 10, tenths % 10, unit) if tenths < 1000 else '%d%s' % (tenths // 10, unit)
    return str(number)


def percent(part, whole, places=0):
    """Rounded down, so that 100 is said only when it is reached; None of nothing."""
    if whole <= 0:
        return None
    text = '%0*d' % (places + 1, max(0, part) * 100 * 10 ** places // whole)
    return text if not places else text[:-places] + '.' + text[-places:]


# ---- what the ledger holds, summed up ------------------------------------------------------

Figures = namedtuple('Figures', 'usd untranscribed assumed calls input output cache_write cache_read searches')
NOTHING = Figures(0, 0, 0, 0, 0, 0, 0, 0, 0)


def sums_of(amounts, counts):
    """SQL; amounts are summed up in halves, which cannot overflow SQLite's integers: see figures_of."""
    halves = ['sum((%s) >> 20), sum((%s) & 1048575)' % (amount, amount) for amount in amounts]
    return ', '.join(halves + ['sum(%s)' % count for count in counts])


SPEND_SUMS = sums_of(('usd', 'untranscribed_usd', 'assumed_usd'),
                     ('calls', 'input', 'output', 'cache_write', 'cache_read', 'searches'))
CALL_SUMS = sums_of(('usd', "usd * (kind = 'untranscribed')", 'usd * assumed'),
                    ("kind <> 'untranscribed'", 'input', 'output', 'write_short + write_long', 'read', 'searches'))
TOKEN_COLUMNS = ('input', 'output', 'write_short', 'write_long', 'read', 'searches')
TOKEN_SUMS = ', '.join('sum(%s)' % name for name in TOKEN_COLUMNS)
UTC_DAY = 'ts / %d' % DAY_MS      # prices change at midnight UTC
AGENT = ("case agent when '' then 'main' else coalesce((select type from agents where agents.session = calls.session "
         "and name = agent), case agent when 'sidechain' then 'side chain' else 'sub-agent' end) end")
DETAILS = {'model': 'model', 'session': 'session', 'agent': AGENT, 'kind': 'kind', 'agent-cli': 'session'}
BY = ('arm',) + TIME_KEYS + tuple(DETAILS)


def figures_of(sums):
    return Figures(*[(sums[n] << 20) + sums[n + 1] for n in (0, 2, 4)], *sums[6:])


def columns_of(by):
    """What these keys need of `calls`, as SQL."""
    return list(dict.fromkeys(DETAILS[key] for key in by if key in DETAILS))


def read_sums(db, span, day_sql, places=None, columns=(), sums=None):
    """Yield (place, day, *columns, *sums) of the span. day_sql(span, moment) is SQL for the day, None: 0.

    The quarters of an hour that `spend` holds are used where they tell enough: they are fewer than the calls."""
    chosen = within(places)
    if not columns and sums is None and span.since % BUCKET_MS == 0 == span.until % BUCKET_MS:
        day = day_sql(span, 'bucket * %d' % BUCKET_MS) if day_sql else '0'
        return db.execute('select place, %s, %s from spend where bucket >= ? and bucket < ?%s group by 1, 2'
                          % (day, SPEND_SUMS, chosen), (span.since // BUCKET_MS, span.until // BUCKET_MS))
    names = ['place', day_sql(span, 'ts') if day_sql else '0'] + list(columns)
    order = ', '.join(str(n + 1) for n in range(len(names)))
    return db.execute('select %s, %s from calls where ts >= ? and ts < ?%s group by %s'
                      % (', '.join(names), sums or CALL_SUMS, chosen, order), (span.since, span.until))


def read_usd(db, span, places=None):
    """(place, pico) of the span: read_sums where nothing else is asked for, in a fraction of the time."""
    whole = span.since % BUCKET_MS == 0 == span.until % BUCKET_MS
    table, when, unit = ('spend', 'bucket', BUCKET_MS) if whole else ('calls', 'ts', 1)
    rows = db.execute('select place, sum(usd >> 20), sum(usd & 1048575) from %s where %s >= ? and %s < ?%s group by 1'
                      % (table, when, when, within(places)), (span.since // unit, span.until // unit))
    return [(place, (high << 20) + low) for place, high, low in rows]


canonical = lru_cache(maxsize=None)(canonical_model)      # one name for one model, however its id is written


def within(places):
    """SQL that keeps to these places; None: all."""
    return '' if places is None else ' and place in (%s)' % ', '.join(map(str, places))


class Keys:
    """Turns what read_sums yields into the values of the --by keys."""

    def __init__(self, db, by, arms):
        self.by, self.arms, self.labels, self.sessions, columns = by, arms, {}, {}, columns_of(by)
        self.at = {key: columns.index(DETAILS[key]) + 2 for key in by if key in DETAILS}
        self.width = len(columns) + 2
        if {'session', 'agent-cli'} & set(by):
            self.sessions = {row[0]: row[1:] for row in db.execute('select id, name, cli from sessions')}

    def value(self, key, row):
        if key == 'arm':
            return self.arms[row[0]].name
        if key in TIME_KEYS:
            at = row[1], key
            if at not in self.labels:
                self.labels[at] = label_of(key, utc_date(row[1]))
            return self.labels[at]
        value = row[self.at[key]]
        if key == 'model':
            return canonical(value)
        return self.sessions[value][key == 'agent-cli'] if key in ('session', 'agent-cli') else value

    def of(self, row):
        return tuple([self.value(key, row) for key in self.by])


def sum_by(db, span, by, arms, calendar, places=None):
    """{values of the --by keys: Figures}"""
    keys, summed = Keys(db, by, arms), {}
    day_sql = calendar.day_sql if set(by) & set(TIME_KEYS) else None
    for row in read_sums(db, span, day_sql, places, columns_of(by)):
        if any(row[keys.width:]):
            key = keys.of(row)
            held = summed.get(key)
            summed[key] = row[keys.width:] if held is None else tuple(map(int.__add__, held, row[keys.width:]))
    return {key: figures_of(sums) for key, sums in summed.items()}


def sum_baseline(db, span, by, arms, calendar, places, price_at):
    """{values of the --by keys: what the tokens would have cost}; price_at(ms) -> six unit prices."""
    keys, summed, prices = Keys(db, by, arms), {}, {}
    day_sql = calendar.day_sql if set(by) & set(TIME_KEYS) else None
    for row in read_sums(db, span, day_sql, places, columns_of(by) + [UTC_DAY], TOKEN_SUMS):
        day = row[keys.width]
        if day not in prices:
            prices[day] = price_at(day * DAY_MS)
        key = keys.of(row)
        summed[key] = summed.get(key, 0) + sum(map(int.__mul__, row[keys.width + 1:], prices[day]))
    return summed


# ---- arms, rows, caps ----------------------------------------------------------------------

UNATTRIBUTED = '(unattributed)'
PERCENT = 10 ** 6                # budgets' percentages are in millionths of a percent
WHOLE = 100 * PERCENT
SPIKE_TIMES, SPIKE_FLOOR, SPIKE_DAYS, SPIKE_LEAST = 3, 5 * PICO, 28, 5

Arm = namedtuple('Arm', 'name entry')            # entry: its caps and rates in budgets.yaml, or None


class Row:
    """One line of the report: `usd` and all amounts are list price unless they say otherwise.

    counted: what stands against the cap; it is not the logs' where budgets.yaml has a spend_json."""

    def __init__(self, arm, key, figures):
        self.arm, self.key, self.figures, self.counted = arm, key, figures, figures.usd
        self.cap = self.pct = self.projected = self.forecast = self.cap_at = self.before = self.baseline = None
        self.spike, self.running = False, False


# verdicts: [(Arm, budget-check's WindowVerdict)] of now. before_span, baseline: None unless asked for.
# bills: [Bill]. remarks: notes that are no warnings. daily: {(arm, day, week or month): pico} and models: [(model, Figures)] are for charts.
Report = namedtuple('Report', 'span by rows total calendar now home arm prices_as_of verdicts before_span baseline '
                              'bills unpriced malformed warnings remarks daily models')
Bill = namedtuple('Bill', 'name estimate billed')


def arms_of_places(places, match):
    """{place id: Arm} of {place id: Place}; `match` gives an arm of budgets.yaml or None."""
    arms = {}
    for number, place in places.items():
        found = match(place) if place.root else None
        arms[number] = Arm(found.name, found.entry) if found else Arm(place.root or UNATTRIBUTED, None)
    return arms


def choose_arm(wanted, arms, entries, places, arm_at, home):
    """(name, its place ids) of --arm: a name, or a folder in the arm.

    A word that is neither is refused: taken for a folder in the working one, a slip would show another client."""
    names = {arm.name for arm in arms.values()} | {entry.arm for entry in entries}
    if wanted not in names:
        folder = home + wanted[1:] if wanted[:2] in ('~', '~/') else os.path.expanduser(wanted)
        path = os.path.realpath(folder)
        if not (os.path.isabs(folder) or os.path.isdir(path) or
                any((place.path + os.sep).startswith(path.rstrip(os.sep) + os.sep) for place in places)):
            raise UserError('--arm: there is no arm and no folder %s%s' % (printable(wanted), did_you_mean(wanted, names)))
        name = arm_at(os.path.abspath(folder)).name
        if name not in names:
            raise UserError('--arm: nothing was spent in %s, and no arm of budgets.yaml has it%s'
                            % (printable(wanted), did_you_mean(wanted, names)))
        wanted = name
    return wanted, [number for number, arm in sorted(arms.items()) if arm.name == wanted]


def did_you_mean(word, known):
    """The known word that it may be a slip of, as the rest of a sentence; nothing if none is like it."""
    from difflib import get_close_matches
    folded = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), folded, 1)
    return '; did you mean %s?' % printable(folded[near[0]]) if near else ''


def make_rows(summed, by, arms, span, calendar, now, elsewhere):
    """Rows in order: arms by spend, then the keys; times as they come, the rest by spend."""
    by_arm, place = {}, by.index('arm')
    for key, figures in summed.items():
        by_arm[key[place]] = by_arm.get(key[place], 0) + figures.usd

    def order(row):
        ranks = []
        for key, value in zip(by, row.key):
            if key == 'arm':
                ranks.append((value == UNATTRIBUTED, -by_arm.get(value, 0), value))
            elif key in TIME_KEYS:
                ranks.append(value)
        return ranks + [-row.figures.usd, row.key]
    rows = [Row(arms[key[place]], key, figures) for key, figures in summed.items()]
    for row in rows:
        set_against_cap(row, by, span, calendar, now, elsewhere)
    return sorted(rows, key=order)


def set_against_cap(row, by, span, calendar, now, elsewhere):
    """Fill in cap, pct and projection where the row is all that its arm spent in a window.

    elsewhere: {arm: pico} of the month of now, where the caps are not compared with the logs."""
    if not set(by) <= {'arm', *TIME_KEYS}:
        return
    window, start, end = span.window, span.since, span.end
    for name in TIME_KEYS[::-1]:
        if name in by:
            window = name
            start = label_start(calendar, name, row.key[by.index(name)])
            start, end = calendar.window(name, start)
    if start < span.since or span.until < end and span.until <= now:
        return                                           # a part of a week says little of its cap
    cap = dict(row.arm.entry.caps).get(window) if row.arm.entry else None
    running = window and start < now < end
    if running and window == 'month' and row.arm.entry:
        row.counted = elsewhere.get(row.arm.name, row.counted)
    rated = row.counted * rate_of(row.arm)
    if cap is not None:
        row.cap, row.pct = cap, percent(rated, cap * WHOLE, 1)
    if running:
        elapsed = now - start
        row.forecast = divide(rated * (end - start), elapsed * WHOLE)
        row.running, row.projected = True, divide(row.figures.usd * (end - start), elapsed)
        if cap and 0 < rated < cap * WHOLE and elapsed * cap * WHOLE < rated * (end - start):
            row.cap_at = start - -elapsed * cap * WHOLE // rated


def mark_spikes(rows, by, spent_by_day):
    """A day is marked when it is above SPIKE_FLOOR and above SPIKE_TIMES the median of the days with spend
    among the arm's SPIKE_DAYS days before it, of which there are at least SPIKE_LEAST."""
    at = by.index('day')
    history = {}
    for (arm, date), usd in spent_by_day.items():
        if usd > 0:
            history.setdefault(arm, []).append((days_from_civil(*map(int, date.split('-'))), usd))
    for row in rows:
        day = days_from_civil(*map(int, row.key[at].split('-')))
        before = sorted(usd for when, usd in history.get(row.arm.name, ()) if day - SPIKE_DAYS <= when < day)
        if len(before) >= SPIKE_LEAST and row.figures.usd > SPIKE_FLOOR:
            middle = before[(len(before) - 1) // 2] + before[len(before) // 2]       # twice the median
            row.spike = 2 * row.figures.usd > SPIKE_TIMES * middle


def set_beside(rows, by, arms, before, calendar):
    """Fill in what each row's window before was; `before` has the sums of the span moved back by one window."""
    times = [key for key in by if key in TIME_KEYS]
    if not times:
        known = {row.key for row in rows}
        rows += [Row(arms[key[by.index('arm')]], key, NOTHING) for key in before if key not in known]
    for row in rows:
        key = list(row.key)
        for name in times:
            at = by.index(name)
            key[at] = calendar.label(name, label_start(calendar, name, key[at]) - 1)
        row.before = before.get(tuple(key), NOTHING).usd


def comparison_span(by, span, calendar):
    """The span whose sums hold, for each row of a --by with days, weeks or months, the one before."""
    times = [key for key in TIME_KEYS[::-1] if key in by]
    if not times:
        return span_before(span, calendar)
    since = min(calendar.window(name, calendar.window(name, span.since)[0] - 1)[0] for name in times)
    return Span(since, span.until, None, span.until)


def reconcile(bills, rows):
    """[Bill] of {name: billed pico}; estimates are at the arm's own rate."""
    rated = {}
    for row in rows:
        rated[row.arm.name] = rated.get(row.arm.name, 0) + at_rate(row.figures.usd, row.arm)
    return [Bill(name, sum(rated.values()) if name.lower() == 'total' and name not in rated else rated.get(name, 0), billed)
            for name, billed in bills.items()]


def rate_of(arm):
    return arm.entry.rate_pct if arm.entry else WHOLE


def at_rate(usd, arm):
    return divide(usd * rate_of(arm), WHOLE)


def is_off(bill):
    """Whether the bill is more than a fifth off the estimate."""
    return 5 * abs(bill.billed - bill.estimate) > abs(bill.estimate)


def factor(bill):
    """bill / estimate, with four decimals; None of nothing."""
    if bill.estimate <= 0:
        return None
    return money(divide(bill.billed * PICO, bill.estimate), 4).replace(',', '')


def parse_bills(text, name):
    """{arm or 'total': pico-dollars} of a JSON object or of CSV lines `arm,usd`."""
    if text.lstrip('\ufeff \t\r\n').startswith('{'):
        try:
            pairs = json.loads(text.lstrip('\ufeff'), parse_float=str, parse_int=str, object_pairs_hook=list)
        except ValueError as error:
            raise UserError('not JSON: %s' % error, name)
        pairs = [(key, value, None) for key, value in pairs]
    else:
        import csv
        rows = [(row, n) for n, row in enumerate(csv.reader(text.lstrip('\ufeff').splitlines()), 1) if row]
        pairs = [(row[0].strip(), ','.join(row[1:]).strip(), n) for row, n in rows]
        if pairs and parse_usd(pairs[0][1]) is None:
            del pairs[0]                                     # the headings
    bills = {}
    for key, value, line in pairs:
        usd = parse_usd(value) if type(value) is str else None
        if usd is None or key in bills:
            raise UserError('%s: %s' % (printable(key), 'stands here twice' if key in bills else
                                        'its amount is expected as plain dollars, such as 123.45'), name, line)
        bills[key] = usd
    if not bills:
        raise UserError('no amounts are in it; write {"acme": 123.45}, or lines of arm,usd', name)
    return bills


# ---- what every format says ----------------------------------------------------------------

MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split()
KEY_TITLES = {'agent-cli': 'Agent CLI'}


def title_of(report):
    span, calendar = report.span, report.calendar
    first, last = calendar.date(span.since), calendar.date(max(span.since, span.until - 1))
    running = report.now < span.end
    if span.window == 'month':
        return first[:7] + (' to date (%s)' % last if running else '')
    if span.window == 'day':
        return first + (' to %s' % calendar.iso(report.now)[11:16] if running else '')
    return '%s to %s' % (first, last)


def shown(report, name):
    """A name for people: printable, with ~ for the home folder."""
    if report.home and name.startswith(report.home + '/'):
        name = '~' + name[len(report.home):]
    return printable(name)


def key_cells(report, row):
    return [shown(report, str(value)) or '(none)' for value in row.key]


def moment(calendar, ms, now):
    """A time to come, short: 17:40 today, Nov 27, 2027-03."""
    text = calendar.iso(ms)
    if text[:10] == calendar.date(now):
        return text[11:16]
    same_year = text[:4] == calendar.date(now)[:4]
    return '%s %d' % (MONTHS[int(text[5:7]) - 1], int(text[8:10])) if same_year else text[:7]


def cap_hit(report, spent, cap, cap_at):
    if cap is not None and spent >= cap:
        return 'already'
    return moment(report.calendar, cap_at, report.now) if cap_at else ''


def notes(report):
    """The small print, in whole sentences."""
    total, told = report.total, []
    told.append('Estimate at list price, not a bill; prices as of %s.' % report.prices_as_of)
    if any(rate_of(row.arm) != WHOLE for row in report.rows):
        told.append("Estimates beside bills are at each arm's rate_pct of list price, as the caps are." if report.bills else
                    "Caps are compared at each arm's rate_pct of list price, as the gate does.")
    if total.untranscribed:
        told.append('%s of it is untranscribed: titles, compactions and other helper calls that stand in no transcript '
                    "line, only in the agent's own totals." % dollars(total.untranscribed))
    if any(row.arm.name == UNATTRIBUTED and row.figures.usd for row in report.rows):
        told.append('%s: calls whose record names no folder.' % UNATTRIBUTED)
    if total.assumed:
        told.append('~ %s of it is at assumed prices: prices.json lacks a price for %s. Add it there; its '
                    '"about" says how.' % (dollars(total.assumed), list_of(report.unpriced)))
    if any(row.spike for row in report.rows):
        told.append("\u25b2 A day far above the usual: more than %d times the median of the arm's days with spend "
                    'in the %d days before it, and more than $%d.' % (SPIKE_TIMES, SPIKE_DAYS, SPIKE_FLOOR // PICO))
    if report.baseline:
        told.append(baseline_note(report))
    if report.before_span:
        told.append('Before: %s.' % before_text(report))
    if report.malformed:
        told.append(malformed_note(report.malformed))
    return told + report.remarks + ['Warning: ' + warning for warning in report.warnings]


def malformed_note(lines):
    return '%d log line%s could not be read and %s not counted.' % (lines, *(('', 'is') if lines == 1 else ('s', 'are')))


def list_of(models):
    return ', '.join(map(printable, models)) or 'some calls'


def baseline_note(report):
    cost = sum(row.baseline for row in report.rows)
    saved, share = cost - report.total.usd, percent(abs(cost - report.total.usd), cost, 1)
    return 'Baseline: on %s, at its standard price, the same tokens would have cost %s; routing %s %s%s.' % (
        printable(report.baseline), dollars(cost), 'saved' if saved >= 0 else 'cost', dollars(abs(saved)),
        ' (%s %%)' % share if share else '')


def before_text(report):
    if any(key in TIME_KEYS for key in report.by):
        return "each row's own day, week or month before it"
    span, calendar = report.before_span, report.calendar
    text = '%s to %s' % (calendar.date(span.since), calendar.date(max(span.since, span.until - 1)))
    return text + (', as far as this one has come' if span.until < span.end else '')


def dollars(pico):
    """$12.34; what would be $0.00 with two more decimals."""
    return '$' + money(pico, 2 if not pico or abs(pico) >= PICO // 100 else 4)


# ---- the table for terminals and mail ------------------------------------------------------

COLOURS = {'green': '32', 'yellow': '33', 'red': '31', 'bold': '1', 'dim': '2'}
SMALLEST_BAR, WIDEST_BAR = 5, 20
LEAST_TEXT = 8

# kind: 'text' may be cut, 'fixed' may not, 'number' stands right, 'bar' has cells of (filled, forecast), 0..1, or None.
# rank: which goes first where there is no room; None stays. colours: a name for each cell.
Column = namedtuple('Column', 'title kind cells rank colours')


def text_column(title, cells):
    return Column(title, 'text', cells, None, None)


def fixed_column(title, cells, colours=None):
    return Column(title, 'fixed', cells, None, colours)


def number_column(title, cells, rank=None, colours=None):
    return Column(title, 'number', cells, rank, colours)


def bar_column(cells, rank, colours=None):
    return Column('', 'bar', cells, rank, colours)


def format_table(report, width=80, colour=False):
    parts = ['Spend by %s: %s%s' % (', '.join(report.by), title_of(report),
                                    ', arm ' + shown(report, report.arm) if report.arm else '')]
    if report.rows:
        parts.append('\n'.join(lay_out(row_columns(report), width, colour)))
    else:
        parts.append('No spend in this time.')
    columns = cap_columns(report, other_caps(report))
    if columns:
        parts.append('Other caps, now\n' + '\n'.join(lay_out(columns, width, colour)))
    if report.bills:
        parts.append('Billed\n' + '\n'.join(lay_out(bill_columns(report), width, colour)))
    parts[0] = '\n'.join(wrap(parts[0], width))
    parts.append('\n'.join(line for note in notes(report) for line in wrap(note, width)))
    return '\n\n'.join(parts) + '\n'


def row_columns(report):
    """The rows and the total as columns; what no row has is left out."""
    return key_columns(report) + spent_columns(report) + comparison_columns(report) + usage_columns(report)


def key_columns(report):
    columns, rows = [], [key_cells(report, row) for row in report.rows]
    for n, key in enumerate(report.by):
        make = text_column if key in ('arm', 'model', 'agent') else fixed_column
        title = KEY_TITLES.get(key, key.capitalize())
        columns.append(make(title, [cells[n] for cells in rows] + ['' if n else 'TOTAL']))
    return columns


def spent_columns(report):
    rows, total = report.rows, report.total
    margin = '  ' * any(row.spike for row in rows)
    spent = [assumed_mark(row.figures) + money(row.figures.usd) + (' \u25b2' if row.spike else margin) for row in rows]
    columns = [number_column('Spent', spent + [assumed_mark(total) + money(total.usd) + margin])]
    if counts_elsewhere(report):
        columns.append(number_column('Counted', ['' if row.cap is None else money(at_rate(row.counted, row.arm))
                                                 for row in rows] + ['']))
    if any(row.cap is not None for row in rows):
        colours = [tier_colour(row) for row in rows] + [None]
        columns.append(number_column('Cap', ['' if row.cap is None else money(row.cap) for row in rows] + ['']))
        columns.append(bar_column([row_gauge(row) for row in rows] + [None], 4, colours))
        columns.append(number_column('%', [row.pct.partition('.')[0] + '%' if row.pct else '' for row in rows] + [''],
                                     colours=colours))
    elif len(rows) > 1:
        most = max(row.figures.usd for row in rows)
        columns.append(bar_column([gauge(row.figures.usd, most or 1) for row in rows] + [None], 1))
    return columns


def counts_elsewhere(report):
    """Whether what counts against a cap is not what the logs say: see spend_json."""
    return any(row.counted != row.figures.usd for row in report.rows)


def comparison_columns(report):
    rows, total, columns = report.rows, report.total, []
    if report.before_span:
        befores = [row.before for row in rows]
        columns.append(number_column('Before', [money(usd) for usd in befores + [sum(befores)]], 8))
        columns.append(number_column('Change', [change(row.figures.usd, row.before) for row in rows]
                                     + [change(total.usd, sum(befores))]))
    if report.baseline:
        costs = [row.baseline for row in rows]
        columns.append(number_column('Baseline', [money(usd) for usd in costs + [sum(costs)]], 7))
        columns.append(number_column('Saved', [money(row.baseline - row.figures.usd) for row in rows]
                                     + [money(sum(costs) - total.usd)]))
    return columns


def usage_columns(report):
    rows, all_figures = report.rows, [row.figures for row in report.rows] + [report.total]
    columns = [number_column('Calls', [short_count(figures.calls) for figures in all_figures], 3),
               number_column('Tokens', [short_count(tokens_of(figures)) for figures in all_figures], 2)]
    if any(row.running for row in rows):
        total = money(sum(row.projected for row in rows)) if all(row.running for row in rows) else ''
        projected = ['' if row.projected is None else money(row.projected) for row in rows]
        columns.append(number_column('Projected', projected + [total], 6))
        if any(row.cap is not None for row in rows):
            hits = [cap_hit(report, at_rate(row.counted, row.arm), row.cap, row.cap_at) for row in rows]
            columns.append(number_column('Cap hit', hits + [''], 5))
    return columns


def cap_columns(report, verdicts):
    """Caps as they stand now, at each arm's own rate."""
    if not verdicts:
        return []
    caps = [one for _, one in verdicts]
    colours = [TIER_COLOURS[one.tier] for one in caps]
    return [text_column('Arm', [shown(report, arm.name) for arm, _ in verdicts]),
            fixed_column('Window', [one.window for one in caps]),
            number_column('Spent', [money(one.spent) for one in caps]),
            number_column('Cap', [money(one.cap) for one in caps]),
            bar_column([gauge(one.spent, one.cap, one.projected) for one in caps], 1, colours),
            number_column('%', [percent(one.spent, one.cap) + '%' if one.cap else '' for one in caps], None, colours),
            fixed_column('Tier', [one.tier for one in caps], colours),
            number_column('Projected', ['' if one.projected is None else money(one.projected) for one in caps], 3),
            number_column('Cap hit', [cap_hit(report, one.spent, one.cap, one.cap_at) for one in caps], 2)]


def other_caps(report):
    """The caps that no row shows. Where the window has ended, those at alert or above: they are why cron is told."""
    if report.now >= report.span.end:
        return [(arm, one) for arm, one in report.verdicts if one.tier != 'ok']
    in_rows = {row.arm.name for row in report.rows if row.cap is not None} if report.by == ('arm',) else ()
    return [(arm, one) for arm, one in report.verdicts if arm.name not in in_rows or one.window != report.span.window]


def bill_columns(report):
    bills = report.bills
    flags = [is_off(bill) for bill in bills]
    return [text_column('Arm', [shown(report, bill.name) for bill in bills]),
            number_column('Estimate', [money(bill.estimate) for bill in bills]),
            number_column('Billed', [money(bill.billed) for bill in bills]),
            number_column('Difference', [money(bill.billed - bill.estimate) for bill in bills]),
            number_column('Factor', [factor(bill) or '' for bill in bills]),
            fixed_column('', ['more than 20 % off' if flag else '' for flag in flags],
                         ['red' if flag else None for flag in flags])]


def tokens_of(figures):
    return figures.input + figures.output + figures.cache_write + figures.cache_read


def assumed_mark(figures):
    return '~' if figures.assumed else ''


def gauge(part, whole, forecast=None):
    """(filled, forecast) of a bar, 0..1: lengths, never amounts."""
    if not whole:
        return 1.0, 1.0
    return min(1.0, part / whole), min(1.0, (part if forecast is None else forecast) / whole)


def row_gauge(row):
    if row.cap is None:
        return None
    return gauge(at_rate(row.counted, row.arm), row.cap, row.forecast)


def change(now, before):
    if not before:
        return 'new' if now else ''
    return '%s%s%%' % ('-' if now < before else '+', percent(abs(now - before), before))


TIER_COLOURS = {'ok': 'green', 'alert': 'yellow', 'warn': 'yellow', 'hard_stop': 'red', 'halt': 'red'}


def tier_colour(row):
    if row.cap is None:
        return None
    rated = row.counted * row.arm.entry.rate_pct
    if rated >= row.cap * row.arm.entry.grace_pct:
        return 'red'
    return 'yellow' if rated >= row.cap * row.arm.entry.alert_pct else 'green'


def lay_out(columns, width, colour):
    """Lines no wider than `width`: texts are cut and columns left out until they fit."""
    widths = [SMALLEST_BAR if column.kind == 'bar' else max(map(cells_wide, [column.title] + column.cells))
              for column in columns]
    while total_width(widths) > width:
        texts = [n for n, column in enumerate(columns) if column.kind == 'text' and widths[n] > LEAST_TEXT]
        roomy = [n for n in texts if widths[n] > 2 * LEAST_TEXT]
        spare = [n for n, column in enumerate(columns) if column.rank]
        if roomy or texts and not spare:
            widest = max(roomy or texts, key=lambda n: widths[n])
            widths[widest] -= 1
        elif spare:
            first = min(spare, key=lambda n: columns[n].rank)
            columns, widths = columns[:first] + columns[first + 1:], widths[:first] + widths[first + 1:]
        else:
            break
    for n, column in enumerate(columns):
        if column.kind == 'bar':
            widths[n] = min(WIDEST_BAR, SMALLEST_BAR + max(0, width - total_width(widths)))
    lines = [[fit(column.title, size, column.kind) for column, size in zip(columns, widths)]]
    for n in range(len(columns[0].cells)):
        line = []
        for column, size in zip(columns, widths):
            cell = column.cells[n]
            text = bar(cell, size) if column.kind == 'bar' else fit(cell, size, column.kind)
            line.append(paint(text, column.colours and column.colours[n], colour))
        lines.append(line)
    return [' '.join(line).rstrip() for line in lines]


def total_width(widths):
    return sum(widths) + len(widths) - 1


def bar(cell, size):
    """Eighths of a character tell 1 % from 3 %."""
    if cell is None:
        return ' ' * size
    part = cell[0]
    eighths = max(1, round(part * size * 8)) if part > 0 else 0
    text = '\u2588' * (eighths // 8) + (chr(0x2590 - eighths % 8) if eighths % 8 else '')
    return text.ljust(size, '\u00b7')


def paint(text, name, colour):
    return '\x1b[%sm%s\x1b[0m' % (COLOURS[name], text) if colour and name and text.strip() else text


def fit(text, size, kind):
    """Cut to `size` character cells, or filled up to them; of a path the end is kept."""
    if cells_wide(text) > size:
        path = text.startswith(('/', '~/'))
        kept = cut(text[::-1] if path else text, size - 1)
        text = '\u2026' + kept[::-1] if path else kept + '\u2026'
    space = ' ' * (size - cells_wide(text))
    return space + text if kind == 'number' else text + space


def cut(text, size):
    kept, used = '', 0
    for character in text:
        used += cells_wide(character)
        if used > size:
            break
        kept += character
    return kept


def cells_wide(text):
    """How many character cells a terminal needs for it."""
    if text.isascii():
        return len(text)
    import unicodedata
    return sum(0 if unicodedata.combining(c) or unicodedata.category(c) in ('Mn', 'Me', 'Cf') else
               2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in text)


def wrap(text, width):
    lines, line = [], ''
    for word in text.split():
        while cells_wide(word) > width:                      # a long path
            head = cut(word, width - cells_wide(line) - 1) if line else cut(word, width)
            lines.append((line + ' ' + head).strip())
            word, line = word[len(head):], ''
        if line and cells_wide(line) + 1 + cells_wide(word) > width:
            lines.append(line)
            line = ''
        line += ' ' * bool(line) + word
    return lines + [line] * bool(line)


# ---- JSON, CSV, Markdown -------------------------------------------------------------------

class Raw(str):
    """JSON text that is ready: a number with all of its decimals."""


def json_text(value, indent=''):
    """Rows on a line each, so that they can be searched and compared."""
    if isinstance(value, Raw):
        return value
    deeper = indent + '  '
    if type(value) is dict:
        parts = ['%s: %s' % (json.dumps(key), json_text(part, deeper)) for key, part in value.items()]
        return '{%s}' % ', '.join(parts) if indent else '{\n%s\n}' % ',\n'.join(deeper + part for part in parts)
    if type(value) is list and value and type(value[0]) is dict:
        return '[\n%s\n%s]' % (',\n'.join(deeper + json_text(part, deeper) for part in value), indent)
    if type(value) is list:
        return '[%s]' % ', '.join(json_text(part, deeper) for part in value)
    return json.dumps(value)


def amount(pico):
    return None if pico is None else Raw(usd6(pico))


def row_values(report, row):
    """What JSON and CSV say of a row."""
    figures, values = row.figures, {'arm': row.arm.name}
    values.update(zip(report.by, row.key))
    values.update({
        'usd': amount(figures.usd), 'calls': figures.calls, 'input_tokens': figures.input,
        'output_tokens': figures.output, 'cache_write_tokens': figures.cache_write,
        'cache_read_tokens': figures.cache_read, 'web_searches': figures.searches,
        'untranscribed_usd': amount(figures.untranscribed), 'assumed_usd': amount(figures.assumed),
        'cap_usd': amount(row.cap), 'pct': row.pct and Raw(row.pct), 'projected_usd': amount(row.projected)})
    if counts_elsewhere(report):
        values['counted_usd'] = amount(row.counted)
    if 'day' in report.by:
        values['spike'] = row.spike
    if report.before_span:
        values.update({'before_usd': amount(row.before), 'change_usd': amount(figures.usd - row.before)})
    if report.baseline:
        values.update({'baseline_usd': amount(row.baseline), 'saved_usd': amount(row.baseline - figures.usd)})
    return values


def bill_values(bill):
    return {'name': bill.name, 'estimate_usd': amount(bill.estimate), 'billed_usd': amount(bill.billed),
            'difference_usd': amount(bill.billed - bill.estimate), 'factor': factor(bill) and Raw(factor(bill)),
            'over_20_pct': is_off(bill)}


def format_json(report):
    span, calendar = report.span, report.calendar
    found = {'estimate': True, 'currency': 'USD', 'since': calendar.iso(span.since),
             'until': calendar.iso(min(span.until, max(report.now, span.since))), 'timezone': calendar.timezone,
             'prices_as_of': report.prices_as_of, 'total_usd': amount(report.total.usd),
             'rows': [row_values(report, row) for row in report.rows],
             'unattributed_usd': amount(sum(row.figures.usd for row in report.rows if row.arm.name == UNATTRIBUTED)),
             'unpriced_models': report.unpriced, 'skipped_lines': report.malformed,
             'warnings': report.warnings + report.remarks}
    if report.before_span:
        since, until = report.before_span[:2]
        found['before'] = {'since': calendar.iso(since), 'until': calendar.iso(until)}
    if report.baseline:
        found['baseline_model'] = report.baseline
    if report.bills:
        found['billed'] = [bill_values(bill) for bill in report.bills]
    return json_text(found) + '\n'


def format_csv(report):
    """Rows alone; with --billed, the reconciliation instead."""
    if report.bills:
        table = [bill_values(bill) for bill in report.bills]
    else:
        table = [row_values(report, row) for row in report.rows]
    heads = list(table[0]) if table else ['arm'] + [key for key in report.by if key != 'arm'] + ['usd']
    return csv_text([heads] + [list(line.values()) for line in table])


def csv_text(lines):
    return ''.join(','.join(map(csv_cell, line)) + '\n' for line in lines)


@lru_cache(maxsize=4096, typed=True)
def csv_cell(value):
    if value is None:
        return ''
    if type(value) in (Raw, int):
        return str(value)
    text = guarded(printable(value, 4096)) if type(value) is str else str(value).lower()
    return '"%s"' % text.replace('"', '""') if ',' in text or '"' in text or "'" in text[:1] else text


def guarded(text):
    """A sheet takes what begins like this for a formula; an apostrophe says that it is text."""
    return "'" + text if text.lstrip()[:1] in FORMULA_STARTS else text


FORMULA_STARTS = tuple('=+-@\uff1d\uff0b\uff0d\uff20')


def format_markdown(report):
    parts = ['# Spend by %s: %s%s' % (', '.join(report.by), markdown_escaped(title_of(report)),
                                      ', arm ' + markdown_cell(shown(report, report.arm)) if report.arm else '')]
    parts.append(markdown_table(row_columns(report)) if report.rows else 'No spend in this time.')
    others = cap_columns(report, other_caps(report))
    if others:
        parts += ['## Other caps, now', markdown_table(others)]
    if report.bills:
        parts += ['## Billed', markdown_table(bill_columns(report))]
    parts.append('\n'.join('- ' + markdown_escaped(note) for note in notes(report)))
    return '\n\n'.join(parts) + '\n'


def markdown_table(columns):
    columns = [column for column in columns if column.kind != 'bar']
    lines = [[column.title for column in columns],
             ['---:' if column.kind == 'number' else '---' for column in columns]]
    for n in range(len(columns[0].cells)):
        lines.append([column.cells[n].strip() if column.kind == 'number' else markdown_cell(column.cells[n])
                      for column in columns])
    return '\n'.join('| %s |' % ' | '.join(line) for line in lines)


def markdown_cell(text):
    return markdown_escaped(guarded(text))


def markdown_escaped(text):
    """No name becomes markup or breaks a table."""
    text = re.sub(r'([\\`*\[\]|])', r'\\\1', printable(text, 4096))
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', text)
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').replace('://', ':\u200b//')


# ---- HTML: one file, no network, no script -------------------------------------------------

STYLE = '''
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --back: #ffffff; --card: #f6f8fa;
  --green: #1a7f37; --yellow: #9a6700; --red: #cf222e; --s0: #0969da; --s1: #bc4c00; --s2: #1a7f37; --s3: #8250df;
  --s4: #b58400; --s5: #bf3989; --s6: #1b7c83; --s7: #6e7781 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --line: #30363d; --back: #0d1117; --card: #161b22;
    --green: #3fb950; --yellow: #d29922; --red: #f85149; --s0: #58a6ff; --s1: #f0883e; --s2: #3fb950; --s3: #bc8cff;
    --s4: #e3b341; --s5: #f778ba; --s6: #39c5cf; --s7: #8b949e } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p { margin: .25rem 0 } .soft { color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0 }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } .last { direction: rtl } .last svg { direction: ltr } .wide:focus-visible { outline: 2px solid var(--s0) }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line);
  font-weight: normal; white-space: nowrap }
thead th { color: var(--soft); font-size: .85rem }
th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
.num { text-align: right; font-variant-numeric: tabular-nums } tr.total > * { font-weight: 600 }
.chart { display: block; width: 100%; min-width: 34rem; height: auto }
.chart text { fill: var(--soft); font-size: 13px } .grid { stroke: var(--line) }
.meter { display: block; width: 7rem; height: .8rem } .track { fill: var(--line) } .forecast { opacity: .35 }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: .5rem 0; padding: 0;
  font-size: .9rem }
.legend span { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em }
.green { color: var(--green) } .yellow { color: var(--yellow) } .red { color: var(--red) } .plain { color: var(--s0) }
summary { cursor: pointer; color: var(--soft); margin-top: .5rem }
.notes { color: var(--soft); font-size: .9rem; padding-left: 1.1rem }
@media (max-width: 40rem) {
  main { padding: 1rem .75rem 2rem } .meter { width: 3.5rem } th[scope=row] { min-width: 7.5rem } }
@media print {
  :root { color-scheme: light } main { max-width: none; padding: 0 } body { font-size: 11pt }
  h2, tr, .chart { break-inside: avoid } .wide { overflow: visible } details { display: none }
  rect, .legend span, dl div { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
'''
SERIES = 8                       # arms with a colour of their own; the last one is for all others
CHART_WIDTH, CHART_HEIGHT, CHART_LEFT, CHART_BOTTOM = 720, 240, 64, 24


def html_escaped(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;').replace('"', '&quot;')


def html_page(title, body):
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<meta name="robots" content="noindex">\n'
            '<title>%s</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n%s\n</main>\n</body>\n</html>\n'
            % (html_escaped(title), STYLE, '\n'.join(body)))


def format_html(report):
    title = 'Spend, %s%s' % (title_of(report), ': ' + shown(report, report.arm) if report.arm else '')
    zone = html_escaped(report.calendar.zone_name(report.span.since))
    body = ['<h1>%s</h1>' % html_escaped(title),
            '<p class="soft">Estimate at list price, in US dollars; time zone %s.</p>' % zone, html_cards(report)]
    if report.daily:
        body += ['<h2>By %s</h2>' % chart_unit(report.span)] + html_days(report)
    caps = cap_columns(report, report.verdicts if report.now < report.span.end else other_caps(report))
    if caps:
        body += ['<h2>Against the caps, now</h2>', html_table(caps, 'Each cap with its forecast')]
    if report.rows:
        by = html_escaped(', '.join(report.by))
        body += ['<h2>By %s</h2>' % by, html_table(row_columns(report), title, total=True)]
    if report.models and 'model' not in report.by:
        body += ['<h2>By model</h2>', html_table(model_columns(report), 'Spend by model')]
    if report.bills:
        body += ['<h2>Billed</h2>', html_table(bill_columns(report), 'Estimates and bills')]
    body.append(html_notes(notes(report)))
    return html_page(title, body)


def html_cards(report):
    total = report.total
    cards = [('Spent', dollars(total.usd))]
    if report.rows and all(row.running for row in report.rows):
        cards.append(('Projected', dollars(sum(row.projected for row in report.rows))))
    if report.baseline:
        cards.append(('Saved by routing', dollars(sum(row.baseline for row in report.rows) - total.usd)))
    cards += [('Calls', '{:,}'.format(total.calls)), ('Tokens', short_count(tokens_of(total))),
              ('Untranscribed', dollars(total.untranscribed))]
    return html_boxes(cards)


def html_boxes(boxes):
    return '<dl>%s</dl>' % ''.join('<div><dt>%s</dt><dd>%s</dd></div>' % box for box in boxes)


def html_notes(told):
    return '<h2>Notes</h2>\n<ul class="notes">%s</ul>' % ''.join('<li>%s</li>' % html_escaped(note) for note in told)


def html_table(columns, caption, total=False):
    heads = ['<th scope="col"%s>%s</th>' % (' class="num"' * (column.kind == 'number'), html_escaped(column.title))
             for column in columns]
    count, lines = len(columns[0].cells), []
    for n in range(count):
        cells = ''.join(html_cell(column, n, first=not at) for at, column in enumerate(columns))
        lines.append('<tr%s>%s</tr>' % (' class="total"' * (total and n == count - 1), cells))
    return ('<div class="wide" tabindex="0" role="region" aria-label="%s"><table>\n<caption>%s</caption>\n'
            '<thead><tr>%s</tr></thead>\n<tbody>\n%s\n</tbody></table></div>'
            % (html_escaped(caption), html_escaped(caption), ''.join(heads), '\n'.join(lines)))


def html_cell(column, n, first):
    cell, colour = column.cells[n], column.colours and column.colours[n]
    if column.kind == 'bar':
        return '<td>%s</td>' % (html_meter(cell, colour) if cell is not None else '')
    if first:
        return '<th scope="row">%s</th>' % html_escaped(cell)
    names = ['num'] * (column.kind == 'number') + [colour] * bool(colour)
    return '<td%s>%s</td>' % (' class="%s"' % ' '.join(names) if names else '', html_escaped(cell.strip()))


def html_meter(cell, colour):
    """The figures stand beside it, so that a screen reader need not be told."""
    shape = '<rect%s width="%.1f" height="10" rx="2"/>'
    shapes = [shape % (' class="track"', 100), shape % (' class="forecast" fill="currentColor"', 100 * cell[1]),
              shape % (' fill="currentColor"', 100 * cell[0])]
    return ('<svg class="meter %s" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">%s</svg>'
            % (colour or 'plain', ''.join(shapes)))


def model_columns(report):
    models = report.models
    most = max([figures.usd for _, figures in models])
    return [text_column('Model', [printable(model) for model, _ in models]),
            number_column('Spent', [assumed_mark(figures) + money(figures.usd) for _, figures in models]),
            bar_column([gauge(figures.usd, most or 1) for _, figures in models], 1),
            number_column('%', [(percent(figures.usd, report.total.usd) or '0') + '%' for _, figures in models]),
            number_column('Calls', [short_count(figures.calls) for _, figures in models]),
            number_column('Tokens', [short_count(tokens_of(figures)) for _, figures in models])]


def chart_unit(span):
    days = (span.until - span.since) // DAY_MS
    return 'day' if days <= 62 else 'week' if days <= 400 else 'month'


def chart_bins(report, unit):
    """The labels of all days, weeks or months in the span, those without spend too."""
    at, labels = report.span.since, []
    until = min(report.span.until, max(report.now, report.span.since) + 1)
    while at < until:
        labels.append(report.calendar.label(unit, at))
        at = report.calendar.window(unit, at)[1]
    return labels


def chart_series(daily):
    """[(arm, {label: pico})], the largest first; those beyond SERIES - 1 are one."""
    arms = {}
    for (arm, label), usd in daily.items():
        arms.setdefault(arm, {})[label] = usd
    series = sorted(arms.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    if len(series) > SERIES:
        rest = {}
        for _, amounts in series[SERIES - 1:]:
            for label, usd in amounts.items():
                rest[label] = rest.get(label, 0) + usd
        series[SERIES - 1:] = [('%d other arms' % (len(series) - SERIES + 1), rest)]
    return series


def html_days(report):
    unit, series = chart_unit(report.span), chart_series(report.daily)
    labels = chart_bins(report, unit)
    names = [shown(report, name) for name, _ in series]
    totals = [sum(amounts.get(label, 0) for _, amounts in series) for label in labels]
    columns = [fixed_column(unit.capitalize(), labels)]
    for name, (_, amounts) in zip(names, series):
        columns.append(number_column(name, [money(amounts.get(label, 0)) for label in labels]))
    if len(series) > 1:
        columns.append(number_column('Total', [money(usd) for usd in totals]))
    legend = ''.join('<li><span style="background:var(--s%d)"></span>%s</li>' % (n, html_escaped(name))
                     for n, name in enumerate(names))
    return ['<div class="wide last" tabindex="0" role="region" aria-label="Chart of spend by %s">%s</div>'
            % (unit, svg_days(unit, labels, names, series, totals)), '<ul class="legend">%s</ul>' % legend,
            '<details><summary>The figures of this chart</summary>%s</details>'
            % html_table(columns, 'Spend by ' + unit)]


def svg_days(unit, labels, names, series, totals):
    floor, most = CHART_HEIGHT - CHART_BOTTOM, max(totals, default=0)
    top = nice_top(most)
    scale, step = (floor - 10) / top, (CHART_WIDTH - CHART_LEFT) / max(1, len(labels))
    shapes, every = svg_grid(floor, top, scale), -(-len(labels) // 12)
    for n, label in enumerate(labels):
        x, y = CHART_LEFT + n * step, float(floor)
        for s, (_, amounts) in enumerate(series):
            height = amounts.get(label, 0) * scale
            if height > 0:
                y -= height
                shapes.append('<rect x="%.1f" y="%.2f" width="%.1f" height="%.2f" style="fill:var(--s%d)">'
                              '<title>%s %s %s</title></rect>' % (x + step * .1, y, step * .8, height, s, label,
                                                                  html_escaped(names[s]), dollars(amounts[label])))
        if n % every == 0:
            shapes.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>'
                          % (min(x + step / 2, CHART_WIDTH - 20), CHART_HEIGHT - 6,
                             label[2:] if unit == 'month' else label[5:]))
    return ('<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="chart-title">'
            '<title id="chart-title">Spend by %s, stacked by arm: %s in all, at most %s in one %s. '
            'The figures follow as a table.</title>%s</svg>'
            % (CHART_WIDTH, CHART_HEIGHT, unit, dollars(sum(totals)), dollars(most), unit, ''.join(shapes)))


def svg_grid(floor, top, scale):
    shapes, places = [], 0 if top >= 4 * PICO else 2
    for n in range(5):
        y = floor - top * n / 4 * scale
        shapes.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (CHART_LEFT, CHART_WIDTH, y, y))
        shapes.append('<text x="%d" y="%.1f" text-anchor="end">$%s</text>'
                      % (CHART_LEFT - 6, y + 4, money(top * n // 4, places)))
    return shapes


def nice_top(most):
    """The first of 1, 2, 4, 8 times a power of ten that is not below."""
    top = PICO // 100
    while True:
        for times in (1, 2, 4, 8):
            if top * times >= most:
                return top * times
        top *= 10


# ---- a client's statement ------------------------------------------------------------------

# lines: [(date, model, Figures)]
Statement = namedtuple('Statement', 'arm span now lines total rate_pct markup_pct prices_as_of unpriced calendar')


def statement_amounts(statement, places):
    """[(list, contracted, invoice)] of each line and of the total, rounded so that each column adds up."""
    rate, markup = statement.rate_pct, WHOLE + statement.markup_pct
    full = [(figures.usd * WHOLE * WHOLE, figures.usd * rate * WHOLE, figures.usd * rate * markup)
            for _, _, figures in statement.lines]
    columns = [add_up([divide(amounts[n], WHOLE * WHOLE) for amounts in full], places) for n in range(3)]
    return list(zip(*columns)) + [tuple(map(sum, columns))]


def statement_title(statement):
    return 'Statement %s, %s' % (printable(statement.arm), title_of(statement))


def statement_columns(statement):
    amounts, lines = statement_amounts(statement, 2), statement.lines
    figures = [line[2] for line in lines] + [statement.total]
    return [fixed_column('Day', [line[0] for line in lines] + ['Total']),
            text_column('Model', [printable(line[1]) for line in lines] + ['']),
            number_column('Calls', ['{:,}'.format(one.calls) for one in figures]),
            number_column('Tokens', [short_count(tokens_of(one)) for one in figures]),
            number_column('List USD', [assumed_mark(one) + money(usd[0]) for one, usd in zip(figures, amounts)]),
            number_column('Contracted USD', [money(usd[1]) for usd in amounts]),
            number_column('Invoice USD', [money(usd[2]) for usd in amounts])]


def statement_notes(statement):
    told = ['Metered from session logs, at list price; prices as of %s. List and contracted amounts are estimates.'
            % statement.prices_as_of,
            'Contracted is %s %% of list; invoice is contracted plus %s %%.'
            % (percent_text(statement.rate_pct), percent_text(statement.markup_pct)),
            'Days are whole in the time zone %s.' % statement.calendar.zone_name(statement.span.since)]
    if statement.total.untranscribed:
        told.append('%s of list is untranscribed: titles, compactions and other helper calls, known from the totals of '
                    'their sessions.' % dollars(statement.total.untranscribed))
    if statement.total.assumed:
        told.append('~ %s of list is at assumed prices, for want of a list price of %s.' % (
            dollars(statement.total.assumed), list_of(statement.unpriced)))
    return told


def percent_text(millionths):
    """90, 87.5"""
    return exact(millionths, 6).rstrip('0').rstrip('.')


def format_statement_markdown(statement):
    table = markdown_table(statement_columns(statement)) if statement.lines else 'No spend in this month.'
    return '# %s\n\n%s\n\n%s\n' % (markdown_escaped(statement_title(statement)), table,
                                   '\n'.join('- ' + markdown_escaped(note) for note in statement_notes(statement)))


def format_statement_html(statement):
    title = statement_title(statement)
    body = ['<h1>%s</h1>' % html_escaped(title)]
    if statement.lines:
        total = statement_amounts(statement, 2)[-1]
        body.append(html_boxes(zip(('List', 'Contracted', 'Invoice'), ['$' + money(usd) for usd in total])))
        body.append(html_table(statement_columns(statement), 'By day and model', total=True))
    else:
        body.append('<p>No spend in this month.</p>')
    return html_page(title, body + [html_notes(statement_notes(statement))])


def format_statement_csv(statement):
    heads = ['arm', 'day', 'model', 'calls', 'input_tokens', 'output_tokens', 'cache_write_tokens', 'cache_read_tokens',
             'web_searches', 'assumed_usd', 'list_usd', 'contracted_usd', 'invoice_usd']
    amounts = statement_amounts(statement, 6)
    return csv_text([heads] + [
        [statement.arm, day, model, one.calls, one.input, one.output, one.cache_write, one.cache_read, one.searches,
         amount(one.assumed)] + [amount(usd) for usd in amounts[n]]
        for n, (day, model, one) in enumerate(statement.lines)])


# ---- FOCUS 1.4: Cost and Usage -------------------------------------------------------------

FOCUS_COLUMNS = (
    'BilledCost', 'BillingAccountId', 'BillingAccountName', 'BillingCurrency', 'BillingPeriodEnd', 'BillingPeriodStart',
    'ChargeCategory', 'ChargeClass', 'ChargeDescription', 'ChargePeriodEnd', 'ChargePeriodStart', 'ConsumedQuantity',
    'ConsumedUnit', 'ContractedCost', 'ContractedUnitPrice', 'EffectiveCost', 'HostProviderName', 'InvoiceIssuerName',
    'ListCost', 'ListUnitPrice', 'PricingCategory', 'PricingQuantity', 'PricingUnit', 'ServiceCategory', 'ServiceName',
    'ServiceProviderName', 'ServiceSubcategory', 'SkuId', 'SkuMeter', 'SkuPriceId', 'SubAccountId', 'SubAccountName',
    'Tags', 'x_Arm', 'x_AssumedCost', 'x_Estimate', 'x_Model', 'x_PricesAsOf', 'x_UntranscribedCost')
METERS = (('Input Tokens', 'input'), ('Output Tokens', 'output'), ('Short Cache Write Tokens', 'cache-write-short'),
          ('Long Cache Write Tokens', 'cache-write-long'), ('Cache Read Tokens', 'cache-read'),
          ('Web Searches', 'web-search'))
SEARCHES = 5                     # the index of the one meter that does not count tokens
PROVIDERS = (('claude', 'Anthropic', 'Claude API'), ('gpt', 'OpenAI', 'OpenAI API'), ('codex', 'OpenAI', 'OpenAI API'),
             ('o1', 'OpenAI', 'OpenAI API'), ('o3', 'OpenAI', 'OpenAI API'), ('o4', 'OpenAI', 'OpenAI API'),
             ('gemini', 'Google', 'Gemini API'), ('grok', 'xAI', 'xAI API'))
CLOUDS = (('anthropic.', 'Amazon Web Services', 'Amazon Bedrock'), ('bedrock', 'Amazon Web Services', 'Amazon Bedrock'),
          ('vertex', 'Google Cloud', 'Vertex AI'), ('@', 'Google Cloud', 'Vertex AI'),
          ('azure', 'Microsoft', 'Microsoft Foundry'))


@lru_cache(maxsize=None)
def provider_of(model):
    """(provider, service) of a model id as it was logged: who serves it, and so sends the invoice."""
    text = model.lower()
    for sign, provider, service in CLOUDS:
        if sign in text:
            return provider, service
    name = canonical(model)
    return next(((provider, service) for start, provider, service in PROVIDERS if name.startswith(start)),
                ('Unknown', 'Language model API'))


def sum_meters(db, span, arms, calendar, places, prices):
    """{(date, arm, model, provider, service, meter, unit price): [quantity, of it untranscribed, of it assumed]}

    Calls are summed up at the price of their model, variant and day. Where that is not what the ledger holds,
    some had another (a long context): these groups are gone through call by call."""
    from operator import mul
    meters, units, odd = {}, {}, set()
    for row in read_sums(db, span, calendar.day_sql, places, METERED_BY, METER_SUMS):
        _, _, utc_day, model, variant, rest, assumed, *tokens, high, low = row
        kind = model, variant, utc_day
        if kind not in units:
            units[kind] = prices.units(model, utc_day * DAY_MS, (0,) * 6, variant, False)[0]
        if sum(map(mul, tokens, units[kind])) == (high << 20) + low:
            add_meters(meters, row, arms, tokens, units[kind])
        else:
            odd.add(row[:7])
    for row in calls_of(db, span, calendar, places, {group[3] for group in odd}):
        if row[:7] in odd:
            tokens = row[8:]
            price = prices.units(row[3], row[7], tokens, row[4], not row[5])[0]
            add_meters(meters, row, arms, tokens, price)
    return meters


METERED_BY = (UTC_DAY, 'model', 'variant', "kind = 'untranscribed'", 'assumed')
METER_SUMS = TOKEN_SUMS + ', sum(usd >> 20), sum(usd & 1048575)'


def calls_of(db, span, calendar, places, models):
    """Yield (place, day, *METERED_BY, ts, *tokens) of each call of these models."""
    names = ('place', calendar.day_sql(span, 'ts')) + METERED_BY + ('ts',) + TOKEN_COLUMNS
    for model in models:
        yield from db.execute('select %s from calls where model = ? and ts >= ? and ts < ?%s'
                              % (', '.join(names), within(places)), (model, span.since, span.until))


def add_meters(meters, row, arms, quantities, unit_prices):
    place, day, _, model, _, untranscribed, assumed = row[:7]
    start = (utc_date(day), arms[place].name, canonical(model)) + provider_of(model)
    for meter, quantity in enumerate(quantities):
        if quantity:
            key = start + (meter, unit_prices[meter])
            held = meters.get(key)
            if held is None:
                held = meters[key] = [0, 0, 0]
            held[0] += quantity
            if untranscribed:
                held[1] += quantity
            if assumed:
                held[2] += quantity


def format_focus(meters, arms, calendar, prices_as_of):
    """BilledCost is 0: the specification wants there what an issuer has invoiced, never an estimate,
    so that this file and the provider's own can be added up."""
    rates = {arm.name: rate_of(arm) for arm in arms.values()}
    periods, lines = {}, [','.join(FOCUS_COLUMNS) + '\n']
    for key in sorted(meters):
        if key[0] not in periods:
            midnight = calendar.midnight(key[0])
            periods[key[0]] = [utc_text(ms) for name in ('day', 'month') for ms in calendar.window(name, midnight)]
        template = focus_template(*key[1:], rates[key[1]], prices_as_of)
        lines.append(template % focus_amounts(key[5], key[6], rates[key[1]], *meters[key], *periods[key[0]]))
    return ''.join(lines)


def focus_amounts(meter, price, rate, quantity, untranscribed, assumed, day, day_end, month, month_end):
    """What differs between the rows of one arm, model, meter and price."""
    cost, contracted = exact(quantity * price, 12), exact(quantity * price * rate, 20)
    return {
        'BillingPeriodStart': month, 'BillingPeriodEnd': month_end,
        'ChargePeriodStart': day, 'ChargePeriodEnd': day_end,
        'ConsumedQuantity': quantity, 'PricingQuantity': quantity if meter == SEARCHES else exact(quantity, 6),
        'ListCost': cost, 'ContractedCost': contracted, 'EffectiveCost': contracted,
        'x_UntranscribedCost': exact(untranscribed * price, 12), 'x_AssumedCost': exact(assumed * price, 12)}


@lru_cache(maxsize=4096)
def focus_template(arm, model, provider, service, meter, price, rate, prices_as_of):
    """The line of such rows, with a place for each of their amounts. Prices are pico-dollars for one."""
    scale = 12 if meter == SEARCHES else 6               # tokens are sold by the million
    unit_price, sku, name = exact(price, scale), '%s/%s' % (model, METERS[meter][1]), METERS[meter][0]
    account = '' if arm == UNATTRIBUTED else arm
    values = {
        'BilledCost': '0.0', 'BillingCurrency': 'USD', 'BillingAccountId': 'armledger',
        'BillingAccountName': 'armledger (metered from session logs)', 'ChargeCategory': 'Usage', 'ChargeClass': '',
        'ChargeDescription': '%s of %s at $%s%s; an estimate from session logs' % (
            name, model, unit_price, ' each' if meter == SEARCHES else ' for 1000000'),
        'ConsumedUnit': 'Requests' if meter == SEARCHES else 'Tokens',
        'PricingUnit': 'Requests' if meter == SEARCHES else '1000000 Tokens', 'PricingCategory': 'Standard',
        'ListUnitPrice': unit_price, 'ContractedUnitPrice': exact(price * rate, scale + 8),
        'ServiceProviderName': provider, 'HostProviderName': provider, 'InvoiceIssuerName': provider,
        'ServiceName': service, 'ServiceCategory': 'AI and Machine Learning', 'ServiceSubcategory': 'Generative AI',
        'SkuId': sku, 'SkuMeter': name, 'SkuPriceId': '%s@%s' % (sku, unit_price),
        'SubAccountId': account, 'SubAccountName': account, 'Tags': json.dumps({'arm': arm}), 'x_Arm': arm,
        'x_Estimate': 'true', 'x_Model': model, 'x_PricesAsOf': prices_as_of}
    return ','.join(csv_cell(values[column]).replace('%', '%%') if column in values else '%%(%s)s' % column
                    for column in FOCUS_COLUMNS) + '\n'


# ---- Prometheus ----------------------------------------------------------------------------

def format_prometheus(spends, verdicts, facts):
    """Text for node_exporter's textfile collector. spends: {window: {arm: pico}}; facts: [(name, help, value)]."""
    tiers = {tier: n for n, tier in enumerate(TIER_COLOURS)}
    spent = [((arm, window), usd6(usd)) for window in spends for arm, usd in sorted(spends[window].items())]
    caps = [((arm.name, one.window), one) for arm, one in verdicts]
    families = [
        metric('spend_usd', 'Spend in the current window at list price, an estimate, in US dollars.', spent),
        metric('cap_usd', 'Cap of the window, in US dollars.', [(key, usd6(one.cap)) for key, one in caps]),
        metric('counted_usd', "Spend that counts against the cap, at the arm's rate, in US dollars.",
               [(key, usd6(one.spent)) for key, one in caps]),
        metric('cap_ratio', "Spend at the arm's rate divided by the cap; 1 is the cap.",
               [(key, usd6(one.spent * PICO // one.cap)) for key, one in caps if one.cap]),
        metric('tier', 'Tier of the cap: 0 ok, 1 alert, 2 warn, 3 hard_stop, 4 halt.',
               [(key, str(tiers[one.tier])) for key, one in caps])]
    return ''.join(families + [metric(name, text, [(None, value)]) for name, text, value in facts])


def metric(name, help_text, samples):
    """The lines of a gauge; none without samples. A sample is ((arm, window) or None, value)."""
    name = 'armledger_' + name
    lines = ['# HELP %s %s' % (name, help_text), '# TYPE %s gauge' % name] if samples else []
    for labels, value in samples:
        where = '{arm="%s",window="%s"}' % tuple(map(label_value, labels)) if labels else ''
        lines.append('%s%s %s' % (name, where, value))
    return ''.join(line + '\n' for line in lines)


def label_value(text):
    return printable(text, 4096).replace('\\', '\\\\').replace('"', '\\"')


# ---- the command line ----------------------------------------------------------------------

HERE = os.path.dirname(os.path.realpath(__file__))
FORMATS = ('table', 'json', 'csv', 'markdown', 'html', 'focus', 'prometheus')
STALE_DAYS = 60
FOREVER_MS = BUCKET_MS << 24     # the year 2448


def main(argv=None):
    """Exit code: 0 when the report was made, 1 when it could not be, or not with its caps."""
    options = None
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        if options.help:
            show(help_text(), sys.stdout)
            return 0
        return run(options)
    except UserError as error:
        complain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain('interrupted')
    except Exception as error:
        if not options or not is_from_ledger(error):
            raise
        complain(ledger_error(find_ledger(options.ledger, os.environ, home_of(os.environ)), error))
    return 1


def is_from_ledger(error):
    sqlite3 = sqlite()
    return isinstance(error, sqlite3.Error)


def complain(error):
    print('cost-report: ' + printable(str(error), 2000), file=sys.stderr)


OPTIONS = (                      # name, what its value is (None: it has none), what it does
    ('by', 'KEYS', 'one or more of ' + ', '.join(BY)),
    ('since', 'DATE', 'a date or time; the first that counts'),
    ('until', 'DATE', 'a date, counted to its end, or a time'),
    ('month', 'YYYY-MM', 'a whole month'),
    ('yesterday', None, 'the whole of yesterday'),
    ('arm', 'ARM', 'one arm: its name, or a folder in it'),
    ('format', 'FORMAT', ', '.join(FORMATS)),
    ('output', 'FILE', 'write there instead, whole or not at all; - is standard output'),
    ('quiet', None, 'print only if an arm is at alert or above, or something is wrong'),
    ('compare', None, 'set the window before beside'),
    ('baseline', 'MODEL', 'what the same tokens would have cost on MODEL'),
    ('billed', 'FILE', 'what was billed: JSON {"arm or total": usd} or CSV arm,usd'),
    ('budgets', 'FILE', 'instead of budgets.yaml'),
    ('prices', 'FILE', 'instead of prices.json'),
    ('ledger', 'FILE', 'instead of the usual ledger'),
    ('now', 'TIME', 'an ISO 8601 time to look from'),
    ('help', None, 'show this'))


class Options:
    """The command line: each of OPTIONS by its name, None where it was not given."""

    def __init__(self, given):
        for name, _, _ in OPTIONS:
            setattr(self, name, given.get(name))
        self.by, self.format, self.statement = parse_by(given.get('by')), self.format or FORMATS[0], False


def parse_options(argv):
    """Options. (argparse would take a tenth of the whole run.)"""
    wants, given, words = {'--' + name: value for name, value, _ in OPTIONS}, {}, list(argv)
    while words:
        option, equals, value = words.pop(0).partition('=')
        option = '--help' if option == '-h' else option
        if option not in wants:
            raise UserError('there is no option %s%s; see --help' % (printable(option), did_you_mean(option, wants)))
        if not wants[option] and equals:
            raise UserError('%s takes no value; see --help' % option)
        if wants[option] and not equals:
            value = words.pop(0) if words and not words[0].startswith('--') else ''
        if wants[option] and not value.strip():              # a variable that is not set: never take it for all arms
            raise UserError('%s is empty: write %s %s; see --help' % (option, option, wants[option]))
        name = option[2:]
        given[name] = given[name] + ',' + value if name == 'by' and 'by' in given else value or True
    options = Options(given)
    check_options(options)
    return options


def help_text():
    lines = ['  %-20s %s' % ('--%s %s' % (name, value or ''), text) for name, value, text in OPTIONS]
    return 'usage: cost-report.py [OPTION ...]\n\n%s\n%s\n' % (__doc__, '\n'.join(lines))


def parse_by(given):
    """The keys in their order, the arm first if it isn't among them: each row is one arm's. None by itself."""
    if not given:
        return None
    keys = [key.strip() for key in given.split(',')]
    for key in keys:
        if key not in BY:
            raise UserError('--by: %s is no key; write one or more of %s' % (printable(repr(key)), ', '.join(BY)))
    return tuple(dict.fromkeys(keys if 'arm' in keys else ['arm'] + keys))


def check_options(options):
    if options.format not in FORMATS:
        raise UserError('--format: %s is none; write one of %s' % (printable(repr(options.format)), ', '.join(FORMATS)))
    if options.output in ('-', '/dev/stdout'):
        options.output = None
    given = [name for name in ('by', 'compare', 'baseline', 'billed') if getattr(options, name)]
    if options.format == 'prometheus':
        given += [name for name in ('since', 'until', 'month', 'yesterday') if getattr(options, name)]
    if options.format in ('focus', 'prometheus') and given:
        raise UserError('--format %s has its own columns and windows: leave out --%s' % (options.format, given[0]))
    if options.billed and options.by not in (None, ('arm',)):
        raise UserError('--billed goes with --by arm')
    options.statement = not given and bool(options.arm and options.month) and options.format in STATEMENTS


class Context:
    """All that a report is made from: the ledger brought up to date, prices, budgets, arms, the clock."""

    def __init__(self, options):
        environ = os.environ
        self.options, self.home = options, home_of(environ)
        self.looking_back = options.now is not None
        self.now = parse_now(options.now)
        self.checker = load_checker(HERE)
        self.problem = None
        self.budgets = self.load_budgets(options, environ)
        self.prices = load_prices(find_prices(options.prices, environ, HERE))
        self.path = find_ledger(options.ledger, environ, self.home)
        self.ledger = Ledger(self.path, self.home, 3600.0)
        self.db = self.ledger.db
        self.reading = self.refresh(environ)
        self.places = {row[0]: Place(*row[1:]) for row in self.db.execute(
            'select id, %s from places' % ', '.join(Place._fields)).fetchall()}
        self.refuse_ambiguous()
        self.calendar = Calendar(self.budgets.timezone if self.budgets else 'local')
        self.entries = self.budgets.entries if self.budgets else ()
        self.arms = arms_of_places(self.places, self.match)
        self.arm = self.chosen = None
        if options.arm and self.problem:
            raise UserError(self.problem)                    # which calls are the arm's is not known
        if options.arm:
            self.arm, self.chosen = choose_arm(options.arm, self.arms, self.entries, self.places.values(), self.arm_at,
                                               self.home)
        self.elsewhere, self.cautions = self.spent_elsewhere(), []

    def refresh(self, environ):
        progress = Progress(sys.stderr) if sys.stderr.isatty() else None
        try:
            return self.ledger.refresh(self.prices, environ, self.now, progress)
        finally:
            if progress:
                progress.clear()

    def load_budgets(self, options, environ):
        """The budgets, None if there are none or they cannot be read; that is told when the costs are."""
        if not self.checker:
            if options.budgets:
                raise UserError('--budgets: budget-check.py has to lie beside this script to read it')
            return None
        try:
            path = self.checker.find_budgets(options.budgets, environ, HERE, self.home)
            return self.checker.load_budgets(path, self.home) if path else None
        except self.checker.UserError as error:
            self.problem = str(error)

    def refuse_ambiguous(self):
        try:
            if self.budgets:
                self.checker.check_ambiguous(self.budgets, self.places.values())
        except self.checker.UserError as error:
            self.problem, self.budgets = str(error), None

    def match(self, place):
        return self.checker.match_arm(self.budgets, place) if self.budgets else None

    def arm_at(self, folder):
        return arms_of_places({0: self.ledger.place_of(folder)}, self.match)[0]

    def span(self):
        quarter = self.now // BUCKET_MS + 1              # whole quarters are summed up already
        through = self.now + 1 if self.looking_back else quarter * BUCKET_MS
        oldest = self.oldest() if self.options.until and not self.options.since else None
        return choose_span(self.options, self.calendar, self.now, through, self.now if oldest is None else oldest)

    def oldest(self):
        """When the first call was made, None without any."""
        first = self.ledger.one('select min(bucket) from spend where bucket > 0' + within(self.chosen))[0]
        return None if first is None else first * BUCKET_MS

    def sum_by(self, span, by):
        return sum_by(self.db, span, by, self.arms, self.calendar, self.chosen)

    def budgeted_arms(self):
        """{name: Arm} of all that budgets.yaml lists or its default: arms; with --arm that one alone."""
        arms = {entry.arm: Arm(entry.arm, entry) for entry in self.entries}
        for _, arm in sorted(self.arms.items()):
            if arm.entry:
                arms.setdefault(arm.name, arm)
        return {name: arm for name, arm in arms.items() if self.arm in (None, name)}

    def verdicts(self):
        """[(Arm, WindowVerdict)] of now, as budget-check.py has it."""
        arms = [arm for arm in self.budgeted_arms().values() if arm.entry.caps]
        spent = {window: self.spent_in(window) for window in {window for arm in arms for window, _ in arm.entry.caps}}
        began = self.began() if 'total' in spent else {}
        listed, found = {entry.arm for entry in self.entries}, []
        for arm in arms:
            amounts = {window: spent[window].get(arm.name, 0) for window in spent}
            if arm.name in self.elsewhere:
                amounts = {'month': self.elsewhere[arm.name]}
            if arm.name in listed or any(amounts.values()):
                verdict = self.checker.judge(arm.entry, amounts, self.now, self.calendar.timezone,
                                             began_ms=began.get(arm.name))
                found += [(arm, one) for one in verdict.windows]
        return found

    def spent_in(self, window):
        """{arm name: pico} of the window of now; what is stamped later counts too, unless someone looks back."""
        since = 0 if window == 'total' else self.calendar.window(window, self.now)[0]
        until = self.now + 1 if self.looking_back else FOREVER_MS
        spent = {}
        for place, usd in read_usd(self.db, Span(since, until, window, until), self.chosen):
            name = self.arms[place].name
            spent[name] = spent.get(name, 0) + usd
        return spent

    def spent_elsewhere(self):
        """{arm name: pico} of the month, where budgets.yaml has it from another tool: its spend_json.

        Without that file no arm can be told from its cap: the costs are shown without caps then."""
        if not self.budgets or not self.budgets.spend_json:
            return {}
        arms = self.budgeted_arms()
        try:
            return {name: self.checker.spend_elsewhere(self.budgets.spend_json, name) for name in arms}
        except self.checker.UserError as error:
            self.problem = str(error)
            for arm in arms.values():
                arm.entry.caps = ()
            return {}

    def began(self):
        """{arm name: ms of its first spend}"""
        first = {}
        for place, bucket in self.db.execute('select place, min(bucket) from spend group by place'):
            name = self.arms[place].name
            first[name] = min(first.get(name, FOREVER_MS), bucket * BUCKET_MS)
        return first

    def unpriced(self, span):
        """Models with a price that had to be assumed, of the calls that this report is about."""
        rows = self.db.execute('select distinct model from calls where assumed and ts >= ? and ts < ?'
                               + within(self.chosen), (span.since, span.until))
        return sorted({canonical(model) for model, in rows})

    def remarks(self, span):
        """What is to be known of the figures, and not wrong with them."""
        told = []
        if self.elsewhere:
            told.append('Caps are compared with the spend that %s has (spend_json in budgets.yaml), as the gate does, not '
                        'with the logs.' % printable(self.budgets.spend_json, 500))
        created = self.ledger.meta('created')
        if created and span.since < created:
            oldest = self.oldest()
            told.append('This ledger was begun on %s%s: spend whose logs had been deleted before that is missing.' % (
                self.calendar.date(created), '' if oldest is None else
                '; its oldest call%s is of %s' % (' here' if self.arm else '', self.calendar.date(oldest))))
        return told

    def caution(self, span, warnings, assumed):
        """Note, for stderr, what formats that have no room for it leave out, and whoever sends them on has to know."""
        if assumed:
            self.cautions.append('%s of it is at assumed prices, for want of a price of %s in prices.json' % (
                dollars(assumed), list_of(self.unpriced(span))))
        if self.reading.malformed:
            self.cautions.append(malformed_note(self.reading.malformed))
        self.cautions += self.remarks(span) + warnings

    def malformed_since(self, since):
        """Lines that could not be read, in logs that were written to since then."""
        lines = 0
        for path, malformed in self.db.execute('select path, malformed from files where malformed > 0').fetchall():
            try:
                lines += malformed * (os.stat(path).st_mtime * 1000 >= since)
            except OSError:
                lines += malformed
        return lines

    def warnings(self):
        """What may be wrong with the figures. For one arm, no path: it can hold another arm's name."""
        told, reading = [], self.reading
        days = self.now // DAY_MS - days_from_civil(*map(int, self.prices.as_of.split('-')))
        if days > STALE_DAYS:
            told.append('the prices are %d days old (%s): look whether they still hold, and put the new ones into '
                        'prices.json' % (days, self.prices.as_of))
        named = reading.unreadable[:0 if self.arm else 3]
        for path, reason in named:
            told.append('%s cannot be read (%s): what it cost is not counted; give its owner read access to it'
                        % (printable(path, 500), reason))
        if len(reading.unreadable) > len(named):
            told.append('%d %slog files cannot be read: what they cost is not counted'
                        % (len(reading.unreadable) - len(named), 'more ' if named else ''))
        if reading.compressed:
            told.append('%d compressed log%s (.jsonl.zst) cannot be read: what %s cost is not counted; unpack with `zstd -d`'
                        % (reading.compressed, *(('', 'it') if reading.compressed == 1 else ('s', 'they'))))
        if not reading.files and not self.arm and not self.db.execute('select 1 from spend limit 1').fetchall():
            told.append('no session logs were found, and the ledger is empty; looked in ' + ', '.join(
                printable(root) for agent in AGENTS for root in agent.roots(os.environ, self.home)))
        if self.checker and self.options.format not in ('focus', 'prometheus') and not self.options.statement:
            told += self.checker.notify_failures(self.ledger, None if self.arm is None else [self.arm])
        return told


def home_of(environ):
    return environ.get('HOME') or os.path.expanduser('~')


def parse_now(text):
    now = parse_time(text) if text else int(time.time() * 1000)
    if now is None:
        raise UserError('--now: %s is no time; write it as 2026-10-31T23:59:59Z' % printable(repr(text)))
    return now


def load_checker(folder):
    """budget-check.py beside this script as a module, None without it. Its bytecode is cached."""
    path = os.path.join(folder, 'budget-check.py')
    if not os.path.isfile(path):
        return None
    try:
        from _frozen_importlib_external import SourceFileLoader    # what importlib.machinery gives, without its imports
    except ImportError:
        from importlib.machinery import SourceFileLoader
    module = type(sys)('budget_check')
    module.__file__ = path
    exec(SourceFileLoader('budget_check', path).get_code('budget_check'), module.__dict__)
    return module


class Progress:
    """One line on a terminal while logs are read; it is gone when they have been."""

    def __init__(self, stream):
        self.stream, self.began, self.shown = stream, time.monotonic(), False

    def __call__(self, files, all_files, done, total):
        left = (time.monotonic() - self.began) * (total - done) / done if done else 0
        self.write('reading logs: %d of %d files, %d of %d MB, %d s left'
                   % (files, all_files, done >> 20, total >> 20, left))

    def write(self, text):
        self.shown = bool(text)
        self.stream.write('\r\x1b[K' + text)
        self.stream.flush()

    def clear(self):
        if self.shown:
            self.write('')


def run(options):
    context = Context(options)
    text, alarming = make(context)
    context.ledger.close()
    if alarming or not options.quiet:
        for note in context.cautions:
            complain('note: ' + note)
    if context.problem:
        complain(context.problem)
    if options.output:
        write_whole(options.output, text)
    elif alarming or not options.quiet:
        show(text, sys.stdout)
    return 1 if context.problem else 0


STATEMENTS = {'markdown': format_statement_markdown, 'html': format_statement_html, 'csv': format_statement_csv}
REPORTS = {'json': format_json, 'csv': format_csv, 'markdown': format_markdown, 'html': format_html}


def make(context):
    """(the report's text, whether --quiet has to let it through)"""
    options, verdicts, warnings = context.options, [], context.warnings()
    if options.quiet or options.format in ('table', 'markdown', 'html', 'prometheus') and not options.statement:
        verdicts = context.verdicts()
    span = context.span()
    alarming = any(one.tier != 'ok' for _, one in verdicts) or bool(
        context.problem or warnings or context.malformed_since(span.since))
    if options.format == 'prometheus':
        return make_prometheus(context, verdicts), alarming
    if options.format == 'focus':
        meters = sum_meters(context.db, span, context.arms, context.calendar, context.chosen, context.prices)
        assumed = sum(key[-1] * held[2] for key, held in meters.items() if held[2])
        context.caution(span, warnings, assumed)
        return format_focus(meters, context.arms, context.calendar, context.prices.as_of), alarming or bool(assumed)
    if options.statement:
        statement = make_statement(context, span)
        context.caution(span, warnings, statement.total.assumed)
        return STATEMENTS[options.format](statement), alarming or bool(statement.total.assumed)
    report = make_report(context, span, verdicts, warnings)
    if options.format == 'csv':
        context.caution(span, report.warnings, report.total.assumed)
    text = format_table(report, *terminal()) if options.format == 'table' else REPORTS[options.format](report)
    return text, alarming or bool(report.total.assumed or report.warnings)


def make_report(context, span, verdicts, warnings):
    options, by, calendar = context.options, context.options.by or ('arm',), context.calendar
    arms = {arm.name: arm for arm in context.arms.values()}
    arms.update((entry.arm, Arm(entry.arm, entry)) for entry in context.entries)
    summed = context.sum_by(span, by)
    total = sum_figures(summed.values())
    if by == ('arm',):
        for entry in context.entries:
            if context.arm in (None, entry.arm):
                summed.setdefault((entry.arm,), NOTHING)
    rows = make_rows(summed, by, arms, span, calendar, context.now, context.elsewhere)
    if set(by) == {'arm', 'day'}:
        history = Span(calendar.window('day', span.since)[0] - (SPIKE_DAYS + 1) * DAY_MS, span.until, None, span.until)
        mark_spikes(rows, by, {key: figures.usd for key, figures in context.sum_by(history, ('arm', 'day')).items()})
    before_span = comparison_span(by, span, calendar) if options.compare else None
    if before_span:
        set_beside(rows, by, arms, context.sum_by(before_span, by), calendar)
    if options.baseline:
        set_baseline(rows, by, span, context)
    daily, models = chart_sums(context, span) if options.format == 'html' else ({}, [])
    billed = read_bills(options.billed, context.arm) if options.billed else {}
    for name in billed:
        if name not in arms and name.lower() != 'total':
            warnings = warnings + ['--billed: there is no arm %s%s' % (printable(name), did_you_mean(name, arms))]
    if options.billed and not billed:
        warnings = warnings + ['--billed: it has no amount of this arm']
    return Report(
        span=span, by=by, rows=rows, total=total, calendar=calendar, now=context.now, home=context.home,
        arm=context.arm, prices_as_of=context.prices.as_of, verdicts=verdicts, before_span=before_span,
        baseline=options.baseline,
        bills=reconcile(billed, rows), unpriced=context.unpriced(span) if total.assumed else [], malformed=context.reading.malformed,
        warnings=warnings, remarks=context.remarks(span),
        daily=daily, models=models)


def set_baseline(rows, by, span, context):
    prices, model = context.prices, context.options.baseline
    if not prices.known(model):
        raise UserError('--baseline: prices.json has no %s%s' % (printable(model), did_you_mean(model, prices.models)))
    costs = sum_baseline(context.db, span, by, context.arms, context.calendar, context.chosen,
                         lambda ms: prices.units(model, ms, (0,) * 6, '', False)[0])
    for row in rows:
        row.baseline = costs.get(row.key, 0)


def chart_sums(context, span):
    """What the charts show, whatever --by says: ({(arm, day): pico}, [(model, Figures)])"""
    daily = context.sum_by(span, ('arm', chart_unit(span)))
    models = context.sum_by(span, ('model',))
    return {key: figures.usd for key, figures in daily.items()}, sorted(
        ((model, figures) for (model,), figures in models.items()), key=lambda pair: (-pair[1].usd, pair[0]))


def sum_figures(all_figures):
    return Figures(*map(sum, zip(NOTHING, *all_figures)))


def read_bills(path, arm):
    try:
        with open(path, encoding='utf-8', newline='') as stream:
            text = stream.read(1 << 20)
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise UserError('--billed: cannot be read: %s' % reason, path)
    return {name: usd for name, usd in parse_bills(text, path).items() if arm in (None, name)}


def make_statement(context, span):
    summed = context.sum_by(span, ('day', 'model'))
    lines = [key + (figures,) for key, figures in summed.items()]
    lines.sort(key=lambda line: (line[0], -line[2].usd, line[1]))
    entry = next((entry for entry in context.entries if entry.arm == context.arm), None) or next(
        (context.arms[number].entry for number in context.chosen), None)
    total = sum_figures(summed.values())
    return Statement(context.arm, span, context.now, lines, total, entry.rate_pct if entry else WHOLE,
                     entry.markup_pct if entry else 0, context.prices.as_of,
                     context.unpriced(span) if total.assumed else [], context.calendar)


def make_prometheus(context, verdicts):
    spends = {}
    for window in TIME_KEYS:
        since, end = context.calendar.window(window, context.now)
        span = Span(since, context.now + 1 if context.looking_back else end, window, end)
        spends[window] = {key[0]: figures.usd for key, figures in context.sum_by(span, ('arm',)).items()}
        for entry in context.entries:
            if context.arm in (None, entry.arm):
                spends[window].setdefault(entry.arm, 0)
    reading, as_of = context.reading, days_from_civil(*map(int, context.prices.as_of.split('-')))
    return format_prometheus(spends, verdicts, [
        ('last_read_timestamp_seconds', 'When the session logs were read last.', str(context.now // 1000)),
        ('prices_as_of_timestamp_seconds', 'The day that the prices are as of.', str(as_of * 86400)),
        ('skipped_lines', 'Log lines that could not be read.', str(reading.malformed)),
        ('unreadable_files', 'Log files that could not be read.', str(len(reading.unreadable) + reading.compressed)),
        ('budgets_ok', 'Whether budgets.yaml could be read: 1 or 0.', '0' if context.problem else '1')])


def terminal():
    """(width, colour) of standard output; 80 columns where it isn't a terminal."""
    if not sys.stdout.isatty():
        return 80, False
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        width = 80
    return max(40, min(width or 80, 160)), not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'


def show(text, stream):
    """Print; where the terminal cannot show a character, something plain stands for it."""
    encoding = stream.encoding or 'ascii'
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, 'replace').decode(encoding)
    stream.write(text)
    stream.flush()


PLAIN = dict([(0x2588 + n, '#') for n in range(8)] + [(0xb7, '.'), (0x2026, '~'), (0x25b2, '^')])


def write_whole(path, text):
    """All of it or nothing: another name in the same folder, then renamed. A link stays a link."""
    target = os.path.realpath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):          # a device or a pipe
            with open(path, 'w', encoding='utf-8', newline='') as stream:
                stream.write(text)
            return
        import tempfile
        mode = os.stat(target).st_mode & 0o777 if os.path.exists(target) else 0o666 & ~umask()
        handle, temporary = tempfile.mkstemp('.tmp', '.armledger-', os.path.dirname(target))
        try:
            with open(handle, 'w', encoding='utf-8', newline='') as stream:
                stream.write(text)
                stream.flush()
                os.fsync(handle)
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError('--output: %s' % error.strerror, path)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def leave(code):
    """End at once: all is written and closed, and tearing an interpreter down takes as long as the report's sums."""
    try:
        for stream in sys.stdout, sys.stderr:
            if stream:
                stream.flush()
    except (OSError, ValueError):
        code = 1
    os._exit(code)


if __name__ == '__main__':
    leave(main())
