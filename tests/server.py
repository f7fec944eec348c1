"""Runs scripts, each in a fork of this interpreter: as fresh a process as any other, without the wait for an interpreter and its modules.

A line of JSON on stdin says what to run, a line on stdout how it ended. support.run_script() asks."""
import contextlib
import gc
import json
import os
import signal
import sys
import time
import traceback
from importlib.machinery import SourceFileLoader
# What the scripts will ask for.
import _frozen_importlib_external, argparse, bisect, calendar, collections, csv, datetime, decimal, difflib, fnmatch  # noqa: E401, F401
import functools, glob, re, sqlite3, subprocess, tempfile, textwrap, unicodedata          # noqa: E401, F401

HERE = os.path.dirname(os.path.abspath(__file__))
codes = {}
compile_or_load = SourceFileLoader.get_code


def code_of(loader, name):
    """Many a home has copies of its own of the same scripts: a text that is known needn't be compiled, nor its bytecode read."""
    with open(loader.path, 'rb') as stream:
        source = stream.read()
    return codes.get(source) or compile_or_load(loader, name)


def prepare():
    """What each fork will find done: the scripts' code, their modules, and the patterns that `re` keeps."""
    sys.dont_write_bytecode = True
    for path in sorted(glob.glob(os.path.join(os.path.dirname(HERE), '*.py'))):
        with contextlib.suppress(Exception, SystemExit):   # what is wrong with it the fork will say
            code = SourceFileLoader('script', path).get_code('script')
            with open(path, 'rb') as stream:
                codes[stream.read()] = code
            exec(code, {'__name__': 'prepared', '__file__': path})
    SourceFileLoader.get_code = code_of
    gc.freeze()


def run(path, arguments, cwd, environ, streams, seconds):
    """In the fork: the script's exit code."""
    for number, (name, mode) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
        stream = os.open(name, mode)
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, encoding='utf-8', errors=errors, closefd=False)
        for number, mode, buffering, errors in (
            (0, 'r', -1, 'surrogateescape'), (1, 'w', -1, 'surrogateescape'), (2, 'w', 1, 'backslashreplace')))
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)      # whose signal ends it
    code = 0
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        sys.dont_write_bytecode, sys.argv = False, [path, *arguments]
        module = type(sys)('__main__')
        module.__file__, module.__builtins__ = path, __builtins__
        sys.modules['__main__'] = module
        exec(SourceFileLoader('script', path).get_code('script'), module.__dict__)
    except SystemExit as end:
        code = end.code
        if not isinstance(code, (int, type(None))):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    return code or 0


def main():
    prepare()
    for line in iter(sys.stdin.readline, ''):
        job = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = run(**job)
            finally:
                os._exit(code & 255)
        status = os.waitpid(child, 0)[1]
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


main()
