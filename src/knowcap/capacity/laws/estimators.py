"""Estimators of peaks and ratios, with confidence intervals over seeds.

All take the rows of :func:`knowcap.capacity.table.replicates`: one for each seed and learning rate
of each measurement. Intervals come from seeds, so one seed has none. Where a learning rate or a
model is selected by its measured value, the seeds that select it are not the seeds that are
averaged: otherwise the estimate would be biased by selection.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowcap.capacity.laws.definitions import Estimate

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Intervals cover the true value with probability 1 - ALPHA."""

EQUAL_SIZE = 0.05
"""Largest relative difference of P between models that count as equal in size."""
# ASSUME: the paper compares curves by eye; here, models whose numbers of parameters differ by less
# than 5 % are of equal size.


def best_model_mean(
    models: pd.DataFrame,
    column: str,
    which: Literal["highest", "lowest"],
    of: str = "measurement",
) -> Estimate:
    """Mean of the highest or lowest model, each at its best learning rate.

    Parameters
    ----------
    models
        Rows of replicates.
    column
        The column that is averaged.
    which
        The model with the highest or the lowest value.
    of
        Column of groups: the highest or lowest group, each represented by its highest model.

    Notes
    -----
    Every seed is left out once. The other seeds select learning rate and model, and the value of
    the seed left out is averaged. The interval is the union of the t interval of these values and
    those of all selected models. If one model is clearly best, it is always selected and the
    interval is its own; among nearly equal models the interval becomes wider.
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
    selected = _leave_one_out_selection(values, matrix.index.get_level_values(of), which)
    left_out = t_interval(np.array([values[row, seed] for seed, row in selected.items()]), nobs)
    intervals = [left_out]
    for row in set(selected.values()):
        seeds = values[row]
        intervals.append(t_interval(seeds[np.isfinite(seeds)], nobs))
    return replace(
        left_out, lower=min(i.lower for i in intervals), upper=max(i.upper for i in intervals)
    )


def _leave_one_out_selection(
    values: Floats, groups: pd.Index[Any], which: Literal["highest", "lowest"]
) -> dict[int, int]:
    """Row of `values` selected by all other seeds, for each seed left out.

    Models with fewer seeds than others compete too. If the selected model does not have the seed
    that is left out, that seed has no entry.
    """
    is_trained = np.isfinite(values)
    total = np.nansum(values, axis=1)
    winners = []
    for seed, left_out in enumerate(values.T):
        num_others = is_trained.sum(axis=1) - is_trained[:, seed]
        usable = np.flatnonzero((is_trained.sum(axis=1) >= 2) & (num_others >= 1))
        means = pd.Series(
            (total - np.nan_to_num(left_out))[usable] / num_others[usable], index=usable
        )
        best = means.loc[means.groupby(groups[usable]).idxmax()]
        position = np.argmax(best) if which == "highest" else np.argmin(best)
        winners.append(int(best.index[int(position)]))
    selected = {seed: row for seed, row in enumerate(winners) if is_trained[row, seed]}
    if len(selected) < 2:
        row = max(winners, key=winners.count)
        selected = dict.fromkeys(np.flatnonzero(is_trained[row]).tolist(), row)
    return selected


def ratio_of_peaks(numerators: pd.DataFrame, denominators: pd.DataFrame, column: str) -> Estimate:
    """Ratio of the highest models of two sets; the numerator may be negative.

    The interval combines the intervals of both peaks by MOVER-R (Donner and Zou,
    doi:10.1177/0962280210383082): their errors are independent.
    """
    if numerators.empty or denominators.empty:
        return Estimate.without_interval("no data")
    top, bottom = (
        best_model_mean(models, column, "highest") for models in (numerators, denominators)
    )
    nobs, num_seeds = top.nobs + bottom.nobs, min(top.num_seeds, bottom.num_seeds)
    if bottom.value <= 0 or bottom.lower <= 0:
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", top.value / bottom.value, nobs, 1)
    lower = _mover_limit(top, bottom, top.value - top.lower, -1)
    upper = _mover_limit(top, bottom, top.upper - top.value, 1)
    return Estimate(top.value / bottom.value, lower, upper, nobs, num_seeds, "ok")


def _mover_limit(top: Estimate, bottom: Estimate, distance: float, side: Literal[-1, 1]) -> float:
    """Ratio r at which top - r bottom equals its own error."""
    up, down = bottom.upper - bottom.value, bottom.value - bottom.lower
    # A smaller denominator makes a positive ratio larger and a negative ratio smaller.
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
    numerators: pd.DataFrame, denominators: pd.DataFrame, column: str, within: str
) -> Estimate:
    """Mean ratio of peaks over groups that are equal in `within`.

    The errors of the groups are combined as independent ones. With few seeds, the intervals of
    single groups have heavy tails but their mean does not: the interval is then conservative.
    """
    common = [name for name in numerators[within].unique() if (denominators[within] == name).any()]
    ratios = [
        ratio_of_peaks(
            numerators[numerators[within] == name],
            denominators[denominators[within] == name],
            column,
        )
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
    numerators: pd.DataFrame, denominators: pd.DataFrame, column: str, pair_by: list[str]
) -> Estimate:
    """Geometric mean ratio of models that are equal in `pair_by`; t interval over seeds."""
    if numerators.empty or denominators.empty:
        return Estimate.without_interval("no data")
    # Of several measurements with equal columns, such as two batch sizes, the best one is used.
    top, bottom = (
        values_at_best_lr(models, column, pair_by).groupby(level=pair_by).max()
        for models in (numerators, denominators)
    )
    common = top.index.intersection(bottom.index)
    if common.empty:
        return Estimate.without_interval("no data")
    return _geometric_mean_ratio(top.loc[common], bottom.loc[common])


def size_matched_ratio(
    numerators: pd.DataFrame, denominators: pd.DataFrame, column: str, within: list[str]
) -> Estimate:
    """Geometric mean ratio to models with equally many parameters; t interval over seeds.

    The logarithm of `column` is interpolated linearly in log P between the denominators that are
    equal in `within`. Numerators outside their range of sizes are left out.
    """
    if numerators.empty or denominators.empty:
        return Estimate.without_interval("no data")
    keys = [*within, "num_params"]
    top, bottom = (
        values_at_best_lr(models, column, keys).groupby(level=keys).max()
        for models in (numerators, denominators)
    )
    matched, interpolated = [], []
    for key in top.index:
        is_same = np.logical_and.reduce(
            [bottom.index.get_level_values(n) == v for n, v in zip(within, key, strict=False)]
        )
        curve, size = bottom[is_same], math.log(key[-1])
        sizes = np.log(curve.index.get_level_values("num_params").to_numpy(dtype=float))
        if not sizes.size or not sizes[0] - EQUAL_SIZE <= size <= sizes[-1] + EQUAL_SIZE:
            continue
        if (curve <= 0).any(axis=None):
            return Estimate.without_interval("not positive", nobs=len(curve))
        logs = np.log(curve)
        interpolated.append([math.exp(np.interp(size, sizes, logs[seed])) for seed in logs])
        matched.append(key)
    if not matched:
        return Estimate.without_interval("no data")
    at_size = pd.DataFrame(interpolated, index=top.loc[matched].index, columns=bottom.columns)
    return _geometric_mean_ratio(top.loc[matched], at_size)


def retained_fraction(models: pd.DataFrame, precision: str, column: str) -> Estimate:
    """Mean fraction of `column` that models keep when quantised; t interval over seeds.

    Every training is compared with itself, at the learning rate that is best before quantisation.
    The fraction may be negative.
    """
    trained, quantised = (
        models[models["precision"] == p].set_index(["run", "lr", "seed"])[column]
        for p in ("trained", precision)
    )
    pairs = pd.DataFrame({"trained": trained, "quantised": quantised}).dropna().reset_index()
    if pairs.empty:
        return Estimate.without_interval("no data")
    means = pairs.groupby(["run", "lr"])["trained"].mean()
    pairs = pairs.set_index(["run", "lr"]).loc[means.groupby(level="run").idxmax()].reset_index()
    nobs, num_seeds = pairs["run"].nunique(), int(pairs.groupby("run").size().min())
    if (pairs["trained"] <= 0).any():
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    pairs["fraction"] = pairs["quantised"] / pairs["trained"]
    rank = pairs.groupby("run").cumcount()
    fractions = pairs.groupby(rank)["fraction"].mean().to_numpy()[:num_seeds]
    if num_seeds < 2:
        return Estimate.without_interval("one seed", float(fractions.mean()), nobs, num_seeds)
    return t_interval(fractions, nobs)


def _geometric_mean_ratio(top: pd.DataFrame, bottom: pd.DataFrame) -> Estimate:
    """Geometric mean over rows (models), with the t interval over columns (seeds)."""
    ratios = (top / bottom).dropna(axis="columns")
    nobs, num_seeds = ratios.shape
    # The ratio of two negative capacities is positive, but it is not a ratio of capacities.
    if not ((top > 0) & (bottom > 0))[ratios.columns].all(axis=None):
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    logs = np.log(ratios.to_numpy()).mean(axis=0)
    if num_seeds < 2:
        return Estimate.without_interval("one seed", math.exp(logs.mean()), nobs, num_seeds)
    return t_interval(logs, nobs).transform(math.exp)


def t_interval(values: Floats, nobs: int) -> Estimate:
    """Mean of the values of seeds, with Student's t interval."""
    from statsmodels.stats.weightstats import DescrStatsW

    sample = DescrStatsW(values)
    lower, upper = sample.tconfint_mean(ALPHA)
    return Estimate(float(sample.mean), float(lower), float(upper), nobs, len(values), "ok")


def _pivot_seeds(models: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Values indexed by `keys`, with one column per seed of a model."""
    rank = models.groupby(keys).cumcount().rename("seed_rank")
    return models.set_index([*(models[key] for key in keys), rank])[column].unstack("seed_rank")


def values_at_best_lr(models: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Values by `keys` and seed, each measurement at its best learning rate.

    The best learning rate has the highest mean over all seeds. This selection favours luck a
    little; the estimators that use it average over many models.
    """
    owners = list(dict.fromkeys([*keys, "measurement"]))
    matrix = _pivot_seeds(models, [*owners, "lr"], column)
    best = matrix.mean(axis="columns").groupby(level=owners, sort=False).idxmax()
    others: list[Hashable] = [name for name in [*owners, "lr"] if name not in keys]
    return matrix.loc[best.to_list()].droplevel(others)
