"""Claims of the paper with their margins, and the test of an estimate against a claim.

Factors have multiplicative margins. A claim "f times lower" accepts factors from f^(1/2) to
f^(3/2), at most 1.5 times f either way. So neither no effect nor twice the effect is accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from knowcap.capacity.laws.estimate import Estimate

SMALLEST_EFFECT = 1.3
"""Smallest factor that the paper calls an effect."""  # PAPER Results 6, 9 and 10.

EQUAL_FACTOR = math.sqrt(SMALLEST_EFFECT)
"""Factors from 1 / EQUAL_FACTOR to EQUAL_FACTOR are accepted as equal."""
# ASSUME: the paper states no tolerance. Two values are equal if they differ by less than half of
# the smallest effect that the paper reports, 1.3 times, on the logarithmic scale.

LARGEST_FACTOR = 1.5
"""Largest multiplicative margin."""
# ASSUME: for claims of 3 and 20 times, the square root would accept 1.7 to 5.2 and 4.5 to 89 times.

ONE_SIDED_FACTOR = 1.1
"""Margin of claims such as "more than 2 times lower"."""
# ASSUME: a tenth, because the paper gives such factors with one or two digits.


class PValues(NamedTuple):
    """Two-sided p-values of the two verdicts, comparable to ALPHA."""

    reproduced: float
    """Of the hypothesis that the true value lies outside the accepted range."""
    contradicted: float
    """Of the hypothesis that the true value lies inside the accepted range."""


@dataclass(frozen=True)
class Claim:
    """A number claimed by the paper, with the range that agrees with it."""

    text: str
    """The claim in words, such as `1.3 times lower`."""
    value: float
    lower: float
    upper: float
    reason: str
    """Reason for the margin, printed in the report."""
    effect: float = 1.0
    """For "f times lower", f: neither 1 nor f^2 is accepted."""

    def p_values(self, estimate: Estimate) -> PValues:
        """P-values of both verdicts; 1 for an estimate without an interval.

        Below ALPHA, the first means that the 95 % interval lies inside the accepted range (an
        equivalence test, TOST), the second that it lies outside.
        """
        if not estimate.has_interval:
            return PValues(1.0, 1.0)
        inside = max(estimate.p_above(self.lower), estimate.p_below(self.upper))
        outside = min(estimate.p_below(self.lower), estimate.p_above(self.upper))
        return PValues(min(1.0, 2 * inside), min(1.0, 2 * outside))

    @property
    def accepted(self) -> str:
        """The accepted range in words."""
        if math.isinf(self.upper):
            return f"{self.lower:.3g} or more"
        if math.isinf(self.lower):
            return f"{self.upper:.3g} or less"
        return f"{self.lower:.3g} to {self.upper:.3g}"


def at_least(value: float, margin: float, reason: str, text: str | None = None) -> Claim:
    """Claim that a quantity is at least `value`, with an additive margin."""
    return Claim(text or f"at least {value:.3g}", value, value - margin, math.inf, reason)


def equal(reason: str = "", factor: float = EQUAL_FACTOR, *, or_more: bool = False) -> Claim:
    """Claim that a ratio is 1, or at least 1 if `or_more`."""
    why = reason or "half of the smallest effect in the paper, 1.3 times, on a logarithmic scale"
    text = "no loss" if or_more else "equal"
    return Claim(text, 1.0, 1 / factor, math.inf if or_more else factor, why)


def times_lower(effect: float) -> Claim:
    """Claim that a ratio is 1 / `effect`."""
    factor = min(math.sqrt(effect), LARGEST_FACTOR)
    reason = f"half of the effect either way: {effect / factor:.3g} to {effect * factor:.3g} times"
    if factor == LARGEST_FACTOR:
        reason = f"1.5 times either way: {effect / factor:.3g} to {effect * factor:.3g} times lower"
    return Claim(
        f"{effect:g} times lower",
        1 / effect,
        1 / (effect * factor),
        factor / effect,
        reason,
        effect,
    )


def more_than_times_lower(
    effect: float, factor: float = ONE_SIDED_FACTOR, reason: str = ""
) -> Claim:
    """Claim that a ratio is at most 1 / `effect`."""
    why = reason or "a tenth, as the paper gives one or two digits"
    return Claim(
        f"more than {effect:g} times lower", 1 / effect, -math.inf, factor / effect, why, effect
    )


def position(claim: Claim, estimate: Estimate) -> str:
    """Where the interval lies with respect to the accepted range, in words."""
    if estimate.upper < claim.lower or estimate.lower > claim.upper:
        side = "below" if estimate.upper < claim.lower else "above"
        return f"lies {side} the accepted range"
    if claim.lower <= estimate.lower and estimate.upper <= claim.upper:
        return "lies inside the accepted range"
    return "lies partly inside the accepted range"
