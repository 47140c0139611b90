"""Replicates of a model as one model: the layers that go into Megatron's ModuleSpec.

Tiny models are bound by the number of operations, not by their arithmetic. So R models of one
shape train as one, whose parameters have a leading dimension of replicates: a linear layer is one
batched product, and losses of replicates add up, which keeps their gradients apart. Each half of a
layer is one autograd function with its derivatives written out, because automatic differentiation
of a dozen small operations costs more than they do.

Matrix products are in the compute dtype (float32 or bfloat16); weights, norms, softmax, loss and
the residual stream are float32.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden, V
vocabulary. Hidden states are [R, T, H], which needs no copy on the way into a batched product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from knowcap.model.activations import activation
from knowcap.model.block import AttentionHalf, FeedForwardHalf
from knowcap.model.embedding import Embedding
from knowcap.model.linear import StackedLinear, StackedMLP
from knowcap.model.megatron_core import BaseTransformerLayer, MegatronModule, TransformerConfig
from knowcap.model.moe import Routing, StackedExperts
from knowcap.model.norm import Norm
from knowcap.model.rotary import Rotation


class StackedNorm(nn.Module):
    """R LayerNorms, weights and biases [R, 1, H], or RMSNorms, which have no biases."""

    def __init__(
        self, config: TransformerConfig, hidden_size: int, eps: float, num_replicates: int
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(num_replicates, 1, hidden_size))
        has_bias = config.normalization == "LayerNorm"
        bias = torch.empty(num_replicates, 1, hidden_size) if has_bias else None
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, hidden_RTH: Tensor) -> Tensor:
        """Normalise each token's hidden state."""
        normed_RTH: Tensor = Norm.apply(hidden_RTH, self.weight, self.bias, self.eps)
        return normed_RTH


class StackedEmbedding(nn.Module):
    """R tables [R, V, H], each looked up with its own replicate's tokens.

    An output layer of its own is another one.
    """

    def __init__(self, num_replicates: int, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_replicates, vocab_size, hidden_size))

    def forward(self, tokens_RT: Tensor) -> Tensor:
        """Hidden states [R, T, H] of tokens [R, T]."""
        hidden_RTH: Tensor = Embedding.apply(self.weight, tokens_RT)
        return hidden_RTH


class StackedAttention(nn.Module):
    """The attention half of R layers."""

    def __init__(self, config: TransformerConfig, num_replicates: int) -> None:
        super().__init__()
        width = config.hidden_size
        num_heads = config.num_attention_heads + 2 * config.num_query_groups
        qkv_width = num_heads * config.kv_channels
        self.linear_qkv = StackedLinear(config, (num_replicates,), width, qkv_width)
        self.linear_proj = StackedLinear(config, (num_replicates,), width, width)


class StackedLayer(MegatronModule, BaseTransformerLayer):  # type: ignore[misc]
    """R transformer layers, with the parameter names of Megatron's."""

    def __init__(
        self,
        config: TransformerConfig,
        num_replicates: int,
        dtype: torch.dtype,
        layer_number: int = 1,
        **_: Any,
    ) -> None:
        MegatronModule.__init__(self, config=config)
        self.layer_number = layer_number
        self.dtype = dtype
        width, eps = config.hidden_size, config.layernorm_epsilon
        self.input_layernorm = StackedNorm(config, width, eps, num_replicates)
        self.self_attention = StackedAttention(config, num_replicates)
        if config.ffn_hidden_size:
            self.pre_mlp_layernorm = StackedNorm(config, width, eps, num_replicates)
            self.mlp: StackedMLP | StackedExperts = (
                StackedExperts(config, num_replicates)
                if config.num_moe_experts
                else StackedMLP(config, (num_replicates,))
            )
        self.activation = activation(config.activation_func, gated=config.gated_linear_unit)

    def forward(
        self,
        hidden_states: Tensor,
        rotary_pos_emb: Rotation,
        padding_mask: Routing | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Hidden states [R, T, H] after the layer, and the context that Megatron asks for.

        What a choice of experts has to know comes in Megatron's argument for that.
        """
        eps = self.config.layernorm_epsilon
        norm, attention = self.input_layernorm, self.self_attention
        qkv, proj = attention.linear_qkv, attention.linear_proj
        weights = (norm.weight, norm.bias, qkv.weight, qkv.bias, proj.weight, proj.bias)
        hidden_RTH = AttentionHalf.apply(hidden_states, *weights, rotary_pos_emb, eps, self.dtype)
        if not self.config.ffn_hidden_size:
            return hidden_RTH, None
        if isinstance(self.mlp, StackedExperts):
            assert padding_mask is not None
            normed_RTH = self.pre_mlp_layernorm(hidden_RTH)
            return hidden_RTH + self.mlp(normed_RTH, padding_mask, self.dtype), None
        norm, fc1, fc2 = self.pre_mlp_layernorm, self.mlp.linear_fc1, self.mlp.linear_fc2
        weights = (norm.weight, norm.bias, fc1.weight, fc1.bias, fc2.weight, fc2.bias)
        return FeedForwardHalf.apply(hidden_RTH, *weights, self.activation, eps, self.dtype), None
