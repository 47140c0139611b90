from importlib.resources import files

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from knowcap.config import BioR
from knowcap.data import bior_grammar, bios_texts, people
from knowcap.data.tokenizer import (
    END_OF_TEXT,
    SENTENCEPIECE_SPACE,
    gpt2_tokenizer,
    mistral_tokenizer,
    renumber_tokens,
    word_tokenizer,
)

TEXT = " Anya Briar Forger was born on October 2, 1996. She's from Princeton, NJ."

TOKENIZERS = {
    "GPT2": gpt2_tokenizer,
    "Mistral": mistral_tokenizer,
    "word": lambda: word_tokenizer([TEXT]),
}


@pytest.fixture(params=TOKENIZERS)
def full_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def test_gpt2_has_its_published_ids() -> None:
    assert gpt2_tokenizer().encode("Hello world" + END_OF_TEXT).ids == [15496, 995, 50256]


def test_mistral_has_the_ids_of_sentencepiece() -> None:
    model = files("mistral_common").joinpath("data", "tokenizer.model.v1").read_bytes()
    sentencepiece = SentencePieceProcessor(model_proto=model)
    knowledge = {"kind": "bioR", "num_people": 30, "seed": 0, "num_versions": 2}
    bior_texts = next(
        bior_grammar.generate_versions(BioR.model_validate(knowledge | {"rewriter": "grammar"}))
    )
    sentences = [text for texts in bios_texts.template_texts().values() for text in texts]
    texts = [text for text in [*bior_texts, *sentences] if text.startswith(" ")]
    assert len(texts) > 3000
    # Sentencepiece adds a space to the front of a text.
    expected = sentencepiece.encode([text[1:] for text in texts])
    assert [encoding.ids for encoding in mistral_tokenizer().encode_batch(texts)] == expected
    assert mistral_tokenizer().encode(END_OF_TEXT).ids == [sentencepiece.eos_id()]


def test_mistral_tokenizes_numbers_digit_by_digit() -> None:
    tokenizer = mistral_tokenizer()
    for year in people.YEARS:
        assert tokenizer.encode(f" {year}").tokens == [SENTENCEPIECE_SPACE, *str(year)]


def test_mistral_falls_back_to_bytes() -> None:
    tokenizer, text = mistral_tokenizer(), " \u16a0 in Zürich"
    assert any(token.startswith("<0x") for token in tokenizer.encode(text).tokens)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_words_are_split_as_by_gpt2() -> None:
    words = word_tokenizer([TEXT]).encode(" She's from Princeton, NJ.").tokens
    assert [word.replace("\u0120", " ") for word in words] == [
        *(" She", "'s", " from", " Princeton", ",", " NJ", ".")
    ]


def test_an_unknown_word_raises_an_error() -> None:
    with pytest.raises(Exception, match="UNK"):
        word_tokenizer([TEXT]).encode(" Loid")


def test_renumbering_changes_only_ids(full_tokenizer: Tokenizer) -> None:
    used = np.unique(full_tokenizer.encode(TEXT).ids)
    renumbered = renumber_tokens(full_tokenizer, used)
    assert renumbered.encode(TEXT).tokens == full_tokenizer.encode(TEXT).tokens
    assert renumbered.decode(renumbered.encode(TEXT).ids) == TEXT
    assert renumbered.get_vocab_size() == full_tokenizer.get_vocab_size()


def test_the_end_of_text_has_id_0_and_used_tokens_follow(full_tokenizer: Tokenizer) -> None:
    used = np.unique(full_tokenizer.encode(TEXT).ids)
    renumbered = renumber_tokens(full_tokenizer, used)
    assert np.unique(renumbered.encode(END_OF_TEXT + TEXT).ids).tolist() == [*range(used.size + 1)]
    assert renumbered.token_to_id(END_OF_TEXT) == 0
