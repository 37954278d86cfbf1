"""A study on two workers, each with a clone of its own: they, the coordinator and the server are killed."""

import os
import shutil
import signal
import sys
import time
from collections import Counter

import httpx
import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.server import free_port
from flows.git import Repository
from flows.operations.maintenance import maintenance
from flows.studies import cell_runs
from flows.studies.cells import find_study
from flows.studies.fanout import study_cell
from tests.helpers.study_fleet import Fleet
from tests.helpers.toy_project import SOURCE, Project, Runs, make_project, server_in, server_url, wait_for
from tests.studies.campaign import campaign
from tests.studies.test_study import make_study

STUDY = """\
study:
  question: Does an offset hurt?
  stage: evaluate
  metrics:
    fid: {better: lower, smallest_difference: 1.0}
  seeds: {parameter: train.seed, first: 0, count: 3, most: 3}
  paired: false
  baseline: {set: null, overrides: [train.delay_seconds=0.2]}
  variants:
    worse: {set: null, overrides: [train.delay_seconds=0.2, train.steps=5, evaluate.offset=5.0]}
  grid: {}
"""
CELLS = 6
POOL = ("--pool", "pipeline")
AWAY_SECONDS = 15


def clone(project, name):
    """A clone for a worker, on this machine instead of another."""
    other = Project(project.root.parent / name, project.environment["PREFECT_API_URL"])
    project.run("git", "clone", "--quiet", str(project.root.parent / "origin.git"), str(other.root))
    other.control.mkdir()
    other.environment |= {"PIPELINE_HOME": str(other.root), "PREFECT_HOME": project.environment["PREFECT_HOME"]}
    return other


def start_worker(place):
    options = ("--no-prompt", "worker", "start", *POOL, "--limit", "1", "--name", place.root.name)
    return place.start(*options, program=("prefect",), log="worker.log")


def cells(run_list):
    return {run["name"]: run["state"]["type"] for run in run_list}


def metrics_of(project):
    refs = project.git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return {ref.rpartition("/")[2]: project.git("show", f"{ref}:data/evaluation/metrics.json") for ref in refs}


@pytest.fixture
def runs():
    found = Runs(server_url())
    yield found
    found.delete_deployments()


@pytest.mark.long
@pytest.mark.slow(seconds=120)
@pytest.mark.timeout(600)
def test_a_study_on_two_workers_loses_no_cell_when_one_is_killed_and_stops_them_all_when_it_is_cancelled(tmp_path, runs):
    project = make_project(tmp_path, ran=True, api_url=server_url())
    shutil.copy(SOURCE / "prefect.yaml", project.root)
    for name in ("flows", "gan"):
        shutil.copytree(SOURCE / name, project.root / name)
    (project.root / "studies").mkdir()
    (project.root / "studies/offset.yaml").write_text(STUDY)
    project.commit("Ask")
    project.run("git", "clone", "--quiet", "--bare", str(project.root), str(tmp_path / "origin.git"))
    project.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    project.run(*prefect, "work-pool", "create", "pipeline", "--type", "process", "--overwrite")
    project.run(*prefect, "deploy", "--name", "cells")
    places = [clone(project, name) for name in ("first", "second")]
    workers = [start_worker(place) for place in places]
    try:
        # cancel the coordinator while both train
        for place in places:
            (place.control / "hold-train").touch()
        stopped = project.start("run", "offset", "--workers", program=("commands", "study"), log="stopped.log")
        wait_for(lambda: list(cells(runs.of_deployment("cells")).values()).count("RUNNING") == 2, 120, "two cells")
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
        assert "runs of cells were cancelled with it" in project.log("stopped.log")
        for place in places:
            (place.control / "hold-train").unlink()
        wait_for(lambda: set(cells(runs.of_deployment("cells")).values()) == {"CANCELLED"}, 90, "the end of all cells")
        wait_for(lambda: not [line for place in places for line in place.processes() if "toy.py" in line], 30, "their processes")
        assert len(runs.of_deployment("cells")) == CELLS

        # kill one worker in the middle of a training; the other does its cell as well
        (places[0].control / "hold-train").touch()
        running = project.start("run", "offset", "--workers", program=("commands", "study"), log="running.log")
        wait_for(lambda: [line for line in places[0].processes() if "toy.py train" in line], 120, "a training")
        workers[0].kill()
        (places[0].control / "hold-train").unlink()
        assert running.wait(300) == 0, project.log("running.log")
        assert "all runs are recorded" in project.log("running.log")
        assert "worse, fid: worse by" in project.log("running.log")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    recorded = metrics_of(project)
    assert len(recorded) == CELLS
    assert project.git("ls-remote", "origin", "refs/exps/*").count("\n") == CELLS - 1

    # asked again, nothing is left to ask for; and a serial run without a server gives the same bytes
    before = len(runs.of_deployment("cells"))
    assert "all runs are recorded" in project.gan("study", "run", "offset", "--workers").stdout
    assert len(runs.of_deployment("cells")) == before
    [parent, *_] = [run for run in httpx_runs(server_url()) if run["name"] == "study offset"]
    assert parent["state"]["type"] == "COMPLETED"
    serial = clone(project, "serial")
    serial.environment.pop("PREFECT_API_URL")
    serial.gan("study", "run", "offset")
    assert metrics_of(serial) == recorded


@pytest.mark.long
@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_where_no_worker_is_online_a_study_says_so_and_waits_for_one(tmp_path):
    with server_in(tmp_path / "server") as (url, _):
        fleet = Fleet(tmp_path, url, cells=4, workers=1)
        try:
            waiting = fleet.coordinate("waiting.log")
            wait_for(lambda: "runs are asked for" in fleet.project.log("waiting.log"), 120, "the runs")
            told = "4 runs are asked for; they wait, since no worker is online in the work pool pipeline: start one with `make"
            assert told in fleet.project.log("waiting.log")
            fleet.start_worker(0)
            wait_for(fleet.records, 240, "the first record")
            with fleet.trainings_held():
                os.killpg(waiting.pid, signal.SIGKILL)
                waiting.wait()
                again = fleet.coordinate("again.log")
                wait_for(lambda: "runs are asked for" in fleet.project.log("again.log"), 120, "the runs")
            assert "runs are asked for; online in the work pool pipeline: worker-0" in fleet.project.log("again.log")
            assert again.wait(240) == 0, fleet.project.log("again.log")
        finally:
            fleet.close()


def httpx_runs(url):
    """All flow runs of the server, newest first."""
    body = {"sort": "START_TIME_DESC", "limit": 50}
    return httpx.post(f"{url}/flow_runs/filter", json=body, timeout=30).raise_for_status().json()


@pytest.mark.long
@pytest.mark.slow(seconds=120)
@pytest.mark.timeout(600)
def test_neither_the_death_of_the_coordinator_nor_that_of_the_server_costs_a_run(tmp_path):
    home, port = tmp_path / "server", free_port()
    with server_in(home, port) as (url, server):
        fleet = Fleet(tmp_path, url, cells=8)
        for number in range(2):
            fleet.start_worker(number)
        killed = fleet.coordinate("killed.log")
        wait_for(fleet.records, 120, "the first record")
        with fleet.trainings_held():
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()
            second = fleet.coordinate("second.log")
            one_of_two = {"RUNNING": 1, "CRASHED": 1}
            wait_for(lambda: states(fleet, "study steps") == one_of_two, 120, "the second coordinator")
            # two would cancel each other's runs
            other = fleet.project.gan("study", "run", "steps", "--workers", check=False)
            assert other.returncode == 1 and "another `gan study run steps --workers` is at work here" in other.stderr
            assert states(fleet, "study steps") == one_of_two
        wait_for(lambda: len(fleet.records()) >= 4, 240, "the fourth record")
        with fleet.trainings_held():
            # a run that is only starting needs the server: it would crash, and be asked for again
            wait_for(lambda: all(place.training_listens() for place in fleet.places), 120, "a training of each worker")
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert len(fleet.records()) < fleet.cells
    time.sleep(AWAY_SECONDS)
    with server_in(home, port):
        try:
            assert second.wait(300) == 0, fleet.project.log("second.log")
            # no run was asked for twice
            assert states(fleet, "steps-") == {"COMPLETED": fleet.cells}
            assert states(fleet, "study steps") == {"COMPLETED": 1, "CRASHED": 1}
        finally:
            fleet.close()
    assert fleet.wrong() == [] and fleet.trained_again() == []


def states(fleet, beginning):
    """Type of state -> how many flow runs have it, of those whose names begin so."""
    return Counter(run["state"]["type"] for run in fleet.runs() if run["name"].startswith(beginning))


@pytest.mark.slow(seconds=15)
def test_more_runs_are_looked_at_than_the_server_names_at_once():
    with temporary_settings({PREFECT_API_URL: server_url()}), get_client(sync_client=True) as client:
        runs = [client.create_flow_run(study_cell, parameters={}).id for _ in range(201)]
        assert cell_runs.states(runs).keys() == {str(run) for run in runs}


@pytest.mark.slow(seconds=15)
def test_what_the_system_refuses_is_a_line_and_no_traceback(tmp_path, monkeypatch):
    project = make_study(tmp_path)
    (project.root / ".dvc/tmp/flow.lock").mkdir()
    study = find_study(Repository(project.root), "steps")
    monkeypatch.chdir(project.root)
    with temporary_settings({PREFECT_API_URL: server_url()}):
        cell = study_cell("steps", study.text, study.base, "longer", 0, return_state=True)
        states = [cell, maintenance(return_state=True)]
    assert [state.name for state in states] == ["Failed", "Failed"]
    assert all(state.message.startswith("[Errno 21] Is a directory") for state in states)


@pytest.mark.long
@pytest.mark.slow(seconds=120)
@pytest.mark.timeout(900)
def test_a_small_campaign_against_the_workers(tmp_path):
    seen = campaign(tmp_path, cells=10, kill_every_seconds=20)
    assert seen.kills > 1 and seen.wrong == [] and seen.trained_again <= seen.kills
    assert seen.code == 0, seen.log
