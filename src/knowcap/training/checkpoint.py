"""Checkpoints of one process, tensor files, and the schedule of checkpoints.

A checkpoint is written under a temporary name and renamed when it is complete. The newest two are
kept, so that a training can resume from the older one if the disk damages the newer one. A
checkpoint ends with its digest (:mod:`knowcap.artifacts.checksums`), a published model is listed in
the manifest of its run; both are verified before torch parses the file.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from knowcap.artifacts import checksums
from knowcap.artifacts.checksums import DamagedError
from knowcap.artifacts.files import atomic_write
from knowcap.artifacts.storage import file_errors
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


def save_tensors(value: Mapping[str, Any], path: Path, num_bytes: int | None = None) -> None:
    """Write tensors and plain values, flushed to disk."""
    with atomic_write(path, num_bytes) as temporary:
        _write_tensors(value, temporary)


def _write_tensors(value: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(dict(value), file)
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Load a file of :func:`save_tensors`, whose digest the caller has verified.

    Raises
    ------
    UserError
        If the file is missing, damaged or unreadable.
    """
    if not path.exists():
        raise DamagedError(f"{path}: missing")
    with file_errors(path):
        try:
            value: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise DamagedError(
                f"{path}: damaged, not a file of tensors ({type(error).__name__}); "
                f"delete it to make it again"
            ) from None
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
    num_bytes = sum(tensor.nbytes for tensor in _tensors(state))
    with atomic_write(folder / f"{state['iteration']:012d}.pt", num_bytes) as temporary:
        _write_tensors(state, temporary)
        checksums.append_digest(temporary)
    with file_errors(folder):
        for path in _newest_first(folder)[NUM_KEPT:]:
            path.unlink()
        for path in folder.glob(".*.pt"):  # incomplete, of a job that was killed
            path.unlink()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)


def load(identity: str, folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Load the newest undamaged checkpoint; None if there is none.

    Raises
    ------
    UserError
        If it belongs to another training, or cannot be read.
    """
    for path in _newest_first(folder):
        try:
            checksums.verify_file(path)
            state = load_tensors(path, device)
        except DamagedError as error:
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
    signal_received
        Returns the name of the signal to stop that this process has received, or an empty text.
    """

    def __init__(
        self,
        interval_s: float,
        deadline: float,
        num_bytes: int,
        signal_received: Callable[[], str] = str,
    ) -> None:
        self._interval_s = interval_s
        self._deadline = deadline
        self._signal_received = signal_received
        self._save_s = num_bytes / DISK_BYTES_PER_S
        self._last_s = time.monotonic()

    def is_due(self) -> bool:
        """Whether to write a checkpoint now."""
        if self._interval_s == 0 or self.must_stop():
            return True
        interval_s = max(self._interval_s, self._save_s / MAX_TIME_SHARE)
        return time.monotonic() - self._last_s >= interval_s

    def must_stop(self) -> bool:
        """Whether a signal was received, or only the time for a checkpoint is left."""
        reserve_s = RESERVE_S + 2 * self._save_s
        return bool(self._signal_received()) or time.monotonic() + reserve_s >= self._deadline

    def stop_reason(self) -> str:
        """Return why training must stop."""
        name = self._signal_received()
        return f"{name} received" if name else "time budget spent"

    def timed_save(self, save_checkpoint: Callable[[], None]) -> None:
        """Write a checkpoint and measure the time it takes."""
        start_s = time.monotonic()
        save_checkpoint()
        self._last_s = time.monotonic()
        self._save_s = self._last_s - start_s
