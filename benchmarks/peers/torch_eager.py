"""PyTorch as its documentation writes a GAN's loop: modules, fused Adam, images in one tensor. With `compile`: torch.compile."""

import sys

import torch
from torch import nn
from torch.nn.functional import softplus

from benchmarks.peers import protocol as p


class Peer:
    def __init__(self, images, *, compiled):
        torch.set_num_threads(2)
        torch.manual_seed(0)
        self._images = torch.from_numpy(images).reshape(-1, 784).float() / 127.5 - 1
        self._compiled = compiled
        self._start(*p.glorot_weights(0))

    def run(self, count):
        for _ in range(count):
            indices = torch.randint(len(self._images), (p.BATCH_SIZE,))
            self._step(indices, torch.randn(p.BATCH_SIZE, p.LATENT_DIM), torch.randn(p.BATCH_SIZE, p.LATENT_DIM))
        return count

    def losses(self, draws):
        self._start(*p.split_weights(draws))
        blocks = [torch.from_numpy(draws[name]) for name in ("indices", "d_latents", "g_latents")]
        return [[float(x) for x in self._step(*row)] for row in zip(*blocks, strict=True)]

    def _start(self, generator, discriminator):
        leaky = nn.LeakyReLU(p.LEAKY_SLOPE)
        self._generator = nn.Sequential(
            nn.Linear(p.LATENT_DIM, 128), leaky, nn.Linear(128, 128), leaky, nn.Linear(128, 784), nn.Tanh()
        )
        self._discriminator = nn.Sequential(nn.Linear(784, 128), leaky, nn.Linear(128, 1))
        for module, weights in ((self._generator, generator), (self._discriminator, discriminator)):
            with torch.no_grad():
                for parameter, weight in zip(module.parameters(), weights, strict=True):
                    parameter.copy_(torch.from_numpy(weight.T.copy()))
        self._g_adam, self._d_adam = (
            torch.optim.Adam(m.parameters(), p.LEARNING_RATE, (p.BETA_1, p.BETA_2), p.EPSILON, fused=True)
            for m in (self._generator, self._discriminator)
        )
        self._make_fakes, self._real_loss, self._fake_loss, self._g_loss = (
            torch.compile(f) if self._compiled else f for f in (self._fakes, self._on_real, self._on_fakes, self._through)
        )

    def _step(self, indices, d_latents, g_latents):
        real_loss, real_logits = self._real_loss(self._images[indices])
        self._update(self._d_adam, real_loss)
        with torch.no_grad():
            fakes = self._make_fakes(d_latents)
        fake_loss, fake_logits = self._fake_loss(fakes)
        self._update(self._d_adam, fake_loss)
        self._discriminator.requires_grad_(False)
        g_loss = self._g_loss(g_latents)
        self._update(self._g_adam, g_loss)
        self._discriminator.requires_grad_(True)
        right = (real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()
        return g_loss.detach(), (real_loss + fake_loss).detach() / 2, 50 * right

    def _update(self, adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()

    def _fakes(self, latents):
        return self._generator(latents)

    def _on_real(self, images):
        logits = self._discriminator(images)
        return softplus(-logits).mean(), logits

    def _on_fakes(self, images):
        logits = self._discriminator(images)
        return softplus(logits).mean(), logits

    def _through(self, latents):
        return softplus(-self._discriminator(self._generator(latents))).mean()


if __name__ == "__main__":
    p.serve(lambda images: Peer(images, compiled=sys.argv[-1] == "compile"))
