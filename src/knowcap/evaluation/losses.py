"""Losses of prompt tokens, and their sums over the tokens of a name or value.

The loss of a name or value is the sum of the cross-entropies of its tokens, not their mean (paper,
section 3). It does not depend on how the tokenizer splits it.

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

LogitsFunction = Callable[[Tensor], Tensor]
"""Maps tokens [P, S] to the logits [R, P, S, V] of the token after each."""


class TokenLosses(NamedTuple):
    """Losses of the marked tokens of prompts."""

    loss: Float64
    """[R, M], in nats."""
    row: Int64
    """[M], index of the token's prompt."""
    column: Int64
    """[M], position of the token in its prompt."""


class FactLosses(NamedTuple):
    """Losses by person and field, each [R, N, F] in nats."""

    plain: Float64
    """Sum over the field's tokens; NaN if no prompt has the field."""
    strict: Float64
    """`plain` and the loss of the token that ends the value."""
    chain: Float64
    """`plain` and the loss of values that reveal this one, by the chain rule."""
    first_chunk: Float64
    """Sum over the tokens of a bioD value's first chunk."""


def token_losses(prompts: Prompts, logits: LogitsFunction, batch_tokens: int) -> TokenLosses:
    """Compute the loss of every marked token of the prompts.

    The loss is -log of the summed probability of the accepted tokens, given that the token is one
    of a set if the prompt says so. Prompts are batched by
    length, so that batches have little padding.
    """
    marked_PS = prompts.is_marked
    assert not marked_PS[:, 0].any(), "the first token of a prompt has no loss"
    width_P = marked_PS.shape[1] - np.argmax(marked_PS[:, ::-1], axis=1)
    accept_sets = torch.from_numpy(prompts.accept_sets)
    parts = []
    for rows in _batches(width_P, batch_tokens):
        columns = slice(1, width_P[rows].max())
        row_M, column_M = np.nonzero(marked_PS[rows, columns])
        tokens_PS = torch.from_numpy(prompts.tokens[rows, : columns.stop].astype(np.int64))
        with torch.no_grad():  # the model may cache tensors that training uses too
            logits_RPSV = logits(tokens_PS[:, :-1])
            log_probs_RMV = logits_RPSV[:, row_M, column_M].float().log_softmax(-1)
            loss_RM = _cross_entropy(
                log_probs_RMV,
                tokens_PS[:, 1:][row_M, column_M].to(log_probs_RMV.device),
                torch.from_numpy(prompts.accept[rows, columns][row_M, column_M]),
                torch.from_numpy(prompts.given[rows, columns][row_M, column_M]),
                accept_sets,
            )
        parts.append((loss_RM.double().cpu().numpy(), rows[row_M], column_M + 1))
    return TokenLosses(*(np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True)))


def _batches(width_P: Int64, batch_tokens: int) -> Iterator[Int64]:
    """Yield the prompt rows of each batch, shortest prompts first."""
    rows = np.argsort(width_P, kind="stable")
    while rows.size:
        tokens = width_P[rows] * np.arange(1, rows.size + 1)
        number = max(1, int(np.searchsorted(tokens, batch_tokens, side="right")))
        yield rows[:number]
        rows = rows[number:]


def _cross_entropy(
    log_probs_RMV: Tensor, token_M: Tensor, accept_M: Tensor, given_M: Tensor, accept_sets: Tensor
) -> Tensor:
    """Return -log of the probability [R, M] of each token, or of its set of accepted tokens."""
    log_prob_RM = log_probs_RMV[:, torch.arange(len(token_M)), token_M]
    for set_M, sign in ((accept_M, 1), (given_M, -1)):
        with_set_M = torch.nonzero(set_M >= 0).squeeze(1)
        if not len(with_set_M):
            continue
        outside_MV = ~accept_sets[set_M[with_set_M].long()].to(log_probs_RMV.device)
        inside_RMV = log_probs_RMV[:, with_set_M].masked_fill(outside_MV, -torch.inf)
        total_RM = inside_RMV.logsumexp(-1)
        if sign > 0:
            log_prob_RM[:, with_set_M] = total_RM
        else:
            log_prob_RM[:, with_set_M] -= total_RM
    # Rounding can make the sum of the probabilities slightly larger than 1.
    return -log_prob_RM.clamp(max=0)


def fact_losses(
    prompts: Prompts, losses: TokenLosses, people: Int64, num_fields: int
) -> FactLosses:
    """Sum the losses of tokens by person and field.

    Parameters
    ----------
    prompts
        Prompts about `people` only.
    losses
        Losses of the prompts' marked tokens.
    people
        [N], ascending.
    num_fields
        F, the name included.
    """
    at = (losses.row, losses.column)
    field_M, strict_M, chain_M = (
        marks[at] for marks in (prompts.field, prompts.strict_field, prompts.chain_field)
    )
    cell_M = np.searchsorted(people, prompts.person)[losses.row] * num_fields

    def total(field_M: NDArray[np.int8], counts_M: NDArray[np.bool_]) -> Float64:
        cells = (cell_M + field_M)[counts_M]
        sums = np.zeros((len(losses.loss), people.size * num_fields))
        for sum_C, loss_M in zip(sums, losses.loss, strict=True):
            np.add.at(sum_C, cells, loss_M[counts_M])
        return sums.reshape(-1, people.size, num_fields)

    plain = total(field_M, field_M >= 0)
    num_tokens = np.bincount((cell_M + field_M)[field_M >= 0], minlength=people.size * num_fields)
    plain[:, num_tokens.reshape(people.size, num_fields) == 0] = np.nan
    return FactLosses(
        plain=plain,
        strict=plain + total(strict_M, strict_M >= 0),
        chain=plain + total(chain_M, chain_M >= 0),
        first_chunk=total(field_M, prompts.first_chunk[at]),
    )
