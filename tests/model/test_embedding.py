"""Derivatives of embedding and output layer are those of automatic differentiation."""

import pytest
import torch
from torch.autograd import gradcheck

from knowcap.model.embedding import LOGITS_CHUNK, Embedding, OutputLoss
from tests.support.drawn import NUM_REPLICATES, NUM_SEQUENCES, SEQ_LENGTH, VOCAB_SIZE, WIDTH


def test_embedding_has_its_derivative(draw):
    tokens = torch.randint(VOCAB_SIZE, (NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH))
    assert gradcheck(Embedding.apply, (draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH), tokens))


@pytest.mark.parametrize("held_at_once", [2**19, 60], ids=["one chunk", "several chunks"])
def test_output_loss_has_its_derivative(draw, hidden, held_at_once, monkeypatch):
    monkeypatch.setitem(LOGITS_CHUNK, "cpu", held_at_once)
    targets = torch.randint(-1, VOCAB_SIZE, (NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH))
    weight = draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH)
    assert gradcheck(OutputLoss.apply, (hidden, weight, targets, torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_chunks_of_uneven_length_add_up_to_the_whole(draw, hidden, dtype, monkeypatch):
    targets = torch.randint(VOCAB_SIZE, (NUM_REPLICATES, NUM_SEQUENCES * SEQ_LENGTH))
    weight = draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH)
    answers = []
    for num_chunks in (1, 4):
        total = NUM_REPLICATES * NUM_SEQUENCES * SEQ_LENGTH * VOCAB_SIZE
        monkeypatch.setitem(LOGITS_CHUNK, "cpu", total // num_chunks)
        leaves = [x.detach().float().requires_grad_() for x in (hidden, weight)]
        loss = OutputLoss.apply(*leaves, targets, dtype)
        answers.append((loss, *torch.autograd.grad(loss.sum(), leaves)))
    rounding = 1e-6 if dtype == torch.float32 else 1e-2
    for whole, parts in zip(*answers, strict=True):
        torch.testing.assert_close(parts, whole, rtol=rounding, atol=rounding)
