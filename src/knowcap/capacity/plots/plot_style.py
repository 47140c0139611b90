"""What figures have in common: colours, markers, axes and words."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from xarray.plot.utils import label_from_attrs

EXPOSURES = (1000, 100)
"""Numbers of exposures that are drawn side by side."""  # PAPER 4.1, 4.2: figures 1a and 1b.

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Told apart with any colour vision (Okabe and Ito)."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


class Drawing(NamedTuple):
    """A figure and what is to be read with it."""

    figure: Figure
    title: str
    caption: str


def panel_exposures(table: xr.Dataset) -> list[int]:
    """Exposures to draw side by side: the paper's, or the two largest of a study without them."""
    found = set(table["exposures"].values.tolist())
    return [e for e in EXPOSURES if e in found] or sorted(found, reverse=True)[:2]


def join_lines(text: str) -> str:
    """Join the lines of an indented text."""
    return " ".join(text.split())


def assign_styles(names: list[str]) -> dict[str, tuple[Any, str]]:
    """Give each name a colour and a marker; more names than colours share a sequence."""
    if len(names) <= len(COLORS):
        colors: Any = COLORS
    else:
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
    return {name: (colors[i], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def format_log_axis(axis: Axis, span: float, formatter: mpl.ticker.Formatter) -> None:
    """Write numbers rather than powers of ten, as many as there is room for."""
    steps = (1, 2, 5) if span < 200 else (1,)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def label(quantity: xr.DataArray) -> str:
    """Name and unit of a quantity, in one line and without the unit of plain numbers."""
    return label_from_attrs(quantity).replace("\n", " ").removesuffix(" [1]")


def legend_handles(styles: dict[str, tuple[Any, str]]) -> list[mpl.lines.Line2D]:
    """Entries of a legend."""
    return [
        mpl.lines.Line2D([], [], color=color, marker=marker, linestyle="", label=name)
        for name, (color, marker) in styles.items()
    ]
