"""bioS: six sentences about a person, each from one of many templates (paper 2.2).

The first sentence has the full name as its subject, later ones a pronoun. `bioS` draws templates
and order anew for every exposure; `bioS-simple` draws them once for each person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from knowcap.config import BioS
from knowcap.data import people
from knowcap.data.biography_writer import NAME, Lengths, Passage, Writer
from knowcap.data.rng import UInt64, bits, key, shuffled, uniform
from knowcap.data.token_templates import Int64, encoded
from knowcap.data.tokenizer import END_OF_TEXT

SENTENCES = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
"""What a biography tells, in a random order; gender shows in the pronouns."""

FIELDS = np.array([1, 2, 3, 4, 5, -1], dtype=np.int8)
"""Field of each sentence's value; the working city is none, it follows from the employer."""

GENDER, EMPLOYER, WORK_CITY = 6, SENTENCES.index("employer"), SENTENCES.index("work_city")

SECOND_SUBJECT = NAME.stop + 3
"""Column of the pronoun that begins the second sentence."""

PRONOUNS = (" He", " She", " His", " Her")

SUBJECT, HEAD, VALUE, TAIL = range(4)
"""The fragments of a sentence; the last name stands where the first one's subject would."""


def fragment_texts() -> dict[str, list[str]]:
    """Everything that biographies are written with, by kind; a date is three fragments."""
    templates = [
        _parts(line) for name in SENTENCES for line in people.read_lines("templates", name)
    ]
    employers, work_cities, _ = people.employers()
    pools = {name: people.read_lines("pools", pool) for name, pool in people.POOLS.items()}
    values = pools | {"employer": employers, "work_city": work_cities}
    return {
        "end": [END_OF_TEXT],
        **people.name_texts(),
        "pronoun": list(PRONOUNS),
        "name_head": ["'s" * is_possessive + head for is_possessive, head, _ in templates],
        "pronoun_head": [head for _, head, _ in templates],
        "tail": [tail for _, _, tail in templates],
        "month": [f" {month}" for month in people.MONTHS],
        "day": [f" {day}," for day in people.DAYS],
        "year": [f" {year}" for year in people.YEARS],
        **{name: [f" {value}" for value in values[name]] for name in SENTENCES[1:]},
    }


def _parts(template: str) -> tuple[bool, str, str]:
    """Whether a template begins with the possessive, and its text before and after the value."""
    match = re.fullmatch(r"\{(subject|possessive)\}( .+) \{value\}([., ].*)", template)
    assert match is not None, template
    form, head, tail = match.groups()
    return form == "possessive", head, tail


class BioSWriter(Writer):
    """Writes bioS and bioS-simple."""

    attributes = people.CARDINALITIES

    def __init__(self, knowledge: BioS, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        self.is_fixed = knowledge.kind == "bioS-simple"
        self.period = 1 if self.is_fixed else None
        texts = fragment_texts()
        pieces, number = encoded(texts, ["last_names", "year", *SENTENCES[1:]], tokenizer)
        dates = np.array(list(product(number["month"], number["day"], number["year"])))
        self.fragments = pieces.followed_by(pieces.joined(dates))
        number["birth_date"] = len(pieces.lengths) + np.arange(len(dates))

        self.name_pools = [number[part] for part in people.name_texts()]
        self.values = [number[name] for name in SENTENCES]
        self.heads = np.stack([number["name_head"], number["pronoun_head"]])
        self.tails = number["tail"]
        self.num_templates = self.tails.size // len(SENTENCES)
        is_possessive = np.array([head.startswith("'s") for head in texts["name_head"]])
        self.pronouns = number["pronoun"].reshape(2, 2)[is_possessive.astype(int)]

        wording = [number["end"], number["pronoun"], self.heads.ravel(), self.tails]
        self.common = np.concatenate(wording)
        self.personal = np.concatenate([*self.name_pools, *self.values])
        tails = self.tails.reshape(len(SENTENCES), -1)[FIELDS > 0]
        he, she = number["pronoun"].reshape(2, 2).T
        self.accept_sets = self._first_tokens(self.heads[0], *tails, he, she)
        assert all(self.fragments.lengths[number["pronoun"]] == 1)

    @property
    def longest(self) -> int:
        """Tokens of the opening and the longest names, values and templates together."""
        lengths = self.fragments.lengths
        longest = sum(lengths[pool].max() for pool in (*self.name_pools, *self.values))
        templates = lengths[self.heads].max(axis=0) + lengths[self.tails]
        wording = templates.reshape(len(SENTENCES), -1).max(axis=1).sum()
        return int(longest + wording) + self.opening_tokens + len(SENTENCES) - 1

    def known(self, person: Int64) -> Int64:
        """Fragments of each person's name and of the values of all sentences."""
        number = people.name_numbers(self.knowledge, person)
        parts = np.unravel_index(number, [pool.size for pool in self.name_pools])
        values = people.attributes(self.knowledge, person)
        indices = [*parts, *(values[name] for name in SENTENCES)]
        known = np.empty((person.size, len(indices)), dtype=np.int64)
        for column, pool in enumerate((*self.name_pools, *self.values)):
            known[:, column] = pool[indices[column]]
        return known

    def written(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Each person's biography in the wording of an exposure."""
        order, template = self._wording(person, self._wording_key(exposure, seed))
        return self._composed(person, order, template)

    def wording_tokens(self, person: Int64, exposure: Int64, seed: int) -> Int64:
        """Tokens of the same biographies that spell neither name nor value."""
        order, template = self._wording(person, self._wording_key(exposure, seed))
        which = order * self.num_templates + template
        name_head, pronoun_head = self.fragments.lengths[self.heads]
        tokens: Int64 = (pronoun_head + self.fragments.lengths[self.tails])[which].sum(axis=1)
        tokens += (name_head - pronoun_head)[which[:, 0]]
        # Every sentence but the first has a pronoun of one token.
        return tokens + self.opening_tokens + len(SENTENCES) - 1

    def wording_lengths(self) -> Lengths:
        """Of the same tokens over all orders and templates."""
        name_head, pronoun_head = self.fragments.lengths[self.heads]
        later = (pronoun_head + self.fragments.lengths[self.tails]).reshape(len(SENTENCES), -1)
        first = name_head - pronoun_head
        others = self.opening_tokens + len(SENTENCES) - 1
        return Lengths(
            mean=float(later.mean(axis=1).sum() + first.mean()) + others,
            shortest=int(later.min(axis=1).sum() + first.min()) + others,
            longest=int(later.max(axis=1).sum() + first.max()) + others,
        )

    def name_passage(self, person: Int64, seed: int) -> Passage:
        """Opening, name and how a first sentence goes on."""
        order, template = self._asked_wording(person, seed)
        passage = self._unmarked(person, order[:, :1], template[:, :1]).up_to(NAME.stop + 1)
        passage.mark_name(follower=0)
        return passage

    def attribute_passages(self, person: Int64, seed: int) -> Iterator[Passage]:
        """For each value a first sentence that tells it; for gender, the next one's pronoun.

        A fixed biography has been read in one wording only, so `bioS-simple` is asked in it, all
        at once. Where the working city stands before the employer it has told of the employer,
        and is counted with it: P(employer) is P(city) P(employer | city).
        """
        # ASSUME: the paper does not say what stands before a value that is scored.
        order, template = self._asked_wording(person, seed)
        if self.is_fixed:
            passage = self._unmarked(person, order, template)
            self._mark_values(passage, order)
            self._mark_gender(passage, person)
            self._mark_city_as_employer(passage, order)
            yield passage
            return
        for sentence in np.flatnonzero(FIELDS > 0):
            first = np.full((person.size, 1), sentence)
            passage = self._unmarked(person, first, template[:, [sentence]])
            self._mark_values(passage, first)
            yield passage
        passage = self._unmarked(person, order[:, :2], template[:, :2]).up_to(SECOND_SUBJECT + 1)
        self._mark_gender(passage, person)
        yield passage

    def biography_passage(self, person: Int64, seed: int) -> Passage:
        """A whole biography, in an order in which the city can tell of the employer."""
        order, template = self._asked_wording(person, seed)
        passage = self._unmarked(person, order, template)
        passage.mark_name(follower=0)
        self._mark_values(passage, order)
        self._mark_gender(passage, person)
        return passage

    def _wording_key(self, exposure: Int64, seed: int) -> UInt64:
        """Key of each exposure's wording; bioS-simple has one for ever."""
        if self.is_fixed:
            return bits(key(self.knowledge.seed, "wording"), np.zeros_like(exposure))
        return bits(key(seed, "wording"), exposure)

    def _asked_wording(self, person: Int64, seed: int) -> tuple[Int64, Int64]:
        """Order and templates of questions: a wording of their own unless it is fixed."""
        asked = bits(key(seed, "question"), np.zeros_like(person))
        own = self._wording_key(np.zeros_like(person), seed) if self.is_fixed else asked
        return self._wording(person, own)

    def _wording(self, person: Int64, key: UInt64) -> tuple[Int64, Int64]:
        """Order of the sentences and the template at each place, [people, sentences] each."""
        order = shuffled(len(SENTENCES), key, person)
        counter = (person * len(SENTENCES))[:, None] + np.arange(1, 1 + len(SENTENCES))
        return order, uniform(self.num_templates, bits(key, -1)[:, None], counter)

    def _composed(self, person: Int64, order: Int64, template: Int64) -> Int64:
        """Biographies of the sentences in `order` [people, told], in its order."""
        known = self.known(person)
        which = order * self.num_templates + template
        row = np.empty((person.size, NAME.stop - 1 + 4 * order.shape[1]), dtype=np.int64)
        sentence = _sentences(row)
        gender = people.gender(self.knowledge, person)
        sentence[:, :, SUBJECT] = self.pronouns[which, gender[:, None]]
        sentence[:, :1, HEAD] = self.heads[0][which[:, :1]]
        sentence[:, 1:, HEAD] = self.heads[1][which[:, 1:]]
        sentence[:, :, VALUE] = np.take_along_axis(known[:, 3:], order, axis=1)
        sentence[:, :, TAIL] = self.tails[which]
        row[:, 0] = self.opening
        row[:, NAME] = known[:, :3]
        return row

    def _unmarked(self, person: Int64, order: Int64, template: Int64) -> Passage:
        """The same biographies as a passage without marks."""
        return Passage.unmarked(self.fragments, self._composed(person, order, template))

    def _mark_values(self, passage: Passage, order: Int64) -> None:
        """Mark the values and what follows them; set n of tokens can follow field n."""
        _sentences(passage.field)[:, :, VALUE] = FIELDS[order]
        _sentences(passage.strict)[:, :, TAIL] = FIELDS[order]
        _sentences(passage.accept)[:, :, TAIL] = FIELDS[order]

    def _mark_gender(self, passage: Passage, person: Int64) -> None:
        """Mark the second sentence's pronoun; both forms for the gender will do."""
        passage.field[:, SECOND_SUBJECT] = GENDER
        passage.accept[:, SECOND_SUBJECT] = GENDER + people.gender(self.knowledge, person)

    def _mark_city_as_employer(self, passage: Passage, order: Int64) -> None:
        """Count the working city with the employer wherever it comes first."""
        place = order.argsort(axis=1)
        is_told = (order == WORK_CITY) & (place[:, [WORK_CITY]] < place[:, [EMPLOYER]])
        _sentences(passage.field)[:, :, VALUE][is_told] = FIELDS[EMPLOYER]


def _sentences(row: NDArray[Any]) -> NDArray[Any]:
    """View [people, sentences, 4] of rows; the last name is in the first subject's place."""
    return row[:, NAME.stop - 1 :].reshape(len(row), -1, 4)
