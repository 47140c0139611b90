"""A finished run and its corpus, read from their folders."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from knowcap.artifacts import manifest
from knowcap.artifacts.files import read_json
from knowcap.config import Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.errors import UserError
from knowcap.model import megatron_core
from knowcap.model.stacked_model import StackedModel, build_model
from knowcap.training.checkpoint import load_tensors
from knowcap.training.run_dir import MODEL_FILE, RUN_FILE


class TrainedRun(NamedTuple):
    """A finished run."""

    run: Run
    corpus_reader: CorpusReader
    model: StackedModel
    """The trained replicates, which compute in float32."""


def load_run(run_folder: Path, corpus_folder: Path, num_threads: int) -> TrainedRun:
    """Load a run onto the device of this process.

    Parameters
    ----------
    run_folder, corpus_folder
        The run and the corpus that it was trained on.
    num_threads
        CPU threads of torch.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the run was trained on another corpus.
    """
    manifest.verify(run_folder)
    run = Run.model_validate(read_json(run_folder / RUN_FILE)["record"])
    corpus_reader = load_corpus(corpus_folder)
    if corpus_reader.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus that {run_folder} was trained on")
    torch.set_num_threads(num_threads)
    device = megatron_core.init_process_groups()
    model = load_model(run_folder, run, corpus_reader.vocab_size, device)
    return TrainedRun(run, corpus_reader, model)


def load_model(run_folder: Path, run: Run, vocab_size: int, device: torch.device) -> StackedModel:
    """Load the trained weights into a model that computes in float32.

    Raises
    ------
    UserError
        If the weights are missing, damaged or of another model.
    """
    path = run_folder / MODEL_FILE
    weights = load_tensors(path, device)
    seeds = [seed for seed, _ in run.replicates.pairs]
    model = build_model(
        run.architecture,
        vocab_size,
        seeds,
        device,
        torch.float32,
        reset_attention_mask=run.optimization.reset_attention_mask,
    )
    parameters = dict(model.named_parameters())
    shapes = {name: value.shape for name, value in parameters.items()}
    if shapes != {name: value.shape for name, value in weights.items()}:
        raise UserError(f"{path}: not the weights of the model in {run_folder / RUN_FILE}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return model
