"""Megatron-core configuration, layer spec and GPTModel of an architecture.

There is no dropout. Positions enter only by the rotary embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from knowcap.config import Architecture
from knowcap.config.options import Options, any_value, refuse, unimplemented
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
"""Constant added to the variance in every norm, as in GPT-2."""

ACTIVATIONS = {
    # ASSUME: exact gelu. GPT-2's code uses the tanh approximation, which differs by at most 0.0005
    # and takes three times as long on a CPU; the paper says "gelu".
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}

OPTIONS: Options = {
    **any_value(
        "architecture",
        *("family", "num_layers", "num_attention_heads", "kv_channels", "num_query_groups"),
        *("rotary_percent", "rotary_base", "init_method_std", "tied", "gated"),
        *("add_bias", "mlp_weights", "num_moe_experts", "moe_router_topk"),
        *("moe_expert_capacity_factor", "moe_eval_capacity_factor", "moe_aux_loss_coeff"),
    ),
    "architecture.activation": frozenset(ACTIVATIONS),
    "architecture.normalization": frozenset({"LayerNorm", "RMSNorm"}),
}
"""Options of an architecture that Megatron's layers implement."""


def transformer_config(architecture: Architecture) -> TransformerConfig:
    """Megatron configuration of an architecture."""
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
        # apart, which is the same model with another order of channels.
        rotary_interleaved=True,
        init_method_std=architecture.init_method_std,
        use_cpu_initialization=True,
        # Fused paths are compiled at first use, which takes tens of seconds per process.
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        gradient_accumulation_fusion=False,
        cuda_graph_modules=[],  # the default logs a deprecation warning
        **_moe_settings(architecture),
    )


def _moe_settings(architecture: Architecture) -> dict[str, Any]:
    """Megatron settings of the mixture of experts, empty without experts."""
    if not architecture.num_moe_experts:
        return {}
    return {
        "num_moe_experts": architecture.num_moe_experts,
        "moe_ffn_hidden_size": ffn_hidden_size(architecture),
        "moe_router_topk": architecture.moe_router_topk,
        # The output of a single expert is weighted by its probability among all experts, those of
        # several experts by their probabilities normalized to a sum of 1.
        "moe_router_pre_softmax": architecture.moe_router_topk == 1,
        "moe_router_load_balancing_type": "aux_loss",
        "moe_aux_loss_coeff": architecture.moe_aux_loss_coeff,
        "moe_token_dispatcher_type": "allgather",
    }


def layer_spec(architecture: Architecture) -> ModuleSpec:
    """Spec of a Megatron layer whose core attention is :class:`CausalAttention`."""
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
    """Build a Megatron model of Megatron's own layers, with random weights.

    One replicate of a :class:`knowcap.model.stacked_model.StackedModel` is exported and quantized
    as such a model. Call :func:`knowcap.model.megatron_core.init_process_groups` first. The
    capacity of experts is unlimited.

    Raises
    ------
    UserError
        If Megatron's layers do not implement an option of the architecture.
    """
    refuse(unimplemented(architecture, OPTIONS, "architecture."), "by Megatron's layers")
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


def load_parameters(model: GPTModel, state: Mapping[str, Tensor]) -> None:
    """Load all parameters of a model, and no others."""
    names = {name for name, _ in model.named_parameters()}
    assert names == state.keys(), f"parameters of one model only: {sorted(names ^ state.keys())}"
    # strict=False: Megatron's modules have extra states, all empty, that are not parameters.
    model.load_state_dict(state, strict=False)
