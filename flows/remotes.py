"""Versions and records of cells on the remotes: pushed after their data; a version that could not be, a later run pushes."""

import contextlib
import random
import time

from flows import gate, versions
from flows.dvc.session import DvcSession
from flows.git import GitError
from flows.studies import records
from flows.studies.spreads import spread_of
from flows.versions import UNPUSHED
from flows.worktree import environment, worktree
from gan.errors import UserError
from gan.params import PARAMS, decode

_ATTEMPTS = 5  # where a remote is away, or other machines push tags as well
_PAUSE_SECONDS = 2.0


def fetch_versions(repository, settings, log):
    """Learn of the versions that others pushed; a remote out of reach is no reason not to run."""
    if repository.has_remote(settings.git_remote):
        try:
            _fetch(repository, settings)
        except GitError as error:
            log(f"cannot fetch versions from {settings.git_remote}: {error}")


def fetch_base(repository, base, log):
    """Where `base` is a remote's branch, such as origin/main, take it as it is there now."""
    remote, _, branch = base.partition("/")
    if branch and repository.has_remote(remote):
        try:
            reference = f"+refs/heads/{branch}:refs/remotes/{remote}/{branch}"
            _fetch_refs(repository, "--end-of-options", remote, reference)
        except GitError as error:
            log(f"cannot fetch {base}: {error}")


def remember_results(repository, session):
    """Let DVC know what all versions, cells of studies and parts of them were made of: what any machine has made is restored."""
    cells = [record.commit for record in records.every(repository).values()]
    commits = [*records.parts(repository), *cells, *(version.commit for version in reversed(versions.every(repository)))]
    session.remember(commits, repository.root / ".dvc" / "tmp" / "versions.json")


def fetch_records(repository, git_remote):
    """Learn of the cells that others recorded; raises GitError where the remote stays out of reach."""
    if repository.has_remote(git_remote):
        _in_time(lambda: _fetch_refs(repository, git_remote, "+refs/exps/*:refs/exps/*"))
        records.forget_parts(repository, records.every(repository))


def has_record(repository, git_remote, record):
    """Whether others can learn of the Record of a cell; raises GitError where the remote stays out of reach."""
    if not repository.has_remote(git_remote):
        return True
    return record.commit in _in_time(lambda: repository.over_network("ls-remote", git_remote, record.ref))


def push_record(repository, git_remote, record):
    """Let others learn of the Record of a cell, whose data they have; raises GitError where the remote stays out of reach."""
    if repository.has_remote(git_remote):
        _in_time(lambda: repository.over_network("push", "--quiet", "--force", git_remote, f"{record.ref}:{record.ref}"))
        _forget_part(repository, git_remote, record.key)


def push_part(repository, git_remote, cell):
    """Let others learn how far a cell has come, of which they have the data: they go on from there. Raises GitError."""
    if repository.has_remote(git_remote):
        ref = records.part_ref(cell.key)
        repository.over_network("push", "--quiet", "--force", git_remote, f"{ref}:{ref}")


def fetch_part(repository, git_remote, cell):
    """Learn how far another machine has come with a cell, if it could tell."""
    if repository.has_remote(git_remote):
        ref = records.part_ref(cell.key)
        with contextlib.suppress(GitError):  # there is none, as a rule
            _fetch_refs(repository, git_remote, f"+{ref}:{ref}")


def push_versions(repository, settings, log, deadline=None):
    """Push every version that is not on the remotes yet; returns the errors, one line a version. TimeUp after the Deadline."""
    errors = []
    waiting = repository.git("for-each-ref", "--format=%(refname)", UNPUSHED).splitlines()
    if waiting and repository.has_remote(settings.git_remote):
        try:  # a host that does not answer costs minutes with each version
            repository.over_network("ls-remote", settings.git_remote, UNPUSHED)
        except GitError as error:
            return [_not_pushed(reference.removeprefix(UNPUSHED), error) for reference in waiting]
    for reference in waiting:
        tag = reference.removeprefix(UNPUSHED)
        if not repository.has_ref(f"refs/tags/{tag}"):
            # deleted by hand, or the run was killed between the two
            log(f"{tag} is not pushed: it has no tag any more; `git tag {tag} {repository.commit_id(reference)}` gives it one")
            repository.git("update-ref", "-d", reference)
            continue
        try:
            if _push(repository, tag, settings, log, deadline):
                repository.git("update-ref", "-d", reference)
        except UserError as error:
            errors.append(_not_pushed(tag, error))
    return errors


def _forget_part(repository, git_remote, key):
    """A cell that is recorded needs none."""
    ref = records.part_ref(key)
    if repository.has_ref(ref):
        with contextlib.suppress(GitError):  # another has done so, or nobody could learn of it; it does no harm
            repository.over_network("push", "--quiet", git_remote, f":{ref}")
        records.forget_parts(repository, [key])


def _in_time(action):
    """What `action()` returns, tried again for a while where it raises GitError."""
    return _tried_again(action, before_next=lambda attempt: time.sleep(2**attempt))


def _tried_again(action, *, before_next):
    """What `action()` returns; up to _ATTEMPTS times, with `before_next(attempt)` in between where it raises GitError."""
    for attempt in range(_ATTEMPTS - 1):
        with contextlib.suppress(GitError):
            return action()
        before_next(attempt)
    return action()


def _not_pushed(tag, error):
    return f"{tag} is not pushed, the next run tries again: {error}"


def _fetch(repository, settings):
    """The tags of runs and of what was accepted; a team's other tags, which may move, are its own business."""
    patterns = ("refs/tags/run/*", f"refs/tags/{settings.gate.artifact}@v*")
    _fetch_refs(repository, settings.git_remote, *(f"{pattern}:{pattern}" for pattern in patterns))


def _fetch_refs(repository, *arguments):
    """Fetch these refs and no other; with `fetch.prune` git would delete what is only here, versions not pushed yet among it."""
    repository.over_network("fetch", "--quiet", "--no-tags", "--no-prune", *arguments)


def _push(repository, tag, settings, log, deadline):
    """Push one version; False where there is nowhere to push to."""
    if same := _same_of_another(repository, tag, settings):
        repository.git("tag", "--delete", tag, *_accepted_names(repository, tag))
        log(f"{tag} is not pushed: another machine has recorded the same as {same}")
        return True
    with (
        worktree(repository, tag, f"push-{tag.rpartition('-')[2]}") as tree,
        DvcSession(tree.root, grace_seconds=settings.grace_seconds, environment=environment(repository, tree)) as session,
    ):
        session.share(repository)
        remote = session.describe().remote
        if remote:
            session.push(deadline=deadline)
    if not repository.has_remote(settings.git_remote):
        if remote:
            log(f"pushed {tag}")
        return bool(remote)
    names = _push_tags(repository, tag, settings)
    log(f"pushed {' and '.join(names)}")
    return True


def _same_of_another(repository, tag, settings):
    """The tag of a version that another machine has pushed and that has the very files of `tag`, or None."""
    with contextlib.suppress(GitError):  # a tag of the same name there is settled when tags are pushed
        if repository.has_remote(settings.git_remote):
            _fetch(repository, settings)
    known = versions.every(repository)
    mine = next(version for version in known if version.tag == tag)
    on_a_branch = repository.git("for-each-ref", "--count=1", "--contains", mine.commit, "refs/heads/")
    if on_a_branch or repository.succeeds("merge-base", "--is-ancestor", mine.commit, "HEAD"):
        return None  # a person has it, and the same of an isolated run would be on no branch
    others = [version for version in known if version.pushed and version.base == mine.base]
    paths = repository.git("ls-tree", "-r", "--name-only", mine.commit).splitlines()
    same = versions.with_the_same_files(repository, mine.commit, paths, others)
    return same.tag if same else None


def _push_tags(repository, tag, settings):
    """Push the tags of one version, all or none; returns their names. Raises GitError."""

    def push():
        names = [tag, *_accepted_names(repository, tag)]
        refs = [f"refs/tags/{name}:refs/tags/{name}" for name in names]
        repository.over_network("push", "--quiet", "--atomic", settings.git_remote, *refs)
        return names

    def give_way(_):
        time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 (two machines must not meet again)
        _give_way(repository, tag, settings)

    return _tried_again(push, before_next=give_way)


def _give_way(repository, tag, settings):
    """Where another machine has pushed an accepted version of the same name, judge this one again, after that one."""
    listed = repository.over_network("ls-remote", "--tags", settings.git_remote).splitlines()
    theirs = {reference: commit for commit, reference in (line.split("\t") for line in listed)}
    taken = [
        name
        for name in _accepted_names(repository, tag)
        if theirs.get(f"refs/tags/{name}") not in (None, repository.git("rev-parse", f"refs/tags/{name}"))
    ]
    if taken:
        repository.git("tag", "--delete", *taken)
    _fetch(repository, settings)
    if taken:
        commit, own = repository.commit_id(tag), settings.gate
        content, lock = (repository.read_at(commit, path) for path in (own.metrics_file, gate.LOCK))
        verdict, last = gate.verdict_against_last(
            repository,
            own,
            content,
            lock=lock,
            params=decode(repository.read_at(commit, PARAMS), PARAMS),
            spread_of=lambda text: spread_of(repository.root, text, own),
        )
        if verdict.accepted:
            versions.accept(repository, commit, gate.next_tag(own.artifact, last), verdict=verdict, tag=tag)


def _accepted_names(repository, tag):
    commit = repository.commit_id(tag)
    return [name for name, of in versions.accepted_tags(repository).items() if of == commit]
