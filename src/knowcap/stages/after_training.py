"""Evaluation of a run in the process that has just trained it.

Starting a process takes longer than evaluating a small model. So `knowcap train` also evaluates
the run and writes the losses into its scratch folder, under the name of the measurement. The
`evaluate` rule moves the file into place, or evaluates the run if there is none.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from knowcap.artifacts import identity
from knowcap.config import Evaluation, Precision, Run
from knowcap.errors import UserError
from knowcap.stages.precisions import PRECISION_BACKENDS

_log = logging.getLogger(__name__)


def early_losses_path(scratch: Path, measurement: str) -> Path:
    """Path of a measurement's losses in the scratch folder of a run."""
    return scratch / "evaluations" / f"{measurement}.nc"


def evaluate_after_training(
    run: Run,
    run_folder: Path,
    corpus_folder: Path,
    scratch: Path,
    evaluation: Evaluation,
    precisions: Sequence[Precision],
    num_threads: int,
    deadline: float = math.inf,
) -> dict[Precision, float]:
    """Evaluate a run that was just trained.

    Errors are logged and not raised, and SIGTERM and SIGINT end the evaluation only, because the
    training has succeeded. The `evaluate` rule repeats the evaluation and reports the error.

    Parameters
    ----------
    run
        Record of the trained run.
    run_folder, corpus_folder, scratch
        Folders of the run, of its corpus and of its checkpoints.
    evaluation
        Evaluated people and prompt templates.
    precisions
        Precisions of the weights.
    num_threads
        CPU threads of torch.
    deadline
        Value of :func:`time.monotonic` after which no evaluation is started.

    Returns
    -------
    dict
        Seconds of each evaluation that was made.
    """
    seconds = {}
    for precision in precisions:
        measurement = identity.measurement_name(run, precision, evaluation)
        output = early_losses_path(scratch, measurement)
        started = time.monotonic()
        try:
            output.unlink(missing_ok=True)  # it may come from an earlier training of this run
            if started > deadline or (run_folder / measurement / "losses.nc").exists():
                continue
            _evaluate(run_folder, corpus_folder, precision, evaluation, output, num_threads)
            if (run_folder / measurement / "losses.nc").exists():  # by another job, meanwhile
                output.unlink(missing_ok=True)
        except UserError as error:
            _log.warning("evaluation in precision %s failed: %s", precision, error)
            continue
        except (KeyboardInterrupt, SystemExit):
            _log.warning("evaluation in precision %s stopped by a signal", precision)
            break
        except Exception:
            _log.exception("%s: evaluation in precision %s failed", run_folder, precision)
            continue
        seconds[precision] = time.monotonic() - started
    return seconds


def _evaluate(
    run_folder: Path,
    corpus_folder: Path,
    precision: Precision,
    evaluation: Evaluation,
    output: Path,
    num_threads: int,
) -> None:
    from knowcap.evaluation.evaluate import evaluate

    output.parent.mkdir(parents=True, exist_ok=True)
    evaluate(
        run_folder,
        corpus_folder,
        precision,
        evaluation,
        output,
        backend=PRECISION_BACKENDS[precision].load(),
        num_threads=num_threads,
    )
