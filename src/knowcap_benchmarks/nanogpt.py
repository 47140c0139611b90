"""The model of nanoGPT, written in its terms, as nanoGPT is not published as a package.

Learned positions, LayerNorm before attention and MLP, torch's scaled dot product attention, biases,
an output layer tied to the embedding, and no dropout. It is trained as nanoGPT trains: autocast to
bfloat16, torch.compile and fused AdamW.

Shapes: B windows, S positions, H hidden, N heads, C channels of a head, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name


class Block(nn.Module):
    """One transformer layer."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.fc1 = nn.Linear(hidden_size, 4 * hidden_size)
        self.fc2 = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        """Hidden states after the layer, [B, S, H]."""
        heads = self.qkv(self.attention_norm(hidden_BSH)).chunk(3, -1)
        q, k, v = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in heads)
        out_BNSC = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden_BSH = hidden_BSH + self.proj(out_BNSC.transpose(1, 2).flatten(-2))
        inner = F.gelu(self.fc1(self.mlp_norm(hidden_BSH)))
        updated: Tensor = hidden_BSH + self.fc2(inner)
        return updated


class NanoGPT(nn.Module):
    """GPT with learned positions and a tied output layer."""

    def __init__(
        self, *, vocab_size: int, num_layers: int, num_heads: int, kv_channels: int, seq_length: int
    ) -> None:
        super().__init__()
        width = num_heads * kv_channels
        self.embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(seq_length, width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens_BS: Tensor, targets_BS: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        positions_S = torch.arange(tokens_BS.shape[1], device=tokens_BS.device)
        hidden_BSH = self.embedding(tokens_BS) + self.positions(positions_S)
        for block in self.blocks:
            hidden_BSH = block(hidden_BSH)
        logits_BSV = F.linear(self.norm(hidden_BSH), self.embedding.weight)
        return F.cross_entropy(logits_BSV.flatten(0, 1), targets_BS.flatten())
