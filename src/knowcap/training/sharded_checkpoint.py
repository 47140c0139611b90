"""Checkpoints that several processes write together and any number of processes can load.

With `megatron.core.dist_checkpointing` each process writes its shard of the parameters. A
checkpoint is a folder, written under a temporary name and renamed when it is complete. The newest
two are kept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from knowcap.artifacts.files import read_json, write_json
from knowcap.engines.megatron.megatron_distributed import cuda_emulation, dist_checkpointing
from knowcap.training.checkpoint import NUM_KEPT, check_identity

MANIFEST = "files.json"
"""Size of each file of a checkpoint, written last."""

_log = logging.getLogger(__name__)


def save(state: Mapping[str, Any], engine: Mapping[str, Any], folder: Path) -> None:
    """Write a checkpoint and remove all but the newest two; called by all processes.

    Parameters
    ----------
    state
        Plain values, the same in all processes; see :func:`knowcap.training.checkpoint.save`.
    engine
        Megatron's sharded state dict.
    folder
        Checkpoints of one training.
    """
    is_rank_zero = distributed.get_rank() == 0
    path = folder / f"{state['iteration']:012d}"
    unfinished = folder / f".{path.name}"
    if is_rank_zero:
        for leftover in (path, *folder.glob(".[0-9]*")):  # of a job that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir(parents=True)
    distributed.barrier()
    with cuda_emulation():
        dist_checkpointing.save({"state": dict(state), "engine": engine}, str(unfinished))
    if is_rank_zero:
        sizes = {file.name: file.stat().st_size for file in unfinished.iterdir()}
        write_json(unfinished / MANIFEST, sizes)
        unfinished.rename(path)
        for old in newest_first(folder)[NUM_KEPT:]:
            shutil.rmtree(old)
    distributed.barrier()


def load(
    identity: str, template: Callable[[], Mapping[str, Any]], folder: Path
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Load the newest complete checkpoint, None if there is none; called by all processes.

    Parameters
    ----------
    identity
        Identity of the training; see :func:`knowcap.training.checkpoint.save`.
    template
        Returns the sharded state dict to load into.
    folder
        Checkpoints of one training.

    Returns
    -------
    tuple
        The plain values that were saved, and the sharded state dict that was loaded.

    Raises
    ------
    UserError
        If the checkpoint belongs to another training.
    """
    for path in newest_first(folder):
        if not _is_complete(path):
            _log.warning("%s: damaged; trying the checkpoint before it", path)
            continue
        with cuda_emulation():
            common = dist_checkpointing.load_common_state_dict(str(path))
            check_identity(common["state"]["identity"], identity, path)
            loaded = dist_checkpointing.load({"engine": template()}, str(path))
        return common["state"], loaded["engine"]
    return None


def newest_first(folder: Path) -> list[Path]:
    """Return the sharded checkpoints in a folder, newest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def _is_complete(path: Path) -> bool:
    """Whether each file of the manifest exists and has its size."""
    manifest = path / MANIFEST
    if not manifest.exists():
        return False
    sizes = read_json(manifest)
    return all(
        (path / name).exists() and (path / name).stat().st_size == size
        for name, size in sizes.items()
    )
