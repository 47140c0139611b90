"""bioS and bioS-simple: biographies of six sentences from templates (paper 2.2).

The first sentence has the full name as its subject, later ones a pronoun. `bioS` draws sentence
templates and their order anew in every exposure, `bioS-simple` once per person. Attributes that a
study adds have one more sentence each.
"""

from __future__ import annotations

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
from knowcap.data.bios_texts import (
    EMPLOYER_SENTENCE,
    GENDER_FIELD,
    SENTENCE_ATTRIBUTES,
    SENTENCE_FIELDS,
    WORK_CITY_SENTENCE,
    Sentences,
    template_texts,
)
from knowcap.data.rng import (
    UInt64,
    derive_key,
    random_bits,
    random_integers,
    random_permutations,
)
from knowcap.data.token_templates import Int64, tokenize_texts
from knowcap.data.wording_floors import end_shares, value_shares

SECOND_SUBJECT_COLUMN = NAME_COLUMNS.stop + 3
"""Column of the pronoun that begins the second sentence."""

SUBJECT, HEAD, VALUE, TAIL = range(4)
"""Columns of a sentence. The first sentence has the last name in place of the subject."""


class BioSWriter(BiographyWriter):
    """Writes bioS and bioS-simple."""

    def __init__(self, knowledge: BioS, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        self.is_fixed = knowledge.kind == "bioS-simple"
        self.length_period = 1 if self.is_fixed else None
        extra = knowledge.extra_attributes
        self.attributes = people.CARDINALITIES | {a.name: len(a.values) for a in extra}
        self.sentences = Sentences.of(extra)
        texts = template_texts(extra)
        extra_kinds = [f"extra {attribute.name}" for attribute in extra]
        before_punctuation = ["last_names", "year", *SENTENCE_ATTRIBUTES[1:], *extra_kinds]
        templates, ids = tokenize_texts(texts, before_punctuation, tokenizer)
        date_parts = np.array(list(product(ids["month"], ids["day"], ids["year"])))
        self.templates = templates.append_templates(templates.merge_templates(date_parts))
        ids["birth_date"] = len(templates.lengths) + np.arange(len(date_parts))

        self.name_pool_ids = [ids[part] for part in people.name_texts()]
        self.value_ids = [ids[kind] for kind in (*SENTENCE_ATTRIBUTES, *extra_kinds)]
        self.head_ids = np.stack([ids["name_head"], ids["pronoun_head"]])
        self.tail_ids = ids["tail"]
        is_possessive = np.array([head.startswith("'s") for head in texts["name_head"]])
        self.pronoun_ids = ids["pronoun"].reshape(2, 2)[is_possessive.astype(int)]

        wording_ids = [ids["end"], ids["pronoun"], self.head_ids.ravel(), self.tail_ids]
        self.always_used_ids = np.concatenate(wording_ids)
        self.person_specific_ids = np.concatenate([*self.name_pool_ids, *self.value_ids])
        tail_ids = self.sentences.split(self.tail_ids)
        genders = ids["pronoun"].reshape(2, 2).T
        num_own = len(SENTENCE_ATTRIBUTES)
        own = [tail_ids[sentence] for sentence in np.flatnonzero(SENTENCE_FIELDS > 0)]
        self.accepted_templates = [self.head_ids[0], *own, *genders, *tail_ids[num_own:]]
        self.accept_sets = self._first_token_sets(*self.accepted_templates)
        assert all(self.templates.lengths[ids["pronoun"]] == 1)

    @property
    def longest_biography(self) -> int:
        """Tokens of the opening and of the longest names, values and sentence templates."""
        lengths = self.templates.lengths
        facts = sum(lengths[ids].max() for ids in (*self.name_pool_ids, *self.value_ids))
        sentence_lengths = lengths[self.head_ids].max(axis=0) + lengths[self.tail_ids]
        wording = sum(each.max() for each in self.sentences.split(sentence_lengths))
        return int(facts + wording) + self.num_opening_tokens + self.sentences.number - 1

    def write_facts(self, person_ids: Int64) -> Int64:
        """Template ids of each person's name and of the values of all sentences."""
        name_ids = people.name_ids(self.knowledge, person_ids)
        name_parts = np.unravel_index(name_ids, [pool.size for pool in self.name_pool_ids])
        attribute_ids = people.attribute_ids(self.knowledge, person_ids)
        extra_ids = people.extra_attribute_ids(self.knowledge, person_ids)
        own_ids = [attribute_ids[name] for name in SENTENCE_ATTRIBUTES]
        indices = [*name_parts, *own_ids, *extra_ids.values()]
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
        sentence_ids = self.sentences.first_template[order] + choices
        name_head, pronoun_head = self.templates.lengths[self.head_ids]
        num_tokens: Int64 = (pronoun_head + self.templates.lengths[self.tail_ids])[
            sentence_ids
        ].sum(axis=1)
        num_tokens += (name_head - pronoun_head)[sentence_ids[:, 0]]
        # Every sentence but the first has a pronoun of one token.
        return num_tokens + self.num_opening_tokens + self.sentences.number - 1

    def wording_length_statistics(self) -> LengthStatistics:
        """Statistics of :meth:`count_wording_tokens` over all orders and sentence templates."""
        name_head, pronoun_head = self.templates.lengths[self.head_ids]
        later = self.sentences.split(pronoun_head + self.templates.lengths[self.tail_ids])
        first_excess = name_head - pronoun_head
        mean_excess = np.average(first_excess, weights=self.sentences.template_weights())
        constant = self.num_opening_tokens + self.sentences.number - 1
        return LengthStatistics(
            mean=float(np.sum([each.mean() for each in later]) + mean_excess) + constant,
            shortest=int(sum(each.min() for each in later) + first_excess.min()) + constant,
            longest=int(sum(each.max() for each in later) + first_excess.max()) + constant,
        )

    def wording_floors(self) -> dict[str, float]:
        """Mean of -log2 of the probability that a value comes next, over sentence templates.

        A value is scored after the name and its template's head, gender after a first sentence.
        """
        if self.is_fixed:
            return {}
        attribute = np.repeat(np.arange(self.sentences.number), self.sentences.num_templates)
        weight = self.sentences.template_weights()
        heads, tails = (
            [tuple(self.templates.gather_tokens(ids[[each]]).tolist()) for each in range(len(ids))]
            for ids in (self.head_ids[0], self.tail_ids)
        )
        ends_here = value_shares(heads, attribute, weight)
        ends_sentence = end_shares(heads, tails, attribute)
        floors = [float(each.mean()) for each in self.sentences.split(np.log2(1 / ends_here))]
        extra = tuple(attribute.name for attribute in self.knowledge.extra_attributes)
        by_name = dict(zip((*SENTENCE_ATTRIBUTES, *extra), floors, strict=True))
        by_name["gender"] = float(np.average(np.log2(1 / ends_sentence), weights=weight))
        return {name: by_name[name] for name in self.attributes}

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
        keys = self._prompt_keys(person_ids, seed)
        order, choices = self._draw_wording(person_ids, keys)
        if self.is_fixed:
            prompts = self._assemble_prompts(person_ids, order, choices)
            self._mark_values(prompts, order)
            self._mark_gender(prompts, person_ids)
            self._mark_revealing_city(prompts.field, order)
            yield prompts
            return
        in_order = self._draw_choices(person_ids, keys, np.arange(self.sentences.number))
        for sentence in np.flatnonzero(self.sentences.fields > 0):
            first = np.full((person_ids.size, 1), sentence)
            prompts = self._assemble_prompts(person_ids, first, in_order[:, [sentence]])
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

    def _prompt_keys(self, person_ids: Int64, seed: int) -> UInt64:
        """Keys of the wording of prompts, independent of that in training unless it is fixed."""
        if self.is_fixed:
            return self._wording_keys(np.zeros_like(person_ids), seed)
        return random_bits(derive_key(seed, "question"), np.zeros_like(person_ids))

    def _draw_prompt_wording(self, person_ids: Int64, seed: int) -> tuple[Int64, Int64]:
        """Order of the sentences and choice of sentence templates of prompts."""
        return self._draw_wording(person_ids, self._prompt_keys(person_ids, seed))

    def _draw_wording(self, person_ids: Int64, keys: UInt64) -> tuple[Int64, Int64]:
        """Order of the sentences and choice of sentence templates, [people, sentences] each."""
        order = random_permutations(self.sentences.number, keys, person_ids)
        return order, self._draw_choices(person_ids, keys, order)

    def _draw_choices(self, person_ids: Int64, keys: UInt64, order: Int64) -> Int64:
        """Sentence template of each sentence, by place in an order; a place has a draw."""
        counters = (person_ids * self.sentences.number)[:, None] + np.arange(
            1, 1 + self.sentences.number
        )
        choice_keys = random_bits(keys, -1)[:, None]
        choices = np.empty_like(counters)
        for number in np.unique(self.sentences.num_templates).tolist():
            drawn = random_integers(number, choice_keys, counters)
            np.copyto(choices, drawn, where=self.sentences.num_templates[order] == number)
        return choices

    def _assemble(self, person_ids: Int64, order: Int64, choices: Int64) -> Int64:
        """Template ids of biographies with the sentences of `order` [people, sentences]."""
        facts = self.write_facts(person_ids)
        sentence_ids = self.sentences.first_template[order] + choices
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
        _view_sentences(prompts.field)[:, :, VALUE] = self.sentences.fields[order]
        _view_sentences(prompts.strict_field)[:, :, TAIL] = self.sentences.fields[order]
        _view_sentences(prompts.accept)[:, :, TAIL] = self.sentences.accept_sets[order]

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
