"""Commands of the workflow that make a corpus, train a run and evaluate it."""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING, get_args

from knowcap.artifacts import code_digest
from knowcap.artifacts.storage import check_writable
from knowcap.commands import option_types
from knowcap.commands.attempts import add_attempt_options
from knowcap.commands.command import Command, print_line
from knowcap.commands.shared_options import add_threads
from knowcap.config import Corpus, Evaluation, Precision, Run
from knowcap.config.json_record import read_record
from knowcap.config.parallelism import ParallelDims, WorldSize, world_size_of
from knowcap.errors import UserError
from knowcap.model.num_params import num_params
from knowcap.planning.choose_parallelism import choose_parallel_dims
from knowcap.stages.after_training import evaluate_after_training
from knowcap.training.launch import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from knowcap.training.process_group import ProcessGroup

PARALLEL_SIZES = {
    "tensor": "the heads and channels of each layer",
    "pipeline": "the layers",
    "expert": "the experts of each layer",
}
"""Kinds of model parallelism, and what the processes share."""


def corpus(options: argparse.Namespace) -> None:
    """Write the folder of a corpus: its tokenizer and metadata."""
    from knowcap.data.corpus_writer import write_corpus

    record = read_record(Corpus, options.record, "--record")
    if record.knowledge.kind == "table" and options.table:
        knowledge = record.knowledge.model_copy(update={"file": str(options.table)})
        record = record.model_copy(update={"knowledge": knowledge})
    check_writable(options.output)
    rewrite = None
    if record.knowledge.kind == "bioR" and record.knowledge.rewriter != "grammar":
        from knowcap.data.bior_language_model import rewrite as by_language_model

        rewrite = by_language_model
    write_corpus(record, options.output, rewrite)


def _add_corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--record", required=True, help="corpus record, as JSON or @FILE")
    parser.add_argument("--table", type=option_types.path, help="CSV file of a corpus of that kind")
    parser.add_argument("--output", required=True, type=option_types.path, help="folder to write")
    add_attempt_options(parser)


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


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--record", required=True, help="run record, as JSON or @FILE")
    parser.add_argument(
        "--corpus", required=True, type=option_types.path, help="folder of the corpus"
    )
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="folder to write the run to"
    )
    parser.add_argument(
        "--scratch",
        required=True,
        type=option_types.path,
        help="folder for checkpoints and the lock",
    )
    add_threads(parser)
    parser.add_argument(
        "--time-budget-s",
        type=option_types.not_negative,
        help="seconds until the training saves a checkpoint and exits with code 75",
    )
    parser.add_argument(
        "--evaluation", help="evaluate after training by this record, JSON or @FILE"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=get_args(Precision),
        default=["trained"],
        metavar="PRECISION",
        help=f"precisions to evaluate in: {', '.join(get_args(Precision))} (default: trained)",
    )
    processes = parser.add_argument_group(
        "processes", "Number of processes (docs/parallel.md). Results are equal up to rounding."
    )
    processes.add_argument(
        "--nodes", type=option_types.count, default=1, help="nodes of the Slurm job"
    )
    processes.add_argument(
        "--processes", type=option_types.count, default=1, help="processes of a node, on CPUs"
    )
    processes.add_argument(
        "--gpus", type=option_types.count_or_zero, default=0, help="GPUs of all nodes together"
    )
    _add_gpu_slots(processes)
    add_attempt_options(parser)
    for name, shared in PARALLEL_SIZES.items():
        processes.add_argument(
            f"--{name}-parallel",
            type=option_types.count_or_zero,
            default=0,
            metavar="N",
            help=f"processes that share {shared} (default: 0, chosen by the size of the model)",
        )


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


def _add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, type=option_types.path, help="folder of the run")
    parser.add_argument(
        "--corpus", required=True, type=option_types.path, help="folder of its corpus"
    )
    parser.add_argument(
        "--precision", required=True, choices=get_args(Precision), help="precision of the weights"
    )
    parser.add_argument("--evaluation", required=True, help="evaluation record, as JSON or @FILE")
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="losses.nc to write"
    )
    add_threads(parser)
    parser.add_argument(
        "--gpus",
        type=option_types.count_or_zero,
        default=0,
        choices=(0, 1),
        help="1: wait for a free GPU slot, and use this GPU",
    )
    _add_gpu_slots(parser)
    add_attempt_options(parser)


def _read_run(text: str) -> Run:
    """Return the run of `--record` if it can be trained."""
    run = read_record(Run, text, "--record")
    if errors := [f"--record: {error.field}: {error.message}" for error in run.training_errors()]:
        raise UserError.of_lines(errors)
    return run


def _choose_dims(run: Run, world: WorldSize, options: argparse.Namespace) -> ParallelDims:
    """Return the parallel sizes that are given; the others follow from the size of the model."""
    from knowcap.data.corpus import load_corpus

    vocab_size = load_corpus(options.corpus).vocab_size
    total = num_params(run.architecture, vocab_size)["total"]
    sizes = {name: getattr(options, f"{name}_parallel") for name in PARALLEL_SIZES}
    given = {name: size for name, size in sizes.items() if size}
    return choose_parallel_dims(run, total, world.total, world.num_processes, given)


def _add_gpu_slots(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--gpu-slots",
        type=option_types.count,
        default=1,
        help="jobs that may share a GPU (default: 1)",
    )


COMMANDS = (
    Command(corpus, _add_corpus_options),
    Command(train, _add_train_options),
    Command(evaluate, _add_evaluate_options),
)
