"""Table: biographies of facts of one's own, one sentence for each attribute.

Every sentence begins with the name. Sentence templates and their order are drawn anew in every
exposure. A sentence is four token templates: the name, the words before the value (the head), the
value, and the words after it (the tail).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from knowcap.config.table import Table
from knowcap.config.table_file import TableFacts
from knowcap.data.biography_writer import BiographyWriter, LengthStatistics, TemplatePrompts
from knowcap.data.rng import (
    UInt64,
    derive_key,
    random_bits,
    random_integers,
    random_permutations,
)
from knowcap.data.token_templates import Int64, tokenize_texts
from knowcap.data.tokenizer import END_OF_TEXT
from knowcap.data.wording_floors import value_shares

NAME, HEAD, VALUE, TAIL = range(4)
"""Columns of a sentence."""


def template_texts(knowledge: Table, facts: TableFacts) -> dict[str, list[str]]:
    """Texts of all token templates by kind."""
    sentences = [pair for a in knowledge.attributes for pair in a.split_sentences()]
    values = dict.fromkeys(value for column in facts.values.values() for value in column)
    return {
        "end": [END_OF_TEXT],
        "name": [f" {name}" for name in facts.names],
        "value": [f" {value}" for value in values],
        "head": [head for head, _ in sentences],
        "tail": [tail for _, tail in sentences],
    }


class TableWriter(BiographyWriter):
    """Writes biographies of a table."""

    length_period = None

    def __init__(self, knowledge: Table, facts: TableFacts, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        self.facts = facts
        self.attributes = {a.column: a.num_values for a in knowledge.attributes}
        texts = template_texts(knowledge, facts)
        self.templates, ids = tokenize_texts(texts, ["name", "value"], tokenizer)
        self.name_ids, self.head_ids, self.tail_ids = ids["name"], ids["head"], ids["tail"]
        id_of_value = dict(zip(texts["value"], ids["value"].tolist(), strict=True))
        self.value_ids = np.array(
            [[id_of_value[f" {value}"] for value in facts.values[c]] for c in knowledge.columns]
        ).T
        self.num_sentences = np.array([len(a.sentences) for a in knowledge.attributes])
        self.first_sentence = np.cumsum(self.num_sentences) - self.num_sentences
        self.always_used_ids = np.arange(len(self.templates.lengths))
        self.person_specific_ids = ids["end"][:0]
        self.accept_sets = self._first_token_sets(self.head_ids, *self.tails_by_attribute())

    def tails_by_attribute(self) -> list[Int64]:
        """Template ids of the words after the values of each attribute."""
        return np.split(self.tail_ids, self.first_sentence[1:])

    def write_facts(self, person_ids: Int64) -> Int64:
        """Template ids of the name in each sentence, and of each value."""
        names = self.name_ids[person_ids, None].repeat(len(self.attributes), axis=1)
        return np.concatenate([names, self.value_ids[person_ids]], axis=1)

    def write_biographies(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Template ids of each biography in the wording of an exposure."""
        order, sentence_ids = self._draw_wording(person_ids, self._wording_keys(exposures, seed))
        return self._assemble(person_ids, order, sentence_ids)

    def count_wording_tokens(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Tokens of the same biographies without names and values."""
        _, sentence_ids = self._draw_wording(person_ids, self._wording_keys(exposures, seed))
        num_tokens: Int64 = self._sentence_lengths()[sentence_ids].sum(axis=1)
        return num_tokens + self.num_opening_tokens

    def wording_length_statistics(self) -> LengthStatistics:
        """Statistics of :meth:`count_wording_tokens` over all sentence templates."""
        by_attribute = np.split(self._sentence_lengths(), self.first_sentence[1:])
        opening = self.num_opening_tokens
        return LengthStatistics(
            mean=float(sum(lengths.mean() for lengths in by_attribute)) + opening,
            shortest=int(sum(lengths.min() for lengths in by_attribute)) + opening,
            longest=int(sum(lengths.max() for lengths in by_attribute)) + opening,
        )

    @property
    def longest_biography(self) -> int:
        """Tokens of the opening and of the longest names, values and sentence templates."""
        lengths = self.templates.lengths
        names = len(self.attributes) * lengths[self.name_ids].max()
        values = lengths[self.value_ids].max(axis=0).sum()
        return int(names + values) + self.wording_length_statistics().longest

    def wording_floors(self) -> dict[str, float]:
        """Mean of -log2 of the probability that a value comes next, over sentence templates.

        Other templates may begin with the same words, or continue with another attribute's value.
        """
        heads = [
            tuple(self.templates.gather_tokens(head_id).tolist())
            for head_id in self.head_ids[:, None]
        ]
        attribute = np.repeat(np.arange(len(self.attributes)), self.num_sentences)
        weight = math.lcm(*self.num_sentences.tolist()) // self.num_sentences[attribute]
        bits = np.log2(1 / value_shares(heads, attribute, weight))
        floors = [float(each.mean()) for each in np.split(bits, self.first_sentence[1:])]
        return dict(zip(self.attributes, floors, strict=True))

    def name_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """Opening, name and the head of a first sentence."""
        order, sentence_ids = self._draw_prompt_wording(person_ids, seed)
        prompts = self._assemble_prompts(person_ids, order[:, :1], sentence_ids[:, :1])
        prompts = prompts.truncate(1 + HEAD + 1)
        _mark_name(prompts)
        return prompts

    def attribute_prompts(self, person_ids: Int64, seed: int) -> Iterator[TemplatePrompts]:
        """A first sentence for each value."""
        order, sentence_ids = self._draw_prompt_wording(person_ids, seed)
        place = order.argsort(axis=1)
        for attribute in range(len(self.attributes)):
            first = np.full((person_ids.size, 1), attribute)
            own = np.take_along_axis(sentence_ids, place[:, [attribute]], axis=1)
            prompts = self._assemble_prompts(person_ids, first, own)
            _mark_values(prompts, first)
            yield prompts

    def biography_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """A whole biography."""
        order, sentence_ids = self._draw_prompt_wording(person_ids, seed)
        prompts = self._assemble_prompts(person_ids, order, sentence_ids)
        _mark_name(prompts)
        _mark_values(prompts, order)
        return prompts

    def describe_facts(self) -> Iterator[dict[str, str]]:
        """Yield the name and the values of each person."""
        columns = self.facts.values
        for row, name in enumerate(self.facts.names):
            yield {"name": name, **{column: values[row] for column, values in columns.items()}}

    def _sentence_lengths(self) -> Int64:
        """Tokens of each sentence template without name and value."""
        return self.templates.lengths[self.head_ids] + self.templates.lengths[self.tail_ids]

    def _wording_keys(self, exposures: Int64, seed: int) -> UInt64:
        """Key of each exposure's wording."""
        return random_bits(derive_key(seed, "wording"), exposures)

    def _draw_prompt_wording(self, person_ids: Int64, seed: int) -> tuple[Int64, Int64]:
        """Wording of prompts, independent of that in training."""
        keys = random_bits(derive_key(seed, "question"), np.zeros_like(person_ids))
        return self._draw_wording(person_ids, keys)

    def _draw_wording(self, person_ids: Int64, keys: UInt64) -> tuple[Int64, Int64]:
        """Order of the attributes, and sentence template of each, [people, attributes] each."""
        num_attributes = len(self.attributes)
        order = random_permutations(num_attributes, keys, person_ids)
        choice_keys = random_bits(keys, -1)
        counters = person_ids * num_attributes
        choices = np.stack(
            [
                random_integers(int(number), choice_keys, counters + attribute)
                for attribute, number in enumerate(self.num_sentences)
            ],
            axis=1,
        )
        return order, np.take_along_axis(self.first_sentence + choices, order, axis=1)

    def _assemble(self, person_ids: Int64, order: Int64, sentence_ids: Int64) -> Int64:
        """Template ids of biographies with these sentences, [people, templates]."""
        rows = np.empty((person_ids.size, 1 + 4 * order.shape[1]), dtype=np.int64)
        rows[:, 0] = self.opening_id
        sentences = _view_sentences(rows)
        sentences[:, :, NAME] = self.name_ids[person_ids, None]
        sentences[:, :, HEAD] = self.head_ids[sentence_ids]
        sentences[:, :, VALUE] = np.take_along_axis(self.value_ids[person_ids], order, axis=1)
        sentences[:, :, TAIL] = self.tail_ids[sentence_ids]
        return rows

    def _assemble_prompts(
        self, person_ids: Int64, order: Int64, sentence_ids: Int64
    ) -> TemplatePrompts:
        """Prompts of the same biographies, without marks."""
        rows = self._assemble(person_ids, order, sentence_ids)
        return TemplatePrompts.without_marks(self.templates, rows)


def _mark_name(prompts: TemplatePrompts) -> None:
    """Mark the first name and the head after it."""
    prompts.field[:, 1 + NAME] = 0
    prompts.strict_field[:, 1 + HEAD] = 0
    prompts.accept[:, 1 + HEAD] = 0


def _mark_values(prompts: TemplatePrompts, order: Int64) -> None:
    """Mark values and tails; accept set n has the tails of field n."""
    _view_sentences(prompts.field)[:, :, VALUE] = 1 + order
    _view_sentences(prompts.strict_field)[:, :, TAIL] = 1 + order
    _view_sentences(prompts.accept)[:, :, TAIL] = 1 + order


def _view_sentences(rows: NDArray[Any]) -> NDArray[Any]:
    """View of rows as [people, sentences, 4], after the opening."""
    return rows[:, 1:].reshape(len(rows), -1, 4)
