"""How much does a quality metric move with the judge? Trains judges with several seeds; each measures the same generators.

Prints a Markdown table for each generator: for each metric, its mean and standard deviation over judges beside the noise that
`evaluate` states. Every judge measures the same images, so what is left is the ruler's own spread. The first table holds what the
judges say of real test images.

    python -m benchmarks.judges --seeds 5 data/model/generator.keras

Needs data/normalized of the working tree: run `dvc repro normalize` first. A judge takes about a minute on two cores. `--log`
keeps each judge's metrics as a line of JSON.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.command import run_as_command  # noqa: E402 (run as a file, it must find the project)

NORMALIZED = ROOT / "data/normalized"
REAL = "real test images"


def main():
    compare(__doc__, measurements, varied="judge", option="--seeds", default=5, inputs=[NORMALIZED / "train_images.npy"])


def compare(description, measurements, *, varied, option, default, inputs):
    """Be the program of `description`: print how much the metrics of the generators move with what is `varied`.

    measurements(generators' paths, count): yields (number of what is varied, what was measured, its metrics).
    option: says how many there are, by default `default`. inputs: paths that must be there.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", nargs="+", type=Path, metavar="FILE", help="trained generators, .keras")
    count_help = f"{varied}s of the seeds 0 to this number minus one (default {default})"
    parser.add_argument(option, dest="count", metavar="N", type=int, default=default, help=count_help)
    parser.add_argument("--log", type=Path, help=f"append each {varied}'s metrics to this file")
    arguments = parser.parse_args()
    if arguments.count < 2:
        parser.error(f"{option} must be at least 2: one {varied} has no spread")
    try:
        if arguments.log:
            with open(arguments.log, "a"):  # before minutes of work
                pass
    except OSError as error:
        parser.error(f"--log: {error}")
    missing = [path for path in [*inputs, *arguments.generators] if not path.exists()]
    if missing:
        parser.error(f"{missing[0]} is missing; `dvc repro` makes it")

    by_name = {}
    for number, name, metrics in measurements(arguments.generators, arguments.count):
        by_name.setdefault(name, []).append(metrics)
        if arguments.log:
            with open(arguments.log, "a") as log:
                log.write(json.dumps({varied: number, "of": name, **metrics}) + "\n")
        print(f"{varied} {number}: {name}", file=sys.stderr, flush=True)
    for name, repeated in by_name.items():
        print(f"## {name}, {len(repeated)} {varied}s\n\n{table(repeated, f'{varied}s')}\n")


def measurements(generators, seeds):
    """Yield (judge's seed, what was measured, its metrics), for real test images and each of the `generators` (paths)."""
    from gan.kernels import pin_numpy
    from gan.runtime import start_tensorflow

    pin_numpy()
    from gan.judge.params import EvaluateParams, JudgeParams
    from gan.params import read_section

    params = read_section(ROOT / "params.yaml", "judge", JudgeParams)
    latents_seed = read_section(ROOT / "params.yaml", "evaluate", EvaluateParams).seed
    start_tensorflow(params.threads)
    from gan.arrays import load_images, load_labels
    from gan.generators import Sampler
    from gan.judge.classifier import build_judge, outputs_of, train_classifier
    from gan.judge.evaluation import Evaluation
    from gan.judge.floor import build_reference_and_floor
    from gan.keras_files import load_model

    images, test_images = (load_images(NORMALIZED / f"{half}_images.npy") for half in ("train", "test"))
    labels = load_labels(NORMALIZED / "train_labels.npy", count=len(images))
    samplers = {str(path): Sampler(load_model(path)) for path in generators}
    for seed in range(seeds):
        classifier = train_classifier(images, labels, params.classifier.model_copy(update={"seed": seed}))
        judge, judged = build_judge(classifier, images)
        judge = outputs_of(judge)
        reference, floor = build_reference_and_floor(
            images,
            judged,
            test_images,
            judge(test_images),
            sample_count=params.sample_count,
            neighbours=params.neighbours,
            seed=params.shuffle_seed,
        )
        yield seed, REAL, floor["test"]
        evaluation = Evaluation(judge, reference, images, seed=latents_seed)
        for name, sampler in samplers.items():
            yield seed, name, evaluation.measure(sampler)


def table(repeated, varied):
    """A Markdown table with a row for each metric, from one dict of metrics for each of what is `varied`."""
    lines = [
        f"| metric | mean of {varied} | deviation of {varied} | noise stated | deviation / noise | lowest - highest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in repeated[0]:
        if name.endswith("_std"):
            continue
        values = [metrics[name] for metrics in repeated]
        spread = statistics.stdev(values)
        noise = statistics.fmean(metrics[f"{name}_std"] for metrics in repeated)
        ratio = f"{spread / noise:.1f}" if noise > 0 else ""
        cells = [_number(statistics.fmean(values)), _number(spread), _number(noise), ratio]
        lines.append(f"| {name} | {' | '.join(cells)} | {_number(min(values))} - {_number(max(values))} |")
    return "\n".join(lines)


def _number(value):
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


if __name__ == "__main__":
    run_as_command(main)
