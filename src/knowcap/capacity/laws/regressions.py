"""Estimators by regression: slopes, effects of indicators and asymptotes, with intervals.

As in :mod:`~knowcap.capacity.laws.estimators`, every model is used at its best learning rate, and
one seed gives no interval.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from knowcap.capacity.laws.definitions import Estimate
from knowcap.capacity.laws.estimators import ALPHA, Floats, t_interval, values_at_best_lr

MIN_RESIDUALS = 2
"""Smallest number of residual degrees of freedom for an interval."""

MIN_EXPOSURES = 4
"""Smallest number of points to which a curve with three parameters is fitted."""


def log_log_slope(models: pd.DataFrame, column: str, exog: list[str]) -> Estimate:
    """OLS slope of log `column` on log `exog[0]`, given the other `exog`.

    Every model is one observation, the mean of its seeds. The interval therefore covers both the
    scatter of seeds and the scatter of models about the regression.
    """
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.tools import add_constant

    if models.empty:
        return Estimate.without_interval("no data")
    seeds = values_at_best_lr(models, column, ["measurement"])
    num_seeds = int(seeds.notna().sum(axis="columns").min())
    shapes = models.groupby("measurement")[exog].first().loc[seeds.index]
    endog = seeds.mean(axis="columns").to_numpy()
    if (endog <= 0).any():
        return Estimate.without_interval("not positive", nobs=len(endog), num_seeds=num_seeds)
    # Centred and rounded logarithms: a column that does not vary is then exactly zero.
    logs = np.log(shapes.to_numpy(dtype=np.float64))
    logs = np.round(logs - logs.mean(axis=0), 12)
    rank = np.linalg.matrix_rank(logs)
    if rank == np.linalg.matrix_rank(logs[:, 1:]) or len(endog) - rank - 1 < MIN_RESIDUALS:
        return Estimate.without_interval("too few models", nobs=len(endog), num_seeds=num_seeds)
    varying = add_constant(logs[:, logs.any(axis=0)], has_constant="add")
    results = OLS(np.log(endog), varying).fit()
    slope = float(results.params[1])
    if num_seeds < 2:
        return Estimate.without_interval("one seed", slope, len(endog), 1)
    lower, upper = results.conf_int(ALPHA)[1]
    return Estimate(slope, float(lower), float(upper), len(endog), num_seeds, "ok")


def quantile_slope(models: pd.DataFrame, quantile: float) -> Estimate:
    """Slope of the quantile regression of bits on parameters; t interval over seeds."""
    from statsmodels.regression.quantile_regression import QuantReg
    from statsmodels.tools.tools import add_constant

    if models.empty:
        return Estimate.without_interval("no data")
    bits = values_at_best_lr(models, "bits", ["measurement"]).dropna(axis="columns")
    num_params = models.groupby("measurement")["num_params"].first().loc[bits.index].to_numpy()
    if len(np.unique(num_params)) < 3:
        return Estimate.without_interval(
            "too few models", nobs=len(bits), num_seeds=len(bits.columns)
        )
    scale = num_params.mean()
    exog = add_constant(num_params / scale)

    def slope(endog: Floats) -> float:
        return float(QuantReg(endog / scale, exog).fit(q=quantile, max_iter=5000).params[1])

    # The upper quantile of single seeds is biased by luck; that of the means of seeds much less.
    value = slope(bits.mean(axis="columns").to_numpy())
    if len(bits.columns) < 2:
        return Estimate.without_interval("one seed", value, len(bits), 1)
    seeds = t_interval(np.array([slope(column) for column in bits.to_numpy().T]), len(bits))
    return replace(
        seeds,
        value=value,
        lower=value + seeds.lower - seeds.value,
        upper=value + seeds.upper - seeds.value,
    )


def indicator_effect(
    models: pd.DataFrame, column: str, indicator: str, indicators: list[str], within: list[str]
) -> Estimate:
    """Factor on `column` when `indicator` changes from 0 to 1, the others being equal.

    OLS of the logarithm on all `indicators` and a constant for each group of models that are equal
    in `within`, one regression per seed; t interval over seeds.
    """
    from statsmodels.regression.linear_model import OLS

    if models.empty or models[indicator].nunique() < 2:
        return Estimate.without_interval("no data")
    seeds = values_at_best_lr(models, column, ["measurement"]).dropna(axis="columns")
    shapes = models.groupby("measurement")[[*indicators, *within]].first().loc[seeds.index]
    nobs, num_seeds = seeds.shape
    if (seeds <= 0).any(axis=None):
        return Estimate.without_interval("not positive", nobs=nobs, num_seeds=num_seeds)
    groups = pd.get_dummies(shapes.groupby(within).ngroup(), dtype=float).to_numpy()
    others = [name for name in indicators if name != indicator and shapes[name].nunique() > 1]
    exog = np.column_stack([shapes[[indicator, *others]].to_numpy(dtype=float), groups])
    if np.linalg.matrix_rank(exog) == np.linalg.matrix_rank(exog[:, 1:]):
        return Estimate.without_interval("too few models", nobs=nobs, num_seeds=num_seeds)
    effects = np.array([OLS(log, exog).fit().params[0] for log in np.log(seeds.to_numpy()).T])
    if num_seeds < 2:
        return Estimate.without_interval("one seed", float(np.exp(effects.mean())), nobs, 1)
    return t_interval(effects, nobs).transform(lambda effect: float(np.exp(effect)))


def exposure_asymptote(
    models: pd.DataFrame, column: str, relative_to: int, within: list[str]
) -> Estimate:
    """Asymptote of `column` for many exposures, relative to its value at `relative_to`.

    The curve ``A / (1 + (E0 / E)^h)`` is fitted in logarithms to every group of models that are
    equal in `within`, one fit per seed; geometric mean over groups, t interval over seeds.
    """
    if models.empty:
        return Estimate.without_interval("no data")
    keys = [*within, "exposures"]
    values = values_at_best_lr(models, column, keys).groupby(level=keys).max()
    logs_by_group, nobs = [], 0
    for _, group in values.groupby(level=within):
        exposures = group.index.get_level_values("exposures").to_numpy(dtype=float)
        if len(exposures) < MIN_EXPOSURES or relative_to not in exposures:
            continue
        if (group <= 0).any(axis=None):
            return Estimate.without_interval("not positive", nobs=len(group))
        nobs += len(group)
        base = np.log(group.to_numpy()[exposures == relative_to][0])
        seeds = group.to_numpy().T
        logs_by_group.append([_log_asymptote(exposures, seed) for seed in seeds] - base)
    if not logs_by_group:
        return Estimate.without_interval("no data")
    logs = np.array(logs_by_group).mean(axis=0)
    logs = logs[np.isfinite(logs)]
    if len(logs) < 2:
        return Estimate.without_interval("one seed", float(np.exp(logs.mean())), nobs, len(logs))
    return t_interval(logs, nobs).transform(lambda log: float(np.exp(log)))


def _log_asymptote(exposures: Floats, values: Floats) -> float:
    """Logarithm of A of the fitted curve; NaN if a value is missing."""
    from scipy.optimize import curve_fit

    if not np.isfinite(values).all():
        return float("nan")

    def curve(log_e: Floats, log_a: float, log_e0: float, h: float) -> Floats:
        return np.asarray(log_a - np.log1p(np.exp(h * (log_e0 - log_e))))

    log_e = np.log(exposures)
    start = (float(np.log(values).max()), float(log_e.mean()), 1.0)
    # The bounds exclude an asymptote over a hundred times the largest value, and steps.
    bounds = ([start[0] - 1, log_e.min() - 5, 0.2], [start[0] + 4.6, log_e.max() + 5, 8.0])
    found, _ = curve_fit(curve, log_e, np.log(values), p0=start, bounds=bounds)
    return float(found[0])
