"""Replicates that diverged in training: shown and counted, and part of no mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from knowcap.config import Run

DIVERGED_COLUMNS = ("diverged", "divergence")
"""Columns of the table that describe diverged replicates."""


def divergence_of_replicates(run: Run, run_file: Mapping[str, Any]) -> list[str]:
    """Step and likely causes by replicate, from ``run.json``; empty if it did not diverge."""
    texts = {
        (
            each["seed"],
            each["lr"],
        ): f"step {each['iteration']}; likely causes: {each['likely_causes']}"
        for each in run_file.get("diverged", ())
    }
    return [texts.get(pair, "") for pair in run.replicates.pairs]


def fill_replicates(dataset: xr.Dataset, is_filled: NDArray[np.bool_], value: float) -> xr.Dataset:
    """Dataset with one value in place of all numbers of some replicates."""
    if not is_filled.any():
        return dataset
    kept = xr.DataArray(~is_filled, dims="replicate")
    return dataset.map(
        lambda each: each.where(kept, value) if "replicate" in each.dims else each, keep_attrs=True
    )


def diverged_replicates(table: xr.Dataset) -> list[dict[str, Any]]:
    """Run, model, seed, lr and divergence of each replicate that diverged, each once."""
    if "diverged" not in table:
        return []
    found = table[["run", "model", "seed", "lr", *DIVERGED_COLUMNS]].to_dataframe()
    found = found[found["diverged"].astype(bool)].drop_duplicates(["run", "seed", "lr"])
    return [{str(key): value for key, value in row.items()} for row in found.to_dict("records")]


def diverged_sentence(table: xr.Dataset) -> str:
    """Sentence with the number of replicates that diverged; empty if none did."""
    number = len(diverged_replicates(table))
    if number == 0:
        return ""
    rows = table[["run", "seed", "lr"]].to_dataframe()
    total = len(rows[rows["seed"] >= 0].drop_duplicates(["run", "seed", "lr"]))
    return f"{number} of {total} trained replicates diverged and are part of no result."
