"""Which models a law compares."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

OTHER_TOKENIZER = "Mistral"
"""What texts are written in to see whether GPT-2's tokens matter."""

TYING_LABELS: Mapping[str, str] = {"": "", "tied": ", tied", "no-tied": ", not tied"}
"""Variations of a family that leave it what it is, and how words go on for them."""

FREQUENT_EXPOSURES = 1000
"""Exposures of frequent knowledge."""  # PAPER 4.1.

RARE_EXPOSURES = 100
"""Exposures of rare knowledge."""  # PAPER 4.2.

FREQUENT_PEAK_RATIO = 2.0
"""Bits per parameter that the best models store of frequent knowledge."""  # PAPER 4.1.

RARE_PEAK_RATIO = 1.0
"""Bits per parameter that the best models store of rare knowledge."""  # PAPER 4.2.

CAPACITY_LIMITED = 2.0
"""Models offered at least this many bits per parameter are filled up."""


def with_exposures(models: pd.DataFrame, exposures: int) -> pd.DataFrame:
    """Choose models that read about each person so often."""
    return models[models["exposures"] == exposures]


def with_max_ratio(models: pd.DataFrame, least: float) -> pd.DataFrame:
    """Choose models whose corpus offers at least so many bits per parameter.

    No other can show, or fail to show, that so much can be stored.
    """
    return models[models["max_capacity_ratio"] >= least]


def capacity_limited(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models that are offered more than they can store."""
    return with_max_ratio(models, CAPACITY_LIMITED)


def without_junk(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models that read useful biographies alone."""
    return models[models["useful_share"] == 1]


def without_experts(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models without experts."""
    return models[models["num_moe_experts"] == 0]


def standard_models(models: pd.DataFrame) -> pd.DataFrame:
    """Choose dense models as their families are, tied or not, that read bioS or bioD alone.

    Every biography that they read was a fresh one.
    """
    chosen = without_junk(without_experts(models))
    chosen = chosen[chosen["num_versions"] == 0]
    chosen = chosen[
        chosen["variation"].isin(list(TYING_LABELS)) & chosen["kind"].isin(["bioS", "bioD"])
    ]
    return chosen[chosen["tokenizer"] != OTHER_TOKENIZER]


def unmodified_gpt2(models: pd.DataFrame) -> pd.DataFrame:
    """Choose GPT2 as it is, whatever it read."""
    chosen = without_experts(models)
    return chosen[(chosen["family"] == "GPT2") & (chosen["variation"] == "")]


def reference(models: pd.DataFrame) -> pd.DataFrame:
    """Choose what all else is compared with: plain GPT2 that read bioS or bioD and no junk."""
    return standard_models(unmodified_gpt2(models))
