"""Functions of the commands: each reads and writes files and returns its exit code, or None for 0.

The first line of a docstring is the help of the command. torch, xarray and statsmodels are imported
only by the commands that need them, because importing them takes seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from knowcap.artifacts import code_digest, files, identity
from knowcap.artifacts.storage import check_writable
from knowcap.config import Corpus, Evaluation, Run
from knowcap.config.json_record import read_record
from knowcap.config.parallelism import ParallelDims, WorldSize, world_size_of
from knowcap.config.study import load_study
from knowcap.errors import UserError
from knowcap.model.num_params import num_params
from knowcap.planning.choose_parallelism import choose_parallel_dims
from knowcap.stages.after_training import evaluate_after_training
from knowcap.training.launch import EXIT_INTERRUPTED, is_nonzero_rank

if TYPE_CHECKING:
    from knowcap.training.process_group import ProcessGroup

EXIT_REFUSED = 2
NONZERO_RANK_DELAY_S = 15.0
"""Seconds a non-zero rank waits before it prints its error; normally rank 0 ends it by then."""

THROUGHPUT = Path("results/reference/throughput.yaml")
"""File of measured step times."""

PARALLEL_SIZES = {
    "tensor": "the heads and channels of each layer",
    "pipeline": "the layers",
    "expert": "the experts of each layer",
}
"""Kinds of model parallelism, and what the processes share."""


def corpus(options: argparse.Namespace) -> None:
    """Write the folder of a corpus: its tokenizer and metadata."""
    from knowcap.data.corpus import write_corpus

    record = read_record(Corpus, options.record, "--record")
    check_writable(options.output)
    rewrite = None
    if record.knowledge.kind == "bioR" and record.knowledge.rewriter != "grammar":
        from knowcap.data.bior_language_model import rewrite as by_language_model

        rewrite = by_language_model
    write_corpus(record, options.output, rewrite)


def train(options: argparse.Namespace) -> int:
    """Train the replicates of a run, or resume their training."""
    from knowcap.training import gpu_slots, launch

    budget_s = math.inf if options.time_budget_s is None else options.time_budget_s
    deadline = time.monotonic() + budget_s
    run = _read_run(options.record)
    evaluation = (
        read_record(Evaluation, options.evaluation, "--evaluation") if options.evaluation else None
    )
    world = world_size_of(options.nodes, options.processes, options.gpus)
    num_threads = max(1, options.threads // world.num_processes)
    launch.ensure_environment(num_threads)
    is_parallel = world.total > 1 or launch.has_sharded_checkpoint(options.scratch)
    dims = _choose_dims(run, world, options) if is_parallel else None
    if not launch.is_torchrun_worker():
        if options.gpus and options.nodes == 1:
            gpu_slots.reserve_gpus(options.gpus, options.gpu_slots)
        if world.total > 1:
            return launch.launch(world, options.threads, options.scratch)
    from knowcap.training.process_group import SingleProcess
    from knowcap.training.train import TrainingInterruptedError
    from knowcap.training.train import train as train_run

    process_group: ProcessGroup = SingleProcess(needs_gpu=world.on_gpus)
    if dims is not None:
        from knowcap.training.multi_process import MultiProcess

        process_group = MultiProcess(world, dims)
    try:
        must_stop = train_run(
            run,
            corpus_folder=options.corpus,
            output_folder=options.output,
            scratch_folder=options.scratch,
            time_budget_s=options.time_budget_s,
            num_threads=num_threads,
            code_digest=code_digest.code_digest("train"),
            process_group=process_group,
        )
    except TrainingInterruptedError as error:
        if process_group.is_rank_zero:
            print_line(f"knowcap: {error}")
        return EXIT_INTERRUPTED
    if evaluation and world.total == 1 and not must_stop:
        folders = (options.output, options.corpus, options.scratch)
        evaluate_after_training(
            run, *folders, evaluation, options.precisions, num_threads, deadline
        )
    return 0


def _choose_dims(run: Run, world: WorldSize, options: argparse.Namespace) -> ParallelDims:
    """Return the parallel sizes that are given; the others follow from the size of the model."""
    from knowcap.data.corpus import load_corpus

    vocab_size = load_corpus(options.corpus).vocab_size
    total = num_params(run.architecture, vocab_size)["total"]
    sizes = {name: getattr(options, f"{name}_parallel") for name in PARALLEL_SIZES}
    given = {name: size for name, size in sizes.items() if size}
    return choose_parallel_dims(run, total, world.total, world.num_processes, given)


def evaluate(options: argparse.Namespace) -> None:
    """Compute the losses of a trained run on every person and attribute."""
    from knowcap.training import gpu_slots
    from knowcap.training.launch import ensure_environment

    ensure_environment(options.threads)
    check_writable(options.output.parent)
    if options.gpus:
        gpu_slots.reserve_gpus(options.gpus, options.gpu_slots)
    else:
        gpu_slots.warn_of_unusable_gpus()
    from knowcap.evaluation.evaluate import evaluate as evaluate_run
    from knowcap.stages.precisions import PRECISION_BACKENDS

    evaluate_run(
        run_folder=options.run,
        corpus_folder=options.corpus,
        precision=options.precision,
        evaluation=read_record(Evaluation, options.evaluation, "--evaluation"),
        output=options.output,
        backend=PRECISION_BACKENDS[options.precision].load(),
        num_threads=options.threads,
    )


def table(options: argparse.Namespace) -> None:
    """Write all measurements of a study to one table."""
    from knowcap.capacity.table import write_study_table

    study = load_study(options.study)
    remarks = write_study_table(study, options.output, options.index, partial=options.partial)
    if remarks:
        sys.stdout.write(f"{remarks}\n")


def laws(options: argparse.Namespace) -> None:
    """Test the laws of the paper on a table."""
    from knowcap.capacity.laws import write_laws

    write_laws(options.capacity, options.output, options.markdown)


def figures(options: argparse.Namespace) -> None:
    """Draw the figures of a table and its laws."""
    from knowcap.capacity.figures import write_figures

    write_figures(options.capacity, options.laws, options.output)


def report(options: argparse.Namespace) -> None:
    """Write the report of a study, one HTML page."""
    from knowcap.capacity.report import write_report
    from knowcap.capacity.rules_commit import rules_sentences
    from knowcap.data.corpus import load_corpus

    study = load_study(options.study)
    corpora = Path(study.results) / "corpora"
    folders = dict.fromkeys(corpora / identity.corpus_name(run.corpus) for run in study.runs())
    # The report of an unfinished study lacks some of these folders.
    samples = {
        each.name: load_corpus(each).example_biography() for each in folders if each.exists()
    }
    commits = files.read_dataset(options.capacity)["commit"].values.tolist()
    rules = rules_sentences(options.study, commits)
    write_report(options.capacity, options.laws, options.figures, samples, options.output, rules)


def publish(options: argparse.Namespace) -> None:
    """Copy the results of a study to its folder, and print R of every model."""
    files.publish(options.files, options.stamp)
    _print_models(options.stamp.parent)


def _print_models(folder: Path) -> None:
    """Print R of every model of a finished study, and the path of its report."""
    from knowcap.capacity.model_list import models_text

    if (folder / "capacity.nc").exists():
        sys.stdout.write(f"{models_text(files.read_dataset(folder / 'capacity.nc'))}\n\n")
        sys.stdout.write(f"report: {folder / 'report.html'}\n")


def readme(options: argparse.Namespace) -> None:
    """Write the verdicts and a figure of a study into the README."""
    from knowcap.capacity.report import update_readme

    update_readme(options.results / "laws.nc", options.readme)
    figure = options.results / "figures" / options.figure
    if not figure.exists():
        raise UserError(f"{figure}: missing")
    target = options.readme.parent / "docs" / "figures" / f"knowledge{figure.suffix}"
    files.write_text(target, figure.read_text(encoding="utf-8"))


def plan(options: argparse.Namespace) -> None:
    """Print what a study costs: models, tokens, time and disk, by law."""
    from knowcap.planning import finished_runs, training_time
    from knowcap.planning import plan as plans

    study = load_study(options.study)
    estimate = None
    if options.tflops is not None:
        estimate = training_time.from_tflops(options.tflops)
    elif options.throughput is not None:
        estimate = training_time.from_throughput(options.throughput)
    elif (estimate := finished_runs.from_finished_runs(study)) is None and THROUGHPUT.exists():
        estimate = training_time.from_throughput(THROUGHPUT)
    sys.stdout.write(plans.format_plan(plans.plan(study, estimate)) + "\n")


def progress(options: argparse.Namespace) -> None:
    """Print how much of a study is trained and how long the rest takes; when done, every R."""
    from knowcap.planning.study_progress import follow

    study = load_study(options.study)
    for line in follow(study, options.every_s):
        print_line(f"{datetime.now():%H:%M} {line}")
    _print_models(Path(study.results) / study.study)


def runs(options: argparse.Namespace) -> None:
    """Print the runs of a finished study that meet conditions, largest R first."""
    from knowcap.capacity.run_list import runs_table, select_replicates
    from knowcap.capacity.table import replicates
    from knowcap.capacity.table_columns import TABLE_VARIABLES

    rows = replicates(files.read_dataset(_table_of(options.study), TABLE_VARIABLES))
    selected = select_replicates(rows, options.where)
    if options.csv:
        sys.stdout.write(selected.to_csv(index=False))
    elif selected.empty:
        sys.stdout.write(f"None of {len(rows)} replicates meets these conditions.\n")
    else:
        sys.stdout.write(runs_table(selected, options.columns) + "\n")


def _table_of(path: Path) -> Path:
    """Return the table of a study, given its study file, its results folder or the table."""
    if path.suffix in (".yaml", ".yml"):
        study = load_study(path)
        path = Path(study.results) / study.study
    return path / "capacity.nc" if path.suffix != ".nc" else path


def curve(options: argparse.Namespace) -> None:
    """Print the loss curves of runs, or write them as a figure or CSV."""
    import pandas as pd

    from knowcap.capacity.loss_curve import curve_table, read_curve, write_curve

    curves = pd.concat([read_curve(run) for run in options.runs], ignore_index=True)
    if options.output is None:
        sys.stdout.write(curve_table(curves) + "\n")
    else:
        write_curve(curves, options.output)


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


def trace(options: argparse.Namespace) -> None:
    """Print the outputs of the golden runs in some stages, as JSON."""
    from knowcap.stages.golden_traces import golden_traces_json

    sys.stdout.write(golden_traces_json(options.stages) + "\n")


def accept(options: argparse.Namespace) -> int:
    """Record that results of older code are valid for this code, if golden traces are equal."""
    from knowcap.artifacts.equivalences import accept as accept_code

    comparisons = accept_code(options.stages, options.since, options.reason, options.rtol)
    for comparison in comparisons:
        print_line(comparison.describe(options.since, options.rtol))
    is_accepted = all(comparison.is_accepted(options.rtol) for comparison in comparisons)
    return 0 if is_accepted else EXIT_REFUSED


def _read_run(text: str) -> Run:
    """Return the run of `--record` if it can be trained."""
    run = read_record(Run, text, "--record")
    if errors := [f"--record: {error.field}: {error.message}" for error in run.training_errors()]:
        raise UserError.of_lines(errors)
    return run


def print_line(line: str) -> None:
    """Print a line to stderr; non-zero ranks wait, as rank 0 normally prints the same line."""
    if is_nonzero_rank():
        time.sleep(NONZERO_RANK_DELAY_S)
    with suppress(OSError):  # the log can be on the disk that is full
        sys.stderr.write(line + "\n")
