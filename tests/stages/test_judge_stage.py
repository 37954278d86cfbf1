"""The judge stage as a process, on real digits: its bytes, its floor, its errors."""

import json

import numpy as np
import pytest

from gan.errors import DataError, UserError
from tests.helpers.small_digits import make_workplace, run_here, run_stage, small_digits

pytestmark = pytest.mark.slow(seconds=8)
AS_SHIPPED = {"threads": 2}  # which must not make a difference from run to run
OUTS = ("judge.keras", "reference.npz", "metrics.json", "floor.json")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = make_workplace(tmp_path_factory.mktemp("judge"), judge=AS_SHIPPED)
    return folder, run_stage("judge", folder)


def test_it_reports_accuracy_and_progress(judged):
    folder, (code, output) = judged
    assert code == 0, output
    assert "epoch 8/8: loss" in output and "accuracy on the test set" in output
    metrics = json.loads((folder / "data/judge/metrics.json").read_text())
    assert 94 < metrics["accuracy_percent"] <= 100 and 0 < metrics["accuracy_percent_std"] < 2


def test_the_floor_is_that_of_good_samples(judged):
    floor = json.loads((judged[0] / "data/judge/floor.json").read_text())
    assert list(floor) == ["test", "train_halves"]
    for metrics in floor.values():
        assert metrics["fid"] < 10  # of a total variance of 100
        assert metrics["classes"] == 10
        assert metrics["precision_percent"] > 70 and metrics["coverage_percent"] > 70
        assert 0 < metrics["copied_percent"] < 5  # about one: it is one digit in each class of 60


def test_a_second_run_gives_the_same_bytes(judged, tmp_path):
    again = make_workplace(tmp_path, judge=AS_SHIPPED)
    code, output = run_stage("judge", again)
    assert code == 0, output
    for name in OUTS:
        assert (again / "data/judge" / name).read_bytes() == (judged[0] / "data/judge" / name).read_bytes(), name


def test_real_digits_rank_above_what_was_done_to_them(judged, tensorflow):
    from scipy.ndimage import gaussian_filter

    from gan.judge.classifier import outputs_of
    from gan.judge.metrics import measure
    from gan.judge.neighbours import NearImages
    from gan.judge.reference import Reference
    from gan.keras_files import load_model

    training, _, images, labels = small_digits()
    reference = Reference.load(judged[0] / "data/judge/reference.npz")
    describe = outputs_of(load_model(judged[0] / "data/judge/judge.keras"))
    random = np.random.default_rng(0)

    def metrics(sample):
        return measure(sample, describe(sample), reference, NearImages(training))

    def noisy(deviation):
        return np.clip(images + deviation * random.standard_normal(images.shape, np.float32), -1, 1)

    real = metrics(images)
    for worse in (
        [metrics(noisy(0.5)), metrics(noisy(1.5))],
        [metrics(gaussian_filter(images, (0, 1.5, 1.5, 0))), metrics(gaussian_filter(images, (0, 3, 3, 0)))],
    ):
        for name in ("fid", "fid_infinity", "kid"):
            assert real[name] < worse[0][name] < worse[1][name], name
        for name in ("coverage_percent", "recall_percent"):
            assert real[name] > worse[0][name] > worse[1][name], name
    without_seven = metrics(images[labels != 7])
    assert without_seven["classes"] == 9 and real["classes"] == 10
    assert without_seven["fid"] > real["fid"] + 3 * real["fid_std"]
    assert metrics(training[:500])["copied_percent"] > 95
    assert 1 <= real["copied_percent"] < 2.5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: (data / "test_images.npy").unlink(), "test_images.npy: no such file"),
        (lambda data: np.save(data / "train_labels.npy", np.zeros(7, np.uint8)), "expected 1200 labels uint8 in 0..9"),
        (lambda data: (data / "train_images.npy").write_bytes(b"\x93NUMPY"), "train_images.npy: not a readable array"),
        (lambda data: np.save(data / "test_images.npy", np.zeros((9, 28, 28))), "expected images float32"),
    ],
)
def test_damaged_data_is_one_clear_error(tmp_path, tensorflow, spoil, message):
    folder = make_workplace(tmp_path)
    spoil(folder / "data/normalized")
    with pytest.raises(DataError, match=message):
        run_here("judge", folder)
    assert not (folder / "data/judge").exists()


def test_a_sample_larger_than_the_real_data_is_one_clear_error(tmp_path, tensorflow):
    folder = make_workplace(tmp_path, judge={"sample_count": 598})
    said = "judge.sample_count = 598: expected at most the 597 test images and half of the 1200 training images"
    with pytest.raises(UserError, match=said):
        run_here("judge", folder)
