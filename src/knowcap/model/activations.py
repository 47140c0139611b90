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


def _gelu(inner: Tensor) -> Tensor:
    if not _is_slow(inner):
        return torch.nn.functional.gelu(inner)
    return torch.nn.functional.gelu(inner.float()).to(inner.dtype)


def _gelu_gradient(grad: Tensor, inner: Tensor, *, grad_input: Tensor) -> Tensor:
    if not _is_slow(inner):
        given: Tensor = _aten.gelu_backward.grad_input(grad, inner, grad_input=grad_input)
        return given
    exact = grad.float()
    _aten.gelu_backward.grad_input(exact, inner.float(), grad_input=exact)
    return grad_input.copy_(exact)


def _is_slow(inner: Tensor) -> bool:
    """Whether gelu rounds to bfloat16 after each operation within, as it does on a CPU.

    To round once is nearer to float32, and three times as fast.
    """
    return inner.dtype == torch.bfloat16 and not inner.is_cuda


_KNOWN: dict[Callable[..., Tensor], tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]] = {
    torch.nn.functional.gelu: (_gelu, _gelu_gradient),
    torch.nn.functional.silu: (torch.nn.functional.silu, _aten.silu_backward.grad_input),
}


def activation(function: Callable[..., Tensor], *, gated: bool) -> Activation:
    """Find how to compute an activation function of Megatron's and its derivative."""
    return Activation(*_KNOWN[function], gated)
