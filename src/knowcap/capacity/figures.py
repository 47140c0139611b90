"""The figures of a study, drawn from its table and laws alone.

Each is written as SVG for the report and as PNG, the same bytes every time, and is listed with
its title and caption in ``figures.json``. Axes are labelled by what the table says of a quantity.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.comparison_labels import COMPARISONS, Comparison
from knowcap.capacity.laws import LAWS, model_filters
from knowcap.capacity.plots import (
    Drawing,
    draw_capacity,
    draw_comparison,
    draw_effects,
    draw_laws,
    draw_shapes,
    draw_shares,
)

STYLE: Any = {
    "svg.hashsalt": "knowcap",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


def write_figures(table_path: Path, laws_path: Path, folder: Path) -> None:
    """Draw every figure of a study into a new folder, with ``figures.json`` that lists them."""
    table, laws = files.read_dataset(table_path), files.read_dataset(laws_path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    listed = []
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".figures.") as name,
        mpl.rc_context(STYLE),
    ):
        temporary = Path(name) / "figures"
        temporary.mkdir()
        for stem, drawing in _drawings(table, laws):
            for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                drawing.figure.savefig(temporary / f"{stem}.{suffix}", metadata=metadata)
            listed.append({"name": stem, "title": drawing.title, "caption": drawing.caption})
        files.write_json(temporary / "figures.json", {"format": 1, "figures": listed})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)


def _drawings(table: xr.Dataset, laws: xr.Dataset) -> Iterator[tuple[str, Drawing]]:
    """Draw the figures of each scale, and the laws."""
    scales = list(dict.fromkeys(table["scale"].values.tolist()))
    for scale in scales:
        suffix = "" if len(scales) == 1 else "-" + re.sub(r"[^a-z0-9]+", "-", scale.lower())
        for name, drawing in _drawings_of_scale(table, laws, scale):
            yield f"{name}{suffix}", drawing
    if np.isfinite(laws["estimate"]).any():
        yield "laws", draw_laws(laws)


def _drawings_of_scale(
    table: xr.Dataset, laws: xr.Dataset, scale: str
) -> Iterator[tuple[str, Drawing]]:
    models = best_models(table, scale, laws=(1, 4))
    models = models.isel(measurement=_positions(models, model_filters.reference))
    if models.sizes["measurement"]:
        yield "capacity", draw_capacity(models, scale)
        yield "shares", draw_shares(models, scale)
    shapes = best_models(table, scale, laws=(3,))
    shapes = shapes.isel(measurement=_positions(shapes, model_filters.reference))
    shapes = shapes.isel(measurement=shapes["kind"].values == "bioD")
    if len(np.unique(shapes["knowledge"])) > 1:
        yield "shapes", draw_shapes(shapes, scale)
    for comparison in COMPARISONS:
        compared = compared_models(table, scale, comparison)
        if len(np.unique(compared["condition"])) > 1:
            title = f"{comparison.title}: {scale}"
            yield comparison.name, draw_comparison(compared, title, comparison.caption)
    effects = (laws["law"] == 7) & (laws["scale"] == scale) & laws["estimate"].notnull()
    if effects.any():
        yield "effects", draw_effects(laws, 7, scale)


def compared_models(table: xr.Dataset, scale: str, comparison: Comparison) -> xr.Dataset:
    """Choose the models of a comparison, each with its condition."""
    # What is compared is the experiments' own models and those that the law sets them against.
    own = best_models(table, scale, laws=comparison.laws, quantized=comparison.quantized)
    if not own.sizes["measurement"]:
        return own.assign(condition=("measurement", np.array([], dtype=object)))
    read = {other for law in LAWS if law.number in comparison.laws for other in law.reads}
    models = best_models(table, scale, laws=tuple(read), quantized=comparison.quantized)
    known = np.isin(models["knowledge"].values, own["knowledge"].values)
    models = models.isel(measurement=known)
    conditions = comparison.conditions(_columns(models))
    models = models.isel(measurement=conditions.index.to_numpy())
    models = models.assign(condition=("measurement", conditions.to_numpy(dtype=object)))
    # Exposures at which nothing is set against the baseline would be empty panels but for it.
    others = models["exposures"].values[models["condition"].values != comparison.baseline]
    return models.isel(measurement=np.isin(models["exposures"].values, others))


def _columns(models: xr.Dataset) -> pd.DataFrame:
    """What stands in the table for each measurement, by its place."""
    names = [name for name, v in models.data_vars.items() if v.dims == ("measurement",)]
    return models[names].to_dataframe().reset_index()


def _positions(
    models: xr.Dataset, choose: Callable[[pd.DataFrame], pd.DataFrame]
) -> npt.NDArray[np.int_]:
    """Places of the models that are chosen."""
    return choose(_columns(models)).index.to_numpy()


def best_models(
    table: xr.Dataset, scale: str, laws: tuple[int, ...], *, quantized: bool = False
) -> xr.Dataset:
    """Choose the models of some laws, each at the learning rate with the highest mean.

    Parameters
    ----------
    table
        The table of a study.
    scale, laws
        Experiments at this scale that inform one of these laws are looked at.
    quantized
        Whether to choose models in every precision, and not only as training left them.

    Returns
    -------
    xr.Dataset
        The table asked plainly; for ``replicate``, ``bits``, ``bits_by_term``,
        ``bits_by_attribute`` and ``capacity_ratio`` have ``statistic``, the mean and standard
        deviation ``sd`` of seeds, 0 where there is one.
    """
    informs = table["informs"].sel(law=table["law"].isin(laws)).any("law").values
    asked = informs & (table["scale"].values == scale)
    chosen = table["member"].values[asked].any(axis=0)
    if not quantized:
        chosen &= table["precision"].values == "trained"
    chosen = table.isel(measurement=chosen).sel(scoring="plain")
    at_best = xr.zeros_like(chosen["lr"], dtype=bool)
    for ratios, rates, best in zip(
        chosen["capacity_ratio"].values, chosen["lr"].values, at_best.values, strict=True
    ):
        means = pd.Series(ratios).groupby(rates).mean()
        best[:] = rates == means.idxmax()
    reduced = chosen.drop_dims("replicate")
    for name in ("bits", "capacity_ratio", "bits_by_term", "bits_by_attribute"):
        seeds = chosen[name].where(at_best)
        mean, count = seeds.mean("replicate"), seeds.count("replicate")
        squares = ((seeds - mean) ** 2).sum("replicate")
        spread = (squares / (count - 1).clip(min=1)) ** 0.5
        both = xr.concat([mean, spread], dim=xr.Variable("statistic", ["mean", "sd"]))
        reduced[name] = both.assign_attrs(chosen[name].attrs)
    return reduced
