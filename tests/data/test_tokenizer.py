from importlib.resources import files

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from knowcap.config import BioR
from knowcap.data import bior_grammar, bios, people
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
def whole(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def test_gpt2_has_the_ids_that_gpt2_has() -> None:
    assert gpt2_tokenizer().encode("Hello world" + END_OF_TEXT).ids == [15496, 995, 50256]


def test_mistral_has_the_ids_that_sentencepiece_gives() -> None:
    model = files("mistral_common").joinpath("data", "tokenizer.model.v1").read_bytes()
    own = SentencePieceProcessor(model_proto=model)
    knowledge = {"kind": "bioR", "num_people": 30, "seed": 0, "num_versions": 2}
    written = next(
        bior_grammar.generate_versions(BioR.model_validate(knowledge | {"rewriter": "grammar"}))
    )
    pieces = [text for texts in bios.template_texts().values() for text in texts]
    texts = [text for text in [*written, *pieces] if text.startswith(" ")]
    assert len(texts) > 3000
    # Sentencepiece puts a space of its own in front.
    expected = own.encode([text[1:] for text in texts])
    assert [encoding.ids for encoding in mistral_tokenizer().encode_batch(texts)] == expected
    assert mistral_tokenizer().encode(END_OF_TEXT).ids == [own.eos_id()]


def test_mistral_writes_numbers_digit_by_digit() -> None:
    tokenizer = mistral_tokenizer()
    for year in people.YEARS:
        assert tokenizer.encode(f" {year}").tokens == [SENTENCEPIECE_SPACE, *str(year)]


def test_mistral_writes_any_letter_in_bytes_if_it_must() -> None:
    tokenizer, text = mistral_tokenizer(), " \u16a0 in Zürich"
    assert any(token.startswith("<0x") for token in tokenizer.encode(text).tokens)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_words_are_what_gpt2_starts_from() -> None:
    words = word_tokenizer([TEXT]).encode(" She's from Princeton, NJ.").tokens
    assert [word.replace("\u0120", " ") for word in words] == [
        *(" She", "'s", " from", " Princeton", ",", " NJ", ".")
    ]


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(Exception, match="UNK"):
        word_tokenizer([TEXT]).encode(" Loid")


def test_renumbering_changes_numbers_and_nothing_else(whole: Tokenizer) -> None:
    used = np.unique(whole.encode(TEXT).ids)
    reduced = renumber_tokens(whole, used)
    assert reduced.encode(TEXT).tokens == whole.encode(TEXT).tokens
    assert reduced.decode(reduced.encode(TEXT).ids) == TEXT
    assert reduced.get_vocab_size() == whole.get_vocab_size()


def test_used_tokens_come_first_and_the_end_of_text_before_them(whole: Tokenizer) -> None:
    used = np.unique(whole.encode(TEXT).ids)
    reduced = renumber_tokens(whole, used)
    assert np.unique(reduced.encode(END_OF_TEXT + TEXT).ids).tolist() == [*range(used.size + 1)]
    assert reduced.token_to_id(END_OF_TEXT) == 0
