"""What is built anew after an edit, and what is not: the exact jobs of a dry run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from tests.workflow.conftest import REPOSITORY, Checkout

STUDY = Counter(table=1, laws=1, figures=1, report=1, publish=1)
"""The jobs of the study as a whole."""


def test_a_fresh_checkout_makes_everything_once(checkout: Checkout) -> None:
    assert checkout.planned() == STUDY + Counter(corpus=3, train=6, evaluate=6)


MOVES_NO_NUMBER = [
    ("src/knowcap/model/optimizer.py", "from __future__", "# A comment.\nfrom __future__"),
    ("src/knowcap/data/token_stream.py", '"""', '"""Another first word. '),
    ("src/knowcap/training/train.py", "\n\n\n", "\n\n\n\n\n"),
    ("src/knowcap/commands.py", "def corpus(", "def corpus_(): ...\n\n\ndef corpus("),
    ("config/config.yaml", "study: tiny", "# A comment.\nstudy: tiny"),
    ("config/config.yaml", "seed: 0\n    tok", "# Why.\n      seed: 0\n    tok"),
    (
        "src/knowcap/config/run.py",
        "    clip_grad: Positive\n",
        "    clip_grad: Positive\n    new_knob: Count = 1\n",
    ),
    ("rules/train.smk", "-m knowcap train --record", "-m knowcap  train --record"),
]
"""A comment, a docstring, blank lines, the command line, YAML's comments and its layout, a new knob
that keeps the old behaviour, a rule's spelling."""


def test_what_moves_no_number_rebuilds_nothing(finished: Checkout) -> None:
    for edit in MOVES_NO_NUMBER:
        finished.edit(*edit)
    for path in [*finished.folder.rglob("src/**/*.*"), *finished.folder.rglob("config/*.yaml")]:
        os.utime(path)
    assert finished.planned() == {}


EDIT = ("from __future__ import annotations\n", "from __future__ import annotations\n\nX = 1\n")
"""An edit that could move numbers, for all that a program can tell."""


@pytest.mark.parametrize(
    ("path", "jobs"),
    [
        ("capacity/report.py", Counter(report=1, publish=1)),
        ("capacity/figures.py", Counter(figures=1, report=1, publish=1)),
        ("capacity/complexity.py", STUDY),
        ("evaluation/evaluate.py", STUDY + Counter(evaluate=6)),
        ("model/optimizer.py", STUDY + Counter(train=6, evaluate=6)),
        ("data/people.py", STUDY + Counter(corpus=3, train=6, evaluate=6)),
    ],
)
def test_an_edit_rebuilds_the_stages_that_reach_it_and_what_follows(
    finished: Checkout, path: str, jobs: Counter[str]
) -> None:
    finished.edit(f"src/knowcap/{path}", *EDIT)
    assert finished.planned() == jobs


def test_reverting_an_edit_rebuilds_nothing(finished: Checkout) -> None:
    finished.edit("src/knowcap/model/optimizer.py", *EDIT)
    assert finished.planned()["train"] == 6
    finished.edit("src/knowcap/model/optimizer.py", *reversed(EDIT))
    assert finished.planned() == {}


def test_after_an_edit_was_built_reverting_it_only_publishes(finished: Checkout) -> None:
    finished.edit("src/knowcap/model/optimizer.py", *EDIT)
    published = next(finished.folder.glob("results/tiny/.published-*"))
    finished.finish()
    published.unlink()  # as `knowcap publish` leaves only the newest stamp
    finished.edit("src/knowcap/model/optimizer.py", *reversed(EDIT))
    assert finished.planned() == Counter(publish=1)


def test_an_edited_pool_rebuilds_what_is_made_of_it(checkout: Checkout) -> None:
    checkout.edit(
        "config/config.yaml",
        "{optimization.exposures: 2}",
        "{corpus.tokenizer: GPT2, corpus.knowledge: {kind: bioS, num_people: 9, seed: 0}}",
    )
    checkout.finish()
    checkout.edit("src/knowcap/data/templates/major.txt", "{subject}", "{subject} once")
    assert checkout.planned() == STUDY + Counter(corpus=1, train=1, evaluate=1)


def test_losing_snakemake_s_own_records_rebuilds_nothing(finished: Checkout) -> None:
    shutil.rmtree(finished.folder / ".snakemake")
    assert finished.planned() == {}


def test_losing_snakemake_s_own_records_hides_no_edit(finished: Checkout) -> None:
    shutil.rmtree(finished.folder / ".snakemake")
    finished.edit("src/knowcap/model/optimizer.py", *EDIT)
    assert finished.planned() == STUDY + Counter(train=6, evaluate=6)


def test_editing_one_experiment_touches_its_runs_only(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "exposures: 2}", "exposures: 3}")
    assert finished.planned() == STUDY + Counter(train=1, evaluate=1)


def test_removing_an_experiment_trains_nothing(finished: Checkout) -> None:
    text = finished.read("config/config.yaml")
    finished.write("config/config.yaml", text[: text.index("  few:")])
    assert finished.planned() == STUDY


def test_a_label_trains_nothing(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "  few:", "  rare:")
    assert finished.planned() == STUDY


def test_the_same_run_in_two_experiments_is_trained_once(finished: Checkout) -> None:
    finished.edit(
        "config/config.yaml", "{optimization.exposures: 2}", "{corpus.knowledge.num_people: 40}"
    )
    assert finished.planned() == STUDY


def test_other_questions_of_the_same_models_train_nothing(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "{num_people: 50, seed: 0}", "{num_people: 5, seed: 0}")
    assert finished.planned() == STUDY + Counter(evaluate=6)


def test_another_precision_trains_nothing(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "precisions: [trained]", "precisions: [trained, int4]")
    assert finished.planned() == STUDY + Counter(evaluate=5)


def test_an_edit_of_the_quantiser_leaves_the_trained_measurements(finished: Checkout) -> None:
    finished.edit("config/config.yaml", "precisions: [trained]", "precisions: [trained, int4]")
    finished.finish()
    finished.edit("src/knowcap/evaluation/quantize.py", *EDIT)
    assert finished.planned() == STUDY + Counter(evaluate=5)


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
    assert order == sorted(order)


def test_a_recorded_decision_lets_old_results_stand_for_refactored_code(
    finished: Checkout,
) -> None:
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
    finished.edit("src/knowcap/model/optimizer.py", *EDIT)
    new = code()
    assert finished.planned()["train"] == 6
    decision = {"stage": "train", "code": new, "stands_for": old}
    path = "src/knowcap/artifacts/equivalences.json"
    finished.write(path, json.dumps([*json.loads(finished.read(path)), decision]))
    assert finished.planned() == {}


def test_a_mistake_in_the_study_is_one_line_and_exit_code_2(checkout: Checkout) -> None:
    checkout.edit("config/config.yaml", "clip_grad: 1.0", "clip_grad: 1e0")
    done = checkout.snakemake("-n")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == (
        "config/config.yaml:35: experiments.many.run.optimization.clip_grad: "
        "'1e0' is text to YAML, a number needs a point: write 1.0e+0"
    )


def test_another_study_is_chosen_by_its_file(checkout: Checkout) -> None:
    text = checkout.read("config/config.yaml").replace("study: tiny", "study: other")
    checkout.write("config/other.yaml", text[: text.index("  few:")])
    planned = checkout.planned("--configfile", "config/other.yaml")
    assert planned == STUDY + Counter(corpus=3, train=5, evaluate=5)


def test_a_batch_is_a_part_of_the_runs(checkout: Checkout) -> None:
    planned = checkout.planned("table", "--batch", "table=1/2")
    assert 0 < planned["train"] < 6
    assert planned["table"] == 0


def test_a_study_finds_what_its_parts_have_made(checkout: Checkout) -> None:
    whole = checkout.read("config/config.yaml")
    part = whole[: whole.index("  few:")].replace("study: tiny", "study: part")
    checkout.write("config/config.yaml", part)
    checkout.finish()
    checkout.write("config/config.yaml", whole)
    assert checkout.planned() == STUDY + Counter(train=1, evaluate=1)


def test_no_rule_retries_by_itself(checkout: Checkout) -> None:
    # On a cluster every attempt of such a rule repeats all of them inside of one job.
    for path in checkout.folder.glob("rules/*.smk"):
        assert "retries:" not in path.read_text(), path


def test_a_training_knows_the_time_that_a_profile_gives_it(checkout: Checkout) -> None:
    for minutes, seconds in ((1, 0), (10, 540), (600, 35_700)):
        options = ("--set-resources", f"train:runtime={minutes}", "--printshellcmds")
        done = checkout.snakemake("-n", *options)
        assert done.stdout.count(f"--time-budget-s {seconds} ") == 6


def test_without_a_time_limit_a_training_has_all_the_time(checkout: Checkout) -> None:
    assert "--time-budget-s" not in checkout.snakemake("-n", "--printshellcmds").stdout


@pytest.fixture
def without_slurm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path of programs on which there is no Slurm."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("bash", "sh", "which"):
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return str(folder)


def test_without_slurm_its_profile_is_refused_in_one_line_before_anything_is_queued(
    checkout: Checkout, without_slurm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = "config/profiles/slurm"
    checkout.write(f"{profile}/config.yaml", (REPOSITORY / profile / "config.yaml").read_text())
    monkeypatch.setenv("PATH", without_slurm)
    done = checkout.snakemake("--profile", profile)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "executor: slurm, but there is no sbatch on this machine; start where jobs are submitted"
    )
    assert not (checkout.folder / "results").exists()
    assert checkout.planned("--profile", profile)["train"] == 6


def test_a_dry_run_writes_nothing(checkout: Checkout) -> None:
    checkout.planned()
    assert not (checkout.folder / "results").exists()
