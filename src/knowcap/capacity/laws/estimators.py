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

from knowcap.capacity.laws.law import Estimate

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Intervals cover with probability 1 - ALPHA."""

SAME_SIZE = 0.05
"""Models whose numbers of parameters differ by less than this share are of one size."""
# ASSUME: the paper compares curves by eye.


def best_model_mean(
    models: pd.DataFrame,
    column: str,
    which: Literal["highest", "lowest"],
    of: str = "measurement",
) -> Estimate:
    """Mean of the highest or lowest model, each at its best learning rate.

    With `of`, of the column's groups of models, each with its highest model.

    Each seed in turn is left out: the others choose learning rate and model, and the seed left
    out is what counts. The interval spans the t interval of these values and that of every
    model that was chosen. With a clear winner all of them are the winner's; among near equals
    the mean leans little and the interval widens to hold the best of them.
    """
    if models.empty:
        return Estimate.without_interval("no data")
    nobs = models["measurement"].nunique()
    matrix = _pivot_seeds(models, list(dict.fromkeys([of, "measurement", "lr"])), column)
    values = matrix.to_numpy()
    if np.isfinite(values).sum(axis=1).max() < 2:
        means = matrix.mean(axis="columns").groupby(level=of).max()
        value = means.max() if which == "highest" else means.min()
        return Estimate.without_interval("one seed", float(value), nobs, 1)
    chosen = _leave_one_out_choices(values, matrix.index.get_level_values(of), which)
    left_out = t_interval(np.array([values[row, seed] for seed, row in chosen.items()]), nobs)
    spans = [left_out]
    for row in set(chosen.values()):
        seeds = values[row]
        spans.append(t_interval(seeds[np.isfinite(seeds)], nobs))
    return replace(left_out, lower=min(s.lower for s in spans), upper=max(s.upper for s in spans))


def _leave_one_out_choices(
    values: Floats, owners: pd.Index[Any], which: Literal["highest", "lowest"]
) -> dict[int, int]:
    """Row of `values` that all other seeds choose, by the seed left out.

    A model that was trained with fewer seeds than others can be chosen all the same; where it has
    no seed to be left out, nothing is.
    """
    has = np.isfinite(values)
    total = np.nansum(values, axis=1)
    winners = []
    for seed, here in enumerate(values.T):
        left = has.sum(axis=1) - has[:, seed]
        usable = np.flatnonzero((has.sum(axis=1) >= 2) & (left >= 1))
        others = pd.Series((total - np.nan_to_num(here))[usable] / left[usable], index=usable)
        best = others.loc[others.groupby(owners[usable]).idxmax()]
        place = np.argmax(best) if which == "highest" else np.argmin(best)
        winners.append(int(best.index[int(place)]))
    chosen = {seed: row for seed, row in enumerate(winners) if has[row, seed]}
    if len(chosen) < 2:
        row = max(winners, key=winners.count)
        chosen = dict.fromkeys(np.flatnonzero(has[row]).tolist(), row)
    return chosen


def ratio_of_peaks(above: pd.DataFrame, below: pd.DataFrame, column: str) -> Estimate:
    """Ratio of the highest models of two sets, of which the first may be below zero.

    The ends of the interval are where it just agrees with both peaks' intervals, whose errors
    add up as independent ones do (MOVER-R, Donner and Zou, doi:10.1177/0962280210383082).
    """
    if above.empty or below.empty:
        return Estimate.without_interval("no data")
    top, bottom = (best_model_mean(models, column, "highest") for models in (above, below))
    nobs, num_seeds = top.nobs + bottom.nobs, min(top.num_seeds, bottom.num_seeds)
    if bottom.value <= 0 or bottom.lower <= 0:
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", top.value / bottom.value, nobs, 1)
    lower = _mover_limit(top, bottom, top.value - top.lower, -1)
    upper = _mover_limit(top, bottom, top.upper - top.value, 1)
    return Estimate(top.value / bottom.value, lower, upper, nobs, num_seeds, "ok")


def _mover_limit(top: Estimate, bottom: Estimate, distance: float, side: Literal[-1, 1]) -> float:
    """Ratio r at which top - r bottom is as far from zero as its error reaches."""
    up, down = bottom.upper - bottom.value, bottom.value - bottom.lower
    # The denominator errs downwards towards larger ratios; where they are negative, upwards.
    errors = (down, up) if side > 0 else (up, down)
    product, c = top.value * bottom.value, top.value**2 - distance**2
    limit = math.nan
    for sign, error in zip((1, -1), errors, strict=True):
        a = bottom.value**2 - error**2
        limit = (product + side * math.sqrt(max(product**2 - a * c, 0))) / a
        if limit * sign >= 0:
            break
    return limit


def mean_ratio_of_peaks(
    above: pd.DataFrame, below: pd.DataFrame, column: str, within: str
) -> Estimate:
    """Mean, over the groups of models that agree in `within`, of the ratio of their peaks.

    The groups' errors add up as independent ones do. Each has the heavy tails of few seeds,
    which their mean has not: over several groups the interval is wider than need be.
    """
    common = [name for name in above[within].unique() if (below[within] == name).any()]
    ratios = [
        ratio_of_peaks(above[above[within] == name], below[below[within] == name], column)
        for name in common
    ]
    if not ratios:
        return Estimate.without_interval("no data")
    value = float(np.mean([ratio.value for ratio in ratios]))
    nobs, num_seeds = sum(r.nobs for r in ratios), min(r.num_seeds for r in ratios)
    if failed := next((r.status for r in ratios if r.status != "ok"), None):
        return Estimate.without_interval(failed, value, nobs, num_seeds)
    down = math.hypot(*(ratio.value - ratio.lower for ratio in ratios)) / len(ratios)
    up = math.hypot(*(ratio.upper - ratio.value for ratio in ratios)) / len(ratios)
    return Estimate(value, value - down, value + up, nobs, num_seeds, "ok")


def paired_ratio(
    above: pd.DataFrame, below: pd.DataFrame, column: str, match: list[str]
) -> Estimate:
    """Geometric mean ratio of models that agree in the columns `match`; t interval of seeds."""
    if above.empty or below.empty:
        return Estimate.without_interval("no data")
    # Where several measurements agree, such as two batch sizes, the best stands for them.
    top, bottom = (
        values_at_best_lr(models, column, match).groupby(level=match).max()
        for models in (above, below)
    )
    common = top.index.intersection(bottom.index)
    if common.empty:
        return Estimate.without_interval("no data")
    return _geometric_mean_ratio(top.loc[common], bottom.loc[common])


def size_matched_ratio(
    above: pd.DataFrame, below: pd.DataFrame, column: str, within: list[str]
) -> Estimate:
    """Geometric mean ratio to models of the same number of parameters; t interval of seeds.

    The logarithm of `column` is interpolated between the models of `below` that agree in
    `within`, linearly in the logarithm of parameters. Larger and smaller models than these
    have nothing to be compared with.
    """
    if above.empty or below.empty:
        return Estimate.without_interval("no data")
    keys = [*within, "num_params"]
    top, bottom = (
        values_at_best_lr(models, column, keys).groupby(level=keys).max()
        for models in (above, below)
    )
    found, partners = [], []
    for key in top.index:
        same = np.logical_and.reduce(
            [bottom.index.get_level_values(n) == v for n, v in zip(within, key, strict=False)]
        )
        curve, size = bottom[same], math.log(key[-1])
        sizes = np.log(curve.index.get_level_values("num_params").to_numpy(dtype=float))
        if not sizes.size or not sizes[0] - SAME_SIZE <= size <= sizes[-1] + SAME_SIZE:
            continue
        if (curve <= 0).any(axis=None):
            return Estimate.without_interval("not positive", nobs=len(curve))
        logs = np.log(curve)
        partners.append([math.exp(np.interp(size, sizes, logs[seed])) for seed in logs])
        found.append(key)
    if not found:
        return Estimate.without_interval("no data")
    at_size = pd.DataFrame(partners, index=top.loc[found].index, columns=bottom.columns)
    return _geometric_mean_ratio(top.loc[found], at_size)


def retained_fraction(models: pd.DataFrame, precision: str, column: str) -> Estimate:
    """Mean share that models keep in a precision, each at the best learning rate when trained.

    Each training is compared with itself. The share may be below zero; t interval of seeds.
    """
    trained, stored = (
        models[models["precision"] == p].set_index(["run", "lr", "seed"])[column]
        for p in ("trained", precision)
    )
    pairs = pd.DataFrame({"trained": trained, "stored": stored}).dropna().reset_index()
    if pairs.empty:
        return Estimate.without_interval("no data")
    means = pairs.groupby(["run", "lr"])["trained"].mean()
    pairs = pairs.set_index(["run", "lr"]).loc[means.groupby(level="run").idxmax()].reset_index()
    nobs, num_seeds = pairs["run"].nunique(), int(pairs.groupby("run").size().min())
    if (pairs["trained"] <= 0).any():
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    pairs["share"] = pairs["stored"] / pairs["trained"]
    rank = pairs.groupby("run").cumcount()
    shares = pairs.groupby(rank)["share"].mean().to_numpy()[:num_seeds]
    if num_seeds < 2:
        return Estimate.without_interval("one seed", float(shares.mean()), nobs, num_seeds)
    return t_interval(shares, nobs)


def _geometric_mean_ratio(top: pd.DataFrame, bottom: pd.DataFrame) -> Estimate:
    """Geometric mean over rows, models, with the t interval of columns, seeds."""
    ratios = (top / bottom).dropna(axis="columns")
    nobs, num_seeds = ratios.shape
    # A negative capacity over a negative one is positive, and no ratio of capacities either.
    if not ((top > 0) & (bottom > 0))[ratios.columns].all(axis=None):
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    logs = np.log(ratios.to_numpy()).mean(axis=0)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", math.exp(logs.mean()), nobs, num_seeds)
    return t_interval(logs, nobs).transformed(math.exp)


def t_interval(values: Floats, nobs: int) -> Estimate:
    """Mean of the values of seeds, with Student's interval."""
    from statsmodels.stats.weightstats import DescrStatsW

    sample = DescrStatsW(values)
    lower, upper = sample.tconfint_mean(ALPHA)
    return Estimate(float(sample.mean), float(lower), float(upper), nobs, len(values), "ok")


def _pivot_seeds(models: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Values by `keys` and by the rank of a seed among those of its model."""
    rank = models.groupby(keys).cumcount().rename("seed_rank")
    return models.set_index([*(models[key] for key in keys), rank])[column].unstack("seed_rank")


def values_at_best_lr(models: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Values by `keys` and rank of a seed, each measurement at its rate with the best mean.

    A choice among few learning rates by the mean of all seeds favours luck a little; the
    estimators that use this compare or fit many models.
    """
    owners = list(dict.fromkeys([*keys, "measurement"]))
    matrix = _pivot_seeds(models, [*owners, "lr"], column)
    best = matrix.mean(axis="columns").groupby(level=owners, sort=False).idxmax()
    others: list[Hashable] = [name for name in [*owners, "lr"] if name not in keys]
    return matrix.loc[best.to_list()].droplevel(others)
