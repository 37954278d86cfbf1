"""Adam as a pure function (Kingma & Ba, "Adam", arXiv 1412.6980, algorithm 1 in the form at the end of its section 2).

The arithmetic is that of `keras.optimizers.Adam`, epsilon outside the bias correction included; a test compares the two.
"""

import tensorflow as tf


def adam_update(weights, gradients, first_moments, second_moments, *, update, learning_rate, beta_1, beta_2, epsilon):
    """One Adam update of lists of float32 tensors; `update` (float32 scalar) counts from 1.

    Returns the new (weights, first_moments, second_moments), lists of the same shapes.
    """
    rate = learning_rate * tf.sqrt(1.0 - tf.pow(beta_2, update)) / (1.0 - tf.pow(beta_1, update))
    first_moments = [m + (g - m) * (1.0 - beta_1) for m, g in zip(first_moments, gradients, strict=True)]
    second_moments = [v + (g * g - v) * (1.0 - beta_2) for v, g in zip(second_moments, gradients, strict=True)]
    weights = [w - rate * m / (tf.sqrt(v) + epsilon) for w, m, v in zip(weights, first_moments, second_moments, strict=True)]
    return weights, first_moments, second_moments
