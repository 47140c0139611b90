"""The forward and backward pass of a stacked model's parts, derivatives written out.

Each function takes all replicates at once. Gradients are those automatic differentiation would
give; the tests compare the two in float64.

Shapes: R replicates, B sequences, S positions, T = B S tokens, H hidden, N heads, C channels of a
head, V vocabulary, G groups (all heads of all sequences); hidden states are RBSH.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from knowcap.lm.attention import causal_attention, causal_attention_backward
from knowcap.lm.rotary import Rotary

aten = torch.ops.aten

LOGITS_CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Logits that are held at once: on a CPU what its caches hold."""


class Normed(NamedTuple):
    """Hidden states before and after normalisation, with what the backward pass needs."""

    hidden_RTH: Tensor
    standard_RTH: Tensor
    mean: Tensor
    rstd: Tensor


def _normalize(hidden_RBSH: Tensor, eps: float) -> Normed:
    """Hidden states of each token with mean 0 and variance 1."""
    hidden_RTH = hidden_RBSH.flatten(1, 2)
    return Normed(
        hidden_RTH,
        *torch.native_layer_norm(hidden_RTH, hidden_RTH.shape[-1:], None, None, eps),
    )


def _norm_backward(
    grad_RTH: Tensor, normed: Normed, weight_R1H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias."""
    dhidden_RTH = aten.native_layer_norm_backward(
        grad_RTH * weight_R1H,
        normed.hidden_RTH,
        normed.hidden_RTH.shape[-1:],
        normed.mean,
        normed.rstd,
        None,
        None,
        [True, False, False],
    )[0]
    dweight_R1H = (grad_RTH * normed.standard_RTH).sum(1, keepdim=True)
    return dhidden_RTH, dweight_R1H, grad_RTH.sum(1, keepdim=True)


class Norm(Function):
    """Layer norm of hidden states."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normalise, scale and shift."""
        normed = _normalize(hidden, eps)
        ctx.weight, ctx.normed = weight, normed
        return torch.addcmul(bias, normed.standard_RTH, weight).view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first three inputs."""
        dhidden, dweight, dbias = _norm_backward(grad.flatten(1, 2), ctx.normed, ctx.weight)
        return dhidden.view(grad.shape), dweight, dbias, None


class AttentionHalf(Function):
    """hidden + projection(attention(rotary(qkv(norm(hidden)))))."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        qkv_weight: Tensor,
        qkv_bias: Tensor,
        proj_weight: Tensor,
        proj_bias: Tensor,
        rotary: Rotary,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Add to hidden states what they gather from earlier positions."""
        num_replicates, num_sequences, seq_length, width = hidden.shape
        normed = _normalize(hidden, eps)
        inputs_RTH = torch.addcmul(norm_bias, normed.standard_RTH, norm_weight).to(dtype)
        qkv_weight, proj_weight = qkv_weight.to(dtype), proj_weight.to(dtype)
        qkv_RTK = torch.baddbmm(qkv_bias.to(dtype), inputs_RTH, qkv_weight)
        qkv_3GSC = rotary.split(qkv_RTK, seq_length)
        attention = causal_attention(*qkv_3GSC)
        per_sequence = attention.out_GSC.view(-1, rotary.num_heads, seq_length, rotary.num_channels)
        gathered_RTH = per_sequence.transpose(1, 2).reshape(num_replicates, -1, width)
        out_RTH = _add_product(normed.hidden_RTH, gathered_RTH, proj_weight).add_(proj_bias)
        ctx.rotary, ctx.normed, ctx.norm_weight = rotary, normed, norm_weight
        ctx.inputs_RTH, ctx.qkv_weight, ctx.proj_weight = inputs_RTH, qkv_weight, proj_weight
        ctx.qkv_3GSC, ctx.attention, ctx.gathered_RTH = qkv_3GSC, attention.saved, gathered_RTH
        return out_RTH.view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first seven inputs."""
        rotary, dtype = ctx.rotary, ctx.proj_weight.dtype
        num_sequences, seq_length = grad.shape[1:3]
        grad_RTH = grad.flatten(1, 2)
        dout_RTH = grad_RTH.to(dtype)
        dproj_weight = torch.bmm(ctx.gathered_RTH.mT, dout_RTH)
        dgathered_RTH = torch.bmm(dout_RTH, ctx.proj_weight.mT)
        heads_last = dgathered_RTH.view(-1, seq_length, rotary.num_heads, rotary.num_channels)
        dattention_GSC = heads_last.transpose(1, 2).reshape(-1, seq_length, rotary.num_channels)
        dqkv_3GSC = torch.empty_like(ctx.qkv_3GSC)
        causal_attention_backward(dattention_GSC, *ctx.qkv_3GSC, ctx.attention, tuple(dqkv_3GSC))
        shape = torch.Size((*grad_RTH.shape[:2], 3 * grad_RTH.shape[2]))
        dqkv_RTK = rotary.split_backward(dqkv_3GSC, shape)
        dqkv_weight = torch.bmm(ctx.inputs_RTH.mT, dqkv_RTK)
        dinputs_RTH = torch.bmm(dqkv_RTK, ctx.qkv_weight.mT).to(grad.dtype)
        dhidden_RTH, dnorm_weight, dnorm_bias = _norm_backward(
            dinputs_RTH, ctx.normed, ctx.norm_weight
        )
        return (
            dhidden_RTH.add_(grad_RTH).view(grad.shape),
            dnorm_weight,
            dnorm_bias,
            dqkv_weight,
            dqkv_RTK.sum(1, keepdim=True, dtype=grad.dtype),
            dproj_weight,
            grad_RTH.sum(1, keepdim=True),
            None,
            None,
            None,
        )


class FeedForwardHalf(Function):
    """hidden + fc2(gelu(fc1(norm(hidden))))."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        fc1_weight: Tensor,
        fc1_bias: Tensor,
        fc2_weight: Tensor,
        fc2_bias: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Add to each token's hidden state a function of it."""
        normed = _normalize(hidden, eps)
        inputs_RTH = torch.addcmul(norm_bias, normed.standard_RTH, norm_weight).to(dtype)
        fc1_weight, fc2_weight = fc1_weight.to(dtype), fc2_weight.to(dtype)
        inner_RTF = torch.baddbmm(fc1_bias.to(dtype), inputs_RTH, fc1_weight)
        active_RTF = aten.gelu(inner_RTF)
        out_RTH = _add_product(normed.hidden_RTH, active_RTF, fc2_weight).add_(fc2_bias)
        ctx.normed, ctx.norm_weight, ctx.inputs_RTH = normed, norm_weight, inputs_RTH
        ctx.fc1_weight, ctx.fc2_weight = fc1_weight, fc2_weight
        ctx.inner_RTF, ctx.active_RTF = inner_RTF, active_RTF
        return out_RTH.view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the first seven inputs."""
        grad_RTH = grad.flatten(1, 2)
        dout_RTH = grad_RTH.to(ctx.fc2_weight.dtype)
        dfc2_weight = torch.bmm(ctx.active_RTF.mT, dout_RTH)
        dinner_RTF = aten.gelu_backward(torch.bmm(dout_RTH, ctx.fc2_weight.mT), ctx.inner_RTF)
        dfc1_weight = torch.bmm(ctx.inputs_RTH.mT, dinner_RTF)
        dinputs_RTH = torch.bmm(dinner_RTF, ctx.fc1_weight.mT).to(grad.dtype)
        dhidden_RTH, dnorm_weight, dnorm_bias = _norm_backward(
            dinputs_RTH, ctx.normed, ctx.norm_weight
        )
        return (
            dhidden_RTH.add_(grad_RTH).view(grad.shape),
            dnorm_weight,
            dnorm_bias,
            dfc1_weight,
            dinner_RTF.sum(1, keepdim=True, dtype=grad.dtype),
            dfc2_weight,
            grad_RTH.sum(1, keepdim=True),
            None,
            None,
        )


def _add_product(residual_RTH: Tensor, left_RTI: Tensor, right_RIH: Tensor) -> Tensor:
    """residual + left @ right, in the residual's dtype."""
    if left_RTI.dtype == residual_RTH.dtype:
        return torch.baddbmm(residual_RTH, left_RTI, right_RIH)
    return residual_RTH + torch.bmm(left_RTI, right_RIH)


class Embedding(Function):
    """Rows of each replicate's table."""

    @staticmethod
    def forward(ctx: Any, weight_RVH: Tensor, tokens_RBS: Tensor) -> Tensor:
        """Look up tokens."""
        replicates = torch.arange(weight_RVH.shape[0], device=weight_RVH.device)[:, None, None]
        ctx.shape = weight_RVH.shape
        ctx.rows_RBS = tokens_RBS + replicates * weight_RVH.shape[1]
        return weight_RVH[replicates, tokens_RBS]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient of the tables: sums over the occurrences of a token."""
        num_rows = ctx.shape[0] * ctx.shape[1]
        dweight = aten.embedding_dense_backward(
            grad.reshape(-1, ctx.shape[2]), ctx.rows_RBS.flatten(), num_rows, -1, False
        )
        return dweight.view(ctx.shape), None


class OutputLoss(Function):
    """Mean cross-entropy of each replicate's next tokens, in nats.

    Logits exist for a chunk of positions at a time, and their gradients are used up at once: with
    p the softmax of a token's logits and y its target, dlogits = (p - onehot(y)) / count.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RBSH: Tensor, weight_RVH: Tensor, targets_RBS: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Losses [R]; targets of -1 are ignored, a replicate with no other loses 0."""
        hidden_RTH, targets_RT = hidden_RBSH.flatten(1, 2), targets_RBS.flatten(1)
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
            logits = torch.bmm(hidden.to(dtype), weight.mT)
            probs = torch.softmax(logits, -1, dtype=hidden.dtype)
            target_probs = probs.gather(2, index)
            # A loss beyond 87 nats, where float32 has no smaller probability, reads as 87.
            tiny = torch.finfo(probs.dtype).tiny
            loss_R -= (target_probs.clamp(min=tiny).log() * share).sum((1, 2))
            if dhidden_RTH is None:
                continue
            dlogits = probs.scatter_(2, index, target_probs - 1).to(dtype)
            torch.mul(torch.bmm(dlogits, weight), share, out=dhidden_RTH[:, first:last])
            shared = (hidden * share).to(dtype)
            dweight = torch.bmm(dlogits.mT, shared).to(hidden.dtype)
            dweight_RVH = dweight if dweight_RVH is None else dweight_RVH.add_(dweight)
        ctx.dhidden_RTH, ctx.dweight_RVH, ctx.shape = dhidden_RTH, dweight_RVH, hidden_RBSH.shape
        return loss_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden states and weights, computed on the way forward."""
        grad_R11 = grad_R[:, None, None]
        return (ctx.dhidden_RTH * grad_R11).view(ctx.shape), ctx.dweight_RVH * grad_R11, None, None


def _chunks(hidden_RTH: Tensor, vocab_size: int) -> list[tuple[int, int]]:
    """Even ranges of positions whose logits are held at once."""
    num_replicates, num_tokens, _ = hidden_RTH.shape
    num_logits = num_replicates * num_tokens * vocab_size
    num_chunks = min(num_tokens, -(-num_logits // LOGITS_CHUNK[hidden_RTH.device.type]))
    bounds = [num_tokens * i // num_chunks for i in range(num_chunks + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))
