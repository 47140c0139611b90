"""Types of command line options: each parses a text, or raises an error with what is allowed."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from knowcap.errors import shown


def path(text: str) -> Path:
    """Parse a path; an empty one would be the working directory."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a path")
    return Path(text)


def names(text: str) -> list[str]:
    """Parse a list of names, separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a list of names, such as run,seed")
    return found


def count(text: str) -> int:
    """Parse an integer of at least 1."""
    return _integer(text, 1)


def count_or_zero(text: str) -> int:
    """Parse an integer of at least 0."""
    return _integer(text, 0)


def large_count(text: str) -> int:
    """Parse an integer of at least 1, of people or tokens."""
    return _integer(text, 1, 10**9)


def seed(text: str) -> int:
    """Parse a seed."""
    return _integer(text, 0, 2**63 - 1)


def _integer(text: str, least: int, most: int = 99999) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not an integer from {least} to {most}")
    return int(text)


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a positive number")
    return number


def not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a finite number of at least 0")
    return number
