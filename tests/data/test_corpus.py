import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from knowcap.data.corpus import load_corpus, write_corpus
from knowcap.errors import UserError
from tests.data.conftest import CORPORA, NUM_PEOPLE, biod, bios


def facts(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "corpus.json").read_text()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(biod("compact"), tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_read_as_it_was_written(
    corpus_folder: Callable[[str], Path], name: str
) -> None:
    assert load_corpus(corpus_folder(name)).corpus == CORPORA[name]


def test_the_facts_of_bios_are_the_papers(corpus_folder: Callable[[str], Path]) -> None:
    written = facts(corpus_folder("bioS-GPT2"))
    assert written["num_people"] == NUM_PEOPLE
    assert written["num_names"] == 160_000_000
    assert written["diversity"] is None
    assert written["attributes"] == [
        {"name": "birth_date", "cardinality": 67_200},
        {"name": "birth_city", "cardinality": 200},
        {"name": "university", "cardinality": 300},
        {"name": "major", "cardinality": 100},
        {"name": "employer", "cardinality": 263},
        {"name": "gender", "cardinality": 2},
    ]


def test_the_facts_of_biod_are_its_shape(corpus_folder: Callable[[str], Path]) -> None:
    written = facts(corpus_folder("bioD-compact"))
    assert written["num_names"] == 20**3
    assert written["attributes"] == [
        {"name": f"ID {number}", "cardinality": 7**2} for number in (1, 2, 3, 4)
    ]
    assert written["diversity"] == {
        "num_attributes": 4,
        "num_chunks": 2,
        "diversity": 7,
        "chunk_length": 3,
        "alphabet_size": 20,
    }


def test_ten_thousand_people_use_about_as_many_tokens_as_in_the_paper(tmp_path: Path) -> None:
    write_corpus(bios("bioS", "GPT2", 10_000), tmp_path)
    written = facts(tmp_path)
    # PAPER A: 3275 tokens and 73 + 1 a biography; our names and sentences are other ones.
    assert written["vocab_size"] == pytest.approx(3275, rel=0.05)
    assert written["tokens_per_biography"] == pytest.approx(74, rel=0.05)


def test_few_people_use_few_tokens(tmp_path: Path) -> None:
    write_corpus(bios("bioS", "word", 1), tmp_path / "one")
    write_corpus(bios("bioS", "word", 1000), tmp_path / "many")
    one, many = (load_corpus(tmp_path / name) for name in ("one", "many"))
    templates_and_one_person = one.vocab_size
    assert templates_and_one_person < many.vocab_size - 1000


@pytest.mark.parametrize("name", CORPORA)
def test_the_tokenizer_file_encodes_biographies(
    corpus_folder: Callable[[str], Path], name: str
) -> None:
    tokenizer = Tokenizer.from_file(str(corpus_folder(name) / "tokenizer.json"))
    corpus_reader = load_corpus(corpus_folder(name))
    assert max(tokenizer.encode(corpus_reader.example_biography()).ids) < corpus_reader.vocab_size


def test_a_corpus_made_twice_is_the_same(folder: Path, tmp_path: Path) -> None:
    write_corpus(biod("compact"), tmp_path / "again")
    for name in ("corpus.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_nothing_but_the_two_files_is_left(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"corpus.json", "tokenizer.json"}


@pytest.mark.parametrize("name", ["corpus.json", "tokenizer.json"])
def test_a_missing_file_is_the_users_to_repair(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        load_corpus(folder)


@pytest.mark.parametrize("name", ["corpus.json", "tokenizer.json"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_the_users_to_repair(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=name):
        load_corpus(folder)


@pytest.mark.parametrize("change", [{"format": 2}, {"record": {}}, {"vocab_size": None}])
def test_facts_of_another_kind_are_refused(folder: Path, change: dict[str, object]) -> None:
    (folder / "corpus.json").write_text(json.dumps(facts(folder) | change))
    with pytest.raises(UserError, match=r"corpus\.json"):
        load_corpus(folder)


def test_facts_that_lack_a_key_are_refused(folder: Path) -> None:
    incomplete = {key: value for key, value in facts(folder).items() if key != "vocab_size"}
    (folder / "corpus.json").write_text(json.dumps(incomplete))
    with pytest.raises(UserError, match=r"corpus\.json"):
        load_corpus(folder)
