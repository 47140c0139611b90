"""Fits of R: a regression on the number of parameters at each number of exposures.

The cells are those of law 1's exponent, at every number of exposures: GPT2 on fresh biographies
with similar R_max, just above the peak. Factors for another family (laws 5 and 6) or for quantised
weights (law 8) are means over cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from knowcap.capacity.forecast.log_prediction import new_cell, product, weighted_sum
from knowcap.capacity.laws import architectures, base_law, quantization, rare_architectures
from knowcap.capacity.laws import rare_knowledge as law_4
from knowcap.capacity.laws.architectures import FAMILY_LABELS, ratio_to_gpt2
from knowcap.capacity.laws.base_law import PEAK_MAX_RATIO
from knowcap.capacity.laws.cell_summaries import (
    DISTINCT_SIZE,
    SIMILAR_MAX_RATIO,
    distinct_sizes,
    sizes_of,
)
from knowcap.capacity.laws.cells import cells, compare_trainings
from knowcap.capacity.laws.definitions import Law
from knowcap.capacity.laws.estimators import Floats, Moments
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.slopes import MIN_RESIDUALS
from knowcap.capacity.laws.verdicts import models_of, scales_of
from knowcap.capacity.table import replicates
from knowcap.errors import UserError

MIN_CELLS = 2
"""Smallest number of cells whose scatter gives a prediction interval."""

REFERENCE_FAMILY = "GPT2"
"""Family of the regression; others are relative to it."""


@dataclass(frozen=True)
class Factor:
    """Factor on R of another family or precision, from the cells of a law."""

    label: str
    """Such as `LLaMA, relative to GPT2 of equal size`."""
    exposures: int
    """Exposures at which it was measured."""
    cells: pd.DataFrame

    @property
    def log(self) -> Moments:
        """Prediction of its logarithm in a new cell."""
        return new_cell(self.cells["value"].to_numpy(dtype=float))


@dataclass(frozen=True)
class LevelFit:
    """Regression of log R on log P over the cells of one number of exposures."""

    exposures: int
    cells: pd.DataFrame
    factors: tuple[Factor, ...] = ()

    @property
    def has_trend(self) -> bool:
        """Whether there are enough cells and sizes for a slope; otherwise R is a constant."""
        sizes = distinct_sizes(sizes_of(self.cells))
        return len(sizes) > 1 and len(self.cells) >= 2 + MIN_RESIDUALS

    @property
    def size_range(self) -> tuple[float, float]:
        """Smallest and largest number of parameters."""
        sizes = sizes_of(self.cells)
        return float(sizes.min()), float(sizes.max())

    @property
    def allowed_sizes(self) -> tuple[float, float]:
        """Numbers of parameters for which R is predicted.

        A trend over a factor f in P is used for a factor f below and above.
        """
        # ASSUME: a fit to sizes that span a factor f is used at most a factor f beyond them.
        smallest, largest = self.size_range
        factor = max(largest / smallest, DISTINCT_SIZE)
        return smallest / factor, largest * factor

    def log_ratio(self, num_params: Floats) -> Moments:
        """Prediction of log R of a new cell for each number of parameters."""
        found = self._regression.get_prediction(self._exog(num_params))
        shape = np.shape(num_params)
        of_family = Moments(
            np.asarray(found.predicted_mean).reshape(shape),
            np.square(found.se_obs).reshape(shape),
            np.full(shape, float(self._regression.df_resid)),
        )
        return product(of_family, *(factor.log for factor in self.factors))

    @cached_property
    def _regression(self) -> Any:
        from statsmodels.regression.linear_model import OLS

        log_ratios = np.log(self.cells["value"].to_numpy(dtype=float))
        return OLS(log_ratios, self._exog(sizes_of(self.cells))).fit()

    def _exog(self, num_params: Floats) -> Floats:
        distance = np.log(np.ravel(num_params)) - np.log(sizes_of(self.cells)).mean()
        columns = [np.ones_like(distance), distance]
        return np.column_stack(columns if self.has_trend else columns[:1])


@dataclass(frozen=True)
class CapacityFit:
    """Fits at all numbers of exposures of one scale of a table."""

    scale: str
    levels: tuple[LevelFit, ...]
    """In ascending order of exposures."""
    omitted: tuple[str, ...]
    """Sentences on exposures of the table that have no fit."""

    @property
    def exposure_range(self) -> tuple[int, int]:
        """Fewest and most exposures."""
        return self.levels[0].exposures, self.levels[-1].exposures

    def neighbours(self, exposures: float) -> tuple[tuple[LevelFit, ...], list[float]]:
        """Fits between which is interpolated in log E, and their weights."""
        for level in self.levels:
            if level.exposures == exposures:
                return (level,), [1.0]
        above = next(i for i, level in enumerate(self.levels) if level.exposures > exposures)
        low, high = self.levels[above - 1], self.levels[above]
        share = math.log(exposures / low.exposures) / math.log(high.exposures / low.exposures)
        return (low, high), [1 - share, share]

    def log_ratio(self, num_params: Floats, exposures: float) -> Moments:
        """Prediction of log R of a new cell for each number of parameters.

        Between two numbers of exposures of the table, mean and variance are interpolated in log E.
        """
        levels, weights = self.neighbours(exposures)
        parts = tuple(level.log_ratio(num_params) for level in levels)
        return weighted_sum(parts, weights)

    def allowed_sizes(self, exposures: float) -> tuple[float, float]:
        """Numbers of parameters for which R is predicted at a number of exposures."""
        return common_range([each.allowed_sizes for each in self.neighbours(exposures)[0]])

    def size_range(self, exposures: float) -> tuple[float, float]:
        """Smallest and largest number of parameters of the models behind a prediction."""
        return common_range([each.size_range for each in self.neighbours(exposures)[0]])


def common_range(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    """Intersection of ranges; its ends are reversed if it is empty."""
    return max(lower for lower, _ in ranges), min(upper for _, upper in ranges)


def fit_capacity(
    table: xr.Dataset, family: str, precision: str, scale: str | None = None
) -> CapacityFit:
    """Fit R of a family in a precision, at every number of exposures of a scale.

    Parameters
    ----------
    table
        As built by :func:`knowcap.capacity.table.build_table`.
    family
        GPT2, or a family of laws 5 and 6.
    precision
        `trained`, or one of law 8's.
    scale
        Scale of the table; by default the only one.

    Raises
    ------
    UserError
        If the table has no such scale, several and none is given, or too few models.
    """
    scale = _find_scale(table, scale)
    rows = replicates(table)
    chosen = reference(models_of(table, rows, law_4.LAW, scale))
    levels, omitted = [], []
    for exposures in sorted(chosen["exposures"].unique().tolist()):
        found = just_full(with_exposures(chosen, exposures))
        factors, missing = _factors(table, rows, scale, exposures, family, precision)
        missing += _problems("GPT2 with R_max of 2.3 to 3", exposures, found)
        omitted += missing
        if not missing:
            levels.append(LevelFit(exposures, found, tuple(factors)))
    if not levels:
        reason = " ".join(omitted) or "It has no GPT2 on fresh biographies for laws 1 and 4."
        raise UserError(f"no law can be fitted at scale {scale!r} of the table: {reason}")
    return CapacityFit(scale, tuple(levels), tuple(omitted))


def just_full(models: pd.DataFrame) -> pd.DataFrame:
    """Cells with R of models whose corpus holds slightly more than they can store."""
    limits = (PEAK_MAX_RATIO, PEAK_MAX_RATIO * SIMILAR_MAX_RATIO)
    chosen = models[models["max_capacity_ratio"].between(*limits)]
    return cells(chosen, "capacity_ratio") if len(chosen) else pd.DataFrame()


def _find_scale(table: xr.Dataset, scale: str | None) -> str:
    """Return the scale that is given or the only one of laws 1 and 4."""
    scales = list(
        dict.fromkeys(name for law in (base_law.LAW, law_4.LAW) for name in scales_of(table, law))
    )
    if not scales:
        raise UserError("no law can be fitted: no experiment of the table informs law 1 or 4")
    if scale is None and len(scales) == 1:
        return scales[0]
    if scale not in scales:
        given = "several scales" if scale is None else f"--scale: no scale {scale!r}"
        raise UserError(f"{given}: the table has {', '.join(map(repr, scales))}; choose by --scale")
    return scale


def _factors(
    table: xr.Dataset, rows: pd.DataFrame, scale: str, exposures: int, family: str, precision: str
) -> tuple[list[Factor], list[str]]:
    """Factors of a family and a precision, and sentences on those that the table does not have."""
    factors = []
    if family != REFERENCE_FAMILY:
        law: Law = architectures.LAW if exposures == FREQUENT_EXPOSURES else rare_architectures.LAW
        found = ratio_to_gpt2(models_of(table, rows, law, scale), family, exposures)
        label = f"R of {FAMILY_LABELS[family]}, relative to GPT2 of equal size"
        factors.append(Factor(label, exposures, found))
    if precision != "trained":
        models = capacity_limited(reference(models_of(table, rows, quantization.LAW, scale)))
        found, measured_at = pd.DataFrame(), exposures
        for measured_at in (exposures, FREQUENT_EXPOSURES):
            found = compare_trainings(
                with_exposures(models, measured_at), precision, "capacity_ratio"
            )
            if len(found) >= MIN_CELLS:
                break
        label = f"R in {precision}, relative to R as trained"
        factors.append(Factor(label, measured_at, found))
    problems = [line for each in factors for line in _problems(each.label, exposures, each.cells)]
    return factors, problems


def _problems(label: str, exposures: int, found: pd.DataFrame) -> list[str]:
    """Sentence on cells that allow no prediction, in a list; empty if they do."""
    where = f"{label}, at {exposures:,} exposures"
    if len(found) < MIN_CELLS:
        return [f"{where}: {len(found)} of the {MIN_CELLS} cells that a prediction needs."]
    if (found["value"] <= 0).any():
        return [f"{where}: a cell is not positive."]
    return []
