"""One function for each figure: from labelled data to a drawing with its title and caption."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from xarray.plot.utils import label_from_attrs

RATIO_LINES = (0.5, 1.0, 2.0)
"""Bits per parameter that are drawn for orientation."""  # PAPER 4.1: figure 1.

EXPOSURES = (1000, 100)
"""Numbers of exposures that are drawn side by side."""  # PAPER 4.1, 4.2: figures 1a and 1b.

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Told apart with any colour vision (Okabe and Ito)."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")

VERDICT_COLORS = {"reproduced": "#009E73", "contradicted": "#D55E00", "inconclusive": "#777777"}


class Drawing(NamedTuple):
    """A figure and what is to be read with it."""

    figure: Figure
    title: str
    caption: str


def draw_capacity(table: xr.Dataset, scale: str) -> Drawing:
    """Draw bits against parameters, at 1000 and at 100 exposures."""
    panels = _panels(table)
    figure = Figure(figsize=(4.3 * len(panels) + 1.5, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    shapes = table.sortby("num_people")["knowledge"].values
    looks = _looks(list(dict.fromkeys(shapes.tolist())))
    for ax, exposures in zip(axes, panels, strict=True):
        here = table.isel(measurement=table["exposures"].values == exposures)
        for knowledge, (color, marker) in looks.items():
            group = here.isel(measurement=here["knowledge"].values == knowledge)
            if group.sizes["measurement"]:
                _draw_models(ax, group.sortby("num_params"), color, marker)
        ax.set_title(f"{exposures} exposures", loc="left")
        ax.set_xlabel(_label(table["num_params"]))
    axes[0].set_ylabel(_label(table["bits"]))
    _draw_offers(axes, table, looks)
    _draw_ratio_lines(axes)
    handles = [
        mpl.lines.Line2D([], [], color=color, marker=marker, linestyle="", label=knowledge)
        for knowledge, (color, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside right center")
    return Drawing(
        figure,
        f"Knowledge stored against size: {scale}",
        _paragraph(
            """Each mark is a model, the mean of its seeds at their best learning rate; bars are
            one standard deviation of seeds, where larger than the mark. Grey lines are equal bits
            per parameter. Dotted lines are all the knowledge on offer: no model can be above that
            of its colour, and one that touches it knows everything."""
        ),
    )


def _panels(table: xr.Dataset) -> list[int]:
    """Exposures to draw side by side: the paper's, or the two largest of a study without them."""
    found = set(table["exposures"].values.tolist())
    return [e for e in EXPOSURES if e in found] or sorted(found, reverse=True)[:2]


def _paragraph(text: str) -> str:
    """Join the lines of an indented text."""
    return " ".join(text.split())


def _looks(names: list[str]) -> dict[str, tuple[Any, str]]:
    """Give each name a colour and a marker; more names than colours share a sequence."""
    if len(names) <= len(COLORS):
        colors: Any = COLORS
    else:
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
    return {name: (colors[i], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _draw_models(ax: Axes, group: xr.Dataset, color: Any, marker: str) -> None:
    mean, spread = (group["bits"].sel(statistic=s) for s in ("mean", "sd"))
    ax.errorbar(
        group["num_params"], mean, yerr=spread.fillna(0), color=color, marker=marker,
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, linewidth=0.8,
        elinewidth=1, capsize=2,
    )  # fmt: skip


def _draw_offers(axes: Any, table: xr.Dataset, looks: dict[str, tuple[Any, str]]) -> None:
    """Draw what each shape of knowledge offers, in its colour."""
    offers = table["max_bits"].values
    for knowledge, (color, _) in looks.items():
        bits = offers[table["knowledge"].values == knowledge].max()
        for ax in axes:
            ax.axhline(bits, color=color, linestyle=":", linewidth=1, zorder=0)


def _draw_ratio_lines(axes: Any) -> None:
    """Draw lines of equal bits per parameter on logarithmic axes, labelled where they leave."""
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.margins(0.1)
    (left, right), (bottom, top) = axes[0].get_xlim(), axes[0].get_ylim()
    for ax in axes:
        for ratio in RATIO_LINES:
            ax.plot(
                [left, right], [ratio * left, ratio * right], color="#bbbbbb", linewidth=0.8,
                zorder=0, scalex=False, scaley=False,
            )  # fmt: skip
        ax.set(xlim=(left, right), ylim=(bottom, top))
        for axis, span in ((ax.xaxis, right / left), (ax.yaxis, top / bottom)):
            _label_logarithms(axis, span, mpl.ticker.EngFormatter(sep=""))
    for ratio in RATIO_LINES:
        end = min(right, top / ratio)
        if end > left and end * ratio > bottom:
            at_right = end == right
            axes[-1].annotate(
                f"R = {ratio:g}", (end, end * ratio),
                xytext=(4, 0) if at_right else (0, 2), textcoords="offset points",
                ha="left" if at_right else "center", va="center" if at_right else "bottom",
                fontsize=7.5, color="#777777",
            )  # fmt: skip


def _label_logarithms(axis: Axis, span: float, formatter: mpl.ticker.Formatter) -> None:
    """Write numbers rather than powers of ten, as many as there is room for."""
    steps = (1, 2, 5) if span < 200 else (1,)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def _label(quantity: xr.DataArray) -> str:
    """Name and unit of a quantity, in one line and without the unit of plain numbers."""
    return label_from_attrs(quantity).replace("\n", " ").removesuffix(" [1]")


def draw_shares(table: xr.Dataset, scale: str) -> Drawing:
    """Draw which share of names and of each attribute is known, against what was offered."""
    kinds = list(dict.fromkeys(table["kind"].values.tolist()))
    exposures = _panels(table)
    figure = Figure(
        figsize=(4.3 * len(exposures) + 1.5, 0.4 + 3.2 * len(kinds)), layout="constrained"
    )
    grid = figure.subplots(len(kinds), len(exposures), sharex=True, sharey=True, squeeze=False)
    for axes, kind in zip(grid, kinds, strict=True):
        group = table.isel(measurement=table["kind"].values == kind)
        parts = _shares(group)
        looks = _looks(list(parts))
        for ax, number in zip(axes, exposures, strict=True):
            here = group["exposures"].values == number
            offered = group["max_capacity_ratio"].values[here]
            for part, (color, marker) in looks.items():
                ax.plot(
                    offered, parts[part].values[here], color=color, marker=marker, markersize=4.5,
                    markeredgecolor="white", markeredgewidth=0.4, linestyle="", label=part,
                )  # fmt: skip
            ax.set_title(f"{kind}, {number} exposures", loc="left")
        axes[0].set_ylabel("share known")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for ax in grid[-1]:
        ax.set_xlabel(_label(table["max_capacity_ratio"]))
    _draw_full_models(grid.ravel(), table["max_capacity_ratio"])
    return Drawing(
        figure,
        f"What is known first: {scale}",
        _paragraph(
            """The share that a model knows of the names and of each attribute, against the bits
            that its corpus offers per parameter. Grey lines are models that store one and two
            bits per parameter, or all there is. Below zero a model is surer of wrong answers
            than one that guesses."""
        ),
    )


def _draw_full_models(axes: Any, max_ratio: xr.DataArray) -> None:
    """Draw the share that a model has which stores 1 or 2 bits per parameter, if there are any."""
    offered = np.geomspace(0.8 * float(max_ratio.min()), 1.25 * float(max_ratio.max()), 200)
    for ax in axes:
        for ratio in (1, 2):
            ax.plot(
                offered, np.minimum(1, ratio / offered), color="#bbbbbb", linewidth=0.8, zorder=0
            )
        ax.set_xscale("log")
        _label_logarithms(
            ax.xaxis, offered[-1] / offered[0], mpl.ticker.StrMethodFormatter("{x:g}")
        )


def _shares(group: xr.Dataset) -> dict[str, xr.DataArray]:
    """Share known of each part; the attributes of bioD are alike and stand together."""
    stored = group["bits_by_term"].sel(statistic="mean")
    shares = stored / group["max_bits_by_term"].where(group["max_bits_by_term"] > 0)
    parts = {"name": shares.sel(term="name")}
    if (group["kind"] == "bioD").any():
        parts |= {"values": shares.sel(term="value"), "chunks": shares.sel(term="diversity")}
    else:
        stored = group["bits_by_attribute"].sel(statistic="mean")
        by_attribute = (stored / group["max_bits_by_attribute"]).dropna("attribute", how="all")
        parts |= {
            str(name).replace("_", " "): by_attribute.sel(attribute=name)
            for name in by_attribute["attribute"].values
        }
    return {name: share for name, share in parts.items() if share.notnull().any()}


def draw_laws(laws: xr.Dataset) -> Drawing:
    """Draw every quantity of the laws with its interval, relative to the paper's value."""
    columns = [name for name, variable in laws.data_vars.items() if variable.dims == ("row",)]
    rows = laws[columns].to_dataframe()
    rows = rows[(rows["subset"] == "") & rows["estimate"].notna()]
    scales = list(dict.fromkeys(rows["scale"]))
    counts = [int((rows["scale"] == scale).sum()) for scale in scales]
    figure = Figure(figsize=(9, 0.8 + 0.5 * len(scales) + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots(len(scales), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
    ends = rows[["estimate", "lower", "upper"]].div(rows["paper_value"], axis="index").to_numpy()
    axes[0].set_xlim(min(0.5, 0.95 * np.nanmin(ends)), max(1.4, 1.05 * np.nanmax(ends)))
    for ax, scale in zip(axes, scales, strict=True):
        _draw_quantities(ax, rows[rows["scale"] == scale].to_dict("records"))
        ax.set_title(scale, loc="left")
    axes[-1].set_xlabel("measured, relative to the paper's value")
    handles = [
        mpl.lines.Line2D([], [], color=color, marker="o", markeredgecolor="white", label=verdict)
        for verdict, color in VERDICT_COLORS.items()
        if verdict in set(rows["verdict"])
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return Drawing(
        figure,
        "Verdicts",
        _paragraph(
            """Each quantity of each law with its 95 % interval, relative to the paper's value.
            The shaded range agrees with the claim: an interval inside it reproduces the claim,
            one outside contradicts it, one across its edge does neither."""
        ),
    )


def _draw_quantities(ax: Axes, rows: list[dict[Any, Any]]) -> None:
    """Draw estimates with intervals, one below the other, over the ranges that agree."""
    ax.axvline(1, color="#bbbbbb", linewidth=1, zorder=0)
    for place, row in enumerate(rows):
        paper, color = row["paper_value"], VERDICT_COLORS[row["verdict"]]
        margin = row["margin"] / paper
        upper = ax.get_xlim()[1] if row["claim"].startswith("at least") else 1 + margin
        ax.barh(place, upper - 1 + margin, left=1 - margin, height=0.72, color="#e8eef4", zorder=-1)
        ax.plot([row["lower"] / paper, row["upper"] / paper], [place] * 2, color=color, linewidth=2)
        ax.plot(row["estimate"] / paper, place, "o", color=color, markeredgecolor="white")
    labels = [textwrap.fill(f"{row['law']}: {row['quantity']}", 52) for row in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(axis="y", length=0, labelsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
