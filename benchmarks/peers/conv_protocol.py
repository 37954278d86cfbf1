"""What the peers of convolutional sets share. They speak as benchmarks/peers/protocol.py says, about class-conditional sets.

A peer is made from images uint8 [n, 28, 28, 1], labels uint8 [n] and the set's section `train` as a namespace. `draws` are those
of that file; labels are the images' own.
"""

import math
import sys

from benchmarks.peers import protocol

CLASSES = 10
ONE_HOT_SCALE = 2.0
TINY = 1e-30
GENERATOR_ARRAYS, DISCRIMINATOR_ARRAYS = 10, 8


def serve(make_peer):
    """`protocol.serve` for a peer that is made from images, labels and the set, the file of which follows the images'."""
    protocol.serve(lambda images: make_peer(images, protocol.read_labels(sys.argv[1]), protocol.read_set(sys.argv[2])))


def split_weights(draws):
    """The generator's and the discriminator's arrays out of `draws`: kernels and biases in Keras' order."""
    g = [draws[f"generator_{number}"] for number in range(GENERATOR_ARRAYS)]
    return g, [draws[f"discriminator_{number}"] for number in range(DISCRIMINATOR_ARRAYS)]


def he_weights(set_, seed=0):
    """Fresh weights of both networks, as `split_weights` gives them: normal kernels by He et al. 2015, zero biases."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def network(*shapes):
        weights = []
        for shape in shapes:
            kernel = rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
            weights += [kernel.astype(np.float32), np.zeros(shape[-1], np.float32)]
        return weights

    (coarse, fine), (d_fine, d_coarse, width) = set_.generator_units, set_.discriminator_units
    generator = network(
        (set_.latent_dim + CLASSES, 49 * coarse),
        (3, 3, coarse, coarse),
        (3, 3, coarse, 4 * fine),
        (3, 3, fine, fine),
        (3, 3, fine, 4),
    )
    return generator, network((3, 3, 4, d_fine), (4, 4, d_fine, d_coarse), (49 * d_coarse, width), (width, CLASSES))


def rate_factor(set_, step):
    """`gan.training.schedules.rate_factor` in Python's numbers."""
    start = set_.constant_rate_share * set_.steps
    progress = min(max((step - start) / max(set_.steps - 1 - start, 1), 0), 1)
    falling = set_.final_rate_share + (1 - set_.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return falling * (min((step + 1) / set_.warm_up_steps, 1) if set_.warm_up_steps else 1)


def average_decay(set_, step):
    """`gan.training.schedules.average_decay` in Python's numbers."""
    return min(set_.ema_decay, (1 + step) / (set_.ema_gamma + 2 + step))
