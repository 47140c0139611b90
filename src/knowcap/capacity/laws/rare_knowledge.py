"""Law 4: at 100 exposures models store one bit of knowledge per parameter."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import best_model_mean, paired_ratio, ratio_of_peaks
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    RARE_EXPOSURES,
    RARE_PEAK_RATIO,
    capacity_limited,
    reference,
    with_exposures,
    with_max_ratio,
)
from knowcap.capacity.laws.regressions import exposure_asymptote

PAIR_COLUMNS = ["knowledge", "model", "num_params"]
"""Columns that must be equal in a pair of measurements."""

HALF = Claim(
    relation="about",
    value=0.5,  # PAPER 4.2: one bit per parameter instead of two.
    margin=0.25,
    # ASSUME: the paper states no tolerance for rare knowledge; the scatter of its own points
    # sets the margin.
    reason="ratios of peaks of equal N in the paper's figures 1a and 1b are 0.53 to 0.71",
)


def _rare(models: pd.DataFrame) -> pd.DataFrame:
    return with_exposures(reference(models), RARE_EXPOSURES)


def _frequent(models: pd.DataFrame) -> pd.DataFrame:
    return with_exposures(reference(models), FREQUENT_EXPOSURES)


def _peak(models: pd.DataFrame) -> Estimate:
    chosen = with_max_ratio(_rare(models), RARE_PEAK_RATIO)
    return best_model_mean(chosen, "capacity_ratio", "highest")


def _peak_ratio(models: pd.DataFrame) -> Estimate:
    rare = with_max_ratio(_rare(models), RARE_PEAK_RATIO)
    frequent = with_max_ratio(_frequent(models), FREQUENT_PEAK_RATIO)
    return ratio_of_peaks(rare, frequent, "capacity_ratio")


def _paired_ratio(models: pd.DataFrame) -> Estimate:
    limited = capacity_limited(models)
    return paired_ratio(_rare(limited), _frequent(limited), "capacity_ratio", PAIR_COLUMNS)


def _asymptote(models: pd.DataFrame) -> Estimate:
    limited = capacity_limited(reference(models))
    return exposure_asymptote(limited, "capacity_ratio", FREQUENT_EXPOSURES, PAIR_COLUMNS)


LAW = Law(
    number=4,
    title="Rare knowledge",
    claim="At 100 exposures the peak is one bit per parameter, half of the base law's peak.",
    source_laws=(1, 4),
    quantities=(
        Quantity(
            name="peak R at 100 exposures",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=RARE_PEAK_RATIO,
                margin=0.05,
                reason="a twentieth of the value, as for the base law",
            ),
            estimate=_peak,
            needs="GPT2 with 100 exposures and R_max of at least 1",
            by="knowledge",
        ),
        Quantity(
            name="peak R at 100 exposures, relative to 1000 exposures",
            units="1",
            claim=HALF,
            estimate=_peak_ratio,
            needs="GPT2 at 100 exposures (R_max of at least 1) and at 1000 exposures (at least 2)",
        ),
        Quantity(
            name="R at 100 exposures, relative to the same model at 1000 exposures",
            units="1",
            claim=HALF,
            estimate=_paired_ratio,
            needs="the same GPT2 with 100 and with 1000 exposures and R_max of at least 2",
            required=False,
        ),
        Quantity(
            name="R extrapolated to unlimited exposures, relative to 1000 exposures",
            units="1",
            claim=Claim(
                relation="about",
                value=1.0,  # PAPER 4.1: models are sufficiently trained after 1000 exposures.
                margin=0.15,
                reason="the scatter of the paper's peaks at 1000 exposures",
            ),
            estimate=_asymptote,
            needs="a GPT2 with 1000 and three other numbers of exposures, R_max of at least 2",
            required=False,
        ),
    ),
)
