"""Text in pieces that are tokenised once and for all.

A biography is a sequence of fragments: a name, the words before a value, the value, what
follows. GPT-2 cuts text into words before it looks for tokens, so a fragment that ends where a
word ends has the same tokens wherever it stands; writing a biography is copying fragments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from knowcap.artifacts.c_extension import library, pointer

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

SOURCE = Path(__file__).with_name("token_templates.c")


class Fragments(NamedTuple):
    """Tokens of many fragments, end to end; a fragment is known by its number."""

    tokens: Int32
    """Of all fragments."""
    starts: Int64
    """Where each fragment begins in `tokens`."""
    lengths: Int64
    """Tokens of each fragment."""

    @classmethod
    def of(cls, tokens: Int32, lengths: Int64) -> Fragments:
        """Fragments of given lengths that lie end to end."""
        return cls(tokens, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def from_lists(cls, fragments: Sequence[Sequence[int]]) -> Fragments:
        """One fragment for each list of tokens."""
        tokens = np.fromiter(chain.from_iterable(fragments), dtype=np.int32)
        return cls.of(tokens, np.array([len(tokens) for tokens in fragments], dtype=np.int64))

    def followed_by(self, others: Fragments) -> Fragments:
        """These fragments, then others, whose numbers go on from these."""
        return self.of(
            np.concatenate([self.tokens, others.tokens]),
            np.concatenate([self.lengths, others.lengths]),
        )

    def joined(self, rows: NDArray[np.integer]) -> Fragments:
        """New fragments, each the concatenation of a row of these [fragments, parts]."""
        return self.of(self.assembled(rows), self.lengths[rows].sum(axis=1))

    def assembled(self, numbers: NDArray[np.integer]) -> Int32:
        """Tokens of a sequence of fragments, in the order of the array."""
        numbers = np.ascontiguousarray(numbers, dtype=np.int64).ravel()
        compiled = library(SOURCE)
        if compiled is not None:
            asked = (ctypes.c_int64(numbers.size), pointer(numbers))
            compiled.num_tokens.restype = ctypes.c_int64
            num_texts = ctypes.c_int64(self.lengths.size)
            num_tokens = compiled.num_tokens(*asked, num_texts, pointer(self.lengths))
            if num_tokens < 0:
                raise IndexError(f"a number is none of {self.lengths.size} fragments")
            out = np.empty(num_tokens, dtype=np.int32)
            texts = (pointer(self.starts), pointer(self.lengths), pointer(self.tokens))
            compiled.assembled(*asked, *texts, pointer(out))
            return out
        if numbers.size and numbers.min() < 0:
            raise IndexError("a number is none of the fragments")
        lengths = self.lengths.take(numbers)
        ends = np.cumsum(lengths)
        # Token j of the result stands at starts - (its fragment's place in the result) + j.
        source = np.repeat(self.starts.take(numbers) - ends + lengths, lengths)
        source += np.arange(source.size)
        out = np.empty(source.size, dtype=np.int32)
        return self.tokens.take(source, out=out, mode="clip")  # clip: bounds are checked already


def encoded(
    texts: Mapping[str, Sequence[str]], closed: Iterable[str], tokenizer: Tokenizer
) -> tuple[Fragments, dict[str, Int64]]:
    """Fragments of texts of several kinds, and the fragments' numbers by kind.

    Parameters
    ----------
    texts
        Each kind's texts.
    closed
        The kinds that a text which starts with punctuation can follow.
    tokenizer
        One whose tokens reach across no word as GPT-2 cuts them: before a space, and between
        letters, digits and punctuation.

    Raises
    ------
    AssertionError
        If a text could become one word with a neighbour, so that its tokens depended on it.
    """
    everything = list(chain.from_iterable(texts.values()))
    assert not any(text[0].isalnum() or text[-1].isspace() for text in everything)
    assert all(text[-1].isalnum() for kind in closed for text in texts[kind])
    encodings = tokenizer.encode_batch(everything, add_special_tokens=False)
    stops = np.cumsum([len(kind) for kind in texts.values()])
    numbers = np.split(np.arange(len(everything)), stops[:-1])
    fragments = Fragments.from_lists([encoding.ids for encoding in encodings])
    return fragments, dict(zip(texts, numbers, strict=True))
