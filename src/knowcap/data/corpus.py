"""CorpusReader: token streams, texts and prompts of a corpus folder.

People and biographies are functions of the corpus's record and are not stored. A corpus folder
holds the tokenizer and the numbers that had to be measured to make it; for bioR also the texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer

from knowcap.artifacts import files, manifest
from knowcap.config import WindowKind
from knowcap.data.biography_writer import BiographyWriter, TemplatePrompts
from knowcap.data.corpus_metadata import METADATA_FILE, CorpusMetadata
from knowcap.data.mixture import JunkDocuments, MixedDocuments, MixedStream
from knowcap.data.prompts import Prompts, build_prompts
from knowcap.data.rng import derive_key, permute_indices, random_integers
from knowcap.data.token_stream import Stream, TokenStream
from knowcap.data.token_templates import Int64
from knowcap.data.writers import (
    biography_writer,
    prepend_domain_token,
    read_facts,
)
from knowcap.errors import UserError

TOKENIZER_FILE = "tokenizer.json"


class CorpusReader:
    """Token streams, texts and prompts of a corpus."""

    def __init__(
        self, metadata: CorpusMetadata, tokenizer: Tokenizer, writer: BiographyWriter
    ) -> None:
        self.corpus = metadata.record
        self.vocab_size = metadata.vocab_size
        """Tokens that the corpus uses, including the end of text."""
        self.eos = metadata.eos
        """Id of the end of text."""
        self.tokens_per_biography = metadata.tokens_per_biography
        """Mean, with the opening."""
        self.longest_biography = metadata.longest_biography
        """Upper bound of the tokens of a biography with its opening."""
        self._tokenizer = tokenizer
        self._junk_writer = writer
        self._writer = prepend_domain_token(writer, metadata.domain_token)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that prompts score: the name, then the attributes."""
        return self._writer.fields

    def stream(self, exposures: int, seed: int, windows: WindowKind = "packed") -> Stream:
        """Training tokens: every person's biography `exposures` times, and junk if configured.

        Parameters
        ----------
        exposures
            Biographies per person.
        seed
            Seed of the order of people and of the wording, which are drawn for each exposure.
        windows
            Whether windows cut the stream anywhere or begin with a biography.
        """
        num_people, mixture = self.corpus.knowledge.num_people, self.corpus.mixture
        length = self.tokens_per_biography
        # Junk and useful windows hold the same number of biographies, so that neither the length
        # of a window nor the place of a biography in it tells them apart.
        reserved = self.longest_biography if windows == "aligned" else None
        if mixture is not None and mixture.unit == "biography":
            return MixedDocuments(
                *(self._writer, num_people, mixture.num_junk_people, mixture.useful_share),
                *(length, exposures, seed, reserved),
            )
        useful = TokenStream(self._writer, num_people, length, exposures, seed, reserved)
        if mixture is None:
            return useful
        # ASSUME: junk people have their own names, and in bioD the same chunks as useful people.
        junk_length = length - (
            self._writer.num_opening_tokens - self._junk_writer.num_opening_tokens
        )
        junk = JunkDocuments(
            self._junk_writer, num_people, mixture.num_junk_people, junk_length, seed, reserved
        )
        return MixedStream(useful, junk, mixture.useful_share, seed)

    def num_windows(self, num_biographies: int, seq_length: int, windows: WindowKind) -> int:
        """Whole windows that contain a number of biographies of mean length."""
        if windows == "aligned":
            return num_biographies // (seq_length // self.longest_biography)
        return int(num_biographies * self.tokens_per_biography) // seq_length

    def biographies_per_window(self, seq_length: int, windows: WindowKind) -> int:
        """Useful biographies of a window, of mean length if windows are packed.

        One if useful biographies and junk alternate, because earlier ones then show nothing.
        """
        if self.corpus.mixture and self.corpus.mixture.unit == "biography":
            return 1
        length = self.longest_biography if windows == "aligned" else self.tokens_per_biography
        return min(max(1, int(seq_length / length)), self.corpus.knowledge.num_people)

    def biographies(self, person_ids: Int64, exposure: int, seed: int) -> list[str]:
        """Texts of people's biographies in an exposure of the stream with this seed."""
        exposures = np.full(len(person_ids), exposure)
        rows = self._writer.write_biographies(person_ids, exposures, seed)
        token_lists = [self._writer.templates.gather_tokens(row[1:]).tolist() for row in rows]
        return self._tokenizer.decode_batch(token_lists)

    def example_biography(self) -> str:
        """Text of person 0's biography in exposure 0 of seed 0."""
        return self.biographies(np.zeros(1, dtype=np.int64), exposure=0, seed=0)[0]

    def name_prompts(self, person_ids: Int64, seed: int) -> Prompts:
        """Prompts that score each person's name after the opening of a biography alone."""
        return self._build_prompts(person_ids, [self._writer.name_prompts(person_ids, seed)])

    def attribute_prompts(self, person_ids: Int64, seed: int) -> Prompts:
        """Prompts that score every attribute right after the name."""
        return self._build_prompts(person_ids, self._writer.attribute_prompts(person_ids, seed))

    def biography_prompts(self, person_ids: Int64, seed: int) -> Prompts:
        """Prompts that score name and attributes within a whole biography."""
        return self._build_prompts(person_ids, [self._writer.biography_prompts(person_ids, seed)])

    def later_name_prompts(self, person_ids: Int64, seed: int, num_positions: int) -> Prompts:
        """Prompts that score each name after other useful biographies, as within a window.

        Parameters
        ----------
        person_ids, seed
            As in the other prompts.
        num_positions
            Biographies of a window, at least 2. Every person is scored at one position after the
            first, each position equally often, so that the mean over people is one over positions.
        """
        num_people = self.corpus.knowledge.num_people
        key = derive_key(seed, "position in a window")
        num_before = 1 + permute_indices(person_ids, num_people, key) % (num_positions - 1)
        subject = np.repeat(np.arange(person_ids.size), num_before)
        place = np.concatenate([np.arange(number) for number in num_before])
        counters = person_ids[subject] * num_positions + place
        steps = random_integers(num_people - 1, derive_key(seed, "context"), counters)
        others = (person_ids[subject] + 1 + steps) % num_people  # never the person itself
        rows = self._writer.write_biographies(others, np.zeros_like(others), seed)
        lengths = self._writer.templates.lengths[rows].sum(axis=1)
        stops = np.bincount(subject, lengths).astype(np.int64).cumsum()
        contexts = np.split(self._writer.templates.gather_tokens(rows), stops[:-1])
        return self.name_prompts(person_ids, seed).after(contexts)

    def _build_prompts(self, person_ids: Int64, parts: Iterable[TemplatePrompts]) -> Prompts:
        """Prompts as tokens, with the accept sets of the corpus."""
        return build_prompts(person_ids, parts, self._accept_sets)

    @cached_property
    def _accept_sets(self) -> NDArray[np.bool_]:
        """The writer's sets of accepted tokens as a mask [sets, vocab_size]."""
        tokens = np.arange(self.vocab_size)
        return np.stack([np.isin(tokens, accepted) for accepted in self._writer.accept_sets])


def load_corpus(folder: Path) -> CorpusReader:
    """Read the corpus in a folder.

    Raises
    ------
    UserError
        If a file is missing, differs from its digest or has another format.
    """
    manifest.verify(folder)
    path = folder / METADATA_FILE
    content = files.read_json(path)
    try:
        metadata = CorpusMetadata.model_validate_json(json.dumps(content))
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: damaged, {field}: {error.errors()[0]['msg']}") from error
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no more specific exception
        raise UserError(f"{path}: missing or damaged ({error})") from error
    knowledge = metadata.record.knowledge
    facts = read_facts(knowledge, folder)
    writer = biography_writer(knowledge, tokenizer, metadata.vocab_size, folder, facts)
    return CorpusReader(metadata, tokenizer, writer)
