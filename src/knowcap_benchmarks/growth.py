"""Growth of time and memory with people, exposures, replicates and model size.

Each series varies one quantity. Its exponent is the slope of log(time) over log(size): 1 is linear
growth, 0 is none.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from knowcap.planning.cost import flops_per_token
from knowcap_benchmarks.cases import CASES, Case, case_architecture
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.interleave import Request, WorkerResult, run_worker
from knowcap_benchmarks.machine import describe_machine, with_load_after

_log = logging.getLogger(__name__)

NUM_PEOPLE = (10**3, 10**4, 10**5, 10**6, 10**7)
EXPOSURES = (1, 10, 100, 1000)
NUM_REPLICATES = (1, 2, 4, 8, 16, 32)
NUM_HEADS = (1, 2, 4, 8)
"""Attention heads of a model of two layers, with windows of 128 tokens."""

BIOS = {"knowledge": {"kind": "bioS", "num_people": 1000, "seed": 0}, "tokenizer": "GPT2"}

BIOD = {
    "knowledge": {
        "kind": "bioD",
        "num_people": 1000,
        "num_attributes": 4,
        "num_chunks": 2,
        "diversity": 256,
        "chunk_length": 1,
        "alphabet_size": 256,
        "layout": "compact",
        "seed": 0,
    },
    "tokenizer": "word",
}


class Point(NamedTuple):
    """One point of the series of a varied quantity."""

    varied: str
    """Name of the varied quantity."""
    size: float
    """Value of the varied quantity."""
    request: Request
    costs: tuple[tuple[str, str], ...]
    """Name of each cost, and how its seconds are read from the result: see :func:`_seconds`."""


def measure_growth(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all points of all series once per round.

    Returns
    -------
    dict
        For each series and cost: sizes, median seconds, their exponent, and the largest peak
        memory in bytes at each size.
    """
    machine = describe_machine(1, "cpu", [])
    points = list(_points(seconds))
    results: list[list[WorkerResult]] = [[] for _ in points]
    for number in range(rounds):
        for point, point_results in zip(points, results, strict=True):
            point_results.append(run_worker(point.request))
            _log.info("round %d: %s at %g", number + 1, point.varied, point.size)
    return {
        "format": 1,
        "kind": "growth",
        "name": "growth",
        "machine": with_load_after(machine),
        "series": _series(points, results),
    }


def _points(seconds: float) -> Iterator[Point]:
    rendering = (("rendering a token", "token"), ("making a corpus", "corpus_s"))
    for number in NUM_PEOPLE:
        knowledge = {**BIOS["knowledge"], "num_people": number}  # type: ignore[dict-item]
        yield Point("people", number, _rendering({**BIOS, "knowledge": knowledge}, 1), rendering)
    counting = (("rendering a token", "token"), ("counting the tokens of a stream", "count_s"))
    for number in EXPOSURES:
        yield Point("exposures", number, _rendering(BIOS, number), counting)
    stacked = (("a step of all replicates", "step"),)
    for number in NUM_REPLICATES:
        case = CASES["replicates-16"].model_copy(update={"num_replicates": number})
        yield Point("replicates", number, _training(case, seconds), stacked)
    for number in NUM_HEADS:
        case = CASES["training-short"].model_copy(
            update={"num_attention_heads": number, "num_windows": 8}
        )
        flops = flops_per_token(case_architecture(case), case.vocab_size, case.seq_length)
        yield Point("FLOP per token", flops, _training(case, seconds), (("a step", "step"),))


def _rendering(corpus: dict[str, Any], exposures: int) -> Request:
    return Request("rendering", {"corpus": corpus, "exposures": exposures, "seconds": 1.0}, 1)


def _training(case: Case, seconds: float) -> Request:
    arguments = {
        "case": case.model_dump(mode="json"),
        "implementation": "knowcap",
        "num_threads": 1,
        "check_steps": 0,
        "seconds": seconds,
    }
    return Request("training", arguments, 1, IMPLEMENTATIONS["knowcap"].environment)


def _series(points: list[Point], results: list[list[WorkerResult]]) -> list[dict[str, Any]]:
    """Group points into series; points of which all rounds failed are left out."""
    series: dict[tuple[str, str], dict[str, Any]] = {}
    for point, point_results in zip(points, results, strict=True):
        successes = [result for result in point_results if "failed" not in result]
        for cost, source in point.costs if successes else ():
            empty: dict[str, Any] = {"sizes": [], "seconds": [], "peak_bytes": []}
            entry = series.setdefault((point.varied, cost), empty)
            entry["sizes"].append(point.size)
            entry["seconds"].append(statistics.median(_seconds(each, source) for each in successes))
            entry["peak_bytes"].append(max(each["peak_bytes"] for each in successes))
    return [
        {
            "over": varied,
            "cost": cost,
            **entry,
            "exponent": growth_exponent(entry["sizes"], entry["seconds"]),
        }
        for (varied, cost), entry in series.items()
    ]


def _seconds(result: WorkerResult, source: str) -> float:
    """Seconds of a `token`, of a `step`, or in a field of a result in seconds."""
    if source == "token":
        return float(1 / result["tokens_per_s"])
    return float(result["step_ms"] / 1e3 if source == "step" else result[source])


def growth_exponent(sizes: list[float], seconds: list[float]) -> float | None:
    """Slope of log(seconds) over log(size) in the upper half of the sizes.

    Fixed costs matter less there. None for fewer than two sizes.
    """
    half = slice(len(sizes) // 2 - 1 if len(sizes) > 2 else 0, None)
    x, y = ([math.log(value) for value in values[half]] for values in (sizes, seconds))
    if len(x) < 2:
        return None
    return statistics.linear_regression(x, y).slope
