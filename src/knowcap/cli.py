"""Command line: the parser of every command, and exit codes.

:mod:`knowcap.commands` has the commands. Exit codes: 0 success; 2 a user
error, or a file that cannot be read or written, in one line; 75 a training saved a checkpoint
because its time budget was spent or it got SIGTERM or SIGINT, and the same command resumes it; 143
SIGTERM and 130 SIGINT at any other time. Anything else is a bug, with its traceback.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import knowcap
from knowcap.artifacts.storage import describe, is_storage_error
from knowcap.commands import (
    accuracy,
    fitted_laws,
    maintenance,
    models,
    progress,
    results,
    study,
    training,
)
from knowcap.commands.attempts import refuse_repetition
from knowcap.commands.command import print_line
from knowcap.errors import UserError
from knowcap.training.launch import is_nonzero_rank, reduce_garbage_collection

EXIT_USER_ERROR = 2

GROUPS = {
    "for people, about a study": study.COMMANDS + progress.COMMANDS + accuracy.COMMANDS,
    "for people, about the fitted laws": fitted_laws.COMMANDS,
    "for people, about texts and models of any trainer": models.COMMANDS,
    "called by the rules of the workflow": training.COMMANDS + results.COMMANDS,
    "for maintainers of this package": maintenance.COMMANDS,
}
"""Commands as `knowcap --help` lists them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    reduce_garbage_collection()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("knowcap").setLevel(logging.WARNING if is_nonzero_rank() else logging.INFO)
    # SIGTERM raises SystemExit, so that locks are released. A training saves its current step first
    # (knowcap.training.sigterm).
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with refuse_repetition(options):
            code = options.function(options)
    except UserError as error:
        print_line("\n".join(f"knowcap: {line}" for line in str(error).splitlines()))
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if not is_storage_error(error):
            raise
        print_line(f"knowcap: {describe(error)}")
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
    for command in itertools.chain.from_iterable(GROUPS.values()):
        subparser = subparsers.add_parser(command.name, description=command.function.__doc__)
        subparser.set_defaults(function=command.function, parser=subparser)
        command.add_options(subparser)
    return parser


def _list_of_commands() -> str:
    """Return the commands with their help, by group."""
    blocks = []
    for title, commands in GROUPS.items():
        lines = [f"  {each.name:10}{each.help}" for each in commands]
        blocks.append("\n".join([f"commands {title}:", *lines]))
    return "\n\n".join(blocks)
