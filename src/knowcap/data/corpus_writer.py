"""Corpus folders: the tokenizer, the metadata and, for bioR, the texts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from knowcap.artifacts import files, manifest
from knowcap.config import BioR, Corpus, Mixture
from knowcap.data import bior
from knowcap.data.biography_writer import BiographyWriter, index_blocks
from knowcap.data.bior import RewritingStatistics, RewrittenBiographies
from knowcap.data.corpus import TOKENIZER_FILE
from knowcap.data.corpus_metadata import METADATA_FILE, AttributeMetadata, BioDShape, CorpusMetadata
from knowcap.data.implemented import check_implemented
from knowcap.data.table import TableWriter
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


def _mean_biography_tokens(writer: BiographyWriter, num_people: int) -> float:
    """Mean tokens of the biographies of one exposure."""
    total = writer.count_fact_tokens(num_people)
    for person_ids in index_blocks(num_people):
        exposures = np.zeros_like(person_ids)
        total += int(writer.count_wording_tokens(person_ids, exposures, seed=0).sum())
    return total / num_people
