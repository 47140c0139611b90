"""Attention and MLP blocks equal torch's own functions."""

import pytest
import torch
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from knowcap.model.attention import causal_attention
from knowcap.model.block import MLPBlock
from knowcap.model.megatron_config import transformer_config
from tests.support.variants import architecture

NUM_SEQUENCES, SEQ_LENGTH, NUM_CHANNELS = 3, 9, 8


@pytest.mark.parametrize("block_length", [128, 2], ids=["one block", "blocks of two queries"])
@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(1, 1), (2, 2), (4, 2), (4, 1)])
def test_attention_and_its_gradients_equal_those_of_torch(
    draw, num_heads, num_kv_heads, block_length, monkeypatch
):
    monkeypatch.setattr("knowcap.model.attention.QUERY_BLOCK", block_length)
    q, k, v = (
        draw(NUM_SEQUENCES, heads, SEQ_LENGTH, NUM_CHANNELS)
        for heads in (num_heads, num_kv_heads, num_kv_heads)
    )
    expected = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    found = causal_attention(q, k, v)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (q, k, v), grad), torch.autograd.grad(expected, (q, k, v), grad)
    )


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_bfloat16_activations_are_rounded_once(activation):
    config = transformer_config(architecture("GPT2", activation=activation))
    block = MLPBlock(config, (1,))
    function = {"gelu": gelu, "silu": silu}[activation]
    inner = torch.linspace(-4, 4, 1000).bfloat16().requires_grad_()
    exact = inner.detach().float().requires_grad_()
    grad = torch.linspace(-1, 2, 1000).bfloat16()
    found = block._activate(inner)
    torch.testing.assert_close(found, function(exact).bfloat16(), rtol=0, atol=0)
    found.backward(grad)
    function(exact).backward(grad.float())
    torch.testing.assert_close(inner.grad, exact.grad.bfloat16(), rtol=0, atol=0)
