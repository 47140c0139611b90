"""Command line: the parser of every command, and exit codes.

:mod:`knowcap.commands` has the functions that run the commands. Exit codes: 0 success; 2 a user
error, or a file that cannot be read or written, in one line; 75 a training saved a checkpoint
because its time budget was spent or it got SIGTERM or SIGINT, and the same command resumes it; 143
SIGTERM and 130 SIGINT at any other time. Anything else is a bug, with its traceback.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, get_args

import knowcap
from knowcap import commands, model_commands
from knowcap.artifacts.code_digest import Stage
from knowcap.artifacts.storage import describe, is_storage_error
from knowcap.config import Precision
from knowcap.errors import UserError
from knowcap.option_types import count as _count
from knowcap.option_types import count_or_zero as _count_or_zero
from knowcap.option_types import not_negative as _not_negative
from knowcap.option_types import path as _path
from knowcap.option_types import positive as _positive
from knowcap.training.launch import is_nonzero_rank, reduce_garbage_collection

EXIT_USER_ERROR = 2

Command = Callable[[argparse.Namespace], int | None]

GROUPS: dict[str, tuple[Command, ...]] = {
    "for people, about a study": (
        commands.plan,
        commands.progress,
        commands.runs,
        commands.curve,
        commands.readme,
    ),
    "for people, about texts and models of any trainer": (
        *(model_commands.text, model_commands.measure, model_commands.export),
    ),
    "called by the rules of the workflow": (
        *(commands.corpus, commands.train, commands.evaluate),
        *(commands.table, commands.laws, commands.figures, commands.report, commands.publish),
    ),
    "for maintainers of this package": (
        *(commands.schema, commands.digests, commands.trace, commands.accept),
    ),
}
"""Commands as `knowcap --help` lists them; the first line of a docstring is the help text."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    options = _parser().parse_args(arguments)
    reduce_garbage_collection()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("knowcap").setLevel(logging.WARNING if is_nonzero_rank() else logging.INFO)
    # SIGTERM raises SystemExit, so that locks are released. A training saves its current step first
    # (knowcap.training.sigterm).
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = options.function(options)
    except UserError as error:
        commands.print_line("\n".join(f"knowcap: {line}" for line in str(error).splitlines()))
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if not is_storage_error(error):
            raise
        commands.print_line(f"knowcap: {describe(error)}")
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(code or 0)


class _Parser(argparse.ArgumentParser):
    """Parser that reports a wrong option in one line."""

    def error(self, message: str) -> NoReturn:
        """Print a line and exit."""
        line = " ".join(message.split())
        self.exit(EXIT_USER_ERROR, f"{self.prog}: {line} ({self.prog} --help lists the options)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="knowcap",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{knowcap.__doc__}\n\nsnakemake runs a whole study; it calls these commands.",
        epilog=f"{_list_of_commands()}\n\nknowcap COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=knowcap.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", help="see the list below")
    add_options = {
        commands.plan: _add_plan_options,
        commands.progress: _add_progress_options,
        commands.runs: _add_runs_options,
        commands.curve: _add_curve_options,
        commands.readme: _add_readme_options,
        model_commands.text: model_commands.add_text_options,
        model_commands.measure: model_commands.add_measure_options,
        model_commands.export: model_commands.add_export_options,
        commands.corpus: _add_corpus_options,
        commands.train: _add_train_options,
        commands.evaluate: _add_evaluate_options,
        commands.table: _add_table_options,
        commands.laws: _add_laws_options,
        commands.figures: _add_figures_options,
        commands.report: _add_report_options,
        commands.publish: _add_publish_options,
        commands.schema: lambda parser: None,
        commands.digests: _add_digests_options,
        commands.trace: _add_trace_options,
        commands.accept: _add_accept_options,
    }
    for function, add in add_options.items():
        subparser = subparsers.add_parser(function.__name__, description=function.__doc__)
        subparser.set_defaults(function=function)
        add(subparser)
    return parser


def _list_of_commands() -> str:
    """Return the commands with their help, by group."""
    blocks = []
    for title, functions in GROUPS.items():
        lines = [
            f"  {each.__name__:10}{(each.__doc__ or '').splitlines()[0]}" for each in functions
        ]
        blocks.append("\n".join([f"commands {title}:", *lines]))
    return "\n\n".join(blocks)


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", required=True, type=_path, help="study file")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--throughput",
        type=_path,
        help=f"file of measured step times (default: {commands.THROUGHPUT})",
    )
    speed.add_argument(
        "--tflops", type=_positive, help="assumed speed, in 10^12 operations a second"
    )


def _add_progress_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", required=True, type=_path, help="study file")
    parser.add_argument("--every-s", type=_positive, default=20, help="seconds between two lines")


def _add_runs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", type=_path, help="study file, folder of a finished study, or its capacity.nc"
    )
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="CONDITION",
        help="column, one of <= >= != = < >, and value, such as 'num_params<5000' family=LLaMA",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns to add (default: settings in which the runs differ); docs/results.md",
    )
    parser.add_argument("--csv", action="store_true", help="print all columns as CSV")


def _add_curve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=_path, metavar="RUN", help="folder of a run, or its scratch folder"
    )
    parser.add_argument("--output", type=_path, help="file to write: .svg, .pdf, .png or .csv")


def _add_readme_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", required=True, type=_path, help="folder of a finished study")
    parser.add_argument("--figure", required=True, help="file name of the figure to show (.svg)")
    parser.add_argument("--readme", default=Path("README.md"), type=_path, help="file to update")


def _add_corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--record", required=True, help="corpus record, as JSON or @FILE")
    parser.add_argument("--output", required=True, type=_path, help="folder to write")


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--record", required=True, help="run record, as JSON or @FILE")
    parser.add_argument("--corpus", required=True, type=_path, help="folder of the corpus")
    parser.add_argument("--output", required=True, type=_path, help="folder to write the run to")
    parser.add_argument(
        "--scratch", required=True, type=_path, help="folder for checkpoints and the lock"
    )
    parser.add_argument("--threads", type=_count, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--time-budget-s",
        type=_not_negative,
        help="seconds until the training saves a checkpoint and exits with code 75",
    )
    parser.add_argument(
        "--evaluation", help="evaluate after training by this record, JSON or @FILE"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=get_args(Precision),
        default=["trained"],
        metavar="PRECISION",
        help=f"precisions to evaluate in: {', '.join(get_args(Precision))} (default: trained)",
    )
    processes = parser.add_argument_group(
        "processes", "Number of processes (docs/parallel.md). Results are equal up to rounding."
    )
    processes.add_argument("--nodes", type=_count, default=1, help="nodes of the Slurm job")
    processes.add_argument(
        "--processes", type=_count, default=1, help="processes of a node, on CPUs"
    )
    processes.add_argument(
        "--gpus", type=_count_or_zero, default=0, help="GPUs of all nodes together"
    )
    _add_gpu_slots(processes)
    for name, shared in commands.PARALLEL_SIZES.items():
        processes.add_argument(
            f"--{name}-parallel",
            type=_count_or_zero,
            default=0,
            metavar="N",
            help=f"processes that share {shared} (default: 0, chosen by the size of the model)",
        )


def _add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, type=_path, help="folder of the run")
    parser.add_argument("--corpus", required=True, type=_path, help="folder of its corpus")
    parser.add_argument(
        "--precision", required=True, choices=get_args(Precision), help="precision of the weights"
    )
    parser.add_argument("--evaluation", required=True, help="evaluation record, as JSON or @FILE")
    parser.add_argument("--output", required=True, type=_path, help="losses.nc to write")
    parser.add_argument("--threads", type=_count, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--gpus",
        type=_count_or_zero,
        default=0,
        choices=(0, 1),
        help="1: wait for a free GPU slot, and use this GPU",
    )
    _add_gpu_slots(parser)


def _add_gpu_slots(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--gpu-slots", type=_count, default=1, help="jobs that may share a GPU (default: 1)"
    )


def _add_table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", required=True, type=_path, help="study file")
    parser.add_argument("--output", required=True, type=_path, help="capacity.nc to write")
    parser.add_argument("--index", required=True, type=_path, help="index.csv to write")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out measurements that do not exist yet, and print how many are missing",
    )


def _add_laws_options(parser: argparse.ArgumentParser) -> None:
    _add_capacity(parser)
    parser.add_argument("--output", required=True, type=_path, help="laws.nc to write")
    parser.add_argument("--markdown", required=True, type=_path, help="laws.md to write")


def _add_figures_options(parser: argparse.ArgumentParser) -> None:
    _add_capacity(parser)
    parser.add_argument("--laws", required=True, type=_path, help="laws.nc of the study")
    parser.add_argument("--output", required=True, type=_path, help="folder of figures to write")


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", required=True, type=_path, help="study file")
    _add_capacity(parser)
    parser.add_argument("--laws", required=True, type=_path, help="laws.nc of the study")
    parser.add_argument("--figures", required=True, type=_path, help="folder of its figures")
    parser.add_argument("--output", required=True, type=_path, help="report.html to write")


def _add_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--capacity", required=True, type=_path, help="capacity.nc of the study")


def _add_publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stamp", required=True, type=_path, help="last file to write; it marks the copies"
    )
    parser.add_argument("files", nargs="+", type=_path, help="files and folders to copy")


def _add_digests_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", action="store_true", help="list the files of each digest")


def _add_trace_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stages", nargs="+", choices=get_args(Stage), metavar="STAGE", help="stages to run"
    )


def _add_accept_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stages",
        nargs="*",
        metavar="STAGE",
        help="stages to compare (default: all that have golden traces)",
    )
    parser.add_argument("--since", required=True, help="git revision of the older code")
    parser.add_argument("--reason", required=True, help="why the code was changed, for the record")
    parser.add_argument(
        "--rtol",
        type=_not_negative,
        default=0.0,
        help="largest relative difference to accept (default: 0, bit-identical)",
    )
