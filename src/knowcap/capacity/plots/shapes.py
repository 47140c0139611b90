"""Figure of capacity ratios by shape of bioD, as the paper's figure 2."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from knowcap.capacity.labels import setting_label
from knowcap.capacity.plots.plot_style import (
    COLORS,
    DARK_GREY,
    ERROR_BAR,
    GREY,
    MARKER,
    Drawing,
    axis_label,
    join_lines,
)
from knowcap.capacity.table_columns import BIOD_SHAPE

ROW_INCHES = 0.24


def num_shapes(models: xr.Dataset) -> int:
    """Number of shapes K, C, D, L, T of bioD."""
    return len(_frame(models)["shape"].unique())


def draw_shapes(models: xr.Dataset, scale: str, paper_ratio: float) -> Drawing:
    """Draw R of the models of every shape, one row per shape.

    Parameters
    ----------
    models
        Models of bioD, as returned by :func:`knowcap.capacity.best_models.best_models`.
    scale
        Name of their scale, for the title.
    paper_ratio
        Lowest peak R that the paper finds for any shape.
    """
    frame = _frame(models)
    labels = _row_labels(frame)
    height = 1.1 + ROW_INCHES * len(labels)
    figure = Figure(figsize=(7.0, height), layout="constrained")
    ax = figure.subplots()
    for position, shape in enumerate(labels):
        row = frame[frame["shape"] == shape].sort_values("mean", ascending=False)
        others = row["mean"].iloc[1:]
        ax.plot(
            others, [position] * len(others), "o", color=GREY, zorder=1,
            markersize=MARKER["markersize"] - 1.5,
        )  # fmt: skip
        peak = row.iloc[0]
        ax.errorbar(
            peak["mean"], position, xerr=peak["sd"], color=COLORS[0], marker="o",
            **MARKER, **ERROR_BAR,
        )  # fmt: skip
        ax.plot(peak["max_ratio"], position, "|", color=DARK_GREY, markersize=9)
    base = frame[frame["shape"] == next(iter(labels))]
    ax.axvline(base["mean"].max(), color=COLORS[0], linewidth=0.8, zorder=0)
    ax.axvline(paper_ratio, color=DARK_GREY, linewidth=1.2, linestyle="--", zorder=0)
    ax.annotate(
        f"paper: R of {paper_ratio:g} or more", (paper_ratio, -0.8), xytext=(0, 2),
        textcoords="offset points", ha="center", va="bottom", color=DARK_GREY,
    )  # fmt: skip
    ax.set_yticks(range(len(labels)), labels.values())
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(labels) - 0.4, -0.8)
    largest = max(frame["mean"].max() + frame["sd"].max(), frame["max_ratio"].max(), paper_ratio)
    ax.set_xlim(min(0, 1.1 * frame["mean"].min()), 1.08 * largest)
    ax.grid(axis="x")
    ax.set_xlabel(axis_label(models["capacity_ratio"]))
    handles = [
        mpl.lines.Line2D([], [], color=COLORS[0], marker="o", linestyle="", label="highest model"),
        mpl.lines.Line2D([], [], color=DARK_GREY, marker="|", markersize=9, linestyle="",
                         label="R_max of that model"),
    ]  # fmt: skip
    if frame["shape"].duplicated().any():
        handles.insert(1, mpl.lines.Line2D([], [], color=GREY, marker="o", linestyle="",
                                           label="other models"))  # fmt: skip
    figure.legend(handles=handles, loc="outside right center")
    return Drawing(
        figure,
        f"Capacity ratio by the shape of bioD: {scale}",
        join_lines(
            """Capacity ratio of all models trained on bioD, one row per shape of the dataset. The
            first row is the most common shape, whose highest R is the blue line; the other rows are
            named by the parameters that differ from it. Markers are means over seeds at the best
            learning rate, bars one standard deviation. Ticks show R_max, which bounds R."""
        ),
    )


def _frame(models: xr.Dataset) -> pd.DataFrame:
    """Models with their shape, and mean and standard deviation of their capacity ratio."""
    frame = pd.DataFrame({name: models[name].values for name in BIOD_SHAPE})
    frame["shape"] = frame.groupby(list(BIOD_SHAPE)).ngroup()
    for statistic in ("mean", "sd"):
        frame[statistic] = models["capacity_ratio"].sel(statistic=statistic).values
    frame["sd"] = frame["sd"].fillna(0)
    frame["max_ratio"] = models["max_capacity_ratio"].values
    return frame


def _row_labels(frame: pd.DataFrame) -> dict[int, str]:
    """Label of each shape: all parameters of the most common shape, then what differs from it."""
    shapes = frame.drop_duplicates("shape").set_index("shape")[list(BIOD_SHAPE)]
    common = shapes.mode().iloc[0]
    # The shape with the most common value of every parameter, or else of most.
    base = shapes.iloc[int(shapes.eq(common).sum(axis="columns").to_numpy().argmax())]
    differs = shapes.ne(base)
    order = shapes.assign(
        distance=differs.sum(axis="columns"), first=differs.to_numpy().argmax(axis=1)
    ).sort_values(["distance", "first", *BIOD_SHAPE])
    labels = {}
    for shape in order.index.tolist():
        columns = [name for name in BIOD_SHAPE if differs.loc[shape, name]] or list(BIOD_SHAPE)
        labels[shape] = ", ".join(setting_label(name, shapes.loc[shape, name]) for name in columns)
    return labels
