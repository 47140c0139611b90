"""Answers ahead of the question: asked for right after training, while all it takes is in memory.

A process takes longer to start than a small model to answer. So a training asks what the study
will ask of the weights as they are, and leaves the answers beside its checkpoints under the name
of the measurement. Who asks later takes them from there, and where there are none asks as ever.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from knowcap import identity
from knowcap.config import Evaluation, Precision, Run
from knowcap.records import replacing

PRECISION: Precision = "trained"
"""The others take a library of their own, which a training has not in memory."""

_log = logging.getLogger(__name__)


def answers_path(scratch: Path, measurement: str) -> Path:
    """Where a run's scratch folder has the answers to a measurement."""
    return scratch / "answers" / f"{measurement}.nc"


def ask(
    run: Run,
    run_folder: Path,
    corpus_folder: Path,
    scratch: Path,
    evaluation: Evaluation,
    num_threads: int,
) -> None:
    """Ask a run that was just trained. What goes wrong is for who asks later to say.

    Parameters
    ----------
    run
        What was trained.
    run_folder, corpus_folder, scratch
        Its folder, that of the corpus it read, and that of its checkpoints.
    evaluation
        Who is asked, and in which words.
    num_threads
        Of the CPU.
    """
    from knowcap.lm.evaluate import evaluate

    measurement = identity.measurement_name(run, PRECISION, evaluation)
    answers = answers_path(scratch, measurement)
    if answers.exists() or (run_folder / measurement).exists():
        return
    answers.parent.mkdir(exist_ok=True)
    try:
        evaluate(run_folder, corpus_folder, PRECISION, evaluation, answers, num_threads=num_threads)
    except Exception:  # a training is dear and done; no question may undo it
        _log.exception("%s: not asked yet", run_folder)


def take(answers: Path, output: Path) -> bool:
    """Move answers to where they are read; whether there were any."""
    if not answers.exists():
        return False
    with replacing(output) as temporary:
        shutil.copyfile(answers, temporary)
    answers.unlink()
    return True
