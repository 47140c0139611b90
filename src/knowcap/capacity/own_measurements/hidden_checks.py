"""Preconditions that a table cannot show, because columns are missing: never met, no number."""

from __future__ import annotations

import math

import xarray as xr

from knowcap.capacity.laws.preconditions import RATE_SEPARATOR, Check

NOT_SHOWN = "not shown by this table"

ATTRIBUTE = "preconditions_not_shown"
"""Attribute of a table with the names of these preconditions."""


def names_not_shown(table: xr.Dataset) -> list[str]:
    """Return the names of the preconditions that a table cannot show."""
    return list(filter(None, str(table.attrs.get(ATTRIBUTE, "")).split(", ")))


def is_unknown(value: float) -> bool:
    """Whether the number of such a precondition, which is not met, stands for a missing value.

    Unknown steps are 1, and unknown tokens 0. An unknown learning rate counts as the only one that
    was tried, whose ratio to the next is infinite.
    """
    return not math.isfinite(value) or value in (0, 1)


def check_text(check: Check, not_shown: list[str]) -> str:
    """Text of a precondition, without a number that the table cannot show."""
    is_hidden = check.name in not_shown and not check.passed and is_unknown(check.value)
    return without_number(str(check)) if is_hidden else str(check)


def without_number(text: str) -> str:
    """Text of a precondition whose number is replaced by "not shown by this table"."""
    description, number_and_limit = text.rsplit(": ", 1)
    description = description.rsplit(RATE_SEPARATOR, 1)[-1]
    return f"{description}: {NOT_SHOWN}, {number_and_limit.rsplit(', ', 1)[-1]}"
