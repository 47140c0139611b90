"""Law 1: at 1000 exposures models store two bits of knowledge per parameter."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import best_model_mean
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    capacity_limited,
    reference,
    with_exposures,
    with_max_ratio,
)
from knowcap.capacity.laws.regressions import log_log_slope, quantile_slope

DATA_LIMITED_RATIO = 1.8
"""R_max up to which a model stores nearly everything."""  # PAPER 4.1: R_max of 1.8 or less.

FRONTIER_QUANTILE = 0.9
"""Quantile of the regression of bits on parameters."""
# ASSUME: the upper edge of the models in the paper's figure 1 is taken as their 0.9 quantile.


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return with_exposures(reference(models), FREQUENT_EXPOSURES)


def _peak(models: pd.DataFrame) -> Estimate:
    chosen = with_max_ratio(_models(models), FREQUENT_PEAK_RATIO)
    return best_model_mean(chosen, "capacity_ratio", "highest")


def _lowest_share_stored(models: pd.DataFrame) -> Estimate:
    """Lowest R / R_max of models large enough for all bits."""
    chosen = _models(models)
    chosen = chosen[chosen["max_capacity_ratio"] <= DATA_LIMITED_RATIO]
    share = chosen["capacity_ratio"] / chosen["max_capacity_ratio"]
    return best_model_mean(chosen.assign(share=share), "share", "lowest")


def _size_exponent(models: pd.DataFrame) -> Estimate:
    return log_log_slope(capacity_limited(_models(models)), "bits", ["num_params"])


def _frontier(models: pd.DataFrame) -> Estimate:
    return quantile_slope(capacity_limited(_models(models)), FRONTIER_QUANTILE)


def _depth_effect(models: pd.DataFrame) -> Estimate:
    """Factor on R when depth doubles, at equal size and equal knowledge."""
    deep = capacity_limited(_models(models))
    deep = deep[deep["num_layers"] >= 2]  # PAPER 4.1: models of one layer are slightly worse.
    if deep["num_layers"].nunique() < 2:
        return Estimate.without_interval("no data")
    exog = ["num_layers", "num_params", "max_capacity_ratio"]
    return log_log_slope(deep, "capacity_ratio", exog).transform(lambda exponent: 2.0**exponent)


LAW = Law(
    number=1,
    title="Base law",
    claim=(
        "At 1000 exposures a model stores two bits of knowledge per parameter, at any depth. "
        "If the corpus holds less than 1.8 bits per parameter, the model stores nearly all of it."
    ),
    source_laws=(1,),
    quantities=(
        Quantity(
            name="peak R",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=FREQUENT_PEAK_RATIO,
                margin=0.1,
                # ASSUME: the paper states no tolerance for the base law; the scatter of its own
                # points sets the margin.
                reason="the lowest peak of any N in the paper's figure 1a is 1.93",
            ),
            estimate=_peak,
            needs="GPT2 with 1000 exposures and R_max of at least 2",
            by="knowledge",
        ),
        Quantity(
            name="lowest R / R_max of models with R_max up to 1.8",
            units="1",
            claim=Claim(
                relation="at least",
                value=1.0,  # PAPER 4.1: R is close to R_max.
                margin=0.1,
                reason="the lowest share near R_max = 1.8 in the paper's figure 1a is 0.91",
            ),
            estimate=_lowest_share_stored,
            needs="GPT2 with 1000 exposures and R_max of at most 1.8",
        ),
        Quantity(
            name="exponent of bits in P, for models with R_max of at least 2",
            units="1",
            claim=Claim(
                relation="about",
                value=1.0,  # PAPER 4.1: capacity is linear in the number of parameters.
                margin=0.15,
                reason="the points of the paper's figure 1a give 1.06 (0.99 to 1.13)",
            ),
            estimate=_size_exponent,
            needs="GPT2 with 1000 exposures and R_max of at least 2",
        ),
        Quantity(
            name="slope of the upper edge of bits against P (0.9 quantile)",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=2.0,
                margin=0.1,
                reason="the same as for peak R",
            ),
            estimate=_frontier,
            needs="GPT2 with 1000 exposures and R_max of at least 2",
            required=False,
        ),
        Quantity(
            name="factor on R when depth doubles",
            units="1",
            claim=Claim(
                relation="about",
                value=1.0,  # PAPER 4.1: only size matters, not depth or width.
                margin=0.1,
                reason="twice the scatter of the paper's own models about their trend, 0.05",
            ),
            estimate=_depth_effect,
            needs="GPT2 of at least two depths with 1000 exposures and R_max of at least 2",
            required=False,
        ),
    ),
)
