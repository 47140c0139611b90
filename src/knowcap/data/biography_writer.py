"""What every kind of biography offers: its fragments, and where its facts stand.

A writer turns people into rows of fragment numbers (:mod:`knowcap.data.token_templates`). Streams need
nothing else; prompts also ask which fragments spell which fact.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from knowcap.data.token_templates import Fragments, Int32, Int64

Marks = NDArray[np.int8]

NAME = slice(1, 4)
"""Columns of a biography that hold the name; its opening stands before it."""

BLOCK = 2048
"""People looked at together when a population is read through."""


class Passage(NamedTuple):
    """Biographies, or how they begin, in fragments; all other arrays are [people, fragments].

    Marks are -1 where there is nothing to mark.
    """

    fragments: Fragments
    """The texts that numbers stand for."""
    numbers: Int64
    """The fragments of each biography."""
    field: Marks
    """The field that a fragment spells."""
    strict: Marks
    """The field whose end the fragment's first token shows."""
    accept: Marks
    """The set of tokens that are as good as the fragment's first one."""
    first_chunk: NDArray[np.bool_]
    """Whether the fragment is the first chunk of a value."""

    @classmethod
    def unmarked(cls, fragments: Fragments, numbers: Int64) -> Passage:
        """A passage whose marks are still to be set."""
        field, strict, accept = (np.full(numbers.shape, -1, dtype=np.int8) for _ in range(3))
        return cls(fragments, numbers, field, strict, accept, np.zeros(numbers.shape, dtype=bool))

    def up_to(self, column: int) -> Passage:
        """The passage before a column."""
        return Passage(
            self.fragments,
            self.numbers[:, :column],
            self.field[:, :column],
            self.strict[:, :column],
            self.accept[:, :column],
            self.first_chunk[:, :column],
        )

    def mark_name(self, follower: int) -> None:
        """Mark the name, which follows the end of text; a set of tokens can stand behind it."""
        self.field[:, NAME] = 0
        self.strict[:, NAME.stop] = 0
        self.accept[:, NAME.stop] = follower


class Lengths(NamedTuple):
    """How long a random wording is, in tokens."""

    mean: float
    shortest: int
    """None has fewer."""
    longest: int
    """None has more."""


class Writer(ABC):
    """A way to write people down."""

    fragments: Fragments
    """Everything that biographies are written with; fragment 0 is the end of text."""
    opening: int = 0
    """Fragment that every biography begins with: the end of text, or more than that."""
    attributes: dict[str, int]
    """Independent attributes and their cardinalities, in order."""
    accept_sets: list[Int32]
    """Sets of tokens that a passage's `accept` refers to."""
    common: Int64
    """Fragments that count as used by any population."""
    personal: Int64
    """Fragments that are used if somebody is called so, or has such a value."""
    period: int | None
    """Exposures after which each person's biographies have the same lengths again; None is never,
    as every exposure is worded at random."""

    def opened_by(self, token: int) -> Self:
        """The same writer with a token in front of every biography, behind the end of text."""
        writer = copy.copy(self)
        opening = Fragments.from_lists([[int(self.fragments.tokens[0]), token]])
        writer.fragments = self.fragments.followed_by(opening)
        writer.opening = len(self.fragments.lengths)
        return writer

    @property
    def opening_tokens(self) -> int:
        """Tokens before the name."""
        return int(self.fragments.lengths[self.opening])

    @property
    def fields(self) -> tuple[str, ...]:
        """What passages mark: the name, then the attributes."""
        return ("name", *self.attributes)

    @abstractmethod
    def known(self, person: Int64) -> Int64:
        """Fragments of the name and the values of each person, [people, facts]."""

    @abstractmethod
    def written(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Each person's biography as it is written in an exposure, [people, fragments].

        Parameters
        ----------
        person, exposure
            One of each for each biography.
        seed
            Of the stream that the exposures belong to.
        """

    @abstractmethod
    def wording_tokens(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Tokens of the same biographies that spell neither name nor value, the opening too."""

    def wording_lengths(self) -> Lengths:
        """Of :meth:`wording_tokens` over all wordings, for writers without a period."""
        raise NotImplementedError

    @abstractmethod
    def name_passage(self, person: Int64, seed: int) -> Passage:
        """Each person's name with nothing before it and one fragment after it."""

    @abstractmethod
    def attribute_passages(self, person: Int64, seed: int) -> Iterator[Passage]:
        """Passages that together ask for every attribute of each person."""

    @abstractmethod
    def biography_passage(self, person: Int64, seed: int) -> Passage:
        """Each person's whole biography, every fact marked where it stands."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """No biography with its opening has more tokens."""

    def used(self, num_people: int) -> Int32:
        """Tokens that biographies of the first `num_people` people are written in, sorted."""
        occurs = np.zeros(len(self.fragments.lengths), dtype=bool)
        occurs[self.common] = occurs[self.opening] = True
        for person in blocks(num_people):
            if occurs[self.personal].all():
                break
            occurs[self.known(person)] = True
        return np.unique(self.fragments.assembled(np.flatnonzero(occurs)))

    def known_tokens(self, num_people: int) -> int:
        """Tokens of the names and values of the first `num_people` people."""
        lengths = self.fragments.lengths
        return sum(int(lengths[self.known(person)].sum()) for person in blocks(num_people))

    def _first_tokens(self, *sets: Int64) -> list[Int32]:
        """The tokens that each of some sets of fragments can begin with."""
        return [np.unique(self.fragments.tokens[self.fragments.starts[each]]) for each in sets]


def blocks(num_people: int) -> Iterator[Int64]:
    """The people 0 .. num_people - 1, a block at a time."""
    for start in range(0, num_people, BLOCK):
        yield np.arange(start, min(start + BLOCK, num_people))
