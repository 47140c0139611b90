"""The workflow on a cluster: what people, limits and crashes do to it, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import xarray as xr

from tests.slurm.stories import FINISHED, HELD, HUNGRY, OUTLIVING, SHARED, STEP_BY_STEP
from tests.slurm.workflow import Workflow

pytestmark = pytest.mark.slurm


def timing(workflow: Workflow, num_people: int) -> dict[str, object]:
    value: dict[str, object] = json.loads(
        (workflow.folder_of(num_people) / "timing.json").read_text()
    )
    return value


def assert_same_weights(run: Path, other: Path) -> None:
    found, expected = (torch.load(each / "model.pt", weights_only=True) for each in (run, other))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_the_smoke_study_ends_in_its_report(smoke: Workflow) -> None:
    page = smoke.folder / "results" / "smoke" / "report.html"
    assert page.stat().st_size > 100_000
    with xr.open_dataset(page.parent / "capacity.nc", engine="h5netcdf") as table:
        assert table.sizes["measurement"] == len(list(smoke.folder.glob("results/runs/*/*/*.nc")))


def test_after_the_smoke_study_nothing_is_left_to_do(smoke: Workflow) -> None:
    assert smoke.planned() == {}


def test_every_corpus_training_and_evaluation_was_a_job_of_slurm_s(smoke: Workflow) -> None:
    assert {job.state for job in smoke.jobs(rule="")} == {"COMPLETED"}
    rules = {job.comment.split("_")[1] for job in smoke.jobs(rule="")}
    assert rules == {"corpora", "trainings", "evaluations"}


def test_a_training_with_too_little_memory_is_a_new_job_with_more(interrupted: Workflow) -> None:
    first, second = interrupted.jobs(HUNGRY)
    assert (first.memory_mb, second.memory_mb) == (250, 2000)
    assert first.state != "COMPLETED"
    assert second.state == "COMPLETED"


def test_a_training_goes_on_through_time_limits(interrupted: Workflow) -> None:
    spent = [job for job in interrupted.jobs(STEP_BY_STEP) if job.state == "FAILED"]
    assert spent
    assert interrupted.jobs(STEP_BY_STEP)[-1].state == "COMPLETED"
    assert timing(interrupted, STEP_BY_STEP)["num_resumed"] == 3


def test_a_cancelled_training_is_a_new_job(interrupted: Workflow) -> None:
    states = {job.id: job.state for job in interrupted.jobs(STEP_BY_STEP)}
    assert states[interrupted.cancelled] == "CANCELLED"
    assert int(interrupted.cancelled) < max(map(int, states))


def test_a_preempted_training_goes_on_as_the_same_job(interrupted: Workflow) -> None:
    states = {job.id: job.state for job in interrupted.jobs(STEP_BY_STEP)}
    assert states[interrupted.requeued] in ("FAILED", "COMPLETED")


def test_interruptions_move_no_bit(interrupted: Workflow) -> None:
    again = interrupted.train_without_interruption(STEP_BY_STEP)
    assert_same_weights(interrupted.folder_of(STEP_BY_STEP), again)


def test_two_nodes_train_a_run_together(shared: Workflow) -> None:
    assert {job.num_nodes for job in shared.jobs(SHARED)} == {2}
    assert shared.jobs(SHARED)[-1].state == "COMPLETED"
    assert timing(shared, SHARED)["num_processes"] == 2
    assert timing(shared, SHARED)["num_resumed"] == len(shared.jobs(SHARED)) - 1 > 0


def test_two_nodes_make_the_steps_of_one(shared: Workflow) -> None:
    again = shared.train_without_interruption(SHARED)
    run = shared.folder_of(SHARED)
    found, expected = (torch.load(each / "model.pt", weights_only=True) for each in (run, again))
    for name, value in expected.items():
        # sums of gradients in another order, float32
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name


def test_after_a_crash_a_second_job_waits_for_the_first(orphaned: Workflow) -> None:
    assert [job.state for job in orphaned.jobs(OUTLIVING)] == ["COMPLETED", "COMPLETED"]
    assert timing(orphaned, OUTLIVING)["num_resumed"] == 0
    again = orphaned.train_without_interruption(OUTLIVING)
    assert_same_weights(orphaned.folder_of(OUTLIVING), again)


def test_what_was_trained_when_nobody_watched_is_kept(orphaned: Workflow) -> None:
    now = (orphaned.folder_of(FINISHED) / "model.pt").stat()
    assert now.st_ino == orphaned.model.st_ino


def test_a_job_that_was_queued_twice_trains_once(orphaned: Workflow) -> None:
    assert [job.state for job in orphaned.jobs(HELD)] == ["COMPLETED", "COMPLETED"]
    now = (orphaned.folder_of(HELD) / "model.pt").stat()
    assert (now.st_ino, now.st_size) == (orphaned.held.st_ino, orphaned.held.st_size)
    assert (orphaned.folder_of(HELD) / "DONE").exists()
