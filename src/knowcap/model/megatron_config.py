"""An architecture record in Megatron-core's terms.

Nothing is dropped out, and positions are only in the rotation of queries and keys.
"""

from __future__ import annotations

from typing import Any

import torch

from knowcap.config import Architecture
from knowcap.model.attention import CausalAttention
from knowcap.model.megatron_core import (
    GPTModel,
    IdentityFuncOp,
    IdentityOp,
    ModuleSpec,
    TransformerConfig,
    get_gpt_layer_local_spec,
)
from knowcap.model.num_params import ffn_hidden_size

NORM_EPSILON = 1e-5
"""As GPT-2 has it."""

ACTIVATIONS = {
    # ASSUME: gelu itself. GPT-2's code computes an approximation by tanh, which is nowhere more
    # than 0.0005 away and takes three times as long on a CPU; the paper says "gelu".
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}


def transformer_config(architecture: Architecture) -> TransformerConfig:
    """Megatron's description of the transformer's layers."""
    return TransformerConfig(
        num_layers=architecture.num_layers,
        hidden_size=architecture.hidden_size,
        ffn_hidden_size=ffn_hidden_size(architecture),
        num_attention_heads=architecture.num_attention_heads,
        num_query_groups=architecture.num_kv_heads,
        kv_channels=architecture.kv_channels,
        normalization=architecture.normalization,
        layernorm_epsilon=NORM_EPSILON,
        add_bias_linear=architecture.add_bias,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        gated_linear_unit=architecture.gated,
        activation_func=ACTIVATIONS[architecture.activation],
        # ASSUME: neighbouring channels are rotated together. GPT-NeoX pairs channels half a head
        # apart, which is the same model with its channels in another order.
        rotary_interleaved=True,
        init_method_std=architecture.init_method_std,
        use_cpu_initialization=True,
        # The fused paths compile at first use, for tens of seconds a process.
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        gradient_accumulation_fusion=False,
        cuda_graph_scope=[],  # its default warns of being deprecated
        **_choice_of_experts(architecture),
    )


def _choice_of_experts(architecture: Architecture) -> dict[str, Any]:
    """Megatron's description of experts, if there are any."""
    if not architecture.num_moe_experts:
        return {}
    return {
        "num_moe_experts": architecture.num_moe_experts,
        "moe_ffn_hidden_size": ffn_hidden_size(architecture),
        "moe_router_topk": architecture.moe_router_topk,
        # A single expert's output is weighed by its probability among all, several experts' by
        # their probabilities among themselves.
        "moe_router_pre_softmax": architecture.moe_router_topk == 1,
        "moe_router_load_balancing_type": "aux_loss",
        "moe_aux_loss_coeff": architecture.moe_aux_loss_coeff,
        "moe_token_dispatcher_type": "allgather",
    }


def layer_spec(architecture: Architecture) -> ModuleSpec:
    """Megatron's description of one layer, of its own modules but for the attention itself."""
    spec = get_gpt_layer_local_spec(
        num_experts=architecture.num_moe_experts or None,
        normalization=architecture.normalization,
    )
    spec.submodules.self_attention.submodules.core_attention = CausalAttention
    if not architecture.mlp_weights:
        spec.submodules.pre_mlp_layernorm = spec.submodules.mlp = IdentityOp
        spec.submodules.mlp_bda = IdentityFuncOp
    return spec


def gpt_model(architecture: Architecture, vocab_size: int, max_sequence_length: int) -> GPTModel:
    """Build an ordinary Megatron model, with Megatron's layers and random weights.

    It is what a trained replicate is exported to; training itself is
    :class:`knowcap.model.stacked_model.StackedModel`'s. :func:`knowcap.model.megatron_core.start` comes first.
    Experts take every token that chooses them.
    """
    return GPTModel(
        transformer_config(architecture),
        layer_spec(architecture),
        vocab_size=vocab_size,
        max_sequence_length=max_sequence_length,
        share_embeddings_and_output_weights=architecture.tied,
        position_embedding_type="rope",
        rotary_percent=architecture.rotary_percent,
        rotary_base=architecture.rotary_base,
    )
