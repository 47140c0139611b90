"""Attributes that a study adds to bioS, beside unchanged facts of the paper's attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from knowcap.artifacts import identity
from knowcap.capacity.table_columns import describe_corpus
from knowcap.config import BioS, Corpus
from knowcap.data import people
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import distinct_errors
from tests.data.conftest import assert_same_prompts_in_own_tokens

INSTRUMENT = {
    "name": "instrument",
    "values": ["cello", "French horn", "oboe", "viola"],
    "sentences": ["{subject} plays the {value}.", "{possessive} instrument is the {value}."],
}
COLOR = {
    "name": "color",
    "values": ["red", "blue"],
    "sentences": ["{subject} likes {value} best."],
}
PEOPLE = np.arange(60)


def record(
    *extra: dict[str, Any], kind: str = "bioS", tokenizer: str = "GPT2", seed: int = 0
) -> Corpus:
    knowledge: dict[str, Any] = {"kind": kind, "num_people": 60, "seed": seed}
    if extra:
        knowledge["extra_attributes"] = list(extra)
    return Corpus.model_validate({"knowledge": knowledge, "tokenizer": tokenizer})


def written(corpus: Corpus, folder: Path) -> CorpusReader:
    write_corpus(corpus, folder)
    return load_corpus(folder)


@pytest.fixture(
    scope="module", params=[("bioS", "GPT2"), ("bioS", "Mistral"), ("bioS-simple", "word")]
)
def corpus(request, tmp_path_factory) -> CorpusReader:
    kind, tokenizer = request.param
    folder = tmp_path_factory.mktemp("extra") / "corpus"
    return written(record(INSTRUMENT, COLOR, kind=kind, tokenizer=tokenizer), folder)


def test_facts_of_the_papers_attributes_do_not_change(corpus: CorpusReader) -> None:
    plain = record(kind=corpus.corpus.knowledge.kind).knowledge
    for person, own in zip(
        people.describe_people(plain, PEOPLE), CorpusTexts(corpus).facts(), strict=True
    ):
        added = {own.pop("instrument"), own.pop("color")}
        assert added <= {*INSTRUMENT["values"], *COLOR["values"]}
        gender = own.pop("gender")
        assert own == {"name": person.name.strip(), **person.values}
        assert gender == ("he", "she")[person.gender]


def test_each_biography_states_every_added_fact_once(corpus: CorpusReader) -> None:
    for exposure in range(3):
        texts = corpus.biographies(PEOPLE, exposure, seed=1)
        for text, person in zip(texts, CorpusTexts(corpus).facts(), strict=True):
            played = [
                f"plays the {person['instrument']}.",
                f"instrument is the {person['instrument']}.",
            ]
            assert sum(each in text for each in played) == 1
            assert text.count(f" likes {person['color']} best.") == 1
            for value in (person["birth_date"], person["university"], person["employer"]):
                assert f" {value}" in text


def test_values_are_drawn_uniformly_and_independently() -> None:
    knowledge = record(INSTRUMENT, COLOR).knowledge
    ids = people.extra_attribute_ids(knowledge, np.arange(20_000))
    counts = np.histogram2d(ids["instrument"], ids["color"], bins=(4, 2))[0]
    assert np.abs(counts / 2500 - 1).max() < 0.1
    with_gender = np.corrcoef(ids["color"], people.gender_ids(knowledge, np.arange(20_000)))[0, 1]
    assert abs(with_gender) < 0.03


def test_prompts_mark_every_added_value_after_the_name(corpus: CorpusReader) -> None:
    assert corpus.fields[-2:] == ("instrument", "color")
    facts = list(CorpusTexts(corpus).facts())
    for prompts in (corpus.attribute_prompts(PEOPLE, 0), corpus.biography_prompts(PEOPLE, 0)):
        found = {}
        rows = zip(prompts.person, prompts.tokens, prompts.field, prompts.accept, strict=True)
        for person, tokens, marks, accept in rows:
            for field in (7, 8):
                if (marks == field).any():
                    text = corpus._tokenizer.decode(tokens[marks == field].tolist())
                    found[int(person), corpus.fields[field]] = text
                    after = int(np.flatnonzero(marks == field)[-1]) + 1
                    assert prompts.accept_sets[accept[after], tokens[after]]
        expected = {
            (i, name): f" {facts[i][name]}" for i in range(60) for name in ("instrument", "color")
        }
        assert found == expected


def test_prompts_in_other_tokens_are_the_same_if_the_tokens_are(corpus: CorpusReader) -> None:
    assert_same_prompts_in_own_tokens(corpus, PEOPLE)


def test_the_stream_has_the_counted_length(corpus: CorpusReader) -> None:
    stream = corpus.stream(exposures=2, seed=0)
    num_windows, num_tokens = stream.length(256)
    windows, _ = stream.windows(num_windows, 256, stream.start)
    tokens = np.append(windows[:, :-1].ravel(), windows[-1, -1])
    assert (tokens >= 0).sum() == num_tokens
    ends = np.flatnonzero(tokens == corpus.eos)
    assert np.diff(ends).max() <= corpus.longest_biography


def test_cardinalities_and_the_label_have_the_added_attributes(corpus: CorpusReader) -> None:
    attributes = corpus._writer.attributes
    assert attributes == people.CARDINALITIES | {"instrument": 4, "color": 2}
    label = describe_corpus(corpus.corpus)["knowledge"]
    assert label == f"{corpus.corpus.knowledge.kind}(60, +instrument, +color)"


def test_the_floor_of_an_ambiguous_sentence_counts_uneven_numbers_of_templates(
    tmp_path: Path,
) -> None:
    likes = {
        **INSTRUMENT,
        "sentences": ["{subject} likes {value} best.", "{subject} practises the {value}."],
    }
    reader = written(record(likes, COLOR), tmp_path / "corpus")
    floors = reader._writer.wording_floors()
    # " likes" is one of two templates of the instrument, and the only one of the color.
    assert floors["instrument"] == pytest.approx(np.log2(3) / 2)
    assert floors["color"] == pytest.approx(np.log2(3 / 2))


def test_the_papers_bios_keeps_its_name_and_its_record(tmp_path: Path) -> None:
    assert "extra_attributes" not in record().model_dump(mode="json")["knowledge"]
    assert identity.corpus_name(record(INSTRUMENT)) != identity.corpus_name(record())
    text = identity.record_json(record(INSTRUMENT))
    assert Corpus.model_validate(json.loads(text)) == record(INSTRUMENT)


def test_values_can_be_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "instruments.txt"
    file.write_text("".join(f"{value}\n" for value in INSTRUMENT["values"]))
    by_file = {**INSTRUMENT, "file": str(file)}
    del by_file["values"]
    assert record(by_file) == record(INSTRUMENT)
    assert identity.corpus_name(record(by_file)) == identity.corpus_name(record(INSTRUMENT))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gender"}, "'gender' is an attribute already; names must be different"),
        (
            {"values": ["oboe", "horn (in F)"]},
            "'horn (in F)' does not end with a letter or a digit",
        ),
        ({"values": ["oboe", "oboe"]}, "contains a value twice"),
        ({"sentences": ["plays the {value}."]}, "is not allowed: required is '{subject}'"),
        ({"file": "none.txt"}, "not allowed together with values"),
        ({"values": None, "file": "none.txt"}, "'none.txt' cannot be read: No such file"),
    ],
)
def test_mistakes_are_refused(change: dict[str, Any], message: str) -> None:
    given = {k: v for k, v in (INSTRUMENT | change).items() if v is not None}
    with pytest.raises(ValidationError) as error:
        BioS.model_validate(
            {"kind": "bioS", "num_people": 9, "seed": 0, "extra_attributes": [given]}
        )
    assert message in "\n".join(each["msg"] for each in distinct_errors(error.value))
