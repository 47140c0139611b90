"""Figures that compare capacity ratios, as the paper's figures 3 to 8."""

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
    format_log_axis,
    join_lines,
    legend_handles,
)

MAX_PANELS = 4
"""Largest number of panels; the exposures with most models are drawn."""


def draw_comparison(models: xr.Dataset, title: str, caption: str) -> Drawing:
    """Draw R against parameters, with one colour per group.

    Parameters
    ----------
    models
        As returned by :func:`knowcap.capacity.figures.compared_models`, with the label ``group``
        of each measurement.
    title, caption
        Of the figure.
    """
    panels = _panels(models)
    figure = Figure(figsize=(3.4 * len(panels) + 2.2, 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    styles = assign_styles(list(dict.fromkeys(models["group"].values.tolist())))
    for ax, exposures in zip(axes, panels, strict=True):
        panel = models.isel(measurement=models["exposures"].values == exposures)
        for name, (color, marker) in styles.items():
            group = panel.isel(measurement=panel["group"].values == name)
            for knowledge in dict.fromkeys(group["knowledge"].values.tolist()):
                curve = group.isel(measurement=group["knowledge"].values == knowledge)
                _draw_curve(ax, curve.sortby("num_params"), color, marker)
        ax.set_title(f"{exposures} exposures", loc="left")
        ax.set_xlabel(axis_label(models["num_params"]))
        ax.set_xscale("log")
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
    axes[0].set_ylabel(axis_label(models["capacity_ratio"]))
    for ax in axes:
        left, right = ax.get_xlim()
        if right / left < 2:
            ax.set_xlim(left / 1.5, right * 1.5)
        left, right = ax.get_xlim()
        format_log_axis(ax.xaxis, right / left, mpl.ticker.EngFormatter(sep=""))
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    figure.legend(handles=legend_handles(styles), loc="outside right center")
    common = join_lines(
        """Every marker is a model: the mean over seeds at the best learning rate. Bars show one
        standard deviation over seeds. Lines join the highest models of one dataset."""
    )
    return Drawing(figure, title, f"{caption} {common}")


def _panels(models: xr.Dataset) -> list[int]:
    """Exposures of the panels, in increasing order."""
    numbers = models["exposures"].to_series().value_counts()
    return sorted(int(number) for number in numbers.index[:MAX_PANELS])


def _draw_curve(ax: Axes, curve: xr.Dataset, color: Any, marker: str) -> None:
    mean, spread = (curve["capacity_ratio"].sel(statistic=s) for s in ("mean", "sd"))
    ax.errorbar(
        curve["num_params"], mean, yerr=spread.fillna(0), color=color, marker=marker,
        markersize=5, markeredgecolor="white", markeredgewidth=0.5, linestyle="",
        elinewidth=1, capsize=2,
    )  # fmt: skip
    highest = mean.to_series().groupby(curve["num_params"].values).max()
    ax.plot(highest.index, highest, color=color, linewidth=0.8, zorder=1)
