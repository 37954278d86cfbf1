"""Judging one generator: draw a sample, measure it, and train a classifier on generated digits alone."""

from gan.judge.classifier import accuracy_percent, measure_accuracy, train_classifier
from gan.judge.metrics import measure, measure_large_sample
from gan.judge.neighbours import NearImages

# beside the seed: other random numbers than the metrics' sample has
CLASSIFICATION_STREAM, LARGE_SAMPLE_STREAM = 1, 2


class Evaluation:
    """Measures generators against the same real digits, with the same random numbers.

    judge: what `gan.judge.classifier.outputs_of` gives for the judge's model; reference: a `Reference`; training_images: float32
    [n, 28, 28, 1] in [-1, 1], those that the reference describes; seed: int, of latents and labels.
    """

    def __init__(self, judge, reference, training_images, *, seed):
        self._judge = judge
        self._reference = reference
        self._training_count = len(training_images)
        self._near_training_images = NearImages(training_images)
        self._seed = seed

    def measure(self, sampler):
        """Every metric of `gan.judge.metrics.measure` for a sample of a `gan.generators.Sampler`, as large as the reference's."""
        images, _ = self._draw(sampler, count=len(self._reference.features), seed=self._seed)
        return measure(images, self._judge(images), self._reference, self._near_training_images)

    def large_sample(self, sampler, count):
        """The metrics of `gan.judge.metrics.measure_large_sample` for `count` other images."""
        images, _ = self._draw(sampler, count=count, seed=[self._seed, LARGE_SAMPLE_STREAM])
        return measure_large_sample(self._judge(images), self._reference)

    def classification_accuracy(self, sampler, test_images, test_labels, classifier_params, *, on_epoch=None):
        """The classification accuracy score (Ravuri & Vinyals 2019, arXiv 1905.10887) and, beside it, what real digits reach.

        The judge's classifier is trained once more, on as many generated images as there are training images, and tested on the
        real `test_images` float32 [n, 28, 28, 1] with `test_labels` int [n]. The real score is the judge's own. Returns a dict
        of both in percent, each with its standard deviation; `on_epoch` is that of `train_classifier`.
        """
        seed = [self._seed, CLASSIFICATION_STREAM]
        images, labels = self._draw(sampler, count=self._training_count, seed=seed)
        classifier = train_classifier(images, labels, classifier_params, on_epoch=on_epoch)
        scores = {
            "classification_accuracy_percent": measure_accuracy(classifier, test_images, test_labels),
            "classification_accuracy_real_percent": accuracy_percent(self._judge(test_images)["probabilities"], test_labels),
        }
        return {key: number for name, pair in scores.items() for key, number in zip((name, f"{name}_std"), pair, strict=True)}

    def _draw(self, sampler, *, count, seed):
        return sampler.draw(count=count, class_shares=self._reference.class_shares, seed=seed)
