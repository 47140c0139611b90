"""Biographies of a table state its facts, and prompts mark the tokens of names and values."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from knowcap.config import Corpus, Table
from knowcap.config.table_file import load_facts
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.corpus_writer import _check_round_trip, write_corpus
from knowcap.data.table import TableWriter, template_texts
from knowcap.data.tokenizer import END_OF_TEXT
from knowcap.errors import UserError
from tests.data.conftest import assert_same_prompts_in_own_tokens

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "config" / "inventions.csv"
SENTENCES = {
    "device": ["{name} invented the {value}.", "{name} is known for the {value}."],
    "city": ["{name} lived in {value}.", "{name} lived in the town of {value}."],
    "year": ["{name}'s patent is from {value}."],
}
with FILE.open(newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def record(tokenizer: str, file: Path = FILE) -> Corpus:
    attributes = [{"column": name, "sentences": each} for name, each in SENTENCES.items()]
    knowledge = {"kind": "table", "file": str(file), "name_column": "inventor"}
    return Corpus.model_validate(
        {"knowledge": {**knowledge, "attributes": attributes}, "tokenizer": tokenizer}
    )


@pytest.fixture(scope="module", params=["word", "GPT2", "Mistral"])
def corpus(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CorpusReader:
    folder = tmp_path_factory.mktemp("table") / "corpus"
    write_corpus(record(request.param), folder)
    return load_corpus(folder)


PEOPLE = np.arange(len(ROWS))


def stated(row: dict[str, str]) -> set[str]:
    """Every text that may state the facts of a row."""
    sentences = [
        [each.format(name=row["inventor"], value=row[column]) for each in SENTENCES[column]]
        for column in SENTENCES
    ]
    orders = itertools.permutations(sentences)
    return {" " + " ".join(text) for order in orders for text in itertools.product(*order)}


def test_biographies_are_the_sentences_of_the_table_in_any_order(corpus: CorpusReader) -> None:
    seen = set()
    for exposure in range(8):
        for text, row in zip(corpus.biographies(PEOPLE, exposure, seed=3), ROWS, strict=True):
            assert text in stated(row)
            seen.add(text.replace(row["inventor"], ""))
    assert len(seen) > 8 * len(ROWS) / 2


def test_the_stream_has_the_tokens_of_the_texts(corpus: CorpusReader) -> None:
    stream = corpus.stream(exposures=2, seed=0)
    num_windows, num_tokens = stream.length(32)
    windows, _ = stream.windows(num_windows, 32, stream.start)
    tokens = np.append(windows[:, :-1].ravel(), windows[-1, -1])
    tokens = tokens[tokens >= 0]
    assert tokens.size == num_tokens
    parts = np.split(tokens, np.flatnonzero(tokens == corpus.eos)[1:])
    assert len(parts) == 2 * len(ROWS) + 1
    lengths = [part.size for part in parts[:-1]]
    assert max(lengths) <= corpus.longest_biography
    assert np.mean(lengths) == pytest.approx(corpus.tokens_per_biography, rel=0.02)
    texts = corpus._tokenizer.decode_batch([part[1:].tolist() for part in parts[:-1]])
    assert set(texts) <= set().union(*map(stated, ROWS))


def test_prompts_mark_names_and_values_after_the_name(corpus: CorpusReader) -> None:
    name = corpus.name_prompts(PEOPLE, seed=0)
    values = corpus.attribute_prompts(PEOPLE, seed=0)
    whole = corpus.biography_prompts(PEOPLE, seed=0)
    assert corpus.fields == ("name", *SENTENCES)
    columns = ("inventor", *SENTENCES)
    for prompts, fields in ((name, {0}), (values, {1, 2, 3}), (whole, {0, 1, 2, 3})):
        found = {}
        for person, tokens, marks in zip(
            prompts.person, prompts.tokens, prompts.field, strict=True
        ):
            for field in set(marks.tolist()) - {-1}:
                text = corpus._tokenizer.decode(tokens[marks == field].tolist())
                found[int(person), field] = text
        expected = {(i, f): f" {ROWS[i][columns[f]]}" for i in range(len(ROWS)) for f in fields}
        assert found == expected
    before = [
        row[: np.argmax(marks >= 0)] for row, marks in zip(values.tokens, values.field, strict=True)
    ]
    texts = corpus._tokenizer.decode_batch([row[1:].tolist() for row in before])
    for text, person in zip(texts, values.person, strict=True):
        assert text.startswith(f" {ROWS[person]['inventor']}")


def test_the_floor_of_a_city_is_that_of_its_ambiguous_sentence(corpus: CorpusReader) -> None:
    # After "lived in" the value comes in one of two sentences; all other sentences are unambiguous.
    floors = corpus._writer.wording_floors()
    assert floors == pytest.approx({"device": 0.0, "city": math.log2(2) / 2, "year": 0.0})


def test_facts_are_those_of_the_file(corpus: CorpusReader) -> None:
    facts = list(CorpusTexts(corpus).facts())
    assert facts == [{"name": r["inventor"], **{c: r[c] for c in SENTENCES}} for r in ROWS]


def test_prompts_in_other_tokens_are_the_same_if_the_tokens_are(corpus: CorpusReader) -> None:
    assert_same_prompts_in_own_tokens(corpus, PEOPLE)


def test_a_corpus_has_a_copy_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_bytes(FILE.read_bytes())
    write_corpus(record("word", file), tmp_path / "corpus")
    file.unlink()
    corpus = load_corpus(tmp_path / "corpus")
    assert corpus.corpus == record("word")
    assert (tmp_path / "corpus" / "facts.csv").read_bytes() == FILE.read_bytes()
    (tmp_path / "corpus" / "facts.csv").write_text(FILE.read_text().replace("1803", "1804"))
    with pytest.raises(UserError, match=r"facts\.csv"):
        load_corpus(tmp_path / "corpus")


def test_a_file_that_changed_since_the_study_was_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_bytes(FILE.read_bytes())
    read = record("word", file)
    file.write_text(FILE.read_text().replace("1803", "1804"))
    with pytest.raises(UserError, match="changed since the study was read"):
        write_corpus(read, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_tokenizer_that_joins_a_value_with_its_full_stop_is_refused(tmp_path: Path) -> None:
    read = record("word").knowledge
    assert isinstance(read, Table)
    facts = load_facts(FILE, read.name_column, read.columns, read.sha256)
    texts = template_texts(read, facts)
    characters = sorted(set("".join(itertools.chain.from_iterable(texts.values()))))
    vocabulary = {text: i for i, text in enumerate([END_OF_TEXT, *characters, "e."])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("e", ".")]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END_OF_TEXT])
    writer = TableWriter(read, facts, tokenizer)
    with pytest.raises(UserError, match=r"the tokenizer splits .* differently from its names"):
        _check_round_trip(writer, tokenizer, len(ROWS))
