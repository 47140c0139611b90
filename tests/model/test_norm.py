"""Stacked norms equal torch's norms of each replicate."""

import pytest
import torch
from torch.nn.functional import layer_norm, rms_norm

from knowcap.model.megatron_config import transformer_config
from knowcap.model.norm import StackedNorm
from tests.support.variants import architecture

NUM_REPLICATES, NUM_TOKENS, WIDTH, EPS = 2, 15, 8, 1e-5


@pytest.mark.parametrize("normalization", ["LayerNorm", "RMSNorm"])
def test_a_norm_is_torchs_with_the_weights_of_each_replicate(draw, normalization):
    config = transformer_config(architecture("GPT2", normalization=normalization))
    norm = StackedNorm(config, WIDTH, EPS, NUM_REPLICATES).double()
    hidden = draw(NUM_REPLICATES, NUM_TOKENS, WIDTH)
    for parameter in norm.parameters():
        parameter.data.copy_(draw(*parameter.shape))
    found = norm(hidden)
    assert (norm.bias is not None) == (normalization == "LayerNorm")
    for replicate in range(NUM_REPLICATES):
        weight = norm.weight[replicate, 0]
        expected = (
            rms_norm(hidden[replicate], (WIDTH,), weight, EPS)
            if norm.bias is None
            else layer_norm(hidden[replicate], (WIDTH,), weight, norm.bias[replicate, 0], EPS)
        )
        torch.testing.assert_close(found[replicate], expected)
