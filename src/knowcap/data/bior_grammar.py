"""A grammar that generates bioR texts, for use without a language model.

Sentences state one, two or three facts, in any order: as clauses, in apposition or fronted. The
texts are more varied than the templates of bioS and far less than those of a language model.
Results with them are reported under the rewriter `grammar`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from knowcap.config import BioR
from knowcap.data import people
from knowcap.data.biography_writer import index_blocks
from knowcap.data.bios_texts import SENTENCE_ATTRIBUTES
from knowcap.data.people import Person
from knowcap.data.rng import derive_key, random_bits

MAX_FACTS_PER_SENTENCE = 3
"""Ensures at least two sentences, and therefore a pronoun."""

ATTRIBUTE_ORDERS = tuple(itertools.permutations(SENTENCE_ATTRIBUTES))

NUM_DRAWS = 2 + 2 * len(SENTENCE_ATTRIBUTES)
"""Random integers per text: order, sentence sizes, and per fact at most a pattern and a phrase."""


class SentencePattern(NamedTuple):
    """A sentence with slots for facts; literal text and slot names alternate."""

    parts: tuple[str, ...]
    can_open: bool
    """Whether it begins with its subject, as the first sentence must."""


@cache
def sentence_sizes() -> tuple[tuple[int, ...], ...]:
    """All ways to distribute the facts over sentences."""
    counts = range(1, MAX_FACTS_PER_SENTENCE + 1)
    return tuple(
        sizes
        for num_sentences in range(1, len(SENTENCE_ATTRIBUTES) + 1)
        for sizes in itertools.product(counts, repeat=num_sentences)
        if sum(sizes) == len(SENTENCE_ATTRIBUTES)
    )


@cache
def read_phrases(attribute: str, form: str) -> tuple[str, ...]:
    """Phrases of one grammatical form that state an attribute."""
    lines = (line.split(" ", 1) for line in people.read_lines("bior_phrases", attribute))
    return tuple(phrase for line_form, phrase in lines if line_form == form)


@cache
def read_patterns(num_facts: int, is_first: bool) -> tuple[SentencePattern, ...]:
    """Patterns with a number of facts; if `is_first`, only those that can open."""
    patterns = []
    for line in people.read_lines("bior_phrases", "sentences"):
        parts = tuple(re.split(r"\{(.+?)\}", line))
        if sum(part[-1:].isdigit() for part in parts[1::2]) == num_facts:
            can_open = line.startswith(("{subject}", "{possessive}"))
            patterns.append(SentencePattern(parts, can_open))
    return tuple(pattern for pattern in patterns if pattern.can_open or not is_first)


def generate_versions(knowledge: BioR) -> Iterator[list[str]]:
    """Yield all versions of all biographies, person after person, in blocks of people."""
    key = derive_key(knowledge.seed, "grammar")
    for person_ids in index_blocks(knowledge.num_people):
        versions = np.arange(knowledge.num_versions)
        text_ids = person_ids[:, None] * knowledge.num_versions + versions
        draws = random_bits(random_bits(key, text_ids.ravel())[:, None], np.arange(NUM_DRAWS))
        block = people.describe_people(knowledge, person_ids)
        subjects = (person for person in block for _ in range(knowledge.num_versions))
        yield [generate_biography(*each) for each in zip(subjects, draws.tolist(), strict=True)]


def generate_biography(person: Person, draws: Sequence[int]) -> str:
    """Generate a biography from :data:`NUM_DRAWS` random integers."""
    order_draw, sizes_draw, *fact_draws = draws
    attributes = list(ATTRIBUTE_ORDERS[order_draw % len(ATTRIBUTE_ORDERS)])
    draw_pairs = iter(zip(fact_draws[::2], fact_draws[1::2], strict=True))
    sentences = []
    for position, size in enumerate(sentence_sizes()[sizes_draw % len(sentence_sizes())]):
        stated, attributes = attributes[:size], attributes[size:]
        pairs = list(itertools.islice(draw_pairs, size))
        patterns = read_patterns(size, position == 0)
        pattern = patterns[pairs[0][0] % len(patterns)]
        slots = _subject_slots(person, is_first=position == 0)
        for number, (attribute, (_, draw)) in enumerate(zip(stated, pairs, strict=True), 1):
            value = person.values[attribute]
            for form in ("did", "aside", "front", "fact"):
                phrases = read_phrases(attribute, form)
                slots[f"{form} {number}"] = phrases[draw % len(phrases)].replace("{value}", value)
        words = [slots[part] if index % 2 else part for index, part in enumerate(pattern.parts)]
        sentences.append("".join(words))
    return " " + " ".join(sentences)


def _subject_slots(person: Person, is_first: bool) -> dict[str, str]:
    """Texts of the slots that refer to the person."""
    he, his = (("he", "his"), ("she", "her"))[person.gender]
    name = person.name.strip()
    first = {"subject": name, "possessive": f"{name}'s"}
    later = {"subject": he.capitalize(), "possessive": his.capitalize()}
    return {"he": he, "his": his} | (first if is_first else later)
