"""Scores of a unigram model that splits words as another tokenizer does."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from knowcap.data.tokenizer_folder import _check_words, fit_scores
from knowcap.errors import UserError


def tokenizer_of(words: list[tuple[str, ...]]) -> Tokenizer:
    tokens = ["<end>", *sorted({token for word in words for token in word})]
    scores = fit_scores(words, tokens)
    return Tokenizer(models.Unigram([(token, scores[token]) for token in tokens], unk_id=0))


def test_words_whose_longest_token_is_not_the_first_are_split_as_given():
    words = [("ab", "cd"), ("abc",), ("b", "cde"), ("bc", "d"), ("cd", "cd")]
    tokenizer = tokenizer_of(words)
    assert [tuple(tokenizer.encode("".join(word)).tokens) for word in words] == words


@given(
    st.dictionaries(
        st.text("ab", min_size=1, max_size=6), st.integers(0, 31), min_size=1, max_size=4
    )
)
def test_a_tokenizer_is_right_or_refused(cuts):
    words = {}
    for word, bits in cuts.items():
        stops = [i for i in range(1, len(word)) if bits >> i & 1]
        bounds = [0, *stops, len(word)]
        words[word] = tuple(word[a:b] for a, b in itertools.pairwise(bounds))
    tokenizer = tokenizer_of(list(words.values()))
    found = {word: tuple(tokenizer.encode(word).tokens) for word in words}
    if found == words:
        _check_words(tokenizer, words)
    else:
        with pytest.raises(UserError, match="cannot be reduced to the tokens of the corpus"):
            _check_words(tokenizer, words)
