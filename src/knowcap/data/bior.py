"""bioR: rewritten biographies, stored as tokens on disk.

A language model or a grammar generates the texts. Here they are checked, tokenized and stored as an
IndexedDataset (:mod:`knowcap.data.indexed_dataset`) with one sequence per version, person after
person. Every sequence begins with the end of text. Positions of values are not stored;
:mod:`knowcap.data.value_spans` finds them in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from tokenizers import Encoding, Tokenizer

from knowcap.artifacts import files
from knowcap.config import BioR, Count, Record
from knowcap.data import bior_grammar, indexed_dataset, people, value_spans
from knowcap.data.biography_writer import BiographyWriter, TemplatePrompts
from knowcap.data.bios_texts import (
    EMPLOYER_SENTENCE,
    GENDER_FIELD,
    SENTENCE_ATTRIBUTES,
    SENTENCE_FIELDS,
)
from knowcap.data.rng import derive_key, random_integers
from knowcap.data.token_templates import Int32, Int64, TokenTemplates
from knowcap.data.tokenizer import END_OF_TEXT, END_OF_TEXT_ID, new_token_ids
from knowcap.data.value_spans import Span

PREFIX = "versions"
"""Name of the dataset's two files without their suffix."""

RENUMBER_BLOCK_TOKENS = 2**24
"""Tokens renumbered at once."""

WORD_END_SET, FIRST_PRONOUN_SET, ANY_PRONOUN_SET = 0, 1, 3
"""Sets of tokens: those that do not continue a word, each gender's pronouns, and all pronouns."""


class RewrittenBiographies(NamedTuple):
    """All versions of some people's biographies, with the number of rejected texts."""

    texts: list[str]
    """Version after version, person after person, each with a leading space."""
    num_rejected: int
    """Texts that were discarded because they lack a fact."""


class RewritingStatistics(Record):
    """The rewriter of a bioR corpus and its rejection rate, as in ``corpus.json``."""

    rewriter: str
    num_versions: Count
    """Biographies per person."""
    num_rejected: Annotated[int, Field(ge=0)]
    """Texts that lacked a fact and were sampled again."""
    rejection_rate: Annotated[float, Field(ge=0, lt=1)]
    """Rejected texts divided by all texts."""


def rewrite_by_grammar(knowledge: BioR) -> Iterator[RewrittenBiographies]:
    """Yield the biographies that the grammar generates; none is rejected."""
    for texts in bior_grammar.generate_versions(knowledge):
        yield RewrittenBiographies(texts, num_rejected=0)


def write_versions(
    knowledge: BioR,
    rewritten: Iterable[RewrittenBiographies],
    tokenizer: Tokenizer,
    folder: Path,
) -> tuple[Int32, RewritingStatistics]:
    """Check and tokenize all biographies and write ``versions.bin`` and ``versions.idx``.

    Parameters
    ----------
    knowledge
        The population, and the number of versions.
    rewritten
        The biographies, from person 0 on.
    tokenizer
        The whole tokenizer with its own token ids.
    folder
        Folder of the dataset. Files appear under their names when they are complete.

    Returns
    -------
    Int32
        The tokens in use, with the ids of `tokenizer`; the dataset has renumbered ids.
    RewritingStatistics
        The rewriter and its rejection rate.
    """
    is_used = np.zeros(tokenizer.get_vocab_size(), dtype=bool)
    end = tokenizer.token_to_id(END_OF_TEXT)
    lengths: list[int] = []
    num_rejected = 0
    with files.atomic_write(folder / f"{PREFIX}.bin") as temporary:
        with temporary.open("wb") as file:
            for texts, num_rejected_in_block in rewritten:
                _check_values(knowledge, texts, first_version=len(lengths))
                rows = [[end, *encoding.ids] for encoding in tokenizer.encode_batch(texts)]
                tokens = np.concatenate(
                    [np.array(row, dtype=indexed_dataset.TOKEN_DTYPE) for row in rows]
                )
                file.write(tokens.tobytes())
                is_used[tokens] = True
                lengths += map(len, rows)
                num_rejected += num_rejected_in_block
        assert len(lengths) == knowledge.num_people * knowledge.num_versions
        used = np.flatnonzero(is_used).astype(np.int32)
        _renumber_file(temporary, new_token_ids(tokenizer, used))
        indexed_dataset.write_index(folder / f"{PREFIX}.idx", np.array(lengths))
    statistics = RewritingStatistics(
        rewriter=knowledge.rewriter_name,
        num_versions=knowledge.num_versions,
        num_rejected=num_rejected,
        rejection_rate=num_rejected / (num_rejected + len(lengths)),
    )
    return used, statistics


def _check_values(knowledge: BioR, texts: list[str], first_version: int) -> None:
    """Assert that every text states all facts of its person."""
    versions = np.arange(first_version, first_version + len(texts))
    subjects = people.describe_people(knowledge, versions // knowledge.num_versions)
    for text, person in zip(texts, subjects, strict=True):
        assert value_spans.find_value_spans(text, person) is not None, text


def _renumber_file(path: Path, new_ids: Int64) -> None:
    """Replace every token in a file by its new id."""
    tokens = np.memmap(path, indexed_dataset.TOKEN_DTYPE, mode="r+")
    for start in range(0, tokens.size, RENUMBER_BLOCK_TOKENS):
        block = slice(start, start + RENUMBER_BLOCK_TOKENS)
        tokens[block] = new_ids[tokens[block]]
    tokens.flush()


class BioRWriter(BiographyWriter):
    """Reads bioR from disk; exposures show the versions in turn."""

    attributes = people.CARDINALITIES

    def __init__(
        self, knowledge: BioR, tokenizer: Tokenizer, vocab_size: int, folder: Path
    ) -> None:
        self.knowledge = knowledge
        self.length_period = knowledge.num_versions
        self._tokenizer = tokenizer
        tokens, lengths = indexed_dataset.read_dataset(folder / PREFIX)
        starts = np.cumsum(lengths) - lengths
        # Template 0 is the end of text at the start of the first sequence. The other templates are
        # the sequences without their end of text.
        self.templates = TokenTemplates(tokens, np.append(0, starts + 1), np.append(1, lengths - 1))
        # For prompts: one template per token, and an empty one that pads rows.
        self._single_tokens = TokenTemplates.from_lengths(
            np.arange(vocab_size, dtype=np.int32),
            np.ones(vocab_size, dtype=np.int64),
        ).append_templates(TokenTemplates.from_lists([[]]))
        self.accept_sets = self._build_accept_sets(vocab_size)

    @property
    def longest_biography(self) -> int:
        """Tokens of the longest version with its end of text."""
        return int(self.templates.lengths.max()) + 1

    @property
    def num_sequences(self) -> int:
        """Number of biographies on disk."""
        return len(self.templates.lengths) - 1

    def write_facts(self, person_ids: Int64) -> Int64:
        """Return no templates, since names and values have none of their own."""
        return np.empty((person_ids.size, 0), dtype=np.int64)

    def write_biographies(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Template ids of the end of text and each person's version."""
        version_ids = self._version_ids(person_ids, exposures % self.knowledge.num_versions)
        return np.stack([np.zeros_like(version_ids), version_ids], axis=1)

    def count_wording_tokens(self, person_ids: Int64, exposures: Int64, seed: int) -> Int64:
        """Tokens of the same versions with their end of text."""
        version_ids = self._version_ids(person_ids, exposures % self.knowledge.num_versions)
        return self.templates.lengths[version_ids] + 1

    def name_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """A whole version per person in which the name is scored."""
        return self._build_prompts(person_ids, seed, has_name=True, has_values=False)

    def attribute_prompts(self, person_ids: Int64, seed: int) -> Iterator[TemplatePrompts]:
        """One version per person, scored at the first mention of each value.

        The prompt is a training text, as for bioS-simple, since training shows no other wordings.
        If the working city precedes the employer, it reveals the employer and is scored with it:
        P(employer) is P(city) P(employer | city).
        """
        # ASSUME: values are scored in a random version. Its other words may hint at a value before
        # it is stated (a season, a river, a campus). The bits of a corpus by a language model are
        # overestimated by at most the bits in these hints. The grammar has no hints.
        prompts = self._build_prompts(person_ids, seed, has_name=False, has_values=True)
        is_revealing = prompts.chain_field >= 0
        prompts.field[is_revealing] = prompts.chain_field[is_revealing]
        prompts.chain_field[is_revealing] = -1
        yield prompts

    def biography_prompts(self, person_ids: Int64, seed: int) -> TemplatePrompts:
        """The same version with name and values; the city may reveal the employer."""
        return self._build_prompts(person_ids, seed, has_name=True, has_values=True)

    def _version_ids(self, person_ids: Int64, versions: Int64) -> Int64:
        """Template id of a version of each person."""
        return 1 + person_ids * self.knowledge.num_versions + versions

    def _build_prompts(
        self, person_ids: Int64, seed: int, has_name: bool, has_values: bool
    ) -> TemplatePrompts:
        """A version of each person as single tokens, with marks."""
        versions = random_integers(
            self.knowledge.num_versions, derive_key(seed, "question"), person_ids
        )
        version_ids = self._version_ids(person_ids, versions)
        texts = [self._tokenizer.decode(self._read_tokens(each)) for each in version_ids.tolist()]
        encodings = self._tokenizer.encode_batch(texts)
        width = 2 + max(len(encoding) for encoding in encodings)
        empty_id = len(self._single_tokens.lengths) - 1
        rows = np.full((len(version_ids), width), empty_id)
        prompts = TemplatePrompts.without_marks(self._single_tokens, rows)
        subjects = people.describe_people(self.knowledge, person_ids)
        for row, (text, encoding, person) in enumerate(
            zip(texts, encodings, subjects, strict=True)
        ):
            rows[row, 0] = rows[row, 1 + len(encoding)] = END_OF_TEXT_ID
            rows[row, 1 : 1 + len(encoding)] = encoding.ids
            spans = value_spans.find_value_spans(text, person)
            assert spans is not None, text
            if has_name:
                _mark_span(prompts, row, 0, _token_span(encoding, spans.name))
            if not has_values:
                continue
            for attribute, field in zip(SENTENCE_ATTRIBUTES, SENTENCE_FIELDS.tolist(), strict=True):
                if field > 0:
                    _mark_span(prompts, row, field, _token_span(encoding, spans.values[attribute]))
            city, employer = spans.values["work_city"], spans.values["employer"]
            if city < employer:
                employer_field = SENTENCE_FIELDS[EMPLOYER_SENTENCE]
                prompts.chain_field[row, slice(*_token_span(encoding, city))] = employer_field
            pronoun, _ = _token_span(encoding, spans.pronoun)
            prompts.field[row, pronoun] = GENDER_FIELD
            prompts.strict_field[row, pronoun] = -1
            # Where a version has its first pronoun is wording. As in bioS, whose sentences begin
            # with a pronoun, the loss is that of the person's own pronouns among all pronouns.
            prompts.accept[row, pronoun] = FIRST_PRONOUN_SET + person.gender
            prompts.given[row, pronoun] = ANY_PRONOUN_SET
        return prompts

    def _read_tokens(self, version_id: int) -> list[int]:
        """Tokens of a version."""
        tokens: list[int] = self.templates.gather_tokens(np.array([version_id])).tolist()
        return tokens

    def _build_accept_sets(self, vocab_size: int) -> list[Int32]:
        """Sets of accepted tokens, in the order of the constants that index them."""
        texts = self._tokenizer.decode_batch([[token] for token in range(vocab_size)])
        # ASSUME: for the strict loss, a value ends where no token continues its last word.
        # The end of text decodes to '' and is among the accepted tokens.
        word_ends = [token for token, text in enumerate(texts) if not text[:1].isalnum()]
        pronouns = [
            [token for token, text in enumerate(texts) if text.strip().lower() in forms]
            for forms in value_spans.PRONOUNS
        ]
        sets = (word_ends, *pronouns, [*pronouns[0], *pronouns[1]])
        return [np.array(tokens, dtype=np.int32) for tokens in sets]


def _mark_span(prompts: TemplatePrompts, row: int, field: int, span: Span) -> None:
    """Mark the tokens of a field and the token after them."""
    start, stop = span
    prompts.field[row, start:stop] = field
    prompts.strict_field[row, stop] = field
    prompts.accept[row, stop] = WORD_END_SET


def _token_span(encoding: Encoding, characters: Span) -> Span:
    """Columns of the tokens that overlap characters, after the end of text."""
    start, stop = characters
    columns = [
        column
        for column, (token_start, token_stop) in enumerate(encoding.offsets, 1)
        if token_start < stop and token_stop > start
    ]
    return columns[0], columns[-1] + 1
