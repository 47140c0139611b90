"""Memorisable and extractable accuracy of a run (paper, appendix A.2).

Shapes: R replicates, P rows, S positions, A attributes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from knowcap.artifacts.files import FORMAT, write_dataset
from knowcap.config import Run
from knowcap.data.corpus import CorpusReader
from knowcap.data.questions import Questions, build_questions, num_new_tokens
from knowcap.errors import UserError
from knowcap.evaluation.evaluate import BATCH_LOGITS
from knowcap.evaluation.lora import Ranks, add_lora
from knowcap.evaluation.losses import LogitsFunction
from knowcap.evaluation.trained_run import load_run
from knowcap.model.stacked_model import StackedModel, build_model

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

NOT_ASKED = frozenset({"gender"})
"""Attributes that no accuracy counts."""  # PAPER A.2: five attributes of bioS.

LONG_NAMES = {
    "memorisable_accuracy": "share of values predicted greedily in biographies",
    "first_token_accuracy": "share of values whose first token is predicted greedily there",
    "extractable_accuracy": "share of right answers about people without questions in fine-tuning",
    "trained_accuracy": "share of right answers about people with questions in fine-tuning",
}

_log = logging.getLogger(__name__)


class FineTuning(NamedTuple):
    """Settings of the fine-tuning on questions."""

    ranks: Ranks
    num_steps: int
    lr: float
    """Peak learning rate; it falls linearly to zero, without warm-up."""
    batch_size: int = 96  # PAPER A.2
    weight_decay: float = 0.1  # PAPER A.2
    seed: int = 0
    """Seed of the halves of people, the batches and the low-rank matrices."""


def write_accuracy(
    run_folder: Path,
    corpus_folder: Path,
    fine_tuning: FineTuning,
    output: Path,
    *,
    num_people: int,
    num_threads: int = 1,
) -> xr.Dataset:
    """Write the accuracies of a run as netCDF, and return them.

    Parameters
    ----------
    run_folder, corpus_folder
        A finished run and its corpus.
    fine_tuning
        Settings of the fine-tuning on questions.
    output
        The file to write.
    num_people
        People that are evaluated, or all if there are fewer.
    num_threads
        CPU threads of torch.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the run was trained on another corpus.
    """
    run, corpus_reader, model = load_run(run_folder, corpus_folder, num_threads)
    people = np.arange(min(num_people, run.corpus.knowledge.num_people))
    if people.size < 2:
        raise UserError(f"--num-people: {people.size} is too few, questions need two halves")
    attributes = [name for name in corpus_reader.fields[1:] if name not in NOT_ASKED]
    questions = build_questions(corpus_reader, people, attributes, fine_tuning.seed)
    accuracies = memorisable_accuracy(model, corpus_reader, people, attributes, fine_tuning.seed)
    accuracies |= extractable_accuracy(model, run, questions, attributes, fine_tuning)
    is_diverged = ~np.isfinite(model.flat.detach().cpu().numpy()).all(1)
    seeds, lrs = zip(*run.replicates.pairs, strict=True)
    dims = ("replicate", "attribute")
    dataset = xr.Dataset(
        {
            name: (
                dims,
                np.where(is_diverged[:, None], np.nan, values),
                {"units": "1", "long_name": LONG_NAMES[name]},
            )
            for name, values in accuracies.items()
        },
        coords={
            "attribute": attributes,
            "seed": ("replicate", list(seeds)),
            "lr": ("replicate", list(lrs)),
        },
        attrs={"Conventions": "CF-1.11", "format": FORMAT, "run": run_folder.resolve().name}
        | {"num_people": people.size, "embedding_rank": fine_tuning.ranks.embedding}
        | {"attention_rank": fine_tuning.ranks.attention, "fine_tuning_lr": fine_tuning.lr}
        | {"num_steps": fine_tuning.num_steps, "fine_tuning_seed": fine_tuning.seed},
    )
    write_dataset(dataset, output)
    return dataset


def memorisable_accuracy(
    model: StackedModel,
    corpus_reader: CorpusReader,
    person_ids: NDArray[np.int64],
    attributes: Sequence[str],
    seed: int,
) -> dict[str, Floats]:
    """Shares of values that a model predicts greedily in whole biographies, each [R, A].

    A biography is read up to the value, as in training. The seed chooses its wording and order.
    """
    prompts = corpus_reader.biography_prompts(person_ids, seed)
    hits_RPS = _hits(model, prompts.tokens)
    marks = [prompts.field == corpus_reader.fields.index(name) for name in attributes]
    exact, first = zip(*(shares_right(hits_RPS, marked_PS) for marked_PS in marks), strict=True)
    return {
        "memorisable_accuracy": np.stack(exact, 1),
        "first_token_accuracy": np.stack(first, 1),
    }


def extractable_accuracy(
    model: StackedModel,
    run: Run,
    questions: Questions,
    attributes: Sequence[str],
    settings: FineTuning,
) -> dict[str, Floats]:
    """Shares of right answers after fine-tuning on questions about half of the people, [R, A].

    Parameters
    ----------
    model
        The trained replicates; they are not changed.
    run
        Record of the run.
    questions
        Questions about all people.
    attributes
        The A attributes that are asked.
    settings
        Settings of the fine-tuning.
    """
    rng = np.random.default_rng(settings.seed)
    people = rng.permutation(np.unique(questions.person))
    is_trained = np.isin(questions.person, people[: people.size // 2])
    torch.manual_seed(settings.seed)
    num_tokens = num_new_tokens(attributes)
    tuned = _with_new_tokens(model, run, num_tokens)
    _fine_tune(tuned, questions.select(is_trained), num_tokens, settings, rng)
    hits_RPS = _hits(tuned, questions.tokens)
    found = {}
    for name, rows in (("extractable_accuracy", ~is_trained), ("trained_accuracy", is_trained)):
        shares = []
        for attribute in range(len(attributes)):
            own = rows & (questions.attribute == attribute)
            shares.append(shares_right(hits_RPS, questions.is_value & own[:, None])[0])
        found[name] = np.stack(shares, 1)
    return found


def greedy_hits(
    tokens_PS: NDArray[np.int32], logits: LogitsFunction, batch_size: int = 1024
) -> Bools:
    """Whether each token is the likeliest one after the tokens before it, [R, P, S].

    If all tokens of a value are, greedy decoding spells it.
    """
    tokens = torch.from_numpy(tokens_PS.astype(np.int64))
    parts = []
    with torch.no_grad():
        for rows in tokens.split(batch_size):
            likeliest_RPS = logits(rows[:, :-1]).argmax(-1).cpu()
            parts.append((likeliest_RPS == rows[:, 1:]).numpy())
    hits = np.concatenate(parts, 1)
    return np.concatenate([np.zeros_like(hits[:, :, :1]), hits], 2)


def shares_right(hits_RPS: Bools, marked_PS: Bools) -> tuple[Floats, Floats]:
    """Shares of the rows with marks in which all marked tokens, or the first one, are hits, [R]."""
    rows = marked_PS.any(1)
    hits, marked = hits_RPS[:, rows], marked_PS[rows]
    first = marked.argmax(1)
    is_first_right = hits[:, np.arange(len(first)), first]
    return (hits | ~marked).all(2).mean(1), is_first_right.mean(1)


def _hits(model: StackedModel, tokens_PS: NDArray[np.int32]) -> Bools:
    """:func:`greedy_hits` in batches whose logits fit into memory."""
    row_logits = tokens_PS.shape[1] * math.prod(model.embedding.word_embeddings.weight.shape[:2])
    batch_size = max(1, BATCH_LOGITS[model.flat.device.type] // row_logits)
    return greedy_hits(tokens_PS, _logits(model), batch_size)


def _logits(model: StackedModel) -> LogitsFunction:
    device = model.flat.device
    return lambda tokens_PS: model.logits(tokens_PS.unsqueeze(0).to(device))


def _with_new_tokens(model: StackedModel, run: Run, num_tokens: int) -> StackedModel:
    """Copy of a model with more tokens, whose embeddings are drawn like those of the others."""
    vocab_size = model.embedding.word_embeddings.weight.shape[1] + num_tokens
    seeds = [seed for seed, _ in run.replicates.pairs]
    larger = build_model(
        run.architecture,
        vocab_size,
        seeds,
        model.flat.device,
        torch.float32,
        reset_attention_mask=model.reset_attention_mask,
    )
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        for name, value in larger.named_parameters():
            old = parameters[name]
            value[:, : old.shape[1]].copy_(old)
            if value.shape != old.shape:
                noise = torch.randn(num_tokens, old.shape[2]).to(old)
                value[:, old.shape[1] :] = old.mean(1, True) + noise * old.std(1, keepdim=True)
    return larger


def _fine_tune(
    model: StackedModel,
    questions: Questions,
    num_tokens: int,
    settings: FineTuning,
    rng: np.random.Generator,
) -> None:
    """Train low-rank updates on the answers of questions."""
    parameters = add_lora(model, settings.ranks, num_tokens)
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, settings.num_steps)
    logits = _logits(model)
    for step in range(settings.num_steps):
        chosen = rng.choice(len(questions.tokens), settings.batch_size)
        batch = questions.select(chosen)
        tokens_PS = torch.from_numpy(batch.tokens.astype(np.int64))
        row, column = np.nonzero(batch.is_answer)
        logits_RMV = logits(tokens_PS[:, :-1])[:, row, column - 1]
        targets_M = tokens_PS[row, column].to(logits_RMV.device)
        # The losses of replicates add up, which keeps their gradients apart.
        loss = torch.stack([cross_entropy(each, targets_M) for each in logits_RMV]).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, settings.num_steps // 10) == 0:
            mean = float(loss.detach()) / len(logits_RMV)
            _log.info("fine-tuning step %d: loss %.3f nats a token", step + 1, mean)
