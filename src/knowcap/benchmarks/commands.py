"""How long commands take, from their start to their end, and a study's stages beside its training.

Commands are given as text and run as they are; those of a study are run anew on its results, into a
folder that is thrown away.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knowcap import identity, records
from knowcap.ahead import answers_path, ask
from knowcap.benchmarks.machine import describe
from knowcap.config import Evaluation, Precision, Run
from knowcap.errors import UserError
from knowcap.study import Study, load_study

_log = logging.getLogger(__name__)


def time_commands(commands: Sequence[str], rounds: int) -> dict[str, Any]:
    """Time commands, in interleaved rounds.

    Raises
    ------
    UserError
        If one of them fails.
    """
    times: dict[str, list[float]] = {command: [] for command in commands}
    machine = describe(1, "cpu", [])
    for _ in range(rounds):
        for command in commands:
            times[command].append(_timed(shlex.split(command)))
    return {
        "format": 1,
        "kind": "commands",
        "name": "commands",
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "commands": times,
    }


def _timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    elapsed = time.perf_counter() - begun
    if done.returncode:
        last = (done.stderr.strip() or "no complaint").splitlines()[-1]
        raise UserError(f"{shlex.join(command)}: exit code {done.returncode}: {last}")
    _log.info("%.1f s: %s", elapsed, shlex.join(command)[:100])
    return elapsed


def time_stages(study_file: Path) -> dict[str, Any]:
    """Time what follows a study's trainings, and read how long these took.

    Every measurement is made anew from the study's models, one after the other and as a training
    makes it, then its table, laws, figures and report.

    Raises
    ------
    UserError
        If the study is not done.
    """
    from knowcap.lm.publication import DONE_FILE, FILES

    study = load_study(study_file)
    results = Path(study.results)
    runs = [results / "runs" / identity.run_name(run) for run in study.runs()]
    train_s = [records.read_json(run / "timing.json")["train_s"] for run in runs]
    stages: dict[str, list[float]] = {"train": train_s}
    machine = describe(1, "cpu", [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run, precisions in _asked_of(study).items():
            kept = results / "runs" / identity.run_name(run)
            corpus = results / "corpora" / identity.corpus_name(run.corpus)
            run_folder = folder / "runs" / kept.name
            run_folder.mkdir(parents=True)
            for file in (*FILES, DONE_FILE):
                (run_folder / file).symlink_to((kept / file).resolve())
            asked = _asked_ahead(run, run_folder, corpus, study.evaluation, precisions)
            for precision in precisions:
                measurement = identity.measurement_name(run, precision, study.evaluation)
                answers = answers_path(run_folder, measurement)
                taken = _timed(["mv", str(answers), str(folder / "losses.nc")])
                stage = stages.setdefault(identity.measuring_stage(precision), [])
                stage.append(asked[precision] + taken)
        table, laws = folder / "capacity.nc", folder / "laws.nc"
        stages["table"] = [
            _knowcap("table", study=study_file, output=table, index=folder / "index.csv")
        ]
        stages["laws"] = [
            _knowcap("laws", capacity=table, output=laws, markdown=folder / "laws.md")
        ]
        figures = folder / "figures"
        stages["figures"] = [_knowcap("figures", capacity=table, laws=laws, output=figures)]
        stages["report"] = [
            _knowcap(
                "report",
                study=study_file,
                capacity=table,
                laws=laws,
                figures=figures,
                output=folder / "report.html",
            )
        ]
    return {
        "format": 1,
        "kind": "stages",
        "name": f"stages-{study.study}",
        "study": study.study,
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "num_models": sum(len(run.replicates.pairs) for run in study.runs()),
        "stages": stages,
    }


def _asked_of(study: Study) -> dict[Run, list[Precision]]:
    """Precisions in which each run is measured."""
    asked: dict[Run, list[Precision]] = {}
    for run, precision in study.measurements():
        asked.setdefault(run, []).append(precision)
    return asked


def _asked_ahead(
    run: Run, run_folder: Path, corpus: Path, evaluation: Evaluation, precisions: list[Precision]
) -> dict[Precision, float]:
    """Ask as a training does, in a process that has trained and not yet quantised."""
    import knowcap.lm.evaluate  # noqa: F401  what a training has in memory

    context = multiprocessing.get_context("fork")
    answers, answered = context.Pipe(duplex=False)

    def ask_ahead() -> None:
        answered.send(ask(run, run_folder, corpus, run_folder, evaluation, precisions, 1))

    child = context.Process(target=ask_ahead)
    child.start()
    seconds: dict[Precision, float] = answers.recv()
    child.join()
    return seconds


def _knowcap(command: str, **options: object) -> float:
    """Seconds that a command of ours takes."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return _timed([sys.executable, "-m", "knowcap", command, *given])


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Median of each command's times."""
    return {command: statistics.median(values) for command, values in times.items()}
