"""What several tests need."""
import importlib.util
import os
import sys

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
DATA = os.path.join(TESTS, 'data')


def load_script(name):
    """The script `name` beside the Makefile, as a module: its file name is no module name."""
    module = name[:-3].replace('-', '_')
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, os.path.join(ROOT, name))
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return sys.modules[module]
