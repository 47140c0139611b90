"""Law 1: at 1000 exposures models store two bits of knowledge per parameter."""

from __future__ import annotations

import pandas as pd

from knowcap.capacity.laws.cell_summaries import largest_two_sizes
from knowcap.capacity.laws.cells import SAME_MODEL, cells
from knowcap.capacity.laws.claims import Claim, at_least, equal
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.estimate import Estimate
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    reference,
    with_exposures,
    with_max_ratio,
)
from knowcap.capacity.laws.preconditions import (
    EnoughSteps,
    InteriorRate,
    ManyNames,
    Plateau,
    SeveralSizes,
)
from knowcap.capacity.laws.quantities import linear_mean, log_mean
from knowcap.capacity.laws.settings import SIZE_SETTINGS, held_settings, settings_of
from knowcap.capacity.laws.slopes import log_log_slope

PEAK_MAX_RATIO = 2.3
"""R_max from which a model can reach the peak."""
# ASSUME: in the paper's figure 1a models with R_max of 2.0 to 2.1 store 1.7 to 2.0, those with 2.3
# or more reach 2.

DATA_LIMITED_RATIOS = (0.9, 1.8)
"""R_max of models that are large enough for all bits, and not far too large."""
# PAPER 4.1: R_max of 1.8 or less.
# ASSUME: with less than half of that, storing everything says nothing about capacity.

PAIR_FACTOR = 1.1
"""Largest ratio of P, and of R_max, in a pair of models of different depth."""

VARIED = SIZE_SETTINGS | {"corpus.knowledge.num_people"}
"""Fields that differ in such a pair; N may differ as much as R_max."""


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return with_exposures(reference(models), FREQUENT_EXPOSURES)


def _plateau(models: pd.DataFrame) -> pd.DataFrame:
    """Cells of the two largest sizes that the corpus does not limit."""
    return largest_two_sizes(_filled(models))


def _filled(models: pd.DataFrame) -> pd.DataFrame:
    chosen = with_max_ratio(_models(models), PEAK_MAX_RATIO)
    return cells(chosen, "capacity_ratio") if len(chosen) else pd.DataFrame()


def _share_stored(models: pd.DataFrame) -> pd.DataFrame:
    chosen = _models(models)
    lower, upper = DATA_LIMITED_RATIOS
    chosen = chosen[chosen["max_capacity_ratio"].between(lower, upper)]
    share = chosen["capacity_ratio"] / chosen["max_capacity_ratio"]
    return cells(chosen.assign(share=share), "share") if len(chosen) else pd.DataFrame()


def _at_fixed_max_ratio(models: pd.DataFrame) -> pd.DataFrame:
    """Cells with similar R_max, so that only P varies."""
    chosen = _filled(models)
    if chosen.empty:
        return chosen
    return chosen[chosen["max_capacity_ratio"] <= PEAK_MAX_RATIO * 1.3]


def _exponent(chosen: pd.DataFrame) -> Estimate:
    if chosen.empty:
        return Estimate.without_interval("no data")
    bits = chosen["value"] * chosen["num_params"]
    return log_log_slope(chosen.assign(value=bits), ["num_params"], "num_params")


def _depth_pairs(models: pd.DataFrame) -> pd.DataFrame:
    """Cells with R of a deeper model relative to a shallower one of equal P and R_max."""
    chosen = _filled(models)
    if chosen.empty:
        return chosen
    chosen = chosen[chosen["num_layers"] >= 2]  # PAPER 4.1: one layer is slightly worse.
    pairs = chosen.merge(chosen, how="cross", suffixes=("", "_baseline"))
    for name in held_settings(chosen, VARIED):
        pairs = pairs[pairs[name] == pairs[f"{name}_baseline"]]
    pairs = pairs[pairs["num_layers"] > pairs["num_layers_baseline"]]
    for name in ("num_params", "max_capacity_ratio"):
        ratio = pairs[name].astype(float) / pairs[f"{name}_baseline"]
        pairs = pairs[ratio.between(1 / PAIR_FACTOR, PAIR_FACTOR)]
    # Each model is in one pair at most, so that pairs are independent.
    taken: set[object] = set()
    kept = []
    for index, pair in pairs.iterrows():
        models_of_pair = {
            tuple(pair[f"{name}{side}"] for name in (*SAME_MODEL, *settings_of(chosen)))
            for side in ("", "_baseline")
        }
        if not models_of_pair & taken:
            taken |= models_of_pair
            kept.append(index)
    pairs = pairs.loc[kept]
    ratio = pairs["value"] / pairs["value_baseline"]
    variance = ratio**2 * sum(
        pairs[f"variance{side}"] / pairs[f"value{side}"] ** 2 for side in ("", "_baseline")
    )
    freedom = pairs[["degrees_of_freedom", "degrees_of_freedom_baseline"]].min(axis="columns")
    return pairs.assign(value=ratio, variance=variance, degrees_of_freedom=freedom)


_NEEDS = "GPT2 with 1000 exposures and R_max of"

LAW = Law(
    number=1,
    title="Base law",
    claim=(
        "At 1000 exposures a model stores two bits of knowledge per parameter, at any depth. "
        "If the corpus holds less than 1.8 bits per parameter, the model stores nearly all of it."
    ),
    source_laws=(1,),
    varied=VARIED,
    quantities=(
        Quantity(
            name="R of the largest models",
            units="bit/parameter",
            claim=at_least(
                FREQUENT_PEAK_RATIO,
                0.1,
                # ASSUME: the paper states no tolerance for the base law; the scatter of its own
                # points sets the margin.
                "the lowest peak of any N in the paper's figure 1a is 1.93",
            ),
            select=_plateau,
            estimate=linear_mean,
            needs=f"{_NEEDS} at least {PEAK_MAX_RATIO}",
            primary=True,
            preconditions=(SeveralSizes(), Plateau(), InteriorRate(), EnoughSteps(), ManyNames()),
        ),
        Quantity(
            name="R / R_max of models with R_max up to 1.8",
            units="",
            claim=Claim(
                text="nearly 1",  # PAPER 4.1: R is close to R_max.
                value=1.0,
                lower=0.9,
                upper=float("inf"),
                reason="the lowest share near R_max = 1.8 in the paper's figure 1a is 0.91",
            ),
            select=_share_stored,
            estimate=linear_mean,
            needs=f"{_NEEDS} {DATA_LIMITED_RATIOS[0]} to {DATA_LIMITED_RATIOS[1]}",
            primary=True,
            preconditions=(SeveralSizes(), EnoughSteps(), ManyNames()),
        ),
        Quantity(
            name="exponent of bits in P, at similar R_max",
            units="",
            claim=Claim(
                text="about 1",  # PAPER 4.1: capacity is linear in the number of parameters.
                value=1.0,
                lower=0.85,
                upper=1.15,
                reason="the points of the paper's figure 1a give 1.06 (0.99 to 1.13)",
            ),
            select=_at_fixed_max_ratio,
            estimate=_exponent,
            needs=f"{_NEEDS} {PEAK_MAX_RATIO} to {1.3 * PEAK_MAX_RATIO:.2g}, of three sizes",
            has_cell_details=False,
            preconditions=(SeveralSizes(3), InteriorRate(), EnoughSteps()),
        ),
        Quantity(
            name="R of deeper models, relative to shallower ones of equal P and R_max",
            units="",
            claim=equal(),  # PAPER 4.1: only size matters, not depth or width.
            select=_depth_pairs,
            estimate=log_mean,
            needs="pairs of GPT2 with different depths, two layers or more, and equal P and R_max",
            preconditions=(InteriorRate(), EnoughSteps()),
        ),
    ),
)
