"""Presets of the architecture families: GPT2, LLaMA, Mistral and GPT2 with smaller MLPs.

A family is an entry of :data:`ARCHITECTURE_PRESETS` (docs/architectures.md). The values of the
entry are written into the record of each run of the family. Adding a family therefore does not
rename existing runs; editing an entry renames the runs of that family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

PresetValue = bool | float | str | Callable[[int], int]
"""The value of a field, or a function that computes it from the number of heads."""


def mistral_query_groups(num_heads: int) -> int:
    """Return the number of query groups of Mistral."""
    # PAPER B: "4 groups" if 4 divides the number of heads, 1 if it is odd, otherwise 2
    # ASSUME: this is the number of heads that share a key and a value, because the paper's key and
    # value matrices then have d^2/4 weights each
    heads_per_group = 4 if num_heads % 4 == 0 else 1 if num_heads % 2 else 2
    return num_heads // heads_per_group


_LLAMA: Mapping[str, PresetValue] = {
    "tied": False,
    "gated": True,
    "activation": "silu",
    "normalization": "RMSNorm",
    "add_bias": False,
}

ARCHITECTURE_PRESETS: Mapping[str, Mapping[str, PresetValue]] = {
    # PAPER 2.3: GPT2 with rotary embedding and without dropout
    "GPT2": {},
    # PAPER B: a gated MLP of 8 d^2 weights, no biases, an untied output layer
    "LLaMA": _LLAMA,
    # PAPER B: LLaMA with an MLP of 10.5 d^2 weights and grouped queries
    "Mistral": {**_LLAMA, "mlp_weights": 10.5, "num_query_groups": mistral_query_groups},
    # PAPER 6: an MLP d -> d -> d
    "GPT2_quarter": {"mlp_weights": 2.0},
    # PAPER 6: no MLP at all
    "GPT2_0": {"mlp_weights": 0.0},
}
"""By family, the fields of :class:`knowcap.config.Architecture` that differ from GPT2's."""

MOE_PRESET: Mapping[str, PresetValue] = {"mlp_weights": 2.0}
"""Fields of every family that differ if it has experts."""  # PAPER 9: experts are d -> d -> d


def preset_fields(family: str, num_heads: int, num_experts: int) -> dict[str, bool | float | str]:
    """Return the fields that a family sets, for a number of heads and experts."""
    preset = ARCHITECTURE_PRESETS[family]
    if num_experts and preset.get("mlp_weights") != 0:
        preset = {**preset, **MOE_PRESET}
    return {name: value(num_heads) if callable(value) else value for name, value in preset.items()}
