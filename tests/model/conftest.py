"""Tensors to take derivatives by."""

import pytest
import torch
from torch import Tensor

from tests.support.drawn import NUM_REPLICATES, NUM_SEQUENCES, SEQ_LENGTH, WIDTH


@pytest.fixture
def draw():
    """Draw float64 tensors that want gradients."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    return normal


@pytest.fixture
def hidden(draw) -> Tensor:
    return draw(NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH, WIDTH)
