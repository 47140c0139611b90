"""Commands of the workflow that make table, laws, figures and report of a study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from knowcap.artifacts import files, identity
from knowcap.commands import option_types
from knowcap.commands.command import Command
from knowcap.commands.shared_options import add_study
from knowcap.config.study import load_study


def table(options: argparse.Namespace) -> None:
    """Write all measurements of a study to one table."""
    from knowcap.capacity.table import write_study_table

    study = load_study(options.study)
    remarks = write_study_table(study, options.output, options.index, partial=options.partial)
    if remarks:
        sys.stdout.write(f"{remarks}\n")


def _add_table_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="capacity.nc to write"
    )
    parser.add_argument("--index", required=True, type=option_types.path, help="index.csv to write")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="leave out measurements that do not exist yet, and print how many are missing",
    )


def laws(options: argparse.Namespace) -> None:
    """Test the laws of the paper on a table."""
    from knowcap.capacity.laws import write_laws

    write_laws(options.capacity, options.output, options.markdown)


def _add_laws_options(parser: argparse.ArgumentParser) -> None:
    _add_capacity(parser)
    parser.add_argument("--output", required=True, type=option_types.path, help="laws.nc to write")
    parser.add_argument(
        "--markdown", required=True, type=option_types.path, help="laws.md to write"
    )


def figures(options: argparse.Namespace) -> None:
    """Draw the figures of a table and its laws."""
    from knowcap.capacity.figures import write_figures

    write_figures(options.capacity, options.laws, options.output)


def _add_figures_options(parser: argparse.ArgumentParser) -> None:
    _add_capacity(parser)
    parser.add_argument(
        "--laws", required=True, type=option_types.path, help="laws.nc of the study"
    )
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="folder of figures to write"
    )


def report(options: argparse.Namespace) -> None:
    """Write the report of a study, one HTML page."""
    from knowcap.capacity.report import write_report
    from knowcap.capacity.rules_commit import rules_sentences
    from knowcap.data.corpus import load_corpus

    study = load_study(options.study)
    results = Path(study.results)
    corpora = results / "corpora"
    folders = dict.fromkeys(corpora / identity.corpus_name(run.corpus) for run in study.runs())
    # The report of an unfinished study lacks some of these folders, and of the runs.
    samples = {
        each.name: load_corpus(each).example_biography() for each in folders if each.exists()
    }
    commits = files.read_dataset(options.capacity)["commit"].values.tolist()
    rules = rules_sentences(options.study, commits)
    write_report(
        options.capacity,
        options.laws,
        options.figures,
        samples,
        options.output,
        rules,
        results / "runs",
    )


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    _add_capacity(parser)
    parser.add_argument(
        "--laws", required=True, type=option_types.path, help="laws.nc of the study"
    )
    parser.add_argument(
        "--figures", required=True, type=option_types.path, help="folder of its figures"
    )
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="report.html to write"
    )


def publish(options: argparse.Namespace) -> None:
    """Copy the results of a study to its folder, and print R of every model."""
    files.publish(options.files, options.stamp)
    print_models(options.stamp.parent)


def _add_publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stamp",
        required=True,
        type=option_types.path,
        help="last file to write; it marks the copies",
    )
    parser.add_argument(
        "files", nargs="+", type=option_types.path, help="files and folders to copy"
    )


def print_models(folder: Path) -> None:
    """Print R of every model of a finished study, and the path of its report."""
    from knowcap.capacity.model_list import models_text

    if (folder / "capacity.nc").exists():
        sys.stdout.write(f"{models_text(files.read_dataset(folder / 'capacity.nc'))}\n\n")
        sys.stdout.write(f"report: {folder / 'report.html'}\n")


def _add_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capacity", required=True, type=option_types.path, help="capacity.nc of the study"
    )


COMMANDS = (
    Command(table, _add_table_options),
    Command(laws, _add_laws_options),
    Command(figures, _add_figures_options),
    Command(report, _add_report_options),
    Command(publish, _add_publish_options),
)
