"""The training engine: many training steps (`gan.training.step`), compiled into one function.

A block of steps is drawn, gathered and trained in a single call; nothing returns to Python between the steps of a block. The
result depends on the parameters, the images, the labels and the step numbers alone: not on how steps are cut into blocks.
"""

import functools

import numpy as np
import tensorflow as tf

from gan.images import CLASSES, HALF_RANGE, IMAGE_SHAPE
from gan.products import with_alike_products, with_fused_activations
from gan.training import threefry
from gan.training.batches import Epochs
from gan.training.clusters import cluster, latent_bounds, latents_in
from gan.training.networks import build_discriminator, build_generator, logits_of, on_squares
from gan.training.step import TrainingStep

BLOCK_STEPS = 25  # a log interval of 50 in two calls; larger blocks cost memory and gain under 1 %
SAMPLE_COUNT = 16
HISTORY_COLUMNS = ("g_loss", "d_loss", "d_accuracy")

# What a random number is for: the second word of its key, so that no two purposes share numbers.
_REAL_INDICES, _LATENTS, _SAMPLES = 1, 2, 3


class NonFiniteError(ArithmeticError):
    """Training ran into NaN or infinity; the message names the step and the quantity."""


class Engine:
    """Trains a generator and a discriminator by the parameters `params` (a `TrainParams`).

    images: uint8 [n, 28, 28, 1]; labels: integers [n] in 0..9 if the parameters ask for class-conditional networks, else None.
    Clusters, if the parameters ask for them, are found here, in a few seconds.
    """

    def __init__(self, params, images, labels=None, *, step_class=TrainingStep):
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
            raise ValueError(f"expected images uint8 [n, 28, 28, 1] with n > 0, got {images.dtype} {list(images.shape)}")
        if (labels is not None) != params.conditional or (labels is not None and labels.shape != images.shape[:1]):
            given = "none" if labels is None else list(labels.shape)
            raise ValueError(f"expected labels [{len(images)}] if and only if conditional, got {given}")
        self.params = params
        cluster_bounds = None
        if params.clusters:
            labels = cluster(images, params.clusters, seed=params.seed)
            cluster_bounds = latent_bounds(labels)
        common = {"network": params.network, "leaky_slope": params.leaky_slope, "precision": params.compute_precision}
        self.generator = build_generator(
            latent_dim=params.latent_dim,
            units=params.generator_units,
            seed=2 * params.seed,
            conditional=params.conditional,
            cluster_bounds=cluster_bounds,
            **common,
        )
        self.discriminator = build_discriminator(
            units=params.discriminator_units,
            seed=2 * params.seed + 1,
            classes=CLASSES if params.conditional else params.clusters,
            **common,
        )
        networks = self.generator, logits_of(self.discriminator)
        self._on_squares = params.network == "conv"
        if self._on_squares:
            networks = on_squares(*networks)
        self._images = tf.nn.space_to_depth(images, 2) if self._on_squares else tf.constant(images)
        self._labels = None if labels is None else tf.constant(labels.astype(np.int32))
        self._epochs = None
        if params.sampling == "without_replacement":
            self._epochs = Epochs(len(images), params.batch_size, seed=params.seed)
        xla = params.compiler == "xla"
        # in every step there are two things to do at a time, such as the discriminator on real images and on fakes
        parts = 1 if xla else max(1, min(params.threads // 2, params.batch_size, SAMPLE_COUNT))
        networks = map(with_alike_products if xla else with_fused_activations, networks)
        self.step = step_class(params, *networks, parts=parts)
        self._train_block = tf.function(self._block, autograph=False)
        self._compiled_steps = tf.function(self._steps, autograph=False, jit_compile=xla)
        self._compiled_draw = tf.function(self._draw, autograph=False, jit_compile=True)
        self._in_clusters = None
        if cluster_bounds is not None:
            in_clusters = functools.partial(latents_in, bounds=cluster_bounds)
            self._in_clusters = tf.function(in_clusters, autograph=False, jit_compile=True)
        self._sample = tf.function(self._draw_samples, autograph=False, jit_compile=xla)
        # the zero is an argument: XLA works out beforehand what depends on constants alone, and rounds as this processor does
        self._sample_latents = tf.function(self._draw_sample_latents, autograph=False, jit_compile=True)(tf.constant(0))
        self._sample_labels = tf.range(SAMPLE_COUNT) % CLASSES if params.conditional else None
        # of what the generator's first layer takes, so that whoever draws from the result gives it standard-normal latents
        self._input_scales = np.ones([self.generator.trainable_variables[0].shape[0], 1], np.float32)
        self._input_scales[1 if params.clusters else 0 : params.latent_dim] = params.temperature

    def initial_state(self):
        """The state before step 0: fresh weights, zero moments and, if there is to be one, the generator's average.

        Each is a list of float32 tensors.
        """
        state = {}
        for name, model in {"g": self.generator, "d": self.discriminator}.items():
            state[name] = [tf.identity(weight.value) for weight in model.trainable_variables]
            state[f"{name}_m"] = state[f"{name}_v"] = [tf.zeros_like(weight) for weight in state[name]]
        if self.params.ema_decay > 0:
            state["g_average"] = state["g"]
        return state

    def advance(self, state, first_step, count):
        """Train steps first_step ... first_step + count - 1, count at most BLOCK_STEPS: (new state, history float32 [count, 3]).

        Raises NonFiniteError naming the first step with a loss that is NaN or infinite.
        """
        state, rows = self._train_block(state, tf.constant(first_step), tf.constant(count), self._epoch_indices(first_step))
        rows = rows.numpy()[:count]
        for offset, column in zip(*np.nonzero(~np.isfinite(rows)), strict=True):
            raise NonFiniteError(f"step {first_step + offset}: {HISTORY_COLUMNS[column]} is {rows[offset, column]}")
        return state, rows

    def draws(self, first_step):
        """What a block from `first_step` on is trained on, by name: tensors of BLOCK_STEPS rows, one a step.

        "indices": int32 [.., batch_size], of the real images; "d_latents" and "g_latents": float32 [.., batch_size, latent_dim],
        as they are before clusters move them.
        """
        indices, d_latents, g_latents = self._compiled_draw(tf.constant(first_step))
        of_epochs = self._epoch_indices(first_step)
        return {"indices": indices if of_epochs is None else of_epochs, "d_latents": d_latents, "g_latents": g_latents}

    def samples(self, state):
        """SAMPLE_COUNT images float32 [16, 28, 28, 1] in [-1, 1] from latents that are fixed for the run.

        With labels, they show 0, 1, ..., 9, 0, 1, ...
        """
        images = self._sample(self._shown_weights(state))
        return (tf.nn.depth_to_space(images, 2) if self._on_squares else images).numpy()

    def generator_weights(self, state):
        """The weights of the result in `state`, as a list of float32 arrays, in Keras' order.

        They are the generator's, averaged if an average is kept, and stretch its latents by the temperature.
        """
        return [weight.numpy() for weight in self._shown_weights(state)]

    def models(self, state):
        """The Keras models (generator, discriminator): the result in `state`, and the discriminator as it is."""
        self.generator.set_weights(self.generator_weights(state))
        self.discriminator.set_weights([weight.numpy() for weight in state["d"]])
        return self.generator, self.discriminator

    def _epoch_indices(self, first_step):
        return None if self._epochs is None else tf.constant(self._epochs.indices(first_step, BLOCK_STEPS))

    def _block(self, state, first_step, count, indices):
        drawn_indices, d_latents, g_latents = self._compiled_draw(first_step)
        indices = drawn_indices if indices is None else indices
        # TensorFlow's multi-threaded gather, outside XLA: bytes, a quarter of the floats' traffic
        pixels = tf.gather(self._images, indices)
        labels = None if self._labels is None else tf.gather(self._labels, indices)
        if self._in_clusters is not None:
            d_latents, g_latents = (self._in_clusters(latents, labels) for latents in (d_latents, g_latents))
        return self._compiled_steps(state, first_step, count, pixels, d_latents, g_latents, labels)

    def _draw(self, first_step):
        """Draws for a block: image indices int32 [BLOCK_STEPS, batch] and two sets of latents float32 [.., .., latent_dim]."""
        p = self.params
        block = {"seed": p.seed, "first_step": first_step, "steps": BLOCK_STEPS}
        index_words, _ = threefry.bits(purpose=_REAL_INDICES, count=p.batch_size, **block)
        d_words, g_words = threefry.bits(purpose=_LATENTS, count=p.batch_size * p.latent_dim, **block)
        shape = [BLOCK_STEPS, p.batch_size, p.latent_dim]
        return (
            threefry.to_integers(index_words, self._images.shape[0]),
            tf.reshape(threefry.to_normal(d_words), shape),
            tf.reshape(threefry.to_normal(g_words), shape),
        )

    def _steps(self, state, first_step, count, pixels, d_latents, g_latents, labels):
        """Train `count` (at most BLOCK_STEPS) steps; returns the new state and float32 [BLOCK_STEPS, 3], zeros beyond `count`."""

        def body(index, state, rows):
            real = to_unit_range(pixels[index])  # (B, 28, 28, 1)
            step_labels = None if labels is None else labels[index]
            state, row = self.step(state, first_step + index, real, d_latents[index], g_latents[index], step_labels)
            return index + 1, state, tf.tensor_scatter_nd_update(rows, [[index]], [row])

        rows = tf.zeros([BLOCK_STEPS, len(HISTORY_COLUMNS)])
        loop = tf.while_loop(lambda index, *_: index < count, body, (tf.constant(0), state, rows))
        return loop[1], loop[2]

    def _shown_weights(self, state):
        weights = state["g_average" if self.params.ema_decay > 0 else "g"]
        if self.params.temperature == 1:
            return weights
        return [weights[0] * self._input_scales, *weights[1:]]

    def _draw_samples(self, generator_weights):
        return self.step.generate(generator_weights, self._sample_latents, self._sample_labels)

    def _draw_sample_latents(self, first_step):
        count = SAMPLE_COUNT * self.params.latent_dim
        words, _ = threefry.bits(seed=self.params.seed, purpose=_SAMPLES, first_step=first_step, steps=1, count=count)
        return tf.reshape(threefry.to_normal(words), [SAMPLE_COUNT, self.params.latent_dim])


def to_unit_range(pixels):
    """`gan.images.to_unit_range` for tensors: uint8 in [0, 255] -> float32 in [-1, 1], to the same bits."""
    return tf.cast(pixels, tf.float32) / HALF_RANGE - 1.0
