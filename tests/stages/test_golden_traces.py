"""Golden traces have the outputs of each stage, and are the same when computed again."""

import pytest

from knowcap.artifacts.code_digest import code_digest
from knowcap.config import Architecture
from knowcap.stages import golden_traces
from knowcap.stages.golden_traces import GOLDEN_RUNS, QUANTIZED_RUNS


@pytest.fixture
def _one_golden_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_traces, "GOLDEN_RUNS", {"bioD": GOLDEN_RUNS["GPT2, float32"]})


@pytest.mark.usefixtures("_one_golden_run")
def test_a_trace_has_every_file_weight_and_loss() -> None:
    traces = golden_traces.golden_traces(["corpus", "train", "evaluate"])
    assert [*traces["corpus"]["outputs"]] == ["bioD, corpus.json", "bioD, tokenizer.json"]
    weights = traces["train"]["outputs"]["bioD, decoder.final_layernorm.weight"]
    assert len(weights["values"]) == 4 * 16  # replicates and width
    losses = traces["evaluate"]["outputs"]["bioD, trained, value_loss"]
    assert len(losses["values"]) == 4 * 8 * 3  # replicates, people and attributes
    for stage, trace in traces.items():
        assert trace["code"] == code_digest(stage)


@pytest.mark.usefixtures("_one_golden_run")
def test_a_trace_is_bit_identical_when_computed_again() -> None:
    first, second = (golden_traces.golden_traces(["train", "evaluate"]) for _ in range(2))
    assert first == second


def test_golden_runs_have_every_kind_of_corpus_and_tokenizer() -> None:
    corpora = [run.corpus for run in GOLDEN_RUNS.values()]
    assert {corpus.knowledge.kind for corpus in corpora} == {"bioS", "bioS-simple", "bioR", "bioD"}
    assert {corpus.tokenizer for corpus in corpora} == {"GPT2", "Mistral", "word"}
    assert any(corpus.mixture for corpus in corpora)


def test_golden_runs_have_both_values_of_every_optional_field_of_an_architecture() -> None:
    architectures = [run.architecture for run in GOLDEN_RUNS.values()]
    for name, field in Architecture.model_fields.items():
        if not field.is_required():
            assert len({getattr(each, name) for each in architectures}) > 1, name
    assert {each.family for each in architectures} >= {"GPT2", "GPT2_0", "LLaMA", "Mistral"}


def test_the_stacked_engine_and_the_simd_engine_train_golden_runs() -> None:
    assert {run.optimization.dtype for run in GOLDEN_RUNS.values()} == {"float32", "bfloat16"}


def test_quantised_golden_runs_are_golden_runs() -> None:
    assert set(QUANTIZED_RUNS) <= GOLDEN_RUNS.keys()
