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
from knowcap.capacity.laws.settings import ARCHITECTURE_SETTINGS

NUM_EXPERTS = 32
"""Experts of a layer."""  # PAPER 9.

ROUTINGS = ((1, 2.0), (2, 1.0), (2, 2.0))
"""Experts that process each token, and expert capacity in training."""
# PAPER D: top-1 and capacity 2; the other two differ little.


def _experts(models: pd.DataFrame, topk: int, capacity: float) -> pd.DataFrame:
    """Mixtures of experts with one routing, trained without junk."""
    chosen = without_junk(models[models["num_moe_experts"] == NUM_EXPERTS])
    chosen = chosen[chosen["moe_router_topk"] == topk]
    return chosen[chosen["moe_expert_capacity_factor"] == capacity]


def _ratio(
    models: pd.DataFrame, exposures: int, routing: tuple[int, float] = ROUTINGS[0]
) -> pd.DataFrame:
    """Cells with R of mixtures of experts, relative to dense models of equal size."""
    limited = capacity_limited(with_exposures(models, exposures))
    return compare_equal_size(_experts(limited, *routing), reference(limited), "capacity_ratio")


def _active_share(models: pd.DataFrame) -> str:
    """Sentence with the share of active parameters, which follows from the architecture."""
    chosen = _experts(models, *ROUTINGS[0]).drop_duplicates("measurement")
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
    """Ratio with the routing of the paper; the others are details."""
    select = partial(_ratio, exposures=exposures)
    return Quantity(
        name=f"R of mixtures of experts, relative to dense models of equal size, E = {exposures}",
        units="",
        claim=times_lower(factor),
        select=select,
        estimate=log_mean,
        needs=(
            f"mixtures of {NUM_EXPERTS} experts and dense GPT2 of equal size on the same "
            f"knowledge, {exposures} exposures and R_max of at least 2"
        ),
        primary=True,
        preconditions=usual(exposures, EqualSize(), EnoughTokensPerExpert()),
        details={
            f"top-{topk}, capacity {capacity:g}": partial(select, routing=(topk, capacity))
            for topk, capacity in ROUTINGS[1:]
        },
    )


LAW = Law(
    number=9,
    title="Mixtures of experts",
    claim=(
        "With 32 experts a model stores 1.3 times less per parameter at 1000 exposures and 1.5 "
        "times less at 100 exposures, although a token uses only 8.8 % of the parameters."
    ),
    source_laws=(1, 4, 9),
    varied=ARCHITECTURE_SETTINGS,
    quantities=(
        _quantity(FREQUENT_EXPOSURES, 1.3),  # PAPER Result 9: 1.3 times lower.
        _quantity(RARE_EXPOSURES, 1.5),  # PAPER Result 9: 1.5 times lower.
    ),
    facts=(Fact("active parameters", _active_share),),
)
