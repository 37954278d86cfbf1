"""Two yardsticks, no peers: a step's matrix products alone under XLA, and with `peak`, one 2048 x 2048 x 2048 product a step."""

import sys

import numpy as np

from benchmarks.peers import protocol as p

PEAK_SIZE = 2048
BLOCK_STEPS = 25
_DISTINCT = 5  # as many different inputs as steps with inputs of their own: XLA can hoist no product out of the loop


class Peer:
    def __init__(self, set_, *, peak):
        from gan.runtime import start_tensorflow

        tf = start_tensorflow(set_.threads, instructions=set_.instructions)
        rng = np.random.default_rng(0)

        def normal(*shape):
            return tf.constant(rng.normal(0, 1 / np.sqrt(shape[-2]), shape).astype(np.float32))

        if peak:
            square = normal(PEAK_SIZE, PEAK_SIZE)
            self._block_steps = 1
            product = tf.function(lambda: tf.matmul(square, square))
            self._run = lambda: product()[0, 0].numpy()
            return
        # Three copies of the discriminator: in a real step its weights differ between its three uses, so no product is shared.
        arguments = (
            [normal(100, 128), normal(128, 128), normal(128, 784)],
            [[normal(784, 128), normal(128, 1)] for _ in range(3)],
            normal(_DISTINCT, p.BATCH_SIZE, 784),
            normal(_DISTINCT, p.BATCH_SIZE, 100),
            normal(_DISTINCT, p.BATCH_SIZE, 100),
        )
        products = tf.function(_products, jit_compile=True)
        self._block_steps = BLOCK_STEPS
        self._run = lambda: products(*arguments)[-1].numpy()

    def run(self, count):
        calls = -(-count // self._block_steps)
        for _ in range(calls):
            self._run()
        return calls * self._block_steps

    def losses(self, draws):
        return None


def _products(generator, discriminators, real, d_latents, g_latents):
    """BLOCK_STEPS times all products of a step, linear networks in place of the real ones; returns the last step's gradients."""
    import tensorflow as tf

    def gradient(inputs, outputs_grad):
        return tf.matmul(inputs, outputs_grad, transpose_a=True)

    def back(outputs_grad, kernel):
        return tf.matmul(outputs_grad, kernel, transpose_b=True)

    def train_discriminator(kernels, images):
        hidden = images @ kernels[0]
        logits = hidden @ kernels[1]
        return [gradient(images, back(logits, kernels[1])), gradient(hidden, logits)]

    def body(index, *_):
        i = index % _DISTINCT
        real_grads = train_discriminator(discriminators[0], real[i])
        fakes = d_latents[i] @ generator[0] @ generator[1] @ generator[2]
        fake_grads = train_discriminator(discriminators[1], fakes)
        first = g_latents[i] @ generator[0]
        second = first @ generator[1]
        d_hidden = second @ generator[2] @ discriminators[2][0]
        images_grad = back(back(d_hidden @ discriminators[2][1], discriminators[2][1]), discriminators[2][0])
        second_grad = back(images_grad, generator[2])
        first_grad = back(second_grad, generator[1])
        g_grads = [gradient(g_latents[i], first_grad), gradient(first, second_grad), gradient(second, images_grad)]
        return index + 1, *real_grads, *fake_grads, *g_grads

    shapes = [(784, 128), (128, 1), (784, 128), (128, 1), (100, 128), (128, 128), (128, 784)]
    return tf.while_loop(lambda index, *_: index < BLOCK_STEPS, body, (tf.constant(0), *map(tf.zeros, shapes)))


if __name__ == "__main__":
    p.serve(lambda _: Peer(p.read_set(sys.argv[2]), peak=sys.argv[-1] == "peak"))
