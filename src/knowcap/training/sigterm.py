"""The notice that a process is given before it is ended: SIGTERM.

Slurm gives it when a job is cancelled or preempted, as do a shell's `kill` and systemd. Outside of
a training the process leaves at once (:func:`knowcap.cli.main`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def catch_sigterm() -> Iterator[Callable[[], bool]]:
    """Go on when told to leave, for the length of the block, which asks whether that was said.

    Only the main thread of a process hears of it; in another one nothing is ever said.

    Yields
    ------
    Callable
        Whether this process has been told to leave.
    """
    told = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        told.set()

    if threading.current_thread() is not threading.main_thread():
        yield told.is_set
        return
    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield told.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def block_sigterm_in_children() -> Iterator[None]:
    """Let no process that is started in the block be ended by the notice of this one.

    Slurm and torchrun tell all processes of a job, and what helps with a checkpoint must not leave
    before it is made. This process hears of it, at the latest after the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
