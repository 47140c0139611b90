"""The comparisons of :mod:`knowcap_benchmarks.cases`: who makes how many tokens a second."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from knowcap.errors import UserError
from knowcap_benchmarks.cases import CASES, Case
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.interleave import Request, interleaved
from knowcap_benchmarks.machine import describe

CHECK_STEPS = 10
"""Steps after which losses are compared, in the first round."""

LEAST_SPEED = 0.5
"""Of products in bfloat16, as a share of those in float32. Processors that multiply in it reach
twice; others emulate it, where a step takes minutes and compares nothing."""


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

    Notes
    -----
    Where bfloat16 is emulated (:data:`LEAST_SPEED`), implementations in it are left out, which is
    said in their place.
    """
    if name not in CASES:
        raise UserError(f"benchmark: {name!r} is none of {', '.join(CASES)}")
    case = CASES[name]
    _check_device(name, case)
    threads = case.num_threads or num_threads
    packages = {IMPLEMENTATIONS[each].package for each in case.implementations}
    machine = describe(threads, case.device, packages)
    missing = {each: obstacle(each, machine["products_gflops"]) for each in case.implementations}
    measured = [each for each, obstacle in missing.items() if obstacle is None]
    answers = interleaved(
        {
            each: [_request(case, each, threads, number, seconds) for number in range(rounds)]
            for each in measured
        }
    )
    return {
        "format": 1,
        "kind": "training",
        "name": name,
        "case": case.model_dump(mode="json"),
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "check_steps": CHECK_STEPS,
        "implementations": {
            each: {
                "label": IMPLEMENTATIONS[each].label,
                "rounds": answers.get(each, [{"failed": obstacle}]),
            }
            for each, obstacle in missing.items()
        },
    }


def obstacle(name: str, products_gflops: Mapping[str, float]) -> str | None:
    """Say why an implementation is not measured on this machine, if so.

    Parameters
    ----------
    name
        Of an implementation.
    products_gflops
        Speed of products of matrices by dtype, in 10^9 operations a second.
    """
    implementation = IMPLEMENTATIONS[name]
    if implementation.package_version is None:
        return f"{implementation.package} is not installed"
    float32, bfloat16 = (products_gflops.get(dtype, 0.0) for dtype in ("float32", "bfloat16"))
    if implementation.bfloat16 and bfloat16 < LEAST_SPEED * float32:
        return f"bfloat16 is emulated here: {bfloat16:.0f} GFLOP/s, {float32:.0f} in float32"
    return None


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
