"""Number of missing measurements in the table of a partial study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr


def with_num_missing(
    table: xr.Dataset,
    num_measurements: Sequence[int],
    num_found: Sequence[int],
    total: int,
    total_found: int,
) -> xr.Dataset:
    """Add the number of measurements, and of missing ones, of each experiment.

    Parameters
    ----------
    table
        Table of the measurements that exist.
    num_measurements, num_found
        By experiment: measurements of the study, and measurements that exist.
    total, total_found
        The same of all experiments; a measurement can belong to several of them.
    """
    counts = {
        "num_measurements": (np.array(num_measurements), "measurements"),
        "num_missing": (
            np.array(num_measurements) - np.array(num_found),
            "measurements that do not exist yet",
        ),
    }
    for name, (values, long_name) in counts.items():
        table[name] = ("experiment", values, {"units": "1", "long_name": long_name})
    return table.assign_attrs(num_measurements=total, num_missing=total - total_found)


def missing_sentence(table: xr.Dataset) -> str:
    """Sentence with the number of missing measurements by experiment; empty if none is missing."""
    if "num_missing" not in table:
        return ""
    counts = {
        str(name): (int(missing), int(total))
        for name, missing, total in zip(
            table["experiment"].values,
            table["num_missing"].values,
            table["num_measurements"].values,
            strict=True,
        )
        if missing
    }
    experiments = ", ".join(f"{m} of {total} of {name}" for name, (m, total) in counts.items())
    missing, total = table.attrs["num_missing"], table.attrs["num_measurements"]
    return f"{missing} of {total} measurements are missing: {experiments}."
