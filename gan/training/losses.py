"""The losses, as functions of the discriminator's logits; real = 1, fake = 0. Each is a mean over the batch.

Logits are float32 [n, 1]. Working on them gives the same values as cross-entropy on sigmoid outputs, without their overflow at
the ends. A discriminator loss that does not look at pairs takes None for the half that a batch does not show.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf


def non_saturating_d_loss(real_logits, fake_logits):
    """Cross-entropy, summed over real images and fakes: Goodfellow et al. 2014, arXiv 1406.2661, equation 1."""
    return _sum_of_halves(tf.nn.softplus, real_logits, fake_logits)


def non_saturating_g_loss(real_logits, fake_logits):
    """Cross-entropy of the fakes against target 1: arXiv 1406.2661, section 3."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def hinge_d_loss(real_logits, fake_logits):
    """max(0, 1 - real) + max(0, 1 + fake): Lim & Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957, equation 16."""
    return _sum_of_halves(lambda logits: tf.nn.relu(1.0 + logits), real_logits, fake_logits)


def hinge_g_loss(real_logits, fake_logits):
    """-fake: arXiv 1802.05957, equation 17."""
    return tf.reduce_mean(-fake_logits)


def relativistic_d_loss(real_logits, fake_logits):
    """Cross-entropy of a real logit minus a fake one: arXiv 1807.00734; in pairs as in R3GAN, arXiv 2501.05441, section 2."""
    return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


def relativistic_g_loss(real_logits, fake_logits):
    """The discriminator's loss with real and fake exchanged: same sources."""
    return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))


def accuracy(real_logits, fake_logits):
    """The share in [0, 1] that is right, real and fake weighing the same: real above 0, fake not, as Keras counts it."""
    real_right = tf.reduce_mean(tf.cast(real_logits > 0, tf.float32))
    fake_right = tf.reduce_mean(tf.cast(fake_logits <= 0, tf.float32))
    return (real_right + fake_right) / 2


def paired_accuracy(real_logits, fake_logits):
    """The share in [0, 1] of pairs whose real image has the larger logit."""
    return tf.reduce_mean(tf.cast(real_logits > fake_logits, tf.float32))


@dataclasses.dataclass(frozen=True)
class Loss:
    """What the parameter `loss` names. The functions take (real_logits, fake_logits) and give float32 []."""

    d_loss: Callable
    g_loss: Callable
    accuracy: Callable
    d_terms: int  # how many means `d_loss` adds up: the history holds d_loss / d_terms, so that update orders compare
    paired: bool  # whether both functions need real images and fakes together


LOSSES = {
    "non_saturating": Loss(non_saturating_d_loss, non_saturating_g_loss, accuracy, d_terms=2, paired=False),
    "hinge": Loss(hinge_d_loss, hinge_g_loss, accuracy, d_terms=2, paired=False),
    "relativistic": Loss(relativistic_d_loss, relativistic_g_loss, paired_accuracy, d_terms=1, paired=True),
}


def squared_gradient_norm(logits_of, images):
    """The mean over images float32 [n, h, w, 1] of |d logit / d image|^2, for a function of images that gives logits [n, 1].

    With gamma / 2 before it, it is the penalty R1 on real images and R2 on fakes: Mescheder et al. 2018, arXiv 1801.04406,
    section 4.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(images)
    gradients = tape.gradient(logits, images)  # [n, h, w, 1]: an image's logit depends on that image alone
    return tf.reduce_mean(tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3]))


def _sum_of_halves(loss_of_fake, real_logits, fake_logits):
    """A real image costs what a fake of the opposite logit costs."""
    signed = [logits for logits in (None if real_logits is None else -real_logits, fake_logits) if logits is not None]
    return tf.add_n([tf.reduce_mean(loss_of_fake(logits)) for logits in signed])
