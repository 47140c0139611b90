"""Random float64 tensors that require gradients."""

import pytest
import torch
from torch import Tensor


@pytest.fixture
def draw():
    """Function that draws a float64 tensor of a shape, with gradients."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    return normal
