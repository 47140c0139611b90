"""The convolution is causal, stays within sequences, and its parameters are counted."""

import pytest
import torch

from knowcap.engines.select import build_engine
from knowcap.errors import UserError
from knowcap.model.megatron_config import gpt_model
from knowcap.model.megatron_core import init_process_groups
from knowcap.model.num_params import num_params
from tests.support.tiny import tiny_run
from tests.support.variants import VOCAB_SIZE, architecture, stacked, windows, with_larger_weights

CANON = architecture("GPT2", canon_width=4)


def test_a_token_changes_only_logits_of_its_own_sequence_from_its_position_on():
    model = with_larger_weights(stacked(CANON, 0, 1))
    tokens = windows(2, 3, 8)
    changed = tokens.clone()
    changed[:, 1, 5] = (changed[:, 1, 5] + 1) % VOCAB_SIZE
    with torch.no_grad():
        is_changed = (model.logits(tokens) != model.logits(changed)).any(-1)
    assert not is_changed[:, [0, 2]].any()
    assert not is_changed[:, 1, :5].any()
    assert is_changed[:, 1, 5:].all()


def test_weights_of_zero_are_the_model_without_it():
    plain, model = stacked(architecture("GPT2"), 0), stacked(CANON, 0)
    with torch.no_grad():
        names = dict(plain.named_parameters())
        for name, value in model.named_parameters():
            value.copy_(names[name]) if name in names else value.zero_()
        tokens = windows(1, 2, 8)
        torch.testing.assert_close(model.logits(tokens), plain.logits(tokens))


def test_its_parameters_are_counted():
    assert num_params(CANON, VOCAB_SIZE)["total"] == stacked(CANON, 0).flat.shape[1]


def test_it_trains_in_the_stacked_engine_and_megatrons_layers_decline_it():
    run = tiny_run(architecture__canon_width=4)
    assert build_engine(run, 20, 30, init_process_groups()).facts()["name"] == "stacked"
    with pytest.raises(UserError, match=r"architecture.canon_width: not implemented by Megatron"):
        gpt_model(run.architecture, 20, 16)
