"""The losses, as functions of the discriminator's logits; real = 1, fake = 0. Each is a mean over the batch.

Working on logits gives the same values as cross-entropy on sigmoid outputs, without their overflow at the ends.
"""

import tensorflow as tf


def d_loss(name, *, real_logits=None, fake_logits=None):
    """The discriminator's loss `name` on logits float32 [n, 1]: the sum of the halves that are given.

    "non_saturating": cross-entropy, arXiv 1406.2661, equation 1. "hinge": max(0, 1 - real) + max(0, 1 + fake), Lim & Ye 2017,
    arXiv 1705.02894, and Miyato et al. 2018, arXiv 1802.05957, equation 16. "relativistic": cross-entropy of the difference of a
    real image and a fake, arXiv 1807.00734, as a pair as in R3GAN, arXiv 2501.05441, section 2; it needs both halves.
    """
    if name == "relativistic":
        return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))
    half = {"non_saturating": tf.nn.softplus, "hinge": lambda logits: tf.nn.relu(1.0 + logits)}[name]
    signed = [logits for logits in (None if real_logits is None else -real_logits, fake_logits) if logits is not None]
    return tf.add_n([tf.reduce_mean(half(logits)) for logits in signed])


def d_loss_terms(name):
    """How many halves `d_loss` adds up: the history holds their mean, so that update orders compare."""
    return 1 if name == "relativistic" else 2


def g_loss(name, *, real_logits, fake_logits):
    """The generator's loss `name` on logits float32 [n, 1]; only "relativistic" heeds `real_logits`.

    "non_saturating": cross-entropy against target 1, arXiv 1406.2661, section 3. "hinge": -fake. "relativistic": the
    discriminator's with the two exchanged. Sources as for `d_loss`.
    """
    if name == "relativistic":
        return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))
    return tf.reduce_mean({"non_saturating": tf.nn.softplus, "hinge": tf.identity}[name](-fake_logits))


def accuracy(name, *, real_logits, fake_logits):
    """The share in [0, 1] that the discriminator gets right, real and fake weighing the same.

    Right is a real logit above 0 and a fake one not above 0, as Keras' binary accuracy has it; for "relativistic", which fixes
    no zero, a pair in which the real logit is the larger.
    """
    if name == "relativistic":
        return tf.reduce_mean(tf.cast(real_logits > fake_logits, tf.float32))
    real_right = tf.reduce_mean(tf.cast(real_logits > 0, tf.float32))
    fake_right = tf.reduce_mean(tf.cast(fake_logits <= 0, tf.float32))
    return (real_right + fake_right) / 2


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
