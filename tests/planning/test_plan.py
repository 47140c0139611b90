import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap import cli
from knowcap.artifacts import identity
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from knowcap.planning.cost import cost, text_statistics
from knowcap.planning.plan import MeasuredStep, Throughput, assumed, load_throughput, plan, table

MEASURED = Throughput(
    device="a device",
    source="a test",
    steps=(
        MeasuredStep(flops=1e9, seconds=1e-3),
        MeasuredStep(flops=1e11, seconds=2e-3),
        MeasuredStep(flops=1e13, seconds=1e-1),
    ),
)


@pytest.fixture
def study(study_file: Path, study_text: str, tmp_path: Path) -> Study:
    study_file.write_text(study_text.replace("results: results", f"results: {tmp_path}/results"))
    return load_study(study_file)


def finish(study: Study, index: int) -> None:
    folder = Path(study.results) / "runs" / identity.run_name(study.runs()[index])
    folder.mkdir(parents=True)
    (folder / "DONE").touch()


def test_laws_that_share_no_run_add_up(study: Study) -> None:
    planned = plan(study, assumed(1.0))
    base, rare = planned.laws
    assert (base.label, rare.label, planned.total.label) == ("1", "4", "all")
    for column in ("num_runs", "num_models", "weights_bytes", "other_bytes"):
        assert getattr(base, column) + getattr(rare, column) == getattr(planned.total, column)
    for column in ("num_tokens", "flops", "to_go_s"):
        parts = getattr(base, column) + getattr(rare, column)
        assert parts == pytest.approx(getattr(planned.total, column))


def test_the_total_is_that_of_the_runs(study: Study) -> None:
    results = Path(study.results)
    costs = [
        cost(run, text_statistics(run.corpus, results), study.evaluation) for run in study.runs()
    ]
    total = plan(study).total
    assert total.num_runs == 6
    assert total.num_models == 12
    assert total.flops == pytest.approx(sum(each.flops for each in costs))
    assert total.weights_bytes == sum(each.weights_bytes for each in costs)


def test_a_run_of_two_laws_is_in_both_and_once_in_all(study_file: Path, study_text: str) -> None:
    study_file.write_text(study_text.replace("laws: [1]", "laws: [1, 4]"))
    planned = plan(load_study(study_file))
    assert [law.num_runs for law in planned.laws] == [5, 6]
    assert planned.total.num_runs == 6


def test_done_runs_are_recognised_and_cost_no_more_time(study: Study) -> None:
    before = plan(study, assumed(1.0)).total
    finish(study, 0)
    after = plan(study, assumed(1.0)).total
    run = study.runs()[0]
    needed = cost(run, text_statistics(run.corpus, Path(study.results)), study.evaluation)
    assert (before.num_done, after.num_done) == (0, 1)
    assert before.to_go_s - after.to_go_s == pytest.approx(needed.flops / 1e12)
    assert before.flops == after.flops


def test_a_finished_study_has_nothing_to_go(study: Study) -> None:
    for index in range(6):
        finish(study, index)
    planned = plan(study, MEASURED.seconds)
    assert planned.total.num_done == planned.total.num_runs
    assert planned.total.to_go_s == 0
    assert planned.scratch_bytes == 0


def test_without_a_speed_there_are_no_hours(study: Study) -> None:
    planned = plan(study)
    assert math.isnan(planned.total.to_go_s)
    assert "?" in table(planned)


def test_the_table_has_a_row_for_each_law_and_one_for_all(study: Study) -> None:
    header, base, rare, total, blank, *notes = table(plan(study)).splitlines()
    assert header.split() == [
        *("law", "runs", "done", "models", "tokens", "FLOP"),
        *("hours", "to", "go", "weights", "metrics,", "losses"),
    ]
    assert base.split()[:4] == ["1", "5", "0", "10"]
    assert rare.split()[:4] == ["4", "1", "0", "2"]
    assert total.split()[:4] == ["all", "6", "0", "12"]
    assert blank == ""
    assert "Tokens are estimated for 3 of 3 corpora, which are not made yet." in notes


def test_measured_steps_are_met_and_followed_beyond_their_ends() -> None:
    for step in MEASURED.steps:
        assert MEASURED.step_seconds(step.flops) == pytest.approx(step.seconds)
    assert MEASURED.step_seconds(1e6) == 1e-3
    assert MEASURED.step_seconds(1e15) == pytest.approx(10)


@given(st.floats(1e5, 1e18), st.floats(1, 100))
def test_a_larger_step_takes_longer(flops: float, factor: float) -> None:
    assert MEASURED.step_seconds(flops * factor) >= MEASURED.step_seconds(flops) * (1 - 1e-12)


def test_a_run_takes_its_steps(study: Study) -> None:
    run = study.runs()[0]
    needed = cost(run, text_statistics(run.corpus, Path(study.results)), study.evaluation)
    assert MEASURED.seconds(needed) == pytest.approx(needed.train_iters * 1e-3)


def test_a_throughput_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "throughput.yaml"
    path.write_text("device: a device\nsource: a test\nsteps:\n- {flops: 1.0e+9, seconds: 0.001}\n")
    assert load_throughput(path).steps == MEASURED.steps[:1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("device: a\nsource: b\nsteps: []\n", "steps: "),
        ("device: a\nsource: b\nsteps: [{flops: -1, seconds: 1}]\n", "steps.0.flops: "),
        (
            "device: a\nsource: b\nsteps: [{flops: 2, seconds: 1}, {flops: 1, seconds: 1}]\n",
            "not ascending",
        ),
        ("device: [", "not YAML"),
        (None, "missing"),
    ],
)
def test_a_damaged_throughput_file_is_one_line(
    content: str | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "throughput.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_throughput(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_prints_the_table_and_names_an_assumption(
    study: Study, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "--study", str(study_file), "--tflops", "2"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(table(plan(study, assumed(2.0))))
    assert "ASSUME 2 TFLOP/s (--tflops), which is not measured" in printed


def test_the_command_names_the_device_that_was_measured(
    study: Study, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "throughput.yaml"
    path.write_text("device: abacus\nsource: a test\nsteps:\n- {flops: 1.0e+9, seconds: 0.001}\n")
    with pytest.raises(SystemExit):
        cli.main(["plan", "--study", str(study_file), "--throughput", str(path)])
    printed = capsys.readouterr().out
    assert printed.startswith(table(plan(study, load_throughput(path).seconds)))
    assert "steps measured on abacus" in printed
