"""Law 3: models store two bits per parameter for every shape of the knowledge."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import best_model_mean
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.regressions import log_log_slope
from knowcap.capacity.table_columns import BIOD_SHAPE

COLUMNS = dict(zip("KCDLT", BIOD_SHAPE, strict=True))
"""Columns of the shape parameters, by their letters in the paper."""


def _models(models: pd.DataFrame) -> pd.DataFrame:
    """Models of bioD, with a number for each shape."""
    chosen = capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))
    chosen = chosen[chosen["kind"] == "bioD"]
    # N differs between shapes, so that the knowledge of each fits the models: leave N out.
    return chosen.assign(shape=chosen.groupby(list(BIOD_SHAPE)).ngroup())


def _lowest_peak(models: pd.DataFrame) -> Estimate:
    return best_model_mean(_models(models), "capacity_ratio", "lowest", of="shape")


def _exponent(models: pd.DataFrame, letter: str) -> Estimate:
    """Exponent of peak R in one parameter of the shape, given the others."""
    chosen = _models(models)
    if chosen[COLUMNS[letter]].nunique() < 2:
        return Estimate.without_interval("no data")
    means = chosen.groupby(["shape", "measurement", "lr"])["capacity_ratio"].mean()
    peaks = means.groupby(level="shape").idxmax().map(lambda key: key[1])
    others = [name for other, name in COLUMNS.items() if other != letter]
    return log_log_slope(
        chosen[chosen["measurement"].isin(peaks)], "capacity_ratio", [COLUMNS[letter], *others]
    )


LAW = Law(
    number=3,
    title="Data shape",
    claim=(
        "A model stores two bits per parameter for any number of attributes K and chunks C, "
        "diversity D, chunk length L and alphabet size T."
    ),
    source_laws=(3,),
    quantities=(
        Quantity(
            name="lowest peak R over all shapes",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=2.0,  # PAPER 5.2: peak R is at least 2 for all shapes.
                margin=0.1,
                reason="the same as for peak R of the base law",
            ),
            estimate=_lowest_peak,
            needs="GPT2 on bioD with 1000 exposures and R_max of at least 2",
            by="knowledge",
        ),
        *(
            Quantity(
                name=f"exponent of peak R in {letter}",
                units="1",
                claim=Claim(
                    relation="about",
                    value=0.0,  # PAPER 5.2: no shape differs from the others.
                    margin=0.05,
                    reason="a factor of 1.2 over the paper's ranges, which are about fiftyfold",
                ),
                estimate=partial(_exponent, letter=letter),
                needs=f"bioD with several values of {letter}, 1000 exposures, R_max of at least 2",
                required=False,
            )
            for letter in COLUMNS
        ),
    ),
)
