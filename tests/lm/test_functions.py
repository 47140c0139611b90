"""Derivatives written by hand are those of automatic differentiation."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import gelu, layer_norm, rms_norm, silu

from knowcap.config import Architecture
from knowcap.lm.model.activations import activation
from knowcap.lm.model.functions import (
    LOGITS_CHUNK,
    AttentionHalf,
    Embedding,
    FeedForwardHalf,
    Norm,
    OutputLoss,
)
from knowcap.lm.model.rotary import rotation

NUM_REPLICATES, NUM_SEQUENCES, SEQ_LENGTH, WIDTH, VOCAB_SIZE = 2, 3, 5, 8, 7
EPS = 1e-5


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


def linear(draw, num_inputs: int, num_outputs: int, has_bias: bool) -> tuple[Tensor, Tensor | None]:
    weight = draw(NUM_REPLICATES, num_inputs, num_outputs)
    return weight, draw(NUM_REPLICATES, 1, num_outputs) if has_bias else None


def norm(draw, has_bias: bool) -> tuple[Tensor, Tensor | None]:
    weight = draw(NUM_REPLICATES, 1, WIDTH)
    return weight, draw(NUM_REPLICATES, 1, WIDTH) if has_bias else None


with_and_without_biases = pytest.mark.parametrize(
    "has_bias", [True, False], ids=["biases", "no biases"]
)


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
    monkeypatch.setattr("knowcap.lm.model.attention.QUERY_BLOCK", block)
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


def test_embedding_has_its_derivative(draw):
    tokens = torch.randint(VOCAB_SIZE, (NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH))
    assert gradcheck(Embedding.apply, (draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH), tokens))


@pytest.mark.parametrize("held_at_once", [2**19, 60], ids=["one chunk", "several chunks"])
def test_output_loss_has_its_derivative(draw, hidden, held_at_once, monkeypatch):
    monkeypatch.setitem(LOGITS_CHUNK, "cpu", held_at_once)
    targets = torch.randint(-1, VOCAB_SIZE, (NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH))
    weight = draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH)
    assert gradcheck(OutputLoss.apply, (hidden, weight, targets, torch.float64))
