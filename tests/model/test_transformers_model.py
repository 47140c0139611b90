"""Replicates equal the models of transformers that they are exported to."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from knowcap.config import Architecture
from knowcap.errors import UserError
from knowcap.model.num_params import num_params
from knowcap.model.transformers_model import find_counterpart, to_transformers
from tests.support.variants import (
    EXPERTS,
    NUM_SEQUENCES,
    SEQ_LENGTH,
    VOCAB_SIZE,
    architecture,
    stacked,
    windows,
    with_larger_weights,
)

ROTARY = {"rotary_percent": 1.0, "rotary_base": 100}
TWO_EXPERTS = EXPERTS | {"moe_router_topk": 2}
KINDS = {
    "GPT2": (architecture("GPT2"), "GPTNeoX"),
    "GPT2_quarter": (architecture("GPT2_quarter"), "GPTNeoX"),
    "untied GPT2 with silu": (architecture("GPT2", tied=False, activation="silu"), "GPTNeoX"),
    "LLaMA": (architecture("LLaMA", **ROTARY), "Llama"),
    "tied LLaMA with gelu": (
        architecture("LLaMA", **ROTARY, tied=True, activation="gelu"),
        "Llama",
    ),
    "LLaMA with biases": (architecture("LLaMA", **ROTARY, add_bias=True), "Llama"),
    "Mistral": (architecture("Mistral", **ROTARY | {"size": "2-8"}), "Mistral"),
    "Mistral with biases": (architecture("Mistral", **ROTARY, add_bias=True), "Llama"),
    "Mixtral": (architecture("Mistral", **ROTARY, **TWO_EXPERTS), "Mixtral"),
}


@pytest.mark.parametrize(("kind", "name"), KINDS.values(), ids=KINDS)
def test_a_saved_and_loaded_model_has_the_same_logits(kind, name, tmp_path):
    model = with_larger_weights(stacked(kind, 1, 2))
    to_transformers(model.unstack(1), kind, VOCAB_SIZE, SEQ_LENGTH).save_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_pretrained(
        tmp_path, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    )
    assert type(other).__name__ == f"{name}ForCausalLM"
    tokens = windows(2, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        found, expected = model.logits(tokens)[1], other(tokens[1]).logits
    # float32 sums in another order
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in other.parameters()) == num_params(kind, VOCAB_SIZE)["total"]


def test_a_model_without_mlp_equals_a_reference_whose_mlp_adds_nothing():
    kind = architecture("GPT2_0")
    model = with_larger_weights(stacked(kind, 1))
    state = model.unstack(0)
    with_mlp = architecture("GPT2")
    for name, value in stacked(with_mlp, 1).unstack(0).items():
        state.setdefault(name, torch.zeros_like(value))
    other = to_transformers(state, with_mlp, VOCAB_SIZE, SEQ_LENGTH)
    tokens = windows(1, NUM_SEQUENCES, SEQ_LENGTH)
    with torch.no_grad():
        found, expected = model.logits(tokens)[0], other(tokens[0]).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


REFUSED = {
    "GPT2_0": (architecture("GPT2_0"), ["mlp_weights: 0.0 (allowed: more than 0)"]),
    "gated GPT2 with grouped queries": (
        architecture("GPT2", gated=True, num_query_groups=2),
        ["gated: True (allowed: False)", "num_query_groups: 2 (allowed: num_attention_heads)"],
    ),
    "partly rotated LLaMA": (
        architecture("LLaMA", rotary_percent=0.5),
        ["rotary_percent: 0.5 (allowed: 1.0)"],
    ),
    "GPT2 of experts": (
        architecture("GPT2", **EXPERTS),
        [
            "gated: False (allowed: True)",
            "normalization: 'LayerNorm' (allowed: RMSNorm)",
            "rotary_percent: 0.5 (allowed: 1.0)",
            "add_bias: True (allowed: False)",
            "moe_router_topk: 1 (allowed: 2 or more)",
        ],
    ),
    "Mixtral that drops tokens": (
        architecture("LLaMA", **ROTARY, **TWO_EXPERTS, moe_eval_capacity_factor=2.0),
        ["moe_eval_capacity_factor: 2.0 (allowed: None)"],
    ),
}


@pytest.mark.parametrize(("kind", "problems"), REFUSED.values(), ids=REFUSED)
def test_fields_without_a_counterpart_are_listed_in_one_line(
    kind: Architecture, problems: list[str]
):
    with pytest.raises(UserError) as caught:
        find_counterpart(kind)
    assert str(caught.value).endswith(f"ForCausalLM for {', '.join(problems)}")
    assert "\n" not in str(caught.value)


def test_every_field_has_a_counterpart_or_is_required(tmp_path: Path):
    """A field that is added later must be mapped: the test lists those that are."""
    mapped = {
        *("family", "num_layers", "num_attention_heads", "kv_channels", "rotary_percent"),
        *("rotary_base", "tied", "gated", "activation", "normalization", "add_bias"),
        *("mlp_weights", "num_query_groups", "num_moe_experts", "moe_router_topk"),
        "moe_eval_capacity_factor",
    }
    without_effect_on_logits = {
        *("init_method_std", "moe_expert_capacity_factor", "moe_aux_loss_coeff"),
    }
    assert mapped | without_effect_on_logits == set(Architecture.model_fields)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    kind = architecture("GPT2")
    with pytest.raises(UserError, match=r"needs transformers, .*: pip install 'knowcap\[hub\]'"):
        to_transformers(stacked(kind, 1).unstack(0), kind, VOCAB_SIZE, SEQ_LENGTH)
