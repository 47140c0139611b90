import json
import math

import pytest

from knowcap.errors import UserError
from knowcap.training.metrics_logger import MetricsLogger


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("train_iters", [1, 299, 300, 599, 12_345, 1_000_000])
def test_a_run_has_a_few_hundred_lines_of_metrics_and_its_last_step_is_one(tmp_path, train_iters):
    with MetricsLogger(tmp_path, train_iters, iteration=0, num_bytes=0) as metrics_logger:
        wanted = [step for step in range(1, train_iters + 1) if metrics_logger.wants(step)]
    assert min(train_iters, 300) <= len(wanted) < 600
    assert wanted[-1] == train_iters


def test_what_is_not_finite_is_null(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=0, num_bytes=0) as metrics_logger:
        metrics_logger.write(
            {"iteration": 1, "loss_nats": [1.5, math.nan, math.inf], "lr": -math.inf}
        )
    assert lines(tmp_path) == [{"iteration": 1, "loss_nats": [1.5, None, None], "lr": None}]


def test_lines_of_steps_that_a_crash_undid_are_forgotten(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=0, num_bytes=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        num_bytes = metrics_logger.num_bytes()
        metrics_logger.write({"iteration": 2})
    with MetricsLogger(tmp_path, 10, iteration=1, num_bytes=num_bytes) as metrics_logger:
        metrics_logger.write({"iteration": 2, "again": 1})
    assert lines(tmp_path) == [{"iteration": 1}, {"iteration": 2, "again": 1}]


def test_metrics_shorter_than_they_were_are_refused(tmp_path):
    with pytest.raises(UserError, match="cut short"):
        MetricsLogger(tmp_path, 10, iteration=1, num_bytes=5)


def test_progress_is_not_said_at_every_step(tmp_path):
    with MetricsLogger(tmp_path, 10, iteration=3, num_bytes=0) as metrics_logger:
        metrics_logger.show(4)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress == {"iteration": 3, "train_iters": 10}
