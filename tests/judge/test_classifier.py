"""The classifier on real digits, bit for bit the same each time, and the judge made of it."""

import numpy as np
import pytest

from gan.errors import UserError
from gan.judge.params import ClassifierParams
from tests.helpers.small_digits import small_digits

PARAMS = ClassifierParams(seed=3, epochs=8, batch_size=50, learning_rate=0.005)


@pytest.fixture(scope="module")
def classifier_module(tensorflow):
    from gan.judge import classifier

    return classifier


@pytest.fixture(scope="module")
def trained(classifier_module):
    losses = []
    images, labels, _, _ = small_digits()

    def note(*epoch_and_loss):
        losses.append(epoch_and_loss)

    return classifier_module.train_classifier(images, labels, PARAMS, on_epoch=note), losses


def test_it_learns_real_digits(classifier_module, trained):
    classifier, losses = trained
    _, _, images, labels = small_digits()
    percent, deviation = classifier_module.measure_accuracy(classifier, images, labels)
    assert percent > 94
    assert 0 < deviation < 1
    assert [epoch for epoch, _ in losses] == list(range(1, 9))
    assert losses[-1][1] < losses[0][1] / 3


def test_training_again_gives_the_same_weights_and_another_seed_others(classifier_module):
    images, labels, _, _ = small_digits()
    short = PARAMS.model_copy(update={"epochs": 1})
    first, again, other = (
        classifier_module.train_classifier(images, labels, params).get_weights()
        for params in (short, short, short.model_copy(update={"seed": 4}))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_the_judge_gives_probabilities_and_features_of_the_stated_variance(classifier_module, trained):
    images, labels, _, _ = small_digits()
    judge, judged_beforehand = classifier_module.build_judge(trained[0], images)
    judged = classifier_module.outputs_of(judge)(images)
    assert all(np.array_equal(judged[name], judged_beforehand[name]) for name in judged) and len(judged_beforehand) == 2
    assert judged["features"].shape == (1200, 64) and judged["probabilities"].shape == (1200, 10)
    np.testing.assert_allclose(judged["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert judged["features"].var(axis=0, dtype=np.float64).sum() == pytest.approx(100, rel=1e-4)


def test_outputs_of_does_not_depend_on_the_block(classifier_module, trained):
    images, _, _, _ = small_digits()
    outputs = classifier_module.outputs_of(classifier_module.build_judge(trained[0], images)[0])
    np.testing.assert_allclose(outputs(images)["features"][1100:], outputs(images[1100:])["features"], rtol=1e-3, atol=1e-4)


def test_speckled_digits_keep_their_class(classifier_module, trained):
    _, _, images, labels = small_digits()
    noise = 0.4 * np.random.default_rng(0).standard_normal(images.shape, np.float32)
    percent, _ = classifier_module.measure_accuracy(trained[0], np.clip(images + noise, -1, 1), labels)
    assert percent > 90


def test_a_judge_without_features_is_refused(classifier_module):
    classifier = classifier_module.build_classifier(seed=0)
    images, _, _, _ = small_digits()
    with pytest.raises(UserError, match="constant or not finite"):
        classifier_module.build_judge(classifier, np.repeat(images[:1], 20, axis=0))


def test_augmentation_moves_a_dot_by_no_more_than_it_says_and_stays_in_range(classifier_module, tensorflow, monkeypatch):
    monkeypatch.setattr(classifier_module, "NOISE", 0.0)
    dot = np.full((500, 28, 28, 1), -1, np.float32)
    dot[:, 13:15, 13:15] = 1  # in the middle: turning, scaling and shearing leave it there
    moved = classifier_module.augment(dot, [0, 7]).numpy()
    assert moved.min() >= -1 and moved.max() <= 1
    weight = moved[..., 0] + 1
    rows, columns = np.mgrid[:28, :28]
    shift_x = (weight * columns).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)) - 13.5
    shift_y = (weight * rows).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)) - 13.5
    for shift in (shift_x, shift_y):
        assert np.abs(shift).max() < 2 / (1 - classifier_module.SCALE) / (1 - classifier_module.SHEAR)
        assert shift.std() > 0.8  # a uniform draw from -2 to 2 has 1.15
    assert np.array_equal(moved, classifier_module.augment(dot, [0, 7]).numpy())
    assert not np.array_equal(moved, classifier_module.augment(dot, [0, 8]).numpy())


def test_augmentation_adds_noise_to_one_half_of_the_images(classifier_module):
    black = np.full((1000, 28, 28, 1), -1, np.float32)
    changed = (classifier_module.augment(black, [1, 1]).numpy() > -1 + 1e-6).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.5, abs=0.06)


def test_accuracy_by_hand(classifier_module):
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    # three of four are right: 75 %, and sqrt(0.75 * 0.25 / 4) = 0.2165
    assert classifier_module.accuracy_percent(scores, np.array([1, 0, 1, 0])) == (75.0, 21.6506)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((60, 28, 28, 1), np.uint8), np.zeros(60, int), "got uint8"),
        (np.zeros((60, 28, 28), np.float32), np.zeros(60, int), r"\[60, 28, 28\]"),
        (np.zeros((60, 28, 28, 1), np.float32), np.zeros(59, int), r"\[59\]"),
        (np.zeros((49, 28, 28, 1), np.float32), np.zeros(49, int), "one batch of 50 images, got 49"),
    ],
)
def test_arguments_of_another_kind_are_refused(classifier_module, images, labels, message):
    with pytest.raises(ValueError, match=message):
        classifier_module.train_classifier(images, labels, PARAMS)
