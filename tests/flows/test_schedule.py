"""Schedules on a real server: one that fires by itself, a worker with prefect.yaml, cancellation, ten runs in a row."""

import asyncio
import datetime
import json
import logging
import os
import shutil
import signal
import sys

import pytest
from prefect.schedules import Interval
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.late import take_over_what_is_due
from flows.pipeline import pipeline
from flows.schedule import in_one_line
from tests.helpers.toy_project import SOURCE, Runs, ask_server, make_project, server_url, wait_for


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, ran=True, api_url=server_url())


@pytest.fixture
def runs():
    found = Runs(server_url())
    yield found
    found.delete_deployments()  # the server would go on scheduling their runs, beside the tests that follow


def schedule(project, *arguments):
    return project.gan("schedule", *arguments, check=False)


def listed(project):
    return json.loads(project.gan("versions", "list", "--json").stdout)


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def finished(runs, name):
    """The runs that have ended; those for which another one, due at the same time, did the work are left out."""
    ended = runs.of_deployment(name, "COMPLETED", "FAILED", "CANCELLED", "CRASHED")
    skipped = [run for run in ended if run["state"]["name"] == "Skipped"]
    assert all("was due as well and does the work" in run["state"]["message"] for run in skipped), skipped
    return [run for run in ended if run not in skipped]


def test_what_prefects_observers_say_has_no_traceback():
    def shown(name, message, error):
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), (type(error), error, None))
        return (record.getMessage(), record.exc_info) if in_one_line(record) else None

    away, told = EOFError("stream ends"), "the websocket failed"
    assert shown("prefect.FlowRunCancellingObserver", told, away) == (told, None)
    cancelled = asyncio.CancelledError()
    assert shown("asyncio", "Exception in callback FlowRunSuspendingObserver._done()", cancelled) is None
    assert shown("asyncio", "Exception in callback another()", cancelled)[1] is not None


@pytest.mark.slow
def test_a_schedule_without_a_server_is_refused_with_the_command_that_starts_one(tmp_path):
    project = make_project(tmp_path, ran=True)
    project.environment.pop("PREFECT_API_URL", None)
    done = schedule(project, "--interval-seconds", "60")
    assert done.returncode == 1 and "a schedule without one never fires; start one with `gan server start`" in done.stderr
    project.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    done = schedule(project, "--cron", "0 2 * * *")
    assert done.returncode == 1 and "does not answer" in done.stderr


@pytest.mark.slow
def test_an_address_without_its_end_is_told_from_a_server_that_is_down(project):
    project.environment["PREFECT_API_URL"] = server_url().removesuffix("/api")
    done = schedule(project, "--interval-seconds", "60")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "has no API of Prefect's (404 Not Found); its address ends in /api" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--cron", "every night"], "the schedule is not valid"),
        (["--cron", "0 2 * * *", "--timezone", "Mars/Olympus"], "--timezone 'Mars/Olympus': unknown"),
        (["--interval-seconds", "60", "--set", "train.stps=1"], "did you mean train.steps?"),
        (["--interval-seconds", "-1"], "expected a positive number of seconds"),
    ],
)
def test_a_bad_schedule_is_refused(project, arguments, message):
    done = schedule(project, *arguments)
    assert done.returncode != 0 and message in done.stderr.splitlines()[-1]


@pytest.mark.slow(seconds=35)
@pytest.mark.timeout(900)
def test_a_schedule_fires_by_itself(project, runs):
    served = project.start(
        "--interval-seconds", "8", "--name", "fires", "--set", "train.steps=4", program=("commands", "schedule")
    )
    try:
        first, *_, last = wait_for(
            lambda: (found := finished(runs, "fires")) and len(found) >= 2 and found, 360, "two scheduled runs"
        )
    finally:
        end(served)
    assert first["auto_scheduled"] and first["state"]["name"] == "Completed", first["state"]
    assert last["state"]["name"] == "Cached"
    [version] = listed(project)
    assert version["flow_run"] == first["id"]
    assert project.git("status", "--short") == ""
    wait_for(lambda: not project.processes(), 120, "the end of all processes")


@pytest.mark.slow(seconds=20)
def test_of_runs_that_are_due_at_once_the_first_works_for_the_latest_and_the_others_are_skipped(runs, monkeypatch):
    url = server_url()

    def taken_over(run):
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run["id"])  # as a worker tells the process of a run
        return take_over_what_is_due()

    def due(base):
        planned = [run for run in runs.of_deployment("due", "SCHEDULED") if run["parameters"] == {"base": base}]
        return [run for run in planned if expected(run) < datetime.datetime.now(datetime.UTC)]

    with temporary_settings({PREFECT_API_URL: url}):
        schedules = [Interval(1, parameters={"base": base}) for base in ("main", "other")]
        deployment = pipeline.to_deployment("due", schedules=schedules).apply()
        first, *_ = wait_for(lambda: (found := due("main")) and len(found) > 3 and found, 60, "runs that are due")
        others = wait_for(lambda: (found := due("other")) and len(found) > 3 and found, 60, "runs of the other schedule")
        by_hand = ask_server("POST", f"{url}/deployments/{deployment}/create_flow_run", json={}).json()
        assert taken_over(by_hand) == expected(by_hand) and runs.of_deployment("due", "COMPLETED") == []
        when = taken_over(first)
    skipped = runs.of_deployment("due", "COMPLETED")
    assert len(skipped) >= 3 and {run["state"]["name"] for run in skipped} == {"Skipped"}
    assert expected(first) < when == expected(skipped[-1])
    left = runs.of_deployment("due", "SCHEDULED")
    assert {run["id"] for run in others} < {run["id"] for run in left}, "what has other parameters is other work"
    left = [run for run in left if run["parameters"] != {"base": "other"}]
    assert {first["id"], by_hand["id"]} < {run["id"] for run in left}, "runs that are not due yet stay as well"
    assert all(run["id"] in (first["id"], by_hand["id"]) or expected(run) > when for run in left)


def expected(run):
    return datetime.datetime.fromisoformat(run["expected_start_time"])


@pytest.mark.slow(seconds=20)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_schedule_that_ends_takes_the_run_under_way_along(project, runs, number):
    slow = ("--set", "train.steps=6000", "--set", "train.delay_seconds=0.1")
    served = project.start("--interval-seconds", "8", "--name", "ends", *slow, program=("commands", "schedule"))
    try:
        wait_for(lambda: "step 3/6000" in project.log() or served.poll() is not None, 150, "training")
        served.send_signal(number)
        assert served.wait(120) == (-number if number == signal.SIGKILL else 0)
    finally:
        served.kill()
        served.wait()
    wait_for(lambda: not project.processes(), 120, "the end of all processes")
    assert "Traceback" not in project.log()
    assert list((project.root / ".scratch").glob("train-*.json")), "the trainer has saved"
    assert len(project.git("worktree", "list").splitlines()) == 1
    [run] = runs.of_deployment("ends", "CANCELLED", "RUNNING")
    assert run["state"]["name"] == "Cancelled"


@pytest.mark.slow(seconds=15)
@pytest.mark.timeout(900)
def test_ctrl_c_while_a_runs_process_still_starts_is_quiet(project, runs):
    served = project.start("--interval-seconds", "8", "--name", "starts", program=("commands", "schedule"), group=True)
    try:
        wait_for(lambda: "spawn_main" in " ".join(project.processes()) or served.poll() is not None, 150, "a run")
        os.killpg(served.pid, signal.SIGINT)
        assert served.wait(120) == 0
    finally:
        served.kill()
        served.wait()
    wait_for(lambda: not project.processes(), 120, "the end of all processes")
    assert "Traceback" not in project.log()


@pytest.mark.slow(seconds=30)
@pytest.mark.timeout(900)
def test_a_worker_runs_what_prefect_yaml_deploys_and_its_end_ends_the_training(project, runs):
    shutil.copy(SOURCE / "prefect.yaml", project.root)
    shutil.copytree(SOURCE / "flows", project.root / "flows")
    shutil.copytree(SOURCE / "gan", project.root / "gan")
    project.set("steps: 3", "steps: 6000")
    project.set("delay_seconds: 0.0", "delay_seconds: 0.1")
    project.commit("Deploy")
    project.environment["PIPELINE_HOME"] = str(project.root)
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    project.run(*prefect, "work-pool", "create", "pipeline", "--type", "process", "--overwrite")
    project.run(*prefect, "deploy", "--all")
    for schedule in json.loads(project.run(*prefect, "deployment", "schedule", "ls", "pipeline/nightly", "-o", "json").stdout):
        project.run(*prefect, "deployment", "schedule", "pause", "pipeline/nightly", schedule["id"])  # it may be just that time
    worker = project.start("--no-prompt", "worker", "start", "--pool", "pipeline", program=("prefect",), log="worker.log")
    try:
        for way in ("cancel", "sigterm"):
            project.run(*prefect, "deployment", "run", "pipeline/nightly")
            run = wait_for(lambda: [run for run in runs.of_deployment("nightly") if not run["auto_scheduled"]], 60, "the run")[-1]
            wait_for(lambda found=run["id"]: any(line.startswith("step ") for line in runs.logs(found)), 300, "training")
            if way == "cancel":
                runs.cancel(run["id"])
                # the worker goes on; only what belongs to the run must end
                wait_for(
                    lambda: not [line for line in project.processes() if "toy.py" in line or "dvc/process.py" in line], 120, "end"
                )
            else:
                end(worker)
                wait_for(lambda: not project.processes(), 120, "the end of all processes")
            wait_for(lambda found=run["id"]: runs.state(found) == ("CANCELLED", "Cancelled"), 120, f"Cancelled after {way}")
            assert list((project.root / ".scratch").glob("train-*.json")), "the trainer has saved"
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.slow(seconds=150)
@pytest.mark.timeout(900)
def test_ten_scheduled_runs_with_changes_a_failure_and_a_cancel_leave_exactly_the_right_versions(project, runs):
    def change(*pairs):
        for old, new in pairs:
            project.set(old, new)
        project.commit(f"Change {pairs}")

    def named(name):
        return [run for run in finished(runs, "ten") if run["state"]["name"] == name]

    # a run takes half of that; at shorter intervals the machine works for runs that have nothing to do
    served = project.start("--interval-seconds", "8", "--name", "ten", program=("commands", "schedule"))
    try:
        wait_for(lambda: named("Cached"), 150, "a run that has nothing to do")
        change(("steps: 3", "steps: 4"))
        wait_for(lambda: len(named("Completed")) == 1, 150, "the first version")
        (project.control / "fail-train").touch()
        change(("steps: 4", "steps: 5"))
        wait_for(lambda: named("Failed"), 150, "the forced failure")
        (project.control / "fail-train").unlink()
        wait_for(lambda: len(named("Completed")) == 2, 150, "the second version")
        (project.control / "hold-train").touch()  # however late the cancellation comes, it finds the training
        change(("steps: 5", "steps: 200"))
        wait_for(project.training_listens, 150, "training")
        [training] = runs.of_deployment("ten", "RUNNING")
        runs.cancel(training["id"])
        wait_for(lambda: named("Cancelled"), 150, "the cancellation")
        (project.control / "hold-train").unlink()
        wait_for(lambda: len(named("Completed")) == 3, 200, "the third version")
        wait_for(lambda: len(finished(runs, "ten")) >= 10, 400, "ten runs")
    finally:
        end(served)
    wait_for(lambda: not project.processes(), 120, "the end of all processes")

    ended = [run for run in finished(runs, "ten") if run["state"]["name"] != "Cached"]
    done = sorted((run for run in ended if run["state"]["name"] == "Completed"), key=lambda run: run["end_time"], reverse=True)
    recorded = listed(project)
    assert [version["flow_run"] for version in recorded] == [run["id"] for run in done]
    steps = [project.git("show", f"{version['tag']}:params.yaml").partition("steps: ")[2].split()[0] for version in recorded]
    assert steps == ["200", "5", "4"]
    assert [version["accepted_as"] for version in recorded] == ["generator@v1.2.0", "generator@v1.1.0", "generator@v1.0.0"]
    assert [version["metrics"]["nested.steps"] for version in recorded] == [200, 5, 4]
    assert any(line.startswith("resumed at step") for line in runs.logs(done[0]["id"])), "the run after the cancelled one went on"
    assert project.git("status", "--short") == ""
    assert len(project.git("worktree", "list").splitlines()) == 1
