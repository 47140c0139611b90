"""Command: a function and its options. Messages of commands on stderr."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from knowcap.training.launch import is_nonzero_rank

NONZERO_RANK_DELAY_S = 15.0
"""Seconds a non-zero rank waits before it prints its error; normally rank 0 ends it by then."""


@dataclass(frozen=True)
class Command:
    """Command of ``knowcap``."""

    function: Callable[[argparse.Namespace], int | None]
    """Reads and writes files; returns the exit code, or None for 0."""
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    """Adds the options to the parser of the command."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        return self.function.__name__

    @property
    def help(self) -> str:
        """First line of the docstring of the function."""
        return (self.function.__doc__ or "").splitlines()[0]


def print_line(line: str) -> None:
    """Print a line to stderr; non-zero ranks wait, as rank 0 normally prints the same line."""
    if is_nonzero_rank():
        time.sleep(NONZERO_RANK_DELAY_S)
    with suppress(OSError):  # the log can be on the disk that is full
        sys.stderr.write(line + "\n")
