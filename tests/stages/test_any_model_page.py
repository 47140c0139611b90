"""The commands in docs/any-model.md work when they are followed to the letter."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from knowcap.artifacts import files, identity
from knowcap.capacity.table import replicates
from knowcap.config import Evaluation
from knowcap.data.corpus_writer import write_corpus
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.training.train import train
from tests.support.tiny import tiny_run

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "any-model.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which the page was followed."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "results").mkdir()
    (folder / "results" / "reference").symlink_to(REPOSITORY / "results" / "reference")
    (corpus_record,) = blocks("yaml")
    (program,) = blocks("python")
    (folder / "corpus.yaml").write_text(corpus_record)
    (folder / "train.py").write_text(program)
    run = tiny_run(optimization__exposures=5)
    corpus = folder / "results" / "corpora" / identity.corpus_name(run.corpus)
    write_corpus(run.corpus, corpus)
    run_folder = folder / "results" / "runs" / identity.run_name(run)
    train(run, corpus, run_folder, folder / "scratch", code_digest="-")
    losses = run_folder / "trained-0123456789ab" / "losses.nc"
    evaluation = Evaluation(num_people=10_000, seed=0)
    evaluate(run_folder, corpus, "trained", evaluation, losses, backend=trained_weights)
    functions = f'set -e\nknowcap() {{ {sys.executable} -m knowcap "$@"; }}\n'
    functions += f'python() {{ {sys.executable} "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", functions + "".join(blocks("sh"))],
        cwd=folder,
        env={**os.environ, "RUN": str(run_folder), "CORPUS": str(corpus)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def bits(folder: Path) -> dict[str, object]:
    return json.loads((folder / "bits.json").read_text())


def test_the_files_that_the_page_lists_exist(folder):
    written = {path.name for name in ("text", "measured") for path in (folder / name).iterdir()}
    listed = set(re.findall(r"^\| `([a-z]+\.?[a-z]*)", PAGE, re.MULTILINE))
    assert {"biographies.jsonl", "people.csv", "tokenizer", "corpus", "bits.json"} <= listed
    assert listed - {"megatron.bin", "megatron.idx", "dataset"} <= written


def test_the_trained_model_has_learnt_most_of_its_corpus_and_is_printed(folder):
    summary = bits(folder / "measured")
    assert summary["bits"]["plain"] > 0.3 * summary["max_bits"]
    printed = (folder / "stdout").read_text()
    assert f"{summary['bits']['plain']:,.4g}" in printed
    assert "R, bits per used parameter" in printed


def test_the_model_is_in_the_table_and_the_figure_of_the_study(folder):
    table = files.read_dataset(folder / "beside" / "capacity.nc")
    study = files.read_dataset(REPOSITORY / "results" / "reference" / "two-cores" / "capacity.nc")
    assert table.sizes["measurement"] == study.sizes["measurement"] + 1
    rows = replicates(table)
    mine = rows[rows["family"] == "LlamaForCausalLM"].iloc[0]
    assert mine["knowledge"] in set(study["knowledge"].values)
    assert mine["bits"] == pytest.approx(bits(folder / "measured")["bits"]["plain"])
    assert (folder / "beside.svg").read_text().startswith("<?xml")


def test_the_exported_run_has_the_bits_of_its_evaluation(folder):
    from knowcap.capacity.bit_complexity import bit_complexity

    (losses,) = folder.glob("results/runs/*/trained-*/losses.nc")
    (corpus,) = folder.glob("results/corpora/*/corpus.json")
    expected = bit_complexity(files.read_dataset(losses), files.read_json(corpus))["bits"]
    found = bits(folder / "again")["bits"]["plain"]
    assert found == pytest.approx(float(expected.sel(scoring="plain")[0]), abs=1e-2)
