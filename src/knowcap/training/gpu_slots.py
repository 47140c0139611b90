"""Reservation of GPUs among the jobs of one machine.

Each GPU has a number of slots. A job on one GPU locks one slot; a job on several GPUs locks all
slots of each. A slot is a locked file, and the kernel releases the lock when the process ends.
Jobs of Slurm use the GPUs that Slurm gives them.
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

POLL_INTERVAL_S = 1.0
"""Seconds between two attempts to lock a slot."""

_log = logging.getLogger(__name__)


class NoGpuError(UserError):
    """The machine has fewer GPUs than a job needs."""

    is_transient = True


_locked_files: list[int] = []
"""Descriptors of this process's slots, which stay open until it ends."""


def slots_folder() -> Path:
    """Folder of the slot files, shared by all users of this machine."""
    return Path(tempfile.gettempdir()) / "knowcap-gpus"


def reserve_gpus(num_gpus: int, slots: int) -> None:
    """Wait for free GPUs and hide all others from this process and its children.

    Parameters
    ----------
    num_gpus
        Number of GPUs to reserve.
    slots
        Number of jobs that may share a GPU.

    Raises
    ------
    NoGpuError
        If this machine has fewer GPUs.
    """
    if "SLURM_JOB_ID" in os.environ:
        return
    if slots < 1:
        raise UserError(f"--gpu-slots: {slots} is not allowed, at least 1 is needed")
    gpus = visible_gpus()
    if len(gpus) < num_gpus:
        raise NoGpuError(f"--gpus: {num_gpus} requested, but this machine has {len(gpus)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(acquire_slots(num_gpus, slots, gpus))


def visible_gpus() -> list[str]:
    """Return the GPUs in CUDA_VISIBLE_DEVICES, or all GPUs of this machine if it is not set."""
    if (value := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in value.split(",") if gpu.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def warn_of_unusable_gpus() -> None:
    """Log a line if this machine has GPUs that torch cannot use, so that the CPU is used."""
    import torch

    if torch.cuda.is_available() or not (gpus := visible_gpus()):
        return
    built = torch.version.cuda
    reason = f"its driver is older than CUDA {built} needs" if built else "torch is built for CPUs"
    _log.warning("GPU %s is not used, the CPU computes: %s", ", ".join(gpus), reason)


def acquire_slots(
    num_gpus: int, slots: int, gpus: Sequence[str], folder: Path | None = None
) -> list[str]:
    """Wait for free slots, lock them until this process ends, and return their GPUs.

    Parameters
    ----------
    num_gpus, slots
        See :func:`reserve_gpus`.
    gpus
        Names of the machine's GPUs, at least `num_gpus` of them.
    folder
        Folder of the slot files; :func:`slots_folder` if not given.

    Raises
    ------
    UserError
        If another user has created the folder and does not share it.
    """
    folder = folder or slots_folder()
    _share_folder(folder)
    is_first_attempt = True
    while True:
        if num_gpus == 1:
            acquired = _try_one_slot(slots, gpus, folder)
        else:
            acquired = _try_all_slots(num_gpus, slots, gpus, folder)
        if acquired:
            return acquired
        if is_first_attempt:
            _log.info("waiting for %d of the GPUs %s", num_gpus, ", ".join(gpus))
        is_first_attempt = False
        time.sleep(POLL_INTERVAL_S)


def _try_one_slot(slots: int, gpus: Sequence[str], folder: Path) -> list[str]:
    """Lock a slot of the GPU with the most free slots; return its name in a list, or []."""
    for slot in range(slots):
        for gpu in gpus:
            if (handle := _try_lock(folder, gpu, slot)) is not None:
                _locked_files.append(handle)
                return [gpu]
    return []


def _try_all_slots(num_gpus: int, slots: int, gpus: Sequence[str], folder: Path) -> list[str]:
    """Lock all slots of `num_gpus` GPUs; return their names, or [] and lock nothing."""
    acquired: list[int] = []
    free_gpus: list[str] = []
    for gpu in gpus:
        handles = [_try_lock(folder, gpu, slot) for slot in range(slots)]
        locked = [handle for handle in handles if handle is not None]
        if len(locked) == slots and len(free_gpus) < num_gpus:
            acquired += locked
            free_gpus.append(gpu)
        else:
            _unlock(locked)
    if len(free_gpus) < num_gpus:
        _unlock(acquired)
        return []
    _locked_files.extend(acquired)
    return free_gpus


def _share_folder(folder: Path) -> None:
    """Create a folder that all users can write to, whatever the umask."""
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o777)


def _try_lock(folder: Path, gpu: str, slot: int) -> int | None:
    """Lock a slot and return its file descriptor; None if another job has locked it."""
    handle = _open_shared(folder / f"{gpu.replace('/', '-')}.{slot}")
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    os.close(handle)
    return None


def _open_shared(path: Path) -> int:
    """Open a lock file that all users can write, regardless of owner and umask."""
    while True:
        try:
            return os.open(path, os.O_RDONLY)  # enough for a lock
        except FileNotFoundError:
            pass
        except PermissionError:
            raise UserError(
                f"{path}: a file of another user who does not share it; delete it, or choose "
                f"another folder with TMPDIR"
            ) from None
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # another job has just created it
        except PermissionError:
            raise UserError(
                f"{path.parent}: a folder of another user who does not share it; delete it, or "
                f"choose another folder with TMPDIR"
            ) from None
        os.fchmod(handle, 0o666)
        return handle


def _unlock(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)
