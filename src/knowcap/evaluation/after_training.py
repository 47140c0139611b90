"""Answers ahead of the question: asked for right after training, while all it takes is in memory.

A process takes longer to start than a small model to answer. So a training asks what the study
will ask, and leaves the answers beside its checkpoints under the name of the measurement. The rule
that evaluates takes them from there, and where there are none asks as ever.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from knowcap.artifacts import identity
from knowcap.config import Evaluation, Precision, Run

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
    precisions: Sequence[Precision],
    num_threads: int,
    deadline: float = math.inf,
) -> dict[Precision, float]:
    """Ask a run that was just trained. What goes wrong is for who asks later to say.

    Parameters
    ----------
    run
        What was trained.
    run_folder, corpus_folder, scratch
        Its folder, that of the corpus it read, and that of its checkpoints.
    evaluation
        Who is asked, and in which words.
    precisions
        How the weights are stored when the model answers.
    num_threads
        Of the CPU.
    deadline
        Of :func:`time.monotonic`; no question is begun after it.

    Returns
    -------
    dict
        Seconds that each question took which was asked.
    """
    seconds = {}
    for precision in precisions:
        measurement = identity.measurement_name(run, precision, evaluation)
        output = answers_path(scratch, measurement)
        output.unlink(missing_ok=True)  # of weights that may have been lost and trained again
        begun = time.monotonic()
        if begun > deadline or (run_folder / measurement / "losses.nc").exists():
            continue
        try:
            _ask(run_folder, corpus_folder, precision, evaluation, output, num_threads)
        except Exception:  # a training is dear and done; no question may undo it
            _log.exception("%s: not asked yet in %s", run_folder, precision)
            continue
        seconds[precision] = time.monotonic() - begun
    return seconds


def _ask(
    run_folder: Path,
    corpus_folder: Path,
    precision: Precision,
    evaluation: Evaluation,
    output: Path,
    num_threads: int,
) -> None:
    from knowcap.evaluation.evaluate import ANSWERS, evaluate

    if precision not in ANSWERS:
        from knowcap.evaluation.quantize import ANSWERS
    output.parent.mkdir(exist_ok=True)
    evaluate(
        run_folder,
        corpus_folder,
        precision,
        evaluation,
        output,
        answers=ANSWERS,
        num_threads=num_threads,
    )
