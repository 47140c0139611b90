import math
from pathlib import Path

import pytest

from knowcap import cli
from knowcap.config.study import Study, load_study
from knowcap.planning.cost import cost, text_statistics
from knowcap.planning.plan import format_plan, plan
from knowcap.planning.training_time import from_tflops, from_throughput
from tests.planning.finished import finish


def test_laws_that_share_no_run_add_up(study: Study) -> None:
    planned = plan(study, from_tflops(1.0))
    first, fourth = planned.laws
    assert (first.label, fourth.label, planned.total.label) == ("1", "4", "all")
    for column in ("num_runs", "num_models", "weights_bytes", "other_bytes"):
        assert getattr(first, column) + getattr(fourth, column) == getattr(planned.total, column)
    for column in ("num_tokens", "flops", "to_go_s"):
        parts = getattr(first, column) + getattr(fourth, column)
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


def test_a_run_of_two_laws_counts_in_both_and_once_in_all(
    study_file: Path, study_text: str
) -> None:
    study_file.write_text(study_text.replace("laws: [1]", "laws: [1, 4]"))
    planned = plan(load_study(study_file))
    assert [law.num_runs for law in planned.laws] == [5, 6]
    assert planned.total.num_runs == 6


def test_done_runs_are_counted_and_take_no_more_time(study: Study) -> None:
    before = plan(study, from_tflops(1.0)).total
    finish(study, 0)
    after = plan(study, from_tflops(1.0)).total
    run = study.runs()[0]
    needed = cost(run, text_statistics(run.corpus, Path(study.results)), study.evaluation)
    assert (before.num_done, after.num_done) == (0, 1)
    assert before.to_go_s - after.to_go_s == pytest.approx(needed.flops / 1e12)
    assert before.flops == after.flops


def test_a_finished_study_has_no_time_left(study: Study) -> None:
    for index in range(6):
        finish(study, index)
    planned = plan(study)
    assert planned.total.num_done == planned.total.num_runs
    assert planned.total.to_go_s == 0
    assert planned.scratch_bytes == 0


def test_without_finished_runs_or_a_speed_the_time_is_unknown(study: Study) -> None:
    planned = plan(study)
    assert math.isnan(planned.total.to_go_s)
    assert "?" in format_plan(planned)


def test_the_table_has_a_row_for_each_law_and_one_for_all(study: Study) -> None:
    header, first, fourth, total, blank, *notes = format_plan(plan(study)).splitlines()
    assert header.split() == [
        *("law", "runs", "done", "models", "tokens", "FLOP"),
        *("time", "left", "weights", "metrics,", "losses"),
    ]
    assert first.split()[:4] == ["1", "5", "0", "10"]
    assert fourth.split()[:4] == ["4", "1", "0", "2"]
    assert total.split()[:4] == ["all", "6", "0", "12"]
    assert blank == ""
    assert "Tokens are estimated for 3 of 3 corpora, which are not made yet." in notes


def test_a_study_without_laws_has_one_row(study_file: Path, study_text: str) -> None:
    text = study_text.replace("laws: [1]", "laws: []").replace("laws: [4]", "laws: []")
    study_file.write_text(text)
    planned = plan(load_study(study_file))
    assert (planned.laws, planned.total.num_runs) == ((), 6)
    assert "several laws" not in format_plan(planned)


def run_plan(capsys: pytest.CaptureFixture[str], study_file: Path, *options: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plan", str(study_file), *options])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_the_command_prints_the_table_and_names_an_assumption(
    study: Study, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run_plan(capsys, study_file, "--tflops", "2")
    assert printed == format_plan(plan(study, from_tflops(2.0))) + "\n"
    assert "ASSUMES 2 TFLOP/s (--tflops), which is not measured" in printed


def test_the_command_names_the_measured_device(
    study: Study, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "throughput.yaml"
    path.write_text("device: abacus\nsource: a test\nsteps:\n- {flops: 1.0e+9, seconds: 0.001}\n")
    printed = run_plan(capsys, study_file, "--throughput", str(path))
    assert printed == format_plan(plan(study, from_throughput(path))) + "\n"
    assert "steps measured on abacus" in printed


def test_the_command_names_the_number_of_finished_runs(
    study: Study, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(study, 0, train_s=100)
    printed = run_plan(capsys, study_file)
    assert f"estimated from 1 finished run of {study.results}, trained on cpu: " in printed
    assert "?" not in printed
