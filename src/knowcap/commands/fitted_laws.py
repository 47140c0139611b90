"""Commands about the fitted laws: forecasts from them, and fits to measurements made elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from knowcap.artifacts import files
from knowcap.commands import option_types
from knowcap.commands.command import Command
from knowcap.commands.shared_options import FINISHED_STUDY, add_study
from knowcap.commands.study import table_of
from knowcap.config import Precision
from knowcap.config.architecture_presets import ARCHITECTURE_PRESETS
from knowcap.errors import UserError
from knowcap.planning.gpus import PEAK_TFLOPS, UTILIZATION

REFERENCE_TABLES = (
    Path("results/reference/desktop/capacity.nc"),
    Path("results/reference/two-cores/capacity.nc"),
)
"""Kept tables; the first that exists is the default."""


def ask(options: argparse.Namespace) -> None:
    """Print the parameters, exposures, bits and cost that follow from the fitted laws."""
    from knowcap.stages.forecast import forecast_report
    from knowcap.stages.forecast_options import ForecastOptions

    given = {name: getattr(options, name) for name in ForecastOptions._fields}
    path = _table(options.study)
    report = forecast_report(ForecastOptions(**given), path, options.scale)
    text = report.as_json() if options.json else report.as_text(explain=options.explain)
    sys.stdout.write(f"{text}\n")


def fit(options: argparse.Namespace) -> None:
    """Test the laws on measurements that were made elsewhere, such as a typed table."""
    from knowcap.capacity.own_measurements.laws import own_laws, write_own_laws

    if options.output is not None:
        files.check_new_folder(options.output)
    found = own_laws(options.table)
    if options.output is not None:
        write_own_laws(found, options.output)
    sys.stdout.write(found.text)


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        required=True,
        nargs="+",
        type=option_types.path,
        metavar="FILE",
        help="CSV files, or tables of `knowcap measure` (docs/own-measurements.md)",
    )
    parser.add_argument(
        "--output", type=option_types.path, help="folder to write laws.nc, laws.md and table to"
    )


def _table(given: Path | None) -> Path:
    """Return the table of a study or of own measurements; by default the kept one."""
    if given is not None:
        return given if given.suffix == ".csv" else table_of(given)
    for path in REFERENCE_TABLES:
        if path.exists():
            return path
    folders = ", ".join(str(path.parent) for path in REFERENCE_TABLES)
    raise UserError(f"STUDY: missing; {folders} are not in this folder, so a study is needed")


def _add_ask_options(parser: argparse.ArgumentParser) -> None:
    add_study(
        parser,
        f"{FINISHED_STUDY}, or a CSV file as `knowcap fit` reads (default: the kept results)",
        is_optional=True,
    )
    knowledge = parser.add_argument_group("knowledge", "One of these, or none.")
    knowledge.add_argument(
        "--bits", type=option_types.positive, help="bits of knowledge, such as 14e9"
    )
    knowledge.add_argument(
        "--people", type=option_types.large_count, metavar="N", help="N people of bioS"
    )
    knowledge.add_argument(
        "--text",
        type=option_types.path,
        metavar="FILE",
        help="a text; its compressed size is an upper bound of its bits",
    )
    knowledge.add_argument(
        "--tokens",
        type=option_types.positive,
        help="tokens of one exposure of all knowledge (default: the text's, or as in bioS)",
    )
    model = parser.add_argument_group("model", "Its size, or neither option.")
    model.add_argument("--params", type=option_types.positive, help="number of parameters")
    model.add_argument("--size", metavar="LAYERS-HEADS", help="layers and heads of 64, as 12-12")
    model.add_argument(
        "--vocab-size",
        type=option_types.large_count,
        help="tokens that count in --size (default: GPT-2's vocabulary, or those that bioS or the "
        "text uses)",
    )
    model.add_argument(
        "--family",
        choices=ARCHITECTURE_PRESETS,
        default="GPT2",
        help="architecture family (default: GPT2)",
    )
    model.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="trained",
        metavar="PRECISION",
        help="number format of the weights, such as int8 or int4 (default: trained)",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--exposures",
        type=option_types.positive,
        help="how often every fact is seen (default: each number of the table and the paper)",
    )
    training.add_argument("--gpu", choices=PEAK_TFLOPS, help="GPU whose hours are printed")
    training.add_argument(
        "--hours",
        type=option_types.positive,
        help="GPU-hours that are available: alone, they determine the largest model",
    )
    training.add_argument(
        "--utilization",
        type=option_types.positive,
        help=f"share of the GPU's peak speed that is reached (default: {UTILIZATION})",
    )
    parser.add_argument("--scale", help="scale of the table, if it has several")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print all numbers of the forecasts, the assumptions and the verdicts, too",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


COMMANDS = (Command(ask, _add_ask_options), Command(fit, _add_fit_options))
