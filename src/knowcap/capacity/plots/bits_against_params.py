"""Figure of stored bits against parameters, as figure 1 of the paper."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import (
    Drawing,
    assign_styles,
    axis_label,
    dataset_labels,
    format_log_axis,
    join_lines,
    legend_handles,
    panel_exposures,
)

RATIO_LINES = (0.5, 1.0, 2.0)
"""Bits per parameter of the grey lines."""  # PAPER 4.1: figure 1.


def draw_capacity(table: xr.Dataset, scale: str) -> Drawing:
    """Draw bits against parameters, one panel per number of exposures."""
    panels = panel_exposures(table)
    figure = Figure(figsize=(4.3 * len(panels) + 1.5, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    labels = dataset_labels(table)
    styles = assign_styles(list(labels))
    for ax, exposures in zip(axes, panels, strict=True):
        panel = table.isel(measurement=table["exposures"].values == exposures)
        for knowledge, (color, marker) in styles.items():
            group = panel.isel(measurement=panel["knowledge"].values == knowledge)
            if group.sizes["measurement"]:
                _draw_models(ax, group.sortby("num_params"), color, marker)
        ax.set_title(f"{exposures} exposures", loc="left")
        ax.set_xlabel(axis_label(table["num_params"]))
    axes[0].set_ylabel(axis_label(table["bits"]))
    _draw_max_bits(axes, table, styles)
    _draw_ratio_lines(axes)
    named = {labels[name]: style for name, style in styles.items()}
    figure.legend(handles=legend_handles(named), loc="outside right center")
    return Drawing(
        figure,
        f"Stored knowledge against model size: {scale}",
        join_lines(
            """Every marker is a model: the mean over seeds at the best learning rate. Bars show one
            standard deviation over seeds if it is larger than the marker. Grey lines show constant
            bits per parameter. Dotted lines show all bits of the dataset of that colour; a model on
            its dotted line knows everything."""
        ),
    )


def _draw_models(ax: Axes, group: xr.Dataset, color: Any, marker: str) -> None:
    mean, spread = (group["bits"].sel(statistic=s) for s in ("mean", "sd"))
    ax.errorbar(
        group["num_params"], mean, yerr=spread.fillna(0), color=color, marker=marker,
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, linewidth=0.8,
        elinewidth=1, capsize=2,
    )  # fmt: skip


def _draw_max_bits(axes: Any, table: xr.Dataset, styles: dict[str, tuple[Any, str]]) -> None:
    """Draw all bits of each dataset as a dotted line in its colour."""
    max_bits = table["max_bits"].values
    for knowledge, (color, _) in styles.items():
        bits = max_bits[table["knowledge"].values == knowledge].max()
        for ax in axes:
            ax.axhline(bits, color=color, linestyle=":", linewidth=1, zorder=0)


def _draw_ratio_lines(axes: Any) -> None:
    """Draw labelled lines of constant bits per parameter on logarithmic axes."""
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
