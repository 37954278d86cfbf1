"""Reads data/model, data/judge and data/normalized. Writes data/evaluation/: how good the generator's digits are.

metrics.json holds every metric of the trained generator with its standard deviation, trajectory.csv the same for each of the
generators that were kept during training. data/judge/floor.json is the scale: the same metrics for real digits.
"""

import re
import time
from pathlib import Path

from pydantic import Field

from gan.errors import DataError
from gan.files import write_bytes, write_json
from gan.judge_params import JudgeParams
from gan.params import Section, read_section
from stages.command import PARAMS, run

NORMALIZED = Path("data/normalized")
JUDGE = Path("data/judge")
MODEL = Path("data/model")
OUT = Path("data/evaluation")
CLASSIFICATION_STREAM = 1  # beside the seed: other random numbers than the metrics' sample has
WEIGHTS_NAME = re.compile(r"generator-(\d+)\.weights\.h5")


class EvaluateParams(Section):
    """Section `evaluate` of the parameters file."""

    seed: int = Field(ge=0, le=10**6)
    classification_accuracy_score: bool
    threads: int = Field(ge=1, le=256)


def main():
    params = read_section(PARAMS, "evaluate", EvaluateParams)
    classifier_params = read_section(PARAMS, "judge", JudgeParams).classifier

    from gan.runtime import start_tensorflow

    start_tensorflow(params.threads)
    from threadpoolctl import threadpool_limits

    from gan.arrays import load_images
    from gan.classifier import describing
    from gan.quality import Reference, measure
    from gan.sampling import Sampler
    from gan.saving import load_model

    threadpool_limits(params.threads)  # of numpy's matrix products, for the same reason as TensorFlow's
    say = progress()
    reference = Reference.load(JUDGE / "reference.npz")
    training_images = load_images(NORMALIZED / "train_images.npy", mmap=True)
    describe = describing(load_model(JUDGE / "judge.keras"))
    generator = load_model(MODEL / "generator.keras")
    sampler = Sampler(generator)

    def measure_generator(name):
        try:
            images, _ = sampler.draw(count=len(reference.features), class_shares=reference.class_shares, seed=params.seed)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        metrics = measure(images, describe(images), reference, training_images)
        say(
            f"{name}: FID {metrics['fid']:.2f}, precision {metrics['precision_percent']:.1f} %, "
            f"recall {metrics['recall_percent']:.1f} %, {metrics['classes']} classes"
        )
        return metrics

    metrics = measure_generator("final model")
    if sampler.conditional and params.classification_accuracy_score:
        images, labels = sampler.draw(
            count=len(training_images), class_shares=reference.class_shares, seed=[params.seed, CLASSIFICATION_STREAM]
        )
        metrics |= classification_accuracy(images, labels, classifier_params, describe, say)
    trajectory = []
    for step, path in kept_weights(MODEL / "trajectory"):
        load_weights(generator, path)
        trajectory.append({"step": step, **measure_generator(f"step {step}")})
    write_json(OUT / "metrics.json", metrics)
    write_csv(OUT / "trajectory.csv", trajectory)


def classification_accuracy(images, labels, classifier_params, describe, say):
    """The classification accuracy score (Ravuri & Vinyals 2019, arXiv 1905.10887) and, beside it, what real digits reach.

    The judge's classifier is trained once more, on the generated `images` with their `labels` alone, and tested on the real test
    set. The real score is the judge's own, `describe`: trained in the same way on the real digits.
    """
    from gan.arrays import load_images, load_labels
    from gan.classifier import accuracy_percent, measure_accuracy, train_classifier

    classifier = train_classifier(
        images,
        labels,
        classifier_params,
        on_epoch=lambda epoch, loss: say(f"training on generated digits, epoch {epoch}: loss {loss:.4f}"),
    )
    test_images = load_images(NORMALIZED / "test_images.npy")
    test_labels = load_labels(NORMALIZED / "test_labels.npy", count=len(test_images))
    scores = {
        "classification_accuracy_percent": measure_accuracy(classifier, test_images, test_labels),
        "classification_accuracy_real_percent": accuracy_percent(describe(test_images)["probabilities"], test_labels),
    }
    say(", ".join(f"{name} {value:.2f}" for name, (value, _) in scores.items()))
    return {key: number for name, pair in scores.items() for key, number in zip((name, f"{name}_std"), pair, strict=True)}


def kept_weights(folder):
    """The generators that were kept during training: pairs (step, path), by step; DataError if there is none."""
    matches = ((WEIGHTS_NAME.fullmatch(path.name), path) for path in folder.glob("*"))
    kept = sorted((int(match[1]), path) for match, path in matches if match)
    if not kept:
        raise DataError(f"{folder}: no file generator-<step>.weights.h5; `dvc repro` makes them")
    return kept


def load_weights(generator, path):
    """Give `generator` the weights at `path`; DataError if they are damaged or another network's."""
    try:
        generator.load_weights(path)
    except Exception as error:  # as for load_model
        raise DataError(f"{path}: not weights of this generator: {str(error).strip().splitlines()[0]}") from None


def write_csv(path, rows):
    """Write dicts with the same keys as a table with a header."""
    lines = [",".join(map(str, row)) for row in (rows[0], *(row.values() for row in rows))]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def progress():
    """A function that prints a line with the seconds since now."""
    start = time.monotonic()
    return lambda text: print(f"evaluate: {time.monotonic() - start:5.1f} s  {text}", flush=True)


if __name__ == "__main__":
    run(main)
