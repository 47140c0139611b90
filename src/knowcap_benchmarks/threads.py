"""One training on all threads, beside as many trainings of one thread each.

The tokens per second of both ways, from which `knowcap.planning.training_threads` chooses the
threads of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from knowcap_benchmarks.cases import CASES, Case, speed_case
from knowcap_benchmarks.interleave import Request, WorkerResult, round_order, run_worker
from knowcap_benchmarks.machine import describe_machine, with_load_after
from knowcap_benchmarks.training import training_request

TOGETHER, SIDE_BY_SIDE = "together", "side_by_side"

SHAPES: tuple[tuple[str, Case], ...] = (
    ("knowcap", CASES["replicates-16"]),
    ("knowcap", CASES["replicates-32"]),
    ("knowcap-bf16", speed_case(2, 64, 2, 512)),
    ("knowcap-bf16", speed_case(2, 64, 12, 512)),
    ("knowcap-bf16", speed_case(2, 128, 12, 512)),
    ("knowcap-bf16", speed_case(4, 256, 16, 512)),
)
"""Implementation and case of each comparison."""


def measure_threads(num_threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one training on all threads, and one for each thread, side by side.

    Parameters
    ----------
    num_threads
        Threads of the training, and number of the trainings of one thread.
    rounds
        Number of measurements of each kind and shape.
    seconds
        Length of one measurement.

    Returns
    -------
    dict
        The machine, and for each shape the tokens/s of all trainings in each round.
    """
    machine = describe_machine(num_threads, "cpu", ("knowcap",))
    shapes = [
        {
            "case": case.model_dump(mode="json"),
            "implementation": implementation,
            "rounds": _measure(case, implementation, num_threads, rounds, seconds),
        }
        for implementation, case in SHAPES
    ]
    return {
        "format": 1,
        "kind": "threads",
        "num_threads": num_threads,
        "machine": with_load_after(machine),
        "shapes": shapes,
    }


def _measure(
    case: Case, implementation: str, num_threads: int, rounds: int, seconds: float
) -> dict[str, list[WorkerResult]]:
    together, one = (
        training_request(case, implementation, threads, seconds) for threads in (num_threads, 1)
    )
    ways = {TOGETHER: [together], SIDE_BY_SIDE: [one] * num_threads}
    results: dict[str, list[WorkerResult]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in round_order(list(ways), number):
            results[name].append(_run_side_by_side(ways[name]))
    return results


def _run_side_by_side(requests: Sequence[Request]) -> WorkerResult:
    """Make measurements at the same time, and return the sum of their speeds."""
    with ThreadPoolExecutor(len(requests)) as executor:
        results = list(executor.map(run_worker, requests))
    failed = [result for result in results if "failed" in result]
    return (failed or [{"tokens_per_s": sum(result["tokens_per_s"] for result in results)}])[0]
