"""What changes over a run, as functions of the step alone: the learning rate's factor and the decay of the average."""

import math

import tensorflow as tf


def rate_factor(step, *, steps, warm_up_steps, constant_share, final_share):
    """The factor of the learning rates at `step` (int32 scalar tensor, 0 ... steps - 1): float32, or 1.0 if it never changes.

    It rises in a straight line over the first `warm_up_steps`, whose last has 1; stays there until `constant_share` of the run is
    over; then falls along half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5) to `final_share` at the last
    step.
    """
    if constant_share == 1 and warm_up_steps == 0:
        return 1.0
    step = tf.cast(step, tf.float32)
    factor = 1.0
    if constant_share < 1:
        start = min(constant_share * steps, steps - 2)  # a fall takes a step at least
        progress = tf.clip_by_value((step - start) / (steps - 1 - start), 0.0, 1.0)
        factor = final_share + (1 - final_share) * 0.5 * (1 + tf.cos(math.pi * progress))
    if warm_up_steps > 0:
        factor = factor * tf.minimum((step + 1) / warm_up_steps, 1.0)
    return factor


def average_decay(step, decay, gamma):
    """The decay of the generator's moving average at `step`: float32, `decay` in the long run.

    (1 + t) / (gamma + 2 + t) while that is less, so that early averages do not hang on the first, random weights. A late average
    spans the last 1 / (gamma + 1) of the steps so far: to first order it is the power function average of Karras et al. 2024,
    arXiv 2312.02696, section 3.1, and with gamma 8 the rule of `tf.train.ExponentialMovingAverage`.
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1 + step) / (gamma + 2 + step))
