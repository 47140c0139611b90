"""Data classes Law, Quantity and Fact of the laws, and the rule for the verdict on a law.

A law is judged by its primary quantities alone. Claims, margins and preconditions are fixed here
before anything is measured, each with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pandas as pd

from knowcap.capacity.laws.claims import Claim
from knowcap.capacity.laws.estimate import Estimate

if TYPE_CHECKING:
    from knowcap.capacity.laws.preconditions import Check, Precondition

Verdict = Literal["reproduced", "contradicted", "inconclusive", "not testable here", "not run"]

Select = Callable[[pd.DataFrame], pd.DataFrame]
"""Maps rows of :func:`knowcap.capacity.table.replicates`, of one scale, to cells.

A cell is a row with the columns of :mod:`knowcap.capacity.laws.cells`.
"""

Estimator = Callable[[pd.DataFrame], Estimate]
"""Maps cells to an estimate."""


@dataclass(frozen=True)
class Quantity:
    """One measured number of a law, and what the paper claims of it."""

    name: str
    units: str
    """Unit; empty for ratios and shares."""
    claim: Claim
    select: Select
    estimate: Estimator
    needs: str
    """Models that the estimate requires, in words."""
    primary: bool = False
    """Whether the quantity belongs to the sentence of the paper and decides on the law."""
    preconditions: tuple[Precondition, ...] = ()
    details: Mapping[str, Select] = field(default_factory=dict)
    """Cells of parts or variants, by name; they have estimates and no verdict on the law."""
    has_cell_details: bool = True
    """Whether the estimate of a single cell means something, and is a detail too."""


@dataclass(frozen=True)
class Fact:
    """A number that arithmetic fixes: it is shown and not judged."""

    name: str
    describe: Callable[[pd.DataFrame], str]
    """Maps rows of replicates to a sentence; empty if there is nothing to say."""


@dataclass(frozen=True)
class Law:
    """One law of the paper."""

    number: int
    title: str
    claim: str
    """What the paper claims, in our words."""
    source_laws: tuple[int, ...]
    """Laws whose experiments supply the models, this law included."""
    quantities: tuple[Quantity, ...]
    facts: tuple[Fact, ...] = ()
    varied: frozenset[str] = frozenset()
    """Fields of the record, or groups of them, that differ between the two sides of a comparison.
    All others that are not tuned are equal; see :mod:`knowcap.capacity.laws.settings`."""
    includes_quantized: bool = False
    """Whether quantised models are used too."""

    @property
    def primaries(self) -> tuple[Quantity, ...]:
        """Quantities that decide on the law."""
        return tuple(quantity for quantity in self.quantities if quantity.primary)


@dataclass(frozen=True)
class Result:
    """Estimate, checked preconditions and verdict of a quantity."""

    quantity: Quantity
    cells: pd.DataFrame
    estimate: Estimate
    checks: tuple[Check, ...]
    verdict: Verdict
    p_reproduced: float = float("nan")
    """P-value of a true value outside the accepted range; adjusted by Holm for primaries."""
    p_contradicted: float = float("nan")
    """P-value of a true value inside the accepted range; adjusted by Holm for primaries."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Preconditions that are not met."""
        return tuple(check for check in self.checks if not check.passed)


def combine_verdicts(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict on a law from the verdicts on its primary quantities.

    Contradicted if one is, reproduced if all are. Otherwise inconclusive if one is, or if some are
    reproduced and the others were not run.
    """
    if "contradicted" in verdicts:
        return "contradicted"
    found = set(verdicts)
    if found in ({"reproduced"}, {"not run"}):
        return verdicts[0]
    if "inconclusive" in found or "not testable here" not in found:
        return "inconclusive"
    return "not testable here"


def deciding(results: Sequence[Result]) -> Result:
    """Primary quantity that decides on the law: the first with the law's verdict."""
    verdict = combine_verdicts([result.verdict for result in results])
    matching = [result for result in results if result.verdict == verdict]
    # If some are reproduced and others were not run, the latter keep the law inconclusive.
    return next(iter(matching or [each for each in results if each.verdict != "reproduced"]))
