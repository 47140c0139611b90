"""Progress of a study, read from the files of its runs, and the time left.

The progress of a training counts in proportion to its estimated training time. The time left
assumes that the rest is as fast as the part that was observed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knowcap.artifacts import identity, lock
from knowcap.artifacts.durations import format_duration
from knowcap.config import Precision, Run
from knowcap.config.study import Study
from knowcap.planning.cost import relative_time
from knowcap.training.metrics_logger import PROGRESS_FILE
from knowcap.training.run_dir import DONE_FILE


@dataclass(frozen=True)
class Progress:
    """Progress of a study at one time."""

    fraction: float
    """Part of the training that is done, 0 to 1."""
    num_runs_done: int
    num_runs: int
    measured: tuple[tuple[Run, Precision], ...]
    """Measurements whose losses exist, in the order of the study."""
    num_measurements: int
    trainings: Mapping[str, Mapping[str, Any]]
    """Content of the progress file of each run that a live job trains, by the run's name."""
    is_published: bool
    """Whether table, laws, figures and report are those of this study and code."""
    remaining_s: float | None = None
    """Estimated seconds until all runs are trained; None if they are, or nothing was observed."""

    def summary(self) -> str:
        """Return a line on the whole study."""
        trained = f"{self.num_runs_done:,} of {self.num_runs:,} runs trained"
        if self.is_published:
            return f"{trained}, published"
        if self.num_runs_done < self.num_runs:
            left = (
                "estimating the time left"
                if self.remaining_s is None
                else f"about {format_duration(self.remaining_s)} left"
            )
            return f"{self.fraction:4.0%} of the training done, {trained}, {left}"
        if len(self.measured) < self.num_measurements:
            return f"{trained}, {len(self.measured):,} of {self.num_measurements:,} evaluated"
        return f"{trained} and evaluated; table, laws, figures and report are still to be made"


def progress(study: Study, stamp: Path | None = None) -> Progress:
    """Return the progress of a study.

    Parameters
    ----------
    study
        The study.
    stamp
        Last file that `publish` writes for this study and code, as it takes long to compute.
    """
    runs = study.runs()
    results = Path(study.results)
    scratch = results / "scratch"
    names = {run: identity.run_name(run) for run in runs}
    is_done = {run: (results / "runs" / names[run] / DONE_FILE).exists() for run in runs}
    files = {run: _read(scratch / names[run]) for run in runs if not is_done[run]}
    total = sum(relative_time(run) for run in runs)
    done = sum(
        relative_time(run) * (1.0 if is_done[run] else _fraction(files[run])) for run in runs
    )
    measurements = study.measurements()
    return Progress(
        fraction=done / total,
        num_runs_done=sum(is_done.values()),
        num_runs=len(runs),
        measured=tuple(
            (run, precision)
            for run, precision in measurements
            if identity.losses_path(study, run, precision).exists()
        ),
        num_measurements=len(measurements),
        trainings={
            names[run]: content
            for run, content in files.items()
            if content and lock.is_held(scratch / names[run] / "lock")
        },
        is_published=(stamp or _stamp(study)).exists(),
    )


def follow(study: Study, every_s: float) -> Iterator[Progress]:
    """Yield the progress every `every_s` seconds until the study is published."""
    start_s, stamp = time.monotonic(), _stamp(study)
    first = current = progress(study, stamp)
    while not current.is_published:
        yield current
        time.sleep(every_s)
        current = progress(study, stamp)
        remaining_s = _remaining_s(first, current, time.monotonic() - start_s)
        current = replace(current, remaining_s=remaining_s)
    yield current


def _stamp(study: Study) -> Path:
    """Return the last file that `publish` writes for this study and code."""
    name = f".published-{identity.study_names(study)['report']}"
    return Path(study.results) / study.study / name


def _remaining_s(first: Progress, current: Progress, elapsed_s: float) -> float | None:
    """Estimate the time left; None before there is any progress."""
    gained = current.fraction - first.fraction
    return elapsed_s * (1 - current.fraction) / gained if gained > 0 else None


def _fraction(content: Mapping[str, Any]) -> float:
    """Part of an unfinished training that is done."""
    return min(content["iteration"] / content["train_iters"], 0.999) if content else 0.0


def _read(scratch: Path) -> dict[str, Any]:
    """Return the progress file of a training; empty if there is none."""
    try:
        content: dict[str, Any] = json.loads((scratch / PROGRESS_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content
