"""CPU threads of each training of a study on one machine.

Trainings of one thread each, side by side, make more steps a second than one training on all
threads. But a study with fewer trainings than cores leaves cores idle, and so does the end of a
study whose longest training takes more than its share. Such trainings get all cores.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from knowcap.config import Run
from knowcap.planning.cost import relative_time

SHARE_OF_TWO_THREADS = 0.95
"""Speed of one training on two threads, as a share of two trainings of one thread each: the mean of
the shapes with at least :data:`MIN_STEP_TOKENS` in docs/performance.md, which have 0.90 to 0.99."""

MIN_STEP_TOKENS = 1024
"""Tokens of a step of one model, below which a training gets one thread: there the share is 0.7."""

MAX_WIDE_PER_CORE = 8
"""Largest number of trainings on all cores, relative to the number of cores."""


def training_threads(runs: Sequence[Run], num_cores: int) -> dict[Run, int]:
    """Return the threads of each training with which all of them end first.

    Parameters
    ----------
    runs
        Trainings of a study; as many run at a time as there are cores for their threads.
    num_cores
        Cores of the machine.

    Returns
    -------
    dict
        For some of the longest, the number of cores, or of their windows if there are fewer. For
        all others, 1.
    """
    times = {run: relative_time(run) for run in runs}
    longest_first = sorted(runs, key=times.__getitem__, reverse=True)
    threads = {run: min(num_cores, _max_threads(run)) for run in longest_first}
    candidates = [run for run in longest_first if threads[run] > 1]

    def end(num_wide: int) -> float:
        wide = frozenset(candidates[:num_wide])
        return math.fsum(times[run] / speedup(threads[run]) for run in wide) + _end_side_by_side(
            (times[run] for run in longest_first if run not in wide), num_cores
        )

    # Beyond these, enough others are left to fill the cores.
    most = min(MAX_WIDE_PER_CORE * num_cores, len(candidates))
    num_wide = min(range(most + 1), key=end)
    return dict.fromkeys(runs, 1) | {run: threads[run] for run in candidates[:num_wide]}


def speedup(num_threads: int) -> float:
    """Return the speed of a training on several threads as a multiple of that on one.

    Notes
    -----
    Amdahl's law with the serial share that :data:`SHARE_OF_TWO_THREADS` gives. More than two
    threads are ASSUMED to follow it, not measured.
    """
    serial = 1 / SHARE_OF_TWO_THREADS - 1
    return 1 / (serial + (1 - serial) / num_threads)


def _max_threads(run: Run) -> int:
    """Number of threads that a training can use: its windows, or 1 if its steps are small."""
    windows, length = run.optimization.global_batch_size, run.optimization.seq_length
    return windows * len(run.replicates.pairs) if windows * length >= MIN_STEP_TOKENS else 1


def _end_side_by_side(times: Iterable[float], num_cores: int) -> float:
    """Time at which trainings of one thread end, started longest first."""
    cores = [0.0] * num_cores
    for time in times:
        heapq.heapreplace(cores, cores[0] + time)
    return max(cores)
