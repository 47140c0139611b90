"""nf4 has the levels of its paper, and rounds each weight to the nearest of them."""

import pytest
import torch

from knowcap.evaluation.quantized_weights import normal_float
from tests.evaluation.test_quantize import megatron_model, quantized

LEVELS = (
    *(-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0),
    *(0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0),
)


def test_levels_are_those_of_the_paper():
    matrix = normal_float(torch.randn(3, 8), 4)
    torch.testing.assert_close(matrix.levels, torch.tensor(LEVELS), rtol=0, atol=1e-4)


def test_levels_themselves_are_not_changed():
    weight = torch.tensor([LEVELS, LEVELS]) * torch.tensor([[0.5], [2.0]])
    torch.testing.assert_close(normal_float(weight, 4).dequantize(), weight, rtol=0, atol=2e-3)


def test_a_weight_has_four_bits_and_a_group_a_scale():
    assert normal_float(torch.randn(3, 300), 4).num_bits == 4 * 900 + 16 * 3 * 3


@pytest.mark.parametrize(("precision", "num_levels"), [("nf4", 16), ("int3", 8)])
def test_every_matrix_of_the_layers_is_stored_in_few_levels(precision, num_levels):
    stored = quantized(precision)
    original = {name: value.detach() for name, value in megatron_model().named_parameters()}
    assert len(stored.matrices) == 4 * 2
    for name, matrix in stored.matrices.items():
        assert len(matrix.integers.unique()) <= num_levels
        error = (matrix.dequantize() - original[name]).norm() / original[name].norm()
        assert 0 < error < 0.5
