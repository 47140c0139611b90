"""Law 10: random junk costs capacity for useful knowledge, less so at more exposures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import pandas as pd

from knowcap.capacity.laws.cells import compare
from knowcap.capacity.laws.claims import (
    LARGEST_FACTOR,
    Claim,
    more_than_times_lower,
    times_lower,
)
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.model_filters import (
    RARE_EXPOSURES,
    capacity_limited,
    reference,
    unmodified_gpt2,
    with_exposures,
)
from knowcap.capacity.laws.preconditions import Precondition
from knowcap.capacity.laws.quantities import linear_mean, log_mean, usual

Junk = Literal["random", "repetitive"]

MEASURES = {
    "capacity_ratio": "R",
    "capacity_ratio_of_values": "R of values only",
    "capacity_ratio_given_useful": "R with names given that the biography is useful",
}
"""Columns of a table by which junk is judged, with their labels.

Without a domain token, the name after an end of text may belong to junk: at least log2(1 / useful
share) bits of each name are lost by arithmetic and not by training.
"""


VARIED = frozenset(
    {
        *("corpus.mixture", "optimization.exposures"),
        # A domain token makes biographies longer, and windows with them.
        *("optimization.seq_length", "optimization.windows"),
    }
)
"""Fields of junk, and those that it changes."""

USEFUL_SHARE = 1 / 8
"""Useful share of the training data."""  # PAPER Result 10.

MIXED_WITHIN_WINDOWS = "useful biographies and junk in the same windows"
"""Detail of each quantity."""  # PAPER 10: similar to windows of one kind.


def is_repetitive(models: pd.DataFrame) -> pd.Series[bool]:
    """Whether a person of the junk has more exposures than a useful person."""
    # ASSUME: the paper's junk has 100 million people with about one exposure each (random), or
    # 1000 people with 10,000 exposures or more each (repetitive). Junk is called repetitive if its
    # people have more exposures than useful people, which separates the two at any size.
    num_junk = models["num_people"] * (1 / models["useful_share"] - 1)
    return num_junk > models["num_junk_people"]


def ratio_to_no_junk(
    models: pd.DataFrame,
    exposures: int,
    junk: Junk,
    domain_token: bool,
    column: str,
    unit: str = "window",
) -> pd.DataFrame:
    """Cells with junk, relative to the same model and people at 100 exposures without junk.

    Each `unit` of the training data, a window or a biography, is entirely useful or junk.
    """
    if column not in models:
        return pd.DataFrame()
    limited = capacity_limited(models[models[column].notna()])
    mixed = unmodified_gpt2(with_exposures(limited, exposures))
    mixed = mixed[(mixed["useful_share"] == USEFUL_SHARE) & (mixed["mixture_unit"] == unit)]
    mixed = mixed[(is_repetitive(mixed) == (junk == "repetitive"))]
    mixed = mixed[mixed["domain_token"] == domain_token]
    plain = with_exposures(reference(limited), RARE_EXPOSURES)
    return compare(mixed, plain, column, varied=VARIED)


def junk_quantity(
    exposures: int,
    claim: Claim,
    junk: Junk = "random",
    *,
    domain_token: bool = False,
    column: str = "capacity_ratio",
    primary: bool = True,
    preconditions: Sequence[Precondition] = (),
) -> Quantity:
    """One measure with junk, relative to 100 exposures without junk."""
    token = " and a domain token" if domain_token else ""
    # At 100 exposures junk can leave nothing: a logarithm would not exist.
    is_near_zero = exposures == RARE_EXPOSURES and not domain_token and junk == "random"
    select = partial(
        ratio_to_no_junk,
        exposures=exposures,
        junk=junk,
        domain_token=domain_token,
        column=column,
    )
    return Quantity(
        name=(
            f"{MEASURES[column]} at {exposures} exposures with {junk} junk{token}, "
            f"relative to {RARE_EXPOSURES} exposures without junk"
        ),
        units="",
        claim=claim,
        select=select,
        estimate=linear_mean if is_near_zero else log_mean,
        needs=(
            f"GPT2 at {exposures} exposures with {junk} junk{token}, and at 100 exposures of the "
            "same knowledge without junk, with R_max of at least 2"
            + (", evaluated given that the biography is useful" if "given" in column else "")
        ),
        primary=primary,
        preconditions=usual(RARE_EXPOSURES, *preconditions),
        details={MIXED_WITHIN_WINDOWS: partial(select, unit="biography")},
    )


def with_other_measures(
    quantities: Sequence[tuple[int, Claim]], *, domain_token: bool = False
) -> list[Quantity]:
    """Quantities with plain R, which are primary, and then the same with the other measures."""
    return [
        junk_quantity(
            exposures,
            claim,
            domain_token=domain_token,
            column=column,
            primary=column == "capacity_ratio",
        )
        for column in MEASURES
        for exposures, claim in quantities
    ]


CLAIMS = (
    # PAPER Result 10: up to 20 times, 3, 1.5 and 1.3 times lower.
    (
        100,
        more_than_times_lower(
            20, LARGEST_FACTOR, "20 times is the largest loss in the paper; 13 times is accepted"
        ),
    ),
    (300, times_lower(3)),
    (600, times_lower(1.5)),
    (1000, times_lower(1.3)),
)
"""Claims by exposures."""

LAW = Law(
    number=10,
    title="Random junk",
    claim=(
        "With seven times as much random junk, 100 exposures store up to 20 times less than "
        "without junk, and 300, 600 and 1000 exposures store 3, 1.5 and 1.3 times less than 100 "
        "exposures without junk."
    ),
    source_laws=(4, 10),
    varied=VARIED,
    quantities=tuple(with_other_measures(CLAIMS)),
)
