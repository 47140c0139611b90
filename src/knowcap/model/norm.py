"""LayerNorm and RMSNorm of replicates, derivatives written out.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

_aten = torch.ops.aten


class Normed(NamedTuple):
    """Hidden states before and after normalisation, with what the backward pass needs."""

    hidden: Tensor
    standard: Tensor
    mean: Tensor | None
    """None if it was left where it is."""
    rstd: Tensor


def normalize(hidden_RTH: Tensor, bias: Tensor | None, eps: float) -> Normed:
    """Hidden states of each token with variance 1, and mean 0 if the norm has a bias.

    A norm with a bias is a LayerNorm, one without is an RMSNorm.
    """
    shape = hidden_RTH.shape[-1:]
    if bias is not None:
        return Normed(hidden_RTH, *torch.native_layer_norm(hidden_RTH, shape, None, None, eps))
    rstd_RT1 = hidden_RTH.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return Normed(hidden_RTH, hidden_RTH * rstd_RT1, None, rstd_RT1)


def scale(normed: Normed, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Standard hidden states times a weight plus a bias."""
    if bias is None:
        return normed.standard * weight
    return torch.addcmul(bias, normed.standard, weight)


def normalize_backward(
    grad_RTH: Tensor, normed: Normed, weight_R1H: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of a norm's input, weight and bias."""
    dweight_R1H = (grad_RTH * normed.standard).sum(1, keepdim=True)
    dstandard_RTH = grad_RTH * weight_R1H
    if normed.mean is None:
        along_RT1 = (dstandard_RTH * normed.standard).mean(-1, keepdim=True)
        dhidden_RTH = dstandard_RTH.addcmul_(normed.standard, along_RT1, value=-1)
        return dhidden_RTH.mul_(normed.rstd), dweight_R1H, None
    dhidden_RTH, _, _ = _aten.native_layer_norm_backward(
        dstandard_RTH,
        normed.hidden,
        weight_R1H.shape[-1:],
        normed.mean,
        normed.rstd,
        None,
        None,
        [True, False, False],
    )
    return dhidden_RTH, dweight_R1H, grad_RTH.sum(1, keepdim=True)


class Norm(Function):
    """LayerNorm or, without a bias, RMSNorm of hidden states."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Normalise, scale and shift."""
        normed = normalize(hidden, bias, eps)
        ctx.saved = (normed, weight)
        return scale(normed, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first three inputs."""
        return (*normalize_backward(grad, *ctx.saved), None)
