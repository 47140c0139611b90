"""Provenance of a run: code, libraries, machine, command and times."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from knowcap import __version__
from knowcap.artifacts.git_state import git_state

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
    git = git_state(Path(__file__).parents[1])
    return {
        "format": 1,
        "knowcap": __version__,
        "code_digest": code_digest,
        "git": None if git is None else git._asdict(),
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


def _cpu_name() -> str:
    """Return the model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
