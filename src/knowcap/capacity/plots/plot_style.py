"""Style shared by all figures: matplotlib settings, sizes, colours, markers, axes and labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from xarray.plot.utils import label_from_attrs

FONT_SIZE = 9

RC_PARAMS: Any = {
    "svg.hashsalt": "knowcap",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, which drawing programs can edit
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}
"""Settings of matplotlib. All texts have one size, so that figures of any width look alike."""

MAX_WIDTH = 10.0
"""Widest figure in inches: the text width of the report. No figure is scaled to fit."""

PANEL_SIZE = (3.3, 3.0)
"""Width and height of a panel in inches, with its labels."""

INCHES_PER_CHARACTER = 0.075

EXPOSURES = (1000, 100)
"""Numbers of exposures that are drawn side by side."""  # PAPER 4.1, 4.2: figures 1a and 1b.

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Colours that are distinct for all kinds of colour vision (Okabe and Ito)."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")

GREY, DARK_GREY = "#bbbbbb", "#777777"

MARKER: Any = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
ERROR_BAR: Any = {"elinewidth": 1, "capsize": 2, "linestyle": ""}

Style = tuple[Any, str]
"""Colour and marker."""


class Drawing(NamedTuple):
    """A figure with its title and caption."""

    figure: Figure
    title: str
    caption: str


def panel_figure(num_panels: int, legend: Iterable[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with equal panels of natural size and room for a legend at the right.

    Parameters
    ----------
    num_panels
        Panels are placed side by side, in several rows if they are wider than the report.
    legend
        Labels of the legend.
    """
    width, height = PANEL_SIZE
    legend_width = 0.5 + INCHES_PER_CHARACTER * max(map(len, legend), default=0)
    num_columns = min(num_panels, max(1, int((MAX_WIDTH - legend_width) / width)))
    num_rows = math.ceil(num_panels / num_columns)
    figure = Figure(
        figsize=(width * num_columns + legend_width, height * num_rows), layout="constrained"
    )
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.ravel())
    for index in range(num_panels, len(axes)):
        axes[index].remove()
        axes[index - num_columns].tick_params(labelbottom=True)
    return figure, axes[:num_panels]


def panel_exposures(table: xr.Dataset) -> list[int]:
    """Exposures of the panels: the paper's, else the two largest."""
    found = set(table["exposures"].values.tolist())
    return [e for e in EXPOSURES if e in found] or sorted(found, reverse=True)[:2]


def join_lines(text: str) -> str:
    """Join the lines of an indented text to one line."""
    return " ".join(text.split())


def assign_styles(names: list[str]) -> dict[str, Style]:
    """Colour and marker of each name; a sequential colormap for more names than colours."""
    colors = spread_colors(len(names))
    return {name: (colors[i], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def spread_colors(count: int) -> Any:
    """Distinct colours, or colours of a sequential colormap if there are not enough of them."""
    if count <= len(COLORS):
        return COLORS
    return mpl.colormaps["viridis"](np.linspace(0, 0.92, count))


def widen_log_limits(limits: tuple[float, float], factor: float) -> tuple[float, float]:
    """Limits of a logarithmic axis that span at least a factor, with the same middle.

    Values that differ little look equal then; an axis that is fitted to them would show noise.
    """
    low, high = limits
    missing = factor / (high / low)
    return (low, high) if missing <= 1 else (low / missing**0.5, high * missing**0.5)


def format_log_axis(axis: Axis, formatter: mpl.ticker.Formatter) -> None:
    """Label a logarithmic axis with numbers instead of powers of ten."""
    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high / low < 200 else (1,)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def axis_label(quantity: xr.DataArray) -> str:
    """Long name and unit of a quantity; no unit if dimensionless."""
    return label_from_attrs(quantity).replace("\n", " ").removesuffix(" [1]")


def legend_handles(styles: dict[str, Style]) -> list[mpl.lines.Line2D]:
    """Legend entries of named styles."""
    return [
        mpl.lines.Line2D([], [], color=color, marker=marker, linestyle="", label=name, **MARKER)
        for name, (color, marker) in styles.items()
    ]
