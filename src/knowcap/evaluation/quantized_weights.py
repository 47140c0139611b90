"""Weights of a quantised model as stored in a file: integers, scales and 16-bit parameters.

Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

GROUP_SIZE = 128
"""Inputs of an output that share a scale; all inputs if there are fewer."""


class QuantizedMatrix(NamedTuple):
    """Integers of a weight matrix and their scales."""

    bits: int
    """Bits of an integer."""
    integers: Tensor
    """[O, I], symmetric integers of `bits` bits, as int8."""
    scale: Tensor
    """[O, G], scale of each group of inputs, float16."""
    input_scale: Tensor | None = None
    """[I], factors by which AWQ multiplies the inputs, float16."""

    def dequantize(self) -> Tensor:
        """Return the weights [O, I] in float32."""
        weight_OI = self.integers * _per_input(self.scale.float(), self.integers.shape[1])
        return weight_OI if self.input_scale is None else weight_OI * self.input_scale.float()

    @property
    def num_bits(self) -> int:
        """Bits of the integers and their scales."""
        num_scales = self.scale.numel()
        if self.input_scale is not None:
            num_scales += self.input_scale.numel()
        return self.bits * self.integers.numel() + 16 * num_scales


class QuantizedModel(NamedTuple):
    """Quantised matrices of a model, and its other parameters in 16 bits."""

    matrices: Mapping[str, QuantizedMatrix]
    others: Mapping[str, Tensor]
    """Parameters that are not quantised, float16."""
    num_uncompensated: int = 0
    """Matrices that GPTQ rounded to nearest, because their Hessian has no inverse."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters of a Megatron model in float32."""
        matrices = {name: matrix.dequantize() for name, matrix in self.matrices.items()}
        return matrices | {name: value.float() for name, value in self.others.items()}

    @property
    def share_quantised(self) -> float:
        """Share of the parameters that are stored as integers."""
        return self._num_quantized / self._num_params

    @property
    def effective_bits_per_param(self) -> float:
        """Stored bits, scales included, divided by the number of parameters."""
        num_bits = sum(matrix.num_bits for matrix in self.matrices.values())
        return (num_bits + 16 * (self._num_params - self._num_quantized)) / self._num_params

    @property
    def _num_quantized(self) -> int:
        return sum(matrix.integers.numel() for matrix in self.matrices.values())

    @property
    def _num_params(self) -> int:
        return self._num_quantized + sum(value.numel() for value in self.others.values())


def round_to_nearest(weight_OI: Tensor, bits: int) -> QuantizedMatrix:
    """Quantise a matrix by rounding to nearest, as modelopt does.

    It is used for embeddings, because modelopt does not quantise Megatron's.
    """
    groups = weight_OI.split(GROUP_SIZE, dim=1)
    largest_OG = torch.stack([group.abs().amax(1) for group in groups], dim=1)
    scale_OG = largest_OG / (2 ** (bits - 1) - 1)
    return QuantizedMatrix(bits, nearest_integers(weight_OI, scale_OG, bits), scale_OG.half())


def nearest_integers(weight_OI: Tensor, scale_OG: Tensor, bits: int) -> Tensor:
    """Return the nearest integers [O, I] of weights; zeros where the scale is zero."""
    scale_OI = _per_input(scale_OG, weight_OI.shape[1])
    scaled_OI = torch.where(scale_OI > 0, weight_OI / scale_OI, 0)
    bound = 2 ** (bits - 1)
    return scaled_OI.round().clamp(-bound, bound - 1).to(torch.int8)


def _per_input(scale_OG: Tensor, num_inputs: int) -> Tensor:
    """Repeat the scale of each group for its inputs; the last group can be shorter."""
    return scale_OG.repeat_interleave(GROUP_SIZE, dim=1)[:, :num_inputs]
