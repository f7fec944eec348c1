"""What stands in two files is the same in both."""
import os
import re
import unittest

from support import ROOT, load_script

SCRIPTS = ('budget-check.py', 'cost-report.py')


def block_of(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as stream:
        text = stream.read()
    found = re.findall(r'^# --- BEGIN shared block.*?^# --- END shared block$', text, re.DOTALL | re.MULTILINE)
    return found[0] if len(found) == 1 else None


class BlockTest(unittest.TestCase):

    def test_all_copies_are_the_same(self):
        original = block_of(SCRIPTS[0])
        self.assertGreater(len(original or ''), 10000)
        for name in SCRIPTS:
            with self.subTest(name):
                self.assertTrue(block_of(name) == original, '%s: stale copy of the shared block; run `make sync`' % name)

    def test_the_hook_knows_the_same_expensive_tools(self):
        with open(os.path.join(ROOT, 'pretooluse-hook.py'), encoding='utf-8') as stream:
            listed = re.search(r'^EXPENSIVE_TOOLS = \(.*?\)$', stream.read(), re.DOTALL | re.MULTILINE).group()
        scope = {}
        exec(listed, scope)
        self.assertEqual(scope['EXPENSIVE_TOOLS'], load_script('budget-check.py').EXPENSIVE_TOOLS)


if __name__ == '__main__':
    unittest.main()
