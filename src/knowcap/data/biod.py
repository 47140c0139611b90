"""bioD: knowledge of a chosen shape, K attributes of C chunks each (paper, Definition 2.2).

The layout `sentences` is the paper's: "<Full Name>'s ID 7 is v1, v2." and later " Her ID 2 is
...". `compact` is for scale models: a biography is end of text, three alphabet tokens that are
the name, and for each attribute its marker and its chunks. Every biography of a corpus has the
same number of tokens.
"""

from __future__ import annotations

import ctypes
import string
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from knowcap.artifacts.c_extension import library, pointer
from knowcap.config import COMPACT_NAME_LENGTH, BioD
from knowcap.data import people
from knowcap.data.biography_writer import NAME, Passage, Writer
from knowcap.data.rng import NUM_ROUNDS, bits, halves, key, shuffled, uniform
from knowcap.data.token_templates import Fragments, Int64, encoded
from knowcap.data.tokenizer import END_OF_TEXT

SOURCE = Path(__file__).with_name("biod.c")

SYLLABLES = [c + v for c in string.ascii_lowercase if c not in "aeiouy" for v in "aeiou"]


def syllabic_words(number: int) -> list[str]:
    """Distinct words of the same length, at least two syllables: baba, babe, babi, ..."""
    words = [""]
    while len(words) < number or len(words[0]) < 4:
        words = [word + syllable for word in words[:number] for syllable in SYLLABLES]
    return words[:number]


def fragment_texts(knowledge: BioD) -> dict[str, list[str]]:
    """Everything that biographies are written with, by kind; chunks are made of the alphabet."""
    numbers = range(1, knowledge.num_attributes + 1)
    # ASSUME: the paper does not say how its T tokens are written; here each is a word.
    alphabet = [f" {word}" for word in syllabic_words(knowledge.alphabet_size)]
    if knowledge.layout == "compact":
        markers = [f" {word.upper()}" for word in syllabic_words(knowledge.num_attributes)]
        return {"end": [END_OF_TEXT], "marker": markers, "alphabet": alphabet}
    return {
        "end": [END_OF_TEXT],
        "possessive": [f"'s ID {number} is" for number in numbers],
        # ASSUME: one pronoun for everybody, so that it carries no knowledge.
        "pronoun": [f" Her ID {number} is" for number in numbers],
        # ASSUME: commas between chunks, as in the paper's example; their loss does not count.
        "comma": [","],
        "stop": ["."],
        **people.name_texts(),
        "alphabet": alphabet,
    }


class _Network(ctypes.Structure):
    """A permutation, as C reads it."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("size", "left", "right", "num_rounds")]


class _Wording(ctypes.Structure):
    """What biographies are made of, as C reads it."""

    _fields_ = (
        ("names", _Network),
        ("name_key", ctypes.c_uint64),
        ("value_key", ctypes.c_uint64),
        ("part", ctypes.c_uint64 * COMPACT_NAME_LENGTH),
        ("num_parts", ctypes.c_uint64 * COMPACT_NAME_LENGTH),
        ("head", ctypes.c_int64),
        ("later_head", ctypes.c_int64),
        ("chunk", ctypes.c_int64),
        ("num_chunks", ctypes.c_int64),
        ("diversity", ctypes.c_int64),
        ("separator", ctypes.c_void_p),
    )


class BioDWriter(Writer):
    """Writes bioD."""

    period = 1

    def __init__(self, knowledge: BioD, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        texts = fragment_texts(knowledge)
        closed = {"alphabet", "last_names"} & texts.keys()
        words, number = encoded(texts, closed, tokenizer)
        alphabet = words.tokens[words.starts[number["alphabet"]]]
        strings = alphabet[people.chunk_alphabet(knowledge)]
        lengths = np.full(strings[..., 0].size, knowledge.chunk_length)
        self.fragments = words.followed_by(Fragments.of(strings.ravel(), lengths))
        self.chunks = len(words.lengths) + np.arange(lengths.size)
        first = self.chunks[:: knowledge.diversity].repeat(knowledge.num_chunks)
        self._first_chunks = first.reshape(-1, knowledge.num_chunks)
        self.attributes = {
            f"ID {which}": knowledge.diversity**knowledge.num_chunks
            for which in range(1, knowledge.num_attributes + 1)
        }
        if knowledge.layout == "compact":
            self._set_compact_layout(number)
        else:
            self._set_sentence_layout(number)

    def _set_compact_layout(self, number: dict[str, Int64]) -> None:
        """Markers and nothing else; the vocabulary is the whole alphabet, used or not."""
        marker, end = number["marker"], number["end"]
        self.heads = np.stack([marker, marker])
        self.name_pools = [number["alphabet"]] * COMPACT_NAME_LENGTH
        self.separators = end[:0]
        self.common = np.arange(len(self.fragments.lengths))
        self.personal = end[:0]
        self.accept_sets = self._first_tokens(marker, np.append(marker, end))

    def _set_sentence_layout(self, number: dict[str, Int64]) -> None:
        """The paper's sentences, with a separator behind each chunk."""
        comma, stop = number["comma"], number["stop"]
        self.heads = np.stack([number["possessive"], number["pronoun"]])
        self.name_pools = [number[part] for part in people.name_texts()]
        self.separators = np.append(comma.repeat(self.knowledge.num_chunks - 1), stop)
        self.common = np.concatenate([number["end"], self.heads.ravel(), self.separators])
        self.personal = np.concatenate([*self.name_pools, self.chunks])
        self.accept_sets = self._first_tokens(number["possessive"], stop)

    def known(self, person: Int64) -> Int64:
        """Fragments of each person's name and chunks."""
        values = self._values(person, np.arange(self.knowledge.num_attributes)[None])
        values = values.reshape(person.size, -1)
        return np.concatenate([self._name(person), values], axis=1)

    def written(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Each person's biography with its attributes in a random order."""
        return self._composed(person, self._order(person, exposure, seed))

    def wording_tokens(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Tokens of opening, heads and separators; the same for all."""
        wording = np.concatenate([self.heads[0, :1], self.heads[1, 1:]])
        lengths = self.fragments.lengths
        separators = lengths[self.separators].sum() * self.knowledge.num_attributes
        return np.full(person.size, self.opening_tokens + lengths[wording].sum() + separators)

    def known_tokens(self, num_people: int) -> int:
        """As many for each person, since names and alphabet are words."""
        return num_people * super().known_tokens(1)

    @property
    def longest(self) -> int:
        """Tokens of every biography with its opening."""
        one = np.zeros(1, dtype=np.int64)
        return self.known_tokens(1) + int(self.wording_tokens(one, one, 0)[0])

    def name_passage(self, person: Int64, seed: int) -> Passage:
        """Opening, name and how a random attribute begins."""
        if self.knowledge.num_versions is None:
            draw = key(seed, "first attribute")
            first = uniform(self.knowledge.num_attributes, draw, person)[:, None]
        else:
            first = self._asked_order(person, seed)[:, :1]
        passage = self._unmarked(person, first).up_to(NAME.stop + 1)
        passage.mark_name(follower=0)
        return passage

    def attribute_passages(self, person: Int64, seed: int) -> Iterator[Passage]:
        """For each attribute, a biography that it is the first in.

        Where a person has few biographies, most attributes are first in none; then all are asked
        for in one that was read, as of bioS-simple. They are independent, so none tells of another.
        """
        if self.knowledge.num_versions is not None:
            order = self._asked_order(person, seed)
            passage = self._unmarked(person, order)
            self._mark_values(passage, order)
            yield passage
            return
        for number in range(self.knowledge.num_attributes):
            order = np.full((person.size, 1), number)
            passage = self._unmarked(person, order)
            self._mark_values(passage, order)
            yield passage

    def biography_passage(self, person: Int64, seed: int) -> Passage:
        """A biography with its attributes in a random order."""
        order = self._asked_order(person, seed)
        passage = self._unmarked(person, order)
        passage.mark_name(follower=0)
        self._mark_values(passage, order)
        return passage

    def _order(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Order of the attributes in an exposure, or in the version that is its turn."""
        versions = self.knowledge.num_versions
        if versions is None:
            own = bits(key(seed, "order of attributes"), exposure)
        else:
            own = bits(key(self.knowledge.seed, "order of attributes"), exposure % versions)
        return shuffled(self.knowledge.num_attributes, own, person)

    def _asked_order(self, person: Int64, seed: int) -> Int64:
        """Order of the attributes in a question: the first version's, or an order of its own."""
        none_yet = np.zeros_like(person)
        if self.knowledge.num_versions is not None:
            return self._order(person, none_yet, seed)
        own = bits(key(seed, "question"), none_yet)
        return shuffled(self.knowledge.num_attributes, own, person)

    def _composed(self, person: Int64, order: Int64) -> Int64:
        """Biographies that tell the attributes of `order` [people, told]."""
        written = np.empty((len(person), NAME.stop + order.shape[1] * self._step), dtype=np.int64)
        compiled = library(SOURCE)
        if compiled is None:
            self._compose(written, person, order)
            return written
        person, order = np.ascontiguousarray(person), np.ascontiguousarray(order)
        num_people, num_told = order.shape
        compiled.composed(
            *(ctypes.c_int64(num_people), pointer(person)),
            *(ctypes.c_int64(num_told), pointer(order)),
            ctypes.c_int64(self.opening),
            ctypes.byref(self._wording),
            pointer(written),
        )
        return written

    def _compose(self, written: Int64, person: Int64, order: Int64) -> None:
        """Write biographies, as C does."""
        written[:, 0] = self.opening
        written[:, NAME] = self._name(person)
        facts = written[:, NAME.stop :].reshape(*order.shape, self._step)
        facts[:, :, 0] = self.heads[1].take(order)
        facts[:, 0, 0] = self.heads[0].take(order[:, 0])
        apart = 1
        if self.separators.size:
            apart, facts[:, :, 2::2] = 2, self.separators
        facts[:, :, 1::apart] = self._values(person, order)

    @cached_property
    def _wording(self) -> _Wording:
        """What C has to know of the layout, but for the opening."""
        knowledge = self.knowledge
        return _Wording(
            (knowledge.num_names, *halves(knowledge.num_names), NUM_ROUNDS),
            key(knowledge.seed, "name"),
            key(knowledge.seed, "value"),
            tuple(int(pool[0]) for pool in self.name_pools),
            tuple(pool.size for pool in self.name_pools),
            *self.heads[:, 0].tolist(),
            self.chunks[0],
            knowledge.num_chunks,
            knowledge.diversity,
            pointer(self.separators) if self.separators.size else None,
        )

    @property
    def _step(self) -> int:
        """Fragments that tell an attribute."""
        return 1 + self.knowledge.num_chunks * (2 if self.separators.size else 1)

    def _name(self, person: Int64) -> Int64:
        """Fragments of the names [people, 3]."""
        number = people.name_numbers(self.knowledge, person)
        parts = np.unravel_index(number, [pool.size for pool in self.name_pools])
        named = zip(self.name_pools, parts, strict=True)
        return np.stack([pool[part] for pool, part in named], axis=1)

    def _values(self, person: Int64, order: Int64) -> Int64:
        """Fragments of the chunks of the attributes of `order`, [people, told, C]."""
        values = people.chunks(self.knowledge, person, order)
        values += self._first_chunks.take(order, axis=0)
        return values

    def _unmarked(self, person: Int64, order: Int64) -> Passage:
        """The same biographies, closed by an end of text."""
        end = np.zeros((len(person), 1), dtype=np.int64)
        closed = np.concatenate([self._composed(person, order), end], axis=1)
        return Passage.unmarked(self.fragments, closed)

    def _mark_values(self, passage: Passage, order: Int64) -> None:
        """Mark the values of the attributes of `order` and what follows them."""
        step = 2 if self.separators.size else 1
        shape = (*order.shape, -1)
        field = passage.field[:, NAME.stop : -1].reshape(shape)
        field[:, :, 1::step] = order[:, :, None] + 1
        passage.first_chunk[:, NAME.stop : -1].reshape(shape)[:, :, 1] = True
        last = 1 + step * (self.knowledge.num_chunks - 1)
        passage.strict[:, NAME.stop + 1 :].reshape(shape)[:, :, last] = order + 1
        passage.accept[:, NAME.stop + 1 :].reshape(shape)[:, :, last] = 1
