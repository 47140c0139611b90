"""The comparisons of :mod:`knowcap.benchmarks.cases`: who makes how many tokens a second."""

from __future__ import annotations

import os
from typing import Any

from knowcap.benchmarks.cases import CASES, Case
from knowcap.benchmarks.implementations import IMPLEMENTATIONS
from knowcap.benchmarks.machine import describe
from knowcap.benchmarks.rounds import Request, interleaved
from knowcap.errors import UserError

CHECK_STEPS = 20
"""Steps after which losses are compared, in the first round."""


def compare(name: str, num_threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare the implementations of a case.

    Parameters
    ----------
    name
        Of a case.
    num_threads
        Of the CPU, for cases that do not say.
    rounds
        How often each is measured.
    seconds
        How long each time, from when it is warm.

    Returns
    -------
    dict
        The case, the machine, and for each implementation its speed in every round, its loss in
        nats before the first step and after :data:`CHECK_STEPS`, its size and its memory.

    Raises
    ------
    UserError
        If there is no such case, or it needs a GPU and there is none.
    """
    if name not in CASES:
        raise UserError(f"benchmark: {name!r} is none of {', '.join(CASES)}")
    case = CASES[name]
    _check_device(name, case)
    threads = case.num_threads or num_threads
    installed = [each for each in case.implementations if IMPLEMENTATIONS[each].package_version]
    packages = {IMPLEMENTATIONS[each].package for each in case.implementations}
    machine = describe(threads, case.device, packages)
    answers = interleaved(
        {
            each: [_request(case, each, threads, number, seconds) for number in range(rounds)]
            for each in installed
        }
    )
    missing = [
        {"failed": f"{IMPLEMENTATIONS[each].package} is not installed"}
        for each in case.implementations
    ]
    return {
        "format": 1,
        "kind": "training",
        "name": name,
        "case": case.model_dump(mode="json"),
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "check_steps": CHECK_STEPS,
        "implementations": {
            each: {"label": IMPLEMENTATIONS[each].label, "rounds": answers.get(each, [absent])}
            for each, absent in zip(case.implementations, missing, strict=True)
        },
    }


def _check_device(name: str, case: Case) -> None:
    if case.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"benchmark: {name} needs a GPU, and there is none")


def _request(case: Case, name: str, num_threads: int, number: int, seconds: float) -> Request:
    """Ask for one round of one implementation."""
    arguments = {
        "case": case.model_dump(mode="json"),
        "implementation": name,
        "num_threads": num_threads,
        "check_steps": CHECK_STEPS if number == 0 else 0,
        "seconds": seconds,
    }
    return Request("training", arguments, num_threads, IMPLEMENTATIONS[name].environment)
