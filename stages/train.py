"""Reads data/normalized/ (train_images.npy, and train_labels.npy for class-conditional networks). Writes data/model/.

data/model/ holds both networks, the history, snapshots, the trajectory and metrics.

Trains the GAN. Stopped or killed, it goes on from its last checkpoint the next time, to the very bytes of a run that was not.
Checkpoints lie in .scratch/ (or the folder that GAN_SCRATCH names) until the run is finished.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from gan.errors import DataError, UserError
from gan.params import read_section
from gan.train_params import RuntimeParams, TrainParams
from stages.command import PARAMS, run

IMAGES = Path("data/normalized/train_images.npy")
LABELS = Path("data/normalized/train_labels.npy")
OUT = Path("data/model")
TIMINGS = Path("data/timings/train.json")
TAIL_LOG_LINES = 9  # the lecture's last nine lines, steps 4600 to 5000


def main():
    params = read_section(PARAMS, "train", TrainParams)
    runtime = read_section(PARAMS, "runtime", RuntimeParams)
    from gan.arrays import load_labels

    pixels, digest = read_pixels(IMAGES)
    labels = load_labels(LABELS, count=len(pixels)) if params.conditional else None

    from gan.runtime import start_tensorflow

    # compiled by XLA, all threads share an operation; otherwise each has operations of its own (`Engine` cuts batches for that)
    tf = start_tensorflow(params.threads, threads_an_operation=params.threads_an_operation)
    refuse_slow_convolutions(params, tf.config.list_physical_devices("GPU"))
    from gan import checkpoints, training
    from gan import run as runs

    scratch_folder = Path(os.environ.get("GAN_SCRATCH", ".scratch")) / "train"
    with checkpoints.Scratch(scratch_folder, run_key(params, digest, labels), log=log) as scratch:
        engine = training.Engine(params, pixels, labels)
        saved = scratch.load()
        current = runs.Run.from_arrays(saved) if saved else runs.Run(engine.initial_state())
        if saved:
            log(f"going on from step {current.next_step} of a run that was stopped")
        try:
            with StopSignals() as stop, ProgressBar(params.steps, current.next_step) as bar:
                runs.train(
                    engine,
                    current,
                    params=params,
                    save=lambda state: scratch.save(state.next_step - 1, state.to_arrays()),
                    checkpoint_every_seconds=runtime.checkpoint_every_seconds,
                    stop_requested=lambda: stop.signal is not None,
                    on_log=bar.log,
                )
        except runs.StoppedError as error:
            log(f"{error}; the next `dvc repro` goes on from there, and until then `make restore` brings the last results back")
            sys.exit(128 + stop.signal)
        except training.NonFiniteError as error:
            raise UserError(f"training diverged: {error}; lower a learning rate or change the seed") from None
        write_outputs(params, engine, current)
        scratch.remove()
    log(f"total training time: {current.seconds:.1f} s, {params.steps / current.seconds:.0f} steps/s")


def refuse_slow_convolutions(params, gpus):
    """Raise UserError for a choice that would take days: convolutions compiled by XLA where there is no GPU."""
    if params.network == "conv" and params.compiler == "xla" and not gpus:
        raise UserError(
            "train.compiler = 'xla': without a GPU, XLA's convolutions take over 40 times as long as TensorFlow's own; "
            "set train.compiler to graph"
        )


def read_pixels(path):
    """The images at `path` as uint8 [n, 28, 28, 1] and a hash of them.

    Read piece by piece: bytes take a quarter of the floats' memory, and pages of a mapped file would count as ours.
    """
    import numpy as np

    from gan.images import to_uint8

    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            if fortran_order or dtype != np.float32 or shape[1:] != (28, 28, 1) or shape[0] == 0:
                raise DataError(f"{path}: expected float32 [n, 28, 28, 1], got {dtype} {list(shape)}")
            pixels = np.empty(shape, np.uint8)
            for start in range(0, len(pixels), 2000):
                piece = pixels[start : start + 2000]
                piece[:] = to_uint8(np.fromfile(file, np.float32, piece.size).reshape(piece.shape))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `dvc repro normalize`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); run `dvc repro --force normalize`") from None
    return pixels, hashlib.sha256(pixels).hexdigest()


def run_key(params, images_digest, labels):
    """A hash of all that the result depends on: parameters, data, this project's code, libraries and the kind of machine."""
    import importlib.metadata
    import platform

    root = Path(__file__).resolve().parent.parent
    modules = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    code = {str(p.relative_to(root)): p.read_text() for p in modules if p.parent in (root / "gan", root / "stages")}
    everything = {
        "params": params.model_dump(),
        "images": images_digest,
        "labels": None if labels is None else hashlib.sha256(labels).hexdigest(),
        "code": code,
        "libraries": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
        "machine": [platform.system(), platform.machine(), cpu_model()],
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]


def cpu_model():
    """The processor's name and instruction sets: different ones round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def write_outputs(params, engine, finished):
    """Write everything that the stage declares, each file whole or not at all."""
    import numpy as np

    from gan.files import replacing, replacing_folder, write_bytes, write_json
    from gan.saving import save_model
    from gan.training import HISTORY_COLUMNS

    generator, discriminator = engine.models(finished.state)
    with replacing_folder(OUT / "trajectory") as folder:
        for step, weights in finished.trajectory.items():
            generator.set_weights(weights)
            generator.save_weights(folder / f"generator-{step:06d}.weights.h5")
    generator.set_weights(engine.generator_weights(finished.state))
    save_model(generator, OUT / "generator.keras")
    save_model(discriminator, OUT / "discriminator.keras")

    history = finished.all_history
    rows = [",".join([str(step), *map(str, row)]) for step, row in enumerate(history)]
    write_bytes(OUT / "history.csv", "\n".join([",".join(["step", *HISTORY_COLUMNS]), *rows, ""]).encode())
    with replacing(OUT / "snapshots.npz") as temporary:
        np.savez(temporary, steps=np.array(list(finished.snapshots)), images=np.stack(list(finished.snapshots.values())))
    write_json(OUT / "metrics.json", metrics(history, log_every_steps=params.log_every_steps))
    write_json(
        TIMINGS,
        {"train_seconds": round(finished.seconds, 1), "steps_per_second": round(params.steps / finished.seconds, 1)},
    )


def metrics(history, *, log_every_steps):
    """The last step's figures and the mean over the last nine log lines, from history float32 [steps, 3]."""
    import numpy as np

    logged = history[::log_every_steps].astype(np.float64)
    names = ("g_loss", "d_loss", "d_accuracy_percent")
    return {
        "final": dict(zip(names, history[-1].astype(np.float64).round(6).tolist(), strict=True)),
        "tail_mean": dict(zip(names, logged[-TAIL_LOG_LINES:].mean(axis=0).round(6).tolist(), strict=True)),
    }


class ProgressBar:
    """The lecture's console line at every log step, above a bar where there is a terminal."""

    def __init__(self, steps, done):
        from tqdm import tqdm

        self._last = steps - 1
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=None, mininterval=0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def log(self, step, row):
        """Show step `step` with row (G loss, D loss, D accuracy in percent)."""
        g_loss, d_loss, accuracy = row
        self._bar.write(
            f"step {step}/{self._last}  G loss {g_loss:.3f}  D loss {d_loss:.3f}  D accuracy {accuracy:.1f} %", file=sys.stdout
        )
        sys.stdout.flush()
        self._bar.update(step + 1 - self._bar.n)


class StopSignals:
    """Note SIGINT and SIGTERM instead of dying at once; a second one ends the process without saving."""

    def __enter__(self):
        self.signal = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        log("stopping after this block of steps ...")


def log(message):
    print(f"train: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
