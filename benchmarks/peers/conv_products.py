"""A yardstick, no peer: a step's convolutions and matrix products alone, in the set's precision and by the engine's kernels.

Linear networks of the same shapes, without biases, activations, losses, penalties and updates, whose gradients are taken as in
a step. The batch is computed in as many parts as the engine computes it in.
"""

import sys

import numpy as np

from benchmarks.peers import conv_protocol as p
from benchmarks.peers.protocol import read_set, serve

BLOCK_STEPS = 25


class Peer:
    def __init__(self, set_):
        from gan.runtime import start_tensorflow

        tf = start_tensorflow(set_.threads, threads_an_operation=1, instructions=set_.instructions)
        self._tf, self._set = tf, set_
        dtype = {"bfloat16": tf.bfloat16, "float32": tf.float32}[set_.compute_precision]
        generator, discriminator = p.he_weights(set_)
        g = [tf.constant(kernel, dtype) for kernel in generator[::2]]
        # in a real step the discriminator's weights differ between its two uses, so no product is shared
        before, after = ([tf.constant(kernel * scale, dtype) for kernel in discriminator[::2]] for scale in (1.0, 1.01))
        random = np.random.default_rng(0)
        latents = [random.normal(size=(set_.batch_size, len(generator[0]))).astype(np.float32) for _ in range(2)]
        real = random.normal(size=(set_.batch_size, 28, 28, 1)).astype(np.float32)
        block = tf.function(self._block, autograph=False)
        arguments = (g, before, after, tf.constant(real, dtype), *(tf.constant(latent, dtype) for latent in latents))
        self._run = lambda: block(*arguments)[-1].numpy()

    def run(self, count):
        calls = -(-count // BLOCK_STEPS)
        for _ in range(calls):
            self._run()
        return calls * BLOCK_STEPS

    def losses(self, draws):
        return None

    def _block(self, g, before, after, real, d_latents, g_latents):
        tf = self._tf
        body = self._step(g, before, after, real, d_latents, g_latents)
        first = [tf.zeros_like(weight) for weight in (*before, *g)]
        return tf.while_loop(lambda index, *_: index < BLOCK_STEPS, body, (tf.constant(0), *first))[1:]

    def _step(self, g, before, after, real, d_latents, g_latents):
        tf, parts, batch = self._tf, max(1, self._set.threads // 2), self._set.batch_size
        rows_of = [slice(part * batch // parts, (part + 1) * batch // parts) for part in range(parts)]

        def body(index, *_):
            # what depends on the index cannot be taken out of the loop
            scale = tf.cast(index + 1, real.dtype)
            d_outputs, g_outputs = [], []
            with tf.GradientTape(watch_accessed_variables=False) as d_tape:
                d_tape.watch(before)
                for rows in rows_of:
                    fakes = tf.stop_gradient(self._generate(g, d_latents[rows] * scale))
                    d_outputs += [self._classify(before, real[rows] * scale), self._classify(before, fakes)]
            with tf.GradientTape(watch_accessed_variables=False) as g_tape:
                g_tape.watch(g)
                for rows in rows_of:
                    g_outputs.append(self._classify(after, self._generate(g, g_latents[rows] * scale)))
            return index + 1, *d_tape.gradient(d_outputs, before), *g_tape.gradient(g_outputs, g)

        return body

    def _generate(self, w, latents):
        tf, (coarse, _) = self._tf, self._set.generator_units
        x = tf.reshape(latents @ w[0], [-1, 7, 7, coarse])
        x = tf.nn.depth_to_space(self._convolution(self._convolution(x, w[1]), w[2]), 2)
        return tf.nn.depth_to_space(self._convolution(self._convolution(x, w[3]), w[4]), 2)

    def _classify(self, w, images):
        tf = self._tf
        x = self._convolution(self._convolution(tf.nn.space_to_depth(images, 2), w[0]), w[1], stride=2)
        return tf.reshape(x, [x.shape[0], -1]) @ w[2] @ w[3]

    def _convolution(self, x, kernel, stride=1):
        return self._tf.nn.conv2d(x, kernel, stride, "SAME")


if __name__ == "__main__":
    serve(lambda _: Peer(read_set(sys.argv[2])))
