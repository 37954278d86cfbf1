"""The train stage as a process: killed, stopped, run twice, on damaged checkpoints and a full disk, it ends in the same bytes."""

import contextlib
import csv
import hashlib
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from gan.errors import UserError
from gan.images import to_unit_range
from gan.runtime import processor_kind
from tests.helpers.small_digits import run_here
from tests.helpers.tensorflow import THREADS
from tests.helpers.toy_project import wait_for

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6001
KILLS = 8

pytestmark = pytest.mark.slow(seconds=8)


def write_params(folder, *, checkpoint_every_seconds, **changes):
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda _: True  # one list in two parameters: the stages take no aliases
    params = yaml.load(ROOT / "params.yaml")
    small = {"steps": STEPS, "batch_size": 16, "latent_dim": 8, "generator_units": [16], "discriminator_units": [16]}
    params["train"].update({**small, "log_every_steps": 100, **changes})
    params["runtime"]["checkpoint_every_seconds"] = checkpoint_every_seconds
    yaml.dump(params, folder / "params.yaml")


def make_workplace(folder, *, checkpoint_every_seconds=0.05, **changes):
    (folder / "data/normalized").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), np.uint8)
    np.save(folder / "data/normalized/train_images.npy", to_unit_range(pixels))
    write_params(folder, checkpoint_every_seconds=checkpoint_every_seconds, **changes)
    return folder


def start(folder, **options):
    """A training that is never more than a dozen lines ahead of who reads them, so that it cannot end before a signal comes."""
    reader, writer = socket.socketpair()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # a pipe would take the lines of a whole training
    with reader, writer:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        process.stdout = reader.makefile()
    return process


def finish(folder, **options):
    process = start(folder, **options)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def wait_for_step(process):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step "):
            return lines
    raise AssertionError("".join(lines))


def digests(folder):
    model = folder / "data/model"
    return {str(p.relative_to(model)): hashlib.sha256(p.read_bytes()).hexdigest() for p in model.rglob("*") if p.is_file()}


def scratch_files(folder):
    return sorted((folder / ".scratch").rglob("checkpoint-*.npz"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = make_workplace(tmp_path_factory.mktemp("whole"), checkpoint_every_seconds=1000)
    code, output = finish(folder)
    assert code == 0, output
    return folder


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the promise is for x86-64 processors with AVX2")
def test_the_lectures_networks_give_the_same_bytes_on_every_processor(tmp_path):
    """What an Intel with AVX-512 has computed, and the same one disguised as a Haswell, a Skylake, an Alder Lake and a Zen."""
    lecture = YAML(typ="safe").load(ROOT / "sets/lecture.yaml")["train"]
    folder = make_workplace(tmp_path, **{**lecture, "steps": 31})
    code, output = finish(folder)
    assert code == 0, output
    history = (folder / "data/model/history.csv").read_bytes()
    assert hashlib.sha256(history).hexdigest()[:16] == "90b284ea7cd0ae45", history.decode()


def test_an_uninterrupted_run_writes_everything_and_clears_its_scratch(uninterrupted):
    model = uninterrupted / "data/model"
    with open(model / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert set(rows[0]) == {"step", "g_loss", "d_loss", "d_accuracy"}
    with np.load(model / "snapshots.npz") as snapshots:
        assert snapshots["steps"].tolist() == list(range(0, STEPS, 100))
        assert snapshots["images"].shape == (61, 16, 28, 28, 1)
        assert snapshots["images"].dtype == np.uint8
    assert len(list((model / "trajectory").glob("generator-*.weights.h5"))) == 12
    metrics = json.loads((model / "metrics.json").read_text())
    tail = [float(row["g_loss"]) for row in rows[::100]][-9:]
    assert metrics["tail_mean"]["g_loss"] == pytest.approx(np.mean(tail), abs=1e-5)
    assert metrics["final"]["d_accuracy_percent"] == pytest.approx(float(rows[-1]["d_accuracy"]), abs=1e-4)
    timings = json.loads((uninterrupted / "data/timings/train.json").read_text())
    assert timings["train_seconds"] > 0 and timings["steps_per_second"] > 0
    assert scratch_files(uninterrupted) == []


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_kills_at_random_moments_end_in_the_same_bytes(uninterrupted, tmp_path):
    """A few; `make soak ARGS="kills"` makes hundreds, of every stage and command."""
    make_workplace(tmp_path)
    moments = random.Random(20)
    log_seconds = 100 / json.loads((uninterrupted / "data/timings/train.json").read_text())["steps_per_second"]
    outcomes, starts = [], []
    for attempt in range(KILLS):
        process = start(tmp_path)
        # every fourth dies while it starts or compiles; the others soon after a log step, between checkpoints or in one
        if attempt % 4 == 3:
            time.sleep(moments.uniform(0, min(starts)))
        else:
            started = time.monotonic()
            wait_for_step(process)
            starts.append(time.monotonic() - started)
            time.sleep(moments.uniform(0, 5 * log_seconds))
        number = moments.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
        (os.killpg if moments.random() < 0.5 else os.kill)(process.pid, number)
        output, _ = process.communicate(timeout=240)
        outcomes.append((number.name, process.returncode, output[-300:]))
        if process.returncode == 0:
            break
        assert process.returncode in (-number, 128 + number), outcomes[-1]
    assert len(outcomes) == KILLS, outcomes
    code, output = finish(tmp_path)
    assert code == 0, output
    assert "going on from step" in output
    assert digests(tmp_path) == digests(uninterrupted)
    assert scratch_files(tmp_path) == []


def stopped(folder, number=signal.SIGTERM):
    process = start(folder)
    wait_for_step(process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def test_stopping_says_so_in_one_line_and_saves(uninterrupted, tmp_path):
    make_workplace(tmp_path, checkpoint_every_seconds=1000)
    for number in (signal.SIGINT, signal.SIGTERM):
        code, output = stopped(tmp_path, number)
        assert code == 128 + number
        assert "Traceback" not in output
        assert "stopped after step" in output and "saved" in output
        assert len(scratch_files(tmp_path)) >= 1
    assert not (tmp_path / "data/model").exists()


def test_stopping_saves_when_nobody_reads_any_more(tmp_path):
    """As when `dvc repro` is killed: its pipe is closed before the trainer hears of it."""
    make_workplace(tmp_path, checkpoint_every_seconds=1000, steps=2_000_001)
    process = start(tmp_path)
    wait_for_step(process)
    process.stdout.close()
    process.terminate()
    assert process.wait(280) != 0
    assert len(scratch_files(tmp_path)) == 1


def test_damaged_checkpoints_are_replaced(uninterrupted, tmp_path):
    make_workplace(tmp_path)
    assert stopped(tmp_path)[0] == 143
    files = scratch_files(tmp_path)
    files[-1].write_bytes(files[-1].read_bytes()[:1000])
    for file in files[:-1]:
        file.write_bytes(b"\0" * file.stat().st_size)
    write_params(tmp_path, checkpoint_every_seconds=1000)
    code, output = finish(tmp_path)
    assert code == 0, output
    assert "is damaged" in output
    assert digests(tmp_path) == digests(uninterrupted)


def test_other_parameters_never_use_a_checkpoint(uninterrupted, tmp_path):
    make_workplace(tmp_path, seed=5)
    assert stopped(tmp_path)[0] == 143
    write_params(tmp_path, checkpoint_every_seconds=1000)
    code, output = finish(tmp_path)
    assert code == 0, output
    assert "going on" not in output
    assert digests(tmp_path) == digests(uninterrupted)


def test_a_full_disk_costs_the_checkpoints_only(uninterrupted, tmp_path):
    make_workplace(tmp_path, checkpoint_every_seconds=0.2)
    disk = tmp_path / ".scratch"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        code, output = finish(tmp_path)
        assert code == 0, output
        assert "no checkpoint at step" in output and "No space left on device" in output
        assert digests(tmp_path) == digests(uninterrupted)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.timeout(600)
def test_a_second_run_of_the_same_training_waits_and_ends_in_the_same_bytes(uninterrupted, tmp_path):
    make_workplace(tmp_path, checkpoint_every_seconds=1000)
    first = start(tmp_path)
    wait_for_step(first)
    second = start(tmp_path)
    assert f"process {first.pid}, which runs this very training" in second.stdout.readline()
    outputs = [process.communicate(timeout=280)[0] for process in (first, second)]
    assert first.returncode == 0 and "which runs this very training" not in outputs[0], outputs
    # the second trains as well, unless the first took longer than it waits
    assert second.returncode in (0, 1), outputs
    assert digests(tmp_path) == digests(uninterrupted)


def test_diverging_training_stops_with_the_step_in_one_line(tensorflow, tmp_path):
    adam = {"learning_rate": 1.0, "beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e-30, "update_clip": 0.0}
    deep = {"generator_units": [64] * 8, "discriminator_units": [64] * 8}
    make_workplace(tmp_path, generator_adam=adam, discriminator_adam=adam, threads=THREADS, **deep)
    with pytest.raises(UserError, match="^training diverged: step "):
        run_here("train", tmp_path)
    assert not (tmp_path / "data/model").exists()


def test_training_that_diverges_in_a_log_step_stops_in_one_line(tensorflow, tmp_path):
    """The losses of a step are from before its update: its images may be the first that are not finite."""
    adam = {"learning_rate": 1.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "update_clip": 0.0}
    networks = {"generator_units": [8], "discriminator_units": [256] * 8, "latent_dim": 4, "batch_size": 4}
    unsaved = {"checkpoint_every_seconds": 600}  # else a checkpoint at the step before finds the moments
    others = {"log_every_steps": 1, "threads": THREADS}
    make_workplace(tmp_path, generator_adam=adam, discriminator_adam=adam, **others, **networks, **unsaved)
    with pytest.raises(UserError, match=r"^training diverged: step \d+: the generator's images are not finite"):
        run_here("train", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "train.batch_size = 0: input should be greater than or equal to 1"),
        ({"batchsize": 300}, "train.batchsize = 300 is unknown; did you mean batch_size?"),
        ({"steps": "many"}, "train.steps = 'many': input should be a valid integer"),
    ],
)
def test_bad_parameters_end_in_one_line_at_once(tmp_path, changes, message):
    make_workplace(tmp_path, **changes)
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was asked for')\n")  # it takes seconds to start
    code, output = finish(tmp_path)
    assert code == 1
    assert message in output
    assert len(output.splitlines()) == 1


def test_another_kind_of_processor_is_refused_at_once(tmp_path):
    make_workplace(tmp_path, instructions="native", processor="MOS 6502")
    code, output = finish(tmp_path)
    assert code == 1
    assert output.startswith(f"python -m stages.train: processor = 'MOS 6502': this machine's is '{processor_kind()}'")
    assert len(output.splitlines()) == 1


def test_missing_images_end_in_one_line(tmp_path):
    write_params(tmp_path, checkpoint_every_seconds=10)
    code, output = finish(tmp_path)
    assert code == 1
    assert output == "python -m stages.train: data/normalized/train_images.npy: no such file; `dvc repro` makes it\n"


def living_members(group):
    """The processes of a process group, without those that have ended but that nobody has asked about."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.timeout(600)
def test_a_killed_parent_takes_the_trainer_along(tmp_path):
    """A shell such as the one that DVC starts dies by SIGKILL: the trainer saves and ends, and no orphan is left."""
    make_workplace(tmp_path, steps=2_000_001)
    shell = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -m stages.train > log.txt 2>&1; true"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    log = tmp_path / "log.txt"
    wait_for(lambda: log.exists() and "step 0/" in log.read_text(), 240, "the first step")
    assert len(living_members(shell.pid)) == 2
    shell.kill()
    shell.wait()
    wait_for(lambda: "saved" in log.read_text(), 240, "the save")
    wait_for(lambda: not living_members(shell.pid), 60, "the trainer's end")


SMALL_CONV = {
    "steps": 121,
    "log_every_steps": 5,
    "network": "conv",
    "conditional": True,
    "generator_units": [4, 4],
    "discriminator_units": [4, 4, 8],
    "update_order": "simultaneous",
    "r1_gamma": 1.0,
    "penalty_every_steps": 8,
    "warm_up_steps": 10,
    "constant_rate_share": 0.25,
    "final_rate_share": 0.02,
    "ema_decay": 0.99,
    "compute_precision": "bfloat16",
    "instructions": "native",
    "processor": processor_kind(),
    "compiler": "graph",
}


@pytest.mark.bfloat16
def test_a_conditional_conv_run_that_is_stopped_ends_in_the_same_bytes(tmp_path):
    folders = []
    for name in ("whole", "stopped"):
        folders.append(make_workplace(tmp_path / name, checkpoint_every_seconds=1000, **SMALL_CONV))
        np.save(folders[-1] / "data/normalized/train_labels.npy", (np.arange(300) % 10).astype(np.uint8))
    code, output = finish(folders[0])
    assert code == 0, output
    assert stopped(folders[1])[0] == 143
    code, output = finish(folders[1])
    assert code == 0, output
    assert "going on from step" in output
    assert digests(folders[0]) == digests(folders[1])


def test_conditional_training_without_labels_ends_in_one_line(tmp_path):
    make_workplace(tmp_path, **SMALL_CONV)
    code, output = finish(tmp_path)
    assert code == 1
    assert output == "python -m stages.train: data/normalized/train_labels.npy: no such file; `dvc repro` makes it\n"


def test_what_is_done_before_the_first_step_is_said(tmp_path):
    code, output = finish(make_workplace(tmp_path, steps=1, clusters=4))
    assert code == 0, output
    said, step, *_ = output.splitlines()
    assert said == "train: looking for 4 clusters among 300 images" and step.startswith("step 0/0"), output
