"""bioR: several rewritten biographies of each person, written beforehand and read from disk.

Somebody writes the texts: a language model, or the grammar that stands in for one. Here they are
checked, tokenised and kept as an IndexedDataset (:mod:`knowcap.data.indexed_dataset`), one sequence for
each version, person after person; every sequence begins with the end of text. Nothing else is kept:
where a text tells what is found again in the text itself (:mod:`knowcap.data.value_spans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from tokenizers import Encoding, Tokenizer

from knowcap.artifacts import files
from knowcap.config import BioR, Count, Record
from knowcap.data import bior_grammar, indexed_dataset, people, value_spans
from knowcap.data.biography_writer import Passage, Writer
from knowcap.data.bios import EMPLOYER, FIELDS, GENDER, SENTENCES
from knowcap.data.rng import key, uniform
from knowcap.data.token_templates import Fragments, Int32, Int64
from knowcap.data.tokenizer import END, END_OF_TEXT, new_numbers
from knowcap.data.value_spans import Span

PREFIX = "versions"
"""Of the names of the dataset's two files."""

NUMBERED_TOGETHER = 2**24
"""Tokens that are renumbered at once."""

ENDS_WORD, OF_GENDER = 0, 1
"""Sets of accepted tokens: those that go on no word, then the pronouns of each gender."""


class Rewritten(NamedTuple):
    """All versions of some people's biographies, and what it took to get them."""

    texts: list[str]
    """Version after version, person after person, each with a space in front."""
    num_rejected: int
    """Texts that were thrown away, as they did not tell all."""


class Rewriting(Record):
    """Who wrote the biographies of bioR, and how well."""

    rewriter: str
    num_versions: Count
    """Biographies of each person."""
    num_rejected: Annotated[int, Field(ge=0)]
    """Texts that did not tell all and were written again."""
    rejection_rate: Annotated[float, Field(ge=0, lt=1)]
    """Their share of all texts."""


def by_grammar(knowledge: BioR) -> Iterator[Rewritten]:
    """Biographies that the grammar writes; none is ever rejected."""
    for texts in bior_grammar.versions(knowledge):
        yield Rewritten(texts, num_rejected=0)


def write_versions(
    knowledge: BioR, rewritten: Iterable[Rewritten], tokenizer: Tokenizer, folder: Path
) -> tuple[Int32, Rewriting]:
    """Check and tokenise everybody's biographies and write them to ``versions.bin`` and ``.idx``.

    Parameters
    ----------
    knowledge
        Who the biographies are about.
    rewritten
        The biographies, from person 0 on.
    tokenizer
        GPT-2's, with its own numbers.
    folder
        Where the dataset goes; it takes its names when it is complete.

    Returns
    -------
    Int32
        The tokens in use, as `tokenizer` numbers them; the dataset has them renumbered.
    Rewriting
        Who wrote, and how well.
    """
    is_used = np.zeros(tokenizer.get_vocab_size(), dtype=bool)
    end = tokenizer.token_to_id(END_OF_TEXT)
    lengths: list[int] = []
    num_rejected = 0
    with files.replacing(folder / f"{PREFIX}.bin") as temporary:
        with temporary.open("wb") as file:
            for texts, rejected in rewritten:
                _check(knowledge, texts, first=len(lengths))
                rows = [[end, *each.ids] for each in tokenizer.encode_batch(texts)]
                tokens = np.concatenate(
                    [np.array(row, dtype=indexed_dataset.TOKEN) for row in rows]
                )
                file.write(tokens.tobytes())
                is_used[tokens] = True
                lengths += map(len, rows)
                num_rejected += rejected
        assert len(lengths) == knowledge.num_people * knowledge.num_versions
        used = np.flatnonzero(is_used).astype(np.int32)
        _renumber(temporary, new_numbers(tokenizer, used))
        indexed_dataset.write_index(folder / f"{PREFIX}.idx", np.array(lengths))
    rewriting = Rewriting(
        rewriter=knowledge.rewriter_name,
        num_versions=knowledge.num_versions,
        num_rejected=num_rejected,
        rejection_rate=num_rejected / (num_rejected + len(lengths)),
    )
    return used, rewriting


def _check(knowledge: BioR, texts: list[str], first: int) -> None:
    """Every text must tell all there is of its person."""
    versions = np.arange(first, first + len(texts))
    about = people.profiles(knowledge, versions // knowledge.num_versions)
    for text, profile in zip(texts, about, strict=True):
        assert value_spans.find(text, profile) is not None, text


def _renumber(path: Path, number: Int64) -> None:
    """Replace every token in a file by its new number."""
    tokens = np.memmap(path, indexed_dataset.TOKEN, mode="r+")
    for start in range(0, tokens.size, NUMBERED_TOGETHER):
        part = slice(start, start + NUMBERED_TOGETHER)
        tokens[part] = number[tokens[part]]
    tokens.flush()


class BioRWriter(Writer):
    """Reads bioR; exposure e has version e modulo their number."""

    attributes = people.CARDINALITIES

    def __init__(
        self, knowledge: BioR, tokenizer: Tokenizer, vocab_size: int, folder: Path
    ) -> None:
        self.knowledge = knowledge
        self.period = knowledge.num_versions
        self._tokenizer = tokenizer
        tokens, lengths = indexed_dataset.read(folder / PREFIX)
        starts = np.cumsum(lengths) - lengths
        # Fragment 0 is the end of text that the first sequence begins with; the others are the
        # sequences without theirs.
        self.fragments = Fragments(tokens, np.append(0, starts + 1), np.append(1, lengths - 1))
        self._every_token = Fragments.of(
            np.arange(vocab_size, dtype=np.int32),
            np.ones(vocab_size, dtype=np.int64),
        ).followed_by(Fragments.from_lists([[]]))
        self.accept_sets = self._accepted(vocab_size)

    @property
    def longest(self) -> int:
        """Tokens of the longest version with its end of text."""
        return int(self.fragments.lengths.max()) + 1

    @property
    def num_sequences(self) -> int:
        """Biographies on disk."""
        return len(self.fragments.lengths) - 1

    def known(self, person: Int64) -> Int64:
        """Nothing: no version shares a fragment with another."""
        return np.empty((person.size, 0), dtype=np.int64)

    def written(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Each person's version for an exposure, behind an end of text."""
        number = self._number(person, exposure % self.knowledge.num_versions)
        return np.stack([np.zeros_like(number), number], axis=1)

    def wording_tokens(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Tokens of the same versions with their end of text."""
        number = self._number(person, exposure % self.knowledge.num_versions)
        return self.fragments.lengths[number] + 1

    def name_passage(self, person: Int64, seed: int) -> Passage:
        """The whole of a version, with the name marked."""
        return self._passage(person, seed, has_name=True, has_values=False, counts_city=False)

    def attribute_passages(self, person: Int64, seed: int) -> Iterator[Passage]:
        """One version of each person, with all values marked where they are told first.

        All at once, like the fixed biographies of bioS-simple, as there are no others that the
        model has read. Where the working city comes before the employer it has told of the
        employer and is counted with it: P(employer) is P(city) P(employer | city).
        """
        # ASSUME: values are read off a random version. What else a language model wrote may
        # hint at a value before telling it (a season, a river, a campus), which is not counted: the
        # bits of such a corpus are at most that much too many. The grammar's words hint at nothing.
        yield self._passage(person, seed, has_name=False, has_values=True, counts_city=True)

    def biography_passage(self, person: Int64, seed: int) -> Passage:
        """The same version with name and values, in which the city can tell of the employer."""
        return self._passage(person, seed, has_name=True, has_values=True, counts_city=False)

    def _number(self, person: Int64, version: Int64) -> Int64:
        """Fragment of a version."""
        return 1 + person * self.knowledge.num_versions + version

    def _passage(
        self, person: Int64, seed: int, has_name: bool, has_values: bool, counts_city: bool
    ) -> Passage:
        """A version of each person, token by token, with marks."""
        version = uniform(self.knowledge.num_versions, key(seed, "question"), person)
        numbers = self._number(person, version)
        texts = [self._tokenizer.decode(self._tokens(number)) for number in numbers.tolist()]
        encodings = self._tokenizer.encode_batch(texts)
        width = 2 + max(len(encoding) for encoding in encodings)
        nothing = len(self._every_token.lengths) - 1
        rows = np.full((len(numbers), width), nothing)
        passage = Passage.unmarked(self._every_token, rows)
        about = people.profiles(self.knowledge, person)
        for row, (text, encoding, profile) in enumerate(zip(texts, encodings, about, strict=True)):
            rows[row, 0] = rows[row, 1 + len(encoding)] = END
            rows[row, 1 : 1 + len(encoding)] = encoding.ids
            found = value_spans.find(text, profile)
            assert found is not None, text
            if has_name:
                _mark(passage, row, 0, _tokens_at(encoding, found.name))
            if not has_values:
                continue
            for attribute, field in zip(SENTENCES, FIELDS.tolist(), strict=True):
                if field > 0:
                    _mark(passage, row, field, _tokens_at(encoding, found.values[attribute]))
            city, employer = found.values["work_city"], found.values["employer"]
            if counts_city and city < employer:
                passage.field[row, slice(*_tokens_at(encoding, city))] = FIELDS[EMPLOYER]
            pronoun, _ = _tokens_at(encoding, found.pronoun)
            passage.field[row, pronoun] = GENDER
            passage.strict[row, pronoun] = -1
            passage.accept[row, pronoun] = OF_GENDER + profile.gender
        return passage

    def _tokens(self, number: int) -> list[int]:
        """Tokens of a fragment."""
        tokens: list[int] = self.fragments.assembled(np.array([number])).tolist()
        return tokens

    def _accepted(self, vocab_size: int) -> list[Int32]:
        """The sets of tokens that marks refer to."""
        texts = self._tokenizer.decode_batch([[token] for token in range(vocab_size)])
        # ASSUME: a value is over for the strict reading when no word goes on; the end of text is ''
        ends = [token for token, text in enumerate(texts) if not text[:1].isalnum()]
        forms = [
            [token for token, text in enumerate(texts) if text.strip().lower() in gender]
            for gender in value_spans.PRONOUNS
        ]
        return [np.array(tokens, dtype=np.int32) for tokens in (ends, *forms)]


def _mark(passage: Passage, row: int, field: int, tokens: Span) -> None:
    """Mark the tokens of a field and the one behind them."""
    first, behind = tokens
    passage.field[row, first:behind] = field
    passage.strict[row, behind] = field
    passage.accept[row, behind] = ENDS_WORD


def _tokens_at(encoding: Encoding, characters: Span) -> Span:
    """Columns of the tokens that spell some characters; the end of text is column 0."""
    start, stop = characters
    touching = [
        column
        for column, (first, behind) in enumerate(encoding.offsets, 1)
        if first < stop and behind > start
    ]
    return touching[0], touching[-1] + 1
