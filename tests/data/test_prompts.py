from collections.abc import Callable

import numpy as np
import pytest

from knowcap.data.corpus import CorpusReader
from knowcap.data.prompts import Prompts
from tests.data.conftest import all_people, full_name, value_texts

SEED = 11


def prompts_by_kind(corpus_reader: CorpusReader) -> dict[str, Prompts]:
    people = all_people(corpus_reader)
    return {
        "name": corpus_reader.name_prompts(people, SEED),
        "attribute": corpus_reader.attribute_prompts(people, SEED),
        "biography": corpus_reader.biography_prompts(people, SEED),
    }


def marked_texts(corpus_reader: CorpusReader, prompts: Prompts) -> dict[tuple[int, str], list[str]]:
    """Texts of the marked tokens by person and field."""
    spans: dict[tuple[int, str], list[str]] = {}
    for row, person in enumerate(prompts.person.tolist()):
        for field in np.unique(prompts.field[row]):
            if field >= 0:
                tokens = prompts.tokens[row][prompts.field[row] == field].tolist()
                text = corpus_reader._tokenizer.decode(tokens).replace(",", "")
                spans.setdefault((person, corpus_reader.fields[field]), []).append(text)
    return spans


def expected_texts(corpus_reader: CorpusReader, person: int) -> dict[str, tuple[str, ...]]:
    """Texts that may be marked, by field."""
    facts = value_texts(corpus_reader, person)
    texts = {name: (facts[name].replace(",", ""),) for name in corpus_reader.fields[1:]}
    if "gender" in texts:
        texts["gender"] = {"he": (" He", " His"), "she": (" She", " Her")}[facts["gender"]]
    if corpus_reader.corpus.knowledge.kind == "bioS-simple":
        city = facts["work_city"].replace(",", "")
        texts["employer"] = (texts["employer"][0], city + texts["employer"][0])
    return {"name": (full_name(corpus_reader, person),), **texts}


def test_fields_are_the_name_and_the_attributes(corpus_reader: CorpusReader) -> None:
    assert corpus_reader.fields == ("name", *corpus_reader._writer.attributes)


def test_prompts_begin_with_the_end_of_text_and_stay_in_the_vocabulary(
    corpus_reader: CorpusReader,
) -> None:
    for prompts in prompts_by_kind(corpus_reader).values():
        assert (prompts.tokens[:, 0] == corpus_reader.eos).all()
        assert prompts.tokens.min() >= 0
        assert prompts.tokens.max() < corpus_reader.vocab_size
        assert (prompts.field[:, 0] == -1).all()


def test_name_prompts_mark_the_name_right_after_the_opening(corpus_reader: CorpusReader) -> None:
    prompts = prompts_by_kind(corpus_reader)["name"]
    for (person, field), spans in marked_texts(corpus_reader, prompts).items():
        assert field == "name"
        assert spans == [full_name(corpus_reader, person)]
    first = (prompts.field == 0).argmax(axis=1)
    assert (first == 1).all()


def test_attribute_prompts_mark_every_value_once(corpus_reader: CorpusReader) -> None:
    spans = marked_texts(corpus_reader, prompts_by_kind(corpus_reader)["attribute"])
    for person in all_people(corpus_reader).tolist():
        for field, possible in expected_texts(corpus_reader, person).items():
            if field != "name":
                (span,) = spans[person, field]
                assert span in possible


def test_biography_prompts_mark_name_and_every_value_once(corpus_reader: CorpusReader) -> None:
    spans = marked_texts(corpus_reader, prompts_by_kind(corpus_reader)["biography"])
    for person in all_people(corpus_reader).tolist():
        for field, possible in expected_texts(corpus_reader, person).items():
            (span,) = spans[person, field]
            assert span == possible[0] or field == "gender"
            assert span in possible


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-word", "bioD-sentences", "bioD-compact"])
def test_no_other_fact_precedes_a_value_in_its_attribute_prompt(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    prompts = prompts_by_kind(corpus_reader)["attribute"]
    for row, person in enumerate(prompts.person.tolist()):
        field = int(prompts.field[row].max())
        if corpus_reader.fields[field] == "gender":
            continue
        start = int((prompts.field[row] == field).argmax())
        text = corpus_reader._tokenizer.decode(prompts.tokens[row, 1:start].tolist())
        assert text.startswith(full_name(corpus_reader, person))
        head = text.removeprefix(full_name(corpus_reader, person))
        facts = [
            value for name, value in value_texts(corpus_reader, person).items() if name != "gender"
        ]
        assert not any(fact in head for fact in facts)


def test_gender_is_scored_after_one_sentence_and_accepts_both_pronoun_forms(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-GPT2")
    prompts = prompts_by_kind(corpus_reader)["attribute"]
    is_gender = prompts.field == corpus_reader.fields.index("gender")
    assert (is_gender.sum(axis=1) <= 1).all()
    rows, columns = np.nonzero(is_gender)
    assert prompts.person[rows].tolist() == all_people(corpus_reader).tolist()
    for row, column in zip(rows, columns, strict=True):
        person = int(prompts.person[row])
        before = corpus_reader._tokenizer.decode(prompts.tokens[row, 1:column].tolist())
        assert before.endswith(".")
        accepted = np.flatnonzero(prompts.accept_sets[prompts.accept[row, column]])
        forms = {corpus_reader._tokenizer.decode([token]) for token in accepted.tolist()}
        assert forms == set(expected_texts(corpus_reader, person)["gender"])
        assert prompts.tokens[row, column] in accepted


def test_strict_marks_follow_values_and_names(corpus_reader: CorpusReader) -> None:
    for prompts in prompts_by_kind(corpus_reader).values():
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


def test_accept_sets_contain_the_marked_token(corpus_reader: CorpusReader) -> None:
    for prompts in prompts_by_kind(corpus_reader).values():
        rows, columns = np.nonzero(prompts.accept >= 0)
        sets = prompts.accept[rows, columns]
        assert prompts.accept_sets[sets, prompts.tokens[rows, columns]].all()
        assert prompts.accept_sets.shape[1] == corpus_reader.vocab_size
        assert prompts.is_marked[rows, columns].all()


def test_all_tokens_that_can_follow_a_value_are_accepted(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-GPT2")
    prompts = prompts_by_kind(corpus_reader)["attribute"]
    city = corpus_reader.fields.index("birth_city")
    for accept in np.unique(prompts.accept[prompts.strict_field == city]):
        accepted = np.flatnonzero(prompts.accept_sets[accept]).tolist()
        assert {corpus_reader._tokenizer.decode([token]) for token in accepted} == {".", ","}


def test_a_compact_value_is_followed_by_a_marker_or_the_end_of_text(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioD-compact")
    prompts = prompts_by_kind(corpus_reader)["attribute"]
    (accept,) = np.unique(prompts.accept[prompts.strict_field >= 0])
    assert np.flatnonzero(prompts.accept_sets[accept]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["bioD-sentences", "bioD-compact"])
def test_first_chunk_marks_the_first_tokens_of_each_value(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    for kind in ("attribute", "biography"):
        prompts = prompts_by_kind(corpus_reader)[kind]
        for field in range(1, len(corpus_reader.fields)):
            for row in np.flatnonzero((prompts.field == field).any(axis=1)):
                marked = prompts.first_chunk[row] & (prompts.field[row] == field)
                value = np.flatnonzero(prompts.field[row] == field)
                assert np.array_equal(np.flatnonzero(marked), value[:3])


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-simple-GPT2", "bioS-word"])
def test_bios_has_no_chunks(load: Callable[[str], CorpusReader], name: str) -> None:
    assert not any(prompts.first_chunk.any() for prompts in prompts_by_kind(load(name)).values())


def test_bios_simple_scores_a_preceding_working_city_with_the_employer(
    load: Callable[[str], CorpusReader],
) -> None:
    corpus_reader = load("bioS-simple-GPT2")
    spans = marked_texts(corpus_reader, prompts_by_kind(corpus_reader)["attribute"])
    texts = corpus_reader.biographies(all_people(corpus_reader), 0, seed=0)
    for person, text in enumerate(texts):
        facts = value_texts(corpus_reader, person)
        (span,) = spans[person, "employer"]
        is_city_first = text.rfind(facts["work_city"]) < text.rfind(facts["employer"])
        alone = facts["employer"]
        if facts["work_city"] not in (facts["birth_city"], alone):
            assert (span != alone.replace(",", "")) == is_city_first


def test_prompts_do_not_depend_on_the_other_people(corpus_reader: CorpusReader) -> None:
    few = corpus_reader.attribute_prompts(np.array([3, 8]), SEED)
    many = corpus_reader.attribute_prompts(all_people(corpus_reader), SEED)
    width = few.tokens.shape[1]
    for person in (3, 8):
        part = few.field[few.person == person]
        assert np.array_equal(part, many.field[many.person == person][:, :width])


@pytest.mark.parametrize("name", ["bioS-GPT2", "bioS-simple-GPT2"])
def test_the_chain_rule_counts_a_city_before_its_employer_in_every_format(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    prompts = corpus_reader.biography_prompts(all_people(corpus_reader), SEED)
    employer = corpus_reader.fields.index("employer")
    assert set(np.unique(prompts.chain_field)) == {-1, employer}
    num_first = 0
    for row, person in enumerate(prompts.person.tolist()):
        facts = value_texts(corpus_reader, person)
        marked = prompts.tokens[row][prompts.chain_field[row] == employer].tolist()
        position = int((prompts.field[row] == employer).argmax())
        before = corpus_reader._tokenizer.decode(prompts.tokens[row, :position].tolist())
        is_city_first = f"{facts['work_city']}" in before.replace(facts["birth_city"], "", 1)
        if facts["work_city"] != facts["birth_city"]:
            assert (corpus_reader._tokenizer.decode(marked) == facts["work_city"]) == is_city_first
            num_first += is_city_first
    assert 15 < num_first < 45  # of 60 people


def test_no_value_reveals_another_in_bio_d(load: Callable[[str], CorpusReader]) -> None:
    prompts = load("bioD-sentences").biography_prompts(np.arange(9), SEED)
    assert (prompts.chain_field == -1).all()


@pytest.mark.parametrize("name", ["bioS-domain", "bioS-simple-GPT2", "bioD-compact"])
def test_later_names_follow_whole_biographies_of_other_useful_people(
    load: Callable[[str], CorpusReader], name: str
) -> None:
    corpus_reader = load(name)
    people, num_positions = all_people(corpus_reader), 4
    prompts = corpus_reader.later_name_prompts(people, SEED, num_positions)
    alone = corpus_reader.name_prompts(people, SEED)
    names = {full_name(corpus_reader, person) for person in people.tolist()}
    num_before = []
    for row, person in enumerate(people.tolist()):
        tokens = prompts.tokens[row].tolist()
        start = int((prompts.field[row] == 0).argmax())
        first = int((alone.field[row] == 0).argmax())
        scored = alone.tokens[row, first:][alone.field[row, first:] == 0].tolist()
        assert tokens[start : start + len(scored)] == scored
        assert tokens[start - first : start] == alone.tokens[row, :first].tolist()
        ends = [column for column in range(start - first) if tokens[column] == 0]
        assert ends[0] == 0
        num_before.append(len(ends))
        for begin, stop in zip(ends, [*ends[1:], start - first], strict=True):
            text = corpus_reader._tokenizer.decode(tokens[begin + 1 : stop])
            (subject,) = [each for each in names if text.startswith(each)]
            assert subject != full_name(corpus_reader, person)
    assert sorted(num_before) == sorted(1 + index % 3 for index in range(people.size))
    one = corpus_reader.later_name_prompts(people[5:6], SEED, num_positions)
    assert np.array_equal(one.tokens[0], prompts.tokens[5, : one.tokens.shape[1]])
