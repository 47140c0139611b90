"""Shared lock of all processes that run in a folder, to find out whether there is another one."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

_held: list[int] = []
"""Descriptors of lock files, which stay open until this process ends."""


def is_alone(path: Path) -> bool:
    """Hold a shared lock on a file until this process ends; return whether no other one does.

    False also if the file system has no locks. The kernel releases the lock of a killed process.

    Parameters
    ----------
    path
        The lock file. It and its folder are created if they are missing.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.append(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        fcntl.flock(handle, fcntl.LOCK_SH)
        return alone
    return False
