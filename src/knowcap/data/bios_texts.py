"""Texts of bioS: sentences and their templates, and pools of values.

A sentence template is a line of bios_templates/*.txt, or of an attribute that a study adds. Its
text before and after the value are two token templates, the head and the tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from knowcap.config import ExtraAttribute
from knowcap.config.extra_attributes import SENTENCE
from knowcap.data import people
from knowcap.data.biography_writer import Marks
from knowcap.data.token_templates import Int64
from knowcap.data.tokenizer import END_OF_TEXT

SENTENCE_ATTRIBUTES = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
"""Attributes with a sentence of their own; gender is in the pronouns."""

NUM_SENTENCES = len(SENTENCE_ATTRIBUTES)

SENTENCE_FIELDS = np.array([1, 2, 3, 4, 5, -1], dtype=np.int8)
"""Field of each sentence's value; -1 for the working city, which follows from the employer."""

GENDER_FIELD = 6
EMPLOYER_SENTENCE, WORK_CITY_SENTENCE = (
    SENTENCE_ATTRIBUTES.index("employer"),
    SENTENCE_ATTRIBUTES.index("work_city"),
)

SUBJECT_PRONOUNS = (" He", " She", " His", " Her")


def sentence_templates(extra_attributes: Sequence[ExtraAttribute] = ()) -> list[tuple[str, ...]]:
    """Lines of the sentence templates of each attribute, those that a study adds last."""
    own = [people.read_lines("bios_templates", name) for name in SENTENCE_ATTRIBUTES]
    return [*own, *(attribute.sentences for attribute in extra_attributes)]


class Sentences(NamedTuple):
    """Sentences of a biography: numbers of templates, and marks of their values in prompts."""

    num_templates: Int64
    """Templates of each sentence."""
    fields: Marks
    """Field of each sentence's value."""
    accept_sets: Marks
    """Set of the tokens that are accepted after each sentence's value."""

    @classmethod
    def of(cls, extra_attributes: Sequence[ExtraAttribute]) -> Sentences:
        """Return the sentences of bioS with those of attributes that a study adds."""
        added = GENDER_FIELD + 1 + np.arange(len(extra_attributes))
        return cls(
            np.array([len(lines) for lines in sentence_templates(extra_attributes)]),
            np.concatenate([SENTENCE_FIELDS, added]).astype(np.int8),
            # The genders have two sets, so that sets of added attributes follow one later.
            np.concatenate([SENTENCE_FIELDS, added + 1]).astype(np.int8),
        )

    @property
    def number(self) -> int:
        """Number of sentences."""
        return self.num_templates.size

    @property
    def first_template(self) -> Int64:
        """Index of the first template of each sentence among those of all."""
        first: Int64 = np.cumsum(self.num_templates) - self.num_templates
        return first

    def split(self, of_templates: NDArray[Any]) -> list[NDArray[Any]]:
        """Split an array over the templates of all sentences by the sentences."""
        return np.split(of_templates, self.first_template[1:])

    def template_weights(self) -> Int64:
        """Relative frequencies of all templates, as integers."""
        weights = math.lcm(*self.num_templates.tolist()) // self.num_templates
        return weights.repeat(self.num_templates)


def template_texts(extra_attributes: Sequence[ExtraAttribute] = ()) -> dict[str, list[str]]:
    """Texts of all token templates by kind; dates in three parts."""
    templates = [
        _split_sentence_template(line)
        for lines in sentence_templates(extra_attributes)
        for line in lines
    ]
    employers, work_cities, _ = people.read_employers()
    pools = {name: people.read_lines("pools", pool) for name, pool in people.POOL_FILES.items()}
    values = pools | {"employer": employers, "work_city": work_cities}
    return {
        "end": [END_OF_TEXT],
        **people.name_texts(),
        "pronoun": list(SUBJECT_PRONOUNS),
        "name_head": ["'s" * is_possessive + head for is_possessive, head, _ in templates],
        "pronoun_head": [head for _, head, _ in templates],
        "tail": [tail for _, _, tail in templates],
        "month": [f" {month}" for month in people.MONTHS],
        "day": [f" {day}," for day in people.DAYS],
        "year": [f" {year}" for year in people.YEARS],
        **{name: [f" {value}" for value in values[name]] for name in SENTENCE_ATTRIBUTES[1:]},
        **{f"extra {a.name}": [f" {value}" for value in a.values] for a in extra_attributes},
    }


def _split_sentence_template(line: str) -> tuple[bool, str, str]:
    """Whether a sentence template begins with the possessive; also its head and its tail."""
    match = SENTENCE.fullmatch(line)
    assert match is not None, line
    form, head, tail = match.groups()
    return form == "possessive", head, tail
