"""The commands: what each does with the files that it is given, and its exit code if not 0.

One for each rule of the workflow, and those that people call themselves. The first line of each
is its help. torch, xarray and statsmodels are imported by those that need them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import ValidationError

from knowcap.artifacts import code_digest, files, identity
from knowcap.config import Corpus, Evaluation, Record, Run
from knowcap.config.parallelism import ParallelDims, WorldSize, world_size_of
from knowcap.config.study import load_study
from knowcap.errors import UserError, first_error
from knowcap.evaluation import after_training
from knowcap.model.num_params import num_params
from knowcap.planning.parallelism import choose_parallel_dims
from knowcap.training.launch import is_nonzero_rank

if TYPE_CHECKING:
    from knowcap.training.process_group import ProcessGroup

EXIT_TIME_BUDGET_SPENT = 75

NONZERO_RANK_DELAY_S = 15.0
"""A process that trains with others is ended when the first of them has said what is wrong."""

THROUGHPUT = Path("results/reference/throughput.yaml")
"""Where measured steps are kept."""

LAYOUT = {"tensor": "each layer", "pipeline": "the layers", "expert": "the experts of a layer"}
"""What processes can share."""

R = TypeVar("R", bound=Record)


def corpus(options: argparse.Namespace) -> None:
    """Make a corpus: its tokenizer and the facts measured of it."""
    from knowcap.data.corpus import write_corpus

    asked = _record(Corpus, options.record)
    rewrite = None
    if asked.knowledge.kind == "bioR" and asked.knowledge.rewriter != "grammar":
        from knowcap.data.bior_language_model import rewrite as by_language_model

        rewrite = by_language_model
    write_corpus(asked, options.output, rewrite)


def train(options: argparse.Namespace) -> int:
    """Train the replicates of a run; the same command resumes what was interrupted."""
    from knowcap.training import gpu_slots, launch

    deadline = time.monotonic() + (options.time_budget_s or math.inf)
    run = _record(Run, options.record)
    sharing = world_size_of(options.nodes, options.processes, options.gpus)
    num_threads = max(1, options.threads // sharing.num_processes)
    launch.ensure_environment(num_threads)
    is_shared = sharing.total > 1 or launch.has_sharded_checkpoint(options.scratch)
    laid_out = _layout(run, sharing, options) if is_shared else None
    if not launch.is_torchrun_worker():
        if options.gpus and options.nodes == 1:
            gpu_slots.reserve_gpus(options.gpus, options.gpu_slots)
        if sharing.total > 1:
            return launch.launch(sharing, options.threads)
    from knowcap.training.process_group import SingleProcess
    from knowcap.training.train import TimeBudgetSpentError
    from knowcap.training.train import train as train_run

    process_group: ProcessGroup = SingleProcess(needs_gpu=sharing.on_gpus)
    if laid_out is not None:
        from knowcap.training.multi_process import MultiProcess

        process_group = MultiProcess(sharing, laid_out)
    try:
        train_run(
            run,
            corpus_folder=options.corpus,
            output_folder=options.output,
            scratch_folder=options.scratch,
            time_budget_s=options.time_budget_s,
            num_threads=num_threads,
            code_digest=code_digest.code_digest("train"),
            process_group=process_group,
        )
    except TimeBudgetSpentError as spent:
        if process_group.is_rank_zero:
            say(f"knowcap: {spent}", EXIT_TIME_BUDGET_SPENT)
        return EXIT_TIME_BUDGET_SPENT
    if options.evaluation and sharing.total == 1:
        evaluation = _record(Evaluation, options.evaluation)
        folders = (options.output, options.corpus, options.scratch)
        after_training.ask(run, *folders, evaluation, options.precisions, num_threads, deadline)
    return 0


def _layout(run: Run, sharing: WorldSize, options: argparse.Namespace) -> ParallelDims:
    """How processes share a run's models: as asked, the rest by their size."""
    from knowcap.data.corpus import load_corpus

    vocab_size = load_corpus(options.corpus).vocab_size
    size = num_params(run.architecture, vocab_size)["total"]
    asked = {name: getattr(options, f"{name}_parallel") for name in LAYOUT}
    given = {name: number for name, number in asked.items() if number}
    return choose_parallel_dims(run, size, sharing.total, sharing.num_processes, given)


def evaluate(options: argparse.Namespace) -> None:
    """Ask a trained run what it knows."""
    from knowcap.training import gpu_slots
    from knowcap.training.launch import ensure_environment

    ensure_environment(options.threads)
    if options.gpus:
        gpu_slots.reserve_gpus(options.gpus, options.gpu_slots)
    from knowcap.evaluation.evaluate import ANSWERS
    from knowcap.evaluation.evaluate import evaluate as evaluate_run

    if identity.measuring_stage(options.precision) == "quantize":
        from knowcap.evaluation.quantize import ANSWERS

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
    from knowcap.capacity.report import write_report
    from knowcap.data.corpus import load_corpus

    study = load_study(options.study)
    corpora = {
        identity.corpus_name(run.corpus): Path(study.results) / "corpora" for run in study.runs()
    }
    samples = {name: load_corpus(folder / name).sample() for name, folder in corpora.items()}
    write_report(options.capacity, options.laws, options.figures, samples, options.output)


def publish(options: argparse.Namespace) -> None:
    """Copy a study's results to its folder, under names without digests."""
    files.publish(options.files, options.stamp)


def readme(options: argparse.Namespace) -> None:
    """Write a published study's table of laws and its figure into the README."""
    from knowcap.capacity.report import update_readme

    update_readme(options.results / "laws.nc", options.readme)
    figure = options.results / "figures" / options.figure
    if not figure.exists():
        raise UserError(f"{figure}: missing")
    target = options.readme.parent / "docs" / "figures" / f"knowledge{figure.suffix}"
    files.write_text(target, figure.read_text(encoding="utf-8"))


def plan(options: argparse.Namespace) -> None:
    """Say what a study takes before anything starts, by law: models, tokens, hours, disk."""
    from knowcap.planning import plan as plans

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
    from knowcap.training.launch import ensure_environment

    ensure_environment(options.threads)
    from knowcap import slices

    study = load_study(options.study)
    there = slices.work(study, options.output, 60 * options.minutes, options.threads)
    if there.laws.exists():
        sys.stdout.write(there.laws.read_text(encoding="utf-8"))
    is_done = there.num_measured == there.num_measurements
    counted = f"{there.num_measured} of {there.num_measurements} measurements are made"
    return say(f"knowcap: {counted}", 0 if is_done else EXIT_TIME_BUDGET_SPENT)


def progress(options: argparse.Namespace) -> None:
    """Say how far a study is and how long it will still take, until its runs are done."""
    from knowcap.planning.progress import follow

    for line in follow(load_study(options.study), options.every_s):
        say(f"{datetime.now():%H:%M} {line}", 0)


def benchmark(options: argparse.Namespace) -> None:
    """Measure how fast this is, beside what one would otherwise use (docs/performance.md)."""
    from knowcap_benchmarks import measure

    if options.name == "stages":
        from knowcap.training.launch import ensure_environment

        ensure_environment(1)  # what a training renders and asks has its allocator
    study, commands, threads = options.study, options.command_lines, options.threads
    result = measure(options.name, study, commands, threads, options.rounds, options.seconds)
    files.write_json(options.output, result)


def performance(options: argparse.Namespace) -> None:
    """Write results of benchmarks as tables and a figure, and into the documentation."""
    from knowcap_benchmarks.docs_tables import write_tables

    write_tables(options.files, options.output, options.figure, options.page, options.readme)


def digests(options: argparse.Namespace) -> None:
    """Print the digest of each stage's code, and with --files the files it covers."""
    for stage in get_args(code_digest.Stage):
        sys.stdout.write(f"{stage:10}{code_digest.code_digest(stage)}\n")
        for path in code_digest.covered_files(stage) if options.files else ():
            sys.stdout.write(f"  {path.relative_to(code_digest.PACKAGE)}\n")


def trace(options: argparse.Namespace) -> None:
    """Print what a stage makes of the golden runs, as JSON."""
    from knowcap.evaluation.golden_traces import trace as trace_stage

    sys.stdout.write(trace_stage(options.stage) + "\n")


def accept(options: argparse.Namespace) -> None:
    """Let results of older code stand for results of this, if golden traces are bit-identical."""
    from knowcap.artifacts.equivalences import accept as accept_code

    say(accept_code(options.stage, options.since, options.reason), 0)


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
        raise UserError(f"--record: {first_error(error)}") from None


def say(line: str, code: int) -> int:
    """Say a line beside the output, and return the exit code that goes with it."""
    if is_nonzero_rank():  # the first of several processes says it, unless it knows nothing of it
        time.sleep(NONZERO_RANK_DELAY_S)
    sys.stderr.write(line + "\n")
    return code
