"""Causal attention, for stacked replicates and for Megatron's layers.

Shapes: N sequences, S positions, C channels of a head, G = N x heads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from knowcap.data.tokenizer import END_OF_TEXT_ID
from knowcap.model.megatron_core import MegatronModule, TransformerConfig

QUERY_BLOCK = 128
"""Queries of a block on a CPU: long enough for fast products, short enough to skip most of the
masked scores."""


def document_mask(tokens_NS: Tensor) -> Tensor:
    """Whether a position may not attend to another, [N, 1, S, S], as Megatron's attention masks.

    A position attends to itself and to earlier ones of its document, which begins with the end of
    text: in prompts a name follows the end of text, too.
    """
    # DEVIATES: with Megatron's --reset-attention-mask the end of text is the last token of the
    # document before it, so that the next document's first token is predicted from that.
    document_NS = (tokens_NS == END_OF_TEXT_ID).cumsum(-1)
    is_other_NSS = document_NS[:, :, None] != document_NS[:, None, :]
    is_later_SS = torch.ones_like(is_other_NSS[0]).triu(1)
    return (is_other_NSS | is_later_SS).unsqueeze(1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of each position to itself and earlier ones, [N, heads, S, C].

    Scores are divided by sqrt(C). The softmax is computed in float32.

    Parameters
    ----------
    q
        Queries, [N, heads, S, C].
    k, v
        Keys and values, [N, KV heads, S, C]; query heads may share them.
    mask
        See :func:`document_mask`; None is one document.
    """
    if q.is_cuda:
        return fused_attention(q, k, v, mask)
    num_shared = q.shape[1] // k.shape[1]
    if num_shared > 1:
        k, v = (x.repeat_interleave(num_shared, 1) for x in (k, v))
    bias_GSS = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(mask, -torch.inf)
        bias_GSS = bias.expand(-1, q.shape[1], -1, -1).flatten(0, 1)
    q_GSC, k_GSC, v_GSC = (x.flatten(0, 1) for x in (q, k, v))
    return _attend_by_blocks(q_GSC, k_GSC, v_GSC, bias_GSS).view_as(q)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention by torch's kernel; arguments and result as of :func:`causal_attention`."""
    is_shared = q.shape[1] > k.shape[1]
    may_attend = None if mask is None else ~mask
    return scaled_dot_product_attention(
        q, k, v, attn_mask=may_attend, is_causal=mask is None, enable_gqa=is_shared
    )


def _attend_by_blocks(
    q_GSC: Tensor, k_GSC: Tensor, v_GSC: Tensor, bias_GSS: Tensor | None
) -> Tensor:
    """Causal attention as batched products of blocks of queries with the keys before them.

    On a CPU this takes two thirds of the time of torch's kernel in float32, and half of it in
    bfloat16.
    """
    if q_GSC.shape[1] <= QUERY_BLOCK:
        return _attend(q_GSC, k_GSC, v_GSC, bias_GSS)
    q_blocks, k_blocks, v_blocks = (x.split(QUERY_BLOCK, 1) for x in (q_GSC, k_GSC, v_GSC))
    outputs = []
    for number, q in enumerate(q_blocks):
        # Slices of all keys would have gradients of full length, most of them zeros.
        k, v = (torch.cat(blocks[: number + 1], 1) for blocks in (k_blocks, v_blocks))
        first = number * QUERY_BLOCK
        bias = None if bias_GSS is None else bias_GSS[:, first : k.shape[1], : k.shape[1]]
        outputs.append(_attend(q, k, v, bias))
    return torch.cat(outputs, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of a block of queries, whose last query sees all keys if there is no bias."""
    if bias is None:
        bias = _causal_mask(q.shape[1], k.shape[1], q.dtype)
    scores = torch.baddbmm(bias, q, k.mT, alpha=q.shape[2] ** -0.5)
    return torch.bmm(scores.softmax(-1), v)


@cache
def _causal_mask(num_queries: int, num_keys: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity for keys after a query, where the last query sees all keys."""
    mask = torch.full((num_queries, num_keys), -torch.inf, dtype=dtype)
    return mask.triu(1 + num_keys - num_queries)


class CausalAttention(MegatronModule):  # type: ignore[misc]
    """Core attention of a Megatron layer by torch's kernel.

    Megatron's own core attention forks a CUDA random state even without dropout, and it keeps all
    scores in memory.
    """

    def __init__(self, config: TransformerConfig, **_: Any) -> None:
        super().__init__(config=config)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
    ) -> Tensor:
        """Return the attention outputs [S, N, hidden] of inputs [S, N, heads, C]."""
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        out = fused_attention(q, k, v, attention_mask)
        return out.permute(2, 0, 1, 3).flatten(2)
