"""Copy the shared block of budget-check.py into cost-report.py, byte for byte.

    python3 .make/sync.py            copy
    python3 .make/sync.py --check    change nothing; exit 1 when the copies differ
"""

import os
import sys

from files import UserError, read_bytes, run_main, write_whole

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ORIGINAL = 'budget-check.py'
COPIES = ['cost-report.py']
BEGIN = b'# --- BEGIN shared block'
END = b'# --- END shared block'


def find_block(content, name):
    """(start, end) of the block's bytes, both marker lines included."""
    lines = content.splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.startswith(BEGIN)]
    ends = [i for i, line in enumerate(lines) if line.startswith(END)]
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        raise UserError(f'{name}: needs one line `{BEGIN.decode()}` and, after it, one `{END.decode()}`')
    return sum(map(len, lines[:begins[0]])), sum(map(len, lines[:ends[0] + 1]))


def with_block(content, block, name):
    start, end = find_block(content, name)
    return content[:start] + block + content[end:]


def main():
    original = read_script(ORIGINAL)
    start, end = find_block(original, ORIGINAL)
    stale = 0
    for name in COPIES:
        content = read_script(name)
        synced = with_block(content, original[start:end], name)
        if synced != content:
            stale += 1
            put_right(name, synced)
    return 1 if stale and '--check' in sys.argv[1:] else 0


def put_right(name, synced):
    if '--check' in sys.argv[1:]:
        print(f'{name}: stale copy of the shared block; run `make sync`')
    else:
        write_whole(os.path.join(ROOT, name), synced)
        print(f'{name}: shared block copied from {ORIGINAL}')


def read_script(name):
    content = read_bytes(os.path.join(ROOT, name))
    if content is None:
        raise UserError(f'{name}: is missing')
    return content


if __name__ == '__main__':
    run_main(main)
