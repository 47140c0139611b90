"""Questions about attributes of people, with their answers, as rows of tokens.

A question is the opening of a biography, a question token, the name and an answer token; its answer
is the value and the end of text. These tokens follow the vocabulary of the corpus: a question token
for each attribute, then the answer token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knowcap.data.corpus import CorpusReader
from knowcap.data.token_templates import Int32, Int64
from knowcap.data.tokenizer import END_OF_TEXT_ID


@dataclass(frozen=True)
class Questions:
    """Q rows of S tokens, padded on the right with the end of text."""

    person: Int64
    """[Q], the person that each question is about."""
    attribute: Int64
    """[Q], index of the attribute among those that are asked."""
    tokens: Int32
    """[Q, S], question and answer."""
    is_value: NDArray[np.bool_]
    """[Q, S], whether the token is part of the value."""
    is_answer: NDArray[np.bool_]
    """[Q, S], whether it is part of the value or the end of text after it."""

    def select(self, rows: NDArray[np.bool_] | Int64) -> Questions:
        """Return some of the rows."""
        return Questions(
            self.person[rows],
            self.attribute[rows],
            self.tokens[rows],
            self.is_value[rows],
            self.is_answer[rows],
        )


def build_questions(
    corpus_reader: CorpusReader, person_ids: Int64, attributes: Sequence[str], seed: int
) -> Questions:
    """Build one question about each of some attributes of each person.

    Parameters
    ----------
    corpus_reader
        Reader of the corpus.
    person_ids
        Distinct people.
    attributes
        Attributes that are asked, of `corpus_reader.fields`.
    seed
        Seed of the prompts that values are taken from; a value has the same tokens in all.
    """
    # DEVIATES: the paper asks in English sentences that end with "Answer:". Tokens of their own
    # need no words beyond the corpus, so questions about any kind of knowledge have one form.
    names = corpus_reader.name_prompts(person_ids, seed)
    beginnings = {}
    for person, tokens, field in zip(names.person, names.tokens, names.field, strict=True):
        first = int(np.argmax(field == 0))
        beginnings[int(person)] = (tokens[:first].tolist(), tokens[field == 0].tolist())
    prompts = corpus_reader.attribute_prompts(person_ids, seed)
    first_new = corpus_reader.vocab_size
    indices = {corpus_reader.fields.index(name): i for i, name in enumerate(attributes)}
    found = []
    for person, tokens, field in zip(prompts.person, prompts.tokens, prompts.field, strict=True):
        asked = indices.get(int(field.max()))
        if asked is not None:
            opening, name = beginnings[int(person)]
            question = [*opening, first_new + asked, *name, first_new + len(attributes)]
            found.append((int(person), asked, question, tokens[field >= 0].tolist()))
    return _pad(found)


def num_new_tokens(attributes: Sequence[str]) -> int:
    """Number of tokens that questions about some attributes add to a vocabulary."""
    return len(attributes) + 1


def _pad(found: Iterable[tuple[int, int, list[int], list[int]]]) -> Questions:
    """Arrays of person, attribute, question and value."""
    people, attributes, questions, values = zip(*found, strict=True)
    starts = np.array([len(question) for question in questions])
    ends = starts + [len(value) for value in values]
    tokens = np.full((len(starts), int(ends.max()) + 1), END_OF_TEXT_ID, dtype=np.int32)
    for row, question, value in zip(tokens, questions, values, strict=True):
        row[: len(question) + len(value)] = question + value
    column = np.arange(tokens.shape[1])
    is_after_question = column >= starts[:, None]
    return Questions(
        np.array(people, dtype=np.int64),
        np.array(attributes, dtype=np.int64),
        tokens,
        is_after_question & (column < ends[:, None]),
        is_after_question & (column <= ends[:, None]),
    )
