"""Rotary position embedding as one product of complex numbers.

Neighbouring channels are the real and the imaginary part of a number, and a position turns it
(Su et al. 2021, arXiv 2104.09864). Channels that are not rotated and values are turned by nothing
and queries are also scaled by 1 / sqrt(C), so that all take one pass together.

Shapes: R replicates, S positions, T tokens (sequences of S one after the other), K outputs of the
qkv layer (for each head of keys its queries, its key and its value, of C channels each), G groups
(all heads of all sequences).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from knowcap.config import Architecture


class Rotation(NamedTuple):
    """How the positions of a window turn the heads' channels."""

    forward: Tensor
    """Complex factors, one for two channels."""
    backward: Tensor
    """Their conjugates."""
    num_heads: int
    """Of queries."""
    num_kv_heads: int
    num_channels: int

    @property
    def seq_length(self) -> int:
        """S."""
        return self.forward.shape[0]

    @property
    def num_shared(self) -> int:
        """Heads of queries that share one of keys and values."""
        return self.num_heads // self.num_kv_heads

    def split(self, qkv_RTK: Tensor) -> Tensor:
        """Scaled rotated queries, rotated keys and values, [3, G, S, C]."""
        turned = _turn(qkv_RTK, self.forward)
        if self.num_shared > 1:
            turned = self._share(turned)
        heads_last = turned.view(-1, self.seq_length, self.num_heads, 3, self.num_channels)
        heads_first = heads_last.permute(3, 0, 2, 1, 4).to(qkv_RTK.dtype)
        return heads_first.reshape(3, -1, self.seq_length, self.num_channels)

    def split_backward(self, grad_3GSC: Tensor, num_replicates: int) -> Tensor:
        """Gradient of what was split, [R, T, K]."""
        heads_first = grad_3GSC.view(3, -1, self.num_heads, self.seq_length, self.num_channels)
        heads_last = heads_first.permute(1, 3, 2, 0, 4)
        if self.num_shared > 1:
            heads_last = self._share_backward(heads_last)
        grad_RTK = heads_last.reshape(num_replicates, -1, 2 * self.forward.shape[1])
        return _turn(grad_RTK, self.backward).view(grad_RTK.shape).to(grad_3GSC.dtype)

    def _share(self, turned: Tensor) -> Tensor:
        """Give each head of queries its key and value, [B, S, heads, 3, C]."""
        shape = (-1, self.seq_length, self.num_kv_heads, self.num_shared + 2, self.num_channels)
        q, k, v = turned.view(shape).split((self.num_shared, 1, 1), 3)
        return torch.stack((q, k.expand_as(q), v.expand_as(q)), 4)

    def _share_backward(self, heads_last: Tensor) -> Tensor:
        """Add up the gradients of what heads share."""
        shape = (self.num_kv_heads, self.num_shared)
        dq, dk, dv = heads_last.unflatten(2, shape).unbind(4)
        return torch.cat((dq, dk.sum(3, keepdim=True), dv.sum(3, keepdim=True)), 3)


def angles(architecture: Architecture, seq_length: int) -> Tensor:
    """By which each position turns each pair of channels, [S, pairs] in float64."""
    exponents = torch.arange(0, architecture.rotary_dim, 2, dtype=torch.float64)
    frequencies = architecture.rotary_base ** (-exponents / architecture.rotary_dim)
    return torch.outer(torch.arange(seq_length, dtype=torch.float64), frequencies)


@cache
def rotation(
    architecture: Architecture, seq_length: int, device: torch.device, dtype: torch.dtype
) -> Rotation:
    """Tabulate an architecture's rotation for windows of a length.

    `dtype` is the real type it is computed in, at least float32.
    """
    heads, kv_heads = architecture.num_attention_heads, architecture.num_kv_heads
    channels, num_shared = architecture.kv_channels, heads // kv_heads
    factors = torch.ones(
        seq_length, kv_heads, num_shared + 2, channels // 2, dtype=torch.complex128
    )
    turned = angles(architecture, seq_length)
    turns = torch.polar(torch.ones_like(turned), turned)
    factors[:, :, : num_shared + 1, : turns.shape[1]] = turns[:, None, None]
    factors[:, :, :num_shared] /= channels**0.5
    factors_SK = factors.flatten(1).to(device=device, dtype=dtype.to_complex())
    return Rotation(factors_SK, factors_SK.conj_physical(), heads, kv_heads, channels)


def _turn(qkv_RTK: Tensor, factors_SK: Tensor) -> Tensor:
    """Multiply pairs of channels, in place if they are float32; [R B, S, K / 2, 2]."""
    if qkv_RTK.dtype == torch.bfloat16:  # there are no complex numbers of it
        qkv_RTK = qkv_RTK.float()
    pairs = qkv_RTK.view(-1, *factors_SK.shape, 2)
    torch.view_as_complex(pairs).mul_(factors_SK)
    return pairs
