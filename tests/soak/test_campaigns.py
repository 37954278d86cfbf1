"""A small seeded part of each campaign, and the frame itself: it must see every fault that a case can have."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tests.helpers.toy_project import server_url
from tests.soak import frame, kills, time_schedule
from tests.soak.case import Fault
from tests.soak.faulty import KINDS as faulty_kinds
from tests.soak.kills_project import Place, fail_if
from tests.soak.kinds import arrays

SLOW = {
    "bases of runs",
    "command lines",
    "copy thresholds",
    "histories",
    "indexes",
    "metrics",
    "mirrors",
    "models",
    "references of git",
    "registries",
    "titles",
    "weights",
}
UNTIL = "normalize"  # the last of the stages that cases of kills run here: those after it take seconds each


def run(campaign, kinds, count, tmp_path, seed=1):
    """kind -> Row of the kinds, none of which may have failed."""
    rows = frame.run_campaign(
        campaign, seed=seed, count=count, out=tmp_path, kinds=kinds, shrink_seconds=0, quiet=True, hang_seconds=120
    )
    assert not any(row.failures for row in rows.values()), next(tmp_path.rglob("what.txt")).read_text()
    assert sorted(rows) == sorted(kinds) and all(row.cases for row in rows.values())
    return rows


@pytest.mark.slow(seconds=7)
@pytest.mark.timeout(900)
def test_bad_inputs(tmp_path):
    run("inputs", [kind for kind in frame.kinds_of("inputs") if kind not in SLOW], 120, tmp_path)


@pytest.mark.slow(seconds=25)
@pytest.mark.timeout(900)
def test_bad_inputs_that_take_longer(tmp_path):
    run("inputs", [kind for kind in frame.kinds_of("inputs") if kind in SLOW], 20, tmp_path)


def test_what_the_project_is_made_of(tmp_path):
    rows = run("supply", ["sources", "locks", "rules"], 2000, tmp_path)
    assert rows["sources"].cases > 80 and rows["locks"].cases >= 6


def test_requests_that_are_none(tmp_path):
    run("faults", ["parameters", "revisions"], 60, tmp_path)


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setitem(frame.CAMPAIGNS, "faulty", "tests.soak.faulty")


@pytest.mark.slow(seconds=5)
def test_the_frame_sees_every_fault(faulty, tmp_path):
    expected = {
        "right": "accepted",
        "refuses": "refused",
        "cannot say": "not checked",
        "traceback": "traceback",
        "crash": "crash",
        "hang": "hang",
        "memory": "memory",
        "writes": "outside",
        "pickle": "outside",
        "starts a program": "outside",
        "connects": "outside",
        "accepts wrongly": "accepted wrongly",
        "refuses wrongly": "refused wrongly",
        "two lines": "unclear",
        "control character": "unclear",
        "warns": "traceback",
    }
    kinds = list(expected)
    rows = frame.run_campaign("faulty", seed=0, count=1, out=tmp_path, kinds=kinds, shrink_seconds=0, quiet=True)
    assert {kind: dict(row.outcomes) for kind, row in rows.items()} == {kind: {what: 1} for kind, what in expected.items()}
    assert len(list(tmp_path.rglob("repro.sh"))) == sum(row.failures for row in rows.values()) == 13


def test_several_cases_at_a_time_give_the_same_counts(faulty, tmp_path):
    def counts(jobs):
        kinds = ["right", "large numbers", "crash", "writes"]
        rows = frame.run_campaign(
            "faulty", seed=0, count=40, out=tmp_path / str(jobs), kinds=kinds, shrink_seconds=0, quiet=True, jobs=jobs
        )
        return {kind: (row.cases, dict(row.outcomes)) for kind, row in rows.items()}

    assert counts(3) == counts(1)
    assert len(list((tmp_path / "3").rglob("repro.sh"))) == len(list((tmp_path / "1").rglob("repro.sh"))) > 2


def test_an_interruption_ends_what_is_under_way(faulty):
    hanging = dataclasses.replace(faulty_kinds["hang"], seconds=60)
    crew = frame.Crew("tests.soak.faulty", 2)
    under_way = threading.Event()
    verdicts = []

    def run(case):
        with crew.one() as worker:
            if case == "interrupt":
                under_way.wait()
                raise KeyboardInterrupt
            under_way.set()
            verdicts.append(worker.run("hang", hanging, case))

    start = time.monotonic()
    with contextlib.closing(crew), pytest.raises(KeyboardInterrupt):
        list(crew.map(run, ["interrupt", *["hang"] * 20]))
    assert time.monotonic() - start < 30
    assert crew.interrupted and len(verdicts) <= 2


def test_a_failure_is_made_small_and_can_be_repeated(faulty, tmp_path):
    rows = frame.run_campaign("faulty", seed=0, count=200, out=tmp_path, kinds=["large numbers"], shrink_seconds=200, quiet=True)
    assert rows["large numbers"].outcomes["traceback"] > 0
    (repro,) = tmp_path.rglob("repro.sh")
    assert '"case": 1000\n' in repro.with_name("case.json").read_text()
    assert (repro.parent / "input" / "number.txt").read_text() == "1000"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(frame.ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(["sh", repro], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stdout


def test_the_same_seed_gives_the_same_cases():
    def cases(seed):
        found = []
        frame.examples(arrays.KINDS["references"].cases, seed=seed, count=30, see=found.append)
        return found

    assert cases(1) == cases(1) != cases(2)


_DIGEST = """
import hashlib, importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from tests.soak import frame, inputs
cases = []
frame.examples(inputs.KINDS["parameters"].cases, seed=1, count=200, see=cases.append)
print(hashlib.sha256(json.dumps(cases).encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cases_whatever_is_imported():
    def digest(*modules):
        command = [sys.executable, "-c", _DIGEST, *modules]
        return subprocess.run(command, cwd=frame.ROOT, capture_output=True, text=True, check=True).stdout

    assert digest() == digest("flows.versions", "flows.claims", "flows.studies.results")


def test_the_command_line(tmp_path):
    def soak(*arguments):
        command = [sys.executable, "-m", "tests.soak", *arguments, "--out", tmp_path / "out"]
        return subprocess.run(command, cwd=frame.ROOT, capture_output=True, text=True)

    done = soak("inputs/idx", "--count", "20", "--seed", "4")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:2] == ["inputs/idx", "20"]
    assert "seed 4: 20 cases" in done.stdout
    listed = soak("--list").stdout
    assert "inputs: parameters, " in listed and "kills: repro, stage, flow, isolated, schedule\n" in listed
    assert soak("nosuch").returncode == 2


def test_the_same_number_makes_the_same_kill_and_others_other_ones():
    cases = [kills.make_case(seed, "repro") for seed in range(200)]
    assert cases == [kills.make_case(seed, "repro") for seed in range(200)]
    assert {case["signal"] for case in cases} == {"SIGTERM", "SIGINT", "SIGKILL"}
    assert {case["target"] for case in cases} == {"process", "group", "child"}
    assert {case["phase"] for case in cases} == {"start", "anywhere", "end"}
    assert len({case["stage"] for case in cases}) == 7


@pytest.mark.slow(seconds=25)
@pytest.mark.timeout(600)
def test_a_command_that_gets_a_signal_leaves_nothing_and_the_next_run_is_right(tmp_path):
    case = kills.make_case(1, "repro") | {
        "until": UNTIL,
        "stage": UNTIL,
        "signal": "SIGTERM",
        "target": "group",
        "phase": "anywhere",
    }
    kills.run(case, tmp_path / "killed")

    place = Place(tmp_path / "untouched", until=UNTIL)
    assert place.wrong() == []
    assert place.wrong(isolated=True)[0] == ("differs", "expected one version, got []")
    root = place.root
    for path in ("data/raw/.half", ".git/index.lock", ".dvc/tmp/flow.json", "new.txt", ".scratch/train/k.lock", "../tmp/x"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
        [(fault, what)] = place.wrong()
        assert fault == "leftover" and path.rpartition("/")[2] in what
        (root / path).unlink()
    (root / "data/normalized/test_labels.npy").unlink()
    with pytest.raises(Fault, match="missing: .*test_labels"):
        fail_if(place.wrong())

    left = place.start("python", "-c", "import os, time; os.chdir('/'); print('up', flush=True); time.sleep(60)")
    while "up" not in place.log():
        assert left.poll() is None
    [line] = place.orphans(seconds=0.5)
    assert line.startswith(str(left.pid)) and left.wait(5) is not None
    with pytest.raises(Fault, match="more than 1 s"):
        place.run("python", "-c", "import time; time.sleep(60)", limit_seconds=1)


@pytest.mark.slow(seconds=55)
@pytest.mark.timeout(600)
def test_a_schedule_records_each_change_once_whatever_breaks(tmp_path):
    server = SimpleNamespace(url=server_url(), start=lambda: None, stop=lambda *_: None)
    case = {"seed": 1, "runs": 3, "quiet_runs": 1, "interval_seconds": 2, "faults": ["run killed"]}
    assert "'run killed': " in time_schedule.run(case, tmp_path, server)
