"""What a file of a quantised model would hold: integers, scales of groups, the rest in 16 bits.

Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

GROUP_SIZE = 128
"""Inputs of an output that share a scale; all of them where there are fewer."""


class StoredMatrix(NamedTuple):
    """A matrix as it is stored."""

    bits: int
    codes: Tensor
    """[O, I], symmetric integers of that many bits, as int8."""
    scale: Tensor
    """[O, G], of each group of inputs, float16."""
    input_scale: Tensor | None = None
    """[I], what AWQ multiplies inputs by, float16."""

    def dense(self) -> Tensor:
        """The weights that these numbers stand for, float32."""
        weight_OI = self.codes * _per_input(self.scale.float(), self.codes.shape[1])
        return weight_OI if self.input_scale is None else weight_OI * self.input_scale.float()

    @property
    def num_bits(self) -> int:
        """Bits of the integers and of their scales."""
        num_scales = self.scale.numel()
        if self.input_scale is not None:
            num_scales += self.input_scale.numel()
        return self.bits * self.codes.numel() + 16 * num_scales


class StoredModel(NamedTuple):
    """A model as it is stored: quantised matrices, and all other parameters in 16 bits."""

    matrices: Mapping[str, StoredMatrix]
    others: Mapping[str, Tensor]
    """Float16."""

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters of an ordinary model, in float32."""
        matrices = {name: matrix.dense() for name, matrix in self.matrices.items()}
        return matrices | {name: value.float() for name, value in self.others.items()}

    @property
    def share_quantised(self) -> float:
        """Share of the parameters that are integers."""
        return self._num_quantised / self._num_params

    @property
    def effective_bits_per_param(self) -> float:
        """Bits stored, scales included, by the number of parameters."""
        num_bits = sum(matrix.num_bits for matrix in self.matrices.values())
        return (num_bits + 16 * (self._num_params - self._num_quantised)) / self._num_params

    @property
    def _num_quantised(self) -> int:
        return sum(matrix.codes.numel() for matrix in self.matrices.values())

    @property
    def _num_params(self) -> int:
        return self._num_quantised + sum(value.numel() for value in self.others.values())


def rounded(weight_OI: Tensor, bits: int) -> StoredMatrix:
    """Round a matrix to nearest, as modelopt does; it does not know Megatron's embedding."""
    groups = weight_OI.split(GROUP_SIZE, dim=1)
    largest_OG = torch.stack([group.abs().amax(1) for group in groups], dim=1)
    scale_OG = largest_OG / (2 ** (bits - 1) - 1)
    return StoredMatrix(bits, integers(weight_OI, scale_OG, bits), scale_OG.half())


def integers(weight_OI: Tensor, scale_OG: Tensor, bits: int) -> Tensor:
    """Nearest integers of weights; of a group of zeros, zeros."""
    scale_OI = _per_input(scale_OG, weight_OI.shape[1])
    steps_OI = torch.where(scale_OI > 0, weight_OI / scale_OI, 0)
    top = 2 ** (bits - 1)
    return steps_OI.round().clamp(-top, top - 1).to(torch.int8)


def _per_input(scale_OG: Tensor, num_inputs: int) -> Tensor:
    """Repeat each group's scale for its inputs; the last group can be short."""
    return scale_OG.repeat_interleave(GROUP_SIZE, dim=1)[:, :num_inputs]
