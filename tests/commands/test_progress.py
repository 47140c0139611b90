"""`knowcap progress`: plain lines in a pipe, bars in a terminal, R of what is done."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from knowcap import cli
from knowcap.artifacts import files, identity, lock, manifest
from knowcap.capacity.finished_models import ratio_text
from knowcap.commands.progress import _print_lines
from knowcap.config.study import Study, load_study
from knowcap.planning.study_progress import progress as progress_of
from tests.capacity.simulated_results import biod_facts, oracle, run_file
from tests.planning.test_study_progress import finish_all, publish, scratch_of


class Terminal(io.StringIO):
    """Collects what is printed to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def study(study_file: Path, study_text: str, tmp_path: Path) -> Study:
    study_file.write_text(study_text.replace("results: results", f"results: {tmp_path}/results"))
    return load_study(study_file)


def measure(study: Study, index: int, shares: tuple[float, ...]) -> str:
    """Write corpus, run and losses of a measurement; return the run's name."""
    run, results = study.runs()[index], Path(study.results)
    facts = biod_facts(run.corpus.knowledge.num_people, (4, 2, 16, 1, 16))
    corpus = results / "corpora" / identity.corpus_name(run.corpus)
    files.write_json(corpus / "corpus.json", facts)
    manifest.write(corpus, ["corpus.json"])
    folder = results / "runs" / identity.run_name(run)
    files.write_json(folder / "run.json", run_file(run, corpus.name, 1000) | {"diverged": []})
    manifest.write(folder, ["run.json"])
    losses = oracle(facts, shares).assign_attrs(run=folder.name)
    files.write_dataset(losses, identity.losses_path(study, run, "trained"))
    return folder.name


def progress(study_file: Path, *options: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["progress", str(study_file), *options])
    assert stopped.value.code == 0


def test_r_of_a_finished_model_is_that_of_its_table(study: Study) -> None:
    measure(study, 0, (0.5, 0.7))
    run, precision = study.measurements()[0]
    # 20 people of 20 * (log2(16^3 / 20) + 4 * log2(256)) = 793.6 bits, of which 60 % are known
    assert ratio_text(study, run, precision) == "R = 0.476 \u00b1 0.11, as trained"


def test_a_line_for_each_training_and_finished_model(
    study: Study, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = measure(study, 0, (0.5, 0.7))
    values = {"iteration": 25, "tokens_per_s": 45678, "loss_nats": 2.5, "remaining_s": 90}
    folder = scratch_of(study, 1, **values)
    with lock.acquire(folder / "lock"):
        progress(study_file, "--once")
    lines = [line[6:] for line in capsys.readouterr().err.splitlines()]
    assert lines[0].startswith(f"{name}: R = 0.476")
    assert "1 of 6 runs trained" in lines[1]
    text = "step 25 of 100 (25%), 45,678 tokens/s, loss 2.500, about 1.5 min left"
    assert lines[2:] == [f"  {folder.name}: {text}"]


def test_an_unchanged_state_is_printed_once(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    state = progress_of(study)
    _print_lines(study, [state, state, replace(state, num_runs_done=1), state])
    lines = [line[6:] for line in capsys.readouterr().err.splitlines()]
    changed = replace(state, num_runs_done=1).summary()
    assert lines == [state.summary(), changed, state.summary()]


def test_it_says_where_the_study_is_published(
    study: Study, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(study)
    publish(study)
    progress(study_file)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("6 of 6 runs trained, published")
    assert lines[1].endswith(f"published in {Path(study.results) / study.study}")


def test_bars_in_a_terminal(
    study: Study, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    name = measure(study, 0, (0.5, 0.7))
    for index in range(1, 6):
        measure(study, index, (0.4, 0.5))
    publish(study)
    progress(study_file)
    printed = terminal.getvalue()
    assert f"{name}: R = 0.476" in printed
    assert "\u2501" * 12 in printed  # a whole bar
    assert "6 of 6 runs trained, published" in printed
