"""What happens to workflows on a cluster: each story runs to its end, and is then looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import STUDY
from tests.slurm.workflow import Job, Workflow, ask_slurm, wait
from tests.workflow.conftest import REPOSITORY

GRID = STUDY.index("    grid:\n")
"""Where a study begins to say what differs between its runs."""

STEP_BY_STEP, HUNGRY = 2000, 21
"""People of the run whose time limit lets it make one step at a time, and of the one whose first
attempt has too little memory."""

OUTLIVING, FINISHED, HELD = 31, 32, 33
"""People of the runs whose first job still trains when the next workflow begins, has ended by
then, and has not yet begun."""

SHARED = 41
"""People of the run that two nodes train together."""


def study(*blocks: str) -> str:
    """A study of these runs."""
    return STUDY[:GRID] + "    grid:\n" + "".join(f"      - {{{block}}}\n" for block in blocks)


def people(number: int, **fields: int) -> str:
    given = {"corpus.knowledge.num_people": number}
    given |= {f"optimization.{name}": value for name, value in fields.items()}
    return ", ".join(f"{name}: {value}" for name, value in given.items())


def smoke(folder: Path) -> Workflow:
    """The whole smoke study; short jobs of a rule share a Slurm job."""
    workflow = Workflow.begin(folder, (REPOSITORY / "config" / "smoke.yaml").read_text())
    groups = "corpus=corpora rewritten_corpus=corpora train=trainings evaluate=evaluations"
    sizes = "corpora=7 trainings=6 evaluations=12"
    workflow.end(
        workflow.start(
            *("--groups", *groups.split(), "--group-components", *sizes.split(), "--cores", "2"),
            train="mem_mb=1500 runtime=10 gpu=0",
        )
    )
    return workflow


def interrupted(folder: Path) -> Workflow:
    """Time limits, a cancelled job, a preempted one, and one that had too little memory."""
    steps = people(STEP_BY_STEP, exposures=4, global_batch_size=2000)
    workflow = Workflow.begin(folder, study(steps, people(HUNGRY)))
    started = workflow.start(
        *("--until", "train"),
        train=f"mem_mb=250*attempt**3 if '-N{HUNGRY}-' in wildcards.run else 1500 "
        f"runtime=1 if '-N{STEP_BY_STEP}-' in wildcards.run else 10",
    )
    workflow.cancelled = interrupt(workflow, STEP_BY_STEP, "scancel")
    workflow.requeued = interrupt(workflow, STEP_BY_STEP, "scontrol requeue")
    # Slurm waits two minutes before it begins a requeued job again.
    ask_slurm("scontrol", "update", f"JobId={workflow.requeued}", "StartTime=now")
    workflow.end(started)
    return workflow


def interrupt(workflow: Workflow, num_people: int, command: str) -> str:
    """Do something to the Slurm job that trains a run, once there is a checkpoint; its number."""
    lock = workflow.scratch_of(num_people) / "lock"
    while True:
        wait(lambda: running(workflow, num_people) and checkpoints(workflow, num_people))
        wait(lambda: lock.exists() or not running(workflow, num_people))
        for job in running(workflow, num_people):
            subprocess.run([*command.split(), job.id], capture_output=True, check=False)
            if left_for_that(job.id):
                return job.id
        # It left by itself before it could be told to: then it is the turn of the next.


def left_for_that(job: str) -> bool:
    """Whether a job that has just been told to leave does so for that reason."""
    while True:
        told = ask_slurm("scontrol", "show", "job", job)
        if "JobState=CANCELLED" in told or "Restarts=1" in told:
            return True
        if "JobState=COMPLETING" not in told and "JobState=RUNNING" not in told:
            return False
        time.sleep(0.05)


def says(log: Path, words: str) -> bool:
    """Whether a log has these words; Snakemake removes it before each attempt."""
    try:
        return words in log.read_text()
    except FileNotFoundError:
        return False


def running(workflow: Workflow, num_people: int) -> list[Job]:
    return [job for job in workflow.jobs(num_people) if job.state == "RUNNING"]


def checkpoints(workflow: Workflow, num_people: int) -> list[Path]:
    return list(workflow.scratch_of(num_people).glob("checkpoints/[0-9]*.pt"))


def shared(folder: Path) -> Workflow:
    """Two nodes train a run together, within time limits that let them make one step at a time."""
    runs = study(people(SHARED, exposures=4, global_batch_size=80))
    workflow = Workflow.begin(folder, runs)
    train = "mem_mb=1500 runtime=1 gpu=0 nodes=2 tasks=2 mpi=srun"
    workflow.end(workflow.start("--until", "train", train=train))
    return workflow


def orphaned(folder: Path) -> Workflow:
    """Snakemake is killed while of its jobs one trains, one will have ended and one is queued."""
    runs = study(people(OUTLIVING, exposures=400), people(FINISHED), people(HELD))
    workflow = Workflow.begin(folder, runs)
    held = f"'--hold' if '-N{HELD}-' in wildcards.run else ''"
    train = f"mem_mb=1500 runtime=10 slurm_extra={held}"
    first = workflow.start("--until", "train", train=train)
    wait(lambda: workflow.jobs(HELD) and running(workflow, OUTLIVING) and workflow.jobs(FINISHED))
    lock = workflow.scratch_of(OUTLIVING) / "lock"
    wait(lambda: says(lock, "}"))
    trainer = json.loads(lock.read_text())["pid"]
    os.kill(trainer, signal.SIGSTOP)  # so that it lasts until another job wants to train the run
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with warm(lock):  # which what is stopped cannot do itself
        wait((workflow.folder_of(FINISHED) / "DONE").exists)
        workflow.model = (workflow.folder_of(FINISHED) / "model.pt").stat()
        workflow.end(workflow.start("--unlock"))

        second = workflow.start("--until", "train")
        log = workflow.folder / "results" / "logs" / "train" / f"{workflow.run(OUTLIVING)}.log"
        wait(lambda: says(log, "held by"))
        wait((workflow.folder_of(HELD) / "DONE").exists)
        workflow.held = (workflow.folder_of(HELD) / "model.pt").stat()
        ask_slurm("scontrol", "release", workflow.jobs(HELD)[0].id)
        wait(lambda: workflow.jobs(HELD)[0].state not in ("PENDING", "RUNNING", "COMPLETING"))
    os.kill(trainer, signal.SIGCONT)
    workflow.end(second)
    return workflow


@contextmanager
def warm(lock: Path) -> Iterator[None]:
    """Refresh a lock."""
    enough = threading.Event()

    def refresh() -> None:
        while not enough.wait(1):
            os.utime(lock)

    heart = threading.Thread(target=refresh)
    heart.start()
    try:
        yield
    finally:
        enough.set()
        heart.join()


STORIES = {"smoke": smoke, "interrupted": interrupted, "orphaned": orphaned, "shared": shared}
