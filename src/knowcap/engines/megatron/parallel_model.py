"""Megatron model with tensor, pipeline and expert parallel layers, and its norms."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from knowcap.config import Architecture
from knowcap.config.parallelism import ParallelDims
from knowcap.engines.megatron.moe_router import GlobalCapacityRouter, find_routers
from knowcap.model.megatron_config import layer_spec, transformer_config
from knowcap.model.megatron_core import (
    GPTModel,
    TransformerBlockSubmodules,
    TransformerConfig,
    parallel_state,
)


class ParallelNorm:
    """Constructs torch's LayerNorm or RMSNorm for a layer with sequence parallelism.

    Megatron's own wrapper does not support sequence parallelism: parameters must be marked, so that
    Megatron sums their gradients over ranks. Outputs are cast to the dtype of matrix products,
    as Megatron communicates gradients in the dtype of a layer's inputs.
    """

    casts_output = True

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float, **_: Any
    ) -> nn.Module:
        """Return the norm."""
        kind = nn.RMSNorm if config.normalization == "RMSNorm" else nn.LayerNorm
        norm: nn.Module = kind(hidden_size, eps=eps)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        if cls.casts_output:
            norm.register_forward_hook(lambda module, inputs, output: _autocast(output))
        return norm


class ParallelRouterNorm(ParallelNorm):
    """A :class:`ParallelNorm` before a router; its outputs stay in float32."""

    casts_output = False


def _autocast(values: Tensor) -> Tensor:
    """Cast to the dtype of matrix products."""
    device = values.device.type
    return (
        values.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else values
    )


class ParallelModel(GPTModel):  # type: ignore[misc]
    """A GPTModel whose vocabulary is padded to a multiple of the tensor parallel size.

    Logits of padding rows are masked, so that they do not affect the loss.
    """

    num_tokens: int
    """Vocabulary size without padding."""

    def compute_language_model_loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Return the cross-entropy over the vocabulary without padding, [B, S]."""
        size = logits.shape[-1]
        first = parallel_state.get_tensor_model_parallel_rank() * size
        excess = max(0, first + size - self.num_tokens)
        if excess:
            is_padding = torch.arange(size, device=logits.device) >= size - excess
            logits = logits.masked_fill(is_padding, -torch.inf)
        loss_BS: Tensor = super().compute_language_model_loss(labels, logits)
        return loss_BS

    def _preprocess(
        self, input_ids: Tensor, padding_mask: Tensor, **arguments: Any
    ) -> tuple[Any, ...]:
        """Pass this process's shard of the padding mask to the layers of every stage."""
        *inputs, _ = super()._preprocess(input_ids=input_ids, **arguments)
        if self.config.sequence_parallel:
            parts = padding_mask.chunk(self.config.tensor_model_parallel_size, 1)
            padding_mask = parts[parallel_state.get_tensor_model_parallel_rank()]
        return (*inputs, padding_mask)


def build_parallel_model(
    architecture: Architecture, vocab_size: int, seq_length: int, parallel_dims: ParallelDims
) -> ParallelModel:
    """Return this process's shard of a model, with uninitialized weights.

    Parameters
    ----------
    architecture, vocab_size
        Architecture and vocabulary size of the whole model.
    seq_length
        Tokens of a window.
    parallel_dims
        The same as passed to :func:`knowcap.model.megatron_core.init_process_groups`.
    """
    config = dataclasses.replace(
        transformer_config(architecture),
        tensor_model_parallel_size=parallel_dims.tensor,
        pipeline_model_parallel_size=parallel_dims.pipeline,
        expert_model_parallel_size=parallel_dims.expert,
        expert_tensor_parallel_size=1,
        sequence_parallel=parallel_dims.tensor > 1 and seq_length % parallel_dims.tensor == 0,
        pipeline_dtype=torch.float32,
        moe_aux_loss_coeff=architecture.moe_aux_loss_coeff or 0.0,
    )
    spec = layer_spec(architecture)
    spec.submodules.input_layernorm = ParallelNorm
    if architecture.mlp_weights:
        has_router = bool(architecture.num_moe_experts)
        spec.submodules.pre_mlp_layernorm = ParallelRouterNorm if has_router else ParallelNorm
    if architecture.num_moe_experts:
        spec.submodules.mlp.keywords["submodules"].router = GlobalCapacityRouter
    model = ParallelModel(
        config,
        TransformerBlockSubmodules(
            [spec] * (config.num_layers // parallel_dims.pipeline), ParallelNorm
        ),
        vocab_size=parallel_dims.tensor * math.ceil(vocab_size / parallel_dims.tensor),
        max_sequence_length=seq_length,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=architecture.tied,
        position_embedding_type="rope",
        rotary_percent=architecture.rotary_percent,
        rotary_base=architecture.rotary_base,
    )
    model.num_tokens = vocab_size
    _exclude_experts_from_tensor_parallelism(model)
    for router in find_routers(model):
        router.capacity_factor = architecture.moe_expert_capacity_factor
    return model


def _exclude_experts_from_tensor_parallelism(model: ParallelModel) -> None:
    """Mark experts as not sharded by tensor parallelism, unlike the other layers.

    Each process runs its own positions through whole experts, and Megatron sums their gradients
    over all processes that have them. Without these marks it would gather the positions first, and
    sum the gradients of biases a second time.
    """
    for module in model.modules():
        if getattr(module, "is_expert", False):
            module.explicit_expert_comm = True
            for parameter in module.parameters():
                parameter.sequence_parallel = False
