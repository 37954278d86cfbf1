"""Reads data/model, data/judge and data/normalized. Writes data/evaluation/: how good the generator's digits are.

metrics.json holds every metric of the trained generator with its standard deviation, trajectory.csv the same for each of the
generators that were kept during training. data/judge/floor.json is the scale: the same metrics for real digits.
"""

import re
from pathlib import Path

from gan.errors import DataError
from gan.files import write_csv, write_json
from gan.judge.params import EvaluateParams, JudgeParams
from gan.params import PARAMS, read_section
from stages.command import run_as_command
from stages.console import Stopwatch

NORMALIZED = Path("data/normalized")
JUDGE = Path("data/judge")
MODEL = Path("data/model")
OUT = Path("data/evaluation")
WEIGHTS_NAME = re.compile(r"generator-(\d+)\.weights\.h5")


def main():
    params = read_section(PARAMS, "evaluate", EvaluateParams)
    classifier_params = read_section(PARAMS, "judge", JudgeParams).classifier

    from gan.runtime import start_tensorflow

    start_tensorflow(params.threads)
    import numpy as np

    from gan.arrays import load_images
    from gan.generators import Sampler
    from gan.judge.classifier import outputs_of
    from gan.judge.evaluation import Evaluation
    from gan.judge.reference import Reference
    from gan.keras_files import load_model, load_weights

    reference = Reference.load(JUDGE / "reference.npz")
    training_images = load_images(NORMALIZED / "train_images.npy", mmap=True)
    judge = outputs_of(load_model(JUDGE / "judge.keras"))
    generator = load_model(MODEL / "generator.keras")
    sampler = Sampler(generator)
    evaluation = Evaluation(judge, reference, training_images, seed=params.seed)
    watch = Stopwatch("evaluate")

    final, final_weights = measure(evaluation, sampler, "final model", watch), generator.get_weights()
    metrics = final
    if params.large_sample_count:
        metrics = metrics | large_sample(evaluation, sampler, params.large_sample_count, watch)
    if sampler.conditional and params.classification_accuracy_score:
        metrics = metrics | classification_accuracy(evaluation, sampler, classifier_params, watch)
    trajectory = []
    for step, path in kept_weights(MODEL / "trajectory"):
        load_weights(generator, path)
        if all(map(np.array_equal, generator.get_weights(), final_weights)):  # the last step's: the same digits again
            watch.say(f"step {step}: the final model")
            trajectory.append({"step": step, **final})
        else:
            trajectory.append({"step": step, **measure(evaluation, sampler, f"step {step}", watch)})
    write_json(OUT / "metrics.json", metrics)
    write_csv(OUT / "trajectory.csv", trajectory)


def measure(evaluation, sampler, name, watch):
    """The metrics of the sampler's generator, which `name` stands for on the console."""
    try:
        metrics = evaluation.measure(sampler)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    watch.say(
        f"{name}: FID {metrics['fid']:.2f}, precision {metrics['precision_percent']:.1f} %, "
        f"recall {metrics['recall_percent']:.1f} %, {metrics['classes']} classes"
    )
    return metrics


def large_sample(evaluation, sampler, count, watch):
    """The metrics of the final generator that are taken once more from many digits."""
    metrics = evaluation.large_sample(sampler, count)
    watch.say(f"final model, {count:,} digits: FID {metrics['fid_large_sample']:.3f}")
    return metrics


def classification_accuracy(evaluation, sampler, classifier_params, watch):
    """The metrics of a classifier that is trained on generated digits alone."""
    from gan.arrays import load_images, load_labels

    test_images = load_images(NORMALIZED / "test_images.npy")
    test_labels = load_labels(NORMALIZED / "test_labels.npy", count=len(test_images))
    metrics = evaluation.classification_accuracy(
        sampler,
        test_images,
        test_labels,
        classifier_params,
        on_epoch=lambda epoch, loss: watch.say(f"training on generated digits, epoch {epoch}: loss {loss:.4f}"),
    )
    watch.say(f"classification accuracy {metrics['classification_accuracy_percent']:.2f} %")
    return metrics


def kept_weights(folder):
    """The generators that were kept during training: pairs (step, path), by step; DataError if there is none."""
    matches = ((WEIGHTS_NAME.fullmatch(path.name), path) for path in folder.glob("*"))
    kept = sorted((int(match[1]), path) for match, path in matches if match)
    if not kept:
        raise DataError(f"{folder}: no file generator-<step>.weights.h5; `dvc repro` makes them")
    return kept


if __name__ == "__main__":
    run_as_command(main)
