"""Size of a model that stores nearly all of a corpus, by law 1."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from knowcap.capacity.forecast.log_prediction import interval, new_cell
from knowcap.capacity.forecast.number_text import interval_text, number_text
from knowcap.capacity.laws import base_law
from knowcap.capacity.laws.base_law import DATA_LIMITED_RATIOS
from knowcap.capacity.laws.cell_summaries import sizes_of
from knowcap.capacity.laws.verdicts import models_of
from knowcap.capacity.table import replicates

QUANTITY = "R / R_max of models with R_max up to 1.8"
"""Quantity of law 1 with the share that models store."""


def nearly_all(table: xr.Dataset, scale: str, bits: float) -> Iterator[str]:
    """Yield sentences on a corpus of exactly `bits`, of which a model stores a share.

    A model that stores R P bits of a larger corpus is full. If the corpus holds no more than that,
    it stores less of it (paper 4.1).
    """
    (quantity,) = (each for each in base_law.LAW.quantities if each.name == QUANTITY)
    size = bits / DATA_LIMITED_RATIOS[1]
    yield (
        f"If the corpus holds these {number_text(bits)} bits and no more, the paper's models of "
        f"{number_text(size)} parameters ({DATA_LIMITED_RATIOS[1]:g} bits per parameter) store "
        "nearly all of it at 1000 exposures."
    )
    cells = quantity.select(models_of(table, replicates(table), base_law.LAW, scale))
    if len(cells) < 2 or (cells["value"] <= 0).any():
        yield "The measurements have too few such models."
        return
    share = interval(new_cell(cells["value"].to_numpy(dtype=float)))
    sizes = sizes_of(cells)
    yield (
        f"Such models of the measurements, with {number_text(sizes.min())} to "
        f"{number_text(sizes.max())} parameters, store a share of {interval_text(share)}."
    )
