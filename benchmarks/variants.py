"""What the lecture's text leaves open, each as a small change of the engine, so that `parity.py` can ask whether it matters."""

import dataclasses
import functools

import tensorflow as tf

from gan.training.engine import Engine
from gan.training.losses import accuracy
from gan.training.step import TrainingStep

KERAS_EPSILON = 1e-7


class ClippedProbabilities(TrainingStep):
    """Cross-entropy on sigmoid outputs clipped to [1e-7, 1 - 1e-7], as Keras computes it from probabilities."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.loss = dataclasses.replace(self.loss, d_loss=_clipped_d_loss, g_loss=_clipped_g_loss)


class AdamCountsSteps(TrainingStep):
    """The discriminator's Adam counts a step's two updates as one."""

    def update_discriminator(self, state, step, update, **halves):
        return super().update_discriminator(state, step, tf.math.ceil(update / 2), **halves)


class SameLatents(TrainingStep):
    """The generator is trained on the latents that its fakes for the discriminator came from."""

    def __call__(self, state, step, real, d_latents, g_latents, labels=None):
        return super().__call__(state, step, real, d_latents, d_latents)


class FakesFirst(TrainingStep):
    """The discriminator sees the fakes before the real images."""

    def __call__(self, state, step, real, d_latents, g_latents, labels=None):
        before = 2.0 * tf.cast(step, tf.float32)
        fakes = self.fakes(state["g"], (d_latents, None))
        state, fake_loss, _, fake_logits = self.update_discriminator(state, step, before + 1, fakes=fakes)
        state, real_loss, real_logits, _ = self.update_discriminator(state, step, before + 2, real=(real, None))
        state, g_loss = self.update_generator(state, step, (g_latents, None))
        return state, tf.stack([g_loss, (real_loss + fake_loss) / 2, 100.0 * accuracy(real_logits, fake_logits)])


class JudgedAfter(TrainingStep):
    """The discriminator's loss and accuracy are taken on the same batches after both of its updates."""

    def __call__(self, state, step, real, d_latents, g_latents, labels=None):
        fakes = self.generate(state["g"], d_latents, None)
        after, row = super().__call__(state, step, real, d_latents, g_latents)
        real_logits, fake_logits = self.classify(after["d"], real, None), self.classify(after["d"], fakes, None)
        d_loss = self.loss.d_loss(real_logits, fake_logits) / 2
        return after, tf.stack([row[0], d_loss, 100.0 * accuracy(real_logits, fake_logits)])


def _with_step(step_class):
    return functools.partial(Engine, step_class=step_class)


def _clipped_d_loss(real_logits, fake_logits):
    halves = [] if real_logits is None else [_probability(real_logits)]
    halves += [] if fake_logits is None else [1 - _probability(fake_logits)]
    return tf.add_n([-tf.reduce_mean(tf.math.log(half)) for half in halves])


def _clipped_g_loss(real_logits, fake_logits):
    return -tf.reduce_mean(tf.math.log(_probability(fake_logits)))


def _probability(logits):
    return tf.clip_by_value(tf.sigmoid(logits), KERAS_EPSILON, 1 - KERAS_EPSILON)


# name -> (what makes an engine from parameters and images, changed parameters)
VARIANTS = {
    "as configured": (Engine, {}),
    "probabilities clipped at 1e-7 instead of logits": (_with_step(ClippedProbabilities), {}),
    "D's Adam counts steps, not updates": (_with_step(AdamCountsSteps), {}),
    "G trained on the latents of D's fakes": (_with_step(SameLatents), {}),
    "fakes before real images": (_with_step(FakesFirst), {}),
    "one D update on both halves": (Engine, {"update_order": "alternating"}),
    "D judged after its updates": (_with_step(JudgedAfter), {}),
    "real batches without replacement": (Engine, {"sampling": "without_replacement"}),
    "LeakyReLU slope 0.3 (Keras' default)": (Engine, {"leaky_slope": 0.3}),
    "Adam beta_1 0.5": (
        Engine,
        {
            name: {"learning_rate": 0.001, "beta_1": 0.5, "beta_2": 0.999, "epsilon": 1e-7, "update_clip": 0.0}
            for name in ("generator_adam", "discriminator_adam")
        },
    ),
}
