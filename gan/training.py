"""The training engine: many steps of the published GAN's update, compiled into one function.

One step is (1) a discriminator update on real images, (2) a second one on fakes, (3) a generator update through it.
A block of steps is drawn, gathered and trained in a single call; nothing returns to Python between the steps of a block. The
result depends on the parameters, the images and the step numbers alone: not on how steps are cut into blocks.
"""

import numpy as np
import tensorflow as tf

from gan import losses, random
from gan.adam import adam_update
from gan.images import HALF_RANGE
from gan.models import build_discriminator, build_generator, logits_of

BLOCK_STEPS = 25  # a log interval of 50 in two calls; larger blocks cost memory and gain under 1 %
SAMPLE_COUNT = 16
HISTORY_COLUMNS = ("g_loss", "d_loss", "d_accuracy")

# What a random number is for: the second word of its key, so that no two purposes share numbers.
_REAL_INDICES, _LATENTS, _SAMPLES = 1, 2, 3


class NonFiniteError(ArithmeticError):
    """Training ran into NaN or infinity; the message names the step and the quantity."""


class Engine:
    """Trains a generator and a discriminator on `images` uint8 [n, 28, 28, 1] by the parameters `params` (a `TrainParams`)."""

    def __init__(self, params, images):
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28, 1) or len(images) == 0:
            raise ValueError(f"expected images uint8 [n, 28, 28, 1] with n > 0, got {images.dtype} {list(images.shape)}")
        self.params = params
        self.generator = build_generator(
            latent_dim=params.latent_dim, units=params.generator_units, leaky_slope=params.leaky_slope, seed=2 * params.seed
        )
        self.discriminator = build_discriminator(
            units=params.discriminator_units, leaky_slope=params.leaky_slope, seed=2 * params.seed + 1
        )
        self._d_logits = logits_of(self.discriminator)
        self._images = tf.constant(images)
        self._train_block = tf.function(self._block)
        self._compiled_steps = tf.function(self._steps, jit_compile=True)
        self._compiled_draw = tf.function(self._draw, jit_compile=True)
        self._sample = tf.function(self._draw_samples, jit_compile=True)
        self._sample_latents = tf.function(self._draw_sample_latents, jit_compile=True)()

    def initial_state(self):
        """The state before step 0: fresh weights and zero moments, each a list of float32 tensors."""
        state = {}
        for name, model in {"g": self.generator, "d": self.discriminator}.items():
            state[name] = [tf.identity(weight.value) for weight in model.trainable_variables]
            state[f"{name}_m"] = state[f"{name}_v"] = [tf.zeros_like(weight) for weight in state[name]]
        return state

    def advance(self, state, first_step, count):
        """Train steps first_step ... first_step + count - 1, count at most BLOCK_STEPS: (new state, history float32 [count, 3]).

        Raises NonFiniteError naming the first step with a loss that is NaN or infinite.
        """
        state, rows = self._train_block(state, tf.constant(first_step), tf.constant(count))
        rows = rows.numpy()[:count]
        for offset, column in zip(*np.nonzero(~np.isfinite(rows)), strict=True):
            raise NonFiniteError(f"step {first_step + offset}: {HISTORY_COLUMNS[column]} is {rows[offset, column]}")
        return state, rows

    def samples(self, state):
        """SAMPLE_COUNT images float32 [16, 28, 28, 1] in [-1, 1] from latents that are fixed for the run."""
        return self._sample(state["g"]).numpy()

    def generator_weights(self, state):
        """The generator's weights in `state` as a list of float32 arrays, in Keras' order."""
        return [weight.numpy() for weight in state["g"]]

    def models(self, state):
        """The Keras models (generator, discriminator) with the weights of `state`."""
        self.generator.set_weights(self.generator_weights(state))
        self.discriminator.set_weights([weight.numpy() for weight in state["d"]])
        return self.generator, self.discriminator

    def _block(self, state, first_step, count):
        indices, d_latents, g_latents = self._compiled_draw(first_step)
        # TensorFlow's multi-threaded gather, outside XLA: bytes, a quarter of the floats' traffic
        return self._compiled_steps(state, first_step, count, tf.gather(self._images, indices), d_latents, g_latents)

    def _draw(self, first_step):
        """Draws for a block: image indices int32 [BLOCK_STEPS, batch] and two sets of latents float32 [.., .., latent_dim]."""
        p = self.params
        block = {"seed": p.seed, "first_step": first_step, "steps": BLOCK_STEPS}
        index_words, _ = random.bits(purpose=_REAL_INDICES, count=p.batch_size, **block)
        d_words, g_words = random.bits(purpose=_LATENTS, count=p.batch_size * p.latent_dim, **block)
        shape = [BLOCK_STEPS, p.batch_size, p.latent_dim]
        return (
            random.to_integers(index_words, self._images.shape[0]),
            tf.reshape(random.to_normal(d_words), shape),
            tf.reshape(random.to_normal(g_words), shape),
        )

    def _steps(self, state, first_step, count, pixels, d_latents, g_latents):
        """Train `count` (at most BLOCK_STEPS) steps; returns the new state and float32 [BLOCK_STEPS, 3], zeros beyond `count`."""

        def body(index, state, rows):
            real = to_unit_range(pixels[index])  # (B, 28, 28, 1)
            state, row = self.step(state, first_step + index, real, d_latents[index], g_latents[index])
            return index + 1, state, tf.tensor_scatter_nd_update(rows, [[index]], [row])

        rows = tf.zeros([BLOCK_STEPS, len(HISTORY_COLUMNS)])
        loop = tf.while_loop(lambda index, *_: index < count, body, (tf.constant(0), state, rows))
        return loop[1], loop[2]

    def step(self, state, step, real, d_latents, g_latents):
        """One training step on real images float32 [B, 28, 28, 1] and two sets of latents float32 [B, latent_dim].

        Returns the new state and (G loss, D loss, D accuracy in percent) as float32 [3]; the D figures are the mean of its two
        updates, each taken before its own update.
        """
        updates_before = 2.0 * tf.cast(step, tf.float32)  # the discriminator's Adam counts both of a step's updates
        state, d_loss_real, real_logits = self.update_discriminator(state, real, losses.d_loss_real, updates_before + 1)
        fakes = self._generate(state["g"], d_latents)
        state, d_loss_fake, fake_logits = self.update_discriminator(state, fakes, losses.d_loss_fake, updates_before + 2)
        state, g_loss = self.update_generator(state, g_latents, tf.cast(step, tf.float32) + 1)
        accuracy = 100.0 * losses.accuracy(real_logits, fake_logits)
        return state, tf.stack([g_loss, (d_loss_real + d_loss_fake) / 2, accuracy])

    def update_discriminator(self, state, images, loss_of_logits, update):
        """One Adam update of the discriminator alone; returns (state, loss before the update, logits before the update)."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["d"])
            logits = self._classify(state["d"], images)
            loss = loss_of_logits(logits)
        return self._apply(state, "d", tape.gradient(loss, state["d"]), update), loss, logits

    def update_generator(self, state, latents, update):
        """One Adam update of the generator alone, through the discriminator; returns (state, loss before the update)."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["g"])
            loss = losses.g_loss(self._classify(state["d"], self._generate(state["g"], latents)))
        return self._apply(state, "g", tape.gradient(loss, state["g"]), update), loss

    def _apply(self, state, network, gradients, update):
        p = self.params
        options = p.generator_adam if network == "g" else p.discriminator_adam
        weights, first, second = adam_update(
            state[network],
            gradients,
            state[f"{network}_m"],
            state[f"{network}_v"],
            update=update,
            learning_rate=options.learning_rate,
            beta_1=options.beta_1,
            beta_2=options.beta_2,
            epsilon=options.epsilon,
        )
        return {**state, network: weights, f"{network}_m": first, f"{network}_v": second}

    def _generate(self, weights, latents):
        return self.generator.stateless_call(weights, [], latents)[0]

    def _classify(self, weights, images):
        return self._d_logits.stateless_call(weights, [], images)[0]

    def _draw_samples(self, generator_weights):
        return self._generate(generator_weights, self._sample_latents)

    def _draw_sample_latents(self):
        count = SAMPLE_COUNT * self.params.latent_dim
        words, _ = random.bits(seed=self.params.seed, purpose=_SAMPLES, first_step=0, steps=1, count=count)
        return tf.reshape(random.to_normal(words), [SAMPLE_COUNT, self.params.latent_dim])


def to_unit_range(pixels):
    """`gan.images.to_unit_range` for tensors: uint8 in [0, 255] -> float32 in [-1, 1], to the same bits."""
    return tf.cast(pixels, tf.float32) / HALF_RANGE - 1.0
