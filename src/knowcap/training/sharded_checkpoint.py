"""Checkpoints that several processes write together and any number of processes can load.

With `megatron.core.dist_checkpointing` each process writes its shard of the parameters. A
checkpoint is a folder, written under a temporary name and renamed when it is complete. The newest
two are kept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import distributed

from knowcap.artifacts.checksums import DamagedError, sha256
from knowcap.artifacts.files import read_json, write_json
from knowcap.engines.megatron.megatron_distributed import cuda_emulation, dist_checkpointing
from knowcap.training.checkpoint import NUM_KEPT, check_identity

MANIFEST = "files.json"
"""Size and digest of each file of a checkpoint, written last."""

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
    names = sorted(file.name for file in unfinished.iterdir()) if is_rank_zero else []
    digests = _digests(unfinished, _broadcast(names))
    if is_rank_zero:
        write_json(unfinished / MANIFEST, digests)
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
        if not _is_whole(path):
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


def _is_whole(path: Path) -> bool:
    """Whether each file of the manifest exists and has its digest; called by all processes."""
    listed = _broadcast(_read_manifest(path) if distributed.get_rank() == 0 else {})
    return bool(listed) and _digests(path, sorted(listed)) == listed


def _read_manifest(path: Path) -> dict[str, str]:
    """Return the digest of each file of a checkpoint; empty if the manifest is damaged."""
    try:
        return read_json(path / MANIFEST)
    except DamagedError:
        return {}


def _digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the digest of each file, empty if it is missing; every process computes a part."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    own = {
        name: sha256(folder / name) if (folder / name).is_file() else ""
        for name in names[rank::world_size]
    }
    parts: list[Any] = [None] * world_size
    distributed.all_gather_object(parts, own)
    return {name: digest for part in parts for name, digest in part.items()}


def _broadcast(value: Any) -> Any:
    """Return the value of rank 0."""
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]
