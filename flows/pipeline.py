"""The Prefect flow: the stages of dvc.yaml in order, one task each, in the user's tree or in a worktree at an exact commit."""

import functools
from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger, runtime
from prefect.states import Cancelled, Completed, Failed

from flows.deadline import Deadline, TimeUp
from flows.ends import STOPPED_BY_SIGNAL, why_failed
from flows.finish import finish
from flows.git import Repository
from flows.late import take_over_what_is_due
from flows.lock import RunLock, Skipped
from flows.logs import servers_errors_in_one_line
from flows.parent import end_with_parent, started_by_prefect
from flows.pipeline_run import PipelineRun
from flows.places import in_working_tree, in_worktree
from flows.remotes import fetch_base
from flows.request import RunRequest
from flows.stage_task import STOPPED, StageTask
from flows.worktree import remove_left_over

servers_errors_in_one_line()  # whoever runs the flow has imported it: a command, a schedule, a worker


@flow(name="pipeline", persist_result=False)
def pipeline(
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into the UI's form; nothing changes it)
    stage: str | None = None,
    force: bool = False,
    isolated: bool = True,
    commit: bool = False,
    base: str = "HEAD",
    dated_seed: str | None = None,
    timezone: str = "UTC",
):
    """Bring the pipeline up to date.

    Args:
        overrides: parameters such as "train.steps=1000".
        stage: only this stage and what it needs.
        force: run again what has not changed (with `stage`: that stage only).
        isolated: work in a git worktree at `base` and record the result as a version; else in the current working tree.
        commit: record the result of a run in the working tree as well.
        base: the commit, branch or tag that an isolated run starts from.
        dated_seed: a parameter that gets the run's date (20260131) as its value, such as "train.seed".
        timezone: of that date.
    """
    if started_by_prefect():
        end_with_parent()
    return bring_up_to_date(RunRequest(tuple(overrides), stage, force, isolated, commit, base, dated_seed, timezone))


def pipeline_here(over, prepared=None):
    """The flow `pipeline` for one run of this process, which sets the Event `over` when all but Prefect's report is done.

    prepared: the PreparedRun from which a run in the working tree goes on.
    """

    @functools.wraps(pipeline.fn)
    def run(overrides, *others, **named):
        try:
            return bring_up_to_date(RunRequest(tuple(overrides), *others, **named), prepared)
        finally:
            over.set()

    return flow(name=pipeline.name, persist_result=False)(run)


def bring_up_to_date(request, prepared=None):
    """Do what the RunRequest `request` asks for; returns the flow's final state, also for whatever a user can cause."""
    try:
        return _run(request, prepared)
    except STOPPED:
        return Cancelled(message=STOPPED_BY_SIGNAL)
    except TimeUp as error:
        return Cancelled(message=f"stopped: {error}; the next run goes on from there")
    except Skipped as reason:
        return Completed(name="Skipped", message=str(reason))
    except Exception as error:
        return Failed(message=why_failed(error))


def _run(request, prepared):
    log = get_run_logger()
    when = take_over_what_is_due()
    repository = Repository.around(Path.cwd())
    request = request.on(when)
    if request.isolated:  # the branch may move on while the run waits
        fetch_base(repository, request.base, log.warning)
        request = replace(request, base=repository.commit_id(request.base))
    parameters = request.parameters(repository)
    settings = parameters.settings
    deadline = Deadline(settings.timeout_seconds)
    lock = prepared.lock if prepared else RunLock(repository)
    run_id, name = str(runtime.flow_run.id), runtime.flow_run.name
    with lock.exclusive_run(name, flow_run=run_id, policy=settings.overlap, log=log.warning, deadline=deadline) as killed:
        _clear_up_after(killed, repository, log)
        if request.isolated:
            here = in_worktree(repository, request, parameters, lock, deadline)
        else:
            here = in_working_tree(repository, request, parameters, lock, deadline, prepared)
        with here as place:
            run = PipelineRun(run_id, request, settings, repository, place, deadline, log)
            return _run_stages(run) or finish(run)


def _run_stages(run):
    """Run the stages; the flow's final state if one of them did not end well, else None."""
    target, force = run.request.stage, run.request.force
    for stage in run.description.stages_for(target):
        state = StageTask(run, stage, forced=force and target in (None, stage.name))()
        if state.is_cancelled():
            return Cancelled(message=state.message)
        if not state.is_completed():
            return Failed(message=state.message)
        run.outcomes[stage.name] = state.name
    return None


def _clear_up_after(killed, repository, log):
    """Remove what runs that were killed have left; `killed`: the last one's RunNote, or None."""
    worktrees = remove_left_over(repository)
    if killed is None:
        return
    log.warning("the run %s (PID %s) was killed; this one goes on from there", killed.name, killed.pid)
    if worktrees:
        log.warning("removed its worktree %s", ", ".join(worktrees))
