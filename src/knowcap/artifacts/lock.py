"""One writer at a time: a lock file that its holder keeps warm.

A job that was killed leaves its lock behind. Such a lock is taken over when its process is known
to be dead or when its modification time, which a living holder refreshes, has grown old. No lock
on a shared file system excludes a holder that slept through its own takeover, so a holder also
asks :meth:`Lock.check` before anything it could not take back.
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

from knowcap.errors import UserError

HEARTBEAT_S = 10.0
"""How often a holder refreshes its lock."""

STALE_S = 60.0
"""Age of a heartbeat from which its holder is taken for dead."""

WAITING_S = 5.0
"""How often who waits looks again."""

_log = logging.getLogger(__name__)


class HeldError(UserError):
    """A living job holds the lock."""


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds."""

    path: Path
    token: str
    """Distinguishes this holding from every other, also of the same process."""

    def check(self) -> None:
        """Stop a holder whose lock is gone.

        Raises
        ------
        UserError
            If another job has taken the lock over, or someone removed it.
        """
        if _read(self.path).get("token") != self.token:
            raise UserError(
                f"{self.path}: lost to another job while this one was suspended; this one stops"
            )


@contextmanager
def hold(
    path: Path,
    *,
    deadline: float = 0.0,
    heartbeat_s: float = HEARTBEAT_S,
    stale_s: float = STALE_S,
    waiting_s: float = WAITING_S,
) -> Iterator[Lock]:
    """Hold the lock `path` for the length of the block.

    Parameters
    ----------
    path
        The lock file. Its folder is made if it is missing.
    deadline
        Of :func:`time.monotonic`; until then a living holder is waited for.
    heartbeat_s, stale_s
        Seconds between refreshments, and seconds without one after which any process may take
        the lock over. A holder on this machine whose process is dead is not waited for.
    waiting_s
        Seconds between two looks at a lock that is waited for.

    Raises
    ------
    HeldError
        If a living job still holds the lock at the deadline.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, uuid.uuid4().hex)
    _acquire(lock, deadline, stale_s, waiting_s)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(lock, stop, heartbeat_s), daemon=True)
    heart.start()
    try:
        yield lock
    finally:
        stop.set()
        heart.join()
        if _read(path).get("token") == lock.token:
            path.unlink(missing_ok=True)


def _acquire(lock: Lock, deadline: float, stale_s: float, waiting_s: float) -> None:
    """Create the lock file, as soon as no living job holds it."""
    has_waited = False
    while True:
        try:
            with _one_at_a_time(lock.path.parent):
                _remove_stale(lock.path, stale_s)
                _create(lock)
            return
        except HeldError as held:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise
            if not has_waited:
                _log.info("%s; waiting", held)
            has_waited = True
        time.sleep(min(waiting_s, left_s))


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process of this machine through; two of them may find the same lock stale."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Network file systems refuse this; there, who removes a lock that was just taken over is
        # the new holder, and the other one finds out by Lock.check.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_stale(path: Path, stale_s: float) -> None:
    """Remove the lock of a dead job, if there is one; refuse if its job lives."""
    if not path.exists():
        return
    owner = _read(path)
    if _age_s(path) < stale_s and not _is_dead(owner):
        raise _refusal(path, owner)
    path.unlink(missing_ok=True)


def _create(lock: Lock) -> None:
    """Create and sign the lock file."""
    owner = {
        "token": lock.token,
        "host": _host(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
    }
    try:
        handle = os.open(lock.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        raise _refusal(lock.path, _read(lock.path)) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(owner, file)


def _beat(lock: Lock, stop: threading.Event, heartbeat_s: float) -> None:
    """Refresh the lock until told to stop, or until it is another's."""
    while not stop.wait(heartbeat_s) and _read(lock.path).get("token") == lock.token:
        with suppress(OSError):  # a network file system may be away for a moment
            os.utime(lock.path)


def _read(path: Path) -> dict[str, Any]:
    """Who holds the lock; empty when nobody does or its holder has not yet signed."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _age_s(path: Path) -> float:
    """Seconds since the last heartbeat, both ends by the file system's clock."""
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent) as now:
        try:
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and no longer does."""
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
    """Name of the machine and, since containers share a name, of where its process ids count."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {namespace.readlink() if namespace.exists() else ''}".strip()


def _refusal(path: Path, owner: dict[str, Any]) -> HeldError:
    """One line for the second writer."""
    job = f", Slurm job {owner['job']}" if owner.get("job") else ""
    where = f"process {owner['pid']} on {owner['host']}{job}" if owner else "another job"
    return HeldError(
        f"{path}: held by {where}; wait for it, or delete this file if you know it is dead"
    )
