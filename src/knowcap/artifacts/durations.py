"""Durations as text."""

from __future__ import annotations

import math

UNITS_S = {"d": 86_400, "h": 3600, "min": 60}


def format_duration(seconds: float) -> str:
    """Return a duration as text, such as `1.5 h` or `20 s`; a dash for NaN."""
    if math.isnan(seconds):
        return "\u2013"
    for unit, length_s in UNITS_S.items():
        if seconds >= length_s:
            return f"{seconds / length_s:,.1f} {unit}"
    return f"{seconds:.0f} s"
