"""What the paper claims, and when an interval agrees with it.

A law is a few quantities. Each has a claim with a margin, fixed here beside its reason before
anything is measured, and an estimator. The verdict follows from the interval alone: inside the
claimed range the claim is reproduced, outside it is contradicted, across its edge neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

Status = Literal["ok", "one seed", "too few models", "not positive", "no data"]

Verdict = Literal["reproduced", "contradicted", "inconclusive", "not run"]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval; NaN where there is none."""

    value: float
    lower: float
    upper: float
    nobs: int
    """Measured models it rests on."""
    num_seeds: int
    """Trainings of each that tell noise from effect."""
    status: Status
    """`ok`, or why there is no interval."""

    @classmethod
    def without_interval(
        cls, status: Status, value: float = math.nan, nobs: int = 0, num_seeds: int = 0
    ) -> Estimate:
        """Return what is known when there is no interval."""
        return cls(value, math.nan, math.nan, nobs, num_seeds, status)

    def transformed(self, function: Callable[[float], float]) -> Estimate:
        """Return the estimate of an increasing function of the quantity."""
        value, lower, upper = map(function, (self.value, self.lower, self.upper))
        return replace(self, value=value, lower=lower, upper=upper)


Estimator = Callable[[pd.DataFrame], Estimate]
"""From the replicates of one scale, as :func:`knowcap.capacity.table.replicates` gives."""


@dataclass(frozen=True)
class Claim:
    """A number of the paper's and how far from it still agrees."""

    relation: Literal["at least", "at most", "about"]
    value: float
    margin: float
    reason: str
    """Why this margin."""

    @property
    def accepted(self) -> tuple[float, float]:
        """The range that agrees.

        An interval inside it is also a test of equivalence to the claim (TOST, at 2.5 %).
        """
        lower = -math.inf if self.relation == "at most" else self.value - self.margin
        upper = math.inf if self.relation == "at least" else self.value + self.margin
        return lower, upper

    def __str__(self) -> str:
        return f"{self.relation} {self.value:.3g}"

    def verdict(self, estimate: Estimate) -> Verdict:
        """Compare an estimate's interval with the accepted range."""
        if estimate.status == "no data":
            return "not run"
        if math.isnan(estimate.lower) or math.isnan(estimate.upper):
            return "inconclusive"
        lower, upper = self.accepted
        if lower <= estimate.lower and estimate.upper <= upper:
            return "reproduced"
        if estimate.upper < lower or upper < estimate.lower:
            return "contradicted"
        return "inconclusive"

    def explain(self, estimate: Estimate, needs: str) -> str:
        """One sentence that gives the verdict its reason; `needs` is what it is measured on."""
        verdict = self.verdict(estimate)
        if verdict == "not run":
            return f"Not measured, it needs {needs}."
        if estimate.status != "ok":
            known = "" if math.isnan(estimate.value) else f"Measured {estimate.value:.3g}, but "
            why = {
                "one seed": "one seed gives no interval, and a bare number decides nothing",
                "too few models": f"{estimate.nobs} models are too few for an interval",
                "not positive": "a ratio of capacities needs both to be positive",
            }[estimate.status]
            return f"{known}{why}." if known else f"{why[0].upper()}{why[1:]}."
        lower, upper = self.accepted
        accepted = {
            "at least": f"{lower:.3g} or more",
            "at most": f"{upper:.3g} or less",
            "about": f"{lower:.3g} to {upper:.3g}",
        }[self.relation]
        place = {
            "reproduced": "inside",
            "contradicted": "outside",
            "inconclusive": "across the edge of",
        }[verdict]
        return (
            f"The interval {estimate.lower:.3g} to {estimate.upper:.3g} lies {place} "
            f"what agrees with the claim, {accepted}."
        )


@dataclass(frozen=True)
class Quantity:
    """A number that a law is about."""

    name: str
    units: str
    claim: Claim
    estimate: Estimator
    needs: str
    """Measurements without which there is no estimate."""
    needed: bool = True
    """Whether the law counts as measured only with this quantity."""
    by: str | None = None
    """Column whose groups are also estimated one by one, for detail."""
    remark: Callable[[pd.DataFrame], str] | None = None
    """A sentence on the models that it is estimated from, none if empty."""
    variants: Mapping[str, Estimator] = field(default_factory=dict)
    """Estimates of the same kind that the paper does not have, by name, for detail."""


@dataclass(frozen=True)
class Law:
    """One of the paper's laws."""

    number: int
    title: str
    claim: str
    """What the paper says, in our words."""
    reads: tuple[int, ...]
    """Laws whose experiments it compares, itself among them."""
    quantities: tuple[Quantity, ...]
    """The first is the one that stands for the law where there is room for one."""
    reads_quantized: bool = False
    """Whether it reads models in every precision, and not only as training left them."""


def combine_verdicts(verdicts: Sequence[tuple[Quantity, Verdict]]) -> Verdict:
    """Verdict on a law from those on its quantities.

    Contradicted if one is, reproduced if all that are needed or were run are.
    """
    found = [verdict for _, verdict in verdicts]
    if all(verdict == "not run" for verdict in found):
        return "not run"
    if "contradicted" in found:
        return "contradicted"
    counted = [v for quantity, v in verdicts if quantity.needed or v != "not run"]
    return "reproduced" if all(v == "reproduced" for v in counted) else "inconclusive"
