import numpy as np
import pytest
from tokenizers import Tokenizer

from knowcap.bios.vocabulary import END_OF_TEXT, gpt2_tokenizer, renumbered, word_tokenizer

TEXT = " Anya Briar Forger was born on October 2, 1996. She's from Princeton, NJ."

TOKENIZERS = {"GPT2": gpt2_tokenizer, "word": lambda: word_tokenizer([TEXT])}


@pytest.fixture(params=TOKENIZERS)
def whole(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def test_gpt2_has_the_ids_that_gpt2_has() -> None:
    assert gpt2_tokenizer().encode("Hello world" + END_OF_TEXT).ids == [15496, 995, 50256]


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
    reduced = renumbered(whole, used)
    assert reduced.encode(TEXT).tokens == whole.encode(TEXT).tokens
    assert reduced.decode(reduced.encode(TEXT).ids) == TEXT
    assert reduced.get_vocab_size() == whole.get_vocab_size()


def test_used_tokens_come_first_and_the_end_of_text_before_them(whole: Tokenizer) -> None:
    used = np.unique(whole.encode(TEXT).ids)
    reduced = renumbered(whole, used)
    assert np.unique(reduced.encode(END_OF_TEXT + TEXT).ids).tolist() == [*range(used.size + 1)]
    assert reduced.token_to_id(END_OF_TEXT) == 0
