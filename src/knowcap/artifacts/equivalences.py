"""`knowcap accept`: compare the golden traces of two versions of the code, record equal ones.

The code digest of a stage is part of the name of its results, so an edit of the training code
renames all trained models. If the edit computes the same numbers, retraining would be wasted.
:func:`accept` runs the golden trainings with both versions on this machine. For every stage whose
outputs are equal it records that results of the older code are valid for the current code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from knowcap.artifacts import files
from knowcap.artifacts.code_digest import EQUIVALENCES, PACKAGE, Stage, code_digest
from knowcap.errors import UserError

TRACED_STAGES: tuple[Stage, ...] = ("corpus", "train", "evaluate", "quantize")
"""Stages with golden traces. Results of the other stages are cheap to recompute."""


class StageComparison(NamedTuple):
    """The golden traces of a stage under the older and the current code."""

    stage: Stage
    old_code: str
    """Digest of the older code."""
    new_code: str
    """Digest of the current code."""
    num_outputs: int
    """Files and arrays in both traces; outputs of new precisions are not compared."""
    largest_difference: float
    """Largest relative difference of an array; 0 if all are bit-identical."""
    worst_output: str
    """The file or array that differs most; empty if none differs."""
    trace: str
    """SHA-256 over the current trace."""

    def is_accepted(self, rtol: float) -> bool:
        """Whether the outputs are equal within a relative tolerance."""
        return self.largest_difference <= rtol

    def describe(self, revision: str, rtol: float) -> str:
        """Return one line with the result of the comparison."""
        if not self.is_accepted(rtol):
            how_much = (
                f"largest relative difference {self.largest_difference:.2g}"
                if math.isfinite(self.largest_difference)
                else "not comparable"
            )
            return (
                f"{self.stage}: the golden traces differ from those of {revision} "
                f"({self.worst_output}: {how_much}); results must be remade"
            )
        equal = (
            "bit-identical"
            if self.largest_difference == 0
            else f"equal within {self.largest_difference:.2g} (relative)"
        )
        return (
            f"{self.stage}: {self.num_outputs} outputs of the golden runs are {equal}; "
            f"results of {self.old_code} are valid for {self.new_code}"
        )


def accept(
    stages: Sequence[Stage], revision: str, reason: str, rtol: float = 0.0
) -> list[StageComparison]:
    """Compare stages with an older revision and record those whose outputs are equal.

    Stages whose code is the same in both versions are not compared.

    Parameters
    ----------
    stages
        Some of :data:`TRACED_STAGES`; all of them if empty.
    revision
        Git revision of the older code.
    reason
        Why the code was changed; written into the record.
    rtol
        Largest accepted relative difference of an array; 0 accepts bit-identical outputs only.

    Returns
    -------
    list of StageComparison
        One for each stage whose code differs.

    Raises
    ------
    UserError
        If a stage has no golden trace, or the code of no stage differs.
    """
    for stage in stages:
        if stage not in TRACED_STAGES:
            raise UserError(
                f"{stage}: has no golden trace; allowed stages are {', '.join(TRACED_STAGES)}"
            )
    stages = stages or TRACED_STAGES
    repository = PACKAGE.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "older"
        _git(repository, "worktree", "add", "--detach", str(older), revision)
        try:
            codes = _code_digests(older / "src")
            changed = [stage for stage in stages if codes[stage] != code_digest(stage)]
            if not changed:
                raise UserError(
                    f"{', '.join(stages)}: the code is the same as in {revision}, nothing to decide"
                )
            before = _golden_traces(older / "src", changed)
        finally:
            _git(repository, "worktree", "remove", "--force", str(older))
    now = _golden_traces(repository / "src", changed)
    comparisons = [compare(stage, before[stage], now[stage]) for stage in changed]
    _record([each for each in comparisons if each.is_accepted(rtol)], reason)
    return comparisons


def compare(stage: Stage, old: Mapping[str, Any], new: Mapping[str, Any]) -> StageComparison:
    """Compare two golden traces of a stage (:mod:`knowcap.stages.golden_traces`).

    An output that only the older trace has counts as an infinite difference. An output that only
    the current trace has, such as one of a new precision, is not compared.
    """
    differences = {
        name: _relative_difference(output, new["outputs"].get(name))
        for name, output in old["outputs"].items()
    }
    worst = max(differences, key=lambda name: differences[name])
    return StageComparison(
        stage=stage,
        old_code=old["code"],
        new_code=new["code"],
        num_outputs=len(differences),
        largest_difference=differences[worst],
        worst_output=worst if differences[worst] else "",
        trace=hashlib.sha256(json.dumps(new["outputs"]).encode()).hexdigest(),
    )


def _relative_difference(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> float:
    """Return the largest difference of two arrays over the largest number in the older one."""
    if new is None:
        return math.inf
    if old["sha256"] == new["sha256"]:
        return 0.0
    before, now = np.array(old["values"]), np.array(new["values"])
    if before.shape != now.shape or (np.isnan(before) != np.isnan(now)).any():
        return math.inf
    before, now = before[~np.isnan(before)], now[~np.isnan(now)]
    if not before.any():  # all zero, or a file, which has no values
        return math.inf
    largest = float(abs(before - now).max() / abs(before).max())
    # Arrays that differ in the sign of a zero alone are equal, but not bit-identical.
    return max(largest, sys.float_info.min)


def _record(comparisons: Sequence[StageComparison], reason: str) -> None:
    """Append accepted comparisons to the file of equivalences."""
    accepted = [
        {
            "stage": each.stage,
            "code": each.new_code,
            "stands_for": each.old_code,
            "largest_difference": each.largest_difference,
            "trace": each.trace,
            "date": date.today().isoformat(),
            "reason": reason,
        }
        for each in comparisons
    ]
    recorded = json.loads(EQUIVALENCES.read_text(encoding="utf-8"))
    if accepted:
        files.write_text(EQUIVALENCES, json.dumps([*recorded, *accepted], indent=2) + "\n")


def _git(repository: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")


def _golden_traces(source: Path, stages: Sequence[Stage]) -> Mapping[str, Any]:
    """Run `knowcap trace` with the package in `source` and return its JSON."""
    traces: Mapping[str, Any] = json.loads(_knowcap(source, "trace", *stages))
    if missing := [stage for stage in stages if stage not in traces]:
        raise UserError(f"{source}: knowcap trace gives no golden trace of {missing[0]}")
    return traces


def _code_digests(source: Path) -> dict[str, str]:
    """Run `knowcap digests` with the package in `source` and return the digest of each stage."""
    return dict(line.split() for line in _knowcap(source, "digests").splitlines())


def _knowcap(source: Path, *arguments: str) -> str:
    """Run a command of the package in `source` and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "knowcap", *arguments],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{source}: knowcap {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
