"""Signal handling of a training: catch SIGTERM and SIGINT, and block SIGTERM in child processes.

Slurm sends SIGTERM when it cancels or preempts a job, as do `kill` and systemd; a terminal sends
SIGINT on Ctrl-C, to Snakemake and its jobs alike. Outside of the training loop both end the process
(:func:`knowcap.cli.main`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def catch_sigterm() -> Iterator[Callable[[], str]]:
    """Record SIGTERM and SIGINT instead of exiting; yield a function that returns the recorded one.

    A second SIGINT raises KeyboardInterrupt. Python delivers signals to the main thread only. In
    another thread nothing is recorded.

    Yields
    ------
    Callable
        Returns the name of the first signal that this process has received, or an empty text.
    """
    received: list[str] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    def first() -> str:
        return received[0] if received else ""

    if threading.current_thread() is not threading.main_thread():
        yield first
        return
    # nohup and shells that start a job in the background have it ignore SIGINT.
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    previous_handlers = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield first
    finally:
        for number, previous_handler in previous_handlers.items():
            signal.signal(number, previous_handler)


@contextmanager
def block_sigterm_in_children() -> Iterator[None]:
    """Block SIGTERM in all processes that are started in the block.

    Slurm and torchrun send SIGTERM to every process of a job, but processes that write a
    checkpoint must finish it. This process receives the signal after the block.
    """
    # Python starts this process before the first spawned one, and then unblocks SIGTERM.
    resource_tracker.ensure_running()
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
