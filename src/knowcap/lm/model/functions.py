"""The forward and backward pass of a stacked model's parts, derivatives written out.

Each function takes all replicates at once. Gradients are those automatic differentiation would
give; the tests compare the two in float64. A bias that a model does not have is None.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, F inner,
K outputs of the qkv layer, C channels of a head, G groups (all heads of all sequences), V
vocabulary.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from knowcap.lm.model.activations import Activation
from knowcap.lm.model.attention import causal_attention, causal_attention_backward, softmax_
from knowcap.lm.model.products import add_product, product
from knowcap.lm.model.rotary import Rotation

aten = torch.ops.aten

LOGITS_CHUNK = {"cpu": 2**20, "cuda": 2**27}
"""Logits that are held at once: on a CPU what its caches hold."""


class Normed(NamedTuple):
    """Hidden states before and after normalisation, with what the backward pass needs."""

    hidden: Tensor
    standard: Tensor
    mean: Tensor | None
    """None if it was left where it is."""
    rstd: Tensor


def _normalize(hidden_RTH: Tensor, bias: Tensor | None, eps: float) -> Normed:
    """Hidden states of each token with variance 1, and mean 0 if the norm has a bias.

    A norm with a bias is a LayerNorm, one without is an RMSNorm.
    """
    shape = hidden_RTH.shape[-1:]
    if bias is not None:
        return Normed(hidden_RTH, *torch.native_layer_norm(hidden_RTH, shape, None, None, eps))
    rstd_RT1 = hidden_RTH.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return Normed(hidden_RTH, hidden_RTH * rstd_RT1, None, rstd_RT1)


def _scale(normed: Normed, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Standard hidden states times a weight plus a bias."""
    if bias is None:
        return normed.standard * weight
    return torch.addcmul(bias, normed.standard, weight)


def _normalize_backward(
    grad_RTH: Tensor, normed: Normed, weight_R1H: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of a norm's input, weight and bias."""
    dweight_R1H = (grad_RTH * normed.standard).sum(1, keepdim=True)
    dstandard_RTH = grad_RTH * weight_R1H
    if normed.mean is None:
        along_RT1 = (dstandard_RTH * normed.standard).mean(-1, keepdim=True)
        dhidden_RTH = dstandard_RTH.addcmul_(normed.standard, along_RT1, value=-1)
        return dhidden_RTH.mul_(normed.rstd), dweight_R1H, None
    dhidden_RTH, _, _ = aten.native_layer_norm_backward(
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
        normed = _normalize(hidden, bias, eps)
        ctx.saved = (normed, weight)
        return _scale(normed, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first three inputs."""
        return (*_normalize_backward(grad, *ctx.saved), None)


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
        normed = _normalize(hidden_RTH, norm_bias, eps)
        inputs_RTH = _scale(normed, norm_weight, norm_bias).to(dtype)
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
        dhidden_RTH, dnorm_weight, dnorm_bias = _normalize_backward(
            dinputs_RTH, normed, norm_weight
        )
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
        normed = _normalize(hidden_RTH, norm_bias, eps)
        inputs_RTH = _scale(normed, norm_weight, norm_bias).to(dtype)
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
        dhidden_RTH, dnorm_weight, dnorm_bias = _normalize_backward(
            dinputs_RTH, normed, norm_weight
        )
        dfc1_bias, dfc2_bias = _bias_gradients(ctx, (4, dinner_RTF), (6, grad_RTH))
        return (
            dhidden_RTH.add_(grad_RTH),
            *(dnorm_weight, dnorm_bias),
            *(dfc1_weight, dfc1_bias),
            *(dfc2_weight, dfc2_bias),
            *(None, None, None),
        )


class Embedding(Function):
    """Rows of each replicate's table."""

    @staticmethod
    def forward(ctx: Any, weight_RVH: Tensor, tokens_RT: Tensor) -> Tensor:
        """Look up tokens."""
        replicates = torch.arange(weight_RVH.shape[0], device=weight_RVH.device).unsqueeze(1)
        ctx.shape = weight_RVH.shape
        ctx.rows_RT = tokens_RT + replicates * weight_RVH.shape[1]
        return weight_RVH[replicates, tokens_RT]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient of the tables: sums over the occurrences of a token."""
        num_rows = ctx.shape[0] * ctx.shape[1]
        dweight = aten.embedding_dense_backward(
            grad.view(-1, ctx.shape[2]), ctx.rows_RT.flatten(), num_rows, -1, False
        )
        return dweight.view(ctx.shape), None


class OutputLoss(Function):
    """Mean cross-entropy of each replicate's next tokens, in nats.

    Logits exist for a chunk of positions at a time, and their gradients are used up at once: with
    p the softmax of a token's logits and y its target, dlogits = (p - onehot(y)) / count.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RTH: Tensor, weight_RVH: Tensor, targets_RT: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Losses [R]; targets of -1 are ignored, a replicate with no other loses 0."""
        weight = weight_RVH.to(dtype)
        is_real = targets_RT >= 0
        share_RT1 = (is_real / is_real.sum(1, keepdim=True).clamp(min=1)).unsqueeze(2)
        share_RT1 = share_RT1.to(hidden_RTH.dtype)
        index_RT1 = targets_RT.clamp(min=0).unsqueeze(2)
        loss_R = hidden_RTH.new_zeros(len(weight))
        needs_grad = any(ctx.needs_input_grad)
        dhidden_RTH = torch.empty_like(hidden_RTH) if needs_grad else None
        dweight_RVH = None
        for first, last in _chunks(hidden_RTH, weight.shape[1]):
            hidden, share = hidden_RTH[:, first:last], share_RT1[:, first:last]
            index = index_RT1[:, first:last]
            logits = product(hidden.to(dtype), weight.mT)
            probs = softmax_(logits, hidden.dtype)
            target_probs = probs.gather(2, index)
            # A loss beyond 87 nats, where float32 has no smaller probability, reads as 87.
            tiny = torch.finfo(probs.dtype).tiny
            loss_R -= (target_probs.clamp(min=tiny).log() * share).sum((1, 2))
            if dhidden_RTH is None:
                continue
            dlogits = probs.scatter_(2, index, target_probs - 1).to(dtype)
            torch.mul(product(dlogits, weight), share, out=dhidden_RTH[:, first:last])
            shared = (hidden * share).to(dtype)
            dweight = product(dlogits.mT, shared).to(hidden.dtype)
            dweight_RVH = dweight if dweight_RVH is None else dweight_RVH.add_(dweight)
        ctx.saved = (dhidden_RTH, dweight_RVH)
        return loss_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden states and weights, computed on the way forward."""
        grad_R11 = grad_R[:, None, None]
        dhidden_RTH, dweight_RVH = ctx.saved
        return dhidden_RTH * grad_R11, dweight_RVH * grad_R11, None, None


def _chunks(hidden_RTH: Tensor, vocab_size: int) -> list[tuple[int, int]]:
    """Even ranges of positions whose logits are held at once."""
    num_replicates, num_tokens, _ = hidden_RTH.shape
    num_logits = num_replicates * num_tokens * vocab_size
    num_chunks = min(num_tokens, -(-num_logits // LOGITS_CHUNK[hidden_RTH.device.type]))
    bounds = [num_tokens * i // num_chunks for i in range(num_chunks + 1)]
    return list(pairwise(bounds))
