"""Process group of several processes, started by torchrun, with Megatron's parallelism."""

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
from knowcap.engines.megatron.megatron_distributed import filter_library_warnings
from knowcap.model import megatron_core
from knowcap.training import checkpoint, sharded_checkpoint, sigterm
from knowcap.training.gpu_slots import NoGpuError


class MultiProcess:
    """Process group of several processes, of which this is one.

    Parameters
    ----------
    world_size
        Number of processes, and whether they have GPUs.
    parallel_dims
        Sizes of tensor, pipeline, expert and data parallelism.
    """

    def __init__(self, world_size: WorldSize, parallel_dims: ParallelDims) -> None:
        self._world_size, self._parallel_dims = world_size, parallel_dims
        self.is_rank_zero = int(os.environ.get("RANK", "0")) == 0

    def start(self) -> torch.device:
        """Initialize torch.distributed and Megatron, and return this process's device.

        Raises
        ------
        NoGpuError
            If this machine has fewer GPUs than processes.
        """
        num_gpus, num_found = self._world_size.num_processes, torch.cuda.device_count()
        if self._world_size.on_gpus and num_found < num_gpus:
            raise NoGpuError(f"--gpus: {num_gpus} requested, but this machine has {num_found}")
        filter_library_warnings()
        return megatron_core.init_process_groups(self._parallel_dims)

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Return the engine of this process's shard of every replicate."""
        return MegatronEngine(run, vocab_size, train_iters, device, self._parallel_dims)

    @contextmanager
    def scratch(self, folder: Path) -> Iterator[Path]:
        """Yield `folder` for rank 0 and a temporary folder for other ranks."""
        if self.is_rank_zero:
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="knowcap-") as temporary:
            yield Path(temporary)

    def broadcast_decision(self, decision: bool) -> bool:
        """Return the decision of rank 0."""
        return bool(self._broadcast(decision))

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a sharded checkpoint, which any parallelism can load."""
        with sigterm.block_sigterm_in_children():  # dist_checkpointing writes in child processes
            sharded_checkpoint.save(self._broadcast(dict(state)), engine.state_dict(), folder)

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Load the newest checkpoint, be it sharded or of one process."""
        assert isinstance(engine, MegatronEngine)
        single = max(folder.glob("[0-9]*.pt"), default=None)
        sharded = next(iter(sharded_checkpoint.newest_first(folder)), None)
        if single is not None and (sharded is None or single.stem > sharded.name):
            state = checkpoint.load(identity, folder, torch.device("cpu"))
            if state is not None:
                engine.load_state_dict(state["engine"], state["iteration"])
            return state
        loaded = sharded_checkpoint.load(identity, engine.template, folder)
        if loaded is None:
            return None
        state, sharded_state = loaded
        engine.load_sharded(sharded_state, state["iteration"])
        return state

    def facts(self) -> dict[str, Any]:
        """Return the number of processes and their parallelism."""
        dims = self._parallel_dims
        return {"num_processes": dims.world_size, "layout": dims._asdict()}

    def _broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]
