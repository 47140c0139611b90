"""Figures of a study as SVG, PDF and PNG, from table and laws.

``figures.json`` lists them with titles, captions, sizes and laws. Equal inputs give equal bytes.
Axis labels are the long names and units of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr

from knowcap.artifacts import files, manifest
from knowcap.capacity.best_models import (
    best_models,
    compared_models,
    models_without_law,
    select_models,
)
from knowcap.capacity.comparison_labels import COMPARISONS, Comparison
from knowcap.capacity.labels import dataset_labels
from knowcap.capacity.laws import model_filters
from knowcap.capacity.laws.laws_dataset import LAWS_VARIABLES
from knowcap.capacity.model_groups import group_models
from knowcap.capacity.plots import (
    Drawing,
    draw_bits,
    draw_comparison,
    draw_effects,
    draw_laws,
    draw_shapes,
    draw_shares,
    num_shapes,
)
from knowcap.capacity.plots.plot_style import RC_PARAMS, assign_styles, panel_exposures
from knowcap.capacity.table_columns import TABLE_VARIABLES

METADATA: Mapping[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}
"""Formats, and their metadata without dates and versions: equal figures are equal files."""

PAPER_RATIOS: Mapping[int | None, float] = {
    model_filters.FREQUENT_EXPOSURES: model_filters.FREQUENT_PEAK_RATIO,
    model_filters.RARE_EXPOSURES: model_filters.RARE_PEAK_RATIO,
}
"""Bits per parameter that the paper finds, by exposures."""


def write_figures(table_path: Path, laws_path: Path, folder: Path) -> None:
    """Write all figures of a study and ``figures.json`` to a new folder."""
    table = files.read_dataset(table_path, TABLE_VARIABLES)
    laws = files.read_dataset(laws_path, LAWS_VARIABLES)
    listed = []
    with files.atomic_folder(folder) as temporary, mpl.rc_context(RC_PARAMS):
        for stem, informed, drawing in _drawings(table, laws):
            for suffix, metadata in METADATA.items():
                drawing.figure.savefig(temporary / f"{stem}.{suffix}", metadata=metadata)
            listed.append(
                {
                    "name": stem,
                    "title": drawing.title,
                    "caption": drawing.caption,
                    "size_in": drawing.figure.get_size_inches().tolist(),
                    "laws": informed,
                }
            )
        files.write_json(temporary / "figures.json", {"format": 1, "figures": listed})
        manifest.write(temporary, sorted(path.name for path in temporary.iterdir()))


def _drawings(table: xr.Dataset, laws: xr.Dataset) -> Iterator[tuple[str, list[int], Drawing]]:
    """Yield name, laws of the models and drawing of the figures of each scale, and of the laws."""
    scales = list(dict.fromkeys(table["scale"].values.tolist()))
    for scale in scales:
        suffix = "" if len(scales) == 1 else "-" + re.sub(r"[^a-z0-9]+", "-", scale.lower())
        for name, informed, drawing in _drawings_of_scale(table, laws, scale):
            yield f"{name}{suffix}", informed, drawing
    if (laws["primary"] & laws["estimate"].notnull()).any():
        yield "laws", [], draw_laws(laws)


def _drawings_of_scale(
    table: xr.Dataset, laws: xr.Dataset, scale: str
) -> Iterator[tuple[str, list[int], Drawing]]:
    models = models_without_law(table, scale)
    if models.sizes["measurement"]:
        yield "models", [], _draw_varied(models, scale)
    models = select_models(best_models(table, scale, laws=(1, 4)), model_filters.reference)
    if models.sizes["measurement"]:
        yield "capacity", [1, 4], _draw_capacity(models, scale)
        yield "shares", [1, 4], draw_shares(models, scale)
    shapes = select_models(best_models(table, scale, laws=(3,)), model_filters.reference)
    shapes = shapes.isel(measurement=shapes["kind"].values == "bioD")
    if num_shapes(shapes) > 1:
        yield "shapes", [3], draw_shapes(shapes, scale, model_filters.FREQUENT_PEAK_RATIO)
    for comparison in COMPARISONS:
        compared = compared_models(table, scale, comparison)
        if len(np.unique(compared["group"])) > 1:
            yield (
                comparison.name,
                list(comparison.laws),
                draw_comparison(
                    compared,
                    f"{comparison.title}: {scale}",
                    comparison.caption,
                    baseline=comparison.baseline,
                    factors=_factors(laws, scale, comparison, compared),
                ),
            )
    effects = (laws["law"] == 7) & (laws["scale"] == scale) & laws["estimate"].notnull()
    if effects.any():
        yield "effects", [7], draw_effects(laws, 7, scale)


def _factors(
    laws: xr.Dataset, scale: str, comparison: Comparison, compared: xr.Dataset
) -> dict[tuple[str, int], float]:
    """Paper's R of each group relative to the baseline, by group and exposures, if it is not 1."""
    is_claim = (laws["scale"] == scale) & (laws["subset"] == "")
    rows = laws[["law", "quantity", "paper_value"]].isel(row=is_claim.values)
    values = {
        (int(law), str(quantity)): float(value)
        for law, quantity, value in zip(*(rows[name].values for name in rows), strict=True)
    }
    keys = zip(
        compared["group"].values.tolist(), compared["exposures"].values.tolist(), strict=True
    )
    factors = {key: values.get(comparison.claim(*key), 1.0) for key in keys}
    return {key: factor for key, factor in factors.items() if factor != 1}


def _draw_capacity(models: xr.Dataset, scale: str) -> Drawing:
    """Bits against parameters, with one colour per dataset."""
    labels = dataset_labels(models)
    groups = [labels[name] for name in models["knowledge"].values.tolist()]
    return draw_bits(
        models.assign(group=("measurement", np.array(groups, dtype=object))),
        assign_styles(list(labels.values())),
        panel_exposures(models),
        f"Stored knowledge against model size: {scale}",
        paper_ratios=PAPER_RATIOS,
    )


def _draw_varied(models: xr.Dataset, scale: str) -> Drawing:
    """Bits against parameters, with one colour or marker for each varied setting."""
    grouped = group_models(models)
    drawing = draw_bits(
        models.assign(group=("measurement", grouped.labels)),
        grouped.styles,
        grouped.panels,
        f"Stored knowledge against model size: {scale}",
    )
    return drawing._replace(caption=f"{drawing.caption} {grouped.caption}".strip())
