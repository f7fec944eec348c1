"""Edit a JSON text in place: every byte that an edit is not about stays as it was.

Texts go in and come out; `parse` tells where each value stands, the edits return the new text.
"""

import json
import re
from collections import namedtuple

# at: where the member begins (its key's quote, or the value itself); start, end: the value's own span.
# children: {key: Node} of an object, [Node] of an array, None of anything else.
Node = namedtuple('Node', 'value at start end children')

_SPACE = re.compile(r'[ \t\r\n]*')
_DECODER = json.JSONDecoder()


class JsonError(Exception):
    """str() is `line:column: message`, 1-based."""

    def __init__(self, message, text, offset):
        line = text.count('\n', 0, offset) + 1
        column = offset - text.rfind('\n', 0, offset)
        super().__init__(f'{line}:{column}: {message}')


def parse(text):
    """The root Node. Duplicate keys are refused: it can't be known which one the reader takes."""
    try:
        json.loads(text)
        return _node(text, _after_space(text, 0))
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, text, error.pos)
    except RecursionError:
        raise JsonError('nested too deeply', text, 0)


def _after_space(text, i):
    return _SPACE.match(text, i).end()


def _node(text, i, at=None):
    at = i if at is None else at
    if text[i] == '{':
        return _object(text, i, at)
    if text[i] == '[':
        return _array(text, i, at)
    if text.startswith(('NaN', 'Infinity', '-Infinity'), i):  # Python reads them, no agent does
        raise JsonError('NaN and Infinity are not JSON', text, i)
    value, end = _DECODER.raw_decode(text, i)
    return Node(value, at, i, end, None)


def _object(text, start, at):
    children = {}
    i = _after_space(text, start + 1)
    while text[i] != '}':
        key, end = _DECODER.raw_decode(text, i)
        if key in children:
            raise JsonError(f'duplicate key {json.dumps(key)}', text, i)
        colon = _after_space(text, end)
        child = children[key] = _node(text, _after_space(text, colon + 1), at=i)
        i = _after_comma(text, child.end)
    return Node({key: child.value for key, child in children.items()}, at, start, i + 1, children)


def _array(text, start, at):
    children = []
    i = _after_space(text, start + 1)
    while text[i] != ']':
        children.append(_node(text, i))
        i = _after_comma(text, children[-1].end)
    return Node([child.value for child in children], at, start, i + 1, children)


def _after_comma(text, i):
    i = _after_space(text, i)
    return _after_space(text, i + 1) if text[i] == ',' else i


def append(text, container, value, key=None):
    """Add a member (with `key`, to an object) or an item (to an array) at the container's end."""
    last = _members(container)[-1:]
    if not last:
        return _fill(text, container, value, key)
    margin = _own_margin(text, last[0].at)
    if margin is None:
        return _splice(text, last[0].end, last[0].end, ', ' + _render(value, key))
    rendered = _newline(text) + margin + _render(value, key, text, margin)
    return _splice(text, last[0].end, last[0].end, ',' + rendered)


def _fill(text, container, value, key):
    opening, closing = text[container.start], text[container.end - 1]
    if _is_one_line(text):
        return _splice(text, container.start, container.end, opening + _render(value, key) + closing)
    margin, newline = _margin(text, container.start), _newline(text)
    inner = margin + _indent(text)
    rendered = opening + newline + inner + _render(value, key, text, inner) + newline + margin + closing
    return _splice(text, container.start, container.end, rendered)


def replace(text, node, value):
    margin = None if _is_one_line(text) else _margin(text, node.start)
    return _splice(text, node.start, node.end, _render(value, None, text, margin))


def remove(text, container, child):
    """Take one child out, with the comma that parted it from its neighbour."""
    members = _members(container)
    i = members.index(child)
    if len(members) == 1:
        return _splice(text, container.start + 1, container.end - 1, '')
    if i + 1 < len(members):
        return _splice(text, child.at, members[i + 1].at, '')
    return _splice(text, members[i - 1].end, child.end, '')


def _members(container):
    children = container.children
    return list(children.values()) if isinstance(children, dict) else children


def _splice(text, start, end, replacement):
    return text[:start] + replacement + text[end:]


def _render(value, key=None, text='', margin=None):
    """The JSON of a value; on one line where no margin is given, else its later lines begin with it."""
    indent = None if margin is None else _indent(text)
    rendered = json.dumps(value, indent=indent, ensure_ascii=False)
    if margin is not None:
        rendered = rendered.replace('\n', _newline(text) + margin)
    return rendered if key is None else f'{json.dumps(key)}: {rendered}'


def _is_one_line(text):
    """A whole document on one line stays so; an empty one is free to grow."""
    stripped = text.strip()
    return '\n' not in stripped and stripped[1:-1].strip() != ''


def _newline(text):
    return '\r\n' if '\r\n' in text else '\n'


def _indent(text):
    found = re.search(r'\n([ \t]+)\S', text)
    return found.group(1) if found else '  '


def _margin(text, i):
    """The white space that the line at `i` begins with."""
    start = text.rfind('\n', 0, i) + 1
    return re.compile(r'[ \t]*').match(text, start).group()


def _own_margin(text, i):
    """The margin of what stands at `i`, or None where something else stands before it on its line."""
    margin = _margin(text, i)
    line_start = text.rfind('\n', 0, i)
    return margin if line_start >= 0 and line_start + 1 + len(margin) == i else None
