"""How fast a corpus becomes tokens, of every kind of knowledge, on one core."""

from __future__ import annotations

import os
from typing import Any

from knowcap_benchmarks.growth import BIOD, BIOS
from knowcap_benchmarks.interleave import Request, interleaved
from knowcap_benchmarks.machine import describe

NUM_PEOPLE = 10**5

JUNK = {"useful_share": 0.125, "num_junk_people": 10**6, "domain_token": True}

CORPORA: dict[str, dict[str, Any]] = {
    "bioS, GPT-2's tokens": BIOS,
    "bioS, words": {**BIOS, "tokenizer": "word"},
    "bioS-simple": {**BIOS, "knowledge": {**BIOS["knowledge"], "kind": "bioS-simple"}},  # type: ignore[dict-item]
    "bioS among junk": {**BIOS, "mixture": JUNK},
    "bioD, compact": BIOD,
}
"""By the name they are shown under."""


def measure_rendering(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure how many tokens a second are rendered of each kind of corpus."""
    machine = describe(1, "cpu", [])
    answers = interleaved({name: [_request(name, seconds)] * rounds for name in CORPORA})
    return {
        "format": 1,
        "kind": "rendering",
        "name": "rendering",
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "corpora": answers,
    }


def _request(name: str, seconds: float) -> Request:
    corpus = CORPORA[name]
    larger = {**corpus, "knowledge": {**corpus["knowledge"], "num_people": NUM_PEOPLE}}
    return Request("rendering", {"corpus": larger, "exposures": 10, "seconds": seconds}, 1)
