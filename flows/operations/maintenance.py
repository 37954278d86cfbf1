"""What piles up over months, and how much of it goes: one flow, which each worker runs on its own machine by a schedule."""

import contextlib
import datetime
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from flows import claims, versions
from flows.ends import why_failed
from flows.git import GitError, Repository
from flows.lock import RunLock, Skipped
from flows.parent import MOST_AT_ONCE, end_with_parent, started_by_prefect
from flows.prune import Retention, collect_garbage, doomed_versions, prune, require_pushed, unused_data
from flows.request import Parameters
from flows.worktree import left_over, remove_left_over
from gan.errors import UserError
from gan.files import try_lock
from gan.runtime import scratch_folder

_DAY_SECONDS = 24 * 3600
_KEPT_SCRATCH = ("prefect", "train")  # of the scratch folder: the records of `make server`; trainings, each by its own age
_FLOWS = ["pipeline", "study", "study-cell", "maintenance"]  # by the names of this project's
_KEY = re.compile(r"[0-9a-f]{32}")  # of a training: its folder's name


@dataclass(frozen=True)
class Chore:
    """One kind of thing that piles up."""

    name: str
    doomed: tuple[str, ...]  # what would go, one word each
    do: Any  # a function that lets it go
    measured: str | None = None  # what would go, where that is no list of words


@flow(name="maintenance", persist_result=False)
def maintenance(
    keep_versions: int = Retention.keep_versions,
    from_remote: bool = Retention.from_remote,
    checkpoint_days: int = Retention.checkpoint_days,
    run_days: int = Retention.run_days,
    dry_run: bool = False,
):
    """Let go what is no longer needed on this machine, on the git remote and on the server.

    Args:
        keep_versions: so many of the newest versions stay, and all accepted ones; data that nothing names go as well.
        from_remote: delete the tags of the other versions on the git remote as well.
        checkpoint_days: checkpoints of trainings that nobody went on with for so long go.
        run_days: flow runs on the server that ended so long ago go, with their logs.
        dry_run: only say what would go.
    """
    if started_by_prefect():
        end_with_parent()
    retention = Retention(keep_versions, from_remote, checkpoint_days, run_days)
    try:
        lines = maintain(Repository.around(Path.cwd()), retention, dry_run=dry_run, log=get_run_logger().info)
    except Skipped as reason:
        return Completed(name="Skipped", message=str(reason))
    except Exception as error:
        return Failed(message=why_failed(error))
    return Completed(message="; ".join(lines))


def maintain(repository, retention, *, dry_run, log):
    """Do all chores, or with `dry_run` say what they would do; a line each. Raises Skipped while a run is in progress."""
    lines = []
    for chore in _chores(repository, retention, dry_run):
        shown = f": {', '.join(chore.doomed[:3])}{' …' if len(chore.doomed) > 3 else ''}" if chore.doomed else ""
        counted = f"{len(chore.doomed)} {'would go' if dry_run else 'gone'}{shown}"
        lines.append(f"{chore.name}: {chore.measured or counted}")
        if not dry_run and chore.doomed and (freed := chore.do()):
            lines[-1] += f" ({freed})"
        log(lines[-1])
    return lines


def _chores(repository, retention, dry_run):
    """Each Chore as its turn comes."""
    settings = Parameters.in_tree(repository).settings
    lock = RunLock(repository)
    with lock.exclusive_run("maintenance", policy="skip", log=print):  # no run is under way
        left = left_over(repository)
        yield Chore("worktrees of runs that were killed", tuple(left), lambda: remove_left_over(repository) and None)
        old, trainings = (find(repository, retention.checkpoint_days) for find in (_old_scratch, _old_trainings))
        names = tuple(path.name for path in (*trainings, *old))
        yield Chore("checkpoints", names, lambda: _remove_trainings(trainings) or _remove_all(old))
    known = versions.every(repository)
    doomed = doomed_versions(known, retention.keep_versions)
    if doomed:
        require_pushed(repository, doomed, settings.git_remote)
    remote = settings.git_remote if repository.has_remote(settings.git_remote) else None

    def forget():
        return prune(repository, doomed, from_remote=remote if retention.from_remote else None, log=print)

    yield Chore("versions", tuple(version.tag for version in doomed), forget)
    if dry_run:
        yield Chore("the cache's unused data", (), None, unused_data(repository, doomed))
    elif not doomed:  # whose data go with them
        yield Chore("the cache's unused data", ("whatever no commit names",), lambda: collect_garbage(repository))
    if remote:
        yield from _claims(repository, remote)
    yield from _runs(retention.run_days)


def _old_scratch(repository, days):
    """What is in the project's own scratch folder and was not written to for so many days."""
    # not of the folder that GAN_SCRATCH names, which may hold other people's files: there only trainings go
    folder, oldest = repository.root / ".scratch", time.time() - days * _DAY_SECONDS
    found = [path for path in folder.iterdir() if path.name not in _KEPT_SCRATCH] if folder.is_dir() else []
    return [path for path in sorted(found) if _newest(path) < oldest]


def _old_trainings(repository, days):
    """The folders of trainings that were not written to for so many days and that nobody goes on with now."""
    folder, oldest = scratch_folder(repository.root) / "train", time.time() - days * _DAY_SECONDS
    found = [path for path in folder.iterdir() if _KEY.fullmatch(path.name)] if folder.is_dir() else []
    return [path for path in sorted(found) if _newest(path) < oldest and not _in_use(path)]


@contextlib.contextmanager
def _held(training):
    """Hold the lock of a training's folder, as the trainer does; yields whether it was free."""
    path = training.with_name(f"{training.name}.lock")
    lock = try_lock(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            path.unlink()
            lock.close()


def _in_use(training):
    with _held(training) as free:
        return not free


def _remove_trainings(folders):
    for folder in folders:
        with _held(folder) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)


def _newest(path):
    """When `path`, or anything in it, was last written."""
    return max((file.stat().st_mtime for file in (path, *path.rglob("*")) if file.exists()), default=0.0)


def _remove_all(paths):
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _claims(repository, remote):
    """Claims of machines that died and whose work nobody asked for again."""
    try:
        old = claims.left_over(repository, remote, _DAY_SECONDS)
    except GitError as error:
        yield Chore(f"claims not looked at, {error}", (), None)
        return

    def remove():
        for reference, found in old:
            claims.remove(repository, remote, reference, found)

    yield Chore("claims of dead machines", tuple(reference.rpartition("/")[2][:8] for reference, _ in old), remove)


def _runs(days):
    """Runs of this project's flows that ended long ago; none without a server. Others may share the server."""
    if not PREFECT_API_URL.value():
        return
    ended = {"before_": datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)}
    where = FlowRunFilter.model_validate({"end_time": ended})
    ours = FlowFilter.model_validate({"name": {"any_": _FLOWS}})
    with _server_asked(), get_client(sync_client=True) as client:
        old, oldest_first = [], FlowRunSort.START_TIME_ASC
        while more := client.read_flow_runs(
            flow_filter=ours, flow_run_filter=where, sort=oldest_first, limit=MOST_AT_ONCE, offset=len(old)
        ):
            old += more

        @_server_asked()
        def remove():
            for run in old:
                try:
                    client.delete_flow_run(run.id)
                except ObjectNotFound:  # another worker does the same
                    continue

        yield Chore("flow runs on the server", tuple(run.name for run in old), remove)


@contextlib.contextmanager
def _server_asked():
    """Raise UserError where the Prefect server cannot be asked."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"the Prefect server at {PREFECT_API_URL.value()} does not answer ({error}); try again") from None
