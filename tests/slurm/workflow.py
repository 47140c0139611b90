"""A checkout whose Snakemake submits to the tests' Slurm, and what Slurm says of its jobs."""

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
from tests.workflow.conftest import REPOSITORY, Checkout

PATIENCE_S = 1500
"""How long anything may take on a machine that is busy with other tests."""

PROFILE = ("--profile", "config/profiles/slurm")

SMALL = {
    "--jobs": ["8"],
    "--latency-wait": ["20"],
    "--slurm-init-seconds-before-status-checks": ["1"],
    "--max-status-checks-per-second": ["10"],
    "--default-resources": ["mem_mb=1500", "runtime=10"],
    "--set-threads": ["train=1"],
}
"""What differs from the profile because the cluster is small and tests are impatient."""


class Job(NamedTuple):
    """What Slurm says of a job."""

    id: str
    state: str
    memory_mb: int
    num_nodes: int
    comment: str
    """The rule, and its wildcards."""


class Workflow(Checkout):
    """A copy of the workflow, with a study of its own, that runs on Slurm."""

    cancelled: str
    requeued: str
    """Slurm's numbers of the jobs to which that happened."""
    model: os.stat_result
    held: os.stat_result
    """Of weights that are to stay as they are."""

    @classmethod
    def begin(cls, folder: Path, study: str) -> Workflow:
        checkout = cls(cls.make(folder, study).folder)
        profile = "config/profiles/slurm/config.yaml"
        checkout.write(profile, (REPOSITORY / profile).read_text())
        return checkout

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start Snakemake on the cluster; `train="mem_mb=1"` sets a rule's resources."""
        resources = {"train": "mem_mb=1500 runtime=10", "evaluate": "mem_mb=1500", **settings}
        set_resources = [
            f"{rule}:{resource}"
            for rule, given in resources.items()
            for resource in re.split(r" (?=\w+=[^=])", given)
        ]
        options = {**SMALL, "--set-resources": set_resources}
        flat = [word for option, values in options.items() for word in (option, *values)]
        with (self.folder / "said").open("a") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *PROFILE, *flat, *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def end(self, started: subprocess.Popen[str]) -> None:
        """Wait until a Snakemake that was started has succeeded."""
        code = started.wait(timeout=PATIENCE_S)
        assert code == 0, self.read("said")[-20_000:]

    def run(self, num_people: int) -> str:
        """Name of the run that reads of so many people."""
        runs = load_study(self.folder / "config" / "config.yaml").runs()
        return next(
            identity.run_name(run) for run in runs if run.corpus.knowledge.num_people == num_people
        )

    def folder_of(self, num_people: int) -> Path:
        return self.folder / "results" / "runs" / self.run(num_people)

    def scratch_of(self, num_people: int) -> Path:
        return self.folder / "results" / "scratch" / self.run(num_people)

    def jobs(self, num_people: int | None = None, rule: str = "train") -> list[Job]:
        """The Slurm jobs of this workflow that trained so many people, the oldest first."""
        listed = ask_slurm("squeue", "--noheader", "--states=all", "--format=%i|%T|%m|%D|%k|%Z")
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
        """Train a finished run again, on its own and at once, and give its folder."""
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


def wait(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ask_slurm(*command: str) -> str:
    """Ask until there is an answer, as a busy controller can be late with it."""
    for _ in range(20):
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return asked.stdout
        time.sleep(0.5)
    raise AssertionError(f"{command}: {asked.stderr}")
