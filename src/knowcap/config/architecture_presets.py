"""The families of architectures: what their names stand for.

An architecture of one's own is one entry of :data:`ARCHITECTURE_PRESETS` (docs/architectures.md). A record of
a run holds what its family's entry says, so an entry is part of the names of its own runs only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Switch = bool | float | str | Callable[[int], int]
"""A field's value, or how it follows from the number of heads."""


def mistral_query_groups(num_heads: int) -> int:
    """Groups of heads that share keys and values in Mistral."""
    # PAPER B: "4 groups" if 4 divides the number of heads, 1 if it is odd, otherwise 2
    # ASSUME: these are the heads that share keys and values, as they then have d^2/4 weights each
    sharing = 4 if num_heads % 4 == 0 else 1 if num_heads % 2 else 2
    return num_heads // sharing


_LLAMA: Mapping[str, Switch] = {
    "tied": False,
    "gated": True,
    "activation": "silu",
    "normalization": "RMSNorm",
    "add_bias": False,
}

ARCHITECTURE_PRESETS: Mapping[str, Mapping[str, Switch]] = {
    # PAPER 2.3: GPT2 with rotary embedding and without dropout
    "GPT2": {},
    # PAPER B: a gated MLP of 8 d^2 weights, no biases, an output layer of its own
    "LLaMA": _LLAMA,
    # PAPER B: as LLaMA with an MLP of 10.5 d^2 weights and grouped queries
    "Mistral": {**_LLAMA, "mlp_weights": 10.5, "num_query_groups": mistral_query_groups},
    # PAPER 6: an MLP d -> d -> d
    "GPT2_quarter": {"mlp_weights": 2.0},
    # PAPER 6: no MLP at all
    "GPT2_0": {"mlp_weights": 0.0},
}
"""By name, fields of :class:`knowcap.config.Architecture` that differ from GPT2's."""

EXPERT: Mapping[str, Switch] = {"mlp_weights": 2.0}
"""What replaces a family's MLP where there is a choice of experts."""  # PAPER 9: d -> d -> d


def switches(family: str, num_heads: int, num_experts: int) -> dict[str, bool | float | str]:
    """Fields that a family sets in an architecture of so many heads and experts."""
    entry = ARCHITECTURE_PRESETS[family]
    if num_experts and entry.get("mlp_weights") != 0:
        entry = {**entry, **EXPERT}
    return {name: value(num_heads) if callable(value) else value for name, value in entry.items()}
