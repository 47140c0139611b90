"""Causal attention: the arithmetic of one head on a CPU, the library's kernel on a GPU.

On a CPU the library's `scaled_dot_product_attention` is slow at the sizes studied here. Plain
matrix products over blocks of queries, each against the keys it may see, are 1.7 times faster; a
short window is a single block. Forward and backward are plain functions, so that a whole
sub-block of a layer can be one autograd function (:mod:`knowcap.lm.stacked`).

Shapes: G groups (replicates x sequences x heads), S positions, C channels of a head.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from knowcap.lm.parallel import MegatronModule, TransformerConfig

QUERY_BLOCK = 128
"""Queries of a block: long enough for efficient products, short enough to skip most of the mask."""


class Attention(NamedTuple):
    """What :func:`causal_attention` computed: its output and what its backward pass reuses."""

    out_GSC: Tensor
    saved: tuple[Tensor, ...]


def causal_attention(q_GSC: Tensor, k_GSC: Tensor, v_GSC: Tensor) -> Attention:
    """Attend from every position to itself and those before it.

    Queries are already scaled by 1 / sqrt(C). The softmax is in float32 whatever the operands are.
    """
    if q_GSC.is_cuda:
        return _library_attention(q_GSC, k_GSC, v_GSC)
    seq_length = q_GSC.shape[1]
    if seq_length <= QUERY_BLOCK:
        probs = _probabilities(q_GSC, k_GSC, 0, seq_length)
        return Attention(torch.bmm(probs, v_GSC), (probs,))
    out_GSC = torch.empty_like(q_GSC)
    saved = []
    for first in range(0, seq_length, QUERY_BLOCK):
        last = min(first + QUERY_BLOCK, seq_length)
        probs = _probabilities(q_GSC, k_GSC, first, last)
        torch.bmm(probs, v_GSC[:, :last], out=out_GSC[:, first:last])
        saved.append(probs)
    return Attention(out_GSC, tuple(saved))


def causal_attention_backward(
    grad_GSC: Tensor,
    q_GSC: Tensor,
    k_GSC: Tensor,
    v_GSC: Tensor,
    saved: tuple[Tensor, ...],
    out: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of queries, keys and values into `out`.

    With p = softmax(q k^T): dv = p^T do, dp = do v^T, ds = p (dp - sum(p dp)), dq = ds k,
    dk = ds^T q.
    """
    dq_GSC, dk_GSC, dv_GSC = out
    if q_GSC.is_cuda:
        for gradient, value in zip(out, _library_attention_backward(grad_GSC, saved), strict=True):
            gradient.copy_(value)
        return
    last = q_GSC.shape[1]
    # From the last block to the first: it sees every key, so it writes what the others add to.
    for probs in reversed(saved):
        first = last - probs.shape[1]
        rows = slice(first, last)
        beta = 0 if last == q_GSC.shape[1] else 1
        probs_T, grad = probs.mT, grad_GSC[:, rows]
        dscores = torch.bmm(grad, v_GSC[:, :last].mT)
        dscores = torch._softmax_backward_data(dscores, probs, -1, probs.dtype)
        dv_GSC[:, :last].baddbmm_(probs_T, grad, beta=beta)
        dk_GSC[:, :last].baddbmm_(dscores.mT, q_GSC[:, rows], beta=beta)
        torch.bmm(dscores, k_GSC[:, :last], out=dq_GSC[:, rows])
        last = first


def _probabilities(q_GSC: Tensor, k_GSC: Tensor, first: int, last: int) -> Tensor:
    """Softmax of the scores of queries [first, last) over the keys they may see."""
    scores = torch.bmm(q_GSC[:, first:last], k_GSC[:, :last].mT)
    scores[:, :, first:] += _mask(last - first, scores.dtype)
    return torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(
        scores.dtype
    )


@cache
def _mask(num_queries: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity above the diagonal."""
    return torch.full((num_queries, num_queries), -torch.inf, dtype=dtype).triu(1)


def _library_attention(q_GSC: Tensor, k_GSC: Tensor, v_GSC: Tensor) -> Attention:
    """Use the library's fused attention, keeping its own graph for the backward pass."""
    with torch.enable_grad():
        leaves = [x.detach().unsqueeze(0).requires_grad_() for x in (q_GSC, k_GSC, v_GSC)]
        out = F.scaled_dot_product_attention(*leaves, is_causal=True, scale=1.0)
    return Attention(out.detach().squeeze(0), (out, *leaves))


def _library_attention_backward(grad_GSC: Tensor, saved: tuple[Tensor, ...]) -> list[Tensor]:
    out, *leaves = saved
    return [x.squeeze(0) for x in torch.autograd.grad(out, leaves, grad_GSC.unsqueeze(0))]


class CausalAttention(MegatronModule):  # type: ignore[misc]
    """Core attention of an ordinary Megatron layer.

    Megatron's own forks a CUDA random state even without dropout and keeps all scores.
    """

    def __init__(self, config: TransformerConfig, **_: Any) -> None:
        super().__init__(config=config)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        """Attend; [s, b, heads, channels] each, the answer [s, b, hidden]."""
        heads_first = [x.permute(1, 2, 0, 3) for x in (query, key, value)]
        out = F.scaled_dot_product_attention(*heads_first, is_causal=True)
        return out.permute(2, 0, 1, 3).flatten(2)
