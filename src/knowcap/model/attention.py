"""Causal attention: plain matrix products on a CPU, the library's kernel on a GPU.

On a CPU the library's `scaled_dot_product_attention` is slow at the sizes studied here. Plain
matrix products over blocks of queries, each against the keys it may see, are 1.7 times faster; a
short window is a single block. Forward and backward are plain functions, so that a whole half of a
layer can be one autograd function (:mod:`knowcap.model.block`).

Shapes: G groups (all heads of all sequences), S positions, C channels of a head.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from knowcap.model.matmul import product, product_into
from knowcap.model.megatron_core import MegatronModule, TransformerConfig

_softmax_backward = torch.ops.aten._softmax_backward_data.out

QUERY_BLOCK = 128
"""Queries of a block: long enough for efficient products, short enough to skip most of the mask."""


class Attention(NamedTuple):
    """What :func:`causal_attention` computed: its output and what its backward pass reuses."""

    out: Tensor
    saved: tuple[Tensor, ...]


def causal_attention(q_GSC: Tensor, k_GSC: Tensor, v_GSC: Tensor) -> Attention:
    """Attend from every position to itself and those before it.

    Queries are already scaled by 1 / sqrt(C). The softmax is in float32 whatever the operands are.
    """
    if q_GSC.is_cuda:
        return _library_attention(q_GSC, k_GSC, v_GSC)
    seq_length = q_GSC.shape[1]
    if seq_length <= QUERY_BLOCK:
        probs = _probabilities(q_GSC, k_GSC)
        return Attention(product(probs, v_GSC), (probs,))
    out_GSC = torch.empty_like(q_GSC)
    saved = []
    for first in range(0, seq_length, QUERY_BLOCK):
        last = min(first + QUERY_BLOCK, seq_length)
        probs = _probabilities(q_GSC[:, first:last], k_GSC[:, :last])
        product_into(out_GSC[:, first:last], probs, v_GSC[:, :last], add=False)
        saved.append(probs)
    return Attention(out_GSC, tuple(saved))


def causal_attention_backward(
    grad_GSC: Tensor, qkv_3GSC: Tensor, saved: tuple[Tensor, ...]
) -> Tensor:
    """Gradients of queries, keys and values, [3, G, S, C].

    With p = softmax(q k^T): dv = p^T do, dp = do v^T, ds = p (dp - sum(p dp)), dq = ds k,
    dk = ds^T q.
    """
    if grad_GSC.is_cuda:
        return _library_attention_backward(grad_GSC, saved)
    q_GSC, k_GSC, v_GSC = qkv_3GSC
    grads_3GSC = torch.empty(qkv_3GSC.shape, dtype=grad_GSC.dtype)
    dq_GSC, dk_GSC, dv_GSC = grads_3GSC
    seq_length = last = q_GSC.shape[1]
    # The last block sees every key, so it writes what earlier blocks add to.
    for probs in reversed(saved):
        first = last - probs.shape[1]
        add = last < seq_length
        grad_block = grad_GSC[:, first:last]
        dprobs = product(grad_block, v_GSC[:, :last].mT)
        dscores = _softmax_backward(dprobs, probs, -1, probs.dtype, grad_input=dprobs)
        product_into(dq_GSC[:, first:last], dscores, k_GSC[:, :last], add=False)
        product_into(dk_GSC[:, :last], dscores.mT, q_GSC[:, first:last], add=add)
        product_into(dv_GSC[:, :last], probs.mT, grad_block, add=add)
        last = first
    return grads_3GSC


def _probabilities(q_GSC: Tensor, k_GSC: Tensor) -> Tensor:
    """Attention of a block of queries, whose last sees all of these keys."""
    scores = product(q_GSC, k_GSC.mT)
    num_queries = q_GSC.shape[1]
    scores[:, :, -num_queries:].add_(_mask(num_queries, scores.dtype))
    return softmax_(scores, scores.dtype)


def softmax_(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax over the last dimension, in place if the scores have the dtype that is wanted.

    It is computed in float32, also if it is to be rounded to bfloat16.
    """
    scores = scores.to(dtype)
    return torch.softmax(scores, -1, out=scores)


@cache
def _mask(num_queries: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity above the diagonal."""
    return torch.full((num_queries, num_queries), -torch.inf, dtype=dtype).triu(1)


def _library_attention(q_GSC: Tensor, k_GSC: Tensor, v_GSC: Tensor) -> Attention:
    """Use the library's fused attention, keeping its own graph for the backward pass."""
    with torch.enable_grad():
        q, k, v = (x.detach().unsqueeze(0).requires_grad_() for x in (q_GSC, k_GSC, v_GSC))
        out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    return Attention(out.detach().squeeze(0), (out, q, k, v))


def _library_attention_backward(grad_GSC: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
    """Run the graph that the forward pass kept."""
    out, *leaves = saved
    return torch.cat(torch.autograd.grad(out, leaves, grad_GSC.unsqueeze(0)))


class CausalAttention(MegatronModule):  # type: ignore[misc]
    """Core attention of an ordinary Megatron layer.

    Megatron's own forks a CUDA random state even without dropout and keeps all scores.
    """

    def __init__(self, config: TransformerConfig, **_: Any) -> None:
        super().__init__(config=config)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        """Attend; [s, b, heads, channels] each, the answer [s, b, hidden]."""
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        is_shared = q.shape[1] > k.shape[1]  # keys and values, by several heads
        out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=is_shared)
        return out.permute(2, 0, 1, 3).flatten(2)
