"""Which jobs an edit makes necessary: the exact jobs of dry runs.

One test for each promise of rebuilding on change. That another supported Python rebuilds nothing is
tested in tests/artifacts/test_code_digest.py, which compares digests instead of plans.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from knowcap.artifacts.code_digest import NUMERIC
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow

REPORT = Counter(report=1, publish=1)
FIGURES = REPORT + Counter(figures=1)
LAWS = FIGURES + Counter(laws=1)
TABLE = LAWS + Counter(table=1)
EVALUATE = TABLE + Counter(evaluate=6)
TRAIN = EVALUATE + Counter(train=6)
CORPUS = TRAIN + Counter(corpus=3)
"""The jobs of the study from a stage on."""

PACKAGE = "src/knowcap"


def numeric_files(checkout: Checkout, *suffixes: str) -> list[Path]:
    """Source files whose code is part of a name."""
    folders = [checkout.folder / PACKAGE / name for name in NUMERIC]
    return [p for folder in folders for p in folder.rglob("*.*") if p.suffix in suffixes]


def test_a_fresh_checkout_makes_everything_once(checkout: Checkout) -> None:
    assert checkout.planned() == CORPUS
    assert not (checkout.folder / "results").exists()


def test_comments_docstrings_and_formatting_rebuild_nothing(finished: Checkout) -> None:
    python = numeric_files(finished, ".py")
    finished.edit_all(python, lambda text: f"# A comment.\n{text}")
    finished.edit_all(python, lambda text: text.replace('"""', '"""Another first word. ', 1))
    finished.edit_all(python, lambda text: text.replace("\n\n\n", "\n\n\n\n\n"))
    finished.edit_all(python, lambda text: text.replace(") -> None:", ")->None:"))
    c = numeric_files(finished, ".c", ".h")
    finished.edit_all(c, lambda text: f"/* A comment. */\n// Another.\n\n{text}")
    finished.edit_all(c, lambda text: text.replace("    ", "\t").replace(" {\n", "\n{\n"))
    finished.edit("config/config.yaml", "study: tiny", "# A comment.\nstudy: tiny")
    finished.edit("config/config.yaml", "seed: 0\n    tok", "# Why.\n      seed: 0\n    tok")
    assert finished.planned() == {}


def test_a_changed_comment_that_the_report_lists_rebuilds_the_report_only(
    finished: Checkout,
) -> None:
    path = "src/knowcap/data/mixture.py"
    finished.edit(path, "# ASSUME: windows are", "# ASSUME: training windows are")
    assert finished.planned() == Counter(report=1, publish=1)
    finished.edit(path, "# ASSUME: training windows are", "# ASSUME: windows are")
    finished.edit(path, '"""', '"""\n')  # the comment is on another line
    assert finished.planned() == Counter()


def test_logging_error_texts_and_bookkeeping_code_rebuild_nothing(finished: Checkout) -> None:
    python = numeric_files(finished, ".py")
    log = re.compile(r'(_log\.\w+\(\s*)"')
    finished.edit_all(python, lambda text: log.sub(r'\1"Now: ', text))
    error = re.compile(r'(raise UserError\(\s*f?)"')
    finished.edit_all(python, lambda text: error.sub(r'\1"Sorry: ', text))
    for path in (
        "commands/training.py",
        "artifacts/files.py",
        "artifacts/identity.py",
        "artifacts/lock.py",
        "planning/study_progress.py",
        "training/checkpoint.py",
        "training/metrics_logger.py",
        "training/train.py",
    ):
        finished.edit(f"{PACKAGE}/{path}", *EDIT)
    finished.edit("rules/train.smk", '"{KNOWCAP} train"', '"{KNOWCAP}  train"')
    new_field = "    clip_grad: Positive\n    new_setting: int = 1\n"
    finished.edit(f"{PACKAGE}/config/run.py", "    clip_grad: Positive\n", new_field)
    assert finished.planned() == {}


def test_touched_moved_and_stray_files_rebuild_nothing(finished: Checkout) -> None:
    moved = finished.folder / PACKAGE / "data/prompts.py"
    moved.rename(finished.folder / PACKAGE / "model/prompt_tokens.py")
    finished.edit_all(
        finished.folder.rglob("src/**/*.py"),
        lambda text: text.replace("knowcap.data.prompts", "knowcap.model.prompt_tokens"),
    )
    for stray in ("data/rng.c~", "data/rng.o", "model/.optimizer.py.swp", "engines/notes.h"):
        finished.write(f"{PACKAGE}/{stray}", "anything")
    for path in [*finished.folder.rglob("src/**/*.*"), *finished.folder.rglob("config/*.yaml")]:
        os.utime(path)
    assert finished.planned() == {}


EDIT = ("from __future__ import annotations\n", "from __future__ import annotations\n\nX = 1\n")
"""An edit of Python that could affect results, for all that a program can tell."""


@pytest.mark.parametrize(
    ("path", "edit", "jobs"),
    [
        ("data/people.py", EDIT, CORPUS),
        ("model/optimizer.py", EDIT, TRAIN),
        ("engines/simd/rotary.h", ("#pragma once", "#pragma once\n#define X 1"), TRAIN),
        ("engines/megatron/engine.py", EDIT, TRAIN),
        ("evaluation/losses.py", EDIT, EVALUATE),
        ("evaluation/quantize.py", EDIT, Counter()),
        ("capacity/bit_complexity.py", EDIT, TABLE),
        ("capacity/laws/base_law.py", EDIT, LAWS),
        ("capacity/figures.py", EDIT, FIGURES),
        ("capacity/report/report.html.jinja", ("<body>", "<body><!-- -->"), REPORT),
    ],
)
def test_an_edit_rebuilds_the_stages_that_depend_on_it_and_those_after_them(
    finished: Checkout, path: str, edit: tuple[str, str], jobs: Counter[str]
) -> None:
    finished.edit(f"{PACKAGE}/{path}", *edit)
    assert finished.planned() == jobs


def test_an_edit_of_the_quantiser_rebuilds_quantised_measurements_only(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "precisions: [trained]", "precisions: [trained, int4]")
    int4 = TABLE + Counter(evaluate=5)
    assert finished.planned() == int4
    finished.finish()
    finished.edit(f"{PACKAGE}/evaluation/quantize.py", *EDIT)
    assert finished.planned() == int4


def test_an_edited_data_file_rebuilds_the_corpora_made_of_it(checkout: Checkout) -> None:
    checkout.edit(
        "config/config.yaml",
        "{optimization.exposures: 2}",
        "{corpus.tokenizer: GPT2, corpus.knowledge: {kind: bioS, num_people: 9, seed: 0}, "
        "optimization.seq_length: 128}",
    )
    checkout.finish()
    checkout.edit(f"{PACKAGE}/data/bios_templates/major.txt", "{subject}", "{subject} once")
    assert checkout.planned() == TABLE + Counter(corpus=1, train=1, evaluate=1)


def test_reverting_an_edit_rebuilds_nothing(finished: Checkout) -> None:
    finished.edit(f"{PACKAGE}/model/optimizer.py", *EDIT)
    published = next(finished.folder.glob("results/tiny/.published-*"))
    finished.finish()
    published.unlink()  # as `knowcap publish` keeps only the newest stamp
    finished.edit(f"{PACKAGE}/model/optimizer.py", *reversed(EDIT))
    assert finished.planned() == Counter(publish=1)


def test_losing_snakemake_s_own_records_rebuilds_nothing_and_hides_no_edit(
    finished: Checkout,
) -> None:
    shutil.rmtree(finished.folder / ".snakemake")
    assert finished.planned() == {}
    shutil.rmtree(finished.folder / ".snakemake", ignore_errors=True)
    finished.edit(f"{PACKAGE}/model/optimizer.py", *EDIT)
    assert finished.planned() == TRAIN


MORE_SEEDS = "      - {optimization.exposures: 2, replicates.seeds: [[2, 3]]}\n"
"""A grid block with other seeds of a run."""


@pytest.mark.parametrize(
    ("old", "new", "jobs"),
    [
        ("exposures: 2}", "exposures: 3}", Counter(train=1, evaluate=1)),
        ("  few:", "  rare:", Counter()),
        ("{optimization.exposures: 2}", "{corpus.knowledge.num_people: 40}", Counter()),
        ("{num_people: 50, seed: 0}", "{num_people: 5, seed: 0}", Counter(evaluate=6)),
        (
            "    grid:\n      - {opt",
            f"    grid:\n{MORE_SEEDS}      - {{opt",
            Counter(train=1, evaluate=1),
        ),
    ],
    ids=["an exposure", "a label", "a run of two experiments", "the evaluation", "more seeds"],
)
def test_an_edit_of_the_study_rebuilds_only_what_differs(
    finished: Checkout, old: str, new: str, jobs: Counter[str]
) -> None:
    finished.edit("config/config.yaml", old, new)
    assert finished.planned() == TABLE + jobs


def test_removing_an_experiment_trains_nothing(finished: Checkout) -> None:
    text = finished.read("config/config.yaml")
    finished.write("config/config.yaml", text[: text.index("  few:")])
    assert finished.planned() == TABLE


def test_another_study_finds_the_runs_that_it_shares(checkout: Checkout) -> None:
    whole = checkout.read("config/config.yaml")
    part = whole[: whole.index("  few:")].replace("study: tiny", "study: part")
    checkout.write("config/config.yaml", part)
    checkout.finish()
    checkout.write("config/config.yaml", whole)
    assert checkout.planned() == TABLE + Counter(train=1, evaluate=1)


def test_a_lost_file_is_made_again_and_nothing_else(finished: Checkout) -> None:
    for lost in (
        "corpora/*-N20-*/corpus.json",
        "runs/*-2-2*-N30-E20-*/model.pt",
        "runs/*-N40-*/*/losses.nc",
        "studies/tiny/table-*/capacity.nc",
        "tiny/.published-*",
    ):
        (path,) = finished.folder.glob(f"results/{lost}")
        path.unlink()
    assert finished.planned() == Counter(corpus=1, train=1, evaluate=1, table=1, publish=1)


@pytest.mark.parametrize(
    ("lost", "rules"),
    [
        (("runs/*-N40-*/*/losses.nc", "runs/*-N40-*/model.pt"), ["train", "evaluate"]),
        (("runs/*-N40-*/DONE", "corpora/*-N40-*/tokenizer.json"), ["corpus", "train"]),
        (("studies/tiny/table-*/capacity.nc", "runs/*-N40-*/run.json"), ["train", "table"]),
    ],
)
def test_a_lost_file_is_made_again_before_it_is_read(
    finished: Checkout, lost: tuple[str, str], rules: list[str]
) -> None:
    for pattern in lost:
        (path,) = finished.folder.glob(f"results/{pattern}")
        path.unlink()
    done = finished.snakemake("-n")
    assert finished.rules(done.stdout) == rules


def test_forcing_everything_keeps_the_order_of_stages(finished: Checkout) -> None:
    done = finished.snakemake("-n", "--forceall")
    assert done.returncode == 0
    order = [rule for rule in finished.rules(done.stdout) if rule in ("corpus", "train")]
    assert set(order) == {"corpus", "train"}
    assert order == sorted(order)


def test_a_recorded_decision_keeps_results_of_older_code(finished: Checkout) -> None:
    def code() -> str:
        program = (
            "from knowcap.artifacts.code_digest import code_digest; print(code_digest('train'))"
        )
        environment = {**os.environ, "PYTHONPATH": str(finished.folder / "src")}
        return subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    old = code()
    finished.edit(f"{PACKAGE}/model/optimizer.py", *EDIT)
    decision = {"stage": "train", "code": code(), "stands_for": old}
    path = f"{PACKAGE}/artifacts/equivalences.json"
    finished.write(path, json.dumps([*json.loads(finished.read(path)), decision]))
    assert finished.planned() == {}
