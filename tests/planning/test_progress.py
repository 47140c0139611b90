import json
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.config.study import Study, load_study
from knowcap.planning.progress import follow, progress


@pytest.fixture
def study(study_file: Path, study_text: str, tmp_path: Path) -> Study:
    study_file.write_text(study_text.replace("results: results", f"results: {tmp_path}/results"))
    return load_study(study_file)


def finish(study: Study, index: int) -> None:
    folder = Path(study.results) / "runs" / identity.run_name(study.runs()[index])
    folder.mkdir(parents=True)
    (folder / "DONE").touch()


def test_nothing_is_done_at_first(study: Study) -> None:
    assert progress(study) == (0, 0, 6)


def test_all_runs_done_is_all_of_the_training(study: Study) -> None:
    for index in range(6):
        finish(study, index)
    assert progress(study) == (pytest.approx(1), 6, 6)
    assert list(follow(study, every_s=0)) == ["6 of 6 runs trained; evaluating and reporting"]


def test_a_run_under_way_counts_by_its_iterations(study: Study) -> None:
    folder = Path(study.results) / "scratch" / identity.run_name(study.runs()[0])
    folder.mkdir(parents=True)
    whole = progress(study).fraction
    (folder / "progress.json").write_text(json.dumps({"iteration": 50, "train_iters": 100}))
    half = progress(study).fraction
    finish(study, 0)
    assert whole == 0
    assert progress(study).fraction == pytest.approx(2 * half)


def test_a_longer_run_is_a_larger_share(study: Study) -> None:
    finish(study, 5)
    short = progress(study).fraction
    finish(study, 4)
    assert progress(study).fraction > 10 * short


def test_the_time_left_follows_what_was_watched(study: Study) -> None:
    lines = follow(study, every_s=0.01)
    assert "estimating the time left" in next(lines)
    finish(study, 4)
    assert "about a minute left" in next(lines)
