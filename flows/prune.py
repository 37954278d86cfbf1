"""Deleting old versions and the data that nothing else needs."""

from dataclasses import dataclass

from flows.dvc.session import DvcSession
from flows.lock import RunLock, when_free
from flows.versions import UNPUSHED
from gan.errors import UserError

_SAY_WHAT_IS_USED = ("*dvc.yaml", "*dvc.lock", "*.dvc", "*params.yaml")  # for git: in any folder


@dataclass(frozen=True)
class Retention:
    """How much of what stays where maintenance lets the rest go."""

    keep_versions: int = 100  # the newest ones, beside all accepted ones
    from_remote: bool = False  # versions go from the git remote as well
    checkpoint_days: int = 30  # of trainings that were never finished
    run_days: int = 90  # of the server's flow runs, with their logs


def doomed_versions(versions, keep):
    """Those of `versions` (newest first) that are neither among the newest `keep` nor accepted."""
    return [version for version in versions[keep:] if version.accepted_as is None]


def require_pushed(repository, doomed, git_remote):
    """Raise UserError if one of the versions is still to be pushed; only where git has no remote at all, nothing ever is."""
    unpushed = [version.tag for version in doomed if not version.pushed]
    if not unpushed or not repository.git("remote"):
        return
    if repository.has_remote(git_remote):
        raise UserError(f"{unpushed[0]} is not pushed yet; the next run pushes it, prune after that")
    raise UserError(f"{unpushed[0]} is not pushed, and git has no remote {git_remote!r} (flow.git_remote in params.yaml)")


def prune(repository, doomed, *, from_remote, log):
    """Delete the tags of the versions `doomed`, then all data that no commit, tag or experiment names; DVC's line about it.

    from_remote: the git remote whose tags go as well, or None.
    Raises Skipped while a run is in progress.
    """
    lock = RunLock(repository)
    tags = [version.tag for version in doomed]
    with lock.exclusive_run("gan versions prune", policy="skip", log=log):
        repository.git("tag", "--delete", *tags)
        for tag in tags:
            repository.git("update-ref", "-d", UNPUSHED + tag)
        if from_remote:
            repository.over_network("push", "--quiet", from_remote, *(f":refs/tags/{tag}" for tag in tags))
        return _collect_garbage(repository, lock)


def collect_garbage(repository):
    """Delete all data that no commit, tag or experiment names; DVC's line about it. Raises Skipped while a run is in progress."""
    lock = RunLock(repository)
    with lock.exclusive_run("maintenance", policy="skip", log=print):
        return _collect_garbage(repository, lock)


def unused_data(repository, doomed):
    """What DVC's cache would lose without the versions `doomed`, in one line. Raises Skipped while somebody works here."""
    head = ["HEAD"] if repository.has_ref("HEAD") else []
    without = [f"--exclude={version.tag}" for version in doomed]
    # where `dvc gc` looks; of commits with the same files of DVC's one is enough, and DVC takes a tenth of a second for each
    where = [*head, "--branches", *without, "--tags", "--remotes"]
    commits = repository.git("rev-list", "--full-history", *where, "--", *_SAY_WHAT_IS_USED).splitlines()
    with DvcSession(repository.root, grace_seconds=10) as session:
        found = when_free(lambda: session.unused(commits), policy="skip", deadline=None)
    if not found["files"]:
        return "0 would go"
    lost = f"; with them the results of {_counted(found['runs'], 'run')} of stages, to be made again, or from the DVC remote"
    unnamed = "that no commit, no experiment and not the working tree names"
    return f"{_counted(found['files'], 'file')} would go, {_size(found['bytes'])} {unnamed}{lost if found['runs'] else ''}"


def _counted(number, what):
    return f"{number} {what}{'s' * (number != 1)}"


def _size(count):
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:,} bytes"


def _collect_garbage(repository, lock):
    with DvcSession(repository.root, grace_seconds=10, held_files=(lock.fileno(),)) as session:
        # whatever any branch, tag, experiment or the working tree names stays
        code, lines = session.dvc("gc", "--workspace", "--all-commits", "--all-experiments", "--force")
    if code != 0:
        raise UserError(f"dvc gc: {' '.join(lines[-3:])}")
    return next((line for line in lines if line.startswith(("Removed", "No unused"))), "")
