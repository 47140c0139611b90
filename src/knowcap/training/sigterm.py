"""Signal handling of a training: catch SIGTERM, and block it in child processes.

Slurm sends SIGTERM when it cancels or preempts a job, as do `kill` and systemd. Outside of the
training loop SIGTERM ends the process (:func:`knowcap.cli.main`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def catch_sigterm() -> Iterator[Callable[[], bool]]:
    """Record SIGTERM instead of exiting; yield a function that returns whether it came.

    Python delivers signals to the main thread only. In another thread nothing is recorded.

    Yields
    ------
    Callable
        Returns whether this process has received SIGTERM.
    """
    received = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        received.set()

    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    previous_handler = signal.signal(signal.SIGTERM, handler)
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextmanager
def block_sigterm_in_children() -> Iterator[None]:
    """Block SIGTERM in all processes that are started in the block.

    Slurm and torchrun send SIGTERM to every process of a job, but processes that write a
    checkpoint must finish it. This process receives the signal after the block.
    """
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
