"""Files are read and written whole or not at all; a mistake of the user's is one line, never a traceback."""

import os
import sys
import tempfile


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what to do."""


def read_bytes(path):
    """The file's bytes, or None where there is no such file."""
    try:
        with open(path, 'rb') as f:
            return f.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}")


def write_whole(path, content, new_mode=0o666):
    """Replace or create `path` in one step; links are followed, permission bits kept."""
    target = os.path.realpath(path)
    try:
        _replace(target, content, _mode_of(target, new_mode))
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}")


def _mode_of(target, new_mode):
    try:
        return os.stat(target).st_mode & 0o7777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return new_mode & ~umask


def _replace(target, content, mode):
    # In the same folder: a rename across file systems would be a copy, and a copy can stop half-way.
    handle, temporary = tempfile.mkstemp(prefix='.armledger-', dir=os.path.dirname(target))
    try:
        with os.fdopen(handle, 'wb') as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def run_main(main):
    """Exit with main()'s code; a UserError becomes one line on stderr and exit 1."""
    if sys.version_info < (3, 9):
        sys.exit('armledger needs Python 3.9 or later, and this is %d.%d; name one: make install PYTHON=/path/to/python3'
                 % sys.version_info[:2])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')  # a path that the terminal can't show is no reason to stop
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        sys.stdout.flush()
        print(f'error: {error}', file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:                            # as in `make install | head`: whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
