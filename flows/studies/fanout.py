"""A study's cells as runs of a deployment, on whatever workers its work pool has.

The coordinator is a flow of its own. It asks for a run of each cell, waits for them, and learns of their records through the git
remote. No cell is lost with it, with a worker or with the server: whoever comes next goes on from the records and the runs.
"""

import contextlib
import fcntl
import json
import time
from collections import Counter
from pathlib import Path

from prefect import flow, get_run_logger, runtime
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from flows.ends import STOPPED_BY_SIGNAL, why_failed
from flows.git import GitError, Repository
from flows.logs import servers_errors_in_one_line
from flows.operations.checks import workers_of
from flows.parent import end_to_tell, end_with_parent, started_by_prefect, tell_of_kill
from flows.remotes import fetch_part, fetch_records, fetch_versions, has_record, push_record
from flows.stage_task import STOPPED
from flows.studies import cell_runs, records
from flows.studies.carry_out import carry_out
from flows.studies.cells import study_of_text
from flows.studies.local import Outcome, run_one
from gan.errors import DataError, UserError

servers_errors_in_one_line()  # whoever runs the flow has imported it: a command, a schedule, a worker

DEPLOYMENT = "study-cell/cells"
ATTEMPTS = 5  # of a cell whose run crashed or was cancelled by somebody else
_LOOK_SECONDS = 30  # between two looks for records of runs that do not end


@flow(name="study-cell", persist_result=False)
def study_cell(name: str, definition: str, base: str, variant: str, seed: int, machine: dict[str, str] | None = None):
    """One run of a study, in a worktree of the worker's clone; its record goes to the remotes.

    Args:
        name: the study.
        definition: the text of its file.
        base: the commit that is studied.
        variant: one of the study.
        seed: of the run.
        machine: that whoever asks wants the results of (`flows.sets.this_machine`), by default the worker's own.
    """
    log, variables = get_run_logger(), None
    if started_by_prefect():
        end_with_parent()
        variables = end_to_tell(runtime.flow_run.id)
    try:
        repository = Repository.around(Path.cwd())
        _require_commit(repository, base)
        study = study_of_text(repository, name, definition, base, machine)
        remote = study.settings.git_remote
        fetch_records(repository, remote)
        cell = next(cell for cell in study.cells(variant, study.params.seeds.most) if cell.seed == seed)
        record = records.every(repository).get(cell.key)
        if record is None or not has_record(repository, remote, record):
            fetch_versions(repository, study.settings, log.warning)
            fetch_part(repository, remote, cell)
            record = run_one(study, cell, log=log.info, share=True, variables=variables)
            push_record(repository, remote, record)
        return Completed(message=f"recorded as {record.name}")
    except STOPPED:
        return Cancelled(message=STOPPED_BY_SIGNAL)
    except Exception as error:
        return Failed(message=why_failed(error))


def require_server():
    """Raise UserError where no Prefect server is configured: workers are reached through one."""
    if not PREFECT_API_URL.value():
        raise UserError(
            "--workers needs a Prefect server and workers: start one with `prefect server start`, "
            "then set PREFECT_API_URL=http://127.0.0.1:4200/api; docs/studies.md says the rest"
        )


def coordinate(study, *, deployment, until_decided, tell, say):
    """Carry the Study out on the workers of `deployment`; returns the final state. tell: as `carry_out` takes it.

    say: gets a line when runs are asked for, which tells whether a worker is online. Raises UserError where another process here
    does so already.
    """
    waiting = {}

    def run_each(cells):
        return _run_each(study, cells, deployment, waiting, say)

    @flow(name="study", flow_run_name=f"study {study.name}", persist_result=False)
    def coordinator(name: str, base: str):
        note(runtime.flow_run.id)
        try:
            fetch_records(study.repository, study.settings.git_remote)
            failures = carry_out(study, run_each, until_decided=until_decided, tell=tell)
        except (*STOPPED, _CancelledFromOutside):
            cell_runs.cancel(waiting.values())
            return Cancelled(message=f"stopped; {len(waiting)} runs of cells were cancelled with it")
        except DataError as error:  # a metric that decides is missing, as it will be in every other run
            cell_runs.cancel(waiting.values())
            return Failed(message=str(error))
        except Exception as error:
            return Failed(message=why_failed(error))
        if failures:
            named = "; ".join(f"{one.cell.variant}, seed {one.cell.seed}: {one.failure}" for one in failures[:5])
            return Failed(message=f"{len(failures)} runs failed: {named}")
        return Completed(message=f"study {name} at {base[:12]}: all runs are recorded")

    with _only_one(study) as note:
        return coordinator(study.name, study.base, return_state=True)


class _CancelledFromOutside(Exception):
    """Somebody cancelled the coordinator's run in Prefect; no worker is there to tell its process."""


@contextlib.contextmanager
def _only_one(study):
    """Be the study's only coordinator here in the block; yields a function that notes its flow run's id.

    Prefect is told the end of one that was killed: its note is still there.
    """
    folder = study.repository.root / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"study-{study.name}.json", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another `gan study run {study.name} --workers` is at work here") from None

        def note(flow_run):
            file.truncate(0)
            json.dump({"flow_run": flow_run and str(flow_run)}, file)
            file.flush()

        file.seek(0)
        with contextlib.suppress(ValueError):
            if killed := json.load(file)["flow_run"]:
                tell_of_kill(killed)
        yield note
        note(None)


def _run_each(study, cells, deployment, waiting, say):
    """Yield the Outcome of each of the Cells as it ends; `waiting`, Cell -> flow run's id, holds those that have not."""
    own, started, looked, tries, recorded = runtime.flow_run.id, time.monotonic(), time.monotonic(), Counter(), set()
    for cell in cells:
        waiting[cell] = cell_runs.ask(study, cell, deployment)
    say(f"{len(waiting)} runs are asked for{_takers(deployment)}")
    while waiting:
        time.sleep(cell_runs.PAUSE_SECONDS)
        if time.monotonic() - looked > _LOOK_SECONDS:
            recorded, before = _recorded(study, waiting), recorded
            for cell in recorded & before:  # a run that ends now has told so by the second look
                cell_runs.end_well(waiting[cell])
            looked = time.monotonic()
        found = cell_runs.states([own, *waiting.values()])
        if str(own) not in found or found[str(own)].is_cancelling() or found[str(own)].is_cancelled():
            raise _CancelledFromOutside
        for cell, run in list(waiting.items()):
            state = found.get(str(run))
            if state is not None and not state.is_final():
                if not cell_runs.lost(state, study.settings):
                    continue
                state = cell_runs.give_up(run)
            tries[cell] += 1
            if (state is None or state.is_crashed() or state.is_cancelled()) and tries[cell] < ATTEMPTS:
                waiting[cell] = cell_runs.ask(study, cell, deployment)
                continue
            del waiting[cell]
            yield _outcome(study, cell, state, time.monotonic() - started)


def _takers(deployment):
    """Who may take the runs of `deployment`, in words; none where the server cannot say."""
    try:
        pool, online = workers_of(deployment)
    except UserError:  # it is away for a moment, perhaps; the study goes on
        return ""
    if online:
        return f"; online in the work pool {pool}: {', '.join(online)}"
    return f"; they wait, since no worker is online in the work pool {pool}: start one with `make worker` in a clone of its own"


def _recorded(study, cells):
    """Those of the Cells that have a record."""
    try:
        fetch_records(study.repository, study.settings.git_remote)
    except GitError:  # out of reach for a moment, perhaps; the next look will tell
        return set()
    known = records.every(study.repository)
    return {cell for cell in cells if cell.key in known}


def _outcome(study, cell, state, seconds):
    if state is None or not state.is_completed():
        return Outcome(cell, None, seconds, (state and (state.message or state.name)) or "its run was deleted")
    fetch_records(study.repository, study.settings.git_remote)
    record = records.every(study.repository).get(cell.key)
    return Outcome(cell, record, seconds, None if record else "its run ended well, but its record is not on the git remote")


def _require_commit(repository, base):
    """Have the commit here; workers' clones learn of it from their remotes."""
    if repository.succeeds("cat-file", "-e", f"{base}^{{commit}}"):
        return
    for remote in repository.git("remote").splitlines():
        repository.over_network("fetch", "--quiet", remote)
    if not repository.succeeds("cat-file", "-e", f"{base}^{{commit}}"):
        raise GitError(f"commit {base[:12]} is not here and not on the remotes; push it first")
