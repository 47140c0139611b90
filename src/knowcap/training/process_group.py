"""Who trains a run: one process by itself, or several together.

Processes that train together make the same steps in step. One of them, the leader, writes all that
is read later; each of the others has a scratch folder of its own, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from knowcap.config import Run
from knowcap.engines.base import Engine
from knowcap.engines.select import build_engine
from knowcap.errors import UserError
from knowcap.model import megatron_core
from knowcap.training import checkpoint


class ProcessGroup(Protocol):
    """Processes that train a run."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that writes what is read later."""

    def start(self) -> torch.device:
        """Get ready to train, on the device that is answered."""

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Build what makes the steps, with initial weights.

        Parameters
        ----------
        vocab_size
            Tokens that the corpus uses.
        train_iters
            Steps in all.
        device
            What :meth:`start` answered.
        """

    def scratch(self, folder: Path) -> Any:
        """Context of the folder that this process may write to, the given one for the leader."""

    def broadcast_decision(self, decision: bool) -> bool:
        """Let the leader decide for all."""

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a checkpoint of an engine and of what else has changed."""

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Bring an engine to the newest checkpoint, and answer what else had changed."""

    def facts(self) -> dict[str, Any]:
        """What to remember of how a run was trained."""


class SingleProcess:
    """One process.

    Parameters
    ----------
    needs_gpu
        Whether it is not to train on a CPU.
    """

    is_rank_zero = True

    def __init__(self, needs_gpu: bool = False) -> None:
        self._needs_gpu = needs_gpu

    def start(self) -> torch.device:
        """Become a world of one process.

        Raises
        ------
        UserError
            If a GPU is asked for, and there is none.
        """
        if self._needs_gpu and not torch.cuda.is_available():
            raise UserError("--gpus: 1 is asked for, and torch sees none here")
        return megatron_core.start()

    def build_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Build the engine of one process."""
        return build_engine(run, vocab_size, train_iters, device)

    @contextmanager
    def scratch(self, folder: Path) -> Iterator[Path]:
        """Use the folder itself."""
        yield folder

    def broadcast_decision(self, decision: bool) -> bool:
        """Decide."""
        return decision

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write one file."""
        checkpoint.save({**state, "engine": engine.state_dict()}, folder)

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Read one file."""
        state = checkpoint.load(identity, folder, device)
        if state is not None:
            engine.load_state_dict(state["engine"])
        return state

    def facts(self) -> dict[str, Any]:
        """One process."""
        return {"num_processes": 1}
