"""Adam as a pure function (Kingma & Ba, "Adam", arXiv 1412.6980, algorithm 1 in the form at the end of its section 2).

The arithmetic is that of `keras.optimizers.Adam`, epsilon outside the bias correction included; a test compares the two. The
limit of an update's size, which Keras does not have, is the update clipping of Shazeer & Stern 2018 ("Adafactor", arXiv
1804.04235, section 6); that it belongs on Adam is from Wortsman et al. 2023 (arXiv 2304.13013, section 3).
"""

import tensorflow as tf

TINY = 1e-30  # so that no change at all is no division by zero


def adam_update(
    weights, gradients, first_moments, second_moments, *, update, learning_rate, beta_1, beta_2, epsilon, update_clip
):
    """One Adam update of lists of float32 tensors; `update` (float32 scalar) counts from 1.

    update_clip: how many learning rates a tensor's weights may move in root mean square; a larger update is scaled down to that
    as a whole. 0 for no limit. Without one, a gradient far above those before it moves weights by up to (1 - beta_2) ** -0.5
    learning rates.

    Returns the new (weights, first_moments, second_moments), lists of the same shapes.
    """
    rate = learning_rate * tf.sqrt(1.0 - tf.pow(beta_2, update)) / (1.0 - tf.pow(beta_1, update))
    if beta_1 == 0:
        first_moments = gradients
    else:
        first_moments = [m + (g - m) * (1.0 - beta_1) for m, g in zip(first_moments, gradients, strict=True)]
    second_moments = [v + (g * g - v) * (1.0 - beta_2) for v, g in zip(second_moments, gradients, strict=True)]
    if update_clip > 0:
        limit = update_clip * learning_rate
        weights = [
            w - _limited(rate * m / (tf.sqrt(v) + epsilon), limit)
            for w, m, v in zip(weights, first_moments, second_moments, strict=True)
        ]
    else:
        weights = [w - rate * m / (tf.sqrt(v) + epsilon) for w, m, v in zip(weights, first_moments, second_moments, strict=True)]
    return weights, first_moments, second_moments


def _limited(change, limit):
    return change * tf.minimum(1.0, limit / (tf.sqrt(tf.reduce_mean(change * change)) + TINY))
