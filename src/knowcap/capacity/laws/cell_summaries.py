"""Summaries of cells: mean with interval, numbers of sizes and seeds, labels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from knowcap.capacity.laws.estimate import Coverage, Estimate
from knowcap.capacity.laws.estimators import Floats, Moments, leave_one_out, moments
from knowcap.capacity.laws.settings import settings_of

DISTINCT_SIZE = 1.2
"""Sizes that differ by a smaller factor count as one size."""

SIMILAR_MAX_RATIO = 1.3
"""R_max of models that differs by a smaller factor counts as fixed."""


def mean_over_cells(cells: pd.DataFrame, *, is_log: bool) -> Estimate:
    """Mean of ``value`` over cells; of its logarithm if `is_log`.

    With two cells or more, Student's t interval over cells: each is one observation. With one cell
    the interval is over its seeds.
    """
    if cells.empty:
        return Estimate.without_interval("no data")
    values = cells["value"].to_numpy(dtype=float)
    coverage = coverage_of(cells)
    if "value_baseline" in cells and (cells["value_baseline"] <= 0).any():
        return Estimate.without_interval("not positive", coverage=coverage)
    if is_log and (values <= 0).any():
        return Estimate.without_interval("not positive", values.mean(), coverage)
    on_scale = np.log(values) if is_log else values
    if len(values) > 1:
        found = moments(on_scale)
    else:
        error = cells["variance"].to_numpy(dtype=float) / (values**2 if is_log else 1)
        found = Moments(on_scale, error, cells["degrees_of_freedom"].to_numpy(dtype=float))
        found = Moments(*(part[0] for part in found))
    # A rate that was selected by the one seed that is averaged is selected by luck.
    by_luck = cells.filter(regex="^is_selected_by_luck").any(axis=None)
    if by_luck or not np.isfinite(found.variance):
        value = float(np.exp(found.mean)) if is_log else float(found.mean)
        return Estimate.without_interval("one seed", value, coverage)
    lowest, highest = (float(end) for end in leave_one_out(on_scale))
    if is_log:
        lowest, highest = math.exp(lowest), math.exp(highest)
    return Estimate(
        float(found.mean), math.sqrt(found.variance), float(found.degrees_of_freedom), "ok", is_log,
        coverage, (lowest, highest),
    )  # fmt: skip


def coverage_of(cells: pd.DataFrame) -> Coverage:
    """Numbers of cells, sizes, populations, replicates and seeds."""
    seeds = cells.filter(regex="^num_seeds").to_numpy(dtype=int)
    return Coverage(
        num_cells=len(cells),
        num_sizes=len(distinct_sizes(sizes_of(cells))),
        num_populations=len(cells[["population_seed"]].drop_duplicates()),
        num_replicates=int(cells.filter(regex="^num_replicates").to_numpy().sum()),
        min_seeds=int(seeds.min()),
        max_seeds=int(seeds.max()),
    )


def sizes_of(cells: pd.DataFrame) -> Floats:
    """Parameters of each cell, of the baseline if there is one."""
    name = "num_params_baseline" if "num_params_baseline" in cells else "num_params"
    return cells[name].to_numpy(dtype=float)


def distinct_sizes(sizes: Floats) -> list[float]:
    """Sizes that differ by DISTINCT_SIZE or more from the next smaller one, in ascending order."""
    found: list[float] = []
    for size in np.sort(sizes):
        if not found or size >= DISTINCT_SIZE * found[-1]:
            found.append(float(size))
    return found


def largest_two_sizes(chosen: pd.DataFrame) -> pd.DataFrame:
    """Cells of the two largest sizes whose R_max is similar; of one size if there are no two."""
    if chosen.empty:
        return chosen
    size = chosen["num_params"].astype(float)
    largest = chosen[size > size.max() / DISTINCT_SIZE]
    max_ratio = largest["max_capacity_ratio"].mean()
    rest: pd.DataFrame = chosen[size <= size.max() / DISTINCT_SIZE]
    distance = np.log(rest["max_capacity_ratio"] / max_ratio).abs()
    rest = rest[distance <= math.log(SIMILAR_MAX_RATIO)]
    rest = rest[rest["num_params"] > rest["num_params"].max() / DISTINCT_SIZE]
    return pd.concat([largest, rest])


def cell_labels(cells: pd.DataFrame) -> pd.Series[str]:
    """Label of each cell: model, people, and population if there are several.

    Cells for which these are equal have the settings that differ between them.
    """
    labels = cells["model"].astype(str) + " on " + cells["knowledge"].astype(str)
    if cells["population_seed"].nunique() > 1:
        labels += ", population " + cells["population_seed"].astype(str)
    for name in settings_of(cells):
        values = cells[name].groupby(labels).transform("nunique")
        text = ", " + name.rpartition(".")[2] + " " + cells[name].str.strip('"')
        labels = labels.where(values == 1, labels + text)
    return labels


def iterate_cells(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield label and row of each cell."""
    for index, label in enumerate(cell_labels(cells)):
        yield label, cells.iloc[[index]]
