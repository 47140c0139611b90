"""What is trained, how far it has come, and how it goes on after an interruption."""

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
from knowcap.training.process_group import ProcessGroup
from knowcap.training.provenance import now

SAVED = ("start", "iteration", "train_s", "num_resumed", "metrics_bytes", "engines")
"""Of a state, beside its engine and cursor."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is trained, and where."""

    run: Run
    code_digest: str
    """Of the code that trains."""
    corpus_reader: CorpusReader
    data: TrainingData
    scratch: Path
    """Of this process."""
    checkpoints: Path
    """Of all that train it."""
    lock: Lock
    process_group: ProcessGroup

    @property
    def identity(self) -> str:
        """Whose checkpoints these are."""
        return f"{self.code_digest} {self.run.model_dump_json()}"

    @property
    def train_iters(self) -> int:
        """Optimizer steps of the whole training."""
        return self.data.train_iters

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens of each replicate's stream."""
        return tuple(extent.num_tokens for extent in self.data.extents)

    @property
    def step_tokens(self) -> int:
        """Tokens that a replicate reads in a step."""
        optimization = self.run.optimization
        return optimization.seq_length * optimization.global_batch_size


@dataclass
class State:
    """What changes while a run trains."""

    engine: Engine
    start: str
    """When the first attempt began, in UTC."""
    engines: list[dict[str, Any]] = field(default_factory=list)
    """What made the steps, one after the other: attempts may have had different ones."""
    cursor: Cursor | None = None
    """Start of the block of windows that the last step was in."""
    iteration: int = 0
    """Steps made."""
    train_s: float = 0.0
    """Time these steps took, over all attempts."""
    num_resumed: int = 0
    metrics_bytes: int = 0
    """Length of the metrics of these steps."""


def open_job(
    run: Run,
    corpus_reader: CorpusReader,
    code_digest: str,
    folder: Path,
    lock: Lock,
    process_group: ProcessGroup,
) -> Job:
    """Open the streams of a run's replicates.

    Parameters
    ----------
    run, corpus_reader
        What is trained, and on what.
    code_digest
        Of the code that trains.
    folder
        Of the run's scratch files.
    lock
        In the scratch folder of this process.
    process_group
        Who trains.
    """
    return Job(
        run=run,
        code_digest=code_digest,
        corpus_reader=corpus_reader,
        data=open_training_data(run, corpus_reader),
        scratch=lock.path.parent,
        checkpoints=folder / "checkpoints",
        lock=lock,
        process_group=process_group,
    )


def initial_state(job: Job, device: torch.device) -> State:
    """Make the model as it is before the first step."""
    engine = job.process_group.build_engine(
        job.run, job.corpus_reader.vocab_size, job.train_iters, device
    )
    return State(engine, start=now(), engines=[engine.facts()])


def resume(job: Job, state: State, device: torch.device) -> State:
    """Bring a state to where the newest checkpoint is, if there is one."""
    saved = job.process_group.load(job.identity, state.engine, job.checkpoints, device)
    if saved is None:
        return state
    iteration, positions = saved["cursor"]
    state.cursor = Cursor(iteration, tuple(tuple(position) for position in positions))
    for name in ("start", "iteration", "train_s"):
        setattr(state, name, saved[name])
    state.metrics_bytes = saved["metrics_bytes"] if job.process_group.is_rank_zero else 0
    state.num_resumed = saved["num_resumed"] + 1
    before, mine = saved["engines"], state.engine.facts()
    state.engines = before if before[-1] == mine else [*before, mine]
    _log.info("resumed at step %d of %d", state.iteration, job.train_iters)
    return state


def save(job: Job, state: State) -> None:
    """Make a checkpoint."""
    assert state.cursor is not None
    job.lock.check()
    positions = [tuple(map(int, position)) for position in state.cursor.positions]
    saved = {
        "identity": job.identity,
        "cursor": (state.cursor.iteration, positions),
        **{name: getattr(state, name) for name in SAVED},
    }
    job.process_group.save(saved, state.engine, job.checkpoints)
