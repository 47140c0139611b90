"""Rotary position embedding as a product of complex numbers.

Neighbouring channels are the real and the imaginary part of a number that the position rotates
(Su et al. 2021, arXiv 2104.09864).

Shapes: N sequences, S positions, C channels of a head.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from knowcap.config import Architecture


def rotary_angles(architecture: Architecture, seq_length: int) -> Tensor:
    """Rotation angle of each pair of channels at each position, [S, pairs] in float64."""
    exponents = torch.arange(0, architecture.rotary_dim, 2, dtype=torch.float64)
    frequencies = architecture.rotary_base ** (-exponents / architecture.rotary_dim)
    return torch.outer(torch.arange(seq_length, dtype=torch.float64), frequencies)


@cache
def rotary_factors(
    architecture: Architecture, seq_length: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Complex factors of a layer's queries, keys and values, [S, KV heads, Q + 2, C / 2].

    Q query heads share a KV head. Factors of values, and of channels that are not rotated, are 1.
    `dtype` is the real type of the computation.
    """
    kv_heads = architecture.num_kv_heads
    num_shared = architecture.num_attention_heads // kv_heads
    shape = (seq_length, kv_heads, num_shared + 2, architecture.kv_channels // 2)
    factors = torch.ones(shape, dtype=torch.complex128)
    angles = rotary_angles(architecture, seq_length)
    rotations = torch.polar(torch.ones_like(angles), angles)
    factors[:, :, : num_shared + 1, : rotations.shape[1]] = rotations[:, None, None]
    return factors.to(device=device, dtype=dtype.to_complex())


def apply_rotary(qkv: Tensor, factors: Tensor) -> Tensor:
    """Rotate queries and keys.

    Parameters
    ----------
    qkv
        Outputs of the qkv layer in any shape that holds [N, S, KV heads, Q + 2, C].
    factors
        See :func:`rotary_factors`.

    Returns
    -------
    Tensor
        [N, S, KV heads, Q + 2, C] in the real dtype of the factors.
    """
    pairs = qkv.to(factors.dtype.to_real()).view(-1, *factors.shape, 2)
    return torch.view_as_real(torch.view_as_complex(pairs) * factors).flatten(-2)
