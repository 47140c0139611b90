"""The rules for verdicts that this project had before, for comparison in adversarial worlds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import DescrStatsW
from statsmodels.tools.tools import add_constant

from knowcap.capacity.laws.definitions import Verdict

Interval = tuple[float, float]


def verdict(interval: Interval, accepted: Interval) -> Verdict:
    """Position of an interval, without preconditions or corrections."""
    if accepted[0] <= interval[0] and interval[1] <= accepted[1]:
        return "reproduced"
    is_outside = interval[1] < accepted[0] or accepted[1] < interval[0]
    return "contradicted" if is_outside else "inconclusive"


def law(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict on a law, which any quantity could turn."""
    if "contradicted" in verdicts:
        return "contradicted"
    return "reproduced" if set(verdicts) == {"reproduced"} else "inconclusive"


def over_seeds(values: np.ndarray) -> Interval:
    """T interval over seeds; `values` are those of the last axis, means over the others."""
    lower, upper = DescrStatsW(
        np.asarray(values).reshape(-1, values.shape[-1]).mean(0)
    ).tconfint_mean()
    return float(lower), float(upper)


def seeds_at_best_rate(models: pd.DataFrame, column: str = "capacity_ratio") -> np.ndarray:
    """Values of each model, by seed, at the learning rate with the highest mean."""
    rows = []
    for _, group in models.groupby("measurement", sort=False):
        matrix = group.pivot_table(index="lr", columns="seed", values=column)
        rows.append(matrix.loc[matrix.mean(axis="columns").idxmax()].to_numpy())
    return np.array(rows)


def ratio(numerators: pd.DataFrame, denominators: pd.DataFrame) -> Interval:
    """Geometric mean ratio of models in the same order, over seeds."""
    logs = np.log(seeds_at_best_rate(numerators) / seeds_at_best_rate(denominators))
    lower, upper = over_seeds(logs)
    return float(np.exp(lower)), float(np.exp(upper))


def peak(models: pd.DataFrame) -> Interval:
    """Highest mean over models, with the interval over its seeds."""
    values = seeds_at_best_rate(models)
    return over_seeds(values[[values.mean(axis=1).argmax()]])


def interpolated_ratio(numerator: pd.DataFrame, denominators: pd.DataFrame) -> Interval:
    """Ratio to a value interpolated in log P, whatever limits the models on both sides."""
    base = np.log(seeds_at_best_rate(denominators))
    sizes = np.log(denominators.groupby("measurement", sort=False)["num_params"].first())
    size = np.log(numerator["num_params"].iloc[0])
    at_size = np.array([np.interp(size, sizes, seed) for seed in base.T])
    lower, upper = over_seeds(np.log(seeds_at_best_rate(numerator)) - at_size)
    return float(np.exp(lower)), float(np.exp(upper))


def exponents(models: pd.DataFrame, columns: Sequence[str]) -> dict[str, Interval]:
    """OLS exponents of R, whether or not the regressors are collinear."""
    shapes = np.log(models.groupby("measurement", sort=False)[list(columns)].first().astype(float))
    endog = np.log(seeds_at_best_rate(models).mean(axis=1))
    found = OLS(endog, add_constant(shapes.to_numpy())).fit().conf_int()
    return {name: tuple(found[index + 1]) for index, name in enumerate(columns)}


def main_effect(models: pd.DataFrame, indicator: str, others: Sequence[str]) -> Interval:
    """Factor of an indicator by OLS on main effects, one regression per seed."""
    columns = [indicator, *others]
    exog = models.groupby("measurement", sort=False)[columns].first().astype(float)
    logs = np.log(seeds_at_best_rate(models))
    effects = np.array(
        [OLS(seed, add_constant(exog.to_numpy())).fit().params[1] for seed in logs.T]
    )
    lower, upper = over_seeds(effects[None])
    return float(np.exp(lower)), float(np.exp(upper))
