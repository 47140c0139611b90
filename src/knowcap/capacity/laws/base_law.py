"""Law 1, the base law: two bits of knowledge per parameter."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws.estimators import best_model_mean
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    capacity_limited,
    reference,
    with_exposures,
    with_max_ratio,
)
from knowcap.capacity.laws.regressions import log_log_slope, quantile_slope

DATA_LIMITED = 1.8
"""Models offered at most this many store nearly all of them."""  # PAPER 4.1: R_max of 1.8 or less.

FRONTIER_QUANTILE = 0.9
"""Which models are the upper edge."""  # ASSUME: a tenth of the models lie above.


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return with_exposures(reference(models), FREQUENT_EXPOSURES)


def _peak(models: pd.DataFrame) -> Estimate:
    return best_model_mean(
        with_max_ratio(_models(models), FREQUENT_PEAK_RATIO), "capacity_ratio", "highest"
    )


def _filled_share(models: pd.DataFrame) -> Estimate:
    """Lowest share of what was offered that a model with room for it stores."""
    roomy = _models(models)
    roomy = roomy[roomy["max_capacity_ratio"] <= DATA_LIMITED]
    share = roomy["capacity_ratio"] / roomy["max_capacity_ratio"]
    return best_model_mean(roomy.assign(share=share), "share", "lowest")


def _size_exponent(models: pd.DataFrame) -> Estimate:
    return log_log_slope(capacity_limited(_models(models)), "bits", ["num_params"])


def _frontier(models: pd.DataFrame) -> Estimate:
    return quantile_slope(capacity_limited(_models(models)), FRONTIER_QUANTILE)


def _depth_effect(models: pd.DataFrame) -> Estimate:
    """Factor on the capacity ratio when depth doubles, at equal size and equal knowledge."""
    deep = capacity_limited(_models(models))
    deep = deep[deep["num_layers"] >= 2]  # PAPER 4.1: one layer is slightly worse.
    if deep["num_layers"].nunique() < 2:
        return Estimate.without_interval("no data")
    found = log_log_slope(
        deep, "capacity_ratio", ["num_layers", "num_params", "max_capacity_ratio"]
    )
    return found.transformed(lambda exponent: 2.0**exponent)


LAW = Law(
    number=1,
    title="Base law",
    claim=(
        "With 1000 exposures a model stores two bits of knowledge per parameter, whatever its "
        "depth; offered less than 1.8, it stores nearly all of it."
    ),
    reads=(1,),
    quantities=(
        Quantity(
            name="peak R",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=FREQUENT_PEAK_RATIO,
                margin=0.1,
                # ASSUME: the paper states no tolerance; its own points set ours.
                reason="peaks by N in the paper's figure 1a go down to 1.93",
            ),
            estimate=_peak,
            needs="GPT2 with 1000 exposures and R_max of at least 2",
            by="knowledge",
        ),
        Quantity(
            name="lowest R / R_max where R_max is at most 1.8",
            units="1",
            claim=Claim(
                relation="at least",
                value=1.0,  # PAPER 4.1: R is about R_max.
                margin=0.1,
                reason="models near R_max = 1.8 in the paper's figure 1a go down to 0.91",
            ),
            estimate=_filled_share,
            needs="GPT2 with 1000 exposures and R_max of at most 1.8",
        ),
        Quantity(
            name="exponent of bits in P where R_max is at least 2",
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
            name="bits added per parameter along the upper edge",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=2.0,
                margin=0.1,
                reason="the same as for peak R",
            ),
            estimate=_frontier,
            needs="GPT2 with 1000 exposures and R_max of at least 2",
            needed=False,
        ),
        Quantity(
            name="factor on R when depth doubles",
            units="1",
            claim=Claim(
                relation="about",
                value=1.0,  # PAPER 4.1: depth and width do not matter, only size.
                margin=0.1,
                reason="the paper's own models scatter by 0.05 about their trend; twice that",
            ),
            estimate=_depth_effect,
            needs="GPT2 of two depths or more with 1000 exposures and R_max of at least 2",
            needed=False,
        ),
    ),
)
