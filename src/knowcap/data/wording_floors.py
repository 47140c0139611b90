"""Bits of a value's loss that no knowledge saves, because other sentences begin alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knowcap.data.token_templates import Int64

Float64 = NDArray[np.float64]

Tokens = tuple[int, ...]


def same_beginnings(heads: Sequence[Tokens], attribute: Int64) -> list[tuple[list[int], list[int]]]:
    """For each sentence template, those that begin like it, and those of them that state the same.

    Parameters
    ----------
    heads
        Tokens between subject and value of each sentence template.
    attribute
        Attribute of each sentence template.
    """
    found = []
    for each, head in enumerate(heads):
        alike = [other for other, text in enumerate(heads) if text[: len(head)] == head]
        same = [o for o in alike if heads[o] == head and attribute[o] == attribute[each]]
        found.append((alike, same))
    return found


def value_shares(heads: Sequence[Tokens], attribute: Int64, weight: Int64) -> Float64:
    """Probability that a value of the attribute follows each template's head.

    After "was born in" some templates continue with the value and others with more words.

    Parameters
    ----------
    heads, attribute
        See :func:`same_beginnings`.
    weight
        Relative frequency of each template.
    """
    shares = [
        weight[same].sum() / weight[alike].sum()
        for alike, same in same_beginnings(heads, attribute)
    ]
    return np.array(shares)


def end_shares(heads: Sequence[Tokens], tails: Sequence[Tokens], attribute: Int64) -> Float64:
    """Probability that the sentence ends after each template's tail, given its head and tail."""
    shares = []
    for tail, (_, same) in zip(tails, same_beginnings(heads, attribute), strict=True):
        longer = [other for other in same if tails[other][: len(tail)] == tail]
        shares.append(sum(tails[other] == tail for other in longer) / len(longer))
    return np.array(shares)
