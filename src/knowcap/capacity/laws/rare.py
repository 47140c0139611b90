"""Law 4, rare knowledge: one bit per parameter after a hundred exposures."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws import base
from knowcap.capacity.laws.claims import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import extreme, matched_ratio, ratio_of_peaks

EXPOSURES = 100
"""How often each person was read."""  # PAPER 4.2: a hundred exposures.

PEAK = 1.0
"""What the best models store, in bits per parameter."""  # PAPER 4.2: 1 or more.

SAME_MODEL = ["knowledge", "model", "num_params"]
"""Columns in which two measurements must agree to be compared."""

HALF = Claim(
    relation="about",
    value=0.5,  # PAPER 4.2: one bit per parameter where the base law has two.
    margin=0.25,
    # ASSUME: the paper states no tolerance; its own points set ours.
    reason="peaks by N in the paper's figures 1a and 1b have ratios of 0.53 to 0.71",
)


def _trained_models(models: pd.DataFrame) -> pd.DataFrame:
    return models[models["exposures"] == EXPOSURES]


def _peak(models: pd.DataFrame) -> Estimate:
    return extreme(base.offered(_trained_models(models), PEAK), "capacity_ratio", "highest")


def _peak_ratio(models: pd.DataFrame) -> Estimate:
    rare = base.offered(_trained_models(models), PEAK)
    often = base.offered(base.trained_models(models), base.PEAK)
    return ratio_of_peaks(rare, often, "capacity_ratio")


def _matched_ratio(models: pd.DataFrame) -> Estimate:
    filled = base.capacity_limited(models)
    return matched_ratio(
        _trained_models(filled), base.trained_models(filled), "capacity_ratio", SAME_MODEL
    )


LAW = Law(
    number=4,
    title="Rare knowledge",
    claim="With 100 exposures the peak is one bit per parameter, half of the base law's.",
    reads=(1, 4),
    quantities=(
        Quantity(
            name="peak R at 100 exposures",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=PEAK,
                margin=0.05,
                reason="a twentieth, as for the base law",
            ),
            estimate=_peak,
            by="knowledge",
        ),
        Quantity(
            name="peak R at 100 exposures relative to 1000",
            units="1",
            claim=HALF,
            estimate=_peak_ratio,
        ),
        Quantity(
            name="R at 100 exposures relative to 1000, model by model where R_max is at least 2",
            units="1",
            claim=HALF,
            estimate=_matched_ratio,
            needed=False,
        ),
    ),
)
