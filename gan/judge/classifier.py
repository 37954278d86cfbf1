"""A small digit classifier, and the judge made of it: a network that gives an image's features and its class probabilities.

The same images, labels and parameters give the same weights, bit for bit, for a given number of TensorFlow threads.
"""

import keras
import numpy as np
import tensorflow as tf

from gan.errors import UserError
from gan.images import CLASSES, IMAGE_SHAPE

FEATURES = 64
FEATURE_VARIANCE = 100
BLACK = -1.0
_CONVOLUTIONS = ((24, 5, 2), (64, 3, 2), (64, 3, 1))  # filters, kernel, stride
# The largest random change of a training image; each is drawn uniformly from both sides of none, but noise is for one half of the
# images alone. Without noise the judge is as accurate on real digits, yet takes clear but speckled zeros and ones for eights.
ROTATION_RADIANS, SCALE, SHEAR, SHIFT_PIXELS, NOISE = 0.2, 0.1, 0.15, 2.0, 0.5
_WARM_UP = 0.2  # the part of training in which the learning rate rises; then it falls along a cosine
_BLOCK_IMAGES = 1000


def build_classifier(*, seed, normalized=True):
    """Images float32 [n, 28, 28, 1] in [-1, 1] -> logits float32 [n, 10]; its layer "features" gives float32 [n, 64] >= 0."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = images
    for index, (filters, kernel, stride) in enumerate(_CONVOLUTIONS):
        x = keras.layers.Conv2D(
            filters, kernel, stride, "same", activation="relu", kernel_initializer=_he_normal(seed, index), name=f"conv_{index}"
        )(x)  # [n, 14, 14, 24], [n, 7, 7, 64], [n, 7, 7, 64]
    x = keras.layers.MaxPooling2D(2, padding="same", name="pool")(x)  # [n, 4, 4, 64]
    # a dense layer as a convolution of the whole: a product of 1,024 numbers would be cut by the size of the processor's cache
    x = keras.layers.Conv2D(
        FEATURES, 4, 4, "same", use_bias=not normalized, kernel_initializer=_he_normal(seed, 3), name="dense"
    )(x)
    x = keras.layers.Flatten(name="flatten")(x)  # [n, 64]
    # after the convolutions as well, it would nearly double the time and gain nothing in as many seconds
    if normalized:
        x = ExactNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.ReLU(name="features")(x)
    logits = keras.layers.Dense(CLASSES, kernel_initializer=_he_normal(seed, 4), name="logits")(x)
    return keras.Model(images, logits, name="classifier")


class ExactNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation of [n, d], with a square root and a division, which are exact on every processor.

    TensorFlow's own takes the reciprocal of the root at once, from an approximation of the processor that vendors differ in. The
    judge that is saved has none of it: `build_judge` folds it into the layer before.
    """

    def call(self, inputs, training=None):
        mean, variance = self.moving_mean, self.moving_variance
        if training:
            mean, variance = keras.ops.moments(inputs, axes=[0])
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return (inputs - mean) / keras.ops.sqrt(variance + self.epsilon) * self.gamma + self.beta


def train_classifier(images, labels, params, *, on_epoch=None):
    """Train a classifier on `images` float32 [n, 28, 28, 1] in [-1, 1] with `labels` integers [n] in 0..9.

    `params` is a `ClassifierParams`; `on_epoch(epoch, loss)` is called after each epoch, counted from 1, with its mean
    cross-entropy in nats. Each image is changed at random, anew in every epoch (`augment`). Adam, with one cycle of the
    learning rate. An epoch leaves out the last n % batch_size images of its shuffled order.
    """
    if images.dtype != np.float32 or images.shape[1:] != IMAGE_SHAPE or labels.shape != images.shape[:1]:
        raise ValueError(
            f"expected images float32 [n, 28, 28, 1] and labels [n], "
            f"got {images.dtype} {list(images.shape)} and {list(labels.shape)}"
        )
    if len(images) < params.batch_size:
        raise ValueError(f"expected at least one batch of {params.batch_size} images, got {len(images)}")
    classifier = build_classifier(seed=params.seed)
    images, labels = tf.constant(images), tf.constant(labels.astype(np.int32))
    epoch_loss = _epoch_function(classifier, len(images), params)
    for epoch in range(params.epochs):
        loss = float(epoch_loss(images, labels, tf.constant(epoch)))
        if on_epoch is not None:
            on_epoch(epoch + 1, loss)
    return classifier


def build_judge(classifier, images):
    """Turn a trained classifier into a judge: images -> {"features": float32 [n, 64], "probabilities": float32 [n, 10]}.

    The features are the classifier's penultimate activations times the one factor that gives their covariance over `images`
    (the real training images) the trace FEATURE_VARIANCE. So a Fréchet distance reads as a percentage of the real variance,
    and is not at the mercy of the scale that a training run happens to end with.

    Returns the judge and what it says of `images`, which it had to look at anyway: a dict of arrays, as `outputs_of` gives it.
    """
    plain = _without_normalization(classifier)
    activations = plain.get_layer("features").output
    probabilities = keras.layers.Softmax(name="probabilities")(plain.output)
    judged = outputs_of(keras.Model(plain.input, {"features": activations, "probabilities": probabilities}))(images)
    variance = judged["features"].var(axis=0, dtype=np.float64).sum()
    if not (np.isfinite(variance) and variance > 0):
        raise UserError("the judge's features are constant or not finite; lower judge.classifier.learning_rate")
    factor = float(np.sqrt(FEATURE_VARIANCE / variance))
    scaled = keras.layers.Rescaling(factor, name="scaled_features")(activations)
    judge = keras.Model(plain.input, {"features": scaled, "probabilities": probabilities}, name="judge")
    return judge, {**judged, "features": judged["features"] * np.float32(factor)}


def outputs_of(model):
    """A function from images float32 [n, 28, 28, 1] in [-1, 1] to the outputs of `model`: a dict of arrays, a row an image."""
    apply = tf.function(
        lambda block: model(block, training=False), input_signature=[tf.TensorSpec((None, *IMAGE_SHAPE))], autograph=False
    )

    def outputs(images):
        blocks = [apply(images[start : start + _BLOCK_IMAGES]) for start in range(0, len(images), _BLOCK_IMAGES)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    return outputs


def measure_accuracy(classifier, images, labels):
    """The accuracy of `classifier` on `images` float32 [n, 28, 28, 1] with `labels` int [n], as `accuracy_percent` gives it."""
    logits = outputs_of(keras.Model(classifier.input, {"logits": classifier.output}))(images)["logits"]
    return accuracy_percent(logits, labels)


def accuracy_percent(scores, labels):
    """How often the largest of a row of `scores` float [n, classes] stands at the label: (percent, its standard deviation)."""
    share = np.mean(scores.argmax(axis=1) == labels)
    return round(100 * float(share), 4), round(100 * float(np.sqrt(share * (1 - share) / len(labels))), 4)


def augment(images, seed):
    """Turn, scale, shear and shift each of `images` float32 [n, 28, 28, 1] in [-1, 1] at random; add noise to one half of them.

    `seed` is int32 [2]. The noise is Gaussian with a deviation from 0 to NOISE of its own for each image, cut off at the range.
    """
    count = tf.shape(images)[0]
    seed, noise_seed = tf.unstack(tf.random.split(seed))
    angle, scale, shear, shift_x, shift_y, noise = tf.unstack(tf.random.stateless_uniform([6, count], seed, -1.0, 1.0))
    cosine = (1 + SCALE * scale) * tf.cos(ROTATION_RADIANS * angle)
    sine = (1 + SCALE * scale) * tf.sin(ROTATION_RADIANS * angle)
    matrix = [cosine, SHEAR * shear - sine, sine, cosine]
    middle = (IMAGE_SHAPE[0] - 1) / 2
    # an output pixel (x, y) is taken from (a x + b y + c, d x + e y + f): the middle stays where it is, up to the shift
    offset_x = middle * (1 - matrix[0] - matrix[1]) + SHIFT_PIXELS * shift_x
    offset_y = middle * (1 - matrix[2] - matrix[3]) + SHIFT_PIXELS * shift_y
    zero = tf.zeros([count])
    transforms = tf.stack([matrix[0], matrix[1], offset_x, matrix[2], matrix[3], offset_y, zero, zero], axis=1)
    moved = keras.ops.image.affine_transform(images, transforms, fill_value=BLACK, data_format="channels_last")
    deviation = NOISE * tf.maximum(noise, 0)[:, None, None, None]
    noisy = moved + deviation * tf.random.stateless_normal(tf.shape(images), noise_seed)
    return tf.ensure_shape(tf.clip_by_value(noisy, -1.0, 1.0), [None, *IMAGE_SHAPE])


def _epoch_function(classifier, count, params):
    """A compiled function of `count` images, their labels and the epoch's number (from 0) that trains an epoch: its mean loss.

    The images are an argument, since a compiled function keeps what it captures in memory for as long as Python likes.
    """
    optimizer = keras.optimizers.Adam(params.learning_rate)
    optimizer.build(classifier.trainable_variables)
    batch, steps = params.batch_size, count // params.batch_size
    last_step = steps * params.epochs - 1

    # an explicit loop, since autograph cannot convert a Python one on every version of Python
    @tf.function(autograph=False)
    def epoch_loss(images, labels, epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(count), [params.seed, epoch])

        def body(index, total):
            step = epoch * steps + index
            chosen = order[index * batch : (index + 1) * batch]
            with tf.GradientTape() as tape:
                logits = classifier(augment(tf.gather(images, chosen), [params.seed, step]), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, chosen), logits)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, classifier.trainable_variables)
            optimizer.learning_rate.assign(params.learning_rate * _one_cycle(tf.cast(step, tf.float32) * (1 / max(last_step, 1))))
            optimizer.apply_gradients(zip(gradients, classifier.trainable_variables, strict=True))
            return index + 1, total + loss

        _, total = tf.while_loop(lambda index, _: index < steps, body, (tf.constant(0), tf.constant(0.0)))
        return total / steps

    return epoch_loss


def _one_cycle(progress):
    """The factor of the learning rate at `progress` in [0, 1]: up in a straight line, then down along half a cosine, to 0."""
    # factors, not divisors: TensorFlow may turn these into reciprocals, as this processor rounds them
    falling = 0.5 * (1 + tf.cos((progress - _WARM_UP) * (np.pi / (1 - _WARM_UP))))
    return tf.where(progress < _WARM_UP, progress * (1 / _WARM_UP), falling)


def _without_normalization(classifier):
    """The same function without the normalisation, which is folded into the weights and a bias of the layer before."""
    plain = build_classifier(seed=0, normalized=False)
    norm = classifier.get_layer("norm")
    for layer in plain.layers:
        if layer.name != "dense":
            layer.set_weights(classifier.get_layer(layer.name).get_weights())
    mean, variance, gamma, beta = (w.numpy() for w in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta))
    factor = gamma / np.sqrt(variance + np.float32(norm.epsilon))
    (kernel,) = classifier.get_layer("dense").get_weights()
    plain.get_layer("dense").set_weights([kernel * factor, beta - mean * factor])
    return plain


def _he_normal(seed, index):
    return keras.initializers.HeNormal(seed=seed * 1000 + index)
