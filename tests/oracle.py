#!/usr/bin/env python3
"""A second opinion: what the logs under a home have cost, told slowly, in memory, from the facts alone.

    ../shared/oracle.py [HOME]        CLAUDE_CONFIG_DIR, CODEX_HOME, COPILOT_HOME count as for the product

It shares no code with the product and keeps nothing between runs, so it is what an incremental ledger can be held against: in any order of files,
after any kill. It is dense, and no model of style. It prints {"total_usd", "calls", "by_cwd": {folder: usd}, "by_model": {model: [input, output, write_short, write_long, read, searches]}}.
Each rule stands where it is used, with the capture or case that shows it. Prices: a dozen models by hand (PRICES); others at the fallback.
"""
import collections
import glob
import json
import os
import re
import sys
from fractions import Fraction

# USD per million: input, output, write 5 min, write 1 h, read; then fast and US multipliers
PRICES = {
    'claude-opus-5-5': ('4', '20', '5', '8', '0.2', 2, '1.1'), 'claude-opus-5': ('5', '25', '6.25', '10', '0.5', 2, '1.1'),
    'claude-opus-4-8': ('5', '25', '6.25', '10', '0.5', 2, '1.1'), 'claude-sonnet-5-5': ('2', '10', '2.5', '4', '0.1', 1, '1.1'),
    'claude-sonnet-5': ('2', '10', '2.5', '4', '0.2', 1, '1.1'), 'claude-sonnet-4-6': ('3', '15', '3.75', '6', '0.3', 1, '1.1'),
    'claude-sonnet-4-5': ('3', '15', '3.75', '6', '0.3', 1, '1'), 'claude-haiku-4-5': ('1', '5', '1.25', '2', '0.1', 1, '1'),
    'claude-fable-5-1': ('10', '50', '12.5', '20', '0.25', 1, '1.1'), 'claude-haiku-5-5': ('0.1', '0.5', '0.125', '0.2', '0.01', 1, '1.1'),
    'claude-haiku-5-5>100000': ('0.5', '2.5', '0.625', '1', '0.05', 1, '1.1'), 'gpt-5.5': ('5', '30', '0', '0', '0.5', 1, '1'),
    'gpt-5.5>272000': ('10', '45', '0', '0', '1', 1, '1'),
}
Line = collections.namedtuple('Line', 'session side copied ts cwd model variant tokens')
NOTHING = (0,) * 6


def usd(model, variant, tokens, whole=True):
    name = re.sub(r'-20\d{6}$|\[1m\]$', '', model.rpartition('/')[2].replace('claude-sonnet-4.5', 'claude-sonnet-4-5'))
    if name not in PRICES:
        name = 'gpt-5.5' if name.startswith('gpt') else 'claude-opus-5-5'
    context = tokens[0] + tokens[2] + tokens[3] + tokens[4]
    for key in PRICES:
        if whole and key.startswith(name + '>') and context > int(key.partition('>')[2]):
            name = key
    price = [Fraction(one) for one in PRICES[name]]
    cost = sum(count * unit for count, unit in zip(tokens[:5], price)) / 10 ** 6
    cost *= (price[5] if 'fast' in variant else 1) * (price[6] if 'us' in variant.split() else 1)
    return cost * (Fraction(1, 2) if 'batch' in variant else 1) + Fraction(tokens[5], 100)


def count(value):
    """A figure that a gateway got wrong is no reason to lose a call: negative is 0, 1000.0 is 1000 (negative-input, float-tokens)."""
    return max(0, int(value)) if isinstance(value, (int, float)) and value == value and abs(value) < 1e15 else 0


def records(path):
    """The JSON objects of a log. A line may hold several, or a torn one before a whole one, or NULs (splice-*, nul-run-*, bom-crlf)."""
    if not os.path.isfile(path):
        return
    with open(path, 'rb') as stream:
        text = stream.read()
    decoder = json.JSONDecoder()
    for line in text.replace(b'\0', b'').replace(b'\xef\xbb\xbf', b'').split(b'\n'):
        line, at = line.decode('utf-8', 'replace').strip(), 0
        while 0 <= at < len(line):
            try:
                record, end = decoder.raw_decode(line, at)
            except (ValueError, RecursionError):
                record, end = None, at + 1
            if isinstance(record, dict):
                yield record
            opening = re.compile(r'\{"(?:parentUuid|isSidechain|type|uuid|timestamp|sessionId)":').search(line, end)
            at = opening.start() if opening else -1


# -- Claude Code

def claude_tokens(usage):
    split, server = usage.get('cache_creation') or {}, usage.get('server_tool_use') or {}
    long = count(split.get('ephemeral_1h_input_tokens'))
    short = max(count(split.get('ephemeral_5m_input_tokens')), count(usage.get('cache_creation_input_tokens')) - long)
    return (count(usage.get('input_tokens')), count(usage.get('output_tokens')), short, long,
            count(usage.get('cache_read_input_tokens')), count(server.get('web_search_requests')))


def read_claude(roots, calls):
    """Fill calls with {key: (owner Line, priced Line, kind)} of transcripts and untranscribed rests."""
    lines, extras, began, marks = collections.defaultdict(list), {}, {}, collections.defaultdict(list)
    for path in sorted(path for root in roots for path in glob.glob(os.path.join(root, '**', '*.jsonl'), recursive=True)):
        name = os.path.basename(path)[:-6]
        before, open_marks, first = None, [], {}
        for record in records(path):
            if record.get('timestamp') and record.get('type') != 'cost-state':
                for m in open_marks: m[2] = record['timestamp']
                open_marks = []
            if record.get('type') == 'progress' and isinstance(record.get('data'), dict) and isinstance(record['data'].get('message'), dict):
                record = dict(record, **dict(record['data']['message'], isSidechain=True))
            session, ts = record.get('sessionId') or name, record.get('timestamp')
            if ts and 'forkedFrom' not in record and '/subagents/' not in path and not name.startswith('agent-'):
                first.setdefault(session, ts)              # its own first line; /branch's copies are marked (branch_b3-331)
                began[session] = min(began.get(session, '9'), first[session])
            message = record.get('message')
            usage = message.get('usage') if isinstance(message, dict) else None
            if record.get('type') == 'cost-state':
                marks[session].append([before, record, None])
                open_marks.append(marks[session][-1])
            elif record.get('type') in ('assistant', 'progress') and isinstance(usage, dict) and message.get('model') != '<synthetic>' \
                    and record.get('isApiErrorMessage') is not True:
                variant = ' '.join(one for one in (usage.get('service_tier'), usage.get('speed'), usage.get('inference_geo')) if one in ('batch', 'fast', 'us'))
                line = Line(session, record.get('isSidechain') is True, 'forkedFrom' in record, ts or '', record.get('cwd'),
                            message.get('model') or '?', variant, claude_tokens(usage))
                key = message.get('id') or record.get('requestId') or record.get('uuid')
                lines[key].append((record.get('requestId'), line))
                for n, one in enumerate(usage.get('iterations') or ()):
                    if one.get('type') in ('advisor_message', 'compaction'):
                        extras['%s#%d' % (key, n)] = line._replace(model=one.get('model') or line.model, tokens=claude_tokens(one))
            before = (ts or before[0], record.get('cwd') or before[1]) if before else (ts, record.get('cwd'))

    def rank(line):
        return line.copied, began.get(line.session) or '9', line.session
    copies, own = collections.defaultdict(list), collections.defaultdict(list)
    for key, found in lines.items():
        main = [one for one in found if not one[1].side]
        asked_by_main = {request for request, _ in main}
        told = {line.tokens for _, line in main}
        # a side chain that repeats a usage of the main chain under another request replays it; another usage is another call
        of_key = main + [one for one in found if one[1].side and (one[0] in asked_by_main or not main or one[1].tokens not in told)]
        if not main:                                       # side chains alone: what repeats a usage is the same call
            seen_usage, of_key = {}, []
            for request, line in found:
                of_key.append((seen_usage.setdefault(line.tokens, request), line))
        requests = list(dict.fromkeys(request for request, _ in of_key if request)) or [None]
        for request in requests:                           # one id, several requests: several calls (constant-message-id)
            of = [line for asked, line in of_key if asked == request or asked is None and request == requests[0]]
            owner = min(of, key=rank)
            best = max(of, key=lambda one: (one.tokens[1], usd(one.model, one.variant, one.tokens)))     # most output, the dearest on a tie
            calls['%s/%s' % (key, request)] = owner._replace(model=best.model, variant=best.variant, tokens=best.tokens)
            own[owner.session].append(calls['%s/%s' % (key, request)])
            for session in {line.session for line in of} - {owner.session}:
                copies[session].append(calls['%s/%s' % (key, request)])
    for key, line in extras.items():
        calls[key] = line
        own[line.session].append(line)
    for session, found in marks.items():
        unique = {}
        for one in found:
            key = (one[0] or ('',))[0] or '', json.dumps(one[1].get('modelUsage'), sort_keys=True)
            if key not in unique or one[2] and not unique[key][2]:
                unique[key] = one
        found[:] = [unique[key] for key in sorted(unique, key=lambda k: (k[0], sum(sum(t) for t, _ in totals_of(unique[k][1]).values())))]
    for session, found in marks.items():
        add_rest(session, found, own[session], copies[session], began, marks, calls)


def undated(model):
    return re.sub(r'-20\d{6}$', '', model)


def totals_of(mark):
    totals = {}
    for model, usage in (mark.get('modelUsage') or {}).items():
        written, long = count(usage.get('cacheCreationInputTokens')), count(usage.get('cacheCreationEphemeral1hInputTokens'))
        known = 'cacheCreationEphemeral1hInputTokens' in usage
        tokens = (count(usage.get('inputTokens')), count(usage.get('outputTokens')), written - long, long,
                  count(usage.get('cacheReadInputTokens')), count(usage.get('webSearchRequests')))
        totals[re.sub(r'\[1m\]$', '', model)] = tokens, known
    return totals


def add_rest(session, found, own, copied, began, marks, calls):
    """A cost-state is the session's total up to then, helper calls and sub-agents included. What it has beyond the session's own calls is untranscribed.

    Totals go on over resumes, without a run that was killed: each stretch between two totals counts by itself (kill-then-resume-*).
    A fork's begins with its parent's: with the largest of the family's earlier totals, or of the copied calls, that fits (resume-fork-compact, fork-of-fork);
    a /branch's begins at 0: its startTime is no earlier than what was copied (branch_b3-331)."""
    start = count(found[0][1].get('startTime'))
    inherits = bool(copied) and start < min(to_ms(call.ts) for call in copied) or not copied and start and start < to_ms(began.get(session, '')) - 60000
    for n, (where, mark, end) in enumerate(found):
        ts, cwd = where or ('', None)
        totals = totals_of(mark)
        since = (found[n - 1][2] or '9') if n else ''
        mine = [call for call in own if since <= call.ts < (end or '9')]
        if not n:
            base = inherited(session, totals, mine, copied, began, marks, start) if inherits else {}
            paid_before = {model: usd(model, '', tokens, False) for model, tokens in base.items()}
        for model, (tokens, split_known) in totals.items():
            spent = [sum(part) for part in zip(NOTHING, *[call.tokens for call in mine if undated(call.model) == undated(model)])]
            before = base.get(model, NOTHING)
            rest = [max(0, whole - had - part) for whole, had, part in zip(tokens, before, spent)]
            if not split_known:                            # 2.1.278 to 2.1.308: the sum of writes is known, and what all of it cost (plain-2.1.300)
                rest[2:4] = max(0, tokens[2] + tokens[3] - sum(before[2:4]) - sum(spent[2:4])), 0
                paid = Fraction(str(mark['modelUsage'][model].get('costUSD') or 0)) - paid_before.get(model, 0) - sum(
                    usd(call.model, call.variant, call.tokens) for call in mine if undated(call.model) == undated(model))
                each = usd(model, '', (0, 0, 0, 1, 0, 0)) - usd(model, '', (0, 0, 1, 0, 0, 0))
                long = min(rest[2], max(0, round((paid - usd(model, '', tuple(rest), False)) / each)))
                rest[2:4] = rest[2] - long, long
            rest = tuple(rest)
            if any(rest):
                calls['rest %s %d %s' % (session, n, model)] = Line(session, False, False, ts, cwd, model, 'rest', rest)
        base = {model: tokens for model, (tokens, _) in totals.items()}
        paid_before = {model: Fraction(str(usage.get('costUSD') or 0)) for model, usage in mark['modelUsage'].items()}


def to_ms(text):
    from datetime import datetime
    return int(datetime.fromisoformat(text.replace('Z', '+00:00')).timestamp() * 1000) if text else 0


def inherited(session, totals, mine, copied, began, marks, start):
    """The largest of what a fork's total may have had in it when it began: of its family's totals up to then, or of the copied calls, that leaves room for its own calls."""
    split = all(known for _, known in totals.values())

    def shape(tokens):
        return tuple(tokens) if split else (*tokens[:2], tokens[2] + tokens[3], 0, *tokens[4:])

    def summed(some):
        sums = collections.defaultdict(lambda: NOTHING)
        for call in some:
            sums[call.model] = tuple(a + b for a, b in zip(sums[call.model], shape(call.tokens)))
        return sums
    own, candidates = summed(mine), [dict(summed(copied))]
    for other, found in marks.items():
        if other != session:
            candidates += [{model: shape(tokens) for model, (tokens, _) in totals_of(mark).items()} for where, mark, _ in found
                           if count(mark.get('startTime')) == start and where and where[0] <= began.get(session, '')]
    fitting = [one for one in candidates if all(
        part + mine <= whole for model in one
        for part, mine, whole in zip(one[model], own[model], shape(totals.get(model, (NOTHING, True))[0])))]
    return max(fitting, key=lambda one: sum(map(sum, one.values())), default={})


# -- Codex

def read_codex(homes, calls):
    files, seen = {}, set()
    for home in homes:
        for folder in 'sessions', 'archived_sessions':
            for path in sorted(glob.glob(os.path.join(home, folder, '**', 'rollout-*.jsonl'), recursive=True)):
                files.setdefault((home, os.path.basename(path)), path)         # the active copy
    parents, events = {}, []
    for path in files.values():
        thread, model, cwd, tier, own = None, None, None, '', []
        for record in records(path):
            kind, payload = record.get('type'), record.get('payload') or {}
            kind = payload.get('type') if kind == 'event_msg' else kind
            if kind == 'session_meta' and thread is None:
                thread, cwd = payload.get('id'), payload.get('cwd')
                spawn = ((payload.get('source') or {}) if isinstance(payload.get('source'), dict) else {}).get('subagent')
                spawn = spawn.get('thread_spawn') if isinstance(spawn, dict) else None
                parents[thread] = payload.get('forked_from_id') or payload.get('parent_thread_id') or (spawn or {}).get('parent_thread_id')
            elif kind == 'turn_context':
                model, cwd = payload.get('model') or model, payload.get('cwd') or cwd
            elif kind == 'thread_settings_applied' and payload.get('thread_id') in (None, thread):
                tier = (payload.get('thread_settings') or {}).get('service_tier') or ''
                model = model or (payload.get('thread_settings') or {}).get('model')
            elif kind == 'token_usage_record' and payload.get('thread_id') in (None, thread):
                own.append(('record', payload.get('response_id'), payload.get('usage') or {}, record.get('timestamp'), cwd, model, tier))
            elif kind == 'token_count' and payload.get('info'):
                own.append(('count', payload['info'].get('total_token_usage'), payload['info'].get('last_token_usage'), record.get('timestamp'), cwd, model, tier))
        events.append((thread, own))

    def root(thread):
        above = set()
        while parents.get(thread) and thread not in above:
            above.add(thread)
            thread = parents[thread]
        return thread
    def depth(thread, above=()):
        return 1 + depth(parents[thread], (*above, thread)) if parents.get(thread) and thread not in above else 0

    def echo(own, n):
        return any(one[0] == 'record' and codex_tokens(one[2]) == codex_tokens(own[n][2] or {}) for one in own[max(0, n - 1):n + 2])
    for thread, own in events:                             # what is a record's echo anywhere in the family is no call elsewhere
        seen.update((root(thread), json.dumps(one[1], sort_keys=True)) for n, one in enumerate(own) if one[0] == 'count' and one[1] and echo(own, n))
    for thread, own in sorted(events, key=lambda one: (depth(one[0]), one[0] or '', len(one[1]))):
        before = None
        for n, (kind, key, usage, ts, cwd, model, tier) in enumerate(own):
            if kind == 'count':
                if echo(own, n):
                    before = key or before                 # a record's echo, before or behind it (codex-count-before-record)
                    continue
                if key is not None and key == before:
                    continue                               # told again (codex-reemitted-counts)
                if not usage:                              # totals alone
                    usage = {name: count(key.get(name)) - count((before or {}).get(name)) for name in key}
                before = key or before
                # A copy of a parent's history has the parent's totals, whatever its times (codex-fork-replay-*)
                key = (root(thread), json.dumps(key, sort_keys=True)) if key else (thread, n)
            if key in seen or not any(codex_tokens(usage)):
                continue
            seen.add(key)
            calls['codex %s' % (key,)] = Line(thread, False, False, ts or '', cwd, model or 'gpt-5', tier, codex_tokens(usage))


def codex_tokens(usage):
    whole, read, written = count(usage.get('input_tokens')), count(usage.get('cached_input_tokens')), count(usage.get('cache_write_input_tokens'))
    read = min(read, whole)                                # codex-cached-over-input
    written = min(written, whole - read)
    return whole - read - written, count(usage.get('output_tokens')), written, 0, read, 0


# -- Copilot CLI, Qwen Code, Gemini CLI

def read_copilot(home, calls):
    for path in glob.glob(home + '/session-state/*/events.jsonl'):
        cwd = None
        for record in records(path):
            data = record.get('data') or {}
            cwd = (data.get('context') or {}).get('cwd') or cwd if isinstance(data.get('context'), dict) else cwd
            if record.get('type') == 'session.usage_record':
                usage, key = data['usage'], data['usage'].get('apiCallId')
            elif record.get('type') == 'session.compaction_complete' and data.get('compactionTokensUsed'):
                usage, key = data['compactionTokensUsed'], data.get('compactionAttemptId')
            else:
                continue
            read, written = count(usage.get('cacheReadTokens')), count(usage.get('cacheWriteTokens'))
            calls['copilot %s' % key] = Line(path, False, False, record.get('timestamp') or '', cwd, usage.get('model') or '?', '', (
                count(usage.get('inputTokens')) - read - written, count(usage.get('outputTokens')), written, 0, read, 0))


def read_qwen(home, calls):
    told = collections.Counter()
    for path in glob.glob(home + '/projects/*/chats/*.jsonl'):
        for record in records(path):
            event = (record.get('systemPayload') or {}).get('uiEvent') or {} if isinstance(record.get('systemPayload'), dict) else {}
            if event.get('event.name') == 'qwen-code.api_response':
                read = count(event.get('cached_content_token_count'))
                tokens = count(event.get('input_token_count')) - read, count(event.get('output_token_count')), 0, 0, read, 0
                calls['qwen %s' % event.get('response_id')] = Line(record.get('sessionId'), False, False, record.get('timestamp') or '', record.get('cwd'),
                                                                   event.get('model') or '?', '', tokens)
    last = {}
    for record in records(home + '/usage_record.jsonl') if os.path.exists(home + '/usage_record.jsonl') else ():
        last[record.get('sessionId')] = record
    for session, record in last.items():                   # like cost-state: cumulative, over resumes
        for model, usage in (record.get('models') or {}).items():
            mine = [call.tokens for key, call in calls.items() if key.startswith('qwen ') and call.session == session and call.model == model]
            read = count(usage.get('cachedTokens'))
            whole = count(usage.get('inputTokens')) - read, count(usage.get('outputTokens')), 0, 0, read, 0
            rest = tuple(max(0, a - sum(part)) for a, part in zip(whole, zip(NOTHING, *mine)))
            if any(rest):
                calls['rest qwen %s %s' % (session, model)] = Line(session, False, False, '', record.get('project'), model, 'rest', rest)


def read_gemini(home, calls):
    for path in glob.glob(home + '/tmp/*/chats/**/*.jsonl', recursive=True):
        slug = path[len(home + '/tmp/'):].split('/')[0]
        try:
            with open('%s/tmp/%s/.project_root' % (home, slug)) as stream:
                cwd = stream.read()
        except OSError:
            cwd = None
        for record in records(path):
            tokens = record.get('tokens')
            if record.get('type') == 'gemini' and isinstance(tokens, dict):
                read = count(tokens.get('cached'))
                calls['gemini %s' % record.get('id')] = Line(path, False, False, record.get('timestamp') or '', cwd, record.get('model') or '?', '', (
                    count(tokens.get('input')) - read + count(tokens.get('tool')), count(tokens.get('output')) + count(tokens.get('thoughts')), 0, 0, read, 0))


def meter(home, environ):
    calls = {}
    claude = [one.strip() for one in environ.get('CLAUDE_CONFIG_DIR', '').split(',') if one.strip()] or [home + '/.claude', home + '/.config/claude']
    read_claude([one + '/projects' for one in claude], calls)
    read_codex([one.strip() for one in (environ.get('CODEX_HOME') or home + '/.codex').split(',')], calls)
    read_copilot(environ.get('COPILOT_HOME') or home + '/.copilot', calls)
    read_qwen(environ.get('QWEN_HOME') or home + '/.qwen', calls)
    read_gemini((environ.get('GEMINI_CLI_HOME') or home) + '/.gemini', calls)
    return calls


def main():
    home = sys.argv[1] if sys.argv[1:] else os.path.expanduser('~')
    calls, by_cwd, by_model = meter(home, os.environ), collections.Counter(), {}
    for call in calls.values():
        by_cwd[call.cwd or ''] += usd(call.model, call.variant, call.tokens, call.variant != 'rest')
        by_model[call.model] = [a + b for a, b in zip(by_model.get(call.model, NOTHING), call.tokens)]
    print(json.dumps({'total_usd': round(float(sum(by_cwd.values())), 9), 'calls': len(calls),
                      'by_cwd': {cwd: round(float(cost), 9) for cwd, cost in by_cwd.items()}, 'by_model': by_model}, indent=2))


if __name__ == '__main__':
    main()
