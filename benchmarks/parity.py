"""Does training reproduce the published figures? Trains several seeds and prints the published log beside their mean and spread.

The published log is one run of unknown seed, so each of its figures is judged as one more draw from the seeds' distribution:
z = (published - mean) / (standard deviation x sqrt(1 + 1 / seeds)), to be read against Student's t. With five seeds, |z| above
2.8 would come up by chance in one figure of twenty.

--variants also trains what the lecture's text leaves open (see benchmarks/variants.py); --keras-steps also trains the published
loop itself under today's Keras (benchmarks/peers/published.py) as an independent reference, about 15 steps a second.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.command import refused_by, run_as_command  # noqa: E402 (run as a file, it must find the project)
from benchmarks.peers.protocol import read_images, require_images  # noqa: E402
from gan.lecture import PUBLISHED_LOG, TAIL_LOG_LINES, published_tail_mean  # noqa: E402

COLUMNS = ("G loss", "D loss", "D accuracy %")
EARLY, TAIL = list(PUBLISHED_LOG)[:-TAIL_LOG_LINES], list(PUBLISHED_LOG)[-TAIL_LOG_LINES:]
# two-sided 5 % points of Student's t for 1, 2, 3, ... degrees of freedom
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="train seeds 0 to this number minus one (default 5, at least 2)")
    parser.add_argument("--steps", type=int, default=5001, help="steps a seed (default 5001, the published number)")
    parser.add_argument("--variants", action="store_true", help="train the variants as well")
    parser.add_argument("--keras-steps", type=int, default=0, help="steps of the published loop under Keras (default 0: none)")
    parser.add_argument("--keras-seeds", type=int, default=3, help="runs of it (default 3)")
    parser.add_argument(
        "--images", default=ROOT / "data/raw/train-images-idx3-ubyte", type=Path, help="IDX file (default data/raw/)"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 2 or arguments.keras_seeds < 2:
        parser.error("a spread needs at least 2 seeds")
    if arguments.steps < 1 or arguments.keras_steps < 0:
        parser.error("--steps must be at least 1, and --keras-steps at least 0")
    with refused_by(parser):
        require_images(arguments.images)

    from gan.params import read_section
    from gan.runtime import start_tensorflow
    from gan.training.params import TrainParams

    params = read_section(ROOT / "sets/lecture.yaml", "train", TrainParams)
    start_tensorflow(params.threads, instructions=params.instructions, device=params.device).get_logger().setLevel(
        "ERROR"
    )  # it warns of many engines in one process
    from benchmarks.variants import VARIANTS

    images = read_images(arguments.images)
    for name, (make_engine, changes) in (
        VARIANTS.items() if arguments.variants else [("as configured", VARIANTS["as configured"])]
    ):
        histories = []
        for seed in range(arguments.seeds):
            started = time.monotonic()
            changed = TrainParams.model_validate({**params.model_dump(), **changes, "seed": seed})
            histories.append(train(make_engine(changed, images), arguments.steps))
            print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        print(f"## {name}, {arguments.seeds} seeds\n\n{report(histories)}\n", flush=True)
    if arguments.keras_steps:
        histories = [train_published(images, seed, arguments.keras_steps) for seed in range(arguments.keras_seeds)]
        print(f"## the published loop under Keras, {arguments.keras_seeds} runs\n\n{report(histories)}\n", flush=True)


def train(engine, steps):
    """Train `engine` from its start: the rows of every step, float32 [steps, 3] (G loss, D loss, D accuracy in percent)."""
    import numpy as np

    from gan.training.engine import BLOCK_STEPS

    state, rows = engine.initial_state(), []
    for first in range(0, steps, BLOCK_STEPS):
        state, block = engine.advance(state, first, min(BLOCK_STEPS, steps - first))
        rows.append(block)
    return np.concatenate(rows)


def train_published(images, seed, steps):
    """The same rows from the published loop, with weights and random numbers of `seed`."""
    import keras

    from benchmarks.peers.published import Peer

    keras.utils.set_random_seed(seed)
    peer = Peer(images, seed=seed)
    rows = [peer.train_step() for _ in range(steps)]
    print(f"published loop, seed {seed}: done", file=sys.stderr, flush=True)
    return rows


def report(histories):
    """A Markdown table: the published figures beside mean and standard deviation over `histories`, one [steps, 3] a seed."""
    lines = [
        "| step | " + " | ".join(f"{name}: published | ours | z" for name in COLUMNS) + " |",
        "| --- |" + " --- | --- | --- |" * len(COLUMNS),
    ]
    steps = min(len(history) for history in histories)
    outside = compared = 0
    for label, published, ours in comparisons(histories, steps):
        cells = []
        for expected, values in zip(published, ours, strict=True):
            z = prediction_z(expected, values)
            bound = T_95[min(len(values) - 1, len(T_95)) - 1]
            outside, compared = outside + (abs(z) > bound), compared + 1
            cells.append(
                f"{expected:.3f} | {statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} "
                f"| {z:+.1f}{' (!)' if abs(z) > bound else ''}"
            )
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", f"{outside} of {compared} figures lie outside the 95 % interval of one more seed, marked (!)."]
    return "\n".join(lines)


def comparisons(histories, steps):
    """Yield (label, published [3], ours [3][seeds]) for every published line among the first `steps`, and for the tail's mean."""
    for step in [*EARLY, *TAIL]:
        if step < steps:
            yield str(step), PUBLISHED_LOG[step], [[float(h[step][i]) for h in histories] for i in range(3)]
    if steps > TAIL[-1]:
        ours = [[statistics.mean(float(h[step][i]) for step in TAIL) for h in histories] for i in range(3)]
        yield f"mean of {TAIL[0]}-{TAIL[-1]}", published_tail_mean(), ours


def prediction_z(expected, values):
    """How far `expected` lies from the mean of `values`, in standard deviations of one more draw: 0 where all are equal."""
    deviation = statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    difference = expected - statistics.mean(values)
    if abs(difference) < 1e-3:  # the published log's last digit
        return 0.0
    return difference / deviation if deviation > 0 else math.copysign(math.inf, difference)


if __name__ == "__main__":
    run_as_command(main)
