"""Rotary position embedding as one product of complex numbers.

Neighbouring channels are the real and the imaginary part of a number, and a position turns it
(Su et al. 2021, arXiv 2104.09864). Channels that are not rotated and values are turned by nothing,
queries are also scaled by 1 / sqrt(C), so that queries, keys and values take one pass together.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from knowcap.config import Architecture


class Rotary(NamedTuple):
    """The rotation of a model's heads."""

    num_heads: int
    num_channels: int
    rotary_dim: int
    base: int

    @classmethod
    def of(cls, architecture: Architecture) -> Rotary:
        """The rotation an architecture asks for."""
        return cls(
            architecture.num_attention_heads,
            architecture.kv_channels,
            architecture.rotary_dim,
            architecture.rotary_base,
        )

    def split(self, qkv_RTK: Tensor, seq_length: int) -> Tensor:
        """Scaled rotated queries, rotated keys, and values.

        Parameters
        ----------
        qkv_RTK
            Outputs of the linear layer, for each head its query, key and value.
        seq_length
            Positions of a sequence; T is a multiple of it.

        Returns
        -------
        Tensor
            Shape [3, groups, seq_length, channels], where groups are all heads of all sequences.
        """
        turned = self._turn(qkv_RTK, seq_length, conjugate=False)
        heads_first = turned.view(-1, seq_length, self.num_heads, 3, self.num_channels)
        return (
            heads_first.permute(3, 0, 2, 1, 4)
            .to(qkv_RTK.dtype)
            .reshape(3, -1, seq_length, self.num_channels)
        )

    def split_backward(self, grad_3GSC: Tensor, shape: torch.Size) -> Tensor:
        """Gradient of the linear layer's outputs, of the given shape [R, T, 3 H]."""
        seq_length = grad_3GSC.shape[2]
        per_head = grad_3GSC.view(3, -1, self.num_heads, seq_length, self.num_channels)
        channels_last = per_head.permute(1, 3, 2, 0, 4).reshape(shape)
        return self._turn(channels_last, seq_length, conjugate=True).to(grad_3GSC.dtype).view(shape)

    def _turn(self, qkv_RTK: Tensor, seq_length: int, *, conjugate: bool) -> Tensor:
        """Multiply pairs of channels with the table."""
        if qkv_RTK.dtype == torch.bfloat16:  # there are no complex numbers of it
            qkv_RTK = qkv_RTK.float()
        numbers = torch.view_as_complex(qkv_RTK.view(-1, seq_length, qkv_RTK.shape[-1] // 2, 2))
        table = _table(self, seq_length, conjugate, numbers.dtype, numbers.device)
        return torch.view_as_real(numbers * table)


@cache
def _table(
    rotary: Rotary, seq_length: int, conjugate: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Complex factors [S, 3 H / 2] of the linear layer's outputs; their conjugates go backward."""
    exponents = torch.arange(0, rotary.rotary_dim, 2, dtype=torch.float64) / rotary.rotary_dim
    angles = torch.outer(torch.arange(seq_length, dtype=torch.float64), rotary.base**-exponents)
    factors = torch.ones(seq_length, rotary.num_heads, 3, rotary.num_channels // 2).to(
        torch.complex128
    )
    turns = torch.polar(torch.ones_like(angles), -angles if conjugate else angles)
    factors[:, :, :2, : turns.shape[1]] = turns[:, None, None]
    factors[:, :, 0] /= rotary.num_channels**0.5
    return factors.flatten(1).to(dtype=dtype, device=device)
