"""CorpusTexts: biographies in training order, facts and words of a corpus, as text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from knowcap.config import COMPACT_NAME_LENGTH, Table
from knowcap.data import people
from knowcap.data.biography_writer import INDEX_BLOCK_SIZE, NAME_COLUMNS, index_blocks
from knowcap.data.corpus import CorpusReader
from knowcap.data.table import TableWriter
from knowcap.data.token_stream import TokenStream
from knowcap.data.token_templates import Int64
from knowcap.errors import UserError

PRONOUNS = ("he", "she")
"""Text of each gender in the facts."""

TEMPLATE_BLOCK_SIZE = 10_000
"""Templates whose texts are in memory at once."""


class BiographyBlock(NamedTuple):
    """Consecutive biographies of a training stream."""

    person: Int64
    """[biographies]."""
    exposure: Int64
    """[biographies]."""
    tokens: list[list[int]]
    """Tokens of each biography, without the end of text before it."""
    texts: list[str]
    """Text of each biography, with a leading space."""


class _TrainingOrder(TokenStream):
    """Documents of a training stream without their tokens."""

    def locate(self, first: int, count: int) -> tuple[Int64, Int64]:
        """Person and exposure of documents from an index on, fewer at the end."""
        return self._locate_documents(first, count)


class CorpusTexts(CorpusReader):
    """A corpus as text.

    Parameters
    ----------
    corpus_reader
        The corpus.
    """

    def __init__(self, corpus_reader: CorpusReader) -> None:
        vars(self).update(vars(corpus_reader))  # the same corpus, not read again

    def biographies_in_order(self, exposures: int, seed: int) -> Iterator[BiographyBlock]:
        """Yield all biographies of :meth:`stream` with the same arguments, in its order.

        Raises
        ------
        UserError
            If the corpus has junk, which is mixed by windows of tokens and not by biographies.
        """
        if self.corpus.mixture is not None:
            raise UserError(
                "mixture: not supported as text, because junk is mixed by windows of tokens; "
                "give a corpus without mixture"
            )
        num_people = self.corpus.knowledge.num_people
        order = _TrainingOrder(self._writer, num_people, self.tokens_per_biography, exposures, seed)
        for first in range(0, order.num_documents, INDEX_BLOCK_SIZE):
            person_ids, exposure_ids = order.locate(first, INDEX_BLOCK_SIZE)
            rows = self._writer.write_biographies(person_ids, exposure_ids, seed)
            tokens = self._token_lists(rows[:, 1:])
            texts = self._tokenizer.decode_batch(tokens)
            yield BiographyBlock(person_ids, exposure_ids, tokens, texts)

    def facts(self) -> Iterator[dict[str, str]]:
        """Yield each person's name and attribute values, in the order of people."""
        knowledge = self.corpus.knowledge
        if isinstance(self._writer, TableWriter):
            yield from self._writer.describe_facts()
            return
        assert not isinstance(knowledge, Table)
        for person_ids in index_blocks(knowledge.num_people):
            if knowledge.kind == "bioD":
                yield from self._biod_facts(person_ids)
                continue
            for person in people.describe_people(knowledge, person_ids):
                gender = PRONOUNS[person.gender]
                yield {"name": person.name.strip(), **person.values, "gender": gender}

    @cached_property
    def first_name(self) -> str:
        """Name of person 0 with a leading space, a text that every tokenizer of it splits."""
        return f" {next(self.facts())['name']}"

    def _biod_facts(self, person_ids: Int64) -> Iterator[dict[str, str]]:
        """Name and values of people of bioD; chunks are separated as in the biographies."""
        knowledge = self.corpus.knowledge
        assert knowledge.kind == "bioD"
        separator = "," if knowledge.layout == "sentences" else ""
        num_name_parts = NAME_COLUMNS.stop - NAME_COLUMNS.start
        assert num_name_parts == COMPACT_NAME_LENGTH
        texts = self.template_texts(self._writer.write_facts(person_ids))
        for row in texts:
            chunks = row[num_name_parts:].reshape(knowledge.num_attributes, -1)
            values = [separator.join(value).strip() for value in chunks]
            name = "".join(row[:num_name_parts]).strip()
            yield {"name": name, **dict(zip(self._writer.attributes, values, strict=True))}

    def template_texts(self, template_ids: Int64) -> NDArray[Any]:
        """Text of each template, an array of strings of the same shape."""
        unique, inverse = np.unique(template_ids, return_inverse=True)
        tokens = self._token_lists(unique[:, None])
        texts = np.array(self._tokenizer.decode_batch(tokens), dtype=object)
        found: NDArray[Any] = texts[inverse.reshape(template_ids.shape)]
        return found

    def _token_lists(self, rows: Int64) -> list[list[int]]:
        """Tokens of each row of template ids."""
        templates = self._writer.templates
        tokens = templates.gather_tokens(rows).tolist()
        stops = templates.lengths[rows].sum(axis=1).cumsum().tolist()
        return [tokens[start:stop] for start, stop in itertools.pairwise([0, *stops])]

    def words(self) -> dict[str, tuple[str, ...]]:
        """Tokens of every word of the corpus.

        Words are those of GPT-2: the tokens of none of the tokenizers cross their boundaries. Words
        that no person has, but whose tokens the corpus uses, are included.
        """
        split_words = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
        words: dict[str, None] = {}
        for text in self._used_template_texts():
            words.update((text[start:stop], None) for _, (start, stop) in split_words(text))
        encodings = self._tokenizer.encode_batch(list(words), add_special_tokens=False)
        return {
            word: tuple(encoding.tokens)
            for word, encoding in zip(words, encodings, strict=True)
            if encoding.ids and max(encoding.ids) < self.vocab_size
        }

    def _used_template_texts(self) -> Iterator[str]:
        """Yield the texts of the templates whose tokens the corpus uses."""
        templates = self._writer.templates
        for first in range(0, templates.lengths.size, TEMPLATE_BLOCK_SIZE):
            ids = np.arange(first, min(first + TEMPLATE_BLOCK_SIZE, templates.lengths.size))
            starts = np.append(0, templates.lengths[ids].cumsum()[:-1])
            largest = np.maximum.reduceat(templates.gather_tokens(ids), starts)
            yield from self.template_texts(ids[largest < self.vocab_size])

    def token_list(self) -> list[str]:
        """Every token that the corpus uses, by id."""
        ids = {i: token for token, i in self._tokenizer.get_vocab().items()}
        return [ids[i] for i in range(self.vocab_size)]
