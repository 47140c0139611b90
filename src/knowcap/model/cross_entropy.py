"""Output layer and cross-entropy in one function that never holds all logits.

Shapes: R replicates, T tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LOGITS_PER_CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Logits in memory at once, by device type; on a CPU they stay in its caches."""


class LinearCrossEntropy(Function):
    """Mean cross-entropy of each replicate's next tokens, in nats.

    The forward pass also computes the gradients, chunk by chunk: with p the softmax of a token's
    logits and y its target, dlogits = (p - onehot(y)) / count.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RTH: Tensor, weight_RVH: Tensor, targets_RT: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Return the losses [R]; targets of -1 are ignored, and 0 is the loss of no target.

        Products are in `dtype`, the softmax and the sums in the dtype of the hidden states.
        """
        weight = weight_RVH.to(dtype)
        is_target = targets_RT >= 0
        share_RT1 = (is_target / is_target.sum(1, keepdim=True).clamp(min=1)).unsqueeze(2)
        share_RT1 = share_RT1.to(hidden_RTH.dtype)
        index_RT1 = targets_RT.clamp(min=0).unsqueeze(2)
        loss_R = hidden_RTH.new_zeros(len(weight))
        needs_grad = any(ctx.needs_input_grad)
        dhidden_RTH = torch.empty_like(hidden_RTH) if needs_grad else None
        dweight_RVH = torch.zeros_like(weight_RVH) if needs_grad else None
        chunks = _chunks(hidden_RTH, weight.shape[1])
        # All chunks share buffers, which stay in the caches.
        size = len(weight) * max(last - first for first, last in chunks) * weight.shape[1]
        logits_buffer = weight.new_empty(size)
        is_exact = dtype == hidden_RTH.dtype
        probs_buffer = logits_buffer if is_exact else hidden_RTH.new_empty(size)
        for first, last in chunks:
            hidden, share = hidden_RTH[:, first:last], share_RT1[:, first:last]
            index = index_RT1[:, first:last]
            shape = (len(weight), last - first, weight.shape[1])
            logits, probs = (
                x[: math.prod(shape)].view(shape) for x in (logits_buffer, probs_buffer)
            )
            torch.bmm(hidden.to(dtype), weight.mT, out=logits)
            if not is_exact:
                probs.copy_(logits)
            torch.softmax(probs, -1, out=probs)
            target_probs = probs.gather(2, index)
            # Losses above 87 nats, where float32 has no smaller probability, become 87.
            tiny = torch.finfo(probs.dtype).tiny
            loss_R -= (target_probs.clamp(min=tiny).log() * share).sum((1, 2))
            if dhidden_RTH is None or dweight_RVH is None:
                continue
            dlogits = logits.copy_(probs.scatter_(2, index, target_probs - 1))
            torch.mul(torch.bmm(dlogits, weight), share, out=dhidden_RTH[:, first:last])
            scaled = (hidden * share).to(dtype)
            if dweight_RVH.dtype == dtype:
                dweight_RVH.baddbmm_(dlogits.mT, scaled)
            else:
                dweight_RVH += torch.bmm(dlogits.mT, scaled)
        ctx.save_for_backward(dhidden_RTH, dweight_RVH)
        return loss_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden states and weights."""
        grad_R11 = grad_R[:, None, None]
        dhidden_RTH, dweight_RVH = ctx.saved_tensors
        return dhidden_RTH * grad_R11, dweight_RVH * grad_R11, None, None


def _chunks(hidden_RTH: Tensor, vocab_size: int) -> list[tuple[int, int]]:
    """Even ranges of positions of at most LOGITS_PER_CHUNK logits."""
    num_replicates, num_tokens, _ = hidden_RTH.shape
    num_logits = num_replicates * num_tokens * vocab_size
    num_chunks = min(num_tokens, -(-num_logits // LOGITS_PER_CHUNK[hidden_RTH.device.type]))
    bounds = [num_tokens * i // num_chunks for i in range(num_chunks + 1)]
    return list(pairwise(bounds))
