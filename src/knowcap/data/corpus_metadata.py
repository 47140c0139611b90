"""CorpusMetadata, the content of ``corpus.json``.

Measuring a corpus takes a pass over its people, so its vocabulary and lengths are stored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from knowcap.config import Corpus, Count, Positive, Record
from knowcap.data.bior import RewritingStatistics
from knowcap.data.tokenizer import END_OF_TEXT_ID

METADATA_FILE = "corpus.json"


class AttributeMetadata(Record):
    """An attribute whose loss is scored."""

    name: str
    cardinality: Count
    """Number of its values, all equally likely."""
    wording_floor: Annotated[float, Field(ge=0)] = 0.0
    """Bits of the loss of a value right after a name that no knowledge saves, because other
    sentences begin alike and the value might not have come yet."""


class BioDShape(Record):
    """Parameters K, C, D, L and T of bioD."""

    num_attributes: Count
    num_chunks: Count
    diversity: Count
    chunk_length: Count
    alphabet_size: Count


class CorpusMetadata(Record):
    """Content of ``corpus.json``: the corpus's record and the numbers measured from it."""

    format: Literal[1] = 1
    record: Corpus
    vocab_size: Count
    """Tokens that the corpus uses, including the end of text."""
    eos: Literal[0] = END_OF_TEXT_ID
    """Id of the end of text."""
    num_people: Count
    num_names: Count | None
    """None for a table that leaves the bits of names out."""
    attributes: tuple[AttributeMetadata, ...]
    diversity: BioDShape | None
    """bioD only; the values of the other kinds are in pools/."""
    tokens_per_biography: Positive
    """Mean over one exposure, with the opening."""
    longest_biography: Count
    """Upper bound of the tokens of a biography with its opening."""
    name_floor: Annotated[float, Field(ge=0)] = 0.0
    """Bits of the loss of a name after the end of text that no knowledge saves, because junk
    begins alike."""
    domain_token: Count | None = None
    """Id of the token after the end of text of useful biographies; None if there is none."""
    rewriting: RewritingStatistics | None = None
    """bioR only."""
