"""Training speed of the implementations of a case, in tokens per second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowcap.errors import UserError
from knowcap_benchmarks.cases import CASES, Case
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.interleave import Request, run_interleaved
from knowcap_benchmarks.machine import describe_machine, with_load_after

CHECK_STEPS = 10
"""Steps of the first round after which losses are compared."""

MIN_BFLOAT16_SPEED = 0.5
"""Least speed of bfloat16 matrix products that is measured, as a share of float32.

Processors with bfloat16 instructions reach twice the speed of float32. Others emulate bfloat16, and
a step takes minutes."""


def compare_implementations(
    name: str, num_threads: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Measure the training speed of all implementations of a case.

    Parameters
    ----------
    name
        A name in :data:`~knowcap_benchmarks.cases.CASES`.
    num_threads
        CPU threads of cases that do not set their own number.
    rounds
        Number of measurements of each implementation.
    seconds
        Time of one measurement, without warm-up steps.

    Returns
    -------
    dict
        The case, the machine, and for each implementation its speed in tokens/s in every round,
        its loss in nats before the first step and after :data:`CHECK_STEPS`, its number of
        parameters and its peak memory in bytes.

    Raises
    ------
    UserError
        If the case does not exist, or needs a GPU and there is none.

    Notes
    -----
    Where bfloat16 is emulated (:data:`MIN_BFLOAT16_SPEED`), implementations in bfloat16 are left
    out; the reason is in their place.
    """
    if name not in CASES:
        allowed = ", ".join([*CASES, "rendering", "growth", "commands", "stages"])
        raise UserError(f"benchmark name {name!r}: allowed are {allowed}")
    case = CASES[name]
    _check_device(name, case)
    threads = case.num_threads or num_threads
    packages = {IMPLEMENTATIONS[each].package for each in case.implementations}
    machine = describe_machine(threads, case.device, packages)
    reasons_to_skip = {
        each: reason_to_skip(each, machine["products_gflops"]) for each in case.implementations
    }
    results = run_interleaved(
        {
            each: [
                training_request(case, each, threads, seconds, 0 if number else CHECK_STEPS)
                for number in range(rounds)
            ]
            for each, reason in reasons_to_skip.items()
            if reason is None
        }
    )
    return {
        "format": 1,
        "kind": "training",
        "name": name,
        "case": case.model_dump(mode="json"),
        "machine": with_load_after(machine),
        "check_steps": CHECK_STEPS,
        "implementations": {
            each: {
                "label": IMPLEMENTATIONS[each].label,
                "rounds": results.get(each, [{"failed": reason}]),
            }
            for each, reason in reasons_to_skip.items()
        },
    }


def reason_to_skip(name: str, matmul_gflops: Mapping[str, float]) -> str | None:
    """Reason why an implementation cannot be measured on this machine, or None.

    Parameters
    ----------
    name
        A name in :data:`~knowcap_benchmarks.implementations.IMPLEMENTATIONS`.
    matmul_gflops
        Speed of matrix products by dtype, in GFLOP/s.
    """
    implementation = IMPLEMENTATIONS[name]
    if implementation.package_version is None:
        return f"{implementation.package} is not installed"
    float32, bfloat16 = (matmul_gflops.get(dtype, 0.0) for dtype in ("float32", "bfloat16"))
    if implementation.bfloat16 and bfloat16 < MIN_BFLOAT16_SPEED * float32:
        return f"bfloat16 is emulated here: {bfloat16:.0f} GFLOP/s, {float32:.0f} in float32"
    return None


def _check_device(name: str, case: Case) -> None:
    if case.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"benchmark {name}: needs a GPU, and there is none")


def training_request(
    case: Case, name: str, num_threads: int, seconds: float, check_steps: int = 0
) -> Request:
    """Request for the training speed of one implementation; its loss after `check_steps`, too."""
    arguments = {
        "case": case.model_dump(mode="json"),
        "implementation": name,
        "num_threads": num_threads,
        "check_steps": check_steps,
        "seconds": seconds,
    }
    return Request("training", arguments, num_threads, IMPLEMENTATIONS[name].environment)
