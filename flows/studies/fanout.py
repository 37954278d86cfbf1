"""A study's cells as runs of a deployment, on whatever workers its work pool has.

The coordinator is a flow of its own. It asks for a run of each cell, waits for them, and learns of their records through the git
remote. A cell's run has an idempotency key of the commit and all that the cell depends on. So a coordinator that is started again
finds the runs that an earlier one asked for, and no cell is asked for twice.
"""

import contextlib
import datetime
import itertools
import math
import time
from collections import Counter
from pathlib import Path

import httpx
from prefect import flow, get_client, get_run_logger, runtime
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed

from flows.deadline import TimeUp
from flows.dvc.reproduce import StageFailed
from flows.git import GitError, Repository
from flows.parent import end_to_tell, end_with_parent, started_by_prefect
from flows.signals import signals_held
from flows.stage_task import STOPPED
from flows.studies import records
from flows.studies.carry_out import carry_out
from flows.studies.cells import study_of_text
from flows.studies.local import Outcome, run_one
from gan.errors import UserError

DEPLOYMENT = "study-cell/cells"
ATTEMPTS = 3  # of a cell whose run crashed or was cancelled by somebody else
_POLL_SECONDS = 2
_SILENCE_SECONDS = 300  # of the server, after which the coordinator gives up
_PENDING_SECONDS = 300  # from a worker's taking a run to the start of the run's process


@flow(name="study-cell", persist_result=False)
def study_cell(name: str, definition: str, base: str, variant: str, seed: int):
    """One run of a study, in a worktree of the worker's clone; its record goes to the remotes.

    Args:
        name: the study.
        definition: the text of its file.
        base: the commit that is studied.
        variant: one of the study.
        seed: of the run.
    """
    log, variables = get_run_logger(), None
    if started_by_prefect():
        end_with_parent()
        variables = end_to_tell(PREFECT_API_URL.value(), runtime.flow_run.id)
    try:
        repository = Repository.around(Path.cwd())
        _require_commit(repository, base)
        study = study_of_text(repository, name, definition, base)
        cell = next(cell for cell in study.cells(variant, study.params.seeds.most) if cell.seed == seed)
        record = records.every(repository).get(cell.key) or run_one(study, cell, log=log.info, share=True, variables=variables)
        if repository.has_remote(study.settings.git_remote):
            repository.git("push", "--quiet", "--force", study.settings.git_remote, f"{record.ref}:{record.ref}")
        return Completed(message=f"recorded as {record.name}")
    except STOPPED:
        return Cancelled(message="stopped by a signal; what was trained is kept and the next run goes on from there")
    except (StageFailed, TimeUp, UserError) as error:
        return Failed(message=str(error) or "flow.timeout_seconds are over")


def require_server():
    """Raise UserError where no Prefect server is configured: workers are reached through one."""
    if not PREFECT_API_URL.value():
        raise UserError(
            "--workers needs a Prefect server and workers: start one with `prefect server start`, "
            "then set PREFECT_API_URL=http://127.0.0.1:4200/api; docs/studies.md says the rest"
        )


def coordinate(study, *, deployment, until_decided, tell):
    """Carry the Study out on the workers of `deployment`; returns the final state. tell: as `carry_out` takes it."""
    waiting = {}

    def run_each(cells):
        return _run_each(study, cells, deployment, waiting)

    @flow(name="study", flow_run_name=f"study {study.name}", persist_result=False)
    def coordinator(name: str, base: str):
        try:
            _fetch(study)
            failures = carry_out(study, run_each, until_decided=until_decided, tell=tell)
        except (*STOPPED, _CancelledFromOutside):
            _cancel(waiting.values())
            return Cancelled(message=f"stopped; {len(waiting)} runs of cells were cancelled with it")
        except UserError as error:
            return Failed(message=str(error))
        if failures:
            named = "; ".join(f"{one.cell.variant}, seed {one.cell.seed}: {one.failure}" for one in failures[:5])
            return Failed(message=f"{len(failures)} runs failed: {named}")
        return Completed(message=f"study {name} at {base[:12]}: all runs are recorded")

    return coordinator(study.name, study.base, return_state=True)


class _CancelledFromOutside(Exception):
    """Somebody cancelled the coordinator's run in Prefect; no worker is there to tell its process."""


def _run_each(study, cells, deployment, waiting):
    """Yield the Outcome of each of the Cells as it ends; `waiting`, Cell -> flow run's id, holds those that have not."""
    own, started, tries = runtime.flow_run.id, time.monotonic(), Counter()
    heard = started
    for cell in cells:
        waiting[cell] = _ask(study, cell, deployment)
    while waiting:
        time.sleep(_POLL_SECONDS)
        try:
            states = _states([own, *waiting.values()])
        except httpx.HTTPError as error:  # the server restarts, perhaps; the cells go on meanwhile
            if time.monotonic() - heard > _SILENCE_SECONDS:
                raise UserError(f"the Prefect server is out of reach ({error}); the same command goes on from there") from None
            continue
        heard = time.monotonic()
        if str(own) not in states or states[str(own)].is_cancelling() or states[str(own)].is_cancelled():
            raise _CancelledFromOutside
        for cell, run in list(waiting.items()):
            state = states.get(str(run))
            if state is not None and not state.is_final():
                if not _lost(state, study.settings):
                    continue
                state = _give_up(run)
            tries[cell] += 1
            if (state is None or state.is_crashed() or state.is_cancelled()) and tries[cell] < ATTEMPTS:
                waiting[cell] = _ask(study, cell, deployment)
                continue
            del waiting[cell]
            yield _outcome(study, cell, state, time.monotonic() - started)


def _lost(state, settings):
    """Whether nobody can be at work on a run any more: its worker was killed before the run's process could tell."""
    age = (datetime.datetime.now(datetime.UTC) - state.timestamp).total_seconds()
    longest = {"PENDING": _PENDING_SECONDS, "RUNNING": settings.timeout_seconds + 2 * settings.grace_seconds}
    return age > longest.get(state.type.value, math.inf)


def _give_up(run):
    state = Crashed(message="its worker is gone")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)
    return state


def _ask(study, cell, deployment):
    """The id of the run of a Cell: one that was asked for before and has not ended, or a new one."""
    parameters = {"name": study.name, "definition": study.text, "base": study.base, "variant": cell.variant, "seed": cell.seed}
    for attempt in itertools.count():
        try:
            run = run_deployment(
                deployment,
                parameters=parameters,
                flow_run_name=cell.name,
                idempotency_key=f"{study.base}-{cell.key}-{attempt}",
                timeout=0,
            )
        except ObjectNotFound:
            raise UserError(f"there is no deployment {deployment}; `prefect deploy --name cells` makes it") from None
        if run.state is None or not run.state.is_final():  # one that has ended has left no record
            return run.id
    return None


def _states(runs):
    """Id -> state of flow runs; without those that somebody has deleted."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(runs))), limit=None)
    return {str(run.id): run.state for run in found}


def _cancel(runs):
    with signals_held(), get_client(sync_client=True) as client:
        for run in runs:
            with contextlib.suppress(ObjectNotFound):
                client.set_flow_run_state(run, Cancelling(message="the study was stopped"))


def _outcome(study, cell, state, seconds):
    if state is None or not state.is_completed():
        return Outcome(cell, None, seconds, (state and (state.message or state.name)) or "its run was deleted")
    _fetch(study)
    record = records.every(study.repository).get(cell.key)
    return Outcome(cell, record, seconds, None if record else "its run ended well, but its record is not on the git remote")


def _fetch(study):
    """Learn of the records that workers have pushed."""
    remote = study.settings.git_remote
    if study.repository.has_remote(remote):
        study.repository.git("fetch", "--quiet", remote, "+refs/exps/*:refs/exps/*")


def _require_commit(repository, base):
    """Have the commit here; workers' clones learn of it from their remotes."""
    if repository.succeeds("cat-file", "-e", f"{base}^{{commit}}"):
        return
    for remote in repository.git("remote").splitlines():
        repository.git("fetch", "--quiet", remote)
    if not repository.succeeds("cat-file", "-e", f"{base}^{{commit}}"):
        raise GitError(f"commit {base[:12]} is not here and not on the remotes; push it first")
