"""A stream of training tokens, written when it is asked for.

The stream is the population over and over, once for each exposure and every time in another
order. Nothing is stored: any window can be written from its position alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from knowcap.data.biography_writer import Writer, blocks
from knowcap.data.rng import bits, key, permute
from knowcap.data.token_templates import Int32, Int64

Position = tuple[int, ...]
"""Where a stream is to be read from; what its numbers mean is the stream's own affair."""

BLOCK_TOKENS = 2**17
"""Written together: enough that numpy's calls cost nothing, few enough for a core's cache."""

ROWS = 256
"""Biographies whose lengths are added up together to find where one begins."""

PADDING = -1

COUNTED = 2**27
"""Biographies in random wordings that are counted one by one, in 20 s of a core; of more there is
a bound."""

CHANCE = 1e-12
"""Probability that a stream is longer than its bound; training would end before it."""


class Extent(NamedTuple):
    """How long a stream is; if it is bounded, its last windows are empty."""

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
                last = tokens.size - 1 - place
                row, begin = self._row_of(last, numbers, written.size)
                return ordinal + row, last - begin
            place += written.size
            ordinal += len(numbers)
        return self.num_biographies, 1

    def _row_of(self, token: int, numbers: Int64, num_tokens: int) -> tuple[int, int]:
        """Which of the biographies of `num_tokens` in all has a token, and where it begins.

        It is one of the last, which are therefore looked at first.
        """
        stop, end = len(numbers), num_tokens
        while True:
            first = max(0, stop - ROWS)
            each = self._writer.fragments.lengths.take(numbers[first:stop]).sum(axis=1)
            begins = end - each[::-1].cumsum()[::-1]
            row = int(np.searchsorted(begins, token, side="right")) - 1
            if row >= 0 or first == 0:
                return first + row, int(begins[row])
            stop, end = first, int(begins[0])

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
        """Tokens of the stream; nothing is written to find them.

        Exact where lengths come again from exposure to exposure, as in all formats but bioS, or
        where biographies are at most :data:`COUNTED`. Else a bound, as random wordings have a mean
        (Hoeffding's inequality): 2e-4 more than there are at worst, 2e-5 for 10^10 biographies.
        """
        return self._num_tokens

    @cached_property
    def _num_tokens(self) -> int:
        """Tokens of the stream, found once."""
        known = self._exposures * self._writer.known_tokens(self._num_people)
        return 1 + known + self._wording_tokens()

    def _wording_tokens(self) -> int:
        """Tokens of the stream that spell neither name nor value, or a bound of them."""
        period = self._writer.period
        if period is not None:
            times, rest = divmod(self._exposures, period)
            whole = times * self._counted(period) if times else 0
            return whole + self._counted(rest)
        number = self.num_biographies
        if number <= COUNTED:
            return self._counted(self._exposures)
        mean, shortest, longest = self._writer.wording_lengths()
        excess = (longest - shortest) * math.sqrt(number * math.log(1 / CHANCE) / 2)
        return math.ceil(number * mean + excess)

    def _counted(self, exposures: int) -> int:
        """The same of the first exposures, biography by biography."""
        total = 0
        for ordinal in blocks(self._num_people * exposures):
            exposure, person = np.divmod(ordinal, self._num_people)
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
