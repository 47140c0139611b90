"""Estimates with intervals, from the replicates of a set of models.

Every interval comes from seeds: where each model was trained once there is none. Where a choice
is made from what was measured, the best learning rate or the best model, the trainings that
choose are not those that are then averaged, so that the luck of the best is not reported.

All take the rows of :func:`knowcap.capacity.table.replicates`: one for each seed and learning
rate of each measurement.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import statsmodels.api as sm
from statsmodels.stats.weightstats import DescrStatsW

from knowcap.capacity.laws.claims import Estimate

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Intervals cover with probability 1 - ALPHA."""

MIN_RESIDUALS = 2
"""Degrees of freedom that a regression must leave over for an interval."""


def extreme(models: pd.DataFrame, column: str, which: Literal["highest", "lowest"]) -> Estimate:
    """Mean of the highest or lowest model, each at its best learning rate.

    Each seed in turn is left out: the others choose learning rate and model, and the seed left
    out is what counts. The interval spans the t interval of these values and that of every
    model that was chosen. With a clear winner all of them are the winner's; among near equals
    the mean leans little and the interval widens to hold the best of them.
    """
    if models.empty:
        return Estimate.without_interval("no data")
    nobs = models["measurement"].nunique()
    matrix = _by_seed(models, ["measurement", "lr"], column)
    values = matrix.to_numpy()
    if np.isfinite(values).sum(axis=1).max() < 2:
        means = matrix.mean(axis="columns").groupby(level="measurement").max()
        value = means.max() if which == "highest" else means.min()
        return Estimate.without_interval("one seed", float(value), nobs, 1)
    chosen = _choices(values, matrix.index.get_level_values("measurement"), which)
    left_out = _t_interval(np.array([values[row, seed] for seed, row in chosen.items()]), nobs)
    spans = [left_out]
    for row in set(chosen.values()):
        seeds = values[row]
        spans.append(_t_interval(seeds[np.isfinite(seeds)], nobs))
    return replace(left_out, lower=min(s.lower for s in spans), upper=max(s.upper for s in spans))


def _choices(
    values: Floats, owners: pd.Index[Any], which: Literal["highest", "lowest"]
) -> dict[int, int]:
    """Row of `values` that all other seeds choose, by the seed left out."""
    count = np.isfinite(values).sum(axis=1)
    total = np.nansum(values, axis=1)
    chosen = {}
    for seed, here in enumerate(values.T):
        usable = np.flatnonzero(np.isfinite(here) & (count >= 2))
        if not usable.size:
            continue
        others = pd.Series((total - here)[usable] / (count - 1)[usable], index=usable)
        best = others.loc[others.groupby(owners[usable]).idxmax()]
        place = np.argmax(best) if which == "highest" else np.argmin(best)
        chosen[seed] = int(best.index[int(place)])
    return chosen


def ratio_of_peaks(above: pd.DataFrame, below: pd.DataFrame, column: str) -> Estimate:
    """Ratio of the highest models of two sets.

    The interval is made of both peaks' intervals on the scale of logarithms, side by side as
    independent errors add up (the MOVER of Zou and Donner, doi:10.1002/sim.3095).
    """
    if above.empty or below.empty:
        return Estimate.without_interval("no data")
    top, bottom = (extreme(models, column, "highest") for models in (above, below))
    nobs, num_seeds = top.nobs + bottom.nobs, min(top.num_seeds, bottom.num_seeds)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", top.value / bottom.value, nobs, 1)
    if min(top.lower, bottom.lower) <= 0:
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    top, bottom = top.transformed(math.log), bottom.transformed(math.log)
    value = top.value - bottom.value
    lower = value - math.hypot(top.value - top.lower, bottom.upper - bottom.value)
    upper = value + math.hypot(top.upper - top.value, bottom.value - bottom.lower)
    return Estimate(value, lower, upper, nobs, num_seeds, "ok").transformed(math.exp)


def matched_ratio(
    above: pd.DataFrame, below: pd.DataFrame, column: str, match: list[str]
) -> Estimate:
    """Geometric mean ratio of models that agree in the columns `match`; t interval of seeds."""
    if above.empty or below.empty:
        return Estimate.without_interval("no data")
    # Where several measurements agree, such as two batch sizes, the best stands for them.
    top, bottom = (
        _best_rates(models, column, match).groupby(level=match).max() for models in (above, below)
    )
    common = top.index.intersection(bottom.index)
    if common.empty:
        return Estimate.without_interval("no data")
    ratios = (top.loc[common] / bottom.loc[common]).dropna(axis="columns").to_numpy()
    nobs, num_seeds = ratios.shape
    # A negative capacity over a negative one is positive, and no ratio of capacities either.
    if not ((top.loc[common] > 0) & (bottom.loc[common] > 0)).iloc[:, :num_seeds].all(axis=None):
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    logs = np.log(ratios).mean(axis=0)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", math.exp(logs.mean()), nobs, num_seeds)
    return _t_interval(logs, nobs).transformed(math.exp)


def log_slope(models: pd.DataFrame, column: str, exog: list[str]) -> Estimate:
    """Slope of ln `column` on the first of `exog`, all logarithms, given the others; OLS.

    Each model counts once, with the mean of its seeds, so that the interval holds both what
    seeds change and what the models' shapes do.
    """
    if models.empty:
        return Estimate.without_interval("no data")
    seeds = _best_rates(models, column, ["measurement"])
    num_seeds = int(seeds.notna().sum(axis="columns").min())
    shapes = models.groupby("measurement")[exog].first().loc[seeds.index]
    endog = seeds.mean(axis="columns").to_numpy()
    if (endog <= 0).any():
        return Estimate.without_interval("not positive", nobs=len(endog), num_seeds=num_seeds)
    # Logarithms about their means: a column that does not vary is then exactly zero.
    logs = np.log(shapes.to_numpy(dtype=np.float64))
    logs = np.round(logs - logs.mean(axis=0), 12)
    rank = np.linalg.matrix_rank(logs)
    if rank == np.linalg.matrix_rank(logs[:, 1:]) or len(endog) - rank - 1 < MIN_RESIDUALS:
        return Estimate.without_interval("too few models", nobs=len(endog), num_seeds=num_seeds)
    results = sm.OLS(np.log(endog), sm.add_constant(logs, has_constant="add")).fit()
    slope = float(results.params[1])
    if num_seeds < 2:
        return Estimate.without_interval("one seed", slope, len(endog), 1)
    lower, upper = results.conf_int(ALPHA)[1]
    return Estimate(slope, float(lower), float(upper), len(endog), num_seeds, "ok")


def frontier_slope(models: pd.DataFrame, quantile: float) -> Estimate:
    """Bits that a further parameter adds, along the upper edge of bits against parameters.

    The quantile regression of bits on parameters for each seed; t interval of their slopes.
    """
    if models.empty:
        return Estimate.without_interval("no data")
    bits = _best_rates(models, "bits", ["measurement"]).dropna(axis="columns")
    num_params = models.groupby("measurement")["num_params"].first().loc[bits.index].to_numpy()
    if len(np.unique(num_params)) < 3:
        return Estimate.without_interval(
            "too few models", nobs=len(bits), num_seeds=len(bits.columns)
        )
    scale = num_params.mean()
    exog = sm.add_constant(num_params / scale)

    def slope(endog: Floats) -> float:
        return float(sm.QuantReg(endog / scale, exog).fit(q=quantile, max_iter=5000).params[1])

    # The upper edge of single trainings is partly their luck, that of their means much less.
    value = slope(bits.mean(axis="columns").to_numpy())
    if len(bits.columns) < 2:
        return Estimate.without_interval("one seed", value, len(bits), 1)
    seeds = _t_interval(np.array([slope(column) for column in bits.to_numpy().T]), len(bits))
    return replace(
        seeds,
        value=value,
        lower=value + seeds.lower - seeds.value,
        upper=value + seeds.upper - seeds.value,
    )


def _t_interval(values: Floats, nobs: int) -> Estimate:
    """Mean of the values of seeds, with Student's interval."""
    sample = DescrStatsW(values)
    lower, upper = sample.tconfint_mean(ALPHA)
    return Estimate(float(sample.mean), float(lower), float(upper), nobs, len(values), "ok")


def _by_seed(models: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Values by `keys` and by the rank of a seed among those of its model."""
    rank = models.groupby(keys).cumcount().rename("seed_rank")
    return models.set_index([*(models[key] for key in keys), rank])[column].unstack("seed_rank")


def _best_rates(models: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Values by `keys` and rank of a seed, each measurement at its rate with the best mean.

    A choice among few learning rates by the mean of all seeds favours luck a little; the
    estimators that use this compare or fit many models.
    """
    owners = list(dict.fromkeys([*keys, "measurement"]))
    matrix = _by_seed(models, [*owners, "lr"], column)
    best = matrix.mean(axis="columns").groupby(level=owners, sort=False).idxmax()
    others: list[Hashable] = [name for name in [*owners, "lr"] if name not in keys]
    return matrix.loc[best.to_list()].droplevel(others)
