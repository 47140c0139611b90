"""Streams of training tokens: Stream, Documents, TokenStream and StreamLength.

A stream contains the whole population once per exposure, in a new order each time. Nothing is
stored: any window can be written from its position alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from knowcap.data.biography_writer import BiographyWriter, index_blocks
from knowcap.data.rng import derive_key, permute_indices, random_bits
from knowcap.data.token_templates import Int32, Int64

Position = tuple[int, ...]
"""Position in a stream; the meaning of its numbers depends on the kind of stream."""

BLOCK_TOKENS = 2**17
"""Tokens written at once: enough to hide the overhead of numpy calls, and few enough for the
cache of a core."""

SEARCH_BLOCK_SIZE = 256
"""Documents whose lengths are summed at once in the search for the last one of a block."""

PADDING = -1
"""Token after the end of a stream."""

MAX_COUNTED_DOCUMENTS = 2**27
"""Largest number of random documents that are counted one by one, in 20 s of a core. For more
documents, :meth:`TokenStream.num_tokens` is an upper bound."""

OVERFLOW_PROBABILITY = 1e-12
"""Probability that a stream has more tokens than the bound; training would then stop early."""


class StreamLength(NamedTuple):
    """Numbers of windows and tokens, or upper bounds of them."""

    num_windows: int
    num_tokens: int


class Stream(Protocol):
    """Interface of the streams that training reads."""

    @property
    def start(self) -> Position:
        """Position of the first window."""

    def length(self, seq_length: int) -> StreamLength:
        """Numbers of windows of `seq_length` tokens, and of tokens in them."""

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Windows from a position on, independent of the number requested at once.

        Parameters
        ----------
        num_windows, seq_length
            Number of windows, and of tokens that the model predicts in each.
        position
            Position of the first window.

        Returns
        -------
        Int32
            [num_windows, seq_length + 1], -1 after the end of the stream.
        Position
            Position of the next window.
        """


class Documents(ABC):
    """A sequence of documents, each a biography with its opening, concatenated.

    A position holds the index of a document and the number of its tokens that come before the
    position. The last token of a window is the first of the next. A final end of text closes the
    stream.
    """

    start: Position = (0, 0)

    def __init__(self, writer: BiographyWriter, tokens_per_biography: float, seed: int) -> None:
        self._writer = writer
        self._tokens_per_biography = tokens_per_biography
        self._seed = seed

    @property
    @abstractmethod
    def num_documents(self) -> int:
        """Number of documents."""

    @abstractmethod
    def _locate_documents(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of each of `count` documents from the index `first` on."""

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Consecutive windows, see :meth:`Stream.windows`."""
        tokens = np.full(num_windows * seq_length + 1, PADDING, dtype=np.int32)
        position = self._fill_tokens(tokens, position)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_length + 1)[::seq_length]
        return np.ascontiguousarray(windows), position

    def _fill_tokens(self, tokens: Int32, position: Position) -> Position:
        """Fill in the stream from a position; return the last token's position."""
        document, num_skipped = position
        start = -num_skipped  # index in `tokens` at which the document begins
        while document <= self.num_documents:
            template_ids = self._write_documents(document, tokens.size - start)
            block = self._writer.templates.gather_tokens(template_ids)
            visible = block[max(0, -start) : tokens.size - start]
            tokens[max(0, start) :][: visible.size] = visible
            if start + block.size >= tokens.size:
                last = tokens.size - 1 - start
                row, row_start = self._find_row(last, template_ids, block.size)
                return document + row, last - row_start
            start += block.size
            document += len(template_ids)
        return self.num_documents, 1

    def _find_row(self, token: int, template_ids: Int64, num_tokens: int) -> tuple[int, int]:
        """Row of a block that holds a token, and the row's start.

        The search starts at the end of the block, since the row is one of the last.
        """
        stop, end = len(template_ids), num_tokens
        while True:
            first = max(0, stop - SEARCH_BLOCK_SIZE)
            lengths = self._writer.templates.lengths.take(template_ids[first:stop]).sum(axis=1)
            row_starts = end - lengths[::-1].cumsum()[::-1]
            row = int(np.searchsorted(row_starts, token, side="right")) - 1
            if row >= 0 or first == 0:
                return first + row, int(row_starts[row])
            stop, end = first, int(row_starts[0])

    def _write_documents(self, first: int, num_tokens: int) -> Int64:
        """Template ids of documents that have about `num_tokens` tokens."""
        if first == self.num_documents:
            return np.zeros((1, 1), dtype=np.int64)
        num_documents = min(num_tokens, BLOCK_TOKENS) / self._tokens_per_biography
        person_ids, exposures = self._locate_documents(first, int(num_documents * 1.01) + 2)
        return self._writer.write_biographies(person_ids, exposures, self._seed)

    def _document_range(self, first: int, count: int) -> Int64:
        """Indices of `count` documents, fewer at the end of the stream."""
        return np.arange(first, min(first + count, self.num_documents))


class TokenStream(Documents):
    """Exactly `exposures` biographies of each of `num_people` people.

    Each exposure contains all people once, in a pseudorandom order.
    """

    def __init__(
        self,
        writer: BiographyWriter,
        num_people: int,
        tokens_per_biography: float,
        exposures: int,
        seed: int,
    ) -> None:
        super().__init__(writer, tokens_per_biography, seed)
        self._num_people = num_people
        self._exposures = exposures
        self._order_key = derive_key(seed, "order of people")

    @property
    def num_documents(self) -> int:
        """People times exposures."""
        return self._num_people * self._exposures

    def num_tokens(self) -> int:
        """Number of tokens, computed from lengths alone.

        Exact if lengths repeat from exposure to exposure, as in all formats but bioS, or if there
        are at most :data:`MAX_COUNTED_DOCUMENTS`. Otherwise an upper bound from the mean length
        (Hoeffding's inequality): at most 2e-4 above the exact number, 2e-5 for 10^10 documents.
        """
        return self._num_tokens

    @cached_property
    def _num_tokens(self) -> int:
        """Number of tokens, computed once."""
        fact_tokens = self._exposures * self._writer.count_fact_tokens(self._num_people)
        return 1 + fact_tokens + self._wording_tokens()

    def _wording_tokens(self) -> int:
        """Tokens of the stream outside names and values, or an upper bound."""
        period = self._writer.length_period
        if period is not None:
            num_periods, remainder = divmod(self._exposures, period)
            whole_periods = num_periods * self._count_wording(period) if num_periods else 0
            return whole_periods + self._count_wording(remainder)
        num_documents = self.num_documents
        if num_documents <= MAX_COUNTED_DOCUMENTS:
            return self._count_wording(self._exposures)
        mean, shortest, longest = self._writer.wording_length_statistics()
        excess = (longest - shortest) * math.sqrt(
            num_documents * math.log(1 / OVERFLOW_PROBABILITY) / 2
        )
        return math.ceil(num_documents * mean + excess)

    def _count_wording(self, exposures: int) -> int:
        """Wording tokens of the first exposures, counted document by document."""
        total = 0
        for documents in index_blocks(self._num_people * exposures):
            exposure, person_ids = np.divmod(documents, self._num_people)
            total += int(self._writer.count_wording_tokens(person_ids, exposure, self._seed).sum())
        return total

    def length(self, seq_length: int) -> StreamLength:
        """Numbers of windows of `seq_length` tokens, and of tokens in them."""
        num_tokens = self.num_tokens()
        return StreamLength(-(-(num_tokens - 1) // seq_length), num_tokens)

    def _locate_documents(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of documents from an index on."""
        documents = self._document_range(first, count)
        exposures, places = np.divmod(documents, self._num_people)
        order_keys = random_bits(self._order_key, exposures)
        return permute_indices(places, self._num_people, order_keys), exposures
