"""Law 11: junk about few people, repeated many times, costs no capacity."""

from __future__ import annotations

from knowcap.capacity.laws.definitions import Claim, Law
from knowcap.capacity.laws.junk import junk_quantity

LAW = Law(
    number=11,
    title="Repetitive junk",
    claim="Junk about few people, repeated many times, costs no capacity at 100 exposures.",
    source_laws=(4, 11),
    quantities=(
        junk_quantity(
            100,
            Claim(
                relation="at least",
                value=1.0,  # PAPER Result 11: no degradation.
                margin=0.1,
                # ASSUME: the paper states no tolerance for Result 11.
                reason="twice the scatter of the paper's models",
            ),
            "repetitive",
        ),
    ),
)
