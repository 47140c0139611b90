"""Answers ahead of the question are those that would be given later, and never undo a training."""

import shutil
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.artifacts.files import read_dataset
from knowcap.config import Evaluation
from knowcap.data.corpus import write_corpus
from knowcap.evaluation import after_training
from knowcap.evaluation.evaluate import evaluate
from knowcap.evaluation.quantize import ANSWERS
from knowcap.training.train import train
from tests.support.tiny import tiny_run

RUN = tiny_run(optimization__exposures=2)
EVALUATION = Evaluation(num_people=30, seed=5)
MEASUREMENT = identity.measurement_name(RUN, "trained", EVALUATION)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "run", folder / "scratch", code_digest="-")
    return folder


def ask(world: Path, scratch: Path) -> Path:
    scratch.mkdir(exist_ok=True)
    after_training.ask(RUN, world / "run", world / "corpus", scratch, EVALUATION, ["trained"], 1)
    return after_training.answers_path(scratch, MEASUREMENT)


def test_answers_are_those_given_later(world: Path, tmp_path: Path) -> None:
    answers, later = ask(world, tmp_path), tmp_path / "later.nc"
    evaluate(world / "run", world / "corpus", "trained", EVALUATION, later)
    assert read_dataset(answers).identical(read_dataset(later))


def test_every_precision_is_asked_in(world: Path, tmp_path: Path) -> None:
    folders = (world / "run", world / "corpus", tmp_path)
    seconds = after_training.ask(RUN, *folders, EVALUATION, ["trained", "int8"], 1)
    assert set(seconds) == {"trained", "int8"}
    later = tmp_path / "later.nc"
    evaluate(*folders[:2], "int8", EVALUATION, later, answers=ANSWERS)
    answers = after_training.answers_path(
        tmp_path, identity.measurement_name(RUN, "int8", EVALUATION)
    )
    assert read_dataset(answers).identical(read_dataset(later))


def test_what_was_measured_is_not_asked_again(world: Path, tmp_path: Path) -> None:
    folder = world / "run" / MEASUREMENT
    folder.mkdir()
    assert ask(world, tmp_path).exists()  # a job that failed leaves its folder
    (folder / "losses.nc").touch()
    assert not ask(world, tmp_path).exists()
    shutil.rmtree(folder)


def test_answers_of_weights_that_were_lost_are_asked_for_again(world: Path, tmp_path: Path) -> None:
    answers = ask(world, tmp_path)
    fresh = answers.read_bytes()
    answers.write_text("of an earlier training")
    assert ask(world, tmp_path).read_bytes() == fresh


def test_nothing_is_asked_when_time_is_up(world: Path, tmp_path: Path) -> None:
    folders = (world / "run", world / "corpus", tmp_path)
    assert after_training.ask(RUN, *folders, EVALUATION, ["trained"], 1, deadline=0.0) == {}


def test_a_question_that_fails_is_left_for_later(world: Path, tmp_path: Path, caplog) -> None:
    other = tmp_path / "world"
    other.mkdir()
    (other / "run").symlink_to(world / "run")
    write_corpus(tiny_run(corpus__tokenizer="word").corpus, other / "corpus")
    (other / "corpus" / "tokenizer.json").write_text("{}")
    assert not ask(other, tmp_path).exists()
    assert "not asked yet" in caplog.text
