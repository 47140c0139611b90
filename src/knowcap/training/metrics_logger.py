"""What a training says of itself while it runs: metrics, progress, a line for who is watching."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from knowcap.artifacts.files import write_json
from knowcap.errors import UserError
from knowcap.training.run_dir import METRICS_FILE

PROGRESS_FILE = "progress.json"

NUM_LINES = 300
"""Lines of metrics of a run, about."""

PROGRESS_INTERVAL_S = 10.0

_log = logging.getLogger(__name__)


class MetricsLogger(AbstractContextManager["MetricsLogger"]):
    """The metrics of a run as JSON lines, and its progress.

    A line has `iteration` (steps made), `tokens` (read by each replicate), `loss_nats`, `lr` and
    `grad_norm` of each replicate at this step, `elapsed_s` (of training, over all attempts) and
    `tokens_per_s` (of all replicates, on average). With experts, `expert_share` is each expert's
    share of a layer's choices and `dropped_share` that of choices without a place, both by
    replicate and layer. What is not finite is null.

    Parameters
    ----------
    folder
        Of the training's scratch files.
    train_iters
        Steps in all.
    iteration
        Steps made.
    num_bytes
        Length of the metrics of these steps; what was written after them is forgotten.
    """

    def __init__(self, folder: Path, train_iters: int, iteration: int, num_bytes: int) -> None:
        path = folder / METRICS_FILE
        path.touch()
        if path.stat().st_size < num_bytes:
            raise UserError(f"{path}: cut short; delete {folder} to train from the start")
        self._file = path.open("ab")
        self._file.truncate(num_bytes)
        self._progress_path = folder / PROGRESS_FILE
        self._train_iters = train_iters
        self._interval = max(1, train_iters // NUM_LINES)
        self._first = (iteration, time.monotonic())
        self._shown_s = -math.inf
        self.show(iteration)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file of metrics."""
        self._file.close()

    def __enter__(self) -> Self:
        """Enter the training."""
        return self

    def wants(self, iteration: int) -> bool:
        """Whether a step is one that metrics are written of: every so many, and the last."""
        return iteration % self._interval == 0 or iteration == self._train_iters

    def write(self, metrics: dict[str, Any]) -> None:
        """Add a line."""
        line = {name: _finite(value) for name, value in metrics.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def num_bytes(self) -> int:
        """Length of the metrics, which are on the disk when this returns."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def show(self, iteration: int) -> None:
        """Say how far the training is, unless it has just been said."""
        now_s = time.monotonic()
        if now_s - self._shown_s < PROGRESS_INTERVAL_S:
            return
        self._shown_s = now_s
        write_json(self._progress_path, {"iteration": iteration, "train_iters": self._train_iters})
        first, start_s = self._first
        if iteration > first:
            left_s = (now_s - start_s) / (iteration - first) * (self._train_iters - iteration)
            share = iteration / self._train_iters
            _log.info("%3.0f%% trained, about %s left", 100 * share, _duration(left_s))


def _finite(value: Any) -> Any:
    """Make of a value what JSON has, which knows no infinity."""
    if isinstance(value, Sequence):
        return [_finite(part) for part in value]
    return value if math.isfinite(value) else None


def _duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
