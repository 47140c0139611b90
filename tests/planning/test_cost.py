import json
from pathlib import Path
from typing import Any

import pytest

from knowcap.artifacts import identity, manifest
from knowcap.config import Architecture, Corpus, Run
from knowcap.config.study import Study
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.model.num_params import num_params
from knowcap.planning.cost import (
    BIOS_TEXT_STATISTICS,
    TextStatistics,
    cost,
    flops_per_token,
    text_statistics,
)


@pytest.fixture
def run(study: Study) -> Run:
    return study.runs()[0]


def architecture(size: str, kv_channels: int = 64) -> Architecture:
    return Architecture.model_validate(
        {
            "family": "GPT2",
            "size": size,
            "kv_channels": kv_channels,
            "rotary_percent": 0.5,
            "rotary_base": 10000,
            "init_method_std": 0.02,
        }
    )


def bioD(**changes: Any) -> Corpus:  # noqa: N802  # the paper's name
    knowledge = {
        "kind": "bioD",
        "num_people": 4000,
        "num_attributes": 3,
        "num_chunks": 2,
        "diversity": 100,
        "chunk_length": 2,
        "alphabet_size": 1000,
        "layout": "sentences",
        "seed": 0,
    }
    return Corpus.model_validate({"knowledge": {**knowledge, **changes}, "tokenizer": "word"})


def test_flops_of_a_tiny_model_equal_a_count_of_its_multiplications() -> None:
    vocab_size, width, num_layers, seq_length = 10, 8, 2, 3
    multiplications = 0
    for position in range(seq_length):
        for _ in range(num_layers):
            multiplications += width * 3 * width  # queries, keys and values
            for _key in range(position + 1):
                multiplications += width + width  # its score, and its term of the weighted sum
            multiplications += width * width  # projection
            multiplications += width * 4 * width + 4 * width * width  # feed-forward
        multiplications += width * vocab_size
    forward = 2 * multiplications  # with the additions
    counted = flops_per_token(architecture("2-2", kv_channels=4), vocab_size, seq_length)
    assert counted * seq_length == 3 * forward


def test_parameters_equal_the_formula_of_the_paper() -> None:
    params = num_params(architecture("12-12"), vocab_size=3275)
    assert params["total"] == 3275 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    parts = {name: n for name, n in params.items() if name not in ("total", "active")}
    assert params["total"] == params["active"] == sum(parts.values())


def test_the_cost_of_a_run_is_that_of_all_replicates(study: Study, run: Run) -> None:
    needed = cost(run, TextStatistics(100, 16.0, 16, is_measured=True), study.evaluation)
    per_token = flops_per_token(run.architecture, 100, seq_length=16)
    params = num_params(run.architecture, 100)["total"]
    assert needed.num_models == 2
    assert needed.num_tokens == 2 * 20 * 20 * 16
    assert needed.train_iters == 20 * 20 * 16 / (16 * 4)
    assert needed.flops == pytest.approx(per_token * needed.num_tokens)
    assert needed.weights_bytes == 2 * 4 * params
    # Four losses of the name and five of each of four values, of all 20 people.
    assert needed.losses_bytes == 2 * 8 * 20 * (4 + 5 * 4)


def test_padding_of_aligned_windows_costs_operations_and_no_tokens(study: Study, run: Run) -> None:
    text = TextStatistics(100, 10.0, 12, is_measured=True)
    optimization = run.optimization.model_copy(update={"windows": "aligned"})
    aligned = cost(run.model_copy(update={"optimization": optimization}), text, study.evaluation)
    packed = cost(run, text, study.evaluation)
    assert aligned.num_tokens == packed.num_tokens
    assert aligned.flops == pytest.approx(packed.flops * 16 / 10)  # one biography in a window of 16
    assert aligned.train_iters == 20 * 20 / 4


@pytest.mark.parametrize("tokenizer", ["GPT2", "Mistral", "word"])
@pytest.mark.parametrize("kind", ["bioS", "bioS-simple"])
def test_estimates_for_bios_equal_measurements(kind: str, tokenizer: str, tmp_path: Path) -> None:
    corpus = Corpus.model_validate(
        {"knowledge": {"kind": kind, "num_people": 10000, "seed": 0}, "tokenizer": tokenizer}
    )
    write_corpus(corpus, tmp_path)
    measured, expected = load_corpus(tmp_path), BIOS_TEXT_STATISTICS[tokenizer]
    assert measured.vocab_size == expected.vocab_size
    assert measured.longest_biography == expected.longest_biography
    # The mean length differs by a tenth of a token between populations.
    assert measured.tokens_per_biography == pytest.approx(expected.tokens_per_biography, abs=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_chunks": 1},
        {"chunk_length": 1},
        {"chunk_length": 50},
        {"alphabet_size": 40000},
        {"num_attributes": 50, "num_people": 500},
        {"layout": "compact", "num_people": 300},
        {"layout": "compact", "num_people": 9, "alphabet_size": 16, "diversity": 3},
    ],
)
def test_estimates_for_biod_equal_measurements(changes: dict[str, Any], tmp_path: Path) -> None:
    corpus = bioD(**changes)
    write_corpus(corpus, tmp_path / "corpus")
    measured, expected = load_corpus(tmp_path / "corpus"), text_statistics(corpus, tmp_path)
    assert expected.tokens_per_biography == measured.tokens_per_biography
    assert expected.longest_biography == measured.longest_biography
    if changes.get("layout") == "compact":
        assert expected.vocab_size == measured.vocab_size
    else:  # some words are never drawn, and some names are in two pools
        assert expected.vocab_size == pytest.approx(measured.vocab_size, rel=0.1)


def test_the_statistics_of_a_corpus_are_read_if_it_is_made(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "corpora" / identity.corpus_name(run.corpus) / "corpus.json"
    path.parent.mkdir(parents=True)
    facts = {"vocab_size": 7, "tokens_per_biography": 5.5, "longest_biography": 6}
    path.write_text(json.dumps({"format": 1, **facts}))
    manifest.write(path.parent, [path.name])
    assert text_statistics(run.corpus, tmp_path) == (7, 5.5, 6, True)
