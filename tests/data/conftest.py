"""Small corpora of every kind, and the expected names and values of their people."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from knowcap.config import BioD, BioS, Corpus, Mixture
from knowcap.data import people
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.retokenized_corpus import RetokenizedCorpus
from knowcap.data.text_tokenizer import own_text_tokenizer

NUM_PEOPLE = 60

# No deadline: the duration of an example depends on the load of the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def bios(kind: str, tokenizer: str, num_people: int = NUM_PEOPLE, seed: int = 5) -> Corpus:
    knowledge = BioS.model_validate({"kind": kind, "num_people": num_people, "seed": seed})
    return Corpus.model_validate({"knowledge": knowledge, "tokenizer": tokenizer})


def biod(layout: str, **changes: int) -> Corpus:
    shape = {
        "num_people": NUM_PEOPLE,
        "num_attributes": 4,
        "num_chunks": 2,
        "diversity": 7,
        "chunk_length": 3,
        "alphabet_size": 20,
        "seed": 5,
    }
    knowledge = BioD.model_validate({"kind": "bioD", "layout": layout, **shape, **changes})
    return Corpus(knowledge=knowledge, tokenizer="word")


CORPORA = {
    "bioS-GPT2": bios("bioS", "GPT2"),
    "bioS-Mistral": bios("bioS", "Mistral"),
    "bioS-word": bios("bioS", "word"),
    "bioS-simple-GPT2": bios("bioS-simple", "GPT2"),
    "bioD-sentences": biod("sentences"),
    "bioD-compact": biod("compact"),
    "bioD-fixed": biod("compact", num_versions=1),
    "bioD-versions": biod("sentences", num_versions=3),
    "bioD-compact-many": biod("compact", num_attributes=9, num_chunks=1, chunk_length=1),
}


def mixed(corpus: Corpus, **mixture: float | str) -> Corpus:
    default = {"useful_share": 0.125, "num_junk_people": 500, "domain_token": False}
    return corpus.model_copy(update={"mixture": Mixture.model_validate(default | mixture)})


MIXED = {
    "bioS-junk": mixed(bios("bioS", "GPT2")),
    "bioS-simple-domain": mixed(bios("bioS-simple", "word"), domain_token=True),
    "bioS-domain": mixed(bios("bioS", "GPT2"), domain_token=True),
    "bioS-Mistral-domain": mixed(bios("bioS", "Mistral"), domain_token=True),
    "bioD-junk": mixed(biod("compact"), num_junk_people=20**3 - NUM_PEOPLE),
    "bioD-repeated": mixed(biod("compact"), num_junk_people=3, useful_share=0.4),
    "bioD-domain": mixed(biod("sentences"), domain_token=True, useful_share=0.5),
}

MIXED_WITHIN_WINDOWS = {
    "bioS-within": mixed(bios("bioS", "GPT2"), unit="biography"),
    "bioD-within": mixed(biod("sentences"), unit="biography", domain_token=True, useful_share=0.3),
}


BIOR = {
    f"bioR-{tokenizer}": Corpus.model_validate(
        {
            "knowledge": {
                "kind": "bioR",
                "num_people": NUM_PEOPLE,
                "seed": 5,
                "num_versions": 3,
                "rewriter": "grammar",
            },
            "tokenizer": tokenizer,
        }
    )
    for tokenizer in ("GPT2", "Mistral")
}


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("corpora")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            corpora = CORPORA | MIXED | MIXED_WITHIN_WINDOWS | BIOR
            write_corpus(corpora[name], root / name)
        return root / name

    return folder


@pytest.fixture(scope="session")
def load(corpus_folder: Callable[[str], Path]) -> Callable[[str], CorpusReader]:
    loaded: dict[str, CorpusReader] = {}

    def load(name: str) -> CorpusReader:
        if name not in loaded:
            loaded[name] = load_corpus(corpus_folder(name))
        return loaded[name]

    return load


@pytest.fixture(params=CORPORA)
def corpus_reader(
    request: pytest.FixtureRequest, load: Callable[[str], CorpusReader]
) -> CorpusReader:
    return load(request.param)


def all_people(corpus_reader: CorpusReader) -> np.ndarray:
    return np.arange(corpus_reader.corpus.knowledge.num_people)


def full_name(corpus_reader: CorpusReader, person: int) -> str:
    """A person's name from the pools, with a leading space."""
    knowledge = corpus_reader.corpus.knowledge
    name_id = int(people.name_ids(knowledge, np.array([person]))[0])
    if knowledge.kind == "bioD" and knowledge.layout == "compact":
        return "".join(f" {word(digit)}" for digit in digits(name_id, knowledge.alphabet_size, 3))
    pools = [people.read_lines("pools", f"{part}_names") for part in ("first", "middle", "last")]
    first, rest = divmod(name_id, 400 * 1000)
    middle, last = divmod(rest, 1000)
    return f" {pools[0][first]} {pools[1][middle]} {pools[2][last]}"


def value_texts(corpus_reader: CorpusReader, person: int) -> dict[str, str]:
    """A person's values by attribute, from the pools, with a leading space."""
    knowledge = corpus_reader.corpus.knowledge
    if knowledge.kind == "bioD":
        strings = chunk_strings(knowledge)
        attributes = np.arange(knowledge.num_attributes)
        (chunks,) = people.chunk_ids(knowledge, np.array([person]), attributes)
        return {
            f"ID {i + 1}": "".join(
                f" {word(letter)}" for chunk in chunks[i] for letter in strings[i, chunk]
            )
            for i in range(knowledge.num_attributes)
        }
    ids = people.attribute_ids(knowledge, np.array([person]))
    index = {name: int(value_ids[0]) for name, value_ids in ids.items()}
    month, rest = divmod(index["birth_date"], 28 * 200)
    day, year = divmod(rest, 200)
    employer, work_city = people.read_lines("pools", "employers")[index["employer"]].split("; ")
    return {
        "birth_date": f" {people.MONTHS[month]} {day + 1}, {year + 1900}",
        "birth_city": f" {people.read_lines('pools', 'cities')[index['birth_city']]}",
        "university": f" {people.read_lines('pools', 'universities')[index['university']]}",
        "major": f" {people.read_lines('pools', 'majors')[index['major']]}",
        "employer": f" {employer}",
        "work_city": f" {work_city}",
        "gender": ("he", "she")[index["gender"]],
    }


chunk_strings = cache(people.chunk_strings)


def digits(number: int, base: int, length: int) -> list[int]:
    return [number // base**place % base for place in reversed(range(length))]


def word(letter: int) -> str:
    """Word of an alphabet index; two syllables suffice for the alphabets of these tests."""
    syllables = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou"]
    return syllables[letter // 100] + syllables[letter % 100]


def assert_same_prompts_in_own_tokens(corpus: CorpusReader, person_ids: np.ndarray) -> None:
    """Assert that a corpus in the tokens of its own tokenizer has the same prompts."""
    other = RetokenizedCorpus(corpus, own_text_tokenizer(corpus), corpus.vocab_size)
    for name in ("name_prompts", "attribute_prompts", "biography_prompts"):
        found, expected = (getattr(each, name)(person_ids, 0) for each in (other, corpus))
        marked = expected.is_marked
        np.testing.assert_array_equal(found.is_marked, marked[:, : found.tokens.shape[1]])
        for field in ("tokens", "field", "strict_field", "accept"):
            own = getattr(found, field)[found.is_marked]
            np.testing.assert_array_equal(own, getattr(expected, field)[marked])
        np.testing.assert_array_equal(found.accept_sets, expected.accept_sets)
