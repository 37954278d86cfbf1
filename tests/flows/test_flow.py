"""Runs of the flow on a real Prefect server, with real git and DVC: states, parameters, retries, failures, artifacts."""

import base64
import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prefect.exceptions import Abort

from flows import pipeline, start
from flows.request import RunRequest
from tests.helpers.nameless import nameless
from tests.helpers.toy_project import Runs, make_project, run_id, server_url

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
STAGES = ["fetch", "normalize", "train", "evaluate", "gallery", "report"]


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, ran=True, api_url=server_url())


@pytest.fixture
def runs():
    return Runs(server_url())


def states(runs, done):
    found = run_id(done.stderr)
    return runs.state(found)[1], runs.tasks(found)


@pytest.mark.parametrize(("environment", "expected"), [({}, "None"), ({"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "45"}, "45")])
def test_a_run_from_the_command_line_has_heartbeats_where_they_are_asked_for(environment, expected):
    code = (
        "from flows.start import without_heartbeats\nfrom prefect.settings import get_current_settings\n"
        "with without_heartbeats():\n    print(get_current_settings().flows.heartbeat_frequency)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [expected]


def test_one_task_a_stage_in_the_order_of_dvc_yaml_with_its_output_in_the_log(tmp_path, runs):
    project = make_project(tmp_path, api_url=server_url())
    done = project.pipeline()
    found = run_id(done.stderr)
    assert runs.state(found) == ("COMPLETED", "Completed")
    assert list(runs.tasks(found).items()) == [(name, "Ran") for name in STAGES]
    log = runs.logs(found)
    assert [line for line in log if line.startswith("step ")] == ["step 1/3", "step 2/3", "step 3/3"]
    assert "> python toy.py train" in log
    shown = runs.artifacts(found)
    assert set(shown) >= {"gallery", "metrics", "loss-curves", "report", "parameters", "progress"}
    assert shown["newest-samples"]["data"] == "data:image/png;base64," + base64.b64encode(b"samples of step 3").decode()
    assert shown["gallery"]["data"].startswith("data:image/png;base64,")
    assert json.loads(shown["metrics"]["data"]) == [
        {"metric": "fid", "value": 10.0, "noise": 0.5, "previous": None, "change": "", "beyond noise": "–"},
        {"metric": "nested.steps", "value": 3, "noise": None, "previous": None, "change": "", "beyond noise": "–"},
    ]
    assert "data/report/index.html" in shown["report"]["data"]
    # the commit is the user's
    assert project.git("log", "--oneline").count("\n") == 0
    assert project.git("tag") == ""


@pytest.mark.slow(seconds=19)
def test_nothing_changed_is_cached_and_a_value_set_back_is_restored(project, runs):
    flow, tasks = states(runs, project.pipeline())
    assert flow == "Cached" and tasks == dict.fromkeys(STAGES, "Cached")

    done = project.pipeline("--set", "train.steps=4")
    assert done.stderr.count("params.yaml: note: four steps are none for this machine") == 1
    flow, tasks = states(runs, done)
    assert flow == "Completed"
    assert tasks == {name: "Cached" if name in ("fetch", "normalize") else "Ran" for name in STAGES}
    assert "steps: 4  # updates" in (project.root / "params.yaml").read_text()

    flow, tasks = states(runs, project.pipeline("--set", "train.steps=3"))
    assert flow == "Completed"
    assert tasks == {name: "Cached" if name in ("fetch", "normalize") else "Restored" for name in STAGES}


def test_a_stage_that_gives_the_same_bytes_leaves_those_after_it_cached(project, runs):
    project.set("less: 0", "less: -1")
    project.set("count: 20", "count: 19")  # one number less, and one more counted: the same file comes out
    _, tasks = states(runs, project.pipeline())
    assert tasks == {name: "Ran" if name in ("fetch", "normalize") else "Cached" for name in STAGES}


def test_a_full_disk_is_a_failed_run_in_one_line(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", ".dvc/tmp/flow.json")

    monkeypatch.setattr(pipeline, "_run", full)
    state = pipeline.bring_up_to_date(RunRequest())
    assert state.is_failed() and state.message == "[Errno 28] No space left on device: '.dvc/tmp/flow.json'"


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (Abort("Error validating state: MemoryError()"), None, "refused the run .Error validating state: MemoryError"),
        (RuntimeError("Failed to reach API at x"), httpx.ReadTimeout("timed out"), "out of reach .Failed to reach API at x"),
        (httpx.HTTPStatusError("Server error '500'", request=None, response=None), None, "out of reach .Server error '500'"),
    ],
)
def test_a_server_without_memory_is_one_line(monkeypatch, error, cause, message):
    logger, told = logging.getLogger("prefect.flow_runs"), []
    monkeypatch.setattr(logger, "handlers", [SimpleNamespace(level=0, handle=told.append)])
    monkeypatch.setattr(logger, "propagate", False)

    def refused(**_):
        try:
            raise error from cause
        except httpx.HTTPError as first:  # as Prefect's engine does
            logger.exception("Encountered exception during execution: %r", first)
            raise

    monkeypatch.setattr(pipeline, "pipeline_here", lambda over, prepared: refused)
    monkeypatch.setattr(start, "a_server", lambda *_: contextlib.nullcontext())
    parameters = SimpleNamespace(settings=SimpleNamespace(grace_seconds=1))
    with pytest.raises(start.ServerLost, match=message):
        start._run_flow(RunRequest(), parameters, [], None, None)
    assert all(record.exc_info is None for record in told) and len(told) == isinstance(error, httpx.HTTPError)


def test_a_lock_that_was_cut_off_is_one_line_that_says_how_to_get_it_back(project):
    lock = project.root / "dvc.lock"
    content = lock.read_bytes()
    for cut in (content[: content.rindex(b"size:") + 4], b""):
        lock.write_bytes(cut)
        done = project.pipeline(check=False)
        assert done.returncode == 1 and "`make restore` brings the committed one back" in done.stdout
    done = project.gan("verify", check=False)
    assert done.returncode == 1 and "`make restore` brings the committed one back" in done.stderr


@pytest.mark.slow(seconds=12)
def test_a_single_stage_runs_with_what_it_needs_and_force_runs_only_it(project, runs):
    project.set("offset: 0.0", "offset: 1.0")
    project.set("less: 0", "less: 1")
    _, tasks = states(runs, project.pipeline("--stage", "train"))
    assert tasks == {"fetch": "Cached", "normalize": "Ran", "train": "Ran"}
    _, tasks = states(runs, project.pipeline("--stage", "train", "--force"))
    assert tasks == {"fetch": "Cached", "normalize": "Cached", "train": "Ran"}
    done = project.pipeline("--stage", "trian", check=False)
    assert done.returncode == 1 and "there is no stage 'trian'" in done.stdout


def test_what_a_remote_has_is_restored_from_it(project, runs, tmp_path):
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    project.run("dvc", "push")
    for folder in (".dvc/cache", "data/model", "data/gallery"):
        project.run("rm", "-r", folder)
    flow, tasks = states(runs, project.pipeline())
    assert flow == "Completed"
    assert tasks["train"] == "Restored" and tasks["gallery"] == "Restored" and "Ran" not in tasks.values()
    assert (project.root / "data/model/weights.txt").read_text() == "0 3"


def test_the_download_is_retried_after_failures_that_may_pass(tmp_path, runs):
    project = make_project(tmp_path, api_url=server_url())
    (project.control / "fetch-failures").write_text("2")
    (project.control / "fetch-message").write_text("toy: the mirror timed out")
    done = project.pipeline("--stage", "fetch")
    assert states(runs, done) == ("Completed", {"fetch": "Ran"})
    assert done.stderr.count("the mirror timed out") >= 2

    (project.control / "fetch-failures").write_text("1")
    (project.control / "fetch-message").write_text("toy: sha256 differs")
    done = project.pipeline("--stage", "fetch", "--force", check=False)
    assert done.returncode == 1
    assert (project.control / "fetch-failures").read_text() == "0", "it was not tried again"
    assert runs.flow_run(run_id(done.stderr))["state"]["message"].startswith("fetch failed: toy: sha256 differs")


def test_a_failed_stage_is_named_and_what_was_there_before_is_there_again(project, runs):
    (project.control / "fail-train").touch()
    done = project.pipeline("--set", "train.steps=5", check=False)
    assert done.returncode == 1
    flow = runs.flow_run(run_id(done.stderr))
    assert flow["state"]["type"] == "FAILED"
    assert flow["state"]["message"].startswith("train failed: toy: the loss is not finite (failed to reproduce 'train'")
    assert runs.tasks(flow["id"]) == {"fetch": "Cached", "normalize": "Cached", "train": "Failed"}
    assert (project.root / "data/model/weights.txt").read_text() == "0 3"
    assert project.git("diff", "--stat", "--", "dvc.lock") == ""
    (project.control / "fail-train").unlink()
    assert states(runs, project.pipeline())[1]["train"] == "Ran"


def test_a_failed_stage_gives_back_a_metrics_file_that_git_keeps(project, runs):
    before = (project.root / "data/evaluation/metrics.json").read_bytes()
    project.set("offset: 0.0", "offset: [1]")
    assert project.pipeline(check=False).returncode == 1
    assert (project.root / "data/evaluation/metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--set", "train.stps=3"], "there is no train.stps in params.yaml; did you mean train.steps?"),
        (["--set", "tarin.steps=3"], "there is no tarin in params.yaml; did you mean train?"),
        (["--set", "train.steps"], "expected section.key=value"),
        (["--set", "train=3"], "it is a section; give one of train.steps, train.seed"),
        (["--set", "train.steps=[1"], "': not valid YAML: "),
        (["--set", "train.steps=0"], "params.yaml: train.steps = 0: expected a whole number from 1"),
        (["--set", "flow.timeout_seconds=0"], "flow.timeout_seconds = 0: input should be greater than 0"),
        (["--base", "HEAD"], "--base is where an isolated run starts: give --isolated as well"),
        (["--isolated", "--base", "nowhere"], "nowhere: no such commit, branch or tag"),
    ],
)
def test_a_bad_parameter_is_one_line_before_anything_starts(project, arguments, message):
    done = project.pipeline(*arguments, check=False)
    assert done.returncode == 1
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert project.git("status", "--short") == ""


def test_a_scratch_folder_is_the_checkouts_also_for_a_run_in_a_worktree(project):
    project.environment["GAN_SCRATCH"] = ".scratch/mine"
    project.pipeline("--isolated", "--set", "train.steps=4")
    assert (project.root / ".scratch/mine/live/newest/samples.png").read_text() == "samples of step 4"


def test_a_user_without_a_name_runs_it_all_the_same(project):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        project.environment.pop(name, None)
    done = project.run(*nameless(), sys.executable, "-m", "commands", "flow")
    assert done.stdout.strip() == "Cached: nothing changed"


@pytest.mark.slow(seconds=6)
def test_an_embedded_server_without_a_folder_says_so(project):
    del project.environment["PREFECT_API_URL"]
    project.environment["PREFECT_HOME"] = "/proc/prefect"
    done = project.pipeline(check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("gan: Prefect's folder /proc/prefect cannot be written; set PREFECT_HOME to one that can\n")


def test_the_embedded_server_is_enough(project):
    del project.environment["PREFECT_API_URL"]
    # behind a proxy, which knows nothing of this machine's own addresses
    for name in ("no_proxy", "NO_PROXY"):
        project.environment.pop(name, None)
    project.environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = project.pipeline()
    assert done.stdout.strip() == "Cached: nothing changed"
