"""Small architectures of every kind, and models of them with all weights nonzero."""

from typing import Any

import torch
from torch import Tensor

from knowcap.config import Architecture, Optimization
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.stacked_model import StackedModel, build_model

VOCAB_SIZE = 23
NUM_SEQUENCES, SEQ_LENGTH = 4, 9

OPTIMIZATION = Optimization(
    exposures=1,
    seq_length=SEQ_LENGTH,
    global_batch_size=NUM_SEQUENCES,
    lr_warmup_iters=5,
    min_lr_fraction=0.1,
    weight_decay=0.02,
    adam_beta1=0.9,
    adam_beta2=0.98,
    adam_eps=1e-6,
    clip_grad=1.0,
    dtype="float32",
)

EXPERTS = {"num_moe_experts": 4, "moe_router_topk": 1, "moe_aux_loss_coeff": 0.01}


def architecture(family: str, **fields: Any) -> Architecture:
    return Architecture.model_validate(
        {
            "family": family,
            "size": "2-4",
            "kv_channels": 8,
            "rotary_percent": 0.5,
            "rotary_base": 10_000,
            "init_method_std": 0.02,
            **fields,
        }
    )


VARIANTS = {
    "GPT2": architecture("GPT2"),
    "GPT2_quarter": architecture("GPT2_quarter"),
    "GPT2_0": architecture("GPT2_0"),
    "LLaMA": architecture("LLaMA", rotary_percent=1.0),
    "Mistral": architecture("Mistral", rotary_percent=1.0),
    "Mistral of 6 heads": architecture("Mistral", size="1-6"),
    "tied LLaMA, not gated": architecture("LLaMA", tied=True, gated=False),
    "LLaMA with gelu and LayerNorm": architecture(
        "LLaMA", activation="gelu", normalization="LayerNorm"
    ),
    "gated GPT2": architecture("GPT2", gated=True, num_query_groups=2, tied=False),
    "GPT2 of experts": architecture("GPT2", **EXPERTS),
    "LLaMA of experts": architecture("LLaMA", **EXPERTS | {"moe_router_topk": 2}),
}


def stacked(kind: Architecture, *seeds: int, dtype: torch.dtype = torch.float32) -> StackedModel:
    return build_model(kind, VOCAB_SIZE, seeds, init_process_groups(), dtype)


def with_larger_weights(model: StackedModel, scale: float = 0.3) -> StackedModel:
    """Add noise to the initial weights, which make attention uniform and biases zero."""
    generator = torch.Generator().manual_seed(7)
    model.flat += scale * torch.randn(model.flat.shape, generator=generator)
    return model


def windows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))
