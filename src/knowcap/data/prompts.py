"""Questions: token rows that ask what a model knows of each person, and where the answers are.

A fact is scored by the cross-entropy summed over exactly its tokens (paper, section 3). A prompt
marks these tokens; it also marks the token behind, whose loss the strict reading adds because
the tokens of "Hall" alone may be how "Hallam" begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowcap.data.biography_writer import Passage
from knowcap.data.token_templates import Int32, Int64
from knowcap.data.tokenizer import END

EMPTY: dict[str, int] = {
    "tokens": END,
    "field": -1,
    "first_chunk": False,
    "strict_field": -1,
    "accept": -1,
}
"""What a column holds behind the end of a row, or where there is nothing to mark."""


@dataclass(frozen=True)
class Prompts:
    """P rows of S tokens and their marks.

    A marked column j is predicted from the columns before j; its loss is the negative log of the
    summed probability of all accepted tokens.
    """

    person: Int64
    """[P], who is asked about."""
    tokens: Int32
    """[P, S], padded at the right with the end of text."""
    field: NDArray[np.int8]
    """[P, S], the field whose loss counts this token, -1 for none."""
    first_chunk: NDArray[np.bool_]
    """[P, S], whether the token is in the first chunk of a bioD value."""
    strict_field: NDArray[np.int8]
    """[P, S], the field whose strict loss counts this token too, -1 for none."""
    accept: NDArray[np.int16]
    """[P, S], index of the set of accepted tokens, -1 where that is the token itself."""
    accept_sets: NDArray[np.bool_]
    """[sets, vocab_size], which tokens each set has."""


def prompts(person: Int64, passages: Iterable[Passage], accept_sets: NDArray[np.bool_]) -> Prompts:
    """Prompts of some passages about the same people, passage after passage."""
    parts = [_columns(passage) for passage in passages]
    width = max(part["tokens"].shape[1] for part in parts)
    columns = {
        name: np.concatenate([_widened(part[name], width, EMPTY[name]) for part in parts])
        for name in EMPTY
    }
    return Prompts(person=np.tile(person, len(parts)), accept_sets=accept_sets, **columns)


def _columns(passage: Passage) -> dict[str, NDArray[Any]]:
    """Tokens and their marks, from those of their fragments; cut behind the last mark."""
    lengths = passage.fragments.lengths[passage.numbers]
    fragment = np.repeat(np.arange(lengths.size), lengths.ravel())
    is_first = np.diff(fragment, prepend=-1) > 0
    flat: dict[str, NDArray[Any]] = {
        "tokens": passage.fragments.assembled(passage.numbers),
        "field": passage.field.ravel()[fragment],
        "first_chunk": passage.first_chunk.ravel()[fragment],
        "strict_field": np.where(is_first, passage.strict.ravel()[fragment], np.int8(-1)),
        "accept": np.where(is_first, passage.accept.ravel()[fragment], -1).astype(np.int16),
    }
    row_lengths = lengths.sum(axis=1)
    row, column = np.nonzero(np.arange(row_lengths.max()) < row_lengths[:, None])
    marked = (flat["field"] >= 0) | (flat["strict_field"] >= 0)
    kept = column <= column[marked].max()
    shape = (row_lengths.size, int(column[kept].max()) + 1)
    columns = {name: np.full(shape, EMPTY[name], dtype=flat[name].dtype) for name in flat}
    for name, values in flat.items():
        columns[name][row[kept], column[kept]] = values[kept]
    return columns


def _widened(columns: NDArray[Any], width: int, empty: int) -> NDArray[Any]:
    """Columns up to a width."""
    return np.pad(columns, [(0, 0), (0, width - columns.shape[1])], constant_values=empty)
