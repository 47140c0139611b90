"""One replicate as Megatron's own parallel layers: this process's part of its model."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from knowcap.config import Architecture
from knowcap.config.parallelism import ParallelDims
from knowcap.engines.megatron.moe_router import Router, routers
from knowcap.model.megatron_config import layer_spec, transformer_config
from knowcap.model.megatron_core import (
    GPTModel,
    TransformerBlockSubmodules,
    TransformerConfig,
    parallel_state,
)


class Norm:
    """Makes torch's LayerNorm or RMSNorm for a block of parallel layers.

    Megatron's wrapper of the same refuses parts of a sequence, whose gradients Megatron adds up if
    it is told that they are parts. What it gives is rounded as the product that follows wants it,
    since Megatron sends gradients in the type of what it was given.
    """

    is_rounded = True

    def __new__(  # type: ignore[misc]
        cls, config: TransformerConfig, hidden_size: int, eps: float, **_: Any
    ) -> nn.Module:
        """Make the norm."""
        kind = nn.RMSNorm if config.normalization == "RMSNorm" else nn.LayerNorm
        norm: nn.Module = kind(hidden_size, eps=eps)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        if cls.is_rounded:
            norm.register_forward_hook(lambda module, inputs, output: _rounded(output))
        return norm


class RouterNorm(Norm):
    """The same in front of a router, which computes in float32."""

    is_rounded = False


def _rounded(values: Tensor) -> Tensor:
    """Round to the type of products."""
    device = values.device.type
    return (
        values.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else values
    )


class ParallelModel(GPTModel):  # type: ignore[misc]
    """A GPTModel whose vocabulary is filled up to what tensor parallelism can share out.

    Rows that fill it up are never predicted, so that they change nothing.
    """

    num_tokens: int
    """Of the real vocabulary."""

    def compute_language_model_loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Cross-entropy over the real vocabulary, [B, S]."""
        size = logits.shape[-1]
        first = parallel_state.get_tensor_model_parallel_rank() * size
        excess = max(0, first + size - self.num_tokens)
        if excess:
            is_filling = torch.arange(size, device=logits.device) >= size - excess
            logits = logits.masked_fill(is_filling, -torch.inf)
        loss_BS: Tensor = super().compute_language_model_loss(labels, logits)
        return loss_BS

    def _preprocess(
        self, input_ids: Tensor, padding_mask: Tensor, **arguments: Any
    ) -> tuple[Any, ...]:
        """Let the layers of every stage know of padding among their own positions."""
        *made, _ = super()._preprocess(input_ids=input_ids, **arguments)
        if self.config.sequence_parallel:
            parts = padding_mask.chunk(self.config.tensor_model_parallel_size, 1)
            padding_mask = parts[parallel_state.get_tensor_model_parallel_rank()]
        return (*made, padding_mask)


def build_parallel_model(
    architecture: Architecture, vocab_size: int, seq_length: int, layout: ParallelDims
) -> ParallelModel:
    """Build this process's part of a model, with weights that are yet to be set.

    Parameters
    ----------
    architecture, vocab_size
        What the whole model is.
    seq_length
        Tokens of a window.
    layout
        What :func:`knowcap.model.megatron_core.start` was given.
    """
    config = dataclasses.replace(
        transformer_config(architecture),
        tensor_model_parallel_size=layout.tensor,
        pipeline_model_parallel_size=layout.pipeline,
        expert_model_parallel_size=layout.expert,
        expert_tensor_parallel_size=1,
        sequence_parallel=layout.tensor > 1 and seq_length % layout.tensor == 0,
        pipeline_dtype=torch.float32,
        moe_aux_loss_coeff=architecture.moe_aux_loss_coeff or 0.0,
    )
    spec = layer_spec(architecture)
    spec.submodules.input_layernorm = Norm
    if architecture.mlp_weights:
        has_router = bool(architecture.num_moe_experts)
        spec.submodules.pre_mlp_layernorm = RouterNorm if has_router else Norm
    if architecture.num_moe_experts:
        spec.submodules.mlp.submodules.router = Router
    model = ParallelModel(
        config,
        TransformerBlockSubmodules([spec] * (config.num_layers // layout.pipeline), Norm),
        vocab_size=layout.tensor * math.ceil(vocab_size / layout.tensor),
        max_sequence_length=seq_length,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=architecture.tied,
        position_embedding_type="rope",
        rotary_percent=architecture.rotary_percent,
        rotary_base=architecture.rotary_base,
    )
    model.num_tokens = vocab_size
    _leave_experts_whole(model)
    for router in routers(model):
        router.capacity_factor = architecture.moe_expert_capacity_factor
    return model


def _leave_experts_whole(model: ParallelModel) -> None:
    """Tell experts that tensor parallelism, which shares out the rest, does not concern them.

    Each process passes its own positions through experts that are whole. Megatron gets this right
    for weights of experts that are shared out themselves; otherwise it adds up gradients of
    different experts or leaves them apart, and counts some twice in the norm or not at all.
    """
    are_shared_out = model.config.expert_model_parallel_size > 1
    for module in model.modules():
        if getattr(module, "is_expert", False):
            module.explicit_expert_comm = True
            for parameter in module.parameters():
                parameter.sequence_parallel = model.config.sequence_parallel and not are_shared_out
                parameter.tensor_model_parallel = are_shared_out
