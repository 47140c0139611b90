import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from knowcap.artifacts import manifest
from knowcap.data import people
from knowcap.data.bios_texts import SENTENCE_ATTRIBUTES
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import UserError
from tests.data.conftest import CORPORA, NUM_PEOPLE, biod, bios


def read_metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "corpus.json").read_text()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(biod("compact"), tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.mark.parametrize("name", CORPORA)
def test_a_loaded_corpus_has_the_record_it_was_written_from(
    corpus_folder: Callable[[str], Path], name: str
) -> None:
    assert load_corpus(corpus_folder(name)).corpus == CORPORA[name]


def test_the_metadata_of_bios_are_those_of_the_paper(corpus_folder: Callable[[str], Path]) -> None:
    metadata = read_metadata(corpus_folder("bioS-GPT2"))
    assert metadata["num_people"] == NUM_PEOPLE
    assert metadata["num_names"] == 160_000_000
    assert metadata["diversity"] is None
    assert metadata["name_floor"] == 0
    assert [{**each, "wording_floor": 0} for each in metadata["attributes"]] == [
        {"name": name, "cardinality": cardinality, "wording_floor": 0}
        for name, cardinality in (
            ("birth_date", 67_200),
            ("birth_city", 200),
            ("university", 300),
            ("major", 100),
            ("employer", 263),
            ("gender", 2),
        )
    ]


def test_the_metadata_of_biod_are_its_shape(corpus_folder: Callable[[str], Path]) -> None:
    metadata = read_metadata(corpus_folder("bioD-compact"))
    assert metadata["num_names"] == 20**3
    assert metadata["attributes"] == [
        {"name": f"ID {number}", "cardinality": 7**2, "wording_floor": 0.0}
        for number in (1, 2, 3, 4)
    ]
    assert metadata["diversity"] == {
        "num_attributes": 4,
        "num_chunks": 2,
        "diversity": 7,
        "chunk_length": 3,
        "alphabet_size": 20,
    }


def test_ten_thousand_people_use_about_as_many_tokens_as_in_the_paper(tmp_path: Path) -> None:
    write_corpus(bios("bioS", "GPT2", 10_000), tmp_path)
    metadata = read_metadata(tmp_path)
    # PAPER A: 3275 tokens and 73 + 1 a biography; our names and sentences differ.
    assert metadata["vocab_size"] == pytest.approx(3275, rel=0.05)
    assert metadata["tokens_per_biography"] == pytest.approx(74, rel=0.05)


def test_few_people_use_few_tokens(tmp_path: Path) -> None:
    write_corpus(bios("bioS", "word", 1), tmp_path / "one")
    write_corpus(bios("bioS", "word", 1000), tmp_path / "many")
    one, many = (load_corpus(tmp_path / name) for name in ("one", "many"))
    assert one.vocab_size < many.vocab_size - 1000


@pytest.mark.parametrize("name", CORPORA)
def test_the_tokenizer_file_encodes_biographies(
    corpus_folder: Callable[[str], Path], name: str
) -> None:
    tokenizer = Tokenizer.from_file(str(corpus_folder(name) / "tokenizer.json"))
    corpus_reader = load_corpus(corpus_folder(name))
    assert max(tokenizer.encode(corpus_reader.example_biography()).ids) < corpus_reader.vocab_size


def test_writing_a_corpus_twice_gives_equal_files(folder: Path, tmp_path: Path) -> None:
    write_corpus(biod("compact"), tmp_path / "again")
    for name in ("corpus.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_corpus_folder_has_two_files_and_their_digests(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"corpus.json", "tokenizer.json", "DONE"}


@pytest.mark.parametrize("name", ["corpus.json", "tokenizer.json", "DONE"])
def test_a_missing_file_is_a_user_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        load_corpus(folder)


@pytest.mark.parametrize("name", ["corpus.json", "tokenizer.json"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_a_user_error(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=name):
        load_corpus(folder)


def test_exchanged_tokens_are_a_user_error(folder: Path) -> None:
    path = folder / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace(":2,", ":x,").replace(":3,", ":2,").replace(":x,", ":3,"))
    assert path.read_text() != text
    with pytest.raises(UserError, match=r"tokenizer\.json: damaged"):
        load_corpus(folder)


@pytest.mark.parametrize("change", [{"format": 2}, {"record": {}}, {"vocab_size": None}])
def test_invalid_metadata_are_a_user_error(folder: Path, change: dict[str, object]) -> None:
    (folder / "corpus.json").write_text(json.dumps(read_metadata(folder) | change))
    manifest.write(folder, ["corpus.json", "tokenizer.json"])
    with pytest.raises(UserError, match=r"corpus\.json"):
        load_corpus(folder)


def test_incomplete_metadata_are_a_user_error(folder: Path) -> None:
    incomplete = {key: value for key, value in read_metadata(folder).items() if key != "vocab_size"}
    (folder / "corpus.json").write_text(json.dumps(incomplete))
    manifest.write(folder, ["corpus.json", "tokenizer.json"])
    with pytest.raises(UserError, match=r"corpus\.json"):
        load_corpus(folder)


def test_the_wording_floor_is_the_loss_of_a_reader_who_knows_all_sentences(
    corpus_folder: Callable[[str], Path],
) -> None:
    """The reader has counted the sentences that continue as far as a value begins."""
    lines = [
        (attribute, *line.replace("{subject}", "").replace("{possessive}", "'s").split(" {value}"))
        for attribute in SENTENCE_ATTRIBUTES
        for line in people.read_lines("bios_templates", attribute)
    ]
    floors: dict[str, list[float]] = {attribute: [] for attribute in SENTENCE_ATTRIBUTES}
    for attribute, head, _ in lines:
        alike = [(other, text) for other, text, _ in lines if f"{text} ".startswith(f"{head} ")]
        floors[attribute].append(math.log2(len(alike) / alike.count((attribute, head))))
    metadata = read_metadata(corpus_folder("bioS-GPT2"))
    found = {each["name"]: each["wording_floor"] for each in metadata["attributes"]}
    assert found.pop("gender") == 0  # sentences end where a reader expects it
    for name, floor in found.items():
        assert floor == pytest.approx(sum(floors[name]) / 50, abs=1e-12)
    assert sum(found.values()) == pytest.approx(0.318, abs=0.001)


@pytest.mark.parametrize("name", ["bioS-simple-GPT2", "bioD-sentences", "bioD-fixed"])
def test_texts_without_ambiguous_wording_have_no_floor(
    corpus_folder: Callable[[str], Path], name: str
) -> None:
    attributes = read_metadata(corpus_folder(name))["attributes"]
    assert {each["wording_floor"] for each in attributes} == {0}


@pytest.mark.parametrize(("name", "bits"), [("bioS-junk", 3), ("bioS-domain", 0)])
def test_names_have_a_floor_if_junk_begins_alike(
    corpus_folder: Callable[[str], Path], name: str, bits: float
) -> None:
    assert read_metadata(corpus_folder(name))["name_floor"] == bits
