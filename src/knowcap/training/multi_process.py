"""Several processes that train a run together, as torchrun started them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from knowcap.config import Run
from knowcap.config.parallelism import ParallelDims, WorldSize
from knowcap.engines.base import Engine
from knowcap.engines.megatron.engine import MegatronEngine
from knowcap.engines.megatron.megatron_core import quieten
from knowcap.errors import UserError
from knowcap.model import megatron_core
from knowcap.training import checkpoint, sharded_checkpoint, sigterm


class MultiProcess:
    """A process_group of several processes, of which this is one.

    Parameters
    ----------
    team
        How many they are, and whether they have GPUs.
    layout
        What they share.
    """

    def __init__(self, team: WorldSize, layout: ParallelDims) -> None:
        self._team, self._layout = team, layout
        self.is_rank_zero = int(os.environ.get("RANK", "0")) == 0

    def start(self) -> torch.device:
        """Connect the processes.

        Raises
        ------
        UserError
            If this machine has fewer GPUs than are asked for.
        """
        wanted, found = self._team.num_processes, torch.cuda.device_count()
        if self._team.on_gpus and found < wanted:
            raise UserError(f"--gpus: {wanted} of this machine are asked for, it has {found}")
        quieten()
        return megatron_core.start(self._layout)

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Build this process's part of every replicate."""
        return MegatronEngine(run, vocab_size, train_iters, device, self._layout)

    @contextmanager
    def scratch(self, folder: Path) -> Iterator[Path]:
        """Use the folder itself, or one that nobody reads."""
        if self.is_rank_zero:
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="knowcap-") as own:
            yield Path(own)

    def broadcast_decision(self, decision: bool) -> bool:
        """Let the leader decide for all."""
        return bool(self._tell(decision))

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a checkpoint that any layout can read."""
        with sigterm.block_sigterm_in_children():  # dist_checkpointing starts some to write
            sharded_checkpoint.save(self._tell(dict(state)), engine.state_dict(), folder)

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Read the newest checkpoint, of whatever layout; or of one process, if it is newer."""
        assert isinstance(engine, MegatronEngine)
        alone = max(folder.glob("[0-9]*.pt"), default=None)
        newest = next(iter(sharded_checkpoint.newest_first(folder)), None)
        if alone is not None and (newest is None or alone.stem > newest.name):
            state = checkpoint.load(identity, folder, torch.device("cpu"))
            if state is not None:
                engine.load_state_dict(state["engine"], state["iteration"])
            return state
        found = sharded_checkpoint.load(identity, engine.template, folder)
        if found is None:
            return None
        state, loaded = found
        engine.load_sharded(loaded, state["iteration"])
        return state

    def facts(self) -> dict[str, Any]:
        """How many processes there were, and what they shared."""
        return {"num_processes": self._layout.world_size, "layout": self._layout._asdict()}

    def _tell(self, value: Any) -> Any:
        """Answer the leader's value."""
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]
