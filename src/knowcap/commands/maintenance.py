"""Commands for maintainers of the package: schema, digests and golden traces."""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from knowcap.artifacts import code_digest
from knowcap.artifacts.code_digest import Stage
from knowcap.commands import option_types
from knowcap.commands.command import Command, print_line

EXIT_REFUSED = 2


def schema(options: argparse.Namespace) -> None:
    """Print the JSON Schema of study files, which is kept as config/schema.json."""
    from knowcap.config.study_schema import study_schema_json

    sys.stdout.write(study_schema_json())


def digests(options: argparse.Namespace) -> None:
    """Print the digest of the code of each stage."""
    for stage in get_args(code_digest.Stage):
        sys.stdout.write(f"{stage:10}{code_digest.code_digest(stage)}\n")
        for path in code_digest.covered_files(stage) if options.files else ():
            sys.stdout.write(f"  {path.relative_to(code_digest.PACKAGE)}\n")


def _add_digests_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", action="store_true", help="list the files of each digest")


def trace(options: argparse.Namespace) -> None:
    """Print the outputs of the golden runs in some stages, as JSON."""
    from knowcap.stages.golden_traces import golden_traces_json

    sys.stdout.write(golden_traces_json(options.stages) + "\n")


def _add_trace_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stages", nargs="+", choices=get_args(Stage), metavar="STAGE", help="stages to run"
    )


def accept(options: argparse.Namespace) -> int:
    """Record that results of older code are valid for this code, if golden traces are equal."""
    from knowcap.artifacts.equivalences import accept as accept_code

    comparisons = accept_code(options.stages, options.since, options.reason, options.rtol)
    for comparison in comparisons:
        print_line(comparison.describe(options.since, options.rtol))
    is_accepted = all(comparison.is_accepted(options.rtol) for comparison in comparisons)
    return 0 if is_accepted else EXIT_REFUSED


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
        type=option_types.not_negative,
        default=0.0,
        help="largest relative difference to accept (default: 0, bit-identical)",
    )


COMMANDS = (
    Command(schema),
    Command(digests, _add_digests_options),
    Command(trace, _add_trace_options),
    Command(accept, _add_accept_options),
)
