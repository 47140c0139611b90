"""bioS and bioS-simple: biographies of six sentences from templates (paper 2.2).

The first sentence has the full name as its subject, later ones a pronoun. `bioS` draws sentence
templates and their order anew in every exposure, `bioS-simple` once per person. A sentence
template is a line of bios_templates/*.txt; its text before and after the value are two token
templates, the head and the tail.
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
from knowcap.data.biography_writer import (
    NAME_COLUMNS,
    BiographyWriter,
    LengthStatistics,
    Marks,
    TemplatePrompts,
)
from knowcap.data.rng import (
    UInt64,
    derive_key,
    random_bits,
    random_integers,
    random_permutations,
)
from knowcap.data.token_templates import Int64, tokenize_texts
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

SECOND_SUBJECT_COLUMN = NAME_COLUMNS.stop + 3
"""Column of the pronoun that begins the second sentence."""

SUBJECT_PRONOUNS = (" He", " She", " His", " Her")

SUBJECT, HEAD, VALUE, TAIL = range(4)
"""Columns of a sentence. The first sentence has the last name in place of the subject."""


def template_texts() -> dict[str, list[str]]:
    """Texts of all token templates by kind; dates in three parts."""
    sentence_templates = [
        _split_sentence_template(line)
        for name in SENTENCE_ATTRIBUTES
        for line in people.read_lines("bios_templates", name)
    ]
    employers, work_cities, _ = people.read_employers()
    pools = {name: people.read_lines("pools", pool) for name, pool in people.POOL_FILES.items()}
    values = pools | {"employer": employers, "work_city": work_cities}
    return {
        "end": [END_OF_TEXT],
        **people.name_texts(),
        "pronoun": list(SUBJECT_PRONOUNS),
        "name_head": ["'s" * is_possessive + head for is_possessive, head, _ in sentence_templates],
        "pronoun_head": [head for _, head, _ in sentence_templates],
        "tail": [tail for _, _, tail in sentence_templates],
        "month": [f" {month}" for month in people.MONTHS],
        "day": [f" {day}," for day in people.DAYS],
        "year": [f" {year}" for year in people.YEARS],
        **{name: [f" {value}" for value in values[name]] for name in SENTENCE_ATTRIBUTES[1:]},
    }


def _split_sentence_template(line: str) -> tuple[bool, str, str]:
    """Whether a sentence template begins with the possessive; also its head and its tail."""
    match = re.fullmatch(r"\{(subject|possessive)\}( .+) \{value\}([., ].*)", line)
    assert match is not None, line
    form, head, tail = match.groups()
    return form == "possessive", head, tail


class BioSWriter(BiographyWriter):
    """Writes bioS and bioS-simple."""

    attributes = people.CARDINALITIES

    def __init__(self, knowledge: BioS, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        self.is_fixed = knowledge.kind == "bioS-simple"
        self.length_period = 1 if self.is_fixed else None
        texts = template_texts()
        before_punctuation = ["last_names", "year", *SENTENCE_ATTRIBUTES[1:]]
        templates, ids = tokenize_texts(texts, before_punctuation, tokenizer)
        date_parts = np.array(list(product(ids["month"], ids["day"], ids["year"])))
        self.templates = templates.append_templates(templates.merge_templates(date_parts))
        ids["birth_date"] = len(templates.lengths) + np.arange(len(date_parts))

        self.name_pool_ids = [ids[part] for part in people.name_texts()]
        self.value_ids = [ids[name] for name in SENTENCE_ATTRIBUTES]
        self.head_ids = np.stack([ids["name_head"], ids["pronoun_head"]])
        self.tail_ids = ids["tail"]
        self.templates_per_sentence = self.tail_ids.size // NUM_SENTENCES
        is_possessive = np.array([head.startswith("'s") for head in texts["name_head"]])
        self.pronoun_ids = ids["pronoun"].reshape(2, 2)[is_possessive.astype(int)]

        wording_ids = [ids["end"], ids["pronoun"], self.head_ids.ravel(), self.tail_ids]
        self.always_used_ids = np.concatenate(wording_ids)
        self.person_specific_ids = np.concatenate([*self.name_pool_ids, *self.value_ids])
        tail_ids = self.tail_ids.reshape(NUM_SENTENCES, -1)[SENTENCE_FIELDS > 0]
        he_ids, she_ids = ids["pronoun"].reshape(2, 2).T
        self.accept_sets = self._first_token_sets(self.head_ids[0], *tail_ids, he_ids, she_ids)
        assert all(self.templates.lengths[ids["pronoun"]] == 1)

    @property
    def longest_biography(self) -> int:
        """Tokens of the opening and of the longest names, values and sentence templates."""
        lengths = self.templates.lengths
        facts = sum(lengths[ids].max() for ids in (*self.name_pool_ids, *self.value_ids))
        sentence_lengths = lengths[self.head_ids].max(axis=0) + lengths[self.tail_ids]
        wording = sentence_lengths.reshape(NUM_SENTENCES, -1).max(axis=1).sum()
        return int(facts + wording) + self.num_opening_tokens + NUM_SENTENCES - 1

    def write_facts(self, person_ids: Int64) -> Int64:
        """Template ids of each person's name and of the values of all sentences."""
        name_ids = people.name_ids(self.knowledge, person_ids)
        name_parts = np.unravel_index(name_ids, [pool.size for pool in self.name_pool_ids])
        attribute_ids = people.attribute_ids(self.knowledge, person_ids)
        indices = [*name_parts, *(attribute_ids[name] for name in SENTENCE_ATTRIBUTES)]
        facts = np.empty((person_ids.size, len(indices)), dtype=np.int64)
        for column, pool in enumerate((*self.name_pool_ids, *self.value_ids)):
            facts[:, column] = pool[indices[column]]
        return facts

    def write_biographies(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Template ids of each person's biography in the wording of an exposure."""
        order, choices = self._draw_wording(person_ids, self._wording_keys(exposures, seed))
        return self._assemble(person_ids, order, choices)

    def count_wording_tokens(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Tokens of the same biographies without names and values."""
        order, choices = self._draw_wording(person_ids, self._wording_keys(exposures, seed))
        sentence_ids = order * self.templates_per_sentence + choices
        name_head, pronoun_head = self.templates.lengths[self.head_ids]
        num_tokens: Int64 = (pronoun_head + self.templates.lengths[self.tail_ids])[
            sentence_ids
        ].sum(axis=1)
        num_tokens += (name_head - pronoun_head)[sentence_ids[:, 0]]
        # Every sentence but the first has a pronoun of one token.
        return num_tokens + self.num_opening_tokens + NUM_SENTENCES - 1

    def wording_length_statistics(self) -> LengthStatistics:
        """Statistics of :meth:`count_wording_tokens` over all orders and sentence templates."""
        name_head, pronoun_head = self.templates.lengths[self.head_ids]
        later = (pronoun_head + self.templates.lengths[self.tail_ids]).reshape(NUM_SENTENCES, -1)
        first_excess = name_head - pronoun_head
        constant = self.num_opening_tokens + NUM_SENTENCES - 1
        return LengthStatistics(
            mean=float(later.mean(axis=1).sum() + first_excess.mean()) + constant,
            shortest=int(later.min(axis=1).sum() + first_excess.min()) + constant,
            longest=int(later.max(axis=1).sum() + first_excess.max()) + constant,
        )

    def wording_floors(self) -> dict[str, float]:
        """Mean of -log2 of the probability that a value comes next, over sentence templates.

        After "was born in" some templates continue with the value and others with more words. A
        value is scored after the name and its template's head, gender after a first sentence.
        """
        if self.is_fixed:
            return {}
        attribute = np.repeat(np.arange(NUM_SENTENCES), self.templates_per_sentence)
        heads, tails = (
            [tuple(self.templates.gather_tokens(ids[[each]])) for each in range(len(ids))]
            for ids in (self.head_ids[0], self.tail_ids)
        )
        ends_here, ends_sentence = (np.zeros(len(heads)) for _ in range(2))
        for each, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            begin_alike = [other for other, text in enumerate(heads) if text[: len(head)] == head]
            same = [o for o in begin_alike if heads[o] == head and attribute[o] == attribute[each]]
            ends_here[each] = len(same) / len(begin_alike)
            longer = [other for other in same if tails[other][: len(tail)] == tail]
            ends_sentence[each] = sum(tails[other] == tail for other in longer) / len(longer)
        floors = np.log2(1 / ends_here).reshape(NUM_SENTENCES, -1).mean(axis=1)
        names = ("birth_date", "birth_city", "university", "major", "employer")
        by_name = dict(zip(SENTENCE_ATTRIBUTES, floors.tolist(), strict=True))
        gender = float(np.log2(1 / ends_sentence).mean())
        return {name: by_name[name] for name in names} | {"gender": gender}

    def name_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """Opening, name and the head of a first sentence."""
        order, choices = self._draw_prompt_wording(person_ids, seed)
        prompts = self._assemble_prompts(person_ids, order[:, :1], choices[:, :1])
        prompts = prompts.truncate(NAME_COLUMNS.stop + 1)
        prompts.mark_name(accept=0)
        return prompts

    def attribute_prompts(self, person_ids: Int64, seed: int) -> Iterator[TemplatePrompts]:
        """A first sentence for each value, and the second subject for gender.

        Training on `bioS-simple` shows one wording per person only, so its prompt is that
        biography, with all attributes scored. If the working city precedes the employer in it, the
        city reveals the employer and is scored with it: P(employer) is
        P(city) P(employer | city).
        """
        # ASSUME: the paper does not state the text before a scored value.
        order, choices = self._draw_prompt_wording(person_ids, seed)
        if self.is_fixed:
            prompts = self._assemble_prompts(person_ids, order, choices)
            self._mark_values(prompts, order)
            self._mark_gender(prompts, person_ids)
            self._mark_revealing_city(prompts.field, order)
            yield prompts
            return
        for sentence in np.flatnonzero(SENTENCE_FIELDS > 0):
            first = np.full((person_ids.size, 1), sentence)
            prompts = self._assemble_prompts(person_ids, first, choices[:, [sentence]])
            self._mark_values(prompts, first)
            yield prompts
        prompts = self._assemble_prompts(person_ids, order[:, :2], choices[:, :2])
        prompts = prompts.truncate(SECOND_SUBJECT_COLUMN + 1)
        self._mark_gender(prompts, person_ids)
        yield prompts

    def biography_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """A whole biography; the working city may precede the employer and reveal it."""
        order, choices = self._draw_prompt_wording(person_ids, seed)
        prompts = self._assemble_prompts(person_ids, order, choices)
        prompts.mark_name(accept=0)
        self._mark_values(prompts, order)
        self._mark_gender(prompts, person_ids)
        self._mark_revealing_city(prompts.chain_field, order)
        return prompts

    def _wording_keys(self, exposures: Int64, seed: int) -> UInt64:
        """Key of each exposure's wording; the same for all exposures of bioS-simple."""
        if self.is_fixed:
            key = derive_key(self.knowledge.seed, "wording")
            return random_bits(key, np.zeros_like(exposures))
        return random_bits(derive_key(seed, "wording"), exposures)

    def _draw_prompt_wording(self, person_ids: Int64, seed: int) -> tuple[Int64, Int64]:
        """Wording of prompts, independent of that in training unless it is fixed."""
        prompt_keys = random_bits(derive_key(seed, "question"), np.zeros_like(person_ids))
        keys = self._wording_keys(np.zeros_like(person_ids), seed) if self.is_fixed else prompt_keys
        return self._draw_wording(person_ids, keys)

    def _draw_wording(self, person_ids: Int64, keys: UInt64) -> tuple[Int64, Int64]:
        """Order of the sentences and choice of sentence templates, [people, sentences] each."""
        order = random_permutations(NUM_SENTENCES, keys, person_ids)
        counters = (person_ids * NUM_SENTENCES)[:, None] + np.arange(1, 1 + NUM_SENTENCES)
        choice_keys = random_bits(keys, -1)[:, None]
        return order, random_integers(self.templates_per_sentence, choice_keys, counters)

    def _assemble(self, person_ids: Int64, order: Int64, choices: Int64) -> Int64:
        """Template ids of biographies with the sentences of `order` [people, sentences]."""
        facts = self.write_facts(person_ids)
        sentence_ids = order * self.templates_per_sentence + choices
        num_columns = NAME_COLUMNS.stop - 1 + 4 * order.shape[1]
        rows = np.empty((person_ids.size, num_columns), dtype=np.int64)
        sentences = _view_sentences(rows)
        genders = people.gender_ids(self.knowledge, person_ids)
        sentences[:, :, SUBJECT] = self.pronoun_ids[sentence_ids, genders[:, None]]
        sentences[:, :1, HEAD] = self.head_ids[0][sentence_ids[:, :1]]
        sentences[:, 1:, HEAD] = self.head_ids[1][sentence_ids[:, 1:]]
        sentences[:, :, VALUE] = np.take_along_axis(facts[:, 3:], order, axis=1)
        sentences[:, :, TAIL] = self.tail_ids[sentence_ids]
        rows[:, 0] = self.opening_id
        rows[:, NAME_COLUMNS] = facts[:, :3]
        return rows

    def _assemble_prompts(self, person_ids: Int64, order: Int64, choices: Int64) -> TemplatePrompts:
        """Prompts of the same biographies, without marks."""
        rows = self._assemble(person_ids, order, choices)
        return TemplatePrompts.without_marks(self.templates, rows)

    def _mark_values(self, prompts: TemplatePrompts, order: Int64) -> None:
        """Mark values and tails; accept set n holds the tails of field n."""
        _view_sentences(prompts.field)[:, :, VALUE] = SENTENCE_FIELDS[order]
        _view_sentences(prompts.strict_field)[:, :, TAIL] = SENTENCE_FIELDS[order]
        _view_sentences(prompts.accept)[:, :, TAIL] = SENTENCE_FIELDS[order]

    def _mark_gender(self, prompts: TemplatePrompts, person_ids: Int64) -> None:
        """Mark the second sentence's pronoun; both forms of the gender are accepted."""
        prompts.field[:, SECOND_SUBJECT_COLUMN] = GENDER_FIELD
        accept = GENDER_FIELD + people.gender_ids(self.knowledge, person_ids)
        prompts.accept[:, SECOND_SUBJECT_COLUMN] = accept

    def _mark_revealing_city(self, marks: Marks, order: Int64) -> None:
        """Mark the working city with the employer's field wherever the city precedes it."""
        position = order.argsort(axis=1)
        city_position, employer_position = (
            position[:, [sentence]] for sentence in (WORK_CITY_SENTENCE, EMPLOYER_SENTENCE)
        )
        is_revealing = (order == WORK_CITY_SENTENCE) & (city_position < employer_position)
        _view_sentences(marks)[:, :, VALUE][is_revealing] = SENTENCE_FIELDS[EMPLOYER_SENTENCE]


def _view_sentences(rows: NDArray[Any]) -> NDArray[Any]:
    """View of rows as [people, sentences, 4], from the last name on."""
    return rows[:, NAME_COLUMNS.stop - 1 :].reshape(len(rows), -1, 4)
