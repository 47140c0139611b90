"""Law 9: mixtures of experts store nearly as much as dense models."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import mean_ratio_of_peaks
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    RARE_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
    without_junk,
)


def _experts(models: pd.DataFrame) -> pd.DataFrame:
    return without_junk(models[models["num_moe_experts"] > 0])


def _peak_ratio(models: pd.DataFrame, exposures: int) -> Estimate:
    limited = capacity_limited(with_exposures(models, exposures))
    return mean_ratio_of_peaks(_experts(limited), reference(limited), "capacity_ratio", "knowledge")


def _active_share(models: pd.DataFrame) -> Estimate:
    """Lowest share of active parameters, without embedding; counted, therefore exact."""
    chosen = _experts(models).drop_duplicates("measurement")
    if chosen.empty:
        return Estimate.without_interval("no data")
    active, total = (
        chosen[name] - chosen["num_params_embedding"]
        for name in ("num_params_active", "num_params")
    )
    share = float((active / total).min())
    return Estimate(share, share, share, len(chosen), 0, "ok")


def _quantity(exposures: int, factor: float, margin: float) -> Quantity:
    return Quantity(
        name=f"peak R of mixtures of experts, relative to dense models, at {exposures} exposures",
        units="1",
        claim=Claim(
            relation="about",
            value=1 / factor,
            margin=margin,
            # ASSUME: the paper states no tolerance for Result 9.
            reason="so that a ratio of 1, equality with dense models, is not accepted",
        ),
        estimate=partial(_peak_ratio, exposures=exposures),
        needs=(
            f"mixtures of experts and dense GPT2 on the same knowledge, {exposures} exposures "
            "and R_max of at least 2"
        ),
        by="knowledge",
    )


LAW = Law(
    number=9,
    title="Mixtures of experts",
    claim=(
        "With 32 experts a model stores 1.3 times less per parameter at 1000 exposures and 1.5 "
        "times less at 100 exposures, although a token uses only 8.8 % of the parameters."
    ),
    source_laws=(1, 4, 9),
    quantities=(
        _quantity(FREQUENT_EXPOSURES, 1.3, 0.15),  # PAPER Result 9: 1.3 times lower.
        _quantity(RARE_EXPOSURES, 1.5, 0.15),  # PAPER Result 9: 1.5 times lower.
        Quantity(
            name="lowest share of parameters active for a token, without embedding",
            units="1",
            claim=Claim(
                relation="about",
                value=0.088,  # PAPER Result 9: 8.8 %.
                margin=0.02,
                reason="routers, biases and norms are a larger share of narrow models",
            ),
            estimate=_active_share,
            needs="mixtures of experts",
            required=False,
        ),
    ),
)
