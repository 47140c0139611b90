"""The command that follows a study: bars in a terminal, and plain lines elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from knowcap.artifacts import identity
from knowcap.commands import option_types
from knowcap.commands.command import Command, print_line
from knowcap.commands.results import print_models
from knowcap.commands.shared_options import add_study
from knowcap.config import Precision, Run
from knowcap.config.study import Study, load_study
from knowcap.errors import UserError
from knowcap.planning.study_progress import Progress, follow
from knowcap.planning.study_progress import progress as progress_of
from knowcap.training.metrics_logger import progress_text

NUM_EARLIER = 10
"""Models that were finished before the command started and whose R is printed."""


def progress(options: argparse.Namespace) -> None:
    """Follow a study until it is published: print progress, time left and R of finished models."""
    study = load_study(options.study)
    if options.once:
        _print_lines(study, [progress_of(study)])
        return
    show = _show_bars if sys.stderr.isatty() else _print_lines
    show(study, follow(study, options.every_s))
    folder = Path(study.results) / study.study
    print_line(f"{datetime.now():%H:%M} published in {folder}")
    print_models(folder)


def _add_progress_options(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--every-s",
        type=option_types.positive,
        default=20,
        help="seconds between two updates (default: 20)",
    )
    parser.add_argument("--once", action="store_true", help="print the progress once and end")


def _print_lines(study: Study, states: Iterable[Progress]) -> None:
    """Print a line for the study, each training and each finished model, with the time.

    Lines on the study and its trainings are left out if they are those of the last state.
    """
    finished = _FinishedModels(study)
    printed: list[str] = []
    for state in states:
        lines = [
            state.summary(),
            *(f"  {name}: {progress_text(content)}" for name, content in state.trainings.items()),
        ]
        news = [*finished.lines(state), *(lines if lines != printed else [])]
        printed = lines
        for line in news:
            print_line(f"{datetime.now():%H:%M} {line}")


def _show_bars(study: Study, states: Iterable[Progress]) -> None:
    """Draw a bar for the study and each training; R of finished models scrolls above them."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    finished = _FinishedModels(study)
    console = Console(stderr=True, highlight=False)
    # A narrow terminal shortens names of runs first.
    name_column = Column(no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
    columns = (
        TextColumn("{task.description}", markup=False, table_column=name_column),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
    )
    with Bars(*columns, console=console, expand=True) as bars:
        whole = bars.add_task(study.study, total=1, text="")
        tasks: dict[str, TaskID] = {}
        for state in states:
            for line in finished.lines(state):
                console.print(line, markup=False)
            bars.update(whole, completed=state.fraction, text=state.summary().strip())
            for name in tasks.keys() - state.trainings.keys():
                bars.remove_task(tasks.pop(name))
            for name, content in state.trainings.items():
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=content["train_iters"], text="")
                text = progress_text(content)
                bars.update(tasks[name], completed=content["iteration"], text=text)


class _FinishedModels:
    """Lines on models that were finished since the last state."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._known: set[tuple[Run, Precision]] | None = None

    def _finished_at(self, measurement: tuple[Run, Precision]) -> float:
        return identity.losses_path(self._study, *measurement).stat().st_mtime

    def lines(self, state: Progress) -> Iterator[str]:
        """Yield R of each newly finished model; at first of the newest few."""
        from knowcap.capacity.finished_models import ratio_text

        new = [each for each in state.measured if each not in (self._known or ())]
        if self._known is None:
            new = sorted(new, key=self._finished_at)
            if len(new) > NUM_EARLIER:
                yield f"{len(new) - NUM_EARLIER:,} models were finished earlier"
            new = new[-NUM_EARLIER:]
        self._known = set(state.measured)
        for run, precision in new:
            try:
                text = ratio_text(self._study, run, precision)
            except UserError as error:  # a damaged file is reported by the workflow, too
                text = str(error)
            yield f"{identity.run_name(run)}: {text}"


COMMANDS = (Command(progress, _add_progress_options),)
