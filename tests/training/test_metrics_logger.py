import json
import logging
import math

import pytest

from knowcap.errors import UserError
from knowcap.training.metrics_logger import MetricsLogger


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("train_iters", [1, 299, 300, 599, 12_345, 1_000_000])
def test_a_run_has_about_300_lines_of_metrics_and_one_of_its_last_step(tmp_path, train_iters):
    with MetricsLogger(tmp_path, train_iters, iteration=0, num_bytes=0) as metrics_logger:
        logged = [step for step in range(1, train_iters + 1) if metrics_logger.is_logged(step)]
    assert min(train_iters, 300) <= len(logged) < 600
    assert logged[-1] == train_iters


def test_values_that_are_not_finite_are_null(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=0, num_bytes=0) as metrics_logger:
        metrics_logger.write(
            {"iteration": 1, "loss_nats": [1.5, math.nan, math.inf], "lr": -math.inf}
        )
    assert read_metrics(tmp_path) == [{"iteration": 1, "loss_nats": [1.5, None, None], "lr": None}]


def test_lines_of_steps_that_a_crash_undid_are_removed(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=0, num_bytes=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        num_bytes = metrics_logger.num_bytes()
        metrics_logger.write({"iteration": 2})
    with MetricsLogger(tmp_path, 10, iteration=1, num_bytes=num_bytes) as metrics_logger:
        metrics_logger.write({"iteration": 2, "again": 1})
        assert metrics_logger.num_bytes() == (tmp_path / "metrics.jsonl").stat().st_size
    assert read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 2, "again": 1}]


def test_the_length_after_a_resume_excludes_removed_lines(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=0, num_bytes=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        num_bytes = metrics_logger.num_bytes()
        metrics_logger.write({"iteration": 2})
    with MetricsLogger(tmp_path, 10, iteration=1, num_bytes=num_bytes) as metrics_logger:
        assert metrics_logger.num_bytes() == num_bytes


def test_metrics_shorter_than_at_the_last_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match="shorter than at the last checkpoint"):
        MetricsLogger(tmp_path, 10, iteration=1, num_bytes=5)


def test_progress_is_not_logged_at_every_step(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=3, num_bytes=0) as metrics_logger:
        metrics_logger.log_progress(4)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress == {"iteration": 3, "train_iters": 10}


def test_the_progress_line_names_the_step_and_the_time_left(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("knowcap.training.metrics_logger.PROGRESS_INTERVAL_S", 0.0)
    with (
        caplog.at_level(logging.INFO),
        MetricsLogger(tmp_path, 10, iteration=3, num_bytes=0) as metrics_logger,
    ):
        metrics_logger.log_progress(5)
    assert caplog.messages == ["step 5 of 10 (50%), about 0 s left"]
