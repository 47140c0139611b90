"""Derivatives of a layer's halves are those of automatic differentiation."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import gelu, silu

from knowcap.config import Architecture
from knowcap.model.activations import activation
from knowcap.model.block import AttentionHalf, FeedForwardHalf
from knowcap.model.rotary import rotation
from tests.support.drawn import EPS, SEQ_LENGTH, WIDTH, linear, norm, with_and_without_biases


@with_and_without_biases
@pytest.mark.parametrize("function", [gelu, silu])
@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_feed_forward_half_has_its_derivative(draw, hidden, function, gated, has_bias):
    inner = 6
    inputs = (
        hidden,
        *norm(draw, has_bias),
        *linear(draw, WIDTH, 2 * inner if gated else inner, has_bias),
        *linear(draw, inner, WIDTH, has_bias),
    )
    how = (activation(function, gated=gated), EPS, torch.float64)
    assert gradcheck(lambda *args: FeedForwardHalf.apply(*args, *how), inputs)


def test_activations_are_rounded_to_bfloat16_once(hidden):
    how = activation(gelu, gated=False)
    inner, grad = 2 * hidden.detach().bfloat16(), hidden.detach().flip(0).bfloat16()
    exact = inner.float().requires_grad_()
    gelu(exact).backward(grad.float())
    torch.testing.assert_close(how.forward(inner), gelu(exact).bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(how.backward(grad, inner), exact.grad.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("block", [128, 2], ids=["one block", "blocks of two queries"])
@pytest.mark.parametrize(
    ("num_heads", "num_query_groups", "has_bias"),
    [(1, None, True), (2, None, True), (2, None, False), (4, 2, True), (2, 1, False)],
)
def test_attention_half_has_its_derivative(
    draw, hidden, num_heads, num_query_groups, has_bias, block, monkeypatch
):
    monkeypatch.setattr("knowcap.model.attention.QUERY_BLOCK", block)
    architecture = Architecture(
        family="GPT2",
        num_layers=1,
        num_attention_heads=num_heads,
        num_query_groups=num_query_groups,
        kv_channels=WIDTH // num_heads,
        rotary_percent=1.0 if num_heads == 4 else 0.5,
        rotary_base=100,
        init_method_std=0.02,
    )
    turns = rotation(architecture, SEQ_LENGTH, torch.device("cpu"), torch.float64)
    outputs = (num_heads + 2 * architecture.num_kv_heads) * architecture.kv_channels
    inputs = (
        hidden,
        *norm(draw, has_bias),
        *linear(draw, WIDTH, outputs, has_bias),
        *linear(draw, WIDTH, WIDTH, has_bias),
    )
    assert gradcheck(lambda *args: AttentionHalf.apply(*args, turns, EPS, torch.float64), inputs)
