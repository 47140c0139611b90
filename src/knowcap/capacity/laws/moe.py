"""Law 9: mixtures of experts store nearly as much as dense models."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.cells import compare_equal_size
from knowcap.capacity.laws.claims import times_lower
from knowcap.capacity.laws.definitions import Fact, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    RARE_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
    without_junk,
)
from knowcap.capacity.laws.preconditions import EnoughTokensPerExpert, EqualSize
from knowcap.capacity.laws.quantities import log_mean, usual


def _experts(models: pd.DataFrame) -> pd.DataFrame:
    return without_junk(models[models["num_moe_experts"] > 0])


def _ratio(models: pd.DataFrame, exposures: int) -> pd.DataFrame:
    limited = capacity_limited(with_exposures(models, exposures))
    return compare_equal_size(_experts(limited), reference(limited), "capacity_ratio")


def _active_share(models: pd.DataFrame) -> str:
    """Sentence with the share of active parameters, which follows from the architecture."""
    chosen = _experts(models).drop_duplicates("measurement")
    if chosen.empty:
        return ""
    active, total = (
        chosen[name] - chosen["num_params_embedding"]
        for name in ("num_params_active", "num_params")
    )
    lowest, highest = (f"{100 * share:.2g}" for share in ((active / total).agg(["min", "max"])))
    shares = lowest if lowest == highest else f"{lowest} to {highest}"
    # PAPER Result 9: 8.8 %.
    return f"A token uses {shares} % of the parameters without embedding; in the paper 8.8 %."


def _quantity(exposures: int, factor: float) -> Quantity:
    return Quantity(
        name=f"R of mixtures of experts, relative to dense models of equal size, E = {exposures}",
        units="",
        claim=times_lower(factor),
        select=partial(_ratio, exposures=exposures),
        estimate=log_mean,
        needs=(
            f"mixtures of experts and dense GPT2 of equal size on the same knowledge, {exposures} "
            "exposures and R_max of at least 2"
        ),
        primary=True,
        preconditions=usual(exposures, EqualSize(), EnoughTokensPerExpert()),
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
        _quantity(FREQUENT_EXPOSURES, 1.3),  # PAPER Result 9: 1.3 times lower.
        _quantity(RARE_EXPOSURES, 1.5),  # PAPER Result 9: 1.5 times lower.
    ),
    facts=(Fact("active parameters", _active_share),),
)
