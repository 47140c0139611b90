"""Corpora: kinds of biographies (bioS, bioR, bioD), tokenizers and junk."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from knowcap.config.base import Count, Positive, Record, Seed

NAME_POOL_SIZES = (400, 400, 1000)
"""Numbers of first, middle and last names."""  # PAPER 2.2: N0 = 400 x 400 x 1000

COMPACT_NAME_LENGTH = 3
"""Alphabet tokens of a person's name in the compact layout of bioD."""


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

    @model_validator(mode="after")
    def _check_number_of_names(self) -> Self:
        if self.num_people > self.num_names:
            raise ValueError(
                f"num_people: {self.num_people} is more than the number of distinct names, "
                f"{self.num_names}"
            )
        return self


class BioS(Population):
    """bioS: biographies from sentence templates (paper 2.2)."""

    kind: Literal["bioS", "bioS-simple"]
    """`bioS` draws new templates for every exposure; `bioS-simple` has one biography per person."""


class LanguageModel(Record):
    """A language model that rewrites biographies, and its sampling settings."""

    model: Annotated[str, Field(min_length=1)]
    """Name on the Hugging Face Hub, or a folder; a LLaMA-2 chat model in the paper."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; None is the default branch."""
    temperature: Positive
    """Sampling temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Total probability of the most likely tokens that are sampled from (nucleus sampling)."""
    num_words: Count
    """Number of words that the prompt requests for a biography."""
    max_attempts: Count
    """Largest number of texts that are sampled until one contains all values."""


class BioR(Population):
    """bioR: biographies rewritten as free text (paper 2.2)."""

    kind: Literal["bioR"]
    num_versions: Count
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
    num_attributes: Count
    """K, the number of attributes of a person."""
    num_chunks: Count
    """C, the number of chunks of a value."""
    diversity: Count
    """D, the number of distinct chunks of an attribute; at most T^L."""
    chunk_length: Count
    """L, the number of tokens of a chunk."""
    alphabet_size: Annotated[int, Field(ge=2)]
    """T, the number of tokens in the alphabet of chunks."""
    layout: Literal["sentences", "compact"]
    """`sentences` writes "<Full Name>'s ID 7 is ..." as in the paper. `compact`, for scale models,
    writes three alphabet tokens for a name, and a marker token and the chunks for an attribute."""
    num_versions: Count | None = None
    """Biographies of each person, which differ in the order of the attributes and are used in turn;
    None is a new order in every exposure. 1 corresponds to bioS-simple, 40 to bioR."""

    @property
    def num_names(self) -> int:
        """N0, the number of possible names."""
        if self.layout == "compact":
            return int(self.alphabet_size**COMPACT_NAME_LENGTH)
        return super().num_names

    @model_validator(mode="after")
    def _check_diversity(self) -> Self:
        num_strings = self.alphabet_size**self.chunk_length
        if self.diversity > num_strings:
            raise ValueError(
                f"diversity: {self.diversity} is more than the number of possible chunks, "
                f"T^L = {self.alphabet_size}^{self.chunk_length} = {num_strings}"
            )
        return self


class Mixture(Record):
    """A mixture of useful biographies and junk (paper, results 10 to 12).

    Junk is biographies of other people. Models are trained on it and not evaluated on it.
    """

    useful_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of training windows with useful biographies; 1/8 in the paper."""
    num_junk_people: Annotated[int, Field(ge=1, le=2**32)]
    """N', the number of junk people; with few people the junk is repetitive."""
    domain_token: bool
    """Whether every useful biography begins with a special token."""


class Corpus(Record):
    """Training data: knowledge, tokenizer and mixture."""

    knowledge: Annotated[BioS | BioR | BioD, Field(discriminator="kind")]
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

    @model_validator(mode="after")
    def _check_number_of_junk_names(self) -> Self:
        if self.mixture and self.num_people_with_junk > self.knowledge.num_names:
            num_free_names = self.knowledge.num_names - self.knowledge.num_people
            raise ValueError(
                f"mixture.num_junk_people: {self.mixture.num_junk_people} is more than the "
                f"{num_free_names} names that {self.knowledge.num_people} useful people leave"
            )
        return self

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
        if self.knowledge.kind == "bioD" and self.tokenizer != "word":
            raise ValueError(
                f"tokenizer: {self.tokenizer!r} is not allowed with bioD, which needs 'word'"
            )
        if self.knowledge.kind == "bioR" and self.tokenizer == "word":
            raise ValueError(
                "tokenizer: 'word' is not allowed with bioR, which needs 'GPT2' or 'Mistral'"
            )
        return self

    @model_validator(mode="after")
    def _check_mixture(self) -> Self:
        if self.mixture and self.knowledge.kind == "bioR":
            raise ValueError("mixture: not allowed with bioR, because junk is not rewritten")
        return self
