"""The training of a run: its loop, its metrics, its checkpoints and its published files.

All replicates of a run train side by side. A training can be killed at any time and started again;
it ends with the same weights as an uninterrupted one. Everything that changes is in
:class:`~knowcap.training.train_state.TrainState`, which checkpoints in the scratch folder save.

Shapes: R replicates, B windows of a step, S positions of a window.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from knowcap.artifacts import lock, storage
from knowcap.artifacts.durations import format_duration
from knowcap.config import Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.engines.base import Step
from knowcap.engines.dataloader import batches
from knowcap.errors import UserError
from knowcap.model.optimizer import learning_rate_scale
from knowcap.training import run_dir, sigterm
from knowcap.training.checkpoint import INTERVAL_S, CheckpointSchedule
from knowcap.training.divergence import find_diverged
from knowcap.training.metrics_logger import MetricsLogger
from knowcap.training.process_group import ProcessGroup, SingleProcess
from knowcap.training.run_writer import clear_scratch, write_run
from knowcap.training.train_state import (
    TrainSetup,
    TrainState,
    initial_state,
    open_setup,
    resume,
    save_checkpoint,
)

_log = logging.getLogger(__name__)


class TrainingInterruptedError(Exception):
    """Training stopped before its end, after a checkpoint; the same command resumes it.

    The time budget is spent, a signal was received, or another job trains the run.
    """


def train(
    run: Run,
    corpus_folder: Path,
    output_folder: Path,
    scratch_folder: Path,
    time_budget_s: float | None = None,
    *,
    num_threads: int = 1,
    code_digest: str = "",
    checkpoint_interval_s: float = INTERVAL_S,
    process_group: ProcessGroup | None = None,
) -> bool:
    """Train a run, or resume its training, and publish its folder.

    A published run is not changed. If another job is training the run, this one waits for it: a
    Slurm job can outlive the workflow that submitted it and still run when the next workflow
    submits the same training.

    Parameters
    ----------
    run
        The run to train.
    corpus_folder
        Its corpus, written by :func:`knowcap.data.corpus_writer.write_corpus`.
    output_folder
        Receives ``run.json``, ``model.pt``, ``metrics.jsonl``, ``timing.json``,
        ``provenance.json`` and last ``DONE`` when the training is finished.
    scratch_folder
        Folder of this run alone, for the lock, checkpoints, metrics and progress.
    time_budget_s
        Seconds after which this attempt must have ended.
    num_threads
        CPU threads. The same number on the same machine gives bit-identical weights.
    code_digest
        Digest of the training code. Checkpoints of other code are refused.
    checkpoint_interval_s
        Seconds between checkpoints, more if they take long. With 0, one after every step.
    process_group
        The processes that train the run together, each of which calls this function; by default
        this process alone.

    Returns
    -------
    bool
        Whether nothing else is to be started, as SIGTERM or SIGINT came in the last step or during
        publication.

    Raises
    ------
    UserError
        If the corpus is damaged or not the run's, a window is shorter than a biography, the output
        folder contains foreign files or another run, or a file cannot be read or written.
    TrainingInterruptedError
        If the time budget is spent, or SIGTERM or SIGINT was received. At least one step was made,
        unless another job trains this run.

    Notes
    -----
    A replicate whose loss is no longer finite has diverged: ``run.json`` records it
    (:mod:`knowcap.training.divergence`), and the others train on. If all have, training ends.
    """
    deadline = time.monotonic() + (math.inf if time_budget_s is None else time_budget_s)
    corpus_reader = load_corpus(corpus_folder)
    _check_corpus(run, corpus_reader, corpus_folder)
    run_dir.refuse_foreign_files(output_folder)
    for folder in (output_folder, scratch_folder):
        storage.check_writable(folder)
    torch.set_num_threads(num_threads)
    process_group = process_group or SingleProcess()
    device = process_group.start()
    with (
        process_group.scratch(scratch_folder) as scratch,
        _acquire_lock(scratch, deadline) as acquired_lock,
    ):
        if process_group.broadcast_decision(
            process_group.is_rank_zero and run_dir.is_published(run, output_folder)
        ):
            _log.info("%s: already trained", output_folder)
            if process_group.is_rank_zero:
                clear_scratch(scratch_folder)
            return False
        if process_group.is_rank_zero:
            run_dir.discard_damaged(output_folder)
        setup = open_setup(
            run, corpus_reader, code_digest, scratch_folder, acquired_lock, process_group
        )
        state = resume(setup, initial_state(setup, device), device)
        with sigterm.catch_sigterm() as signal_received:
            schedule = CheckpointSchedule(
                checkpoint_interval_s, deadline, state.engine.num_bytes, signal_received
            )
            first_non_finite = _make_steps(setup, state, device, schedule)
            weights = state.engine.weights()
            if process_group.is_rank_zero:
                diverged = find_diverged(run, first_non_finite, weights, state.iteration)
                _log_diverged(setup, diverged)
                staging = write_run(setup, state, weights, diverged, corpus_folder.name, device)
                acquired_lock.check()
                run_dir.publish(staging, output_folder)
                clear_scratch(scratch_folder)
            must_stop = bool(signal_received())
    _log.info("trained in %s", format_duration(state.train_s))
    return must_stop


@contextmanager
def _acquire_lock(scratch_folder: Path, deadline: float) -> Iterator[lock.Lock]:
    """Acquire the lock of a training, waiting until the deadline for another job."""
    with ExitStack() as stack:
        try:
            acquired = stack.enter_context(lock.acquire(scratch_folder / "lock", deadline=deadline))
        except lock.LockHeldError as error:
            raise TrainingInterruptedError(str(error)) from None
        yield acquired


def _check_corpus(run: Run, corpus_reader: CorpusReader, corpus_folder: Path) -> None:
    """Raise a UserError for another run's corpus, or biographies longer than a window."""
    if corpus_reader.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus of this run")
    seq_length, longest = run.optimization.seq_length, corpus_reader.longest_biography
    if seq_length < longest:
        raise UserError(
            f"seq_length: {seq_length} tokens are too few for the longest biography of this "
            f"corpus, which has up to {longest}"
        )


def _make_steps(
    setup: TrainSetup, state: TrainState, device: torch.device, schedule: CheckpointSchedule
) -> list[float]:
    """Train to the last step, writing metrics and checkpoints.

    Returns
    -------
    list
        First logged step of each replicate with a loss or gradient that is not finite, or infinity.
        If all have one, training ends there.
    """
    optimization = setup.run.optimization
    steps = batches(
        setup.data.streams,
        optimization.seq_length,
        optimization.global_batch_size,
        setup.train_iters,
        start=state.cursor,
        iteration=state.iteration,
        device=device,
    )
    metrics_logger = MetricsLogger(
        setup.scratch,
        setup.train_iters,
        state.iteration,
        state.metrics,
        len(setup.run.replicates.pairs),
    )
    start_s = time.monotonic() - state.train_s
    with closing(steps), metrics_logger:
        for cursor, tokens_RBS1 in steps:
            step = state.engine.step(tokens_RBS1, state.iteration)
            state.cursor, state.iteration = cursor, state.iteration + 1
            state.train_s = time.monotonic() - start_s
            if metrics_logger.is_logged(state.iteration):
                metrics_logger.write(_metrics(setup, state, step))
                have_all_diverged = max(metrics_logger.first_non_finite) < math.inf
                if setup.process_group.broadcast_decision(have_all_diverged):
                    break
            metrics_logger.log_progress(state.iteration)
            if state.iteration < setup.train_iters and setup.process_group.broadcast_decision(
                schedule.is_due()
            ):
                state.metrics = metrics_logger.written()
                schedule.timed_save(lambda: save_checkpoint(setup, state))
                if setup.process_group.broadcast_decision(schedule.must_stop()):
                    raise TrainingInterruptedError(
                        f"{schedule.stop_reason()} at step {state.iteration} of "
                        f"{setup.train_iters}; run the same command again to resume"
                    )
    return metrics_logger.first_non_finite


def _metrics(setup: TrainSetup, state: TrainState, step: Step) -> dict[str, Any]:
    """Return the metrics of the last step."""
    scale = learning_rate_scale(setup.run.optimization, setup.train_iters, state.iteration - 1)
    tokens = state.iteration * setup.step_tokens
    return {
        "iteration": state.iteration,
        "tokens": tokens,
        "loss_nats": step.loss.tolist(),
        "lr": [scale * peak for _, peak in setup.run.replicates.pairs],
        "grad_norm": step.grad_norm.tolist(),
        "elapsed_s": round(state.train_s, 3),
        "tokens_per_s": round(len(setup.data.streams) * tokens / state.train_s),
        **state.engine.metrics(),
    }


def _log_diverged(setup: TrainSetup, diverged: list[dict[str, Any]]) -> None:
    """Log a line for each diverged replicate."""
    for each in diverged:
        _log.warning(
            "the replicate of seed %d and lr %g diverged: its loss or gradient is not finite at "
            "step %d of %d; likely causes: %s",
            *(each["seed"], each["lr"], each["iteration"], setup.train_iters),
            each["likely_causes"],
        )
