"""What a run shows of itself while it trains, in a folder that TensorBoard reads: losses, D accuracy, samples and generators.

TensorBoard itself is not needed to write it: an event file is a TFRecord file of `Event` messages, which TensorFlow has.
"""

import contextlib
import io
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tensorflow as tf

from gan.arrays import load_archive
from gan.errors import DataError
from gan.images import enlarge, tile

SAMPLES = "samples.png"  # the newest samples, for whoever does not read event files
ARCHITECTURE = "generator.json"  # Keras' description of the generator whose weights lie beside it
_WEIGHTS = re.compile(r"generator-(\d+)\.npz")
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_KEPT_RUNS = 5
_TIME_SHARE = 0.005  # of the time that has passed; what is due waits until writing it stays within this
_POINTS, _PICTURES = 1000, 200  # at most about so many of each over a run, however long it is
_COLUMNS, _SCALE = 4, 2  # of the picture of samples: four in a row, each pixel 2 x 2
_SESSION_START = 1  # SessionLog.START: whoever reads the file forgets earlier events of this step and later ones


class EventFile:
    """A new event file in `folder`, where TensorBoard finds it. Raises OSError when it cannot be written."""

    def __init__(self, folder, *, first_step=0):
        folder.mkdir(parents=True, exist_ok=True)
        with _as_os_error():
            self._writer = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"))
        self._write(file_version="brain.Event:2")
        self._write(step=first_step, session_log={"status": _SESSION_START})

    def scalars(self, step, values):
        """Add the numbers `values` (a dict by name) of a step."""
        self._write(step=step, summary={"value": [{"tag": tag, "simple_value": value} for tag, value in values.items()]})

    def image(self, step, tag, png, *, height, width):
        """Add a picture, bytes of a PNG of height x width grey pixels, to a step."""
        picture = {"height": height, "width": width, "colorspace": 1, "encoded_image_string": png}
        self._write(step=step, summary={"value": [{"tag": tag, "image": picture}]})

    def flush(self):
        """Let readers see what was added."""
        with _as_os_error():
            self._writer.flush()

    def close(self):
        """Flush and close the file."""
        with _as_os_error():
            self._writer.close()

    def _write(self, **fields):
        with _as_os_error():
            self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **fields).SerializeToString())


class Summaries:
    """Writes what is new in a run to its own folder below `parent`, in at most half a percent of the time.

    params: the TrainParams; run: the TrainingRun, at its start or where it goes on; key: hexadecimal, what identifies the run
    (`gan.training.checkpoints.run_key`): a run that goes on goes on in the same folder. generator: its Keras model. log(text) is
    called once if the folder cannot be written; training is not disturbed by that, and nothing more is written.

    The newest _KEPT_RUNS folders stay. Use it as a context manager.
    """

    def __init__(self, parent, key, params, run, *, generator, log=print):
        self._run, self._log, self._events = run, log, None
        self._point_every = max(1, params.steps // _POINTS)
        self._picture_every = max(1, params.steps // _PICTURES)
        self._next_row = max(run.snapshots, default=-1) + 1  # rows are written up to a log step, which has a snapshot
        self._next_picture = self._next_row
        self._kept = set(run.trajectory)
        self._started, self._spent = time.monotonic(), 0.0
        self._attempt(lambda: self._open(Path(parent), key, generator))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._attempt(lambda: self._events.close())

    def update(self, *, last=False):
        """Write what the run has gained; where that would take too much of the time, leave it to a later call, unless `last`."""
        begun = time.monotonic()
        if last or self._spent <= _TIME_SHARE * (begun - self._started):
            self._attempt(self._write)
            self._spent += time.monotonic() - begun

    def _attempt(self, work):
        """Do `work`, unless an earlier one failed."""
        if self._log is None:
            return
        try:
            work()
        except OSError as error:
            self._log(f"nothing more for `make live`: {getattr(error, 'strerror', None) or error}; training goes on")
            self._log = None

    def _open(self, parent, key, generator):
        parent.mkdir(parents=True, exist_ok=True)
        runs = sorted(path for path in parent.iterdir() if _RUN.fullmatch(path.name))
        same = [path for path in runs if path.name.endswith(f"-{key[:8]}")]
        if self._run.next_step and same:
            self.folder = same[-1]
        else:
            self.folder = parent / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key[:8]}"
            for old in runs[: 1 - _KEPT_RUNS]:
                shutil.rmtree(old, ignore_errors=True)
        self._events = EventFile(self.folder, first_step=self._next_row)
        self._events.flush()
        _put(self.folder / ARCHITECTURE, generator.to_json().encode())

    def _write(self):
        run = self._run
        for step, row in enumerate(_rows_since(run, self._next_row), self._next_row):
            if step % self._point_every == 0 or step == run.next_step - 1:
                g_loss, d_loss, accuracy = row.tolist()
                self._events.scalars(step, {"loss/G": g_loss, "loss/D": d_loss, "D accuracy in percent": accuracy})
        self._next_row = run.next_step
        newest = max(run.snapshots, default=-1)
        if newest >= self._next_picture:
            self._next_picture = newest + self._picture_every
            picture = _grid(run.snapshots[newest])
            png = tf.io.encode_png(picture).numpy()
            self._events.image(newest, "samples", png, height=picture.shape[0], width=picture.shape[1])
            _put(self.folder / SAMPLES, png)
        self._events.flush()
        for step in sorted(set(run.trajectory) - self._kept):
            content = io.BytesIO()
            np.savez(content, *run.trajectory[step])
            _put(self.folder / f"generator-{step:09d}.npz", content.getvalue())
            self._kept.add(step)


def generators_in(folder):
    """The generators that a run has left in its folder so far: dict step -> path, by step."""
    matches = ((_WEIGHTS.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def load_generator(folder):
    """The Keras model whose weights lie in a run's folder; its own are not those of any step. Raises OSError, DataError."""
    import keras

    path = folder / ARCHITECTURE
    try:
        model = keras.models.model_from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, LookupError, AttributeError):  # after a power cut it may be empty
        model = None
    if not isinstance(model, keras.Model):
        raise DataError(f"{path}: not the description of a generator")
    return model


def load_generator_weights(path):
    """The weights in one of the files of `generators_in`, as `set_weights` takes them. Raises DataError."""
    return list(load_archive(path, "file of weights").values())


@contextlib.contextmanager
def _as_os_error():
    """Let what TensorFlow says of a file be an OSError, as what Python says of one."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def _rows_since(run, first):
    """float32 [run.next_step - first, columns]: the history from step `first` on."""
    parts, missing = [np.empty((0, 3), np.float32)], run.next_step - first
    for rows in reversed(run.history):
        if missing <= 0:
            break
        parts.insert(0, rows[-missing:])
        missing -= len(rows)
    return np.concatenate(parts)


def _grid(images):
    """Images uint8 [n, 28, 28, 1], n a multiple of 4, as one: uint8 [n / 4 * 56, 224, 1]."""
    return enlarge(tile(images, columns=_COLUMNS), _SCALE)[..., None]


def _put(path, content):
    """Replace a file at once, so that no reader sees half of it. Not forced to the disk, which would take longer than a step."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
