import json
import logging
import math

import pytest

from knowcap.errors import UserError
from knowcap.training.metrics_logger import MetricsLogger, WrittenMetrics, progress_text


def logger(folder, train_iters, iteration, written=WrittenMetrics(), num_replicates=2):  # noqa: B008
    return MetricsLogger(folder, train_iters, iteration, written, num_replicates)


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("train_iters", [1, 299, 300, 599, 12_345, 1_000_000])
def test_a_run_has_about_300_lines_of_metrics_and_one_of_its_last_step(tmp_path, train_iters):
    with logger(tmp_path, train_iters, iteration=0) as metrics_logger:
        logged = [step for step in range(1, train_iters + 1) if metrics_logger.is_logged(step)]
    assert min(train_iters, 300) <= len(logged) < 600
    assert logged[-1] == train_iters


def test_values_that_are_not_finite_are_null(tmp_path):
    with logger(tmp_path, 10, iteration=0, num_replicates=3) as metrics_logger:
        metrics_logger.write(
            {"iteration": 1, "loss_nats": [1.5, math.nan, math.inf], "lr": -math.inf}
        )
    assert read_metrics(tmp_path) == [{"iteration": 1, "loss_nats": [1.5, None, None], "lr": None}]


def test_lines_of_steps_that_a_crash_undid_are_removed(tmp_path):
    with logger(tmp_path, 10, iteration=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        written = metrics_logger.written()
        metrics_logger.write({"iteration": 2})
    with logger(tmp_path, 10, iteration=1, written=written) as metrics_logger:
        metrics_logger.write({"iteration": 2, "again": 1})
        assert metrics_logger.written().num_bytes == (tmp_path / "metrics.jsonl").stat().st_size
    assert read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 2, "again": 1}]


def test_the_length_after_a_resume_excludes_removed_lines(tmp_path):
    with logger(tmp_path, 10, iteration=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        written = metrics_logger.written()
        metrics_logger.write({"iteration": 2})
    with logger(tmp_path, 10, iteration=1, written=written) as metrics_logger:
        assert metrics_logger.written() == written


@pytest.mark.parametrize("damage", [lambda text: text[:5], lambda text: text.replace(b"1", b"2")])
def test_metrics_that_differ_from_those_at_the_last_checkpoint_are_refused(tmp_path, damage):
    with logger(tmp_path, 10, iteration=0) as metrics_logger:
        metrics_logger.write({"iteration": 1})
        written = metrics_logger.written()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"metrics\.jsonl: not as at the last checkpoint"):
        logger(tmp_path, 10, iteration=1, written=written)


def test_the_first_step_that_is_not_finite_is_known_after_a_resume(tmp_path):
    with logger(tmp_path, 10, iteration=0) as metrics_logger:
        for step in (1, 2, 3):
            loss = [1.0, math.nan if step == 2 else 1.0]
            metrics_logger.write({"iteration": step, "loss_nats": loss, "grad_norm": [1.0, 1.0]})
        written = metrics_logger.written()
    with logger(tmp_path, 10, iteration=3, written=written) as metrics_logger:
        assert metrics_logger.first_non_finite == [math.inf, 2]
        metrics_logger.write({"iteration": 4, "loss_nats": [1, 1], "grad_norm": [math.inf, 1]})
        assert metrics_logger.first_non_finite == [4, 2]


def test_progress_is_not_logged_at_every_step(tmp_path):
    with logger(tmp_path, 10, iteration=3) as metrics_logger:
        metrics_logger.log_progress(4)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["iteration"], progress["train_iters"]) == (3, 10)


def test_the_progress_line_names_the_step_and_the_time_left(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("knowcap.training.metrics_logger.PROGRESS_INTERVAL_S", 0.0)
    with (
        caplog.at_level(logging.INFO),
        logger(tmp_path, 10, iteration=3, num_replicates=3) as metrics_logger,
    ):
        metrics_logger.log_progress(5)
        metrics_logger.write(
            {"iteration": 8, "loss_nats": [2.0, 3.0, math.nan], "tokens_per_s": 45678}
        )
        metrics_logger.log_progress(8)
    assert caplog.messages == [
        "step 5 of 10 (50%), about 0 s left",
        "step 8 of 10 (80%), 45,678 tokens/s, loss 2.500, about 0 s left",
    ]
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress_text(progress) == caplog.messages[1]
