"""`gan live` with a program that stands in for TensorBoard, and the quick FID with a real judge of a few real digits."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tensorflow import start

start()  # here, since what follows imports TensorFlow

from commands.live import FID_TAG, QuickFid  # noqa: E402
from gan.keras_files import save_model  # noqa: E402
from gan.training.loop import TrainingRun  # noqa: E402
from gan.training.networks import build_generator  # noqa: E402
from gan.training.summaries import Summaries  # noqa: E402
from tests.helpers.small_digits import small_digits  # noqa: E402
from tests.training.test_summaries import events  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(tensorflow, tmp_path):
    """A folder with one run that has kept one generator: (the live folder, the run's, the generator)."""
    generator = build_generator(latent_dim=4, units=[8], leaky_slope=0.2, seed=0)
    run = TrainingRun({}, trajectory={})
    with Summaries(tmp_path / "live", "a" * 16, types.SimpleNamespace(steps=10), run, generator=generator) as live:
        run.trajectory[7] = generator.get_weights()
        live.update(last=True)
    return tmp_path / "live", live.folder, generator


def make_judge():
    """Write an untrained judge and its reference where the pipeline has them."""
    from gan.judge.classifier import build_classifier, build_judge
    from gan.judge.reference import build_reference

    images = small_digits()[0][:300]
    judge, judged = build_judge(build_classifier(seed=0), images)
    features = judged["features"]
    classes = np.arange(300) % 10
    reference = build_reference(features, classes, sample_count=200, neighbours=3, copy_thresholds=np.ones(10, np.float32))
    Path("data/judge").mkdir(parents=True)
    save_model(judge, Path("data/judge/judge.keras"))
    reference.save(Path("data/judge/reference.npz"))
    return judge, features


def fids(run):
    return [(e.step, v.simple_value) for e in events(run / "quick FID") for v in e.summary.value if v.tag == FID_TAG]


def test_each_generator_is_measured_once_and_only_where_there_is_a_judge(runs, tmp_path, capsys):
    from gan.generators import Sampler
    from gan.judge.classifier import outputs_of
    from gan.judge.frechet import Gaussian, mean_and_covariance

    live, run, generator = runs
    with contextlib.chdir(tmp_path):
        quick = QuickFid(live)
        quick.look()
        assert not (run / "quick FID").exists()
        judge, real = make_judge()
        quick.look()
        quick.look()
    images, _ = Sampler(generator).draw(count=1000, class_shares=np.full(10, 0.1), seed=0)
    expected = Gaussian(*mean_and_covariance(real)).frechet_distance(*mean_and_covariance(outputs_of(judge)(images)["features"]))
    ((step, fid),) = fids(run)
    assert step == 7
    assert fid == pytest.approx(expected, rel=1e-4)
    assert capsys.readouterr().out == f"{run.name}: step 7, FID of 1000 samples {fid:.1f}\n"


def test_a_full_disk_is_no_end(runs, tmp_path, monkeypatch):
    import tensorflow as tf

    live, run, _ = runs
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path, make=tf.io.TFRecordWriter: make("/dev/full"))
    with contextlib.chdir(tmp_path):
        make_judge()
        QuickFid(live).look()
    assert (run / "quick FID").is_dir() and fids(run) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_description_of_a_generator_waits(runs, tmp_path, text):
    live, run, _ = runs
    (run / "generator.json").write_text(text)
    with contextlib.chdir(tmp_path):
        make_judge()
        QuickFid(live).look()
    assert not (run / "quick FID").exists()


def start(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("GAN_SCRATCH", None)
    command = [sys.executable, "-m", "commands", "live", "--tensorboard", "bin/tensorboard", "--port", "7007"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_tensorboard(folder, program):
    """Make a shell program stand in for TensorBoard."""
    path = folder / "bin/tensorboard"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)


def test_tensorboard_keeps_to_this_machine_and_ends_with_the_command(tmp_path):
    write_tensorboard(tmp_path, 'echo "$@" > arguments; echo $$ > pid.new; mv pid.new pid; exec sleep 1000')
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    assert "--logdir .scratch/live --host 127.0.0.1 --port 7007 " in (tmp_path / "arguments").read_text()
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


STOPPED_WHILE_IT_STARTS = textwrap.dedent(
    """
    import os, signal, subprocess

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            print(self.pid, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

    subprocess.Popen = Popen
    from commands.live import live
    live(["--tensorboard", "bin/tensorboard"])
    """
)


def test_a_stop_while_tensorboard_starts_ends_it_as_well(tmp_path):
    write_tensorboard(tmp_path, "exec sleep 1000 > /dev/null")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED_WHILE_IT_STARTS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(process.stdout.readline())
    assert process.wait(60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    process.stdout.close()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("exit 3", "gan: TensorBoard ended with exit code 3; what it says stands above"),
        (None, "gan: bin/tensorboard: no such file; `make live` installs TensorBoard and starts it"),
    ],
)
def test_what_goes_wrong_is_one_line(program, message, tmp_path):
    if program is not None:
        write_tensorboard(tmp_path, program)
    process = start(tmp_path)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (1, message + "\n")
