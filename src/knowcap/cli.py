"""The command line: one command for each rule of the workflow, files in and files out.

It parses and calls. Exit codes: 0 done, 2 a mistake of the user's in one line, 75 a time budget
is spent, or a training was told to leave, and the same command goes on from there; 143 anything
else was told to leave. The rest are bugs with their traceback.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import ValidationError

import knowcap
from knowcap import ahead, identity, records
from knowcap.config import Corpus, Evaluation, Precision, Record, Run
from knowcap.errors import UserError
from knowcap.identity import Stage
from knowcap.layout import Layout, Team, choose, team
from knowcap.lm.layouts.launch import is_follower
from knowcap.size import num_params
from knowcap.study import load_study, sentence

if TYPE_CHECKING:
    from knowcap.lm.crew import Crew

EXIT_USER_ERROR = 2
EXIT_TIME_BUDGET_SPENT = 75

FOLLOWER_WAITS_S = 15.0
"""A process that trains with others is ended when the first of them has said what is wrong."""

THROUGHPUT = Path("results/reference/throughput.yaml")
"""Where measured steps are kept."""

LAYOUT = {"tensor": "each layer", "pipeline": "the layers", "expert": "the experts of a layer"}
"""What processes can share."""

R = TypeVar("R", bound=Record)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    # Imports make a million objects that stay; looking through them again and again for those that
    # may go takes a sixth of a start with torch, and as long at the end.
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("knowcap").setLevel(logging.WARNING if is_follower() else logging.INFO)
    # A job that is told to leave lets go of its lock on the way out; one that is making steps
    # saves them first (knowcap.lm.notice).
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = options.command(options)
    except UserError as error:
        sys.exit(_say(f"knowcap: {error}", EXIT_USER_ERROR))
    sys.exit(code or 0)


def _say(line: str, code: int) -> int:
    if is_follower():  # the first of several processes says it, unless it knows nothing of it
        time.sleep(FOLLOWER_WAITS_S)
    sys.stderr.write(line + "\n")
    return code


def corpus(options: argparse.Namespace) -> None:
    """Make a corpus: its tokenizer and the facts measured of it."""
    from knowcap.bios.corpus import write_corpus

    asked = _record(Corpus, options.record)
    rewrite = None
    if asked.knowledge.kind == "bioR" and asked.knowledge.rewriter != "grammar":
        from knowcap.lm.rewrite import rewrite as by_language_model

        rewrite = by_language_model
    write_corpus(asked, options.output, rewrite)


def train(options: argparse.Namespace) -> int:
    """Train the replicates of a run; the same command resumes what was interrupted."""
    from knowcap.lm.layouts import launch, slots

    deadline = time.monotonic() + (options.time_budget_s or math.inf)
    run = _record(Run, options.record)
    sharing = team(options.nodes, options.processes, options.gpus)
    num_threads = max(1, options.threads // sharing.num_processes)
    launch.ensure_environment(num_threads)
    is_shared = sharing.world_size > 1 or launch.was_shared(options.scratch)
    laid_out = _layout(run, sharing, options) if is_shared else None
    if not launch.is_member():
        if options.gpus and options.nodes == 1:
            slots.take(options.gpus, options.gpu_slots)
        if sharing.world_size > 1:
            return launch.launch(sharing, options.threads)
    from knowcap.lm.crew import Alone
    from knowcap.lm.train import TimeBudgetSpentError
    from knowcap.lm.train import train as train_run

    crew: Crew = Alone(needs_gpu=sharing.on_gpus)
    if laid_out is not None:
        from knowcap.lm.layouts.together import Together

        crew = Together(sharing, laid_out)
    try:
        train_run(
            run,
            corpus_folder=options.corpus,
            output_folder=options.output,
            scratch_folder=options.scratch,
            time_budget_s=options.time_budget_s,
            num_threads=num_threads,
            code_digest=identity.code_digest("train"),
            crew=crew,
        )
    except TimeBudgetSpentError as spent:
        if crew.is_leader:
            _say(f"knowcap: {spent}", EXIT_TIME_BUDGET_SPENT)
        return EXIT_TIME_BUDGET_SPENT
    if options.evaluation and sharing.world_size == 1:
        evaluation = _record(Evaluation, options.evaluation)
        folders = (options.output, options.corpus, options.scratch)
        ahead.ask(run, *folders, evaluation, options.precisions, num_threads, deadline)
    return 0


def _layout(run: Run, sharing: Team, options: argparse.Namespace) -> Layout:
    """How processes share a run's models: as asked, the rest by their size."""
    from knowcap.bios.corpus import load_corpus

    vocab_size = load_corpus(options.corpus).vocab_size
    size = num_params(run.architecture, vocab_size)["total"]
    asked = {name: getattr(options, f"{name}_parallel") for name in LAYOUT}
    given = {name: number for name, number in asked.items() if number}
    return choose(run, size, sharing.world_size, sharing.num_processes, given)


def evaluate(options: argparse.Namespace) -> None:
    """Ask a trained run what it knows."""
    if options.answers and ahead.take(options.answers, options.output):
        return
    from knowcap.lm.layouts import slots
    from knowcap.lm.layouts.launch import ensure_environment

    ensure_environment(options.threads)
    if options.gpus:
        slots.take(options.gpus, options.gpu_slots)
    from knowcap.lm.evaluate import ANSWERS
    from knowcap.lm.evaluate import evaluate as evaluate_run

    if identity.measuring_stage(options.precision) == "quantize":
        from knowcap.lm.quantize import ANSWERS

    evaluate_run(
        run_folder=options.run,
        corpus_folder=options.corpus,
        precision=options.precision,
        evaluation=_record(Evaluation, options.evaluation),
        output=options.output,
        answers=ANSWERS,
        num_threads=options.threads,
    )


def table(options: argparse.Namespace) -> None:
    """Gather every measurement of a study in one table."""
    from knowcap.capacity.table import write_study_table

    write_study_table(load_study(options.study), options.output, options.index)


def laws(options: argparse.Namespace) -> None:
    """Judge the paper's laws by a table."""
    from knowcap.capacity.laws import write_laws

    write_laws(options.capacity, options.output, options.markdown)


def figures(options: argparse.Namespace) -> None:
    """Draw the figures of a study."""
    from knowcap.capacity.figures import write_figures

    write_figures(options.capacity, options.laws, options.output)


def report(options: argparse.Namespace) -> None:
    """Write the report of a study, one self-contained page."""
    from knowcap.bios.corpus import load_corpus
    from knowcap.capacity.report import write_report

    study = load_study(options.study)
    corpora = {
        identity.corpus_name(run.corpus): Path(study.results) / "corpora" for run in study.runs()
    }
    samples = {name: load_corpus(folder / name).sample() for name, folder in corpora.items()}
    write_report(options.capacity, options.laws, options.figures, samples, options.output)


def publish(options: argparse.Namespace) -> None:
    """Copy a study's results to its folder, under names without digests."""
    records.publish(options.files, options.stamp)


def readme(options: argparse.Namespace) -> None:
    """Write a published study's table of laws and its figure into the README."""
    from knowcap.capacity.report import update_readme

    update_readme(options.results / "laws.nc", options.readme)
    figure = options.results / "figures" / options.figure
    if not figure.exists():
        raise UserError(f"{figure}: missing")
    target = options.readme.parent / "docs" / "figures" / f"knowledge{figure.suffix}"
    records.write_text(target, figure.read_text(encoding="utf-8"))


def plan(options: argparse.Namespace) -> None:
    """Say what a study takes before anything starts, by law: models, tokens, hours, disk."""
    from knowcap import plan as plans

    seconds, source = None, "No speed is known: --throughput or --tflops gives hours."
    if options.tflops is not None:
        seconds = plans.assumed(options.tflops)
        source = (
            f"Hours of one device ASSUME {options.tflops:g} TFLOP/s (--tflops), which is not "
            f"measured: small models wait for launches and take longer."
        )
    elif options.throughput is not None or THROUGHPUT.exists():
        measured = plans.load_throughput(options.throughput or THROUGHPUT)
        seconds = measured.seconds
        source = f"Hours of one device follow steps measured on {measured.device}."
    planned = plans.plan(load_study(options.study), seconds)
    sys.stdout.write(f"{plans.table(planned)}\n{source}\n")


def slice(options: argparse.Namespace) -> int:
    """Do as much of a study as fits in a few minutes, without Snakemake, and print its laws."""
    from knowcap.lm.layouts.launch import ensure_environment

    ensure_environment(options.threads)
    from knowcap import slices

    study = load_study(options.study)
    there = slices.work(study, options.output, 60 * options.minutes, options.threads)
    if there.laws.exists():
        sys.stdout.write(there.laws.read_text(encoding="utf-8"))
    is_done = there.num_measured == there.num_measurements
    counted = f"{there.num_measured} of {there.num_measurements} measurements are made"
    return _say(f"knowcap: {counted}", 0 if is_done else EXIT_TIME_BUDGET_SPENT)


def progress(options: argparse.Namespace) -> None:
    """Say how far a study is and how long it will still take, until its runs are done."""
    from knowcap.progress import follow

    for line in follow(load_study(options.study), options.every_s):
        _say(f"{datetime.now():%H:%M} {line}", 0)


def benchmark(options: argparse.Namespace) -> None:
    """Measure how fast this is, beside what one would otherwise use (docs/performance.md)."""
    from knowcap.benchmarks import measure

    study, commands, threads = options.study, options.command_lines, options.threads
    result = measure(options.name, study, commands, threads, options.rounds, options.seconds)
    records.write_json(options.output, result)


def performance(options: argparse.Namespace) -> None:
    """Write results of benchmarks as tables and a figure, and into the documentation."""
    from knowcap.benchmarks.pages import write_tables

    write_tables(options.files, options.output, options.figure, options.page, options.readme)


def trace(options: argparse.Namespace) -> None:
    """Print what a stage makes of the golden runs, as JSON."""
    from knowcap.golden import trace as trace_stage

    sys.stdout.write(trace_stage(options.stage) + "\n")


def accept(options: argparse.Namespace) -> None:
    """Let results of older code stand for results of this, if golden traces are bit-identical."""
    from knowcap.golden import accept as accept_code

    _say(accept_code(options.stage, options.since, options.reason), 0)


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
        # A check of several fields begins with the one it is about.
        colon = "." if first["type"] == "value_error" else ": "
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"--record: {field}{colon}{sentence(first)}") from None


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knowcap", description=knowcap.__doc__)
    parser.add_argument("--version", action="version", version=knowcap.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        assert function.__doc__ is not None
        added = commands.add_parser(
            function.__name__, help=function.__doc__, description=function.__doc__
        )
        added.set_defaults(command=function)
        return added

    made = command(corpus)
    made.add_argument("--record", required=True, help="the corpus, as JSON or @file")
    made.add_argument("--output", required=True, type=Path, help="its folder")

    trained = command(train)
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
    for name, what in LAYOUT.items():
        shared.add_argument(
            f"--{name}-parallel",
            type=int,
            default=0,
            metavar="N",
            help=f"processes that share out {what}; 0 is for as many as its size wants",
        )

    asked = command(evaluate)
    asked.add_argument("--run", required=True, type=Path, help="folder of the run")
    asked.add_argument("--corpus", required=True, type=Path, help="folder of its corpus")
    asked.add_argument("--precision", required=True, choices=get_args(Precision))
    asked.add_argument("--evaluation", required=True, help="how to ask, as JSON or @file")
    asked.add_argument("--output", required=True, type=Path, help="its losses.nc")
    asked.add_argument("--answers", type=Path, help="those that training asked for, if it did")
    asked.add_argument("--threads", type=int, default=1, help="threads it may use")
    asked.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="1 waits for a slot")
    asked.add_argument("--gpu-slots", type=int, default=1, help="jobs that may share a GPU")

    gathered = command(table)
    gathered.add_argument("--study", required=True, type=Path, help="study file")
    gathered.add_argument("--output", required=True, type=Path, help="its capacity.nc")
    gathered.add_argument("--index", required=True, type=Path, help="its index.csv")

    judged = command(laws)
    judged.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    judged.add_argument("--output", required=True, type=Path, help="its laws.nc")
    judged.add_argument("--markdown", required=True, type=Path, help="its laws.md")

    drawn = command(figures)
    drawn.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    drawn.add_argument("--laws", required=True, type=Path, help="laws.nc of the study")
    drawn.add_argument("--output", required=True, type=Path, help="folder of the figures")

    told = command(report)
    told.add_argument("--study", required=True, type=Path, help="study file")
    told.add_argument("--capacity", required=True, type=Path, help="capacity.nc of the study")
    told.add_argument("--laws", required=True, type=Path, help="laws.nc of the study")
    told.add_argument("--figures", required=True, type=Path, help="folder of the figures")
    told.add_argument("--output", required=True, type=Path, help="its report.html")

    published = command(publish)
    published.add_argument("--stamp", required=True, type=Path, help="marks what is published")
    published.add_argument("files", nargs="+", type=Path, help="files and folders to copy")

    shown = command(readme)
    shown.add_argument("--results", required=True, type=Path, help="folder of the study's results")
    shown.add_argument("--figure", required=True, help="name of the figure to show, with .svg")
    shown.add_argument("--readme", default=Path("README.md"), type=Path)

    planned = command(plan)
    planned.add_argument("--study", required=True, type=Path, help="study file")
    speed = planned.add_mutually_exclusive_group()
    speed.add_argument("--throughput", type=Path, help=f"measured steps, if not {THROUGHPUT}")
    speed.add_argument("--tflops", type=_positive, help="assumed speed, 10^12 operations a second")

    sliced = command(slice)
    sliced.add_argument("--study", required=True, type=Path, help="study file")
    sliced.add_argument("--output", required=True, type=Path, help="folder of its table and laws")
    sliced.add_argument("--minutes", type=_positive, default=10, help="length of the slice")
    sliced.add_argument("--threads", type=int, default=1, help="threads it may use")

    watched = command(progress)
    watched.add_argument("--study", required=True, type=Path, help="study file")
    watched.add_argument("--every-s", type=float, default=20, help="seconds between two lines")

    measured = command(benchmark)
    measured.add_argument("name", help="a comparison, rendering, growth, commands or stages")
    measured.add_argument("--output", required=True, type=Path, help="its JSON")
    measured.add_argument("--threads", type=int, default=2, help="of comparisons that do not say")
    measured.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    measured.add_argument("--seconds", type=_positive, default=5, help="how long each time")
    measured.add_argument("--study", type=Path, help="whose stages; it must be done")
    measured.add_argument("--command", dest="command_lines", nargs="+", help="what is timed")

    tabled = command(performance)
    tabled.add_argument("files", nargs="+", type=Path, help="results of benchmarks")
    tabled.add_argument("--output", type=Path, help="Markdown of all tables")
    tabled.add_argument("--figure", type=Path, help="SVG of how costs grow")
    tabled.add_argument("--page", type=Path, help="gets all tables between its markers")
    tabled.add_argument("--readme", type=Path, help="gets the comparison of trainings")

    traced = command(trace)
    traced.add_argument("stage", choices=get_args(Stage))

    accepted = command(accept)
    accepted.add_argument("stage", choices=get_args(Stage))
    accepted.add_argument("--since", required=True, help="git revision of the older code")
    accepted.add_argument("--reason", required=True, help="why the code was changed")
    return parser
