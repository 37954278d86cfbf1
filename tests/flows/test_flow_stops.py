"""Ends that nobody wishes for: cancellation, signals, time limits, kill -9, two runs at once, a server that dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.dvc.session import DvcSession
from flows.parent import tell_of_kill
from tests.helpers.toy_project import SOURCE, Runs, make_project, run_id, server_in, server_url, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SLOW = ("--set", "train.steps=6000", "--set", "train.delay_seconds=0.1")  # ten minutes, if nobody stops it


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path, ran=True, api_url=server_url())


@pytest.fixture
def runs():
    return Runs(server_url())


def start_training(project, *arguments, seconds=100, group=False):
    """Start a slow run, in a process group of its own if asked; return it once its training is under way, within `seconds`."""
    flow = project.start(*SLOW, *arguments, group=group)
    wait_for(lambda: "step 3/6000" in project.log() or flow.poll() is not None, seconds, "training")
    assert flow.poll() is None, project.log()
    return flow


def require_clean_end(project):
    """No process is left, the trainer has saved, and what it had made before is there again."""
    wait_for(lambda: not project.processes(), 60, "the end of all processes")
    assert saved_step(project) >= 3
    assert (project.root / "data/model/weights.txt").read_text() == "0 3"
    assert project.git("diff", "--stat", "--", "dvc.lock") == ""


def saved_step(project):
    return max(json.loads(file.read_text())["step"] for file in (project.root / ".scratch").glob("train-*.json"))


def resume(project, *arguments):
    """Start again, see that it goes on where it stopped, and end it."""
    step = saved_step(project)
    flow = project.start(*arguments, log="resumed.log")
    try:
        wait_for(lambda: f"resumed at step {step}" in project.log("resumed.log"), 120, "going on")
    finally:
        flow.send_signal(signal.SIGINT)
        flow.wait(60)
    return project.log("resumed.log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_within_seconds_and_the_next_run_resumes(project, runs, number):
    flow = start_training(project)
    sent = time.monotonic()
    flow.send_signal(number)
    assert flow.wait(60) == 130
    assert time.monotonic() - sent < 40  # Prefect tries for a minute
    require_clean_end(project)
    found = run_id(project.log())
    assert "saved at step" in project.log()
    assert runs.state(found) == ("CANCELLED", "Cancelled")
    assert runs.tasks(found)["train"] == "Cancelled"
    resume(project)


def test_a_time_limit_cancels_the_run(project, runs):
    for seconds in (6, 20, 60):  # the shortest that lets training begin
        flow = project.start(*SLOW, "--set", f"flow.timeout_seconds={seconds}")
        assert flow.wait(seconds + 60) == 130
        if "step 3/" in project.log():
            break
    require_clean_end(project)
    assert runs.state(run_id(project.log())) == ("CANCELLED", "Cancelled")
    assert "timeout_seconds are over" in project.log()


def test_a_trainer_that_does_not_listen_is_killed_after_the_grace_period(project):
    source = (project.root / "toy.py").read_text()
    (project.root / "toy.py").write_text(source.replace("stop.append(1)", "print('no', flush=True)"))
    flow = start_training(project, "--set", "flow.grace_seconds=2")
    flow.send_signal(signal.SIGINT)
    assert flow.wait(60) == 130
    wait_for(lambda: not project.processes(), 60, "the end of all processes")
    assert (project.root / "data/model/weights.txt").read_text() == "0 3"


def test_no_server_is_started_to_be_told_of_a_killed_run(monkeypatch):
    asked = []
    monkeypatch.setattr("prefect.get_client", lambda **options: asked.append(options))
    with temporary_settings({PREFECT_API_URL: None}):
        tell_of_kill("0" * 32)
    assert asked == []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        tell_of_kill("0" * 32)
    assert asked == [{"sync_client": True}]


def test_a_killed_flow_leaves_no_process_and_the_next_run_notices(project, runs):
    flow = start_training(project)
    flow.kill()
    flow.wait()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")
    killed = run_id(project.log())
    assert runs.state(killed)[0] == "RUNNING"
    log = resume(project)
    assert "was killed; this one goes on from there" in log
    assert runs.state(killed) == ("CRASHED", "Crashed")


def embedded_servers(project):
    return [line for line in project.processes() if "prefect.server.api.server" in line]


def test_a_killed_flow_takes_its_embedded_server_along(project):
    del project.environment["PREFECT_API_URL"]
    flow = start_training(project, seconds=150)
    assert len(embedded_servers(project)) == 1
    flow.kill()
    flow.wait()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")


def test_an_embedded_server_that_still_starts_ends_with_its_flow(project):
    del project.environment["PREFECT_API_URL"]
    flow = project.start(*SLOW)
    wait_for(lambda: embedded_servers(project), 60, "the server's process")
    flow.kill()
    flow.wait()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_does_not_reach_the_embedded_server(project, number):
    """As Ctrl-C in a terminal: the server must hear the run's end before it ends itself."""
    del project.environment["PREFECT_API_URL"]
    flow = start_training(project, group=True)
    sent = time.monotonic()
    os.killpg(flow.pid, number)
    assert flow.wait(60) == 130
    assert time.monotonic() - sent < 40  # Prefect tries for a minute
    require_clean_end(project)
    assert "Cancelled: train was stopped: by a signal" in project.log()
    assert "Traceback" not in project.log()


@pytest.mark.slow(seconds=18)
def test_an_embedded_server_that_dies_is_started_again_and_the_run_ends_well(project):
    del project.environment["PREFECT_API_URL"]
    flow = project.start("--set", "train.steps=100", "--set", "train.delay_seconds=0.1")
    wait_for(lambda: "step 3/100" in project.log() or flow.poll() is not None, 100, "training")
    find(project, "prefect.server.api.server").kill()
    assert flow.wait(120) == 0, project.log()
    assert "Completed: " in project.log()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")


@pytest.mark.slow(seconds=17)
def test_a_run_whose_server_is_lost_for_good_saves_and_ends(project):
    del project.environment["PREFECT_API_URL"]
    flow = start_training(project, "--set", "flow.grace_seconds=25")
    find(project, "server_guard.py").kill()
    assert flow.wait(60) == 1
    # were the process not told that its run is over, Prefect would give up its server before, in other words
    assert "embedded server was killed; what the stages made is kept, run again" in project.log()
    require_clean_end(project)


def test_a_process_whose_server_is_lost_for_good_ends_when_its_run_is_over():
    program = (
        "import signal, subprocess, threading, time\n"
        "from flows.embedded_server import _end_without\n"
        "over = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: over.set())\n"
        "guard = subprocess.Popen(['true'], stdin=subprocess.PIPE)\n"
        "threading.Thread(target=_end_without, args=(guard, 1000.0, over), daemon=True).start()\n"
        "while True:\n"
        "    time.sleep(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "embedded server was killed" in done.stderr, done.stderr


def find(project, word):
    """The project's process that has `word` in its command line."""
    [found] = [process for process in psutil.process_iter() if word in " ".join(cmdline_in(process, project))]
    return found


def cmdline_in(process, project):
    try:
        return process.cmdline() if process.cwd() == str(project.root) else []
    except psutil.Error:
        return []


@pytest.mark.slow(seconds=15)
def test_a_killed_isolated_run_leaves_no_worktree_behind(project):
    flow = start_training(project, "--isolated")
    flow.kill()
    flow.wait()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")
    assert len(project.git("worktree", "list").splitlines()) == 2
    assert "removed its worktree" in resume(project, *SLOW, "--isolated")
    assert len(project.git("worktree", "list").splitlines()) == 1


def test_a_second_run_waits_or_is_skipped(project, runs):
    first = start_training(project)
    skipped = project.pipeline("--set", "flow.overlap=skip", "--isolated")
    assert skipped.stdout.startswith("Skipped: skipped: another run (")
    waiting = project.start("--set", "train.steps=3", "--isolated", log="second.log")
    wait_for(lambda: "waiting: another run (" in project.log("second.log"), 120, "waiting")
    first.send_signal(signal.SIGINT)
    first.wait(60)
    assert waiting.wait(120) == 0
    assert runs.state(run_id(project.log("second.log")))[0] == "COMPLETED"


def test_a_persons_repro_is_waited_for_or_the_run_skipped(project):
    project.set("steps: 3", "steps: 4")
    hold = project.control / "hold-train"
    hold.touch()
    person = subprocess.Popen(
        ["dvc", "repro"], cwd=project.root, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for(
            lambda: (project.root / ".dvc/tmp/rwlock").exists() and "toy.py train" in " ".join(project.processes()), 60, "repro"
        )
        skipped = project.pipeline("--set", "flow.overlap=skip", "--isolated")
        assert skipped.stdout.startswith("Skipped: skipped: dvc repro (PID ")
        flow = project.start()
        wait_for(lambda: "waiting: dvc repro (PID" in project.log(), 60, "waiting")
    finally:
        hold.unlink()
        output, _ = person.communicate(timeout=60)
    assert person.returncode == 0, output
    assert flow.wait(60) == 0
    assert "Cached: nothing changed" in project.log().splitlines()


@pytest.mark.slow(seconds=45)
def test_the_server_dying_in_the_middle_loses_nothing(tmp_path):
    with server_in(tmp_path / "server") as (url, server):
        project = make_project(tmp_path, ran=True, api_url=url)
        project.environment["PREFECT_CLIENT_MAX_RETRIES"] = "1"  # five, the default, take a minute
        flow = project.start("--isolated", "--set", "train.steps=100", "--set", "train.delay_seconds=0.1")
        wait_for(lambda: "step 3/100" in project.log(), 180, "training")
        os.killpg(server.pid, signal.SIGKILL)
        flow.wait(360)
    wait_for(lambda: not project.processes(), 60, "the end of all processes")
    assert "step 100/100" in project.log(), "the training went on without its server"
    # whatever the flow could still do without a server, the next run has the result without training again
    project.environment["PREFECT_API_URL"] = server_url()
    done = project.pipeline("--isolated", "--set", "train.steps=100", "--set", "train.delay_seconds=0.1")
    assert "step 1" not in done.stderr
    assert len(project.git("tag", "--list", "run/*").splitlines()) == 1


def test_an_idle_dvc_process_ends_with_its_flow(tmp_path):
    """Between two stages as well, the DVC process must not survive."""
    project = make_project(tmp_path, ran=True)
    script = """if True:
        import time
        from flows.dvc.session import DvcSession
        session = DvcSession(".", grace_seconds=1)
        session.describe()
        print("up", flush=True)
        time.sleep(60)
    """
    flow = subprocess.Popen(
        [sys.executable, "-c", script], cwd=project.root, env=project.environment, stdout=subprocess.PIPE, text=True
    )
    assert flow.stdout.readline() == "up\n"
    flow.kill()
    flow.communicate()
    wait_for(lambda: not project.processes(), 60, "the end of all processes")


MANY_FILES = """\
import signal
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_IGN)
Path("many").mkdir()
for number in range(3000):
    Path(f"many/{number}").write_text(str(number))
print("made", flush=True)
"""


def test_what_a_stage_has_made_is_kept_where_a_signal_comes_before_dvc_has_saved_it(tmp_path):
    project = make_project(tmp_path)
    (project.root / "many.py").write_text(MANY_FILES)
    (project.root / "dvc.yaml").write_text(
        "stages:\n  many:\n    cmd: exec python many.py\n    deps: [many.py]\n    outs: [many]\n"
    )

    def hear(line):
        if line == "made":
            time.sleep(0.3)  # DVC begins to save, which takes a second
            raise KeyboardInterrupt

    with DvcSession(project.root, grace_seconds=30) as session, pytest.raises(KeyboardInterrupt):
        session.dvc("repro", on_line=hear)
    (project.root / "dvc.lock").unlink(missing_ok=True)  # as with a worktree that is thrown away
    shutil.rmtree(project.root / "many")
    with DvcSession(project.root, grace_seconds=30) as session:
        code, lines = session.dvc("repro")
    assert code == 0 and not [line for line in lines if line.startswith("Running stage")], lines
    assert len(list((project.root / "many").iterdir())) == 3000
