"""Data classes Law, Quantity, Claim and Estimate, and the rule for verdicts.

A law has a few quantities. Each quantity has an estimator and a claim of the paper with a margin.
Margins are fixed here before anything is measured, each with its reason. Only the interval decides:
inside the accepted range the claim is reproduced, outside it is contradicted, otherwise the verdict
is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

Status = Literal["ok", "one seed", "too few models", "not positive", "no data"]
"""`ok`, or why an estimate has no interval."""

Verdict = Literal["reproduced", "contradicted", "inconclusive", "not run"]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % confidence interval; NaN where one does not exist."""

    value: float
    lower: float
    upper: float
    nobs: int
    """Number of measured models."""
    num_seeds: int
    """Number of seeds per model, from which the interval is computed."""
    status: Status

    @classmethod
    def without_interval(
        cls, status: Status, value: float = math.nan, nobs: int = 0, num_seeds: int = 0
    ) -> Estimate:
        """Return an estimate whose interval is NaN."""
        return cls(value, math.nan, math.nan, nobs, num_seeds, status)

    def transform(self, function: Callable[[float], float]) -> Estimate:
        """Return the estimate of an increasing function of the quantity."""
        value, lower, upper = map(function, (self.value, self.lower, self.upper))
        return replace(self, value=value, lower=lower, upper=upper)


Estimator = Callable[[pd.DataFrame], Estimate]
"""Maps rows of :func:`knowcap.capacity.table.replicates`, of one scale, to an estimate."""


@dataclass(frozen=True)
class Claim:
    """A number claimed by the paper, with an accepted margin."""

    relation: Literal["at least", "at most", "about"]
    value: float
    margin: float
    reason: str
    """Reason for the margin, printed in the report."""

    @property
    def accepted(self) -> tuple[float, float]:
        """Lower and upper end of the range that agrees with the claim.

        An interval inside this range is an equivalence test of the claim (TOST, at 2.5 %).
        """
        lower = -math.inf if self.relation == "at most" else self.value - self.margin
        upper = math.inf if self.relation == "at least" else self.value + self.margin
        return lower, upper

    def __str__(self) -> str:
        return f"{self.relation} {self.value:.3g}"

    def verdict(self, estimate: Estimate) -> Verdict:
        """Verdict of an estimate: its interval compared with the accepted range."""
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
        """One sentence with the reason of the verdict; `needs` names the models it requires."""
        verdict = self.verdict(estimate)
        if verdict == "not run":
            return f"Not measured: this needs {needs}."
        if estimate.status != "ok":
            reason = {
                "one seed": "an interval needs at least two seeds",
                "too few models": f"{estimate.nobs} models are too few for an interval",
                "not positive": "a ratio needs positive capacities",
            }[estimate.status]
            if math.isnan(estimate.value):
                return f"{reason[0].upper()}{reason[1:]}."
            return f"Measured {estimate.value:.3g}, but {reason}."
        lower, upper = self.accepted
        accepted = {
            "at least": f"{lower:.3g} or more",
            "at most": f"{upper:.3g} or less",
            "about": f"{lower:.3g} to {upper:.3g}",
        }[self.relation]
        position = {
            "reproduced": "inside",
            "contradicted": "outside",
            "inconclusive": "partly inside",
        }[verdict]
        return (
            f"The interval {estimate.lower:.3g} to {estimate.upper:.3g} lies {position} "
            f"the accepted range, {accepted}."
        )


@dataclass(frozen=True)
class Quantity:
    """One measured number of a law."""

    name: str
    units: str
    claim: Claim
    estimate: Estimator
    needs: str
    """Models that the estimate requires, in words."""
    required: bool = True
    """Whether the law can be reproduced only if this quantity is measured."""
    by: str | None = None
    """Column by which the models are grouped for additional estimates."""
    note: Callable[[pd.DataFrame], str] | None = None
    """Returns a sentence about the models, appended to the explanation; it may be empty."""
    variants: Mapping[str, Estimator] = field(default_factory=dict)
    """Additional estimates that the paper does not have, by name."""


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
    """The first one represents the law in short tables."""
    includes_quantized: bool = False
    """Whether quantised models are used too."""


def combine_verdicts(verdicts: Sequence[tuple[Quantity, Verdict]]) -> Verdict:
    """Verdict on a law from the verdicts on its quantities.

    Contradicted if one quantity is; reproduced if all that are required or measured are.
    """
    found = [verdict for _, verdict in verdicts]
    if all(verdict == "not run" for verdict in found):
        return "not run"
    if "contradicted" in found:
        return "contradicted"
    counted = [v for quantity, v in verdicts if quantity.required or v != "not run"]
    return "reproduced" if all(v == "reproduced" for v in counted) else "inconclusive"
