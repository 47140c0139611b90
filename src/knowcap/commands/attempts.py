"""Attempts of a job: a mistake that the next attempt would repeat stops it at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knowcap.artifacts import files
from knowcap.commands import option_types
from knowcap.errors import UserError
from knowcap.training.launch import is_nonzero_rank


def add_attempt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that a workflow repeats when it fails."""
    attempts = parser.add_argument_group("attempts", "How a workflow repeats this command.")
    attempts.add_argument(
        "--attempt", type=option_types.count, default=1, help="number of this attempt (default: 1)"
    )
    attempts.add_argument(
        "--max-attempts",
        type=option_types.count,
        metavar="N",
        help="last attempt; later ones stop at once (default: no limit)",
    )
    attempts.add_argument(
        "--refusal",
        type=option_types.path,
        metavar="FILE",
        help="file that keeps a mistake; with it, attempts after the first one stop at once",
    )


@contextmanager
def refuse_repetition(options: argparse.Namespace) -> Iterator[None]:
    """Stop an attempt that cannot succeed; otherwise run the block and keep its mistake.

    Raises
    ------
    UserError
        If an earlier attempt was refused, with its message, or this is one attempt too many.
    """
    refusal: Path | None = getattr(options, "refusal", None)
    attempt = getattr(options, "attempt", 1)
    limit = getattr(options, "max_attempts", None)
    if limit is not None and attempt > limit:
        raise UserError(f"--attempt: {attempt} is one too many, at most {limit} are made")
    if refusal is None:
        yield
        return
    if attempt > 1 and refusal.exists():
        first = refusal.read_text(encoding="utf-8").splitlines()
        raise UserError.of_lines([*first, f"{refusal}: this was refused before, not tried again"])
    with suppress(OSError):
        refusal.unlink(missing_ok=True)
    try:
        yield
    except UserError as error:
        if not (error.is_transient or is_nonzero_rank()):
            with suppress(UserError):  # a disk that is full or read-only
                files.write_text(refusal, f"{error}\n")
        raise
