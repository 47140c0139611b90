"""The usual training loop of PyTorch: AdamW over batches, with gradient clipping.

Shapes: R models, B windows, S positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from knowcap_benchmarks.cases import BETAS, CLIP_GRAD, EPS, LEARNING_RATE, WEIGHT_DECAY
from knowcap_benchmarks.implementations import Implementation
from knowcap_benchmarks.token_feed import TokenFeed

TrainLoop = Callable[[TokenFeed], None]
"""Makes one step with each batch of a feed, and records its loss."""

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Mean cross-entropy in nats of inputs [B, S] and targets [B, S]."""


class TrainableModel(NamedTuple):
    """A model of an implementation with its training loop."""

    train: TrainLoop
    num_params: int


def with_baseline_loop(
    model: nn.Module, loss: LossFunction, implementation: Implementation, device: torch.device
) -> TrainableModel:
    """Add the usual training loop to a model."""
    fused = {"fused": True} if implementation.fused_adamw else {}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        **fused,
    )
    # The tuned plain model converts its tensors itself.
    autocast = implementation.bfloat16 and implementation.builder != "plain"

    def train(feed: TokenFeed) -> None:
        for tokens_RBS1 in feed:
            inputs_BS = tokens_RBS1[0, :, :-1].contiguous()
            targets_BS = tokens_RBS1[0, :, 1:].contiguous()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                nats = loss(inputs_BS, targets_BS)
            nats.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            feed.record_loss(nats)

    return TrainableModel(train, sum(parameter.numel() for parameter in model.parameters()))


def compile_if_set(model: nn.Module, implementation: Implementation) -> Callable[..., Any]:
    """Compile a model with torch.compile, if the implementation is compiled."""
    return torch.compile(model) if implementation.compiled else model


def init_gpt2_weights(module: nn.Module) -> None:
    """Initialize a module's weights as GPT-2's."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
