"""Rotary embedding rotates the channels that it should."""

import torch

from knowcap.model.rotary import apply_rotary, rotary_angles, rotary_factors
from tests.support.variants import architecture

SEQ_LENGTH = 7
KIND = architecture("LLaMA", num_query_groups=2, rotary_percent=0.5)
CPU = torch.device("cpu")


def rotated(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a qkv layer for 3 sequences and 2 KV heads, before and after the rotation."""
    shared = KIND.num_attention_heads // KIND.num_kv_heads
    qkv = draw(3, SEQ_LENGTH, KIND.num_kv_heads, shared + 2, KIND.kv_channels)
    factors = rotary_factors(KIND, SEQ_LENGTH, CPU, torch.float64)
    return qkv, apply_rotary(qkv.flatten(2), factors)


def test_values_and_channels_beyond_the_rotated_share_stay(draw):
    before, after = rotated(draw)
    assert torch.equal(after[..., -1, :], before[..., -1, :])
    assert torch.equal(after[..., KIND.rotary_dim :], before[..., KIND.rotary_dim :])


def test_neighbouring_channels_are_rotated_by_the_angle_of_their_position(draw):
    before, after = rotated(draw)
    angles = rotary_angles(KIND, SEQ_LENGTH)[:, None, None]
    assert KIND.rotary_dim == 2 * angles.shape[-1] == KIND.kv_channels // 2
    even, odd = (before[..., :-1, first : KIND.rotary_dim : 2] for first in (0, 1))
    cos, sin = angles.cos(), angles.sin()
    expected = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    torch.testing.assert_close(after[..., :-1, : KIND.rotary_dim], expected)
