"""Wall time of command lines."""

from __future__ import annotations

import logging
import shlex
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from knowcap.errors import UserError
from knowcap_benchmarks.machine import describe_machine, with_load_after

_log = logging.getLogger(__name__)


def time_commands(commands: Sequence[str], rounds: int) -> dict[str, Any]:
    """Time command lines in interleaved rounds.

    Raises
    ------
    UserError
        If a command fails.
    """
    times: dict[str, list[float]] = {command: [] for command in commands}
    machine = describe_machine(1, "cpu", [])
    for _ in range(rounds):
        for command in commands:
            times[command].append(time_command(shlex.split(command)))
    return {
        "format": 1,
        "kind": "commands",
        "name": "commands",
        "machine": with_load_after(machine),
        "commands": times,
    }


def time_command(command: list[str]) -> float:
    """Run a command and return its wall time in seconds.

    Raises
    ------
    UserError
        If its exit code is not 0.
    """
    start = time.perf_counter()
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    elapsed_s = time.perf_counter() - start
    if process.returncode:
        last_line = (process.stderr.strip() or "no error output").splitlines()[-1]
        raise UserError(f"{shlex.join(command)}: exit code {process.returncode}: {last_line}")
    _log.info("%.1f s: %s", elapsed_s, shlex.join(command)[:100])
    return elapsed_s


def median_times(times: dict[str, list[float]]) -> dict[str, float]:
    """Median of each command's times."""
    return {command: statistics.median(values) for command, values in times.items()}
