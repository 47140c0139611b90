"""Law 12, the domain token: a mark before what is useful saves most of the loss to junk."""

from __future__ import annotations

from knowcap.capacity.laws.junk import comparison
from knowcap.capacity.laws.law import Claim, Law

LAW = Law(
    number=12,
    title="Domain token",
    claim=(
        "With a token of its own before every useful biography, junk costs half of the capacity "
        "at 100 exposures; 300 store what 100 store without junk."
    ),
    reads=(4, 12),
    quantities=(
        comparison(
            100,
            Claim(
                relation="about",
                value=0.5,  # PAPER Result 12: 2 times lower.
                margin=0.15,
                # ASSUME: the paper states no tolerance.
                reason="from 2.9 to 1.5 times lower",
            ),
            domain_token=True,
        ),
        comparison(
            300,
            Claim(
                relation="at least",
                value=1.0,  # PAPER Result 12: the same as 100 exposures without junk.
                margin=0.15,
                reason="three times what the paper's models scatter by",
            ),
            domain_token=True,
        ),
    ),
)
