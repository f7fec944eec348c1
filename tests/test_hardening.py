"""What has once hidden spend, or kept everyone from being metered, in the least number of lines that does it.

Costs are written as micro-dollars of haiku input: a dollar for a million tokens."""
import json
import os
import select
import signal
import unittest
from unittest import mock

from homes import Home, call_line, cost_state, payload, spent_line, user_line
from support import load_script

script = load_script('budget-check.py')
ACME = 'budgets:\n  - arm: acme\n    path: ~/clients/acme\n    monthly_usd_cap: 1.00\n'
NOW = '2026-11-23T12:00:00Z'


def unreadable_logs():
    """In this block logs can't be opened; root could always."""
    whole = script.open_plain

    def refusing(name):
        if name.endswith('.jsonl'):
            raise PermissionError(13, 'Permission denied')
        return whole(name)
    return mock.patch.object(script, 'open_plain', refusing)


class HardeningCase(unittest.TestCase):

    def home(self, budgets=ACME):
        home = self.enterContext(Home(budgets)) if hasattr(self, 'enterContext') else Home(budgets).__enter__()
        if not hasattr(self, 'enterContext'):
            self.addCleanup(home.__exit__, None, None, None)
        os.makedirs(home.at('clients/acme'), exist_ok=True)
        return home

    def spent(self, home, arm='acme'):
        """Of all that is on disk, in micro-dollars."""
        for one in home.verdict('--now', NOW)['arms']:
            if one['arm'] == arm:
                return int(one['spent_usd'].replace('.', ''))
        return None


@unittest.skipUnless(hasattr(os, 'fork'), 'needs processes that can be forked')
class SecondProcessTest(HardeningCase):
    """Two processes read, however little there is of it here."""

    def setUp(self):
        patch = mock.patch.object(script, 'LONG_READ', -1)
        patch.start()
        self.addCleanup(patch.stop)

    def logs(self, home, sizes):
        return [home.log('s-%d' % n, *[spent_line('m-%d-%d' % (n, k), 10 ** n, cwd=home.at('clients/acme'))
                                       for k in range(size)]) for n, size in enumerate(sizes)]

    def grow_each(self, home, logs):
        """Every file grows by a call, one after the other; each is seen at once."""
        for n, path in enumerate(logs):
            home.append(path, [spent_line('late-%d' % n, 10 ** n, cwd=home.at('clients/acme'))])
            self.assertEqual(self.spent(home), int('3' * len(logs)) + int('1' * (n + 1)))

    def test_whichever_file_grows_is_seen(self):
        home = self.home()
        logs = self.logs(home, [3] * 6)
        self.assertEqual(self.spent(home), 333333)
        self.grow_each(home, logs)
        for n, path in enumerate(logs):
            home.append(path, [spent_line('later-%d' % n, 10 ** n, cwd=home.at('clients/acme'))])
        self.assertEqual(self.spent(home), 555555)

    def test_whichever_file_goes_has_been_metered(self):
        home = self.home()
        logs = self.logs(home, [3] * 6)
        self.assertEqual(self.spent(home), 333333)
        for path in logs:
            os.remove(path)
            with home.ledger() as ledger:
                self.assertNotIn((path,), ledger.db.execute('select path from files').fetchall())
        self.assertEqual(self.spent(home), 333333)

    def test_a_process_that_fails_is_stood_in_for(self):
        home, here, read = self.home(), os.getpid(), script.read_file
        ends = iter(range(100))

        def failing(job, *rest):
            for result in read(job, *rest):
                yield result
                if os.getpid() != here and next(ends) == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        self.logs(home, [3] * 6)
        with mock.patch.object(script, 'read_file', failing):
            self.assertEqual(self.spent(home), 333333)

    def test_what_several_processes_read_is_all_there(self):
        home = self.home()
        self.logs(home, [7, 1, 0, 4, 9, 2])
        home.log('s-1/subagents/agent-1', spent_line('a', 5, agent='1', cwd=home.at('clients/acme')))
        self.assertEqual(self.spent(home), 7 + 10 + 4000 + 90000 + 200000 + 5)

    def test_processes_end_with_the_one_that_they_read_for(self):
        """Killed, it cannot tell them; they have more to say than a pipe holds."""
        alive, held = os.pipe()                            # ends when no process holds it any more
        child = os.fork()
        if not child:
            try:
                os.close(alive)
                endless = [('x', 'y' * 100000)] * 10 ** 6
                with mock.patch.object(script, 'read_file', lambda *_: iter(endless)):
                    for _ in script.read_apart([('', name) for name in 'abc'], None, 0):
                        os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        os.close(held)
        self.assertEqual(os.waitpid(child, 0)[1], signal.SIGKILL)
        self.assertEqual(select.select([alive], [], [], 30)[0], [alive], 'they are still there')
        self.assertEqual(os.read(alive, 1), b'')
        os.close(alive)

    def test_what_one_of_several_files_has_in_it_keeps_no_other_out(self):
        home = self.home()
        self.logs(home, [1] * 6)
        odd = home.at('clients/acme/odd')
        home.log('s-7', spent_line('a', 1, cwd=odd, session='odd'))
        place = script.Ledger.place

        def failing(ledger, cwd):
            if cwd == odd:
                raise ValueError('what nobody has thought of')
            return place(ledger, cwd)
        with mock.patch.object(script.Ledger, 'place', failing):
            self.assertEqual(self.spent(home), 111111)
            self.assertIn('s-7.jsonl', home.main('--now', NOW).err)
        self.assertEqual(self.spent(home), 111112)


class UnreadableTest(HardeningCase):

    def test_a_log_is_told_of_until_it_can_be_read(self):
        home = self.home()
        path = home.log('s-1', spent_line('a', 600000, cwd=home.at('clients/acme')))
        with unreadable_logs():
            for _ in range(3):
                self.assertEqual(home.main('--now', NOW).code, 1)
        self.assertEqual(self.spent(home), 600000)
        self.assertEqual(home.main('--now', NOW).code, 0, path)

    def test_a_folder_is_told_of_until_it_can_be_listed(self):
        home = self.home()
        home.log('s-1/subagents/agent-1', spent_line('a', 600000, cwd=home.at('clients/acme')))
        listed = os.scandir

        def refusing(path):
            if str(path).endswith('subagents'):
                raise PermissionError(13, 'Permission denied')
            return listed(path)
        with mock.patch.object(os, 'scandir', refusing):
            for _ in range(3):
                self.assertEqual(home.main('--now', NOW).code, 1)
        self.assertEqual(self.spent(home), 600000)

    def test_what_the_ledger_holds_stops_an_arm_whose_logs_cannot_be_read(self):
        home = self.home()
        home.log('s-1', spent_line('a', 2000000, cwd=home.at('clients/acme')))
        self.assertEqual(self.spent(home), 2000000)
        home.log('s-2', spent_line('b', 1, cwd=home.at('clients/acme')))
        with unreadable_logs():
            code, out, _ = home.gate(payload(home, tool='Bash'), now=NOW)
        self.assertEqual((code, json.loads(out)['continue']), (0, False))


class SurveyTest(HardeningCase):

    def test_a_folder_whose_time_is_set_back_is_listed_all_the_same(self):
        home = self.home()
        path = home.log('s-1', spent_line('a', 1, cwd=home.at('clients/acme')))
        folder = os.path.dirname(path)
        os.utime(folder, (1, 1))
        with mock.patch.object(script, 'RACY_NS', -1 << 62):               # as if it had been like that for long
            self.assertEqual(self.spent(home), 1)
            home.log('s-2', spent_line('b', 2, cwd=home.at('clients/acme')))
            os.utime(folder, (1, 1))
            self.assertEqual(self.spent(home), 3)

    def test_links_lead_to_no_endless_walk(self):
        home = self.home()
        path = home.log('s-1', spent_line('a', 1, cwd=home.at('clients/acme')))
        os.symlink('/', os.path.join(os.path.dirname(path), 'all'))
        os.symlink(home.at('.claude'), os.path.join(os.path.dirname(os.path.dirname(path)), 'above'))
        linked = os.path.join(home.root, 'elsewhere')
        home.write(os.path.join(linked, 's-2.jsonl'), [spent_line('b', 2, cwd=home.at('clients/acme'))])
        os.symlink(linked, os.path.join(os.path.dirname(os.path.dirname(path)), '-linked'))
        self.assertEqual(self.spent(home), 3)


class ForgedTest(HardeningCase):

    def test_a_line_with_the_same_id_takes_nothing_away(self):
        forged = {'fewer tokens': dict(output=1),
                  'a cheaper model': dict(input=500000, output=700, model='claude-haiku-5-5'),
                  'another folder': dict(input=500000, output=700, cwd='/nowhere')}
        for name, fields in forged.items():
            for reads in (1, 2):
                with self.subTest(name, reads=reads):
                    home = self.home()
                    cwd = home.at('clients/acme')
                    path = home.log('s-1', call_line('a', input=500000, output=700, cwd=cwd))
                    if reads == 2:
                        self.assertEqual(self.spent(home), 503500)
                    home.append(path, [call_line('a', **dict({'cwd': cwd}, **fields))])
                    self.assertEqual(self.spent(home), 503500)

    def test_absurd_totals_leave_no_debt_behind(self):
        home = self.home()
        cwd = home.at('clients/acme')
        home.log('s-1', spent_line('a', 400000, cwd=cwd))
        huge = {'claude-opus-%d' % n: (10 ** 10, 10 ** 10, 0, 0, 10 ** 10, 10 ** 10) for n in range(8)}
        path = home.log('s-2', user_line(cwd=cwd, session='s-2'), cost_state('s-2', huge))
        self.assertGreater(self.spent(home), 10 ** 9)
        home.append(path, [user_line(cwd=cwd, session='s-2', time='2026-11-10T13:00:00.000Z'),
                           cost_state('s-2', {model: (0,) * 6 for model in huge})])
        self.assertGreaterEqual(self.spent(home), 400000)

    def test_forged_calls_in_thousands_overflow_no_sum(self):
        home = self.home()
        cwd, huge = home.at('clients/acme'), {'input_tokens': 10 ** 10, 'output_tokens': 10 ** 10}
        home.log('s-1', *[call_line('m%d' % n, usage=huge, cwd=cwd, agent='a%d' % (n % 3)) for n in range(10000)])
        self.assertEqual(self.spent(home), 10000 * 1000 * 10 ** 6)         # each counts as $1,000 at most
        home.log('s-2', cost_state('s-2', {'claude-haiku-4-5': (10 ** 10, 10 ** 10)}))
        self.assertGreaterEqual(self.spent(home), 10000 * 1000 * 10 ** 6)

    def test_an_id_like_a_rests_keeps_nobody_out(self):
        home = self.home()
        cwd = home.at('clients/acme')
        rest = [spent_line('a', 400000, cwd=cwd), cost_state('s-1', {'claude-haiku-4-5': (400005,)})]
        home.log('s-1', *rest)
        self.assertEqual(self.spent(home), 400005)
        home.log('s-2', *[spent_line(key, 1, cwd=cwd, session='s-2') for key in ('1', 'v1 1', 'None', 's-1:')])
        self.assertEqual(self.spent(home), 400009)

    def test_a_name_that_is_no_text_keeps_nobody_out(self):
        home = self.home()
        path = home.log('s-1', spent_line('a', 400000, cwd=home.at('clients/acme')))
        try:
            os.mkdir(os.path.join(os.fsencode(os.path.dirname(path)), b'\xff'))
        except OSError:
            self.skipTest('this file system takes no such name')
        self.assertEqual(self.spent(home), 400000)


class PlaceTest(HardeningCase):
    DEFAULT = 'default:\n  monthly_usd_cap: 1.00\n'

    def refused(self, home, cwd):
        _, out, _ = home.gate(payload(home, tool='Bash', cwd=cwd), now=NOW)
        return '"deny"' in out

    def over_cap(self):
        home = self.home(self.DEFAULT)
        home.repo('code/site')
        home.log('s-1', spent_line('a', 2000000, cwd=home.at('code/site')))
        self.assertTrue(self.refused(home, home.at('code/site')))
        return home

    def test_a_repo_made_around_it_is_no_way_out(self):
        home = self.over_cap()
        home.repo('work')
        self.assertTrue(self.refused(home, home.at('code/site')))
        os.mkdir(home.at('code/site/new'))
        self.assertTrue(self.refused(home, home.at('code/site/new')))

    def test_a_repo_made_in_it_is_no_way_out(self):
        home = self.over_cap()
        home.repo('code/site/inner')
        self.assertTrue(self.refused(home, home.at('code/site/inner')))

    def test_a_git_file_that_names_anothers_repo_is_no_way_out(self):
        home = self.over_cap()
        home.repo('elsewhere')
        os.rename(home.at('code/site/.git'), home.at('code/git'))
        for there in 'elsewhere/.git/worktrees/x', 'nowhere/.git/worktrees/x', 'elsewhere/.git':
            home.write('code/site/.git', 'gitdir: %s\n' % home.at(there))
            self.assertTrue(self.refused(home, home.at('code/site')), there)

    def test_a_name_is_found_within_an_outer_repo(self):
        home = self.home('budgets:\n  - arm: acme\n    monthly_usd_cap: 1.00\n')
        home.repo('clients')
        home.repo('clients/acme')
        home.log('s-1', spent_line('a', 2000000, cwd=home.at('clients/acme/src')))
        self.assertEqual(self.spent(home), 2000000)

    def test_a_repos_own_settings_do_not_name_its_budgets(self):
        home = self.over_cap()
        raised = home.at('code/site/budgets.yaml')
        home.write(raised, 'default:\n  monthly_usd_cap: 1000.00\n')
        _, out, _ = home.gate(payload(home, tool='Agent', cwd=home.at('code/site')), now=NOW, ARMLEDGER_BUDGETS=raised)
        self.assertIn('"deny"', out)


if __name__ == '__main__':
    unittest.main()
