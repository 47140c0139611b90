"""Transformer layer of stacked replicates, for Megatron's ModuleSpec.

Products are in the compute dtype (float32 or bfloat16). Parameters, norms, softmax, router, loss
and the residual stream are in float32.

Shapes: R replicates, T tokens (sequences of S positions one after the other), H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from knowcap.config import Architecture
from knowcap.model.block import AttentionBlock, MLPBlock
from knowcap.model.megatron_core import BaseTransformerLayer, MegatronModule, TransformerConfig
from knowcap.model.moe import MoEBlock, Routing
from knowcap.model.norm import StackedNorm


class StackedLayer(MegatronModule, BaseTransformerLayer):  # type: ignore[misc]
    """Transformer layers of R replicates, with Megatron's parameter names."""

    def __init__(
        self,
        config: TransformerConfig,
        architecture: Architecture,
        num_replicates: int,
        dtype: torch.dtype,
        layer_number: int = 1,
        **_: Any,
    ) -> None:
        MegatronModule.__init__(self, config=config)
        self.architecture = architecture
        self.layer_number = layer_number
        self.dtype = dtype
        width, eps = config.hidden_size, config.layernorm_epsilon
        self.input_layernorm = StackedNorm(config, width, eps, num_replicates)
        self.self_attention = AttentionBlock(config, num_replicates)
        if config.ffn_hidden_size:
            self.pre_mlp_layernorm = StackedNorm(config, width, eps, num_replicates)
            self.mlp: MLPBlock | MoEBlock = (
                MoEBlock(config, num_replicates)
                if config.num_moe_experts
                else MLPBlock(config, (num_replicates,))
            )

    def forward(
        self,
        hidden_states: Tensor,
        rotary_pos_emb: Tensor,
        attention_mask: Tensor | None = None,
        padding_mask: Routing | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Return the hidden states [R, T, H] after the layer, and no cross-attention context.

        Parameters
        ----------
        hidden_states
            [R, T, H] in float32.
        rotary_pos_emb
            See :func:`knowcap.model.rotary.rotary_factors`.
        attention_mask
            See :func:`knowcap.model.attention.document_mask`; None is one document a sequence.
        padding_mask
            Inputs and results of the routers, in Megatron's argument for padding.
        """
        normed_RTH = self.input_layernorm(hidden_states).to(self.dtype)
        hidden_RTH = self.self_attention(normed_RTH, hidden_states, rotary_pos_emb, attention_mask)
        if not self.config.ffn_hidden_size:
            return hidden_RTH, None
        normed_RTH = self.pre_mlp_layernorm(hidden_RTH)
        if isinstance(self.mlp, MoEBlock):
            assert padding_mask is not None
            return hidden_RTH + self.mlp(normed_RTH, padding_mask, self.dtype), None
        return self.mlp(normed_RTH.to(self.dtype), hidden_RTH), None
