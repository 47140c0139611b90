"""Evaluation: what a trained model loses on each fact, in nats.

All replicates answer the same prompts (:mod:`knowcap.data.prompts`), each in a fresh context.
Where the logits come from is one callable; everything else is the same for any precision, and for
a model that a test makes up.

Shapes: R replicates, P prompts, S positions, N people, F fields, A attributes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from knowcap.artifacts.files import FORMAT, read_json, write_dataset
from knowcap.config import Evaluation, Precision, Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.errors import UserError
from knowcap.evaluation.losses import FactLosses, Float64, Int64, Logits, fact_losses, token_losses
from knowcap.model import megatron_core
from knowcap.model.stacked_model import StackedModel, build_model
from knowcap.training.checkpoint import load_tensors
from knowcap.training.run_dir import MODEL_FILE, RUN_FILE

PEOPLE_BLOCK = 4096
"""People whose prompts are held at once."""

BATCH_LOGITS = {"cpu": 2**24, "cuda": 2**28}
"""Logits that are held at once."""

_log = logging.getLogger(__name__)


LONG_NAMES = {
    "name_loss": "loss of a name after the end of text",
    "name_loss_strict": "loss of a name and of the token that ends it",
    "value_loss": "loss of a value given the name",
    "value_loss_strict": "loss of a value given the name, and of the token that ends it",
    "value_loss_in_context": "loss of a value where it stands in a whole biography",
    "first_chunk_loss": "loss of a value's first chunk given the name",
}


class Answers(NamedTuple):
    """What answers the questions."""

    logits: Logits
    attrs: Mapping[str, float]
    """Facts about it, for the file of losses."""


Answer = Callable[[StackedModel, Run, CorpusReader], Answers]
"""Makes a trained model answer in some precision."""


def trained(model: StackedModel, run: Run, corpus_reader: CorpusReader) -> Answers:
    """Answer with the weights as training left them, in float32 whatever dtype it computed in."""
    device = model.flat.device
    return Answers(lambda tokens_PS: model.logits(tokens_PS.unsqueeze(0).to(device)), {})


ANSWERS: Mapping[Precision, Answer] = {"trained": trained}
"""How each precision answers that needs nothing else; :mod:`knowcap.evaluation.quantize` has the others."""


def evaluate(
    run_folder: Path,
    corpus_folder: Path,
    precision: Precision,
    evaluation: Evaluation,
    output: Path,
    *,
    answers: Mapping[Precision, Answer] = ANSWERS,
    num_threads: int = 1,
) -> None:
    """Measure a run's losses and write them to ``losses.nc``.

    Parameters
    ----------
    run_folder
        As :func:`knowcap.training.train.train` published it.
    corpus_folder
        The corpus that the run was trained on.
    precision
        How the weights are stored when the model answers.
    evaluation
        Who is asked, and in which words.
    output
        The file to write.
    answers
        How each precision answers.
    num_threads
        Of the CPU.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the corpus is not the run's.
    """
    run = Run.model_validate(read_json(run_folder / RUN_FILE)["record"])
    corpus_reader = load_corpus(corpus_folder)
    if corpus_reader.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus that {run_folder} was trained on")
    torch.set_num_threads(num_threads)
    device = megatron_core.start()
    model = load_model(run_folder, run, corpus_reader.vocab_size, device)
    logits, attrs = answers[precision](model, run, corpus_reader)
    num_logits = len(run.replicates.pairs) * corpus_reader.vocab_size
    batch_tokens = BATCH_LOGITS[device.type] // num_logits
    losses = measure(corpus_reader, logits, evaluation, batch_tokens)
    seeds, lrs = zip(*run.replicates.pairs, strict=True)
    losses = losses.assign_coords(seed=("replicate", list(seeds)), lr=("replicate", list(lrs)))
    losses.attrs.update(run=run_folder.name, precision=precision, **attrs)
    write_dataset(losses, output)


def load_model(run_folder: Path, run: Run, vocab_size: int, device: torch.device) -> StackedModel:
    """Read the weights as training left them; the model computes in float32.

    Raises
    ------
    UserError
        If the weights are missing, damaged or of another model.
    """
    path = run_folder / MODEL_FILE
    weights = load_tensors(path, device)
    seeds = [seed for seed, _ in run.replicates.pairs]
    model = build_model(run.architecture, vocab_size, seeds, device, torch.float32)
    parameters = dict(model.named_parameters())
    shapes = {name: value.shape for name, value in parameters.items()}
    if shapes != {name: value.shape for name, value in weights.items()}:
        raise UserError(f"{path}: not the weights of the model in {run_folder / RUN_FILE}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return model


def measure(
    corpus_reader: CorpusReader, logits: Logits, evaluation: Evaluation, batch_tokens: int
) -> xr.Dataset:
    """Measure the losses of whatever gives logits.

    Parameters
    ----------
    corpus_reader
        Asks the questions.
    logits
        The model.
    evaluation
        Who is asked, and in which words.
    batch_tokens
        Tokens that are asked about together, at most, unless one prompt has more.

    Returns
    -------
    xr.Dataset
        In nats: ``name_loss`` and ``name_loss_strict`` with dims (replicate, person);
        ``value_loss``, ``value_loss_strict``, ``value_loss_in_context`` and, of bioD,
        ``first_chunk_loss`` with dims (replicate, person, attribute).
    """
    # PAPER 3: losses are means over the people that were trained on; none is held out
    people = np.arange(min(evaluation.num_people, corpus_reader.corpus.knowledge.num_people))
    ask = {
        "name": corpus_reader.name_prompts,
        # ASSUME: a value is asked for in a prompt of its own, right after the name. In a whole
        # biography an earlier sentence can give it away, as a company's city does its name.
        "value": corpus_reader.attribute_prompts,
        "context": corpus_reader.biography_prompts,
    }
    parts: dict[str, list[FactLosses]] = {kind: [] for kind in ask}
    for block in np.split(people, range(PEOPLE_BLOCK, people.size, PEOPLE_BLOCK)):
        for kind, prompts_about in ask.items():
            prompts = prompts_about(block, evaluation.seed)
            losses = token_losses(prompts, logits, batch_tokens)
            parts[kind].append(fact_losses(prompts, losses, block, len(corpus_reader.fields)))
        _log.info("asked about %d of %d people", block[-1] + 1, people.size)
    name, value, context = (
        FactLosses(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts[kind], strict=True)))
        for kind in ask
    )
    losses_RNA = {
        "value_loss": value.plain,
        "value_loss_strict": value.strict,
        "value_loss_in_context": context.plain,
    }
    if corpus_reader.corpus.knowledge.kind == "bioD":
        losses_RNA["first_chunk_loss"] = value.first_chunk
    return _dataset(
        {"name_loss": name.plain[:, :, 0], "name_loss_strict": name.strict[:, :, 0]},
        {kind: losses_RNF[:, :, 1:] for kind, losses_RNF in losses_RNA.items()},
        people,
        corpus_reader.fields[1:],
    )


def _dataset(
    by_person: Mapping[str, Float64],
    by_attribute: Mapping[str, Float64],
    people: Int64,
    attributes: tuple[str, ...],
) -> xr.Dataset:
    """Label losses with their dimensions, units and meanings."""
    variables = {
        name: (dims, values, {"units": "nat", "long_name": LONG_NAMES[name]})
        for dims, losses in (
            (("replicate", "person"), by_person),
            (("replicate", "person", "attribute"), by_attribute),
        )
        for name, values in losses.items()
    }
    return xr.Dataset(
        variables,
        coords={"person": people, "attribute": list(attributes)},
        attrs={"Conventions": "CF-1.11", "format": FORMAT},
    )
