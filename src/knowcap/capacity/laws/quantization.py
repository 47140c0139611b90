"""Law 8: int8 weights lose no knowledge, int4 weights lose more than half."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.cells import compare_trainings
from knowcap.capacity.laws.claims import Claim, equal, more_than_times_lower
from knowcap.capacity.laws.definitions import Fact, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)
from knowcap.capacity.laws.preconditions import BaselineReaches, SeveralSizes, SizesAgree
from knowcap.capacity.laws.quantities import BASELINE_RATIOS, linear_mean

METHOD_LABELS = {
    "": "GPTQ",
    "_embedding": "GPTQ, also of the embedding",
    "_rtn": "round to nearest",
    "_rtn_embedding": "round to nearest, also of the embedding",
    "_awq": "AWQ",
    "_awq_embedding": "AWQ, also of the embedding",
}
"""Labels of the methods, by the suffix of the precision; the paper uses the first."""

INT8_FACTOR = 1.05
"""Margin of "int8 loses nothing"."""
# ASSUME: the paper calls the loss negligible; int4's is a factor of 2 or more.


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))


def _kept(models: pd.DataFrame, precision: str) -> pd.DataFrame:
    """Cells with the fraction of R that each model keeps in a precision."""
    return compare_trainings(_models(models), precision, "capacity_ratio")


def _storage(models: pd.DataFrame) -> str:
    """Sentence with nominal and stored bits and the share of integers of each quantised model."""
    stored = _models(models).drop_duplicates("measurement")
    stored = stored[stored["precision"].isin(["int8", "int4"]) & stored["bits_per_param"].notna()]
    if stored.empty:
        return ""
    parts = [
        f"{row['precision']} at {row['num_params']:,} parameters: "
        f"{row['precision'].removeprefix('int')} nominal bits, {row['bits_per_param']:.3g} stored "
        f"bits a parameter, {100 * row['share_quantised']:.0f} % integers"
        for row in stored.sort_values(["precision", "num_params"]).to_dict("records")
    ]
    return "; ".join(parts) + "."


def _quantity(precision: str, claim: Claim) -> Quantity:
    needs = "GPT2 with 1000 exposures and R_max of at least 2, as trained and in"
    return Quantity(
        name=f"R in {precision}, relative to R as trained",
        units="",
        claim=claim,
        select=partial(_kept, precision=precision),
        # The kept fraction can be negative.
        estimate=linear_mean,
        needs=f"{needs} {precision}",
        primary=True,
        preconditions=(
            SeveralSizes(),
            SizesAgree(),
            BaselineReaches(BASELINE_RATIOS[FREQUENT_EXPOSURES]),
        ),
        details={
            label: partial(_kept, precision=f"{precision}{suffix}")
            for suffix, label in METHOD_LABELS.items()
            if suffix
        },
    )


LAW = Law(
    number=8,
    title="Quantisation",
    claim="A model keeps all its knowledge in int8 and loses more than half of it in int4.",
    source_laws=(1, 3, 8),
    quantities=(
        # PAPER Result 8: int8 costs nothing, int4 more than 2 times.
        _quantity(
            "int8",
            equal("a fifteenth of the loss in int4, on a logarithmic scale", INT8_FACTOR),
        ),
        _quantity("int4", more_than_times_lower(2)),
    ),
    facts=(Fact("bits of storage", _storage),),
    includes_quantized=True,
)
