"""Rendering speed of each kind of corpus, in tokens per second on one core."""

from __future__ import annotations

from typing import Any

from knowcap_benchmarks.growth import BIOD, BIOS
from knowcap_benchmarks.interleave import Request, run_interleaved
from knowcap_benchmarks.machine import describe_machine, with_load_after

NUM_PEOPLE = 10**5
"""Population of each corpus."""

JUNK = {"useful_share": 0.125, "num_junk_people": 10**6, "domain_token": True}

CORPORA: dict[str, dict[str, Any]] = {
    "bioS, GPT-2's tokens": BIOS,
    "bioS, words": {**BIOS, "tokenizer": "word"},
    "bioS-simple": {**BIOS, "knowledge": {**BIOS["knowledge"], "kind": "bioS-simple"}},  # type: ignore[dict-item]
    "bioS among junk": {**BIOS, "mixture": JUNK},
    "bioD, compact": BIOD,
}
"""Corpus records, by their name in the table."""


def measure_rendering(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure the rendering speed of each kind of corpus in interleaved rounds."""
    machine = describe_machine(1, "cpu", [])
    results = run_interleaved({name: [_request(name, seconds)] * rounds for name in CORPORA})
    return {
        "format": 1,
        "kind": "rendering",
        "name": "rendering",
        "machine": with_load_after(machine),
        "corpora": results,
    }


def _request(name: str, seconds: float) -> Request:
    corpus = CORPORA[name]
    larger = {**corpus, "knowledge": {**corpus["knowledge"], "num_people": NUM_PEOPLE}}
    return Request("rendering", {"corpus": larger, "exposures": 10, "seconds": seconds}, 1)
