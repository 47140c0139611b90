"""Tables of a study and of files of measurements."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.own_measurements.dataset import read_own_measurements
from knowcap.capacity.table_columns import TABLE_VARIABLES


def read_any_table(path: Path) -> xr.Dataset:
    """Read the table of a study, or a CSV file of measurements in the form of one.

    Raises
    ------
    UserError
        If the file is missing, or is a table of an older version without settings.
    """
    if path.suffix == ".csv":
        return read_own_measurements([path]).table
    return files.read_dataset(path, (*TABLE_VARIABLES, "setting"))
