"""A stream of training tokens, written when it is asked for.

The stream is the population over and over, once for each exposure and every time in another
order. Nothing is stored: any window can be written from its position alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from knowcap.bios.draws import bits, key, permute
from knowcap.bios.fragments import Int32, Int64
from knowcap.bios.writer import BLOCK, Writer

Position = tuple[int, ...]
"""Where a stream is to be read from; what its numbers mean is the stream's own affair."""

BLOCK_TOKENS = 2**17
"""Written together: enough that numpy's calls cost nothing, few enough for a core's cache."""

PADDING = -1


class Extent(NamedTuple):
    """How long a stream is."""

    num_windows: int
    num_tokens: int


class Stream(Protocol):
    """What training reads."""

    @property
    def start(self) -> Position:
        """Position of the first window."""

    def extent(self, seq_length: int) -> Extent:
        """How many windows of `seq_length` tokens there are, and how many tokens in them."""

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Windows from a position on, the same ones however many are asked for at once.

        Parameters
        ----------
        num_windows, seq_length
            How many windows, and how many tokens the model reads in each.
        position
            Where the first window begins.

        Returns
        -------
        Int32
            [num_windows, seq_length + 1]; past the end of the stream there is -1.
        Position
            Where the window after these begins.
        """


class Text(ABC):
    """Biographies in some order, end to end, each as its opening and its tokens.

    A position is the number of biographies that are behind, and of tokens of the next one. The last
    token of a window is the first of the next. One more end of text closes the stream.
    """

    start: Position = (0, 0)

    def __init__(self, writer: Writer, tokens_per_biography: float, seed: int) -> None:
        self._writer = writer
        self._tokens_per_biography = tokens_per_biography
        self._seed = seed

    @property
    @abstractmethod
    def num_biographies(self) -> int:
        """How many there are."""

    @abstractmethod
    def _read(self, ordinal: int, number: int) -> tuple[Int64, Int64]:
        """Person and exposure of biographies from an ordinal on."""

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Consecutive windows, see :meth:`Stream.windows`."""
        tokens = np.full(num_windows * seq_length + 1, PADDING, dtype=np.int32)
        position = self._fill(tokens, position)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_length + 1)[::seq_length]
        return np.ascontiguousarray(windows), position

    def _fill(self, tokens: Int32, position: Position) -> Position:
        """Write the stream from a position on; return the position of the last token."""
        ordinal, behind = position
        place = -behind  # of the biography `ordinal` in `tokens`
        while ordinal <= self.num_biographies:
            numbers = self._written(ordinal, tokens.size - place)
            written = self._writer.fragments.assembled(numbers)
            part = written[max(0, -place) : tokens.size - place]
            tokens[max(0, place) :][: part.size] = part
            if place + written.size >= tokens.size:
                ends = self._writer.fragments.lengths[numbers].sum(axis=1).cumsum()
                last = tokens.size - 1 - place
                row = int(np.searchsorted(ends, last, side="right"))
                return ordinal + row, last - int(ends[row - 1] if row else 0)
            place += written.size
            ordinal += len(numbers)
        return self.num_biographies, 1

    def _written(self, ordinal: int, num_tokens: int) -> Int64:
        """Fragments of biographies from an ordinal on, about as many as have `num_tokens`."""
        if ordinal == self.num_biographies:
            return np.zeros((1, 1), dtype=np.int64)
        wanted = min(num_tokens, BLOCK_TOKENS) / self._tokens_per_biography
        person, exposure = self._read(ordinal, int(wanted * 1.01) + 2)
        return self._writer.written(person, exposure, self._seed)

    def _ordinals(self, start: int, number: int) -> Int64:
        """Biographies from `start` on, fewer at the stream's end."""
        return np.arange(start, min(start + number, self.num_biographies))


class TokenStream(Text):
    """Exactly `exposures` biographies of each of `num_people` people.

    Exposure after exposure, with everybody in each of them in a pseudorandom order.
    """

    def __init__(
        self,
        writer: Writer,
        num_people: int,
        tokens_per_biography: float,
        exposures: int,
        seed: int,
    ) -> None:
        super().__init__(writer, tokens_per_biography, seed)
        self._num_people = num_people
        self._exposures = exposures
        self._order = key(seed, "order of people")

    @property
    def num_biographies(self) -> int:
        """People times exposures."""
        return self._num_people * self._exposures

    def num_tokens(self) -> int:
        """Tokens of the stream, exactly; nothing is written to count them."""
        return self._num_tokens

    @cached_property
    def _num_tokens(self) -> int:
        """Tokens of the stream, counted once."""
        total = 1 + self._exposures * self._writer.known_tokens(self._num_people)
        for start in range(0, self.num_biographies, BLOCK):
            exposure, person = np.divmod(self._ordinals(start, BLOCK), self._num_people)
            total += int(self._writer.wording_tokens(person, exposure, self._seed).sum())
        return total

    def extent(self, seq_length: int) -> Extent:
        """How many windows of `seq_length` tokens there are, and how many tokens in them."""
        num_tokens = self.num_tokens()
        return Extent(-(-(num_tokens - 1) // seq_length), num_tokens)

    def _read(self, ordinal: int, number: int) -> tuple[Int64, Int64]:
        """Person and exposure of biographies from an ordinal on."""
        exposure, place = np.divmod(self._ordinals(ordinal, number), self._num_people)
        return permute(place, self._num_people, bits(self._order, exposure)), exposure
