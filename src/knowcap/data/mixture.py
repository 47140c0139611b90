"""Useful biographies among junk: every training window is wholly one or the other.

Junk people are the people behind the useful ones in one larger population, so they are known in
the same way, and nobody's name or facts depend on theirs. Their biographies are drawn with
replacement, for as long as the useful ones last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from knowcap.data.biography_writer import Writer
from knowcap.data.rng import key, permute, uniform
from knowcap.data.token_stream import PADDING, Extent, Position, Text, TokenStream
from knowcap.data.token_templates import Int32, Int64

ENDLESS = 2**62


class JunkText(Text):
    """Biographies of people drawn uniformly, one after the other, and without end."""

    num_biographies = ENDLESS

    def __init__(
        self,
        writer: Writer,
        first_person: int,
        num_people: int,
        tokens_per_biography: float,
        seed: int,
    ) -> None:
        super().__init__(writer, tokens_per_biography, seed)
        self._first_person = first_person
        self._num_people = num_people
        self._draw = key(seed, "junk")

    def _read(self, ordinal: int, number: int) -> tuple[Int64, Int64]:
        """Person and exposure of biographies from an ordinal on; every one is worded afresh."""
        ordinals = self._ordinals(ordinal, number)
        drawn = uniform(self._num_people, self._draw, ordinals)
        return self._first_person + drawn, ordinals


class MixedStream:
    """Windows of a useful stream, once and in order, among windows of junk.

    A position is the number of windows that are behind, then the positions of both texts.
    """

    start: Position = (0, *TokenStream.start, *JunkText.start)

    def __init__(self, useful: TokenStream, junk: JunkText, useful_share: float, seed: int) -> None:
        self._useful = useful
        self._junk = junk
        self._useful_share = useful_share
        self._order = key(seed, "order of windows")

    def extent(self, seq_length: int) -> Extent:
        """How many windows of `seq_length` tokens there are, and how many tokens in them."""
        num_useful, num_tokens = self._useful.extent(seq_length)
        num_junk = round(num_useful / self._useful_share) - num_useful
        return Extent(num_useful + num_junk, num_tokens + num_junk * seq_length)

    def are_useful(self, first: int, number: int, seq_length: int) -> NDArray[np.bool_]:
        """Whether each window from `first` on is useful, fewer at the stream's end."""
        num_useful, num_windows = (
            stream.extent(seq_length).num_windows for stream in (self._useful, self)
        )
        window = np.arange(first, min(first + number, num_windows))
        # PAPER 5, result 10: windows are wholly useful or wholly junk
        # ASSUME: in a random order, with exactly the given share of useful ones.
        return permute(window, num_windows, self._order) < num_useful

    def windows(
        self, num_windows: int, seq_length: int, position: Position
    ) -> tuple[Int32, Position]:
        """Windows from a position on, see :meth:`knowcap.data.token_stream.Stream.windows`."""
        behind, *read = position
        is_useful = self.are_useful(behind, num_windows, seq_length)
        windows = np.full((num_windows, seq_length + 1), PADDING, dtype=np.int32)
        positions = [tuple(read[:2]), tuple(read[2:])]
        for which, (text, rows) in enumerate(
            ((self._useful, np.flatnonzero(is_useful)), (self._junk, np.flatnonzero(~is_useful)))
        ):
            if rows.size:
                windows[rows], positions[which] = text.windows(
                    rows.size, seq_length, positions[which]
                )
        return windows, (behind + is_useful.size, *positions[0], *positions[1])
