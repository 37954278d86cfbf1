"""Where a run works: in a git worktree at an exact commit, or in the user's working tree."""

import contextlib
from dataclasses import dataclass

from prefect import get_run_logger, runtime

from flows import versions
from flows.claims import claimed, key_of
from flows.dvc.description import Description
from flows.dvc.reproduce import describe_undamaged
from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.lock import RunLock
from flows.parent import end_to_tell, started_by_prefect
from flows.remotes import fetch_versions, remember_results
from flows.request import Parameters
from flows.worktree import environment, worktree
from gan.files import write_bytes
from gan.params import PARAMS


@dataclass(frozen=True)
class PreparedRun:
    """What the command line has begun for a run in the working tree while Prefect was still being imported."""

    parameters: Parameters
    notes: list[str]  # of the project's check of them
    lock: RunLock
    session: DvcSession


@dataclass(frozen=True)
class Place:
    """Where a run works."""

    tree: Repository
    base: str  # the commit that it starts from
    session: DvcSession
    description: Description


@contextlib.contextmanager
def in_worktree(repository, request, parameters, lock, deadline):
    """Yield the Place: a worktree with the parameters in place, going on from the newest version.

    Where something is to be done, no other machine does the same at the time, and what others have made is known.
    """
    log, settings, name = get_run_logger(), parameters.settings, runtime.flow_run.name
    fetch_versions(repository, settings, log.warning)
    with worktree(repository, request.base, str(runtime.flow_run.id)[:8]) as tree, contextlib.ExitStack() as stack:
        (tree.root / PARAMS).write_text(parameters.text, encoding="utf-8")
        notes = parameters.check(tree.root)
        session = stack.enter_context(_session(tree, settings, lock, environment(repository, tree)))
        session.share(repository)
        described = _go_on(repository, request, tree, session, settings, deadline)
        if described.changed and not request.force:
            key = key_of(repository, request.base, parameters.text)
            stack.enter_context(claimed(repository, settings, key, name=name, log=log.warning, deadline=deadline))
            before = versions.newest(repository)
            fetch_versions(repository, settings, log.warning)  # somebody may have finished just now
            if versions.newest(repository) != before:
                described = _go_on(repository, request, tree, session, settings, deadline)
        _say(notes, described)
        yield Place(tree, request.base, session, described)


def _go_on(repository, request, tree, session, settings, deadline):
    """Start from the newest version, and know of all; the Description of the work."""
    newest = versions.start_from_newest(repository, tree, request.base)
    get_run_logger().info("at commit %s%s", request.base[:12], f", going on from {newest}" if newest else "")
    remember_results(repository, session)
    session.dvc("checkout", "--allow-missing", "--quiet")
    return _described(tree, session, settings, deadline)


@contextlib.contextmanager
def in_working_tree(repository, request, parameters, lock, deadline, prepared):
    """Yield the Place: the repository itself, with the overrides written into params.yaml."""
    settings = parameters.settings
    base = repository.git("rev-parse", "HEAD")
    ready = prepared is not None and prepared.parameters == parameters
    notes = prepared.notes if ready else parameters.check(repository.root)
    with prepared.session if prepared else _session(repository, settings, lock) as session:
        if request.overrides:
            write_bytes(repository.root / PARAMS, parameters.text.encode())
            get_run_logger().info("%s now says %s", PARAMS, ", ".join(request.overrides))
        described = _described(repository, session, settings, deadline)
        if described.changed:
            remember_results(repository, session)
        _say(notes, described)
        yield Place(repository, base, session, described)


def _say(notes, described):
    """Tell of the check's notes where there is work: what is not made here is not asked of this machine."""
    for note in notes if described.changed else ():
        get_run_logger().warning(note)


def _described(tree, session, settings, deadline):
    return describe_undamaged(session, root=tree.root, settings=settings, tell=get_run_logger().warning, deadline=deadline)


def _session(tree, settings, lock, variables=None):
    """A DVC process in `tree` that holds the lock and could tell Prefect of the run's end if a worker's run cannot."""
    variables = variables or {}
    if started_by_prefect():
        variables = {**variables, **end_to_tell(runtime.flow_run.id)}
    return DvcSession(tree.root, grace_seconds=settings.grace_seconds, environment=variables, held_files=(lock.fileno(),))
