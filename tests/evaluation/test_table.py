"""Bits of a table, trained and evaluated, equal an independent computation."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.config import Evaluation, Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.evaluation.trained_run import load_model
from knowcap.training.train import train
from tests.support.tiny import RECORD

FILE = Path(__file__).parents[2] / "config" / "inventions.csv"
WORDS = {"city": " lived in", "year": "'s patent is from"}
with FILE.open(newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def run(num_names: int | None) -> Run:
    attributes = [
        {"column": column, "num_values": 16, "sentences": ["{name}" + words + " {value}."]}
        for column, words in WORDS.items()
    ]
    knowledge = {"kind": "table", "file": str(FILE), "name_column": "inventor"}
    knowledge |= {"attributes": attributes, "num_names": num_names}
    return Run.model_validate(
        {
            **RECORD,
            "corpus": {"knowledge": knowledge, "tokenizer": "GPT2"},
            "optimization": {**RECORD["optimization"], "exposures": 60, "seq_length": 48},
            "replicates": {"seeds": [0], "lr": [8e-3]},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_corpus(run(1600).corpus, folder / "corpus")
    train(run(1600), folder / "corpus", folder / "run", folder / "scratch")
    evaluate(
        folder / "run",
        folder / "corpus",
        "trained",
        Evaluation(num_people=1000, seed=0),
        folder / "losses.nc",
        backend=trained_weights,
    )
    return folder


def loss_nats(corpus: CorpusReader, folder: Path, before: str, text: str) -> float:
    """Cross-entropy of a text after another one, token by token."""
    encode = corpus._tokenizer.encode
    first = [corpus.eos, *encode(before, add_special_tokens=False).ids]
    scored = encode(text, add_special_tokens=False).ids
    model = load_model(folder / "run", run(1600), corpus.vocab_size, torch.device("cpu"))
    with torch.no_grad():
        logits = model.logits(torch.tensor([[first + scored]]))[0, 0]
    log_probs = logits.log_softmax(-1)
    places = range(len(first) - 1, len(first) + len(scored) - 1)
    return -sum(float(log_probs[p, t]) for p, t in zip(places, scored, strict=True))


def test_bits_equal_those_computed_from_the_logits_of_each_row(folder: Path) -> None:
    corpus = load_corpus(folder / "corpus")
    losses = files.read_dataset(folder / "losses.nc")
    found = bit_complexity(losses, files.read_json(folder / "corpus" / "corpus.json"))
    bits = found["bits_by_term"].sel(scoring="plain").isel(replicate=0)
    names = [loss_nats(corpus, folder, "", f" {row['inventor']}") for row in ROWS]
    expected = sum(math.log2(1600) - loss / math.log(2) for loss in names)
    assert float(bits.sel(term="name")) == pytest.approx(expected, abs=1e-2)
    expected = 0.0
    for column, words in WORDS.items():
        own = [
            loss_nats(corpus, folder, f" {row['inventor']}{words}", f" {row[column]}")
            for row in ROWS
        ]
        expected += sum(math.log2(16) - loss / math.log(2) for loss in own)
    assert float(bits.sel(term="value")) == pytest.approx(expected, abs=1e-2)
    assert expected > 0.1 * len(ROWS) * 2 * math.log2(16)  # it has learnt something
    assert float(found["max_bits"]) == pytest.approx(
        len(ROWS) * (math.log2(1600 / len(ROWS)) + 2 * math.log2(16))
    )


def test_without_a_number_of_names_their_bits_are_left_out(folder: Path) -> None:
    losses = files.read_dataset(folder / "losses.nc")
    facts = files.read_json(folder / "corpus" / "corpus.json")
    without = bit_complexity(losses, facts | {"num_names": None})
    with_names = bit_complexity(losses, facts)
    for prefix in ("", "max_"):
        by_term = without[f"{prefix}bits_by_term"]
        assert (by_term.sel(term="name") == 0).all()
        values = with_names[f"{prefix}bits_by_term"].sel(term="value")
        assert (without[f"{prefix}bits"] == values).all()
