"""What is trained, how far it has come, and how it goes on after an interruption."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from knowcap.bios.corpus import Biographer
from knowcap.bios.render import Extent, Stream
from knowcap.config import Run
from knowcap.lm.batches import Cursor
from knowcap.lm.crew import Crew
from knowcap.lm.engine import Engine
from knowcap.lm.lock import Lock
from knowcap.lm.provenance import now

SAVED = ("start", "iteration", "train_s", "num_resumed", "metrics_bytes", "engines")
"""Of a state, beside its engine and cursor."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is trained, and where."""

    run: Run
    code_digest: str
    """Of the code that trains."""
    biographer: Biographer
    streams: tuple[Stream, ...]
    """One per replicate; replicates of the same seed share one."""
    extents: tuple[Extent, ...]
    """Of each replicate's stream."""
    scratch: Path
    """Of this process."""
    checkpoints: Path
    """Of all that train it."""
    lock: Lock
    crew: Crew

    @property
    def identity(self) -> str:
        """Whose checkpoints these are."""
        return f"{self.code_digest} {self.run.model_dump_json()}"

    @cached_property
    def train_iters(self) -> int:
        """Steps until the longest stream is read; the shorter ones are padded."""
        num_windows = max(extent.num_windows for extent in self.extents)
        return -(-num_windows // self.run.optimization.global_batch_size)

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens of each replicate's stream."""
        return tuple(extent.num_tokens for extent in self.extents)

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
    run: Run, biographer: Biographer, code_digest: str, folder: Path, lock: Lock, crew: Crew
) -> Job:
    """Open the streams of a run's replicates.

    Parameters
    ----------
    run, biographer
        What is trained, and on what.
    code_digest
        Of the code that trains.
    folder
        Of the run's scratch files.
    lock
        In the scratch folder of this process.
    crew
        Who trains.
    """
    exposures, seq_length = run.optimization.exposures, run.optimization.seq_length
    streams = {seed: biographer.stream(exposures, seed) for seed in run.replicates.seeds}
    extents = {seed: stream.extent(seq_length) for seed, stream in streams.items()}
    seeds = [seed for seed, _ in run.replicates.pairs]
    return Job(
        run=run,
        code_digest=code_digest,
        biographer=biographer,
        streams=tuple(streams[seed] for seed in seeds),
        extents=tuple(extents[seed] for seed in seeds),
        scratch=lock.path.parent,
        checkpoints=folder / "checkpoints",
        lock=lock,
        crew=crew,
    )


def initial_state(job: Job, device: torch.device) -> State:
    """Make the model as it is before the first step."""
    engine = job.crew.start_engine(job.run, job.biographer.vocab_size, job.train_iters, device)
    return State(engine, start=now(), engines=[engine.facts()])


def resume(job: Job, state: State, device: torch.device) -> State:
    """Bring a state to where the newest checkpoint is, if there is one."""
    saved = job.crew.load(job.identity, state.engine, job.checkpoints, device)
    if saved is None:
        return state
    iteration, positions = saved["cursor"]
    state.cursor = Cursor(iteration, tuple(tuple(position) for position in positions))
    for name in ("start", "iteration", "train_s"):
        setattr(state, name, saved[name])
    state.metrics_bytes = saved["metrics_bytes"] if job.crew.is_leader else 0
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
    job.crew.save(saved, state.engine, job.checkpoints)
