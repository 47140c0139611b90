import json
import re
import time
from dataclasses import astuple
from pathlib import Path

import pytest

from knowcap.artifacts import identity, lock
from knowcap.config.study import Study
from knowcap.planning.study_progress import follow, progress
from tests.planning.finished import finish


def scratch_of(study: Study, index: int, **content: float) -> Path:
    """The scratch folder of a run, with its progress."""
    folder = Path(study.results) / "scratch" / identity.run_name(study.runs()[index])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.json").write_text(json.dumps({"train_iters": 100} | content))
    return folder


def finish_all(study: Study) -> None:
    for index in range(6):
        finish(study, index)


def evaluate_all(study: Study) -> None:
    for run, precision in study.measurements():
        losses = identity.losses_path(study, run, precision)
        losses.parent.mkdir()
        losses.touch()


def publish(study: Study) -> None:
    folder = Path(study.results) / study.study
    folder.mkdir()
    (folder / f".published-{identity.study_names(study)['report']}").touch()


def test_a_new_study_has_no_progress(study: Study) -> None:
    assert astuple(progress(study)) == (0, 0, 6, (), 6, {}, False, None)


def test_progress_ends_when_the_study_is_published(study: Study) -> None:
    states = follow(study, every_s=0.01)
    assert "estimating the time left" in next(states).summary()
    finish_all(study)
    assert next(states).summary() == "6 of 6 runs trained, 0 of 6 evaluated"
    evaluate_all(study)
    assert next(states).summary() == (
        "6 of 6 runs trained and evaluated; table, laws, figures and report are still to be made"
    )
    publish(study)
    assert next(states).summary() == "6 of 6 runs trained, published"
    assert list(states) == []


def test_a_study_published_by_other_code_is_not_published(study: Study) -> None:
    finish_all(study)
    folder = Path(study.results) / study.study
    folder.mkdir()
    (folder / ".published-0123456789ab").touch()
    assert not progress(study).is_published


def test_only_trainings_of_live_jobs_are_shown(study: Study) -> None:
    folders = [scratch_of(study, index, iteration=10 * index) for index in range(3)]
    (folders[1] / "lock").write_text(json.dumps({"token": "0", "host": "other", "pid": 1}))
    with lock.acquire(folders[2] / "lock"):
        assert [each["iteration"] for each in progress(study).trainings.values()] == [10, 20]
        assert not lock.is_held(folders[1] / "lock", stale_s=0)
    assert [each["iteration"] for each in progress(study).trainings.values()] == [10]


def test_a_run_in_training_counts_by_its_iterations(study: Study) -> None:
    before = progress(study).fraction
    scratch_of(study, 0, iteration=50)
    half = progress(study).fraction
    finish(study, 0)
    assert before == 0
    assert progress(study).fraction == pytest.approx(2 * half)


def test_a_longer_run_is_a_larger_part_of_the_training(study: Study) -> None:
    finish(study, 5)
    short = progress(study).fraction
    finish(study, 4)
    assert progress(study).fraction > 10 * short


def test_the_time_left_is_estimated_from_observed_progress(study: Study) -> None:
    states = follow(study, every_s=0.01)
    next(states)
    finish(study, 4)
    time.sleep(0.01)
    assert re.search(r"of 6 runs trained, about \d+ s left$", next(states).summary())
