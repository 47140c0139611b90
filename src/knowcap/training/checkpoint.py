"""Checkpoints of one process, tensor files, and the schedule of checkpoints.

A checkpoint is written under a temporary name and renamed when it is complete. The newest two are
kept, so that a training can resume from the older one if the disk damages the newer one. Tensor
files are zip archives of torch, whose checksums are verified before they are loaded.
"""

from __future__ import annotations

import logging
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from knowcap.artifacts.files import atomic_write
from knowcap.errors import UserError

NUM_KEPT = 2
"""Checkpoints that are kept."""

INTERVAL_S = 60.0
"""Seconds between checkpoints. A crash costs at most this much training time."""

MAX_TIME_SHARE = 0.05
"""Largest share of the time spent on checkpoints; slow ones are written less often."""

DISK_BYTES_PER_S = 1e8
"""Speed of a slow disk, to estimate the time that the first checkpoint takes."""

RESERVE_S = 5.0
"""Seconds of a time budget that are kept for exiting, in addition to the time for a checkpoint."""

_log = logging.getLogger(__name__)


def save_tensors(value: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values, flushed to disk."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(value), file)
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Load a file of :func:`save_tensors`.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: missing")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_part = archive.testzip()
    except zipfile.BadZipFile:
        damaged_part = "the whole file"
    if damaged_part is not None:
        raise UserError(f"{path}: damaged ({damaged_part}); delete it to make it again")
    value: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return value


def save(state: Mapping[str, Any], folder: Path) -> None:
    """Write a checkpoint and remove all but the newest two.

    Parameters
    ----------
    state
        Tensors and plain values, among them `identity`, a text that identifies the training, and
        `iteration`, the number of steps made.
    folder
        Checkpoints of one training. Only the holder of the training's lock writes to it.
    """
    save_tensors(state, folder / f"{state['iteration']:012d}.pt")
    for path in _newest_first(folder)[NUM_KEPT:]:
        path.unlink()
    for path in folder.glob(".*.pt"):  # incomplete, of a job that was killed
        path.unlink()


def load(identity: str, folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Load the newest undamaged checkpoint; None if there is none.

    Raises
    ------
    UserError
        If it belongs to another training.
    """
    for path in _newest_first(folder):
        try:
            state = load_tensors(path, device)
        except UserError as error:
            _log.warning("%s; trying the checkpoint before it", error)
            path.unlink()
            continue
        check_identity(state["identity"], identity, path)
        return state
    return None


def check_identity(found: str, expected: str, path: Path) -> None:
    """Raise a UserError if a checkpoint belongs to another training.

    Raises
    ------
    UserError
        If the identities differ.
    """
    if found != expected:
        raise UserError(
            f"{path}: this checkpoint belongs to another run or to another version of the code; "
            f"delete {path.parent.parent} to train from the start"
        )


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


class CheckpointSchedule:
    """Decides when to write a checkpoint and when to stop training.

    Parameters
    ----------
    interval_s
        Seconds between checkpoints, more if they take long. With 0, one after every step.
    deadline
        Value of :func:`time.monotonic` at which the process must have exited.
    num_bytes
        Size of a checkpoint.
    sigterm_received
        Returns whether this process has received SIGTERM.
    """

    def __init__(
        self,
        interval_s: float,
        deadline: float,
        num_bytes: int,
        sigterm_received: Callable[[], bool] = lambda: False,
    ) -> None:
        self._interval_s = interval_s
        self._deadline = deadline
        self._sigterm_received = sigterm_received
        self._save_s = num_bytes / DISK_BYTES_PER_S
        self._last_s = time.monotonic()

    def is_due(self) -> bool:
        """Whether to write a checkpoint now."""
        if self._interval_s == 0 or self.must_stop():
            return True
        interval_s = max(self._interval_s, self._save_s / MAX_TIME_SHARE)
        return time.monotonic() - self._last_s >= interval_s

    def must_stop(self) -> bool:
        """Whether SIGTERM was received, or only the time for a checkpoint is left."""
        reserve_s = RESERVE_S + 2 * self._save_s
        return self._sigterm_received() or time.monotonic() + reserve_s >= self._deadline

    def stop_reason(self) -> str:
        """Return why training must stop."""
        return "SIGTERM received" if self._sigterm_received() else "time budget spent"

    def timed_save(self, save_checkpoint: Callable[[], None]) -> None:
        """Write a checkpoint and measure the time it takes."""
        start_s = time.monotonic()
        save_checkpoint()
        self._last_s = time.monotonic()
        self._save_s = self._last_s - start_s
