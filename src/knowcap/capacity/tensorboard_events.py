"""Loss curves as event files of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from knowcap.artifacts.files import check_new_folder
from knowcap.artifacts.optional_library import import_library

SCALARS = ("loss_nats", "lr", "grad_norm")
"""Columns that become scalars."""


def write_events(curves: pd.DataFrame, folder: Path) -> None:
    """Write the metrics of each replicate to a folder of its own, which TensorBoard lists as a run.

    Parameters
    ----------
    curves
        As returned by :func:`knowcap.capacity.loss_curve.read_curve`, of one or several runs.
    folder
        Receives ``{run}/seed{seed}-lr{peak_lr}/events...``. The time of an event is the training
        time in seconds, over all attempts, so that TensorBoard's relative time is right.

    Raises
    ------
    UserError
        If tensorboard is not installed, or a folder of a run exists and is not empty.
    """
    summary = import_library("tensorboard.summary", "--tensorboard", extra="tensorboard")
    for run in curves["run"].unique():
        check_new_folder(folder / run)
    for _, curve in curves.groupby(["run", "seed", "peak_lr"], dropna=False):
        rows = curve.to_dict("records")
        writer = summary.Writer(str(folder / rows[0]["run"] / _name(rows[0])))
        for row in rows:
            for scalar in SCALARS:
                writer.add_scalar(scalar, row[scalar], row["iteration"], wall_time=row["elapsed_s"])
        writer.close()


def _name(row: Mapping[Any, Any]) -> str:
    """Name of a replicate; replicates of unfinished runs have numbers only."""
    if pd.isna(row["peak_lr"]):
        return f"replicate{row['seed']}"
    return f"seed{row['seed']}-lr{row['peak_lr']:g}"
