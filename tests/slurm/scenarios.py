"""Scenarios on a cluster: a study, interruptions, two nodes, a killed Snakemake, a mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import STUDY
from tests.slurm.workflow import TIMEOUT_S, Job, Workflow, run_slurm_command, wait_until
from tests.workflow.conftest import REPOSITORY

GRID = STUDY.index("    grid:\n")
"""Position of the grid in the text of the study."""

ONE_STEP_PER_JOB, OUT_OF_MEMORY = 2000, 21
"""`num_people` of a run whose time limit allows one step, and of one that needs more memory."""

STILL_TRAINING, FINISHED, QUEUED = 31, 32, 33
"""`num_people` of the runs whose first job is training, finished and queued when the second
Snakemake starts."""

REFUSED = 51
"""`num_people` of the run whose folder has a foreign file."""

TWO_NODES = 41
"""`num_people` of the run that trains on two nodes."""


def study(*blocks: str) -> str:
    """Return the text of a study with these blocks as its grid."""
    return STUDY[:GRID] + "    grid:\n" + "".join(f"      - {{{block}}}\n" for block in blocks)


def people(number: int, **fields: int) -> str:
    """Return a grid block of one run, with fields of its optimization."""
    given = {"corpus.knowledge.num_people": number}
    given |= {f"optimization.{name}": value for name, value in fields.items()}
    return ", ".join(f"{name}: {value}" for name, value in given.items())


SMOKE_EXPERIMENTS = ("bioD-rarely", "junk", "bioR")
"""Experiments of the smoke study with a job of every rule; without Slurm the study runs whole in
tests/workflow/test_smoke.py."""


def smoke_study() -> str:
    """Return the text of the smoke study with :data:`SMOKE_EXPERIMENTS` only."""
    text = (REPOSITORY / "config" / "smoke.yaml").read_text()
    head, experiments = text.split("\nexperiments:\n")
    blocks = re.findall(r"^  \w\S*:\n(?:   .*\n)+", experiments, re.MULTILINE)
    kept = [block for block in blocks if block.strip().partition(":")[0] in SMOKE_EXPERIMENTS]
    assert len(kept) == len(SMOKE_EXPERIMENTS)
    return f"{head}\nexperiments:\n{''.join(kept)}"


def smoke(folder: Path) -> Workflow:
    """Run a part of the smoke study; short jobs of a rule share a Slurm job."""
    workflow = Workflow.make_study(folder, smoke_study())
    groups = "corpus=corpora rewritten_corpus=corpora train=trainings evaluate=evaluations"
    sizes = "corpora=3 trainings=3 evaluations=4"
    workflow.finish_run(
        workflow.start(
            *("--groups", *groups.split(), "--group-components", *sizes.split(), "--cores", "2"),
            train="mem_mb=1500 runtime=10 gpu=0",
        )
    )
    return workflow


def interrupted(folder: Path) -> Workflow:
    """Train through time limits, a cancelled job, a preempted job and too little memory."""
    steps = people(ONE_STEP_PER_JOB, exposures=4, global_batch_size=2000)
    workflow = Workflow.make_study(folder, study(steps, people(OUT_OF_MEMORY)))
    started = workflow.start(
        *("--until", "train"),
        train=f"mem_mb=(250 if attempt == 1 else 2000) "
        f"if '-N{OUT_OF_MEMORY}-' in wildcards.run else 1500 "
        f"runtime=1 if '-N{ONE_STEP_PER_JOB}-' in wildcards.run else 10",
    )
    workflow.cancelled = interrupt(workflow, ONE_STEP_PER_JOB, "scancel")
    workflow.requeued = interrupt(workflow, ONE_STEP_PER_JOB, "scontrol requeue")
    # Slurm waits two minutes before it begins a requeued job again.
    run_slurm_command("scontrol", "update", f"JobId={workflow.requeued}", "StartTime=now")
    workflow.finish_run(started)
    return workflow


def interrupt(workflow: Workflow, num_people: int, command: str) -> str:
    """Interrupt the Slurm job that trains a run, once it has a checkpoint; return its number."""
    lock = workflow.scratch_of(num_people) / "lock"
    while True:
        wait_until(lambda: running(workflow, num_people) and checkpoints(workflow, num_people))
        wait_until(lambda: lock.exists() or not running(workflow, num_people))
        for job in running(workflow, num_people):
            subprocess.run([*command.split(), job.id], capture_output=True, check=False)
            if was_interrupted(job.id):
                return job.id
        # It ended by itself before the command reached it: interrupt the next job.


def was_interrupted(job: str) -> bool:
    """Whether a job ends because it was interrupted, and not by itself."""
    while True:
        state = run_slurm_command("scontrol", "show", "job", job)
        if "JobState=CANCELLED" in state or "Restarts=1" in state:
            return True
        if "JobState=COMPLETING" not in state and "JobState=RUNNING" not in state:
            return False
        time.sleep(0.05)


def contains(log: Path, text: str) -> bool:
    """Whether a log contains a text; Snakemake removes logs before each attempt."""
    try:
        return text in log.read_text()
    except FileNotFoundError:
        return False


def running(workflow: Workflow, num_people: int) -> list[Job]:
    """Return the running Slurm jobs of a run."""
    return [job for job in workflow.jobs(num_people) if job.state == "RUNNING"]


def checkpoints(workflow: Workflow, num_people: int) -> list[Path]:
    """Return the checkpoints of a run."""
    return list(workflow.scratch_of(num_people).glob("checkpoints/[0-9]*.pt"))


def two_nodes(folder: Path) -> Workflow:
    """Train a run on two nodes, with a time limit that allows one step."""
    runs = study(people(TWO_NODES, exposures=4, global_batch_size=80))
    workflow = Workflow.make_study(folder, runs)
    train = "mem_mb=1500 runtime=1 gpu=0 nodes=2 tasks=2 mpi=srun"
    workflow.finish_run(workflow.start("--until", "train", train=train))
    return workflow


def orphaned(folder: Path) -> Workflow:
    """Kill Snakemake while one job trains, one finishes and one is queued; start it again."""
    runs = study(people(STILL_TRAINING, exposures=400), people(FINISHED), people(QUEUED))
    workflow = Workflow.make_study(folder, runs)
    hold = f"'--hold' if '-N{QUEUED}-' in wildcards.run else ''"
    train = f"mem_mb=1500 runtime=10 slurm_extra={hold}"
    first = workflow.start("--until", "train", train=train)
    wait_until(
        lambda: (
            workflow.jobs(QUEUED) and running(workflow, STILL_TRAINING) and workflow.jobs(FINISHED)
        )
    )
    lock = workflow.scratch_of(STILL_TRAINING) / "lock"
    wait_until(lambda: contains(lock, "}"))
    trainer = json.loads(lock.read_text())["pid"]
    os.kill(trainer, signal.SIGSTOP)  # so that it still trains when the second job starts
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with heartbeat(lock):  # in place of the stopped process
        wait_until((workflow.folder_of(FINISHED) / "DONE").exists)
        workflow.finished_model = (workflow.folder_of(FINISHED) / "model.pt").stat()
        workflow.finish_run(workflow.start("--unlock"))

        second = workflow.start("--until", "train")
        log = workflow.folder / "results" / "logs" / "train" / f"{workflow.run(STILL_TRAINING)}.log"
        wait_until(lambda: contains(log, "held by"))
        wait_until((workflow.folder_of(QUEUED) / "DONE").exists)
        workflow.queued_model = (workflow.folder_of(QUEUED) / "model.pt").stat()
        run_slurm_command("scontrol", "release", workflow.jobs(QUEUED)[0].id)
        wait_until(
            lambda: workflow.jobs(QUEUED)[0].state not in ("PENDING", "RUNNING", "COMPLETING")
        )
    os.kill(trainer, signal.SIGCONT)
    workflow.finish_run(second)
    return workflow


def refused(folder: Path) -> Workflow:
    """Submit a training that finds a mistake, with two retries; then without the mistake."""
    workflow = Workflow.make_study(folder, study(people(REFUSED)))
    foreign = workflow.folder_of(REFUSED) / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    started = workflow.start("--until", "train", "--retries", "2")
    assert started.wait(timeout=TIMEOUT_S) == 1
    foreign.unlink()
    workflow.finish_run(workflow.start("--until", "train", "--retries", "2"))
    return workflow


@contextmanager
def heartbeat(lock: Path) -> Iterator[None]:
    """Refresh a lock every second for the length of the block."""
    stop = threading.Event()

    def refresh() -> None:
        while not stop.wait(1):
            os.utime(lock)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


SCENARIOS = {
    "smoke": smoke,
    "interrupted": interrupted,
    "orphaned": orphaned,
    "two_nodes": two_nodes,
    "refused": refused,
}
