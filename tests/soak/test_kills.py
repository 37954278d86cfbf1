"""A small seeded part of the campaign `kills`, and that it would see what it looks for."""

import signal
import time

import pytest

from tests.soak import kills
from tests.soak.case import Fault
from tests.soak.kills_project import Place, fail_if, template

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("soak"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def made():
    template()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def put(path):
    """An empty file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("command", ["stage", "repro", "flow"])
def test_a_command_that_gets_a_signal_leaves_nothing_and_the_next_run_is_right(tmp_path, command, seed):
    kills.run(kills.make_case(seed, command) | {"stage": ["fetch", "normalize"][seed % 2]}, tmp_path)


def test_the_same_number_makes_the_same_case_and_others_other_ones():
    cases = [kills.make_case(seed, "repro") for seed in range(200)]
    assert cases == [kills.make_case(seed, "repro") for seed in range(200)]
    assert {case["signal"] for case in cases} == {"SIGTERM", "SIGINT", "SIGKILL"}
    assert {case["target"] for case in cases} == {"process", "group", "child"}
    assert {case["phase"] for case in cases} == {"start", "anywhere", "end"}
    assert len({case["stage"] for case in cases}) == 7


def test_an_untouched_place_has_nothing_wrong(place):
    assert place.wrong() == []
    assert place.wrong(isolated=True)[0] == ("differs", "expected one version, got []")


@pytest.mark.parametrize(
    ("break_it", "fault", "told"),
    [
        (lambda root: (root / "data/model/history.csv").write_text("step\n"), "differs", "model/history.csv"),
        (lambda root: (root / "data/report/index.html").unlink(), "differs", "missing"),
        (lambda root: (root / "data/model/.half").touch(), "leftover", "model/.half"),
        (lambda root: (root / "dvc.lock").write_text("stages: {}\n"), "differs", "dvc.lock"),
        (lambda root: (root / ".git/index.lock").touch(), "leftover", "index.lock"),
        (lambda root: (root / ".dvc/tmp/flow.json").touch(), "leftover", "flow.json"),
        (lambda root: put(root / ".dvc/cache/files/md5/00/x.tmp"), "leftover", "x.tmp"),
        (lambda root: (root / "new.txt").touch(), "leftover", "new: new.txt"),
        (lambda root: (root.parent / "tmp/x").touch(), "leftover", "TMPDIR/x"),
        (lambda root: put(root / ".scratch/train/k.lock"), "leftover", "k.lock"),
    ],
)
def test_what_is_wrong_with_a_place_is_found(place, break_it, fault, told):
    break_it(place.root)
    found = place.wrong()
    assert any(told in what and kind == fault for kind, what in found), found
    with pytest.raises(Fault):
        fail_if(found)


def test_a_process_that_is_left_is_found_and_ended_wherever_it_works(place):
    process = place.start("python", "-c", "import os, time; os.chdir('/'); print('up', flush=True); time.sleep(60)")
    while "up" not in place.log():
        time.sleep(0.05)
    [line] = place.orphans(seconds=0.5)
    assert line.startswith(str(process.pid))
    assert process.wait(5) == -signal.SIGKILL
    assert place.orphans(seconds=0) == []


def test_a_command_that_does_not_end_is_a_hang(place):
    with pytest.raises(Fault, match="more than 1 s") as caught:
        place.run("python", "-c", "import time; time.sleep(60)", limit_seconds=1)
    assert caught.value.outcome == "hang"
