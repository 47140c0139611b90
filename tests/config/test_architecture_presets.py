"""A family is what its entry says, and a record says all of it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from knowcap.artifacts import code_digest, identity
from knowcap.config import Architecture
from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS
from tests.support.tiny import tiny_run

SHAPE = {
    "size": "2-4",
    "kv_channels": 16,
    "rotary_percent": 0.25,
    "rotary_base": 10000,
    "init_method_std": 0.02,
}
EXPERTS = {"num_moe_experts": 4, "moe_router_topk": 1, "moe_aux_loss_coeff": 0.01}


def architecture(family: str, **fields: Any) -> Architecture:
    return Architecture.model_validate({"family": family, **SHAPE, **fields})


def test_a_record_says_what_its_family_stands_for() -> None:
    record = architecture("LLaMA").model_dump(mode="json")
    assert record["tied"] is False
    assert record["gated"] is True
    assert (record["activation"], record["normalization"]) == ("silu", "RMSNorm")
    assert record["add_bias"] is False


def test_a_record_overrides_its_family() -> None:
    kind = architecture("LLaMA", tied=True, gated=False)
    assert kind.tied
    assert not kind.gated
    assert kind.activation == "silu"


@pytest.mark.parametrize("family", ARCHITECTURE_PRESETS)
@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
def test_a_record_read_back_is_the_same(family: str, experts: dict[str, Any]) -> None:
    if experts and family == "GPT2_0":
        return
    kind = architecture(family, **experts, tied=True)
    assert Architecture.model_validate(kind.model_dump(mode="json")) == kind
    assert Architecture.model_validate_json(kind.model_dump_json()) == kind


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("LLaMA", {"tied": True}),
        ("LLaMA", {"gated": False, "activation": "gelu"}),
        ("LLaMA", {"normalization": "LayerNorm", "add_bias": True}),
        ("Mistral", {"mlp_weights": 8.0}),
        ("Mistral", {"num_query_groups": None}),
        ("GPT2", EXPERTS | {"mlp_weights": 8.0}),
    ],
)
def test_what_is_given_as_gpt2_has_it_is_no_default_of_another_family(
    family: str, given: dict[str, Any]
) -> None:
    run = tiny_run()
    asked = run.model_copy(update={"architecture": architecture(family, **given)})
    read = type(run).model_validate(json.loads(identity.record_json(asked)))
    assert {name: getattr(read.architecture, name) for name in given} == given
    assert read == asked


def test_the_names_of_gpt2_runs_are_those_of_before_there_were_families() -> None:
    written = json.loads(identity.record_json(tiny_run()))["architecture"]
    assert sorted(written) == [
        *("family", "init_method_std", "kv_channels", "num_attention_heads", "num_layers"),
        *("rotary_base", "rotary_percent"),
    ]


def test_a_switch_that_is_written_out_moves_no_name() -> None:
    one, other = (
        tiny_run(architecture__family="LLaMA"),
        tiny_run(architecture__family="LLaMA", architecture__gated=True),
    )
    assert identity.run_name(one) == identity.run_name(other)


def test_every_family_and_switch_has_names_of_its_own() -> None:
    changes: list[dict[str, Any]] = [
        {"architecture__family": family} for family in ARCHITECTURE_PRESETS
    ]
    for field, value in (("tied", False), ("gated", True), ("activation", "silu")):
        changes.append({f"architecture__{field}": value})
    names = {identity.run_name(tiny_run(**change)) for change in changes}
    assert len(names) == len(changes)


def test_the_table_of_families_is_in_the_record_and_not_in_the_code_of_a_stage() -> None:
    assert "knowcap.config.architecture_presets" not in code_digest.modules("train")
    assert "knowcap.model.num_params" in code_digest.modules("train")


# PAPER B: 4 heads share keys and values if 4 divides their number, 1 if it is odd, otherwise 2
@pytest.mark.parametrize(
    ("heads", "groups"), [(1, 1), (2, 1), (3, 3), (4, 1), (6, 3), (8, 2), (12, 3), (20, 5)]
)
def test_heads_of_mistral_share_keys_as_the_paper_says(heads: int, groups: int) -> None:
    assert architecture("Mistral", size=f"2-{heads}").num_kv_heads == groups


@pytest.mark.parametrize(
    ("family", "fields", "label"),
    [
        ("GPT2", {"kv_channels": 64}, "GPT2-2-4"),
        ("GPT2_quarter", {}, "GPT2_quarter-2-4x16"),
        ("Mistral", {}, "Mistral-2-4x16"),
        ("LLaMA", {"tied": True, "gated": False}, "LLaMA-2-4x16-tied-no-gated"),
        ("LLaMA", {"activation": "gelu", "add_bias": True}, "LLaMA-2-4x16-gelu-add_bias"),
        ("GPT2", EXPERTS, "GPT2-2-4x16-moe4"),
        ("GPT2", EXPERTS | {"moe_router_topk": 2}, "GPT2-2-4x16-moe4x2"),
    ],
)
def test_a_label_names_what_is_not_usual(family: str, fields: dict[str, Any], label: str) -> None:
    assert architecture(family, **fields).label == label


def test_experts_are_as_wide_as_the_model() -> None:
    assert architecture("GPT2", **EXPERTS).mlp_weights == 2


@pytest.mark.parametrize("family", [None, 3, {}, []])
def test_a_family_that_is_no_name_is_refused(family: Any) -> None:
    with pytest.raises(ValidationError, match="family"):
        Architecture.model_validate({**SHAPE, "family": family})
