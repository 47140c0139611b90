"""Who is told to leave (SIGTERM) saves what it has done, and who goes on repeats nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from knowcap.artifacts.code_digest import code_digest
from knowcap.artifacts.files import read_json
from knowcap.config import Run
from knowcap.data.corpus import write_corpus
from knowcap.training.sigterm import block_sigterm_in_children, catch_sigterm
from knowcap.training.train import train
from tests.support.tiny import tiny_run

LONG = tiny_run(optimization__exposures=1000)
"""Several thousand steps: whoever looks for the first of them does not miss the last."""

PATIENCE_S = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a corpus."""
    folder = tmp_path_factory.mktemp("notice")
    write_corpus(LONG.corpus, folder / "corpus")
    return folder


def told_to_leave(run: Run, folder: Path, name: str, *options: str) -> tuple[int, str]:
    """Start a training, tell it to leave when it makes steps; its exit code and last line."""
    scratch = folder / f"{name}-scratch"
    command = [sys.executable, "-m", "knowcap", "train", "--record", run.model_dump_json()]
    command += ["--corpus", str(folder / "corpus"), "--output", str(folder / name)]
    command += ["--scratch", str(scratch), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    metrics, deadline = scratch / "metrics.jsonl", time.monotonic() + PATIENCE_S
    while started.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        assert time.monotonic() < deadline, "it makes no steps"
        time.sleep(0.001)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=PATIENCE_S)
    return started.returncode, said.splitlines()[-1]


def step_of(line: str) -> int:
    told = re.fullmatch(r"knowcap: told to leave at step (\d+) of \d+; start again to go on", line)
    assert told, line
    return int(told[1])


def test_a_training_that_is_told_to_leave_goes_on_from_its_last_step(folder: Path) -> None:
    code, line = told_to_leave(LONG, folder, "told")
    assert code == 75
    scratch, step = folder / "told-scratch", step_of(line)
    assert [path.name for path in (scratch / "checkpoints").iterdir()] == [f"{step:012d}.pt"]
    assert not (folder / "told").exists()
    assert not (scratch / "lock").exists()
    digest = code_digest("train")
    train(LONG, folder / "corpus", folder / "told", scratch, code_digest=digest)
    train(LONG, folder / "corpus", folder / "whole", folder / "whole-scratch")
    assert read_json(folder / "told" / "timing.json")["num_resumed"] == 1
    found, expected = (
        torch.load(folder / name / "model.pt", weights_only=True) for name in ("told", "whole")
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_several_processes_that_are_told_to_leave_save_together(folder: Path) -> None:
    options = ("--processes", "2", "--tensor-parallel", "2")
    code, line = told_to_leave(LONG, folder, "together", *options)
    assert code == 128 + signal.SIGTERM
    saved = list((folder / "together-scratch" / "checkpoints").glob("[0-9]*"))
    assert [path.name for path in saved] == [f"{step_of(line):012d}"]
    assert (saved[0] / "files.json").exists()


def test_helpers_outlive_the_notice_and_their_process_hears_it_after_the_block() -> None:
    with catch_sigterm() as is_told:
        with block_sigterm_in_children():
            helper = subprocess.Popen(["sleep", "600"])
            helper.send_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                helper.wait(timeout=1)
        assert is_told()
    helper.kill()
    assert helper.wait() == -signal.SIGKILL


def test_outside_of_a_training_notice_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_sigterm() as is_told:
        assert not is_told()
        signal.raise_signal(signal.SIGTERM)
        assert is_told()
    assert signal.getsignal(signal.SIGTERM) is before
