"""Metrics of a run as JSON lines, its progress file, and a progress line in the log.

Progress is logged as plain lines, without rich: a training runs under Snakemake, which writes its
output to a log file. `knowcap progress` draws bars from the progress files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from knowcap.artifacts.durations import format_duration
from knowcap.artifacts.files import write_json
from knowcap.artifacts.storage import file_errors
from knowcap.errors import UserError
from knowcap.training.run_dir import METRICS_FILE

PROGRESS_FILE = "progress.json"

NUM_LINES = 300
"""Approximate number of metrics lines of a run."""

PROGRESS_INTERVAL_S = 10.0
"""Seconds between two progress lines."""

_log = logging.getLogger(__name__)


class WrittenMetrics(NamedTuple):
    """Metrics in the file at the time of a checkpoint."""

    num_bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class MetricsLogger(AbstractContextManager["MetricsLogger"]):
    """Writes the metrics of a run as JSON lines and reports its progress.

    A line has `iteration` (steps made), `tokens` (read by each replicate), `loss_nats`, `lr` and
    `grad_norm` of each replicate at this step, `elapsed_s` (training time over all attempts) and
    `tokens_per_s` (of all replicates, on average). With experts, `expert_share` is the share of a
    layer's routing choices that each expert has, and `dropped_share` the share of choices beyond
    the experts' capacity, both by replicate and layer. Values that are not finite are null.

    Parameters
    ----------
    folder
        Scratch folder of this process.
    train_iters
        Steps of the whole training.
    iteration
        Steps that are already made.
    written
        Length and digest of the metrics of these steps. Later lines, of steps that a crash undid,
        are removed.
    num_replicates
        Replicates of the run.

    Raises
    ------
    UserError
        If the metrics file is shorter than it was, or differs from its digest.
    """

    def __init__(
        self,
        folder: Path,
        train_iters: int,
        iteration: int,
        written: WrittenMetrics,
        num_replicates: int,
    ) -> None:
        self._path = folder / METRICS_FILE
        with file_errors(self._path):
            self._path.touch()
            kept = self._path.read_bytes()[: written.num_bytes]
            self._hasher = hashlib.sha256(kept)
            if written != WrittenMetrics(len(kept), self._hasher.hexdigest()):
                raise UserError(
                    f"{self._path}: not as at the last checkpoint; delete {folder} to train from "
                    f"the start"
                )
            self._file = self._path.open("ab")
            self._file.truncate(written.num_bytes)
            self._file.seek(0, os.SEEK_END)  # truncating does not move what tell returns
        self.first_non_finite = [math.inf] * num_replicates
        """First logged step of each replicate whose loss or gradient is not finite."""
        for line in kept.splitlines():
            self._update_first_non_finite(json.loads(line))
        self._progress_path = folder / PROGRESS_FILE
        self._train_iters = train_iters
        self._interval = max(1, train_iters // NUM_LINES)
        self._first_iteration, self._start_s = iteration, time.monotonic()
        self._last_progress_s = -math.inf
        self._last_line: dict[str, Any] = {}
        self.log_progress(iteration)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the metrics file."""
        with file_errors(self._path):
            self._file.close()

    def __enter__(self) -> Self:
        """Return the logger itself."""
        return self

    def is_logged(self, iteration: int) -> bool:
        """Whether metrics of a step are written: at regular intervals and at the last step."""
        return iteration % self._interval == 0 or iteration == self._train_iters

    def write(self, metrics: dict[str, Any]) -> None:
        """Append a line of metrics."""
        line = {name: _finite_or_none(value) for name, value in metrics.items()}
        text = json.dumps(line, allow_nan=False).encode() + b"\n"
        with file_errors(self._path, len(text)):
            self._file.write(text)
            self._file.flush()
        self._hasher.update(text)
        self._update_first_non_finite(line)
        self._last_line = line

    def written(self) -> WrittenMetrics:
        """Flush the metrics to disk and return their length and digest."""
        with file_errors(self._path):
            os.fsync(self._file.fileno())
            return WrittenMetrics(self._file.tell(), self._hasher.hexdigest())

    def _update_first_non_finite(self, line: dict[str, Any]) -> None:
        """Record the step of a line for replicates whose loss or gradient is not finite."""
        for name in ("loss_nats", "grad_norm"):
            for replicate, value in enumerate(line.get(name, ())):
                if value is None:
                    first = self.first_non_finite[replicate]
                    self.first_non_finite[replicate] = min(first, line["iteration"])

    def log_progress(self, iteration: int) -> None:
        """Update the progress file and log a line, at most once per interval."""
        now_s = time.monotonic()
        if now_s - self._last_progress_s < PROGRESS_INTERVAL_S:
            return
        self._last_progress_s = now_s
        losses = [loss for loss in self._last_line.get("loss_nats", ()) if loss is not None]
        progress = {
            "iteration": iteration,
            "train_iters": self._train_iters,
            "loss_nats": sum(losses) / len(losses) if losses else None,
            "tokens_per_s": self._last_line.get("tokens_per_s"),
            "remaining_s": None,
        }
        if iteration > self._first_iteration:
            step_s = (now_s - self._start_s) / (iteration - self._first_iteration)
            progress["remaining_s"] = step_s * (self._train_iters - iteration)
            _log.info("%s", progress_text(progress))
        write_json(self._progress_path, progress)


def progress_text(progress: Mapping[str, Any]) -> str:
    """Return the line of a training's progress file, such as `step 5 of 10 (50%), loss 1.2`."""
    iteration, total = progress["iteration"], progress["train_iters"]
    parts = [f"step {iteration:,} of {total:,} ({iteration / total:.0%})"]
    if progress.get("tokens_per_s") is not None:
        parts.append(f"{progress['tokens_per_s']:,} tokens/s")
    if progress.get("loss_nats") is not None:
        parts.append(f"loss {progress['loss_nats']:.3f}")
    if progress.get("remaining_s") is not None:
        parts.append(f"about {format_duration(progress['remaining_s'])} left")
    return ", ".join(parts)


def _finite_or_none(value: Any) -> Any:
    """Replace numbers that JSON does not have, NaN and infinity, by None."""
    if isinstance(value, Sequence):
        return [_finite_or_none(part) for part in value]
    return value if math.isfinite(value) else None
