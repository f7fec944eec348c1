"""Arms: which calls are whose. Each call costs another power of two, so a sum tells which calls are in it."""
import os
import shutil
import sys
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
        """{arm: its folders} of all arms that have spent, without the unlisted ones' names."""
        found = {one['arm'].replace(self.home.path, '~'): self.labels_of(one['spent_usd'])
                 for one in self.home.verdict('--now', NOW, **more)['arms']}
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

    def test_taking_git_away_is_no_way_out(self):
        home = self.home()
        home.repo('a')
        work = Work(home).call('a', 'a/sub')
        self.assertEqual(work.arms(), {'~/a': {'a', 'a/sub'}})
        shutil.rmtree(home.at('a/.git'))
        work.call('a/other', 'a')
        self.assertEqual(work.arms(), {'~/a': {'a', 'a/sub', 'a/other'}})
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
                              (home.at('loose/repo/src'), home.at('loose/repo'))):
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


if __name__ == '__main__':
    sys.exit(unittest.main())
