"""Several processes train a run by the command line, and its evaluation matches one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xarray as xr

from knowcap.artifacts.files import read_json
from knowcap.config import Evaluation
from knowcap.data.corpus_writer import write_corpus
from knowcap.evaluation.evaluate import evaluate, trained_weights
from knowcap.training.train import train
from tests.support.tiny import tiny_run

RUN = tiny_run(optimization__exposures=2, replicates__lr=[4e-3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a corpus and a run trained by one process."""
    folder = tmp_path_factory.mktemp("multi_process")
    write_corpus(RUN.corpus, folder / "corpus")
    train(RUN, folder / "corpus", folder / "single", folder / "scratch-single")
    return folder


def knowcap_train(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knowcap", "train", "--record", RUN.model_dump_json()]
    command += ["--corpus", str(folder / "corpus"), "--output", str(folder / "several")]
    command += ["--scratch", str(folder / "scratch"), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def losses(folder: Path, run: str) -> xr.Dataset:
    evaluation = Evaluation(num_people=20, seed=0)
    output = folder / f"{run}.nc"
    folders = (folder / run, folder / "corpus")
    evaluate(*folders, "trained", evaluation, output, backend=trained_weights)
    with xr.open_dataset(output, engine="h5netcdf") as dataset:
        return dataset.load()


def test_a_training_that_changes_its_parallelism_equals_that_of_one_process(folder):
    first = knowcap_train(
        folder, "--processes", "2", "--tensor-parallel", "2", "--time-budget-s", "0"
    )
    assert first.returncode == 75, first.stderr
    assert first.stderr.count("time budget spent at step 1") == 1
    second = knowcap_train(folder, "--processes", "2", "--pipeline-parallel", "2")
    assert second.returncode == 0, second.stderr
    weights = torch.load(folder / "several" / "model.pt")
    expected = torch.load(folder / "single" / "model.pt")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        # Sums are in another order, over about twenty steps.
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-4, msg=name)
    facts = read_json(folder / "several" / "run.json")
    assert facts == read_json(folder / "single" / "run.json")
    timing = read_json(folder / "several" / "timing.json")
    assert (timing["num_processes"], timing["num_resumed"]) == (2, 1)
    engines = read_json(folder / "several" / "provenance.json")["engines"]
    assert [(each["name"], each["tensor"], each["pipeline"]) for each in engines] == [
        ("megatron", 2, 1),
        ("megatron", 1, 2),
    ]
    several, single = losses(folder, "several"), losses(folder, "single")
    for name in single.data_vars:
        if name.endswith("loss"):
            xr.testing.assert_allclose(several[name], single[name], rtol=0, atol=1e-3)
    assert list((folder / "scratch").iterdir()) == []


def test_parallelism_that_does_not_divide_the_model_is_refused_in_one_line(folder):
    done = knowcap_train(folder, "--processes", "3", "--tensor-parallel", "3")
    assert done.returncode == 2
    assert done.stderr == (
        "knowcap: --tensor-parallel: 3 does not divide 2 heads; allowed are 1, 2\n"
    )


def test_a_missing_gpu_is_refused_in_one_line(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = knowcap_train(folder, "--gpus", "1")
    assert done.returncode == 2
    assert done.stderr == "knowcap: --gpus: 1 requested, but this machine has 0\n"
