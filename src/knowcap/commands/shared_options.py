"""Arguments and options that several commands have."""

from __future__ import annotations

import argparse

from knowcap.commands import option_types

NUM_PEOPLE = 10_000
"""People that are evaluated by default: enough for bits within 0.1 %."""


FINISHED_STUDY = "study file, folder of a finished study, or its capacity.nc"
"""Help of the argument of commands that read the table of a study."""


def add_study(
    parser: argparse.ArgumentParser, text: str = "study file", *, is_optional: bool = False
) -> None:
    """Add the argument with the study, which is the first one without a name."""
    parser.add_argument(
        "study", type=option_types.path, nargs="?" if is_optional else None, metavar="STUDY",
        help=text,
    )  # fmt: skip


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
