"""A corpus as it lies on disk, and everything that is read from it.

People and biographies are functions of the corpus's record, so nothing of them is stored: a
corpus folder holds the tokenizer and what had to be measured to make it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer

from knowcap.artifacts import files
from knowcap.config import BioD, BioR, BioS, Corpus, Count, Positive, Record
from knowcap.data import biod, bior, bios
from knowcap.data.biod import BioDWriter
from knowcap.data.biography_writer import Passage, Writer, blocks
from knowcap.data.bior import BioRWriter, Rewriting, Rewritten
from knowcap.data.bios import BioSWriter
from knowcap.data.mixture import JunkText, MixedStream
from knowcap.data.prompts import Prompts, prompts
from knowcap.data.token_stream import Stream, TokenStream
from knowcap.data.token_templates import Int64
from knowcap.data.tokenizer import (
    DOMAIN,
    END,
    gpt2_tokenizer,
    mistral_tokenizer,
    renumbered,
    word_tokenizer,
)
from knowcap.errors import UserError

FACTS_FILE = "corpus.json"
TOKENIZER_FILE = "tokenizer.json"


class Attribute(Record):
    """An attribute whose loss counts."""

    name: str
    cardinality: Count
    """How many values it can have, all equally likely."""


class Diversity(Record):
    """The shape of bioD's values, K, C, D, L and T."""

    num_attributes: Count
    num_chunks: Count
    diversity: Count
    chunk_length: Count
    alphabet_size: Count


class Facts(Record):
    """What ``corpus.json`` says of a corpus: its record, and what had to be counted."""

    format: Literal[1] = 1
    record: Corpus
    vocab_size: Count
    """Tokens that the corpus uses, the end of text among them."""
    eos: Literal[0] = END
    """The end of text."""
    num_people: Count
    num_names: Count
    attributes: tuple[Attribute, ...]
    diversity: Diversity | None
    """Of bioD only; values of bioS are known words."""
    tokens_per_biography: Positive
    """Mean of one exposure, with the opening."""
    longest_biography: Count
    """No biography with its opening has more tokens."""
    domain_token: Count | None = None
    """Stands behind the end of text where a useful biography begins; None for nothing."""
    rewriting: Rewriting | None = None
    """Of bioR only."""


class CorpusReader:
    """Writes the biographies of a corpus and asks about them."""

    def __init__(self, facts: Facts, tokenizer: Tokenizer, writer: Writer) -> None:
        self.corpus = facts.record
        self.vocab_size = facts.vocab_size
        """Tokens that the corpus uses, the end of text among them."""
        self.eos = facts.eos
        """The end of text."""
        self.tokens_per_biography = facts.tokens_per_biography
        """Mean, with the opening."""
        self.longest_biography = facts.longest_biography
        """No biography with its opening has more tokens."""
        self._tokenizer = tokenizer
        self._junk_writer = writer
        self._writer = _useful_writer(writer, facts.domain_token)

    @property
    def fields(self) -> tuple[str, ...]:
        """What prompts score: the name, then the attributes."""
        return self._writer.fields

    def stream(self, exposures: int, seed: int) -> Stream:
        """Training tokens: every person's biography `exposures` times, and junk if there is any.

        Parameters
        ----------
        exposures
            How often each person is read about.
        seed
            Of the order of people and of the wording, which are anew in each exposure.
        """
        num_people, mixture = self.corpus.knowledge.num_people, self.corpus.mixture
        length = self.tokens_per_biography
        useful = TokenStream(self._writer, num_people, length, exposures, seed)
        if mixture is None:
            return useful
        # ASSUME: junk people have names of their own, and bioD's are made of the same chunks.
        junk = JunkText(self._junk_writer, num_people, mixture.num_junk_people, length, seed)
        return MixedStream(useful, junk, mixture.useful_share, seed)

    def text(self, people: Int64, exposure: int, seed: int) -> list[str]:
        """The biographies that the stream of this seed has of some people in an exposure."""
        rows = self._writer.written(people, np.full(len(people), exposure), seed)
        tokens = [self._writer.fragments.assembled(row[1:]) for row in rows]
        return self._tokenizer.decode_batch([each.tolist() for each in tokens])

    def sample(self) -> str:
        """Person 0's biography in the first exposure of seed 0, as an example."""
        return self.text(np.zeros(1, dtype=np.int64), exposure=0, seed=0)[0]

    def name_prompts(self, people: Int64, seed: int) -> Prompts:
        """Ask for each person's name, with nothing before it but a biography's opening."""
        return self._prompts(people, [self._writer.name_passage(people, seed)])

    def attribute_prompts(self, people: Int64, seed: int) -> Prompts:
        """Ask for every attribute given the name alone, so that no other fact helps."""
        return self._prompts(people, self._writer.attribute_passages(people, seed))

    def biography_prompts(self, people: Int64, seed: int) -> Prompts:
        """Ask for name and attributes where they stand in a whole biography."""
        return self._prompts(people, [self._writer.biography_passage(people, seed)])

    def _prompts(self, people: Int64, passages: Iterable[Passage]) -> Prompts:
        """Prompts about some people."""
        return prompts(people, passages, self._accept_sets)

    @cached_property
    def _accept_sets(self) -> NDArray[np.bool_]:
        """The writer's sets of tokens as [sets, vocab_size]."""
        tokens = np.arange(self.vocab_size)
        return np.stack([np.isin(tokens, accepted) for accepted in self._writer.accept_sets])


def write_corpus(
    corpus: Corpus, folder: Path, rewrite: Callable[[BioR, Path], Iterable[Rewritten]] | None = None
) -> None:
    """Make a corpus folder: find the tokens in use, write the tokenizer and the facts.

    Of bioR the biographies themselves are written first.

    Parameters
    ----------
    corpus
        What is to be known, and how it is written.
    folder
        Made if it is missing. Each file appears complete or not at all, ``corpus.json`` last.
    rewrite
        Rewrites bioR in the language model's stead, and may keep what it needs to go on after an
        interruption in a folder. None where no language model is asked for.

    Raises
    ------
    UserError
        If the biographies cannot be rewritten. The folder then holds what was, or is not there.
    """
    knowledge = corpus.knowledge
    tokenizer = _whole_tokenizer(corpus)
    rewriting = None
    if knowledge.kind == "bioR":
        texts = rewrite(knowledge, folder) if rewrite else bior.by_grammar(knowledge)
        try:
            used, rewriting = bior.write_versions(knowledge, texts, tokenizer, folder)
        except UserError:
            with contextlib.suppress(OSError):  # it may hold what has been rewritten so far
                folder.rmdir()
            raise
    else:
        writer = _useful_writer(_composer(knowledge, tokenizer), _domain_token(tokenizer))
        used = writer.used(corpus.num_described)
    tokenizer = renumbered(tokenizer, used)
    domain_token = _domain_token(tokenizer)
    writer = _useful_writer(_writer(knowledge, tokenizer, used.size, folder), domain_token)
    shape = knowledge.model_dump(include=set(Diversity.model_fields))
    facts = Facts(
        record=corpus,
        vocab_size=used.size,
        num_people=knowledge.num_people,
        num_names=knowledge.num_names,
        attributes=tuple(Attribute(name=n, cardinality=c) for n, c in writer.attributes.items()),
        diversity=Diversity(**shape) if knowledge.kind == "bioD" else None,
        tokens_per_biography=_tokens_per_biography(writer, knowledge.num_people),
        longest_biography=writer.longest,
        domain_token=domain_token,
        rewriting=rewriting,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / TOKENIZER_FILE, tokenizer.to_str())
    files.write_json(folder / FACTS_FILE, facts.model_dump(mode="json"))


def load_corpus(folder: Path) -> CorpusReader:
    """Read the corpus in a folder.

    Raises
    ------
    UserError
        If a file is missing, truncated or of another format.
    """
    path = folder / FACTS_FILE
    content = files.read_json(path)
    try:
        facts = Facts.model_validate_json(json.dumps(content))
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: damaged, {field}: {error.errors()[0]['msg']}") from error
    path = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no exception of its own
        raise UserError(f"{path}: missing or damaged ({error})") from error
    writer = _writer(facts.record.knowledge, tokenizer, facts.vocab_size, folder)
    return CorpusReader(facts, tokenizer, writer)


def _whole_tokenizer(corpus: Corpus) -> Tokenizer:
    """The tokenizer before it is known what the corpus uses."""
    if corpus.tokenizer == "GPT2":
        tokenizer = gpt2_tokenizer()
    elif corpus.tokenizer == "Mistral":
        tokenizer = mistral_tokenizer()
    else:
        if corpus.knowledge.kind == "bioD":
            texts = biod.fragment_texts(corpus.knowledge)
        else:
            texts = bios.fragment_texts()
        tokenizer = word_tokenizer(itertools.chain.from_iterable(texts.values()))
    if corpus.mixture and corpus.mixture.domain_token:
        tokenizer.add_special_tokens([DOMAIN])
    return tokenizer


def _domain_token(tokenizer: Tokenizer) -> int | None:
    """The token in front of useful biographies, if there is one."""
    token: int | None = tokenizer.token_to_id(DOMAIN)
    return token


def _writer(
    knowledge: BioS | BioR | BioD, tokenizer: Tokenizer, vocab_size: int, folder: Path
) -> Writer:
    """The writer of a kind of biography; bioR's reads what it writes from a folder."""
    if knowledge.kind == "bioR":
        return BioRWriter(knowledge, tokenizer, vocab_size, folder)
    return _composer(knowledge, tokenizer)


def _composer(knowledge: BioS | BioD, tokenizer: Tokenizer) -> Writer:
    """The writer of biographies that are composed when they are read."""
    if knowledge.kind == "bioD":
        return BioDWriter(knowledge, tokenizer)
    return BioSWriter(knowledge, tokenizer)


def _useful_writer(writer: Writer, domain_token: int | None) -> Writer:
    """The writer of useful biographies, from that of junk."""
    return writer if domain_token is None else writer.opened_by(domain_token)


def _tokens_per_biography(writer: Writer, num_people: int) -> float:
    """Mean length of the biographies of one exposure."""
    total = writer.known_tokens(num_people)
    for person in blocks(num_people):
        total += int(writer.wording_tokens(person, np.zeros_like(person), seed=0).sum())
    return total / num_people
