"""Token templates: texts that are tokenized once and concatenated into biographies.

A biography is a sequence of templates: a name, the words before a value, the value, the words
after it. GPT-2 splits text into words before it looks for tokens, so a template that ends at a
word boundary has the same tokens in every context. Writing a biography is copying tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from knowcap.artifacts.c_extension import load_c_extension, pointer

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

C_SOURCE = Path(__file__).with_name("token_templates.c")


class TokenTemplates(NamedTuple):
    """Tokens of all templates in one array; a template's id is its index."""

    tokens: Int32
    """[tokens], those of all templates."""
    starts: Int64
    """[templates], each template's first index in `tokens`."""
    lengths: Int64
    """[templates], number of tokens of each."""

    @classmethod
    def from_lengths(cls, tokens: Int32, lengths: Int64) -> TokenTemplates:
        """Split tokens into consecutive templates of the given lengths."""
        return cls(tokens, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def from_lists(cls, token_lists: Sequence[Sequence[int]]) -> TokenTemplates:
        """Make one template from each list of tokens."""
        tokens = np.fromiter(chain.from_iterable(token_lists), dtype=np.int32)
        lengths = np.array([len(tokens) for tokens in token_lists], dtype=np.int64)
        return cls.from_lengths(tokens, lengths)

    def append_templates(self, others: TokenTemplates) -> TokenTemplates:
        """Return these templates and, with the ids after them, the others."""
        return self.from_lengths(
            np.concatenate([self.tokens, others.tokens]),
            np.concatenate([self.lengths, others.lengths]),
        )

    def merge_templates(self, rows: NDArray[np.integer]) -> TokenTemplates:
        """Return one template per row of template ids, the concatenation of the row."""
        return self.from_lengths(self.gather_tokens(rows), self.lengths[rows].sum(axis=1))

    def gather_tokens(self, template_ids: NDArray[np.integer]) -> Int32:
        """Tokens of templates, concatenated in the order of the array of ids.

        Raises
        ------
        IndexError
            If there is no template with one of the ids.
        """
        template_ids = np.ascontiguousarray(template_ids, dtype=np.int64).ravel()
        compiled = load_c_extension(C_SOURCE)
        if compiled is not None:
            ids = (ctypes.c_int64(template_ids.size), pointer(template_ids))
            compiled.count_tokens.restype = ctypes.c_int64
            num_templates = ctypes.c_int64(self.lengths.size)
            num_tokens = compiled.count_tokens(*ids, num_templates, pointer(self.lengths))
            if num_tokens < 0:
                raise IndexError(f"template id outside 0 .. {self.lengths.size - 1}")
            out = np.empty(num_tokens, dtype=np.int32)
            templates = (pointer(self.starts), pointer(self.lengths), pointer(self.tokens))
            compiled.gather_tokens(*ids, *templates, pointer(out))
            return out
        if template_ids.size and template_ids.min() < 0:
            raise IndexError(f"template id outside 0 .. {self.lengths.size - 1}")
        lengths = self.lengths.take(template_ids)
        ends = np.cumsum(lengths)
        # Index of output token j: its template's start - the template's start in the output + j.
        source = np.repeat(self.starts.take(template_ids) - ends + lengths, lengths)
        source += np.arange(source.size)
        out = np.empty(source.size, dtype=np.int32)
        return self.tokens.take(source, out=out, mode="clip")  # clip: bounds are checked already


def tokenize_texts(
    texts: Mapping[str, Sequence[str]], before_punctuation: Iterable[str], tokenizer: Tokenizer
) -> tuple[TokenTemplates, dict[str, Int64]]:
    """Tokenize texts of several kinds; return templates and their ids by kind.

    Parameters
    ----------
    texts
        Texts by kind.
    before_punctuation
        Kinds that may be followed by a text that starts with punctuation.
    tokenizer
        Its tokens must not cross GPT-2's word boundaries: before a space, and between letters,
        digits and punctuation.

    Raises
    ------
    AssertionError
        If a text could form one word with a neighbour, so that its tokens would depend on it.
    """
    all_texts = list(chain.from_iterable(texts.values()))
    assert not any(text[0].isalnum() or text[-1].isspace() for text in all_texts)
    assert all(text[-1].isalnum() for kind in before_punctuation for text in texts[kind])
    encodings = tokenizer.encode_batch(all_texts, add_special_tokens=False)
    stops = np.cumsum([len(kind_texts) for kind_texts in texts.values()])
    template_ids = np.split(np.arange(len(all_texts)), stops[:-1])
    templates = TokenTemplates.from_lists([encoding.ids for encoding in encodings])
    return templates, dict(zip(texts, template_ids, strict=True))
