"""Commands about a study: what it costs, its runs, and its part of the README."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from knowcap.artifacts import files
from knowcap.commands import option_types
from knowcap.commands.command import Command, print_line
from knowcap.commands.shared_options import FINISHED_STUDY, add_study
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError

THROUGHPUT = Path("results/reference/throughput.yaml")
"""File of measured step times."""


EXIT_UNFINISHED = 2
"""A profile does not finish some runs."""


def plan(options: argparse.Namespace) -> int:
    """Print what a study costs: models, tokens, time and disk, by law."""
    from knowcap.planning import finished_runs, training_time
    from knowcap.planning import plan as plans

    study = load_study(options.study)
    if options.profile is not None:
        return _check_profile(study, options)
    estimate = None
    if options.tflops is not None:
        estimate = training_time.from_tflops(options.tflops)
    elif options.throughput is not None:
        estimate = training_time.from_throughput(options.throughput)
    elif (estimate := finished_runs.from_finished_runs(study)) is None and THROUGHPUT.exists():
        estimate = training_time.from_throughput(THROUGHPUT)
    sys.stdout.write(plans.format_plan(plans.plan(study, estimate)) + "\n")
    return 0


def _check_profile(study: Study, options: argparse.Namespace) -> int:
    """Print the runs that a profile does not finish within its attempts and time limits."""
    from knowcap.planning import training_time
    from knowcap.planning.gpus_by_size import gpu_settings
    from knowcap.planning.profile_file import load_profile
    from knowcap.planning.unfinished_runs import unfinished_runs

    profile = load_profile(options.profile)
    settings = gpu_settings(profile.resources)
    if options.throughput is not None:
        estimate = training_time.from_throughput(options.throughput)
    elif options.tflops is not None:
        estimate = training_time.from_tflops(options.tflops)
    elif settings is not None:
        estimate = training_time.from_tflops(settings.tflops_per_gpu, str(profile.path))
    else:
        raise UserError("--profile: needs the speed of a GPU, --tflops or --throughput")
    unfinished = unfinished_runs(study, profile, estimate)
    for run in unfinished:
        print_line(str(run))
    num_runs = len(study.runs())
    if unfinished:
        print_line(
            f"{len(unfinished)} of {num_runs} runs do not finish: give train more GPUs, or a "
            f"longer runtime, or set more retries, in {profile.path}"
        )
        return EXIT_UNFINISHED
    sys.stdout.write(f"All {num_runs} runs finish. {estimate.source}\n")
    return 0


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--profile",
        type=option_types.path,
        help="folder of a Snakemake profile: list the runs that it does not finish, and exit with "
        "code 2 if there are some",
    )
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--throughput",
        type=option_types.path,
        help=f"file of measured step times (default: {THROUGHPUT})",
    )
    speed.add_argument(
        "--tflops", type=option_types.positive, help="assumed speed, in 10^12 operations a second"
    )


def runs(options: argparse.Namespace) -> None:
    """Print the runs of a finished study that meet conditions, largest R first."""
    from knowcap.capacity.run_list import runs_table, select_replicates
    from knowcap.capacity.table import replicates
    from knowcap.capacity.table_columns import TABLE_VARIABLES

    rows = replicates(files.read_dataset(table_of(options.study), TABLE_VARIABLES))
    selected = select_replicates(rows, options.where)
    if options.csv:
        sys.stdout.write(selected.to_csv(index=False))
    elif selected.empty:
        sys.stdout.write(f"None of {len(rows)} replicates meets these conditions.\n")
    else:
        sys.stdout.write(runs_table(selected, options.columns) + "\n")


def _add_runs_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser, FINISHED_STUDY)
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="CONDITION",
        help="column, one of <= >= != = < >, and value, such as 'num_params<5000' family=LLaMA",
    )
    parser.add_argument(
        "--columns",
        type=option_types.names,
        default=[],
        metavar="COLUMN,...",
        help="columns to print, of those in docs/results.md (default: the run, the settings in "
        "which the printed rows differ, and R)",
    )
    parser.add_argument("--csv", action="store_true", help="print all columns as CSV")


def curve(options: argparse.Namespace) -> None:
    """Print the loss curves of runs, or write them as a figure, CSV or TensorBoard events."""
    import pandas as pd

    from knowcap.capacity.loss_curve import curve_table, read_curve, write_curve

    curves = pd.concat([read_curve(run) for run in options.runs], ignore_index=True)
    if options.tensorboard is not None:
        from knowcap.capacity.tensorboard_events import write_events

        write_events(curves, options.tensorboard)
    elif options.output is None:
        sys.stdout.write(curve_table(curves) + "\n")
    else:
        write_curve(curves, options.output)


def _add_curve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=option_types.path,
        metavar="RUN",
        help="folder of a run, or its scratch folder",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--output", type=option_types.path, help="file to write: .svg, .pdf, .png or .csv"
    )
    target.add_argument(
        "--tensorboard", type=option_types.path, metavar="DIR", help="folder for event files"
    )


def readme(options: argparse.Namespace) -> None:
    """Write the verdicts and a figure of a study into the README."""
    from knowcap.capacity.report import update_readme

    folder = table_of(options.study).parent
    update_readme(folder / "laws.nc", options.readme)
    figure = folder / "figures" / options.figure
    if not figure.exists():
        raise UserError(f"{figure}: missing")
    target = options.readme.parent / "docs" / "figures" / f"knowledge{figure.suffix}"
    files.write_text(target, figure.read_text(encoding="utf-8"))


def _add_readme_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser, FINISHED_STUDY)
    parser.add_argument("--figure", required=True, help="file name of the figure to show (.svg)")
    parser.add_argument(
        "--readme", default=Path("README.md"), type=option_types.path, help="file to update"
    )


def crate(options: argparse.Namespace) -> None:
    """Write a finished study as a Workflow Run RO-Crate, a zip file for an archive."""
    from knowcap.stages.crate import write_crate
    from knowcap.stages.crate_metadata import Agent

    author = Agent(options.author, options.author_url)
    publisher = Agent(options.publisher, options.publisher_url) if options.publisher else None
    number = write_crate(
        load_study(options.study),
        options.study,
        options.workflow,
        options.output,
        author,
        publisher,
    )
    sys.stdout.write(f"{options.output}: {number} files\n")


def _add_crate_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--output", required=True, type=option_types.path, help="zip file to write")
    parser.add_argument(
        "--workflow",
        type=option_types.path,
        default=Path(),
        help="folder with the Snakefile (default: this folder)",
    )
    parser.add_argument("--author", required=True, metavar="NAME", help="person who ran the study")
    parser.add_argument("--author-url", metavar="URL", help="page of the author, such as an ORCID")
    parser.add_argument("--publisher", metavar="NAME", help="organization of the author")
    parser.add_argument("--publisher-url", metavar="URL", help="its page, such as a ROR")


def table_of(path: Path) -> Path:
    """Return the table of a study, given its study file, its results folder or the table."""
    if path.suffix in (".yaml", ".yml"):
        study = load_study(path)
        path = Path(study.results) / study.study
    return path / "capacity.nc" if path.suffix != ".nc" else path


COMMANDS = (
    Command(plan, _add_plan_options),
    Command(runs, _add_runs_options),
    Command(curve, _add_curve_options),
    Command(crate, _add_crate_options),
    Command(readme, _add_readme_options),
)
