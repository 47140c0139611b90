"""A study of many runs, some of whose commands fail once, as on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.campaign import number
from tests.campaign.killing import leftovers
from tests.conftest import STUDY
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow

NUM_RUNS = number(quick=4, full=2000)
NUM_TIMED = 200
"""Runs from which on time and memory are compared."""
FAILURES = """\
import hashlib, os, pathlib, signal, sys, threading

if "knowcap" in sys.orig_argv and {"train", "evaluate"} & set(sys.orig_argv):
    digest = hashlib.sha256(" ".join(sys.orig_argv[1:]).encode()).digest()
    failed = pathlib.Path(__file__).with_name(digest.hex())
    number = str(os.getpid())  # a training can start its program again, as the same process
    if digest[0] < SHARE * 256 and (not failed.exists() or failed.read_text() == number):
        failed.write_text(number)
        if digest[1] % 3 == 0:
            sys.exit("an injected error")
        kill = (os.getpid(), signal.SIGKILL if digest[1] % 3 == 1 else signal.SIGABRT)
        timer = threading.Timer(digest[2] / 100, os.kill, kill)
        timer.daemon = True
        timer.start()
"""
"""Module ``sitecustomize``: a share of all commands fails at its first start, at some moment."""


def test_a_study_with_failing_commands_is_finished_by_a_second_start(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout", _study(NUM_RUNS))
    failures = tmp_path / "failures"
    failures.mkdir()
    share = 0.05 if NUM_RUNS >= NUM_TIMED else 0.5
    (failures / "sitecustomize.py").write_text(FAILURES.replace("SHARE", str(share)))

    first, memory = _snakemake(checkout, failures, "--keep-going")
    num_failed = sum(len(path.name) == 64 for path in failures.iterdir())
    finished = sorted(
        path.stat().st_mtime for path in tmp_path.glob("checkout/results/runs/*/DONE")
    )
    print(f"{NUM_RUNS} runs, {num_failed} injected failures, Snakemake's memory {memory:.0f} MB")
    assert 0 < num_failed < NUM_RUNS
    assert first != 0
    assert len(finished) >= NUM_RUNS - num_failed
    if NUM_RUNS >= NUM_TIMED:
        _assert_steady(finished)
    published = _inodes(checkout)

    second, _ = _snakemake(checkout, failures)
    assert second == 0, checkout.read("snakemake.log")[-5000:]
    assert len(_inodes(checkout)) == NUM_RUNS
    assert published.items() <= _inodes(checkout).items()
    assert leftovers(checkout.folder / "results") == []


def _study(num_runs: int) -> str:
    """Return a study of some tiny runs, which differ by their seeds."""
    head, _, _ = STUDY.partition("      - {corpus.knowledge.num_people: [20, 30]")
    seeds = ", ".join(f"[{seed}]" for seed in range(num_runs))
    return f"{head}      - {{replicates.seeds: [{seeds}]}}\n"


def _snakemake(checkout: Checkout, failures: Path, *options: str) -> tuple[int, float]:
    """Run Snakemake with injected failures; return its exit code and largest memory in MB."""
    path = os.pathsep.join([str(failures), str(checkout.folder / "src")])
    command = [sys.executable, "-m", "snakemake", "-c2", "--scheduler", "greedy", *options]
    with (checkout.folder / "snakemake.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=checkout.folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )
    memory = 0.0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        memory = max([memory, *(int(text) / 1024 for text in peak)])
        time.sleep(0.5)
    return process.wait(), memory


def _assert_steady(finished: list[float]) -> None:
    """Assert that the last quarter of the runs takes no longer than the second."""
    quarter = len(finished) // 4
    second, last = (
        finished[start + quarter - 1] - finished[start] for start in (quarter, 3 * quarter)
    )
    print(f"second quarter of the runs {second:.0f} s, last quarter {last:.0f} s")
    assert last < 1.3 * second


def _inodes(checkout: Checkout) -> dict[Path, int]:
    """Return the inodes of the weights of finished runs."""
    runs = checkout.folder.glob("results/runs/*/DONE")
    return {done.parent: done.with_name("model.pt").stat().st_ino for done in runs}
