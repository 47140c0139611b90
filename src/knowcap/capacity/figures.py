"""Figures of a study as SVG and PNG, from table and laws.

``figures.json`` lists them with titles and captions. Equal inputs give equal bytes. Axis labels are
the long names and units of the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from knowcap.artifacts import files, manifest
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
    varied_parameters,
)
from knowcap.capacity.plots.plot_style import RC_PARAMS
from knowcap.capacity.table_columns import BIOD_SHAPE


def write_figures(table_path: Path, laws_path: Path, folder: Path) -> None:
    """Write all figures of a study and ``figures.json`` to a new folder."""
    table, laws = files.read_dataset(table_path), files.read_dataset(laws_path)
    listed = []
    with files.atomic_folder(folder) as temporary, mpl.rc_context(RC_PARAMS):
        for stem, drawing in _drawings(table, laws):
            for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                drawing.figure.savefig(temporary / f"{stem}.{suffix}", metadata=metadata)
            listed.append({"name": stem, "title": drawing.title, "caption": drawing.caption})
        files.write_json(temporary / "figures.json", {"format": 1, "figures": listed})
        manifest.write(temporary, sorted(path.name for path in temporary.iterdir()))


def _drawings(table: xr.Dataset, laws: xr.Dataset) -> Iterator[tuple[str, Drawing]]:
    """Yield name and drawing of the figures of each scale, and of the laws."""
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
    if shapes.sizes["measurement"] and varied_parameters(shapes):
        yield "shapes", draw_shapes(shapes, scale)
    for comparison in COMPARISONS:
        compared = compared_models(table, scale, comparison)
        if len(np.unique(compared["group"])) > 1:
            title = f"{comparison.title}: {scale}"
            yield comparison.name, draw_comparison(compared, title, comparison.caption)
    effects = (laws["law"] == 7) & (laws["scale"] == scale) & laws["estimate"].notnull()
    if effects.any():
        yield "effects", draw_effects(laws, 7, scale)


def compared_models(table: xr.Dataset, scale: str, comparison: Comparison) -> xr.Dataset:
    """Models of a comparison, with the label ``group`` of each."""
    # The models of the law's own experiments, and the models that the law compares them with.
    own = best_models(table, scale, laws=comparison.laws, quantized=comparison.includes_quantized)
    if not own.sizes["measurement"]:
        return own.assign(group=("measurement", np.array([], dtype=object)))
    sources = {other for law in LAWS if law.number in comparison.laws for other in law.source_laws}
    models = best_models(table, scale, laws=tuple(sources), quantized=comparison.includes_quantized)
    models = models.isel(measurement=_populations(models).isin(_populations(own)))
    labels = comparison.group_labels(_columns(models))
    models = models.isel(measurement=labels.index.to_numpy())
    models = models.assign(group=("measurement", labels.to_numpy(dtype=object)))
    # Leave out exposures that only the baseline has: their panels would compare nothing.
    others = models["exposures"].values[models["group"].values != comparison.baseline]
    return models.isel(measurement=np.isin(models["exposures"].values, others))


def _columns(models: xr.Dataset) -> pd.DataFrame:
    """Columns of the table with one value per measurement; the index is the position."""
    names = [name for name, v in models.data_vars.items() if v.dims == ("measurement",)]
    return models[names].to_dataframe().reset_index()


def _populations(models: xr.Dataset) -> pd.MultiIndex:
    """N and shape of the population of each measurement, whatever its format."""
    names = ["num_people", *BIOD_SHAPE]
    return pd.MultiIndex.from_arrays([np.nan_to_num(models[name].values) for name in names])


def _positions(
    models: xr.Dataset, model_filter: Callable[[pd.DataFrame], pd.DataFrame]
) -> npt.NDArray[np.int_]:
    """Positions of the models that a filter selects."""
    return model_filter(_columns(models)).index.to_numpy()


def best_models(
    table: xr.Dataset, scale: str, laws: tuple[int, ...], *, quantized: bool = False
) -> xr.Dataset:
    """Models of some laws, each at the learning rate with the highest mean.

    Parameters
    ----------
    table
        The table of a study.
    scale, laws
        The models of experiments at this scale that inform one of these laws.
    quantized
        Whether to include quantised models.

    Returns
    -------
    xr.Dataset
        The table in the plain scoring. Instead of the dim ``replicate``, ``bits``,
        ``bits_by_term``, ``bits_by_attribute`` and ``capacity_ratio`` have ``statistic``: the
        ``mean`` over seeds and their standard deviation ``sd``, 0 if there is one seed.
    """
    informs = table["informs"].sel(law=table["law"].isin(laws)).any("law").values
    experiments = informs & (table["scale"].values == scale)
    chosen = table["member"].values[experiments].any(axis=0)
    if not quantized:
        chosen &= table["precision"].values == "trained"
    chosen = table.isel(measurement=chosen).sel(scoring="plain")
    at_best = xr.zeros_like(chosen["lr"], dtype=bool)
    for ratios, rates, is_best in zip(
        chosen["capacity_ratio"].values, chosen["lr"].values, at_best.values, strict=True
    ):
        means = pd.Series(ratios).groupby(rates).mean()
        is_best[:] = rates == means.idxmax()
    reduced = chosen.drop_dims("replicate")
    for name in ("bits", "capacity_ratio", "bits_by_term", "bits_by_attribute"):
        seeds = chosen[name].where(at_best)
        mean, count = seeds.mean("replicate"), seeds.count("replicate")
        squares = ((seeds - mean) ** 2).sum("replicate")
        spread = (squares / (count - 1).clip(min=1)) ** 0.5
        statistics = xr.concat([mean, spread], dim=xr.Variable("statistic", ["mean", "sd"]))
        reduced[name] = statistics.assign_attrs(chosen[name].attrs)
    return reduced
