"""Runs that a profile does not finish are found before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowcap import cli
from knowcap.artifacts.identity import run_name
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from knowcap.planning.choose_parallelism import choose_parallel_dims
from knowcap.planning.cost import cost, text_statistics
from knowcap.planning.profile_file import ProfileFile, load_profile
from knowcap.planning.training_time import from_tflops
from knowcap.planning.unfinished_runs import unfinished_runs
from tests.planning.finished import finish
from tests.support.tiny import tiny_run

REPOSITORY = Path(__file__).parents[2]


def profile(folder: Path, text: str) -> ProfileFile:
    """Write and load a profile."""
    (folder / "config.yaml").write_text(text)
    return load_profile(folder)


def tflops_for_hours(study: Study, index: int, hours: float) -> float:
    """Return the speed at which a run takes some hours."""
    run = study.runs()[index]
    text = text_statistics(run.corpus, Path(study.results))
    return cost(run, text, study.evaluation).flops / (hours * 3600) / 1e12


def names(study: Study, given: ProfileFile, tflops: float) -> list[str]:
    """Return the names of the runs that are not finished."""
    return [each.name for each in unfinished_runs(study, given, from_tflops(tflops))]


@pytest.mark.parametrize(
    ("text", "hours", "finishes"),
    [
        ("retries: 1\nset-resources: {train: {runtime: 60}}", 1.8, True),
        ("retries: 1\nset-resources: {train: {runtime: 60}}", 1.9, False),
        ("retries: 1\nset-resources: {train: {runtime: 1h}}", 1.9, False),
        ("set-resources: {train: {runtime: 60}}", 1.0, False),
        ("default-resources: {runtime: 60}", 1.0, False),
        ("default-resources: [runtime=60]", 1.0, False),
        ("set-resources: ['train:runtime=60', 'evaluate:runtime=1']", 1.0, False),
        ("set-resources: {train: {runtime: 120}}\ndefault-resources: {runtime: 1}", 1.0, True),
        ("retries: 1\nset-resources: {train: {runtime: 60 * attempt}}", 2.7, True),
        ("retries: 1\nset-resources: {train: {runtime: 60 * attempt}}", 2.9, False),
        ("set-resources: {train: {runtime: 60, gpu: 2}}", 1.8, True),
        ("set-resources: {train: {runtime: 60, gpu: 2}}", 1.9, False),
        ("set-resources: {train: {runtime: \"600 if 'bioD' in wildcards.run else 1\"}}", 9, True),
        ("cores: all", 10**6, True),
    ],
)
def test_a_run_must_end_within_the_time_of_its_attempts(
    study: Study, tmp_path: Path, text: str, hours: float, finishes: bool
) -> None:
    unfinished = names(study, profile(tmp_path, text), tflops_for_hours(study, 0, hours))
    assert (run_name(study.runs()[0]) in unfinished) is not finishes


BY_SIZE = """\
retries: 10
set-resources:
  train: {runtime: 60, tflops_per_gpu: 1, target_hours: 2, gpus_per_node: 1, max_gpus: 1}
"""


def test_the_attempts_of_a_run_follow_from_its_size(study: Study, tmp_path: Path) -> None:
    given = profile(tmp_path, BY_SIZE)
    # At the speed of the profile one attempt is enough, so six are made.
    name = run_name(study.runs()[0])
    assert name not in names(study, given, tflops_for_hours(study, 0, 5.4))
    assert name in names(study, given, tflops_for_hours(study, 0, 5.6))


def test_a_trained_run_is_finished(study: Study, tmp_path: Path) -> None:
    given = profile(tmp_path, "set-resources: {train: {runtime: 2}}")
    assert len(names(study, given, 1e-15)) == 6
    finish(study, 0)
    assert len(names(study, given, 1e-15)) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retries: many", r"config\.yaml:1: retries: 'many' is not allowed"),
        ("set-resources: {train: {runtime: soon}}", "train: runtime: 'soon' is not allowed"),
        ("set-resources: {train: {runtime: 1/0}}", "train: runtime: '1/0' cannot be evaluated"),
        ("set-resources: {train: {runtime: 1, gpu: few}}", "train: gpu: 'few' is not allowed"),
    ],
)
def test_a_wrong_profile_is_one_line(study: Study, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        unfinished_runs(study, profile(tmp_path, text), from_tflops(1))


def run_plan(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plan", *map(str, options)])
    return stopped.value.code, *capsys.readouterr()


def test_the_command_lists_the_runs_and_exits_with_2(
    study: Study, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(tmp_path, "set-resources: {train: {runtime: 60, gpu: 1}}")
    options = (study_file, "--profile", tmp_path, "--tflops")
    code, out, errors = run_plan(capsys, *options, tflops_for_hours(study, 0, 10))
    lines = errors.splitlines()
    assert (code, out) == (2, "")
    hours = "does not finish: 10 hours on 1 GPU are needed, 1 attempts allow 1"
    assert f"{run_name(study.runs()[0])}: {hours}" in lines
    assert lines[-1].endswith(f"set more retries, in {tmp_path}/config.yaml")
    code, out, errors = run_plan(capsys, *options, 1)
    assert (code, errors) == (0, "")
    assert out.startswith("All 6 runs finish. The time left ASSUMES 1 TFLOP/s (--tflops)")


def test_a_profile_without_a_speed_needs_one(
    study: Study, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(tmp_path, "set-resources: {train: {runtime: 60}}")
    code, _, errors = run_plan(capsys, study_file, "--profile", tmp_path)
    line = "knowcap: --profile: needs the speed of a GPU, --tflops or --throughput\n"
    assert (code, errors) == (2, line)
    profile(tmp_path, BY_SIZE)
    code, out, _ = run_plan(capsys, study_file, "--profile", tmp_path)
    assert code == 0
    assert f"1 TFLOP/s ({tmp_path}/config.yaml)" in out


def test_the_profile_of_the_paper_finishes_its_study_at_half_the_speed() -> None:
    study = load_study(REPOSITORY / "config" / "paper.yaml")
    given = load_profile(REPOSITORY / "config" / "profiles" / "slurm-paper")
    assert names(study, given, given.resources["tflops_per_gpu"] / 2) == []
    for run in study.runs():  # the processes can share every model
        gpus = given.num_gpus(run, "run", 1)
        assert choose_parallel_dims(run, 10**9, gpus, min(gpus, 8), {}).world_size == gpus
    assert len(names(study, load_profile(REPOSITORY / "config" / "profiles" / "slurm"), 200)) == 75


def test_a_run_of_another_process_count_is_not_read_as_gpus(tmp_path: Path) -> None:
    given = profile(tmp_path, "set-resources: {train: {runtime: 60, processes: 4}}")
    assert given.num_gpus(tiny_run(), "run", 1) == 0
