"""The environment of a process that trains: the allocator and the number of threads.

glibc returns large blocks to the kernel after every step and faults them back page by page in
the next. Keeping them makes small models 1.4 to 2.3 times faster (docs/performance.md), and it
can only be asked for before the process starts.
"""

from __future__ import annotations

import os
import sys

ALLOCATOR = {
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
"""Settings of glibc's malloc: grow by 256 MiB, give nothing back."""


def ensure_environment(num_threads: int) -> None:
    """Start this process again with the environment that training wants, unless it has it.

    Parameters
    ----------
    num_threads
        Threads of every product of matrices; processes beside this one use the other cores.
    """
    wanted = {**ALLOCATOR, "OMP_NUM_THREADS": str(num_threads)}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # the same program, with no shell between
        sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted}
    )
