"""Setup and state of a training, and how checkpoints save and restore the state."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from knowcap.artifacts.lock import Lock
from knowcap.config import Run
from knowcap.data.corpus import CorpusReader
from knowcap.engines.base import Engine
from knowcap.engines.dataloader import Cursor, TrainingData, open_training_data
from knowcap.training.metrics_logger import WrittenMetrics
from knowcap.training.process_group import ProcessGroup
from knowcap.training.provenance import utc_now

SAVED_FIELDS = ("start", "iteration", "train_s", "num_resumed", "engines")
"""Fields of the state in a checkpoint, besides the engine, the cursor and the metrics."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSetup:
    """Everything that stays the same during a training."""

    run: Run
    code_digest: str
    """Digest of the training code."""
    corpus_reader: CorpusReader
    data: TrainingData
    scratch: Path
    """Scratch folder of this process."""
    checkpoints: Path
    """Folder of checkpoints, shared by all processes."""
    lock: Lock
    process_group: ProcessGroup

    @property
    def identity(self) -> str:
        """Text that identifies this training in its checkpoints."""
        return f"{self.code_digest} {self.run.model_dump_json()}"

    @property
    def train_iters(self) -> int:
        """Optimizer steps of the whole training."""
        return self.data.train_iters

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens of each replicate's stream."""
        return tuple(length.num_tokens for length in self.data.stream_lengths)

    @property
    def step_tokens(self) -> int:
        """Tokens that a replicate reads in a step."""
        optimization = self.run.optimization
        return optimization.seq_length * optimization.global_batch_size


@dataclass
class TrainState:
    """Everything that changes during a training."""

    engine: Engine
    start: str
    """Start of the first attempt in UTC."""
    engines: list[dict[str, Any]] = field(default_factory=list)
    """Descriptions of the engines that made the steps; attempts can have different ones."""
    cursor: Cursor | None = None
    """Start of the dataloader's block that contains the last step."""
    iteration: int = 0
    """Steps made."""
    train_s: float = 0.0
    """Time of these steps over all attempts."""
    num_resumed: int = 0
    """Number of times that the training was resumed."""
    metrics: WrittenMetrics = field(default_factory=WrittenMetrics)
    """Metrics in the file at the last checkpoint."""


def open_setup(
    run: Run,
    corpus_reader: CorpusReader,
    code_digest: str,
    folder: Path,
    lock: Lock,
    process_group: ProcessGroup,
) -> TrainSetup:
    """Open the token streams of a run and return the setup of its training.

    Parameters
    ----------
    run, corpus_reader
        The run and its corpus.
    code_digest
        Digest of the training code.
    folder
        Scratch folder of the run.
    lock
        Lock in the scratch folder of this process.
    process_group
        The processes that train.
    """
    return TrainSetup(
        run=run,
        code_digest=code_digest,
        corpus_reader=corpus_reader,
        data=open_training_data(run, corpus_reader),
        scratch=lock.path.parent,
        checkpoints=folder / "checkpoints",
        lock=lock,
        process_group=process_group,
    )


def initial_state(setup: TrainSetup, device: torch.device) -> TrainState:
    """Build the engine and return the state before the first step."""
    engine = setup.process_group.build_engine(
        setup.run, setup.corpus_reader.vocab_size, setup.train_iters, device
    )
    return TrainState(engine, start=utc_now(), engines=[engine.facts()])


def resume(setup: TrainSetup, state: TrainState, device: torch.device) -> TrainState:
    """Restore a state from the newest checkpoint, if there is one."""
    saved = setup.process_group.load(setup.identity, state.engine, setup.checkpoints, device)
    if saved is None:
        return state
    iteration, positions = saved["cursor"]
    state.cursor = Cursor(iteration, tuple(tuple(position) for position in positions))
    for name in ("start", "iteration", "train_s"):
        setattr(state, name, saved[name])
    if setup.process_group.is_rank_zero:
        state.metrics = WrittenMetrics(*saved.get("metrics", (-1, "")))
    state.num_resumed = saved["num_resumed"] + 1
    previous_engines, engine = saved["engines"], state.engine.facts()
    is_same_engine = previous_engines[-1] == engine
    state.engines = previous_engines if is_same_engine else [*previous_engines, engine]
    _log.info("resumed at step %d of %d", state.iteration, setup.train_iters)
    return state


def save_checkpoint(setup: TrainSetup, state: TrainState) -> None:
    """Write a checkpoint of a state."""
    assert state.cursor is not None
    setup.lock.check()
    positions = [tuple(map(int, position)) for position in state.cursor.positions]
    saved = {
        "identity": setup.identity,
        "cursor": (state.cursor.iteration, positions),
        "metrics": tuple(state.metrics),
        **{name: getattr(state, name) for name in SAVED_FIELDS},
    }
    setup.process_group.save(saved, state.engine, setup.checkpoints)
