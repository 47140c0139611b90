"""Processes that train a run: the interface, and the implementation for one process.

All processes make the same optimizer steps. Rank 0 writes the files of the run; every other rank
has a temporary scratch folder, which is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from knowcap.config import Run
from knowcap.engines.base import Engine
from knowcap.engines.select import build_engine
from knowcap.model import megatron_core
from knowcap.training import checkpoint, gpu_slots
from knowcap.training.gpu_slots import NoGpuError


class ProcessGroup(Protocol):
    """The processes that train a run, seen from one of them."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes the files of the run."""

    def start(self) -> torch.device:
        """Connect the processes and return this one's device."""

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Return the engine with initial weights.

        Parameters
        ----------
        run
            The run to train.
        vocab_size
            Number of tokens that the corpus uses.
        train_iters
            Number of optimizer steps.
        device
            Result of :meth:`start`.
        """

    def scratch(self, folder: Path) -> AbstractContextManager[Path]:
        """Yield the folder that this process may write to: `folder` for rank 0."""

    def broadcast_decision(self, decision: bool) -> bool:
        """Return the decision of rank 0."""

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a checkpoint of an engine and of plain values."""

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Load the newest checkpoint into an engine and return the plain values."""

    def facts(self) -> dict[str, Any]:
        """Return the number of processes and their parallelism, for `timing.json`."""


class SingleProcess:
    """Process group of this process alone.

    Parameters
    ----------
    needs_gpu
        Whether a missing GPU is an error; otherwise the CPU is used.
    """

    is_rank_zero = True

    def __init__(self, needs_gpu: bool = False) -> None:
        self._needs_gpu = needs_gpu

    def start(self) -> torch.device:
        """Initialize torch.distributed with one process and return its device.

        Raises
        ------
        NoGpuError
            If a GPU is needed and torch finds none.
        """
        if self._needs_gpu and not torch.cuda.is_available():
            raise NoGpuError("--gpus: 1 requested, but torch finds no GPU on this machine")
        gpu_slots.warn_of_unusable_gpus()
        return megatron_core.init_process_groups()

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Return the fastest engine of one process that supports the run."""
        return build_engine(run, vocab_size, train_iters, device)

    @contextmanager
    def scratch(self, folder: Path) -> Iterator[Path]:
        """Yield the folder itself."""
        yield folder

    def broadcast_decision(self, decision: bool) -> bool:
        """Return the decision itself."""
        return decision

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a checkpoint as one file."""
        checkpoint.save({**state, "engine": engine.state_dict()}, folder)

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Load the newest checkpoint of one process."""
        state = checkpoint.load(identity, folder, device)
        if state is not None:
            engine.load_state_dict(state["engine"])
        return state

    def facts(self) -> dict[str, Any]:
        """Return the number of processes."""
        return {"num_processes": 1}
