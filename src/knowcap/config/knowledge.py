"""Corpora: kinds of biographies (bioS, bioR, bioD), tokenizers and junk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from knowcap.config.base import Count, FieldError, Record, Seed, num_digits
from knowcap.config.extra_attributes import (
    BIOS_ATTRIBUTES,
    MAX_EXTRA_ATTRIBUTES,
    ExtraAttribute,
)
from knowcap.config.table import Table
from knowcap.errors import shown

NAME_POOL_SIZES = (400, 400, 1000)
"""Numbers of first, middle and last names."""  # PAPER 2.2: N0 = 400 x 400 x 1000

COMPACT_NAME_LENGTH = 3
"""Alphabet tokens of a person's name in the compact layout of bioD."""

LONGEST_BIOS_BIOGRAPHY: Mapping[str, int] = {"GPT2": 116, "Mistral": 137, "word": 100}
"""Tokens of the longest biography of bioS, by tokenizer, with the end of text; those of other
tokenizers are counted when the corpus is made."""

MAX_CHUNK_TOKENS = 10**9
"""Largest number of tokens in the chunks of bioD, K x D x L; they are in memory."""

MAX_CARDINALITY_DIGITS = 1000
"""Largest number of digits of D^C, the number of values of an attribute."""

NumVersions = Annotated[int, Field(ge=1, le=10_000)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Population(Record):
    """People with distinct names."""

    num_people: Count
    """N, the number of people."""
    seed: Seed
    """Chooses the names and values of the people."""

    @property
    def num_names(self) -> int:
        """N0, the number of possible names."""
        first, middle, last = NAME_POOL_SIZES
        return first * middle * last

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        if self.num_people > self.num_names:
            yield FieldError(
                "num_people",
                f"{self.num_people} is more than the number of distinct names, {self.num_names}",
            )


class BioS(Population):
    """bioS: biographies from sentence templates (paper 2.2)."""

    kind: Literal["bioS", "bioS-simple"]
    """`bioS` draws new templates for every exposure; `bioS-simple` has one biography per person."""
    extra_attributes: Annotated[
        tuple[ExtraAttribute, ...], Field(max_length=MAX_EXTRA_ATTRIBUTES)
    ] = ()
    """Attributes beside those of the paper, each with its values and sentences."""

    @model_serializer(mode="wrap")
    def _dump_without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump the paper's bioS as before attributes could be added: files stay the same."""
        dumped: dict[str, Any] = dump(self)
        if not self.extra_attributes:
            dumped.pop("extra_attributes", None)
        return dumped

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        yield from super().errors()
        names = [attribute.name for attribute in self.extra_attributes]
        for name in dict.fromkeys(names):
            if names.count(name) > 1 or name in BIOS_ATTRIBUTES:
                message = f"{shown(name)} is an attribute already; names must be different"
                yield FieldError("extra_attributes", message)


class LanguageModel(Record):
    """A language model that rewrites biographies, and its sampling settings."""

    model: Text
    """Name on the Hugging Face Hub, or a folder; a LLaMA-2 chat model in the paper."""
    revision: Text | None = None
    """Branch, tag or commit on the Hub; None is the default branch."""
    temperature: Annotated[float, Field(ge=0.01, le=100)]
    """Sampling temperature."""
    top_p: Annotated[float, Field(ge=0.01, le=1)]
    """Total probability of the most likely tokens that are sampled from (nucleus sampling)."""
    num_words: Annotated[int, Field(ge=1, le=10_000)]
    """Number of words that the prompt requests for a biography."""
    max_attempts: Annotated[int, Field(ge=1, le=10_000)]
    """Largest number of texts that are sampled until one contains all values."""


class BioR(Population):
    """bioR: biographies rewritten as free text (paper 2.2)."""

    kind: Literal["bioR"]
    num_versions: NumVersions
    """Biographies of each person, used in turn in the exposures; 40 in the paper."""
    rewriter: Annotated[
        Annotated[Literal["grammar"], Tag("grammar")]
        | Annotated[LanguageModel, Tag("LanguageModel")],
        Discriminator(lambda given: "grammar" if isinstance(given, str) else "LanguageModel"),
    ]
    """A language model, or `grammar`, a random grammar that needs none."""

    @property
    def rewriter_name(self) -> str:
        """`grammar`, or the name of the language model."""
        return self.rewriter if isinstance(self.rewriter, str) else self.rewriter.model


class BioD(Population):
    """bioD(N, K, C, D, L, T): random values of a chosen shape (paper, Definition 2.2)."""

    kind: Literal["bioD"]
    num_attributes: Annotated[int, Field(ge=1, le=10_000)]
    """K, the number of attributes of a person."""
    num_chunks: Annotated[int, Field(ge=1, le=10_000)]
    """C, the number of chunks of a value."""
    diversity: Annotated[int, Field(ge=1, le=10**8)]
    """D, the number of distinct chunks of an attribute; at most T^L."""
    chunk_length: Annotated[int, Field(ge=1, le=10_000)]
    """L, the number of tokens of a chunk."""
    alphabet_size: Annotated[int, Field(ge=2, le=10**6)]
    """T, the number of tokens in the alphabet of chunks."""
    layout: Literal["sentences", "compact"]
    """`sentences` writes "<Full Name>'s ID 7 is ..." as in the paper. `compact`, for scale models,
    writes three alphabet tokens for a name, and a marker token and the chunks for an attribute."""
    num_versions: NumVersions | None = None
    """Biographies of each person, which differ in the order of the attributes and are used in turn;
    None is a new order in every exposure. 1 corresponds to bioS-simple, 40 to bioR."""

    @property
    def num_names(self) -> int:
        """N0, the number of possible names."""
        if self.layout == "compact":
            return int(self.alphabet_size**COMPACT_NAME_LENGTH)
        return super().num_names

    @property
    def tokens_per_biography(self) -> int:
        """Tokens of every biography, with the end of text."""
        chunks = self.num_chunks * self.chunk_length
        if self.layout == "compact":
            return 1 + COMPACT_NAME_LENGTH + self.num_attributes * (1 + chunks)
        # Tokens of " Her ID 7 is" or "'s ID 7 is", and a comma or a full stop after each chunk.
        attribute = 4 + chunks + self.num_chunks
        return 1 + len(NAME_POOL_SIZES) + self.num_attributes * attribute

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        yield from super().errors()
        if num_digits(self.alphabet_size, self.chunk_length) < 18:
            num_strings = self.alphabet_size**self.chunk_length
            if self.diversity > num_strings:
                yield FieldError(
                    "diversity",
                    f"{self.diversity} is more than the number of possible chunks, "
                    f"T^L = {self.alphabet_size}^{self.chunk_length} = {num_strings}",
                )
        num_tokens = self.num_attributes * self.diversity * self.chunk_length
        if num_tokens > MAX_CHUNK_TOKENS:
            yield FieldError(
                "diversity",
                f"{self.diversity} chunks of {self.chunk_length} tokens for each of "
                f"{self.num_attributes} attributes have {num_tokens} tokens, more than "
                f"{MAX_CHUNK_TOKENS}",
            )
        if num_digits(self.diversity, self.num_chunks) > MAX_CARDINALITY_DIGITS:
            yield FieldError(
                "num_chunks",
                f"{self.num_chunks} chunks of diversity {self.diversity} have more values than "
                f"10^{MAX_CARDINALITY_DIGITS}",
            )


class Mixture(Record):
    """A mixture of useful biographies and junk (paper, results 10 to 12).

    Junk is biographies of other people. Models are trained on it and not evaluated on it.
    """

    useful_share: Annotated[float, Field(ge=0.001, lt=1)]
    """Share of training windows, or of biographies, that are useful; 1/8 in the paper."""
    num_junk_people: Annotated[int, Field(ge=1, le=2**32)]
    """N', the number of junk people; with few people the junk is repetitive."""
    domain_token: bool
    """Whether every useful biography begins with a special token."""
    unit: Literal["window", "biography"] = "window"
    """Whether each window is entirely useful or entirely junk, or useful biographies and junk
    follow each other in a random order within windows."""


class Corpus(Record):
    """Training data: knowledge, tokenizer and mixture."""

    knowledge: Annotated[BioS | BioR | BioD | Table, Field(discriminator="kind")]
    """People, and how their biographies are written."""
    tokenizer: Literal["GPT2", "Mistral", "word"]
    """`GPT2` is byte-level BPE; `Mistral` is sentencepiece BPE with a token for each digit; `word`
    has a token for every word. The vocabulary is reduced to the tokens that the corpus uses."""
    mixture: Mixture | None = None
    """Junk that the biographies are mixed with; None is no junk."""

    @property
    def num_people_with_junk(self) -> int:
        """Number of useful and junk people together."""
        num_junk_people = self.mixture.num_junk_people if self.mixture else 0
        return self.knowledge.num_people + num_junk_people

    @property
    def longest_biography(self) -> int | None:
        """Tokens of the longest biography with its opening; None if they must be counted."""
        domain_token = self.mixture is not None and self.mixture.domain_token
        if isinstance(self.knowledge, BioD):
            return self.knowledge.tokens_per_biography + domain_token
        is_papers = isinstance(self.knowledge, BioS) and not self.knowledge.extra_attributes
        longest = LONGEST_BIOS_BIOGRAPHY.get(self.tokenizer) if is_papers else None
        return None if longest is None else longest + domain_token

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        kind, tokenizer, mixture = self.knowledge.kind, self.tokenizer, self.mixture
        if mixture and isinstance(self.knowledge, BioS | BioD):
            if self.num_people_with_junk > self.knowledge.num_names:
                num_free_names = self.knowledge.num_names - self.knowledge.num_people
                yield FieldError(
                    "mixture.num_junk_people",
                    f"{mixture.num_junk_people} is more than the {num_free_names} names that "
                    f"{self.knowledge.num_people} useful people leave",
                )
        elif mixture:
            yield FieldError("mixture", f"not allowed with {kind}; junk needs bioS or bioD")
        if kind == "bioD" and tokenizer != "word":
            yield FieldError(
                "tokenizer",
                f"{shown(tokenizer)} is not allowed with bioD, which needs 'word'",
            )
        if kind == "bioR" and tokenizer == "word":
            yield FieldError(
                "tokenizer", "'word' is not allowed with bioR, which needs 'GPT2' or 'Mistral'"
            )
