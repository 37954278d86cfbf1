"""NumPy by hand: forward and backward passes written out, float32 throughout, every large array allocated once."""

import numpy as np

from benchmarks.peers import protocol as p


class Dense:
    """One layer with its buffers: `forward` keeps what `backward` needs, which leaves gradients in kernel_grad and bias_grad."""

    def __init__(self, kernel, bias, activation, adam):
        rows, columns = kernel.shape
        self.kernel, self.bias, self.activation = kernel.copy(), bias.copy(), activation
        self.out = np.empty((p.BATCH_SIZE, columns), np.float32)
        self._slope = np.empty_like(self.out)
        self._input_grad = np.empty((p.BATCH_SIZE, rows), np.float32)
        self.kernel_grad, self.bias_grad = np.empty_like(kernel), np.empty_like(bias)
        self._adam = [adam(self.kernel, self.kernel_grad), adam(self.bias, self.bias_grad)]

    def forward(self, x):
        self._x = x
        np.matmul(x, self.kernel, out=self.out)
        self.out += self.bias
        if self.activation == "leaky_relu":
            np.multiply(self.out, np.float32(p.LEAKY_SLOPE), out=self._slope)
            np.maximum(self.out, self._slope, out=self.out)  # the same as LeakyReLU for a slope below one
        elif self.activation == "tanh":
            np.tanh(self.out, out=self.out)
        return self.out

    def backward(self, out_grad, *, want_input, want_weights):
        """Turn the gradient of `out` (overwritten) into those of the weights and the input."""
        if self.activation == "leaky_relu":
            np.multiply(out_grad, np.float32(p.LEAKY_SLOPE), out=self._slope)
            np.copyto(out_grad, self._slope, where=self.out < 0)
        elif self.activation == "tanh":
            np.multiply(self.out, self.out, out=self._slope)
            np.subtract(np.float32(1), self._slope, out=self._slope)
            out_grad *= self._slope
        if want_weights:
            np.matmul(self._x.T, out_grad, out=self.kernel_grad)
            np.sum(out_grad, axis=0, out=self.bias_grad)
        return np.matmul(out_grad, self.kernel.T, out=self._input_grad) if want_input else None

    def update(self):
        for adam in self._adam:
            adam.update()


class Adam:
    """Keras' Adam on one array, in place."""

    def __init__(self, weight, gradient):
        self._weight, self._gradient = weight, gradient
        self._first, self._second = np.zeros_like(weight), np.zeros_like(weight)
        self._work, self._root = np.empty_like(weight), np.empty_like(weight)
        self._updates = 0

    def update(self):
        self._updates += 1
        rate = p.LEARNING_RATE * np.sqrt(1 - p.BETA_2**self._updates) / (1 - p.BETA_1**self._updates)
        np.subtract(self._gradient, self._first, out=self._work)
        self._work *= np.float32(1 - p.BETA_1)
        self._first += self._work
        np.multiply(self._gradient, self._gradient, out=self._work)
        self._work -= self._second
        self._work *= np.float32(1 - p.BETA_2)
        self._second += self._work
        np.sqrt(self._second, out=self._root)
        self._root += np.float32(p.EPSILON)
        np.divide(self._first, self._root, out=self._work)
        self._work *= np.float32(rate)
        self._weight -= self._work


class Peer:
    def __init__(self, images):
        self._images = images.reshape(-1, 784).astype(np.float32) / np.float32(127.5) - np.float32(1)
        self._rng = np.random.Generator(np.random.SFC64(0))
        self._real = np.empty((p.BATCH_SIZE, 784), np.float32)
        self._latents = np.empty((p.BATCH_SIZE, p.LATENT_DIM), np.float32)
        self._start(*p.glorot_weights(0))

    def run(self, count):
        for _ in range(count):
            self._step(self._rng.integers(0, len(self._images), p.BATCH_SIZE), self._draw_latents, self._draw_latents)
        return count

    def losses(self, draws):
        self._start(*p.split_weights(draws))
        latents = zip(draws["indices"], draws["d_latents"], draws["g_latents"], strict=True)
        return [self._step(indices, lambda z=d: z, lambda z=g: z) for indices, d, g in latents]

    def _start(self, generator, discriminator):
        layers = zip(generator[::2], generator[1::2], ("leaky_relu", "leaky_relu", "tanh"), strict=True)
        self._generator = [Dense(kernel, bias, activation, Adam) for kernel, bias, activation in layers]
        layers = zip(discriminator[::2], discriminator[1::2], ("leaky_relu", None), strict=True)
        self._discriminator = [Dense(kernel, bias, activation, Adam) for kernel, bias, activation in layers]

    def _draw_latents(self):
        return self._rng.standard_normal(out=self._latents, dtype=np.float32)

    def _step(self, indices, d_latents, g_latents):
        np.take(self._images, indices, axis=0, out=self._real)
        real_loss, real_right = self._train_discriminator(self._real, sign=-1)
        fakes = _forward(self._generator, d_latents())
        fake_loss, fake_right = self._train_discriminator(fakes, sign=1)

        logits = _forward(self._discriminator, _forward(self._generator, g_latents()))
        g_loss = _softplus(-logits)
        gradient = -_sigmoid(-logits) / np.float32(p.BATCH_SIZE)
        gradient = _backward(self._discriminator, gradient, want_input=True, want_weights=False)
        _backward(self._generator, gradient, want_input=False, want_weights=True)
        for layer in self._generator:
            layer.update()
        return g_loss, (real_loss + fake_loss) / 2, 50 * (real_right + fake_right)

    def _train_discriminator(self, images, *, sign):
        """One update; sign is -1 for real images and 1 for fakes. Returns the loss before it and the share judged rightly."""
        logits = _forward(self._discriminator, images)
        loss = _softplus(sign * logits)
        right = np.mean(logits > 0) if sign < 0 else np.mean(logits <= 0)
        gradient = sign * _sigmoid(sign * logits) / np.float32(p.BATCH_SIZE)
        _backward(self._discriminator, gradient, want_input=False, want_weights=True)
        for layer in self._discriminator:
            layer.update()
        return loss, right


def _forward(layers, x):
    for layer in layers:
        x = layer.forward(x)
    return x


def _backward(layers, gradient, *, want_input, want_weights):
    for layer in reversed(layers):
        gradient = layer.backward(gradient, want_input=want_input or layer is not layers[0], want_weights=want_weights)
    return gradient


def _softplus(x):
    return float(np.mean(np.logaddexp(np.float32(0), x)))


def _sigmoid(x):
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


if __name__ == "__main__":
    p.serve(Peer)
