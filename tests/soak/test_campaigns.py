"""A small part of each campaign, and the frame itself: it must see every fault that a case can have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import frame
from tests.soak.kinds import arrays

QUICK = [
    "archives",
    "bases of runs",
    "checkpoints",
    "histories",
    "idx",
    "idx labels",
    "images",
    "labels",
    "overrides",
    "parameters",
    "patience",
    "pictures",
    "pixels",
    "references",
    "sets",
    "set files",
    "snapshots",
]
SLOW = [
    "command lines",
    "copy thresholds",
    "indexes",
    "metrics",
    "mirrors",
    "models",
    "references of git",
    "registries",
    "titles",
    "weights",
]


def run(kind, count, tmp_path, seed=1):
    return frame.run_campaign("inputs", seed=seed, count=count, out=tmp_path, kinds=[kind], shrink_seconds=0, quiet=True)[kind]


def test_every_kind_is_run_here():
    assert sorted([*QUICK, *SLOW]) == sorted(frame.kinds_of("inputs"))


@pytest.mark.parametrize("kind", QUICK)
def test_bad_inputs(kind, tmp_path):
    row = run(kind, 25, tmp_path)
    assert row.cases >= 20
    assert row.failures == 0, list(tmp_path.rglob("what.txt"))[0].read_text()


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("kind", SLOW)
def test_bad_inputs_that_take_longer(kind, tmp_path):
    row = run(kind, 4 if kind == "registries" else 25, tmp_path)
    assert row.cases >= 4
    assert row.failures == 0, list(tmp_path.rglob("what.txt"))[0].read_text()


@pytest.mark.parametrize("kind", ["sources", "locks", "parts", "known weaknesses", "rules"])
def test_what_the_project_is_made_of(kind, tmp_path):
    row = frame.run_campaign("supply", seed=0, count=400, out=tmp_path, kinds=[kind], shrink_seconds=0, quiet=True)[kind]
    assert row.cases > 0
    assert row.failures == 0, list(tmp_path.rglob("what.txt"))[0].read_text()


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setitem(frame.CAMPAIGNS, "faulty", "tests.soak.faulty")


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("right", "accepted"),
        ("refuses", "refused"),
        ("cannot say", "not checked"),
        ("traceback", "traceback"),
        ("crash", "crash"),
        ("hang", "hang"),
        ("memory", "memory"),
        ("writes", "outside"),
        ("pickle", "outside"),
        ("starts a program", "outside"),
        ("connects", "outside"),
        ("accepts wrongly", "accepted wrongly"),
        ("refuses wrongly", "refused wrongly"),
        ("two lines", "unclear"),
        ("control character", "unclear"),
        ("warns", "traceback"),
    ],
)
def test_the_frame_sees_every_fault(faulty, kind, outcome, tmp_path):
    row = frame.run_campaign("faulty", seed=0, count=1, out=tmp_path, kinds=[kind], shrink_seconds=0, quiet=True)[kind]
    assert dict(row.outcomes) == {outcome: 1}
    assert (row.failures == 1) == bool(list(tmp_path.rglob("repro.sh")))


def test_a_failure_is_made_small_and_can_be_repeated(faulty, tmp_path):
    rows = frame.run_campaign("faulty", seed=0, count=200, out=tmp_path, kinds=["large numbers"], shrink_seconds=20, quiet=True)
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


def test_the_command_line(tmp_path):
    def soak(*arguments):
        command = [sys.executable, "-m", "tests.soak", *arguments, "--out", tmp_path / "out"]
        return subprocess.run(command, cwd=Path(frame.ROOT), capture_output=True, text=True)

    done = soak("inputs/idx", "--count", "20", "--seed", "4")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:2] == ["inputs/idx", "20"]
    assert "seed 4: 20 cases" in done.stdout
    assert "inputs: parameters, " in soak("--list").stdout
    assert soak("nosuch").returncode == 2
