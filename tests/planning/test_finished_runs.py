"""Training times are those of the most similar finished runs of the results folder."""

import json
import math
from pathlib import Path

import pytest

from knowcap.artifacts import manifest
from knowcap.config.study import Study, load_study
from knowcap.planning.cost import cost, relative_time, text_statistics
from knowcap.planning.finished_runs import from_finished_runs
from knowcap.planning.plan import plan
from knowcap.planning.training_time import TrainingTime
from tests.planning.finished import finish


def seconds(study: Study, estimate: TrainingTime | None, index: int) -> float:
    assert estimate is not None
    run = study.runs()[index]
    needed = cost(run, text_statistics(run.corpus, Path(study.results)), study.evaluation)
    return estimate.seconds(run, needed)


def scaled(study: Study, train_s: float, index: int, *finished: int) -> float:
    """Training time of a run from the total time of finished ones."""
    runs = study.runs()
    return train_s * relative_time(runs[index]) / sum(relative_time(runs[i]) for i in finished)


def test_without_finished_runs_there_is_no_estimate(study: Study) -> None:
    finish(study, 0)  # without a timing file
    assert from_finished_runs(study) is None


def test_a_single_finished_run_stands_for_all(study: Study) -> None:
    finish(study, 1, train_s=100)
    estimate = from_finished_runs(study)
    for index in range(6):
        assert seconds(study, estimate, index) == pytest.approx(scaled(study, 100, index, 1))


def test_each_run_takes_the_time_of_runs_of_its_own_size(study: Study) -> None:
    finish(study, 0, train_s=1)
    finish(study, 1, train_s=1000)
    estimate = from_finished_runs(study)
    assert seconds(study, estimate, 2) == pytest.approx(scaled(study, 1, 2, 0))
    for index in (3, 4, 5):
        assert seconds(study, estimate, index) == pytest.approx(scaled(study, 1000, index, 1))


def test_equally_similar_runs_count_together(study: Study) -> None:
    for index, train_s in ((0, 7), (3, 50), (5, 1)):
        finish(study, index, train_s)
    to_go_s = scaled(study, 7, 2, 0) + sum(scaled(study, 51, index, 3, 5) for index in (1, 4))
    assert plan(study).total.to_go_s == pytest.approx(to_go_s)


def edited(study: Study, text: str, *edits: tuple[str, str]) -> Study:
    """A study with the same results folder and other runs."""
    path = Path(study.results).parent / "edited.yaml"
    for old, new in (("results: results", f"results: {study.results}"), *edits):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return load_study(path)


def test_runs_of_other_studies_count(study: Study, study_text: str) -> None:
    finish(study, 1, train_s=100)
    other = edited(study, study_text, ("weight_decay: 0.02", "weight_decay: 0.05"))
    assert not set(other.runs()) & set(study.runs())
    assert plan(other).total.to_go_s > 0


def test_a_run_of_the_same_dtype_is_more_similar_than_one_of_the_same_size(
    study: Study, study_text: str
) -> None:
    other = edited(study, study_text, ("dtype: float32", "dtype: bfloat16"))
    finish(study, 1, train_s=1)
    finish(other, 0, train_s=1000)
    assert seconds(other, from_finished_runs(other), 1) == pytest.approx(scaled(other, 1000, 1, 0))


def test_experts_are_estimated_from_experts(study: Study, study_text: str) -> None:
    experts = ("num_moe_experts: 4", "moe_router_topk: 1", "moe_aux_loss_coeff: 0.01")
    lines = "\n    ".join(["rotary_base: 10000", *experts])
    other = edited(study, study_text, ("rotary_base: 10000", lines))
    finish(study, 1, train_s=1)
    finish(other, 0, train_s=1000)
    assert seconds(other, from_finished_runs(other), 1) == pytest.approx(scaled(other, 1000, 1, 0))


def source(study: Study) -> str:
    estimate = from_finished_runs(study)
    assert estimate is not None
    return estimate.source


def test_the_device_and_the_engine_are_named(study: Study) -> None:
    folder = finish(study, 1, train_s=1)
    provenance = {"format": 1, "cpu": "an abacus", "gpu": None, "engines": [{"name": "simd"}]}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    assert source(study) == (
        f"The time left is estimated from 1 finished run of {study.results}, trained on an abacus "
        "by simd: the time of each run is that of the most similar one, scaled by size and tokens."
    )


def test_runs_without_anything_like_them_are_counted(study: Study, study_text: str) -> None:
    finish(study, 1, train_s=1)
    assert "uncertain" not in source(study)
    other = edited(study, study_text, ("dtype: float32", "dtype: bfloat16"))
    assert source(other).endswith(
        " 6 of 6 runs have no finished run of the same dtype and of a similar size, so their time "
        "is uncertain."
    )


def test_a_record_of_another_version_is_left_out(study: Study) -> None:
    folder = finish(study, 1, train_s=1)
    (folder / "run.json").write_text('{"format": 1, "record": {"removed_field": 1}}')
    manifest.write(folder, ["run.json", "timing.json"])
    assert from_finished_runs(study) is None
    finish(study, 0, train_s=1)
    assert math.isfinite(plan(study).total.to_go_s)
