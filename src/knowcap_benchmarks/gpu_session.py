"""A machine with a GPU in a few minutes: its tests, its speed, and the first cells of a study.

Each step has a share of the time and is ended when it is spent. A step that fails does not stop
the others. Trainings save a checkpoint when they are ended, so a second session continues them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import files
from knowcap.errors import UserError

GRACE_S = 20.0
"""Seconds in which a step that is ended can save its state."""

PYTHON = shlex.quote(sys.executable)
STUDY = "config/single_gpu.yaml"
PARTIAL = "results/single_gpu/partial"


class Step(NamedTuple):
    """One command of a session."""

    name: str
    command: str
    """Command line of bash."""
    share: float
    """Largest share of the time that remains."""
    kept: tuple[str, ...] = ()
    """Patterns of the files to keep."""


STEPS = (
    Step("tests", f"{PYTHON} -m pytest -m gpu -p no:cacheprovider", 0.25),
    Step(
        "speed",
        f"{PYTHON} -m snakemake -c all --nolock --keep-going benchmark_on_a_gpu",
        0.4,
        ("results/benchmarks/gpu-*.json",),
    ),
    Step(
        "study",
        f"{PYTHON} -m snakemake --profile config/profiles/gpu --nolock --configfile {STUDY}",
        0.85,
    ),
    Step(
        "table",
        f"{PYTHON} -m snakemake -c1 --nolock partial --configfile {STUDY}",
        1.0,
        tuple(f"{PARTIAL}/{name}" for name in ("*.nc", "*.csv", "*.md", "report.html")),
    ),
)
"""Tests on the GPU, speed beside the peers, and as many runs of the study as fit."""


class Outcome(NamedTuple):
    """What a step did."""

    name: str
    command: str
    exit_code: int
    """Negative: the number of the signal that ended it."""
    seconds: float
    limit_s: float


def run_session(minutes: float, output: Path, steps: Sequence[Step] = STEPS) -> list[Outcome]:
    """Run the steps one after another, and keep their logs and results.

    Parameters
    ----------
    minutes
        Length of the session.
    output
        Folder for ``session.json``, the log of each step and the kept files.
    steps
        The steps, in order.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    end = time.monotonic() + 60 * minutes
    output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for step in steps:
        limit_s = max(0.0, step.share * (end - time.monotonic() - GRACE_S))
        outcomes.append(_run(step, limit_s, output / f"{step.name}.log"))
        for pattern in step.kept:
            for path in sorted(Path().glob(pattern)):
                shutil.copy(path, output / path.name)
        files.write_json(  # after each step, as the machine may be taken away
            output / "session.json",
            {"format": 1, "minutes": minutes, "steps": [each._asdict() for each in outcomes]},
        )
    return outcomes


def _run(step: Step, limit_s: float, log: Path) -> Outcome:
    """Run a step; end it and the processes that it started when its time is spent."""
    start = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", step.command], stdout=file, stderr=file, start_new_session=True
        )
        for number, wait_s in ((None, limit_s), (signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
            if number is not None:
                os.killpg(process.pid, number)
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
    seconds = round(time.monotonic() - start, 1)
    return Outcome(step.name, step.command, process.returncode, seconds, round(limit_s, 1))


def print_outcomes(outcomes: Sequence[Outcome], output: Path) -> None:
    """Print a line for each step.

    Raises
    ------
    UserError
        If a step failed, other than by the end of its time.
    """
    for each in outcomes:
        sys.stdout.write(
            f"{each.name:8}{each.seconds:7.1f} of {each.limit_s:.1f} s, exit code "
            f"{each.exit_code}: {output / each.name}.log\n"
        )
    failed = [each.name for each in outcomes if each.exit_code and each.seconds < each.limit_s]
    if failed:
        raise UserError(f"{output}: failed steps: {', '.join(failed)}")
