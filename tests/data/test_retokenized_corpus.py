"""Prompts in the tokens of another tokenizer."""

import string
from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from knowcap.data.corpus import CorpusReader
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.prompts import Prompts
from knowcap.data.retokenized_corpus import RetokenizedCorpus
from knowcap.data.text_tokenizer import TextTokenizer, TextTokens, own_text_tokenizer
from knowcap.data.tokenizer import gpt2_tokenizer, mistral_tokenizer
from knowcap.errors import UserError
from tests.data.conftest import BIOR, CORPORA, full_name, value_texts

PEOPLE = np.arange(8)
SEED = 3

KINDS = (
    *CORPORA,
    *("bioS-domain", "bioS-simple-domain", "bioD-junk", "bioD-domain"),
    *BIOR,
)

Load = Callable[[str], CorpusReader]


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest, load: Load) -> CorpusReader:
    return load(request.param)


def all_prompts(reader: CorpusReader) -> list[Prompts]:
    return [
        build(PEOPLE, SEED)
        for build in (reader.name_prompts, reader.attribute_prompts, reader.biography_prompts)
    ] + [reader.later_name_prompts(PEOPLE, SEED, num_positions=4)]


def test_prompts_in_the_tokens_of_the_corpus_are_those_of_the_corpus(reader):
    own = RetokenizedCorpus(reader, own_text_tokenizer(reader), reader.vocab_size)
    for found, expected in zip(all_prompts(own), all_prompts(reader), strict=True):
        width = found.tokens.shape[1]
        assert not expected.is_marked[:, width:].any()
        # tokens after the last marked one have no effect
        is_read = np.cumsum(expected.is_marked[:, ::-1], axis=1)[:, ::-1][:, :width] > 0
        for field in fields(Prompts):
            values, others = getattr(found, field.name), getattr(expected, field.name)
            if field.name in ("person", "accept_sets"):
                np.testing.assert_array_equal(values, others)
            else:
                np.testing.assert_array_equal(values[is_read], others[:, :width][is_read])


def test_the_used_tokens_in_the_tokens_of_the_corpus_are_all_of_them(reader):
    own = RetokenizedCorpus(reader, own_text_tokenizer(reader), reader.vocab_size)
    np.testing.assert_array_equal(own.find_used_tokens(), np.arange(reader.vocab_size))


def text_tokenizer(tokenizer: Tokenizer, end: int) -> TextTokenizer:
    def encode(texts: Sequence[str]) -> list[TextTokens]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [TextTokens(each.ids, each.offsets) for each in encodings]

    def token_texts() -> list[str]:
        return tokenizer.decode_batch([[i] for i in range(tokenizer.get_vocab_size())])

    return TextTokenizer(encode, token_texts, [end], end)


WHOLE = {
    "GPT2": (gpt2_tokenizer, 50256),
    "Mistral": (mistral_tokenizer, 2),
}
"""Whole tokenizers with their own ids, and the end of text."""


@pytest.fixture(params=WHOLE)
def other(request: pytest.FixtureRequest) -> tuple[Tokenizer, int]:
    make, end = WHOLE[request.param]
    return make(), end


def retokenized(reader: CorpusReader, tokenizer: Tokenizer, end: int) -> RetokenizedCorpus:
    return RetokenizedCorpus(reader, text_tokenizer(tokenizer, end), tokenizer.get_vocab_size())


@pytest.fixture(params=["bioS-word", "bioS-simple-GPT2", "bioD-sentences", "bioD-compact"])
def foreign(request: pytest.FixtureRequest, load: Load) -> CorpusReader:
    return load(request.param)


def test_marked_tokens_of_another_tokenizer_spell_names_and_values(foreign, other):
    tokenizer, end = other
    names = ("name", *value_texts(foreign, 0))
    for prompts in all_prompts(retokenized(foreign, tokenizer, end)):
        assert (prompts.tokens[:, 0] == end).all()
        first = np.argmax(prompts.field >= 0, axis=1)
        is_name = np.take_along_axis(prompts.field, first[:, None], axis=1)[:, 0] == 0
        for row in np.flatnonzero(is_name & (first > 1)):  # it follows other biographies
            text = tokenizer.decode(prompts.tokens[row, : first[row]].tolist())
            assert full_name(foreign, int(prompts.person[row])) not in text
        for row in range(len(prompts.tokens)):
            person = int(prompts.person[row])
            expected = {"name": full_name(foreign, person), **value_texts(foreign, person)}
            found = set(prompts.field[row][prompts.field[row] >= 0].tolist())
            for field in found:
                name = foreign.fields[field]
                assert name in names
                text = tokenizer.decode(prompts.tokens[row][prompts.field[row] == field].tolist())
                if name == "gender":
                    forms = {"he": (" He", " His"), "she": (" She", " Her")}
                    assert text in forms[expected[name]]
                elif name == "employer" and foreign.corpus.knowledge.kind == "bioS-simple":
                    assert text.endswith(expected[name])  # after its city, if that comes first
                else:
                    assert text == expected[name]


def test_the_token_after_a_value_is_in_its_set_and_no_value_begins_with_one(foreign, other):
    tokenizer, end = other
    corpus = retokenized(foreign, tokenizer, end)
    for prompts in all_prompts(corpus):
        rows, columns = np.nonzero(prompts.strict_field >= 0)
        sets = prompts.accept[rows, columns]
        assert (sets >= 0).all()
        assert prompts.accept_sets[sets, prompts.tokens[rows, columns]].all()


def test_another_tokenizer_uses_the_tokens_of_all_biographies(foreign, other):
    tokenizer, end = other
    used = set(retokenized(foreign, tokenizer, end).find_used_tokens().tolist())
    found = {end}
    for block in CorpusTexts(foreign).biographies_in_order(exposures=20, seed=0):
        for encoding in tokenizer.encode_batch(block.texts):
            found.update(encoding.ids)
    assert found <= used
    # 60 people of bioS-simple do not have all sentence templates
    assert len(used) < 1.1 * len(found)


def characters() -> Tokenizer:
    """One token per byte."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def words_with_punctuation(corpus_reader: CorpusReader) -> Tokenizer:
    """One token per word, with the punctuation after it."""
    cut = pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated")
    words = {
        word
        for block in CorpusTexts(corpus_reader).biographies_in_order(exposures=1, seed=0)
        for text in block.texts
        for word, _ in cut.pre_tokenize_str(text)
    }
    vocab = {word: i for i, word in enumerate(["<unk>", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = cut
    return tokenizer


def test_a_token_inside_and_outside_of_a_value_is_refused(load):
    reader = load("bioS-GPT2")
    corpus = retokenized(reader, words_with_punctuation(reader), 0)
    with pytest.raises(UserError, match=r"has a token ' [^']+\W' with characters of a \w+ and"):
        corpus.biography_prompts(PEOPLE, SEED)


def halves() -> Tokenizer:
    """Two tokens per word: its first two characters, and the others."""
    cut = pre_tokenizers.Split(Regex(r" [^ ]|[A-Za-z0-9]+|[^ A-Za-z0-9]+"), "isolated")
    vocab = {"<unk>": 0, **{f" {c}": i for i, c in enumerate(string.printable, 1)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = cut
    return tokenizer


def test_a_pronoun_of_several_tokens_is_refused(load):
    corpus = retokenized(load("bioS-GPT2"), halves(), 0)
    with pytest.raises(UserError, match="splits the pronoun ' He' into 2 tokens"):
        corpus.attribute_prompts(PEOPLE, SEED)


def test_a_token_for_a_space_is_refused(load):
    corpus = retokenized(load("bioS-GPT2"), characters(), 0)
    with pytest.raises(UserError, match="has a token for a space alone"):
        corpus.attribute_prompts(PEOPLE, SEED)
