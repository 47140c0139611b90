"""How long commands take, from their start to their end, and a study's stages beside its training.

Commands are given as text and run as they are; those of a study are run anew on its results, into a
folder that is thrown away.
"""

from __future__ import annotations

import json
import logging
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
from knowcap.ahead import PRECISION
from knowcap.benchmarks.machine import describe
from knowcap.errors import UserError
from knowcap.study import load_study

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

    Every measurement is made anew from the study's models, one after the other, then its table,
    laws, figures and report.

    Raises
    ------
    UserError
        If the study is not done.
    """
    from knowcap.lm.evaluate import evaluate

    study = load_study(study_file)
    results = Path(study.results)
    runs = [results / "runs" / identity.run_name(run) for run in study.runs()]
    train_s = [records.read_json(run / "timing.json")["train_s"] for run in runs]
    stages: dict[str, list[float]] = {"train": train_s}
    machine = describe(1, "cpu", [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evaluation = json.dumps(study.evaluation.model_dump(mode="json"))
        for run, precision in study.measurements():
            run_folder = results / "runs" / identity.run_name(run)
            corpus = results / "corpora" / identity.corpus_name(run.corpus)
            answers = folder / "answers.nc"
            seconds = 0.0
            if precision == PRECISION:  # its training has asked it, in a process that is there
                begun = time.perf_counter()
                evaluate(run_folder, corpus, precision, study.evaluation, answers)
                seconds = time.perf_counter() - begun
            seconds += _knowcap(
                "evaluate",
                run=run_folder,
                corpus=corpus,
                precision=precision,
                evaluation=evaluation,
                answers=answers,
                output=folder / "losses.nc",
            )
            stages.setdefault(identity.measuring_stage(precision), []).append(seconds)
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


def _knowcap(command: str, **options: object) -> float:
    """Seconds that a command of ours takes."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return _timed([sys.executable, "-m", "knowcap", command, *given])


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Median of each command's times."""
    return {command: statistics.median(values) for command, values in times.items()}
