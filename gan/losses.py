"""The losses, as functions of the discriminator's logits; real = 1, fake = 0.

Working on logits gives the same values as binary cross-entropy on sigmoid outputs, without their overflow at the ends.
"""

import tensorflow as tf


def d_loss_real(real_logits):
    """Binary cross-entropy of real_logits float32 [n, 1] against target 1, the mean over the batch: a scalar >= 0."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits))


def d_loss_fake(fake_logits):
    """Binary cross-entropy of fake_logits float32 [n, 1] against target 0, the mean over the batch: a scalar >= 0."""
    return tf.reduce_mean(tf.nn.softplus(fake_logits))


def g_loss(fake_logits):
    """Cross-entropy of fake_logits float32 [n, 1] against target 1: the non-saturating loss of arXiv 1406.2661, section 3."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def accuracy(real_logits, fake_logits):
    """The share in [0, 1] that the discriminator puts on the right side of probability 1/2, real and fake weighing the same.

    A logit of exactly 0 counts as fake, as Keras' binary accuracy does.
    """
    real_right = tf.reduce_mean(tf.cast(real_logits > 0, tf.float32))
    fake_right = tf.reduce_mean(tf.cast(fake_logits <= 0, tf.float32))
    return (real_right + fake_right) / 2
