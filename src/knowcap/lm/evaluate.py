"""Evaluation: what a trained model loses on each fact, in nats.

All replicates answer the same prompts (:mod:`knowcap.bios.prompts`), each in a fresh context. A
fact's loss is the sum, never the mean, of the cross-entropies of exactly its tokens (paper,
section 3), so it does not depend on how many tokens a fact has. Where the logits come from is one
callable; everything else is the same for any precision, and for a model that a test makes up.

Shapes: R replicates, P prompts (of a batch), S positions, V vocabulary, M marked tokens, N people,
F fields, A attributes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from knowcap.bios.corpus import Biographer, load_corpus
from knowcap.bios.prompts import Prompts
from knowcap.config import Evaluation, Precision, Run
from knowcap.errors import UserError
from knowcap.lm import parallel
from knowcap.lm.checkpoint import load_tensors
from knowcap.lm.model import build_model
from knowcap.lm.publication import MODEL_FILE, RUN_FILE
from knowcap.records import FORMAT, read_json, write_dataset

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

Logits = Callable[[Tensor], Tensor]
"""Logits [R, P, S, V] of the tokens that follow each of [P, S]."""

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


class TokenLosses(NamedTuple):
    """Losses of the marked tokens of prompts."""

    loss: Float64
    """In nats, [R, M]."""
    row: Int64
    """The prompt of each, [M]."""
    column: Int64
    """Its place in the prompt, [M]."""


class FactLosses(NamedTuple):
    """Losses by person and field in nats, each [R, N, F]; NaN where a field was not asked for."""

    plain: Float64
    strict: Float64
    first_chunk: Float64


def evaluate(
    run_folder: Path,
    corpus_folder: Path,
    precision: Precision,
    evaluation: Evaluation,
    output: Path,
    *,
    num_threads: int = 1,
) -> None:
    """Measure a run's losses and write them to ``losses.nc``.

    Parameters
    ----------
    run_folder
        As :func:`knowcap.lm.train.train` published it.
    corpus_folder
        The corpus that the run was trained on.
    precision
        How the weights are stored when the model answers.
    evaluation
        Who is asked, and in which words.
    output
        The file to write.
    num_threads
        Of the CPU.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the corpus is not the run's.
    """
    run = Run.model_validate(read_json(run_folder / RUN_FILE)["record"])
    biographer = load_corpus(corpus_folder)
    if biographer.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus that {run_folder} was trained on")
    torch.set_num_threads(num_threads)
    device = parallel.start()
    logits = LOGITS[precision](run_folder, run, biographer.vocab_size, device)
    num_logits = len(run.replicates.pairs) * biographer.vocab_size
    batch_tokens = BATCH_LOGITS[device.type] // num_logits
    losses = measure(biographer, logits, evaluation, batch_tokens)
    seeds, lrs = zip(*run.replicates.pairs, strict=True)
    losses = losses.assign_coords(seed=("replicate", list(seeds)), lr=("replicate", list(lrs)))
    losses.attrs.update(run=run_folder.name, precision=precision)
    write_dataset(losses, output)


def trained_logits(run_folder: Path, run: Run, vocab_size: int, device: torch.device) -> Logits:
    """Logits of the weights as training left them, in float32 whatever dtype it computed in.

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
    return lambda tokens_PS: model.logits(tokens_PS.unsqueeze(0).to(device))


LOGITS: Mapping[Precision, Callable[[Path, Run, int, torch.device], Logits]] = {
    "trained": trained_logits
}
"""How logits are had of each precision."""


def measure(
    biographer: Biographer, logits: Logits, evaluation: Evaluation, batch_tokens: int
) -> xr.Dataset:
    """Measure the losses of whatever gives logits.

    Parameters
    ----------
    biographer
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
    people = np.arange(min(evaluation.num_people, biographer.corpus.knowledge.num_people))
    ask = {
        "name": biographer.name_prompts,
        # ASSUME: a value is asked for in a prompt of its own, right after the name. In a whole
        # biography an earlier sentence can give it away, as a company's city does its name.
        "value": biographer.attribute_prompts,
        "context": biographer.biography_prompts,
    }
    parts: dict[str, list[FactLosses]] = {kind: [] for kind in ask}
    for block in np.split(people, range(PEOPLE_BLOCK, people.size, PEOPLE_BLOCK)):
        for kind, prompts_about in ask.items():
            prompts = prompts_about(block, evaluation.seed)
            losses = token_losses(prompts, logits, batch_tokens)
            parts[kind].append(fact_losses(prompts, losses, block, len(biographer.fields)))
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
    if biographer.corpus.knowledge.kind == "bioD":
        losses_RNA["first_chunk_loss"] = value.first_chunk
    return _dataset(
        {"name_loss": name.plain[:, :, 0], "name_loss_strict": name.strict[:, :, 0]},
        {kind: losses_RNF[:, :, 1:] for kind, losses_RNF in losses_RNA.items()},
        people,
        biographer.fields[1:],
    )


def token_losses(prompts: Prompts, logits: Logits, batch_tokens: int) -> TokenLosses:
    """Ask for every marked token: the loss is -log of the probability of what is accepted.

    Prompts of like length are asked together, so that little is spent on padding.
    """
    marked_PS = (prompts.field >= 0) | (prompts.strict_field >= 0)
    assert not marked_PS[:, 0].any(), "nothing precedes the first token"
    width_P = marked_PS.shape[1] - np.argmax(marked_PS[:, ::-1], axis=1)
    accept_sets = torch.from_numpy(prompts.accept_sets)
    parts = []
    for rows in _batches(width_P, batch_tokens):
        columns = slice(1, width_P[rows].max())
        row_M, column_M = np.nonzero(marked_PS[rows, columns])
        tokens_PS = torch.from_numpy(prompts.tokens[rows, : columns.stop].astype(np.int64))
        with torch.inference_mode():
            logits_RPSV = logits(tokens_PS[:, :-1])
            log_probs_RMV = logits_RPSV[:, row_M, column_M].float().log_softmax(-1)
            loss_RM = _cross_entropy(
                log_probs_RMV,
                tokens_PS[:, 1:][row_M, column_M].to(log_probs_RMV.device),
                torch.from_numpy(prompts.accept[rows, columns][row_M, column_M]),
                accept_sets,
            )
        parts.append((loss_RM.double().cpu().numpy(), rows[row_M], column_M + 1))
    return TokenLosses(*(np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True)))


def _batches(width_P: Int64, batch_tokens: int) -> Iterator[Int64]:
    """Rows that are asked together, from short ones to long ones."""
    rows = np.argsort(width_P, kind="stable")
    while rows.size:
        tokens = width_P[rows] * np.arange(1, rows.size + 1)
        number = max(1, int(np.searchsorted(tokens, batch_tokens, side="right")))
        yield rows[:number]
        rows = rows[number:]


def _cross_entropy(
    log_probs_RMV: Tensor, token_M: Tensor, accept_M: Tensor, accept_sets: Tensor
) -> Tensor:
    """Negative log of the probability of each token, or of any token of its set."""
    loss_RM = -log_probs_RMV[:, torch.arange(len(token_M)), token_M]
    set_M = torch.nonzero(accept_M >= 0).squeeze(1)
    if len(set_M):
        refused_MV = ~accept_sets[accept_M[set_M].long()].to(log_probs_RMV.device)
        accepted_RMV = log_probs_RMV[:, set_M].masked_fill(refused_MV, -torch.inf)
        # Rounding can make the sum of all probabilities a little more than 1.
        loss_RM[:, set_M] = -accepted_RMV.logsumexp(-1).clamp(max=0)
    return loss_RM


def fact_losses(
    prompts: Prompts, losses: TokenLosses, people: Int64, num_fields: int
) -> FactLosses:
    """Sum the losses of tokens by person and field.

    Parameters
    ----------
    prompts
        What was asked, about `people` and nobody else.
    losses
        Of its marked tokens.
    people
        Ascending.
    num_fields
        F, the name among them.
    """
    at = (losses.row, losses.column)
    field_M, strict_M, is_first_M = (
        prompts.field[at],
        prompts.strict_field[at],
        prompts.first_chunk[at],
    )
    cell_M = np.searchsorted(people, prompts.person)[losses.row] * num_fields

    def total(field_M: NDArray[np.int8], counts_M: NDArray[np.bool_]) -> Float64:
        cells = (cell_M + field_M)[counts_M]
        sums = np.zeros((len(losses.loss), people.size * num_fields))
        for sum_C, loss_M in zip(sums, losses.loss, strict=True):
            np.add.at(sum_C, cells, loss_M[counts_M])
        return sums.reshape(-1, people.size, num_fields)

    plain = total(field_M, field_M >= 0)
    asked = np.bincount((cell_M + field_M)[field_M >= 0], minlength=people.size * num_fields) > 0
    plain[:, ~asked.reshape(people.size, num_fields)] = np.nan
    return FactLosses(
        plain=plain,
        strict=plain + total(strict_M, strict_M >= 0),
        first_chunk=total(field_M, is_first_M),
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
