"""Recorded decisions that one code of a stage stands for another (`knowcap accept`).

The code of a stage is part of the name of what it makes, so an edit of the training code renames
all models. When old and new code compute the same numbers, retraining would be wasted.
:func:`accept` runs the golden trainings with both codes on this machine and compares their traces;
only if they are bit-identical does it record that results of the old code stand for the new.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from knowcap.artifacts import files
from knowcap.artifacts.code_digest import EQUIVALENCES, PACKAGE, Stage
from knowcap.errors import UserError

TRACED: tuple[Stage, ...] = ("corpus", "train", "evaluate", "quantize")
"""Stages whose results are dear enough to be kept by decision."""


def accept(stage: Stage, revision: str, reason: str) -> str:
    """Let results of an older code of a stage stand for results of the code as it is now.

    Parameters
    ----------
    stage
        One of :data:`TRACED`.
    revision
        Git revision of the older code.
    reason
        Why the code was changed; recorded with the decision.

    Returns
    -------
    str
        A line that says what was decided.

    Raises
    ------
    UserError
        If the golden traces differ, or there is nothing to decide.
    """
    if stage not in TRACED:
        raise UserError(f"{stage}: has no golden trace, its results are cheap; {TRACED} have")
    repository = PACKAGE.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "older"
        _git(repository, "worktree", "add", "--detach", str(older), revision)
        try:
            before = _traced(older / "src", stage)
        finally:
            _git(repository, "worktree", "remove", "--force", str(older))
    now = _traced(repository / "src", stage)
    if before["code"] == now["code"]:
        raise UserError(f"{stage}: its code is the same as in {revision}, nothing to decide")
    if before["trace"] != now["trace"]:
        raise UserError(
            f"{stage}: the golden traces differ from those of {revision}; results must be remade"
        )
    decision = {
        "stage": stage,
        "code": now["code"],
        "stands_for": before["code"],
        "trace": now["trace"],
        "date": date.today().isoformat(),
        "reason": reason,
    }
    decisions = json.loads(EQUIVALENCES.read_text(encoding="utf-8"))
    files.write_text(EQUIVALENCES, json.dumps([*decisions, decision], indent=2) + "\n")
    return f"{stage}: results of {before['code']} stand for {now['code']}"


def _git(repository: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")


def _traced(source: Path, stage: Stage) -> dict[str, Any]:
    """Code digest and golden trace of a stage in another checkout of this package."""
    done = subprocess.run(
        [sys.executable, "-m", "knowcap", "trace", stage],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{source}: no golden trace ({done.stderr.strip().splitlines()[-1]})")
    value: dict[str, Any] = json.loads(done.stdout)
    return value
