"""A study without a workflow manager: as much of it as fits in a slice of time.

For a machine that is lent for minutes at a time, such as a GPU without a network. Its results
lie where the workflow would put them, so either goes on where the other stopped. Measurements are
made in the order of the study file, most telling first if it is written so.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import identity
from knowcap.artifacts.code_digest import code_digest
from knowcap.config import Precision, Run
from knowcap.config.study import Study

RESERVE_S = 20.0
"""Kept of a slice for asking what a model knows and for judging."""

_log = logging.getLogger(__name__)


class Slice(NamedTuple):
    """What there is of a study when a slice ends."""

    num_measured: int
    num_measurements: int
    laws: Path
    """The verdicts so far, as Markdown."""


def work(study: Study, folder: Path, budget_s: float, num_threads: int = 1) -> Slice:
    """Measure until the time is over, and judge what there is.

    Parameters
    ----------
    study
        What is measured.
    folder
        Gets ``capacity.nc``, ``index.csv``, ``laws.nc`` and ``laws.md`` of all that is measured.
    budget_s
        Length of the slice in seconds. At least one step is made, so slices always get on.
    num_threads
        Of the CPU.
    """
    from knowcap.capacity.laws import write_laws
    from knowcap.capacity.table import write_study_table

    deadline = time.monotonic() + budget_s - RESERVE_S
    questions = study.measurements()
    for run, precision in questions:
        if not _measure(study, run, precision, deadline, num_threads):
            break
    num_measured = sum(identity.losses_path(study, *question).exists() for question in questions)
    laws = folder / "laws.md"
    if num_measured:
        table = folder / "capacity.nc"
        write_study_table(study, table, folder / "index.csv", measured_only=True)
        write_laws(table, folder / "laws.nc", laws)
    return Slice(num_measured, len(questions), laws)


def _measure(
    study: Study, run: Run, precision: Precision, deadline: float, num_threads: int
) -> bool:
    """Make one measurement and what it needs; whether it is there."""
    from knowcap.data.corpus import FACTS_FILE, write_corpus
    from knowcap.evaluation.evaluate import ANSWERS, evaluate
    from knowcap.training.run_dir import DONE_FILE
    from knowcap.training.train import TimeBudgetSpentError, train

    losses, name = identity.losses_path(study, run, precision), identity.run_name(run)
    if losses.exists():
        return True
    results = Path(study.results)
    corpus, folder = results / "corpora" / identity.corpus_name(run.corpus), results / "runs" / name
    if not (corpus / FACTS_FILE).exists():
        write_corpus(run.corpus, corpus)
    if not (folder / DONE_FILE).exists():
        _log.info("training %s", name)
        try:
            train(
                run,
                corpus,
                folder,
                results / "scratch" / name,
                time_budget_s=max(0.0, deadline - time.monotonic()),
                num_threads=num_threads,
                code_digest=code_digest("train"),
            )
        except TimeBudgetSpentError as spent:
            _log.info("%s", spent)
            return False
    if time.monotonic() > deadline:
        return False
    _log.info("asking %s, %s", name, precision)
    if identity.measuring_stage(precision) == "quantize":
        from knowcap.evaluation.quantize import ANSWERS
    evaluate(
        folder,
        corpus,
        precision,
        study.evaluation,
        losses,
        answers=ANSWERS,
        num_threads=num_threads,
    )
    return True
