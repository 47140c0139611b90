"""Checkpoints that several processes write together, and any number of processes can read.

`megatron.core.dist_checkpointing` writes what each process has and what part of the whole that is.
A checkpoint is a folder that appears under its name complete or not at all; two are kept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from knowcap.artifacts.files import read_json, write_json
from knowcap.engines.megatron.megatron_core import as_on_gpu, dist_checkpointing
from knowcap.errors import UserError
from knowcap.training.checkpoint import NUM_KEPT

MANIFEST = "files.json"
"""Size of each file, written last."""

_log = logging.getLogger(__name__)


def save(state: Mapping[str, Any], engine: Mapping[str, Any], folder: Path) -> None:
    """Write a checkpoint and remove all but the newest two. All processes call this.

    Parameters
    ----------
    state
        Plain values, the same in all processes: see :func:`knowcap.training.checkpoint.save`.
    engine
        Megatron's sharded state dict.
    folder
        Of one training's checkpoints.
    """
    is_rank_zero = distributed.get_rank() == 0
    path = folder / f"{state['iteration']:012d}"
    unfinished = folder / f".{path.name}"
    if is_rank_zero:
        for left in (path, *folder.glob(".[0-9]*")):  # by a job that was killed
            shutil.rmtree(left, ignore_errors=True)
        unfinished.mkdir(parents=True)
    distributed.barrier()
    with as_on_gpu():
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
    """Read the newest checkpoint that is whole; None if there is none. All processes call this.

    Parameters
    ----------
    identity
        Whose checkpoint it has to be.
    template
        Makes the sharded state dict that is read into.
    folder
        Of one training's checkpoints.

    Returns
    -------
    tuple
        What :func:`save` got: plain values, and what has been read into the template.

    Raises
    ------
    UserError
        If it is of another training.
    """
    for path in newest_first(folder):
        if not _is_whole(path):
            _log.warning("%s: damaged; trying the checkpoint before", path)
            continue
        with as_on_gpu():
            common = dist_checkpointing.load_common_state_dict(str(path))
            if common["state"]["identity"] != identity:
                raise UserError(
                    f"{path}: the checkpoint of another run or of other code; "
                    f"delete {folder.parent} to train from the start"
                )
            loaded = dist_checkpointing.load({"engine": template()}, str(path))
        return common["state"], loaded["engine"]
    return None


def newest_first(folder: Path) -> list[Path]:
    """Checkpoints of several processes in a folder."""
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def _is_whole(path: Path) -> bool:
    """Whether each file is there in its size."""
    manifest = path / MANIFEST
    if not manifest.exists():
        return False
    sizes = read_json(manifest)
    return all(
        (path / name).exists() and (path / name).stat().st_size == size
        for name, size in sizes.items()
    )
