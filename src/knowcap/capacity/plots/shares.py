"""Figure of the share of names and attributes that models store."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from knowcap.capacity.plots.plot_style import (
    GREY,
    MARKER,
    PANEL_SIZE,
    Drawing,
    assign_styles,
    axis_label,
    format_log_axis,
    join_lines,
    panel_exposures,
    widen_log_limits,
)

MIN_SPAN = 10
"""The axis of R_max spans at least this factor."""

LEGEND_INCHES = 1.6


def draw_shares(table: xr.Dataset, scale: str) -> Drawing:
    """Draw the stored share of names and of each attribute against R_max."""
    kinds = list(dict.fromkeys(table["kind"].values.tolist()))
    exposures = panel_exposures(table)
    width, height = PANEL_SIZE
    figure = Figure(
        figsize=(width * len(exposures) + LEGEND_INCHES, height * len(kinds)), layout="constrained"
    )
    grid = figure.subplots(len(kinds), len(exposures), sharex=True, sharey=True, squeeze=False)
    for axes, kind in zip(grid, kinds, strict=True):
        group = table.isel(measurement=table["kind"].values == kind)
        parts = _shares(group)
        styles = assign_styles(list(parts))
        for ax, number in zip(axes, exposures, strict=True):
            in_panel = group["exposures"].values == number
            max_ratios = group["max_capacity_ratio"].values[in_panel]
            for part, (color, marker) in styles.items():
                ax.plot(
                    max_ratios, parts[part].values[in_panel], color=color, marker=marker,
                    linestyle="", label=part, **MARKER,
                )  # fmt: skip
            ax.set_title(f"{kind}, {number:,} exposures")
        axes[0].set_ylabel("stored share")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for ax in grid[-1]:
        ax.set_xlabel(axis_label(table["max_capacity_ratio"]))
    _draw_constant_ratios(grid.ravel(), table["max_capacity_ratio"])
    return Drawing(
        figure,
        f"Stored share of names and attributes: {scale}",
        join_lines(
            """Share of the bits of names and of each attribute that a model stores, against all
            bits of its corpus per parameter (R_max). Grey lines show models that store one or two
            bits per parameter, or everything. Below zero: worse than guessing."""
        ),
    )


def _draw_constant_ratios(axes: Any, max_ratio: xr.DataArray) -> None:
    """Draw the share stored by models with exactly 1 or 2 bits per parameter."""
    limits = (0.8 * float(max_ratio.min()), 1.25 * float(max_ratio.max()))
    limits = widen_log_limits(limits, MIN_SPAN)
    max_ratios = np.geomspace(*limits, 200)
    for ax in axes:
        for ratio in (1, 2):
            ax.plot(max_ratios, np.minimum(1, ratio / max_ratios), color=GREY, zorder=0)
        ax.set(xscale="log", xlim=limits, ylim=(min(0, ax.get_ylim()[0]), 1.05))
        format_log_axis(ax.xaxis, mpl.ticker.StrMethodFormatter("{x:g}"))


def _shares(group: xr.Dataset) -> dict[str, xr.DataArray]:
    """Stored share of each part; the attributes of bioD are equivalent and taken together."""
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
