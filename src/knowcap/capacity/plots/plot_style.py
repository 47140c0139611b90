"""Style shared by all figures: matplotlib settings, colours, markers, axes and labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from xarray.plot.utils import label_from_attrs

RC_PARAMS: Any = {
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
"""Settings of matplotlib."""

EXPOSURES = (1000, 100)
"""Numbers of exposures that are drawn side by side."""  # PAPER 4.1, 4.2: figures 1a and 1b.

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Colours that are distinct for all kinds of colour vision (Okabe and Ito)."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


class Drawing(NamedTuple):
    """A figure with its title and caption."""

    figure: Figure
    title: str
    caption: str


def panel_exposures(table: xr.Dataset) -> list[int]:
    """Exposures of the panels: the paper's, else the two largest."""
    found = set(table["exposures"].values.tolist())
    return [e for e in EXPOSURES if e in found] or sorted(found, reverse=True)[:2]


def join_lines(text: str) -> str:
    """Join the lines of an indented text to one line."""
    return " ".join(text.split())


def assign_styles(names: list[str]) -> dict[str, tuple[Any, str]]:
    """Colour and marker of each name; a sequential colormap for more names than colours."""
    if len(names) <= len(COLORS):
        colors: Any = COLORS
    else:
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
    return {name: (colors[i], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def format_log_axis(axis: Axis, span: float, formatter: mpl.ticker.Formatter) -> None:
    """Label a logarithmic axis with numbers instead of powers of ten."""
    steps = (1, 2, 5) if span < 200 else (1,)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def axis_label(quantity: xr.DataArray) -> str:
    """Long name and unit of a quantity; no unit if dimensionless."""
    return label_from_attrs(quantity).replace("\n", " ").removesuffix(" [1]")


def dataset_labels(models: xr.Dataset) -> dict[str, str]:
    """Legend label of each dataset, such as `bioS, N = 400`, sorted by N."""
    ordered = models.sortby("num_people")
    rows = dict(
        zip(
            ordered["knowledge"].values.tolist(),
            zip(
                ordered["kind"].values.tolist(), ordered["num_people"].values.tolist(), strict=True
            ),
            strict=True,
        )
    )
    labels = {name: f"{kind}, N = {num_people:,}" for name, (kind, num_people) in rows.items()}
    texts = list(labels.values())
    return {name: text if texts.count(text) == 1 else name for name, text in labels.items()}


def legend_handles(styles: dict[str, tuple[Any, str]]) -> list[mpl.lines.Line2D]:
    """Legend entries of named styles."""
    return [
        mpl.lines.Line2D([], [], color=color, marker=marker, linestyle="", label=name)
        for name, (color, marker) in styles.items()
    ]
