"""Training in the ordinary way, as a peer's user would write it: a loop over batches.

Shapes: R models, B windows, S positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from knowcap_benchmarks.cases import BETAS, CLIP_GRAD, EPS, LEARNING_RATE, WEIGHT_DECAY
from knowcap_benchmarks.implementations import Implementation
from knowcap_benchmarks.token_feed import Feed

Training = Callable[[Feed], None]
"""Makes a step with each batch of a feed, and notes its loss."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean cross-entropy of a batch's tokens [B, S], given those that follow."""


class Built(NamedTuple):
    """An implementation, ready to train."""

    train: Training
    num_params: int


def ordinary(
    model: nn.Module, loss: Loss, implementation: Implementation, device: torch.device
) -> Built:
    """Train a module in the ordinary way, by AdamW after clipping."""
    fused = {"fused": True} if implementation.model == "plain" else {}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        **fused,
    )
    mixed = implementation.bfloat16 and implementation.model != "plain"

    def train(feed: Feed) -> None:
        for tokens_RBS1 in feed:
            inputs_BS = tokens_RBS1[0, :, :-1].contiguous()
            targets_BS = tokens_RBS1[0, :, 1:].contiguous()
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                nats = loss(inputs_BS, targets_BS)
            nats.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            feed.note(nats)

    return Built(train, sum(parameter.numel() for parameter in model.parameters()))


def compiled(model: nn.Module, implementation: Implementation) -> Callable[..., Any]:
    """Give a model to torch's compiler, if the implementation is to be compiled."""
    return torch.compile(model) if implementation.compiled else model


def initialize(module: nn.Module) -> None:
    """Draw weights as GPT-2's are."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
