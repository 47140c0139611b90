"""Which GPUs a job of this machine uses, where nothing else says so: never one that is full.

A GPU has slots, of which a job on one GPU takes one and a job on several takes all. A slot is a
file that its holder has locked; the lock goes with the process, however it ends. Slurm hands out
GPUs itself, and its jobs take what they are given.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from knowcap.errors import UserError

FOLDER = Path(tempfile.gettempdir()) / "knowcap-gpus"
"""Of the slots of this machine, for all its users."""

PAUSE_S = 1.0
"""Between two looks for a free slot."""

_log = logging.getLogger(__name__)

_held: list[int] = []
"""Open files of this process's slots; they close when it ends."""


def reserve_gpus(num_gpus: int, slots: int) -> None:
    """Wait for free GPUs and make this process, and those it starts, see no others.

    Parameters
    ----------
    num_gpus
        How many are wanted.
    slots
        Jobs that may share a GPU.

    Raises
    ------
    UserError
        If the machine does not have so many.
    """
    if "SLURM_JOB_ID" in os.environ:
        return
    if slots < 1:
        raise UserError(f"--gpu-slots: {slots} is fewer than 1")
    gpus = visible_gpus()
    if len(gpus) < num_gpus:
        raise UserError(f"--gpus: {num_gpus} are asked for, this machine has {len(gpus)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(acquire_slots(num_gpus, slots, gpus))


def visible_gpus() -> list[str]:
    """GPUs that may be used: those in CUDA_VISIBLE_DEVICES, or all."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in given.split(",") if gpu.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def acquire_slots(
    num_gpus: int, slots: int, gpus: Sequence[str], folder: Path = FOLDER
) -> list[str]:
    """Wait for slots, hold them as long as this process lives, and answer whose they are.

    Parameters
    ----------
    num_gpus, slots
        See :func:`reserve_gpus`.
    gpus
        Names of GPUs, at least so many.
    folder
        Of the slots.
    """
    folder.mkdir(mode=0o777, parents=True, exist_ok=True)
    is_waiting = False
    while True:
        found = _one(slots, gpus, folder) if num_gpus == 1 else _all(num_gpus, slots, gpus, folder)
        if found:
            return found
        if not is_waiting:
            _log.info("waiting for %d of the GPUs %s", num_gpus, ", ".join(gpus))
        is_waiting = True
        time.sleep(PAUSE_S)


def _one(slots: int, gpus: Sequence[str], folder: Path) -> list[str]:
    """Take a slot of the GPU that has the most, or none."""
    for slot in range(slots):
        for gpu in gpus:
            if (handle := _lock(folder, gpu, slot)) is not None:
                _held.append(handle)
                return [gpu]
    return []


def _all(num_gpus: int, slots: int, gpus: Sequence[str], folder: Path) -> list[str]:
    """Take all slots of so many GPUs, or none."""
    taken: list[int] = []
    found: list[str] = []
    for gpu in gpus:
        handles = [_lock(folder, gpu, slot) for slot in range(slots)]
        locked = [handle for handle in handles if handle is not None]
        if len(locked) == slots and len(found) < num_gpus:
            taken += locked
            found.append(gpu)
        else:
            _release(locked)
    if len(found) < num_gpus:
        _release(taken)
        return []
    _held.extend(taken)
    return found


def _lock(folder: Path, gpu: str, slot: int) -> int | None:
    """Lock a slot, or answer None if another has it."""
    path = folder / f"{gpu.replace('/', '-')}.{slot}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    os.close(handle)
    return None


def _release(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)
