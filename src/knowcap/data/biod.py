"""bioD: biographies with K attributes of C chunks each (paper, Definition 2.2).

The layout `sentences` is the paper's: "<Full Name>'s ID 7 is v1, v2." and then " Her ID 2 is
...". In the layout `compact`, for scale models, a biography is the end of text, three alphabet
tokens as the name, and for each attribute a marker and its chunks. All biographies of a corpus
have the same number of tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from knowcap.artifacts.c_extension import load_c_extension, pointer
from knowcap.config import COMPACT_NAME_LENGTH, BioD
from knowcap.data import people
from knowcap.data.biod_texts import template_texts
from knowcap.data.biography_writer import NAME_COLUMNS, BiographyWriter, TemplatePrompts
from knowcap.data.rng import (
    FeistelNetwork,
    derive_key,
    random_bits,
    random_integers,
    random_permutations,
)
from knowcap.data.token_templates import Int64, TokenTemplates, tokenize_texts

C_SOURCE = Path(__file__).with_name("biod.c")


class _BiographyFormat(ctypes.Structure):
    """Keys of draws and ids of templates, as ``biod.c`` declares them."""

    _fields_ = (
        ("names", FeistelNetwork),
        ("name_key", ctypes.c_uint64),
        ("value_key", ctypes.c_uint64),
        ("first_name_id", ctypes.c_uint64 * COMPACT_NAME_LENGTH),
        ("name_pool_size", ctypes.c_uint64 * COMPACT_NAME_LENGTH),
        ("first_head_id", ctypes.c_int64),
        ("first_later_head_id", ctypes.c_int64),
        ("first_chunk_id", ctypes.c_int64),
        ("num_chunks", ctypes.c_int64),
        ("diversity", ctypes.c_int64),
        ("separator_id", ctypes.c_void_p),
    )


class BioDWriter(BiographyWriter):
    """Writes bioD."""

    length_period = 1

    def __init__(self, knowledge: BioD, tokenizer: Tokenizer) -> None:
        self.knowledge = knowledge
        texts = template_texts(knowledge)
        before_punctuation = {"alphabet", "last_names"} & texts.keys()
        templates, ids = tokenize_texts(texts, before_punctuation, tokenizer)
        alphabet = templates.tokens[templates.starts[ids["alphabet"]]]
        chunks = alphabet[people.chunk_strings(knowledge)]
        chunk_lengths = np.full(chunks[..., 0].size, knowledge.chunk_length)
        self.templates = templates.append_templates(
            TokenTemplates.from_lengths(chunks.ravel(), chunk_lengths)
        )
        self.chunk_ids = len(templates.lengths) + np.arange(chunk_lengths.size)
        first_ids = self.chunk_ids[:: knowledge.diversity].repeat(knowledge.num_chunks)
        self._first_chunk_ids = first_ids.reshape(-1, knowledge.num_chunks)
        self.attributes = {
            f"ID {number}": knowledge.diversity**knowledge.num_chunks
            for number in range(1, knowledge.num_attributes + 1)
        }
        if knowledge.layout == "compact":
            self._set_compact_layout(ids)
        else:
            self._set_sentence_layout(ids)

    def _set_compact_layout(self, ids: dict[str, Int64]) -> None:
        """Use markers as heads, no separators, and the whole alphabet as vocabulary."""
        marker_ids, end_ids = ids["marker"], ids["end"]
        self.head_ids = np.stack([marker_ids, marker_ids])
        self.name_pool_ids = [ids["alphabet"]] * COMPACT_NAME_LENGTH
        self.separator_ids = end_ids[:0]
        self.always_used_ids = np.arange(len(self.templates.lengths))
        self.person_specific_ids = end_ids[:0]
        self.accept_sets = self._first_token_sets(marker_ids, np.append(marker_ids, end_ids))

    def _set_sentence_layout(self, ids: dict[str, Int64]) -> None:
        """Use the paper's sentences, with a separator after each chunk."""
        comma_ids, stop_ids = ids["comma"], ids["stop"]
        self.head_ids = np.stack([ids["possessive"], ids["pronoun"]])
        self.name_pool_ids = [ids[part] for part in people.name_texts()]
        self.separator_ids = np.append(comma_ids.repeat(self.knowledge.num_chunks - 1), stop_ids)
        self.always_used_ids = np.concatenate(
            [ids["end"], self.head_ids.ravel(), self.separator_ids]
        )
        self.person_specific_ids = np.concatenate([*self.name_pool_ids, self.chunk_ids])
        self.accept_sets = self._first_token_sets(ids["possessive"], stop_ids)

    def write_facts(self, person_ids: Int64) -> Int64:
        """Template ids of each person's name and chunks."""
        chunk_ids = self._write_chunks(person_ids, np.arange(self.knowledge.num_attributes)[None])
        chunk_ids = chunk_ids.reshape(person_ids.size, -1)
        return np.concatenate([self._write_names(person_ids), chunk_ids], axis=1)

    def write_biographies(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Template ids of each person's biography, attributes in a random order."""
        return self._assemble(person_ids, self._draw_order(person_ids, exposures, seed))

    def count_wording_tokens(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Tokens of opening, heads and separators; the same for all biographies."""
        head_ids = np.concatenate([self.head_ids[0, :1], self.head_ids[1, 1:]])
        lengths = self.templates.lengths
        separators = lengths[self.separator_ids].sum() * self.knowledge.num_attributes
        num_tokens = self.num_opening_tokens + lengths[head_ids].sum() + separators
        return np.full(person_ids.size, num_tokens)

    def count_fact_tokens(self, num_people: int) -> int:
        """Tokens of names and values; the same number for every person."""
        return num_people * super().count_fact_tokens(1)

    @property
    def longest_biography(self) -> int:
        """Tokens of every biography with its opening."""
        zero = np.zeros(1, dtype=np.int64)
        return self.count_fact_tokens(1) + int(self.count_wording_tokens(zero, zero, 0)[0])

    def name_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """Opening, name and the head of a random attribute."""
        if self.knowledge.num_versions is None:
            key = derive_key(seed, "first attribute")
            first = random_integers(self.knowledge.num_attributes, key, person_ids)[:, None]
        else:
            first = self._draw_prompt_order(person_ids, seed)[:, :1]
        prompts = self._assemble_prompts(person_ids, first).truncate(NAME_COLUMNS.stop + 1)
        prompts.mark_name(accept=0)
        return prompts

    def attribute_prompts(self, person_ids: Int64, seed: int) -> Iterator[TemplatePrompts]:
        """For each attribute, a biography that begins with it.

        With a fixed number of versions, many attributes are first in no version. Then the prompt
        is version 0 with all attributes scored, as for bioS-simple. Attributes are independent,
        so earlier ones do not reveal later ones.
        """
        if self.knowledge.num_versions is not None:
            order = self._draw_prompt_order(person_ids, seed)
            prompts = self._assemble_prompts(person_ids, order)
            self._mark_values(prompts, order)
            yield prompts
            return
        for attribute in range(self.knowledge.num_attributes):
            order = np.full((person_ids.size, 1), attribute)
            prompts = self._assemble_prompts(person_ids, order)
            self._mark_values(prompts, order)
            yield prompts

    def biography_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """A whole biography with its attributes in a random order."""
        order = self._draw_prompt_order(person_ids, seed)
        prompts = self._assemble_prompts(person_ids, order)
        prompts.mark_name(accept=0)
        self._mark_values(prompts, order)
        return prompts

    def _draw_order(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Order of the attributes in an exposure, [people, attributes]."""
        num_versions = self.knowledge.num_versions
        if num_versions is None:
            keys = random_bits(derive_key(seed, "order of attributes"), exposures)
        else:
            key = derive_key(self.knowledge.seed, "order of attributes")
            keys = random_bits(key, exposures % num_versions)
        return random_permutations(self.knowledge.num_attributes, keys, person_ids)

    def _draw_prompt_order(self, person_ids: Int64, seed: int) -> Int64:
        """Order of the attributes in version 0, or one independent of training."""
        zeros = np.zeros_like(person_ids)
        if self.knowledge.num_versions is not None:
            return self._draw_order(person_ids, zeros, seed)
        keys = random_bits(derive_key(seed, "question"), zeros)
        return random_permutations(self.knowledge.num_attributes, keys, person_ids)

    def _assemble(self, person_ids: Int64, order: Int64) -> Int64:
        """Template ids of biographies with the attributes of `order` [people, attributes]."""
        num_columns = NAME_COLUMNS.stop + order.shape[1] * self._columns_per_attribute
        rows = np.empty((len(person_ids), num_columns), dtype=np.int64)
        compiled = load_c_extension(C_SOURCE)
        if compiled is None:
            self._fill_rows(rows, person_ids, order)
            return rows
        person_ids, order = np.ascontiguousarray(person_ids), np.ascontiguousarray(order)
        num_people, num_attributes = order.shape
        compiled.write_biographies(
            *(ctypes.c_int64(num_people), pointer(person_ids)),
            *(ctypes.c_int64(num_attributes), pointer(order)),
            ctypes.c_int64(self.opening_id),
            ctypes.byref(self._format),
            pointer(rows),
        )
        return rows

    def _fill_rows(self, rows: Int64, person_ids: Int64, order: Int64) -> None:
        """Fill biographies in; the numpy counterpart of ``biod.c``."""
        rows[:, 0] = self.opening_id
        rows[:, NAME_COLUMNS] = self._write_names(person_ids)
        columns = rows[:, NAME_COLUMNS.stop :].reshape(*order.shape, self._columns_per_attribute)
        columns[:, :, 0] = self.head_ids[1].take(order)
        columns[:, 0, 0] = self.head_ids[0].take(order[:, 0])
        chunk_stride = 1
        if self.separator_ids.size:
            chunk_stride, columns[:, :, 2::2] = 2, self.separator_ids
        columns[:, :, 1::chunk_stride] = self._write_chunks(person_ids, order)

    @cached_property
    def _format(self) -> _BiographyFormat:
        """Arguments of ``biod.c`` that are the same in all calls."""
        knowledge = self.knowledge
        return _BiographyFormat(
            FeistelNetwork.of_size(knowledge.num_names),
            derive_key(knowledge.seed, "name"),
            derive_key(knowledge.seed, "value"),
            tuple(int(pool[0]) for pool in self.name_pool_ids),
            tuple(pool.size for pool in self.name_pool_ids),
            *self.head_ids[:, 0].tolist(),
            self.chunk_ids[0],
            knowledge.num_chunks,
            knowledge.diversity,
            pointer(self.separator_ids) if self.separator_ids.size else None,
        )

    @property
    def _columns_per_attribute(self) -> int:
        """Templates of an attribute: head, chunks and separators."""
        return 1 + self.knowledge.num_chunks * (2 if self.separator_ids.size else 1)

    def _write_names(self, person_ids: Int64) -> Int64:
        """Template ids of the names, [people, 3]."""
        name_ids = people.name_ids(self.knowledge, person_ids)
        parts = np.unravel_index(name_ids, [pool.size for pool in self.name_pool_ids])
        pools = zip(self.name_pool_ids, parts, strict=True)
        return np.stack([pool[part] for pool, part in pools], axis=1)

    def _write_chunks(self, person_ids: Int64, order: Int64) -> Int64:
        """Template ids of the chunks of the attributes of `order`, [people, attributes, C]."""
        chunk_ids = people.chunk_ids(self.knowledge, person_ids, order)
        chunk_ids += self._first_chunk_ids.take(order, axis=0)
        return chunk_ids

    def _assemble_prompts(self, person_ids: Int64, order: Int64) -> TemplatePrompts:
        """Unmarked prompts of the same biographies, each with an end of text."""
        end = np.zeros((len(person_ids), 1), dtype=np.int64)
        rows = np.concatenate([self._assemble(person_ids, order), end], axis=1)
        return TemplatePrompts.without_marks(self.templates, rows)

    def _mark_values(self, prompts: TemplatePrompts, order: Int64) -> None:
        """Mark the values of the attributes of `order` and the templates after them."""
        stride = 2 if self.separator_ids.size else 1
        shape = (*order.shape, -1)
        field = prompts.field[:, NAME_COLUMNS.stop : -1].reshape(shape)
        field[:, :, 1::stride] = order[:, :, None] + 1
        prompts.first_chunk[:, NAME_COLUMNS.stop : -1].reshape(shape)[:, :, 1] = True
        last = 1 + stride * (self.knowledge.num_chunks - 1)
        prompts.strict_field[:, NAME_COLUMNS.stop + 1 :].reshape(shape)[:, :, last] = order + 1
        prompts.accept[:, NAME_COLUMNS.stop + 1 :].reshape(shape)[:, :, last] = 1
