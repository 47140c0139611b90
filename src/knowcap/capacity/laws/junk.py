"""Law 10, junk: reading much else costs capacity for what is useful, unless that is frequent."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pandas as pd

from knowcap.capacity.laws.estimators import mean_ratio_of_peaks
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    RARE_EXPOSURES,
    capacity_limited,
    reference,
    unmodified_gpt2,
    with_exposures,
)

Junk = Literal["random", "repetitive"]


def is_repetitive(models: pd.DataFrame) -> pd.Series[bool]:
    """Whether each person of the junk is read about more often than a useful one."""
    # ASSUME: the paper has N' of 100 million, each read about once, or 1000, each read about
    # 10,000 times or more. This tells them apart at any size.
    num_junk = models["num_people"] * (1 / models["useful_share"] - 1)
    return num_junk > models["num_junk_people"]


def relative_to_useful_alone(
    models: pd.DataFrame, exposures: int, junk: Junk, domain_token: bool
) -> Estimate:
    """Peak R with junk relative to that at 100 exposures without, on the same knowledge."""
    filled = capacity_limited(models)
    mixed = unmodified_gpt2(with_exposures(filled[filled["useful_share"] < 1], exposures))
    mixed = mixed[(is_repetitive(mixed) == (junk == "repetitive"))]
    mixed = mixed[mixed["domain_token"] == domain_token]
    return mean_ratio_of_peaks(
        mixed, with_exposures(reference(filled), RARE_EXPOSURES), "capacity_ratio", "knowledge"
    )


def comparison(
    exposures: int, claim: Claim, junk: Junk = "random", *, domain_token: bool = False
) -> Quantity:
    """Peak R among junk relative to useful biographies alone."""
    token = " with a domain token" if domain_token else ""
    return Quantity(
        name=f"peak R at {exposures} exposures among {junk} junk{token}, relative to 100 without",
        units="1",
        claim=claim,
        estimate=partial(
            relative_to_useful_alone, exposures=exposures, junk=junk, domain_token=domain_token
        ),
        needs=(
            f"GPT2 with {exposures} exposures among {junk} junk{token}, and with 100 exposures "
            "of the same knowledge alone, R_max of at least 2"
        ),
        by="knowledge",
    )


def _about(factor: float, margin: float, reason: str) -> Claim:
    return Claim(relation="about", value=1 / factor, margin=margin, reason=reason)


LAW = Law(
    number=10,
    title="Junk",
    claim=(
        "Among seven times as much random junk 100 exposures store up to 20 times less than "
        "without; 300, 600 and 1000 exposures 3, 1.5 and 1.3 times less than 100 without."
    ),
    reads=(4, 10),
    # PAPER Result 10: up to 20 times, 3, 1.5 and 1.3 times lower.
    # ASSUME: the paper states no tolerance.
    quantities=(
        comparison(
            100,
            Claim(
                relation="at most",
                value=0.05,
                margin=0.05,
                reason="up to 20 times is the largest of its losses; half of that is still large",
            ),
        ),
        comparison(300, _about(3, 0.12, "from 5 to 2.2 times lower")),
        comparison(600, _about(1.5, 0.15, "from 1.9 to 1.2 times lower")),
        comparison(1000, _about(1.3, 0.15, "from 1.6 to 1.1 times lower")),
    ),
)
