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
from knowcap.data.tokenizer import END_OF_TEXT_ID

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
    """Numbers of windows and tokens, or upper bounds of them.

    Tokens are those that windows contain, without repetitions and padding.
    """

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
    """A sequence of documents, each a biography with its opening.

    Packed windows cut the concatenated documents. The last token of a window is the first of the
    next, and a final end of text closes the stream. Aligned windows begin with a document and hold
    the same number of whole documents, an end of text and padding.

    A position holds the index of a document and the number of its tokens that come before the
    position, which is 0 in aligned windows.

    Parameters
    ----------
    writer, seed
        Writer of the biographies, and the seed of their wording.
    tokens_per_biography
        Mean tokens of a biography.
    reserved_tokens
        Tokens reserved for each document in aligned windows; None packs windows.
    """

    start: Position = (0, 0)

    def __init__(
        self,
        writer: BiographyWriter,
        tokens_per_biography: float,
        seed: int,
        reserved_tokens: int | None = None,
    ) -> None:
        self._writer = writer
        self.tokens_per_biography = tokens_per_biography
        self._seed = seed
        self._reserved_tokens = reserved_tokens

    def documents_per_window(self, seq_length: int) -> int | None:
        """Whole documents of an aligned window; None for packed windows."""
        return None if self._reserved_tokens is None else seq_length // self._reserved_tokens

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
        if self._reserved_tokens is not None:
            windows = np.full((num_windows, seq_length + 1), PADDING, dtype=np.int32)
            block_size = max(1, BLOCK_TOKENS // seq_length)
            for start in range(0, num_windows, block_size):
                position = self._fill_aligned(windows[start : start + block_size], position)
            return windows, position
        tokens = np.full(num_windows * seq_length + 1, PADDING, dtype=np.int32)
        position = self._fill_tokens(tokens, position)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_length + 1)[::seq_length]
        return np.ascontiguousarray(windows), position

    def _fill_aligned(self, windows: Int32, position: Position) -> Position:
        """Fill in aligned windows; return the position of the next one."""
        first, _ = position
        num_windows, width = windows.shape
        per_window = self.documents_per_window(width - 1)
        assert per_window, "a window is at least as long as the longest biography"
        person_ids, exposures = self._locate_documents(first, num_windows * per_window)
        if not person_ids.size:
            return position
        template_ids = self._write(person_ids, exposures)
        lengths = self._writer.templates.lengths.take(template_ids).sum(axis=1)
        stops = np.cumsum(lengths)
        window_of_document = np.arange(lengths.size) // per_window
        is_last = np.append(np.diff(window_of_document) > 0, True)
        window_lengths = np.diff(stops[is_last], prepend=0)
        windows_used = np.arange(window_lengths.size)
        columns = np.arange(stops[-1]) - np.repeat(stops[is_last] - window_lengths, window_lengths)
        windows[np.repeat(windows_used, window_lengths), columns] = (
            self._writer.templates.gather_tokens(template_ids)
        )
        windows[windows_used, window_lengths] = END_OF_TEXT_ID
        return first + lengths.size, 0

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
        num_documents = min(num_tokens, BLOCK_TOKENS) / self.tokens_per_biography
        person_ids, exposures = self._locate_documents(first, int(num_documents * 1.01) + 2)
        return self._write(person_ids, exposures)

    def _write(self, person_ids: Int64, exposures: Int64) -> Int64:
        """Template ids of biographies, [documents, templates]."""
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
        reserved_tokens: int | None = None,
    ) -> None:
        super().__init__(writer, tokens_per_biography, seed, reserved_tokens)
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
        per_window = self.documents_per_window(seq_length)
        if per_window is not None:
            return StreamLength(-(-self.num_documents // per_window), num_tokens)
        return StreamLength(-(-(num_tokens - 1) // seq_length), num_tokens)

    def _locate_documents(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of documents from an index on."""
        documents = self._document_range(first, count)
        exposures, places = np.divmod(documents, self._num_people)
        order_keys = random_bits(self._order_key, exposures)
        return permute_indices(places, self._num_people, order_keys), exposures
