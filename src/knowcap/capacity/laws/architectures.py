"""Law 5: at 1000 exposures all architectures store the same, even without MLPs."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.cells import compare_equal_size
from knowcap.capacity.laws.claims import Claim, equal
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    standard_models,
    with_exposures,
)
from knowcap.capacity.laws.preconditions import EqualSize
from knowcap.capacity.laws.quantities import log_mean, usual
from knowcap.capacity.laws.settings import ARCHITECTURE_SETTINGS

FAMILY_LABELS = {
    "LLaMA": "LLaMA",
    "Mistral": "Mistral",
    "GPT2_0": "GPT2 without MLPs",
    "GPT2_quarter": "GPT2 with a quarter of the MLP",
}
"""Labels of the families that are compared with GPT2."""


def ratio_to_gpt2(
    models: pd.DataFrame, family: str, exposures: int, variation: str = ""
) -> pd.DataFrame:
    """Cells with R of a family, relative to GPT2 of equal size on the same people.

    Models that the corpus limits are on neither side: between them and the others R has a kink,
    across which nothing may be interpolated.
    """
    limited = capacity_limited(with_exposures(models, exposures))
    chosen = standard_models(limited[limited["family"] == family])
    chosen = chosen[chosen["variation"] == variation]
    return compare_equal_size(chosen, reference(limited), "capacity_ratio")


def family_quantity(family: str, exposures: int, claim: Claim) -> Quantity:
    """R of a family relative to GPT2, primary; that with tied embeddings as a detail."""
    select = partial(ratio_to_gpt2, family=family, exposures=exposures)
    has_tied = family in ("LLaMA", "Mistral")
    return Quantity(
        name=f"R of {FAMILY_LABELS[family]}, relative to GPT2 of equal size",
        units="",
        claim=claim,
        select=select,
        estimate=log_mean,
        needs=(
            f"{FAMILY_LABELS[family]} with R_max of at least 2 and GPT2 of similar sizes, "
            f"with {exposures} exposures"
        ),
        primary=True,
        preconditions=usual(exposures, EqualSize()),
        details={"tied": partial(select, variation="tied")} if has_tied else {},
    )


LAW = Law(
    number=5,
    title="Architectures at 1000 exposures",
    claim=(
        "At 1000 exposures LLaMA, Mistral and GPT2 store the same number of bits per parameter, "
        "and so does GPT2 with smaller MLPs or without MLPs."
    ),
    source_laws=(1, 5),
    varied=ARCHITECTURE_SETTINGS,
    # PAPER Result 5: all store the same.
    quantities=tuple(
        family_quantity(family, FREQUENT_EXPOSURES, equal()) for family in FAMILY_LABELS
    ),
)
