"""BiographyWriter, the interface of the four kinds of biographies, and TemplatePrompts.

A writer turns people into rows of template ids (:mod:`knowcap.data.token_templates`). Token
streams need only these ids. Prompts also need the templates of each fact.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from knowcap.data.token_templates import Int32, Int64, TokenTemplates

Marks = NDArray[np.int8]

NAME_COLUMNS = slice(1, 4)
"""Columns of a biography that hold the name; column 0 is the opening."""

INDEX_BLOCK_SIZE = 2048
"""People or biographies processed at once in loops over all of them."""


class TemplatePrompts(NamedTuple):
    """Prompts as template ids; the marks of scored templates are [people, templates].

    A mark is -1 where it does not apply.
    """

    templates: TokenTemplates
    """Templates that the ids refer to."""
    template_ids: Int64
    """[people, templates], the biographies or their beginnings."""
    field: Marks
    """Field whose name or value the template spells."""
    strict_field: Marks
    """Field that ends before the template; the strict loss counts the template's first token."""
    accept: Marks
    """Index of the set of tokens accepted instead of the template's first token."""
    given: Marks
    """Index of the set of tokens that the probability is conditional on."""
    chain_field: Marks
    """Field whose chain-rule loss counts the template too, because it reveals the field's value."""
    first_chunk: NDArray[np.bool_]
    """Whether the template is the first chunk of a value."""

    @classmethod
    def without_marks(cls, templates: TokenTemplates, template_ids: Int64) -> TemplatePrompts:
        """Prompts in which no template is marked yet."""
        shape = template_ids.shape
        field, strict_field, accept, given, chain_field = np.full((5, *shape), -1, dtype=np.int8)
        first_chunk = np.zeros(shape, dtype=bool)
        return cls(
            templates, template_ids, field, strict_field, accept, given, chain_field, first_chunk
        )

    def truncate(self, num_columns: int) -> TemplatePrompts:
        """Return the first columns as a view."""
        return TemplatePrompts(
            self.templates,
            self.template_ids[:, :num_columns],
            self.field[:, :num_columns],
            self.strict_field[:, :num_columns],
            self.accept[:, :num_columns],
            self.given[:, :num_columns],
            self.chain_field[:, :num_columns],
            self.first_chunk[:, :num_columns],
        )

    def mark_name(self, accept: int) -> None:
        """Mark the name; `accept` is the set of tokens that may follow it."""
        self.field[:, NAME_COLUMNS] = 0
        self.strict_field[:, NAME_COLUMNS.stop] = 0
        self.accept[:, NAME_COLUMNS.stop] = accept


class LengthStatistics(NamedTuple):
    """Mean and bounds of a random number of tokens."""

    mean: float
    shortest: int
    """Lower bound."""
    longest: int
    """Upper bound."""


class BiographyWriter(ABC):
    """Base class of the writers of bioS, bioR and bioD.

    A biography is a row of template ids: the opening, the name, and the wording (the sentences
    around the values) with the values. Attributes have the index order of `fields`.
    """

    templates: TokenTemplates
    """All templates of biographies; template 0 is the end of text."""
    opening_id: int = 0
    """Template that begins every biography: the end of text, or more tokens."""
    attributes: dict[str, int]
    """Cardinalities of the independent attributes."""
    accept_sets: list[Int32]
    """Sets of tokens that `accept` of prompts refers to."""
    always_used_ids: Int64
    """Templates that count as used by every population."""
    person_specific_ids: Int64
    """Templates that are used if a person has such a name or value."""
    length_period: int | None
    """Exposures after which each person's biography lengths repeat; None for random wordings,
    whose lengths do not repeat."""

    def prepend_token(self, token: int) -> Self:
        """Return a copy that adds a token to the opening of biographies."""
        writer = copy.copy(self)
        opening = TokenTemplates.from_lists([[int(self.templates.tokens[0]), token]])
        writer.templates = self.templates.append_templates(opening)
        writer.opening_id = len(self.templates.lengths)
        return writer

    @property
    def num_opening_tokens(self) -> int:
        """Tokens before the name."""
        return int(self.templates.lengths[self.opening_id])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the scored fields: the name, then the attributes."""
        return ("name", *self.attributes)

    @abstractmethod
    def write_facts(self, person_ids: Int64) -> Int64:
        """Template ids of each person's name and values, [people, facts]."""

    @abstractmethod
    def write_biographies(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Template ids of people's biographies in the given exposures, [people, templates].

        Parameters
        ----------
        person_ids, exposures
            One of each per biography.
        seed
            Seed of the stream that the exposures belong to.
        """

    @abstractmethod
    def count_wording_tokens(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Tokens of the same biographies without names and values, with the opening, [people]."""

    def wording_length_statistics(self) -> LengthStatistics:
        """Statistics of :meth:`count_wording_tokens` over all wordings, if these are random."""
        raise NotImplementedError

    def wording_floors(self) -> dict[str, float]:
        """Bits of an attribute's loss in attribute prompts that no knowledge saves; 0 if omitted.

        A model that knows all biographies knows the wording too if it is fixed.
        """
        return {}

    @abstractmethod
    def name_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """Prompts that score each person's name after the opening alone."""

    @abstractmethod
    def attribute_prompts(self, person_ids: Int64, seed: int) -> Iterator[TemplatePrompts]:
        """Prompts that together score every attribute of each person."""

    @abstractmethod
    def biography_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """Whole biographies in which the name and all attributes are scored."""

    @property
    @abstractmethod
    def longest_biography(self) -> int:
        """Upper bound of the tokens of a biography with its opening."""

    def find_used_tokens(self, num_people: int) -> Int32:
        """Sorted tokens in the biographies of the first `num_people` people."""
        is_used = np.zeros(len(self.templates.lengths), dtype=bool)
        is_used[self.always_used_ids] = is_used[self.opening_id] = True
        for person_ids in index_blocks(num_people):
            if is_used[self.person_specific_ids].all():
                break
            is_used[self.write_facts(person_ids)] = True
        return np.unique(self.templates.gather_tokens(np.flatnonzero(is_used)))

    def count_fact_tokens(self, num_people: int) -> int:
        """Tokens of the names and values of the first `num_people` people."""
        lengths = self.templates.lengths
        blocks = index_blocks(num_people)
        return sum(int(lengths[self.write_facts(person_ids)].sum()) for person_ids in blocks)

    def _first_token_sets(self, *sets: Int64) -> list[Int32]:
        """For each set of templates, the set of their first tokens."""
        templates = self.templates
        return [
            np.unique(templates.tokens[templates.starts[template_ids]]) for template_ids in sets
        ]


def index_blocks(num_indices: int) -> Iterator[Int64]:
    """The indices 0 .. num_indices - 1 in blocks."""
    for start in range(0, num_indices, INDEX_BLOCK_SIZE):
        yield np.arange(start, min(start + INDEX_BLOCK_SIZE, num_indices))
