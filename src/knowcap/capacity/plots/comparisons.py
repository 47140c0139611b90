"""Figures that compare capacity ratios, as the paper's figures 3 to 8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from knowcap.capacity.plots.plot_style import (
    ERROR_BAR,
    MARKER,
    Drawing,
    assign_styles,
    axis_label,
    format_log_axis,
    join_lines,
    legend_handles,
    panel_figure,
    widen_log_limits,
)

MAX_PANELS = 4
"""Largest number of panels; the exposures with most models are drawn."""

MIN_SPAN = 6
"""The axis of parameters spans at least this factor."""

MARGIN = 1.4
"""Factor between the limits of this axis and the smallest and largest model."""

SHIFT_POINTS = 6.5
"""Distance between the markers of groups that have models of equal size."""

EQUAL_SIZE = 1.05
"""Models are of about equal size if their parameters differ by less than this factor."""

CAPTION = join_lines(
    """Every marker is a model: the mean over seeds at the best learning rate. Bars show one
    standard deviation over seeds."""
)

CAPTION_LINES = "Lines join the highest models of one dataset."

CAPTION_SHIFTED = "Markers of models of about equal size are drawn beside each other."

CAPTION_CLAIMS = join_lines(
    """Dashes of a group's colour are the paper's claim for it: its factor times the R of the
    baseline."""
)


def draw_comparison(
    models: xr.Dataset,
    title: str,
    caption: str,
    *,
    baseline: str,
    factors: Mapping[tuple[str, int], float],
) -> Drawing:
    """Draw R against parameters, with one colour per group.

    Parameters
    ----------
    models
        As returned by :func:`knowcap.capacity.best_models.compared_models`, with the label
        ``group`` of each measurement.
    title, caption
        Of the figure.
    baseline
        Group that the others are compared with. If it has models of one number of exposures only,
        every panel shows them.
    factors
        R of a group relative to the baseline in the paper, by group and exposures.
    """
    names = dict.fromkeys([baseline, *models["group"].values.tolist()])
    styles = assign_styles(list(names))
    panels = _panels(models, baseline)
    in_all = len(set(models["exposures"].values[models["group"].values == baseline])) == 1
    figure, axes = panel_figure(len(panels), styles)
    is_shifted = is_joined = is_claimed = False
    for ax, exposures in zip(axes, panels, strict=True):
        is_shown = models["exposures"].values == exposures
        if in_all:
            is_shown |= models["group"].values == baseline
        panel = _with_shifts(models.isel(measurement=is_shown), list(styles))
        is_shifted |= bool((panel["shift"] != 0).any())
        for name, style in styles.items():
            group = panel.isel(measurement=panel["group"].values == name)
            for knowledge in dict.fromkeys(group["knowledge"].values.tolist()):
                curve = group.isel(measurement=group["knowledge"].values == knowledge)
                _draw_curve(ax, curve.sortby("num_params"), *style)
                is_joined |= not curve["shared"].values.any()
            factor = factors.get((name, exposures))
            if factor is not None and group.sizes["measurement"]:
                chosen = panel.isel(measurement=panel["group"].values == baseline)
                _draw_claim(ax, chosen, group, factor, style[0])
                is_claimed = True
        ax.set_title(f"{exposures:,} exposures")
        ax.set_xlabel(axis_label(models["num_params"]))
        ax.set_ylabel(axis_label(models["capacity_ratio"]))
        ax.grid(axis="y")
        ax.label_outer(remove_inner_ticks=False)
    _set_limits(axes, models)
    figure.legend(handles=legend_handles(styles), loc="outside right center")
    parts = [caption, CAPTION]
    parts += [CAPTION_LINES] if is_joined else []
    parts += [CAPTION_SHIFTED] if is_shifted else []
    parts += [CAPTION_CLAIMS] if is_claimed else []
    return Drawing(figure, title, " ".join(parts))


def _panels(models: xr.Dataset, baseline: str) -> list[int]:
    """Exposures of the panels, in increasing order: those of the groups that are compared."""
    others = models["exposures"].to_series()[models["group"].values != baseline]
    return sorted(int(number) for number in others.value_counts().index[:MAX_PANELS])


def _with_shifts(panel: xr.Dataset, groups: list[str]) -> xr.Dataset:
    """Add the horizontal ``shift`` of each model in points, and whether its size is ``shared``.

    A size is shared if another group has a model of it. The shift of others is 0.
    """
    frame = panel[["group", "num_params"]].to_dataframe()
    size = (np.log(frame["num_params"]) / np.log(EQUAL_SIZE)).round()
    shift, shared = np.zeros(len(frame)), np.zeros(len(frame), dtype=bool)
    for members in frame.groupby(size).indices.values():
        present = [name for name in groups if name in set(frame["group"].iloc[members])]
        shared[members] = len(present) > 1
        for member in members:
            index = present.index(frame["group"].iloc[member])
            shift[member] = SHIFT_POINTS * (index - (len(present) - 1) / 2)
    return panel.assign(shift=("measurement", shift), shared=("measurement", shared))


def _shifted(ax: Axes, points: float) -> Any:
    """Transform of data that is shifted to the right by some points."""
    figure = ax.get_figure()
    assert figure is not None
    return ax.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _draw_curve(ax: Axes, curve: xr.Dataset, color: Any, marker: str) -> None:
    """Draw the models of a group and dataset, and a line if no other group has their sizes."""
    mean, spread = (curve["capacity_ratio"].sel(statistic=s).values for s in ("mean", "sd"))
    params = curve["num_params"].values
    for index, shift in enumerate(curve["shift"].values):
        ax.errorbar(
            params[index], mean[index], yerr=np.nan_to_num(spread[index]), color=color,
            marker=marker, transform=_shifted(ax, shift), **MARKER, **ERROR_BAR,
        )  # fmt: skip
    if not curve["shared"].values.any():
        highest = _highest(curve)
        ax.plot(highest.index, highest, color=color, linewidth=0.8, zorder=1)


def _highest(curve: xr.Dataset) -> Any:
    """Highest mean R at each number of parameters."""
    mean = curve["capacity_ratio"].sel(statistic="mean").to_series()
    return mean.groupby(curve["num_params"].values).max()


def _draw_claim(
    ax: Axes, baseline: xr.Dataset, group: xr.Dataset, factor: float, color: Any
) -> None:
    """Draw the R of the baseline, times a factor, as dashes; beside it, if the group is."""
    for knowledge in dict.fromkeys(baseline["knowledge"].values.tolist()):
        curve = _highest(baseline.isel(measurement=baseline["knowledge"].values == knowledge))
        shifts = [_shift_at(group, params) for params in curve.index]
        for params, ratio, shift in zip(curve.index, factor * curve, shifts, strict=True):
            ax.plot(
                params, ratio, color=color, marker="_", markersize=11, markeredgewidth=1.3,
                zorder=1.5, transform=_shifted(ax, shift),
            )  # fmt: skip
        if not group["shared"].values.any():
            ax.plot(
                curve.index, factor * curve, color=color, linestyle=(0, (4, 2)), linewidth=0.9,
                zorder=1.5,
            )  # fmt: skip


def _shift_at(group: xr.Dataset, params: float) -> float:
    """Shift of the group's model of about this size; 0 if there is none."""
    distance = np.abs(np.log(group["num_params"].values / params))
    nearest = int(distance.argmin())
    return float(group["shift"][nearest]) if distance[nearest] < np.log(EQUAL_SIZE) else 0.0


def _set_limits(axes: list[Axes], models: xr.Dataset) -> None:
    """Set limits: R from zero, and parameters over a natural span."""
    params = models["num_params"].values
    limits = widen_log_limits((params.min() / MARGIN, params.max() * MARGIN), MIN_SPAN)
    mean, spread = (models["capacity_ratio"].sel(statistic=s) for s in ("mean", "sd"))
    low, high = float((mean - spread).min()), float((mean + spread).max())
    for ax in axes:
        ax.set(xscale="log", xlim=limits, ylim=(1.1 * min(0, low), 1.1 * high))
        format_log_axis(ax.xaxis, mpl.ticker.EngFormatter(sep=""))
