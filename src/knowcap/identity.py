"""The names: an artefact is called by a readable slug and a digest of all that moves its numbers.

A digest covers the canonical JSON of the record, the names of what is read, and the code of the
stage: the syntax trees, without docstrings, of every module that the stage's entry module can
import from this package. So a comment or a new layout of the source renames nothing, an edit that
can move a number renames everything it can move, and taking the edit back finds everything again.

Left out of the code on purpose: the modules that only carry the question (:mod:`knowcap.config`
and :mod:`knowcap.study`), whose whole effect is the record itself, and :mod:`knowcap.errors`.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from knowcap.config import Corpus, Evaluation, Run

PACKAGE = Path(__file__).parent

Stage = Literal["corpus", "train", "evaluate", "table", "laws", "figures", "report"]

ENTRY: Mapping[Stage, str] = {
    "corpus": "knowcap.bios.corpus",
    "train": "knowcap.lm.train",
    "evaluate": "knowcap.lm.evaluate",
    "table": "knowcap.capacity.table",
    "laws": "knowcap.capacity.laws",
    "figures": "knowcap.capacity.figures",
    "report": "knowcap.capacity.report",
}
"""The module whose imports are a stage's code."""

QUESTION = frozenset({"knowcap", "knowcap.config", "knowcap.study", "knowcap.errors"})
"""Modules whose effect is already in the record."""

EQUIVALENCES = PACKAGE / "equivalences.json"
"""Recorded decisions that one code of a stage stands for another (`knowcap accept`)."""


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: str) -> str:
    """Twelve hex digits of SHA-256 over the parts, each with its length."""
    framed = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(framed.encode()).hexdigest()[:12]


def record_json(record: Corpus | Run | Evaluation) -> str:
    """Canonical JSON of a record; a field at its default is absent, so a new one renames nothing."""
    return canonical_json(record.model_dump(mode="json", exclude_defaults=True))
