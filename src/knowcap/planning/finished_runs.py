"""Estimates of training time from the finished runs of a results folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from knowcap.artifacts import files, identity, manifest
from knowcap.config import Run
from knowcap.config.study import Study
from knowcap.planning.cost import expected_text_statistics, flops_per_token, relative_time
from knowcap.planning.training_threads import speedup
from knowcap.planning.training_time import TrainingTime
from knowcap.training.run_dir import DONE_FILE, PROVENANCE_FILE, RUN_FILE, TIMING_FILE

SIMILAR_FACTOR = 4.0
"""Runs of which a model has this factor more or fewer operations per token are not similar."""


class FinishedRun(NamedTuple):
    """A finished run and what it took."""

    run: Run
    train_s: float
    """Training time in seconds; on a CPU, of one thread."""
    device: str
    """Name of the processor or GPU, or `cpu` or `cuda` if unknown."""
    engine: str
    """Engines of its steps; empty if unknown."""


def from_finished_runs(study: Study) -> TrainingTime | None:
    """Estimate from the finished runs of the results folder; None if there are none.

    The runs of other studies count too, because they were trained into the same folder.

    Notes
    -----
    The time of a run is that of the most similar finished runs, scaled by the relative time
    (:func:`knowcap.planning.cost.relative_time`). Runs are similar if they have the same dtype,
    both or neither have experts, which decide the engine, and about equal operations per token and
    tokens per step. All are assumed to train on the same device. Times are those of one thread: the
    time of a run on several is multiplied by their speedup
    (:func:`knowcap.planning.training_threads.speedup`).
    """
    finished = list(_finished_runs(Path(study.results) / "runs"))
    if not finished:
        return None
    names = {identity.run_name(each.run) for each in finished}
    to_train = [run for run in study.runs() if identity.run_name(run) not in names]
    similar = {run: _most_similar(run, finished) for run in to_train}

    def seconds(run: Run) -> float:
        chosen = similar.get(run) or _most_similar(run, finished)
        total_s = math.fsum(each.train_s for each in chosen)
        scale = total_s / math.fsum(relative_time(each.run) for each in chosen)
        return scale * relative_time(run)

    used = {each: None for chosen in similar.values() for each in chosen}
    return TrainingTime(
        lambda run, cost: seconds(run), _source(list(used) or finished, similar, study.results)
    )


def _finished_runs(folder: Path) -> Iterator[FinishedRun]:
    """Yield the finished runs of a folder whose records this version can read."""
    for done in sorted(folder.glob(f"*/{DONE_FILE}")):
        timing_path, run_path = done.with_name(TIMING_FILE), done.with_name(RUN_FILE)
        if not (timing_path.exists() and run_path.exists()):
            continue
        manifest.verify(done.parent, [TIMING_FILE, RUN_FILE], optional=[PROVENANCE_FILE])
        timing = files.read_json(timing_path)
        try:
            run = Run.model_validate_json(json.dumps(files.read_json(run_path)["record"]))
        except ValidationError:
            continue
        path = done.with_name(PROVENANCE_FILE)
        provenance = files.read_json(path) if path.exists() else {}
        yield FinishedRun(
            run=run,
            train_s=float(timing["train_s"]) * _cpu_speedup(timing),
            device=str(provenance.get("gpu") or provenance.get("cpu") or timing["device"]),
            engine=" and ".join(each["name"] for each in provenance.get("engines", [])),
        )


def _cpu_speedup(timing: Mapping[str, Any]) -> float:
    """Speed of the threads of a training as a multiple of one; 1 on GPUs."""
    return speedup(timing["num_threads"]) if timing["device"] == "cpu" else 1.0


def _most_similar(run: Run, finished: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the finished runs with the smallest distance, several if it is equal."""
    distances = [_distance(run, each.run) for each in finished]
    smallest = min(distances)
    return [
        each for each, distance in zip(finished, distances, strict=True) if distance == smallest
    ]


def _distance(run: Run, other: Run) -> tuple[bool, bool, float]:
    """Return how unlike two runs are: by experts, then dtype, then size."""
    sizes = [
        abs(math.log(function(run) / function(other)))
        for function in (_flops_per_token, _tokens_per_step)
    ]
    return (
        bool(run.architecture.num_moe_experts) != bool(other.architecture.num_moe_experts),
        run.optimization.dtype != other.optimization.dtype,
        round(math.fsum(sizes), 6),
    )


def _flops_per_token(run: Run) -> float:
    vocab_size = expected_text_statistics(run.corpus).vocab_size
    return flops_per_token(run.architecture, vocab_size, run.optimization.seq_length)


def _tokens_per_step(run: Run) -> float:
    optimization = run.optimization
    windows = optimization.global_batch_size * len(run.replicates.pairs)
    return float(optimization.seq_length * windows)


def _source(
    used: Sequence[FinishedRun], similar: dict[Run, list[FinishedRun]], results: str
) -> str:
    """Sentences with the runs that an estimate is made from, and how unlike some are."""
    number = "1 finished run" if len(used) == 1 else f"{len(used)} finished runs"
    devices = " and ".join(sorted({each.device for each in used}))
    engines = " and ".join(sorted({each.engine for each in used if each.engine}))
    by = f" by {engines}" if engines else ""
    text = (
        f"The time left is estimated from {number} of {results}, trained on {devices}{by}: the "
        f"time of each run is that of the most similar one, scaled by size and tokens."
    )
    unlike = sum(_is_unlike(run, chosen[0].run) for run, chosen in similar.items())
    if unlike:
        text += (
            f" {unlike} of {len(similar)} runs have no finished run of the same dtype and of a "
            f"similar size, so their time is uncertain."
        )
    return text


def _is_unlike(run: Run, other: Run) -> bool:
    experts, dtype, _ = _distance(run, other)
    factor = _flops_per_token(run) / _flops_per_token(other)
    return experts or dtype or not 1 / SIMILAR_FACTOR <= factor <= SIMILAR_FACTOR
