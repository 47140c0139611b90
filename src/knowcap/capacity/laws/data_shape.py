"""Law 3: models store equally many bits per parameter for every shape of the knowledge."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.cells import compare
from knowcap.capacity.laws.claims import equal
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.estimate import Estimate
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.preconditions import LowVarianceInflation, ManyNames
from knowcap.capacity.laws.quantities import usual
from knowcap.capacity.laws.slopes import log_log_slope
from knowcap.capacity.table_columns import BIOD_SHAPE

COLUMNS = dict(zip("KCDLT", BIOD_SHAPE, strict=True))
"""Columns of the shape parameters, by their letters in the paper."""

SAME_SIZE = ("population_seed", "num_layers", "num_attention_heads", "hidden_size")
"""Columns that are equal on both sides: vocabulary and N differ between shapes."""

VARIED = frozenset(
    {
        *(f"corpus.knowledge.{name}" for name in ("num_people", *BIOD_SHAPE)),
        # Windows have the length of a biography, or hold many.
        "optimization.seq_length",
    }
)
"""Fields that differ between shapes. N is adapted, so that models are filled alike."""

STEP = 4
"""Change of a parameter whose effect is reported."""


def _relative_to_base(models: pd.DataFrame) -> pd.DataFrame:
    """Cells with R of each shape relative to the base shape of the same model size."""
    chosen = capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))
    chosen = chosen[chosen["kind"] == "bioD"]
    if chosen.empty:
        return chosen
    chosen = chosen.assign(shape=chosen.groupby(list(BIOD_SHAPE)).ngroup())
    base = chosen[chosen["shape"] == _base_shape(chosen)]
    return compare(chosen, base, "capacity_ratio", SAME_SIZE, ("shape",), varied=VARIED)


def _base_shape(models: pd.DataFrame) -> int:
    """Shape that differs in the fewest parameters from the others."""
    shapes = models.groupby("shape")[list(BIOD_SHAPE)].first()
    values = shapes.to_numpy()
    distance = (values[:, None, :] != values[None, :, :]).sum(axis=(1, 2))
    return int(shapes.index[distance.argmin()])


def _effect(cells: pd.DataFrame, letter: str) -> Estimate:
    """Factor on R when one parameter is STEP times larger, the others being equal."""
    found = log_log_slope(cells, list(BIOD_SHAPE), COLUMNS[letter], group="shape")
    return found.as_factor(STEP)


LAW = Law(
    number=3,
    title="Data shape",
    claim=(
        "A model stores equally many bits per parameter, two at 1000 exposures, for any number of "
        "attributes K and chunks C, diversity D, chunk length L and alphabet size T."
    ),
    source_laws=(3,),
    varied=VARIED,
    quantities=tuple(
        Quantity(
            name=f"factor on R when {letter} is {STEP} times larger",
            units="",
            claim=equal(),  # PAPER 5.2: peak R is 2 or more for all shapes.
            select=_relative_to_base,
            estimate=partial(_effect, letter=letter),
            needs=f"bioD with several values of {letter}, 1000 exposures, R_max of at least 2",
            primary=True,
            # PAPER, Parameter 5: one learning rate for all shapes.
            preconditions=usual(
                FREQUENT_EXPOSURES,
                LowVarianceInflation(
                    COLUMNS[letter], tuple(name for name in BIOD_SHAPE if name != COLUMNS[letter])
                ),
                ManyNames(),
                tuned=False,
            ),
            has_cell_details=False,
        )
        for letter in COLUMNS
    ),
)
