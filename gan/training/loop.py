"""One training run from its first step to its last: what is recorded, when it is saved, and how it goes on after a stop."""

import dataclasses
import time

import numpy as np
import tensorflow as tf

from gan.images import to_uint8
from gan.lecture import TAIL_LOG_LINES
from gan.training.engine import BLOCK_STEPS, NonFiniteError


class StoppedError(Exception):
    """A signal asked for the end; what was done has been saved."""


@dataclasses.dataclass
class TrainingRun:
    """What a run has so far.

    state: the engine's state after step next_step - 1; history: list of float32 [k, columns], together a row a step;
    snapshots: step -> uint8 [16, 28, 28, 1]; trajectory: step -> the generator's weights; seconds: time spent training.
    """

    state: dict
    next_step: int = 0
    history: list = dataclasses.field(default_factory=list)
    snapshots: dict = dataclasses.field(default_factory=dict)
    trajectory: dict = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def to_arrays(self):
        """The run as a flat dict of arrays, for a checkpoint."""
        arrays = {"next_step": np.array(self.next_step), "seconds": np.array(self.seconds)}
        arrays["history"] = np.concatenate(self.history)
        arrays |= {f"snapshot/{step}": images for step, images in self.snapshots.items()}
        for step, weights in self.trajectory.items():
            arrays |= {f"trajectory/{step}/{index}": weight for index, weight in enumerate(weights)}
        for name, tensors in self.state.items():
            arrays |= {f"state/{name}/{index}": tensor.numpy() for index, tensor in enumerate(tensors)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays):
        """The run that `to_arrays` made the dict from."""
        run = cls({}, int(arrays["next_step"]), [arrays["history"]], seconds=float(arrays["seconds"]))
        for name, array in arrays.items():  # in the order of writing, so that lists keep theirs
            kind, *path = name.split("/")
            if kind == "snapshot":
                run.snapshots[int(path[0])] = array
            elif kind == "trajectory":
                run.trajectory.setdefault(int(path[0]), []).append(array)
            elif kind == "state":
                run.state.setdefault(path[0], []).append(tf.constant(array))
        return run

    @property
    def all_history(self):
        """float32 [next_step, columns]."""
        return np.concatenate(self.history)


def trajectory_steps(*, steps, log_every_steps, points):
    """The `points` steps at which the generator is kept: log steps spaced about geometrically, and the last step.

    Where there are no more log steps than that, beside step 0, all of them.
    """
    last = steps - 1
    every = {*range(log_every_steps, last + 1, log_every_steps), last}
    if len(every) <= points:
        return every
    kept, candidates = {last}, points
    while len(kept) < points:  # near the start, neighbours round to the same log step: ask for more
        spaced = np.geomspace(log_every_steps, last, candidates)[:-1]
        kept = {last} | {int(step / log_every_steps) * log_every_steps for step in spaced}
        if candidates > 4 * last:
            break
        candidates += 1
    return kept


def train(engine, run, *, save, checkpoint_every_seconds, stop_requested, on_log):
    """Take `run` to the last step of the engine's parameters, in place.

    save(run) -> bool keeps a checkpoint; stop_requested() -> bool is asked after every block; on_log(step, row) is called for
    every log step with row float32 [columns]. Raises StoppedError after saving when asked to stop, and NonFiniteError, with the
    last checkpoint left as it was, when a loss or a weight is not finite.
    """
    params = engine.params
    keep = trajectory_steps(steps=params.steps, log_every_steps=params.log_every_steps, points=params.trajectory_points)
    started = time.monotonic() - run.seconds
    saved = time.monotonic()
    while run.next_step < params.steps:
        count = _block_end(run.next_step, params) - run.next_step
        run.state, rows = engine.advance(run.state, run.next_step, count)
        run.history.append(rows)
        run.next_step += count
        step = run.next_step - 1
        if step % params.log_every_steps == 0:
            images = engine.samples(run.state)
            if not np.isfinite(images).all():  # a row of losses is from before its step's update
                raise NonFiniteError(f"step {step}: the generator's images are not finite")
            run.snapshots[step] = to_uint8(images)
        if step in keep:
            run.trajectory[step] = engine.generator_weights(run.state)
        if step in run.snapshots:
            on_log(step, rows[-1])
        run.seconds = time.monotonic() - started
        stop = stop_requested()
        if run.next_step < params.steps and (stop or time.monotonic() - saved >= checkpoint_every_seconds):
            _require_finite_state(run)
            is_saved = save(run)
            saved = time.monotonic()
            if stop:
                outcome = "saved" if is_saved else "NOT saved, see above"
                raise StoppedError(f"stopped after step {step} of {params.steps - 1}; {outcome}")
    _require_finite_state(run)


def summary(history, *, log_every_steps):
    """The last step's figures and the mean over the last TAIL_LOG_LINES log lines, from history float32 [steps, 3]."""
    logged = history[::log_every_steps].astype(np.float64)
    names = ("g_loss", "d_loss", "d_accuracy_percent")
    return {
        "final": dict(zip(names, history[-1].astype(np.float64).round(6).tolist(), strict=True)),
        "tail_mean": dict(zip(names, logged[-TAIL_LOG_LINES:].mean(axis=0).round(6).tolist(), strict=True)),
    }


def _block_end(step, params):
    """The step after the block that begins at `step`: right after a log step at the latest."""
    to_next_log = -step % params.log_every_steps + 1
    return min(step + min(to_next_log, BLOCK_STEPS), params.steps)


def _require_finite_state(run):
    for name, tensors in run.state.items():
        if not all(np.isfinite(tensor.numpy()).all() for tensor in tensors):
            raise NonFiniteError(f"step {run.next_step - 1}: {name} is not finite")
