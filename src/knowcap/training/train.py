"""Training: one run, its replicates side by side, from the corpus to a published run folder.

A training can be killed at any time and started again; the weights it ends with are those it
would have had. All that changes is in :class:`State`, which checkpoints in the scratch folder hold.

Shapes: R replicates, B windows of a step, S positions of a window.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowcap.artifacts import lock
from knowcap.artifacts.files import write_json
from knowcap.config import Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.engines.base import Step
from knowcap.engines.dataloader import batches
from knowcap.errors import UserError
from knowcap.model.num_params import num_params
from knowcap.model.optimizer import learning_rate_scale
from knowcap.training import checkpoint, run_dir, sigterm
from knowcap.training.checkpoint import INTERVAL_S, Schedule
from knowcap.training.metrics_logger import PROGRESS_FILE, MetricsLogger
from knowcap.training.process_group import ProcessGroup, SingleProcess
from knowcap.training.provenance import provenance
from knowcap.training.train_state import Job, State, initial_state, open_job, resume, save

_log = logging.getLogger(__name__)


class TimeBudgetSpentError(Exception):
    """Time is up and nothing is lost: the same training, started again, goes on.

    A budget of time is spent, or the process was told to leave (SIGTERM).
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
) -> None:
    """Train a run, or go on with it, and publish its folder.

    A run that is published already is left as it is. A run that another job is training is waited
    for: on a cluster, a job can outlive the workflow that submitted it and meet that of the next.

    Parameters
    ----------
    run
        What is trained.
    corpus_folder
        Its corpus, as :func:`knowcap.data.corpus.write_corpus` made it.
    output_folder
        Gets ``run.json``, ``model.pt``, ``metrics.jsonl``, ``timing.json``, ``provenance.json``
        and at last ``DONE``, when training is finished.
    scratch_folder
        Of this run alone; holds the lock, checkpoints, metrics and progress until then.
    time_budget_s
        Seconds within which this attempt is to end.
    num_threads
        Of the CPU. The same number on the same machine gives the same weights, bit for bit.
    code_digest
        Digest of the code that trains. Checkpoints of other code are refused.
    checkpoint_interval_s
        Seconds between checkpoints; more where they take long. 0 is after every step.
    process_group
        The processes that train it together, each of which calls this; None is this one alone.

    Raises
    ------
    UserError
        If the corpus is another, a window is shorter than a biography, the output folder holds
        foreign files, or a loss is not finite.
    TimeBudgetSpentError
        If the budget ended first, or the process was told to leave. At least one step was made, or
        another job trains this run.
    """
    deadline = time.monotonic() + (math.inf if time_budget_s is None else time_budget_s)
    corpus_reader = load_corpus(corpus_folder)
    _check_corpus(run, corpus_reader, corpus_folder)
    run_dir.refuse_foreign_files(output_folder)
    torch.set_num_threads(num_threads)
    process_group = process_group or SingleProcess()
    device = process_group.start()
    with process_group.scratch(scratch_folder) as scratch, _turn(scratch, deadline) as held:
        if process_group.broadcast_decision(
            process_group.is_rank_zero and run_dir.is_published(run, output_folder)
        ):
            _log.info("%s: trained already", output_folder)
            if process_group.is_rank_zero:
                _clear(scratch_folder)
            return
        job = open_job(run, corpus_reader, code_digest, scratch_folder, held, process_group)
        state = resume(job, initial_state(job, device), device)
        with sigterm.catch_sigterm() as is_told:
            num_bytes = state.engine.num_bytes
            schedule = Schedule(checkpoint_interval_s, deadline, num_bytes, is_told)
            _make_steps(job, state, device, schedule)
            weights = state.engine.weights()
            if process_group.is_rank_zero:
                staging = _stage(job, state, weights, corpus_folder.name, device)
                held.check()
                run_dir.publish(staging, output_folder)
                _clear(scratch_folder)
    _log.info("trained in %.0f s", state.train_s)


@contextmanager
def _turn(scratch_folder: Path, deadline: float) -> Iterator[lock.Lock]:
    """Hold the lock of a training, after another job that holds it has left."""
    with ExitStack() as stack:
        try:
            held = stack.enter_context(lock.acquire(scratch_folder / "lock", deadline=deadline))
        except lock.LockHeldError as error:
            raise TimeBudgetSpentError(str(error)) from None
        yield held


def _check_corpus(run: Run, corpus_reader: CorpusReader, corpus_folder: Path) -> None:
    """Refuse a corpus that is not the run's, or too long-winded for its windows."""
    if corpus_reader.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus of this run")
    seq_length, longest = run.optimization.seq_length, corpus_reader.longest_biography
    if seq_length < longest:
        raise UserError(
            f"seq_length: {seq_length} tokens are too few for a biography of this corpus, "
            f"which can have {longest}"
        )


def _make_steps(job: Job, state: State, device: torch.device, schedule: Schedule) -> None:
    """Train to the last step, with metrics and checkpoints on the way."""
    optimization = job.run.optimization
    steps = batches(
        job.data.streams,
        optimization.seq_length,
        optimization.global_batch_size,
        job.train_iters,
        start=state.cursor,
        iteration=state.iteration,
        device=device,
    )
    metrics_logger = MetricsLogger(
        job.scratch, job.train_iters, state.iteration, state.metrics_bytes
    )
    begun = time.monotonic() - state.train_s
    with closing(steps), metrics_logger:
        for cursor, tokens_RBS1 in steps:
            step = state.engine.step(tokens_RBS1, state.iteration)
            state.cursor, state.iteration = cursor, state.iteration + 1
            state.train_s = time.monotonic() - begun
            if metrics_logger.wants(state.iteration):
                metrics_logger.write(_metrics(job, state, step))
                _check_finite(job, state, step)
            metrics_logger.show(state.iteration)
            if state.iteration < job.train_iters and job.process_group.broadcast_decision(
                schedule.is_due()
            ):
                _check_finite(job, state, step)
                state.metrics_bytes = metrics_logger.num_bytes()
                schedule.time(lambda: save(job, state))
                if job.process_group.broadcast_decision(schedule.is_over()):
                    raise TimeBudgetSpentError(
                        f"{schedule.reason()} at step {state.iteration} of {job.train_iters}; "
                        f"start again to go on"
                    )


def _metrics(job: Job, state: State, step: Step) -> dict[str, Any]:
    """Measure the step just made."""
    scale = learning_rate_scale(job.run.optimization, job.train_iters, state.iteration - 1)
    tokens = state.iteration * job.step_tokens
    return {
        "iteration": state.iteration,
        "tokens": tokens,
        "loss_nats": step.loss.tolist(),
        "lr": [scale * peak for _, peak in job.run.replicates.pairs],
        "grad_norm": step.grad_norm.tolist(),
        "elapsed_s": round(state.train_s, 3),
        "tokens_per_s": round(len(job.data.streams) * tokens / state.train_s),
        **state.engine.metrics(),
    }


def _check_finite(job: Job, state: State, step: Step) -> None:
    """Stop a training that has diverged, before a checkpoint or a result is made of it."""
    finite = (torch.isfinite(step.loss) & torch.isfinite(step.grad_norm)).tolist()
    for (seed, lr), is_finite in zip(job.run.replicates.pairs, finite, strict=True):
        if not is_finite:
            raise UserError(
                f"lr: {lr:g} is too high, the replicate of seed {seed} has no finite loss or "
                f"gradient at step {state.iteration} of {job.train_iters}; take it out of the run"
            )


def _stage(
    job: Job, state: State, weights: dict[str, Tensor], corpus: str, device: torch.device
) -> Path:
    """Write a run's files into the scratch folder."""
    run, staging = job.run, job.scratch / "staging"
    staging.mkdir(exist_ok=True)
    facts = {
        "format": 1,
        "record": run.model_dump(mode="json"),
        "corpus": corpus,
        "num_params": num_params(run.architecture, job.corpus_reader.vocab_size),
        "train_iters": job.train_iters,
        "num_tokens": job.num_tokens,
    }
    timing = {
        "format": 1,
        "train_s": state.train_s,
        "tokens_per_s": sum(number - 1 for number in job.num_tokens) / state.train_s,
        "device": device.type,
        "num_threads": torch.get_num_threads(),
        "num_resumed": state.num_resumed,
        **job.process_group.facts(),
    }
    write_json(staging / run_dir.RUN_FILE, facts)
    checkpoint.save_tensors(weights, staging / run_dir.MODEL_FILE)
    shutil.copyfile(job.scratch / run_dir.METRICS_FILE, staging / run_dir.METRICS_FILE)
    write_json(staging / run_dir.TIMING_FILE, timing)
    origin = provenance(job.code_digest, state.start, device, state.engines)
    write_json(staging / run_dir.PROVENANCE_FILE, origin)
    return staging


def _clear(scratch: Path) -> None:
    """Remove what a published run does not need."""
    for name in ("checkpoints", "staging"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    for name in (run_dir.METRICS_FILE, PROGRESS_FILE):
        (scratch / name).unlink(missing_ok=True)
