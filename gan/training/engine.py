"""The training engine: many steps of a GAN's update, compiled into one function.

A step updates the discriminator and the generator in the order that the parameters name; the lecture's is (1) a discriminator
update on real images, (2) a second one on fakes, (3) a generator update through it. A block of steps is drawn, gathered and
trained in a single call; nothing returns to Python between the steps of a block. The result depends on the parameters, the
images, the labels and the step numbers alone: not on how steps are cut into blocks.
"""

import numpy as np
import tensorflow as tf

from gan.images import CLASSES, HALF_RANGE, IMAGE_SHAPE
from gan.products import with_alike_products
from gan.training import losses, threefry
from gan.training.adam import adam_update
from gan.training.clusters import cluster, latent_bounds
from gan.training.networks import build_discriminator, build_generator, logits_of
from gan.training.schedules import average_decay, rate_factor

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

    def __init__(self, params, images, labels=None):
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
            raise ValueError(f"expected images uint8 [n, 28, 28, 1] with n > 0, got {images.dtype} {list(images.shape)}")
        if (labels is not None) != params.conditional or (labels is not None and labels.shape != images.shape[:1]):
            given = "none" if labels is None else list(labels.shape)
            raise ValueError(f"expected labels [{len(images)}] if and only if conditional, got {given}")
        self.params = params
        self._cluster_bounds = None
        if params.clusters:
            labels = cluster(images, params.clusters, seed=params.seed, threads=params.threads)
            self._cluster_bounds = latent_bounds(labels)
        common = {"network": params.network, "leaky_slope": params.leaky_slope, "precision": params.compute_precision}
        self.generator = build_generator(
            latent_dim=params.latent_dim,
            units=params.generator_units,
            seed=2 * params.seed,
            conditional=params.conditional,
            cluster_bounds=self._cluster_bounds,
            **common,
        )
        self.discriminator = build_discriminator(
            units=params.discriminator_units,
            seed=2 * params.seed + 1,
            classes=CLASSES if params.conditional else params.clusters,
            **common,
        )
        xla = params.compiler == "xla"
        self._generator, self._d_logits = self.generator, logits_of(self.discriminator)
        if xla:
            self._generator, self._d_logits = with_alike_products(self._generator), with_alike_products(self._d_logits)
        self._images = tf.constant(images)
        self._labels = None if labels is None else tf.constant(labels.astype(np.int32))
        self._parts = 1 if xla else min(params.threads, params.batch_size, SAMPLE_COUNT)
        self._train_block = tf.function(self._block, autograph=False)
        self._compiled_steps = tf.function(self._steps, autograph=False, jit_compile=xla)
        self._compiled_draw = tf.function(self._draw, autograph=False, jit_compile=True)
        self._sample = tf.function(self._draw_samples, autograph=False, jit_compile=xla)
        # the zero is an argument, since XLA works out what depends on constants alone beforehand, as it rounds on this processor
        self._sample_latents = tf.function(self._draw_sample_latents, autograph=False, jit_compile=True)(tf.constant(0))
        self._sample_labels = tf.range(SAMPLE_COUNT) % CLASSES if params.conditional else None

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
        state, rows = self._train_block(state, tf.constant(first_step), tf.constant(count))
        rows = rows.numpy()[:count]
        for offset, column in zip(*np.nonzero(~np.isfinite(rows)), strict=True):
            raise NonFiniteError(f"step {first_step + offset}: {HISTORY_COLUMNS[column]} is {rows[offset, column]}")
        return state, rows

    def samples(self, state):
        """SAMPLE_COUNT images float32 [16, 28, 28, 1] in [-1, 1] from latents that are fixed for the run.

        With labels, they show 0, 1, ..., 9, 0, 1, ...
        """
        return self._sample(self._shown_weights(state)).numpy()

    def generator_weights(self, state):
        """The generator's weights in `state`, averaged if an average is kept, as a list of float32 arrays, in Keras' order."""
        return [weight.numpy() for weight in self._shown_weights(state)]

    def models(self, state):
        """The Keras models (generator, discriminator) with the weights of `state`."""
        self.generator.set_weights(self.generator_weights(state))
        self.discriminator.set_weights([weight.numpy() for weight in state["d"]])
        return self.generator, self.discriminator

    def _block(self, state, first_step, count):
        indices, d_latents, g_latents = self._compiled_draw(first_step)
        # TensorFlow's multi-threaded gather, outside XLA: bytes, a quarter of the floats' traffic
        pixels = tf.gather(self._images, indices)
        labels = None if self._labels is None else tf.gather(self._labels, indices)
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

    def step(self, state, step, real, d_latents, g_latents, labels=None):
        """One training step on real images float32 [B, 28, 28, 1] and two sets of latents float32 [B, latent_dim].

        `labels` int32 [B], for networks that are told classes, are those of the real images. Where they are digits, the fakes
        are given the same ones. Returns the new state and (G loss, D loss, D accuracy in percent) as float32 [3], each taken
        before its own update; the D figures are the mean of real and fake.
        """
        order = {"split": self._step_split, "alternating": self._step_alternating, "simultaneous": self._step_simultaneous}
        latents = (d_latents, labels), (g_latents, labels)
        state, g_loss, d_loss, accuracy = order[self.params.update_order](state, step, (real, labels), *latents)
        if self.params.ema_decay > 0:
            share = 1.0 - average_decay(step, self.params.ema_decay)
            averages = [a + (w - a) * share for a, w in zip(state["g_average"], state["g"], strict=True)]
            state = {**state, "g_average": averages}
        return state, tf.stack([g_loss, d_loss, 100.0 * accuracy])

    # below, `real`, `fakes` and `latents` are pairs: images or latents, and their labels or None

    def _step_split(self, state, step, real, d_latents, g_latents):
        updates_before = 2.0 * tf.cast(step, tf.float32)  # the discriminator's Adam counts both of a step's updates
        state, d_loss_real, real_logits, _ = self.update_discriminator(state, step, updates_before + 1, real=real)
        fakes = self.fakes(state["g"], d_latents)
        state, d_loss_fake, _, fake_logits = self.update_discriminator(state, step, updates_before + 2, fakes=fakes)
        state, g_loss = self.update_generator(state, step, g_latents)
        accuracy = losses.accuracy(self.params.loss, real_logits=real_logits, fake_logits=fake_logits)
        return state, g_loss, (d_loss_real + d_loss_fake) / 2, accuracy

    def _step_alternating(self, state, step, real, d_latents, g_latents):
        fakes = self.fakes(state["g"], d_latents)
        update = tf.cast(step, tf.float32) + 1
        state, d_loss, real_logits, fake_logits = self.update_discriminator(state, step, update, real=real, fakes=fakes)
        state, g_loss = self.update_generator(state, step, g_latents, real=real)
        accuracy = losses.accuracy(self.params.loss, real_logits=real_logits, fake_logits=fake_logits)
        return state, g_loss, d_loss / losses.d_loss_terms(self.params.loss), accuracy

    def _step_simultaneous(self, state, step, real, d_latents, g_latents):
        fakes = self.fakes(state["g"], g_latents)
        update = tf.cast(step, tf.float32) + 1
        before = state
        state, d_loss, real_logits, fake_logits = self.update_discriminator(state, step, update, real=real, fakes=fakes)
        after, g_loss = self.update_generator(before, step, g_latents, real=real)
        state = {**state, "g": after["g"], "g_m": after["g_m"], "g_v": after["g_v"]}
        accuracy = losses.accuracy(self.params.loss, real_logits=real_logits, fake_logits=fake_logits)
        return state, g_loss, d_loss / losses.d_loss_terms(self.params.loss), accuracy

    def fakes(self, weights, latents):
        """Images float32 [B, 28, 28, 1] from latents, and their labels: the given ones or, with clusters, the latents' own."""
        latents, labels = latents
        if self._cluster_bounds is None:
            return self._generate(weights, latents, labels), labels
        clusters = tf.searchsorted(tf.constant(self._cluster_bounds, tf.float32), latents[:, 0], side="right")
        return self._generate(weights, latents, None), clusters

    def update_discriminator(self, state, step, update, *, real=None, fakes=None):
        """One Adam update, its `update`-th, of the discriminator alone on real images, fakes or both.

        Returns (state, loss, real logits, fake logits), all from before the update and without the penalties.
        """
        logits = dict.fromkeys(("real_logits", "fake_logits"))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["d"])
            if real is not None:
                logits["real_logits"] = self._classify(state["d"], *real)
            if fakes is not None:
                logits["fake_logits"] = self._classify(state["d"], *fakes)
            loss = losses.d_loss(self.params.loss, **logits)
        gradients = tape.gradient(loss, state["d"])
        penalised = [(self.params.r1_gamma, real), (self.params.r2_gamma, fakes)]
        penalised = [(gamma, *shown) for gamma, shown in penalised if gamma > 0 and shown is not None]
        if penalised:
            gradients = self._add_penalties(gradients, state["d"], step, penalised)
        return self._apply(state, "d", gradients, step, update), loss, logits["real_logits"], logits["fake_logits"]

    def _add_penalties(self, gradients, weights, step, penalised):
        """`gradients` plus, every so many steps, those of the penalties on triples (gamma, images, labels), that many times."""
        interval = self.params.penalty_every_steps

        def added():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                terms = [
                    0.5
                    * gamma
                    * interval
                    * losses.squared_gradient_norm(lambda x, labels=labels: self._classify(weights, x, labels), images)
                    for gamma, images, labels in penalised
                ]
                penalty = tf.add_n(terms)
            # the last layer's bias moves no gradient by the image
            extra = tape.gradient(penalty, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [g + e for g, e in zip(gradients, extra, strict=True)]

        return added() if interval == 1 else tf.cond(step % interval == 0, added, lambda: gradients)

    def update_generator(self, state, step, latents, *, real=None):
        """One Adam update of the generator alone, through the discriminator; returns (state, loss before the update).

        Only the relativistic loss looks at the real images.
        """
        pair = self.params.loss == "relativistic"
        real_logits = self._classify(state["d"], *real) if pair else None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["g"])
            fake_logits = self._classify(state["d"], *self.fakes(state["g"], latents))
            loss = losses.g_loss(self.params.loss, real_logits=real_logits, fake_logits=fake_logits)
        return self._apply(state, "g", tape.gradient(loss, state["g"]), step, tf.cast(step, tf.float32) + 1), loss

    def _apply(self, state, network, gradients, step, update):
        p = self.params
        options = p.generator_adam if network == "g" else p.discriminator_adam
        factor = rate_factor(
            step,
            steps=p.steps,
            warm_up_steps=p.warm_up_steps,
            constant_share=p.constant_rate_share,
            final_share=p.final_rate_share,
        )
        weights, first, second = adam_update(
            state[network],
            gradients,
            state[f"{network}_m"],
            state[f"{network}_v"],
            update=update,
            learning_rate=options.learning_rate * factor,
            beta_1=options.beta_1,
            beta_2=options.beta_2,
            epsilon=options.epsilon,
            update_clip=options.update_clip,
        )
        return {**state, network: weights, f"{network}_m": first, f"{network}_v": second}

    def _shown_weights(self, state):
        return state["g_average" if self.params.ema_decay > 0 else "g"]

    def _generate(self, weights, latents, labels):
        return self._in_parts(self._generator, weights, latents, labels)

    def _classify(self, weights, images, labels):
        return self._in_parts(self._d_logits, weights, images, labels)

    def _in_parts(self, network, weights, inputs, labels):
        """`network` on a batch, part by part: without XLA, a part a thread is faster than all threads in each operation."""
        ends = [inputs.shape[0] * part // self._parts for part in range(self._parts + 1)]
        outputs = []
        for start, end in zip(ends, ends[1:], strict=False):
            part = inputs[start:end]
            outputs.append(network.stateless_call(weights, [], part if labels is None else [part, labels[start:end]])[0])
        return outputs[0] if len(outputs) == 1 else tf.concat(outputs, axis=0)

    def _draw_samples(self, generator_weights):
        return self._generate(generator_weights, self._sample_latents, self._sample_labels)

    def _draw_sample_latents(self, first_step):
        count = SAMPLE_COUNT * self.params.latent_dim
        words, _ = threefry.bits(seed=self.params.seed, purpose=_SAMPLES, first_step=first_step, steps=1, count=count)
        return tf.reshape(threefry.to_normal(words), [SAMPLE_COUNT, self.params.latent_dim])


def to_unit_range(pixels):
    """`gan.images.to_unit_range` for tensors: uint8 in [0, 255] -> float32 in [-1, 1], to the same bits."""
    return tf.cast(pixels, tf.float32) / HALF_RANGE - 1.0
