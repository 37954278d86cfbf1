"""Reads data/normalized/ (train_images.npy, and train_labels.npy for class-conditional networks). Writes data/model/.

data/model/ holds both networks, the history, snapshots, the trajectory and metrics.

Trains the GAN. Stopped or killed, it goes on from its last checkpoint the next time, to the very bytes of a run that was not.
Checkpoints lie in .scratch/ (or the folder that GAN_SCRATCH names) until the run is finished. What `make live` shows of the
newest runs lies there in live/.
"""

import contextlib
import sys
from pathlib import Path

from gan.errors import UserError
from gan.params import PARAMS, read_section
from gan.runtime import require_processor, scratch_folder
from gan.training.params import RuntimeParams, TrainParams
from stages.command import code_files, run_as_command
from stages.console import ProgressBar, StopSignals

IMAGES = Path("data/normalized/train_images.npy")
LABELS = Path("data/normalized/train_labels.npy")
OUT = Path("data/model")
TIMINGS = Path("data/timings/train.json")


def main():
    params = read_section(PARAMS, "train", TrainParams)
    runtime = read_section(PARAMS, "runtime", RuntimeParams)

    from gan.arrays import load_labels, load_pixels

    require_processor(params.processor)
    pixels = load_pixels(IMAGES)
    labels = load_labels(LABELS, count=len(pixels)) if params.conditional else None

    params.start_tensorflow()

    from gan.training.checkpoints import Scratch, run_key
    from gan.training.engine import Engine
    from gan.training.loop import TrainingRun
    from gan.training.summaries import Summaries

    folder = scratch_folder()
    key = run_key(params, pixels, labels, code_files=code_files("train"))
    with Scratch(folder / "train", key, log=log) as scratch:
        if params.clusters:
            log(f"looking for {params.clusters} clusters among {len(pixels)} images")
        engine = Engine(params, pixels, labels)
        saved = scratch.load()
        run = TrainingRun.from_arrays(saved) if saved else TrainingRun(engine.initial_state())
        if saved:
            log(f"going on from step {run.next_step} of a run that was stopped")
        with Summaries(folder / "live", key, params, run, generator=engine.generator, log=log) as live:
            train_or_stop(engine, run, scratch, live, checkpoint_every_seconds=runtime.checkpoint_every_seconds)
        write_outputs(engine, run)
        scratch.remove()
    log(f"total training time: {run.seconds:.1f} s, {params.steps / run.seconds:.0f} steps/s")


def train_or_stop(engine, run, scratch, live, *, checkpoint_every_seconds):
    """Take `run` to its end, shown in the Summaries `live`; on a signal save it and exit with the signal's code.

    Raises UserError when training diverges.
    """
    from gan.training.engine import NonFiniteError
    from gan.training.loop import StoppedError, train

    def show(step, row):
        bar.log(step, row)
        live.update()

    stop = StopSignals(lambda: log("stopping after this block of steps ..."))
    try:
        with stop, ProgressBar(engine.params.steps, run.next_step) as bar:
            train(
                engine,
                run,
                save=lambda current: scratch.save(current.next_step - 1, current.to_arrays()),
                checkpoint_every_seconds=checkpoint_every_seconds,
                stop_requested=lambda: stop.signal is not None,
                on_log=show,
            )
            live.update(last=True)
    except StoppedError as error:
        log(f"{error}; the next `dvc repro` goes on from there, and until then `make restore` brings the last results back")
        sys.exit(128 + stop.signal)
    except NonFiniteError as error:
        raise UserError(f"training diverged: {error}; lower a learning rate or change the seed") from None


def write_outputs(engine, run):
    """Write everything that the stage declares, each file whole or not at all."""
    import numpy as np

    from gan.arrays import save_archive
    from gan.files import replacing_folder, write_csv, write_json
    from gan.keras_files import save_model
    from gan.training.engine import HISTORY_COLUMNS
    from gan.training.loop import summary

    generator, discriminator = engine.models(run.state)
    with replacing_folder(OUT / "trajectory") as folder:
        for step, weights in run.trajectory.items():
            generator.set_weights(weights)
            generator.save_weights(folder / f"generator-{step:06d}.weights.h5")
    generator.set_weights(engine.generator_weights(run.state))
    save_model(generator, OUT / "generator.keras")
    save_model(discriminator, OUT / "discriminator.keras")

    history = run.all_history
    rows = ({"step": step} | dict(zip(HISTORY_COLUMNS, row, strict=True)) for step, row in enumerate(history))
    write_csv(OUT / "history.csv", rows)
    snapshots = np.stack(list(run.snapshots.values()))
    save_archive(OUT / "snapshots.npz", steps=np.array(list(run.snapshots)), images=snapshots)
    write_json(OUT / "metrics.json", summary(history, log_every_steps=engine.params.log_every_steps))
    speed = round(engine.params.steps / run.seconds, 1)
    write_json(TIMINGS, {"train_seconds": round(run.seconds, 1), "steps_per_second": speed})


def log(message):
    with contextlib.suppress(OSError):  # who read it may be gone, as a killed `dvc repro`: that must not cost the save
        print(f"train: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_as_command(main)
