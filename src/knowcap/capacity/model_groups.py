"""Groups of models by the settings that differ between them, for figures of any study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from knowcap.capacity.labels import dataset_labels, setting_label
from knowcap.capacity.plots.plot_style import MARKERS, Style, spread_colors

PANEL_FIELD = "optimization.exposures"
MAX_PANELS = 4
"""Up to this number, each number of exposures has a panel; more are a setting like others."""

SIZE_FIELDS = (
    "architecture.num_layers",
    "architecture.num_attention_heads",
    "architecture.kv_channels",
    "architecture.num_query_groups",
)
"""Fields that set the size of a model, which the horizontal axis shows."""

PRECISION = "precision"


@dataclass(frozen=True)
class GroupedModels:
    """Groups of models by the settings that are varied."""

    labels: npt.NDArray[np.object_]
    """Label of the group of each measurement."""
    styles: dict[str, Style]
    """Colour and marker of each label: the first setting has colours, the others markers."""
    panels: list[int] | None
    """Exposures of the panels; None is one panel for all models."""
    caption: str
    """Sentence that names settings that change together with those of the labels; may be empty."""


def group_models(models: xr.Dataset) -> GroupedModels:
    """Group models by the settings that differ between them.

    Parameters
    ----------
    models
        Measurements with the variable ``setting`` of the table.

    Notes
    -----
    A setting that another one determines, such as a batch size that is chosen for each N, is not
    part of the labels; the caption names it.
    """
    frame = pd.DataFrame(models["setting"].values, columns=models["field"].values.tolist())
    frame = frame.astype(str)
    size = frame[[name for name in SIZE_FIELDS if name in frame]].agg("|".join, axis="columns")
    frame = frame.drop(columns=list(SIZE_FIELDS), errors="ignore")
    frame[PRECISION] = [json.dumps(precision) for precision in models["precision"].values]
    frame = frame[[name for name in frame if frame[name].nunique() > 1]]
    exposures = sorted(set(models["exposures"].values.tolist()), reverse=True)
    known: dict[str, pd.Series[str]] = {"size": size}
    if PANEL_FIELD in frame and len(exposures) <= MAX_PANELS:
        known[PANEL_FIELD] = frame.pop(PANEL_FIELD)
    axes, dependent = _independent(frame, known)
    parts = pd.DataFrame(
        {name: [_label(name, text) for text in frame[name]] for name in axes},
        index=frame.index,
    )
    if not axes:
        names = dataset_labels(models)
        parts["dataset"] = [names[name] for name in models["knowledge"].values.tolist()]
    return GroupedModels(
        labels=parts.agg(_join, axis="columns").to_numpy(dtype=object),
        styles=_styles(parts),
        panels=exposures if PANEL_FIELD in known or len(exposures) == 1 else None,
        caption=_caption(dependent),
    )


def _independent(
    frame: pd.DataFrame, known: dict[str, pd.Series[str]]
) -> tuple[list[str], list[str]]:
    """Fields that no other field determines, and the others.

    The size of a model and its exposures are `known`, as the axes and panels show them. A size
    never stands for a dataset, because colours for datasets are easier to read.
    """
    independent: list[str] = []
    dependent: list[str] = []
    for name in frame:
        others = {
            other: frame[other]
            for other in frame
            if other != name
            and other not in dependent
            and (other in independent or not _determines(frame[name], frame[other]))
        }
        others |= {
            other: values
            for other, values in known.items()
            if other != "size" or not str(name).startswith("corpus.")
        }
        is_dependent = any(_determines(values, frame[name]) for values in others.values())
        (dependent if is_dependent else independent).append(str(name))
    return independent, dependent


def _determines(one: pd.Series[str], other: pd.Series[str]) -> bool:
    """Whether models with equal values of one setting have equal values of the other."""
    return bool(other.groupby(one.to_numpy()).nunique().max() == 1)


def _label(field: str, text: str) -> str:
    """Text of a setting from its JSON."""
    return setting_label(field.rpartition(".")[2], json.loads(text) if text else None)


def _join(parts: Iterable[str]) -> str:
    return ", ".join(filter(None, parts)) or "none of these"


def _styles(parts: pd.DataFrame) -> dict[str, Style]:
    """Colours by the first setting, and markers by the others."""
    first, rest = parts.iloc[:, 0], parts.iloc[:, 1:].agg(_join, axis="columns")
    values, others = list(dict.fromkeys(first)), list(dict.fromkeys(rest))
    colors = spread_colors(len(values))
    return {
        _join(row): (colors[values.index(row[0])], MARKERS[others.index(other) % len(MARKERS)])
        for row, other in dict.fromkeys(
            zip(parts.itertuples(index=False, name=None), rest, strict=True)
        )
    }


def _caption(dependent: Sequence[str]) -> str:
    names = ", ".join(name.rpartition(".")[2] for name in dependent)
    return f"Also varied, together with the settings shown: {names}." if names else ""
