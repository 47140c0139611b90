"""Loss curves of runs, from their metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from knowcap.artifacts import files, manifest
from knowcap.capacity.plots.plot_style import COLORS, RC_PARAMS
from knowcap.errors import UserError
from knowcap.training.run_dir import DONE_FILE, METRICS_FILE, RUN_FILE

FORMATS = (".svg", ".pdf", ".png", ".csv")
"""Suffixes of the files that can be written."""

NUM_PRINTED = 12
"""Steps in the printed table, evenly spaced on a logarithmic axis."""

NUM_THINNED = 60
"""Most steps of a thinned curve, evenly spaced on a logarithmic axis."""


def read_curve(run: Path) -> pd.DataFrame:
    """Return the metrics of a run or of its scratch folder.

    Returns
    -------
    pd.DataFrame
        A row for each line of ``metrics.jsonl`` and replicate: ``run``, ``seed``, ``peak_lr``,
        ``iteration``, ``tokens``, ``elapsed_s``, ``loss_nats``, ``lr`` and ``grad_norm``. In the
        scratch folder of an unfinished run replicates are numbered in ``seed``, and ``peak_lr`` is
        NaN.

    Raises
    ------
    UserError
        If there are no metrics in the folder.
    """
    lines = [json.loads(line) for line in _lines(run)]
    pairs = _replicates(run, len(lines[0]["loss_nats"]))
    return pd.DataFrame(
        {
            "run": run.name,
            "seed": seed,
            "peak_lr": lr,
            "iteration": line["iteration"],
            "tokens": line["tokens"],
            "elapsed_s": line["elapsed_s"],
            **{name: line[name][index] for name in ("loss_nats", "lr", "grad_norm")},
        }
        for line in lines
        for index, (seed, lr) in enumerate(pairs)
    )


def read_thinned_curve(run: Path) -> dict[str, Any]:
    """Return the loss of each replicate at up to :data:`NUM_THINNED` steps, for JSON.

    Returns
    -------
    dict
        ``iterations``; ``replicates``, the seed and peak learning rate of each; and ``loss_nats``,
        a list for each replicate in nats per token with four digits, None where it is not finite.

    Raises
    ------
    UserError
        As :func:`read_curve` does.
    """
    lines = _lines(run)
    chosen = [json.loads(lines[index]) for index in _spread(len(lines), NUM_THINNED)]
    return {
        "iterations": [line["iteration"] for line in chosen],
        "replicates": _replicates(run, len(chosen[0]["loss_nats"])),
        "loss_nats": [
            [None if loss is None else float(f"{loss:.4g}") for loss in losses]
            for losses in zip(*(line["loss_nats"] for line in chosen), strict=True)
        ],
    }


def _lines(run: Path) -> list[str]:
    """Return the lines of the metrics of a run or scratch folder, after a check of their digest."""
    path = run / METRICS_FILE
    if not path.is_file():
        raise UserError(f"{path}: missing; the folder of a run or its scratch folder is expected")
    if (run / DONE_FILE).exists():  # a scratch folder has no digests
        manifest.verify(run, [METRICS_FILE, RUN_FILE])
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise UserError(f"{path}: empty")
    return lines


def _spread(number: int, most: int) -> list[int]:
    """Return up to `most` of the indices below `number`, evenly spaced on a logarithmic axis."""
    spaced = np.geomspace(1, number, min(most, number)).round().astype(int) - 1
    return [int(index) for index in np.unique(spaced)]


def _replicates(run: Path, number: int) -> list[tuple[int, float]]:
    """Return seed and learning rate of each replicate."""
    if not (run / RUN_FILE).exists():
        return [(index, np.nan) for index in range(number)]
    replicates = files.read_json(run / RUN_FILE)["record"]["replicates"]
    return [(seed, lr) for lr in replicates["lr"] for seed in replicates["seeds"]]


def curve_table(curves: pd.DataFrame) -> str:
    """Return the mean loss of each run at some steps, in nats per token, as text."""
    parts = []
    for run, curve in curves.groupby("run", sort=False):
        mean = curve.groupby("iteration")["loss_nats"].mean()
        steps = _spread(len(mean), NUM_PRINTED)
        rows = [f"{iteration:>12,}  {mean[iteration]:.4f}" for iteration in mean.index[steps]]
        parts.append("\n".join([str(run), "        step  loss (nats per token)", *rows]))
    return "\n\n".join(parts)


def write_curve(curves: pd.DataFrame, path: Path) -> None:
    """Write loss curves as a figure or as CSV, by the suffix of the path.

    Raises
    ------
    UserError
        If the suffix is not one of :data:`FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"--output: {path} is not allowed; suffixes are {', '.join(FORMATS)}")
    if path.suffix == ".csv":
        files.write_text(path, curves.to_csv(index=False))
        return
    with mpl.rc_context(RC_PARAMS), files.atomic_write(path) as temporary:
        draw_curves(curves).savefig(temporary, bbox_inches="tight", metadata=_metadata(path))


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Return a figure of loss against steps, a colour for each run and a line per replicate."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for color, (run, curve) in zip(COLORS * len(curves), curves.groupby("run"), strict=False):
        replicates = curve.groupby(["seed", "peak_lr"], dropna=False)
        for index, (_, replicate) in enumerate(replicates):
            axes.plot(
                replicate["iteration"],
                replicate["loss_nats"],
                color=color,
                linewidth=0.8,
                alpha=0.8,
                label=str(run) if index == 0 else None,
            )
    axes.set(xlabel="step", ylabel="training loss [nats per token]", xscale="log")
    axes.legend(loc="upper right")
    return figure


def _metadata(path: Path) -> dict[str, Any]:
    """Return metadata without a date, so that equal figures are equal files."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
