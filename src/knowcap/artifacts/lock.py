"""Lock files with a heartbeat: one job at a time writes to a run's scratch folder.

A live process refreshes the modification time of its lock file; a killed one leaves the file
behind. Another job takes the lock over when the process is known to be dead, or when the
modification time is too old. A process that was suspended for so long loses its lock. Therefore
:meth:`Lock.check` is called before every write to the run.

filelock's SoftFileLease (4.2) is not used because it never takes over an empty lock file. A node
that crashes while it creates the file leaves an empty one, and the run would stay locked until a
user deletes it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowcap.artifacts.storage import file_errors
from knowcap.errors import UserError

HEARTBEAT_S = 10.0
"""Seconds between two refreshes of a lock file."""

STALE_S = 60.0
"""Age of a lock file from which its process counts as dead."""

POLL_INTERVAL_S = 5.0
"""Seconds between two attempts to acquire a lock that another job holds."""

_log = logging.getLogger(__name__)


class LockHeldError(UserError):
    """Another live job holds the lock."""

    is_transient = True


class LockLostError(UserError):
    """Another job holds the lock that this process had."""

    is_transient = True


@dataclass(frozen=True)
class Lock:
    """A lock that this process has acquired."""

    path: Path
    token: str
    """Random name of this acquisition, also different from earlier ones of this process."""

    def check(self) -> None:
        """Raise an error if this process has lost the lock.

        Raises
        ------
        LockLostError
            If another job has taken the lock over, or the file was deleted.
        """
        if _read(self.path).get("token") != self.token:
            raise LockLostError(
                f"{self.path}: another job took this lock while this process was suspended, or the "
                f"file was deleted; this process stops"
            )


@contextmanager
def acquire(
    path: Path,
    *,
    deadline: float = 0.0,
    heartbeat_s: float = HEARTBEAT_S,
    stale_s: float = STALE_S,
    poll_interval_s: float = POLL_INTERVAL_S,
) -> Iterator[Lock]:
    """Acquire a lock for the length of the block.

    Parameters
    ----------
    path
        The lock file. Its folder is created if it is missing.
    deadline
        Value of :func:`time.monotonic` at which waiting for another live job ends.
    heartbeat_s
        Seconds between two refreshes of the file.
    stale_s
        Seconds without a refresh after which any process may take the lock over. A dead process
        of this machine loses its lock at once.
    poll_interval_s
        Seconds between two attempts to acquire the lock.

    Raises
    ------
    LockHeldError
        If another live job still holds the lock at the deadline.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, uuid.uuid4().hex)
    _create_before(deadline, lock, stale_s, poll_interval_s)
    stop = threading.Event()
    heartbeat = threading.Thread(target=_refresh, args=(lock, stop, heartbeat_s), daemon=True)
    heartbeat.start()
    try:
        yield lock
    finally:
        stop.set()
        heartbeat.join()
        if _read(path).get("token") == lock.token:
            path.unlink(missing_ok=True)


def is_held(path: Path, stale_s: float = STALE_S) -> bool:
    """Whether a live job seems to hold a lock, by the clock of this machine, without waiting."""
    try:
        return time.time() - path.stat().st_mtime < stale_s and not _is_dead(_read(path))
    except FileNotFoundError:
        return False


def _create_before(deadline: float, lock: Lock, stale_s: float, poll_interval_s: float) -> None:
    """Create the lock file as soon as no live job holds the lock."""
    is_first_attempt = True
    while True:
        try:
            with file_errors(lock.path), _serialized(lock.path.parent):
                _remove_stale(lock.path, stale_s)
                _create(lock)
            return
        except LockHeldError as error:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise
            if is_first_attempt:
                _log.info("%s; waiting", error)
            is_first_attempt = False
        time.sleep(min(poll_interval_s, remaining_s))


@contextmanager
def _serialized(folder: Path) -> Iterator[None]:
    """Run the block in one process of this machine at a time.

    Otherwise two processes could find the same lock stale, and the second would delete the new
    lock of the first.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems do not support flock. There the first process can lose its new
        # lock, and Lock.check stops it.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_stale(path: Path, stale_s: float) -> None:
    """Delete the lock file of a dead job; raise LockHeldError if the job is alive."""
    if not path.exists():
        return
    owner = _read(path)
    if _age_s(path) < stale_s and not _is_dead(owner):
        raise _held_error(path, owner)
    path.unlink(missing_ok=True)


def _create(lock: Lock) -> None:
    """Create the lock file with the token and the process that owns it."""
    owner = {
        "token": lock.token,
        "host": _host(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
    }
    try:
        handle = os.open(lock.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        raise _held_error(lock.path, _read(lock.path)) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(owner, file)
    except OSError:  # a full disk: an empty lock file would be respected for a minute
        lock.path.unlink(missing_ok=True)
        raise


def _refresh(lock: Lock, stop: threading.Event, heartbeat_s: float) -> None:
    """Refresh the lock file until `stop` is set or another job has taken the lock."""
    while not stop.wait(heartbeat_s):
        with suppress(OSError):  # a network file system can be away for a moment
            if _read(lock.path).get("token") != lock.token:
                return
            os.utime(lock.path)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a lock file; empty if it is missing or incomplete."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _age_s(path: Path) -> float:
    """Seconds since the last refresh, measured by the clock of the file system."""
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent) as now:
        try:
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    if owner.get("host") != _host() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _host() -> str:
    """Name of the machine and its PID namespace, as containers of one machine share the name."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {namespace.readlink() if namespace.exists() else ''}".strip()


def _held_error(path: Path, owner: dict[str, Any]) -> LockHeldError:
    job = f", Slurm job {owner['job']}" if owner.get("job") else ""
    holder = f"process {owner['pid']} on {owner['host']}{job}" if owner else "another job"
    return LockHeldError(
        f"{path}: held by {holder}; wait until it ends, or delete this file if that job is dead"
    )
