import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from knowcap.artifacts import code_digest
from knowcap.config import BioR, Corpus
from knowcap.data import bior_language_model, people, value_spans
from knowcap.data.bior_language_model import extract_biography, rewrite, write_requests
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.errors import UserError
from tests.support.copier import write_copier, write_random

NUM_PEOPLE, NUM_VERSIONS = 20, 2


def knowledge(model: Path, **changes: Any) -> BioR:
    rewriter = {
        "model": str(model),
        "temperature": 0.5,
        "top_p": 1.0,
        "num_words": 5,
        "max_attempts": 3,
    }
    return BioR.model_validate(
        {
            "kind": "bioR",
            "num_people": NUM_PEOPLE,
            "num_versions": NUM_VERSIONS,
            "seed": 5,
            "rewriter": rewriter | changes,
        }
    )


def corpus(knowledge: BioR) -> Corpus:
    return Corpus(knowledge=knowledge, tokenizer="GPT2")


@pytest.fixture(scope="module")
def requests() -> list[str]:
    return write_requests(knowledge(Path("any")), np.arange(NUM_PEOPLE))


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory, requests: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("copier")
    write_copier(folder, requests)
    return folder


def test_requests_state_the_facts_in_another_wording_for_every_version(
    requests: list[str],
) -> None:
    subjects = people.describe_people(knowledge(Path("any")), np.arange(NUM_PEOPLE))
    assert len(set(requests)) == NUM_PEOPLE * NUM_VERSIONS
    for index, request in enumerate(requests):
        person = subjects[index // NUM_VERSIONS]
        facts = request.partition("Facts:")[2]
        assert all(value in facts for value in person.values.values())
        assert "about 5 words" in request


def test_a_model_that_copies_the_facts_makes_a_corpus(
    copier: Path, requests: list[str], tmp_path: Path
) -> None:
    write_corpus(corpus(knowledge(copier)), tmp_path, rewrite)
    corpus_reader = load_corpus(tmp_path)
    for version in range(NUM_VERSIONS):
        for person, text in enumerate(
            corpus_reader.biographies(np.arange(NUM_PEOPLE), version, seed=0)
        ):
            facts = requests[person * NUM_VERSIONS + version].partition("Facts:")[2]
            assert text == facts.partition("\n")[0]
    rewriting = json.loads((tmp_path / "corpus.json").read_text())["rewriting"]
    assert rewriting["rewriter"] == str(copier)


def test_rejected_texts_are_sampled_again_and_counted(copier: Path, tmp_path: Path) -> None:
    high_temperature = knowledge(copier, temperature=3.0, max_attempts=200)
    blocks = list(rewrite(high_temperature, tmp_path))
    texts = [text for block in blocks for text in block.texts]
    subjects = people.describe_people(high_temperature, np.arange(NUM_PEOPLE).repeat(NUM_VERSIONS))
    for text, person in zip(texts, subjects, strict=True):
        assert value_spans.find_value_spans(text, person) is not None
    assert sum(block.num_rejected for block in blocks) > 0


def test_an_interrupted_corpus_resumes_after_the_last_complete_block(
    copier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    high_temperature = knowledge(copier, temperature=1.5, max_attempts=200)
    expected = list(rewrite(high_temperature, tmp_path / "whole"))
    assert len(expected) == 2
    interrupted = rewrite(high_temperature, tmp_path / "parts")
    assert next(interrupted) == expected[0]
    interrupted.close()
    sampled_requests = []
    sample_texts = bior_language_model._TextSampler.sample_texts

    def record_requests(self: Any, requests: list[str], seed: int) -> list[str]:
        sampled_requests.extend(requests)
        return sample_texts(self, requests, seed)

    monkeypatch.setattr(bior_language_model._TextSampler, "sample_texts", record_requests)
    assert list(rewrite(high_temperature, tmp_path / "parts")) == expected
    (second,) = expected[1:]
    assert len(sampled_requests) == len(second.texts) + second.num_rejected


def test_blocks_of_another_record_are_not_reused(copier: Path, tmp_path: Path) -> None:
    one, other = (knowledge(copier, num_words=words) for words in (5, 6))
    list(rewrite(one, tmp_path))
    list(rewrite(other, tmp_path))
    (block,) = [p for p in (tmp_path / "rewriting").iterdir() if p.name.startswith("00000000")]
    assert json.loads(block.read_text())["record"]["rewriter"]["num_words"] == 6


def test_too_many_rejected_texts_are_a_user_error(requests: list[str], tmp_path: Path) -> None:
    write_random(tmp_path / "model", requests)
    with pytest.raises(UserError, match=r"no biography of person 0 .*96 of 96 texts were rejected"):
        write_corpus(corpus(knowledge(tmp_path / "model")), tmp_path / "corpus", rewrite)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_without_weights_is_rejected_before_anything_is_written(
    copier: Path, tmp_path: Path
) -> None:
    for path in copier.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="is a folder without weights"):
        write_corpus(corpus(knowledge(tmp_path)), tmp_path / "corpora" / "bioR", rewrite)
    assert not (tmp_path / "corpora").exists()


def test_a_missing_model_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for model, message in (
        (tmp_path / "absent", ": no such folder"),
        (Path("a/b"), " cannot be loaded"),
    ):
        with pytest.raises(UserError, match=f"rewriter.model: {model}{message}"):
            rewrite(knowledge(model), tmp_path)


def test_a_preamble_and_an_unfinished_sentence_are_removed() -> None:
    (person, *_) = people.describe_people(knowledge(Path("any")), np.arange(1))
    he = value_spans.PRONOUNS[person.gender][0]
    facts = "; ".join(person.values.values())
    text = f"{person.name} is here. {he.capitalize()} is  known for {facts}."
    response = f"Sure! Here is one:\n\n{text.strip()}\nThis last sentence was cut o"
    assert extract_biography(response, person) == " ".join(text.split(" ")).replace("  ", " ")
    assert extract_biography(f"Sure! {text.strip()}", person) is None
    assert extract_biography("", person) is None


def test_the_rewriter_is_in_no_other_digest_than_its_own() -> None:
    code = code_digest.modules("rewrite")
    assert "knowcap.data.bior_language_model" in code
    assert "knowcap.data.bior_language_model" not in code_digest.modules("corpus")
    assert not any("train" in module for module in code)
