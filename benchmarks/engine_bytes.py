"""What changes the bytes of a trained model, and what keeping them costs: the same training under different settings.

Trains the default parameters for --steps steps under each setting, in a process of its own, and prints a Markdown table with the
start of the sha256 of all weights, whether they equal those of the setting as shipped, steps per second, and their ratio to the
setting as shipped: the median over --rounds, in each of which all settings take turns. A setting that this processor has no
instructions for, or whose process fails, has a row without figures. Ends with 1 where a process failed, or where a setting that
must give the bytes as shipped gives others.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.command import refused_by, run_as_command  # noqa: E402 (run as a file, it must find the project)
from benchmarks.peers.protocol import require_images  # noqa: E402
from gan.errors import UserError  # noqa: E402
from gan.runtime import require_instructions  # noqa: E402

MAY_DIFFER = {"instructions", "own_products", "compiler"}  # what may give other bytes; whatever else differs must not
# label -> what differs from the setting as shipped: fields of TrainParams, block_steps, cores, or variables of the environment
SETTINGS = {
    "as shipped: AVX2, 2 threads, blocks of 25, XLA": {},
    "the same again": {},
    "1 thread": {"threads": 1},
    "3 threads": {"threads": 3},
    "4 threads": {"threads": 4},
    "2 threads on 1 core": {"cores": 1},
    "blocks of 10": {"block_steps": 10},
    "blocks of 50": {"block_steps": 50},
    # a shell's variables are overruled, so these must be as shipped as well
    "a shell that asks for AVX-512": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "a shell without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "instructions: avx512": {"instructions": "avx512"},
    "instructions: native": {"instructions": "native"},
    # what equal bytes on every processor cost: products as XLA compiles them by itself, cut by the size of the caches
    "AVX2, XLA's own products": {"own_products": True},
    "native, XLA's own products": {"instructions": "native", "own_products": True},
    "without XLA, 1 thread": {"compiler": "graph", "threads": 1},
    "without XLA, 2 threads": {"compiler": "graph"},
    "without XLA, 4 threads": {"compiler": "graph", "threads": 4},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="training steps of each setting (default 500)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each setting (default 1)")
    parser.add_argument("--only", nargs="+", default=[""], help="only settings with one of these texts; the first always runs")
    parser.add_argument(
        "--images", default=ROOT / "data/raw/train-images-idx3-ubyte", type=Path, help="IDX file (default data/raw/)"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the child's settings, JSON
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(train(arguments.images, arguments.steps, **json.loads(arguments.one))))
        return
    if arguments.rounds < 1 or arguments.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    with refused_by(parser):
        require_images(arguments.images)
    wanted = [label for index, label in enumerate(SETTINGS) if index == 0 or any(text in label for text in arguments.only)]
    chosen = {label: SETTINGS[label] for label in wanted}
    results, failed = {label: [] for label in chosen}, set()
    skipped = {label for label, changes in chosen.items() if refused(label, changes)}
    for number in range(arguments.rounds):
        for label, changes in chosen.items():
            if label in skipped | failed:
                continue
            print(f"round {number + 1} of {arguments.rounds}: {label}", file=sys.stderr, flush=True)
            if row := run_child(changes, arguments):
                results[label].append(row)
            elif label == wanted[0]:
                sys.exit(f"{label}: its process failed, and there is nothing to compare with; its error stands above")
            else:
                failed.add(label)
                results[label] = []
    print(table(results, arguments.steps))
    sys.exit(1 if failed or differing(results) else 0)


def refused(label, changes):
    """Whether this processor lacks the instructions that the setting names; says so."""
    try:
        require_instructions(changes.get("instructions", "native"))
    except UserError as error:
        print(f"{label}: left out: {error}", file=sys.stderr, flush=True)
        return True
    return False


def differing(results):
    """The labels of those `results`, as `table` takes them, that have other bytes than the first and must not."""
    first = next(iter(results.values()))[0]["sha256"]
    must = [label for label in results if not MAY_DIFFER & SETTINGS[label].keys()]
    return [label for label in must if any(row["sha256"] != first for row in results[label])]


def run_child(changes, arguments):
    """Train in a process of its own under `changes`: {"sha256", "steps_per_second"}, or None if it failed."""
    environment = {name: value for name, value in changes.items() if name.isupper()}
    settings = {name: value for name, value in changes.items() if not name.isupper()}
    command = [
        sys.executable,
        __file__,
        "--images",
        arguments.images,
        "--steps",
        str(arguments.steps),
        "--one",
        json.dumps(settings),
    ]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"the process for {changes} ended with code {done.returncode}; its error stands above", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def train(images_path, steps, *, block_steps=None, cores=None, own_products=False, **changes):
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import hashlib

    from benchmarks.peers.protocol import read_images
    from gan import runtime
    from gan.params import read_section
    from gan.training.params import TrainParams

    params = read_section(ROOT / "params.yaml", "train", TrainParams).model_copy(update=changes)
    if own_products:
        runtime._XLA_FLAGS = ()
    params.start_tensorflow()
    from gan.training import engine as engines

    if block_steps:
        engines.BLOCK_STEPS = block_steps
    if own_products:
        engines.with_alike_products = lambda network: network
    engine = engines.Engine(params, read_images(images_path))
    state = engine.initial_state()
    engine.advance(state, 0, engines.BLOCK_STEPS)  # compiles
    started = time.perf_counter()
    for first in range(0, steps, engines.BLOCK_STEPS):
        state, _ = engine.advance(state, first, min(engines.BLOCK_STEPS, steps - first))
    seconds = time.perf_counter() - started
    digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in [*state["g"], *state["d"]])).hexdigest()
    return {"sha256": digest, "steps_per_second": steps / seconds}


def table(results, steps):
    """Markdown from {label: a dict {"sha256", "steps_per_second"} for each round, or none}, the setting as shipped first."""
    shipped = next(iter(results.values()))
    lines = [
        f"| setting | sha256 of all weights after {steps} steps | as shipped? | steps/s | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, rounds in results.items():
        if not rounds:
            lines.append(f"| {label} | – | – | – | – |")
            continue
        digests = sorted({row["sha256"] for row in rounds})
        same = "yes" if digests == [shipped[0]["sha256"]] else "no"
        speed = statistics.median(row["steps_per_second"] for row in rounds)
        # round by round, so that what slows a whole round slows both
        pairs = zip(rounds, shipped, strict=True)
        ratio = statistics.median(row["steps_per_second"] / ours["steps_per_second"] for row, ours in pairs)
        lines.append(f"| {label} | {', '.join(f'`{d[:12]}`' for d in digests)} | {same} | {speed:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(main)
