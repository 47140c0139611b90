"""Norms are the library's, and their derivatives those of automatic differentiation."""

import torch
from torch.autograd import gradcheck
from torch.nn.functional import layer_norm, rms_norm

from knowcap.model.norm import Norm
from tests.support.drawn import EPS, NUM_REPLICATES, WIDTH, norm, with_and_without_biases


@with_and_without_biases
def test_norm_has_its_derivative(draw, hidden, has_bias):
    assert gradcheck(Norm.apply, (hidden, *norm(draw, has_bias), EPS))


@with_and_without_biases
def test_norm_is_the_library_s(draw, hidden, has_bias):
    weight, bias = norm(draw, has_bias)
    ours = Norm.apply(hidden, weight, bias, EPS)
    for replicate in range(NUM_REPLICATES):
        scale = weight[replicate, 0]
        expected = (
            layer_norm(hidden[replicate], (WIDTH,), scale, bias[replicate, 0], EPS)
            if has_bias
            else rms_norm(hidden[replicate], (WIDTH,), scale, EPS)
        )
        torch.testing.assert_close(ours[replicate], expected)
