"""The published loop (`predict` and three `train_on_batch`), with the one change that it needs to train under today's Keras.

The published script compiles the discriminator, sets `discriminator.trainable = False`, and compiles a combined model of
generator and discriminator. Under Keras 2 that froze it in the combined model only, since `compile` had already noted what the
discriminator's own `train_on_batch` would train. Keras 3 looks at `trainable` when the training function is traced, which is at
the first batch: by then the flag is off, and the discriminator is frozen for its own training as well (Keras warns that it has
no trainable weights).

So `trainable` is left alone here, and the combined model holds the discriminator as a function rather than as a layer of its
own: the same weights, through which gradients flow to the generator, but not among the combined model's trainable weights.
"""

import numpy as np

from benchmarks.peers import protocol as p


class Peer:
    def __init__(self, images, seed=0):
        from gan.images import to_unit_range
        from gan.runtime import start_tensorflow

        start_tensorflow(2)
        self._images = to_unit_range(images)
        self._rng = np.random.default_rng(seed)
        self._start()

    def run(self, count):
        for _ in range(count):
            self.train_step()
        return count

    def train_step(self):
        """One step on random numbers of its own; returns (G loss, D loss, D accuracy in percent)."""
        indices = self._rng.integers(0, len(self._images), p.BATCH_SIZE)
        shape = (p.BATCH_SIZE, p.LATENT_DIM)
        return self._step(indices, self._rng.normal(0, 1, shape), self._rng.normal(0, 1, shape))

    def losses(self, draws):
        self._start()
        generator, discriminator = p.split_weights(draws)
        self._generator.set_weights(generator)
        self._discriminator.set_weights(discriminator)
        return [self._step(*row) for row in zip(draws["indices"], draws["d_latents"], draws["g_latents"], strict=True)]

    def _start(self):
        from keras import Input, Sequential, optimizers
        from keras.layers import Dense, Flatten, Lambda, LeakyReLU, Reshape

        slope = p.LEAKY_SLOPE
        self._generator = Sequential(
            [
                Input((p.LATENT_DIM,)),
                Dense(128),
                LeakyReLU(slope),
                Dense(128),
                LeakyReLU(slope),
                Dense(784, activation="tanh"),
                Reshape((28, 28, 1)),
            ]
        )
        self._discriminator = Sequential(
            [Input((28, 28, 1)), Flatten(), Dense(128), LeakyReLU(slope), Dense(1, activation="sigmoid")]
        )
        self._discriminator.compile(loss="binary_crossentropy", optimizer=optimizers.Adam(), metrics=["accuracy"])
        through = Lambda(lambda images: self._discriminator(images), output_shape=(1,))
        self._combined = Sequential([Input((p.LATENT_DIM,)), self._generator, through])
        self._combined.compile(loss="binary_crossentropy", optimizer=optimizers.Adam())

    def _step(self, indices, d_latents, g_latents):
        ones, zeros = np.ones((p.BATCH_SIZE, 1)), np.zeros((p.BATCH_SIZE, 1))
        real_loss, real_accuracy = self._discriminator.train_on_batch(self._images[indices], ones)
        fakes = self._generator.predict(d_latents, batch_size=p.BATCH_SIZE, verbose=0)
        fake_loss, fake_accuracy = self._discriminator.train_on_batch(fakes, zeros)
        g_loss = self._combined.train_on_batch(g_latents, ones)
        return [_scalar(g_loss), (real_loss + fake_loss) / 2, 50 * (real_accuracy + fake_accuracy)]


def _scalar(logs):
    """`train_on_batch` of a model without metrics gives a number in some releases of Keras and a list of one in others."""
    return float(np.ravel(logs)[0])


if __name__ == "__main__":
    p.serve(Peer)
