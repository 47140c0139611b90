"""Runs that do not finish within the attempts and time limits of a profile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import identity
from knowcap.config import Run
from knowcap.config.study import Study
from knowcap.planning.cost import Cost, cost, text_statistics
from knowcap.planning.gpus_by_size import gpu_settings, max_attempts
from knowcap.planning.profile import time_budget_s
from knowcap.planning.profile_file import ProfileFile
from knowcap.planning.training_time import TrainingTime
from knowcap.training.run_dir import DONE_FILE


class UnfinishedRun(NamedTuple):
    """A run whose training does not end within its attempts."""

    name: str
    needed_hours: float
    """Training time on the GPUs of the last attempt."""
    num_gpus: int
    num_attempts: int
    allowed_hours: float
    """Training time of all attempts together, without the minutes that each needs to start and to
    save."""

    def __str__(self) -> str:
        """Return one line."""
        gpus = {0: "one process", 1: "1 GPU"}.get(self.num_gpus, f"{self.num_gpus} GPUs")
        return (
            f"{self.name}: does not finish: {self.needed_hours:,.0f} hours on {gpus} are needed, "
            f"{self.num_attempts} attempts allow {self.allowed_hours:,.0f}"
        )


def unfinished_runs(
    study: Study, profile: ProfileFile, training_time: TrainingTime
) -> list[UnfinishedRun]:
    """Return the runs of a study that a profile does not finish, the longest first.

    Parameters
    ----------
    study
        The study. Runs that are trained already are left out.
    profile
        The profile that runs it.
    training_time
        Training times with one process or GPU. Several GPUs are ASSUMED to be as fast as their
        number.

    Raises
    ------
    UserError
        If resources of the profile are not valid.
    """
    return sorted(
        _unfinished(study, profile, training_time), key=lambda each: (-each.needed_hours, each.name)
    )


def _unfinished(
    study: Study, profile: ProfileFile, training_time: TrainingTime
) -> Iterator[UnfinishedRun]:
    results = Path(study.results)
    texts = {
        corpus: text_statistics(corpus, results) for corpus in {run.corpus for run in study.runs()}
    }
    for run in study.runs():
        name = identity.run_name(run)
        if (results / "runs" / name / DONE_FILE).exists():
            continue
        run_cost = cost(run, texts[run.corpus], study.evaluation)
        if found := _check(run, name, run_cost, profile, training_time):
            yield found


def _check(
    run: Run, name: str, run_cost: Cost, profile: ProfileFile, training_time: TrainingTime
) -> UnfinishedRun | None:
    """Return a run if it does not finish within its attempts, and None if it does."""
    settings = gpu_settings(profile.resources)
    num_attempts = profile.max_attempts
    if settings and (limit := profile.limit_minutes(name, 1)) is not None:
        num_attempts = min(num_attempts, max_attempts(run, settings, limit))
    done, allowed_s, gpus, needed_s = 0.0, 0.0, 0, math.inf
    for attempt in range(1, num_attempts + 1):
        limit = profile.limit_minutes(name, attempt)
        if limit is None:
            return None
        gpus = profile.num_gpus(run, name, attempt)
        share = run_cost._replace(flops=run_cost.flops / max(1, gpus))
        needed_s = training_time.seconds(run, share)
        budget_s = time_budget_s(limit)
        allowed_s += budget_s
        done += budget_s / needed_s
        if done >= 1:
            return None
    return UnfinishedRun(name, needed_s / 3600, gpus, num_attempts, allowed_s / 3600)
