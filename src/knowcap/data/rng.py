"""Randomness without state: every draw is a function of a key and a counter.

Nothing is remembered between draws, so person 7,000,000 costs as much as person 0 and any part
of a stream can be made again. What is said here in numpy, C beside it does several times as fast
where there is a compiler. The generator is splitmix64 read at any place of its sequence;
drawing without replacement and shuffling are a keyed bijection of ``range(size)``, a Feistel
network with cycle walking.

References
----------
Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators (splitmix64).
Black, Rogaway (2002), Ciphers with arbitrary finite domains (Feistel, cycle walking).
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knowcap.artifacts.c_extension import library, pointer

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

NUM_ROUNDS = 6
"""Of the Feistel network; four with ideal round functions are pseudorandom (Luby, Rackoff)."""

MAX_SIZE = 2**63
"""Largest range that is permuted."""

SOURCE = Path(__file__).with_name("rng.c")

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
    return _drawn(key, counter, 0, 1)[..., 0]


def uniform(
    size: int, key: np.uint64 | UInt64, counter: ArrayLike, num_successive: int | None = None
) -> Int64:
    """Uniform integers of ``range(size)``, one for each counter, with replacement.

    `size` is at most 2^32; no value's probability is off by more than a share size / 2^32.
    A counter can stand for a number of successive ones, whose draws are then the last axis:
    counter 2 of four each for 8, 9, 10 and 11.
    """
    assert 0 < size <= 2**32
    values = _drawn(key, counter, size, num_successive or 1).view(np.int64)
    return values if num_successive else values[..., 0]


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
    return _permuted(key, index, size, *halves(size)).view(np.int64)


def halves(size: int) -> tuple[int, int]:
    """Sides of the network's two halves, whose product is `size` or little more."""
    assert 0 < size <= MAX_SIZE
    left = math.isqrt(size - 1) + 1 if size > 1 else 1
    return left, -(-size // left)


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


class _Values(ctypes.Structure):
    """An array of two dimensions, as C reads what is broadcast."""

    _fields_ = (("first", ctypes.c_void_p), ("row", ctypes.c_int64), ("column", ctypes.c_int64))


def _drawn(key: np.uint64 | UInt64, counter: ArrayLike, size: int, num_successive: int) -> UInt64:
    """Draws of ``range(size)``, or 64 bits if it is 0; the last axis are successive counters."""
    keys, counters = _unsigned(key), _unsigned(counter)
    compiled = library(SOURCE)
    if compiled is None:
        first = counters[..., None] * np.uint64(num_successive)
        counters = first + np.arange(num_successive).astype(np.uint64)
        return _mixed(keys[..., None], counters, size)
    shape = _common_shape(keys, counters)
    out = np.empty((*shape, num_successive), dtype=np.uint64)
    _call(compiled.drawn, shape, (keys, counters), size, out, num_successive)
    return out


def _permuted(
    key: np.uint64 | UInt64, index: ArrayLike, size: int, left: int, right: int
) -> UInt64:
    """Pass values through a network of ``range(left * right)`` until they are in `size`."""
    keys, values = _unsigned(key), _unsigned(index)
    shape = _common_shape(keys, values)
    compiled = library(SOURCE)
    if compiled is None:
        keys, values = np.broadcast_to(keys, shape), np.broadcast_to(values, shape)
        image = _image(keys, values, left, right)
        while (outside := np.nonzero(image >= np.uint64(size)))[0].size:
            image[outside] = _image(keys[outside], image[outside], left, right)
        return image
    out = np.empty(shape, dtype=np.uint64)
    _call(compiled.permuted, shape, (keys, values), size, out, left, right, NUM_ROUNDS)
    return out


def _unsigned(numbers: ArrayLike) -> UInt64:
    """Numbers as the generator reads them, in at least one dimension."""
    array = np.atleast_1d(numbers)
    if array.dtype != np.uint64:
        array = array.astype(np.int64, copy=False).view(np.uint64)
    return array


def _common_shape(keys: UInt64, numbers: UInt64) -> tuple[int, ...]:
    """The shape that both broadcast to."""
    if keys.size == 1 and keys.ndim <= numbers.ndim:
        return numbers.shape  # most draws have one key, and `np.broadcast` takes longer
    return np.broadcast(keys, numbers).shape


def _call(
    function: Callable[..., None],
    shape: tuple[int, ...],
    arrays: tuple[UInt64, UInt64],
    size: int,
    out: UInt64,
    *settings: int,
) -> None:
    """Call C, which knows two dimensions; of more, the last but one are taken together."""
    table = (math.prod(shape[:-1]), shape[-1])
    tables = [_in_rows(array, shape, table) for array in arrays]  # alive while C reads them
    values = [_Values(array.ctypes.data, *strides) for array, strides in tables]
    sides = map(ctypes.c_int64, table)
    function(*sides, *values, ctypes.c_uint64(size), pointer(out), *map(ctypes.c_uint64, settings))


def _in_rows(
    array: UInt64, shape: tuple[int, ...], table: tuple[int, int]
) -> tuple[UInt64, tuple[int, int]]:
    """An array that C can read as a table of what `shape` holds, and its strides in numbers."""
    if array.size == 1:
        return array, (0, 0)
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    array = array.reshape(table)
    return array, (array.strides[0] // 8, array.strides[1] // 8)


def _mixed(keys: UInt64, counters: UInt64, size: int) -> UInt64:
    """The generator in numpy."""
    x = counters * _GOLDEN + keys
    work = np.empty_like(x)
    for shift, factor in zip(_SHIFTS, _MIX, strict=False):
        x ^= np.right_shift(x, shift, out=work)
        x *= factor
    x ^= np.right_shift(x, _SHIFTS[2], out=work)
    if size:
        x >>= _HALF
        x *= np.uint64(size)
        x >>= _HALF
    return x


def _image(keys: UInt64, values: UInt64, left: int, right: int) -> UInt64:
    """One pass of the network, a bijection of ``range(left * right)``."""
    high, low = np.divmod(values, np.uint64(right))
    for number in range(0, NUM_ROUNDS, 2):
        high = _add(high, _round(number, low, left, keys), left)
        low = _add(low, _round(number + 1, high, right, keys), right)
    return high * np.uint64(right) + low


def _round(number: int, half: UInt64, size: int, keys: UInt64) -> UInt64:
    """The network's round function: an integer of ``range(size)`` from one half."""
    return _mixed(keys, half * np.uint64(NUM_ROUNDS) + np.uint64(number), size)


def _add(value: UInt64, other: UInt64, modulus: int) -> UInt64:
    """Sum modulo; where it is below the modulus, subtracting wraps around to a larger number."""
    value = value + other
    total: UInt64 = np.minimum(value, value - np.uint64(modulus))
    return total
