"""Law 11, repetitive junk: what is read again and again does no harm."""

from __future__ import annotations

from knowcap.capacity.laws.junk import comparison
from knowcap.capacity.laws.law import Claim, Law

LAW = Law(
    number=11,
    title="Repetitive junk",
    claim="Junk about few people, read again and again, costs no capacity at 100 exposures.",
    reads=(4, 11),
    quantities=(
        comparison(
            100,
            Claim(
                relation="at least",
                value=1.0,  # PAPER Result 11: no degradation.
                margin=0.1,
                # ASSUME: the paper states no tolerance.
                reason="twice what the paper's models scatter by",
            ),
            "repetitive",
        ),
    ),
)
