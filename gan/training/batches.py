"""Which real images a step sees, where an epoch shows each of them once: a function of the seed and the step number alone."""

import functools

import numpy as np

_ORDER = 4  # the second number of the seed, as the draws of `gan.training.engine` have theirs


class Epochs:
    """Endless batches from `count` images: each epoch is a new order of all of them, and batches do not stop at its end."""

    def __init__(self, count, batch_size, *, seed):
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)  # a block lies in one epoch or two, but for few images

    def indices(self, first_step, steps):
        """The indices of the images of `steps` consecutive steps: int32 [steps, batch_size] in 0..count-1."""
        start, end = first_step * self._batch_size, (first_step + steps) * self._batch_size
        epochs = range(start // self._count, (end - 1) // self._count + 1)
        drawn = np.concatenate([self._order(epoch) for epoch in epochs])[start - epochs[0] * self._count :][: end - start]
        return drawn.reshape(steps, self._batch_size)

    def _shuffled(self, epoch):
        return np.random.default_rng([self._seed, _ORDER, epoch]).permutation(self._count).astype(np.int32)
