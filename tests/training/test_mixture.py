"""A run with junk is trained, interrupted and evaluated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from knowcap.artifacts.files import read_dataset, read_json
from knowcap.config import Evaluation, Mixture, Run
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_writer import write_corpus
from knowcap.engines.dataloader import batches
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.training.train import TrainingInterruptedError, train
from tests.support.tiny import tiny_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run() -> Run:
    pure = tiny_run(optimization__exposures=2, optimization__seq_length=20)
    mixture = Mixture(useful_share=0.25, num_junk_people=100, domain_token=True)
    return pure.model_copy(update={"corpus": pure.corpus.model_copy(update={"mixture": mixture})})


@pytest.fixture(scope="module")
def corpus(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "mixed"
    write_corpus(run.corpus, folder)
    return folder


@pytest.fixture(scope="module")
def trained(run: Run, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    train(run, corpus, folder / "run", folder / "scratch")
    return folder / "run"


@pytest.fixture(scope="module")
def corpus_reader(corpus: Path) -> CorpusReader:
    return load_corpus(corpus)


def test_a_run_reads_all_windows_of_its_mixture(run: Run, trained: Path) -> None:
    facts = read_json(trained / "run.json")
    num_useful = 2 * 50 * 11 // 20  # exposures, people and tokens, by tokens of a window
    assert facts["train_iters"] == num_useful / 0.25 / run.optimization.global_batch_size
    assert facts["num_tokens"] == [1 + 4 * num_useful * 20] * 4
    assert run.num_biographies_read == 4 * 2 * 50


def test_a_run_that_mixes_within_windows_is_trained_and_evaluated(run: Run, tmp_path: Path) -> None:
    mixture = run.corpus.mixture.model_copy(update={"unit": "biography"})
    corpus = run.corpus.model_copy(update={"mixture": mixture})
    mixed = run.model_copy(update={"corpus": corpus})
    write_corpus(corpus, tmp_path / "corpus")
    train(mixed, tmp_path / "corpus", tmp_path / "run", tmp_path / "scratch")
    facts = read_json(tmp_path / "run" / "run.json")
    # Useful biographies have 11 tokens and junk has 10; three of four are junk.
    assert facts["num_tokens"] == [1 + 2 * 50 * 11 + 2 * 150 * 10] * 4
    output = tmp_path / "losses.nc"
    backend = trained_weights
    evaluate(
        *(tmp_path / "run", tmp_path / "corpus", "trained", Evaluation(num_people=9, seed=0)),
        output,
        backend=backend,
    )
    losses = read_dataset(output)
    assert np.isfinite(losses["value_loss"]).all()
    assert "name_loss_given_useful" in losses  # the domain token shows it


@pytest.mark.parametrize("iteration", [1, 7, 24])
def test_reading_resumes_at_any_step_with_blocks_of_any_size(
    corpus_reader: CorpusReader, iteration: int
) -> None:
    streams = [corpus_reader.stream(2, seed) for seed in (0, 1)]
    steps = list(batches(streams, 20, 4, 50, device=CPU, block_tokens=512))
    cursor, _ = steps[iteration - 1]
    rest = batches(
        streams, 20, 4, 50, start=cursor, iteration=iteration, device=CPU, block_tokens=300
    )
    for (_, found), (_, expected) in zip(rest, steps[iteration:], strict=True):
        assert torch.equal(found, expected)


def test_an_interrupted_training_ends_with_the_same_weights(
    run: Run, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    folders = (corpus, tmp_path / "run", tmp_path / "scratch")
    with pytest.raises(TrainingInterruptedError):
        train(run, *folders, time_budget_s=0.0, checkpoint_interval_s=0.0)
    train(run, *folders)
    assert read_json(tmp_path / "run" / "timing.json")["num_resumed"] == 1
    expected, found = (
        torch.load(folder / "model.pt", weights_only=True) for folder in (trained, tmp_path / "run")
    )
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_only_useful_people_are_evaluated(
    run: Run, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    evaluation, output = Evaluation(num_people=999, seed=0), tmp_path / "losses.nc"
    evaluate(trained, corpus, "trained", evaluation, output, backend=trained_weights)
    losses = read_dataset(tmp_path / "losses.nc")
    assert losses.sizes["person"] == run.corpus.knowledge.num_people == 50
    assert np.isfinite(losses["value_loss"]).all()
