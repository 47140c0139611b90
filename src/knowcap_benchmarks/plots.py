"""Figure of the growth of costs, with a panel for each varied quantity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from knowcap.artifacts import files


def draw_growth(result: dict[str, Any], output: Path) -> None:
    """Draw time over size for each series, beside a line of linear growth.

    Parameters
    ----------
    result
        Result of :func:`knowcap_benchmarks.growth.measure_growth`.
    output
        SVG file to write.
    """
    varied = list(dict.fromkeys(series["over"] for series in result["series"]))
    figure = Figure(figsize=(3.2 * len(varied), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(varied), squeeze=False)[0], varied, strict=True):
        for series in result["series"]:
            if series["over"] != name:
                continue
            sizes, seconds, slope = series["sizes"], series["seconds"], series["exponent"]
            label = series["cost"] + ("" if slope is None else f" ({slope:.2f})")
            axes.plot(sizes, seconds, marker="o", label=label)
            linear = [seconds[-1] * size / sizes[-1] for size in sizes]
            axes.plot(sizes, linear, color="0.8", linestyle="--", zorder=0)
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds")
        axes.legend(fontsize="x-small", frameon=False)
    with files.atomic_write(output) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
