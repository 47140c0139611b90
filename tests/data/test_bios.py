import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowcap.data import people
from knowcap.data.corpus import CorpusReader
from knowcap.data.tokenizer import END_OF_TEXT, gpt2_tokenizer
from tests.data.conftest import NUM_PEOPLE, all_people, full_name, value_texts

SENTENCE_ATTRIBUTES = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
BIOS_CORPORA = ("bioS-GPT2", "bioS-Mistral", "bioS-word", "bioS-simple-GPT2")


def possible_sentences(name: str, values: dict[str, str], is_first: bool) -> dict[str, str]:
    """All sentences about a person, with the attribute that each states."""
    pronouns = {"he": (" He", " His"), "she": (" She", " Her")}[values["gender"]]
    subject, possessive = (name, f"{name}'s") if is_first else pronouns
    return {
        line.replace("{subject}", subject)
        .replace("{possessive}", possessive)
        .replace(" {value}", values[stated]): stated
        for stated in SENTENCE_ATTRIBUTES
        for line in people.read_lines("bios_templates", stated)
    }


def stated_attributes(text: str, name: str, values: dict[str, str]) -> list[str]:
    """Attributes that the sentences of a biography state, in order."""
    stated = []
    while text:
        sentences = possible_sentences(name, values, is_first=not stated)
        sentence = max((each for each in sentences if text.startswith(each)), key=len)
        stated.append(sentences[sentence])
        text = text.removeprefix(sentence)
    return stated


@pytest.mark.parametrize("name", BIOS_CORPORA)
@settings(max_examples=40)
@given(
    person=st.integers(0, NUM_PEOPLE - 1), exposure=st.integers(0, 1000), seed=st.integers(0, 99)
)
def test_a_biography_states_every_attribute_in_one_sentence(
    load: Callable[[str], CorpusReader], name: str, person: int, exposure: int, seed: int
) -> None:
    corpus_reader = load(name)
    (text,) = corpus_reader.biographies(np.array([person]), exposure, seed)
    stated = stated_attributes(
        text, full_name(corpus_reader, person), value_texts(corpus_reader, person)
    )
    assert sorted(stated) == sorted(SENTENCE_ATTRIBUTES)


def test_assembled_tokens_are_those_of_the_whole_text(corpus_reader: CorpusReader) -> None:
    for exposure in (0, 5):
        rows = corpus_reader._writer.write_biographies(
            all_people(corpus_reader), np.full(NUM_PEOPLE, exposure), seed=3
        )
        texts = corpus_reader.biographies(all_people(corpus_reader), exposure, seed=3)
        for row, text in zip(rows, texts, strict=True):
            tokens = corpus_reader._writer.templates.gather_tokens(row).tolist()
            assert corpus_reader._tokenizer.encode(END_OF_TEXT + text).ids == tokens


def test_tokens_are_those_of_gpt2(load: Callable[[str], CorpusReader]) -> None:
    corpus_reader, gpt2 = load("bioS-GPT2"), gpt2_tokenizer()
    for text in corpus_reader.biographies(all_people(corpus_reader), exposure=0, seed=0):
        assert corpus_reader._tokenizer.encode(text).tokens == gpt2.encode(text).tokens


def test_bios_has_a_new_wording_in_every_exposure(load: Callable[[str], CorpusReader]) -> None:
    first, second = (load("bioS-GPT2").biographies(np.arange(50), e, seed=0) for e in (0, 1))
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_bios_simple_has_the_same_wording_in_every_exposure(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-simple-GPT2")
    first, second = (corpus_reader.biographies(np.arange(50), e, seed=e) for e in (0, 1))
    assert first == second


def test_versions_of_biod_alternate_independently_of_the_seed(
    load: Callable[[str], CorpusReader],
) -> None:
    for name, num_versions in (("bioD-fixed", 1), ("bioD-versions", 3)):
        texts = [
            load(name).biographies(np.arange(50), exposure, seed=exposure) for exposure in range(7)
        ]
        assert texts[num_versions : 2 * num_versions] == texts[:num_versions]
        assert len(set(zip(*texts, strict=True))) == 50
        assert len(set(map(str, texts))) == num_versions


def test_every_sentence_template_comes_first_equally_often(
    load: Callable[[str], CorpusReader],
) -> None:
    writer = load("bioS-word")._writer
    exposures, person_ids = np.divmod(np.arange(60_000), NUM_PEOPLE)
    rows = writer.write_biographies(person_ids, exposures, seed=2)
    template = np.searchsorted(np.sort(writer.head_ids[0]), rows[:, 4])
    counts = np.bincount(template, minlength=300)
    # Poisson counts of mean 200: six standard deviations on either side.
    assert counts.min() > 200 - 6 * 200**0.5
    assert counts.max() < 200 + 6 * 200**0.5


@pytest.mark.parametrize(
    "name", ["bioD-sentences", "bioD-compact", "bioD-compact-many", "bioD-fixed", "bioD-versions"]
)
def test_biod_states_every_attribute(load: Callable[[str], CorpusReader], name: str) -> None:
    corpus_reader = load(name)
    for person, text in enumerate(corpus_reader.biographies(all_people(corpus_reader), 4, seed=1)):
        assert text.startswith(full_name(corpus_reader, person))
        for value in value_texts(corpus_reader, person).values():
            assert value in text.replace(",", "")


def test_sentences_of_biod_have_the_form_of_the_paper(load: Callable[[str], CorpusReader]) -> None:
    corpus_reader = load("bioD-sentences")
    word = "[a-z]{4}"
    chunk = f"{word} {word} {word}"
    pattern = rf"( \w+){{3}}'s ID \d is {chunk}, {chunk}\.( Her ID \d is {chunk}, {chunk}\.){{3}}"
    assert re.fullmatch(pattern, corpus_reader.biographies(np.array([0]), 0, seed=0)[0])


def test_compact_biographies_are_names_markers_and_chunks(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioD-compact")
    assert corpus_reader.vocab_size == 20 + 4 + 1  # T + K + 1
    assert corpus_reader.longest_biography == 1 + 3 + 4 * (1 + 2 * 3)
    assert corpus_reader.tokens_per_biography == corpus_reader.longest_biography
