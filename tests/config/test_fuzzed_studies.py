"""Fuzzed study files and records: refused in one line for each mistake, or accepted with sense.

`make campaign` runs 50,000 of each (docs/reliability.md).
"""

from __future__ import annotations

import math
import os
import re
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest

from knowcap.artifacts import identity
from knowcap.config import Evaluation, Run
from knowcap.config.json_record import read_record
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from knowcap.planning.cost import cost, expected_text_statistics
from knowcap.planning.plan import format_plan, plan
from tests.support.fuzzed_studies import SMOKE, fuzzed_record, fuzzed_study

NUM_FILES = 50_000 if os.environ.get("KNOWCAP_CAMPAIGN") == "full" else 400

EVALUATION = Evaluation(num_people=50, seed=0)

MAX_S = 2.0

MAX_LINE_LENGTH = 700
"""An unknown field is answered with all allowed ones."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return Path("fuzzed.yaml")


def test_a_fuzzed_study_file_is_refused_in_lines_or_accepted_with_sense(path: Path) -> None:
    outcomes: Counter[str] = Counter()
    faults = {}
    for seed in range(NUM_FILES):
        path.write_text(fuzzed_study(seed), encoding="utf-8", errors="surrogatepass")
        started = time.process_time()
        try:
            outcome = study_outcome(path)
        except Exception:
            faults[seed] = traceback.format_exc(limit=-3)
            continue
        outcomes[outcome] += 1
        if time.process_time() - started > MAX_S:
            faults[seed] = f"{outcome} after {time.process_time() - started:.1f} s"
    print(f"{NUM_FILES} study files: {dict(outcomes)}")
    assert not faults, report(faults)
    assert min(outcomes["accepted"], outcomes["refused"]) > NUM_FILES / 20


def test_a_fuzzed_record_is_refused_in_lines_or_accepted_with_sense(path: Path) -> None:
    path.write_text(SMOKE)
    records = [identity.record_json(run) for run in load_study(path).runs()]
    outcomes: Counter[str] = Counter()
    faults = {}
    for seed in range(NUM_FILES):
        started = time.process_time()
        try:
            outcome = record_outcome(fuzzed_record(seed, records[seed % len(records)]))
        except Exception:
            faults[seed] = traceback.format_exc(limit=-3)
            continue
        outcomes[outcome] += 1
        if time.process_time() - started > MAX_S:
            faults[seed] = f"{outcome} after {time.process_time() - started:.1f} s"
    print(f"{NUM_FILES} records: {dict(outcomes)}")
    assert not faults, report(faults)
    assert min(outcomes["accepted"], outcomes["refused"]) > NUM_FILES / 100


def report(faults: dict[int, str]) -> str:
    """The number of faults, and the first of each kind."""
    kinds = {text.strip().splitlines()[-1][:60]: (seed, text) for seed, text in faults.items()}
    return f"{len(faults)} faults\n" + "\n".join(f"{s}: {t}" for s, t in list(kinds.values())[:8])


def study_outcome(path: Path) -> str:
    try:
        study = load_study(path)
    except UserError as error:
        check_message(str(error), f"{path}:")
        return "refused"
    check_sense(study)
    return "accepted"


def record_outcome(text: str) -> str:
    try:
        run = read_record(Run, text, "--record")
    except UserError as error:
        check_message(str(error), "--record: ")
        return "refused"
    errors = [f"--record: {error.field}: {error.message}" for error in run.training_errors()]
    if errors:
        check_message("\n".join(errors), "--record: ")
        return "refused"
    check_run(run)
    return "accepted"


def check_message(message: str, start: str) -> None:
    lines = message.split("\n")
    assert lines == list(dict.fromkeys(lines))
    for line in lines:
        assert line.startswith(start), line
        assert line.isprintable(), line
        assert len(line) <= MAX_LINE_LENGTH, line


def check_sense(study: Study) -> None:
    """What must hold for every accepted study, computed without the checks of the records."""
    assert study.study.isprintable()
    assert study.results.isprintable()
    assert not set("{}$~") & set(study.results)
    assert study.experiments
    for experiment in study.experiments.values():
        assert experiment.runs
        assert set(experiment.laws) <= set(range(1, 13))
    for run in study.runs():
        check_run(run)
    assert len(identity.study_names(study)) == 4
    assert "nan" not in format_plan(plan(study, None)).replace("?", "")


def check_run(run: Run) -> None:
    name = identity.run_name(run)
    assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,200}", name), name
    assert len(identity.record_json(run)) < 100_000
    optimization, knowledge = run.optimization, run.corpus.knowledge
    text = expected_text_statistics(run.corpus)
    estimate = cost(run, text, EVALUATION)
    assert all(math.isfinite(number) and number > 0 for number in estimate)
    # A window holds a biography of mean length (that of bioR is known when it is rewritten), and a
    # step is not longer than twice the training.
    if knowledge.kind != "bioR":
        assert optimization.seq_length >= text.tokens_per_biography
    assert optimization.global_batch_size <= 2 * estimate.num_tokens
    assert (optimization.lr_warmup_iters or 0) <= 2 * estimate.train_iters
    for _, lr in run.replicates.pairs:
        assert 1e-12 < lr < 1e6
    assert run.architecture.hidden_size >= 2
    assert 1 <= run.architecture.num_kv_heads <= run.architecture.num_attention_heads
    assert knowledge.num_people <= knowledge.num_names
