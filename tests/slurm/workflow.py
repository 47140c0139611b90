"""A checkout whose Snakemake submits to the test cluster, and the states of its jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import identity
from knowcap.config.study import load_study
from tests.workflow.conftest import Checkout

TIMEOUT_S = 1500
"""Timeout of every wait, for a machine that is busy with other tests."""

OUTPUT = "snakemake.out"
"""File of the output of Snakemake."""

PROFILE = ("--profile", "config/profiles/slurm")

OPTIONS = {
    "--jobs": ["8"],
    "--latency-wait": ["20"],
    "--slurm-init-seconds-before-status-checks": ["1"],
    "--max-status-checks-per-second": ["10"],
    "--default-resources": ["mem_mb=1500", "runtime=10"],
    "--set-threads": ["train=1"],
}
"""Options that differ from the profile: small jobs and frequent queries of their states."""


class Job(NamedTuple):
    """State of a Slurm job."""

    id: str
    state: str
    memory_mb: int
    num_nodes: int
    comment: str
    """The rule and its wildcards."""


class Workflow(Checkout):
    """A checkout with a study of its own that runs on Slurm."""

    cancelled: str
    requeued: str
    """Numbers of the cancelled and the requeued Slurm job."""
    finished_model: os.stat_result
    queued_model: os.stat_result
    """Of weights that a second job must not replace."""

    @classmethod
    def make_study(cls, folder: Path, study: str) -> Workflow:
        """Make a checkout with a study and the profile for Slurm."""
        checkout = cls(cls.make(folder, study).folder)
        checkout.copy("config/profiles/slurm/config.yaml")
        return checkout

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start Snakemake on the cluster; `train="mem_mb=1"` sets a rule's resources."""
        resources = {"train": "mem_mb=1500 runtime=10", "evaluate": "mem_mb=1500", **settings}
        set_resources = [
            f"{rule}:{resource}"
            for rule, given in resources.items()
            for resource in re.split(r" (?=\w+=[^=])", given)
        ]
        options = {**OPTIONS, "--set-resources": set_resources}
        flat = [word for option, values in options.items() for word in (option, *values)]
        with (self.folder / OUTPUT).open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *PROFILE, *flat, *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def finish_run(self, started: subprocess.Popen[str]) -> None:
        """Wait for a started Snakemake, which must succeed."""
        code = started.wait(timeout=TIMEOUT_S)
        assert code == 0, self.read(OUTPUT)[-20_000:]

    def run(self, num_people: int) -> str:
        """Return the name of the run with this number of people."""
        runs = load_study(self.folder / "config" / "config.yaml").runs()
        return next(
            identity.run_name(run) for run in runs if run.corpus.knowledge.num_people == num_people
        )

    def folder_of(self, num_people: int) -> Path:
        """Return the folder of a run."""
        return self.folder / "results" / "runs" / self.run(num_people)

    def scratch_of(self, num_people: int) -> Path:
        """Return the scratch folder of a run."""
        return self.folder / "results" / "scratch" / self.run(num_people)

    def jobs(self, num_people: int | None = None, rule: str = "train") -> list[Job]:
        """Return the Slurm jobs of a rule, of one run or of all, the oldest first."""
        listed = run_slurm_command(
            "squeue", "--noheader", "--states=all", "--format=%i|%T|%m|%D|%k|%Z"
        )
        found = []
        for line in listed.splitlines():
            number, state, memory, num_nodes, comment, folder = line.split("|")
            if folder != str(self.folder) or not comment.startswith(f"rule_{rule}"):
                continue
            if num_people is None or f"-N{num_people}-" in comment:
                memory_mb = int(float(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]])
                found.append(Job(number, state, memory_mb, int(num_nodes), comment))
        return sorted(found, key=lambda job: int(job.id))

    def train_without_interruption(self, num_people: int) -> Path:
        """Train a finished run again without Slurm; return the new folder."""
        run = self.folder_of(num_people)
        facts = json.loads((run / "run.json").read_text())
        again = self.folder / "again" / run.name
        options = {
            "--record": json.dumps(facts["record"]),
            "--corpus": f"results/corpora/{facts['corpus']}",
            "--output": str(again),
            "--scratch": f"{again}-scratch",
        }
        flat = [word for option in options.items() for word in option]
        subprocess.run(
            [sys.executable, "-m", "knowcap", "train", *flat],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder / "src")},
            check=True,
        )
        return again


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def run_slurm_command(*command: str) -> str:
    """Return the output of a command; it is repeated, as a busy controller can time out."""
    for _ in range(20):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(0.5)
    raise AssertionError(f"{command}: {done.stderr}")
