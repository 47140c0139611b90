import json
import re
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.config.study import Study
from knowcap.planning.study_progress import follow, progress
from tests.planning.finished import finish


def test_a_new_study_has_no_progress(study: Study) -> None:
    assert progress(study) == (0, 0, 6)


def test_finished_runs_are_all_of_the_training(study: Study) -> None:
    for index in range(6):
        finish(study, index)
    assert progress(study) == (pytest.approx(1), 6, 6)
    assert list(follow(study, every_s=0)) == ["6 of 6 runs trained"]


def test_a_run_in_training_counts_by_its_iterations(study: Study) -> None:
    folder = Path(study.results) / "scratch" / identity.run_name(study.runs()[0])
    folder.mkdir(parents=True)
    before = progress(study).fraction
    (folder / "progress.json").write_text(json.dumps({"iteration": 50, "train_iters": 100}))
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
    lines = follow(study, every_s=0.01)
    assert "estimating the time left" in next(lines)
    finish(study, 4)
    assert re.search(r"of 6 runs trained, about \d+ s left$", next(lines))
