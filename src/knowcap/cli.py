"""The command line: one command for each rule of the workflow, files in and files out.

It parses and calls. Exit codes: 0 done, 2 a mistake of the user's in one line, 75 a time budget
is spent and the same command goes on from there; anything else is a bug with its traceback.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from knowcap import __version__, identity
from knowcap.config import Corpus, Evaluation, Record, Run
from knowcap.errors import UserError
from knowcap.study import load_study

EXIT_USER_ERROR = 2
EXIT_TIME_BUDGET_SPENT = 75

R = TypeVar("R", bound=Record)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    try:
        code = options.command(options)
    except UserError as error:
        sys.exit(_say(f"knowcap: {error}", EXIT_USER_ERROR))
    sys.exit(code or 0)


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code


def corpus(options: argparse.Namespace) -> None:
    """Make a corpus: its tokenizer and the facts measured of it."""
    from knowcap.bios.corpus import write_corpus

    write_corpus(_record(Corpus, options.record), options.output.parent)


def train(options: argparse.Namespace) -> int:
    """Train the replicates of a run; the same command resumes what was interrupted."""
    from knowcap.lm.launch import ensure_environment

    ensure_environment(options.threads)
    from knowcap.lm.train import TimeBudgetSpentError
    from knowcap.lm.train import train as train_run

    try:
        train_run(
            _record(Run, options.record),
            corpus_folder=options.corpus.parent,
            output_folder=options.output.parent,
            scratch_folder=options.scratch,
            time_budget_s=options.time_budget_s,
            num_threads=options.threads,
            code_digest=identity.code_digest("train"),
        )
    except TimeBudgetSpentError as spent:
        return _say(f"knowcap: {spent}", EXIT_TIME_BUDGET_SPENT)
    return 0


def evaluate(options: argparse.Namespace) -> None:
    """Ask a trained run what it knows."""
    from knowcap.lm.launch import ensure_environment

    ensure_environment(options.threads)
    from knowcap.lm.evaluate import evaluate as evaluate_run

    evaluate_run(
        run_folder=options.run.parent,
        corpus_folder=options.corpus.parent,
        precision=options.precision,
        evaluation=_record(Evaluation, options.evaluation),
        output=options.output,
        num_threads=options.threads,
    )


def _record(kind: type[R], text: str) -> R:
    """Read a record from JSON, or from a file if the text begins with @."""
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.exists():
            raise UserError(f"--record: {path}: no such file")
        text = path.read_text(encoding="utf-8")
    try:
        return kind.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise UserError(f"--record: not JSON ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"--record: {field}: {first['msg']}, given {first['input']!r}") from None
