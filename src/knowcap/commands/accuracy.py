"""Command that measures the memorisable and extractable accuracy of a run."""

from __future__ import annotations

import argparse
import sys

from tabulate import tabulate

from knowcap.artifacts.storage import check_writable
from knowcap.commands import option_types
from knowcap.commands.command import Command
from knowcap.commands.shared_options import add_num_people, add_threads

NUM_STEPS, LEARNING_RATE = 75_000, 1e-3  # PAPER A.2
EMBEDDING_RANK, ATTENTION_RANK = 32, 8
"""Ranks by default."""  # PAPER A.2: one of nine pairs, the best of which the paper reports.


def accuracy(options: argparse.Namespace) -> None:
    """Measure which values a run predicts in biographies, and in answers to questions."""
    from knowcap.evaluation.accuracy import FineTuning, write_accuracy
    from knowcap.evaluation.lora import Ranks

    check_writable(options.output.absolute().parent)
    fine_tuning = FineTuning(
        ranks=Ranks(options.embedding_rank, options.attention_rank),
        num_steps=options.steps,
        lr=options.lr,
        seed=options.seed,
    )
    found = write_accuracy(
        options.run,
        options.corpus,
        fine_tuning,
        options.output,
        num_people=options.num_people,
        num_threads=options.threads,
    )
    means = found.mean("attribute").to_dataframe()[["lr", "seed", *found.data_vars]]
    headers = [str(name).removesuffix("_accuracy").replace("_", " ") for name in means]
    rows = means.to_numpy(dtype=object).tolist()
    sys.stdout.write(tabulate(rows, headers, floatfmt=".3g") + "\n")


def _add_accuracy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=option_types.path, help="folder of the run")
    parser.add_argument(
        "--corpus", required=True, type=option_types.path, help="folder of its corpus"
    )
    parser.add_argument(
        "--output", required=True, type=option_types.path, help="file to write, such as accuracy.nc"
    )
    add_num_people(parser)
    parser.add_argument(
        "--embedding-rank",
        type=option_types.count,
        default=EMBEDDING_RANK,
        help=f"LoRA rank of the embedding (default: {EMBEDDING_RANK})",
    )
    parser.add_argument(
        "--attention-rank",
        type=option_types.count,
        default=ATTENTION_RANK,
        help=f"LoRA rank of queries and values (default: {ATTENTION_RANK})",
    )
    parser.add_argument(
        "--steps",
        type=option_types.count,
        default=NUM_STEPS,
        help=f"fine-tuning steps of 96 questions (default: {NUM_STEPS})",
    )
    parser.add_argument(
        "--lr",
        type=option_types.positive,
        default=LEARNING_RATE,
        help=f"peak learning rate of the fine-tuning (default: {LEARNING_RATE})",
    )
    parser.add_argument(
        "--seed", type=option_types.seed, default=0, help="seed of halves and batches (default: 0)"
    )
    add_threads(parser)


COMMANDS = (Command(accuracy, _add_accuracy_options),)
