"""The workflow on Slurm: limits, cancelled jobs and crashes lose nothing and change no bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import xarray as xr

from tests.slurm.scenarios import (
    FINISHED,
    ONE_STEP_PER_JOB,
    OUT_OF_MEMORY,
    QUEUED,
    REFUSED,
    STILL_TRAINING,
    TWO_NODES,
    people,
    study,
)
from tests.slurm.workflow import OUTPUT, TIMEOUT_S, Workflow

pytestmark = pytest.mark.slurm


def timing(workflow: Workflow, num_people: int) -> dict[str, object]:
    """Return the timing of a run."""
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


def test_corpora_trainings_and_evaluations_are_slurm_jobs(smoke: Workflow) -> None:
    assert {job.state for job in smoke.jobs(rule="")} == {"COMPLETED"}
    rules = {job.comment.split("_")[1] for job in smoke.jobs(rule="")}
    assert rules == {"corpora", "trainings", "evaluations"}


def test_a_training_with_too_little_memory_is_submitted_again_with_more(
    interrupted: Workflow,
) -> None:
    first, second = interrupted.jobs(OUT_OF_MEMORY)
    assert (first.memory_mb, second.memory_mb) == (250, 2000)
    assert first.state != "COMPLETED"
    assert second.state == "COMPLETED"


def test_a_training_resumes_after_each_time_limit(interrupted: Workflow) -> None:
    spent = [job for job in interrupted.jobs(ONE_STEP_PER_JOB) if job.state == "FAILED"]
    assert spent
    assert interrupted.jobs(ONE_STEP_PER_JOB)[-1].state == "COMPLETED"
    assert timing(interrupted, ONE_STEP_PER_JOB)["num_resumed"] == 3


def test_a_cancelled_training_is_submitted_again(interrupted: Workflow) -> None:
    states = {job.id: job.state for job in interrupted.jobs(ONE_STEP_PER_JOB)}
    assert states[interrupted.cancelled] == "CANCELLED"
    assert int(interrupted.cancelled) < max(map(int, states))


def test_a_preempted_training_resumes_as_the_same_job(interrupted: Workflow) -> None:
    states = {job.id: job.state for job in interrupted.jobs(ONE_STEP_PER_JOB)}
    assert states[interrupted.requeued] in ("FAILED", "COMPLETED")


def test_interruptions_change_no_bit(interrupted: Workflow) -> None:
    again = interrupted.train_without_interruption(ONE_STEP_PER_JOB)
    assert_same_weights(interrupted.folder_of(ONE_STEP_PER_JOB), again)


def test_two_nodes_train_a_run(two_nodes: Workflow) -> None:
    assert {job.num_nodes for job in two_nodes.jobs(TWO_NODES)} == {2}
    assert two_nodes.jobs(TWO_NODES)[-1].state == "COMPLETED"
    assert timing(two_nodes, TWO_NODES)["num_processes"] == 2
    assert timing(two_nodes, TWO_NODES)["num_resumed"] == len(two_nodes.jobs(TWO_NODES)) - 1 > 0


def test_two_nodes_train_the_weights_of_one(two_nodes: Workflow) -> None:
    again = two_nodes.train_without_interruption(TWO_NODES)
    run = two_nodes.folder_of(TWO_NODES)
    found, expected = (torch.load(each / "model.pt", weights_only=True) for each in (run, again))
    for name, value in expected.items():
        # sums of gradients in another order, float32
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name


def test_after_a_crash_the_second_job_of_a_run_waits_for_the_first(orphaned: Workflow) -> None:
    assert [job.state for job in orphaned.jobs(STILL_TRAINING)] == ["COMPLETED", "COMPLETED"]
    assert timing(orphaned, STILL_TRAINING)["num_resumed"] == 0
    again = orphaned.train_without_interruption(STILL_TRAINING)
    assert_same_weights(orphaned.folder_of(STILL_TRAINING), again)


def test_a_run_that_finished_without_snakemake_is_kept(orphaned: Workflow) -> None:
    now = (orphaned.folder_of(FINISHED) / "model.pt").stat()
    assert now.st_ino == orphaned.finished_model.st_ino


def test_a_run_that_is_submitted_twice_is_trained_once(orphaned: Workflow) -> None:
    assert [job.state for job in orphaned.jobs(QUEUED)] == ["COMPLETED", "COMPLETED"]
    now = (orphaned.folder_of(QUEUED) / "model.pt").stat()
    assert (now.st_ino, now.st_size) == (
        orphaned.queued_model.st_ino,
        orphaned.queued_model.st_size,
    )
    assert (orphaned.folder_of(QUEUED) / "DONE").exists()


def test_a_mistake_that_a_job_finds_stops_its_other_attempts(refused: Workflow) -> None:
    states = [job.state for job in refused.jobs(REFUSED)]
    assert states == ["FAILED", "FAILED", "FAILED", "COMPLETED"]
    printed = refused.read(OUTPUT)
    name = refused.run(REFUSED)
    mistake = f"knowcap: results/runs/{name}/notes.txt: not a file of a run"
    refusal = f"knowcap: results/logs/train/{name}.log.refused: this was refused before"
    assert printed.count(mistake) >= 3
    assert printed.count(refusal) >= 2
    assert (refused.folder_of(REFUSED) / "DONE").exists()


@pytest.mark.usefixtures("cluster")
def test_jobs_that_the_partition_cannot_run_are_refused_before_the_first_one(
    tmp_path: Path,
) -> None:
    workflow = Workflow.make_study(tmp_path, study(people(REFUSED)))
    # The partition has an hour and nodes of 6000 MB; evaluations reach their memory in attempt 3.
    resources = {"train": "mem_mb=1500 runtime=61", "evaluate": "mem_mb=2001*attempt"}
    started = workflow.start("--retries", "2", **resources)
    assert started.wait(timeout=TIMEOUT_S) == 2
    assert workflow.jobs() == workflow.jobs(rule="corpus") == []
    lines = workflow.read(OUTPUT).splitlines()
    advice = "change the profile (scontrol show partition main)"
    more = "are more than partition main allows"
    expected = (
        f"evaluate: mem_mb: 6003 megabytes in attempt 3 {more}, 6000; {advice}",
        f"train: runtime: 61 minutes in attempt 1 {more}, 60; {advice}",
    )
    assert tuple(lines[-2:]) == expected
