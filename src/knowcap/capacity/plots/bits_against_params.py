"""Figure of stored bits against parameters, as figure 1 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from knowcap.capacity.plots.plot_style import (
    DARK_GREY,
    ERROR_BAR,
    GREY,
    MARKER,
    Drawing,
    Style,
    axis_label,
    format_log_axis,
    join_lines,
    legend_handles,
    panel_figure,
    widen_log_limits,
)

RATIO_LINES = (1.0, 2.0)
"""Bits per parameter of the grey lines."""  # PAPER 4.1: figure 1.

MIN_SPAN = 10
"""Both axes span at least this factor."""

IN_CONTEXT = "attributes scored in whole biographies"

CAPTION = join_lines(
    """Every marker is a model: the mean over seeds at the best learning rate. Bars show one
    standard deviation over seeds if it is larger than the marker. Grey lines show constant bits
    per parameter, R. Dotted lines show all bits of a dataset; a model on its dotted line knows
    everything."""
)

CAPTION_IN_CONTEXT = join_lines(
    """Open markers show the same models if attributes are scored in whole biographies, where one
    value can reveal another, instead of in prompts of their own."""
)


def draw_bits(
    models: xr.Dataset,
    styles: Mapping[str, Style],
    panels: Sequence[int] | None,
    title: str,
    *,
    paper_ratios: Mapping[int | None, float] | None = None,
) -> Drawing:
    """Draw bits against parameters on logarithmic axes, one panel per number of exposures.

    Parameters
    ----------
    models
        As returned by :func:`knowcap.capacity.best_models.average_seeds`, with the label ``group``
        of each measurement.
    styles
        Colour and marker of each group, in the order of the legend.
    panels
        Exposures of the panels; None is one panel for all models.
    title
        Of the figure.
    paper_ratios
        Bits per parameter that the paper finds, by exposures.
    """
    if panels is not None:
        models = models.isel(measurement=np.isin(models["exposures"].values, panels))
    in_context = models.isel(measurement=models["kind"].values != "bioD")
    handles = legend_handles(dict(styles))
    if in_context.sizes["measurement"]:
        handles.append(_open_handle())
    labels = [line for handle in handles for line in str(handle.get_label()).splitlines()]
    figure, axes = panel_figure(1 if panels is None else len(panels), labels)
    for index, ax in enumerate(axes):
        panel = models
        if panels is not None:
            panel = models.isel(measurement=models["exposures"].values == panels[index])
            ax.set_title(f"{panels[index]:,} exposures")
        for name, (color, marker) in styles.items():
            group = panel.isel(measurement=panel["group"].values == name)
            for knowledge in dict.fromkeys(group["knowledge"].values.tolist()):
                curve = group.isel(measurement=group["knowledge"].values == knowledge)
                _draw_models(ax, curve.sortby("num_params"), color, marker)
        ax.set_xlabel(axis_label(models["num_params"]))
        ax.set_ylabel(axis_label(models["bits"]))
        ax.label_outer(remove_inner_ticks=False)
    _set_limits(axes, models)
    _draw_max_bits(axes, models, styles)
    for index, ax in enumerate(axes):
        exposures = None if panels is None else panels[index]
        _draw_ratio_lines(ax, (paper_ratios or {}).get(exposures))
    kinds = set(models["kind"].values.tolist())
    figure.legend(
        handles=handles,
        loc="outside right center",
        title=kinds.pop() if len(kinds) == 1 else None,
        alignment="left",
    )
    caption = CAPTION if not in_context.sizes["measurement"] else f"{CAPTION} {CAPTION_IN_CONTEXT}"
    return Drawing(figure, title, caption)


def _open_handle() -> mpl.lines.Line2D:
    return mpl.lines.Line2D(
        [], [], color=DARK_GREY, marker="o", markerfacecolor="white", linestyle="",
        markersize=MARKER["markersize"], label=IN_CONTEXT.replace(" in ", "\nin "),
    )  # fmt: skip


def _draw_models(ax: Axes, curve: xr.Dataset, color: Any, marker: str) -> None:
    """Draw the models of a dataset; open markers are their bits in whole biographies."""
    if (curve["kind"].values != "bioD").any():
        ax.plot(
            curve["num_params"], curve["bits_in_context"].sel(statistic="mean"), color=color,
            marker=marker, markerfacecolor="white", markersize=MARKER["markersize"], linestyle="",
        )  # fmt: skip
    mean, spread = (curve["bits"].sel(statistic=s) for s in ("mean", "sd"))
    ax.errorbar(
        curve["num_params"], mean, yerr=spread.fillna(0), color=color, marker=marker,
        **MARKER, **ERROR_BAR,
    )  # fmt: skip
    highest = mean.to_series().groupby(curve["num_params"].values).max()
    ax.plot(highest.index, highest, color=color, linewidth=0.8, zorder=1)


def _set_limits(axes: Sequence[Axes], models: xr.Dataset) -> None:
    """Set limits that include all models, their R_max and the lines of constant R."""
    params = models["num_params"].values
    left, right = widen_log_limits((params.min() / 1.4, params.max() * 1.4), MIN_SPAN)
    bits = np.concatenate([models["bits"].sel(statistic="mean").values, models["max_bits"].values])
    bits = bits[bits > 0]
    low, high = widen_log_limits((bits.min() / 1.5, bits.max() * 1.5), MIN_SPAN)
    # The line of the largest R crosses the left half of a panel.
    high = max(high, max(RATIO_LINES) * (left * right) ** 0.5)
    low = min(low, min(RATIO_LINES) * (left * right) ** 0.5)
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
        for axis in (ax.xaxis, ax.yaxis):
            format_log_axis(axis, mpl.ticker.EngFormatter(sep=""))


def _draw_max_bits(axes: Sequence[Axes], models: xr.Dataset, styles: Mapping[str, Style]) -> None:
    """Draw all bits of each dataset as a dotted line, in the colour that its models share."""
    max_bits, groups = models["max_bits"].values, models["group"].values
    for bits in sorted(set(max_bits.tolist())):
        colors = [styles[name][0] for name in dict.fromkeys(groups[max_bits == bits].tolist())]
        color = colors[0] if all(np.array_equal(c, colors[0]) for c in colors) else DARK_GREY
        for ax in axes:
            ax.axhline(bits, color=color, linestyle=":", linewidth=1, zorder=0)


def _draw_ratio_lines(ax: Axes, paper_ratio: float | None) -> None:
    """Draw and label lines of constant bits per parameter, the paper's with a darker line."""
    (left, right), top = ax.get_xlim(), ax.get_ylim()[1]
    for ratio in RATIO_LINES:
        is_paper = ratio == paper_ratio
        color = DARK_GREY if is_paper else GREY
        ax.plot(
            [left, right], [ratio * left, ratio * right], color=color, zorder=0, scalex=False,
            scaley=False, linewidth=1.4 if is_paper else 0.8,
        )  # fmt: skip
        end = min(right, top / ratio)
        at_right = end == right
        ax.annotate(
            f"R = {ratio:g}" + ("\n(paper)" if is_paper else ""), (end, end * ratio),
            xytext=(3, 0) if at_right else (3, -7), textcoords="offset points",
            ha="left", va="center" if at_right else "top",
            color=DARK_GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
