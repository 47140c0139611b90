"""Losses of facts, from prompts and whatever answers them with logits.

A fact's loss is the sum, never the mean, of the cross-entropies of exactly its tokens (paper,
section 3), so it does not depend on how many tokens a fact has.

Shapes: R replicates, P prompts (of a batch), S positions, V vocabulary, M marked tokens, N people,
F fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowcap.data.prompts import Prompts

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

Logits = Callable[[Tensor], Tensor]
"""Logits [R, P, S, V] of the tokens that follow each of [P, S]."""


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
