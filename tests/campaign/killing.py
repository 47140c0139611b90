"""Snakemake runs that are killed at random moments, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

from knowcap.artifacts.files import read_dataset
from tests.workflow.conftest import Checkout

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("Snakemake", "a job", "the whole group")
TIMES = ("elapsed_s", "tokens_per_s")


@dataclass
class Campaign:
    """Starts of one study, each of which is killed after a random time."""

    checkout: Checkout
    generator: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    """By signal and target, and by the command that ran."""
    sessions: list[int] = field(default_factory=list)
    published: dict[Path, tuple[int, str]] = field(default_factory=dict)
    """Inode and modification time of the files of finished runs, when first seen."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start Snakemake in a session of its own."""
        environment = {**os.environ, "PYTHONPATH": str(self.checkout.folder / "src")}
        with (self.checkout.folder / "snakemake.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "-c2", "--scheduler", "greedy"],
                cwd=self.checkout.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.sessions.append(process.pid)
        return process

    def start_and_kill(self, longest_s: float) -> bool:
        """Start Snakemake and kill something of it; return whether it had ended by itself."""
        process = self.start()
        if self.generator.random() < 0.8:  # else Snakemake may not have started a command yet
            while process.poll() is None and not any(commands_of(process.pid).values()):
                time.sleep(0.05)
        until = time.monotonic() + self.generator.uniform(0, longest_s)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if process.poll() is None:
            self._kill(process)
        try:
            process.wait(timeout=self.generator.choice((1, 30)))
        except subprocess.TimeoutExpired:  # only a job was killed, or Snakemake waits for its jobs
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=300)
        # What survives Snakemake goes on while the next one starts.
        self.check_published()
        return process.returncode == 0

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        number = self.generator.choice(SIGNALS)
        target = self.generator.choice(TARGETS)
        jobs = {pid: name for pid, name in commands_of(process.pid).items() if name}
        running = " and ".join(sorted(set(jobs.values()))) or "no command"
        if target == "a job" and not jobs:
            target = "Snakemake"
        if target == "Snakemake":
            process.send_signal(number)
        elif target == "a job":
            send(self.generator.choice(sorted(jobs)), number)
        else:
            os.killpg(process.pid, number)
        self.kills[f"{number.name} to {target}"] += 1
        self.kills[f"during {running}"] += 1

    def finish(self) -> None:
        """Run Snakemake to its end, after all survivors have ended."""
        deadline = time.monotonic() + 600
        while any(commands_of(session) for session in self.sessions):
            assert time.monotonic() < deadline, "a process does not end"
            time.sleep(0.1)
        process = self.start()
        assert process.wait(timeout=1800) == 0, self.checkout.read("snakemake.log")[-5000:]
        self.check_published()

    def check_published(self, results: Path | None = None) -> None:
        """Assert that no file of a finished run has been replaced or deleted."""
        for done in (results or self.checkout.folder / "results").glob("runs/*/DONE"):
            for name in ("DONE", "model.pt", "provenance.json"):
                self.published.setdefault(done.with_name(name), identity_of(done.with_name(name)))
        for path, identity in self.published.items():
            assert identity_of(path) == identity, f"{path} was made again"


def identity_of(path: Path) -> tuple[int, str]:
    """Return inode and SHA-256 of a file.

    Snakemake sets the time of outputs that a job found complete. A second training would write a
    provenance with another time.
    """
    return path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest()


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def commands_of(session: int) -> dict[int, str]:
    """Return the processes of a session, and the knowcap command of those that run one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            is_command = "knowcap" in words and "-m" in words
            found[int(folder.name)] = words[words.index("knowcap") + 1] if is_command else ""
    return found


def assert_same_results(found: Path, expected: Path) -> None:
    """Assert that two results folders have bit-identical weights, losses and laws."""
    runs = sorted(path.name for path in (expected / "runs").iterdir())
    assert sorted(path.name for path in (found / "runs").iterdir()) == runs
    for run in runs:
        ours, theirs = (
            torch.load(each / "runs" / run / "model.pt", weights_only=True)
            for each in (found, expected)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), run
        assert metrics(found / "runs" / run) == metrics(expected / "runs" / run)
    measurements = sorted(p.relative_to(expected) for p in expected.glob("runs/*/*/losses.nc"))
    assert measurements == sorted(p.relative_to(found) for p in found.glob("runs/*/*/losses.nc"))
    for path in measurements:
        assert (found / path).read_bytes() == (expected / path).read_bytes(), path
    (laws,) = expected.glob("studies/*/laws-*/laws.nc")
    assert read_dataset(found / laws.relative_to(expected)).identical(read_dataset(laws))


def metrics(run: Path) -> list[dict[str, object]]:
    """Return the metrics of a run without its times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def leftovers(results: Path) -> list[str]:
    """Return files that no finished study has: temporary files, checkpoints, locks."""
    kept = {*results.rglob(".published-*"), *results.rglob(".snakemake_timestamp")}
    temporary = {path for path in results.rglob(".*") if path not in kept}
    parts = set(results.rglob("*.part"))
    scratch = {path for path in (results / "scratch").rglob("*") if path.is_file()}
    return sorted(str(path.relative_to(results)) for path in temporary | parts | scratch)
