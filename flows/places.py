"""Where a run works: in a git worktree at an exact commit, or in the user's working tree."""

import contextlib
from dataclasses import dataclass

from prefect import get_run_logger, runtime
from prefect.settings import PREFECT_API_URL

from flows.dvc.session import DvcSession
from flows.lock import RunLock
from flows.parent import end_to_tell, started_by_prefect
from flows.remotes import fetch_versions
from flows.request import Parameters
from flows.versions import start_from_newest
from flows.worktree import environment, worktree
from gan.files import write_bytes
from gan.params import PARAMS


@dataclass(frozen=True)
class PreparedRun:
    """What the command line has begun for a run in the working tree while Prefect was still being imported."""

    parameters: Parameters  # the project's check of them is done
    lock: RunLock
    session: DvcSession


@contextlib.contextmanager
def in_worktree(repository, request, parameters, lock):
    """Yield (worktree, its commit, DVC session) with the parameters in place, going on from the newest version."""
    log, settings = get_run_logger(), parameters.settings
    fetch_versions(repository, settings.git_remote, log.warning)
    with worktree(repository, request.base, str(runtime.flow_run.id)[:8]) as tree:
        (tree.root / PARAMS).write_text(parameters.text, encoding="utf-8")
        parameters.check(tree.root)
        with _session(tree, settings, lock, environment(repository, tree)) as session:
            session.share(repository)
            newest = start_from_newest(repository, tree, request.base)
            log.info("at commit %s%s", request.base[:12], f", going on from {newest}" if newest else "")
            session.dvc("checkout", "--allow-missing", "--quiet")
            yield tree, request.base, session


@contextlib.contextmanager
def in_working_tree(repository, request, parameters, lock, prepared):
    """Yield (the repository itself, its commit, DVC session) with the overrides written into params.yaml."""
    base = repository.git("rev-parse", "HEAD")
    if prepared is None or prepared.parameters != parameters:
        parameters.check(repository.root)
    with prepared.session if prepared else _session(repository, parameters.settings, lock) as session:
        if request.overrides:
            write_bytes(repository.root / PARAMS, parameters.text.encode())
            get_run_logger().info("%s now says %s", PARAMS, ", ".join(request.overrides))
        yield repository, base, session


def _session(tree, settings, lock, variables=None):
    """A DVC process in `tree` that holds the lock and could tell Prefect of the run's end if a worker's run cannot."""
    variables = variables or {}
    if started_by_prefect():
        variables = {**variables, **end_to_tell(PREFECT_API_URL.value(), runtime.flow_run.id)}
    return DvcSession(tree.root, grace_seconds=settings.grace_seconds, environment=variables, held_files=(lock.fileno(),))
