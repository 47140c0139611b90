"""Loss curves: read from metrics, printed and written as figure or CSV."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowcap import cli
from knowcap.capacity.loss_curve import curve_table, draw_curves, read_curve, write_curve
from knowcap.capacity.tensorboard_events import write_events
from knowcap.errors import UserError
from knowcap.training.metrics_logger import MetricsLogger, WrittenMetrics

LOSSES = np.array([[5.0, 5.2], [4.0, 4.1], [3.0, 3.3]])


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    with MetricsLogger(folder, 30, 0, WrittenMetrics(), num_replicates=2) as logger:
        for step, losses in enumerate(LOSSES, 1):
            metrics = {"iteration": 10 * step, "tokens": 640 * step, "loss_nats": list(losses)}
            metrics |= {"elapsed_s": 0.5 * step}
            logger.write(metrics | {"lr": [1e-3, 2e-3], "grad_norm": [0.5, float("nan")]})
    return folder


@pytest.fixture
def run(scratch: Path) -> Path:
    record = {"replicates": {"seeds": [7], "lr": [1e-3, 2e-3]}}
    (scratch / "run.json").write_text(json.dumps({"format": 1, "record": record}))
    return scratch


def test_a_row_for_each_line_and_replicate(run: Path) -> None:
    curve = read_curve(run)
    assert curve["loss_nats"].to_numpy().reshape(3, 2).tolist() == LOSSES.tolist()
    assert curve["seed"].tolist() == [7] * 6
    assert curve["peak_lr"].tolist() == [1e-3, 2e-3] * 3
    assert curve["iteration"].tolist() == [10, 10, 20, 20, 30, 30]


def test_an_unfinished_run_has_numbered_replicates(scratch: Path) -> None:
    curve = read_curve(scratch)
    assert curve["seed"].tolist() == [0, 1] * 3
    assert curve["peak_lr"].isna().all()
    assert len(draw_curves(curve).axes[0].lines) == 2


def test_the_printed_table_has_mean_losses(run: Path) -> None:
    lines = curve_table(read_curve(run)).splitlines()
    assert lines[0] == "scratch"
    assert [line.split() for line in lines[2:]] == [
        ["10", "5.1000"],
        ["20", "4.0500"],
        ["30", "3.1500"],
    ]


def test_each_replicate_is_a_line_of_its_run(run: Path) -> None:
    lines = draw_curves(read_curve(run)).axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == LOSSES.T.tolist()
    assert len({line.get_color() for line in lines}) == 1


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_equal_curves_are_equal_files(run: Path, tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        write_curve(read_curve(run), path)
    assert paths[0].read_bytes() == paths[1].read_bytes() != b""


def test_csv_has_all_rows(run: Path, tmp_path: Path) -> None:
    write_curve(read_curve(run), tmp_path / "curve.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "curve.csv"), read_curve(run))


def test_mistakes_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="suffixes are"):
        write_curve(read_curve(run), tmp_path / "curve.txt")
    with pytest.raises(UserError, match="missing"):
        read_curve(tmp_path)
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="empty"):
        read_curve(run)


def events(folder: Path, tag: str) -> list[tuple[float, int, float]]:
    """Time, step and value of the events of a replicate."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reader.EventAccumulator(str(folder), {reader.TENSORS: 0})
    accumulator.Reload()
    return [
        (event.wall_time, event.step, float(event.tensor_proto.float_val[0]))
        for event in accumulator.Tensors(tag)
    ]


def test_tensorboard_has_a_run_for_each_replicate(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "board"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["curve", str(run), "--tensorboard", str(target)])
    assert stopped.value.code == 0
    folders = sorted(path.name for path in (target / "scratch").iterdir())
    assert folders == ["seed7-lr0.001", "seed7-lr0.002"]
    for folder, losses in zip(folders, LOSSES.T, strict=True):
        found = events(target / "scratch" / folder, "loss_nats")
        assert [event[:2] for event in found] == [(0.5, 10), (1.0, 20), (1.5, 30)]
        assert [event[2] for event in found] == pytest.approx(losses.tolist())
    assert np.isnan(events(target / "scratch" / folders[1], "grad_norm")[0][2])


def test_event_files_of_an_earlier_conversion_are_not_mixed_with_new_ones(
    run: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    write_events(read_curve(run), tmp_path / "board")
    with pytest.raises(UserError, match=r"board/scratch: exists"):
        write_events(read_curve(run), tmp_path / "board")
