"""How much does a quality metric move with the training seed? Trains a set with several seeds and measures each with the judge.

Prints, beside the real-data floor, each metric's mean and standard deviation over seeds, the noise that `evaluate` states for one
model (that of drawing other samples), and the smallest difference between two runs that neither can explain: twice the standard
deviation of a difference. A second table has a row a seed. The rows of docs/recipes.md come from here.

    python -m benchmarks.seeds --set conditional-60s --seeds 5 --classification-accuracy-score
    python -m benchmarks.seeds --set unconditional-60s --seeds 3 -S train.loss=hinge

Needs data/normalized and data/judge of the working tree: run `dvc repro judge` first. `--log` keeps each seed's metrics as a line
of JSON. A seed's metrics are those of `dvc repro` with the same parameters.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SHOWN = {
    "fid": "FID",
    "fid_infinity": "FID, infinitely many samples",
    "kid": "KID",
    "precision_percent": "precision %",
    "recall_percent": "recall %",
    "density": "density",
    "coverage_percent": "coverage %",
    "classes": "classes present",
    "class_distance_percent": "class distance %",
    "confidence_percent": "confidence %",
    "copied_percent": "copies %",
    "classification_accuracy_percent": "classification accuracy %",
}
JUDGE, NORMALIZED = ROOT / "data/judge", ROOT / "data/normalized"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="lecture", help="the file of sets/ to train (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="train seeds 0 to this number minus one (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="begin with another seed (default: %(default)s)")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="train.KEY=VALUE", help="a change of the set")
    parser.add_argument("--classification-accuracy-score", action="store_true", help="as well; half a minute a seed")
    parser.add_argument("--log", type=lambda name: Path(name).resolve(), help="append each seed's metrics to this file")
    arguments = parser.parse_args()
    path = ROOT / "sets" / f"{arguments.set}.yaml"
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    if not path.exists():
        parser.error(f"there is no set {arguments.set!r}; choose from {', '.join(sorted(p.stem for p in path.parent.iterdir()))}")
    if not (JUDGE / "floor.json").exists():
        parser.error(f"{JUDGE / 'floor.json'} is missing; run `dvc repro judge`")

    results = []
    measure_seed = preparing(path, arguments.set_param, score=arguments.classification_accuracy_score)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        results.append({"set": arguments.set, "changes": arguments.set_param, "seed": seed, **measure_seed(seed)})
        if arguments.log:
            with open(arguments.log, "a") as log:
                log.write(json.dumps(results[-1]) + "\n")
    floor = json.loads((JUDGE / "floor.json").read_text())
    changes = "".join(f", {change}" for change in arguments.set_param)
    print(f"## {arguments.set}{changes}, {len(results)} seeds\n\n{summary(results, floor)}\n\n{seed_table(results, floor)}")


def preparing(path, changes, *, score):
    """A function from a seed to the metrics of the set at `path` with `changes`, trained with that seed."""
    from flows import overrides
    from gan.judge.params import EvaluateParams, JudgeParams
    from gan.params import read_section
    from gan.training.params import TrainParams

    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / path.name
        changed.write_text(overrides.apply(path.read_text(), changes))
        params = read_section(changed, "train", TrainParams)
    judge_params = read_section(ROOT / "params.yaml", "judge", JudgeParams)
    evaluate_params = read_section(ROOT / "params.yaml", "evaluate", EvaluateParams)

    from gan.runtime import start_tensorflow

    tf = start_tensorflow(
        params.threads,
        threads_an_operation=params.threads_an_operation,
        instructions=params.instructions,
        device=params.device,
    )
    tf.get_logger().setLevel("ERROR")  # it warns of many engines in one process
    from tqdm import tqdm

    from gan.arrays import load_images, load_labels, load_pixels
    from gan.generators import Sampler
    from gan.judge.classifier import outputs_of
    from gan.judge.evaluation import Evaluation
    from gan.judge.reference import Reference
    from gan.keras_files import load_model
    from gan.training.engine import Engine
    from gan.training.loop import train_undisturbed

    pixels = load_pixels(NORMALIZED / "train_images.npy")
    labels = load_labels(NORMALIZED / "train_labels.npy", count=len(pixels)) if params.conditional else None
    test_images = load_images(NORMALIZED / "test_images.npy")
    test_labels = load_labels(NORMALIZED / "test_labels.npy", count=len(test_images))
    evaluation = Evaluation(
        outputs_of(load_model(JUDGE / "judge.keras")),
        Reference.load(JUDGE / "reference.npz"),
        load_images(NORMALIZED / "train_images.npy", mmap=True),
        seed=evaluate_params.seed,
    )

    def measure_seed(seed):
        engine = Engine(params.model_copy(update={"seed": seed}), pixels, labels)
        with tqdm(total=params.steps, desc=f"seed {seed}", unit="step", disable=None, leave=False) as bar:
            run = train_undisturbed(engine, on_log=lambda step, row: bar.update(step + 1 - bar.n))
        sampler = Sampler(engine.models(run.state)[0])
        metrics = evaluation.measure(sampler)
        if score and params.conditional:
            metrics |= evaluation.classification_accuracy(sampler, test_images, test_labels, judge_params.classifier)
        print(f"seed {seed}: {run.seconds:.0f} s, FID {metrics['fid']:.3f}", file=sys.stderr, flush=True)
        return {"train_seconds": round(run.seconds, 1), **metrics}

    return measure_seed


def summary(results, floor):
    """A Markdown table with a row a metric; with a single seed, no spread."""
    columns = (
        "",
        "halves of real",
        "real test",
        "mean of seeds",
        "deviation of seeds",
        "noise of one",
        "a difference shows from",
    )
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for name, label in SHOWN.items():
        values = [result[name] for result in results if name in result]
        if not values:
            continue
        noise = statistics.fmean(result[f"{name}_std"] for result in results)
        mean, spread, shows = statistics.fmean(values), None, None
        if len(values) > 1:
            spread = statistics.stdev(values)
            shows = 2 * math.sqrt(2) * max(spread, noise)  # seeds may agree by chance, or because the metric is at its end
        cells = [floor["train_halves"].get(name), floor["test"].get(name), mean, spread, noise, shows]
        lines.append(f"| {label} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def seed_table(results, floor):
    """A Markdown table with a row a seed."""
    names = [name for name in SHOWN if all(name in result for result in results)]
    lines = [
        f"| seed | seconds | FID / floor | {' | '.join(SHOWN[name] for name in names)} |",
        f"|{' --- |' * (3 + len(names))}",
    ]
    for result in results:
        ratio = result["fid"] / floor["train_halves"]["fid"]
        cells = [str(result["seed"]), f"{result['train_seconds']:.0f}", f"{ratio:.1f}", *(_cell(result[name]) for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(number):
    if number is None:
        return ""
    return f"{number:.3f}" if abs(number) < 10 and not isinstance(number, int) else f"{number:.4g}"


if __name__ == "__main__":
    main()
