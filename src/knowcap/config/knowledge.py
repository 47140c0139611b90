"""What is to be known: people, how their biographies are written, and the junk among them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from knowcap.config.base import Count, Positive, Record, Seed

NAME_POOL_SIZES = (400, 400, 1000)
"""First, middle and last names."""  # PAPER 2.2: N0 = 400 x 400 x 1000

COMPACT_NAME_LENGTH = 3
"""Alphabet tokens that name a person in bioD's compact layout."""


class Population(Record):
    """N people with distinct names."""

    num_people: Count
    """N, at most the names there are."""
    seed: Seed
    """Which population of that size."""

    @property
    def num_names(self) -> int:
        """N0, the size of the set names are drawn from."""
        first, middle, last = NAME_POOL_SIZES
        return first * middle * last

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        if self.num_people > self.num_names:
            raise ValueError(
                f"num_people: {self.num_people} people cannot have distinct names, "
                f"there are {self.num_names}"
            )
        return self


class BioS(Population):
    """Biographies assembled from sentence templates (paper 2.2)."""

    kind: Literal["bioS", "bioS-simple"]
    """`bioS` renders every exposure afresh, `bioS-simple` gives each person one fixed biography."""


class LanguageModel(Record):
    """A language model that rewrites biographies, and how it is sampled."""

    model: Annotated[str, Field(min_length=1)]
    """Its name on the Hugging Face Hub, or a folder; a LLaMA-2 chat model in the paper."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    temperature: Positive
    """Of the softmax that tokens are drawn from."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Tokens are drawn from the most likely ones with this probability together."""
    num_words: Count
    """Words that a biography is asked to have."""
    max_attempts: Count
    """Texts drawn for one biography, at most, until one holds all facts."""


class BioR(Population):
    """Biographies rewritten in free text (paper 2.2)."""

    kind: Literal["bioR"]
    num_versions: Count
    """Biographies of each person, read in turn; 40 in the paper."""
    rewriter: Annotated[
        Annotated[Literal["grammar"], Tag("grammar")]
        | Annotated[LanguageModel, Tag("LanguageModel")],
        Discriminator(lambda given: "grammar" if isinstance(given, str) else "LanguageModel"),
    ]
    """`grammar` is a stand-in of ours for machines without a language model."""

    @property
    def rewriter_name(self) -> str:
        """`grammar`, or the name of the language model."""
        return self.rewriter if isinstance(self.rewriter, str) else self.rewriter.model


class BioD(Population):
    """Knowledge of a chosen shape, bioD(N, K, C, D, L, T) (paper, Definition 2.2)."""

    kind: Literal["bioD"]
    num_attributes: Count
    """K, attributes of a person."""
    num_chunks: Count
    """C, chunks of a value."""
    diversity: Count
    """D, distinct chunks an attribute's values are made of; at most T^L."""
    chunk_length: Count
    """L, tokens of a chunk."""
    alphabet_size: Annotated[int, Field(ge=2)]
    """T, tokens that chunks are written in."""
    layout: Literal["sentences", "compact"]
    """`sentences` writes "<Full Name>'s ID 7 is ..." as the paper does. `compact`, for scale
    models, names a person by three alphabet tokens, and an attribute is a marker and its chunks."""
    num_versions: Count | None = None
    """Biographies of each person, read in turn: 1 is to bioD what bioS-simple is to bioS, 40 what
    bioR is. None is a new order of the attributes in every exposure."""

    @property
    def num_names(self) -> int:
        """N0, the size of the set names are drawn from."""
        if self.layout == "compact":
            return int(self.alphabet_size**COMPACT_NAME_LENGTH)
        return super().num_names

    @model_validator(mode="after")
    def _chunks_exist(self) -> Self:
        num_strings = self.alphabet_size**self.chunk_length
        if self.diversity > num_strings:
            raise ValueError(
                f"diversity: {self.diversity} distinct chunks are more than the "
                f"T^L = {self.alphabet_size}^{self.chunk_length} = {num_strings} that exist"
            )
        return self


class Mixture(Record):
    """Junk among which useful biographies are read (paper, results 10 to 12).

    Junk people are known by nobody's measure: their biographies are read and never asked about.
    """

    useful_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training windows that are useful; 1/8 in the paper."""
    num_junk_people: Annotated[int, Field(ge=1, le=2**32)]
    """N', people that junk is about: many, each of them rare, or few, again and again."""
    domain_token: bool
    """Whether a token of its own stands in front of every useful biography."""


class Corpus(Record):
    """What is to be known, and how it is written in tokens."""

    knowledge: Annotated[BioS | BioR | BioD, Field(discriminator="kind")]
    tokenizer: Literal["GPT2", "Mistral", "word"]
    """`GPT2` is byte-level BPE, `Mistral` is sentencepiece BPE with a token for each digit, `word`
    has a token for every word; all keep only used tokens."""
    mixture: Mixture | None = None
    """What the biographies are mixed with; None for nothing."""

    @property
    def num_described(self) -> int:
        """People with a biography, the useful ones and those that junk is about."""
        num_junk_people = self.mixture.num_junk_people if self.mixture else 0
        return self.knowledge.num_people + num_junk_people

    @model_validator(mode="after")
    def _names_suffice_for_junk(self) -> Self:
        if self.num_described > self.knowledge.num_names:
            raise ValueError(
                f"mixture.num_junk_people: {self.num_described - self.knowledge.num_people} junk "
                f"people cannot have names of their own, {self.knowledge.num_people} useful people "
                f"leave {self.knowledge.num_names - self.knowledge.num_people}"
            )
        return self

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> Self:
        if self.knowledge.kind == "bioD" and self.tokenizer != "word":
            raise ValueError("tokenizer: bioD is written in words of its own, it needs 'word'")
        if self.knowledge.kind == "bioR" and self.tokenizer == "word":
            raise ValueError("tokenizer: bioR is free text, it needs 'GPT2' or 'Mistral'")
        return self

    @model_validator(mode="after")
    def _junk_is_not_rewritten(self) -> Self:
        if self.mixture and self.knowledge.kind == "bioR":
            raise ValueError("mixture: there is no rewritten junk, bioR cannot be mixed with any")
        return self
