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
from knowcap.errors import UserError
from knowcap.lm import checkpoint, parallel
from knowcap.lm.engine import Engine, StackedEngine
from knowcap.lm.lanes.engine import LanesEngine, is_for_lanes
from knowcap.lm.model.stacked import build_model
from knowcap.lm.recorded import RecordedEngine, is_recordable


class Crew(Protocol):
    """Processes that train a run."""

    @property
    def is_leader(self) -> bool:
        """Whether this process is the one that writes what is read later."""

    def start(self) -> torch.device:
        """Get ready to train, on the device that is answered."""

    def start_engine(
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

    def agree(self, decision: bool) -> bool:
        """Let the leader decide for all."""

    def save(self, state: Mapping[str, Any], engine: Engine, folder: Path) -> None:
        """Write a checkpoint of an engine and of what else has changed."""

    def load(
        self, identity: str, engine: Engine, folder: Path, device: torch.device
    ) -> dict[str, Any] | None:
        """Bring an engine to the newest checkpoint, and answer what else had changed."""

    def facts(self) -> dict[str, Any]:
        """What to remember of how a run was trained."""


class Alone:
    """One process.

    Parameters
    ----------
    needs_gpu
        Whether it is not to train on a CPU.
    """

    is_leader = True

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
        return parallel.start()

    def start_engine(
        self, run: Run, vocab_size: int, train_iters: int, device: torch.device
    ) -> Engine:
        """Build the engine of one process."""
        seeds = [seed for seed, _ in run.replicates.pairs]
        dtype = getattr(torch, run.optimization.dtype)
        model = build_model(run.architecture, vocab_size, seeds, device, dtype)
        if is_for_lanes(run, vocab_size, device):
            return LanesEngine(model, run, train_iters)
        engine = RecordedEngine if is_recordable(run, device) else StackedEngine
        return engine(model, run, train_iters)

    @contextmanager
    def scratch(self, folder: Path) -> Iterator[Path]:
        """Use the folder itself."""
        yield folder

    def agree(self, decision: bool) -> bool:
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
