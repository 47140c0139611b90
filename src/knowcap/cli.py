"""The command line: one command for each rule of the workflow, files in and files out.

It parses; :mod:`knowcap.commands` does. Exit codes: 0 done, 2 a mistake of the user's in one line,
75 a time budget is spent, or a training was told to leave, and the same command goes on from
there; 143 anything else was told to leave. The rest are bugs with their traceback.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import knowcap
from knowcap import commands
from knowcap.artifacts.code_digest import Stage
from knowcap.config import Precision
from knowcap.errors import UserError
from knowcap.training.launch import is_nonzero_rank, reduce_garbage_collection

EXIT_USER_ERROR = 2

_Adder = Callable[[Callable[[argparse.Namespace], int | None]], argparse.ArgumentParser]
"""Adds a command to the parser, under its function's name and with the help of its docstring."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    reduce_garbage_collection()
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("knowcap").setLevel(logging.WARNING if is_nonzero_rank() else logging.INFO)
    # A job that is told to leave lets go of its lock on the way out; one that is making steps
    # saves them first (knowcap.training.sigterm).
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = options.command(options)
    except UserError as error:
        sys.exit(commands.say(f"knowcap: {error}", EXIT_USER_ERROR))
    sys.exit(code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knowcap", description=knowcap.__doc__)
    parser.add_argument("--version", action="version", version=knowcap.__version__)
    added = parser.add_subparsers(required=True, metavar="command")

    def command(function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        name, text = function.__name__, function.__doc__
        assert text is not None
        own = added.add_parser(name, help=text, description=text)
        own.set_defaults(command=function)
        return own

    _add_making_of_runs(command)
    _add_judging(command)
    _add_showing(command)
    _add_going_through_a_study(command)
    _add_benchmarks(command)
    _add_comparing_code(command)
    return parser


def _add_making_of_runs(command: _Adder) -> None:
    """What makes a corpus, a run and a measurement."""
    made = command(commands.corpus)
    made.add_argument("--record", required=True, help="the corpus, as JSON or @file")
    made.add_argument("--output", required=True, type=Path, help="its folder")

    trained = command(commands.train)
    trained.add_argument("--record", required=True, help="the run, as JSON or @file")
    trained.add_argument("--corpus", required=True, type=Path, help="folder of the corpus it reads")
    trained.add_argument("--output", required=True, type=Path, help="its folder")
    trained.add_argument("--scratch", required=True, type=Path, help="folder of its checkpoints")
    trained.add_argument("--threads", type=int, default=1, help="threads it may use")
    trained.add_argument("--time-budget-s", type=float, help="save and leave with 75 before then")
    trained.add_argument("--evaluation", help="ask ahead, as evaluate will, as JSON or @file")
    precisions = get_args(Precision)
    trained.add_argument("--precisions", nargs="+", choices=precisions, default=["trained"])
    shared = trained.add_argument_group("processes", "docs/parallel.md; they move no number")
    shared.add_argument("--nodes", type=int, default=1, help="machines, of a Slurm job")
    shared.add_argument("--processes", type=int, default=1, help="of a machine without GPUs")
    shared.add_argument("--gpus", type=int, default=0, help="of all machines, a process for each")
    shared.add_argument("--gpu-slots", type=int, default=1, help="jobs that may share a GPU")
    for name, what in commands.LAYOUT.items():
        shared.add_argument(
            f"--{name}-parallel",
            type=int,
            default=0,
            metavar="N",
            help=f"processes that share out {what}; 0 is for as many as its size wants",
        )

    asked = command(commands.evaluate)
    asked.add_argument("--run", required=True, type=Path, help="folder of the run")
    asked.add_argument("--corpus", required=True, type=Path, help="folder of its corpus")
    asked.add_argument("--precision", required=True, choices=get_args(Precision))
    asked.add_argument("--evaluation", required=True, help="how to ask, as JSON or @file")
    asked.add_argument("--output", required=True, type=Path, help="its losses.nc")
    asked.add_argument("--threads", type=int, default=1, help="threads it may use")
    asked.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="1 waits for a slot")
    asked.add_argument("--gpu-slots", type=int, default=1, help="jobs that may share a GPU")


def _add_judging(command: _Adder) -> None:
    """What makes a table of measurements, and laws, figures and a report of the table."""
    gathered = command(commands.table)
    gathered.add_argument("--study", required=True, type=Path, help="study file")
    gathered.add_argument("--output", required=True, type=Path, help="its capacity.nc")
    gathered.add_argument("--index", required=True, type=Path, help="its index.csv")

    judged = command(commands.laws)
    judged.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    judged.add_argument("--output", required=True, type=Path, help="its laws.nc")
    judged.add_argument("--markdown", required=True, type=Path, help="its laws.md")

    drawn = command(commands.figures)
    drawn.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    drawn.add_argument("--laws", required=True, type=Path, help="laws.nc of the study")
    drawn.add_argument("--output", required=True, type=Path, help="folder of the figures")

    told = command(commands.report)
    told.add_argument("--study", required=True, type=Path, help="study file")
    told.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    told.add_argument("--laws", required=True, type=Path, help="laws.nc of the study")
    told.add_argument("--figures", required=True, type=Path, help="folder of the figures")
    told.add_argument("--output", required=True, type=Path, help="its report.html")


def _add_showing(command: _Adder) -> None:
    """What puts results where they are looked for."""
    published = command(commands.publish)
    published.add_argument("--stamp", required=True, type=Path, help="marks what is published")
    published.add_argument("files", nargs="+", type=Path, help="files and folders to copy")

    shown = command(commands.readme)
    shown.add_argument("--results", required=True, type=Path, help="folder of the study's results")
    shown.add_argument("--figure", required=True, help="name of the figure to show, with .svg")
    shown.add_argument("--readme", default=Path("README.md"), type=Path)


def _add_going_through_a_study(command: _Adder) -> None:
    """What says or does how far a study is."""
    planned = command(commands.plan)
    planned.add_argument("--study", required=True, type=Path, help="study file")
    speed = planned.add_mutually_exclusive_group()
    steps = f"measured steps, if not {commands.THROUGHPUT}"
    speed.add_argument("--throughput", type=Path, help=steps)
    speed.add_argument("--tflops", type=_positive, help="assumed speed, 10^12 operations a second")

    sliced = command(commands.slice)
    sliced.add_argument("--study", required=True, type=Path, help="study file")
    sliced.add_argument("--output", required=True, type=Path, help="folder of its table and laws")
    sliced.add_argument("--minutes", type=_positive, default=10, help="length of the slice")
    sliced.add_argument("--threads", type=int, default=1, help="threads it may use")

    watched = command(commands.progress)
    watched.add_argument("--study", required=True, type=Path, help="study file")
    watched.add_argument("--every-s", type=float, default=20, help="seconds between two lines")


def _add_benchmarks(command: _Adder) -> None:
    """What measures speed, and shows it."""
    measured = command(commands.benchmark)
    measured.add_argument("name", help="a comparison, rendering, growth, commands or stages")
    measured.add_argument("--output", required=True, type=Path, help="its JSON")
    measured.add_argument("--threads", type=int, default=2, help="of comparisons that do not say")
    measured.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    measured.add_argument("--seconds", type=_positive, default=5, help="how long each time")
    measured.add_argument("--study", type=Path, help="whose stages; it must be done")
    measured.add_argument("--command", dest="command_lines", nargs="+", help="what is timed")

    tabled = command(commands.performance)
    tabled.add_argument("files", nargs="+", type=Path, help="results of benchmarks")
    tabled.add_argument("--output", type=Path, help="Markdown of all tables")
    tabled.add_argument("--figure", type=Path, help="SVG of how costs grow")
    tabled.add_argument("--page", type=Path, help="gets all tables between its markers")
    tabled.add_argument("--readme", type=Path, help="gets the comparison of trainings")


def _add_comparing_code(command: _Adder) -> None:
    """What says that two codes make the same."""
    digested = command(commands.digests)
    digested.add_argument("--files", action="store_true", help="list the files it covers")

    traced = command(commands.trace)
    traced.add_argument("stages", nargs="+", choices=get_args(Stage), metavar="stage")

    accepted = command(commands.accept)
    stages = "stages to compare; corpus, train, evaluate and quantize if none is given"
    accepted.add_argument("stages", nargs="*", metavar="stage", help=stages)
    accepted.add_argument("--since", required=True, help="git revision of the older code")
    accepted.add_argument("--reason", required=True, help="why the code was changed")
    rtol = "largest accepted relative difference; 0 accepts bit-identical outputs only"
    accepted.add_argument("--rtol", type=float, default=0.0, help=rtol)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
