"""An architecture record in Megatron-core's terms.

GPT2 with rotary embedding as the paper trains it: the output layer is the embedding, norms and
linear layers have biases, nothing is dropped out, positions are only in the rotation.
"""

from __future__ import annotations

import torch

from knowcap.config import Architecture
from knowcap.lm.attention import CausalAttention
from knowcap.lm.parallel import (
    GPTModel,
    TransformerConfig,
    get_gpt_layer_local_spec,
)

LAYERNORM_EPSILON = 1e-5
"""As GPT-2 has it."""


def transformer_config(architecture: Architecture) -> TransformerConfig:
    """Megatron's description of the transformer's layers."""
    return TransformerConfig(
        num_layers=architecture.num_layers,
        hidden_size=architecture.hidden_size,
        ffn_hidden_size=4 * architecture.hidden_size,
        num_attention_heads=architecture.num_attention_heads,
        kv_channels=architecture.kv_channels,
        layernorm_epsilon=LAYERNORM_EPSILON,
        add_bias_linear=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        # ASSUME: gelu itself. GPT-2's code computes an approximation by tanh, which is nowhere more
        # than 0.0005 away and takes three times as long on a CPU; the paper says "gelu".
        activation_func=torch.nn.functional.gelu,
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
    )


def gpt_model(architecture: Architecture, vocab_size: int, max_sequence_length: int) -> GPTModel:
    """Build an ordinary Megatron model, with Megatron's layers and random weights.

    It is what a trained replicate is exported to; training itself is
    :class:`knowcap.lm.model.StackedModel`'s. :func:`knowcap.lm.parallel.start` comes first.
    """
    spec = get_gpt_layer_local_spec()
    spec.submodules.self_attention.submodules.core_attention = CausalAttention
    return GPTModel(
        transformer_config(architecture),
        spec,
        vocab_size=vocab_size,
        max_sequence_length=max_sequence_length,
        share_embeddings_and_output_weights=True,
        position_embedding_type="rope",
        rotary_percent=architecture.rotary_percent,
        rotary_base=architecture.rotary_base,
    )
