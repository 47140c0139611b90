"""Settings that differ between the runs of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from knowcap.config import Run

SEEDS_FIELD = "replicates.seeds"


def varied_settings(runs: Sequence[Run]) -> tuple[list[str], npt.NDArray[np.object_]]:
    """Dotted fields whose values differ between runs, and their values as JSON.

    Returns
    -------
    list of str
        The fields, in the order of the record. Seeds are left out.
    array
        Of shape (runs, fields); empty text where a record does not have a field.
    """
    records = [dict(_flatten(run.model_dump(mode="json"))) for run in runs]
    names = dict.fromkeys(name for record in records for name in record)
    rows = [[record.get(name, "") for name in names] for record in records]
    values = np.array(rows, dtype=object).reshape(len(runs), len(names))
    varied = [
        index
        for index, name in enumerate(names)
        if name != SEEDS_FIELD and len(set(values[:, index])) > 1
    ]
    return [list(names)[index] for index in varied], values[:, varied]


def _flatten(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the JSON of each value that is not None."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", json.dumps(value)
