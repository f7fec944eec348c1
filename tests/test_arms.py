"""Arms: which calls are whose. Each call costs another power of two, so a sum tells which calls are in it."""
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import unicodedata
import unittest

from homes import Home, fixture, spent_line
from support import load_script

script = load_script('budget-check.py')
NOW = '2026-11-23T12:00:00Z'


def entry(arm, *paths, cap='total_usd_cap: 1000'):
    lines = ['  - arm: %s' % arm, '    ' + cap]
    if paths:
        lines.append('    paths: [%s]' % ', '.join("'%s'" % path for path in paths))
    return '\n'.join(lines) + '\n'


def budgets(*entries, default=False):
    return 'timezone: UTC\nbudgets:\n' + ''.join(entries) + 'default:\n  total_usd_cap: 1000\n' * default


class Work:
    """Calls of a home, by the folders that they were made in."""

    def __init__(self, home):
        self.home, self.labels = home, []

    def call(self, *folders):
        """One call in each of the folders, named by itself, in a transcript of its own; absolute ones and Windows' stay."""
        for folder in folders:
            n = len(self.labels)
            self.labels.append(folder)
            cwd = folder if folder[1:2] == ':' or folder[:2] == '\\\\' else self.home.at(folder)
            self.home.log('s-%d' % n, spent_line('m%d' % n, 2 ** n, cwd=cwd, session='s-%d' % n))
        return self

    def labels_of(self, spent_usd):
        micro = int(spent_usd.replace('.', ''))
        return {label for n, label in enumerate(self.labels) if micro >> n & 1}

    def arms(self, **more):
        """{arm: its folders} of all arms that have spent; those that no entry lists by their path."""
        found = {}
        for one in self.home.verdict('--now', NOW, **more)['arms']:
            is_listed = '- arm: %s\n' % one['arm'] in self.home.budgets_text
            name = one['arm'] if is_listed else one['path'].replace(self.home.path, '~')
            found[name] = self.labels_of(one['spent_usd'])
        return {arm: labels for arm, labels in found.items() if labels}


class ArmsTest(unittest.TestCase):

    def test_names_that_begin_alike(self):
        names = 'acme', 'acme-web', 'acme.web', 'acme web', 'acmeweb', 'ACME', 'acme-', 'acm'
        with Home(budgets(*(entry(name, '~/clients/' + name) for name in names))) as home:
            work = Work(home).call(*('clients/' + name for name in names), *('clients/%s/src' % name for name in names))
            self.assertEqual(work.arms(), {name: {'clients/' + name, 'clients/%s/src' % name} for name in names})

    def test_one_listed_leaves_the_others_alone(self):
        with Home(budgets(entry('acme', '~/clients/acme'))) as home:
            work = Work(home).call('clients/acme', 'clients/acme-web', 'clients/acme.web', 'clients', 'clients/acme/a/b',
                                   'other/clients/acme', '/clients/acme')
            self.assertEqual(work.arms(), {'acme': {'clients/acme', 'clients/acme/a/b'}})

    def test_logs_in_one_folder_of_two_arms_whose_names_are_munged_alike(self):
        with Home(budgets(entry('dot', '~/acme.web'), entry('dash', '~/acme-web'))) as home:
            folder = '.claude/projects/-home-op-acme-web/'
            home.write(folder + 's-1.jsonl', [spent_line('a', 1, cwd=home.at('acme.web'))])
            home.write(folder + 's-2.jsonl', [spent_line('b', 2, cwd=home.at('acme-web'))])
            work = Work(home)
            work.labels = ['a', 'b']
            self.assertEqual(work.arms(), {'dot': {'a'}, 'dash': {'b'}})

    def test_the_recorded_session_of_two_arms(self):
        with Home(budgets(entry('acme', '/home/op/clients/acme'), entry('web', '/home/op/clients/acme-web'))) as home:
            found = {one['arm']: one['spent_usd'] for one in home.verdict(
                '--now', NOW, CLAUDE_CONFIG_DIR=fixture('two-arms', 'claude'))['arms']}
            # opus-5-5 at 4/20/5/8/0.2 and haiku-4-5 at 1/5/1.25/2/0.1 USD a million; outputs 701, 702, ...
            opus = 3 * (44 + 2500 + 12000 + 6000) + 20 * (701 + 702 + 703)
            haiku = 2 * (11 + 625 + 3000 + 3000) + 5 * (704 + 705)
            self.assertEqual(found, {'acme': '0.%06d' % opus, 'web': '0.%06d' % haiku})

    def test_same_folder_names_in_different_places(self):
        with Home(budgets(entry('a', '~/a/site'), entry('b', '~/b/site'))) as home:
            self.assertEqual(Work(home).call('a/site', 'b/site', 'c/site', 'a/site/x', 'site').arms(),
                             {'a': {'a/site', 'a/site/x'}, 'b': {'b/site'}})

    def test_the_longest_path_wins(self):
        with Home(budgets(entry('all', '~'), entry('clients', '~/clients'), entry('acme', '~/clients/acme'),
                          entry('api', '~/clients/acme/api'))) as home:
            self.assertEqual(Work(home).call('x', 'clients/y', 'clients/acme', 'clients/acme/api/z', 'clients/acme/web',
                                             '/nowhere').arms(),
                             {'all': {'x'}, 'clients': {'clients/y'}, 'acme': {'clients/acme', 'clients/acme/web'},
                              'api': {'clients/acme/api/z'}})

    def test_several_paths_and_patterns(self):
        with Home(budgets(entry('acme', '~/acme', '~/code/acme-*', '~/any/**/deep', '/srv/[ab]cme', '~/v?'),
                          entry('one', '~/code/acme-one'))) as home:
            mine = ['acme/x', 'code/acme-web', 'code/acme-web/src', 'any/deep', 'any/a/b/deep/c', '/srv/acme', '/srv/bcme/x',
                    'v1']
            others = ['code/acme', 'code/x/acme-web', 'any/deeper', '/srv/ccme', 'v12', 'v']
            work = Work(home).call(*mine + others + ['code/acme-one', 'code/acme-one/x'])
            self.assertEqual(work.arms(), {'acme': set(mine), 'one': {'code/acme-one', 'code/acme-one/x'}})

    def test_patterns_stay_within_a_folders_name(self):
        with Home(budgets(entry('acme', '~/w/*/site'))) as home:
            self.assertEqual(Work(home).call('w/a/site', 'w/a/b/site', 'w/site').arms(), {'acme': {'w/a/site'}})

    def test_a_folder_that_has_gone_or_never_was(self):
        with Home(budgets(entry('acme', '~/clients/acme'))) as home:
            home.folder('clients/acme/now')
            work = Work(home).call('clients/acme/now', 'clients/acme/was')
            self.assertEqual(work.arms()['acme'], {'clients/acme/now', 'clients/acme/was'})
            shutil.rmtree(home.at('clients'))
            work.call('clients/acme/now/later')
            self.assertEqual(work.arms()['acme'], {'clients/acme/now', 'clients/acme/was', 'clients/acme/now/later'})

    def test_cd_within_a_session(self):
        with Home(budgets(entry('acme', '~/acme'), entry('beta', '~/beta'))) as home:
            home.log('s-1', *(spent_line('m%d' % n, 2 ** n, cwd=home.at(cwd)) for n, cwd in
                              enumerate(('acme', 'acme/src', 'beta', 'acme'))))
            work = Work(home)
            work.labels = [0, 1, 2, 3]
            self.assertEqual(work.arms(), {'acme': {0, 1, 3}, 'beta': {2}})

    def test_the_recorded_session_with_a_cd(self):
        with Home(budgets(entry('src', '/home/op/clients/acme/src'), entry('acme', '/home/op/clients/acme'))) as home:
            found = {one['arm']: one['spent_usd'] for one in home.verdict(
                '--now', NOW, CLAUDE_CONFIG_DIR=fixture('cd-mid-session', 'claude'))['arms']}
            call = 22 + 1250 + 6000 + 3000                         # sonnet-5-5 at 2/10/2.5/4/0.1, without the output
            self.assertEqual(found, {'acme': '0.%06d' % (call + 7010), 'src': '0.%06d' % (2 * call + 7020 + 7030)})

    def test_a_session_is_bound_to_its_arm(self):
        """Wherever its shell goes; but what it does in another listed arm is that one's."""
        with Home(budgets(entry('acme', '~/acme'), entry('beta', '~/beta'), default=True)) as home:
            home.repo('loose')
            for session, folders in ('s-1', ('acme', '/tmp', 'loose', 'beta', 'acme/x')), ('s-2', ('loose/src', '/tmp', 'acme')):
                n = 5 * (session == 's-2')
                home.log(session, *(spent_line('m%d' % (n + at), 2 ** (n + at), cwd=home.at(cwd), session=session,
                                               time='2026-11-20T10:00:0%d.000Z' % at) for at, cwd in enumerate(folders)))
            work = Work(home)
            work.labels = list(range(8))
            self.assertEqual(work.arms(), {'acme': {0, 1, 2, 4, 7}, 'beta': {3}, '~/loose': {5, 6}})

    def test_a_record_without_a_folder_is_no_arms(self):
        with Home(budgets(entry('all', '/'), default=True)) as home:
            home.log('s-1', spent_line('a', 1, cwd=None))
            self.assertEqual(Work(home).arms(), {})

    def test_windows_paths_in_records(self):
        with Home(budgets(entry('acme', r'C:\Users\op\clients\acme'), entry('web', 'c:/Users/op/clients/acme-web'),
                          entry('share', r'\\server\share\beta'))) as home:
            mine = ['C:\\Users\\op\\clients\\acme', 'c:\\users\\OP\\clients\\Acme\\src', 'C:/Users/op/clients/acme/x']
            work = Work(home).call(*mine, 'C:\\Users\\op\\clients\\acme-web', 'C:\\Users\\op\\clients\\acmeX',
                                   'D:\\Users\\op\\clients\\acme', '\\\\server\\share\\beta\\x')
            self.assertEqual(work.arms(), {'acme': set(mine), 'web': {'C:\\Users\\op\\clients\\acme-web'},
                                           'share': {'\\\\server\\share\\beta\\x'}})

    def test_names_beyond_ascii_and_with_odd_characters(self):
        names = ['zürich', '客户', 'a b', "o'brien", 'x#y', '100%', 'a,b', '{x}', '-']
        with Home(budgets(*(entry('arm-%d' % n, '~/c/' + name.replace("'", "''")) for n, name in enumerate(names)))) as home:
            work = Work(home).call(*('c/' + name for name in names))
            self.assertEqual(work.arms(), {'arm-%d' % n: {'c/' + name} for n, name in enumerate(names)})


@unittest.skipUnless(hasattr(os, 'symlink') and os.name == 'posix', 'no links here')
class LinkTest(unittest.TestCase):

    def test_a_link_to_an_arm_is_in_it(self):
        with Home(budgets(entry('acme', '~/clients/acme'))) as home:
            home.folder('clients/acme/src')
            os.symlink(home.at('clients/acme'), home.at('short'))
            os.symlink('clients', home.at('relative'))
            mine = ['clients/acme', 'short', 'short/src', 'relative/acme/src']
            self.assertEqual(Work(home).call(*mine, 'relative').arms(), {'acme': set(mine)})

    def test_an_arm_whose_path_is_a_link(self):
        with Home(budgets(entry('acme', '~/short'))) as home:
            home.folder('clients/acme')
            os.symlink(home.at('clients/acme'), home.at('short'))
            mine = ['clients/acme', 'short', 'short/gone']
            self.assertEqual(Work(home).call(*mine, 'clients').arms(), {'acme': set(mine)})

    def test_a_link_that_leads_out_of_an_arm(self):
        with Home(budgets(entry('acme', '~/acme'), entry('beta', '~/beta'))) as home:
            home.folder('acme')
            home.folder('beta')
            os.symlink(home.at('beta'), home.at('acme/vendor'))
            self.assertEqual(Work(home).call('acme', 'acme/vendor', 'beta').arms(),
                             {'acme': {'acme'}, 'beta': {'acme/vendor', 'beta'}})

    def test_a_link_that_is_turned_later_takes_nothing_away(self):
        with Home(budgets(entry('acme', '~/current'))) as home:
            home.folder('v1')
            home.folder('v2')
            os.symlink(home.at('v1'), home.at('current'))
            work = Work(home).call('current')
            self.assertEqual(work.arms(), {'acme': {'current'}})
            os.unlink(home.at('current'))
            os.symlink(home.at('v2'), home.at('current'))
            work.call('v2')
            self.assertEqual(work.arms(), {'acme': {'current', 'v2'}})

    def test_a_home_that_is_a_link(self):
        with Home(home='real', budgets=budgets(entry('acme', '~/clients/acme'), entry('g', '~/g/*'), default=True)) as home:
            link = os.path.join(home.root, 'link')
            os.symlink(home.path, link)
            home.repo('clients/acme')
            home.repo('other')
            work = Work(home).call('clients/acme', link + '/clients/acme/src', link + '/g/x', 'g/y', link + '/other/a', 'other/b')
            arms = work.arms(HOME=link)
            self.assertEqual(arms, {'acme': {'clients/acme', link + '/clients/acme/src'}, 'g': {link + '/g/x', 'g/y'},
                                    '~/other': {link + '/other/a', 'other/b'}})


class WorktreeTest(unittest.TestCase):

    def home(self, *entries, default=False):
        home = Home(budgets(*entries or [entry('beta', '~/clients/beta'), entry('acme', '~/clients/acme')], default=default))
        home.__enter__()
        self.addCleanup(home.__exit__)
        home.repo('clients/beta')
        home.repo('clients/acme')
        return home

    def test_a_worktree_elsewhere_belongs_to_its_main_repo(self):
        home = self.home()
        home.worktree('trees/beta-fix', 'clients/beta', 'beta-fix')
        self.assertEqual(Work(home).call('trees/beta-fix', 'trees/beta-fix/src/deep', 'trees/other').arms(),
                         {'beta': {'trees/beta-fix', 'trees/beta-fix/src/deep'}})

    def test_the_recorded_session_in_a_worktree(self):
        home = self.home()
        home.worktree('trees/beta-fix', 'clients/beta', 'beta-fix')
        logs = fixture('worktree', 'claude', 'projects')
        for folder, _, names in os.walk(logs):
            for name in names:
                with open(os.path.join(folder, name), encoding='utf-8') as stream:
                    home.write('.claude/projects/p/' + name, stream.read().replace('/home/op', home.path))
        arm, = [one for one in home.verdict('--now', NOW)['arms'] if one['arm'] == 'beta']
        self.assertEqual(arm['spent_usd'], '0.%06d' % (2 * (22 + 1250 + 6000 + 3000) + 7010 + 7020))

    def test_paths_of_git_files_that_are_relative(self):
        home = self.home()
        home.worktree('trees/fix', 'clients/beta', 'fix')
        home.write('trees/fix/.git', 'gitdir: ../../clients/beta/.git/worktrees/fix\n')
        self.assertEqual(Work(home).call('trees/fix/x').arms(), {'beta': {'trees/fix/x'}})

    def test_a_worktree_that_is_deleted_later_keeps_its_arm(self):
        home = self.home()
        home.worktree('trees/fix', 'clients/beta', 'fix')
        work = Work(home).call('trees/fix', 'trees/fix/src')
        self.assertEqual(work.arms(), {'beta': {'trees/fix', 'trees/fix/src'}})
        shutil.rmtree(home.at('trees/fix'))
        shutil.rmtree(home.at('clients/beta/.git/worktrees'))
        home.append('.claude/projects/p/s-0.jsonl', [spent_line('late', 1024, cwd=home.at('trees/fix'))])
        for _ in range(2):
            spent, = [one['spent_usd'] for one in home.verdict('--now', NOW)['arms'] if one['arm'] == 'beta']
            self.assertEqual(spent, '0.%06d' % (1 + 2 + 1024))
            self.assertEqual(home.main('--rebuild').code, 0)

    def test_a_late_subfolder_of_a_deleted_worktree(self):
        home = self.home()
        home.worktree('trees/fix', 'clients/beta', 'fix')
        work = Work(home).call('trees/fix')
        self.assertEqual(work.arms(), {'beta': {'trees/fix'}})
        shutil.rmtree(home.at('trees/fix'))
        work.call('trees/fix/unseen')
        self.assertEqual(work.arms(), {'beta': {'trees/fix', 'trees/fix/unseen'}})

    def test_a_worktree_inside_of_another_arm(self):
        home = self.home()
        home.worktree('clients/acme/trees/fix', 'clients/beta', 'fix')
        self.assertEqual(Work(home).call('clients/acme/trees/fix').arms(), {'acme': {'clients/acme/trees/fix'}})

    def test_a_worktree_below_a_wide_arm_belongs_to_its_repos_narrower_one(self):
        home = self.home(entry('home', '~'), entry('beta', '~/clients/beta'))
        home.worktree('trees/fix', 'clients/beta', 'fix')
        self.assertEqual(Work(home).call('trees/fix', 'trees').arms(), {'beta': {'trees/fix'}, 'home': {'trees'}})

    def test_a_worktree_of_an_unlisted_repo(self):
        home = self.home(entry('acme', '~/clients/acme'), default=True)
        home.repo('code/site')
        home.worktree('trees/fix', 'code/site', 'fix')
        self.assertEqual(Work(home).call('code/site/src', 'trees/fix').arms(),
                         {'~/code/site': {'code/site/src', 'trees/fix'}})

    def test_a_git_file_of_anothers_worktree(self):
        home = self.home(entry('beta', '~/clients/beta'), default=True)
        home.worktree('trees/fix', 'clients/beta', 'fix')
        home.write('forged/.git', 'gitdir: %s/.git/worktrees/fix\n' % home.at('clients/beta'))
        self.assertEqual(Work(home).call('trees/fix', 'forged').arms(), {'beta': {'trees/fix'}, '~/forged': {'forged'}})

    def test_a_git_file_moves_no_spend_out_of_a_listed_arm(self):
        for text in ('gitdir: {0}/clients/beta/.git/worktrees/fix', 'gitdir: {0}/elsewhere/.git/worktrees/x',
                     'gitdir: {0}/clients/beta/.git', 'gitdir: ', 'gitdir: /', 'nonsense', '', '\0', 'gitdir: \0'):
            with self.subTest(text):
                home = self.home()
                home.worktree('trees/fix', 'clients/beta', 'fix')
                work = Work(home).call('clients/acme/sub/before')
                home.write('clients/acme/sub/.git', text.format(home.path))
                work.call('clients/acme/sub', 'clients/acme/sub/after')
                self.assertEqual(work.arms(), {'acme': set(work.labels)})
                shutil.rmtree(home.at('clients/acme/.git'))
                home.write('clients/acme/.git', text.format(home.path))
                work.call('clients/acme', 'clients/acme/unseen')
                self.assertEqual(work.arms(), {'acme': set(work.labels)})

    def test_a_submodule_belongs_to_the_repo_around_it(self):
        home = self.home(entry('acme', '~/clients/acme'), default=True)
        home.repo('code/site')
        home.write('code/site/lib/.git', 'gitdir: ../.git/modules/lib\n')
        self.assertEqual(Work(home).call('code/site/lib/src').arms(), {'~/code/site': {'code/site/lib/src'}})

    def test_a_submodule_of_nothing_is_a_repo_by_itself(self):
        """Else a file that an agent writes would make the folder above, which is no repo, its arm."""
        home = self.home(entry('acme', '~/clients/acme'), default=True)
        home.write('code/lib/.git', 'gitdir: ../.git/modules/lib\n')
        self.assertEqual(Work(home).call('code/lib/src').arms(), {'~/code/lib': {'code/lib/src'}})


class DefaultTest(unittest.TestCase):
    """Every repo that no entry lists, each by itself."""

    def home(self):
        home = Home(budgets(entry('acme', '~/clients/acme'), default=True))
        home.__enter__()
        self.addCleanup(home.__exit__)
        return home

    def test_each_repo_is_an_arm(self):
        home = self.home()
        home.repo('a')
        home.repo('b')
        self.assertEqual(Work(home).call('a/x', 'a/y/z', 'b', 'no/repo', 'no/repo/x', 'clients/acme').arms(),
                         {'~/a': {'a/x', 'a/y/z'}, '~/b': {'b'}, '~/no/repo': {'no/repo'}, '~/no/repo/x': {'no/repo/x'},
                          'acme': {'clients/acme'}})

    def test_git_init_in_a_subfolder_is_no_way_out(self):
        home = self.home()
        home.repo('a')
        work = Work(home).call('a', 'a/sub')
        self.assertEqual(work.arms(), {'~/a': {'a', 'a/sub'}})
        home.repo('a/sub')
        home.repo('a/new')
        home.folder('a/empty/.git')
        home.write('a/file/.git', 'gitdir: %s/elsewhere/.git/worktrees/x\n' % home.path)
        work.call('a/sub/x', 'a/new/x', 'a/empty', 'a/file')
        self.assertEqual(work.arms(), {'~/a': set(work.labels)})

    def test_taking_git_away_is_no_way_out_for_what_was_metered(self):
        home = self.home()
        home.repo('a')
        work = Work(home).call('a', 'a/sub')
        self.assertEqual(work.arms(), {'~/a': {'a', 'a/sub'}})
        shutil.rmtree(home.at('a/.git'))
        work.call('a')                                             # without a repo the folder itself is the arm
        self.assertEqual(work.arms(), {'~/a': {'a', 'a/sub'}})
        home.write('a/.git', 'gitdir: %s/elsewhere/.git/worktrees/x\n' % home.path)
        work.call('a/third')
        self.assertEqual(work.arms(), {'~/a': set(work.labels)})

    def test_a_home_that_is_a_repo_is_not_everyones(self):
        home = self.home()
        home.repo('.')
        home.repo('a')
        self.assertEqual(Work(home).call('a/x', 'loose').arms(), {'~/a': {'a/x'}, '~/loose': {'loose'}})

    def test_a_repo_around_the_home_is_not_everyones(self):
        home = self.home()
        home.write(os.path.join(home.root, '.git/HEAD'), 'ref: refs/heads/main\n')
        home.repo('a')
        self.assertEqual(Work(home).call('a/x', 'loose').arms(), {'~/a': {'a/x'}, '~/loose': {'loose'}})

    def test_without_a_default_they_are_no_arms(self):
        with Home(budgets(entry('acme', '~/clients/acme'))) as home:
            home.repo('a')
            self.assertEqual(Work(home).call('a', 'b').arms(), {})


class NamedArmTest(unittest.TestCase):
    """An entry without a path is the repo whose folder has its name."""

    def test_the_repo_of_that_name(self):
        with Home(budgets(entry('acme'), entry('other', '~/x'))) as home:
            home.repo('deep/down/acme')
            home.repo('deep/down/acme-web')
            home.worktree('trees/fix', 'deep/down/acme', 'fix')
            self.assertEqual(Work(home).call('deep/down/acme', 'deep/down/acme/src', 'deep/down/acme-web', 'trees/fix',
                                             'deep/down').arms(),
                             {'acme': {'deep/down/acme', 'deep/down/acme/src', 'trees/fix'}})

    def test_two_repos_of_that_name_are_an_error(self):
        with Home(budgets(entry('site'), entry('other', '~/x'))) as home:
            home.repo('a/site')
            home.repo('b/site')
            work = Work(home).call('a/site')
            self.assertEqual(work.arms(), {'site': {'a/site'}})
            work.call('b/site')
            result = home.main('--now', NOW)
            self.assertEqual((result.code, result.out), (1, ''))
            for part in ('site', 'path', home.at('a/site'), home.at('b/site'), 'budgets.yaml:3:'):
                self.assertIn(part, result.err)

    def test_a_folder_of_that_name_elsewhere_is_no_second_repo(self):
        with Home(budgets(entry('site'))) as home:
            home.repo('a/site')
            home.folder('b/site')
            self.assertEqual(Work(home).call('a/site', 'b/site').arms()['site'] & {'a/site'}, {'a/site'})

    def test_a_path_ends_the_doubt(self):
        with Home(budgets(entry('site', '~/b/site'))) as home:
            home.repo('a/site')
            home.repo('b/site')
            self.assertEqual(Work(home).call('a/site', 'b/site').arms(), {'site': {'b/site'}})


class NamingTest(unittest.TestCase):
    """What `budget-check.py ARM` takes for an arm."""

    def test_a_path_or_a_name(self):
        with Home(budgets(entry('acme', '~/clients/acme'), entry('beta', '~/clients/beta'), default=True)) as home:
            home.folder('clients/acme/src')
            home.repo('loose/repo')
            home.folder('loose/repo/src')
            Work(home).call('clients/acme', 'loose/repo')
            for text, arm in (('acme', 'acme'), ('~/clients/acme', 'acme'), (home.at('clients/acme'), 'acme'),
                              (home.at('clients/acme/'), 'acme'), (home.at('clients/acme/src/../src'), 'acme'),
                              (home.at('clients/beta'), 'beta'), ('beta', 'beta'),
                              (home.at('loose/repo/src'), 'repo'), ('repo', 'repo')):
                with self.subTest(text):
                    self.assertEqual([one['arm'] for one in home.verdict(text, '--now', NOW)['arms']], [arm])

    def test_a_path_from_the_working_folder(self):
        with Home(budgets(entry('acme', '~/clients/acme'))) as home:
            home.folder('clients/acme/src')
            before = os.getcwd()
            try:
                os.chdir(home.at('clients/acme/src'))
                for text in '.', '..', '../src':
                    with self.subTest(text):
                        self.assertEqual([one['arm'] for one in home.verdict(text, '--now', NOW)['arms']], ['acme'])
            finally:
                os.chdir(before)

    def test_an_arms_answer_names_no_other_arm(self):
        with Home(budgets(entry('acme', '~/clients/acme', cap='total_usd_cap: 0.000001'),
                          entry('rivalcorp', '~/clients/rivalcorp', cap='total_usd_cap: 0.000002'))) as home:
            Work(home).call('clients/acme', 'clients/acme', 'clients/rivalcorp')
            for args in ('acme',), ('--json', 'acme'):
                result = home.main(*args, '--now', NOW)
                self.assertEqual(result.code, 2)
                self.assertIn('acme', result.out)
                self.assertNotIn('rivalcorp', result.out + result.err)


# ---- which arm a folder, a session is, without logs ----

def place(cwd, path=None, root=None, is_repo=True, inner=''):
    """A place that is not on this machine: its real path is the one that is given."""
    return script.Place(cwd, path or cwd, root or path or cwd, is_repo, inner)


def listed(arm, *paths, more='    monthly_usd_cap: 5\n'):
    """The text of an entry."""
    return '  - arm: %s\n%s%s' % (arm, '    paths: [%s]\n' % ', '.join('"%s"' % p for p in paths) if paths else '', more)


def budgets_of(*lines, home='/home/op'):
    return script.Budgets('\n'.join(lines) + '\n', 'budgets.yaml', home)


class Pairs:
    """Of a ledger, what arms are told by: pairs of a folder and one in which sessions began."""

    def __init__(self, *pairs):
        self.db, self.kept, self.writes = sqlite3.connect(':memory:'), {}, 0
        self.db.executescript('''
            create table places (id integer primary key, cwd, path, root, is_repo, inner, seen);
            create table pairs (id integer primary key, place, origin, arm);''')
        for pair in pairs:
            self.add(*pair)

    def add(self, here, origin=None):
        ids = []
        for one in here, origin or here:
            self.db.execute('insert into places (cwd, path, root, is_repo, inner) values (?, ?, ?, ?, ?)', one)
            ids += self.rows('select max(id) from places')[0]
        self.db.execute('insert into pairs (place, origin) values (?, ?)', ids)

    def rows(self, sql, *values):
        return self.db.execute(sql, values).fetchall()

    def meta(self, key):
        return self.kept.get(key)

    def set_meta(self, key, value):
        self.kept[key] = value

    def write(self, function):
        self.writes += 1
        return function()

    def places(self):
        return {number: script.Place(*rest) for number, *rest in self.rows('select id, cwd, path, root, is_repo, inner from places')}

    def arms(self):
        return [arm for arm, in self.rows('select arm from pairs order by id')]


class MatchingTest(unittest.TestCase):
    """Places that are not on this machine: their real path is the one that is given."""

    def arm_of(self, budgets, cwd, root=None, is_repo=True, path=None):
        """The listed arm of a place, None if it is in none."""
        key = script.arm_of(budgets, place(cwd, path, root, is_repo))
        return key if key in budgets.by_name else None

    def test_folder_boundaries_and_the_longest_path(self):
        budgets = budgets_of('budgets:', listed('acme', '/clients/acme'), listed('acme-web', '/clients/acme-web'),
                             listed('inner', '/clients/acme/inner/'), listed('dotted', '/clients/acme.web'),
                             listed('homed', '~/acme'), listed('two', '/x/one', '/x/two'))
        for cwd, expected in [
                ('/clients/acme', 'acme'), ('/clients/acme/src', 'acme'), ('/clients/acme-web', 'acme-web'),
                ('/clients/acme-webs', None), ('/clients/acme.web/a', 'dotted'), ('/clients/acm', None),
                ('/clients/acme/inner', 'inner'), ('/clients/acme/inner/a/b', 'inner'), ('/clients/acme/innermost', 'acme'),
                ('/other/acme', None), ('/home/op/acme/x', 'homed'), ('/x/one/a', 'two'), ('/x/two', 'two'), ('/x', None),
                ('/', None), ('(unattributed)', None), ('', None)]:
            with self.subTest(cwd):
                self.assertEqual(self.arm_of(budgets, cwd), expected)

    def test_patterns(self):
        for pattern, holds, not_holds in [
                ('/c/acme-*', ['/c/acme-', '/c/acme-web/src'], ['/c/acme', '/c/x/acme-web']),
                ('/c/*', ['/c/a', '/c/.hidden/b'], ['/c', '/d/a']),
                ('/c/a?', ['/c/ab/c'], ['/c/a', '/c/abc']),
                ('/c/[ab]x', ['/c/ax', '/c/bx/y'], ['/c/cx', '/c/[ab]x']),
                ('/c/[!ab]x', ['/c/cx'], ['/c/ax']),
                ('/c/[a-c]', ['/c/b'], ['/c/d']),
                ('/c/[]x]', ['/c/]', '/c/x'], ['/c/[']),
                ('/c/[[]x', ['/c/[x'], ['/c/x']),
                ('/c/[^a]', ['/c/^', '/c/a'], ['/c/b']),
                ('/c/*/src', ['/c/a/src/b'], ['/c/src', '/c/a/b/src']),
                ('/c/**/src', ['/c/src', '/c/a/b/src/d'], ['/c/a', '/c/a/srcs']),
                ('/c/**', ['/c', '/c/a/b'], ['/cc', '/']),
                ('/c/a+b.*', ['/c/a+b.x'], ['/c/aab.x', '/c/a+bx'])]:
            budgets = budgets_of('budgets:', listed('it', pattern))
            for path in holds + not_holds:
                with self.subTest(pattern, path=path):
                    self.assertEqual(self.arm_of(budgets, path), 'it' if path in holds else None)

    def test_the_narrowest_wins(self):
        """Of two patterns that hold a folder, in either order of the file."""
        for wins, loses, path in [
                ('/c/acme', '/c/*', '/c/acme/src'), ('/c/*/src', '/c/acme', '/c/acme/src'),
                ('/c/acme', '/c/**', '/c/acme/a/b/c'), ('/c/a*', '/c/*', '/c/acme'), ('/c/**/src', '/c/**', '/c/a/src'),
                ('/c/acme/*', '/*/acme/src', '/c/acme/src'), ('/c', '/', '/c/x')]:
            for order in (wins, loses), (loses, wins):
                budgets = budgets_of('budgets:', *[listed('wins' if p == wins else 'loses', p) for p in order])
                with self.subTest(wins=wins, loses=loses):
                    self.assertEqual(self.arm_of(budgets, path), 'wins')

    def test_recorded_folder_then_main_repo(self):
        budgets = budgets_of('budgets:', listed('acme', '/clients/acme'), listed('beta', '/clients/beta'))
        for cwd, path, root, expected in [
                ('/clients/acme', '/mnt/elsewhere', '/mnt/elsewhere', 'acme'),         # a link that has been turned
                ('/tmp/tree', '/tmp/tree', '/clients/acme', 'acme'),                   # a worktree outside of the arm
                ('/clients/beta/tree', '/clients/beta/tree', '/clients/acme', 'beta'),
                ('/clients/acme', '/clients/beta', '/clients/beta', 'beta')]:          # where it really lies
            with self.subTest(cwd=cwd, path=path):
                self.assertEqual(self.arm_of(budgets, cwd, root, True, path), expected)

    def test_an_arm_around_a_worktree_and_its_repo_gives_way(self):
        budgets = budgets_of('budgets:', listed('all', '~'), listed('acme', '~/clients/acme'))
        for path, root, expected in [('/home/op/.trees/a1', '/home/op/clients/acme', 'acme'),
                                     ('/home/op/.trees/b1', '/home/op/clients/beta', 'all'),
                                     ('/home/op/clients/acme/x', '/home/op/clients/acme', 'acme')]:
            with self.subTest(path):
                self.assertEqual(self.arm_of(budgets, path, root), expected)

    def test_entries_without_a_path(self):
        budgets = budgets_of('budgets:', listed('acme'), listed('all', '/home/op'), listed('deep', '/home/op/acme/deep'))
        for path, root, expected in [('/w/acme/src', '/w/acme', 'acme'), ('/w/acme-web', '/w/acme-web', None),
                                     ('/home/op/acme/src', '/home/op/acme', 'acme'), ('/home/op/x', '/home/op/x', 'all'),
                                     ('/home/op/acme/deep/a', '/home/op/acme', 'deep'), ('/tmp/tree', '/w/acme', 'acme'),
                                     ('/w/x/acme', '/w/x', None), ('C:\\w\\Acme\\src', 'C:\\w\\Acme', 'acme')]:
            with self.subTest(path):
                self.assertEqual(self.arm_of(budgets, path, root), expected)

    def test_windows_paths(self):
        budgets = budgets_of('budgets:', listed('acme', 'c:/users/me/Acme'), "  - arm: back\n    path: D:\\code\\b",
                             '    monthly_usd_cap: 5', listed('wild', 'c:/users/*/wild'))
        for cwd, expected in [('C:\\Users\\me\\acme', 'acme'), ('c:\\users\\ME\\acme\\src', 'acme'),
                              ('C:\\Users\\me\\acme-web', None), ('C:/Users/me/ACME/', 'acme'), ('d:/code/b/c', 'back'),
                              ('C:\\Users\\You\\Wild\\x', 'wild'), ('/users/me/acme', None),
                              ('\\\\?\\C:\\Users\\me\\acme', 'acme')]:
            with self.subTest(cwd):
                self.assertEqual(self.arm_of(budgets, cwd), expected)

    def test_two_thousand_places_are_soon_told(self):
        budgets = budgets_of('budgets:', *[listed('a%d' % i, '/clients/a%d' % i) for i in range(50)], listed('w', '/w/*/x'))
        began = time.perf_counter()
        for i in range(2000):
            self.arm_of(budgets, '/clients/a%d/src/deep/er' % (i % 70))
        self.assertLess(time.perf_counter() - began, 2)


class RealPathTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = os.path.realpath(temporary.name)
        os.makedirs(self.folder + '/disk/op/clients/acme/src')
        os.makedirs(self.folder + '/disk/op/clients/acme-web')
        os.symlink('disk/op', self.folder + '/home')
        os.symlink('clients/acme', self.folder + '/home/current')

    def test_a_linked_home_and_linked_folders(self):
        for path, cwd in [('~/clients/acme', '/home/clients/acme/src'), ('~/clients/acme', '/home/current/src'),
                          ('~/current', '/disk/op/clients/acme'), ('~/clients/../current', '/home/clients/acme'),
                          ('~/clients/ac*[!b]', '/home/current'), ('~/./clients//acme', '/disk/op/clients/acme/src')]:
            budgets = budgets_of('budgets:', listed('acme', path), home=self.folder + '/home')
            cwd = self.folder + cwd
            with self.subTest(path, cwd=cwd):
                self.assertEqual(script.arm_of(budgets, place(cwd, os.path.realpath(cwd), is_repo=False)), 'acme')

    def test_a_link_before_a_wildcard_counts_after_it_was_turned(self):
        budgets = budgets_of('budgets:', listed('acme', '~/clients/ac*'), home=self.folder + '/home')
        here = self.folder + '/home/clients/acme'
        for path in os.path.realpath(here), '/mnt/elsewhere/clients/acme':
            with self.subTest(path):
                self.assertEqual(script.arm_of(budgets, place(here, path, is_repo=False)), 'acme')

    def test_two_names_of_one_folder_are_one_path(self):
        with self.assertRaisesRegex(script.UserError, ':7:5: the path %s/home/current' % self.folder + ' stands here twice, first on line 3'):
            budgets_of('budgets:', listed('a', '~/clients/acme'), listed('b', '~/current'), home=self.folder + '/home')


class BindingTest(unittest.TestCase):
    """The four steps by which a call is an arm's."""

    def test_the_steps(self):
        budgets = budgets_of('budgets:', listed('acme', '/c/acme'), listed('beta', '/c/beta'), 'default:', '  daily_usd_cap: 1')
        acme, beta = place('/c/acme/src', root='/c/acme'), place('/c/beta')
        repo, other = place('/o/repo/x', root='/o/repo'), place('/o/other', root='/o/other')
        loose, nowhere = place('/tmp/x', is_repo=False), script.Place('', '', '', False, '')
        for here, origin, key in [
                (acme, acme, 'acme'), (acme, None, 'acme'),
                (loose, acme, 'acme'), (repo, acme, 'acme'), (nowhere, acme, 'acme'),    # a session is bound to its arm
                (beta, acme, 'beta'), (acme, loose, 'acme'),                             # a listed arm's folder is that arm's
                (repo, repo, '/o/repo'), (loose, repo, '/o/repo'), (other, repo, '/o/other'), (repo, loose, '/o/repo'),
                (loose, loose, '/tmp/x'), (loose, None, '/tmp/x'), (nowhere, repo, '/o/repo'),
                (nowhere, loose, '/tmp/x'), (nowhere, nowhere, ''), (nowhere, None, '')]:
            with self.subTest(here=here.cwd, origin=origin and origin.cwd):
                self.assertEqual(script.arm_of(budgets, here, origin), key)
        self.assertEqual(script.arm_of(None, repo, acme), '/o/repo')

    def test_entries_of_keys(self):
        budgets = budgets_of('budgets:', listed('acme', '/c/acme'), 'default:', '  daily_usd_cap: 1')
        for key, entry in [('acme', budgets.entries[0]), ('/o/repo', budgets.default), ('C:\\o', budgets.default), ('', None),
                           ('gone', None)]:
            with self.subTest(key):
                self.assertIs(script.entry_of(budgets, key), entry)
        self.assertIsNone(script.entry_of(budgets_of('budgets:', listed('acme')), '/o/repo'))
        self.assertIsNone(script.entry_of(None, 'acme'))

    def test_spellings_of_one_folder(self):
        composed, split = unicodedata.normalize('NFC', '/c/Zürich'), unicodedata.normalize('NFD', '/c/Zürich')
        self.assertNotEqual(composed, split)
        for written in composed, split:
            for recorded in composed, split:
                budgets = budgets_of('budgets:', listed('z', written), listed('glob', written[:-1] + '*/x'))
                self.assertEqual(script.arm_of(budgets, place(recorded + '/a')), 'z')
                self.assertEqual(script.arm_of(budgets, place(recorded + '/x')), 'glob')
                budgets = budgets_of('budgets:', listed(written[3:]))
                self.assertEqual(script.arm_of(budgets, place(recorded)), written[3:])
        with self.assertRaisesRegex(script.UserError, 'stands here twice'):
            budgets_of('budgets:', listed('a', composed), listed('b', split))


class AssigningTest(unittest.TestCase):

    def test_pairs_get_their_arms_once(self):
        budgets = budgets_of('budgets:', listed('acme', '/c/ac*'), 'default:', '  daily_usd_cap: 1')
        acme, other = place('/c/acme'), place('/o/other', is_repo=False)
        ledger = Pairs([acme], [other], [other, acme])
        script.assign_arms(ledger, budgets)
        self.assertEqual(ledger.arms(), ['acme', '/o/other', 'acme'])
        self.assertEqual((script.pairs_of(ledger, 'acme'), script.pairs_of(ledger, 'beta')), ([1, 3], []))
        self.assertEqual(script.armed_keys(ledger, budgets), ['acme', '/o/other'])
        self.assertEqual(ledger.writes, 1)
        script.assign_arms(ledger, budgets)
        self.assertEqual(ledger.writes, 1)
        ledger.add(place('/c/ace'))
        script.assign_arms(ledger, budgets)
        self.assertEqual((ledger.arms()[3], ledger.writes), ('acme', 2))

    def test_another_file_changes_them(self):
        ledger = Pairs([place('/c/acme')], [place('/c/beta')])
        for lines, arms in [(('budgets:', listed('acme', '/c/acme')), ['acme', '/c/beta']),
                            (('budgets:', listed('new', '/c/acme')), ['new', '/c/beta']),
                            (('budgets:', listed('acme', '/c/beta')), ['/c/acme', 'acme']),
                            (('budgets:', listed('beta')), ['/c/acme', 'beta']), (None, ['/c/acme', '/c/beta'])]:
            script.assign_arms(ledger, lines and budgets_of(*lines))
            self.assertEqual(ledger.arms(), arms)

    def test_a_cap_changes_no_arm(self):
        digests = {budgets_of('budgets:', listed('acme', '/c/acme', more='    daily_usd_cap: %d\n' % cap)).digest() for cap in (1, 2)}
        self.assertEqual(len(digests), 1)

    def test_a_link_that_is_turned_changes_them(self):
        folder = os.path.realpath(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        os.mkdir(folder + '/v1')
        os.mkdir(folder + '/v2')
        digests = []
        for target in 'v1', 'v2':
            os.symlink(target, folder + '/new')
            os.replace(folder + '/new', folder + '/current')
            budgets = budgets_of('budgets:', listed('acme', folder + '/current'))
            digests.append(budgets.digest())
            self.assertEqual(script.arm_of(budgets, place(folder + '/' + target)), 'acme')
        self.assertNotEqual(*digests)

    def test_three_hundred_arms_are_soon_told(self):
        """Three hundred globs and nine hundred folders: once, and then next to nothing at each gate."""
        budgets = budgets_of('budgets:', *[listed('a%d' % i, '/clients/a%d-*' % i) for i in range(300)])
        ledger = Pairs(*[[place('/clients/a%d-web/src/deep/er' % i)] for i in range(900)])
        began = time.perf_counter()
        script.assign_arms(ledger, budgets)
        self.assertLess(time.perf_counter() - began, 5)
        self.assertEqual(ledger.arms()[:300], ['a%d' % i for i in range(300)])
        began = time.perf_counter()
        for _ in range(10):
            script.assign_arms(ledger, budgets)
            script.arm_of(budgets, place('/clients/a299-web/src'), place('/tmp'))
        self.assertLess(time.perf_counter() - began, 0.5)


class DoubtTest(unittest.TestCase):

    def test_a_name_that_fits_two_repos(self):
        budgets = budgets_of('budgets:', listed('acme'), listed('here', '/here'), listed('beta'))
        a, b, here, beta = (place(path) for path in ('/a/acme', '/b/acme', '/here/acme', '/a/beta'))
        gone, inner = place('/gone/acme', is_repo=False), place('/o/acme/x', root='/o', inner='/o/acme')
        message = 'budgets.yaml:2:3: arm acme has no path, and its name fits %s and %s: add the one that is ' \
                  'meant, as in "path: %s"'
        for places, key, doubt in [
                ([a, beta], None, None), ([a, b], None, ('/a/acme', '/b/acme')), ([a, b], 'acme', ('/a/acme', '/b/acme')),
                ([a, b], 'beta', None), ([a, gone], None, None), ([a, inner], None, ('/a/acme', '/o/acme')), ([a, a], None, None)]:
            with self.subTest(places=places, key=key):
                ledger = Pairs(*[[one] for one in places])
                script.assign_arms(ledger, budgets)
                try:
                    script.check_ambiguous(ledger, budgets, key)
                    self.assertIsNone(doubt)
                except script.UserError as error:
                    self.assertEqual(str(error), message % (*doubt, doubt[0]))
        ledger = Pairs([a], [here])
        budgets = budgets_of('budgets:', listed('acme'), listed('here', '/here/acme'))
        script.assign_arms(ledger, budgets)
        script.check_ambiguous(ledger, budgets)

    def test_where_a_bound_session_went_is_no_second_repo(self):
        budgets = budgets_of('budgets:', listed('acme'))
        ledger = Pairs([place('/a/acme')], [place('/o/other'), place('/a/acme')])
        script.assign_arms(ledger, budgets)
        self.assertEqual(ledger.arms(), ['acme', 'acme'])
        script.check_ambiguous(ledger, budgets)

    def test_caps_that_guard_nothing(self):
        folder = os.path.realpath(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        os.makedirs(folder + unicodedata.normalize('NFD', '/Zürich'))
        os.makedirs(folder + '/acme')
        budgets = budgets_of('budgets:', listed('there', folder + '/acme'), listed('typo', folder + '/acne', folder + '/Zürich'),
                             listed('glob', folder + '/ac*'), listed('globbed', folder + '/x*'), listed('seen'), listed('unseen'),
                             listed('elsewhere', r'C:/clients/x'))
        ledger = Pairs([place('/w/seen')])
        script.assign_arms(ledger, budgets)
        warnings = list(script.cap_warnings(ledger, budgets))
        self.assertEqual([warning.split(':')[0] for warning in warnings], ['arm typo', 'arm globbed', 'arm unseen'])
        self.assertIn('acne', warnings[0])
        self.assertNotIn('rich', warnings[0])
        for key, number in ('typo', 1), ('there', 0), ('/w/x', 0), ('/w/typo', 1), ('/w/there', 0):
            self.assertEqual(len(list(script.cap_warnings(ledger, budgets, key))), number)
        self.assertEqual(list(script.cap_warnings(ledger, None)), [])


class ShortNamesTest(unittest.TestCase):

    def test_the_shortest_tail_that_no_other_has(self):
        for keys, names in [
                (['/home/op/client_1', 'acme', ''], ['client_1', 'acme', '(unattributed)']),
                (['/h/x/site', '/h/y/site', '/h/z'], ['x/site', 'y/site', 'z']),
                (['/a/x/site', '/b/x/site'], ['a/x/site', 'b/x/site']),
                (['/w/acme', 'acme'], ['w/acme', 'acme']), (['/site', '/a/site'], ['/site', 'a/site']),
                (['C:\\w\\site', '/w/tool'], ['site', 'tool'])]:
            with self.subTest(keys):
                self.assertEqual(script.short_names(keys), dict(zip(keys, names)))

    def test_finding_an_arm(self):
        budgets = budgets_of('budgets:', listed('acme', '/c/acme'), 'default:', '  daily_usd_cap: 1')
        ledger = Pairs([place('/c/acme')], [place('/h/x/site')], [place('/h/y/site')], [place('/h/tool')])
        script.assign_arms(ledger, budgets)
        for text, key in [('acme', 'acme'), ('x/site', '/h/x/site'), ('tool', '/h/tool'), ('/h/tool', '/h/tool'),
                          ('/c/acme/src', 'acme'), ('/never/seen', '/never/seen')]:
            with self.subTest(text):
                self.assertEqual(script.find_arm(text, ledger, budgets, '/home/op'), key)
        for text, near in [('acmee', 'did you mean acme'), ('site', 'did you mean [xy]/site'), ('zzz', 'name one of')]:
            with self.subTest(text), self.assertRaisesRegex(script.UserError, near):
                script.find_arm(text, ledger, budgets, '/home/op')


if __name__ == '__main__':
    sys.exit(unittest.main())
