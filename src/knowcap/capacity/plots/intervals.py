"""Figures of the quantities of laws, with their intervals and accepted ranges."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import DARK_GREY, GREY, MARKER, Drawing, join_lines

VERDICT_COLORS = {
    "reproduced": "#009E73", "contradicted": "#D55E00", "inconclusive": DARK_GREY,
    "not testable here": GREY,
}  # fmt: skip

LIMITS = (0.1, 10.0)
"""Smallest and largest ratio to the paper's value; what lies beyond is drawn as an arrow."""

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)

WIDTH, ROW_INCHES, CHARACTERS = 9.0, 0.36, 56
"""Width of the figure, height of a row, and characters of a line of its label."""

CAPTION = join_lines(
    """Intervals of 95 % and estimates, divided by the paper's value. Shaded is the range that
    agrees with the claim: an interval inside it reproduces the claim, an interval outside
    contradicts it. Thin lines show the range of the estimates when each cell is left out. Open
    markers are not evidence, as a precondition of the test fails. Arrows end beyond the axis."""
)


def draw_laws(laws: xr.Dataset) -> Drawing:
    """Draw the primary quantities of all laws, relative to the paper's values."""
    rows = _rows(laws)
    return _draw(rows[rows["primary"]], "Verdicts on the primary quantities of the laws")


def draw_effects(laws: xr.Dataset, law: int, scale: str) -> Drawing:
    """Draw all quantities of one law, relative to the paper's values."""
    rows = _rows(laws)
    rows = rows[(rows["law"] == law) & (rows["scale"] == scale)]
    return _draw(rows, f"Differences between LLaMA and GPT2: {scale}")


def _rows(laws: xr.Dataset) -> pd.DataFrame:
    """Quantities that have an estimate; all columns but the text are divided by the claim."""
    columns = [name for name, variable in laws.data_vars.items() if variable.dims == ("row",)]
    rows = laws[columns].to_dataframe()
    rows = rows[(rows["subset"] == "") & rows["estimate"].notna()]
    ends = ["estimate", "lower", "upper", "accepted_lower", "accepted_upper"]
    ends += ["leave_one_out_lower", "leave_one_out_upper"]
    return rows.assign(**{name: rows[name] / rows["paper_value"] for name in ends})


def _draw(rows: pd.DataFrame, title: str) -> Drawing:
    """Draw rows of quantities, with one panel per scale."""
    scales = list(dict.fromkeys(rows["scale"]))
    counts = [int((rows["scale"] == scale).sum()) for scale in scales]
    height = 0.9 + 0.4 * len(scales) + ROW_INCHES * len(rows)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(scales), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
    axes[0].set(xscale="log", xlim=LIMITS)
    axes[0].set_xticks(TICKS)
    axes[0].xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axes[0].xaxis.set_minor_locator(mpl.ticker.NullLocator())
    for ax, scale in zip(axes, scales, strict=True):
        _draw_quantities(ax, rows[rows["scale"] == scale].to_dict("records"))
        if len(scales) > 1:
            ax.set_title(scale)
    axes[-1].set_xlabel("measured / paper's value")
    handles = [
        mpl.lines.Line2D([], [], label=verdict, **_marker(verdict))
        for verdict in VERDICT_COLORS
        if verdict in set(rows["verdict"])
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(VERDICT_COLORS))
    return Drawing(figure, title, CAPTION)


def _marker(verdict: str) -> dict[str, Any]:
    """Style of the marker and interval of a verdict."""
    style: dict[str, Any] = MARKER | {"color": VERDICT_COLORS[verdict], "marker": "o"}
    if verdict == "not testable here":
        style |= {"markerfacecolor": "white", "markeredgecolor": DARK_GREY}
    return style


def _draw_quantities(ax: Axes, rows: list[dict[Any, Any]]) -> None:
    """Draw the intervals of one scale below one another, over their accepted ranges."""
    ax.axvline(1, color=GREY, linewidth=1, zorder=0)
    for position, row in enumerate(rows):
        style = _marker(row["verdict"])
        left, right = _clip(row["accepted_lower"]), _clip(row["accepted_upper"])
        ax.barh(position, right - left, left=left, height=0.72, color="#e8eef4", zorder=-1)
        _draw_line(ax, position, row["leave_one_out_lower"], row["leave_one_out_upper"],
                   color=style["color"], linewidth=0.8)  # fmt: skip
        _draw_line(ax, position, row["lower"], row["upper"], color=style["color"], linewidth=2)
        for name, side in (("lower", "<"), ("upper", ">")):
            if not np.isnan(row[name]) and _clip(row[name]) != row[name]:
                ax.plot(_clip(row[name]), position, side, color=style["color"], markersize=6,
                        clip_on=False)  # fmt: skip
        if _clip(row["estimate"]) == row["estimate"]:
            ax.plot(row["estimate"], position, linestyle="", **style)
    labels = [textwrap.fill(f"{row['law']}: {row['quantity']}", CHARACTERS) for row in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _draw_line(ax: Axes, position: int, lower: float, upper: float, **style: Any) -> None:
    ax.plot([_clip(lower), _clip(upper)], [position] * 2, **style)


def _clip(value: float) -> float:
    return float(np.clip(value, *LIMITS))
