"""Activations of MLPs, with or without a gate, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_aten = torch.ops.aten


class Activation(NamedTuple):
    """What an MLP does between its layers.

    With a gate, the first layer's outputs are two halves, and what it does is
    `function(first half) * second half` (Shazeer 2020, arXiv 2002.05202).
    """

    function: Callable[[Tensor], Tensor]
    gradient: Callable[..., Tensor]
    """In place of the gradient it is given first; at the inputs it is given second."""
    gated: bool

    def forward(self, inner: Tensor) -> Tensor:
        """Outputs of the first layer to inputs of the second."""
        if not self.gated:
            return self.function(inner)
        gate, linear = inner.chunk(2, -1)
        return self.function(gate) * linear

    def backward(self, grad: Tensor, inner: Tensor) -> Tensor:
        """Gradient of the first layer's outputs; the one that is given is used up."""
        if not self.gated:
            return self.gradient(grad, inner, grad_input=grad)
        gate, linear = inner.chunk(2, -1)
        dlinear = grad * self.function(gate)
        dgate = self.gradient(grad.mul_(linear), gate, grad_input=grad)
        return torch.cat((dgate, dlinear), -1)


_GRADIENTS: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    torch.nn.functional.gelu: _aten.gelu_backward.grad_input,
    torch.nn.functional.silu: _aten.silu_backward.grad_input,
}


def activation(function: Callable[..., Tensor], *, gated: bool) -> Activation:
    """Find the derivative of an activation function of Megatron's configuration."""
    return Activation(function, _GRADIENTS[function], gated)
