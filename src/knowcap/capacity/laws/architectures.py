"""Law 5: at 1000 exposures all architectures store the same, even without MLPs."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import size_matched_ratio
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    standard_models,
    with_exposures,
)

FAMILY_LABELS = {
    "LLaMA": "LLaMA",
    "Mistral": "Mistral",
    "GPT2_0": "GPT2 without MLPs",
    "GPT2_quarter": "GPT2 with a quarter of the MLP",
}
"""Labels of the families that are compared with GPT2."""

EQUAL = Claim(
    relation="about",
    value=1.0,  # PAPER Result 5: all store the same.
    margin=0.15,
    # ASSUME: the paper states no tolerance for Result 5.
    reason="the paper finds LLaMA and Mistral slightly worse below 10 million parameters",
)


def ratio_to_gpt2(
    models: pd.DataFrame, family: str, exposures: int, tied: bool | None = None
) -> Estimate:
    """R of a family, relative to GPT2 of equal size on the same knowledge."""
    models = with_exposures(models, exposures)
    chosen = capacity_limited(standard_models(models[models["family"] == family]))
    if tied is not None:
        chosen = chosen[chosen["tied"] == tied]
    return size_matched_ratio(chosen, reference(models), "capacity_ratio", ["knowledge"])


def family_quantity(family: str, exposures: int, claim: Claim) -> Quantity:
    """R of a family relative to GPT2; tied and untied as variants."""
    estimate = partial(ratio_to_gpt2, family=family, exposures=exposures)
    split = {"tied": True, "not tied": False} if family in ("LLaMA", "Mistral") else {}
    return Quantity(
        name=f"R of {FAMILY_LABELS[family]}, relative to GPT2 of equal size",
        units="1",
        claim=claim,
        estimate=estimate,
        needs=(
            f"{FAMILY_LABELS[family]} with R_max of at least 2 and GPT2 of similar sizes, "
            f"with {exposures} exposures"
        ),
        variants={label: partial(estimate, tied=tied) for label, tied in split.items()},
    )


LAW = Law(
    number=5,
    title="Architectures at 1000 exposures",
    claim=(
        "At 1000 exposures LLaMA, Mistral and GPT2 store the same number of bits per parameter, "
        "and so does GPT2 with smaller MLPs or without MLPs."
    ),
    source_laws=(1, 5),
    quantities=tuple(
        family_quantity(family, FREQUENT_EXPOSURES, EQUAL) for family in FAMILY_LABELS
    ),
)
