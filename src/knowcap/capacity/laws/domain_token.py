"""Law 12: a domain token restores most capacity lost to junk."""

from __future__ import annotations

from knowcap.capacity.laws.claims import equal, times_lower
from knowcap.capacity.laws.definitions import Law
from knowcap.capacity.laws.junk import VARIED, with_other_measures

LAW = Law(
    number=12,
    title="Domain token",
    claim=(
        "If a domain token precedes every useful biography, random junk halves the capacity at "
        "100 exposures, and 300 exposures store as much as 100 exposures without junk."
    ),
    source_laws=(4, 12),
    varied=VARIED,
    quantities=tuple(
        with_other_measures(
            # PAPER Result 12: 2 times lower at 100 exposures, equal at 300.
            ((100, times_lower(2)), (300, equal(or_more=True))),
            domain_token=True,
        )
    ),
)
