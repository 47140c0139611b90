"""Filters that select the models of a law, with their constants."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

OTHER_TOKENIZER = "Mistral"
"""Tokenizer that law 7 compares with GPT-2's."""

TYING_LABELS: Mapping[str, str] = {"": "", "tied": ", tied", "no-tied": ", not tied"}
"""Variations of a family that only tie or untie the embedding, with their labels."""

FREQUENT_EXPOSURES = 1000
"""Exposures of frequent knowledge."""  # PAPER 4.1.

RARE_EXPOSURES = 100
"""Exposures of rare knowledge."""  # PAPER 4.2.

FREQUENT_PEAK_RATIO = 2.0
"""Bits per parameter that the best models store of frequent knowledge."""  # PAPER 4.1.

RARE_PEAK_RATIO = 1.0
"""Bits per parameter that the best models store of rare knowledge."""  # PAPER 4.2.

CAPACITY_LIMITED_RATIO = 2.0
"""R_max from which a model, and not the corpus, limits how much is stored."""


def with_adamw(models: pd.DataFrame) -> pd.DataFrame:
    """Models trained with AdamW, as those of the paper; older tables have no others."""
    return models[models["optimizer"] == "AdamW"] if "optimizer" in models else models


def with_exposures(models: pd.DataFrame, exposures: int) -> pd.DataFrame:
    """Models trained with this number of exposures."""
    return models[models["exposures"] == exposures]


def with_max_ratio(models: pd.DataFrame, minimum: float) -> pd.DataFrame:
    """Models with R_max of at least `minimum` bits per parameter.

    Models with less cannot reach a peak of `minimum`, so they are no evidence for or against it.
    """
    return models[models["max_capacity_ratio"] >= minimum]


def capacity_limited(models: pd.DataFrame) -> pd.DataFrame:
    """Models whose corpus holds more knowledge than they can store."""
    return with_max_ratio(models, CAPACITY_LIMITED_RATIO)


def without_junk(models: pd.DataFrame) -> pd.DataFrame:
    """Models trained on useful biographies only."""
    return models[models["useful_share"] == 1]


def without_experts(models: pd.DataFrame) -> pd.DataFrame:
    """Dense models, without mixtures of experts."""
    return models[models["num_moe_experts"] == 0]


def standard_models(models: pd.DataFrame) -> pd.DataFrame:
    """Dense, unmodified models of all families on fresh bioS or bioD.

    Embeddings may be tied or not. Models trained with junk or another tokenizer are left out.
    """
    chosen = without_junk(without_experts(models))
    chosen = chosen[chosen["num_versions"] == 0]
    is_unmodified = chosen["variation"].isin(list(TYING_LABELS))
    chosen = chosen[is_unmodified & chosen["kind"].isin(["bioS", "bioD"])]
    return chosen[chosen["tokenizer"] != OTHER_TOKENIZER]


def unmodified_gpt2(models: pd.DataFrame) -> pd.DataFrame:
    """GPT2 with its standard architecture, on any corpus."""
    chosen = without_experts(models)
    return chosen[(chosen["family"] == "GPT2") & (chosen["variation"] == "")]


def reference(models: pd.DataFrame) -> pd.DataFrame:
    """The reference of all comparisons: unmodified GPT2 on fresh bioS or bioD without junk."""
    return standard_models(unmodified_gpt2(models))
