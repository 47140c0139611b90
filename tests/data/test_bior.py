import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from knowcap.config import BioR, Corpus
from knowcap.data import bior_grammar, indexed_dataset, people, value_spans
from knowcap.data.bios_texts import SENTENCE_ATTRIBUTES
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.data.prompts import Prompts
from knowcap.errors import UserError
from knowcap.model.library_imports import without_triton_kernels
from tests.data.conftest import full_name, value_texts
from tests.data.test_token_stream import read_stream, split_biographies

NUM_PEOPLE, NUM_VERSIONS = 40, 5
ALL_PEOPLE = np.arange(NUM_PEOPLE)
KNOWLEDGE = {
    "kind": "bioR",
    "num_people": NUM_PEOPLE,
    "num_versions": NUM_VERSIONS,
    "rewriter": "grammar",
    "seed": 5,
}
CORPUS = Corpus.model_validate({"knowledge": KNOWLEDGE, "tokenizer": "GPT2"})
BIOR = BioR.model_validate(KNOWLEDGE)


@pytest.fixture(scope="module", params=["GPT2", "Mistral"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "bioR"
    write_corpus(CORPUS.model_copy(update={"tokenizer": request.param}), folder)
    return folder


@pytest.fixture(scope="module")
def corpus_reader(folder: Path) -> CorpusReader:
    return load_corpus(folder)


@pytest.fixture
def folder_copy(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def all_versions() -> list[str]:
    return [text for block in bior_grammar.generate_versions(BIOR) for text in block]


@pytest.mark.parametrize("exposures", [2, 5, 13])
def test_num_tokens_is_the_number_of_tokens_written(
    corpus_reader: CorpusReader, exposures: int
) -> None:
    stream = corpus_reader.stream(exposures, seed=7)
    windows, _ = stream.windows(1, stream.num_tokens() + 10, (0, 0))
    assert (windows >= 0).sum() == stream.num_tokens()


def test_every_version_contains_every_value_verbatim(corpus_reader: CorpusReader) -> None:
    for version, text in enumerate(all_versions()):
        person = version // NUM_VERSIONS
        assert text.startswith(full_name(corpus_reader, person))
        for name, value in value_texts(corpus_reader, person).items():
            assert value.strip() in text or name == "gender"


def test_versions_of_the_grammar_differ_in_words_and_order() -> None:
    texts = all_versions()
    assert len(set(texts)) == len(texts)
    subjects = people.describe_people(BIOR, ALL_PEOPLE.repeat(NUM_VERSIONS))
    first = Counter()
    for text, person in zip(texts, subjects, strict=True):
        spans = value_spans.find_value_spans(text, person)
        assert spans is not None
        first[min(spans.values, key=spans.values.__getitem__)] += 1
    assert set(first) == set(SENTENCE_ATTRIBUTES)
    assert {text.count(". ") for text in texts} >= {2, 3, 4}


def test_sentences_of_the_grammar_are_well_formed() -> None:
    for text in all_versions():
        assert re.fullmatch(r"( [A-Z][^.!?]*[a-zA-Z0-9]\.){2,6}", text), text
        assert "  " not in text
        assert not re.search(r"[{}]| [,.]", text)


@pytest.mark.parametrize("attribute", SENTENCE_ATTRIBUTES)
def test_every_phrase_has_one_value_and_every_form_has_phrases(attribute: str) -> None:
    lines = people.read_lines("bior_phrases", attribute)
    assert len(set(lines)) == len(lines)
    for line in lines:
        form, phrase = line.split(" ", 1)
        assert form in ("did", "aside", "front", "fact")
        assert phrase.count("{value}") == 1
        assert phrase[0].isupper() == (form == "front")
        assert not re.search(r"\b(he|she|his|her|they|their)\b", phrase.lower())
    assert all(
        len(bior_grammar.read_phrases(attribute, form)) >= 5 for form in ("did", "aside", "front")
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_pattern_has_one_slot_per_fact_and_some_can_open(size: int) -> None:
    for sentence in bior_grammar.read_patterns(size, is_first=False):
        slots = [part for part in sentence.parts[1::2] if part[-1].isdigit()]
        assert sorted(slot[-1] for slot in slots) == [str(n + 1) for n in range(size)]
        assert {slot[:-2] for slot in slots} <= {"did", "aside", "front", "fact"}
    assert len(bior_grammar.read_patterns(size, is_first=True)) >= 3


def test_sentence_sizes_distribute_six_facts_over_at_least_two_sentences() -> None:
    assert all(sum(each) == 6 and 2 <= len(each) <= 6 for each in bior_grammar.sentence_sizes())
    assert len(set(bior_grammar.sentence_sizes())) == len(bior_grammar.sentence_sizes()) == 24


PERSON = people.Person(
    " Ann Law Boston",
    {
        "birth_date": "May 3, 1990",
        "birth_city": "Boston, MA",
        "university": "Boston College of Law",
        "major": "Law",
        "employer": "Target",
        "work_city": "Boston, MA",
    },
    gender=1,
)
TEXT = (
    " Ann Law Boston, born in Boston, MA on May 3, 1990, left Boston College of Law with a degree"
    " in Law; her Lawful Target is in Boston, MA."
)


def test_spans_cover_the_values_and_do_not_overlap() -> None:
    spans = value_spans.find_value_spans(TEXT, PERSON)
    assert spans is not None
    values = {name: TEXT[slice(*span)] for name, span in spans.values.items()}
    assert values == PERSON.values
    assert TEXT[slice(*spans.name)] == " Ann Law Boston"
    assert TEXT[slice(*spans.pronoun)] == "her"
    all_spans = sorted([spans.name, spans.pronoun, *spans.values.values()])
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(all_spans))
    assert spans.values["birth_city"] < spans.values["work_city"]
    assert TEXT[: spans.values["major"][0]].endswith("degree in ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("May 3, 1990", "May 3 1990"),
        (" is in Boston, MA", ""),
        ("degree in Law", "degree in Lawns"),
        ("her", "his"),
        ("her ", "the "),
        ("her ", "her (he?) "),
        (" Ann Law", " Meet Ann Law"),
        ("her Lawful", "Ann Law Boston: her Lawful"),
        ("Boston, born", "Bostonian, born"),
        ("; her", "<|endoftext|>; her"),
        ("; her", ";\nher"),
    ],
)
def test_a_text_without_all_facts_has_no_spans(old: str, new: str) -> None:
    assert old in TEXT
    assert value_spans.find_value_spans(TEXT.replace(old, new), PERSON) is None


def test_exposures_show_the_versions_in_turn(corpus_reader: CorpusReader) -> None:
    stream = corpus_reader.stream(NUM_VERSIONS + 2, seed=7)
    *documents, last = split_biographies(read_stream(stream))
    assert last == ()
    texts = all_versions()
    for exposure in range(NUM_VERSIONS + 2):
        part = documents[exposure * NUM_PEOPLE : (exposure + 1) * NUM_PEOPLE]
        decoded = corpus_reader._tokenizer.decode_batch([list(tokens) for tokens in part])
        expected = texts[exposure % NUM_VERSIONS :: NUM_VERSIONS]
        assert decoded != expected
        assert (
            sorted(decoded)
            == sorted(expected)
            == sorted(corpus_reader.biographies(ALL_PEOPLE, exposure, 7))
        )


@given(seq_length=st.integers(1, 300), calls=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_windows_do_not_depend_on_how_many_are_requested_at_once(
    corpus_reader: CorpusReader, seq_length: int, calls: list[int]
) -> None:
    stream = corpus_reader.stream(2, seed=7)
    expected, _ = stream.windows(sum(calls), seq_length, stream.start)
    position, parts = stream.start, []
    for num_windows in calls:
        windows, position = stream.windows(num_windows, seq_length, position)
        parts.append(windows)
    assert np.array_equal(np.concatenate(parts), expected)


def test_tokens_fill_the_vocabulary_and_lengths_equal_the_metadata(
    corpus_reader: CorpusReader,
) -> None:
    tokens = read_stream(corpus_reader.stream(NUM_VERSIONS, seed=0))
    assert set(np.unique(tokens)) == set(range(corpus_reader.vocab_size))
    lengths = [1 + len(each) for each in split_biographies(tokens)[:-1]]
    assert max(lengths) == corpus_reader.longest_biography
    assert np.mean(lengths[:NUM_PEOPLE]) == pytest.approx(corpus_reader.tokens_per_biography)


def marked_text(corpus_reader: CorpusReader, prompts: Prompts, row: int, field: int) -> str:
    """Text of a row's tokens that are marked with a field."""
    return str(corpus_reader._tokenizer.decode(prompts.tokens[row][prompts.field[row] == field]))


def test_prompts_mark_name_and_values(corpus_reader: CorpusReader) -> None:
    name_prompts = corpus_reader.name_prompts(ALL_PEOPLE, 3)
    attribute_prompts = corpus_reader.attribute_prompts(ALL_PEOPLE, 3)
    biography_prompts = corpus_reader.biography_prompts(ALL_PEOPLE, 3)
    for person in ALL_PEOPLE.tolist():
        facts = value_texts(corpus_reader, person)
        pronouns = value_spans.PRONOUNS[("he", "she").index(facts["gender"])]
        for prompts in (name_prompts, biography_prompts):
            assert marked_text(corpus_reader, prompts, person, 0) == full_name(
                corpus_reader, person
            )
        for field, attribute in enumerate(corpus_reader.fields[1:], 1):
            attribute_text, biography_text = (
                marked_text(corpus_reader, each, person, field)
                for each in (attribute_prompts, biography_prompts)
            )
            if attribute == "gender":
                assert attribute_text.strip().lower() in pronouns
            else:
                assert biography_text == facts[attribute]
                assert attribute_text in (facts[attribute], facts["work_city"] + facts[attribute])


def test_gender_is_scored_among_pronouns_alone(corpus_reader: CorpusReader) -> None:
    prompts = corpus_reader.attribute_prompts(ALL_PEOPLE, 3)
    rows, columns = np.nonzero(prompts.given >= 0)
    gender = corpus_reader.fields.index("gender")
    assert np.array_equal(np.argwhere(prompts.field == gender), np.stack([rows, columns], axis=1))
    for row, column in zip(rows, columns, strict=True):
        facts = value_texts(corpus_reader, int(prompts.person[row]))
        accepted, given = (
            {corpus_reader._tokenizer.decode([token]).strip().lower() for token in tokens}
            for tokens in (
                np.flatnonzero(prompts.accept_sets[prompts.accept[row, column]]).tolist(),
                np.flatnonzero(prompts.accept_sets[prompts.given[row, column]]).tolist(),
            )
        )
        assert accepted <= set(value_spans.PRONOUNS[("he", "she").index(facts["gender"])])
        assert given <= set(value_spans.PRONOUNS[0] + value_spans.PRONOUNS[1])
        assert accepted < given


def test_later_names_follow_other_versions(corpus_reader: CorpusReader) -> None:
    prompts = corpus_reader.later_name_prompts(ALL_PEOPLE, 3, num_positions=3)
    for person in ALL_PEOPLE.tolist():
        assert marked_text(corpus_reader, prompts, person, 0) == full_name(corpus_reader, person)
        start = int((prompts.field[person] == 0).argmax())
        assert (prompts.tokens[person, [0, start - 1]] == 0).all()
        assert (prompts.tokens[person, :start] == 0).sum() in (2, 3)


def test_a_city_before_the_employer_is_scored_with_it(corpus_reader: CorpusReader) -> None:
    attribute_prompts = corpus_reader.attribute_prompts(ALL_PEOPLE, 3)
    employer = corpus_reader.fields.index("employer")
    num_city_first = 0
    for person in ALL_PEOPLE.tolist():
        facts = value_texts(corpus_reader, person)
        text = corpus_reader._tokenizer.decode(attribute_prompts.tokens[person].tolist())
        if facts["work_city"] == facts["birth_city"]:
            continue
        is_first = text.index(facts["work_city"].strip()) < text.index(facts["employer"].strip())
        city = facts["work_city"] if is_first else ""
        assert (
            marked_text(corpus_reader, attribute_prompts, person, employer)
            == city + facts["employer"]
        )
        num_city_first += is_first
    assert 0 < num_city_first < NUM_PEOPLE


def test_prompts_are_beginnings_of_training_texts(corpus_reader: CorpusReader) -> None:
    texts = set(all_versions())
    biography_prompts = corpus_reader.biography_prompts(ALL_PEOPLE, 3)
    for row in biography_prompts.tokens:
        beginning = corpus_reader._tokenizer.decode(row[row > 0].tolist())
        assert any(text.startswith(beginning) for text in texts)


def test_strict_marks_follow_values_and_accept_word_ends(
    corpus_reader: CorpusReader,
) -> None:
    for prompts in (
        corpus_reader.name_prompts(ALL_PEOPLE, 3),
        corpus_reader.attribute_prompts(ALL_PEOPLE, 3),
    ):
        rows, columns = np.nonzero(prompts.strict_field >= 0)
        assert np.array_equal(prompts.field[rows, columns - 1], prompts.strict_field[rows, columns])
        accepted = prompts.accept_sets[prompts.accept[rows, columns]]
        assert accepted[np.arange(rows.size), prompts.tokens[rows, columns]].all()
        texts = corpus_reader._tokenizer.decode_batch(
            [[token] for token in np.flatnonzero(accepted[0]).tolist()]
        )
        assert not any(text[:1].isalnum() for text in texts)


def test_prompts_do_not_depend_on_the_other_people(corpus_reader: CorpusReader) -> None:
    few = corpus_reader.attribute_prompts(np.array([3, 8]), 3)
    many = corpus_reader.attribute_prompts(ALL_PEOPLE, 3)
    width = few.tokens.shape[1]
    assert np.array_equal(few.tokens, many.tokens[[3, 8], :width])
    assert np.array_equal(few.field, many.field[[3, 8], :width])


def test_indexed_datasets_are_interchangeable_with_megatron(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with without_triton_kernels():
        dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    tokens, lengths = indexed_dataset.read_dataset(folder / "versions")
    megatron_dataset = dataset.IndexedDataset(str(folder / "versions"))
    assert len(megatron_dataset) == len(lengths) == NUM_PEOPLE * NUM_VERSIONS
    assert np.array_equal(
        np.concatenate([megatron_dataset[n] for n in range(len(megatron_dataset))]), tokens
    )
    builder = dataset.IndexedDatasetBuilder(str(tmp_path / "megatron.bin"), dtype=np.int32)
    for start, stop in ((0, 5), (5, 6), (6, 30)):
        builder.add_document(torch.from_numpy(tokens[start:stop].copy()), [stop - start])
    builder.finalize(str(tmp_path / "megatron.idx"))
    read, read_lengths = indexed_dataset.read_dataset(tmp_path / "megatron")
    assert np.array_equal(read, tokens[:30])
    assert read_lengths.tolist() == [5, 1, 24]
    indexed_dataset.write_index(tmp_path / "ours.idx", read_lengths)
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "megatron.idx").read_bytes()


def test_the_metadata_names_the_rewriter(folder: Path) -> None:
    metadata = json.loads((folder / "corpus.json").read_text())
    assert metadata["rewriting"] == {
        "rewriter": "grammar",
        "num_versions": NUM_VERSIONS,
        "num_rejected": 0,
        "rejection_rate": 0.0,
    }
    names = {"corpus.json", "tokenizer.json", "versions.bin", "versions.idx", "DONE"}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("name", ["versions.bin", "versions.idx"])
def test_a_missing_or_truncated_dataset_is_a_user_error(folder_copy: Path, name: str) -> None:
    content = (folder_copy / name).read_bytes()
    for truncated in (content[:-4], content[:7], b""):
        (folder_copy / name).write_bytes(truncated)
        with pytest.raises(UserError, match=name):
            load_corpus(folder_copy)
    (folder_copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing"):
        load_corpus(folder_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": "word"}, "bioR, which needs 'GPT2' or 'Mistral'"),
        (
            {"mixture": {"useful_share": 0.5, "num_junk_people": 9, "domain_token": True}},
            "junk needs bioS or bioD",
        ),
        ({"knowledge": KNOWLEDGE | {"rewriter": "llama"}}, "grammar"),
    ],
)
def test_invalid_bior_records_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Corpus.model_validate(CORPUS.model_dump() | change)
