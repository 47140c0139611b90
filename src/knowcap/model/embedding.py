"""What reads and predicts tokens: the embedding, and the output layer with its loss.

Derivatives are written out; the tests compare them with automatic differentiation in float64.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, V
vocabulary.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from knowcap.model.attention import softmax_
from knowcap.model.matmul import product, product_into

LOGITS_CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Logits that are held at once: on a CPU what its caches hold (docs/performance.md)."""


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
        dweight = torch.ops.aten.embedding_dense_backward(
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
        dweight_RVH = torch.empty_like(weight_RVH) if needs_grad else None
        chunks = _chunks(hidden_RTH, weight.shape[1])
        # One place for the logits of every chunk, which stays in the caches.
        longest = max(last - first for first, last in chunks)
        held = weight.new_empty(len(weight) * longest * weight.shape[1])
        for first, last in chunks:
            hidden, share = hidden_RTH[:, first:last], share_RT1[:, first:last]
            index = index_RT1[:, first:last]
            shape = (len(weight), last - first, weight.shape[1])
            logits = held[: math.prod(shape)].view(shape)
            product_into(logits, hidden.to(dtype), weight.mT, add=False)
            probs = softmax_(logits, hidden.dtype)
            target_probs = probs.gather(2, index)
            # A loss beyond 87 nats, where float32 has no smaller probability, reads as 87.
            tiny = torch.finfo(probs.dtype).tiny
            loss_R -= (target_probs.clamp(min=tiny).log() * share).sum((1, 2))
            if dhidden_RTH is None or dweight_RVH is None:
                continue
            dlogits = probs.scatter_(2, index, target_probs - 1).to(dtype)
            torch.mul(product(dlogits, weight), share, out=dhidden_RTH[:, first:last])
            shared = (hidden * share).to(dtype)
            product_into(dweight_RVH, dlogits.mT, shared, add=first > 0)
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
