"""How long commands take, from their start to their end."""

from __future__ import annotations

import logging
import os
import shlex
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from knowcap.errors import UserError
from knowcap_benchmarks.machine import describe

_log = logging.getLogger(__name__)


def time_commands(commands: Sequence[str], rounds: int) -> dict[str, Any]:
    """Time commands, in interleaved rounds.

    Raises
    ------
    UserError
        If one of them fails.
    """
    times: dict[str, list[float]] = {command: [] for command in commands}
    machine = describe(1, "cpu", [])
    for _ in range(rounds):
        for command in commands:
            times[command].append(timed(shlex.split(command)))
    return {
        "format": 1,
        "kind": "commands",
        "name": "commands",
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "commands": times,
    }


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    elapsed = time.perf_counter() - begun
    if done.returncode:
        last = (done.stderr.strip() or "no complaint").splitlines()[-1]
        raise UserError(f"{shlex.join(command)}: exit code {done.returncode}: {last}")
    _log.info("%.1f s: %s", elapsed, shlex.join(command)[:100])
    return elapsed


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Median of each command's times."""
    return {command: statistics.median(values) for command, values in times.items()}
