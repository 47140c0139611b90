"""How fast this is, measured beside what one would otherwise use (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knowcap.errors import UserError


def measure(
    name: str,
    study: Path | None,
    commands: Sequence[str] | None,
    num_threads: int,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Make one benchmark.

    Parameters
    ----------
    name
        Of a comparison (:data:`knowcap_benchmarks.cases.CASES`), or `rendering`, `growth`,
        `commands` or `stages`.
    study
        Whose stages are timed.
    commands
        That are timed.
    num_threads
        Of the CPU, for comparisons that do not say.
    rounds, seconds
        How often each is measured, and how long each time.

    Returns
    -------
    dict
        What was measured, on which machine; JSON.

    Raises
    ------
    UserError
        If there is no such benchmark, or something of it is missing.
    """
    if num_threads < 1 or rounds < 1:
        raise UserError(f"benchmark: {num_threads} threads, {rounds} rounds: both are at least 1")
    if name == "rendering":
        from knowcap_benchmarks.rendering import measure_rendering

        return measure_rendering(rounds, seconds)
    if name == "growth":
        from knowcap_benchmarks.growth import measure_growth

        return measure_growth(rounds, seconds)
    if name == "commands":
        from knowcap_benchmarks.commands import time_commands

        if not commands:
            raise UserError("benchmark commands: --command says which")
        return time_commands(commands, rounds)
    if name == "stages":
        from knowcap_benchmarks.stages import time_stages

        if study is None:
            raise UserError("benchmark stages: --study says whose")
        return time_stages(study)
    from knowcap_benchmarks.training import compare

    return compare(name, num_threads, rounds, seconds)
