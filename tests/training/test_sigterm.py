"""A training saves a checkpoint at SIGTERM, and a resumed training repeats no step."""

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
from knowcap.data.corpus_writer import write_corpus
from knowcap.training.sigterm import block_sigterm_in_children, catch_sigterm
from knowcap.training.train import train
from tests.support.tiny import tiny_run

LONG = tiny_run(optimization__exposures=1000)
"""A run of several thousand steps, long enough to interrupt after the first."""

TIMEOUT_S = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a corpus."""
    folder = tmp_path_factory.mktemp("sigterm")
    write_corpus(LONG.corpus, folder / "corpus")
    return folder


def terminate_during_steps(run: Run, folder: Path, name: str, *options: str) -> tuple[int, str]:
    """Send SIGTERM to a training that makes steps; returns its exit code and last line."""
    scratch = folder / f"{name}-scratch"
    command = [sys.executable, "-m", "knowcap", "train", "--record", run.model_dump_json()]
    command += ["--corpus", str(folder / "corpus"), "--output", str(folder / name)]
    command += ["--scratch", str(scratch), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    metrics, deadline = scratch / "metrics.jsonl", time.monotonic() + TIMEOUT_S
    while started.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        assert time.monotonic() < deadline, "the training makes no steps"
        time.sleep(0.001)
    started.send_signal(signal.SIGTERM)
    _, stderr = started.communicate(timeout=TIMEOUT_S)
    return started.returncode, stderr.splitlines()[-1]


def step_of(line: str) -> int:
    pattern = (
        r"knowcap: SIGTERM received at step (\d+) of \d+; run the same command again to resume"
    )
    match = re.fullmatch(pattern, line)
    assert match, line
    return int(match[1])


def test_a_training_resumes_at_the_step_where_sigterm_stopped_it(folder: Path) -> None:
    code, line = terminate_during_steps(LONG, folder, "interrupted")
    assert code == 75
    scratch, step = folder / "interrupted-scratch", step_of(line)
    assert [path.name for path in (scratch / "checkpoints").iterdir()] == [f"{step:012d}.pt"]
    assert not (folder / "interrupted").exists()
    assert not (scratch / "lock").exists()
    digest = code_digest("train")
    train(LONG, folder / "corpus", folder / "interrupted", scratch, code_digest=digest)
    train(LONG, folder / "corpus", folder / "whole", folder / "whole-scratch")
    assert read_json(folder / "interrupted" / "timing.json")["num_resumed"] == 1
    resumed, expected = (
        torch.load(folder / name / "model.pt", weights_only=True)
        for name in ("interrupted", "whole")
    )
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name


def test_several_processes_save_one_checkpoint_at_sigterm(folder: Path) -> None:
    options = ("--processes", "2", "--tensor-parallel", "2")
    code, line = terminate_during_steps(LONG, folder, "several", *options)
    assert code == 75
    saved = list((folder / "several-scratch" / "checkpoints").glob("[0-9]*"))
    assert [path.name for path in saved] == [f"{step_of(line):012d}"]
    assert (saved[0] / "files.json").exists()


def test_children_do_not_receive_sigterm_and_their_parent_receives_it_after_the_block() -> None:
    with catch_sigterm() as signal_received:
        with block_sigterm_in_children():
            child = subprocess.Popen(["sleep", "600"])
            child.send_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(timeout=1)
        assert signal_received()
    child.kill()
    assert child.wait() == -signal.SIGKILL


MANAGER = """
import multiprocessing, os, signal, time
from knowcap.training.sigterm import block_sigterm_in_children
if __name__ == "__main__":
    with block_sigterm_in_children():
        manager = multiprocessing.get_context("spawn").Manager()
        queue = manager.Queue()
    os.kill(manager._process.pid, signal.SIGTERM)
    time.sleep(1)
    queue.put("alive")
    print(queue.get())
"""
"""A process as Megatron's dist_checkpointing starts one at the first checkpoint and keeps it."""


def test_a_spawned_process_survives_sigterm_too(tmp_path: Path) -> None:
    program = tmp_path / "manager.py"
    program.write_text(MANAGER)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == "alive\n", done.stderr


def test_the_previous_handler_of_sigterm_is_restored() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with catch_sigterm() as signal_received:
        assert not signal_received()
        signal.raise_signal(signal.SIGTERM)
        assert signal_received()
    assert signal.getsignal(signal.SIGTERM) is previous
