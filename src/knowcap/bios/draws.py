"""Randomness without state: every draw is a function of a key and a counter.

Nothing is remembered between draws, so person 7,000,000 costs as much as person 0 and any part
of a stream can be made again. The generator is splitmix64 read at any place of its sequence;
drawing without replacement and shuffling are a keyed bijection of ``range(size)``, a Feistel
network with cycle walking.

References
----------
Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators (splitmix64).
Black, Rogaway (2002), Ciphers with arbitrary finite domains (Feistel, cycle walking).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

NUM_ROUNDS = 6
"""Of the Feistel network; four with ideal round functions are pseudorandom (Luby, Rackoff)."""

MAX_SIZE = 2**63
"""Largest range that is permuted."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_HALF = np.uint64(32)
_LARGEST_TABLE = 6


def key(seed: int, *purpose: str | int) -> np.uint64:
    """Key of the draws made for one purpose; keys of different purposes are unrelated."""
    label = "/".join(map(str, (seed, *purpose)))
    return np.uint64(int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest()))


def bits(key: np.uint64 | UInt64, counter: ArrayLike) -> UInt64:
    """64 random bits for each counter: output number `counter` of splitmix64 begun at `key`.

    Keys and counters broadcast. The result is itself good as a key, for draws counted twice.
    """
    x = np.asarray(counter).astype(np.uint64)
    x = np.atleast_1d(x * _GOLDEN + key)
    work = np.empty_like(x)
    for shift, factor in zip(_SHIFTS, _MIX, strict=False):
        x ^= np.right_shift(x, shift, out=work)
        x *= factor
    x ^= np.right_shift(x, _SHIFTS[2], out=work)
    return x


def uniform(size: int, key: np.uint64 | UInt64, counter: ArrayLike) -> Int64:
    """Uniform integers of ``range(size)``, one for each counter, with replacement.

    `size` is at most 2^32; no value's probability is off by more than a share size / 2^32.
    """
    assert 0 < size <= 2**32
    return _scaled(bits(key, counter), size).view(np.int64)


def permute(index: ArrayLike, size: int, key: np.uint64 | UInt64) -> Int64:
    """Where a keyed pseudorandom bijection of ``range(size)`` takes each index.

    Parameters
    ----------
    index
        Integers of ``range(size)``, any shape.
    size
        At most 2^63; its square root is the side of the network's two halves.
    key
        One bijection's key, or one for each index.

    Returns
    -------
    Int64
        Same shape, integers of ``range(size)``.
    """
    assert 0 < size <= MAX_SIZE
    left = math.isqrt(size - 1) + 1 if size > 1 else 1
    right = -(-size // left)
    value, keys = np.broadcast_arrays(np.asarray(index).astype(np.uint64), key)
    image = _feistel(value.ravel(), left, right, key if np.ndim(key) == 0 else keys.ravel())
    while (outside := np.flatnonzero(image >= np.uint64(size))).size:
        image[outside] = _feistel(image[outside], left, right, keys.ravel()[outside])
    return image.reshape(value.shape).view(np.int64)


def shuffled(size: int, key: np.uint64 | UInt64, counter: ArrayLike) -> Int64:
    """A uniformly random order of ``range(size)`` for each counter, shape [counters, size]."""
    if size <= _LARGEST_TABLE:
        table = _orders(size)
        return table.take(uniform(len(table), key, counter), axis=0)
    order: Int64 = bits(bits(key, counter)[:, None], np.arange(size)).argsort(axis=1)
    return order


@cache
def _orders(size: int) -> Int64:
    """Every order of a small range."""
    return np.array(list(itertools.permutations(range(size))), dtype=np.int64)


def _scaled(random: UInt64, size: int) -> UInt64:
    """Random bits to integers of ``range(size)``, by the upper half; overwrites them."""
    random >>= _HALF
    random *= np.uint64(size)
    random >>= _HALF
    return random


def _feistel(value: UInt64, left: int, right: int, key: np.uint64 | UInt64) -> UInt64:
    """One pass of the network, a bijection of ``range(left * right)``."""
    high, low = np.divmod(value, np.uint64(right))
    for number in range(0, NUM_ROUNDS, 2):
        high = _add(high, _round(number, low, left, key), left)
        low = _add(low, _round(number + 1, high, right, key), right)
    return high * np.uint64(right) + low


def _round(number: int, half: UInt64, size: int, key: np.uint64 | UInt64) -> UInt64:
    """The network's round function: an integer of ``range(size)`` from one half."""
    return _scaled(bits(key, half * np.uint64(NUM_ROUNDS) + np.uint64(number)), size)


def _add(value: UInt64, other: UInt64, modulus: int) -> UInt64:
    """Sum modulo; where it is below the modulus, subtracting wraps around to a larger number."""
    value = value + other
    total: UInt64 = np.minimum(value, value - np.uint64(modulus))
    return total
