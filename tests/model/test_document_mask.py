"""With a document mask, biographies of a window are predicted as if each stood alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from knowcap.config import Run
from knowcap.data.tokenizer import END_OF_TEXT_ID
from knowcap.engines.select import build_engine
from knowcap.engines.simd import support
from knowcap.engines.simd.engine import SimdEngine
from knowcap.engines.stacked import StackedEngine
from knowcap.model.attention import document_mask
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.stacked_model import StackedModel, build_model
from tests.support.tiny import tiny_run
from tests.support.variants import VARIANTS, VOCAB_SIZE, windows, with_larger_weights

LENGTHS = (4, 6, 3)
"""Tokens of each document, with its end of text."""


def documents(num_replicates: int = 1) -> list[Tensor]:
    """Documents [R, 1, length] that begin with the end of text."""
    found = []
    for index, length in enumerate(LENGTHS):
        tokens = 1 + windows(num_replicates, 1, length, seed=index) % (VOCAB_SIZE - 1)
        tokens[..., 0] = END_OF_TEXT_ID
        found.append(tokens)
    return found


def masked(name: str, *seeds: int, dtype: torch.dtype = torch.float32) -> StackedModel:
    model = build_model(
        VARIANTS[name], VOCAB_SIZE, seeds, init_process_groups(), dtype, reset_attention_mask=True
    )
    return with_larger_weights(model)


def test_a_mask_is_true_for_later_positions_and_other_documents() -> None:
    mask = document_mask(torch.tensor([[5, 0, 3, 0, 0, 7]]))
    expected = [
        [0, 1, 1, 1, 1, 1],  # a document that began in the window before
        [1, 0, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 1],
        [1, 1, 1, 0, 1, 1],
        [1, 1, 1, 1, 0, 1],
        [1, 1, 1, 1, 0, 0],
    ]
    assert mask.int().tolist() == [[expected]]


@pytest.mark.parametrize("block_length", [128, 5], ids=["one block", "blocks of five queries"])
@pytest.mark.parametrize("name", ["GPT2", "Mistral", "GPT2_0", "LLaMA of experts"])
def test_logits_in_a_packed_window_equal_those_of_each_document_alone(
    name: str, block_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions are not reset: the rotary embedding depends on distances only."""
    monkeypatch.setattr("knowcap.model.attention.QUERY_BLOCK", block_length)
    model = masked(name, 0, 1)
    packed = torch.cat(documents(2), -1)
    found = model.logits(packed).split(LENGTHS, 2)
    model.reset_attention_mask = False
    unmasked = model.logits(packed).split(LENGTHS, 2)
    for number, tokens in enumerate(documents(2)):
        alone = model.logits(tokens)
        torch.testing.assert_close(found[number], alone, rtol=0, atol=2e-5)
        is_first = number == 0
        assert torch.allclose(unmasked[number], alone, rtol=0, atol=2e-5) == is_first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_of_a_window_are_those_of_its_documents(dtype: torch.dtype) -> None:
    model = masked("GPT2", 0, 1, dtype=dtype)
    texts = documents(2)
    loss = model.loss(torch.cat(texts, -1)) * (sum(LENGTHS) - 1)
    (grad,) = torch.autograd.grad(loss.sum(), [model.decoder.layers[0].mlp.linear_fc1.weight])
    # The last token of a document predicts the end of text that begins the next one.
    end = torch.full((2, 1, 1), END_OF_TEXT_ID)
    ended = [*(torch.cat([text, end], -1) for text in texts[:-1]), texts[-1]]
    parts = [model.loss(text) * (text.shape[-1] - 1) for text in ended]
    expected = torch.stack(parts).sum(0)
    (expected_grad,) = torch.autograd.grad(
        expected.sum(), [model.decoder.layers[0].mlp.linear_fc1.weight]
    )
    tolerance: dict[str, Any] = {torch.float32: {}, torch.bfloat16: {"rtol": 0.02, "atol": 0.02}}[
        dtype
    ]
    torch.testing.assert_close(loss, expected, **tolerance)
    torch.testing.assert_close(grad, expected_grad, **tolerance)


def test_padding_has_no_effect() -> None:
    model = masked("GPT2", 0)
    tokens = torch.cat(documents(), -1)
    padding = torch.full((1, 1, 5), -1)
    torch.testing.assert_close(model.loss(torch.cat([tokens, padding], -1)), model.loss(tokens))


def test_megatron_layers_have_the_same_logits() -> None:
    model = masked("Mistral", 0)
    tokens = torch.cat(documents(), -1)
    layers = gpt_model(VARIANTS["Mistral"], VOCAB_SIZE, tokens.shape[-1])
    layers.load_state_dict(model.unstack(0), strict=False)
    with torch.no_grad():
        found = layers(tokens[0], None, document_mask(tokens[0]))
    torch.testing.assert_close(found, model.logits(tokens)[0], rtol=0, atol=2e-5)


def test_the_simd_engine_declines_masks_and_the_stacked_engine_trains_with_them() -> None:
    plain, with_mask = tiny_run(), tiny_run(optimization__reset_attention_mask=True)
    device = init_process_groups()

    def engine(run: Run) -> Any:
        return build_engine(run, VOCAB_SIZE, 5, device)

    assert support.are_options_implemented(plain)
    assert not support.are_options_implemented(with_mask)
    if support.is_supported(plain, VOCAB_SIZE, device):
        assert isinstance(engine(plain), SimdEngine)
    found = engine(with_mask)
    assert type(found) is StackedEngine
    tokens = torch.cat([torch.cat(documents(4), -1)] * 4, 1)
    losses = [found.step(tokens, iteration).loss for iteration in range(2)]
    unmasked = build_model(
        plain.architecture, VOCAB_SIZE, [0, 1, 0, 1], device, torch.float32
    ).loss(tokens)
    assert not torch.equal(losses[0], unmasked)
