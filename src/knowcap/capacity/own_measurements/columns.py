"""Columns of a file of measurements: aliases, kinds of values, defaults, and who needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from knowcap.capacity.bit_complexity import SCORINGS
from knowcap.capacity.table_columns import BIOD_SHAPE, LABELS
from knowcap.config import Precision

Kind = Literal["count", "number", "flag", "text"]
"""Kind of the values: integers of at least 0, numbers, true or false, texts."""

ALIASES: Mapping[str, str] = {
    "N": "num_people",
    "N0": "num_names",
    "E": "exposures",
    "P": "num_params",
    "R": "capacity_ratio",
    "R_max": "max_capacity_ratio",
    "architecture": "family",
    "layers": "num_layers",
    "heads": "num_attention_heads",
    "steps": "train_iters",
    **dict(zip("KCDLT", BIOD_SHAPE, strict=True)),
}
"""Short names of columns."""

REQUIRED = ("num_people", "exposures", "num_params")
"""Columns that every file has."""

ALTERNATIVES = (("bits", "capacity_ratio"), ("max_bits", "max_capacity_ratio"))
"""Pairs of which every file has at least one; they differ by the factor `num_params`."""

VALUES: Mapping[str, Kind] = {
    **dict.fromkeys(REQUIRED, "count"),
    **dict.fromkeys((*ALTERNATIVES[0], *ALTERNATIVES[1]), "number"),
    **dict.fromkeys(("kind", "family", "model", "variation", "precision", "tokenizer"), "text"),
    **dict.fromkeys(("rewriter", "activation", "normalization"), "text"),
    **dict.fromkeys(("optimizer", "mixture_unit"), "text"),
    **dict.fromkeys(("seed", "population_seed", "num_names", "num_versions"), "count"),
    **dict.fromkeys(BIOD_SHAPE, "count"),
    **dict.fromkeys(("num_layers", "num_attention_heads", "hidden_size"), "count"),
    **dict.fromkeys(("num_moe_experts", "num_junk_people", "train_iters", "num_tokens"), "count"),
    **dict.fromkeys(("num_params_embedding", "num_params_active", "moe_router_topk"), "count"),
    "moe_expert_capacity_factor": "number",
    **dict.fromkeys(("lr", "useful_share", "bits_per_param", "share_quantised"), "number"),
    **dict.fromkeys(("tied", "gated", "add_bias", "domain_token"), "flag"),
    **{f"capacity_ratio_{name}": "number" for name in SCORINGS if name != "plain"},
    "capacity_ratio_of_values": "number",
}
"""Columns that are read, with the kind of their values."""

IGNORED = {
    *(LABELS.keys() - VALUES.keys()),
    *("measurement", "experiments", "attainable_bits", "attainable_capacity_ratio"),
    *(f"bits_{name}" for name in SCORINGS),
}
"""Further columns of a study's index.csv; they are allowed and not read."""

POSITIVE = {*REQUIRED, *ALTERNATIVES[1], "lr", "num_names", "train_iters", "num_tokens"}
"""Columns whose values are above 0."""

UNKNOWN_IF_ZERO = ("lr", "train_iters", "num_tokens")
"""Columns in which 0 means unknown, as in a table of `knowcap measure`."""

MAY_BE_INFINITE = ("moe_expert_capacity_factor",)
"""Columns in which `inf` is allowed."""

ALLOWED_TEXTS: Mapping[str, tuple[str, ...]] = {
    "kind": ("bioS", "bioS-simple", "bioR", "bioD", "table"),
    "precision": get_args(Precision),
    "mixture_unit": ("window", "biography"),
}
"""Texts that a column can have."""

DEFAULTS: Mapping[str, tuple[Any, str]] = {
    "kind": ("bioS", "biographies of bioS"),
    "family": ("GPT2", "architecture GPT2"),
    "precision": ("trained", "weights as trained, not quantised"),
    "num_versions": (0, "fresh biographies at every exposure"),
    "population_seed": (0, "one population for each N"),
    "useful_share": (1.0, "no junk"),
    "num_moe_experts": (0, "no mixtures of experts"),
    "tokenizer": ("GPT2", "GPT-2's tokenizer"),
    "optimizer": ("AdamW", "trained with AdamW"),
    "seed": (0, "one training for each row"),
}
"""Values of missing columns, with what they mean; every one that is used is printed."""

FAMILY_CLASSES: Mapping[str, str] = {
    "GPTNeoXForCausalLM": "GPT2",
    "LlamaForCausalLM": "LLaMA",
    "MistralForCausalLM": "Mistral",
}
"""Families of the classes that `knowcap measure` writes; GPT2 with rotary embedding is GPT-NeoX."""

JUNK = ("useful_share", "num_junk_people", "domain_token", "mixture_unit")
"""Columns of the junk mixed into the corpus."""

LAW_COLUMNS: Mapping[int, tuple[str, ...]] = {
    1: (),
    2: ("kind", "num_versions", "capacity_ratio_chain_rule", "num_layers", "num_attention_heads"),
    3: ("kind", *BIOD_SHAPE, "num_layers", "num_attention_heads"),
    4: (),
    5: ("family",),
    6: ("family",),
    7: (
        *("family", "tied", "gated", "activation", "normalization", "add_bias"),
        *("num_layers", "num_attention_heads"),
    ),
    8: ("precision",),
    9: ("num_moe_experts", "moe_router_topk", "moe_expert_capacity_factor"),
    10: JUNK,
    11: (*JUNK, "capacity_ratio_of_values"),
    12: JUNK,
}
"""Columns without which a law is not run."""

CHECK_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "rate": ("lr",),
    "steps": ("train_iters",),
    "names": ("num_names",),
    "wordings": ("kind",),
    "tokens a step": ("num_tokens", "train_iters"),
    "few junk people": ("num_junk_people",),
}
"""Columns without which a precondition is not shown, by its name in docs/verdicts.md."""

SETTING_FIELDS: Mapping[str, str] = {
    **{name: f"corpus.knowledge.{name}" for name in ("kind", "num_people", *BIOD_SHAPE)},
    **{name: f"corpus.knowledge.{name}" for name in ("num_versions", "rewriter")},
    "population_seed": "corpus.knowledge.seed",
    "tokenizer": "corpus.tokenizer",
    **{name: f"corpus.mixture.{name}" for name in JUNK[:3]},
    "mixture_unit": "corpus.mixture.unit",
    **{name: f"optimization.{name}" for name in ("exposures", "optimizer")},
    **{
        name: f"architecture.{name}"
        for name in (
            *("family", "num_layers", "num_attention_heads", "tied", "gated", "activation"),
            *("normalization", "add_bias", "num_moe_experts", "moe_router_topk"),
            *("moe_expert_capacity_factor",),
        )
    },
}
"""Fields of study files that columns stand for: both sides of a comparison are equal in them."""
