from collections.abc import Callable

import numpy as np
import pytest

from knowcap.data.corpus import CorpusReader
from knowcap.data.prompts import Prompts
from tests.data.conftest import everybody, full_name, values

SEED = 11


def kinds(corpus_reader: CorpusReader) -> dict[str, Prompts]:
    people = everybody(corpus_reader)
    return {
        "name": corpus_reader.name_prompts(people, SEED),
        "attribute": corpus_reader.attribute_prompts(people, SEED),
        "biography": corpus_reader.biography_prompts(people, SEED),
    }


def answers(corpus_reader: CorpusReader, prompts: Prompts) -> dict[tuple[int, str], list[str]]:
    """The text of every marked span, by person and field."""
    spans: dict[tuple[int, str], list[str]] = {}
    for row, person in enumerate(prompts.person.tolist()):
        for number in np.unique(prompts.field[row]):
            if number >= 0:
                tokens = prompts.tokens[row][prompts.field[row] == number].tolist()
                text = corpus_reader._tokenizer.decode(tokens).replace(",", "")
                spans.setdefault((person, corpus_reader.fields[number]), []).append(text)
    return spans


def expected(corpus_reader: CorpusReader, person: int) -> dict[str, tuple[str, ...]]:
    facts = values(corpus_reader, person)
    told = {name: (facts[name].replace(",", ""),) for name in corpus_reader.fields[1:]}
    if "gender" in told:
        told["gender"] = {"he": (" He", " His"), "she": (" She", " Her")}[facts["gender"]]
    if corpus_reader.corpus.knowledge.kind == "bioS-simple":
        city = facts["work_city"].replace(",", "")
        told["employer"] = (told["employer"][0], city + told["employer"][0])
    return {"name": (full_name(corpus_reader, person),), **told}


def test_fields_are_the_name_and_the_attributes(corpus_reader: CorpusReader) -> None:
    assert corpus_reader.fields == ("name", *corpus_reader._writer.attributes)


def test_every_prompt_is_text_that_the_stream_could_have(corpus_reader: CorpusReader) -> None:
    for prompts in kinds(corpus_reader).values():
        assert (prompts.tokens[:, 0] == corpus_reader.eos).all()
        assert prompts.tokens.min() >= 0
        assert prompts.tokens.max() < corpus_reader.vocab_size
        assert (prompts.field[:, 0] == -1).all()


def test_name_prompts_mark_names_and_nothing_before(corpus_reader: CorpusReader) -> None:
    prompts = kinds(corpus_reader)["name"]
    for (person, field), spans in answers(corpus_reader, prompts).items():
        assert field == "name"
        assert spans == [full_name(corpus_reader, person)]
    first = (prompts.field == 0).argmax(axis=1)
    assert (first == 1).all()


def test_attribute_prompts_mark_every_value_once(corpus_reader: CorpusReader) -> None:
    spans = answers(corpus_reader, kinds(corpus_reader)["attribute"])
    for person in everybody(corpus_reader).tolist():
        for field, possible in expected(corpus_reader, person).items():
            if field != "name":
                (span,) = spans[person, field]
                assert span in possible


def test_biography_prompts_mark_everything_once(corpus_reader: CorpusReader) -> None:
    spans = answers(corpus_reader, kinds(corpus_reader)["biography"])
    for person in everybody(corpus_reader).tolist():
        for field, possible in expected(corpus_reader, person).items():
            (span,) = spans[person, field]
            assert span == possible[0] or field == "gender"
            assert span in possible


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-word", "bioD-sentences", "bioD-compact"])
def test_no_other_fact_stands_before_a_value_in_its_own_prompt(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    prompts = kinds(corpus_reader)["attribute"]
    for row, person in enumerate(prompts.person.tolist()):
        field = int(prompts.field[row].max())
        if corpus_reader.fields[field] == "gender":
            continue
        start = int((prompts.field[row] == field).argmax())
        text = corpus_reader._tokenizer.decode(prompts.tokens[row, 1:start].tolist())
        assert text.startswith(full_name(corpus_reader, person))
        head = text.removeprefix(full_name(corpus_reader, person))
        facts = [value for name, value in values(corpus_reader, person).items() if name != "gender"]
        assert not any(fact in head for fact in facts)


def test_gender_is_asked_behind_one_sentence_and_both_forms_will_do(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-GPT2")
    prompts = kinds(corpus_reader)["attribute"]
    asked = prompts.field == corpus_reader.fields.index("gender")
    assert (asked.sum(axis=1) <= 1).all()
    rows, columns = np.nonzero(asked)
    assert prompts.person[rows].tolist() == everybody(corpus_reader).tolist()
    for row, column in zip(rows, columns, strict=True):
        person = int(prompts.person[row])
        before = corpus_reader._tokenizer.decode(prompts.tokens[row, 1:column].tolist())
        assert before.endswith(".")
        accepted = np.flatnonzero(prompts.accept_sets[prompts.accept[row, column]])
        forms = {corpus_reader._tokenizer.decode([token]) for token in accepted.tolist()}
        assert forms == set(expected(corpus_reader, person)["gender"])
        assert prompts.tokens[row, column] in accepted


def test_strict_marks_stand_behind_values_and_names(corpus_reader: CorpusReader) -> None:
    for prompts in kinds(corpus_reader).values():
        rows, columns = np.nonzero(prompts.strict_field >= 0)
        assert rows.size
        before = prompts.field[rows, columns - 1]
        assert np.array_equal(before, prompts.strict_field[rows, columns])
        assert (prompts.field[rows, columns] != before).all()
        has_end = {(row, field) for row, field in zip(rows, before, strict=True)}
        gender = len(corpus_reader.fields) - 1 if "gender" in corpus_reader.fields else None
        for row in range(len(prompts.person)):
            for field in np.unique(prompts.field[row]):
                assert field in (-1, gender) or (row, field) in has_end


def test_accepted_sets_hold_the_token_that_stands_there(corpus_reader: CorpusReader) -> None:
    for prompts in kinds(corpus_reader).values():
        rows, columns = np.nonzero(prompts.accept >= 0)
        sets = prompts.accept[rows, columns]
        assert prompts.accept_sets[sets, prompts.tokens[rows, columns]].all()
        assert prompts.accept_sets.shape[1] == corpus_reader.vocab_size
        scored = (prompts.field >= 0) | (prompts.strict_field >= 0)
        assert scored[rows, columns].all()


def test_a_word_that_could_end_a_value_is_accepted(load: Callable[[str], CorpusReader]) -> None:
    corpus_reader = load("bioS-GPT2")
    prompts = kinds(corpus_reader)["attribute"]
    city = corpus_reader.fields.index("birth_city")
    for number in np.unique(prompts.accept[prompts.strict_field == city]):
        accepted = np.flatnonzero(prompts.accept_sets[number]).tolist()
        assert {corpus_reader._tokenizer.decode([token]) for token in accepted} == {".", ","}


def test_a_compact_value_ends_with_a_marker_or_the_end_of_text(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioD-compact")
    prompts = kinds(corpus_reader)["attribute"]
    (number,) = np.unique(prompts.accept[prompts.strict_field >= 0])
    assert np.flatnonzero(prompts.accept_sets[number]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["bioD-sentences", "bioD-compact"])
def test_first_chunks_are_the_beginnings_of_values(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    for kind in ("attribute", "biography"):
        prompts = kinds(corpus_reader)[kind]
        for field in range(1, len(corpus_reader.fields)):
            for row in np.flatnonzero((prompts.field == field).any(axis=1)):
                marked = prompts.first_chunk[row] & (prompts.field[row] == field)
                value = np.flatnonzero(prompts.field[row] == field)
                assert np.array_equal(np.flatnonzero(marked), value[:3])


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-simple-GPT2", "bioS-word"])
def test_bios_has_no_chunks(load: Callable[[str], CorpusReader], name: str) -> None:
    assert not any(prompts.first_chunk.any() for prompts in kinds(load(name)).values())


def test_a_fixed_biography_counts_a_city_that_tells_of_the_employer(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-simple-GPT2")
    spans = answers(corpus_reader, kinds(corpus_reader)["attribute"])
    texts = corpus_reader.biographies(everybody(corpus_reader), 0, seed=0)
    for person, text in enumerate(texts):
        facts = values(corpus_reader, person)
        (span,) = spans[person, "employer"]
        tells_city_first = text.rfind(facts["work_city"]) < text.rfind(facts["employer"])
        alone = facts["employer"]
        if facts["work_city"] not in (facts["birth_city"], alone):
            assert (span != alone.replace(",", "")) == tells_city_first


def test_prompts_of_some_people_are_those_of_everybody(corpus_reader: CorpusReader) -> None:
    few = corpus_reader.attribute_prompts(np.array([3, 8]), SEED)
    many = corpus_reader.attribute_prompts(everybody(corpus_reader), SEED)
    width = few.tokens.shape[1]
    for person in (3, 8):
        part = few.field[few.person == person]
        assert np.array_equal(part, many.field[many.person == person][:, :width])
