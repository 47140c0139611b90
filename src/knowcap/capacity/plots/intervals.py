"""Figures of the quantities of laws, with their intervals and accepted ranges."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import Drawing, join_lines

VERDICT_COLORS = {
    "reproduced": "#009E73", "contradicted": "#D55E00", "inconclusive": "#777777",
    "not testable here": "#bbbbbb",
}  # fmt: skip


def draw_laws(laws: xr.Dataset) -> Drawing:
    """Draw every quantity with its interval, relative to the paper's value."""
    columns = [name for name, variable in laws.data_vars.items() if variable.dims == ("row",)]
    rows = laws[columns].to_dataframe()
    rows = rows[(rows["subset"] == "") & rows["estimate"].notna()]
    scales = list(dict.fromkeys(rows["scale"]))
    counts = [int((rows["scale"] == scale).sum()) for scale in scales]
    figure = Figure(figsize=(9, 0.8 + 0.5 * len(scales) + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots(len(scales), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
    rows["margin"] = np.fmin(
        rows["paper_value"] - rows["accepted_lower"].replace(-np.inf, np.nan),
        rows["accepted_upper"].replace(np.inf, np.nan) - rows["paper_value"],
    )
    ends = (rows[["estimate", "lower", "upper"]].sub(rows["paper_value"], axis="index")).div(
        rows["margin"], axis="index"
    )
    left, right = min(-4, 1.3 * np.nanmin(ends)), max(4, 1.3 * np.nanmax(ends))
    # Linear near the accepted range, logarithmic beyond.
    axes[0].set_xscale("symlog", linthresh=4)
    ticks = [side * tick for tick in (0, 1, 2, 4, 10, 40, 200) for side in (-1, 1)]
    axes[0].set_xticks([tick for tick in ticks if left <= tick <= right])
    axes[0].set_xlim(left, right)
    axes[0].xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    for ax, scale in zip(axes, scales, strict=True):
        _draw_quantities(ax, rows[rows["scale"] == scale].to_dict("records"))
        ax.set_title(scale, loc="left")
    axes[-1].set_xlabel("(measured - paper's value) / margin")
    handles = [
        mpl.lines.Line2D([], [], color=color, marker="o", markeredgecolor="white", label=verdict)
        for verdict, color in VERDICT_COLORS.items()
        if verdict in set(rows["verdict"])
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=4)
    return Drawing(
        figure,
        "Verdicts",
        join_lines(
            """Difference of every quantity to the paper's value, in units of its margin, with 95 %
            intervals. The axis is linear up to 4 and logarithmic beyond. The shaded range agrees
            with the claim: an interval inside it reproduces the claim, an interval outside
            contradicts it, and any other is inconclusive."""
        ),
    )


def _draw_quantities(ax: Axes, rows: list[dict[Any, Any]]) -> None:
    """Draw the intervals of one scale below one another, over their accepted ranges."""
    ax.axvline(0, color="#bbbbbb", linewidth=1, zorder=0)
    ends = ax.get_xlim()
    for position, row in enumerate(rows):
        color = VERDICT_COLORS[row["verdict"]]
        left, right = (
            np.clip((row[f"accepted_{side}"] - row["paper_value"]) / row["margin"], *ends)
            for side in ("lower", "upper")
        )
        ax.barh(position, right - left, left=left, height=0.72, color="#e8eef4", zorder=-1)
        value, lower, upper = (
            (row[name] - row["paper_value"]) / row["margin"]
            for name in ("estimate", "lower", "upper")
        )
        ax.plot([lower, upper], [position] * 2, color=color, linewidth=2)
        ax.plot(value, position, "o", color=color, markeredgecolor="white")
    labels = [textwrap.fill(f"{row['law']}: {row['quantity']}", 52) for row in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(axis="y", length=0, labelsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def draw_effects(laws: xr.Dataset, law: int, scale: str) -> Drawing:
    """Draw the factors of one law with their intervals and accepted ranges."""
    columns = [name for name, variable in laws.data_vars.items() if variable.dims == ("row",)]
    frame = laws[columns].to_dataframe()
    frame = frame[(frame["law"] == law) & (frame["scale"] == scale) & (frame["subset"] == "")]
    rows = frame[frame["estimate"].notna()].to_dict("records")
    figure = Figure(figsize=(7.5, 1.1 + 0.45 * len(rows)), layout="constrained")
    ax = figure.subplots()
    ax.use_sticky_edges = False
    ax.axvline(1, color="#bbbbbb", linewidth=1, zorder=0)
    for position, row in enumerate(rows):
        color = VERDICT_COLORS[row["verdict"]]
        ax.barh(
            position, row["accepted_upper"] - row["accepted_lower"], left=row["accepted_lower"],
            height=0.6,
            color="#e8eef4", zorder=-1,
        )  # fmt: skip
        ax.plot([row["lower"], row["upper"]], [position] * 2, color=color, linewidth=2)
        ax.plot(row["estimate"], position, "o", color=color, markeredgecolor="white")
    names = [row["quantity"].removeprefix("factor on R of ") for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("factor on the capacity ratio R")
    return Drawing(
        figure,
        f"Differences between LLaMA and GPT2: {scale}",
        join_lines(
            """Factor on the capacity ratio of each difference between tied LLaMA and GPT2, the
            other differences being equal, with 95 % intervals of a regression on all of them. The
            shaded ranges agree with the claims."""
        ),
    )
