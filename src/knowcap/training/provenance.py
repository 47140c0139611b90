"""Provenance of a run: code, libraries, machine, command and times."""

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
"""Libraries whose versions are recorded."""


def utc_now() -> str:
    """Return the time in UTC in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(
    code_digest: str, start: str, device: torch.device, engines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of a run's `provenance.json`.

    Parameters
    ----------
    code_digest
        Digest of the training code (:func:`knowcap.artifacts.code_digest.code_digest`).
    start
        Start of the training, from :func:`utc_now`; its end is the time of this call.
    device
        Device of the training.
    engines
        Descriptions of the engines that made the steps, in order.
    """
    return {
        "format": 1,
        "knowcap": __version__,
        "code_digest": code_digest,
        "git": _git_state(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "command": sys.orig_argv,
        "engines": engines,
        "start": start,
        "end": utc_now(),
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether the folder differs from it; None outside of a checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    """Return the model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
