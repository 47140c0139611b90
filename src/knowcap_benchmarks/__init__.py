"""Benchmarks: the speed of knowcap beside other libraries (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knowcap.errors import UserError


def run_benchmark(
    name: str,
    study: Path | None,
    commands: Sequence[str] | None,
    num_threads: int,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Run one benchmark and return its results.

    Parameters
    ----------
    name
        A comparison of :data:`knowcap_benchmarks.cases.CASES`, or `rendering`, `growth`,
        `threads`, `commands` or `stages`.
    study
        Study file; `stages` times its stages.
    commands
        Command lines; `commands` times them.
    num_threads
        CPU threads of comparisons that do not set their own number.
    rounds
        Number of measurements of each kind.
    seconds
        Length of one measurement.

    Returns
    -------
    dict
        JSON: the measurements and the machine.

    Raises
    ------
    UserError
        If the benchmark does not exist, or one of its inputs is missing.
    """
    for option, number in (("--threads", num_threads), ("--rounds", rounds)):
        if number < 1:
            raise UserError(f"{option} {number}: must be at least 1")
    if name == "rendering":
        from knowcap_benchmarks.rendering import measure_rendering

        return measure_rendering(rounds, seconds)
    if name == "growth":
        from knowcap_benchmarks.growth import measure_growth

        return measure_growth(rounds, seconds)
    if name == "threads":
        from knowcap_benchmarks.threads import measure_threads

        return measure_threads(num_threads, rounds, seconds)
    if name == "commands":
        from knowcap_benchmarks.commands import time_commands

        if not commands:
            raise UserError("benchmark commands: set the command lines to time with --command")
        return time_commands(commands, rounds)
    if name == "stages":
        from knowcap_benchmarks.stages import time_stages

        if study is None:
            raise UserError(
                "benchmark stages: no finished study is given, as in `run stages STUDY`"
            )
        return time_stages(study)
    from knowcap_benchmarks.training import compare_implementations

    return compare_implementations(name, num_threads, rounds, seconds)
