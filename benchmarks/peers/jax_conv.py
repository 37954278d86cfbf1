"""JAX for sets of class-conditional convolutions: a step as a pure function under `jit`, buffers donated.

A word on the command line: `bfloat16` (else float32).
"""

import sys

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peers import conv_protocol as p


class Peer:
    def __init__(self, images, labels, set_, *, bfloat16):
        self._set, self._dtype = set_, jnp.bfloat16 if bfloat16 else jnp.float32
        self._images, self._labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
        self._drawn = jax.jit(self._draw_and_train, donate_argnums=0)
        self._given = jax.jit(self._step)
        self._state = self._start(*p.he_weights(set_))
        self._key, self._number = jax.random.key(0), 0

    def run(self, count):
        for _ in range(count):
            self._state, self._key, row = self._drawn(
                self._state, self._key, self._images, self._labels, **self._shares(self._number)
            )
            self._number += 1
        row.block_until_ready()
        return count

    def losses(self, draws):
        state, rows = self._start(*p.split_weights(draws)), []
        blocks = zip(draws["indices"], draws["d_latents"], draws["g_latents"], strict=True)
        for number, (indices, *latents) in enumerate(blocks):
            state, row = self._given(state, self._images[indices], self._labels[indices], *latents, **self._shares(number))
            rows.append(row)
        return rows

    def _shares(self, step):
        return {"factor": p.rate_factor(self._set, step), "decay": p.average_decay(self._set, step)}

    def _start(self, generator, discriminator):
        g, d = ([jnp.asarray(weight) for weight in network] for network in (generator, discriminator))
        moments = [[jnp.zeros_like(weight) for weight in network] for network in (g, g, d, d)]
        average = [jnp.array(weight) for weight in generator]  # donated like the rest, so with buffers of its own
        return {"g": g, "d": d, "g_adam": moments[:2], "d_adam": moments[2:], "average": average, "step": jnp.int32(0)}

    def _draw_and_train(self, state, key, images, labels, *, factor, decay):
        key, for_indices, for_d, for_g = jax.random.split(key, 4)
        indices = jax.random.randint(for_indices, (self._set.batch_size,), 0, len(images))
        shape = (self._set.batch_size, self._set.latent_dim)
        d_latents, g_latents = jax.random.normal(for_d, shape), jax.random.normal(for_g, shape)
        state, row = self._step(state, images[indices], labels[indices], d_latents, g_latents, factor=factor, decay=decay)
        return state, key, row

    def _step(self, state, pixels, labels, d_latents, g_latents, *, factor, decay):
        s, step = self._set, state["step"]
        real = pixels.astype(jnp.float32) / 127.5 - 1
        fakes = self._generate(state["g"], d_latents, labels)

        def d_loss_of(d):
            logits = self._classify(d, jnp.concatenate([real, fakes]), jnp.concatenate([labels, labels]))
            real_logits, fake_logits = jnp.split(logits, 2)
            return jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits)), (real_logits, fake_logits)

        def penalty_of(d):
            gradient = jax.grad(lambda images: jnp.sum(self._classify(d, images, labels)))(real)
            return 0.5 * s.r1_gamma * s.penalty_every_steps * jnp.mean(jnp.sum(gradient**2, (1, 2, 3)))

        def g_loss_of(g, d):
            return jnp.mean(jax.nn.softplus(-self._classify(d, self._generate(g, g_latents, labels), labels)))

        (d_loss, (real_logits, fake_logits)), gradients = jax.value_and_grad(d_loss_of, has_aux=True)(state["d"])
        if s.r1_gamma:
            nothing = [jnp.zeros_like(weight) for weight in state["d"]]
            extra = lax.cond(step % s.penalty_every_steps == 0, jax.grad(penalty_of), lambda _: nothing, state["d"])
            gradients = [a + b for a, b in zip(gradients, extra, strict=True)]
        d, d_adam = self._adam(state["d"], gradients, state["d_adam"], s.discriminator_adam, factor, step)
        g_loss, gradients = jax.value_and_grad(g_loss_of)(state["g"], d)
        g, g_adam = self._adam(state["g"], gradients, state["g_adam"], s.generator_adam, factor, step)
        average = [a + (weight - a) * (1 - decay) for a, weight in zip(state["average"], g, strict=True)]
        right = jnp.mean(real_logits > 0) + jnp.mean(fake_logits <= 0)
        state = {"g": g, "d": d, "g_adam": g_adam, "d_adam": d_adam, "average": average, "step": step + 1}
        return state, jnp.stack([g_loss, d_loss / 2, 50 * right])

    def _adam(self, weights, gradients, moments, o, factor, step):
        rate, update = o.learning_rate * factor, step + 1
        first = [m + (g - m) * (1 - o.beta_1) for m, g in zip(moments[0], gradients, strict=True)]
        second = [v + (g * g - v) * (1 - o.beta_2) for v, g in zip(moments[1], gradients, strict=True)]
        corrected = rate * jnp.sqrt(1 - jnp.float32(o.beta_2) ** update) / (1 - jnp.float32(o.beta_1) ** update)
        changes = [corrected * m / (jnp.sqrt(v) + o.epsilon) for m, v in zip(first, second, strict=True)]
        if o.update_clip:
            sizes = [jnp.sqrt(jnp.mean(change**2)) + p.TINY for change in changes]
            changes = [c * jnp.minimum(1, o.update_clip * rate / size) for c, size in zip(changes, sizes, strict=True)]
        return [weight - change for weight, change in zip(weights, changes, strict=True)], [first, second]

    def _generate(self, w, latents, labels):
        coarse, _ = self._set.generator_units
        x = jnp.concatenate([latents, p.ONE_HOT_SCALE * jax.nn.one_hot(labels, p.CLASSES)], 1)
        x = self._leaky(self._dense(x, w[0], w[1])).reshape(-1, 7, 7, coarse)
        x = self._leaky(self._convolution(x, w[2], w[3]))
        x = self._leaky(_depth_to_space(self._convolution(x, w[4], w[5])))
        x = self._leaky(self._convolution(x, w[6], w[7]))
        return jnp.tanh(_depth_to_space(self._convolution(x, w[8], w[9])).astype(jnp.float32))

    def _classify(self, w, images, labels):
        x = self._leaky(self._convolution(_space_to_depth(images), w[0], w[1]))
        x = self._leaky(self._convolution(x, w[2], w[3], stride=2))
        x = self._leaky(self._dense(x.reshape(len(x), -1), w[4], w[5])).astype(jnp.float32)
        return jnp.take_along_axis(x @ w[6] + w[7], labels[:, None], axis=1)

    def _leaky(self, x):
        return jnp.where(x > 0, x, jnp.asarray(self._set.leaky_slope, x.dtype) * x)

    def _dense(self, x, kernel, bias):
        return x.astype(self._dtype) @ kernel.astype(self._dtype) + bias.astype(self._dtype)

    def _convolution(self, x, kernel, bias, *, stride=1):
        kernel, x = kernel.astype(self._dtype), x.astype(self._dtype)
        x = lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x + bias.astype(self._dtype)


def _depth_to_space(x):
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * height, 2 * width, channels // 4)


def _space_to_depth(x):
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // 2, width // 2, 4 * channels)


if __name__ == "__main__":
    p.serve(lambda images, labels, set_: Peer(images, labels, set_, bfloat16="bfloat16" in sys.argv[3:]))
