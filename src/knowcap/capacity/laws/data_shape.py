"""Law 3, data shape: two bits per parameter whatever the shape of what is to be known."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.estimators import best_model_mean
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.regressions import log_log_slope
from knowcap.capacity.table_columns import BIOD_SHAPE

LETTERS = dict(zip("KCDLT", BIOD_SHAPE, strict=True))


def _models(models: pd.DataFrame) -> pd.DataFrame:
    """Choose models of bioD, with its shape beside each."""
    chosen = capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))
    chosen = chosen[chosen["kind"] == "bioD"]
    # Each shape has people of its own number, as its knowledge must fit the models.
    return chosen.assign(shape=chosen.groupby(list(BIOD_SHAPE)).ngroup())


def _lowest_peak(models: pd.DataFrame) -> Estimate:
    return best_model_mean(_models(models), "capacity_ratio", "lowest", of="shape")


def _exponent(models: pd.DataFrame, letter: str) -> Estimate:
    """Exponent of peak R in one number of the shape, the others given."""
    chosen = _models(models)
    if chosen[LETTERS[letter]].nunique() < 2:
        return Estimate.without_interval("no data")
    means = chosen.groupby(["shape", "measurement", "lr"])["capacity_ratio"].mean()
    peaks = means.groupby(level="shape").idxmax().map(lambda key: key[1])
    others = [name for other, name in LETTERS.items() if other != letter]
    return log_log_slope(
        chosen[chosen["measurement"].isin(peaks)], "capacity_ratio", [LETTERS[letter], *others]
    )


LAW = Law(
    number=3,
    title="Data shape",
    claim=(
        "Whatever the number of attributes and chunks, the diversity, the length of chunks and "
        "the alphabet, a model stores two bits per parameter."
    ),
    reads=(3,),
    quantities=(
        Quantity(
            name="lowest peak R of all shapes",
            units="bit/parameter",
            claim=Claim(
                relation="at least",
                value=2.0,  # PAPER 5.2: peak R of 2 or more over all shapes.
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
                    value=0.0,  # PAPER 5.2: no shape stands out.
                    margin=0.05,
                    reason="over the fiftyfold of the paper's ranges that is a factor of 1.2",
                ),
                estimate=partial(_exponent, letter=letter),
                needs=f"bioD of several {letter} with 1000 exposures and R_max of at least 2",
                needed=False,
            )
            for letter in LETTERS
        ),
    ),
)
