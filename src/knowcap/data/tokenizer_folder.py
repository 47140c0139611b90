"""The tokenizer of a corpus with no other tokens than the corpus uses, for `transformers`.

The tokenizer file of a corpus keeps all tokens of GPT-2, because its merges pass through tokens
that no biography has. Programs that train models take the size of the vocabulary from the
tokenizer, and would then have embedding rows that the paper does not count. Here a word is split
where the summed scores of its tokens are highest (a unigram model without merges), and the scores
are adjusted until every word of the corpus has the tokens that training uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from knowcap.artifacts import files
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.tokenizer import DOMAIN_TOKEN, END_OF_TEXT, END_OF_TEXT_ID, SENTENCEPIECE_SPACE
from knowcap.errors import UserError

MARGIN = 0.1
"""Smallest difference between the scores of a word's tokens and of any other split."""

MAX_ROUNDS = 1000
"""Passes over all words; three to ten are enough for every kind of corpus in the tests."""

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's words, inside which the tokens of every tokenizer lie."""


def write_tokenizer_folder(corpus_texts: CorpusTexts, folder: Path) -> None:
    """Write a tokenizer that ``AutoTokenizer.from_pretrained`` loads.

    Ids are those of the corpus and of the trained models. Text that is not in the corpus becomes
    the end of text, as GPT-2's unknown token.

    Raises
    ------
    UserError
        If no scores split all words as the corpus does.
    """
    tokenizer = reduced_tokenizer(corpus_texts)
    files.write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    special_tokens = dict.fromkeys(
        ("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special_tokens,
    }
    files.write_json(folder / "tokenizer_config.json", config)
    files.write_json(folder / "special_tokens_map.json", special_tokens)


def reduced_tokenizer(corpus_texts: CorpusTexts) -> Tokenizer:
    """Return a tokenizer whose vocabulary is that of the corpus.

    Raises
    ------
    UserError
        If no scores split all words as the corpus does.
    """
    tokens, words = corpus_texts.token_list(), corpus_texts.words()
    scores = fit_scores(words.values(), tokens)
    model = models.Unigram([(token, scores[token]) for token in tokens], unk_id=END_OF_TEXT_ID)
    tokenizer = Tokenizer(model)
    if corpus_texts.corpus.tokenizer == "Mistral":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(GPT2_WORDS), behavior="isolated"),
                pre_tokenizers.Metaspace(SENTENCEPIECE_SPACE, "never", split=False),
            ]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(SENTENCEPIECE_SPACE, " "), decoders.Fuse()]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t in (END_OF_TEXT, DOMAIN_TOKEN) if t in scores])
    _check_words(tokenizer, words)
    return tokenizer


def _check_words(tokenizer: Tokenizer, words: Mapping[str, tuple[str, ...]]) -> None:
    """Raise a UserError if a word is not split as in the corpus."""
    encodings = tokenizer.encode_batch(list(words), add_special_tokens=False)
    for (word, tokens), encoding in zip(words.items(), encodings, strict=True):
        if tuple(encoding.tokens) != tokens:
            raise UserError(
                f"the tokenizer cannot be reduced to the tokens of the corpus: {word!r} has the "
                f"tokens {list(tokens)}, not {encoding.tokens}"
            )


def fit_scores(words: Iterable[tuple[str, ...]], tokens: Iterable[str]) -> dict[str, float]:
    """Scores of tokens with which every word's own tokens have the highest sum.

    The structured perceptron (Collins 2002): after a wrong split the scores of the word's tokens
    rise and those of the wrong tokens fall. It ends if such scores exist.

    Parameters
    ----------
    words
        Tokens of each word.
    tokens
        All tokens.
    """
    scores = dict.fromkeys(tokens, -1.0)
    longest = max(map(len, scores))
    ambiguous = [word for word in words if len("".join(word)) > 1]
    for _ in range(MAX_ROUNDS):
        num_wrong = 0
        for word in ambiguous:
            split = _best_split(word, scores, longest)
            if split != list(word):
                num_wrong += 1
                for token in word:
                    scores[token] += MARGIN
                for token in split:
                    scores[token] -= MARGIN
        if not num_wrong:
            break
    return scores


def _best_split(word: tuple[str, ...], scores: Mapping[str, float], longest: int) -> list[str]:
    """Split with the highest sum of scores, where the word's own tokens have a handicap."""
    text = "".join(word)
    own_stops = dict(_spans(word))
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(text) + 1):
        candidates = [
            (
                best[start][0] + scores[text[start:stop]] - MARGIN * (own_stops.get(start) == stop),
                start,
            )
            for start in range(max(0, stop - longest), stop)
            if text[start:stop] in scores
        ]
        best.append(max(candidates, default=(float("-inf"), stop - 1)))
    split: list[str] = []
    stop = len(text)
    while stop:
        start = best[stop][1]
        split.insert(0, text[start:stop])
        stop = start
    return split


def _spans(word: tuple[str, ...]) -> Iterable[tuple[int, int]]:
    """Start and stop of each token of a word."""
    start = 0
    for token in word:
        yield start, start + len(token)
        start += len(token)
