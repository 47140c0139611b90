"""Architecture families: records contain all fields that a family sets."""

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


def test_a_record_contains_the_fields_of_its_family() -> None:
    record = architecture("LLaMA").model_dump(mode="json")
    assert record["tied"] is False
    assert record["gated"] is True
    assert (record["activation"], record["normalization"]) == ("silu", "RMSNorm")
    assert record["add_bias"] is False


def test_given_fields_override_the_family() -> None:
    kind = architecture("LLaMA", tied=True, gated=False)
    assert kind.tied
    assert not kind.gated
    assert kind.activation == "silu"


@pytest.mark.parametrize("family", ARCHITECTURE_PRESETS)
@pytest.mark.parametrize("experts", [{}, EXPERTS], ids=["dense", "experts"])
def test_a_record_is_equal_after_writing_and_reading(family: str, experts: dict[str, Any]) -> None:
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
def test_a_given_field_with_gpt2_s_value_is_kept_in_another_family(
    family: str, given: dict[str, Any]
) -> None:
    run = tiny_run()
    written = run.model_copy(update={"architecture": architecture(family, **given)})
    read = type(run).model_validate(json.loads(identity.record_json(written)))
    assert {name: getattr(read.architecture, name) for name in given} == given
    assert read == written


def test_the_name_of_a_gpt2_run_covers_no_preset_field() -> None:
    record = json.loads(identity.record_json(tiny_run()))["architecture"]
    assert sorted(record) == [
        *("family", "init_method_std", "kv_channels", "num_attention_heads", "num_layers"),
        *("rotary_base", "rotary_percent"),
    ]


def test_giving_a_field_the_family_s_value_changes_no_name() -> None:
    one, other = (
        tiny_run(architecture__family="LLaMA"),
        tiny_run(architecture__family="LLaMA", architecture__gated=True),
    )
    assert identity.run_name(one) == identity.run_name(other)


def test_every_family_and_field_changes_the_name() -> None:
    changes: list[dict[str, Any]] = [
        {"architecture__family": family} for family in ARCHITECTURE_PRESETS
    ]
    for field, value in (("tied", False), ("gated", True), ("activation", "silu")):
        changes.append({f"architecture__{field}": value})
    names = {identity.run_name(tiny_run(**change)) for change in changes}
    assert len(names) == len(changes)


def test_the_presets_are_not_part_of_a_code_digest() -> None:
    assert "knowcap.config.architecture_presets" not in code_digest.modules("train")
    assert "knowcap.model.num_params" in code_digest.modules("train")


# PAPER B: 4 heads share keys and values if 4 divides their number, 1 if it is odd, otherwise 2
@pytest.mark.parametrize(
    ("heads", "groups"), [(1, 1), (2, 1), (3, 3), (4, 1), (6, 3), (8, 2), (12, 3), (20, 5)]
)
def test_mistral_has_the_paper_s_number_of_query_groups(heads: int, groups: int) -> None:
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
        ("GPT2", EXPERTS | {"moe_expert_capacity_factor": 2.0}, "GPT2-2-4x16-moe4"),
        (
            "GPT2",
            EXPERTS | {"moe_router_topk": 2, "moe_expert_capacity_factor": 1.0},
            "GPT2-2-4x16-moe4x2c1",
        ),
    ],
)
def test_a_label_has_the_fields_that_differ_from_the_family(
    family: str, fields: dict[str, Any], label: str
) -> None:
    assert architecture(family, **fields).label == label


def test_an_expert_has_two_matrices_of_the_model_s_width() -> None:
    assert architecture("GPT2", **EXPERTS).mlp_weights == 2


@pytest.mark.parametrize("family", [None, 3, {}, []])
def test_a_family_that_is_not_text_is_refused(family: Any) -> None:
    with pytest.raises(ValidationError, match="family"):
        Architecture.model_validate({**SHAPE, "family": family})
