"""Checkpoints in a scratch folder, and the weights of a published run.

A checkpoint appears under its name complete or not at all, and two are kept: should a disk damage
the newer one after all, training resumes from the older. Both files are zip archives of torch's,
whose checksums are verified before anything is read.
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

from knowcap.artifacts.files import replacing
from knowcap.errors import UserError

NUM_KEPT = 2

INTERVAL_S = 60.0
"""Training that a crash can cost. Checkpoints that take long are made less often."""

LARGEST_SHARE = 0.05
"""Of the time, for making checkpoints."""

DISK_BYTES_PER_S = 1e8
"""What a slow disk writes; from it the time of the first checkpoint is reckoned."""

RESERVE_S = 5.0
"""Time kept of a budget for leaving, besides that for a checkpoint."""

_log = logging.getLogger(__name__)


def save_tensors(value: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values; on the disk, not in a cache, when this returns."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(value), file)
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what :func:`save_tensors` wrote.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: missing")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        damaged = "the whole file"
    if damaged is not None:
        raise UserError(f"{path}: damaged, {damaged} cannot be read; delete it to remake it")
    value: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return value


def save(state: Mapping[str, Any], folder: Path) -> None:
    """Write a checkpoint and remove all but the newest two.

    Parameters
    ----------
    state
        Tensors and plain values; among them `identity`, a text that says whose checkpoint it is,
        and `iteration`, the number of steps made.
    folder
        Of one training's checkpoints. Only the holder of the training's lock writes to it.
    """
    save_tensors(state, folder / f"{state['iteration']:012d}.pt")
    for path in _newest_first(folder)[NUM_KEPT:]:
        path.unlink()
    for path in folder.glob(".*.pt"):  # what a killed job was writing
        path.unlink()


def load(identity: str, folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; None if there is none.

    Raises
    ------
    UserError
        If it is of another training.
    """
    for path in _newest_first(folder):
        try:
            state = load_tensors(path, device)
        except UserError as error:
            _log.warning("%s; trying the checkpoint before", error)
            path.unlink()
            continue
        if state["identity"] != identity:
            raise UserError(
                f"{path}: the checkpoint of another run or of other code; "
                f"delete {folder.parent} to train from the start"
            )
        return state
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


class Schedule:
    """When to make a checkpoint, and when to leave.

    Parameters
    ----------
    interval_s
        Seconds between checkpoints; more where they take long. 0 is after every step.
    deadline
        Of :func:`time.monotonic`; there is to be nothing left to do.
    num_bytes
        Of a checkpoint.
    is_told_to_leave
        Whether this process has been given notice.
    """

    def __init__(
        self,
        interval_s: float,
        deadline: float,
        num_bytes: int,
        is_told_to_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        self._interval_s = interval_s
        self._deadline = deadline
        self.is_told_to_leave = is_told_to_leave
        self._cost_s = num_bytes / DISK_BYTES_PER_S
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        pause_s = max(self._interval_s, self._cost_s / LARGEST_SHARE) if self._interval_s else 0.0
        return time.monotonic() - self._last >= pause_s or self.is_over()

    def is_over(self) -> bool:
        """Whether this process was told to leave, or needs what is left for a checkpoint."""
        last_moment = time.monotonic() + RESERVE_S + 2 * self._cost_s
        return self.is_told_to_leave() or last_moment >= self._deadline

    def reason(self) -> str:
        """Why it is over."""
        return "told to leave" if self.is_told_to_leave() else "time budget spent"

    def time(self, make_checkpoint: Callable[[], None]) -> None:
        """Make a checkpoint, and remember how long that took."""
        start = time.monotonic()
        make_checkpoint()
        self._last = time.monotonic()
        self._cost_s = self._last - start
