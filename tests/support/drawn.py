"""What the tests of derivatives share: shapes, and weights drawn in float64."""

from collections.abc import Callable

import pytest
from torch import Tensor

NUM_REPLICATES, NUM_SEQUENCES, SEQ_LENGTH, WIDTH, VOCAB_SIZE = 2, 3, 5, 8, 7
EPS = 1e-5

Draw = Callable[..., Tensor]

with_and_without_biases = pytest.mark.parametrize(
    "has_bias", [True, False], ids=["biases", "no biases"]
)


def linear(
    draw: Draw, num_inputs: int, num_outputs: int, has_bias: bool
) -> tuple[Tensor, Tensor | None]:
    weight = draw(NUM_REPLICATES, num_inputs, num_outputs)
    return weight, draw(NUM_REPLICATES, 1, num_outputs) if has_bias else None


def norm(draw: Draw, has_bias: bool) -> tuple[Tensor, Tensor | None]:
    weight = draw(NUM_REPLICATES, 1, WIDTH)
    return weight, draw(NUM_REPLICATES, 1, WIDTH) if has_bias else None
