"""Counter-based random bits, integers and permutations, in numpy and C.

Every result is a function of a key and a counter, without a state in between. Person 7,000,000
costs as much as person 0, and any part of a token stream can be written again. The generator is
splitmix64, evaluated at any position of its sequence. A permutation is a keyed bijection of
``range(size)``: a Feistel network with cycle walking. The C code in ``rng.c`` returns the same
numbers as the numpy code here, several times as fast; without a compiler, numpy is used.

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

from knowcap.artifacts.c_extension import load_c_extension, pointer

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

NUM_FEISTEL_ROUNDS = 6
"""Four rounds with ideal round functions are pseudorandom (Luby, Rackoff)."""

MAX_PERMUTED_SIZE = 2**63
"""Largest `size` of :func:`permute_indices`."""

C_SOURCE = Path(__file__).with_name("rng.c")

_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_MIX_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_HALF_BITS = np.uint64(32)
_MAX_TABULATED_SIZE = 6


def derive_key(seed: int, *purpose: str | int) -> np.uint64:
    """Key of the random draws for one purpose, independent of all others."""
    label = "/".join(map(str, (seed, *purpose)))
    return np.uint64(int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest()))


def random_bits(keys: np.uint64 | UInt64, counters: ArrayLike) -> UInt64:
    """64 random bits per counter: outputs of splitmix64 seeded with the keys.

    Keys and counters broadcast. The result can serve as keys for draws with a second counter.
    """
    return _draw(keys, counters, 0, 1)[..., 0]


def random_integers(
    size: int, keys: np.uint64 | UInt64, counters: ArrayLike, num_per_counter: int | None = None
) -> Int64:
    """Uniform integers of ``range(size)`` with replacement, one or several per counter.

    Parameters
    ----------
    size
        At most 2^32. The relative error of a value's probability is at most size / 2^32.
    keys, counters
        Broadcast against each other.
    num_per_counter
        Draws per counter, which become the last axis; None is one draw and no such axis. With
        four, counter 2 gives the draws of the counters 8, 9, 10 and 11.
    """
    assert 0 < size <= 2**32
    values = _draw(keys, counters, size, num_per_counter or 1).view(np.int64)
    return values if num_per_counter else values[..., 0]


def permute_indices(indices: ArrayLike, size: int, keys: np.uint64 | UInt64) -> Int64:
    """Images of indices under a keyed pseudorandom bijection of ``range(size)``.

    Parameters
    ----------
    indices
        Integers of ``range(size)``, any shape.
    size
        At most 2^63.
    keys
        One bijection's key, or one key per index.

    Returns
    -------
    Int64
        Same shape, integers of ``range(size)``.
    """
    return _permute(keys, indices, size, *_feistel_sides(size)).view(np.int64)


def _feistel_sides(size: int) -> tuple[int, int]:
    """Sizes of a Feistel network's two halves, whose product is at least `size`."""
    assert 0 < size <= MAX_PERMUTED_SIZE
    left = math.isqrt(size - 1) + 1 if size > 1 else 1
    return left, -(-size // left)


def random_permutations(size: int, keys: np.uint64 | UInt64, counters: ArrayLike) -> Int64:
    """A uniformly random permutation of ``range(size)`` per counter, [counters, size]."""
    if size <= _MAX_TABULATED_SIZE:
        table = _all_permutations(size)
        return table.take(random_integers(len(table), keys, counters), axis=0)
    sort_keys = random_bits(random_bits(keys, counters)[:, None], np.arange(size))
    permutations: Int64 = sort_keys.argsort(axis=1)
    return permutations


@cache
def _all_permutations(size: int) -> Int64:
    """All permutations of a small range, [size!, size]."""
    return np.array(list(itertools.permutations(range(size))), dtype=np.int64)


class FeistelNetwork(ctypes.Structure):
    """Parameters of a permutation of ``range(size)``, as ``rng.h`` declares them."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("size", "left", "right", "num_rounds")]

    @classmethod
    def of_size(cls, size: int) -> FeistelNetwork:
        """The network of :func:`permute_indices`."""
        return cls(size, *_feistel_sides(size), NUM_FEISTEL_ROUNDS)


class _StridedTable(ctypes.Structure):
    """A two-dimensional array with strides, as ``rng.c`` declares it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
    )


def _draw(keys: np.uint64 | UInt64, counters: ArrayLike, size: int, num_per_counter: int) -> UInt64:
    """Random integers of ``range(size)``, or 64 bits if `size` is 0, [..., num_per_counter]."""
    keys, counters = _as_unsigned(keys), _as_unsigned(counters)
    compiled = load_c_extension(C_SOURCE)
    if compiled is None:
        first = counters[..., None] * np.uint64(num_per_counter)
        counters = first + np.arange(num_per_counter).astype(np.uint64)
        return _splitmix64(keys[..., None], counters, size)
    shape = _broadcast_shape(keys, counters)
    out = np.empty((*shape, num_per_counter), dtype=np.uint64)
    _call_c(compiled.fill_random, shape, (keys, counters), size, out, num_per_counter)
    return out


def _permute(
    keys: np.uint64 | UInt64, indices: ArrayLike, size: int, left: int, right: int
) -> UInt64:
    """Images of indices: Feistel passes repeated until every value is below `size`."""
    keys, indices = _as_unsigned(keys), _as_unsigned(indices)
    shape = _broadcast_shape(keys, indices)
    compiled = load_c_extension(C_SOURCE)
    if compiled is None:
        keys, indices = np.broadcast_to(keys, shape), np.broadcast_to(indices, shape)
        images = _feistel_pass(keys, indices, left, right)
        while (outside := np.nonzero(images >= np.uint64(size)))[0].size:
            images[outside] = _feistel_pass(keys[outside], images[outside], left, right)
        return images
    out = np.empty(shape, dtype=np.uint64)
    settings = (left, right, NUM_FEISTEL_ROUNDS)
    _call_c(compiled.permute_table, shape, (keys, indices), size, out, *settings)
    return out


def _as_unsigned(numbers: ArrayLike) -> UInt64:
    """Numbers as uint64, with at least one dimension."""
    array = np.atleast_1d(numbers)
    if array.dtype != np.uint64:
        array = array.astype(np.int64, copy=False).view(np.uint64)
    return array


def _broadcast_shape(keys: UInt64, numbers: UInt64) -> tuple[int, ...]:
    """Shape that keys and numbers broadcast to."""
    if keys.size == 1 and keys.ndim <= numbers.ndim:
        return numbers.shape  # the common case of one key, for which `np.broadcast` is slower
    return np.broadcast(keys, numbers).shape


def _call_c(
    function: Callable[..., None],
    shape: tuple[int, ...],
    arrays: tuple[UInt64, UInt64],
    size: int,
    out: UInt64,
    *settings: int,
) -> None:
    """Call a C function on arrays reshaped to two dimensions."""
    table_shape = (math.prod(shape[:-1]), shape[-1])
    # The list keeps the arrays alive while C reads them.
    tables = [_reshape_to_table(array, shape, table_shape) for array in arrays]
    structures = [_StridedTable(array.ctypes.data, *strides) for array, strides in tables]
    dimensions = map(ctypes.c_int64, table_shape)
    function(
        *dimensions,
        *structures,
        ctypes.c_uint64(size),
        pointer(out),
        *map(ctypes.c_uint64, settings),
    )


def _reshape_to_table(
    array: UInt64, shape: tuple[int, ...], table_shape: tuple[int, int]
) -> tuple[UInt64, tuple[int, int]]:
    """A broadcast and reshaped array, and its strides in elements."""
    if array.size == 1:
        return array, (0, 0)
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    array = array.reshape(table_shape)
    return array, (array.strides[0] // 8, array.strides[1] // 8)


def _splitmix64(keys: UInt64, counters: UInt64, size: int) -> UInt64:
    """Outputs of the generator, scaled to ``range(size)`` unless `size` is 0."""
    x = counters * _GOLDEN_RATIO + keys
    shifted = np.empty_like(x)
    for shift, factor in zip(_MIX_SHIFTS, _MIX_FACTORS, strict=False):
        x ^= np.right_shift(x, shift, out=shifted)
        x *= factor
    x ^= np.right_shift(x, _MIX_SHIFTS[2], out=shifted)
    if size:
        x >>= _HALF_BITS
        x *= np.uint64(size)
        x >>= _HALF_BITS
    return x


def _feistel_pass(keys: UInt64, values: UInt64, left: int, right: int) -> UInt64:
    """One pass through the network, a bijection of ``range(left * right)``."""
    high, low = np.divmod(values, np.uint64(right))
    for round_id in range(0, NUM_FEISTEL_ROUNDS, 2):
        high = _add_modulo(high, _round_function(round_id, low, left, keys), left)
        low = _add_modulo(low, _round_function(round_id + 1, high, right, keys), right)
    return high * np.uint64(right) + low


def _round_function(round_id: int, half: UInt64, size: int, keys: UInt64) -> UInt64:
    """Random integers of ``range(size)`` that depend on one half of the value."""
    return _splitmix64(keys, half * np.uint64(NUM_FEISTEL_ROUNDS) + np.uint64(round_id), size)


def _add_modulo(values: UInt64, others: UInt64, modulus: int) -> UInt64:
    """Sum modulo `modulus`; the minimum works because a negative difference wraps around."""
    values = values + others
    total: UInt64 = np.minimum(values, values - np.uint64(modulus))
    return total
