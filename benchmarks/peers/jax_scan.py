"""JAX: one step as a pure function, 100 of them in a `lax.scan` under `jit`, optax's Adam, buffers donated."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.peers import protocol as p

STEPS_A_CALL = 100


class Peer:
    def __init__(self, images):
        self._images = jnp.asarray(images.reshape(-1, 784)) / jnp.float32(127.5) - 1
        self._adam = optax.adam(p.LEARNING_RATE, p.BETA_1, p.BETA_2, p.EPSILON)
        self._block = jax.jit(self._many, donate_argnums=0)
        self._state = self._start(*p.glorot_weights(0))
        self._key = jax.random.key(0)

    def run(self, count):
        calls = -(-count // STEPS_A_CALL)
        for _ in range(calls):
            self._state, self._key, rows = self._block(self._state, self._key, self._images)
        rows.block_until_ready()
        return calls * STEPS_A_CALL

    def losses(self, draws):
        blocks = [jnp.asarray(draws[name]) for name in ("indices", "d_latents", "g_latents")]

        @jax.jit
        def train(state, images):
            return lax.scan(lambda state, row: self._step(state, images[row[0]], row[1], row[2]), state, blocks)[1]

        return train(self._start(*p.split_weights(draws)), self._images)

    def _start(self, *networks):
        weights = [[jnp.asarray(weight) for weight in network] for network in networks]
        return [(w, self._adam.init(w)) for w in weights]

    def _many(self, state, key, images):
        def body(carry, _):
            state, key = carry
            key, for_indices, for_d, for_g = jax.random.split(key, 4)
            real = images[jax.random.randint(for_indices, (p.BATCH_SIZE,), 0, len(images))]
            shape = (p.BATCH_SIZE, p.LATENT_DIM)
            state, row = self._step(state, real, jax.random.normal(for_d, shape), jax.random.normal(for_g, shape))
            return (state, key), row

        (state, key), rows = lax.scan(body, (state, key), None, length=STEPS_A_CALL)
        return state, key, rows

    def _step(self, state, real, d_latents, g_latents):
        (g, g_adam), (d, d_adam) = state
        d, d_adam, (real_loss, real_logits) = self._update(d, d_adam, functools.partial(_loss, sign=-1), real)
        fakes = _generate(g, d_latents)
        d, d_adam, (fake_loss, fake_logits) = self._update(d, d_adam, functools.partial(_loss, sign=1), fakes)
        g, g_adam, (g_loss, _) = self._update(g, g_adam, lambda g, z: _loss(d, _generate(g, z), sign=-1), g_latents)
        right = jnp.mean(real_logits > 0) + jnp.mean(fake_logits <= 0)
        return [(g, g_adam), (d, d_adam)], jnp.stack([g_loss, (real_loss + fake_loss) / 2, 50 * right])

    def _update(self, weights, adam, loss, inputs):
        (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(weights, inputs)
        updates, adam = self._adam.update(gradients, adam)
        return optax.apply_updates(weights, updates), adam, (value, logits)


def _leaky_relu(x):
    return jnp.where(x > 0, x, p.LEAKY_SLOPE * x)


def _generate(w, latents):
    h = _leaky_relu(latents @ w[0] + w[1])
    h = _leaky_relu(h @ w[2] + w[3])
    return jnp.tanh(h @ w[4] + w[5])


def _loss(w, images, *, sign):
    logits = _leaky_relu(images @ w[0] + w[1]) @ w[2] + w[3]
    return jnp.mean(jax.nn.softplus(sign * logits)), logits


if __name__ == "__main__":
    p.serve(Peer)
