"""How far a study has come, read from the files of its runs, and how long it will still take.

A training says in its scratch folder how far it is, and its share of the study is its share of the
arithmetic; the estimate of the time left assumes that the rest goes as fast as what was watched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import identity
from knowcap.config.study import Study
from knowcap.planning.cost import relative_time


class Progress(NamedTuple):
    """A moment of a study."""

    fraction: float
    """Share of the training that is done, 0 to 1."""
    num_runs_done: int
    num_runs: int


def progress(study: Study) -> Progress:
    """How far the trainings of a study are."""
    runs = study.runs()
    results = Path(study.results)
    done = {run: _fraction(results, identity.run_name(run)) for run in runs}
    total = sum(relative_time(run) for run in runs)
    return Progress(
        fraction=sum(relative_time(run) * fraction for run, fraction in done.items()) / total,
        num_runs_done=sum(fraction == 1 for fraction in done.values()),
        num_runs=len(runs),
    )


def follow(study: Study, every_s: float) -> Iterator[str]:
    """Say how far the study is, again and again until all runs are done."""
    start = time.monotonic()
    first = now = progress(study)
    while now.num_runs_done < now.num_runs:
        yield _line(now, _time_left_s(first, now, time.monotonic() - start))
        time.sleep(every_s)
        now = progress(study)
    yield _line(now, None)


def _time_left_s(first: Progress, now: Progress, elapsed_s: float) -> float | None:
    gained = now.fraction - first.fraction
    return elapsed_s * (1 - now.fraction) / gained if gained > 0 else None


def _line(now: Progress, left_s: float | None) -> str:
    trained = f"{now.num_runs_done} of {now.num_runs} runs trained"
    if now.num_runs_done == now.num_runs:
        return f"{trained}; evaluating and reporting"
    left = "estimating the time left" if left_s is None else f"about {_duration(left_s)} left"
    return f"{now.fraction:4.0%} of the training, {trained}, {left}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "a minute"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _fraction(results: Path, name: str) -> float:
    """Share of one run that is trained."""
    if (results / "runs" / name / "DONE").exists():
        return 1.0
    try:
        state = json.loads((results / "scratch" / name / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0.0
    return min(float(state["iteration"] / state["train_iters"]), 0.999)
