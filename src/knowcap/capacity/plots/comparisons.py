"""Capacity ratios of models that differ in one condition, as in the paper's figures 3 to 8."""

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
)

MAX_PANELS = 4
"""Numbers of exposures side by side, at most; those with most models."""


def draw_comparison(models: xr.Dataset, title: str, caption: str) -> Drawing:
    """Draw R against parameters, in the colour of each model's condition.

    Parameters
    ----------
    models
        What :func:`knowcap.capacity.figures.best_models` returns, with ``condition``, a text
        for each measurement.
    title, caption
        Of the figure.
    """
    panels = _panels(models)
    figure = Figure(figsize=(3.4 * len(panels) + 2.2, 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    styles = assign_styles(list(dict.fromkeys(models["condition"].values.tolist())))
    for ax, exposures in zip(axes, panels, strict=True):
        here = models.isel(measurement=models["exposures"].values == exposures)
        for condition, (color, marker) in styles.items():
            group = here.isel(measurement=here["condition"].values == condition)
            for knowledge in dict.fromkeys(group["knowledge"].values.tolist()):
                curve = group.isel(measurement=group["knowledge"].values == knowledge)
                _draw_curve(ax, curve.sortby("num_params"), color, marker)
        ax.set_title(f"{exposures} exposures", loc="left")
        ax.set_xlabel(label(models["num_params"]))
        ax.set_xscale("log")
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        ax.set_axisbelow(True)
    axes[0].set_ylabel(label(models["capacity_ratio"]))
    for ax in axes:
        left, right = ax.get_xlim()
        if right / left < 2:
            ax.set_xlim(left / 1.5, right * 1.5)
        left, right = ax.get_xlim()
        format_log_axis(ax.xaxis, right / left, mpl.ticker.EngFormatter(sep=""))
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    figure.legend(handles=legend_handles(styles), loc="outside right center")
    common = join_lines(
        """Each mark is a model, the mean of its seeds at their best learning rate; bars are one
        standard deviation of seeds. Lines join the highest of those that were offered the same
        knowledge."""
    )
    return Drawing(figure, title, f"{caption} {common}")


def _panels(models: xr.Dataset) -> list[int]:
    """Exposures to draw side by side, from few to many."""
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
