"""Derivatives written by hand are those of automatic differentiation."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from knowcap.config import Architecture
from knowcap.lm.functions import (
    LOGITS_CHUNK,
    AttentionHalf,
    Embedding,
    FeedForwardHalf,
    Norm,
    OutputLoss,
)
from knowcap.lm.rotary import rotation

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


def linear(draw, num_inputs: int, num_outputs: int) -> tuple[Tensor, Tensor]:
    return draw(NUM_REPLICATES, num_inputs, num_outputs), draw(NUM_REPLICATES, 1, num_outputs)


def norm(draw) -> tuple[Tensor, Tensor]:
    return draw(NUM_REPLICATES, 1, WIDTH), draw(NUM_REPLICATES, 1, WIDTH)


def test_norm_has_its_derivative(draw, hidden):
    assert gradcheck(Norm.apply, (hidden, *norm(draw), EPS))


def test_feed_forward_half_has_its_derivative(draw, hidden):
    inputs = (hidden, *norm(draw), *linear(draw, WIDTH, 12), *linear(draw, 12, WIDTH))
    assert gradcheck(FeedForwardHalf.apply, (*inputs, EPS, torch.float64))


@pytest.mark.parametrize("block", [128, 2], ids=["one block", "blocks of two queries"])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_half_has_its_derivative(draw, hidden, num_heads, block, monkeypatch):
    monkeypatch.setattr("knowcap.lm.attention.QUERY_BLOCK", block)
    architecture = Architecture(
        family="GPT2",
        num_layers=1,
        num_attention_heads=num_heads,
        kv_channels=WIDTH // num_heads,
        rotary_percent=0.5,
        rotary_base=100,
        init_method_std=0.02,
    )
    turns = rotation(architecture, SEQ_LENGTH, torch.device("cpu"), torch.float64)
    inputs = (hidden, *norm(draw), *linear(draw, WIDTH, 3 * WIDTH), *linear(draw, WIDTH, WIDTH))
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
