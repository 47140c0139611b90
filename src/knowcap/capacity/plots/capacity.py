"""Knowledge stored against size, as in the paper's figure 1."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import (
    Drawing,
    assign_styles,
    format_log_axis,
    join_lines,
    label,
    legend_handles,
    panel_exposures,
)

RATIO_LINES = (0.5, 1.0, 2.0)
"""Bits per parameter that are drawn for orientation."""  # PAPER 4.1: figure 1.


def draw_capacity(table: xr.Dataset, scale: str) -> Drawing:
    """Draw bits against parameters, at 1000 and at 100 exposures."""
    panels = panel_exposures(table)
    figure = Figure(figsize=(4.3 * len(panels) + 1.5, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    shapes = table.sortby("num_people")["knowledge"].values
    styles = assign_styles(list(dict.fromkeys(shapes.tolist())))
    for ax, exposures in zip(axes, panels, strict=True):
        here = table.isel(measurement=table["exposures"].values == exposures)
        for knowledge, (color, marker) in styles.items():
            group = here.isel(measurement=here["knowledge"].values == knowledge)
            if group.sizes["measurement"]:
                _draw_models(ax, group.sortby("num_params"), color, marker)
        ax.set_title(f"{exposures} exposures", loc="left")
        ax.set_xlabel(label(table["num_params"]))
    axes[0].set_ylabel(label(table["bits"]))
    _draw_offers(axes, table, styles)
    _draw_ratio_lines(axes)
    figure.legend(handles=legend_handles(styles), loc="outside right center")
    return Drawing(
        figure,
        f"Knowledge stored against size: {scale}",
        join_lines(
            """Each mark is a model, the mean of its seeds at their best learning rate; bars are
            one standard deviation of seeds, where larger than the mark. Grey lines are equal bits
            per parameter. Dotted lines are all the knowledge on offer: no model can be above that
            of its colour, and one that touches it knows everything."""
        ),
    )


def _draw_models(ax: Axes, group: xr.Dataset, color: Any, marker: str) -> None:
    mean, spread = (group["bits"].sel(statistic=s) for s in ("mean", "sd"))
    ax.errorbar(
        group["num_params"], mean, yerr=spread.fillna(0), color=color, marker=marker,
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, linewidth=0.8,
        elinewidth=1, capsize=2,
    )  # fmt: skip


def _draw_offers(axes: Any, table: xr.Dataset, styles: dict[str, tuple[Any, str]]) -> None:
    """Draw what each shape of knowledge offers, in its colour."""
    offers = table["max_bits"].values
    for knowledge, (color, _) in styles.items():
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
            format_log_axis(axis, span, mpl.ticker.EngFormatter(sep=""))
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
