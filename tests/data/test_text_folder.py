"""Text folders: biographies, tokens, people and tokenizer of a corpus."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from knowcap.config import Corpus
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.indexed_dataset import read_dataset
from knowcap.data.text_folder import find_corpus_folder, write_text_folder
from knowcap.errors import UserError
from tests.data.conftest import BIOR, full_name, value_texts

EXPOSURES, SEED = 3, 7

KINDS = (
    *("bioS-GPT2", "bioS-Mistral", "bioS-word", "bioR-GPT2", "bioR-Mistral"),
    *("bioD-sentences", "bioD-compact", "bioD-versions"),
)

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="module", params=KINDS)
def folder(
    request: pytest.FixtureRequest,
    corpus_folder: FolderOf,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    output = tmp_path_factory.mktemp("texts") / "text"
    formats = ("jsonl", "tokens", "megatron")
    write_text_folder(corpus_folder(request.param), output, EXPOSURES, SEED, formats)
    return output


@pytest.fixture
def reader(folder: Path) -> CorpusReader:
    return load_corpus(find_corpus_folder(folder))


def training_stream(reader: CorpusReader) -> np.ndarray:
    """All tokens of the training stream, in one window."""
    stream = reader.stream(EXPOSURES, SEED)
    num_tokens = stream.length(1).num_tokens
    (window,), _ = stream.windows(1, num_tokens - 1, stream.start)
    assert window.size == num_tokens
    assert window.min() >= 0
    return window


def biographies(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "biographies.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_text_in_the_tokens_of_transformers_is_the_training_stream(folder, reader):
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    texts = [row["text"] for row in biographies(folder)]
    found = []
    for row in tokenizer(texts, add_special_tokens=False).input_ids:
        found += [tokenizer.eos_token_id, *row]
    np.testing.assert_array_equal([*found, tokenizer.eos_token_id], training_stream(reader))


def test_the_tokenizer_has_the_used_tokens_only_and_restores_every_biography(folder, reader):
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    assert len(tokenizer) == tokenizer.vocab_size == reader.vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(reader.vocab_size))
    texts = [row["text"] for row in biographies(folder)]
    ids = tokenizer(texts).input_ids  # no special tokens are added
    assert tokenizer.batch_decode(ids) == texts


def test_the_flat_tokens_are_the_training_stream(folder, reader):
    description = json.loads((folder / "tokens.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", description["dtype"], mode="r")
    np.testing.assert_array_equal(tokens, training_stream(reader))
    assert description["num_tokens"] == tokens.size
    assert description["vocab_size"] == reader.vocab_size


def test_megatron_s_documents_are_the_stream_and_end_with_the_end_of_text(folder, reader):
    tokens, lengths = read_dataset(folder / "megatron")
    np.testing.assert_array_equal(tokens, training_stream(reader)[1:])
    assert lengths.size == EXPOSURES * reader.corpus.knowledge.num_people
    assert (tokens[lengths.cumsum() - 1] == reader.eos).all()


def test_every_exposure_has_everyone_once(folder, reader):
    rows = biographies(folder)
    num_people = reader.corpus.knowledge.num_people
    for exposure in range(EXPOSURES):
        block = rows[exposure * num_people :][:num_people]
        assert {row["exposure"] for row in block} == {exposure}
        assert sorted(row["person"] for row in block) == list(range(num_people))
    first = rows[0]
    assert first["text"] == reader.biographies(np.array([first["person"]]), 0, SEED)[0]


def test_the_people_have_their_facts(folder, reader):
    with (folder / "people.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == reader.corpus.knowledge.num_people
    for person in (0, 1, len(rows) - 1):
        row = rows[person]
        assert row["person"] == str(person)
        assert row["name"] == full_name(reader, person).strip()
        for attribute, value in value_texts(reader, person).items():
            assert row[attribute].replace(",", "") == value.strip().replace(",", "")


def test_a_folder_of_datasets_has_the_biographies(corpus_folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    output = tmp_path / "text"
    formats = ("jsonl", "datasets")
    write_text_folder(corpus_folder("bioD-compact"), output, EXPOSURES, SEED, formats)
    assert datasets.load_from_disk(output / "dataset").to_list() == biographies(output)


def test_a_missing_library_is_one_line_and_nothing_is_written(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs datasets, .*: pip install 'knowcap\[hub\]'"):
        write_text_folder(corpus_folder("bioD-compact"), tmp_path / "text", 1, 0, ["datasets"])
    assert not list(tmp_path.iterdir())


def test_junk_is_refused_and_nothing_is_written(corpus_folder, tmp_path):
    with pytest.raises(UserError, match="mixture: not supported as text"):
        write_text_folder(corpus_folder("bioD-junk"), tmp_path / "text", 1, 0, ["jsonl"])
    assert not list(tmp_path.iterdir())


def test_an_output_with_files_is_refused(corpus_folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists; choose another output folder"):
        write_text_folder(corpus_folder("bioD-compact"), tmp_path, 1, 0, ["jsonl"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_corpus_is_refused_and_nothing_is_written(corpus_folder, tmp_path):
    source = shutil.copytree(corpus_folder("bioD-compact"), tmp_path / "corpus")
    (source / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json: missing"):
        write_text_folder(source, tmp_path / "text", 1, 0, ["jsonl"])
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_corpus_that_a_language_model_writes_is_not_made_on_the_way(tmp_path):
    corpus = BIOR["bioR-GPT2"].model_dump()
    corpus["knowledge"]["rewriter"] = {
        "model": "some/model", "temperature": 1.0, "top_p": 1.0, "num_words": 60, "max_attempts": 2,
    }  # fmt: skip
    with pytest.raises(UserError, match="rewriter: 'some/model' rewrites for hours"):
        write_text_folder(Corpus.model_validate(corpus), tmp_path / "text", 1, 0, ["jsonl"])
