"""The two halves of a layer, attention and MLP, each one function with its derivatives written out.

Each takes all replicates at once. Gradients are those automatic differentiation would give; the
tests compare the two in float64. A bias that a model does not have is None.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, F inner,
K outputs of the qkv layer, C channels of a head, G groups (all heads of all sequences).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from knowcap.model.activations import Activation
from knowcap.model.attention import causal_attention, causal_attention_backward
from knowcap.model.matmul import add_product, product
from knowcap.model.norm import normalize, normalize_backward, scale
from knowcap.model.rotary import Rotation


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Inputs of a layer to its outputs."""
    outputs = product(inputs, weight)
    return outputs if bias is None else outputs.add_(bias)


def _residual_linear(hidden: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Hidden states and the outputs of a layer added to them."""
    outputs = add_product(hidden, inputs, weight)
    return outputs if bias is None else outputs.add_(bias)


def _bias_gradients(ctx: Any, *places: tuple[int, Tensor]) -> list[Tensor | None]:
    """Gradients of biases, from their place among the inputs and their layer's gradient."""
    return [
        grad.sum(1, keepdim=True) if ctx.needs_input_grad[place] else None for place, grad in places
    ]


class AttentionHalf(Function):
    """hidden + projection(attention(rotary(qkv(norm(hidden)))))."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RTH: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor | None,
        qkv_weight: Tensor,
        qkv_bias: Tensor | None,
        proj_weight: Tensor,
        proj_bias: Tensor | None,
        rotation: Rotation,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Add to hidden states what they gather from earlier positions."""
        normed = normalize(hidden_RTH, norm_bias, eps)
        inputs_RTH = scale(normed, norm_weight, norm_bias).to(dtype)
        qkv_weight, proj_weight = qkv_weight.to(dtype), proj_weight.to(dtype)
        qkv_RTK = _linear(inputs_RTH, qkv_weight, qkv_bias)
        qkv_3GSC = rotation.split(qkv_RTK)
        out_GSC, saved = causal_attention(*qkv_3GSC)
        heads_first = out_GSC.view(-1, rotation.num_heads, *out_GSC.shape[1:])
        gathered_RTH = heads_first.transpose(1, 2).reshape(hidden_RTH.shape)
        ctx.saved = (
            *(normed, norm_weight, inputs_RTH, qkv_weight),
            *(rotation, qkv_3GSC, saved, gathered_RTH, proj_weight),
        )
        return _residual_linear(hidden_RTH, gathered_RTH, proj_weight, proj_bias)

    @staticmethod
    def backward(ctx: Any, grad_RTH: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first seven inputs."""
        normed, norm_weight, inputs_RTH, qkv_weight, *saved = ctx.saved
        rotation, qkv_3GSC, attention, gathered_RTH, proj_weight = saved
        dout_RTH = grad_RTH.to(proj_weight.dtype)
        dproj_weight = product(gathered_RTH.mT, dout_RTH)
        dgathered_RTH = product(dout_RTH, proj_weight.mT)
        seq_length, num_heads, num_channels = (
            rotation.seq_length,
            rotation.num_heads,
            rotation.num_channels,
        )
        heads_last = dgathered_RTH.view(-1, seq_length, num_heads, num_channels)
        dout_GSC = heads_last.transpose(1, 2).reshape(-1, seq_length, num_channels)
        dqkv_3GSC = causal_attention_backward(dout_GSC, qkv_3GSC, attention)
        dqkv_RTK = rotation.split_backward(dqkv_3GSC, len(grad_RTH))
        dqkv_weight = product(inputs_RTH.mT, dqkv_RTK)
        dinputs_RTH = product(dqkv_RTK, qkv_weight.mT).to(grad_RTH.dtype)
        dhidden_RTH, dnorm_weight, dnorm_bias = normalize_backward(dinputs_RTH, normed, norm_weight)
        dqkv_bias, dproj_bias = _bias_gradients(ctx, (4, dqkv_RTK), (6, grad_RTH))
        return (
            dhidden_RTH.add_(grad_RTH),
            *(dnorm_weight, dnorm_bias),
            *(dqkv_weight, dqkv_bias),
            *(dproj_weight, dproj_bias),
            *(None, None, None),
        )


class FeedForwardHalf(Function):
    """hidden + fc2(activation(fc1(norm(hidden))))."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RTH: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor | None,
        fc1_weight: Tensor,
        fc1_bias: Tensor | None,
        fc2_weight: Tensor,
        fc2_bias: Tensor | None,
        activation: Activation,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Add to each token's hidden state a function of it."""
        normed = normalize(hidden_RTH, norm_bias, eps)
        inputs_RTH = scale(normed, norm_weight, norm_bias).to(dtype)
        fc1_weight, fc2_weight = fc1_weight.to(dtype), fc2_weight.to(dtype)
        inner_RTF = _linear(inputs_RTH, fc1_weight, fc1_bias)
        active_RTF = activation.forward(inner_RTF)
        ctx.saved = (
            *(normed, norm_weight, inputs_RTH, fc1_weight),
            *(inner_RTF, active_RTF, fc2_weight, activation),
        )
        return _residual_linear(hidden_RTH, active_RTF, fc2_weight, fc2_bias)

    @staticmethod
    def backward(ctx: Any, grad_RTH: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first seven inputs."""
        normed, norm_weight, inputs_RTH, fc1_weight, *saved = ctx.saved
        inner_RTF, active_RTF, fc2_weight, activation = saved
        dout_RTH = grad_RTH.to(fc2_weight.dtype)
        dfc2_weight = product(active_RTF.mT, dout_RTH)
        dinner_RTF = activation.backward(product(dout_RTH, fc2_weight.mT), inner_RTF)
        dfc1_weight = product(inputs_RTH.mT, dinner_RTF)
        dinputs_RTH = product(dinner_RTF, fc1_weight.mT).to(grad_RTH.dtype)
        dhidden_RTH, dnorm_weight, dnorm_bias = normalize_backward(dinputs_RTH, normed, norm_weight)
        dfc1_bias, dfc2_bias = _bias_gradients(ctx, (4, dinner_RTF), (6, grad_RTH))
        return (
            dhidden_RTH.add_(grad_RTH),
            *(dnorm_weight, dnorm_bias),
            *(dfc1_weight, dfc1_bias),
            *(dfc2_weight, dfc2_bias),
            *(None, None, None),
        )
