"""Evaluation in the training process: same losses as `knowcap evaluate`, errors are not raised."""

import shutil
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.artifacts.files import read_dataset
from knowcap.config import Evaluation, Precision
from knowcap.data.corpus_writer import write_corpus
from knowcap.evaluation.evaluate import evaluate
from knowcap.stages.after_training import early_losses_path, evaluate_after_training
from knowcap.stages.precisions import PRECISION_BACKENDS
from knowcap.training.train import train
from tests.support.tiny import tiny_run

RUN = tiny_run(optimization__exposures=2)
EVALUATION = Evaluation(num_people=30, seed=5)
MEASUREMENT = identity.measurement_name(RUN, "trained", EVALUATION)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a trained run."""
    folder = tmp_path_factory.mktemp("results")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "run", folder / "scratch", code_digest="-")
    return folder


def early_losses(results: Path, scratch: Path) -> Path:
    scratch.mkdir(exist_ok=True)
    folders = (results / "run", results / "corpus", scratch)
    evaluate_after_training(RUN, *folders, EVALUATION, ["trained"], 1)
    return early_losses_path(scratch, MEASUREMENT)


@pytest.mark.parametrize("precision", ["trained", "int8"])
def test_early_losses_equal_those_of_a_later_evaluation(
    results: Path, tmp_path: Path, precision: Precision
) -> None:
    folders = (results / "run", results / "corpus", tmp_path)
    seconds = evaluate_after_training(RUN, *folders, EVALUATION, [precision], 1)
    assert set(seconds) == {precision}
    later = tmp_path / "later.nc"
    backend = PRECISION_BACKENDS[precision].load()
    evaluate(*folders[:2], precision, EVALUATION, later, backend=backend)
    measurement = identity.measurement_name(RUN, precision, EVALUATION)
    early = early_losses_path(tmp_path, measurement)
    assert read_dataset(early).identical(read_dataset(later))


def test_an_evaluated_run_is_not_evaluated_again(results: Path, tmp_path: Path) -> None:
    folder = results / "run" / MEASUREMENT
    folder.mkdir()
    assert early_losses(results, tmp_path).exists()  # a failed job leaves an empty folder
    (folder / "losses.nc").touch()
    assert not early_losses(results, tmp_path).exists()
    shutil.rmtree(folder)


def test_losses_of_an_earlier_training_are_replaced(results: Path, tmp_path: Path) -> None:
    path = early_losses(results, tmp_path)
    fresh = path.read_bytes()
    path.write_text("of an earlier training")
    assert early_losses(results, tmp_path).read_bytes() == fresh


def test_no_evaluation_starts_after_the_deadline(results: Path, tmp_path: Path) -> None:
    folders = (results / "run", results / "corpus", tmp_path)
    assert evaluate_after_training(RUN, *folders, EVALUATION, ["trained"], 1, deadline=0.0) == {}


def test_a_failed_evaluation_is_logged_and_not_raised(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "results"
    damaged.mkdir()
    (damaged / "run").symlink_to(results / "run")
    write_corpus(tiny_run(corpus__tokenizer="word").corpus, damaged / "corpus")
    (damaged / "corpus" / "tokenizer.json").write_text("{}")
    assert not early_losses(damaged, tmp_path).exists()
    assert "evaluation in precision trained failed" in caplog.text
