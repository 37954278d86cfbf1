"""The whole pipeline through the real `dvc repro`, small, in a repository of its own: what runs, is skipped, comes back."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.helpers.pipeline_project import ALL, Project

pytestmark = [pytest.mark.slow(seconds=12), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project that has run once and is committed, which stages ran, and its results' digests."""
    folder = tmp_path_factory.mktemp("pipeline") / "a prøject"
    folder.mkdir()
    project = Project(folder)
    ran = project.repro()
    project.commit("first run")
    return project, ran, project.digests()


@pytest.fixture(scope="module")
def project(template):
    return template[0]


@pytest.fixture(autouse=True)
def clean(template):
    """Every test begins with the committed state of the project, whatever the one before did."""
    project, _, digests = template
    project.run("git", "checkout", "-q", "-f", "main")
    if project.digests() != digests:
        project.run("dvc", "checkout", "-q", "--force")


def test_a_first_run_runs_every_stage_once_and_leaves_nothing_uncommitted(template):
    project, (ran, restored), _ = template
    assert ran == ALL
    assert restored == []
    assert project.run("git", "status", "--porcelain") == ""
    assert (project.folder / "data/report/index.html").stat().st_size > 10_000
    assert len(list((project.folder / "data/gallery").glob("img-*.png"))) == 3


def test_a_second_run_does_nothing(project):
    assert project.repro() == ([], [])
    assert project.run("git", "status", "--porcelain") == ""


def test_a_learning_rate_reruns_what_depends_on_it_and_setting_it_back_restores(project):
    before = project.digests()

    def change(params):
        params["train"]["generator_adam"]["learning_rate"] = 0.0005

    project.edit(change)
    ran, restored = project.repro()
    assert ran == ["train", "evaluate", "gallery", "report"]
    assert restored == []
    assert project.digests()["model/generator.keras"] != before["model/generator.keras"]
    difference = project.read_json("dvc", "params", "diff")
    assert difference == {"params.yaml": {"train.generator_adam.learning_rate": {"old": 0.001, "new": 0.0005, "diff": -0.0005}}}
    changed = project.read_json("dvc", "metrics", "diff")["data/model/metrics.json"]
    assert {"tail_mean.g_loss", "tail_mean.d_loss", "final.g_loss"} <= set(changed)

    project.run("git", "checkout", "-q", "params.yaml")
    ran, restored = project.repro()
    assert ran == []
    assert restored == ["train", "evaluate", "gallery", "report"]
    assert project.digests() == before
    assert project.run("git", "status", "--porcelain") == ""


def test_a_gallery_size_reruns_the_gallery_and_the_report(project):
    project.edit(lambda params: params["gallery"].update(final_rows=3))
    assert project.repro() == (["gallery", "report"], [])


def test_the_judges_parameters_rerun_judge_and_evaluate_and_no_training(project):
    project.edit(lambda params: params["judge"].update(neighbours=4))
    ran, _ = project.repro()
    assert "judge" in ran and "evaluate" in ran
    assert not {"fetch", "normalize", "train"} & set(ran)  # the gallery shows the judge's opinion


def test_an_edited_module_reruns_the_stages_that_import_it(project):
    with open(project.folder / "gan/training/losses.py", "a") as file:
        file.write("# an edit that changes no result\n")
    # training gives the same bytes again, so what follows it has nothing to do
    assert project.repro() == (["train"], [])


def test_a_forced_run_gives_the_same_lock(project):
    lock = (project.folder / "dvc.lock").read_bytes()
    ran, _ = project.repro("--force")
    assert ran == ALL
    assert (project.folder / "dvc.lock").read_bytes() == lock
    assert project.run("git", "status", "--porcelain") == ""


def test_metrics_and_plots_show(project):
    shown = project.read_json("dvc", "metrics", "show")
    files = next(iter(shown.values()))["data"]
    assert {"tail_mean", "final"} <= set(files["data/model/metrics.json"]["data"])
    assert files["data/timings/train.json"]["data"]["train_seconds"] > 0
    project.run("dvc", "plots", "show", "-o", "plots_page")
    page = (project.folder / "plots_page/index.html").read_text()
    for title in ("G loss and D loss", "D accuracy", "final.png"):
        assert title in page
    shutil.rmtree(project.folder / "plots_page")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: params["train"].update(steps=0), "train.steps = 0: input should be greater than or equal to 1"),
        (lambda params: params["train"].pop("seed"), "train.seed is missing"),
        (lambda params: params["gallery"].update(colums=4), "gallery.colums = 4 is unknown; did you mean columns?"),
        (lambda params: params["evaluate"].update(large_sample_count=50), "evaluate.large_sample_count = 50: must be 0"),
        (lambda params: params.update(trian={}), "section 'trian' is unknown"),
        (lambda params: params.pop("judge"), "section 'judge' is missing"),
    ],
)
def test_bad_parameters_are_named_before_anything_runs(project, change, message):
    project.edit(change)
    result = project.run(sys.executable, "-m", "commands", "check", check=False)
    assert result.returncode == 1
    assert message in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_bad_parameters_stop_a_stage_and_keep_the_rest(project):
    before = project.digests()
    project.edit(lambda params: params["gallery"].update(scale="big"))
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "gallery.scale = 'big': input should be a valid integer" in result.stdout
    assert "Traceback" not in result.stdout
    project.run("git", "checkout", "-q", "params.yaml")
    project.restore()
    assert project.digests() == before


def test_what_a_killed_dvc_has_cut_off_is_put_right(project):
    lock, holders = project.folder / "dvc.lock", project.folder / ".dvc/tmp/rwlock"
    before = lock.read_bytes()
    for cut in (before[: before.rindex(b"size:") + 4], b"", before[: before.index(b"stages:") + 8]):
        lock.write_bytes(cut)
        holders.write_text("")
        assert project.run("dvc", "repro", check=False).returncode != 0
        assert "the committed one is back" in project.restore()
        assert lock.read_bytes() == before
    assert project.repro() == ([], [])
    assert project.restore() == ""


def start_long_training(project, **environment):
    project.edit(lambda params: params["train"].update(steps=2_000_001, log_every_steps=500))
    process = subprocess.Popen(
        ["dvc", "repro", "train"],
        cwd=project.folder,
        env={**project.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if re.match(r"step [1-9]", line):
            return process
    raise AssertionError(f"training did not start: {process.wait()}")


def trainers(project):
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(project.folder) and "stages.train" in (process.info["cmdline"] or []):
            found.append(process)
    return found


def wait_for_end(project, seconds=120):
    deadline = time.monotonic() + seconds
    while trainers(project) and time.monotonic() < deadline:
        time.sleep(0.1)
    return trainers(project)


def test_ctrl_c_stops_every_process_and_what_was_there_comes_back(project):
    before = project.digests()
    process = start_long_training(project)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "saved" in output
    assert wait_for_end(project) == []
    project.run("git", "checkout", "-q", "params.yaml")
    project.restore()
    assert project.digests() == before


def test_a_killed_dvc_leaves_no_trainer_behind(project):
    shutil.rmtree(project.folder / ".scratch", ignore_errors=True)  # of other trainings
    process = start_long_training(project, SHELL="/bin/sh")  # dash, on many systems, stays between DVC and the trainer
    assert len(trainers(project)) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_for_end(project) == []
    assert list((project.folder / ".scratch").rglob("checkpoint-*.npz"))
