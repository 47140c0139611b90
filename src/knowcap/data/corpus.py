"""Corpora on disk: CorpusReader, write_corpus and load_corpus.

People and biographies are functions of the corpus's record and are not stored. A corpus folder
holds the tokenizer and the numbers that had to be measured to make it; for bioR also the texts.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer

from knowcap.artifacts import files, manifest
from knowcap.config import BioR, Corpus, Mixture, WindowKind
from knowcap.data import bior
from knowcap.data.biography_writer import BiographyWriter, TemplatePrompts, index_blocks
from knowcap.data.bior import RewritingStatistics, RewrittenBiographies
from knowcap.data.corpus_metadata import METADATA_FILE, AttributeMetadata, BioDShape, CorpusMetadata
from knowcap.data.implemented import check_implemented
from knowcap.data.mixture import JunkDocuments, MixedDocuments, MixedStream
from knowcap.data.prompts import Prompts, build_prompts
from knowcap.data.rng import derive_key, permute_indices, random_integers
from knowcap.data.table import TableWriter
from knowcap.data.token_stream import Stream, TokenStream
from knowcap.data.token_templates import Int64
from knowcap.data.tokenizer import renumber_tokens
from knowcap.data.writers import (
    FACTS_FILE,
    biography_writer,
    domain_token_id,
    full_tokenizer,
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


def write_corpus(
    corpus: Corpus,
    folder: Path,
    rewrite: Callable[[BioR, Path], Iterable[RewrittenBiographies]] | None = None,
) -> None:
    """Write a corpus folder: bioR's texts, the tokenizer and the metadata.

    Parameters
    ----------
    corpus
        The record: knowledge, tokenizer and mixture.
    folder
        Created if it is missing. Each file appears when it is complete, ``DONE`` last.
    rewrite
        Rewrites bioR with a language model, given a folder for the state that lets it resume
        after an interruption. None uses the grammar.

    Raises
    ------
    UserError
        If an option is not implemented, or the biographies cannot be rewritten. The folder then
        holds the texts so far, or does not exist.
    """
    check_implemented(corpus)
    knowledge = corpus.knowledge
    facts = read_facts(knowledge, folder)
    tokenizer = full_tokenizer(corpus, facts)
    rewriting = None
    if knowledge.kind == "bioR":
        texts = rewrite(knowledge, folder) if rewrite else bior.rewrite_by_grammar(knowledge)
        try:
            used, rewriting = bior.write_versions(knowledge, texts, tokenizer, folder)
        except UserError:
            with contextlib.suppress(OSError):  # the folder may hold texts rewritten so far
                folder.rmdir()
            raise
    else:
        writer = prepend_domain_token(
            biography_writer(knowledge, tokenizer, tokenizer.get_vocab_size(), folder, facts),
            domain_token_id(tokenizer),
        )
        if isinstance(writer, TableWriter):
            _check_round_trip(writer, tokenizer, knowledge.num_people)
        used = writer.find_used_tokens(corpus.num_people_with_junk)
    tokenizer = renumber_tokens(tokenizer, used)
    domain_token = domain_token_id(tokenizer)
    writer = prepend_domain_token(
        biography_writer(knowledge, tokenizer, used.size, folder, facts), domain_token
    )
    metadata = _measure_metadata(corpus, writer, used.size, domain_token, rewriting)
    folder.mkdir(parents=True, exist_ok=True)
    if knowledge.kind == "table" and knowledge.file:
        facts_text = Path(knowledge.file).read_bytes().decode()
        files.write_text(folder / FACTS_FILE, facts_text)
    files.write_text(folder / TOKENIZER_FILE, tokenizer.to_str())
    files.write_json(folder / METADATA_FILE, metadata.model_dump(mode="json"))
    manifest.write(
        folder,
        [
            *([f"{bior.PREFIX}.bin", f"{bior.PREFIX}.idx"] if rewriting else []),
            *([FACTS_FILE] if knowledge.kind == "table" else []),
            *(TOKENIZER_FILE, METADATA_FILE),
        ],
    )


def _measure_metadata(
    corpus: Corpus,
    writer: BiographyWriter,
    vocab_size: int,
    domain_token: int | None,
    rewriting: RewritingStatistics | None,
) -> CorpusMetadata:
    """Metadata of a corpus; lengths are counted over one exposure."""
    knowledge = corpus.knowledge
    shape = knowledge.model_dump(include=set(BioDShape.model_fields))
    floors = dict.fromkeys(writer.attributes, 0.0) | writer.wording_floors()
    return CorpusMetadata(
        record=corpus,
        vocab_size=vocab_size,
        num_people=knowledge.num_people,
        num_names=knowledge.num_names,
        attributes=tuple(
            AttributeMetadata(name=name, cardinality=cardinality, wording_floor=floors[name])
            for name, cardinality in writer.attributes.items()
        ),
        name_floor=_name_floor(corpus.mixture),
        diversity=BioDShape(**shape) if knowledge.kind == "bioD" else None,
        tokens_per_biography=_mean_biography_tokens(writer, knowledge.num_people),
        longest_biography=writer.longest_biography,
        domain_token=domain_token,
        rewriting=rewriting,
    )


def _check_round_trip(writer: BiographyWriter, tokenizer: Tokenizer, num_people: int) -> None:
    """Raise a UserError if a biography as a whole has other tokens than its parts.

    The facts and sentences of a table may be such texts; those of the other kinds are not.
    """
    for person_ids in index_blocks(num_people):
        rows = writer.write_biographies(person_ids, np.zeros_like(person_ids), seed=0)
        tokens = [writer.templates.gather_tokens(row[1:]).tolist() for row in rows]
        texts = tokenizer.decode_batch(tokens)
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        if bad := [t for t, ids, e in zip(texts, tokens, encodings, strict=True) if e.ids != ids]:
            raise UserError.of_lines(
                f"the tokenizer splits {text!r} differently from its names, values and sentences"
                for text in bad
            )


def _name_floor(mixture: Mixture | None) -> float:
    """Bits of a name that no knowledge saves, because junk begins like useful biographies."""
    if mixture is None or mixture.domain_token:
        return 0.0
    return -math.log2(mixture.useful_share)


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


def _mean_biography_tokens(writer: BiographyWriter, num_people: int) -> float:
    """Mean tokens of the biographies of one exposure."""
    total = writer.count_fact_tokens(num_people)
    for person_ids in index_blocks(num_people):
        exposures = np.zeros_like(person_ids)
        total += int(writer.count_wording_tokens(person_ids, exposures, seed=0).sum())
    return total / num_people
