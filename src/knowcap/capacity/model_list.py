"""List of all models of a study with their R, as rows and as text."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr
from tabulate import tabulate

from knowcap.capacity.diverged_replicates import diverged_sentence
from knowcap.capacity.labels import dataset_labels, precision_label
from knowcap.capacity.table import replicates

MAX_PRINTED = 60
"""Largest number of models in the printed list."""


def model_rows(table: xr.Dataset) -> list[dict[str, Any]]:
    """One row per measurement, with R at the best learning rate."""
    rows: list[dict[str, Any]] = []
    scales = table["scale"].values
    members = dict(zip(table["measurement"].values, table["member"].values.T, strict=True))
    labels = dataset_labels(table)
    for measurement, group in replicates(table).groupby("measurement", sort=False):
        means = group.groupby("lr")["capacity_ratio"].mean()
        best = group[group["lr"] == means.idxmax()]
        ratios = {
            name: best[name].mean()
            for name in ("capacity_ratio", "capacity_ratio_strict", "capacity_ratio_in_context")
        }
        kind, label = group["kind"].iloc[0], labels[group["knowledge"].iloc[0]]
        rows.append(
            {str(name): value for name, value in group.iloc[0].items()}
            | ratios
            | {
                "dataset": label if label.startswith(f"{kind}, ") else f"{kind}, {label}",
                "lr": means.idxmax(),
                "num_lr": len(means),
                "num_seeds": len(best),
                "sd": best["capacity_ratio"].std(ddof=1),
                "share": ratios["capacity_ratio"] / best["max_capacity_ratio"].iloc[0],
                "all_tokens": int(group["num_tokens"].sum()),
                "num_replicates": len(group),
                "scales": list(dict.fromkeys(scales[members[measurement]].tolist())),
            }
        )
    return rows


def models_text(table: xr.Dataset) -> str:
    """Table of R of every model as text, in the order of the study.

    Models of bioS and bioR also have R with attributes scored in whole biographies.
    """
    rows = model_rows(table)
    has_context = any(row["kind"] != "bioD" for row in rows)
    shown = [_cells(row, has_context=has_context) for row in rows[:MAX_PRINTED]]
    frame = pd.DataFrame(shown)
    text: str = tabulate(
        frame,
        headers="keys",
        tablefmt="plain",
        showindex=False,
        disable_numparse=True,
        colalign=["left"] * 3 + ["right"] * (len(frame.columns) - 3),
    )
    notes = [f"and {len(rows) - len(shown)} more models: see the report"] * (len(rows) > len(shown))
    notes += filter(None, [diverged_sentence(table)])
    return "\n".join([text, *notes])


def _cells(row: dict[str, Any], *, has_context: bool) -> dict[str, str]:
    """Cells of a model in the printed list, by column."""
    spread = "" if pd.isna(row["sd"]) else f" \u00b1 {row['sd']:.2g}"
    cells = {
        "dataset": row["dataset"] + (", junk" if row["useful_share"] < 1 else ""),
        "model": row["model"],
        "weights": precision_label(row["precision"]),
        "E": f"{row['exposures']:,}",
        "P": f"{row['num_params']:,}",
        "R": f"{row['capacity_ratio']:.3g}{spread}",
        "R_max": f"{row['max_capacity_ratio']:.3g}",
    }
    if has_context:
        context = row["capacity_ratio_in_context"]
        cells["R in whole biographies"] = "" if row["kind"] == "bioD" else f"{context:.3g}"
    return cells
