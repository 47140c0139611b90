"""The chunked cross-entropy equals torch's, with its gradients."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from knowcap.model.cross_entropy import LOGITS_PER_CHUNK, LinearCrossEntropy

NUM_REPLICATES, NUM_TOKENS, WIDTH, VOCAB_SIZE = 2, 15, 8, 7


@pytest.fixture
def weight(draw) -> torch.Tensor:
    return draw(NUM_REPLICATES, VOCAB_SIZE, WIDTH)


@pytest.fixture
def hidden(draw) -> torch.Tensor:
    return draw(NUM_REPLICATES, NUM_TOKENS, WIDTH)


def test_the_loss_is_torchs_cross_entropy_without_padding(hidden, weight):
    targets = torch.randint(-1, VOCAB_SIZE, (NUM_REPLICATES, NUM_TOKENS))
    found = LinearCrossEntropy.apply(hidden, weight, targets, torch.float64)
    for replicate in range(NUM_REPLICATES):
        logits = hidden[replicate] @ weight[replicate].mT
        expected = cross_entropy(logits, targets[replicate], ignore_index=-1)
        torch.testing.assert_close(found[replicate], expected)


@pytest.mark.parametrize("logits_per_chunk", [2**19, 60], ids=["one chunk", "several chunks"])
def test_gradients_equal_numerical_ones(hidden, weight, logits_per_chunk, monkeypatch):
    monkeypatch.setitem(LOGITS_PER_CHUNK, "cpu", logits_per_chunk)
    targets = torch.randint(-1, VOCAB_SIZE, (NUM_REPLICATES, NUM_TOKENS))
    assert gradcheck(LinearCrossEntropy.apply, (hidden, weight, targets, torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_chunks_of_uneven_length_add_up_to_the_whole(hidden, weight, dtype, monkeypatch):
    targets = torch.randint(VOCAB_SIZE, (NUM_REPLICATES, NUM_TOKENS))
    results = []
    for num_chunks in (1, 4):
        total = NUM_REPLICATES * NUM_TOKENS * VOCAB_SIZE
        monkeypatch.setitem(LOGITS_PER_CHUNK, "cpu", total // num_chunks)
        leaves = [x.detach().float().requires_grad_() for x in (hidden, weight)]
        loss = LinearCrossEntropy.apply(*leaves, targets, dtype)
        results.append((loss, *torch.autograd.grad(loss.sum(), leaves)))
    rounding = 1e-6 if dtype == torch.float32 else 1e-2
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=rounding, atol=rounding)
