#!/usr/bin/env python3
"""Hard budget caps for coding agents, client by client.

    budget-check.py                     every armed arm, as a table
    budget-check.py ~/clients/acme      the arm that a path is in; or an arm's name
    budget-check.py --json acme         the verdict for programs

What an agent has used stands in its own session logs. Priced at list price and keyed by the repo
that each call was made in, they are an arm's ledger; budgets.yaml sets the arm's caps:

    budgets:
      - arm: acme
        path: ~/clients/acme
        monthly_usd_cap: 200.00

Exit codes: 0 all is well, or an arm is at `alert` or `warn`; 2 an arm is at its hard stop; 1 it could
not be told (a bad budgets.yaml, prices.json or ledger, a mistyped option).

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


# ---- budgets.yaml: the text ----------------------------------------------------------------

class Map(dict):
    """A YAML map that knows where it stands: at[key] is the (line, column) of a key, value_at[key] of its value."""

    def __init__(self, name, at):
        dict.__init__(self)
        self.name, self.start, self.at, self.value_at = name, at, {}, {}


class List(list):
    """A YAML list that knows where it stands: value_at[index] is the (line, column) of an item."""

    def __init__(self, name, at):
        list.__init__(self)
        self.name, self.start, self.value_at = name, at, []


class Number(str):
    """A number with decimals, kept as it is written: float(number) is what a full YAML reader gives."""


def parse_yaml(text, name='budgets.yaml'):
    """What a full YAML reader gives for this strict subset of YAML; UserError for everything else.

        # block maps and lists, plain and quoted scalars, one-line lists of scalars, comments
        key: plain text
        list:
          - key: 200.00
            other: ["a", b, 'it''s']

    Gives Map, List, str, int, Number, bool and None. What YAML's versions or readers take in
    different ways (yes, 012, 1e3, 12:30, ~) is refused, as is whatever is rare and easily misread."""
    return YamlReader(text, name).document()


DEEPEST = 20                     # levels of maps and lists
LONGEST_TEXT = 1000              # characters of a line; readers stop looking for a key's colon after 1024
LONGEST_NUMBER = 30              # characters
CONSTANTS = {'null': None, 'true': True, 'false': False}
AMBIGUOUS = frozenset(('y', 'n', 'yes', 'no', 'on', 'off', 'true', 'false', 'null', '~', '.inf', '.nan', '=', '<<'))
NUMBER_START = frozenset('0123456789.+-')
NUMBERLIKE = frozenset('0123456789abcdefABCDEFxXoO_.,:+-tTzZ ')
ESCAPES = '\\"/'
HEX_ESCAPES = {'x': 2, 'u': 4}
SPACE_LIKE = frozenset('\xa0\u1680\u180e\u202f\u205f\u3000' + ''.join(map(chr, range(0x2000, 0x2010))))
FORBIDDEN = frozenset('\u2028\u2029\ufeff\ufffe\uffff')
IN_QUOTES = 'a value cannot begin with %s: put it in quotes'
REFUSED_STARTS = {
    '&': 'anchors are not read: write the value itself, or put it in quotes',
    '*': 'aliases are not read: write the value itself; a pattern that begins with * goes in quotes: "*..."',
    '!': 'tags are not read: leave the tag out, or put the value in quotes',
    '|': 'text blocks are not read: write the text on one line, in quotes',
    '>': 'text blocks are not read: write the text on one line, in quotes',
    '{': 'one-line maps are not read: write each "key: value" on a line of its own, indented below',
    '[': 'a list cannot be a key: write "key: [a, b]"',
    '?': '"? key" is not read: write "key: value"; a value that begins with ? goes in quotes',
}


class YamlReader:
    """A reader by recursive descent over lines; each method reads on from `self.next`."""

    def __init__(self, text, name):
        self.name, self.lines, self.next, self.marked = name, [], 0, False
        if text[:1] == '\ufeff':
            text = text[1:]
        for number, line in enumerate(text.replace('\r\n', '\n').split('\n'), 1):
            if not line.isprintable():
                self.check_characters(line, number)
            content = line.strip(' ')
            if content and content[0] != '#':
                indent = len(line) - len(line.lstrip(' '))
                if len(content) > LONGEST_TEXT:
                    self.refuse('a line of more than %d characters: write a list as one "- item" a line' % LONGEST_TEXT,
                                number, indent)
                if indent or not self.is_marker(content, number):
                    self.lines.append((number, indent, content))

    def refuse(self, message, number, offset):
        raise UserError(message, self.name, number, offset + 1)

    def check_characters(self, line, number):
        start = len(line) - len(line.lstrip(' '))
        comment = start if line[start:start + 1] == '#' else line.find(' #')
        for offset, char in enumerate(line):
            if char == '\t':
                if comment < 0 or offset < comment:
                    self.refuse('a tab: use spaces', number, offset)
            elif char < ' ' or '\x7f' <= char < '\xa0' or '\ud800' <= char <= '\udfff' or char in FORBIDDEN \
                    or char in BIDI and (comment < 0 or offset < comment):
                self.refuse('the character U+%04X is not allowed: delete it' % ord(char), number, offset)
            elif char in SPACE_LIKE and (comment < 0 or offset < comment):
                self.refuse('the character U+%04X looks like a space or hyphen but is none: type it anew' % ord(char),
                            number, offset)

    def is_marker(self, content, number):
        """Whether the line is the one `---` that a document may begin with."""
        if content[0] == '%':
            self.refuse('YAML directives are not read: delete this line', number, 0)
        if content[:3] not in ('---', '...') or content[3:4] not in ('', ' '):
            return False
        if self.lines or self.marked or content[0] == '.':
            self.refuse('one document per file: delete this %s' % content[:3], number, 0)
        rest = content[3:].lstrip(' ')
        if rest and rest[0] != '#':
            self.refuse('nothing may follow --- on its line: begin on the next line', number, len(content) - len(rest))
        self.marked = True
        return True

    def document(self):
        if not self.lines:
            return None
        found = self.block(0)
        if self.next < len(self.lines):
            self.refuse_indentation()
        return found

    def refuse_indentation(self):
        number, indent, _ = self.lines[self.next]
        self.refuse('this line is indented like no line above it: line it up with its neighbours; '
                    'a value ends on the line that it begins on', number, indent)

    def block(self, depth):
        number, indent, text = self.lines[self.next]
        if depth > DEEPEST:
            self.refuse('more than %d levels: write it flatter' % DEEPEST, number, indent)
        return self.block_list(indent, depth) if is_item(text) else self.block_map(indent, depth)

    def block_map(self, indent, depth):
        number, _, _ = self.lines[self.next]
        found = Map(self.name, (number, indent + 1))
        while self.next < len(self.lines):
            number, at, text = self.lines[self.next]
            if at < indent:
                break
            if at > indent:
                self.refuse_indentation()
            if is_item(text):
                self.refuse('a list item among keys: indent the list below its key', number, at)
            key, end = self.find_key(text, number, at) or self.refuse_key(text, number, at)
            if key in found:
                self.refuse('the key "%s" stands here twice, first on line %d: keep one' % (key, found.at[key][0]),
                            number, at)
            self.next += 1
            value = text[end:].lstrip(' ')
            found.at[key] = found.value_at[key] = number, at + 1
            if not value or value[0] == '#':
                found[key] = self.nested(indent, depth, True)
            else:
                start = at + len(text) - len(value)
                found.value_at[key] = number, start + 1
                found[key] = self.inline(value, number, start)
        return found

    def block_list(self, indent, depth):
        number, _, _ = self.lines[self.next]
        found = List(self.name, (number, indent + 1))
        while self.next < len(self.lines):
            number, at, text = self.lines[self.next]
            if at > indent:
                self.refuse_indentation()
            if at < indent or not is_item(text):
                break
            value = text[1:].lstrip(' ')
            start = at + len(text) - len(value)
            found.value_at.append((number, start + 1 if value else at + 1))
            if value and is_item(value):
                self.refuse('a list directly in a list is not read: give the inner one a key', number, start)
            if value and value[0] != '#' and self.find_key(value, number, start):
                self.lines[self.next] = number, start, value
                if depth >= DEEPEST:
                    self.refuse('more than %d levels: write it flatter' % DEEPEST, number, start)
                found.append(self.block_map(start, depth + 1))
                continue
            self.next += 1
            if not value or value[0] == '#':
                found.append(self.nested(indent, depth, False))
            else:
                found.append(self.inline(value, number, start))
        return found

    def nested(self, indent, depth, of_key):
        """The block below a key or dash, None if there is none. A list may stand right below its key."""
        if self.next < len(self.lines):
            _, at, text = self.lines[self.next]
            if at > indent or of_key and at == indent and is_item(text):
                return self.block(depth + 1)
        return None

    def find_key(self, text, number, at):
        """(key, offset after its colon) of a line that has one, else None."""
        if text[0] in '"\'':
            key, end = self.quoted(text, 0, number, at)
            rest = text[end:].lstrip(' ')
            colon = len(text) - len(rest)
            if rest[:1] != ':' or rest[1:2] not in ('', ' '):
                return None
        elif text[0] in '[{':
            return None
        else:
            colon, comment = text.find(': '), text.find(' #')
            if colon < 0 and text[-1] == ':':
                colon = len(text) - 1
            if colon < 0 or 0 <= comment < colon:
                return None
            key = self.plain(text[:colon].rstrip(' '), number, at) if colon else self.refuse_key(text, number, at)
        if type(key) is not str:
            self.refuse('a key must be text: put %s in quotes' % text[:colon].rstrip(' '), number, at)
        return key, colon + 1

    def refuse_key(self, text, number, at):
        if text[0] in REFUSED_STARTS:
            self.refuse(REFUSED_STARTS[text[0]], number, at)
        key, colon, value = text.partition(':')
        if colon and key.strip('"\'') and value and text[0] != '[':
            self.refuse('a space is missing after the colon: write "%s: %s"' % (key.rstrip(' '), value.lstrip(' ')),
                        number, at + len(key))
        self.refuse('expected "key: value" here; a value stands on the line of its key', number, at)

    def inline(self, text, number, at):
        if text[0] in '"\'':
            found, end = self.quoted(text, 0, number, at)
        elif text[0] == '[':
            found, end = self.flow_list(text, number, at)
        else:
            comment = text.find(' #')
            return self.plain(text if comment < 0 else text[:comment].rstrip(' '), number, at)
        rest = text[end:].lstrip(' ')
        if rest and (rest[0] != '#' or text[end] != ' '):
            self.refuse('unexpected text after the closing %s: delete it, or put quotes around the whole'
                        % text[end - 1], number, at + len(text) - len(rest))
        return found

    def flow_list(self, text, number, at):
        found, end = List(self.name, (number, at + 1)), 1
        while True:
            end += len(text[end:]) - len(text[end:].lstrip(' '))
            if text[end:end + 1] == ']':
                return found, end + 1
            start = end
            if end < len(text) and text[end] in '"\'':
                item, end = self.quoted(text, end, number, at)
                end += len(text[end:]) - len(text[end:].lstrip(' '))
            else:
                end = min(i if i >= 0 else len(text) for i in (text.find(',', end), text.find(']', end)))
                item = None if end == len(text) else self.flow_plain(text[start:end].rstrip(' '), number, at + start)
            if end == len(text):
                self.refuse('this list is not closed on its line: write all of it on one line, or one "- item" a line',
                            number, at)
            if text[end] not in ',]':
                self.refuse('expected , or ] after this item', number, at + end)
            found.append(item)
            found.value_at.append((number, at + start + 1))
            end += text[end] == ','

    def flow_plain(self, text, number, at):
        if not text:
            self.refuse('an empty item: delete the comma', number, at)
        if text[0] == '[':
            self.refuse('a list in a list is not read: write the items in one list', number, at)
        if text[0] not in REFUSED_STARTS:
            for offset, char in enumerate(text):
                if char in '[{}:?#':
                    self.refuse('an item with %s goes in quotes' % char, number, at + offset)
        return self.plain(text, number, at)

    def quoted(self, text, start, number, at):
        """(text, offset after the closing quote) of the quoted scalar at `start`."""
        if text[start] == "'":
            end = text.find("'", start + 1)
            while end >= 0 and text[end + 1:end + 2] == "'":
                end = text.find("'", end + 2)
            found = text[start + 1:end].replace("''", "'")
        else:
            end = text.find('"', start + 1)
            found = text[start + 1:end]
            if end < 0 or '\\' in found:
                found, end = self.unescape(text, start, number, at)
        if end < 0:
            self.refuse('this quote is not closed on its line: close it, and write a long text on one line',
                        number, at + start)
        if '\t' in text[start:end]:
            self.refuse('a tab: use spaces', number, at + text.find('\t', start))
        return found, end + 1

    def unescape(self, text, start, number, at):
        """(text, offset of the closing quote or -1) of a double-quoted scalar with backslashes."""
        found, here = [], start + 1
        while here < len(text) and text[here] != '"':
            if text[here] != '\\':
                found.append(text[here])
                here += 1
                continue
            escape = text[here + 1:here + 2]
            digits = text[here + 2:here + 2 + HEX_ESCAPES.get(escape, 0)]
            if escape and escape in ESCAPES:
                found.append(escape)
            elif digits and len(digits) == HEX_ESCAPES[escape] and set(digits) <= set('0123456789abcdefABCDEF') \
                    and chr(int(digits, 16)).isprintable():
                found.append(chr(int(digits, 16)))
            elif not escape:
                return '', -1
            else:
                self.refuse('"\\%s" is not read in double quotes: for a backslash write \\\\, or use single quotes'
                            % escape, number, at + here)
            here += 2 + len(digits)
        return ''.join(found), here if here < len(text) else -1

    def plain(self, text, number, at):
        """The value of an unquoted scalar."""
        first = text[0]
        if first in NUMBER_START:
            return self.number(text, number, at)
        if first in REFUSED_STARTS:
            self.refuse(REFUSED_STARTS[first], number, at)
        if first in '"\',]}#:@`%':
            self.refuse(IN_QUOTES % first, number, at)
        if text in CONSTANTS:
            return CONSTANTS[text]
        self.check_plain(text, number, at)
        return text

    def check_plain(self, text, number, at):
        if ': ' in text or text[-1] == ':':
            colon = text.find(': ') if ': ' in text else len(text) - 1
            self.refuse('a second "key: value" on one line: put the value in quotes, or the key on its own line',
                        number, at + colon)
        if '\t' in text:
            self.refuse('a tab: use spaces', number, at + text.find('\t'))
        if text.lower() in AMBIGUOUS:
            self.refuse('YAML readers disagree about %s: %s' % (
                text, 'put it in quotes, or write true or false' if text.isalpha() else 'put it in quotes'), number, at)

    def number(self, text, number, at):
        digits = text[1:] if text[0] == '-' else text
        whole, dot, decimals = digits.partition('.')
        if whole.isdigit() and text.isascii() and (whole[0] != '0' or whole == '0') \
                and (decimals.isdigit() if dot else True):
            if len(text) > LONGEST_NUMBER:
                self.refuse('a number of more than %d characters: write a shorter one' % LONGEST_NUMBER, number, at)
            return Number(text) if dot else int(text)
        if text[0] == '-':
            self.refuse(IN_QUOTES % '-' if len(text) > 1 else 'a lone dash: put it in quotes', number, at)
        if text[0] == '+':
            self.refuse('a number is written without +; other text that begins with + goes in quotes', number, at)
        if NUMBERLIKE.issuperset(text) and any(map(str.isdigit, text)) or text[:2] == '._':
            self.refuse('YAML readers disagree about %s: write a number as 1234.50, other text in quotes' % text,
                        number, at)
        self.check_plain(text, number, at)
        return text


def is_item(text):
    return text[0] == '-' and text[1:2] in ('', ' ')


# ---- budgets.yaml: what it says ------------------------------------------------------------

LARGEST_BUDGETS = 1 << 20        # bytes
PERCENT = 10 ** 6                # percentages are kept in whole millionths of a percent
HIGHEST_CAP = 10 ** 7            # USD: above it, a decimal point is missing
LONGEST_ARM = 100                # characters
CAPS = {'daily_usd_cap': 'day', 'weekly_usd_cap': 'week', 'monthly_usd_cap': 'month', 'total_usd_cap': 'total'}
TOP_KEYS = ('timezone', 'on_error', 'expensive_tools', 'spend_json', 'notify', 'budgets', 'default')
ENTRY_KEYS = ('arm', 'path', 'paths') + tuple(CAPS) + (
    'alert_pct', 'grace_pct', 'halt_pct', 'action_on_breach', 'rate_pct', 'markup_pct', 'notify')
RIGHT_SHAPE = 'write a list under budgets: with, for each arm, "- arm: NAME" and below it "monthly_usd_cap: 200.00"'


class Record:
    """A few named values. (A namedtuple takes ten times as long to define, at each start of the gate.)"""

    __slots__ = ()

    def __init__(self, *values, **named):
        for field, value in zip(self.__slots__, values):
            setattr(self, field, value)
        for field, value in named.items():
            setattr(self, field, value)

    def __eq__(self, other):
        return type(self) is type(other) and all(getattr(self, f) == getattr(other, f) for f in self.__slots__)

    __hash__ = None

    def __repr__(self):
        return '%s(%s)' % (type(self).__name__, ', '.join('%s=%r' % (f, getattr(self, f)) for f in self.__slots__))


class Entry(Record):
    """One item of `budgets:`, or `default:` (its arm is None). Caps are in pico-dollars, percentages in PERCENT."""

    __slots__ = ('arm', 'paths', 'caps', 'alert_pct', 'grace_pct', 'halt_pct', 'action', 'rate_pct', 'markup_pct',
                 'notify', 'at', 'patterns')


class Budgets(Record):
    """A whole file: tools and spend_json are None where the file has none; a file without caps has no entries."""

    __slots__ = ('name', 'timezone', 'on_error', 'expensive_tools', 'spend_json', 'notify', 'entries', 'default',
                 'literals', 'globs', 'named')

    def armed(self):
        return bool(self.entries or self.default)


def find_budgets(explicit, environ, script_dir, home):
    """The budgets file to read, None if there is none. `script_dir` is where the script really lies.

    Never the working folder: it is a client's, whose repo must not raise its own cap."""
    if explicit:
        return named_file(explicit, '--budgets')
    if environ.get('ARMLEDGER_BUDGETS'):
        path = expand_home(environ['ARMLEDGER_BUDGETS'], home)
        if not os.path.isabs(path):
            raise UserError('$ARMLEDGER_BUDGETS is %s, and which file that is depends on the working folder: '
                            'write an absolute path' % path)
        return named_file(path, '$ARMLEDGER_BUDGETS')
    usual = [os.path.join(script_dir, 'budgets.yaml')] if script_dir else []
    usual += [os.path.join(home, '.claude', 'budgets.yaml')] if home else []
    return next(filter(is_there, usual), None)


def named_file(path, named_by):
    if not is_there(path):
        raise UserError('no such file; it is named by %s' % named_by, path)
    return path


def is_there(path):
    """Whether something lies there. What cannot be looked at counts: reading it then says why."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def load_budgets(path, home=None):
    return parse_budgets(read_text(path, LARGEST_BUDGETS), path, home)


def read_text(path, most_bytes):
    """The text of a small UTF-8 file; UserError for anything else that may lie there."""
    try:
        if os.path.isdir(path):
            raise UserError('is a folder: a file is expected', path)
        if os.path.exists(path) and not os.path.isfile(path) and path != os.devnull:
            raise UserError('is not a plain file', path)           # a pipe would keep its reader waiting
        with open(path, 'rb') as stream:
            content = stream.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        raise UserError('cannot be read: %s' % (getattr(error, 'strerror', None) or error), path) from None
    if len(content) > most_bytes:
        raise UserError('is larger than %d KiB: is it the right file?' % (most_bytes >> 10), path)
    if content[:2] in (b'\xff\xfe', b'\xfe\xff'):
        raise UserError('is UTF-16: save it as UTF-8', path, 1, 1)
    try:
        return content.decode('utf-8')
    except UnicodeDecodeError as error:
        before = content[:error.start]
        column = len(before[before.rfind(b'\n') + 1:].decode('utf-8')) + 1
        raise UserError('is not UTF-8 text: save it as UTF-8', path, before.count(b'\n') + 1, column) from None


def parse_budgets(text, name='budgets.yaml', home=None):
    """Budgets of a file's text; UserError at line:column for what they cannot say. `home` stands for ~."""
    found = parse_yaml(text, name)
    if found is None:
        found = Map(name, (1, 1))
    if type(found) is not Map:
        raise UserError('a list without its key: write "budgets:" on a line of its own above it', name, *found.start)
    check_keys(found, TOP_KEYS)
    budgets = Budgets(
        name, read_timezone(found), read_choice(found, 'on_error', ('deny', 'allow'), 'deny'), read_tools(found),
        read_spend_json(found, home), read_text_value(found, 'notify'), read_entries(found, home),
        read_default(found, home), {}, [], {})
    if budgets.spend_json:
        check_monthly_only(found)
    index_entries(budgets)
    return budgets


def wrong(found, key, message):
    return UserError(message, found.name, *found.value_at[key])


def check_keys(found, known):
    for key in found:
        if key not in known:
            raise UserError(unknown_key(key, known), found.name, *found.at[key])


def unknown_key(key, known):
    if key == 'arms' and 'budgets' in known:
        return 'the key arms: is not read, and its caps would not hold: ' + RIGHT_SHAPE
    if 'budgets' in known and key in ENTRY_KEYS:
        return '%s belongs to an arm: indent it below its "- arm: NAME", or below default:' % key
    if key in TOP_KEYS and key not in ('budgets', 'default'):
        return '%s is for the whole file: write it at the left margin' % key
    near = nearest(key, known)
    return 'unknown key %s: %s' % (key, 'did you mean %s?' % near if near else 'write one of ' + ', '.join(known))


def nearest(word, known):
    """The known word that it may be a slip of, None if none is like it."""
    from difflib import get_close_matches
    by_folded = {each.lower(): each for each in known}
    match = get_close_matches(word.lower(), by_folded, 1)
    return by_folded[match[0]] if match else None


def read_text_value(found, key):
    """A text, None if the key is not there."""
    if key not in found:
        return None
    value = found[key]
    if type(value) is not str:
        raise wrong(found, key, '%s %s: write a text%s' % (
            key, describe(value), ', in quotes' if type(value) in (int, Number, bool) else ''))
    if not value.strip():
        raise wrong(found, key, '%s is empty: write its value, or delete this line' % key)
    return value


def describe(value):
    if value is None:
        return 'has no value'
    if type(value) is Map or type(value) is List:
        return 'has a %s' % type(value).__name__.lower()
    return 'is the text "%s"' % value if type(value) is str else 'is %s' % str(value).lower()


def read_choice(found, key, choices, otherwise):
    value = found.get(key, otherwise)
    if type(value) is not str or value not in choices:
        near = nearest(value, choices) if type(value) is str else None
        raise wrong(found, key, '%s %s: %s' % (
            key, describe(value), 'did you mean %s?' % near if near else
            'write %s or %s' % (', '.join(choices[:-1]), choices[-1])))
    return value


def read_tools(found):
    """The names and patterns of expensive tools; None keeps the built-in ones."""
    if 'expensive_tools' not in found:
        return None
    tools = found['expensive_tools']
    if type(tools) is not List:
        raise wrong(found, 'expensive_tools', 'expensive_tools %s: write a list, as in [Agent, "mcp__*"]'
                    % describe(tools))
    for tool, at in zip(tools, tools.value_at):
        if type(tool) is not str or not tool.strip():
            raise UserError('a tool\'s name or pattern is expected: write it as text, in quotes', found.name, *at)
    return tuple(tools)


def read_spend_json(found, home):
    value = read_text_value(found, 'spend_json')
    return value and absolute_path(value, home, found, 'spend_json')


def absolute_path(value, home, found, key, at=None):
    """A path with ~ filled in; UserError for one that would depend on the working folder."""
    path = expand_home(value, home)
    if path[:1] == '/' or is_windows_path(path) or os.path.isabs(path):
        return path
    hint = 'the home folder that ~ stands for is unknown: write an absolute path' if value[:1] == '~' else \
        'variables are not filled in: write an absolute path, or one that begins with ~/' if value[:1] in '$%' else \
        'write an absolute path, or one that begins with ~/'
    raise UserError('the path %s: %s' % (value, hint), found.name, *(at or found.value_at[key]))


def expand_home(path, home=None):
    if path[:1] != '~':
        return path
    if home and (path == '~' or path[1] in '/' + os.sep):
        return home.rstrip('/') + path[1:] or '/'
    return os.path.expanduser(path)


def read_entries(found, home):
    items = found.get('budgets')
    if items is None:
        return ()
    if type(items) is not List:
        raise wrong(found, 'budgets', 'budgets %s instead of a list: %s' % (describe(items), RIGHT_SHAPE))
    entries, lines, memo = [], {}, {}
    for item, at in zip(items, items.value_at):
        if type(item) is not Map:
            key, _, value = item.partition(':') if type(item) is str else ('', '', '')
            raise UserError('a space is missing after the colon: write "%s: %s"' % (key, value) if key in ENTRY_KEYS else
                            'an entry of budgets: is expected: write "- arm: NAME" and its keys below', found.name, *at)
        check_keys(item, ENTRY_KEYS)
        entry = read_entry(item, home, memo)
        if entry.arm in lines:
            raise wrong(item, 'arm', 'the arm %s stands here twice, first on line %d: make one entry of the two; '
                        'an arm may have several caps, and paths: [...]' % (entry.arm, lines[entry.arm]))
        lines[entry.arm] = entry.at[0]
        entries.append(entry)
    check_paths_once(entries, found.name)
    return tuple(entries)


def read_entry(item, home, memo):
    if 'arm' not in item:
        raise UserError('this entry has no arm: begin it with "- arm: NAME"', item.name, *item.start)
    arm = read_text_value(item, 'arm')
    if '/' in arm or '\\' in arm or arm != arm.strip() or arm[0] == '(' or len(arm) > LONGEST_ARM:
        raise wrong(item, 'arm', 'an arm\'s name has at most %d characters, no slash, no space at its ends and no ( '
                    'at its beginning; where it lies is said by path:' % LONGEST_ARM)
    paths = read_paths(item, home)
    return read_caps(item, arm, tuple(value for value, _, _ in paths),
                     tuple(read_pattern(path, item, at, memo) for _, path, at in paths))


def read_default(found, home):
    item = found.get('default')
    if item is None:
        return None
    if type(item) is not Map:
        raise wrong(found, 'default', 'default %s: write its caps below it, indented, as in "  monthly_usd_cap: 100.00"'
                    % describe(item))
    for key in ('arm', 'path', 'paths'):
        if key in item:
            raise UserError('default: has no %s: it is for every repo that no entry lists; an arm of its own stands '
                            'under budgets:' % key, item.name, *item.at[key])
    check_keys(item, ENTRY_KEYS)
    return read_caps(item, None, (), ())


def read_paths(item, home):
    """[(as written, absolute, (line, column))] of path: or paths:."""
    if 'path' in item and 'paths' in item:
        raise UserError('path and paths in one entry: write all of them in paths: [...]', item.name, *item.at['paths'])
    if 'path' in item:
        if type(item['path']) is List:
            raise wrong(item, 'path', 'path has a list: write paths: [...]')
        value = read_text_value(item, 'path')
        return [(value, absolute_path(value, home, item, 'path'), item.value_at['path'])]
    if 'paths' not in item:
        return []
    values = item['paths']
    if type(values) is not List or not values:
        raise wrong(item, 'paths', 'paths %s: write a list, as in [~/clients/acme, ~/clients/acme-web]' % (
            'is empty' if values == [] else describe(values)))
    for value, at in zip(values, values.value_at):
        if type(value) is not str or not value.strip():
            raise UserError('a path is expected: write it as text, in quotes', item.name, *at)
    return [(value, absolute_path(value, home, item, 'paths', at), at) for value, at in zip(values, values.value_at)]


def read_pattern(path, item, at, memo):
    try:
        return Pattern(path, at, memo)
    except (ValueError, re.error):
        raise UserError('the pattern %s cannot be read: write [ itself as [[]' % path, item.name, *at) from None


def check_paths_once(entries, name):
    first = {}
    for entry in entries:
        for written, pattern in zip(entry.paths, entry.patterns):
            if pattern.text in first:
                raise UserError('the path %s stands here twice, first on line %d: a folder belongs to one arm'
                                % (written, first[pattern.text]), name, *pattern.at)
            first[pattern.text] = pattern.at[0]


def read_caps(item, arm, paths, patterns):
    """The Entry of a map's caps and thresholds.

    Unsaid, a stop is at 150 % of the cap, and never before the hard stop."""
    caps = tuple((window, read_cap(item, key)) for key, window in CAPS.items() if key in item)
    if not caps:
        raise UserError('%s has no cap: write monthly_usd_cap: 200.00 (or daily_, weekly_, total_usd_cap), or delete '
                        'the entry' % ('arm ' + arm if arm else 'default:'), item.name, *item.start)
    alert = read_percent(item, 'alert_pct', 80, 1, 100)
    grace = read_percent(item, 'grace_pct', 110, 100, 1000)
    if item.get('halt_pct') == 'never':
        halt = None
    else:
        halt = read_percent(item, 'halt_pct', None, 100, 10000, ', or never')
        if halt is None:
            halt = max(150 * PERCENT, grace)
        elif halt < grace:
            raise wrong(item, 'halt_pct', 'halt_pct is below grace_pct (%s): a halt comes after the hard stop'
                        % format_percent(grace))
    return Entry(arm, paths, caps, alert, grace, halt,
                 read_choice(item, 'action_on_breach', ('alert', 'warn', 'hard_stop'), 'hard_stop'),
                 read_percent(item, 'rate_pct', 100, 1, 1000), read_percent(item, 'markup_pct', 0, 0, 1000),
                 read_text_value(item, 'notify'), item.start, patterns)


def read_cap(item, key):
    value = item[key]
    if type(value) not in (int, Number):
        raise wrong(item, key, '%s %s: write US dollars as a plain number, such as %s'
                    % (key, describe(value), plain_number(value, '200.00')))
    try:
        cap = money(str(value))
    except ValueError:
        raise wrong(item, key, '%s is %s: write US dollars from 0 to %d, with at most 12 decimals'
                    % (key, value, HIGHEST_CAP)) from None
    if cap > HIGHEST_CAP * PICO:
        raise wrong(item, key, '%s is %s: a cap is at most %d USD; is a decimal point missing?'
                    % (key, value, HIGHEST_CAP))
    return cap


def read_percent(item, key, otherwise, low, high, more=''):
    """Millionths of a percent."""
    if key not in item:
        return otherwise if otherwise is None else otherwise * PERCENT
    value = item[key]
    if type(value) not in (int, Number):
        raise wrong(item, key, '%s %s: write a percentage as a plain number, such as %s%s'
                    % (key, describe(value), plain_number(value, str(otherwise or 150)), more))
    try:
        found = fixed_point(str(value), 6)
    except ValueError:
        found = -1
    if not low * PERCENT <= found <= high * PERCENT:
        raise wrong(item, key, '%s is %s: write a percentage from %d to %d%s' % (key, value, low, high, more))
    return found


def plain_number(value, otherwise):
    """What a text such as "$1,200" or "80%" means, to be shown to its writer."""
    text = value.strip(' $%USDusd').replace(',', '') if type(value) is str else ''
    try:
        fixed_point(text, 6)
    except ValueError:
        return otherwise
    return text


def check_monthly_only(found):
    """Spend from elsewhere is month-to-date: it says nothing about other windows."""
    for item in (found.get('budgets') or []) + [found.get('default') or {}]:
        for key, window in CAPS.items():
            if key in item and window != 'month':
                raise UserError('%s cannot be known from spend_json, which is month-to-date: write monthly_usd_cap, or '
                                'delete spend_json' % key, found.name, *item.at[key])


# ---- places and arms -----------------------------------------------------------------------

class Arm(Record):
    """An arm and its caps. Unlisted ones are named by their repo's root, and have the default's caps."""

    __slots__ = ('name', 'entry', 'listed', 'root')


class Pattern:
    """A path of an entry: `~`, links and the part before the first wildcard are resolved.

    Wildcards are those of shells, within one folder's name: * ? [abc] [!abc]; ** is any number of
    folders, also none. Of two patterns that hold a folder, the one with more folder names wins (** counts
    for none), then the one with fewer wildcards among them, then the one whose first wildcard comes later."""

    __slots__ = ('text', 'spelled', 'at', 'rank', 'fits', 'entry')

    def __init__(self, path, at, memo):
        self.spelled, self.at, self.entry = folded(path), at, None
        self.text = folded(resolve_head(path, memo))
        names = [name for name in self.text.split('/')[1:] if name != '**'] if self.text else []
        kinds = tuple(0 if name in ('*', '?') else 1 if has_wildcard(name) else 2 for name in names)
        self.rank = len(names), kinds.count(2), kinds
        self.fits = glob_matcher(self.text) if has_wildcard(self.text) else None

    def holds(self, path):
        path = folded(path)
        return bool(self.fits(path)) if self.fits else (path + '/').startswith(self.text + '/')


def has_wildcard(text):
    return '*' in text or '?' in text or '[' in text


def resolve_head(path, memo):
    """A path whose folders up to the first wildcard are the real ones."""
    if is_windows_path(path) and os.name != 'nt':
        return path                                                # recorded elsewhere: there is nothing to resolve
    path = path.replace('\\', '/') if os.name == 'nt' else path
    names = path.split('/')
    wild = next((i for i, name in enumerate(names) if has_wildcard(name)), len(names))
    head = real_folder('/'.join(names[:wild]) or '/', memo)
    return '/'.join([head.rstrip('/')] + names[wild:]) or '/'


def real_folder(path, memo):
    """os.path.realpath, which looks at each folder that entries share only once."""
    if os.name == 'nt' or '..' in path or path[:1] != '/':
        return os.path.realpath(path)
    path = path.rstrip('/')
    if not path:
        return '/'
    if path not in memo:
        head, _, tail = path.rpartition('/')
        full = real_folder(head or '/', memo).rstrip('/') + ('/' + tail if tail not in ('', '.') else '')
        memo[path] = os.path.realpath(full) if os.path.islink(full) else full
    return memo[path]


def is_windows_path(path):
    return path[1:2] == ':' and path[:1].isalpha() and path[2:3] in ('', '\\', '/') or path[:2] == '\\\\'


def folded(path):
    """A path as it is compared: no slash at its end, and Windows paths without case, with forward slashes."""
    if is_windows_path(path):
        path = '/' + path.replace('\\\\?\\', '').replace('\\', '/').lower().lstrip('/')
    return path.rstrip('/')


def glob_matcher(text):
    """A function that tells whether a pattern fits a path or a folder above it."""
    pattern = ''
    for name in text.split('/')[1:]:
        pattern += '(?:/[^/]+)*' if name == '**' else '/' + ''.join(map(glob_part, glob_parts(name)))
    return re.compile(pattern + '(?:/|$)').match


def glob_parts(name):
    """Split a folder's name into *, ?, [...] and single characters."""
    at = 0
    while at < len(name):
        end = name.find(']', at + 3 if name[at + 1:at + 2] == '!' else at + 2) + 1 if name[at] == '[' else 0
        end = end or at + 1
        yield name[at:end]
        at = end


def glob_part(part):
    if part == '*':
        return '[^/]*'
    if part == '?':
        return '[^/]'
    if len(part) == 1:
        return re.escape(part)
    inside = ''.join('\\' + char if char in '\\[]^&~|' else char for char in part[1:-1])
    return '(?!/)[%s]' % ('^' + inside[1:] if inside[0] == '!' else inside)


def index_entries(budgets):
    """Fill in what match_arm looks up: literal paths, patterns, names of entries without a path."""
    for entry in budgets.entries:
        for pattern in entry.patterns:
            pattern.entry = entry
            if pattern.fits:
                budgets.globs.append(pattern)
            else:
                budgets.literals[pattern.text] = pattern
        if not entry.patterns:
            budgets.named[entry.arm] = entry
    for entry in budgets.entries:                                  # a link may have been turned since
        for pattern in entry.patterns:
            if not pattern.fits:
                budgets.literals.setdefault(pattern.spelled, pattern)


def match_arm(budgets, place):
    """The arm that a place belongs to; None for an unlisted one where there is no default.

    That is the entry with the narrowest path that holds the place's real folder, else the folder as
    recorded, else its main repo. An entry without a path stands for the repos with its arm's name. An
    entry that holds both a folder and its main repo gives way to a narrower one that holds the
    repo: worktrees belong to their repo's arm although `~` is an arm as well."""
    if place.path[:1] != '/' and not is_windows_path(place.path):
        return None                                                # it is no folder: nothing can list it
    found = narrowest(budgets, place.path)
    if not found and place.cwd != place.path:
        found = narrowest(budgets, place.cwd)
    if not found or place.root != place.path or budgets.named:
        by_root = place.inner and narrowest_root(budgets, place.inner) or narrowest_root(budgets, place.root)
        if by_root and (not found or by_root[0] > found[0] and found[1].holds(place.root)):
            found = by_root
    if found:
        return Arm(found[2].arm, found[2], True, found[1].text or '/' if found[1] and not found[1].fits else place.root)
    return Arm(place.root, budgets.default, False, place.root) if budgets.default else None


def narrowest(budgets, path):
    """(rank, pattern, entry) of the narrowest pattern that holds a path, None if none does."""
    path = prefix = folded(path)
    found = None
    while budgets.literals:
        if prefix in budgets.literals:
            pattern = budgets.literals[prefix]
            found = pattern.rank, pattern, pattern.entry
            break
        if not prefix:
            break
        prefix = prefix[:prefix.rfind('/')] if '/' in prefix else ''
    for pattern in budgets.globs:
        if (not found or pattern.rank > found[0]) and pattern.fits(path):
            found = pattern.rank, pattern, pattern.entry
    return found


def narrowest_root(budgets, root):
    found, name = narrowest(budgets, root), folded(root).rpartition('/')[2]
    entry = budgets.named.get(name) or is_windows_path(root) and next(
        (budgets.named[arm] for arm in budgets.named if arm.lower() == name), None)
    if entry:
        depth = folded(root).count('/')
        rank = depth, depth, (2,) * depth
        if not found or rank > found[0]:
            found = rank, None, entry
    return found


def check_ambiguous(budgets, places, arm=None):
    """UserError if an entry without a path fits two repos among all known places.

    Folders that are no repo count only where no repo has the name. `arm`: look at this one alone."""
    fits = {}
    for place in places:
        root = place.inner or place.root
        name = folded(root).rpartition('/')[2]
        if name not in budgets.named:
            root, name = place.root, folded(place.root).rpartition('/')[2]
        if name in budgets.named and arm in (None, name) or is_windows_path(place.root) and budgets.named:
            found = match_arm(budgets, place)
            if found and found.listed and found.name in budgets.named and arm in (None, found.name):
                fits.setdefault(found.name, {}).setdefault(bool(place.is_repo), set()).add(root)
    for name, roots in fits.items():
        among = sorted(roots.get(True) or roots[False])
        if len(among) > 1:
            raise UserError('arm %s has no path, and its name fits %s and %s: add the one that is meant, as in '
                            '"path: %s"' % (name, among[0], among[1], among[0]),
                            budgets.name, *budgets.named[name].at)


# ---- windows of time -----------------------------------------------------------------------

ZONE_FOLDERS = ('/usr/share/zoneinfo', '/usr/lib/zoneinfo', '/usr/share/lib/zoneinfo', '/etc/zoneinfo',
                '/var/db/timezone/zoneinfo')
DAY_S = 86400
WINDOW_MEMO = {}                 # (window, time zone) -> (start, end): asked for again and again


def read_timezone(found):
    zone = read_text_value(found, 'timezone')
    if zone in (None, 'local'):
        return 'local'
    problem = zone_problem(zone)
    if problem:
        raise wrong(found, 'timezone', problem)
    return zone


def zone_problem(zone):
    """What is wrong with a time zone's name, None if nothing is."""
    if zone == 'UTC' or zone_file(zone):
        return None
    if not hasattr(time, 'tzset'):
        return zone_problem_without_tzset(zone)
    names = zone_names()
    if not names:
        return 'this machine has no time zone database: install tzdata, or write local or UTC'
    near = nearest_zone(zone.replace(' ', '_'), names)
    return 'unknown time zone %s: %s' % (zone, 'did you mean %s?' % near if near else
                                         'write local, or a name such as Europe/Berlin')


def nearest_zone(zone, names):
    cities = {name.rpartition('/')[2].lower(): name for name in sorted(names, reverse=True)}
    return cities.get(zone.rpartition('/')[2].lower()) or nearest(zone, names) or cities.get(nearest(zone, cities))


def zone_problem_without_tzset(zone):
    try:
        from zoneinfo import ZoneInfo
        ZoneInfo(zone)
    except Exception:                                              # it raises as many kinds as there are ways to fail
        return 'time zone %s is not known on this machine: write local or UTC' % zone
    return None


def zone_file(zone):
    """The file of an IANA name in the system's database, None if there is none."""
    if zone[:1] == '/' or '..' in zone or '\\' in zone or not hasattr(time, 'tzset'):
        return None
    for folder in ZONE_FOLDERS:
        try:
            with open(folder + '/' + zone, 'rb') as stream:
                if stream.read(4) == b'TZif':
                    return folder + '/' + zone
        except (OSError, ValueError):
            pass
    return None


def zone_names():
    names = []
    for folder in ZONE_FOLDERS:
        for at, below, files in os.walk(folder):
            below[:] = [name for name in below if name not in ('posix', 'right')]
            names += [os.path.join(at, name)[len(folder) + 1:] for name in files if name[:1].isupper()]
    return names


class in_zone:
    """In this block, time.localtime() is a time zone's. Outside of it nothing has changed."""

    def __init__(self, timezone):
        self.zone = None if timezone == 'local' else timezone

    def __enter__(self):
        if self.zone:
            path = zone_file(self.zone)
            if not path and self.zone != 'UTC':
                raise UserError(zone_problem(self.zone))
            self.before = os.environ.get('TZ')
            os.environ['TZ'] = ':' + path if path else 'UTC0'
            time.tzset()

    def __exit__(self, *_):
        if self.zone:
            if self.before is None:
                del os.environ['TZ']
            else:
                os.environ['TZ'] = self.before
            time.tzset()


def local_times(timezone):
    """A function from seconds since the epoch to a local struct_time, and what to keep open meanwhile."""
    if timezone == 'local' or hasattr(time, 'tzset'):
        return time.localtime, in_zone(timezone)
    if timezone == 'UTC':
        return time.gmtime, in_zone('local')
    from datetime import datetime
    from zoneinfo import ZoneInfo
    zone = ZoneInfo(timezone)
    return lambda seconds: datetime.fromtimestamp(seconds, zone).timetuple(), in_zone('local')


def first_second(day, local_time):
    """When a local day begins: the first instant whose local date is that day or a later one."""
    low, high = day * DAY_S - 30 * 3600, day * DAY_S + 30 * 3600   # offsets reach 14 hours, a skipped day 24
    while low < high:
        middle = (low + high) // 2
        if days_from_civil(*local_time(middle)[:3]) >= day:
            high = middle
        else:
            low = middle + 1
    return low


def window_days(window, day):
    """(first day, first day after) of the window that a day is in; days count from 1970-01-01."""
    if window == 'day':
        return day, day + 1
    if window == 'week':
        monday = day - (day + 3) % 7                               # day 0 was a Thursday
        return monday, monday + 7
    year, month = time.gmtime(day * DAY_S)[:2]
    return days_from_civil(year, month, 1), days_from_civil(year + month // 12, month % 12 + 1, 1)


def window_bounds(window, now_ms, timezone='local'):
    """(start, end) in ms of the day, ISO week, calendar month or total that holds an instant; end is outside of it."""
    if window == 'total':
        return 0, None
    key = window, timezone, os.environ.get('TZ') if timezone == 'local' else None
    start, end = WINDOW_MEMO.get(key, (0, 0))
    if not start <= now_ms < end:
        local_time, zone = local_times(timezone)
        with zone:
            day = days_from_civil(*local_time(now_ms // 1000)[:3])
            while first_second(day + 1, local_time) * 1000 <= now_ms:
                day += 1                                           # a clock set back over midnight: it is the new day
            first, after = window_days(window, day)
            start, end = first_second(first, local_time) * 1000, first_second(after, local_time) * 1000
        WINDOW_MEMO[key] = start, end
    return start, end


def window_start(window, now_ms, timezone='local'):
    return window_bounds(window, now_ms, timezone)[0]


def window_end(window, now_ms, timezone='local'):
    """None for 'total', which does not end."""
    return window_bounds(window, now_ms, timezone)[1]


def format_time(ms, timezone='local'):
    """ISO 8601 with its offset, to the second: 2025-11-01T00:00:00+01:00."""
    local_time, zone = local_times(timezone)
    with zone:
        fields = local_time(ms // 1000)[:6]
    offset = days_from_civil(*fields[:3]) * DAY_S + fields[3] * 3600 + fields[4] * 60 + fields[5] - ms // 1000
    minutes = abs(offset) // 60
    return '%04d-%02d-%02dT%02d:%02d:%02d' % tuple(fields) + '%s%02d:%02d' % (
        '-' if offset < 0 else '+', minutes // 60, minutes % 60)


# ---- the verdict ---------------------------------------------------------------------------

TIERS = ('ok', 'alert', 'warn', 'hard_stop', 'halt')
VERDICTS = {'ok': 'OK', 'alert': 'ALERT', 'warn': 'WARN', 'hard_stop': 'HARD_STOP', 'halt': 'HARD_STOP'}


class Verdict(Record):
    """The state of an arm: `worst` is the window that decides, `windows` are all of them."""

    __slots__ = ('tier', 'verdict', 'worst', 'windows')


class WindowVerdict(Record):
    """One cap, in pico-dollars at the arm's rate and in ms. `pct` of the cap is in PERCENT, rounded down, None if
    the cap is 0; `cap_at` is when the cap is reached at this window's rate so far, None if it won't be in it (or
    has been); `projected` is what will have been spent at its end, None where that can't be told."""

    __slots__ = ('window', 'start', 'end', 'spent', 'reserved', 'cap', 'grace', 'halt', 'tier', 'pct', 'left', 'cap_at',
                 'projected')


def judge(entry, spent_by_window, now_ms, timezone='local', reserved=0, began_ms=None):
    """The Verdict on an entry's caps. Spend and reservations are pico-dollars at list price.

    `began_ms`, the arm's first spend, lets a total be projected. The worst window has the highest
    tier, then the largest share of its cap, then the shorter window."""
    windows = tuple(judge_window(entry, window, cap, spent_by_window.get(window, 0), now_ms, timezone, reserved, began_ms)
                    for window, cap in entry.caps)
    worst = windows[0]
    for other in windows[1:]:
        rank, worst_rank = TIERS.index(other.tier), TIERS.index(worst.tier)
        if rank > worst_rank or rank == worst_rank and \
                (other.spent + other.reserved) * worst.cap > (worst.spent + worst.reserved) * other.cap:
            worst = other
    return Verdict(worst.tier, VERDICTS[worst.tier], worst, windows)


def judge_window(entry, window, cap, spent, now_ms, timezone, reserved, began_ms):
    start, end = window_bounds(window, now_ms, timezone)
    rate, full = entry.rate_pct, 100 * PERCENT
    ours, held = divide_even(spent * rate, full), divide_even(reserved * rate, full)
    cap_at, projected = project(ours, cap, start if end else began_ms, end, now_ms)
    return WindowVerdict(
        window, start, end, ours, held, cap, divide_even(cap * entry.grace_pct, full),
        None if entry.halt_pct is None else divide_even(cap * entry.halt_pct, full),
        tier_of(entry, (spent + reserved) * rate, cap), (ours + held) * full // cap if cap else None,
        max(0, cap - ours - held), cap_at, projected)


def tier_of(entry, rated, cap):
    """The tier of a spend (times rate_pct) against a cap, at most what action_on_breach lets it reach."""
    tier = 'ok'
    for name, percent in (('alert', entry.alert_pct), ('warn', 100 * PERCENT), ('hard_stop', entry.grace_pct),
                          ('halt', entry.halt_pct)):
        if percent is not None and rated >= cap * percent:
            tier = name
    highest = 'halt' if entry.action == 'hard_stop' else entry.action
    return TIERS[min(TIERS.index(tier), TIERS.index(highest))]


def project(spent, cap, start, end, now_ms):
    """(when the cap is reached, what is spent at the end) if spending goes on as it has from `start` to now."""
    if start is None or now_ms <= start:
        return None, None
    elapsed = now_ms - start
    cap_at = start + divide_up(elapsed * cap, spent) if 0 < spent < cap else None
    if cap_at is not None and end is not None and cap_at >= end:
        cap_at = None
    return cap_at, None if end is None else divide_even(spent * (end - start), elapsed)


# ---- figures -------------------------------------------------------------------------------

def fixed_point(text, decimals):
    """A plain decimal number as a whole number of units of 10**-decimals; ValueError for anything else."""
    whole, dot, rest = text.partition('.')
    digits = whole + rest
    if not digits.isdigit() or not digits.isascii() or not whole or (dot and not rest) or len(rest) > decimals:
        raise ValueError(text)
    return int(digits) * 10 ** (decimals - len(rest))


def money(text):
    """Pico-dollars of a decimal text such as 200.00."""
    return fixed_point(text, 12)


def divide_up(dividend, divisor):
    return -(-dividend // divisor)


def divide_even(dividend, divisor):
    """Division of whole numbers, rounded to the nearest, halves to the even one."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or 2 * rest == divisor and quotient % 2)


def format_usd(pico, places=2, thousands=False):
    """Dollars as plain text, exactly rounded: 1234.50, or 1,234.50 with thousands."""
    units = divide_even(abs(pico), 10 ** (12 - places))
    dollars, rest = divmod(units, 10 ** places)
    text = '{:,}'.format(dollars) if thousands else str(dollars)
    sign = '-' if pico < 0 and units else ''
    return sign + text + ('.%0*d' % (places, rest) if places else '')


def usd6(pico):
    return format_usd(pico, 6)


def format_percent(millionths, places=0):
    """A percentage, rounded down: 99.99 % of a cap is not yet 100 %."""
    whole, rest = divmod(millionths * 10 ** places // PERCENT, 10 ** places)
    return str(whole) + ('.%0*d' % (places, rest) if places else '')


# ---- making the ledger anew ----------------------------------------------------------------

def rebuild_ledger(path, home, prices, environ, now_ms, progress):
    """Read every log again, at one stroke; (calls kept whose logs are gone, Reading).

    A ledger that is damaged is moved aside first, and what can still be read of it is kept."""
    sqlite3 = sqlite()
    damaged, ledger = None, None
    try:
        ledger = Ledger(path, home, 3600.0)
        if ledger.one('pragma quick_check(1)')[0] != 'ok':
            raise sqlite3.DatabaseError('damaged')
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        if ledger:
            ledger.close()
        damaged = '%s.damaged-%s' % (path, time.strftime('%Y%m%dT%H%M%SZ', time.gmtime()))
        for ending in ('', '-wal', '-shm'):
            if os.path.lexists(path + ending):
                os.replace(path + ending, damaged + ending)
        ledger = Ledger(path, home, 3600.0)
    reading = ledger.refresh(prices, environ, now_ms, progress)
    if damaged:
        kept = salvage(ledger, damaged)
        reading = ledger.refresh(prices, environ, now_ms)
    else:
        kept = ledger.write(lambda: read_anew(ledger, environ))
    ledger.close()
    return kept, reading


def read_anew(ledger, environ):
    """Calls and files are forgotten and read again; what the logs don't tell any more is put back."""
    db = ledger.db
    db.execute("create temp table kept as select * from calls where kind <> 'untranscribed'")
    for table in ('calls', 'spend', 'files', 'readings', 'folders'):
        db.execute('delete from ' + table)
    ledger.commit_every = float('inf')
    ledger.survey(environ)
    ledger.take_in()
    for row in db.execute('select kept.* from temp.kept join calls on calls.key = kept.key '
                          'where calls.session <> kept.session').fetchall():
        ledger.settle_owner(ledger.one('select %s from calls where key = ?' % COLUMNS, row[0]), row)
    kept = db.execute('select * from temp.kept where key not in (select key from calls)').fetchall()
    ledger.insert(kept)
    db.execute('update sessions set dirty = 1')
    ledger.settle()
    return len(kept)


def salvage(ledger, damaged):
    """Take over the calls of a damaged ledger that are in no log any more; 0 if it can't be read."""
    sqlite3 = sqlite()
    db = ledger.db
    try:
        db.execute('attach ? as old', (damaged,))
        kept = []

        def take_over():
            for statement in SALVAGE:
                db.execute(statement)
            kept.extend(db.execute(SALVAGED_CALLS).fetchall())
            ledger.insert(kept)
        ledger.write(take_over)
        return len(kept)
    except sqlite3.Error:
        return 0


SALVAGE = (
    'insert or ignore into places (cwd, path, root, is_repo, inner) select cwd, path, root, is_repo, inner from old.places',
    'insert or ignore into sessions (cli, name, began, family, dirty) select cli, name, began, family, 1 from old.sessions',
    '''insert or ignore into marks select sessions.id, marks.ts, places.id, marks.totals from old.marks as marks
       join old.sessions as s on s.id = marks.session join sessions on sessions.cli = s.cli and sessions.name = s.name
       join old.places as p on p.id = marks.place join places on places.cwd = p.cwd''',
    'insert or ignore into models select * from old.models',
)
SALVAGED_CALLS = '''select calls.key, sessions.id, agent, kind, places.id, ts, model, variant, input, output,
    write_short, write_long, read, searches, usd, assumed, sidechain from old.calls as calls
    join old.sessions as s on s.id = calls.session join sessions on sessions.cli = s.cli and sessions.name = s.name
    join old.places as p on p.id = calls.place join places on places.cwd = p.cwd
    where calls.kind <> 'untranscribed' and calls.key not in (select key from main.calls)'''


# ---- what an arm has spent -----------------------------------------------------------------

DEFAULT_SPAWN_USD = PICO         # a sub-agent's reservation before this arm has any history: $1
DEFAULT_CALL_USD = PICO // 4     # and any other expensive tool's
LARGEST_EXPORT = 16 << 20        # bytes of a spend_json
MOST_AGENTS = 10000              # files of a session's sub-agents that are looked at
RESERVED_MS = 30 * 60 * 1000     # a reservation that nothing took back ends by itself
LATELY_MS = 7 * 86400 * 1000     # how far back the dearest call is looked for
SPAWNERS = ('Agent', 'Task', 'Workflow', 'SendMessage', '*spawn_agent')
LASTING = ('Workflow', 'SendMessage', '*spawn_agent')       # of these, what goes on when the tool has returned

class Standing(Record):
    """Where an arm stands. `held` is the verdict with reservations counted, `places` the ids of its folders."""

    __slots__ = ('arm', 'verdict', 'held', 'places', 'dearest_usd', 'untranscribed_usd', 'assumed_usd')


def all_places(ledger):
    """{id: Place} of every folder that a metered call was made in."""
    return {row[0]: Place(*row[1:]) for row in
            ledger.db.execute('select id, cwd, path, root, is_repo, inner from places where id <> 0').fetchall()}


def arms_of_places(budgets, places):
    """{(listed, name): (Arm, [ids of its places])} of all places that are in an arm."""
    found = {}
    for number, place in places.items():
        arm = match_arm(budgets, place)
        if arm:
            found.setdefault((arm.listed, arm.name), (arm, []))[1].append(number)
    return found


def stand(ledger, budgets, arm, found, now_ms, looking_back=False):
    """Where an arm stands: the sums of the ledger's 15-minute buckets in each of its windows. `found` are arms_of_places.

    A bucket that is later than the window counts as well (a clock was wrong), unless someone is looking back."""
    places = found.get((arm.listed, arm.name), (arm, []))[1]
    spent, parts = {}, {}
    for window, _ in arm.entry.caps:
        start, end = window_bounds(window, now_ms, budgets.timezone)
        row = ledger.one('select sum(usd >> 20), sum(usd & 1048575), sum(untranscribed_usd >> 20), '
                         'sum(untranscribed_usd & 1048575), sum(assumed_usd >> 20), sum(assumed_usd & 1048575) '
                         'from spend where %s and bucket >= ? and bucket < ?' % within(places),     # in halves: no overflow
                         start // BUCKET_MS, end // BUCKET_MS if end and looking_back else 1 << 60)
        spent[window], *parts[window] = [((row[n] or 0) << 20) + (row[n + 1] or 0) for n in (0, 2, 4)]
    since_ms, dearest = ledger.one('select min(bucket) * ?, max(dearest_usd * (bucket >= ?)) from spend where ' + within(places),
                                   BUCKET_MS, (now_ms - LATELY_MS) // BUCKET_MS)
    if budgets.spend_json:
        spent, parts = {'month': spend_elsewhere(budgets.spend_json, arm.name)}, {'month': (0, 0)}
    began = arm.entry, spent, now_ms, budgets.timezone
    verdict = judge(*began, 0, since_ms)
    held = judge(*began, reserved(ledger, arm, places, now_ms), since_ms)
    return Standing(arm, verdict, held, places, dearest, *parts[verdict.worst.window])


def spend_elsewhere(path, arm):
    """Month-to-date spend of an arm from a JSON export `{"arm": usd}`; an arm that isn't in it has spent nothing."""
    try:
        export = json.loads(read_text(path, LARGEST_EXPORT), parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise UserError('spend_json is not JSON: %s; write it anew, or take spend_json out of the budgets file'
                        % error, path) from None
    value = export.get(arm, '0') if type(export) is dict else export
    try:
        return money(value)
    except (AttributeError, TypeError, ValueError):
        raise UserError('spend_json must be {"arm": usd}, with plain numbers; %s has %s'
                        % (printable(arm), printable(str(value)))) from None


# ---- reservations: what allowed tools may still cost ---------------------------------------

def reserved(ledger, arm, places, now_ms):
    """Pico-dollars: estimates for this arm's tools that are running, less what their sub-agents have already spent."""
    total, sessions = 0, {}
    for _, session, ts, usd in running(ledger, arm, places, now_ms):
        since, estimated = sessions.get(session, (ts, 0))
        sessions[session] = min(since, ts), estimated + usd
    for session, (since, usd) in sessions.items():
        shown = ledger.one("select coalesce(sum(usd), 0) from calls join sessions on sessions.id = session where "
                           "name = ? and agent <> '' and ts >= ? and " + within(places), session, since)[0]
        total += max(0, usd - shown)
    return total


def running(ledger, arm, places, now_ms):
    """[(key, session, ts, usd)] of the reservations whose tools aren't done.

    One is done when its sub-agent's own file says so; without such a file, when the agent that asked for it has
    called again since, unless it goes on in the background; and when its session has ended. Until then a sub-agent
    may cost as much as the dearest has by now: the end of what it spends is in no log yet."""
    rows, files, dearest = [], {}, None
    for key, session, agent, tool, ts, usd, background, transcript in ledger.db.execute(
            'select key, session, agent, tool, ts, usd, background, transcript from reservations '
            'where arm = ? and ts > ?', (arm.name, now_ms - RESERVED_MS)).fetchall():
        if transcript not in files:
            files[transcript] = finished_agents(transcript)
        finished = files[transcript].get(key)
        done = finished if finished is not None else not background and not matches(tool, LASTING) and ledger.one(
            "select 1 from calls join sessions on sessions.id = session where name = ? and agent = ? and ts > ? "
            "and kind = 'call' and " + within(places), session, agent, ts)
        if not done and not ledger.one('select 1 from marks join sessions on sessions.id = session '
                                       'where name = ? and ts > ?', session, ts):
            if matches(tool, SPAWNERS):
                dearest = dearest_sub_agent(ledger, places) if dearest is None else dearest
                usd = max(usd, dearest)
            rows.append((key, session, ts, usd))
    return rows


def within(places):
    return 'place in (%s)' % ', '.join(map(str, places))


def finished_agents(transcript):
    """{tool_use_id: whether its sub-agent has finished}: a small file beside each sub-agent's transcript says so."""
    folder, finished = transcript[:-6] + '/subagents', {}
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):
        names = ()
    for name in names[:MOST_AGENTS]:
        if name.endswith('.meta.json'):
            try:
                with open_plain(os.path.join(folder, name)) as stream:
                    meta = parse_line(stream.read(1 << 14)) or {}
            except OSError:
                continue
            if text_of(meta.get('toolUseId')):
                finished[meta['toolUseId']] = meta.get('finished') is True
    return finished


def estimate(ledger, standing, tool):
    """What an expensive tool may cost: as much as the dearest of this arm's last ten sub-agents;
    for a tool that spawns none, its dearest call of late."""
    if not matches(tool, SPAWNERS):
        return standing.dearest_usd or DEFAULT_CALL_USD
    return dearest_sub_agent(ledger, standing.places) or DEFAULT_SPAWN_USD


def dearest_sub_agent(ledger, places):
    """Pico-dollars of the dearest of these places' last ten sub-agents; 0 if there were none."""
    spent = {}
    for session, agent, usd in ledger.db.execute(
            "select session, agent, usd from calls where agent <> '' and %s order by ts desc limit 1000"
            % within(places)).fetchall():
        if len(spent) < 10 or (session, agent) in spent:
            spent[session, agent] = spent.get((session, agent), 0) + usd
    return max(spent.values(), default=0)


# ---- the gate ------------------------------------------------------------------------------

EXPENSIVE_TOOLS = (
    'Agent', 'Task', 'Workflow', 'SendMessage', '*spawn_agent', 'WebSearch', 'WebFetch',
    'mcp__*playwright*', 'mcp__*puppeteer*', 'mcp__*chrome*', 'mcp__*browser*', 'mcp__computer-use*',
    'CronCreate', 'ScheduleWakeup', 'RemoteTrigger')
GATE_SECONDS = 5.0               # the hook's own time-out is 10
PENDING_SECONDS = 0.25           # how long a response may take from the API to the transcript


class Request(Record):
    """What an agent is about to do, whichever agent it is."""

    __slots__ = ('cli', 'event', 'tool', 'tool_input', 'tool_use_id', 'session', 'agent', 'cwd', 'transcript')


class Answer(Record):
    """`refused`: it may not go on; `reason`: for the model; `told`: for the user; `end`: the turn ends too;
    `own`: what is told is about this arm alone (an error may name another's folder)."""

    __slots__ = ('refused', 'reason', 'told', 'end', 'own')

    def __init__(self, refused, reason, told, end, own=True):
        Record.__init__(self, refused, reason, told, end, own)


SEE_DOCTOR = 'The user can run budget-check.py --doctor, which says why.'


SILENCE = Answer(False, '', '', False)
NO_REQUEST = Request('', 'PreToolUse', '', None, '', '', '', '', '')


def parse_request(text):
    """The Request of a hook's payload, None for an event that isn't decided here; ValueError if it is no payload."""
    payload = json.loads(text.decode('utf-8'))
    if type(payload) is not dict:
        raise ValueError('the payload is not a JSON object')
    event = payload.get('hook_event_name')
    if event not in ('PreToolUse', 'UserPromptSubmit'):
        return None

    def field(name):
        return text_of(payload.get(name), 4096) or ''
    return Request('codex' if 'turn_id' in payload else 'claude-code', event, field('tool_name'),
                   payload.get('tool_input'), field('tool_use_id'), field('session_id'), field('agent_id'),
                   field('cwd') or working_folder(), field('transcript_path'))


def working_folder():
    try:
        return os.getcwd()
    except OSError:                                        # it has been deleted
        return ''


def answer_claude(request, answer):
    """(exit code, stdout, stderr) that Claude Code 2.1 understands."""
    out = {}
    if answer.refused and request.event == 'PreToolUse':
        out['hookSpecificOutput'] = {'hookEventName': 'PreToolUse', 'permissionDecision': 'deny',
                                     'permissionDecisionReason': answer.reason}
        if answer.end:
            out.update({'continue': False, 'stopReason': answer.told})
    elif answer.refused:
        out.update({'decision': 'block', 'reason': answer.told})
    if answer.told and not (answer.refused and request.event == 'UserPromptSubmit'):
        out['systemMessage'] = answer.told
    return 0, json.dumps(out) if out else '', ''


def answer_codex(request, answer):
    """(exit code, stdout, stderr) that Codex 0.169 understands: `continue` would void a whole refusal."""
    if answer.refused and request.event == 'UserPromptSubmit':
        return 2, '', answer.told
    if answer.refused:
        return 0, json.dumps({'hookSpecificOutput': {
            'hookEventName': 'PreToolUse', 'permissionDecision': 'deny',
            'permissionDecisionReason': answer.reason + ' ' + (answer.told if answer.own else SEE_DOCTOR)}}), ''
    return 0, json.dumps({'systemMessage': answer.told}) if answer.told else '', ''


ANSWERS = {'claude-code': answer_claude, 'codex': answer_codex}


def matches(tool, patterns):
    """Exact names or globs: `Task` is not `TaskCreate`."""
    if tool in patterns:
        return True
    globs = [one for one in patterns if '?' in one or '[' in one or '*' in one and
             tool.startswith(one.partition('*')[0]) and tool.endswith(one.rpartition('*')[2])]
    if not globs:                                          # most tools are told by that: no pattern is compiled for them
        return False
    from fnmatch import fnmatchcase
    return any(fnmatchcase(tool, one) for one in globs)


def is_expensive(request, budgets):
    """Whether a request is for a tool that a hard stop refuses; a tool without a name may be one."""
    listed = budgets.expensive_tools if budgets else None
    return request.event == 'PreToolUse' and (
        not request.tool or matches(request.tool, EXPENSIVE_TOOLS if listed is None else listed))


def gate(text, environ, folder, leave_open=False):
    """Decide a hook's payload (bytes); (exit code, stdout, stderr).

    An error is decided too: where a cap could apply, what is expensive is refused (on_error: deny)
    and the rest passes with a message; where nothing is armed, all passes in silence."""
    budgets, request, arm, may_apply, home = None, None, None, True, home_of(environ)
    try:
        request = parse_request(text)
        if request is None:
            return 0, '', ''
    except (ValueError, RecursionError) as error:
        unread = error
    try:
        path = find_budgets(None, environ, folder, home)
        if path is None:
            return 0, '', ''
        budgets = load_budgets(path, home)
        may_apply = budgets.armed()
        if may_apply and request is None:
            raise UserError('the hook got no payload that it can read (%s)' % unread)
        if may_apply and not request.cwd:
            raise UserError('the payload names no folder, and the working folder has gone')
        arm, ledger = arm_of_request(request, budgets, environ, home) if may_apply else (None, None)
        if arm is None:
            may_apply = False
            if ledger:
                finish_with(ledger, leave_open)
            return 0, '', ''
        answer = decide(request, budgets, arm, environ, folder, ledger, leave_open)
    except BaseException as error:
        if not may_apply:
            return 0, '', ''
        answer = answer_error(error, request, budgets, find_ledger(None, environ, home))
    if not answer.refused and arm is not None:
        try:
            answer = guard(request, budgets, arm, environ, folder, home) or answer
        except BaseException as error:
            answer = answer_unguarded(request, error)
    request = request or NO_REQUEST
    if answer == SILENCE:
        return 0, '', ''
    if not request.cli and answer.refused:                 # no payload, so no agent whose words we know
        return 2, '', answer.reason + ' ' + answer.told
    return ANSWERS.get(request.cli, answer_claude)(request, answer)


def answer_unguarded(request, error):
    """The Answer where it can't be told whether a tool would lift the cap: no."""
    tool = printable(request.tool or 'this tool', 60)
    return Answer(True, 'armledger cannot tell what %s would change, so it is refused. Say it in another way.' % tool,
                  'armledger refused %s, because it cannot tell what it would change: %s'
                  % (tool, printable('%s: %s' % (type(error).__name__, error))), False)


def arm_of_request(request, budgets, environ, home):
    """The arm that a request is made in, and the ledger if that had to be asked; UserError where its own repo says
    which files decide about it.

    A repo's settings can set an agent's environment, and a client's repo must not raise its own cap."""
    place = resolve_place(request.cwd, home)
    for name in ('ARMLEDGER_BUDGETS', 'ARMLEDGER_PRICES', 'ARMLEDGER_HOME'):
        named = environ.get(name) and os.path.realpath(expand_home(environ[name], home))
        if named and place.root != os.path.realpath(home) and (named + os.sep).startswith(place.root + os.sep):
            raise UserError('$%s names a file in the repo whose cap it decides about: keep it elsewhere' % name, named)
    path = find_ledger(None, environ, home)
    if narrowest(budgets, place.path) or not os.path.exists(path):
        return match_arm(budgets, place), None
    # What its .git says, or doesn't say any more, is the agent's to change: the ledger knows where it belonged.
    ledger = None
    try:
        ledger = Ledger(path, home, GATE_SECONDS)
        return match_arm(budgets, ledger.place_of(request.cwd)), ledger
    except Exception:                                      # where a cap is known to apply, this shows again
        if ledger:
            ledger.close()
        return match_arm(budgets, place), None


def answer_error(error, request, budgets, ledger_path):
    """The rule for errors. Without a payload nobody can say that the tool is cheap."""
    what = error_text(error, ledger_path)
    costly = request is None or is_expensive(request, budgets)
    if costly and (budgets is None or budgets.on_error == 'deny'):
        tool = request.tool if request else 'this call'
        return Answer(True, 'armledger cannot tell what this arm has spent, so %s is refused. Do not retry; go on with '
                      'other tools, or hand over to the user.' % printable(tool, 60),
                      'armledger refused %s, because it cannot tell what this arm has spent. %s'
                      % (printable(tool, 60), what), False, False)
    return Answer(False, '', 'armledger cannot tell what this arm has spent, and lets this pass. ' + what, False, False)


def error_text(error, ledger_path):
    sqlite3 = sqlite()
    if isinstance(error, sqlite3.Error):
        error = ledger_error(ledger_path, error)
    if isinstance(error, UserError):
        return printable(str(error), 800)
    return printable('%s: %s (a bug in armledger; `budget-check.py --doctor` may tell more)'
                     % (type(error).__name__, error), 800)


def finish_with(ledger, leave_open):
    """A process that ends at once leaves the ledger open: closing it would copy SQLite's log into the file, and wait
    three times for the disk. Not closed, it is as after a crash, which the log is made for."""
    if leave_open:
        LEFT_OPEN.append(ledger)
    else:
        ledger.close()


LEFT_OPEN = []


def decide(request, budgets, arm, environ, folder, ledger, leave_open):
    """The Answer for a request of an arm that has a cap."""
    home, now_ms = home_of(environ), int(time.time() * 1000)
    try:
        prices = load_prices(find_prices(None, environ, folder))
        ledger = ledger or Ledger(find_ledger(None, environ, home), home, GATE_SECONDS)
        expensive = is_expensive(request, budgets)
        try:
            ledger.place(request.cwd)
            standing = bring_up(ledger, budgets, arm, prices, environ, now_ms)
        except Exception:
            answer = answer_held(ledger, request, budgets, arm, now_ms, expensive)
            if answer.refused:                             # what it has not read can only add to it
                return answer
            raise
        if too_near(standing, expensive) and wait_for_response(ledger, request):
            standing = bring_up(ledger, budgets, arm, prices, environ, now_ms)
        notify(ledger, budgets, standing, prices, now_ms)
        answer = answer_for(request, budgets, standing, expensive)
        if expensive and not answer.refused and arm.entry.action == 'hard_stop':
            answer = reserve(ledger, request, budgets, standing, now_ms)
        if answer == SILENCE and standing.verdict.tier != 'ok' and first_time(ledger, request, standing, now_ms):
            answer = Answer(False, '', 'armledger: ' + describe_standing(standing) + '.', False)
        return answer
    finally:
        if ledger:
            finish_with(ledger, leave_open)


def answer_held(ledger, request, budgets, arm, now_ms, expensive):
    """The Answer by what the ledger holds, where it can't be brought up to date; silence where even that is unknown."""
    try:
        found = arms_of_places(budgets, all_places(ledger))
        return answer_for(request, budgets, stand(ledger, budgets, arm, found, now_ms), expensive)
    except Exception:
        return SILENCE


def bring_up(ledger, budgets, arm, prices, environ, now_ms):
    """The arm's standing by all that is on disk; UserError where a log that may hold spend can't be read."""
    reading = ledger.refresh(prices, environ, now_ms)
    if reading.unreadable and not budgets.spend_json:
        path, reason = reading.unreadable[0]
        more = ' (and %d more)' % (len(reading.unreadable) - 1) if len(reading.unreadable) > 1 else ''
        raise UserError('this log cannot be read (%s), so what it cost is not known: give its owner read access to it%s'
                        % (reason, more), path)
    places = all_places(ledger)
    check_ambiguous(budgets, places.values(), arm.name)
    return stand(ledger, budgets, arm, arms_of_places(budgets, places), now_ms)


def too_near(standing, expensive):
    """Whether one more call of the usual size could carry the arm over a stop that it has not reached."""
    if standing.arm.entry.action != 'hard_stop':
        return False
    dearest = standing.dearest_usd or DEFAULT_CALL_USD
    rooms = [(one.grace if expensive else one.halt, one.spent + one.reserved * expensive)
             for one in standing.held.windows]
    return any(stop is not None and 0 < stop - spent <= dearest for stop, spent in rooms)


def wait_for_response(ledger, request):
    """Poll until the response that asks for this tool is in the transcript; True if it came."""
    needle, path = request.tool_use_id.encode(), transcript_of(ledger, request)
    if not needle or not path:
        return False
    until, position = time.monotonic() + PENDING_SECONDS, 0
    while True:
        try:
            with open_plain(path) as stream:
                position = position or max(0, stream.seek(0, os.SEEK_END) - (4 << 20))
                stream.seek(position)
                if needle in stream.read():
                    return True
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.01)


def transcript_of(ledger, request):
    """The log that the pending response will be written to; a sub-agent's lies beside the main one."""
    path = request.transcript
    if request.agent and path.endswith('.jsonl') and request.cli == 'claude-code':
        folder, name = path[:-6] + '/subagents', 'agent-%s.jsonl' % request.agent
        return next((os.path.join(where, name) for where, _, names in os.walk(folder) if name in names), '')
    if not path and re.match(r'[\w-]{8,}$', request.session):
        row = ledger.one('select path from files where path like ? order by changed_ns desc',
                         '%' + request.session + '.jsonl')
        return row[0] if row else ''
    return path


def answer_for(request, budgets, standing, expensive):
    if standing.verdict.tier == 'halt':
        why, arm = arithmetic(standing.verdict.worst, standing.arm, 'halt'), printable(standing.arm.name, 60)
        return Answer(True, 'armledger: %s. Every tool is refused and this turn ends. Do not retry.' % why,
                      'armledger stopped %s: %s. %s' % (arm, why, how_to_lift(budgets, standing)), True)
    if expensive and standing.held.verdict == 'HARD_STOP':
        return refusal(request, budgets, standing)
    return SILENCE


def refusal(request, budgets, standing):
    tool, why = printable(request.tool, 60), arithmetic(standing.held.worst, standing.arm, 'hard_stop')
    return Answer(True, 'armledger: %s, so %s is refused. Do not retry it or look for a way around it. Other tools still '
                  'work: finish what you can, summarise, or hand over to the user.' % (why, tool),
                  'armledger refused %s: %s. %s' % (tool, why, how_to_lift(budgets, standing)), False)


def reserve(ledger, request, budgets, standing, now_ms):
    """Set aside what the tool may cost, at one stroke with the check that there is room for it."""
    answers = [SILENCE]

    def check_and_add():
        kept = [key for key, _, _, _ in running(ledger, standing.arm, standing.places, now_ms)]
        ledger.db.execute('delete from reservations where arm = ? and key not in (%s)' % ', '.join('?' * len(kept)),
                          [standing.arm.name] + kept)
        current = stand(ledger, budgets, standing.arm, arms_of_places(budgets, all_places(ledger)), now_ms)
        answers[0] = answer_for(request, budgets, current, True)
        if answers[0].refused:
            return
        values = request.tool_input if type(request.tool_input) is dict else {}
        ledger.db.execute('insert or ignore into reservations values (?, ?, ?, ?, ?, ?, ?, ?, ?)', (
            request.tool_use_id or '%s@%d' % (request.session, time.time_ns()), request.session, request.agent,
            request.tool, standing.arm.name, now_ms, estimate(ledger, current, request.tool),
            int(values.get('run_in_background') not in (None, False)), request.transcript))
    ledger.write(check_and_add)
    return answers[0]


def first_time(ledger, request, standing, now_ms):
    """Whether this tier has not been told in this session yet."""
    key = json.dumps([request.session, standing.arm.name, standing.verdict.tier])
    return ledger.db.execute('insert or ignore into notices values (?, ?)', (key, now_ms)).rowcount > 0


# ---- words ---------------------------------------------------------------------------------

WINDOW_WORDS = {'day': 'today', 'week': 'this week', 'month': 'this month', 'total': 'in total'}
CAP_KEYS = {window: key for key, window in CAPS.items()}


def dollars(pico):
    """$1234.50; below a dollar with four decimals, where cents would hide the arithmetic."""
    return '$' + format_usd(pico, 4 if 0 < abs(pico) < PICO else 2)


def arithmetic(worst, arm, tier):
    """Why a stop holds: arm, window, spent, and the cap times its percentage."""
    percent, stop = (arm.entry.halt_pct, worst.halt) if tier == 'halt' else (arm.entry.grace_pct, worst.grace)
    aside = ' and %s set aside for tools that are running' % dollars(worst.reserved) if worst.reserved else ''
    return '%s has spent %s%s %s, and its %s is at %s (cap %s x %s %%; an estimate at list price)' % (
        printable(arm.name, 60), dollars(worst.spent), aside, WINDOW_WORDS[worst.window],
        tier.replace('_', ' '), dollars(stop), dollars(worst.cap), format_percent(percent))


def how_to_lift(budgets, standing):
    name = printable(standing.arm.name, 60) if standing.arm.listed else 'default'
    return 'To lift it, raise %s of %s in %s; that counts from the next call on.' % (
        CAP_KEYS[standing.held.worst.window], name, printable(budgets.name, 300))


def describe_standing(standing):
    return describe_window(standing.arm, standing.verdict.worst)


def home_of(environ):
    return environ.get('HOME') or os.path.expanduser('~')


# ---- tripwire: what an agent may not do to its own cap -------------------------------------
#
# No sandbox: it catches what an agent tries when a cap is in its way. An edit is known by the file
# that it names. A shell command is refused if a word of it leads to what a cap rests on, unless
# that part of it and all that follow plainly read.

LOGS, WIRING = 'the session logs', 'the settings that wire the gate'
MOST_CHARACTERS, MOST_MOVES, MOST_LOOKS = 20000, 12, 1000      # what there is time for

# Tools are told by their names, in any agent and any MCP server alike.
SHELLS = r'(?i)bash|shell|exec|monitor|stdin'
EDITORS = r'''(?xi) ^(?!task|todo|cron|team)
    .*(?: write|edit|create|move|rename|delete|remove|replace|insert|patch|append )'''
COMMAND_KEYS = ('command', 'cmd', 'script', 'chars', 'input')
PATH_KEYS = ('file_path', 'notebook_path', 'path', 'relative_path', 'source', 'destination')
PATCHED = r'(?m)^[ \t]*\*\*\* (?:Add File|Update File|Delete File|Move to):(.+)$'

# What the gate needs of an agent's settings, the user's and a project's: that hooks run, in
# surroundings that are the user's own, and that logs are kept.
AGENT_SETTINGS = r'''(?x) / \.(?:claude|codex|copilot|qwen|gemini)
    (?: /settings(?:\.local)?\.json | /config\.toml | /hooks\.json | /hooks/[^/]+\.json )? $'''
GUARDED_SETTINGS = ('hooks', 'hooksConfig', 'disableAllHooks', 'allowManagedHooksOnly',
                    'strictPluginOnlyCustomization', 'cleanupPeriodDays')
GUARDED_VARIABLES = r'''(?x) ARMLEDGER | CLAUDE_CONFIG | CLAUDE_CODE_S | \w*HOME$ | USERPROFILE
    | LOCALAPPDATA | PATH$ | PYTHON | LD_ | DYLD_ | BASH_ | ENV$ | SHELL$ | ZDOTDIR | TZ$'''

# A gate that is killed, replaced or switched off; a clock that is moved.
LIFTS = r'''(?x) disableAllHooks | \bdate\s(?:-s|--set) | timedatectl\sset
    | \bp?kill(?:all)?\b .{0,200} (?:pretooluse|budget-check)
    | armledger [\s\S]{0,200} \b(?:un)?install | \.make/install\.py'''
# An agent that is started, and what may start it without its gate.
AGENT_STARTS = r'(?:^|[\s;&|(]|bin/)(?:claude|codex|copilot|qwen|gemini)(?=\s|$)'
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
        for agent in AGENTS:
            for root in agent.roots(environ, home):
                paths[root] = LOGS
                for name in 'settings.json', 'settings.local.json', 'hooks.json':
                    paths[os.path.dirname(root) + '/' + name] = WIRING
        self.home = home
        self.paths = {os.path.realpath(path).lower(): what for path, what in paths.items()}
        self.inodes = {os.stat(path).st_ino: what for path, what in paths.items()
                       if os.path.isfile(path)}
        self.names = {os.path.basename(path) for path, what in self.paths.items() if what != LOGS}

    def what(self, path, is_taken):
        """What a path leads to, '' if to nothing. A `*` in it is whatever a shell may put there.

        What lies in a folder counts; if the folder is taken whole, all below it does."""
        path = os.path.realpath(path)
        folded = path.lower()
        below = '.*' if is_taken else '[^/]*'
        pattern = re.escape(folded).replace(r'\*', below) + '(?:/%s)?$' % below
        for known, what in self.paths.items():
            is_inside = (folded + '/').startswith(known + '/')
            if is_inside and not re.search('/(?:memory|tool-results)/', folded):
                return what
            if known.startswith(folded.partition('*')[0]) and re.match(pattern, known):
                return what
        if '/.' in folded and re.search(AGENT_SETTINGS, folded):
            return WIRING
        return self.inodes.get(os.stat(path).st_ino, '') if os.path.isfile(path) else ''


def guard(request, budgets, arm, environ, folder, home):
    """The refusal of a tool that would lift the cap it runs under; None if it wouldn't."""
    tool = request.tool.rpartition('__')[2]
    is_shell = re.search(SHELLS, tool)
    is_guarded = is_shell or re.search(EDITORS, tool)
    if not is_guarded or request.event != 'PreToolUse' or arm.entry.action != 'hard_stop':
        return None
    try:
        found = tampering(request, is_shell, Protected(budgets, environ, folder, home))
    except BaseException as error:       # what can't be told is refused; so is what a signal ends
        found = 'files', 'it could not be looked through: %s: %s' % (type(error).__name__, error)
    return answer_tampering(request, arm, is_shell, found) if found else None


def tampering(request, is_shell, protected):
    """(what a tool may change, the word that leads to it); None if nothing."""
    values = request.tool_input
    if type(values) is not dict:
        values = {'command': values}
    commands = [values[key] for key in COMMAND_KEYS if values.get(key)]
    text = '\n'.join(one if type(one) is str else ' '.join(map(str, one)) for one in commands)
    if is_shell:
        folder = os.path.join(request.cwd, values.get('workdir') or '')
        return shell_tampering(re.sub(r'^\S*sh -l?c (?=\w)', '', text), folder, protected)
    for path in re.findall(PATCHED, text) + [values[key] for key in PATH_KEYS if values.get(key)]:
        path = os.path.join(request.cwd, expand_home(path.strip(), protected.home))
        what = protected.what(path, True)
        if what and (what != WIRING or changes_settings(path, values)):
            return what, path
    return None


def changes_settings(path, values):
    """Whether an edit changes what the gate needs of an agent's settings; if in doubt, it does."""
    before = '{}'
    if os.path.exists(path):
        with open_plain(path) as stream:
            before = stream.read().decode('utf-8-sig')
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
        settings = json.loads(text)
        variables = settings.get('env') or {}
        surroundings = {name: value for name, value in variables.items()
                        if re.match(GUARDED_VARIABLES, name)}
        return surroundings, [settings.get(name) for name in GUARDED_SETTINGS]
    except (ValueError, AttributeError):
        return re.findall(r'hooks[\s\S]*', text)           # TOML: all from their first mention on


def shell_tampering(text, cwd, protected):
    """(what a command may change, the word that leads to it); None if no word does, or if all from
    there on plainly reads."""
    unquoted = re.sub(r'["\'\\]', '', text)
    names = [name for name in protected.names if name in unquoted]
    plain = plain_command(text[:MOST_CHARACTERS], protected.home)
    takes = re.search(TAKES_WHOLE, plain)
    folders = [cwd]
    for target in re.findall(GOES_TO, plain):
        known = folders[:MOST_MOVES - len(folders)]
        folders += [os.path.join(folder, target or protected.home) for folder in known]

    @lru_cache(maxsize=None)
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

    escape = re.search(LIFTS, plain) or \
        re.search(AGENT_STARTS, plain) and re.search(UNGATED, plain)
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
    parts = re.split(r'[;|&\n]+', plain)
    for at, part in enumerate(parts):
        found = found or found_in(part)
        if found:
            return None if all(reads(later, leads) for later in parts[at:]) else found
    return None


def plain_command(text, home):
    """A command without quotes and comments; what was quoted separates nothing."""
    def plain(whole):
        inside = re.sub(r'["\'\\]', '', whole.group())
        separators = r'[;|&<>\n`(]' if whole['literal'] else r'[;|&<>\n]'
        return '' if whole['comment'] else re.sub(separators, ' ', inside)
    text = re.sub(WHOLES, plain, text.replace('\0', ''))
    text = re.sub(r'[^\S\n]+', ' ', text)
    text = re.sub(r'(\s-\w)(?=[/~$])', r'\1 ', text)       # -C~/folder
    return re.sub(r'\$\{?HOME\b\}?|(?<![^\s=:,(<>|&;])~(?=[/\s;|&)]|$)', lambda _: home, text)


def reads(part, leads):
    """Whether a simple command plainly reads, or asks the gate's own scripts something."""
    asked = re.match(ASKS_GATE, part)
    is_reader = re.match(READS, part) or asked and leads(asked.group(1)) == 'the gate'
    return is_reader and not re.search(WRITES, part)


def answer_tampering(request, arm, is_shell, found):
    what, word, tool = found[0], printable(found[1], 300), printable(request.tool, 60)
    reason = 'armledger: this may change %s (%s), which the cap of %s rests on, so %s is ' \
        'refused. Do not retry it or look for a way around it; if it is needed, ask the user to ' \
        'do it.%s'
    hint = ' A command that names such files may do nothing but read (cat, grep, ls, jq, ... ' \
        'joined by pipes, && or ;), without redirection to them, loop or substitution.'
    told = 'armledger refused %s, which may change %s (%s). If you want that, do it yourself, ' \
        'outside of the agent.'
    reason %= what, word, printable(arm.name, 60), tool, hint if is_shell else ''
    return Answer(True, reason, told % (tool, what, word), False)


# ---- alerts that reach a person ------------------------------------------------------------

NOTIFY_SECONDS = 60              # a command that takes longer is ended, and has failed
NOTIFY_FAILURES = 'notify-failures.jsonl'
LARGEST_FAILURES = 1 << 20       # bytes

# Runs the command by itself, long after its starter is gone. The command is the user's own text; all
# that is told goes to its standard input, so nothing from logs or names is ever part of a command line.
NOTIFIER = '''
import subprocess, sys
command, path, failure, seconds = sys.argv[1:]
try:
    code = subprocess.run(command, shell=True, timeout=float(seconds), stdout=-3, stderr=-3).returncode
except subprocess.TimeoutExpired:
    code = '"no end in %s s"' % seconds
except BaseException as error:
    code = '"%s"' % type(error).__name__
if code:
    with open(path, 'a') as stream:
        stream.write(failure[:-1] + ', "code": %s}\\n' % code)
'''


def notify(ledger, budgets, standing, prices, now_ms):
    """Run the arm's notify command for each window that has come to a tier above ok, once.

    It is started and left alone: the caller waits for neither its work nor its end."""
    command = standing.arm.entry.notify or budgets.notify
    if not command:
        return
    for one in standing.verdict.windows:
        if one.tier == 'ok':
            continue
        key = json.dumps(['notify', standing.arm.name, one.window, one.start, one.tier])
        if not ledger.one('select 1 from notices where key = ?', key) and \
                ledger.db.execute('insert or ignore into notices values (?, ?)', (key, now_ms)).rowcount > 0:
            start_notifier(command, notice_json(standing, one, budgets, prices),
                           {'ts': now_ms, 'arm': standing.arm.name, 'tier': one.tier}, ledger)


def notice_json(standing, one, budgets, prices):
    """What the command reads: the words as `text`, the window that rose, and the arm's whole verdict."""
    return dict({'text': 'armledger: %s.' % describe_window(standing.arm, one), 'arm': standing.arm.name,
                 'window': one.window, 'tier': one.tier}, **verdict_json([standing], budgets, prices, []))


def describe_window(arm, one):
    return '%s has spent %s of its %s cap %s (%s %%: %s; an estimate at list price)' % (
        printable(arm.name, 60), dollars(one.spent), dollars(one.cap), WINDOW_WORDS[one.window],
        format_percent(one.pct) if one.pct is not None else '-', one.tier)


def start_notifier(command, notice, failure, ledger):
    import subprocess
    path = os.path.join(os.path.dirname(ledger.path), NOTIFY_FAILURES)
    try:
        runner = subprocess.Popen(
            [sys.executable or 'python3', '-IS', '-c', NOTIFIER, command, path, json.dumps(failure), str(NOTIFY_SECONDS)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd=ledger.home if os.path.isdir(ledger.home) else None,           # never a client's repo
            creationflags=0x8 | 0x200 if os.name == 'nt' else 0)               # detached, in a group of its own
        runner.stdin.write(format_json(notice).encode('utf-8', 'replace') + b'\n')     # it fits into a pipe
        runner.stdin.close()
        runner.returncode = 0                              # it outlives us: there is nothing to wait for
    except (OSError, ValueError) as error:
        with open(path, 'a') as stream:
            stream.write(json.dumps(dict(failure, code=getattr(error, 'strerror', None) or str(error))) + '\n')


def notify_failures(ledger, arms=None):
    """Warnings for notify commands that failed since this was last asked; `arms`: of these names alone."""
    try:
        with open(os.path.join(os.path.dirname(ledger.path), NOTIFY_FAILURES), 'rb') as stream:
            lines = stream.read(LARGEST_FAILURES).split(b'\n')
    except OSError:
        return []
    failed = {}
    for number, line in enumerate(lines):
        record = parse_line(line)
        if record is None or type(record.get('ts')) is not int or arms is not None and record.get('arm') not in arms:
            continue
        key = json.dumps(['notify failed', number, record['ts'], str(record.get('arm'))])
        if not ledger.one('select 1 from notices where key = ?', key):
            ledger.db.execute('insert or ignore into notices values (?, ?)', (key, record['ts']))
            failed.setdefault(str(record.get('arm')), []).append(record)
    return [describe_failures(arm, records) for arm, records in failed.items()]


def describe_failures(arm, records):
    last = records[-1]
    return 'the notify command of %s failed %s (exit code %s), last at %s, when the arm came to %s; see what it ' \
           'says: echo "{}" | COMMAND' % (printable(arm, 60), '%d times' % len(records) if len(records) > 1 else 'once',
                                    printable(str(last.get('code')), 60), format_time(last['ts']),
                                    printable(str(last.get('tier')), 20))


# ---- Claude Code's status line -------------------------------------------------------------

STATUS_SECONDS = 2.0             # a line that comes later is of no use
STATUS_BAR = 10                  # characters


class StatusOptions(Record):
    """What the command line would say if it were read: that takes longer than the line."""

    __slots__ = ('budgets', 'prices', 'ledger', 'now_ms', 'home')


def statusline(options=None):
    """Print one short line for the payload on stdin; always exit code 0, and empty where no cap applies."""
    options = options or StatusOptions(None, None, None, int(time.time() * 1000), home_of(os.environ))
    try:
        text = b'{}' if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
        standing = standing_of_status(status_folders(text), options)
        line = format_status(standing, 'NO_COLOR' not in os.environ) if standing else ''
    except Exception as error:
        ledger = options.ledger or find_ledger(None, os.environ, options.home)
        line = 'armledger: ? ' + printable(error_text(error, ledger), 160)
    sys.stdout.buffer.write(line.encode('utf-8', 'replace') + b'\n')
    sys.stdout.buffer.flush()
    return 0


def status_folders(text):
    """Where a session is, and where it began: the first that has a cap is shown."""
    try:
        payload = json.loads(text.decode('utf-8'))
        workspace = payload.get('workspace')
    except (AttributeError, ValueError, RecursionError):
        raise UserError("Claude Code's status-line JSON is expected on stdin") from None
    workspace = workspace if type(workspace) is dict else {}
    folders = [workspace.get('current_dir'), payload.get('cwd'), workspace.get('project_dir')]
    return [folder for folder in folders if text_of(folder, 4096)] or [os.getcwd()]


def standing_of_status(folders, options):
    """The standing of the arm that a session is in; None where no cap applies."""
    path = find_budgets(options.budgets, os.environ, HERE, options.home)
    budgets = load_budgets(path, options.home) if path else None
    if not budgets or not (budgets.entries or budgets.default):
        return None
    arms = (match_arm(budgets, resolve_place(folder, options.home)) for folder in dict.fromkeys(folders))
    arm = next(filter(None, arms), None)
    if arm is None:
        return None
    prices = load_prices(find_prices(options.prices, os.environ, HERE))
    ledger = Ledger(find_ledger(options.ledger, os.environ, options.home), options.home, STATUS_SECONDS)
    try:
        return bring_up(ledger, budgets, arm, prices, os.environ, options.now_ms)
    finally:
        ledger.close()


def format_status(standing, colour):
    """acme $85.20 of $200.00 this month ####...... 42 % ok"""
    one = standing.verdict.worst
    filled = min(STATUS_BAR, one.spent * STATUS_BAR // one.cap) if one.cap else STATUS_BAR
    name = standing.arm.name if standing.arm.listed else os.path.basename(standing.arm.name) or standing.arm.name
    line = '%s %s of %s %s %s %s %s' % (
        printable(name, 30), dollars(one.spent), dollars(one.cap), WINDOW_WORDS[one.window],
        '#' * filled + '.' * (STATUS_BAR - filled), format_percent(one.pct) + ' %' if one.pct is not None else '-',
        one.tier.replace('_', ' '))
    if standing.held.worst.reserved:
        line += ' (%s held)' % dollars(standing.held.worst.reserved)
    return '\033[%sm%s\033[0m' % (TIER_COLOURS[one.tier], line) if colour else line


# ---- doctor: would the cap really hold here? -----------------------------------------------

HOOK = 'pretooluse-hook.py'
PRICES_AGE_DAYS = 60
LEAST_CLEANUP_DAYS = 7
LARGE_LEDGER = 2 << 30           # bytes
EVENTS = ('PreToolUse', 'UserPromptSubmit')
SOME_TOOLS = ('Agent', 'Task', 'WebSearch', 'WebFetch', 'Bash', 'Edit', 'Write', 'Read',
              'mcp__playwright__browser_navigate')
MANAGED_SETTINGS = ('/etc/claude-code/managed-settings.json',
                    '/Library/Application Support/ClaudeCode/managed-settings.json',
                    'C:\\ProgramData\\ClaudeCode\\managed-settings.json',
                    'C:\\Program Files\\ClaudeCode\\managed-settings.json')
LIVE_ARM = 'armledger-live-test'
LIVE_BUDGETS = 'budgets:\n  - arm: %s\n    path: %s\n    monthly_usd_cap: 0.01\n    halt_pct: never\n'
LOAD = '''
import importlib.machinery, sqlite3, sys
importlib.machinery.SourceFileLoader("check", sys.argv[1]).get_code("check")
print("%d.%d.%d" % sys.version_info[:3])
sys.exit(sys.version_info < (3, 9))
'''


class Finding(Record):
    """One line of the table: `cure` is what to do about it, empty where all is well."""

    __slots__ = ('about', 'said', 'cure')


class Handler(Record):
    """One command that an agent's settings hook up: `settings` is the handler as it stands there."""

    __slots__ = ('cli', 'path', 'event', 'matcher', 'settings')

    @property
    def command(self):
        return self.settings['command']


def doctor(options):
    """Print whether the cap would hold here, with the cure beside each finding; exit code 0, or 1 with findings."""
    findings = examine(options, os.environ, os.getcwd())
    print(format_findings(findings, sys.stdout.isatty() and 'NO_COLOR' not in os.environ))
    return 1 if any(one.cure for one in findings) else 0


def examine(options, environ, cwd):
    """Every Finding. A check that fails is one of them, and stops no other."""
    findings, home = [], options.home

    def attempt(about, check, *values):
        try:
            found = list(check(*values))
        except Exception as error:
            said = str(error) if isinstance(error, UserError) else '%s: %s' % (type(error).__name__, error)
            found = [Finding(about, said, 'mend that, then run this again')]
        findings.extend(found)

    budgets = prices = reading = ledger = None
    attempt('python', check_python, sys.version_info, sys.executable)
    handlers, configs = [], claude_configs(environ, home)
    attempt('hooks', check_claude, configs, cwd, home, handlers)
    attempt('codex', check_codex, os.path.dirname(codex_roots(environ, home)[0]), handlers)
    for command in dict.fromkeys(one.command for one in handlers):
        attempt('scripts', check_scripts, command, environ)
    try:
        budgets = load_budgets(find_budgets(options.budgets, environ, HERE, home) or no_budgets(), home)
        prices = load_prices(find_prices(options.prices, environ, HERE))
    except UserError:
        pass                                               # told by the checks below
    attempt('budgets', check_budgets, options, environ)
    attempt('prices', check_prices, options, environ)
    path = find_ledger(options.ledger, environ, home)
    attempt('ledger', check_ledger, path)
    try:
        if prices:
            ledger = Ledger(path, home, 3600.0)
            reading = ledger.refresh(prices, environ, options.now_ms, progress_on(sys.stderr))
    except Exception as error:
        if not any(one.cure and one.about in ('prices', 'ledger') for one in findings):
            findings.append(Finding('logs', 'cannot be metered: ' + error_text(error, path),
                                    'mend that, then run this again'))
    if reading:
        attempt('logs', check_logs, ledger, reading, environ, home)
        attempt('prices', check_models, ledger, prices)
        attempt('notify', check_notify, ledger)
        if budgets:
            attempt('arms', check_arms, budgets, all_places(ledger))
    for handler in [one for one in handlers if one.event == 'PreToolUse']:
        attempt('live test', live_test, handler, environ)
    if not any(one.event == 'PreToolUse' for one in handlers):
        findings.append(Finding('live test', 'nothing is wired, so nothing would be refused', 'run `make install`'))
    order = {about: n for n, about in reversed(list(enumerate(one.about for one in findings)))}
    return sorted(findings, key=lambda one: order[one.about])


def format_findings(findings, colour):
    lines = []
    for one in findings:
        sign = '!!' if one.cure else 'ok'
        if colour:
            sign = '\033[%sm%s\033[0m' % ('31;1' if one.cure else '32', sign)
        lines.append('%s  %-10s %s' % (sign, one.about, printable(one.said, 600)))
        if one.cure:
            lines.append('    %-10s -> %s' % ('', printable(one.cure, 600)))
    count = sum(1 for one in findings if one.cure)
    lines.append('The cap holds here.' if not count else '1 finding.' if count == 1 else '%d findings.' % count)
    return '\n'.join(lines)


def check_python(version, program):
    name = '%d.%d.%d at %s' % (tuple(version[:3]) + (program,))
    yield Finding('python', name, '' if version >= (3, 9) else 'install Python 3.9 or later')


# ---- doctor: the agents' settings ----------------------------------------------------------

OWN_SETTINGS = ('settings.json', 'settings.local.json')


def claude_configs(environ, home):
    """Claude Code's settings folder, the first of those that may be: it reads one."""
    folders = [os.path.dirname(root) for root in claude_roots(environ, home)]
    return next((folder for folder in folders if os.path.isdir(folder)), folders[0])


def settings_files(config, cwd, home):
    """[(path, whose)] of every settings file that Claude Code would read in a folder."""
    files = [(path, 'managed') for path in MANAGED_SETTINGS]
    files += [(os.path.join(config, name), 'user') for name in OWN_SETTINGS]
    root = resolve_place(cwd, home).root
    for folder in dict.fromkeys((root, cwd)):
        if os.path.join(folder, '.claude') != config:
            files += [(os.path.join(folder, '.claude', name), 'project') for name in OWN_SETTINGS]
    return [(path, whose) for path, whose in files if os.path.exists(path)]


def read_settings(path):
    try:
        settings = json.loads(read_text(path, LARGEST_BUDGETS).lstrip('\ufeff') or '{}')
    except (ValueError, RecursionError) as error:
        raise UserError('is not JSON, so its agent ignores all of it: %s' % error, path) from None
    if type(settings) is not dict:
        raise UserError('is not a JSON object, so its agent ignores all of it', path)
    return settings


def check_claude(config, cwd, home, handlers):
    """Findings about every settings file; the handlers that run the gate are added to `handlers`."""
    files, days = settings_files(config, cwd, home), 30
    for path, whose in files:
        try:
            settings = read_settings(path)
        except UserError as error:
            yield Finding('hooks', str(error), 'mend the file')
            continue
        yield from check_settings(path, whose, settings)
        handlers += handlers_of('claude-code', path, settings)
        days = settings.get('cleanupPeriodDays', days)
    yield from check_wiring('Claude Code', handlers, os.path.join(config, 'settings.json'))
    yield check_cleanup(days)


def check_settings(path, whose, settings):
    if settings.get('disableAllHooks'):
        yield Finding('hooks', '%s turns all hooks off: disableAllHooks' % path, 'take disableAllHooks out of it')
    if settings.get('allowManagedHooksOnly') and whose == 'managed':
        yield Finding('hooks', '%s allows managed hooks only' % path, 'ask who manages it to add the gate there')
    variables = settings.get('env') if type(settings.get('env')) is dict else {}
    bent = [name for name in variables if re.match(GUARDED_VARIABLES, name)]
    if bent and whose == 'project':
        yield Finding('hooks', '%s sets %s for hooks as well: the gate may look at other files'
                      % (path, ', '.join(sorted(bent))),
                      'take that out of its "env"')


def handlers_of(cli, path, settings):
    """The Handlers that run the gate; settings of any shape."""
    hooks = settings.get('hooks')
    for event in EVENTS:
        groups = hooks.get(event) if type(hooks) is dict else None
        for group in groups if type(groups) is list else ():
            inner = group.get('hooks') if type(group) is dict else None
            for one in inner if type(inner) is list else ():
                if type(one) is dict and type(one.get('command')) is str and HOOK in one['command']:
                    yield Handler(cli, path, event, group.get('matcher'), one)


def check_wiring(name, handlers, path):
    """Findings about how an agent runs the gate."""
    cure = 'run `make install`'
    for event in EVENTS:
        ours = [one for one in handlers if one.event == event]
        if not ours:
            yield Finding('hooks', '%s does not run the gate at %s (%s)' % (name, event, path), cure)
            continue
        problems = min((handler_problems(one) for one in ours), key=len)
        if problems:
            yield Finding('hooks', '%s, %s: %s' % (name, event, '; '.join(problems)), cure)
        else:
            every = ', for every tool' * (event == 'PreToolUse')
            yield Finding('hooks', '%s runs the gate at %s%s' % (name, event, every), '')


def handler_problems(handler):
    settings, problems = handler.settings, []
    if handler.event == 'PreToolUse':
        missed = [tool for tool in SOME_TOOLS if not matcher_takes(handler.matcher, tool)]
        if missed:
            problems.append('the matcher %s leaves out %s' % (handler.matcher, ', '.join(missed)))
    timeout = settings.get('timeout', 60)
    if type(timeout) not in (int, float) or timeout < GATE_SECONDS + 1:
        problems.append('its timeout of %s s is shorter than the gate may take' % timeout)
    if handler.cli == 'claude-code' and settings.get('onFailure') != 'block':
        problems.append('without "onFailure": "block" a crash or a time-out lets the tool run')
    if settings.get('async'):
        problems.append('async: it is not waited for')
    if settings.get('type') != 'command':
        problems.append('its type is not "command"')
    return problems


def matcher_takes(matcher, tool):
    """Whether an agent's matcher takes a tool: exact names, or else an unanchored regular expression."""
    if matcher in (None, '', '*'):
        return True
    if type(matcher) is not str:
        return False
    if re.match(r'[\w\-,| ]+$', matcher, re.ASCII):
        return tool in re.split(r'[,| ]+', matcher)
    try:
        return re.search(matcher, tool) is not None
    except re.error:
        return False


def check_cleanup(days):
    if type(days) is not int or days < LEAST_CLEANUP_DAYS:
        return Finding('logs', 'transcripts are kept for %s days (cleanupPeriodDays): what is deleted before it is metered '
                       'is lost' % printable(str(days), 20), 'set cleanupPeriodDays to 30 or more')
    return Finding('logs', 'transcripts are kept for %d days; what was metered stays' % days, '')


def check_codex(folder, handlers):
    if not os.path.isdir(folder):
        return
    path = os.path.join(folder, 'hooks.json')
    ours = list(handlers_of('codex', path, read_settings(path))) if os.path.exists(path) else []
    handlers += ours
    yield from check_wiring('Codex', ours, path)
    config = os.path.join(folder, 'config.toml')
    text = read_text(config, LARGEST_BUDGETS) if os.path.exists(config) else ''
    if re.search(r'(?m)^\s*(?:features\.)?(?:codex_)?hooks\s*=\s*false', text):
        yield Finding('hooks', '%s turns hooks off' % config, 'take `hooks = false` out of it')
    elif ours:
        yield Finding('hooks', 'Codex runs a hook only once you have trusted it; that cannot be seen from here (type '
                      '/hooks in codex)', '')


# ---- doctor: scripts, budgets, prices ------------------------------------------------------

def check_scripts(command, environ):
    """The wired scripts are there, and load under the wired interpreter."""
    import shlex
    import subprocess
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    hook = next((word for word in reversed(words) if os.path.basename(word) == HOOK), HOOK)
    folder = os.path.dirname(os.path.realpath(expand_home(hook, home_of(environ)).replace('$HOME', home_of(environ))))
    missing = [name for name in (HOOK, 'budget-check.py') if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        yield Finding('scripts', '%s: no %s, so nothing is ever refused' % (folder, ' and no '.join(missing)),
                      'run `make install`')
        return
    if os.path.realpath(folder) != HERE:
        yield Finding('scripts', 'the wired scripts are in %s; this one is in %s' % (folder, HERE), '')
    python = next((word for word in words
                   if re.match(r'(?:python|pypy)[\d.]*(?:\.exe)?$', os.path.basename(word))), None)
    if not python:
        yield Finding('scripts', '%s is there; the command line names no Python' % folder, '')
        return
    try:
        done = subprocess.run([python, '-IS', '-c', LOAD, os.path.join(folder, 'budget-check.py')], timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = (done.stdout or done.stderr).decode('utf-8', 'replace').strip().split('\n')[-1]
        well = done.returncode == 0
    except (OSError, subprocess.SubprocessError) as error:
        said, well = str(error), False
    if not well:
        yield Finding('scripts', '%s cannot load %s: %s' % (python, os.path.join(folder, 'budget-check.py'), said),
                      'install again with a Python of 3.9 or later: make install PYTHON=/usr/bin/python3')
    else:
        yield Finding('scripts', '%s loads under %s (%s)' % (folder, python, said), '')
    if '-IS' not in words and '-SI' not in words:
        yield Finding('scripts', "without -IS a client's repo could change what Python loads, and the gate is slower",
                      'run `make install`')


def no_budgets():
    raise UserError('there is no budgets.yaml beside this script or in ~/.claude; `make install` puts one there')


def check_budgets(options, environ):
    try:
        path = find_budgets(options.budgets, environ, HERE, options.home) or no_budgets()
        budgets = load_budgets(path, options.home)
    except UserError as error:
        yield Finding('budgets', str(error), 'mend that: until then expensive tools are refused, or nothing is')
        return
    if not budgets.entries and not budgets.default:
        yield Finding('budgets', '%s sets no cap: nothing is armed' % path,
                      'take away the # before the lines that you want')
        return
    entries = budgets.entries + (budgets.default,) * bool(budgets.default)
    yield Finding('budgets', '%s: %d arm%s%s; %d can be stopped' % (
        path, len(budgets.entries), 's' * (len(budgets.entries) != 1), ' and a default' * bool(budgets.default),
        sum(entry.action == 'hard_stop' for entry in entries)), '')
    if budgets.on_error == 'allow':
        yield Finding('budgets', 'on_error: allow lets expensive tools run whenever spend cannot be known',
                      'write on_error: deny')


def check_prices(options, environ):
    path = find_prices(options.prices, environ, HERE)
    try:
        prices = load_prices(path)
    except UserError as error:
        yield Finding('prices', str(error), 'mend that, or run `make install` for a whole one')
        return
    as_of = parse_time(prices.as_of + 'T00:00:00Z')
    days = (options.now_ms - as_of) // (86400 * 1000) if as_of is not None else 0
    said = '%s: as of %s, %d days ago' % (path, prices.as_of, days)
    cure = "compare them with the vendors' pages and correct them, or take a newer armledger"
    yield Finding('prices', said, cure if days > PRICES_AGE_DAYS else '')


def check_models(ledger, prices):
    unpriced = sorted({canonical_model(name) for name, in ledger.db.execute('select name from models').fetchall()
                       if not prices.known(name)})
    if unpriced:
        names = ', '.join(printable(name, 60) for name in unpriced[:8])
        yield Finding('prices', 'no price is known for %s: a fallback is assumed' % names,
                      'add it to prices.json, as its first lines show')


# ---- doctor: the ledger and the logs -------------------------------------------------------

def check_ledger(path):
    """The ledger as it lies there, before anything else opens it."""
    sqlite3 = sqlite()
    if not os.path.lexists(path):
        above = os.path.dirname(path)
        while not os.path.exists(above) and above != os.path.dirname(above):
            above = os.path.dirname(above)
        if os.access(above, os.W_OK):
            yield Finding('ledger', '%s: not there yet; it is made when it is first needed' % path, '')
        else:
            yield Finding('ledger', '%s cannot be made' % path, 'give its owner write access to %s' % above)
        return
    folder = os.path.dirname(path)
    for one in (folder, path):
        status = os.stat(one)
        if os.name != 'nt' and status.st_mode & 0o077:
            yield Finding('ledger', '%s can be looked into by others (%o)' % (one, status.st_mode & 0o777),
                          'chmod go= %s' % one)
        if not os.access(one, os.R_OK | os.W_OK):
            yield Finding('ledger', '%s cannot be written' % one, 'give its owner write access to it')
    try:
        db = sqlite3.connect(path, timeout=5)
        try:
            version, mode, health = (db.execute('pragma ' + name).fetchone()[0]
                                     for name in ('user_version', 'journal_mode', 'quick_check(1)'))
        finally:
            db.close()
    except sqlite3.Error as error:
        yield Finding('ledger', str(ledger_error(path, error)), 'budget-check.py --rebuild, if that stays so')
        return
    size = sum(os.path.getsize(path + ending) for ending in ('', '-wal') if os.path.exists(path + ending))
    said = '%s: %s, version %d, %s, %d KiB' % (path, health, version, mode.upper(), size >> 10)
    if health != 'ok':
        yield Finding('ledger', said, 'budget-check.py --rebuild makes it anew from the logs')
    elif version > VERSION:
        yield Finding('ledger', said + ': written by a newer armledger', 'install that one here too')
    elif size > LARGE_LEDGER:
        yield Finding('ledger', said, 'sqlite3 %s vacuum' % path)
    else:
        yield Finding('ledger', said, '')


def check_logs(ledger, reading, environ, home):
    counts = dict(ledger.db.execute('select cli, count(*) from readings group by cli').fetchall())
    for agent in AGENTS:
        there = [root for root in agent.roots(environ, home) if os.path.isdir(root)]
        if there:
            yield Finding('logs', '%s: %d log files in %s' % (
                agent.name, counts.get(agent.name, 0), ', '.join(there)), '')
    if not sum(counts.values()):
        roots = [root for agent in AGENTS for root in agent.roots(environ, home)]
        yield Finding('logs', 'no log was found in ' + ', '.join(roots),
                      "start an agent once, or set CLAUDE_CONFIG_DIR or CODEX_HOME as the agents have it")
    if reading.compressed:
        yield Finding('logs', '%d compressed logs (.jsonl.zst) cannot be read and are not counted' % reading.compressed,
                      'unpack them with `zstd -d`')
    for path, reason in reading.unreadable[:3]:
        yield Finding('logs', '%s cannot be read (%s), so the gate refuses expensive tools' % (path, reason),
                      'give its owner read access to it')
    if len(reading.unreadable) > 3:
        yield Finding('logs', '%d more logs cannot be read' % (len(reading.unreadable) - 3), 'the same')
    if reading.malformed:
        yield Finding('logs', '%d lines could not be read and are not counted' % reading.malformed, '')


def check_notify(ledger):
    """The commands' own failures stay in the report; here is only whether there are any."""
    path = os.path.join(os.path.dirname(ledger.path), NOTIFY_FAILURES)
    if os.path.exists(path):
        yield Finding('notify', 'notify commands have failed: see %s' % path,
                      'see that the command works, then delete that file')


def check_arms(budgets, places):
    """Arms whose folder isn't there, or that nothing in the logs belongs to."""
    try:
        check_ambiguous(budgets, places.values())
    except UserError as error:
        yield Finding('arms', str(error), 'write its path')
        return
    seen = {arm.name for arm in (match_arm(budgets, place) for place in places.values()) if arm and arm.listed}
    for entry in budgets.entries:
        gone = [written for written, pattern in zip(entry.paths, entry.patterns)
                if not pattern.fits and not os.path.isdir(pattern.text or '/')]
        name = printable(entry.arm, 60)
        if gone:
            yield Finding('arms', '%s: no folder %s' % (name, ', '.join(gone)), 'correct its path in %s' % budgets.name)
        elif entry.arm not in seen and places:
            what = 'matches nothing in the logs' if entry.paths else 'no repo in the logs has this name'
            yield Finding('arms', '%s: %s' % (name, what),
                          'see whether its path is right; if no agent has worked there yet, it is')
        else:
            yield Finding('arms', name + ': its folder is there' + ', and in the logs' * (entry.arm in seen), '')


# ---- doctor: the live test -----------------------------------------------------------------

def live_test(handler, environ):
    """An arm that is over its cap, a sub-agent that asks for another: the installed command line must refuse.

    It has budgets, logs and a ledger of its own; nothing of the user's is read or written, but
    the scripts and prices."""
    import shutil
    import tempfile
    folder = os.path.realpath(tempfile.mkdtemp(prefix='armledger-'))
    try:
        code, out, err, seconds = run_live(handler, folder, environ)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = 'Claude Code' if handler.cli == 'claude-code' else 'Codex'
    try:
        answer = json.loads(out)['hookSpecificOutput']
        reason = answer['permissionDecisionReason'] if answer['permissionDecision'] == 'deny' else ''
    except (KeyError, TypeError, ValueError):
        reason = err if code == 2 else ''
    if LIVE_ARM in reason and 'has spent' in reason:
        yield Finding('live test', '%s: a sub-agent of an arm over its cap was refused, in %d ms' % (
            name, seconds * 1000), '')
    else:
        said = ' '.join((out + ' ' + err).split())[-300:] or 'silence'
        yield Finding('live test', '%s: a sub-agent of an arm over its cap was NOT refused by the budget (exit code %s; '
                      '%s)' % (name, code, said),
                      'mend what is found above; if nothing is, run `make install` again')


def run_live(handler, folder, environ):
    """(exit code, stdout, stderr, seconds) of the command line, run as the agent would."""
    import subprocess
    arm, config = os.path.join(folder, LIVE_ARM), os.path.join(folder, 'claude')
    transcript = os.path.join(config, 'projects', 'live', 'live.jsonl')
    for where in (arm, os.path.dirname(transcript), os.path.join(folder, 'codex')):
        os.makedirs(where)
    now = time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime())
    write_text(os.path.join(folder, 'budgets.yaml'), LIVE_BUDGETS % (LIVE_ARM, json.dumps(arm)))
    write_text(transcript, json.dumps({
        'type': 'assistant', 'timestamp': now, 'sessionId': 'live', 'cwd': arm, 'requestId': 'live', 'uuid': 'live',
        'message': {'id': 'live', 'model': 'claude-sonnet-4-5', 'usage': {'output_tokens': 10 ** 6}}}) + '\n')
    payload = {'session_id': 'live', 'transcript_path': transcript, 'cwd': arm, 'hook_event_name': 'PreToolUse',
               'permission_mode': 'default', 'tool_name': 'Agent', 'tool_use_id': 'live',
               'tool_input': {'prompt': 'live test'}}
    payload.update({'agent_id': 'live', 'agent_type': 'general-purpose'} if handler.cli == 'claude-code' else
                   {'turn_id': 'live', 'model': 'live', 'tool_name': 'spawn_agent'})
    kept = {name: value for name, value in environ.items() if not name.startswith('ARMLEDGER_')}
    kept.update({'ARMLEDGER_BUDGETS': os.path.join(folder, 'budgets.yaml'), 'CLAUDE_CONFIG_DIR': config,
                 'ARMLEDGER_HOME': os.path.join(folder, 'state'), 'CODEX_HOME': os.path.join(folder, 'codex')})
    if environ.get('ARMLEDGER_PRICES'):
        kept['ARMLEDGER_PRICES'] = environ['ARMLEDGER_PRICES']
    timeout = handler.settings.get('timeout')
    began = time.monotonic()
    try:
        done = subprocess.run(handler.command if os.name == 'nt' else ['sh', '-c', handler.command],
                              shell=os.name == 'nt', input=json.dumps(payload).encode(), env=kept, cwd=arm,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout if type(timeout) in (int, float) and timeout > 0 else 60)
    except subprocess.TimeoutExpired:
        return 'none', '', 'no answer within the time-out', time.monotonic() - began
    return (done.returncode, done.stdout.decode('utf-8', 'replace'), done.stderr.decode('utf-8', 'replace'),
            time.monotonic() - began)


def write_text(path, text):
    with open(path, 'w', encoding='utf-8') as stream:
        stream.write(text)


# ---- the command line ----------------------------------------------------------------------

BAR = 12                         # characters
TIER_COLOURS = {'ok': '32', 'alert': '33', 'warn': '33', 'hard_stop': '31', 'halt': '31;1'}
USAGE = __doc__


def main(argv=None):
    """Exit code: 0, 2 when an arm is at its hard stop, 1 when it could not be told."""
    try:
        for stream in sys.stdout, sys.stderr:
            if hasattr(stream, 'reconfigure'):
                stream.reconfigure(errors='backslashreplace')      # names must not fail in a plain locale
        argv = sys.argv[1:] if argv is None else argv
        if argv == ['--statusline']:                       # shown after every answer: no time for more
            return statusline()
        options = parse_options(argv)
        code = options.command(options)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except UserError as error:
        print('budget-check: %s' % printable(str(error), 2000), file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print('budget-check: interrupted', file=sys.stderr)
    except OSError as error:
        print('budget-check: %s' % printable(str(error), 1000), file=sys.stderr)
    except Exception as error:
        sqlite3 = sqlite()
        if not isinstance(error, sqlite3.Error):
            raise
        path = find_ledger(None, os.environ, home_of(os.environ))
        print('budget-check: %s' % printable(str(ledger_error(path, error)), 2000), file=sys.stderr)
    return 1


def parse_options(argv):
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    class Parser(ArgumentParser):
        def error(self, message):
            # Exit 2 means a hard stop: a mistyped flag must not.
            raise UserError('%s; see budget-check.py --help' % message)

    parser = Parser(prog='budget-check.py', formatter_class=RawDescriptionHelpFormatter, description=USAGE)
    parser.add_argument('arm', nargs='?', metavar='ARM', help='a path in an arm, or its name; none: every armed arm')
    parser.add_argument('--json', action='store_true', help='print the verdict as JSON')
    parser.add_argument('--budgets', metavar='FILE', help='instead of budgets.yaml')
    parser.add_argument('--prices', metavar='FILE', help='instead of prices.json')
    parser.add_argument('--ledger', metavar='FILE', help='instead of the usual ledger')
    parser.add_argument('--now', metavar='TIME', help='look at the windows that hold this ISO 8601 time, as in 2026-10-31T23:59:59Z')
    commands = parser.add_mutually_exclusive_group()
    for flag, command, text in (
            ('--rebuild', rebuild, 're-read all logs; calls whose logs are gone are kept'),
            ('--doctor', doctor, 'say whether the cap would really hold here; exit 1 with findings'),
            ('--statusline', statusline, "one line for Claude Code's status line; its JSON on stdin")):
        commands.add_argument(flag, dest='command', action='store_const', const=command, help=text)
    parser.set_defaults(command=check)
    options = parser.parse_args(argv)
    options.looking_back = options.now is not None
    options.now_ms = int(time.time() * 1000) if options.now is None else parse_time(options.now)
    if options.now_ms is None:
        raise UserError('--now %s is not a time; write it as in 2026-10-31T23:59:59Z' % options.now)
    options.home = home_of(os.environ)
    return options


HERE = os.path.dirname(os.path.realpath(__file__))


def load_all(options):
    """(budgets, prices, ledger, reading): all that a verdict needs, up to date."""
    path = find_budgets(options.budgets, os.environ, HERE, options.home)
    budgets = load_budgets(path, options.home) if path else None
    if not budgets or not budgets.armed():
        raise UserError('no cap is set, so there is nothing to check: write one as its comments show', path) if path \
            else UserError('there is no budgets.yaml beside this script or in ~/.claude; `make install` puts one there')
    prices = load_prices(find_prices(options.prices, os.environ, HERE))
    ledger = Ledger(find_ledger(options.ledger, os.environ, options.home), options.home, 3600.0)
    reading = ledger.refresh(prices, os.environ, options.now_ms, progress_on(sys.stderr))
    check_ambiguous(budgets, all_places(ledger).values())
    return budgets, prices, ledger, reading


def progress_on(stream):
    """A function that keeps one line of progress on a terminal; None where nobody watches."""
    if not stream.isatty():
        return None
    began = time.monotonic()

    def show(files, all_files, done, total):
        elapsed = time.monotonic() - began
        left = elapsed * (total - done) / done if done else 0
        stream.write('\rreading logs: %d of %d files, %d of %d MB, %d s left \033[K'
                     % (files, all_files, done >> 20, total >> 20, left) + '\r\033[K' * (files == all_files))
        stream.flush()
    return show


def check(options):
    budgets, prices, ledger, reading = load_all(options)
    places = all_places(ledger)
    found = arms_of_places(budgets, places)
    arms = armed_arms(budgets, found) if options.arm is None else \
        [find_arm(options.arm, budgets, places, found, options.home)]
    standings = [stand(ledger, budgets, arm, found, options.now_ms, options.looking_back) for arm in arms]
    standings.sort(key=lambda one: (-TIERS.index(one.verdict.tier), one.arm.name))
    if not options.looking_back:
        for standing in standings:
            notify(ledger, budgets, standing, prices, options.now_ms)
    warnings = warnings_of(reading, ledger, prices, options.arm is not None) + \
        notify_failures(ledger, [one.arm.name for one in standings])
    if options.json:
        print(format_json(verdict_json(standings, budgets, prices, warnings)))
    else:
        print(format_standings(standings, budgets, prices, sys.stdout.isatty() and 'NO_COLOR' not in os.environ))
        for warning in warnings:
            print('budget-check: ' + printable(warning, 1000), file=sys.stderr)
    ledger.close()
    if any(one.verdict.verdict == 'HARD_STOP' for one in standings):
        return 2
    return 1 if reading.unreadable and not budgets.spend_json else 0


def find_arm(text, budgets, places, found, home):
    """The arm of a path, or of that name; UserError with the nearest name."""
    if not text.strip():
        raise UserError('ARM is empty: name an arm, or a path in one')
    named = [entry for entry in budgets.entries if entry.arm == text]
    if named:
        return next(arm for arm in armed_arms(budgets, found) if arm.listed and arm.name == text)
    path = os.path.abspath(expand_home(text, home))
    if os.path.isfile(path):
        raise UserError('%s is a file: name its folder' % printable(text))
    # As it was when a call was made in it: a worktree may have gone since.
    place = next((one for one in places.values() if path in (one.cwd, one.path)), None) or resolve_place(path, home)
    known = any(one.path == place.path or one.path.startswith(place.path.rstrip('/') + '/') for one in places.values())
    arm = match_arm(budgets, place) if os.path.isdir(path) or known or '/' in text else None
    if arm and (arm.listed or os.path.isdir(path) or known):
        return arm
    if os.path.isdir(path) or known:
        raise UserError('%s is in no arm that has a cap; list it in %s, or set a default: there'
                        % (printable(text), printable(budgets.name)))
    near = nearest(text, [entry.arm for entry in budgets.entries])
    raise UserError('there is no arm and no folder %s; %s' % (
        printable(text), 'did you mean %s?' % near if near else 'arms are listed in ' + budgets.name))


def armed_arms(budgets, found):
    """Every listed arm, then the unlisted ones that default: arms."""
    listed = [found[True, entry.arm][0] if (True, entry.arm) in found else Arm(entry.arm, entry, True, None)
              for entry in budgets.entries]
    return listed + [arm for arm, _ in found.values() if not arm.listed]


def warnings_of(reading, ledger, prices, named):
    """What the user should know; where an arm was named, no word of a folder that may be another's."""
    warnings = []
    if not reading.files:
        warnings.append('no session logs were found: is CLAUDE_CONFIG_DIR or CODEX_HOME what the agents have?')
    if reading.malformed:
        warnings.append('%s could not be read and not counted' % counted(reading.malformed, 'log line'))
    if reading.unreadable:
        first = '' if named else ', first %s (%s)' % reading.unreadable[0]
        warnings.append('%s cannot be read%s, so what they cost is not counted: give their owner read access'
                        % (counted(len(reading.unreadable), 'log'), first))
    if reading.compressed:
        warnings.append('%s (.jsonl.zst) cannot be read here and what they cost is not counted: unpack with `zstd -d`'
                        % counted(reading.compressed, 'compressed log'))
    unpriced = sorted({canonical_model(name) for name, in ledger.db.execute('select name from models').fetchall()
                       if not prices.known(name)})
    if unpriced:
        warnings.append('no price is known for %s: a fallback is assumed; add it to %s'
                        % (', '.join(map(printable, unpriced[:5])), 'prices.json'))
    return warnings


def counted(number, noun):
    return '%d %s%s' % (number, noun, '' if number == 1 else 's')


def verdict_json(standings, budgets, prices, warnings):
    """The verdict for programs; see format_json for its figures."""
    stopped = [one for one in standings if one.verdict.verdict == 'HARD_STOP']
    reasons = [arithmetic(one.verdict.worst, one.arm, one.verdict.tier) for one in stopped]
    worst = max((one.verdict.tier for one in standings), key=TIERS.index, default='ok')
    return {'status': VERDICTS[worst], 'estimate': True, 'prices_as_of': prices.as_of,
            'arms': [arm_json(standing, budgets) for standing in standings],
            'halt_reason': '; '.join(reasons) or None, 'warnings': warnings}


def arm_json(standing, budgets):
    verdict, worst, entry = standing.verdict, standing.verdict.worst, standing.arm.entry
    reserved_usd = standing.held.worst.reserved
    return {
        'arm': standing.arm.name, 'path': entry.patterns[0].spelled if entry.patterns else standing.arm.root,
        'tier': verdict.tier, 'verdict': verdict.verdict, 'action_on_breach': entry.action,
        'spent_usd': usd_number(worst.spent), 'cap_usd': usd_number(worst.cap), 'grace_usd': usd_number(worst.grace),
        'untranscribed_usd': usd_number(standing.untranscribed_usd), 'assumed_usd': usd_number(standing.assumed_usd),
        'windows': [{
            'window': one.window, 'start': format_time(one.start, budgets.timezone),
            'spent_usd': usd_number(one.spent), 'cap_usd': usd_number(one.cap), 'grace_usd': usd_number(one.grace),
            'pct': None if one.pct is None else number(format_percent(one.pct, 2)), 'tier': one.tier,
        } for one in verdict.windows], **({'reserved_usd': usd_number(reserved_usd)} if reserved_usd else {})}


def usd_number(pico):
    return number(usd6(pico))


def number(text):
    """A decimal text that format_json writes as a JSON number, digit for digit: no float comes near it."""
    return '\0' + text


def format_json(value):
    return re.sub(r'"\\u0000(-?[0-9.]+)"', r'\1', json.dumps(value, indent=2))


def format_standings(standings, budgets, prices, colour):
    """A small table for people: one line for each window that has a cap."""
    if not standings:
        return 'No arm has spent anything yet, and none is listed in %s.' % printable(budgets.name)
    rows = [('ARM', 'TIER', 'SPENT', 'CAP', '', 'LEFT', 'CAP REACHED')]
    for standing in standings:
        for one in standing.verdict.windows:
            mark = '~' if standing.assumed_usd and one is standing.verdict.worst else ''
            rows.append((printable(standing.arm.name, 30), one.tier, mark + format_usd(one.spent, 2, True),
                         '%s/%s' % (format_usd(one.cap, 2, True), one.window), bar(one.spent, one.cap),
                         format_usd(one.left, 2, True), reached(one, budgets)))
    widths = [max(columns(row[n]) for row in rows) for n in range(7)]
    lines = []
    for n, row in enumerate(rows):
        gaps = [' ' * (width - columns(cell)) for cell, width in zip(row, widths)]
        cells = [gap + cell if at in (2, 3, 5) else cell + gap for at, (cell, gap) in enumerate(zip(row, gaps))]
        if colour and n:
            cells[1] = '\033[%sm%s\033[0m' % (TIER_COLOURS[row[1]], cells[1])
        lines.append('  '.join(cells).rstrip())
    for standing in standings:
        if standing.held.worst.reserved:
            lines.append('%s: %s is set aside for tools that are running.' % (
                printable(standing.arm.name, 60), dollars(standing.held.worst.reserved)))
        if standing.verdict.verdict == 'HARD_STOP':
            lines.append('%s. %s' % (arithmetic(standing.verdict.worst, standing.arm, standing.verdict.tier),
                                     how_to_lift(budgets, standing)))
    if any(standing.assumed_usd for standing in standings):
        lines.append('~ some of it at an assumed price: its model has none in prices.json.')
    return '\n'.join(lines + ['Estimates at list price; prices as of %s.' % prices.as_of])


def columns(text):
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width
    return sum(0 if combining(c) else 2 if east_asian_width(c) in 'WF' else 1 for c in text)


def bar(spent, cap):
    filled = min(BAR, spent * BAR // cap) if cap else BAR
    return '#' * filled + '.' * (BAR - filled)


def reached(one, budgets):
    if one.left == 0:
        return 'yes'
    return format_time(one.cap_at, budgets.timezone)[:10] if one.cap_at else '-'


def rebuild(options):
    """Read all logs anew. What they no longer hold is kept from the ledger as it was."""
    prices = load_prices(find_prices(options.prices, os.environ, HERE))
    path = find_ledger(options.ledger, os.environ, options.home)
    kept, reading = rebuild_ledger(path, options.home, prices, os.environ, options.now_ms, progress_on(sys.stderr))
    print('%s: rebuilt from %d log files; %d calls are kept whose logs are gone'
          % (printable(path, 1000), reading.files, kept))
    return 0


if __name__ == '__main__':
    sys.exit(main())
