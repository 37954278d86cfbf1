"""One training step of a GAN: which network is updated when, on what, by which loss.

The three orders of updates come first; each is a few lines. Everything is a pure function of tensors: a step takes the state, a
dict of lists of float32 tensors, and returns a new one. Images are float32 [B, 28, 28, 1] in [-1, 1] or, for convolutional
networks, the same in squares: [B, 14, 14, 4] (`gan.training.networks.on_squares`).

    g, d                the weights of generator and discriminator, in Keras' order
    g_m, g_v, d_m, d_v  their Adam's first and second moments, of the same shapes
    g_average           the moving average of `g`, if the parameters ask for one
"""

import tensorflow as tf

from gan.training.adam import adam_update
from gan.training.losses import LOSSES, squared_gradient_norm
from gan.training.schedules import average_decay, rate_factor


class TrainingStep:
    """Calls train one step; the parts are public for tests and for variants that change one of them.

    params: TrainParams; generator and d_logits: Keras models, the second from images to logits; parts: how many pieces a batch
    is computed in.
    """

    def __init__(self, params, generator, d_logits, *, parts=1):
        self.params = params
        self.loss = LOSSES[params.loss]
        self._generator = generator
        self._d_logits = d_logits
        self._parts = parts

    def __call__(self, state, step, real, d_latents, g_latents, labels=None):
        """Train step number `step` (int32 scalar): (new state, float32 [3]: G loss, D loss, D accuracy in percent).

        real: images; d_latents, g_latents: float32 [B, latent_dim], for the two networks' updates;
        labels: int32 [B], those of the real images, for networks that are told digits or clusters. Fakes have the same; where
        they are clusters, the latents must lie in them (`gan.training.clusters.latents_in`). Each figure is taken before its own
        update; D's are the mean of real and fake.
        """
        orders = {"split": self._split, "alternating": self._alternating, "simultaneous": self._simultaneous}
        update = orders[self.params.update_order]
        state, g_loss, d_loss, accuracy = update(state, step, (real, labels), (d_latents, labels), (g_latents, labels))
        if self.params.ema_decay > 0:
            share = 1.0 - average_decay(step, self.params.ema_decay, self.params.ema_gamma)
            averages = [a + (w - a) * share for a, w in zip(state["g_average"], state["g"], strict=True)]
            state = {**state, "g_average": averages}
        return state, tf.stack([g_loss, d_loss, 100.0 * accuracy])

    # below, `real`, `fakes` and `latents` are pairs: images or latents, and their labels or None

    def _split(self, state, step, real, d_latents, g_latents):
        """The lecture's order: D on real images, D on fakes, G through D."""
        updates_before = 2.0 * tf.cast(step, tf.float32)  # the discriminator's Adam counts both of a step's updates
        state, d_loss_real, real_logits, _ = self.update_discriminator(state, step, updates_before + 1, real=real)
        fakes = self.fakes(state["g"], d_latents)
        state, d_loss_fake, _, fake_logits = self.update_discriminator(state, step, updates_before + 2, fakes=fakes)
        state, g_loss = self.update_generator(state, step, g_latents)
        return state, g_loss, (d_loss_real + d_loss_fake) / 2, self.loss.accuracy(real_logits, fake_logits)

    def _alternating(self, state, step, real, d_latents, g_latents):
        """D on real images and fakes at once, then G through the new D."""
        fakes = self.fakes(state["g"], d_latents)
        update = tf.cast(step, tf.float32) + 1
        state, d_loss, real_logits, fake_logits = self.update_discriminator(state, step, update, real=real, fakes=fakes)
        state, g_loss = self.update_generator(state, step, g_latents, real=real)
        return state, g_loss, d_loss / self.loss.d_terms, self.loss.accuracy(real_logits, fake_logits)

    def _simultaneous(self, state, step, real, d_latents, g_latents):
        """D and G from the same weights and the same fakes."""
        fakes = self.fakes(state["g"], g_latents)
        update = tf.cast(step, tf.float32) + 1
        before = state
        state, d_loss, real_logits, fake_logits = self.update_discriminator(state, step, update, real=real, fakes=fakes)
        after, g_loss = self.update_generator(before, step, g_latents, real=real)
        state = {**state, "g": after["g"], "g_m": after["g_m"], "g_v": after["g_v"]}
        return state, g_loss, d_loss / self.loss.d_terms, self.loss.accuracy(real_logits, fake_logits)

    def update_discriminator(self, state, step, update, *, real=None, fakes=None):
        """One Adam update, its `update`-th, of the discriminator alone on real images, fakes or both.

        Returns (state, loss, real logits, fake logits), all from before the update and without the penalties.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["d"])
            real_logits = None if real is None else self.classify(state["d"], *real)  # [B, 1]
            fake_logits = None if fakes is None else self.classify(state["d"], *fakes)  # [B, 1]
            loss = self.loss.d_loss(real_logits, fake_logits)
        gradients = tape.gradient(loss, state["d"])
        penalised = [(self.params.r1_gamma, real), (self.params.r2_gamma, fakes)]
        penalised = [(gamma, *shown) for gamma, shown in penalised if gamma > 0 and shown is not None]
        if penalised:
            gradients = self._add_penalties(gradients, state["d"], step, penalised)
        return self._apply(state, "d", gradients, step, update), loss, real_logits, fake_logits

    def update_generator(self, state, step, latents, *, real=None):
        """One Adam update of the generator alone, through the discriminator; returns (state, loss before the update).

        Only a paired loss looks at the real images.
        """
        real_logits = self.classify(state["d"], *real) if self.loss.paired else None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state["g"])
            fake_logits = self.classify(state["d"], *self.fakes(state["g"], latents))
            loss = self.loss.g_loss(real_logits, fake_logits)
        return self._apply(state, "g", tape.gradient(loss, state["g"]), step, tf.cast(step, tf.float32) + 1), loss

    def fakes(self, weights, latents):
        """Images from latents, and their labels; a generator reads its clusters off the latents."""
        latents, labels = latents
        return self.generate(weights, latents, labels if self.params.conditional else None), labels

    def generate(self, weights, latents, labels):
        """Images from latents float32 [B, latent_dim] and labels int32 [B] or None."""
        return self._in_parts(self._generator, weights, latents, labels)

    def classify(self, weights, images, labels):
        """The discriminator's logits float32 [B, 1] for images and labels int32 [B] or None."""
        return self._in_parts(self._d_logits, weights, images, labels)

    def _add_penalties(self, gradients, weights, step, penalised):
        """`gradients` plus, every so many steps, those of the penalties on triples (gamma, images, labels), that many times."""
        interval = self.params.penalty_every_steps

        def logits_under(labels):
            return lambda images: self.classify(weights, images, labels)

        def added():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                terms = [
                    0.5 * gamma * interval * squared_gradient_norm(logits_under(labels), images)
                    for gamma, images, labels in penalised
                ]
                penalty = tf.add_n(terms)
            # the last layer's bias moves no gradient by the image
            extra = tape.gradient(penalty, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [g + e for g, e in zip(gradients, extra, strict=True)]

        return added() if interval == 1 else tf.cond(step % interval == 0, added, lambda: gradients)

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

    def _in_parts(self, network, weights, inputs, labels):
        """`network` on a batch, part by part: without XLA, more operations are faster than more threads in each."""
        ends = [inputs.shape[0] * part // self._parts for part in range(self._parts + 1)]
        outputs = []
        for start, end in zip(ends, ends[1:], strict=False):
            part = inputs[start:end]
            outputs.append(network.stateless_call(weights, [], part if labels is None else [part, labels[start:end]])[0])
        return outputs[0] if len(outputs) == 1 else tf.concat(outputs, axis=0)
