"""Reads data/normalized. Writes data/judge/: the judge of generated digits, and what it says of real ones.

judge.keras classifies an image and gives its features; reference.npz holds the statistics of the real training images;
metrics.json the judge's accuracy; floor.json every quality metric for real digits, the scale for those of generated ones.
"""

from pathlib import Path

from gan.errors import DataError, UserError
from gan.files import write_json
from gan.judge.params import JudgeParams
from gan.params import PARAMS, read_section
from stages.command import run_as_command
from stages.console import Stopwatch

NORMALIZED = Path("data/normalized")
OUT = Path("data/judge")


def main():
    params = read_section(PARAMS, "judge", JudgeParams)

    from gan.runtime import start_tensorflow

    start_tensorflow(params.threads)
    from gan.judge.classifier import accuracy_percent, build_judge, outputs_of, train_classifier
    from gan.judge.floor import build_reference_and_floor
    from gan.keras_files import save_model

    train_images, train_labels, test_images, test_labels = load_data(params)
    watch = Stopwatch("judge")
    classifier = train_classifier(
        train_images,
        train_labels,
        params.classifier,
        on_epoch=lambda epoch, loss: watch.say(f"epoch {epoch}/{params.classifier.epochs}: loss {loss:.4f}"),
    )
    judge, train = build_judge(classifier, train_images)
    test = outputs_of(judge)(test_images)
    accuracy, accuracy_std = accuracy_percent(test["probabilities"], test_labels)
    watch.say(f"accuracy on the test set {accuracy:.2f} %; measuring the real digits")
    reference, floor = build_reference_and_floor(
        train_images,
        train,
        test_images,
        test,
        sample_count=params.sample_count,
        neighbours=params.neighbours,
        seed=params.shuffle_seed,
    )
    save_model(judge, OUT / "judge.keras")
    reference.save(OUT / "reference.npz")
    write_json(OUT / "metrics.json", {"accuracy_percent": accuracy, "accuracy_percent_std": accuracy_std})
    write_json(OUT / "floor.json", floor)
    test_fid, half_fid = floor["test"]["fid"], floor["train_halves"]["fid"]
    watch.say(f"FID of the test set {test_fid:.3f}, of one half of the training set {half_fid:.3f}")


def load_data(params):
    """Training images and labels, test images and labels; DataError or UserError if they are damaged or too few."""
    from gan.arrays import load_images, load_labels

    arrays = []
    for half in ("train", "test"):
        images = load_images(NORMALIZED / f"{half}_images.npy")
        arrays += [images, load_labels(NORMALIZED / f"{half}_labels.npy", count=len(images))]
    train_count, test_count = len(arrays[0]), len(arrays[2])
    if params.sample_count > min(test_count, train_count // 2):
        raise UserError(
            f"{PARAMS}: judge.sample_count = {params.sample_count}: expected at most the {test_count} test images "
            f"and half of the {train_count} training images"
        )
    if params.classifier.batch_size > train_count:
        raise DataError(f"{NORMALIZED}: {train_count} training images do not fill one batch of {params.classifier.batch_size}")
    return arrays


if __name__ == "__main__":
    run_as_command(main)
