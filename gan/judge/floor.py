"""What perfect samples would score: every metric for real digits, as the scale to read a generator's by."""

import numpy as np

from gan.judge.metrics import measure
from gan.judge.neighbours import NearImages, nearest_squared_distances
from gan.judge.reference import build_reference, copy_thresholds


def build_reference_and_floor(train_images, train, test_images, test, *, sample_count, neighbours, seed):
    """The Reference of the real training images, and the real-data floor.

    Images are float32 [n, 28, 28, 1] in [-1, 1]; `train` and `test` are what the judge says of them. The floor is a dict of two
    results of `gan.judge.metrics.measure`: "test", for `sample_count` test images as if they were a generator's; "train_halves",
    for as many of one random half of the training images against the other half alone. `sample_count` is at most the number of
    test images and half that of training images.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(train_images))
    half, other_half = np.split(order, [len(order) // 2])
    train_classes, test_classes = (judged["probabilities"].argmax(axis=1) for judged in (train, test))

    def reference_of(chosen, squared_distances):
        return build_reference(
            train["features"][chosen],
            train_classes[chosen],
            sample_count=sample_count,
            neighbours=neighbours,
            copy_thresholds=copy_thresholds(squared_distances, test_classes),
        )

    to_other_half = nearest_squared_distances(test_images, train_images[other_half])  # a copy each: one at a time
    half_images = train_images[half]
    to_half = nearest_squared_distances(test_images, half_images)
    reference = reference_of(order, np.minimum(to_half, to_other_half))
    some_test = _take(test_images, test, random.permutation(len(test_images))[:sample_count])
    some_of_other_half = _take(train_images, train, other_half[:sample_count])
    floor = {
        "test": measure(*some_test, reference, NearImages(train_images)),
        "train_halves": measure(*some_of_other_half, reference_of(half, to_half), NearImages(half_images)),
    }
    return reference, floor


def _take(images, judged, chosen):
    return images[chosen], {name: values[chosen] for name, values in judged.items()}
