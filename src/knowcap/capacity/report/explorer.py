"""Data of the interactive figure of all models, which the scripts of the report read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from knowcap.artifacts.durations import format_duration
from knowcap.capacity.best_models import compared_models, models_without_law
from knowcap.capacity.comparison_labels import COMPARISONS
from knowcap.capacity.labels import precision_label
from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.architectures import FAMILY_LABELS
from knowcap.capacity.laws.junk import is_repetitive
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    RARE_EXPOSURES,
    RARE_PEAK_RATIO,
)
from knowcap.capacity.loss_curve import read_thinned_curve
from knowcap.capacity.model_groups import group_models
from knowcap.capacity.plots.plot_style import COLORS, spread_colors
from knowcap.capacity.table import replicates
from knowcap.training.run_dir import DONE_FILE, METRICS_FILE

SCORINGS: Mapping[str, tuple[str, str]] = {
    "capacity_ratio": ("plain", "each value in a prompt of its own"),
    "capacity_ratio_strict": ("strict", "also the end of a name or value"),
    "capacity_ratio_in_context": ("in whole biographies", "values in the context of a biography"),
}
"""Scorings that can be chosen: column of the replicates, name and explanation."""

PAPER_LINES = {
    FREQUENT_PEAK_RATIO: FREQUENT_EXPOSURES,
    RARE_PEAK_RATIO: RARE_EXPOSURES,
}
"""Exposures after which the paper finds these bits per parameter."""

GROUPINGS_OF_LAWS: Mapping[int, str] = {
    1: "dataset", 2: "format", 3: "dataset", 4: "exposures", 5: "architecture", 6: "architecture",
    7: "architecture", 8: "weights", 9: "architecture", 10: "junk", 11: "junk", 12: "junk",
}  # fmt: skip
"""What colours show if the models of a law are chosen."""

SIGNIFICANT_DIGITS = 5


def explorer_data(
    table: xr.Dataset, models: Sequence[Mapping[str, Any]], runs: Path | None
) -> dict[str, Any]:
    """Return models, their replicates and loss curves for JSON.

    Parameters
    ----------
    table
        As read from ``capacity.nc``.
    models
        As returned by :func:`knowcap.capacity.model_list.model_rows`.
    runs
        Folder of the runs; runs that are not there have no curve.
    """
    laws_of = _laws_of_measurements(table)
    numbers = {number for each in laws_of.values() for number in each}
    by_measurement = dict(iter(replicates(table).groupby("measurement", sort=False)))
    return {
        "models": [
            _model(row, by_measurement[row["measurement"]], laws_of[row["measurement"]])
            for row in models
        ],
        "laws": [[law.number, law.title] for law in LAWS if law.number in numbers],
        "scales": list(dict.fromkeys(table["scale"].values.tolist())),
        "scorings": list(SCORINGS.values()),
        "paper_lines": [[ratio, exposures] for ratio, exposures in PAPER_LINES.items()],
        "palette": COLORS,
        "groupings": _groupings(table, models),
        "grouping_of_law": GROUPINGS_OF_LAWS,
        "curves": _curves(dict.fromkeys(row["run"] for row in models), runs),
    }


def _laws_of_measurements(table: xr.Dataset) -> dict[str, list[int]]:
    """Return the laws that each measurement informs, alone or as a baseline that is compared."""
    member, informs = table["member"].values, table["informs"].values
    direct = member.T.astype(int) @ informs.astype(int) > 0
    names, numbers = table["measurement"].values.tolist(), table["law"].values.tolist()
    found = {
        name: {number for number, is_informed in zip(numbers, row, strict=True) if is_informed}
        for name, row in zip(names, direct, strict=True)
    }
    exposures = dict(zip(names, table["exposures"].values.tolist(), strict=True))
    for scale in dict.fromkeys(table["scale"].values.tolist()):
        for comparison in COMPARISONS:
            compared = compared_models(table, scale, comparison)["measurement"].values.tolist()
            for law in set(comparison.laws) & set(numbers):
                own = {exposures[name] for name in compared if law in found[name]}
                for name in compared:
                    if exposures[name] in own:
                        found[name].add(law)
    return {name: sorted(laws) for name, laws in found.items()}


def _model(row: Mapping[str, Any], rows: pd.DataFrame, laws: list[int]) -> dict[str, Any]:
    """Return what the page shows of a measurement."""
    at_best = rows[rows["lr"] == row["lr"]]
    return {
        "run": row["run"],
        "dataset": row["dataset"],
        "model": row["model"],
        "architecture": _architecture(row),
        "weights": precision_label(row["precision"]),
        "exposures": int(row["exposures"]),
        "params": int(row["num_params"]),
        "max_ratio": _rounded(row["max_capacity_ratio"]),
        "lr": _rounded(row["lr"]),
        "num_lr": int(row["num_lr"]),
        "num_seeds": int(row["num_seeds"]),
        "mean": [_rounded(at_best[name].mean()) for name in SCORINGS],
        "sd": [_rounded(at_best[name].std(ddof=1)) for name in SCORINGS],
        "cost": _cost(row),
        "scales": row["scales"],
        "laws": laws,
        "replicates": [
            [int(seed), *map(_rounded, values)]
            for seed, *values in rows[["seed", "lr", *SCORINGS]].itertuples(index=False)
        ],
    }


def _architecture(row: Mapping[Any, Any]) -> str:
    experts = f"{row['num_moe_experts']} experts" if row["num_moe_experts"] else ""
    family = FAMILY_LABELS.get(row["family"], row["family"])
    return ", ".join(filter(None, [family, row["variation"], experts]))


def _cost(row: Mapping[str, Any]) -> str:
    """Return time and tokens of the training of all replicates."""
    tokens = f"{row['all_tokens']:,} tokens"
    if pd.isna(row["train_s"]):
        return tokens
    return f"{format_duration(row['train_s'])} for {row['num_replicates']} trainings, {tokens}"


def _groupings(
    table: xr.Dataset, models: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list[Any]]]:
    """Return labels and colours of the groups that colours can show, and the group of each model.

    What all models have in common is left out.
    """
    if not models:  # all have diverged
        return {"dataset": _grouping([])}
    frame = pd.DataFrame(list(models))
    found: dict[str, Sequence[str]] = {}
    labels = _varied_labels(table)
    if labels:
        found["settings"] = [labels.get(name, "other") for name in frame["measurement"]]
    found |= {name: label(frame) for name, label in GROUPINGS.items()}
    return {
        name: _grouping(values)
        for name, values in found.items()
        if len(set(values)) > 1 or name == "dataset"
    }


def _varied_labels(table: xr.Dataset) -> dict[str, str]:
    """Return the group of each model that informs no law, by the settings that a study varies."""
    labels: dict[str, str] = {}
    for scale in dict.fromkeys(table["scale"].values.tolist()):
        models = models_without_law(table, scale)
        if models.sizes["measurement"]:
            names = models["measurement"].values.tolist()
            labels |= dict(zip(names, group_models(models).labels.tolist(), strict=True))
    return labels


def _grouping(values: Sequence[str]) -> dict[str, list[Any]]:
    labels = list(dict.fromkeys(values))
    colors = [mpl.colors.to_hex(color) for color in spread_colors(len(labels))]
    return {
        "labels": labels,
        "colors": colors[: len(labels)],
        "of": [labels.index(value) for value in values],
    }


def _formats(models: pd.DataFrame) -> list[str]:
    return [
        f"{count} fixed biographies" if count > 1 else "one fixed biography" if count else "fresh"
        for count in models["num_versions"]
    ]


def _junk(models: pd.DataFrame) -> list[str]:
    kinds = np.where(is_repetitive(models), "repetitive junk", "random junk")
    tokens = np.where(models["domain_token"], ", domain token", "")
    return [
        f"{kind}{token}" if share < 1 else "no junk"
        for kind, token, share in zip(kinds, tokens, models["useful_share"], strict=True)
    ]


GROUPINGS: Mapping[str, Callable[[pd.DataFrame], list[str]]] = {
    "exposures": lambda models: [f"{number:,} exposures" for number in models["exposures"]],
    "dataset": lambda models: list(models["dataset"]),
    "architecture": lambda models: [_architecture(row) for row in models.to_dict("records")],
    "weights": lambda models: [precision_label(each) for each in models["precision"]],
    "format": _formats,
    "junk": _junk,
}
"""What colours can show: labels of the rows of all models."""


def _curves(names: Iterable[str], runs: Path | None) -> dict[str, Any]:
    """Return the thinned loss curves of the finished runs whose metrics are there."""
    return {
        name: read_thinned_curve(runs / name)
        for name in names
        if runs is not None
        and all((runs / name / each).exists() for each in (DONE_FILE, METRICS_FILE))
    }


def _rounded(value: float) -> float | None:
    """Return a number with a few digits; None for NaN, which JSON cannot write."""
    return None if pd.isna(value) else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
