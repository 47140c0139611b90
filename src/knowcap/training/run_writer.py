"""The files of a finished training, written to the scratch folder before they are published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowcap.artifacts.files import atomic_write, write_json
from knowcap.artifacts.storage import file_errors
from knowcap.model.num_params import num_params
from knowcap.training import checkpoint, run_dir
from knowcap.training.metrics_logger import PROGRESS_FILE
from knowcap.training.provenance import provenance
from knowcap.training.train_state import TrainSetup, TrainState


def write_run(
    setup: TrainSetup,
    state: TrainState,
    weights: dict[str, Tensor],
    diverged: list[dict[str, Any]],
    corpus: str,
    device: torch.device,
) -> Path:
    """Write a run's files to the scratch folder and return their folder."""
    run, staging = setup.run, setup.scratch / "staging"
    with file_errors(staging):
        staging.mkdir(exist_ok=True)
    facts = {
        "format": 1,
        "record": run.model_dump(mode="json"),
        "corpus": corpus,
        "num_params": num_params(run.architecture, setup.corpus_reader.vocab_size),
        "train_iters": setup.train_iters,
        "num_tokens": setup.num_tokens,
        "diverged": diverged,
    }
    tokens_read = state.iteration * setup.step_tokens
    timing = {
        "format": 1,
        "train_s": state.train_s,
        "tokens_per_s": sum(min(tokens_read, number - 1) for number in setup.num_tokens)
        / state.train_s,
        "device": device.type,
        "num_threads": torch.get_num_threads(),
        "num_resumed": state.num_resumed,
        **setup.process_group.facts(),
    }
    write_json(staging / run_dir.RUN_FILE, facts)
    num_bytes = sum(each.nbytes for each in weights.values())
    checkpoint.save_tensors(weights, staging / run_dir.MODEL_FILE, num_bytes)
    with atomic_write(staging / run_dir.METRICS_FILE, state.metrics.num_bytes) as temporary:
        shutil.copyfile(setup.scratch / run_dir.METRICS_FILE, temporary)
    write_json(staging / run_dir.TIMING_FILE, timing)
    origin = provenance(setup.code_digest, state.start, device, state.engines)
    write_json(staging / run_dir.PROVENANCE_FILE, origin)
    return staging


def clear_scratch(scratch: Path) -> None:
    """Delete the files that a published run does not need."""
    for name in ("checkpoints", "staging"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    for name in (run_dir.METRICS_FILE, PROGRESS_FILE):
        (scratch / name).unlink(missing_ok=True)
