"""Command line of the benchmarks: the commands `run`, `versions`, `tables` and `gpu`.

The exit code is 0 on success and 2 for a user error, which is printed in one line.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from knowcap.artifacts import files
from knowcap.errors import UserError
from knowcap_benchmarks import run_benchmark
from knowcap_benchmarks.docs_tables import write_tables

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("knowcap").setLevel(logging.INFO)
    try:
        options.command(options)
    except UserError as error:
        sys.stderr.write(f"knowcap_benchmarks: {error}\n")
        sys.exit(EXIT_USER_ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m knowcap_benchmarks",
        description="Measure the speed of knowcap beside its peers (docs/performance.md).",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="run one benchmark and write its results as JSON")
    run.set_defaults(command=_run)
    run.add_argument(
        "name", help="a training comparison, rendering, growth, threads, commands or stages"
    )
    run.add_argument(
        "study",
        nargs="?",
        type=Path,
        metavar="STUDY",
        help="study file of a finished study, for `stages`",
    )
    run.add_argument("--output", required=True, type=Path, help="JSON file to write")
    run.add_argument("--threads", type=int, default=2, help="CPU threads of a training comparison")
    run.add_argument("--rounds", type=int, default=3, help="number of measurements of each kind")
    run.add_argument("--seconds", type=_positive, default=5, help="length of one measurement")
    run.add_argument(
        "--command",
        dest="command_lines",
        nargs="+",
        metavar="LINE",
        help="command lines, for `commands`",
    )

    tables = commands.add_parser("tables", help="write tables and a figure from results")
    tables.set_defaults(command=_tables)
    tables.add_argument("files", nargs="+", type=Path, help="JSON files written by `run`")
    tables.add_argument(
        "--output", type=Path, help="Markdown file for all tables; CSV files go beside it"
    )
    tables.add_argument("--figure", type=Path, help="SVG file for the growth of costs")
    tables.add_argument(
        "--page", type=Path, help="page to update: all tables, between its `benchmarks` markers"
    )
    tables.add_argument(
        "--readme",
        type=Path,
        help="page to update: the training speeds, between its `speed` markers",
    )

    versions = commands.add_parser(
        "versions", help="compare the training speed with that of an older revision"
    )
    versions.set_defaults(command=_versions)
    versions.add_argument("revision", help="git revision of this repository")
    versions.add_argument("--output", required=True, type=Path, help="JSON file to write")
    versions.add_argument(
        "--implementation",
        choices=("knowcap", "knowcap-bf16"),
        default="knowcap-bf16",
        help="number format: float32 or bfloat16 (default: knowcap-bf16)",
    )
    versions.add_argument("--threads", type=int, default=1, help="CPU threads")
    versions.add_argument("--rounds", type=int, default=3, help="number of measurements of each")
    versions.add_argument("--seconds", type=_positive, default=5, help="length of one measurement")

    gpu = commands.add_parser("gpu", help="test and measure a machine with a GPU in some minutes")
    gpu.set_defaults(command=_gpu)
    gpu.add_argument("--minutes", type=_positive, default=10, help="time of all steps together")
    gpu.add_argument(
        "--output", type=Path, default=Path("results/reference/gpu"), help="folder to write"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.name == "stages":
        from knowcap.training.launch import ensure_environment

        ensure_environment(1)  # restarts the process with the allocator settings of a training
    result = run_benchmark(
        options.name,
        options.study,
        options.command_lines,
        options.threads,
        options.rounds,
        options.seconds,
    )
    files.write_json(options.output, result)


def _tables(options: argparse.Namespace) -> None:
    write_tables(options.files, options.output, options.figure, options.page, options.readme)


def _versions(options: argparse.Namespace) -> None:
    from knowcap_benchmarks.versions import compare_versions, versions_table

    result = compare_versions(
        options.revision,
        options.implementation,
        options.threads,
        options.rounds,
        options.seconds,
    )
    files.write_json(options.output, result)
    sys.stdout.write(versions_table(result) + "\n")


def _gpu(options: argparse.Namespace) -> None:
    from knowcap_benchmarks.gpu_session import print_outcomes, run_session

    print_outcomes(run_session(options.minutes, options.output), options.output)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


if __name__ == "__main__":
    main()
