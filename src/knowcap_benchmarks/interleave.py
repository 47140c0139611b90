"""Interleaved rounds: every measurement in a process of its own, A B C, then B C A, then C A B.

A machine drifts over minutes, and what runs beside a measurement slows it. Both touch all that is
measured in the same round about equally, so ratios are taken within rounds.
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
"""Of one measurement; compilers take minutes of it."""

Answer = dict[str, Any]
"""What a worker measured, or `{"failed": why}`."""


class Request(NamedTuple):
    """One measurement of :mod:`knowcap_benchmarks.worker`."""

    measure: str
    arguments: Mapping[str, Any]
    num_threads: int
    environment: Mapping[str, str] = {}


def ask(request: Request) -> Answer:
    """Measure in a process of its own; what fails says why in one line."""
    command = [sys.executable, "-m", "knowcap_benchmarks.worker"]
    text = json.dumps({"measure": request.measure, **request.arguments})
    threads = {"OMP_NUM_THREADS": str(request.num_threads)}
    try:
        done = subprocess.run(
            [*command, text],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            env={**os.environ, **threads, **request.environment},
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {TIME_LIMIT_S} s"}
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode == 0 and lines:
        answer: Answer = json.loads(lines[-1])
        return answer
    complaints = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": (complaints or [f"exit code {done.returncode}"])[-1][:200]}


def interleaved(requests: Mapping[str, Sequence[Request]]) -> dict[str, list[Answer]]:
    """Ask for every measurement once a round, each round beginning with another.

    Parameters
    ----------
    requests
        By name, a request for each round; all of the same length.

    Returns
    -------
    dict
        By name, an answer for each round. What failed once is not asked again.
    """
    names = list(requests)
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    for number in range(len(requests[names[0]])):
        for name in order(names, number):
            if answers[name] and "failed" in answers[name][-1]:
                answers[name].append(answers[name][-1])
                continue
            answers[name].append(ask(requests[name][number]))
            _log.info("round %d: %s: %s", number + 1, name, _in_short(answers[name][-1]))
    return answers


def order(names: Sequence[str], number: int) -> list[str]:
    """Who is measured after whom in a round: each round begins with another."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _in_short(answer: Answer) -> str:
    if "failed" in answer:
        return str(answer["failed"])
    return f"{answer['tokens_per_s']:,.0f} tokens/s"


class Ratio(NamedTuple):
    """One speed as a multiple of another, over rounds."""

    median: float
    low: float
    high: float


def ratio(speeds: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Divide speeds by those of the baseline in the same rounds."""
    ratios = [speed / base for speed, base in zip(speeds, baseline, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
