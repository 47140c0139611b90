"""Low-rank updates (LoRA, Hu et al. 2021, arXiv 2106.09685) of a stacked model.

Shapes: R replicates, V vocabulary, H hidden, C channels of a head, I inputs, O outputs, K rank.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from knowcap.model.stacked_model import StackedModel


class Ranks(NamedTuple):
    """Ranks of the updates; a matrix whose rank is 0 is not trained."""

    embedding: int
    """Rank at the embedding, and at an output layer of its own."""
    attention: int
    """Rank at the matrices of queries and values."""


class LowRankUpdate(nn.Module):
    """Adds the product of two narrow matrices to stacked weights [R, I, O].

    Parameters
    ----------
    weight
        The weights, [R, I, O]; the update is zero at first.
    rank
        Columns of the one and rows of the other matrix.
    mask
        Outputs that are updated, [O]; None is all.
    num_new_rows
        Last rows, which are trained completely.
    """

    def __init__(
        self, weight: Tensor, rank: int, mask: Tensor | None = None, num_new_rows: int = 0
    ) -> None:
        super().__init__()
        num_replicates, num_inputs, num_outputs = weight.shape
        # ASSUME: the update is not scaled; the paper gives ranks and no alpha. All replicates begin
        # with one matrix, so that none depends on the others.
        down = torch.randn(num_inputs, rank) / math.sqrt(max(1, rank))
        self.down = nn.Parameter(down.to(weight).repeat(num_replicates, 1, 1))
        self.up = nn.Parameter(weight.new_zeros(num_replicates, rank, num_outputs))
        self.rows = nn.Parameter(weight.new_zeros(num_replicates, num_new_rows, num_outputs))
        self.mask = mask

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weights."""
        update = self.down @ self.up
        if self.mask is not None:
            update = update * self.mask
        num_old_rows = update.shape[1] - self.rows.shape[1]
        return weight + update + nn.functional.pad(self.rows, (0, 0, num_old_rows, 0))


def add_lora(model: StackedModel, ranks: Ranks, num_new_tokens: int) -> list[nn.Parameter]:
    """Freeze a model and add trainable low-rank updates; return their parameters.

    Parameters
    ----------
    model
        The replicates.
    ranks
        Ranks of the updates of embedding and attention.
    num_new_tokens
        Tokens at the end of the vocabulary whose embeddings are trained completely.
    """
    model.requires_grad_(False)
    updates = []
    embeddings = [model.embedding.word_embeddings]
    if not model.architecture.tied:
        embeddings.append(model.output_layer)
    for module in embeddings:
        updates.append(LowRankUpdate(module.weight, ranks.embedding, None, num_new_tokens))
        parametrize.register_parametrization(module, "weight", updates[-1])
    for layer in model.decoder.layers:
        module = layer.self_attention.linear_qkv
        mask = _queries_and_values(model).to(module.weight.device)
        updates.append(LowRankUpdate(module.weight, ranks.attention, mask))
        parametrize.register_parametrization(module, "weight", updates[-1])
    return [each for update in updates for each in update.parameters() if each.numel()]


def _queries_and_values(model: StackedModel) -> Tensor:
    """Mask [O] of the outputs of a qkv layer without the keys.

    Outputs are [KV heads, Q + 2, C]: the Q query heads of a KV head, its key and its value.
    """
    architecture = model.architecture
    kv_heads, num_shared = architecture.num_kv_heads, architecture.num_attention_heads
    mask = torch.ones(kv_heads, num_shared // kv_heads + 2, architecture.kv_channels)
    mask[:, -2] = 0
    return mask.flatten()
