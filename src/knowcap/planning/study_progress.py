"""Progress of a study's trainings, read from the files of its runs, and the time left.

The progress of a training counts in proportion to its estimated training time. The time left
assumes that the rest is as fast as the part that was observed. Progress is printed as plain lines
rather than by rich, so that terminals, pipes and log files show the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import identity
from knowcap.artifacts.durations import format_duration
from knowcap.config.study import Study
from knowcap.planning.cost import relative_time
from knowcap.training.metrics_logger import PROGRESS_FILE
from knowcap.training.run_dir import DONE_FILE


class Progress(NamedTuple):
    """Progress of a study at one time."""

    fraction: float
    """Part of the training that is done, 0 to 1."""
    num_runs_done: int
    num_runs: int


def progress(study: Study) -> Progress:
    """Return the progress of a study's trainings."""
    runs = study.runs()
    results = Path(study.results)
    fractions = {run: _fraction(results, identity.run_name(run)) for run in runs}
    total = sum(relative_time(run) for run in runs)
    done = sum(relative_time(run) * fraction for run, fraction in fractions.items())
    return Progress(
        fraction=done / total,
        num_runs_done=sum(fraction == 1 for fraction in fractions.values()),
        num_runs=len(runs),
    )


def follow(study: Study, every_s: float) -> Iterator[str]:
    """Yield a line of progress every `every_s` seconds until all runs are trained."""
    start_s = time.monotonic()
    first = current = progress(study)
    while current.num_runs_done < current.num_runs:
        yield _line(current, _remaining_s(first, current, time.monotonic() - start_s))
        time.sleep(every_s)
        current = progress(study)
    yield _line(current, None)


def _remaining_s(first: Progress, current: Progress, elapsed_s: float) -> float | None:
    """Estimate the time left; None before there is any progress."""
    gained = current.fraction - first.fraction
    return elapsed_s * (1 - current.fraction) / gained if gained > 0 else None


def _line(current: Progress, remaining_s: float | None) -> str:
    trained = f"{current.num_runs_done} of {current.num_runs} runs trained"
    if current.num_runs_done == current.num_runs:
        return trained
    left = (
        "estimating the time left"
        if remaining_s is None
        else f"about {format_duration(remaining_s)} left"
    )
    return f"{current.fraction:4.0%} of the training done, {trained}, {left}"


def _fraction(results: Path, name: str) -> float:
    """Part of a run's training that is done."""
    if (results / "runs" / name / DONE_FILE).exists():
        return 1.0
    try:
        state = json.loads((results / "scratch" / name / PROGRESS_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0.0
    return min(float(state["iteration"] / state["train_iters"]), 0.999)
