from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowcap.config.study import Study
from knowcap.errors import UserError
from knowcap.planning.cost import cost, text_statistics
from knowcap.planning.training_time import (
    MeasuredStep,
    Throughput,
    load_throughput,
)

MEASURED = Throughput(
    device="a device",
    source="a test",
    steps=(
        MeasuredStep(flops=1e9, seconds=1e-3),
        MeasuredStep(flops=1e11, seconds=2e-3),
        MeasuredStep(flops=1e13, seconds=1e-1),
    ),
)


def test_step_times_equal_measurements_and_are_extrapolated() -> None:
    for step in MEASURED.steps:
        assert MEASURED.step_seconds(step.flops) == pytest.approx(step.seconds)
    assert MEASURED.step_seconds(1e6) == 1e-3
    assert MEASURED.step_seconds(1e15) == pytest.approx(10)


@given(st.floats(1e5, 1e18), st.floats(1, 100))
def test_a_larger_step_takes_at_least_as_long(flops: float, factor: float) -> None:
    assert MEASURED.step_seconds(flops * factor) >= MEASURED.step_seconds(flops) * (1 - 1e-12)


def test_the_time_of_a_run_is_that_of_its_steps(study: Study) -> None:
    run = study.runs()[0]
    needed = cost(run, text_statistics(run.corpus, Path(study.results)), study.evaluation)
    assert MEASURED.training_seconds(needed) == pytest.approx(needed.train_iters * 1e-3)


def test_a_throughput_file_is_loaded(tmp_path: Path) -> None:
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
            "steps: flops are not in ascending order",
        ),
        ("device: [", ":2: did not find expected node content"),
        (None, "file not found"),
    ],
)
def test_a_wrong_throughput_file_is_refused_in_one_line(
    content: str | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "throughput.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_throughput(path)
    assert str(caught.value).startswith(f"{path}:")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
