"""TextTokenizer: a tokenizer of any library as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from knowcap.data.corpus import CorpusReader
from knowcap.data.tokenizer import DOMAIN_TOKEN


class TextTokens(NamedTuple):
    """Tokens of a text."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    """Characters that each token covers, start and stop."""


class TextTokenizer(NamedTuple):
    """A tokenizer as functions."""

    encode: Callable[[Sequence[str]], list[TextTokens]]
    """Tokens of texts, without special tokens."""
    token_texts: Callable[[], list[str]]
    """Text of each token, by id; empty for special tokens."""
    opening: Sequence[int]
    """Tokens before every biography, at least one."""
    end: int
    """Token after every biography."""


def own_text_tokenizer(corpus_reader: CorpusReader) -> TextTokenizer:
    """Return the tokenizer of a corpus."""
    tokenizer = corpus_reader._tokenizer

    def encode(texts: Sequence[str]) -> list[TextTokens]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [TextTokens(encoding.ids, encoding.offsets) for encoding in encodings]

    def token_texts() -> list[str]:
        return list(tokenizer.decode_batch([[t] for t in range(corpus_reader.vocab_size)]))

    mixture = corpus_reader.corpus.mixture
    opening: list[int] = [int(corpus_reader.eos)]
    if mixture is not None and mixture.domain_token:
        opening += tokenizer.encode(DOMAIN_TOKEN, add_special_tokens=False).ids
    return TextTokenizer(encode, token_texts, opening, corpus_reader.eos)
