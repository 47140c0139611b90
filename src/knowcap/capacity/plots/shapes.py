"""Figure of capacity ratios by shape of bioD, as the paper's figure 2."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import COLORS, Drawing, axis_label, join_lines
from knowcap.capacity.table_columns import BIOD_SHAPE, LABELS


def varied_parameters(models: xr.Dataset) -> list[str]:
    """Columns of the parameters that some models vary alone, from the most common shape."""
    frame = _frame(models)
    return [name for name in BIOD_SHAPE if len(_panel(frame, name)) > 0]


def draw_shapes(models: xr.Dataset, scale: str) -> Drawing:
    """Draw R against each varied parameter of K, C, D, L and T.

    The other parameters have their most common values. At least one parameter must be varied
    (:func:`varied_parameters`).

    Parameters
    ----------
    models
        Models of bioD, as returned by :func:`knowcap.capacity.figures.best_models`.
    scale
        Name of their scale, for the title.
    """
    frame, varied = _frame(models), varied_parameters(models)
    figure = Figure(figsize=(2.5 * len(varied) + 0.6, 3.2), layout="constrained")
    axes = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, varied, strict=True):
        _draw_panel(ax, _panel(frame, name), name)
    axes[0].set_ylabel(axis_label(models["capacity_ratio"]))
    axes[0].set_ylim(bottom=min(0, axes[0].get_ylim()[0]))
    return Drawing(
        figure,
        f"Capacity ratio by the shape of bioD: {scale}",
        join_lines(
            """Capacity ratio of models trained on bioD, with one parameter of the dataset varied at
            a time. Every marker is a model: the mean over seeds at the best learning rate, with
            one standard deviation. The line joins the highest model of each dataset."""
        ),
    )


def _frame(models: xr.Dataset) -> pd.DataFrame:
    """Shape of each model, with mean and standard deviation of its capacity ratio."""
    frame = pd.DataFrame({name: models[name].values for name in BIOD_SHAPE})
    for statistic in ("mean", "sd"):
        frame[statistic] = models["capacity_ratio"].sel(statistic=statistic).values
    return frame


def _panel(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Models that differ from the most common shape in one parameter only."""
    others = [other for other in BIOD_SHAPE if other != name]
    common = frame[list(BIOD_SHAPE)].mode().iloc[0]
    same = frame[(frame[others] == common[others]).all(axis="columns")]
    return same.sort_values(name) if same[name].nunique() > 1 else same.iloc[:0]


def _draw_panel(ax: Axes, panel: pd.DataFrame, name: str) -> None:
    ax.errorbar(
        panel[name], panel["mean"], yerr=panel["sd"].fillna(0), color=COLORS[0], marker="o",
        linestyle="", markersize=5, markeredgecolor="white", elinewidth=1, capsize=2,
    )  # fmt: skip
    peaks = panel.groupby(name)["mean"].max()
    ax.plot(peaks.index, peaks, color=COLORS[0], linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.set_xlabel(LABELS[name][1].removesuffix(" of bioD"))
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(mpl.ticker.FixedLocator(sorted(set(panel[name]))))
    ax.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
