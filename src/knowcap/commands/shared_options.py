"""Options that several commands have."""

from __future__ import annotations

import argparse

from knowcap.commands import option_types

NUM_PEOPLE = 10_000
"""People that are evaluated by default: enough for bits within 0.1 %."""


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads", type=option_types.count, default=1, help="CPU threads (default: 1)"
    )


def add_num_people(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-people``."""
    parser.add_argument(
        "--num-people",
        type=option_types.large_count,
        default=NUM_PEOPLE,
        help=f"people to evaluate, the first of the corpus (default: {NUM_PEOPLE})",
    )
