"""GPT2 with rotary embedding in plain PyTorch, written for speed: the baseline to beat.

It uses neither Megatron nor code of knowcap, and trains one model. It is fast through causal
attention in blocks of queries, matrix products in bfloat16 with a float32 residual, a chunked
output layer that computes its gradient together with the loss, torch.compile, and fused AdamW.

Shapes: B windows, S positions, H hidden, N heads, C channels of a head, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812 - its usual name

QUERY_BLOCK = 128
"""Queries of one block of attention on a CPU."""

LOGITS_CHUNK = 2**20
"""Logits in memory at a time."""


class LinearCrossEntropy(Function):
    """Mean cross-entropy over chunks of tokens, with the gradient computed in forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden_TH: Tensor, weight_VH: Tensor, targets_T: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Compute the loss in nats and save the gradients."""
        weight = weight_VH.to(dtype)
        num_tokens = len(hidden_TH)
        dhidden_TH, dweight_VH = torch.empty_like(hidden_TH), torch.zeros_like(weight_VH)
        loss = hidden_TH.new_zeros(())
        for hidden, targets, dhidden in zip(
            *(x.split(max(1, LOGITS_CHUNK // len(weight))) for x in (hidden_TH, targets_T)),
            dhidden_TH.split(max(1, LOGITS_CHUNK // len(weight))),
            strict=True,
        ):
            inputs, index = hidden.to(dtype), targets.unsqueeze(1)
            logits = (inputs @ weight.T).float()
            probs = torch.softmax(logits, 1, out=logits)
            target_probs = probs.gather(1, index)
            loss -= target_probs.clamp(min=torch.finfo(probs.dtype).tiny).log().sum()
            probs.scatter_(1, index, target_probs - 1)
            dlogits = probs.to(dtype)
            dhidden.copy_(dlogits @ weight)
            dweight_VH += dlogits.T @ inputs
        ctx.save_for_backward(dhidden_TH.div_(num_tokens), dweight_VH.div_(num_tokens))
        return loss / num_tokens

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the hidden states and the weights."""
        dhidden_TH, dweight_VH = ctx.saved_tensors
        return dhidden_TH * grad, dweight_VH * grad, None, None


class Block(nn.Module):
    """One transformer layer."""

    def __init__(self, hidden_size: int, num_heads: int, rotary_dim: int, dtype: torch.dtype):
        super().__init__()
        self.num_heads, self.rotary_dim, self.dtype = num_heads, rotary_dim, dtype
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.fc1 = nn.Linear(hidden_size, 4 * hidden_size)
        self.fc2 = nn.Linear(4 * hidden_size, hidden_size)

    def _linear(self, layer: nn.Linear, inputs: Tensor) -> Tensor:
        return F.linear(
            inputs.to(self.dtype), layer.weight.to(self.dtype), layer.bias.to(self.dtype)
        )

    def forward(self, hidden_BSH: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Hidden states after the layer, [B, S, H]."""
        num_windows, seq_length, width = hidden_BSH.shape
        qkv = self._linear(self.qkv, self.attention_norm(hidden_BSH))
        heads = qkv.view(num_windows, seq_length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads[0], heads[1], heads[2]
        q = self._rotary(q, cos, sin) * q.shape[-1] ** -0.5
        k = self._rotary(k, cos, sin)
        out = self._attention(q, k, v, mask).transpose(1, 2).reshape(num_windows, seq_length, width)
        hidden_BSH = hidden_BSH + self._linear(self.proj, out)
        inner = F.gelu(self._linear(self.fc1, self.mlp_norm(hidden_BSH)))
        return hidden_BSH + self._linear(self.fc2, inner)

    def _rotary(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rotary_part, rest = heads[..., : self.rotary_dim], heads[..., self.rotary_dim :]
        left, right = rotary_part.float().chunk(2, -1)
        rotated = torch.cat((left * cos - right * sin, right * cos + left * sin), -1)
        return torch.cat((rotated.to(self.dtype), rest), -1)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Causal attention of [B, N, S, C]."""
        if q.is_cuda:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        blocks = []
        for first in range(0, q.shape[2], QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, q.shape[2])
            scores = (q[:, :, first:last] @ k[:, :, :last].mT).float() + mask[first:last, :last]
            blocks.append(torch.softmax(scores, -1).to(self.dtype) @ v[:, :, :last])
        return torch.cat(blocks, 2)


class PlainGPT2(nn.Module):
    """GPT2 with rotary embedding, a tied output layer and no dropout."""

    cos: Tensor
    sin: Tensor
    mask: Tensor

    def __init__(
        self,
        *,
        vocab_size: int,
        num_layers: int,
        num_heads: int,
        kv_channels: int,
        rotary_dim: int,
        seq_length: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        width, self.dtype = num_heads * kv_channels, dtype
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, rotary_dim, dtype) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        frequencies = 10000.0 ** -(torch.arange(0, rotary_dim, 2) / rotary_dim)
        angles = torch.arange(seq_length)[:, None] * frequencies
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        mask = torch.full((seq_length, seq_length), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """Hidden states of the tokens, [B, S, H]."""
        hidden_BSH = self.embedding(tokens_BS)
        for block in self.blocks:
            hidden_BSH = block(hidden_BSH, self.cos, self.sin, self.mask)
        normed: Tensor = self.norm(hidden_BSH)
        return normed
