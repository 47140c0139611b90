"""How costs grow: with people, exposures, replicates and the size of a model.

Each series varies one thing. The exponent of its growth is the slope of log(time) over log(size): 1
is linear, 0 is no cost at all.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from knowcap.planning.cost import flops_per_token
from knowcap_benchmarks.cases import CASES, Case, architecture_of
from knowcap_benchmarks.implementations import IMPLEMENTATIONS
from knowcap_benchmarks.interleave import Answer, Request, ask
from knowcap_benchmarks.machine import describe

_log = logging.getLogger(__name__)

NUM_PEOPLE = (10**3, 10**4, 10**5, 10**6, 10**7)
EXPOSURES = (1, 10, 100, 1000)
NUM_REPLICATES = (1, 2, 4, 8, 16, 32)
NUM_HEADS = (1, 2, 4, 8)
"""Of a model of two layers and windows of 128 tokens."""

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
    """One measurement of a series."""

    series: str
    size: float
    """Of what is varied."""
    request: Request
    measures: tuple[tuple[str, str], ...]
    """Each cost that is taken from the answer, and how its seconds are found."""


def measure_growth(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure every series, point by point and round by round.

    Returns
    -------
    dict
        For each series and cost: sizes, median seconds, the exponent of their growth, and the
        largest memory in bytes at each size.
    """
    machine = describe(1, "cpu", [])
    points = list(_points(seconds))
    answers: list[list[Answer]] = [[] for _ in points]
    for number in range(rounds):
        for point, answered in zip(points, answers, strict=True):
            answered.append(ask(point.request))
            _log.info("round %d: %s at %g", number + 1, point.series, point.size)
    return {
        "format": 1,
        "kind": "growth",
        "name": "growth",
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "series": _series(points, answers),
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
        flops = flops_per_token(architecture_of(case), case.vocab_size, case.seq_length)
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


def _series(points: list[Point], answers: list[list[Answer]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for point, answered in zip(points, answers, strict=True):
        good = [answer for answer in answered if "failed" not in answer]
        for cost, how in point.measures if good else ():
            empty: dict[str, Any] = {"sizes": [], "seconds": [], "peak_bytes": []}
            entry = found.setdefault((point.series, cost), empty)
            entry["sizes"].append(point.size)
            entry["seconds"].append(statistics.median(_seconds(answer, how) for answer in good))
            entry["peak_bytes"].append(max(answer["peak_bytes"] for answer in good))
    return [
        {
            "over": over,
            "cost": cost,
            **entry,
            "exponent": exponent(entry["sizes"], entry["seconds"]),
        }
        for (over, cost), entry in found.items()
    ]


def _seconds(answer: Answer, how: str) -> float:
    if how == "token":
        return float(1 / answer["tokens_per_s"])
    return float(answer["step_ms"] / 1e3 if how == "step" else answer[how])


def exponent(sizes: list[float], seconds: list[float]) -> float | None:
    """Slope of log(seconds) over log(size) in the upper half of sizes, where fixed costs fade.

    None of fewer than two sizes.
    """
    half = slice(len(sizes) // 2 - 1 if len(sizes) > 2 else 0, None)
    x, y = ([math.log(value) for value in values[half]] for values in (sizes, seconds))
    if len(x) < 2:
        return None
    return statistics.linear_regression(x, y).slope
