"""Stateless random numbers: every draw is a function of (seed, purpose, step, position), never of what was drawn before.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written in
additions, rotations and exclusive-ors that XLA vectorises. On a CPU it draws a training step's 60,000 normals in about 0.13 ms,
where `tf.random.stateless_normal` takes 0.34 ms as a kernel and 3.9 ms inside XLA.

All functions are meant to be called under `tf.function(jit_compile=True)`.
"""

import numpy as np
import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_KEY_PARITY = 0x1BD11BDA
_ROUNDS = 20


def threefry2x32(key, counter):
    """Two words of random bits for each counter: key (k0, k1) and counter (c0, c1) of uint32 tensors -> (x0, x1), uint32."""
    key = (key[0], key[1], tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key[0], key[1]), _word(_KEY_PARITY)))
    x0, x1 = counter[0] + key[0], counter[1] + key[1]
    for group in range(_ROUNDS // 4):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = tf.bitwise.bitwise_xor(_rotate_left(x1, rotation), x0)
        x0 = x0 + key[(group + 1) % 3]
        x1 = x1 + key[(group + 2) % 3] + _word(group + 1)
    return x0, x1


def bits(*, seed, purpose, first_step, steps, count):
    """Random words for `steps` consecutive steps: two tensors uint32 [steps, count].

    `first_step` may be a tensor (int32 scalar); row i depends on step first_step + i alone, so that a block of any length that
    holds a step draws the same numbers for it.
    """
    position = tf.cast(tf.range(count)[None, :], tf.uint32)
    step = tf.cast(tf.range(steps) + first_step, tf.uint32)[:, None]
    zeros = tf.zeros([steps, count], tf.uint32)
    return threefry2x32((_word(seed), _word(purpose)), (position + zeros, step + zeros))


def to_normal(words):
    """Standard normals float32 from random words uint32, by the inverse of the normal distribution function.

    The upper 23 bits become the middles of 2^23 equal cells of (-1, 1): neither end, where the inverse is infinite, occurs.
    """
    cell = tf.cast(tf.cast(tf.bitwise.right_shift(words, _word(9)), tf.int32), tf.float32)
    uniform = cell * np.float32(2.0**-22) + np.float32(2.0**-23 - 1)
    return np.float32(np.sqrt(2)) * tf.math.erfinv(uniform)


def to_integers(words, limit):
    """Integers int32 in [0, limit) from random words uint32; the bias of at most limit / 2^32 is below any use here."""
    return tf.cast(tf.bitwise.right_shift(tf.cast(words, tf.uint64) * np.uint64(limit), tf.constant(32, tf.uint64)), tf.int32)


def _word(value):
    return tf.constant(value, tf.uint32)


def _rotate_left(words, places):
    return tf.bitwise.bitwise_or(tf.bitwise.left_shift(words, _word(places)), tf.bitwise.right_shift(words, _word(32 - places)))
