"""CPUs and memory of this machine, or of the container or Slurm job that this process runs in.

Snakemake's `cores: all` counts the CPUs that a process may run on. A quota of a container limits
their time instead, and its memory is not that of the machine. Both are in the cgroup of the process
and in those above it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
"""Root of the file system; tests replace it."""


def cpu_quota(root: Path = ROOT) -> int | None:
    """Return the CPUs that the cgroups of this process allow, rounded up; None if unlimited."""
    quotas = [quota for folder in _cgroups(root, "cpu") if (quota := _quota(folder))]
    return math.ceil(min(quotas)) if quotas else None


def memory_bytes(root: Path = ROOT) -> int | None:
    """Return the memory that this process may use; None if it is unknown.

    The least of the machine's memory and the limits of the cgroups of this process.
    """
    limits = [
        int(text)
        for folder in _cgroups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name)).isdecimal()
    ]
    total = re.search(r"^MemTotal: +(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    if total:
        limits.append(1024 * int(total[1]))
    return min(limits) if limits else None


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups of this process that have a controller, and those above.

    Notes
    -----
    A line of ``/proc/self/cgroup`` is ``0::PATH`` in version 2 and ``NUMBER:CONTROLLERS:PATH`` in
    version 1. In a container the path can be that of the host, which does not exist here; the
    limits are then those of the topmost folder.
    """
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0":
            mounts = [base, base / "unified"]
        elif controller in names.split(","):
            mounts = [base / controller, base / names]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            for depth in range(len(parts), -1, -1):
                yield mount.joinpath(*parts[:depth])


def _quota(cgroup: Path) -> float | None:
    """Return the CPUs of a cgroup; None if they are not limited."""
    text = _read(cgroup / "cpu.max") or " ".join(  # version 2, or 1
        _read(cgroup / f"cpu.cfs_{name}_us") for name in ("quota", "period")
    )
    with suppress(ValueError, ZeroDivisionError):
        quota, period = map(int, text.split())
        return quota / period if quota > 0 else None
    return None


def _read(path: Path) -> str:
    """Return the text of a file without the space around it; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
