"""Texts of numbers and intervals for people."""

from __future__ import annotations

import math

from knowcap.capacity.forecast.log_prediction import Interval


def number_text(number: float) -> str:
    """Text of a number with three digits, such as `2.06`, `33,800` or `1.4e10`."""
    if math.isnan(number):
        return "-"
    if math.isinf(number):
        return "unlimited"
    if number and not 1e-3 <= abs(number) < 1e7:
        digits, exponent = f"{number:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def interval_text(interval: Interval) -> str:
    """Text of an interval, such as `2.06 (1.9 to 2.2)`; of its number alone if it is exact."""
    estimate = number_text(interval.estimate)
    if math.isnan(interval.lower) or interval.lower == interval.upper:
        return estimate
    lower = "less" if interval.lower == 0 else number_text(interval.lower)
    upper = "more" if math.isinf(interval.upper) else number_text(interval.upper)
    return f"{estimate} ({lower} to {upper})"


def range_text(limits: tuple[float, float]) -> str:
    """Text of a range, such as `100 to 1,000`; of one number if its ends are equal."""
    lower, upper = map(number_text, limits)
    return lower if lower == upper else f"{lower} to {upper}"
