"""Which models a law compares."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.families import GPT2, LLAMA_TOKENIZER, SWITCHES

FREQUENT = 1000
"""Exposures of frequent knowledge."""  # PAPER 4.1.

RARE = 100
"""Exposures of rare knowledge."""  # PAPER 4.2.

FREQUENT_PEAK = 2.0
"""Bits per parameter that the best models store of frequent knowledge."""  # PAPER 4.1.

RARE_PEAK = 1.0
"""Bits per parameter that the best models store of rare knowledge."""  # PAPER 4.2.

CAPACITY_LIMITED = 2.0
"""Models offered at least this many bits per parameter are filled up."""


def exposed(models: pd.DataFrame, exposures: int) -> pd.DataFrame:
    """Choose models that read about each person so often."""
    return models[models["exposures"] == exposures]


def offered(models: pd.DataFrame, least: float) -> pd.DataFrame:
    """Choose models whose corpus offers at least so many bits per parameter.

    No other can show, or fail to show, that so much can be stored.
    """
    return models[models["max_capacity_ratio"] >= least]


def capacity_limited(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models that are offered more than they can store."""
    return offered(models, CAPACITY_LIMITED)


def without_junk(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models that read useful biographies alone."""
    return models[models["useful_share"] == 1]


def dense(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models without experts."""
    return models[models["num_moe_experts"] == 0]


def of_family(models: pd.DataFrame, family: str) -> pd.DataFrame:
    """Choose dense models of a family, tied or not, that read useful biographies alone."""
    chosen = without_junk(dense(models))
    return chosen[chosen["family"] == family]


def plain_gpt2(models: pd.DataFrame) -> pd.DataFrame:
    """Choose GPT2 as it is, whatever it read."""
    chosen = models[models["family"] == GPT2]
    for switch, usual in SWITCHES[GPT2].items():
        chosen = chosen[chosen[switch] == usual]
    return chosen


def reference(models: pd.DataFrame) -> pd.DataFrame:
    """Choose what all else is compared with: plain GPT2 that read bioS or bioD and no junk."""
    chosen = without_junk(plain_gpt2(models))
    chosen = chosen[chosen["tokenizer"] != LLAMA_TOKENIZER]
    return chosen[chosen["kind"].isin(["bioS", "bioD"])]
