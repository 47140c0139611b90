"""Memory allocation on a CPU: keep freed memory for the next step."""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""

LARGEST_INT = 2**31 - 1


@cache
def keep_freed_memory() -> None:
    """Make malloc of this process keep freed memory; no effect without glibc.

    Every step allocates the same activations. By default glibc returns them to the system, and
    mapping their pages again takes up to a sixth of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
        mallopt(M_MMAP_THRESHOLD, LARGEST_INT)
