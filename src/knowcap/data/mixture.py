"""Mixtures of useful biographies and junk: JunkDocuments, MixedStream and MixedDocuments.

A training window is entirely useful or entirely junk (MixedStream), or contains both in a random
order (MixedDocuments). Junk people follow the useful ones in one larger population, so they are
drawn in the same way and share no name or attribute draw with them. Junk biographies are drawn
with replacement until the useful stream ends.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from knowcap.data.biography_writer import BiographyWriter, index_blocks
from knowcap.data.rng import derive_key, permute_indices, random_bits, random_integers
from knowcap.data.token_stream import PADDING, Documents, Position, StreamLength, TokenStream
from knowcap.data.token_templates import Int32, Int64

UNLIMITED = 2**62
"""Number of junk documents, more than any training reads."""


class JunkDocuments(Documents):
    """An unlimited sequence of biographies of people drawn uniformly with replacement."""

    num_documents = UNLIMITED

    def __init__(
        self,
        writer: BiographyWriter,
        first_person: int,
        num_people: int,
        tokens_per_biography: float,
        seed: int,
        reserved_tokens: int | None = None,
    ) -> None:
        super().__init__(writer, tokens_per_biography, seed, reserved_tokens)
        self._first_person = first_person
        self._num_people = num_people
        self._person_key = derive_key(seed, "junk")

    def _locate_documents(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of documents; each document is an exposure of its own."""
        documents = self._document_range(first, count)
        drawn = random_integers(self._num_people, self._person_key, documents)
        return self._first_person + drawn, documents


class MixedDocuments(TokenStream):
    """Useful biographies and junk in one sequence, in a random order.

    Each exposure is a block of documents with every useful person once and junk between them.
    """

    def __init__(
        self,
        writer: BiographyWriter,
        num_people: int,
        num_junk_people: int,
        useful_share: float,
        tokens_per_biography: float,
        exposures: int,
        seed: int,
        reserved_tokens: int | None = None,
    ) -> None:
        super().__init__(writer, num_people, tokens_per_biography, exposures, seed, reserved_tokens)
        self._num_junk_people = num_junk_people
        self._block_size = round(num_people / useful_share)
        self._junk_key = derive_key(seed, "junk")

    @property
    def num_documents(self) -> int:
        """Useful biographies and junk."""
        return self._block_size * self._exposures

    def useful_documents(self, first: int, count: int) -> NDArray[np.bool_]:
        """Whether each document from an index on is useful."""
        return self._locate_documents(first, count)[0] < self._num_people

    def _locate_documents(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of documents; junk is an exposure of its own."""
        documents = self._document_range(first, count)
        exposures, places = np.divmod(documents, self._block_size)
        order_keys = random_bits(self._order_key, exposures)
        places = permute_indices(places, self._block_size, order_keys)
        junk = self._num_people + random_integers(self._num_junk_people, self._junk_key, documents)
        is_useful = places < self._num_people
        return np.where(is_useful, places, junk), np.where(is_useful, exposures, documents)

    def _write(self, person_ids: Int64, exposures: Int64) -> Int64:
        """Biographies of which only useful ones have a domain token."""
        template_ids = super()._write(person_ids, exposures)
        template_ids[person_ids >= self._num_people, 0] = 0
        return template_ids

    @cached_property
    def _num_tokens(self) -> int:
        """Number of tokens, counted document by document."""
        total = 1
        lengths = self._writer.templates.lengths
        for block in index_blocks(self.num_documents):
            person_ids, exposures = self._locate_documents(int(block[0]), block.size)
            total += int(lengths.take(self._write(person_ids, exposures)).sum())
        return total


class MixedStream:
    """All windows of a useful stream, in order, among windows of junk.

    A position holds the number of earlier windows, and the positions in both streams.
    """

    start: Position = (0, *TokenStream.start, *JunkDocuments.start)

    def __init__(
        self, useful: TokenStream, junk: JunkDocuments, useful_share: float, seed: int
    ) -> None:
        self._useful = useful
        self._junk = junk
        self._useful_share = useful_share
        self._order_key = derive_key(seed, "order of windows")

    def length(self, seq_length: int) -> StreamLength:
        """Numbers of windows of `seq_length` tokens, and of tokens in them.

        The tokens of aligned junk are counted by their mean length, which is exact for bioD.
        """
        num_useful, num_tokens = self._useful.length(seq_length)
        num_junk = round(num_useful / self._useful_share) - num_useful
        per_window = self._junk.documents_per_window(seq_length)
        junk_window_tokens = (
            seq_length if per_window is None else per_window * self._junk.tokens_per_biography
        )
        return StreamLength(
            num_useful + num_junk, num_tokens + round(num_junk * junk_window_tokens)
        )

    def useful_mask(self, first: int, count: int, seq_length: int) -> NDArray[np.bool_]:
        """Whether each window from `first` on is useful; shorter at the end."""
        num_useful, num_windows = (
            stream.length(seq_length).num_windows for stream in (self._useful, self)
        )
        windows = np.arange(first, min(first + count, num_windows))
        # PAPER Result 10: windows are entirely useful or entirely junk.
        # ASSUME: windows are in a random order, with exactly the given share of useful ones.
        return permute_indices(windows, num_windows, self._order_key) < num_useful

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Windows from a position on, see :meth:`knowcap.data.token_stream.Stream.windows`."""
        first, *inner = position
        is_useful = self.useful_mask(first, num_windows, seq_length)
        windows = np.full((num_windows, seq_length + 1), PADDING, dtype=np.int32)
        positions = [tuple(inner[:2]), tuple(inner[2:])]
        for index, (documents, rows) in enumerate(
            ((self._useful, np.flatnonzero(is_useful)), (self._junk, np.flatnonzero(~is_useful)))
        ):
            if rows.size:
                windows[rows], positions[index] = documents.windows(
                    rows.size, seq_length, positions[index]
                )
        return windows, (first + is_useful.size, *positions[0], *positions[1])
