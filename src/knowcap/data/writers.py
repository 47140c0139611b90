"""Writers, template texts and tokenizers of all kinds of knowledge, in one place."""

from __future__ import annotations

import itertools
from pathlib import Path

from tokenizers import Tokenizer

from knowcap.config import BioD, BioR, BioS, Corpus, Table
from knowcap.config.table_file import TableFacts, load_facts
from knowcap.data import biod_texts, bios_texts, table
from knowcap.data.biod import BioDWriter
from knowcap.data.biography_writer import BiographyWriter
from knowcap.data.bior import BioRWriter
from knowcap.data.bios import BioSWriter
from knowcap.data.table import TableWriter
from knowcap.data.tokenizer import DOMAIN_TOKEN, TOKENIZERS

FACTS_FILE = "facts.csv"
"""Copy of the file of a table in the folder of its corpus."""


def read_facts(knowledge: BioS | BioR | BioD | Table, folder: Path) -> TableFacts | None:
    """Return the facts of a table, from its file or from the folder of its corpus.

    Returns
    -------
    TableFacts | None
        None for other kinds, whose facts are drawn.

    Raises
    ------
    UserError
        If the file is missing or has changed since the study was read.
    """
    if not isinstance(knowledge, Table):
        return None
    path = Path(knowledge.file) if knowledge.file else folder / FACTS_FILE
    return load_facts(path, knowledge.name_column, knowledge.columns, knowledge.sha256)


def as_table(knowledge: BioS | BioR | BioD | Table) -> Table | None:
    """Return the table that a kind of knowledge is written as; None for kinds with own writers."""
    return knowledge if isinstance(knowledge, Table) else None


def full_tokenizer(corpus: Corpus, facts: TableFacts | None) -> Tokenizer:
    """Return the tokenizer of a corpus with all its tokens and its own ids."""
    knowledge = corpus.knowledge
    if knowledge.kind == "bioD":
        texts = biod_texts.template_texts(knowledge)
    elif facts is not None:
        own_table = as_table(knowledge)
        assert own_table is not None
        texts = table.template_texts(own_table, facts)
    else:
        extra = knowledge.extra_attributes if isinstance(knowledge, BioS) else ()
        texts = bios_texts.template_texts(extra)
    tokenizer = TOKENIZERS[corpus.tokenizer](itertools.chain.from_iterable(texts.values()))
    if corpus.mixture and corpus.mixture.domain_token:
        tokenizer.add_special_tokens([DOMAIN_TOKEN])
    return tokenizer


def domain_token_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the domain token; None if there is none."""
    token: int | None = tokenizer.token_to_id(DOMAIN_TOKEN)
    return token


def biography_writer(
    knowledge: BioS | BioR | BioD | Table,
    tokenizer: Tokenizer,
    vocab_size: int,
    folder: Path,
    facts: TableFacts | None,
) -> BiographyWriter:
    """Return the writer of a kind of knowledge; bioR's reads its texts from a folder."""
    if knowledge.kind == "bioR":
        return BioRWriter(knowledge, tokenizer, vocab_size, folder)
    if knowledge.kind == "bioD":
        return BioDWriter(knowledge, tokenizer)
    if isinstance(knowledge, BioS):
        return BioSWriter(knowledge, tokenizer)
    own_table = as_table(knowledge)
    assert own_table is not None
    assert facts is not None
    return TableWriter(own_table, facts, tokenizer)


def prepend_domain_token(writer: BiographyWriter, domain_token: int | None) -> BiographyWriter:
    """Return the writer of useful biographies, which may begin with a domain token."""
    return writer if domain_token is None else writer.prepend_token(domain_token)
