"""Law 5, architectures: with a thousand exposures all are alike, even without MLPs."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.estimators import size_matched_ratio
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
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
"""What is compared with GPT2, in words."""

EQUAL = Claim(
    relation="about",
    value=1.0,  # PAPER Result 5: all the same.
    margin=0.15,
    # ASSUME: the paper states no tolerance.
    reason="the paper calls LLaMA and Mistral below 10 million parameters slightly worse",
)


def relative_to_gpt2(
    models: pd.DataFrame, family: str, exposures: int, tied: bool | None = None
) -> Estimate:
    """R of a family relative to GPT2 of the same size on the same knowledge."""
    read = with_exposures(models, exposures)
    above = capacity_limited(standard_models(read[read["family"] == family]))
    if tied is not None:
        above = above[above["tied"] == tied]
    return size_matched_ratio(above, reference(read), "capacity_ratio", ["knowledge"])


def comparison(family: str, exposures: int, claim: Claim) -> Quantity:
    """R of a family relative to GPT2, with tied and untied embedding apart for detail."""
    estimate = partial(relative_to_gpt2, family=family, exposures=exposures)
    split = {"tied": True, "not tied": False} if family in ("LLaMA", "Mistral") else {}
    return Quantity(
        name=f"R of {FAMILY_LABELS[family]} relative to GPT2, at equal size",
        units="1",
        claim=claim,
        estimate=estimate,
        needs=(
            f"{FAMILY_LABELS[family]} of R_max of at least 2 and GPT2 of about that size, "
            f"with {exposures} exposures"
        ),
        variants={label: partial(estimate, tied=tied) for label, tied in split.items()},
    )


LAW = Law(
    number=5,
    title="Architectures",
    claim=(
        "With 1000 exposures LLaMA and Mistral store as much per parameter as GPT2, and so does "
        "GPT2 with small MLPs or none."
    ),
    reads=(1, 5),
    quantities=tuple(comparison(family, FREQUENT_EXPOSURES, EQUAL) for family in FAMILY_LABELS),
)
