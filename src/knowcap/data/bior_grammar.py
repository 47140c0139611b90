"""A small grammar that rewrites biographies, where there is no language model to do it.

Sentences tell one, two or three facts, in any order, with facts as clauses, in apposition or
fronted: richer than the templates of bioS and far poorer than what a language model writes. Results
on it are those of `grammar` and stand for no other rewriter.
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
from knowcap.data.biography_writer import blocks
from knowcap.data.bios import SENTENCES
from knowcap.data.people import Profile
from knowcap.data.rng import bits, key

LARGEST_SENTENCE = 3
"""Facts in one sentence, at most: so there are two sentences at least, and a pronoun."""

ORDERS = tuple(itertools.permutations(SENTENCES))

NUM_DRAWS = 2 + 2 * len(SENTENCES)
"""Order and sizes of the sentences, and for each fact, at most, a pattern and a phrase."""


class Sentence(NamedTuple):
    """A way to tell some facts: words and slots in turn."""

    parts: tuple[str, ...]
    can_open: bool
    """Whether it begins with its subject, as the first sentence must."""


@cache
def sizes() -> tuple[tuple[int, ...], ...]:
    """Every way to spread the facts over sentences."""
    counts = range(1, LARGEST_SENTENCE + 1)
    return tuple(
        split
        for number in range(1, len(SENTENCES) + 1)
        for split in itertools.product(counts, repeat=number)
        if sum(split) == len(SENTENCES)
    )


@cache
def phrases(attribute: str, form: str) -> tuple[str, ...]:
    """Phrases of one form that tell an attribute."""
    lines = (line.split(" ", 1) for line in people.read_lines("phrases", attribute))
    return tuple(phrase for name, phrase in lines if name == form)


@cache
def patterns(size: int, is_first: bool) -> tuple[Sentence, ...]:
    """Sentences that tell `size` facts."""
    found = []
    for line in people.read_lines("phrases", "sentences"):
        parts = tuple(re.split(r"\{(.+?)\}", line))
        if sum(part[-1:].isdigit() for part in parts[1::2]) == size:
            found.append(Sentence(parts, line.startswith(("{subject}", "{possessive}"))))
    return tuple(each for each in found if each.can_open or not is_first)


def versions(knowledge: BioR) -> Iterator[list[str]]:
    """Every version of everybody's biography, person after person, a block of people at a time."""
    own = key(knowledge.seed, "grammar")
    for person in blocks(knowledge.num_people):
        count = person[:, None] * knowledge.num_versions + np.arange(knowledge.num_versions)
        draws = bits(bits(own, count.ravel())[:, None], np.arange(NUM_DRAWS))
        about = people.profiles(knowledge, person)
        repeated = (each for each in about for _ in range(knowledge.num_versions))
        yield [biography(*each) for each in zip(repeated, draws.tolist(), strict=True)]


def biography(profile: Profile, draws: Sequence[int]) -> str:
    """A biography, chosen by :data:`NUM_DRAWS` random integers."""
    order, split, *rest = draws
    facts = list(ORDERS[order % len(ORDERS)])
    pairs = iter(zip(rest[::2], rest[1::2], strict=True))
    text = []
    for place, size in enumerate(sizes()[split % len(sizes())]):
        told, facts = facts[:size], facts[size:]
        choices = list(itertools.islice(pairs, size))
        possible = patterns(size, place == 0)
        sentence = possible[choices[0][0] % len(possible)]
        words = _words(profile, is_first=place == 0)
        for number, (attribute, (_, choice)) in enumerate(zip(told, choices, strict=True), 1):
            value = profile.values[attribute]
            for form in ("did", "aside", "front", "fact"):
                phrase = phrases(attribute, form)
                words[f"{form} {number}"] = phrase[choice % len(phrase)].replace("{value}", value)
        spelled = [words[part] if odd % 2 else part for odd, part in enumerate(sentence.parts)]
        text.append("".join(spelled))
    return " " + " ".join(text)


def _words(profile: Profile, is_first: bool) -> dict[str, str]:
    """The words for a person in a sentence."""
    he, his = (("he", "his"), ("she", "her"))[profile.gender]
    name = profile.name.strip()
    first = {"subject": name, "possessive": f"{name}'s"}
    later = {"subject": he.capitalize(), "possessive": his.capitalize()}
    return {"he": he, "his": his} | (first if is_first else later)
