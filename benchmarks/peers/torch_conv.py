"""PyTorch for sets of class-conditional convolutions: modules, autocast, Adam with PyTorch's fused lists.

Words on the command line: `bfloat16` (else float32), `channels_last` (else PyTorch's own order), `compile`. The gradient penalty
stays out of torch.compile, which has no second derivatives.
"""

import math
import sys

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import conv_protocol as p


class Generator(nn.Module):
    def __init__(self, set_):
        super().__init__()
        self._coarse, fine = set_.generator_units
        self.dense = nn.Linear(set_.latent_dim + p.CLASSES, 49 * self._coarse)
        self.first = nn.Conv2d(self._coarse, self._coarse, 3, padding=1)
        self.second = nn.Conv2d(self._coarse, 4 * fine, 3, padding=1)
        self.third = nn.Conv2d(fine, fine, 3, padding=1)
        self.last = nn.Conv2d(fine, 4, 3, padding=1)
        self._leaky = nn.LeakyReLU(set_.leaky_slope)
        self.memory_format = torch.contiguous_format

    def forward(self, latents, labels):
        x = self.dense(torch.cat([latents, p.ONE_HOT_SCALE * functional.one_hot(labels, p.CLASSES)], 1))
        x = x.view(-1, 7, 7, self._coarse).permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
        x = self._leaky(self.first(self._leaky(x)))
        x = self._leaky(functional.pixel_shuffle(self.second(x), 2))
        x = self.last(self._leaky(self.third(x)))
        return torch.tanh(functional.pixel_shuffle(x, 2).float())


class Discriminator(nn.Module):
    def __init__(self, set_):
        super().__init__()
        fine, coarse, width = set_.discriminator_units
        self.first = nn.Conv2d(4, fine, 3, padding=1)
        self.second = nn.Conv2d(fine, coarse, 4, stride=2, padding=1)
        self.dense = nn.Linear(49 * coarse, width)
        self.last = nn.Linear(width, p.CLASSES)
        self._leaky = nn.LeakyReLU(set_.leaky_slope)

    def forward(self, images, labels):
        x = self._leaky(self.first(functional.pixel_unshuffle(images, 2)))
        x = self._leaky(self.second(x))
        x = self._leaky(self.dense(x.permute(0, 2, 3, 1).flatten(1)))
        with torch.autocast("cpu", enabled=False):
            return self.last(x.float()).gather(1, labels[:, None])


class Adam:
    """Adam with the set's clipping of updates, a few operations on all tensors at once."""

    def __init__(self, weights, options):
        self._weights, self._options = weights, options
        self._first, self._second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        self._roots = [math.sqrt(weight.numel()) for weight in weights]
        self._updates = 0

    @torch.no_grad()
    def step(self, gradients, factor):
        o = self._options
        self._updates += 1
        rate = o.learning_rate * factor
        torch._foreach_lerp_(self._first, gradients, 1 - o.beta_1)
        torch._foreach_mul_(self._second, o.beta_2)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - o.beta_2)
        below = torch._foreach_sqrt(self._second)
        torch._foreach_add_(below, o.epsilon)
        changes = torch._foreach_div(self._first, below)
        torch._foreach_mul_(changes, rate * math.sqrt(1 - o.beta_2**self._updates) / (1 - o.beta_1**self._updates))
        if o.update_clip:
            sizes = torch._foreach_div(torch._foreach_norm(changes), self._roots)
            torch._foreach_mul_(changes, [(o.update_clip * rate / (size + p.TINY)).clamp(max=1) for size in sizes])
        torch._foreach_sub_(self._weights, changes)


class Peer:
    def __init__(self, images, labels, set_, *, bfloat16, channels_last, compiled):
        torch.set_num_threads(set_.threads)
        torch.manual_seed(0)
        self._set, self._bfloat16, self._compiled = set_, bfloat16, compiled
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._images = torch.from_numpy(images).permute(0, 3, 1, 2)
        self._labels = torch.from_numpy(labels).long()
        self._start(*p.he_weights(set_))

    def run(self, count):
        batch, latent_dim = self._set.batch_size, self._set.latent_dim
        for _ in range(count):
            indices = torch.randint(len(self._images), (batch,))
            self._step(indices, torch.randn(batch, latent_dim), torch.randn(batch, latent_dim))
        return count

    def losses(self, draws):
        self._start(*p.split_weights(draws))
        blocks = [torch.from_numpy(draws[name]) for name in ("indices", "d_latents", "g_latents")]
        return [[float(x) for x in self._step(*row)] for row in zip(*blocks, strict=True)]

    def _start(self, generator, discriminator):
        self._g, self._d, self._number = Generator(self._set), Discriminator(self._set), 0
        self._g.memory_format = self._format
        for module, weights in ((self._g, _shuffled(generator)), (self._d, discriminator)):
            with torch.no_grad():
                for parameter, weight in zip(module.parameters(), weights, strict=True):
                    order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0) if weight.ndim == 2 else (0,)
                    parameter.copy_(torch.from_numpy(weight.transpose(order).copy()))
            module.to(memory_format=self._format)
        self._g_weights, self._d_weights = list(self._g.parameters()), list(self._d.parameters())
        self._average = [weight.detach().clone() for weight in self._g_weights]
        self._g_adam = Adam(self._g_weights, self._set.generator_adam)
        self._d_adam = Adam(self._d_weights, self._set.discriminator_adam)
        self._make_fakes, self._d_losses, self._g_loss = (
            torch.compile(f) if self._compiled else f for f in (self._g, self._judged, self._through)
        )

    def _step(self, indices, d_latents, g_latents):
        s, labels = self._set, self._labels[indices]
        real = (self._images[indices].float() / 127.5 - 1).contiguous(memory_format=self._format)
        factor = p.rate_factor(s, self._number)
        with self._autocast():
            with torch.no_grad():
                fakes = self._make_fakes(d_latents, labels)
            d_loss, real_logits, fake_logits = self._d_losses(real, fakes, labels)
            gradients = torch.autograd.grad(d_loss, self._d_weights)
            if s.r1_gamma and self._number % s.penalty_every_steps == 0:
                penalty = 0.5 * s.r1_gamma * s.penalty_every_steps * self._squared_gradient(real, labels)
                extra = torch.autograd.grad(penalty, self._d_weights, allow_unused=True)
                gradients = [g if e is None else g + e for g, e in zip(gradients, extra, strict=True)]
        self._d_adam.step(gradients, factor)
        with self._autocast():  # another one: within one, weights that have changed since count as they were
            g_loss = self._g_loss(g_latents, labels)
            gradients = torch.autograd.grad(g_loss, self._g_weights)
        self._g_adam.step(gradients, factor)
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._g_weights, 1 - p.average_decay(s, self._number))
        self._number += 1
        right = (real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()
        return g_loss.detach(), d_loss.detach() / 2, 50 * right

    def _autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16)

    def _judged(self, real, fakes, labels):
        logits = self._d(torch.cat([real, fakes]), torch.cat([labels, labels]))
        real_logits, fake_logits = logits.chunk(2)
        return functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean(), real_logits, fake_logits

    def _through(self, latents, labels):
        return functional.softplus(-self._d(self._g(latents, labels), labels)).mean()

    def _squared_gradient(self, real, labels):
        real = real.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._d(real, labels).sum(), real, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()


def _shuffled(generator):
    """The generator's weights with the second convolution's channels in the order of PyTorch's pixel_shuffle."""
    weights = list(generator)
    for number in (4, 5):  # kernel [3, 3, in, 4 * fine] and bias [4 * fine]: Keras has the place first, PyTorch the channel
        shape = weights[number].shape
        weights[number] = weights[number].reshape(*shape[:-1], 4, -1).swapaxes(-1, -2).reshape(shape)
    return weights


if __name__ == "__main__":
    words = sys.argv[3:]
    p.serve(
        lambda images, labels, set_: Peer(
            images,
            labels,
            set_,
            bfloat16="bfloat16" in words,
            channels_last="channels_last" in words,
            compiled="compile" in words,
        )
    )
