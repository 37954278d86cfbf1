"""`gan live`: TensorBoard over what training writes of itself, and beside it a quick FID of the generators that a run has kept.

The FID is measured here and not by the training, which has neither the time for it nor a judge among its dependencies.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from gan.errors import DataError, UserError
from gan.runtime import scratch_folder, start_tensorflow

JUDGE = Path("data/judge/judge.keras")
REFERENCE = Path("data/judge/reference.npz")
TENSORBOARD = Path(".venv-live/bin/tensorboard")
SAMPLE_COUNT = 1000
FID_TAG = f"FID of {SAMPLE_COUNT} samples"
_FOLDER = "quick FID"  # a run of its own for TensorBoard, which reads only the newest event file in a folder
_SEED = 0
_LOOK_SECONDS = 2
_STOP_SECONDS = 10
_STOPS = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True, help="Where TensorBoard listens.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    default=TENSORBOARD,
    show_default=True,
    metavar="FILE",
    help="The program TensorBoard; `make live` installs it.",
)
def live(port, tensorboard):
    """Watch training in TensorBoard: losses, D accuracy, samples, and the FID of the generators that a run has kept so far.

    It shows the newest runs, also those that are over, and runs until Ctrl-C. The FID is a quick one, of 1,000 samples, which
    makes it higher than the 10,000 of `dvc repro`; it needs a judge: `dvc repro judge`.
    """
    if not tensorboard.exists():
        raise UserError(f"{tensorboard}: no such file; `make live` installs TensorBoard and starts it")
    folder = scratch_folder() / "live"
    folder.mkdir(parents=True, exist_ok=True)
    os.nice(19)  # training goes first
    for number in _STOPS:
        signal.signal(number, _exit)
    command = [tensorboard, "--logdir", folder, "--host", "127.0.0.1", "--port", str(port), "--reload_interval", "3"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # one that came while TensorBoard starts would leave it behind
    start = functools.partial(_take_signals, before)
    with subprocess.Popen(command, env=quiet, stdin=subprocess.DEVNULL, preexec_fn=start) as process:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            quick_fid = QuickFid(folder)
            while process.poll() is None:
                quick_fid.look()
                time.sleep(_LOOK_SECONDS)
            raise UserError(f"TensorBoard ended with exit code {process.returncode}; what it says stands above")
        finally:
            _end(process)


class QuickFid:
    """Measures the generators that the runs below `folder` have left there, each once."""

    def __init__(self, folder):
        self._folder = folder
        self._judge, self._judged_by = None, None  # what `_load_judge` gives, and the times of the files that it read
        self._measured = set()  # paths of weights
        self._events = {}  # a run's folder -> its EventFile

    def look(self):
        """Measure the generators that have come since; without a judge, none. What is being replaced waits for the next look."""
        with contextlib.suppress(OSError, DataError):
            times = [path.stat().st_mtime_ns for path in (JUDGE, REFERENCE)]
            if times != self._judged_by:
                self._judge, self._judged_by = _load_judge(), times
        if self._judge is None:
            return
        for run in sorted(self._folder.glob("*Z-*"), reverse=True):
            with contextlib.suppress(OSError, DataError):  # DataError: a generator whose training has diverged
                self._measure(run)

    def _measure(self, run):
        from gan.generators import Sampler
        from gan.judge.frechet import mean_and_covariance
        from gan.training.summaries import EventFile, generators_in, load_generator, load_generator_weights

        new = {step: path for step, path in generators_in(run).items() if path not in self._measured}
        if not new:
            return
        outputs, reference, real = self._judge
        generator = load_generator(run)
        sampler = Sampler(generator)
        if run not in self._events:
            self._events[run] = EventFile(run / _FOLDER)
        for step, path in new.items():
            generator.set_weights(load_generator_weights(path))
            self._measured.add(path)
            images, _ = sampler.draw(count=SAMPLE_COUNT, class_shares=reference.class_shares, seed=_SEED)
            fid = real.frechet_distance(*mean_and_covariance(outputs(images)["features"]))
            self._events[run].scalars(step, {FID_TAG: fid})
            self._events[run].flush()
            click.echo(f"{run.name}: step {step}, FID of {SAMPLE_COUNT} samples {fid:.1f}")


def _load_judge():
    """What the judge says of images, the Reference, and the Gaussian of the real digits' features."""
    start_tensorflow(1)  # the training has the cores; a second time, when the judge has changed, it does nothing
    from gan.judge.classifier import outputs_of
    from gan.judge.frechet import Gaussian
    from gan.judge.reference import Reference
    from gan.keras_files import load_model

    reference = Reference.load(REFERENCE)
    return outputs_of(load_model(JUDGE)), reference, Gaussian(reference.mean, reference.covariance)


def _take_signals(mask):
    for number in _STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _exit(number, frame):
    sys.exit(128 + number)


def _end(process):
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
