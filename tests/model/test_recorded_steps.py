"""Losses and gradients equal those recorded from an implementation with hand-written derivatives.

The values of recorded_steps.json are the loss and the gradient norm of each replicate with noisy
weights, and the loss at the last of ten training steps.
"""

import json
from pathlib import Path

import pytest
import torch

from knowcap.config import Replicates
from knowcap.model.optimizer import AdamW
from tests.support.variants import (
    NUM_SEQUENCES,
    OPTIMIZATION,
    SEQ_LENGTH,
    VARIANTS,
    stacked,
    windows,
    with_larger_weights,
)

RECORDED = json.loads(Path(__file__).with_name("recorded_steps.json").read_text())
NUM_STEPS = 10


def relative_tolerance(name: str, dtype: str) -> float:
    """Float32 sums in another order, or some bfloat16 roundings.

    Where rounding changes the expert of a token, the difference is larger.
    """
    if dtype == "float32":
        return 1e-5
    return 0.1 if VARIANTS[name].num_moe_experts else 0.03


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradient_norm_equal_the_recorded_ones(name, dtype):
    model = with_larger_weights(stacked(VARIANTS[name], 1, 2, dtype=getattr(torch, dtype)))
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH + 1)
    tokens[1, 1, 5:] = -1
    loss = model.loss(tokens)
    loss.sum().backward()
    norm = torch.cat([p.grad.flatten(1) for p in model.parameters()], 1).norm(dim=1)
    recorded, rtol = RECORDED[name][dtype], relative_tolerance(name, dtype)
    torch.testing.assert_close(loss, torch.tensor(recorded["loss"]), rtol=rtol, atol=0)
    torch.testing.assert_close(norm, torch.tensor(recorded["grad_norm"]), rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_ten_training_steps_end_at_the_recorded_loss(name, dtype):
    model = stacked(VARIANTS[name], 1, 2, dtype=getattr(torch, dtype))
    optimizer = AdamW(model, OPTIMIZATION, Replicates(seeds=(1, 2), lr=(1e-2,)), NUM_STEPS)
    tokens = windows(2, NUM_STEPS, NUM_SEQUENCES, SEQ_LENGTH + 1)
    for iteration in range(NUM_STEPS):
        loss = model.loss(tokens[:, iteration])
        loss.sum().backward()
        optimizer.step(iteration)
    expected = torch.tensor(RECORDED[name][dtype]["trained_loss"])
    torch.testing.assert_close(loss, expected, rtol=relative_tolerance(name, dtype), atol=0)
