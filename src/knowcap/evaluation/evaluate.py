"""Losses of a trained model on the names and attribute values of people, in nats.

Every replicate reads the same prompts (:mod:`knowcap.data.prompts`), each in its own context. A
backend turns the trained weights into a function from tokens to logits; the rest of the code is
the same for every precision.

Shapes: R replicates, P prompts, S positions, N people, F fields, A attributes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from knowcap.artifacts.files import FORMAT, write_dataset
from knowcap.config import Evaluation, Mixture, Precision, Probe, Run
from knowcap.data.corpus import CorpusReader
from knowcap.evaluation.diverged import with_nan_for_diverged
from knowcap.evaluation.losses import (
    FactLosses,
    Float64,
    Int64,
    LogitsFunction,
    fact_losses,
    token_losses,
)
from knowcap.evaluation.prepared_model import LogitsBackend, PreparedModel
from knowcap.evaluation.trained_run import load_run
from knowcap.model.stacked_model import StackedModel

PEOPLE_BLOCK = 4096
"""People whose prompts are in memory at once."""

BATCH_LOGITS = {"cpu": 2**24, "cuda": 2**28}
"""Largest number of logits in memory at once."""

_log = logging.getLogger(__name__)


LONG_NAMES = {
    "name_loss": "loss of a name after the end of text",
    "name_loss_strict": "loss of a name and of the token that ends it",
    "name_loss_in_window": "loss of a name, mean over the positions of a training window",
    "name_loss_given_useful": "loss of a name where the context shows that it is no junk",
    "value_loss": "loss of a value given the name",
    "value_loss_strict": "loss of a value given the name, and of the token that ends it",
    "value_loss_in_context": "loss of a value where it stands in a whole biography",
    "value_loss_chain_rule": "loss of a value in a whole biography, with those that reveal it",
    "first_chunk_loss": "loss of a value's first chunk given the name",
}


def trained_weights(model: StackedModel, run: Run, corpus_reader: CorpusReader) -> PreparedModel:
    """Return the model unchanged, in float32 whatever dtype it was trained in."""
    device = model.flat.device
    return PreparedModel(lambda tokens_PS: model.logits(tokens_PS.unsqueeze(0).to(device)), {})


SKIPPED_OUTPUTS: Mapping[Probe, tuple[str, ...]] = {
    "without_last_mlp": (".linear_fc2.",),
    "without_last_attention": (".linear_proj.",),
    "without_last_layer": (".linear_proj.", ".linear_fc2."),
}
"""Parts of the names of the output weights that are zero if a part of the last layer is skipped."""


def without_last(
    probe: Probe, model: StackedModel, run: Run, corpus_reader: CorpusReader
) -> PreparedModel:
    """Return the model without the last layer's MLP, attention, or both.

    Their outputs are added to the residual stream, so weights and biases of zero skip them.
    """
    layer = f".layers.{run.architecture.num_layers - 1}."
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if layer in name and any(part in name for part in SKIPPED_OUTPUTS[probe]):
                parameter.zero_()
    return trained_weights(model, run, corpus_reader)


def evaluate(
    run_folder: Path,
    corpus_folder: Path,
    precision: Precision,
    evaluation: Evaluation,
    output: Path,
    *,
    backend: LogitsBackend,
    num_threads: int = 1,
) -> None:
    """Compute the losses of a run and write them to ``losses.nc``.

    Parameters
    ----------
    run_folder
        Folder of the run, as :func:`knowcap.training.train.train` published it.
    corpus_folder
        Folder of the corpus that the run was trained on.
    precision
        Name of the precision, written into the file.
    evaluation
        Evaluated people and prompt templates.
    output
        The file to write.
    backend
        Converts the model to the precision: ``PRECISION_BACKENDS[precision].load()`` of
        :mod:`knowcap.stages.precisions`.
    num_threads
        CPU threads of torch.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the run was trained on another corpus.
    """
    run, corpus_reader, model = load_run(run_folder, corpus_folder, num_threads)
    logits, attrs = with_nan_for_diverged(backend)(model, run, corpus_reader)
    num_logits = len(run.replicates.pairs) * corpus_reader.vocab_size
    batch_tokens = BATCH_LOGITS[model.flat.device.type] // num_logits
    num_positions = corpus_reader.biographies_per_window(
        run.optimization.seq_length, run.optimization.windows
    )
    losses = compute_losses(corpus_reader, logits, evaluation, batch_tokens, num_positions)
    seeds, lrs = zip(*run.replicates.pairs, strict=True)
    losses = losses.assign_coords(seed=("replicate", list(seeds)), lr=("replicate", list(lrs)))
    losses.attrs.update(run=run_folder.name, precision=precision, **attrs)
    write_dataset(losses, output)


def compute_losses(
    corpus_reader: CorpusReader,
    logits: LogitsFunction,
    evaluation: Evaluation,
    batch_tokens: int,
    num_positions: int = 1,
) -> xr.Dataset:
    """Compute the losses of names and values from a function that gives logits.

    Parameters
    ----------
    corpus_reader
        Builds the prompts.
    logits
        The model.
    evaluation
        Evaluated people and prompt templates.
    batch_tokens
        Largest number of tokens of a batch, unless a single prompt has more.
    num_positions
        Biographies of a training window.

    Returns
    -------
    xr.Dataset
        In nats: ``name_loss``, ``name_loss_strict``, ``name_loss_in_window`` and, unless junk
        cannot be told apart, ``name_loss_given_useful`` with dims (replicate, person);
        ``value_loss``, ``value_loss_strict``, ``value_loss_in_context``,
        ``value_loss_chain_rule`` and, for bioD, ``first_chunk_loss`` with dims (replicate,
        person, attribute).
    """
    # PAPER 3: losses are means over the people that were trained on; none is held out
    people = np.arange(min(evaluation.num_people, corpus_reader.corpus.knowledge.num_people))
    prompt_builders = {
        "name": corpus_reader.name_prompts,
        # ASSUME: each value is predicted in a prompt of its own, right after the name. In a whole
        # biography an earlier sentence can reveal it: a company's city reveals the company.
        "value": corpus_reader.attribute_prompts,
        "context": corpus_reader.biography_prompts,
    }
    if num_positions > 1:
        prompt_builders["later_name"] = partial(
            corpus_reader.later_name_prompts, num_positions=num_positions
        )
    parts: dict[str, list[FactLosses]] = {kind: [] for kind in prompt_builders}
    for block in np.split(people, range(PEOPLE_BLOCK, people.size, PEOPLE_BLOCK)):
        for kind, build_prompts in prompt_builders.items():
            prompts = build_prompts(block, evaluation.seed)
            losses = token_losses(prompts, logits, batch_tokens)
            parts[kind].append(fact_losses(prompts, losses, block, len(corpus_reader.fields)))
        _log.info("evaluated %d of %d people", block[-1] + 1, people.size)
    losses_of = {
        kind: FactLosses(*(np.concatenate(arrays, 1) for arrays in zip(*blocks, strict=True)))
        for kind, blocks in parts.items()
    }
    value, context = losses_of["value"], losses_of["context"]
    losses_RNA = {
        "value_loss": value.plain,
        "value_loss_strict": value.strict,
        "value_loss_in_context": context.plain,
        "value_loss_chain_rule": context.chain,
    }
    if corpus_reader.corpus.knowledge.kind == "bioD":
        losses_RNA["first_chunk_loss"] = value.first_chunk
    return _dataset(
        _name_losses(losses_of, corpus_reader.corpus.mixture, num_positions),
        {kind: losses_RNF[:, :, 1:] for kind, losses_RNF in losses_RNA.items()},
        people,
        corpus_reader.fields[1:],
    )


def _name_losses(
    losses_of: Mapping[str, FactLosses], mixture: Mixture | None, num_positions: int
) -> dict[str, Float64]:
    """Losses of names [R, N] at the start of a window and within it.

    At the start of a window useful biographies and junk begin alike, without a domain token. Later
    the biographies before show which kind the window is, as windows are all useful or all junk.
    """
    first = losses_of["name"].plain[:, :, 0]
    losses = {"name_loss": first, "name_loss_strict": losses_of["name"].strict[:, :, 0]}
    if num_positions > 1:
        later = losses_of["later_name"].plain[:, :, 0]
        in_window = (first + (num_positions - 1) * later) / num_positions
        return losses | {"name_loss_in_window": in_window, "name_loss_given_useful": later}
    losses["name_loss_in_window"] = first
    if mixture is None or mixture.domain_token:
        losses["name_loss_given_useful"] = first
    return losses


def _dataset(
    by_person: Mapping[str, Float64],
    by_attribute: Mapping[str, Float64],
    people: Int64,
    attributes: tuple[str, ...],
) -> xr.Dataset:
    """Return the losses as a dataset with dimensions, units and long names."""
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
