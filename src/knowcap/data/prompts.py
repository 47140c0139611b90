"""Prompts: token rows about people, with marks on the tokens whose losses count.

A fact's loss is the cross-entropy summed over exactly its tokens (paper, section 3). The strict
loss adds the token after them, because the tokens of "Hall" may also begin "Hallam".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowcap.data.biography_writer import TemplatePrompts
from knowcap.data.token_templates import Int32, Int64
from knowcap.data.tokenizer import END_OF_TEXT_ID

FILL_VALUES: dict[str, int] = {
    "tokens": END_OF_TEXT_ID,
    "field": -1,
    "first_chunk": False,
    "strict_field": -1,
    "accept": -1,
    "given": -1,
    "chain_field": -1,
}
"""Value of each array of :class:`Prompts` after the end of a row and at unmarked tokens."""


@dataclass(frozen=True)
class Prompts:
    """P rows of S tokens and their marks.

    A marked column j is predicted from the columns before j. Its loss is the negative logarithm
    of the summed probability of all accepted tokens, divided by that of all tokens in `given`.
    """

    person: Int64
    """[P], the person that each row is about."""
    tokens: Int32
    """[P, S], padded on the right with the end of text."""
    field: NDArray[np.int8]
    """[P, S], the field whose loss includes the token, -1 for none."""
    first_chunk: NDArray[np.bool_]
    """[P, S], whether the token is in the first chunk of a bioD value."""
    strict_field: NDArray[np.int8]
    """[P, S], the field whose strict loss includes the token as well, -1 for none."""
    accept: NDArray[np.int16]
    """[P, S], index of the set of accepted tokens, -1 if only the token itself is accepted."""
    given: NDArray[np.int16]
    """[P, S], index of the set of tokens that the probability is conditional on, -1 for all."""
    chain_field: NDArray[np.int8]
    """[P, S], the field whose chain-rule loss includes the token as well, -1 for none."""
    accept_sets: NDArray[np.bool_]
    """[sets, vocab_size], whether each set contains each token."""

    @property
    def is_marked(self) -> NDArray[np.bool_]:
        """[P, S], whether a loss includes the token."""
        return (self.field >= 0) | (self.strict_field >= 0) | (self.chain_field >= 0)

    def after(self, contexts: Sequence[Int32]) -> Prompts:
        """Return the prompts after other tokens, which have no loss; one context for each row."""
        starts = np.array([len(context) for context in contexts])
        width = int(starts.max()) + self.tokens.shape[1]
        columns = starts[:, None] + np.arange(self.tokens.shape[1])
        arrays = {}
        for name, fill_value in FILL_VALUES.items():
            array = getattr(self, name)
            moved = np.full((len(array), width), fill_value, dtype=array.dtype)
            np.put_along_axis(moved, columns, array, axis=1)
            arrays[name] = moved
        for row, context in zip(arrays["tokens"], contexts, strict=True):
            row[: len(context)] = context
        return dataclasses.replace(self, **arrays)


def build_prompts(
    person_ids: Int64, parts: Iterable[TemplatePrompts], accept_sets: NDArray[np.bool_]
) -> Prompts:
    """Convert template prompts about the same people to tokens, part after part."""
    tables = [_expand_templates(part) for part in parts]
    width = max(table["tokens"].shape[1] for table in tables)
    arrays = {
        name: np.concatenate(
            [_pad_columns(table[name], width, FILL_VALUES[name]) for table in tables]
        )
        for name in FILL_VALUES
    }
    return Prompts(person=np.tile(person_ids, len(tables)), accept_sets=accept_sets, **arrays)


def _expand_templates(prompts: TemplatePrompts) -> dict[str, NDArray[Any]]:
    """Arrays of :class:`Prompts` from template ids, cut after the last marked column."""
    lengths = prompts.templates.lengths[prompts.template_ids]
    template = np.repeat(np.arange(lengths.size), lengths.ravel())  # of each token
    is_first = np.diff(template, prepend=-1) > 0
    flat: dict[str, NDArray[Any]] = {
        "tokens": prompts.templates.gather_tokens(prompts.template_ids),
        "field": prompts.field.ravel()[template],
        "first_chunk": prompts.first_chunk.ravel()[template],
        "strict_field": np.where(is_first, prompts.strict_field.ravel()[template], np.int8(-1)),
        "accept": np.where(is_first, prompts.accept.ravel()[template], -1).astype(np.int16),
        "given": np.where(is_first, prompts.given.ravel()[template], -1).astype(np.int16),
        "chain_field": prompts.chain_field.ravel()[template],
    }
    row_lengths = lengths.sum(axis=1)
    row, column = np.nonzero(np.arange(row_lengths.max()) < row_lengths[:, None])
    is_marked = np.any([flat[f"{kind}field"] >= 0 for kind in ("", "strict_", "chain_")], axis=0)
    is_kept = column <= column[is_marked].max()
    shape = (row_lengths.size, int(column[is_kept].max()) + 1)
    arrays = {name: np.full(shape, FILL_VALUES[name], dtype=flat[name].dtype) for name in flat}
    for name, values in flat.items():
        arrays[name][row[is_kept], column[is_kept]] = values[is_kept]
    return arrays


def _pad_columns(array: NDArray[Any], width: int, fill_value: int) -> NDArray[Any]:
    """Array padded on the right to `width` columns."""
    return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=fill_value)
