"""The end of a run whose stages all ended well: recorded if something changed, pushed, shown, and its final state."""

import tempfile
from pathlib import Path

import httpx
from prefect.states import Completed, Failed

from flows import artifacts, gate, versions
from flows.dvc.reproduce import CACHED
from flows.metrics import recorded_metrics
from flows.remotes import push_versions
from flows.signals import signals_held
from flows.studies.spreads import measured, spread_of
from gan.errors import UserError
from gan.params import PARAMS, decode, parse_yaml, read_text


def finish(run):
    """Record, push and show the result of a PipelineRun; returns the flow's final state."""
    recorded = run.request.isolated or run.request.commit
    previous = versions.newest(run.repository)
    new = _record(run, previous) if recorded else None
    picture = None if previous is None or run.all_cached() else _picture_of(run, previous)
    run.session.stop()
    errors = push_versions(run.repository, run.settings, run.log.info, run.deadline) if recorded and _has_remotes(run) else []
    if new and not run.repository.has_ref(f"refs/tags/{new.tag}"):
        new = None  # another machine had recorded the same, as the log says
    if not run.all_cached():
        _show(run, previous, picture, new)
    for error in errors:
        run.log.error(error)
    return _final_state(run, new, errors)


def _record(run, previous):
    """The NewVersion that the run has become, or None where nothing changed."""
    files = versions.files_to_commit(run.description)
    if not versions.differs(run.tree, files):
        return None
    # a version that the user's branch does not have yet is new there, even if some isolated run made the same
    if run.request.isolated and (same := versions.same_as(run.tree, files, versions.every(run.repository))):
        run.log.info("the same as %s", same.tag)
        return None
    settings, verdict, last = run.settings.gate, gate.PARTIAL, None
    if run.request.stage is None:
        metrics_file = run.tree.root / settings.metrics_file
        content = metrics_file.read_bytes() if metrics_file.exists() else None
        lock = (run.tree.root / gate.LOCK).read_bytes()
        verdict, last = gate.verdict_against_last(
            run.repository,
            settings,
            content,
            lock=lock,
            params=read_text(run.tree.root / PARAMS),
            spread_of=lambda text: spread_of(run.tree.root, text, settings),
        )
    new = versions.NewVersion(
        tag=versions.tag_name(run.id, previous),
        flow_run=run.id,
        base=run.base,
        verdict=verdict,
        accepted_as=gate.next_tag(settings.artifact, last) if verdict.accepted else None,
        files=tuple(files),
        metrics_files=tuple(run.description.metrics_in_git()),
        overrides=run.request.overrides,
    )
    with signals_held():
        versions.record(run.tree, new)
    run.log.info("recorded as %s: %s", new.tag, verdict.message)
    return new


def _has_remotes(run):
    """Whether there is anywhere to push to: else each run would try it with each version that there ever was."""
    return run.description.remote is not None or run.repository.has_remote(run.settings.git_remote)


def _picture_of(run, version):
    """The bytes of a version's file of this run's main picture, from DVC while its process still runs; None without it."""
    path = artifacts.main_picture(run.tree.root, run.settings)
    if path is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        try:
            run.session.dvc("get", "--quiet", "--rev", version.commit, "--out", str(copy), ".", path)
        except UserError as error:
            run.log.warning("no picture of %s: %s", version.tag, error)
        return copy.read_bytes() if copy.is_file() else None


def _beside(run, previous, picture):
    """The artifacts.Previous of a version."""
    root, commit = run.tree.root, previous.commit
    texts = read_text(root / PARAMS), decode(run.repository.read_at(commit, PARAMS) or b"{}", PARAMS)
    locks = (root / gate.LOCK).read_bytes(), run.repository.read_at(commit, gate.LOCK)
    return artifacts.Previous(
        previous.tag,
        recorded_metrics(run.repository, previous),
        tuple(measured(root, parse_yaml(text)) for text in texts),
        gate.same_ruler(run.settings.gate, *locks),
        picture,
    )


def _show(run, previous, picture, new):
    """The artifacts of a run; whatever is wrong with a picture, the run is good."""
    try:
        beside = previous and _beside(run, previous, picture)
        artifacts.publish(
            run.tree.root,
            run.settings,
            metrics_files=run.description.metrics_in_git(),
            previous=beside,
            tag=new.tag if new else None,
        )
    except (OSError, ValueError, UserError, httpx.HTTPError) as error:
        run.log.warning("no artifacts, or not all: %s", error)


def _final_state(run, new, errors):
    message = ", ".join(f"{stage} {outcome}" for stage, outcome in run.outcomes.items())
    message += f"; recorded as {new.tag}: {new.verdict.message}" if new else ""
    if errors:
        return Failed(name="NotPushed", message=f"{message}; {'; '.join(errors)}")
    if new and new.verdict.mark == "worse":
        return Completed(name="Worse", message=f"{message}, not accepted")
    if run.all_cached():
        return Completed(name=CACHED, message=message if new else "nothing changed")
    return Completed(message=message)
