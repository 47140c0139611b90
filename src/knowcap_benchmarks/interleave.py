"""Worker processes and interleaved rounds: order A B C, then B C A, then C A B.

The speed of a machine drifts over minutes, and other processes slow it down. Both affect all
measurements of one round about equally, so ratios are taken within rounds.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)

TIME_LIMIT_S = 1800
"""Limit of one measurement; compilation takes minutes of it."""

WorkerResult = dict[str, Any]
"""Values measured by a worker, or `{"failed": reason}`."""


class Request(NamedTuple):
    """One measurement to make in a worker process (:mod:`knowcap_benchmarks.worker`)."""

    measurement: str
    """A name in :data:`knowcap_benchmarks.worker.MEASUREMENTS`."""
    arguments: Mapping[str, Any]
    num_threads: int
    environment: Mapping[str, str] = {}


def run_worker(request: Request) -> WorkerResult:
    """Make a measurement in a new process; a failure is returned in one line."""
    command = [sys.executable, "-m", "knowcap_benchmarks.worker"]
    text = json.dumps({"measurement": request.measurement, **request.arguments})
    threads = {"OMP_NUM_THREADS": str(request.num_threads)}
    try:
        process = subprocess.run(
            [*command, text],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            env={**os.environ, **threads, **request.environment},
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {TIME_LIMIT_S} s"}
    output = [line for line in process.stdout.splitlines() if line.strip()]
    if process.returncode == 0 and output:
        result: WorkerResult = json.loads(output[-1])
        return result
    errors = [line for line in process.stderr.splitlines() if line.strip()]
    return {"failed": (errors or [f"exit code {process.returncode}"])[-1][:200]}


def run_interleaved(requests: Mapping[str, Sequence[Request]]) -> dict[str, list[WorkerResult]]:
    """Make every measurement once per round, each round starting with another.

    Parameters
    ----------
    requests
        By name, a request for each round; all of the same length.

    Returns
    -------
    dict
        By name, a result for each round. A measurement that failed is not repeated; its failure
        fills the later rounds.
    """
    names = list(requests)
    results: dict[str, list[WorkerResult]] = {name: [] for name in names}
    for number in range(len(requests[names[0]])):
        for name in round_order(names, number):
            if results[name] and "failed" in results[name][-1]:
                results[name].append(results[name][-1])
                continue
            results[name].append(run_worker(requests[name][number]))
            _log.info("round %d: %s: %s", number + 1, name, _summary(results[name][-1]))
    return results


def round_order(names: Sequence[str], number: int) -> list[str]:
    """Order of the measurements of a round: the names, rotated by the round's number."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _summary(result: WorkerResult) -> str:
    if "failed" in result:
        return str(result["failed"])
    return f"{result['tokens_per_s']:,.0f} tokens/s"


class Ratio(NamedTuple):
    """One speed as a multiple of another: median and range over rounds."""

    median: float
    low: float
    high: float


def ratio(speeds: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Divide speeds by those of the baseline in the same rounds."""
    ratios = [speed / base for speed, base in zip(speeds, baseline, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
