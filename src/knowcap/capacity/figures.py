"""The figures of a study, drawn from its table and laws alone.

Each is written as SVG for the report and as PNG, the same bytes every time, and is listed with
its title and caption in ``figures.json``. Axes are labelled by what the table says of a quantity.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from knowcap import records
from knowcap.capacity.plots import Drawing, draw_capacity, draw_laws, draw_shares

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
    table, laws = records.read_dataset(table_path), records.read_dataset(laws_path)
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
        records.write_json(temporary / "figures.json", {"format": 1, "figures": listed})
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)


def _drawings(table: xr.Dataset, laws: xr.Dataset) -> Iterator[tuple[str, Drawing]]:
    """Draw the figures of each scale."""
    scales = list(dict.fromkeys(table["scale"].values.tolist()))
    for scale in scales:
        models = best_models(table, scale)
        if not models.sizes["measurement"]:
            continue
        suffix = "" if len(scales) == 1 else "-" + re.sub(r"[^a-z0-9]+", "-", scale.lower())
        yield f"capacity{suffix}", draw_capacity(models, scale)
        yield f"shares{suffix}", draw_shares(models, scale)
    if np.isfinite(laws["estimate"]).any():
        yield "laws", draw_laws(laws)


def best_models(table: xr.Dataset, scale: str) -> xr.Dataset:
    """Choose the trained models of a scale, each at the learning rate with the highest mean.

    Returns
    -------
    xr.Dataset
        The table asked plainly; for ``replicate``, ``bits``, ``bits_by_term``,
        ``bits_by_attribute`` and ``capacity_ratio`` have ``statistic``, the mean and standard
        deviation ``sd`` of seeds, 0 where there is one.
    """
    member = table["member"].values[table["scale"].values == scale].any(axis=0)
    chosen = table.isel(measurement=member & (table["precision"].values == "trained"))
    chosen = chosen.sel(scoring="plain")
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
