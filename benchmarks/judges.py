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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", nargs="+", type=Path, metavar="FILE", help="trained generators, .keras")
    parser.add_argument("--seeds", type=int, default=5, help="train judges with seeds 0 to this number minus one (default 5)")
    parser.add_argument("--log", type=Path, help="append each judge's metrics to this file")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be at least 2: one judge has no spread")
    require_inputs(parser, arguments.log, [NORMALIZED / "train_images.npy", *arguments.generators])
    by_name = measure_all(measurements(arguments.generators, arguments.seeds), "judge", arguments.log)
    for name, by_judge in by_name.items():
        print(f"## {name}, {len(by_judge)} judges\n\n{table(by_judge, 'judges')}\n")


def require_inputs(parser, log, paths):
    """Refuse a `log` that cannot be written and `paths` that are not there, before minutes of work."""
    try:
        if log:
            with open(log, "a"):
                pass
    except OSError as error:
        parser.error(f"--log: {error}")
    missing = [path for path in paths if not path.exists()]
    if missing:
        parser.error(f"{missing[0]} is missing; `dvc repro` makes it")


def measure_all(measurements, varied, log):
    """What was measured -> the metrics of each of `measurements` (number of what is `varied`, what was measured, metrics)."""
    by_name = {}
    for number, name, metrics in measurements:
        by_name.setdefault(name, []).append(metrics)
        if log:
            with open(log, "a") as file:
                file.write(json.dumps({varied: number, "of": name, **metrics}) + "\n")
        print(f"{varied} {number}: {name}", file=sys.stderr, flush=True)
    return by_name


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
