"""The Prefect flow: the stages of dvc.yaml in order, one task each, in the user's tree or in a worktree at an exact commit."""

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_client, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows import artifacts, gate, overlap, overrides, record
from flows.dvc_session import DvcSession, TimeUp, signals_held
from flows.execute import CACHED, Busy, Keeper, StageFailed, progress, reproduce, selected
from flows.git import git, top_level
from flows.worktree import environment, remove_left_over, worktree
from gan.errors import DataError, UserError

_STOPPED = (KeyboardInterrupt, TerminationSignal)
_BUSY_RETRY_SECONDS = 2
_HINTS = {  # DVC's advice to somebody at a keyboard, seven lines a stage
    "",
    "To track the changes with git, run:",
    "git add dvc.lock",
    "To enable auto staging, run:",
    "dvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
}

prestarted = {}  # root -> (lock, DvcSession), made by the command line while Prefect was still being imported


@dataclass
class Run:
    """What the parts of one run share."""

    root: Path  # the repository
    tree: Path  # where the stages run: the repository or a worktree
    settings: Any
    session: DvcSession
    description: Any
    deadline: float  # monotonic
    isolated: bool
    log: Any
    outcomes: dict = field(default_factory=dict)  # stage name -> Cached, Restored or Ran


@flow(name="pipeline", persist_result=False)
def pipeline(
    overrides: list[str] = [],  # noqa: B006 (Prefect reads the default into the UI's form; nothing changes it)
    stage: str | None = None,
    force: bool = False,
    isolated: bool = True,
    commit: bool = False,
    base: str = "HEAD",
    dated_seed: str | None = None,
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
    """
    log = get_run_logger()
    try:
        return _run(list(overrides), stage, force, isolated, commit, base, dated_seed, log)
    except _STOPPED:
        return Cancelled(message="stopped by a signal; what was trained is kept and the next run goes on from there")
    except TimeUp:
        return Cancelled(message="stopped: flow.timeout_seconds are over; the next run goes on from there")
    except overlap.Skipped as reason:
        return Completed(name="Skipped", message=str(reason))
    except (UserError, StageFailed) as error:
        return Failed(message=str(error))


def _run(given, stage, force, isolated, commit, base, dated_seed, log):
    root = top_level(Path.cwd())
    if dated_seed:
        given.append(f"{dated_seed}={_run_date():%Y%m%d}")
    if isolated:
        base = git(root, "rev-parse", "--verify", f"{base}^{{commit}}")
    text = overrides.apply(overrides.read(root, base if isolated else None), given)
    settings = overrides.settings_of(text)
    deadline = time.monotonic() + settings.timeout_seconds

    def in_time():
        if time.monotonic() > deadline:
            raise TimeUp

    note = {"name": runtime.flow_run.name, "flow_run": str(runtime.flow_run.id)}
    with contextlib.ExitStack() as stack:
        lock, session = prestarted.pop(root, None) or (overlap.open_lock(root), None)
        left_over = stack.enter_context(
            overlap.turn(root, lock=lock, policy=settings.overlap, note=note, log=log.warning, deadline_reached=in_time)
        )
        _notice(root, left_over, log)
        if isolated:
            record.fetch(root, settings.git_remote, log.warning)
            tree = stack.enter_context(worktree(root, base, str(runtime.flow_run.id)[:8]))
            (tree / overrides.PARAMS).write_text(text, encoding="utf-8")
        else:
            tree, base = root, git(root, "rev-parse", "HEAD")
        overrides.check(settings.check_command, text, str(tree))
        session = stack.enter_context(session or _session(root, tree, settings, lock, isolated))
        if isolated:
            session.share(root)
            seeded_from = record.seed(root, tree, base)
            log.info("at commit %s%s", base[:12], f", going on from {seeded_from}" if seeded_from else "")
            session.dvc("checkout", "--allow-missing", "--quiet")
        elif given:
            (root / overrides.PARAMS).write_text(text, encoding="utf-8")
            log.info("%s now says %s", overrides.PARAMS, ", ".join(given))
        description = session.describe()
        run = Run(root, tree, settings, session, description, deadline, isolated, log)
        stopped = _walk(run, stage, force)
        if stopped:
            return stopped
        return _finish(run, base, partial=stage is not None, commit=isolated or commit, given=given)


def _walk(run, target, force):
    """Run the stages; returns the flow's final state if one of them did not end well, else None."""
    names = [stage.name for stage in run.description.stages]
    if target is not None and target not in names:
        raise UserError(f"there is no stage {target!r} in dvc.yaml; it has {', '.join(names)}")
    for stage in selected(run.description, target):
        forced = force and target in (None, stage.name)
        state = _stage_task(run, stage, forced)(return_state=True)
        if state.is_cancelled():
            return Cancelled(message=state.message)
        if not state.is_completed():
            return Failed(message=state.message)
        run.outcomes[stage.name] = state.name
    return None


def _stage_task(run, stage, forced):
    """The task of one stage. Only the download is tried again, and only after failures that may pass."""
    download = run.settings.download
    last = {"may_pass": False}

    def act():
        log = get_run_logger()
        shown = artifacts.Progress()

        def hear(line):
            if line.strip() not in _HINTS:
                log.info(line)
            if done := progress(line):
                shown.show(*done)

        unchanged = stage.name not in run.description.changed
        if unchanged and not forced and all(run.outcomes[need] == CACHED for need in stage.needs):
            return Completed(name=CACHED, message="nothing changed")
        keeper = Keeper(run.tree, stage)
        try:
            name = _reproduce_in_turn(run, stage, forced, hear)
        except (*_STOPPED, TimeUp) as stop:
            with signals_held():
                log.warning("stopping %s, up to %g s for it to save", stage.name, run.settings.grace_seconds)
                run.session.stop(on_line=log.info)
                _put_back(run, keeper)
            why = "flow.timeout_seconds are over" if isinstance(stop, TimeUp) else "by a signal"
            return Cancelled(message=f"{stage.name} was stopped: {why}; the next run goes on from there")
        except StageFailed as failure:
            last["may_pass"] = re.search(download.passing_failure, failure.output) is not None
            with signals_held():
                _put_back(run, keeper, run.session)
            return Failed(message=str(failure))
        finally:
            shown.close()
        return Completed(name=name, message=f"{stage.name}: {name}")

    retries = {}
    if stage.name == download.stage and download.attempts > 1:
        delays = [download.first_delay_seconds * 2**number for number in range(download.attempts - 1)]
        retries = {
            "retries": download.attempts - 1,
            "retry_delay_seconds": delays,
            "retry_condition_fn": lambda task, task_run, state: last["may_pass"],
        }
    return task(act, name=stage.name, task_run_name=stage.name, cache_policy=NO_CACHE, persist_result=False, **retries)


def _reproduce_in_turn(run, stage, forced, hear):
    """Run a stage; where a person's dvc works on the same files, wait or give up as the parameter says."""
    while True:
        try:
            return reproduce(
                run.session, stage, force=forced, pull=run.description.remote is not None, on_line=hear, deadline=run.deadline
            )
        except Busy as busy:
            if run.settings.overlap == "skip":
                raise overlap.Skipped(f"skipped: {busy}") from None
            if time.monotonic() > run.deadline:
                raise TimeUp from None
            time.sleep(_BUSY_RETRY_SECONDS)


def _put_back(run, keeper, session=None):
    """What a stage had made before is there again; a worktree is thrown away instead."""
    if run.isolated:
        return
    if session is not None:
        keeper.put_back(session)
        return
    with DvcSession(run.tree, grace_seconds=run.settings.grace_seconds) as fresh:
        keeper.put_back(fresh)


def _finish(run, base, *, partial, commit, given):
    """Record, show and push the result; the flow's final state."""
    cached = all(name == CACHED for name in run.outcomes.values())
    files, metrics_files = record.files_of(run.description)
    previous = record.newest(run.root)
    tag = None
    verdict = None
    if commit and record.changed(run.tree, files, previous if run.isolated else None):
        tag, verdict = _record(run, base, files, metrics_files, partial, given)
    run.session.stop()
    errors = []
    if commit:
        errors = record.publish(
            run.root, git_remote=run.settings.git_remote, log=run.log.info, grace_seconds=run.settings.grace_seconds
        )
    if not cached:
        _show(run, metrics_files, previous, tag)
    for error in errors:
        run.log.error(error)
    return _final_state(run, cached, tag, verdict, errors)


def _show(run, metrics_files, previous, tag):
    """The artifacts of a run; whatever is wrong with a picture, the run is good."""
    try:
        artifacts.publish(
            run.tree,
            run.settings,
            metrics_files=metrics_files,
            previous=record.metrics(run.root, previous) if previous else {},
            previous_tag=previous.tag if previous else None,
            tag=tag,
        )
    except (OSError, ValueError, DataError, httpx.HTTPError) as error:
        run.log.warning("no artifacts, or not all: %s", error)


def _record(run, base, files, metrics_files, partial, given):
    content = run.tree / run.settings.gate.metrics_file
    verdict, last = gate.PARTIAL, None
    if not partial:
        verdict, last = gate.against_last(run.root, run.settings.gate, content.read_bytes() if content.exists() else None)
    flow_run = str(runtime.flow_run.id)
    tag = record.tag_name(flow_run)
    with signals_held():
        record.commit(
            run.tree,
            files=files,
            metrics_files=metrics_files,
            tag=tag,
            subject=f"Record {tag}",
            flow_run=flow_run,
            base=base,
            gate=verdict,
            accepted_as=gate.next_tag(run.settings.gate.artifact, last) if verdict.accepted else None,
            overrides=given,
        )
    run.log.info("recorded as %s: %s", tag, verdict.message)
    return tag, verdict


def _final_state(run, cached, tag, verdict, errors):
    message = ", ".join(f"{stage} {name}" for stage, name in run.outcomes.items())
    message += f"; recorded as {tag}" if tag else ""
    if errors:
        return Failed(name="NotPushed", message=f"{message}; {'; '.join(errors)}")
    if verdict and verdict.mark == "worse":
        return Completed(name="Worse", message=f"{message}, not accepted: {verdict.message}")
    if cached:
        return Completed(name=CACHED, message="nothing changed" if tag is None else message)
    return Completed(message=message)


def _session(root, tree, settings, lock, isolated):
    told = {"api": PREFECT_API_URL.value(), "flow_run": str(runtime.flow_run.id), "parent": os.getppid()}
    added = {"PIPELINE_RUN": json.dumps(told)} if told["api"] else {}
    added |= environment(root) if isolated else {}
    return DvcSession(tree, grace_seconds=settings.grace_seconds, environment=added, held_files=(lock,))


def _notice(root, left_over, log):
    """Clear up after a run that was killed."""
    names = remove_left_over(root)
    if not left_over:
        return
    log.warning("the run %s (PID %s) was killed; this one goes on from there", left_over.get("name"), left_over.get("pid"))
    if names:
        log.warning("removed its worktree %s", ", ".join(names))
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:  # another server's run, perhaps
        state = client.read_flow_run(left_over["flow_run"]).state
        if state and not state.is_final():
            client.set_flow_run_state(left_over["flow_run"], Crashed(message="its process was killed"), force=True)


def _run_date():
    return runtime.flow_run.scheduled_start_time
