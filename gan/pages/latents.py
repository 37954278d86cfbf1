"""Where the explorer is in latent space: latents from a seed, and a square of which every point is a sample.

The page's script has the same functions, so that what it shows first is what the still picture shows.
"""

import math

import numpy as np

SPAN = 1.5  # at the square's edge, how far one of its two sides outweighs the middle


def latents_of(seed, count):
    """`count` standard-normal numbers from `seed`, a whole number from 0 below 2^32: float32 [count].

    Marsaglia's xorshift (Journal of Statistical Software 8(14), 2003) and Box and Muller's transform: few lines in any language.
    """
    state = (seed * 2654435761 + 88675123) % 2**32 or 1  # neighbouring seeds begin far apart, and none at 0
    uniforms = []
    for _ in range(2 * count):
        state ^= (state << 13) % 2**32
        state ^= state >> 17
        state ^= (state << 5) % 2**32
        uniforms.append(state / 2**32)  # never 0
    pairs = zip(uniforms[::2], uniforms[1::2], strict=True)
    return np.array([math.sqrt(-2 * math.log(one)) * math.cos(2 * math.pi * other) for one, other in pairs], np.float32)


def plane_point(corners, across, up):
    """The latents at a point of the square, float32 [d]: `corners` are float32 [3, d], `across` and `up` in [-1, 1].

    Divided by the length of the three factors, so that every point is as far from 0 as samples are.
    """
    factors = np.array([1, SPAN * across, SPAN * up], np.float32)
    return factors @ corners / np.float32(math.sqrt(float(factors @ factors)))


def plane(corners, columns):
    """The latents at columns x columns points of the square, row by row from the upper left corner: float32 [n, d]."""
    places = np.linspace(-1, 1, columns)
    return np.stack([plane_point(corners, across, -down) for down in places for across in places])
