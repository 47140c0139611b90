"""Figure of a measured model among the models of a study, bits against parameters."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.best_models import average_seeds, best_models, select_models
from knowcap.capacity.figures import PAPER_RATIOS
from knowcap.capacity.labels import dataset_labels
from knowcap.capacity.laws import model_filters
from knowcap.capacity.plots import draw_bits
from knowcap.capacity.plots.plot_style import RC_PARAMS, assign_styles, panel_exposures
from knowcap.errors import UserError

SUFFIXES = (".svg", ".png", ".pdf")
"""Formats of the figure."""

BASE_LAWS = (1, 4)
"""Laws whose models show bits against parameters."""

STAR = ("black", "*")
"""Colour and marker of a measured model."""

DRAWN = ("bits", "bits_in_context", "max_bits", "num_params", "exposures", "kind", "knowledge")
"""Variables of models that the figure shows."""


def check_figure_path(path: Path) -> None:
    """Raise a UserError for a figure of another format.

    Raises
    ------
    UserError
        With the allowed suffixes.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"--figure: {path} is not allowed; it ends in {', '.join(SUFFIXES)}")


def write_measured_figure(study: xr.Dataset, measured: xr.Dataset, path: Path) -> None:
    """Draw a measured model as a star among the models of its scale in a study.

    Parameters
    ----------
    study
        Table of the study.
    measured
        Table of the model, as :func:`knowcap.capacity.measured_model.measured_table` returns it.
    path
        File to write.

    Raises
    ------
    UserError
        If the scale has no models of the base laws.
    """
    scale = str(measured["scale"].values[0])
    models = select_models(best_models(study, scale, laws=BASE_LAWS), model_filters.reference)
    if not models.sizes["measurement"]:
        raise UserError(f"--figure: the study has no models for laws 1 and 4 at scale {scale!r}")
    labels = dataset_labels(models)
    datasets = [labels[name] for name in models["knowledge"].values.tolist()]
    name, exposures = str(measured["model"].values[0]), int(measured["exposures"].values[0])
    both = xr.concat(
        [
            _with_group(models, datasets),
            _with_group(average_seeds(measured), [name]),
        ],
        dim="measurement",
    )
    panels = panel_exposures(models)
    with mpl.rc_context(RC_PARAMS):
        drawing = draw_bits(
            both,
            {**assign_styles(list(labels.values())), name: STAR},
            panels if exposures in panels else [*panels, exposures],
            f"{name} and the study's models: {scale}",
            paper_ratios=PAPER_RATIOS,
        )
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        with files.atomic_write(path) as temporary:
            drawing.figure.savefig(temporary, metadata=metadata)


def _with_group(models: xr.Dataset, groups: list[str]) -> xr.Dataset:
    """The drawn variables of models, and the group of each."""
    drawn = models[list(DRAWN)].reset_coords(drop=True)
    return drawn.assign(group=("measurement", np.array(groups, dtype=object)))
