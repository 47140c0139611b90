"""Where a result comes from: the code, the libraries, the machine, the command, the time."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from knowcap import __version__

LIBRARIES = ("torch", "megatron-core", "numpy", "tokenizers")


def now() -> str:
    """Tell the time in UTC, as ISO 8601 writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(
    code_digest: str, start: str, device: torch.device, engines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Tell what one would want to know of a run that cannot be repeated.

    Parameters
    ----------
    code_digest
        Digest of the code that trained (:func:`knowcap.artifacts.identity.code_digest`).
    start
        When training began, from :func:`now`; it ends as this is called.
    device
        Where it ran.
    engines
        What made the steps, one after the other.
    """
    return {
        "format": 1,
        "knowcap": __version__,
        "code_digest": code_digest,
        "git": _git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "command": sys.orig_argv,
        "engines": engines,
        "start": start,
        "end": now(),
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout and whether the package differs from it; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _cpu_name() -> str:
    """Model of the processor, as Linux knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
