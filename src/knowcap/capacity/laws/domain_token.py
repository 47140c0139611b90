"""Law 12: a domain token restores most capacity lost to junk."""

from __future__ import annotations

from knowcap.capacity.laws.definitions import Claim, Law
from knowcap.capacity.laws.junk import junk_quantity

LAW = Law(
    number=12,
    title="Domain token",
    claim=(
        "If a domain token precedes every useful biography, random junk halves the capacity at "
        "100 exposures, and 300 exposures store as much as 100 exposures without junk."
    ),
    source_laws=(4, 12),
    quantities=(
        junk_quantity(
            100,
            Claim(
                relation="about",
                value=0.5,  # PAPER Result 12: 2 times lower.
                margin=0.15,
                # ASSUME: the paper states no tolerance for Result 12.
                reason="2.9 to 1.5 times lower",
            ),
            domain_token=True,
        ),
        junk_quantity(
            300,
            Claim(
                relation="at least",
                value=1.0,  # PAPER Result 12: equal to 100 exposures without junk.
                margin=0.15,
                reason="three times the scatter of the paper's models",
            ),
            domain_token=True,
        ),
    ),
)
