"""Commands about texts and models outside of a study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from knowcap.commands import option_types
from knowcap.commands.command import Command
from knowcap.commands.shared_options import add_num_people, add_threads
from knowcap.config import Corpus, Evaluation
from knowcap.config.corpus_file import read_corpus_file
from knowcap.errors import UserError

CORPORA = Path("results/corpora")
"""Folder in which a corpus is searched by its name."""

FORMATS = ("jsonl", "tokens", "megatron", "datasets")
TOKENIZERS = ("model", "corpus")
DTYPES = ("float32", "bfloat16", "float16")


def text(options: argparse.Namespace) -> None:
    """Write a corpus as text and tokens, with its people and tokenizer."""
    from knowcap.data.text_folder import write_text_folder

    summary = write_text_folder(
        _find_corpus(options.corpus),
        options.output,
        options.exposures,
        options.seed,
        options.format,
    )
    sys.stdout.write(
        f"{options.output}: {summary.num_biographies:,} biographies, {summary.num_tokens:,} "
        f"tokens of {summary.vocab_size:,}\n"
    )


def measure(options: argparse.Namespace) -> None:
    """Measure the bits of a causal language model that transformers loads."""
    from knowcap.stages.measure import MeasureSettings, measure

    settings = MeasureSettings(
        evaluation=Evaluation(num_people=options.num_people, seed=options.seed),
        tokenizer=options.tokenizer,
        dtype=options.dtype,
        num_threads=options.threads,
        batch_tokens=options.batch_tokens,
        exposures=options.exposures or 0,
        window_biographies=options.window_biographies,
    )
    corpus = _find_corpus(options.corpus)
    if isinstance(corpus, Corpus):
        raise UserError(f"--corpus: {options.corpus}: a folder of `knowcap text` is expected")
    table = measure(
        options.model, corpus, options.output, settings, options.study_table, options.figure
    )
    sys.stdout.write(f"{table}\n")


def export(options: argparse.Namespace) -> None:
    """Write a replicate of a run as a model that transformers loads."""
    from knowcap.stages.export import export

    class_name = export(options.run, options.replicate, options.to, options.corpus)
    sys.stdout.write(f"{options.to}: {class_name}\n")


def _add_text_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--corpus",
        required=True,
        help=f"folder of a corpus, its name in {CORPORA}, or a file with a corpus record",
    )
    parser.add_argument("--output", required=True, type=option_types.path, help="folder to write")
    parser.add_argument(
        "--exposures",
        type=option_types.count,
        default=1,
        help="biographies of each person (default: 1)",
    )
    parser.add_argument(
        "--seed", type=option_types.seed, default=0, help="seed of order and wording (default: 0)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["jsonl"],
        metavar="FORMAT",
        help=f"formats of the biographies: {', '.join(FORMATS)} (default: jsonl)",
    )


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        type=option_types.path,
        help="folder of the model, weights in safetensors",
    )
    parser.add_argument(
        "--corpus", required=True, help="folder of `knowcap text`, or folder or name of a corpus"
    )
    parser.add_argument("--output", required=True, type=option_types.path, help="folder to write")
    parser.add_argument(
        "--tokenizer",
        choices=TOKENIZERS,
        help="whose tokenizer splits the prompts (default: the model's if it has one)",
    )
    add_num_people(parser)
    parser.add_argument(
        "--seed",
        type=option_types.seed,
        default=0,
        help="seed of the prompts' sentences (default: 0)",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="dtype of the weights (default: float32)"
    )
    add_threads(parser)
    parser.add_argument(
        "--batch-tokens",
        type=option_types.large_count,
        help="tokens of a batch (default: by the vocabulary)",
    )
    parser.add_argument(
        "--exposures", type=option_types.count, help="exposures in training, for the table"
    )
    parser.add_argument(
        "--window-biographies",
        type=option_types.count,
        default=1,
        help="biographies of a training window, to score names within it, too (default: 1, not)",
    )
    parser.add_argument(
        "--study-table",
        type=option_types.path,
        help="capacity.nc of a study, to append the model to",
    )
    parser.add_argument(
        "--figure", type=option_types.path, help="figure of the model among those of --study-table"
    )


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=option_types.path, help="folder of the run")
    parser.add_argument(
        "--replicate",
        type=option_types.count_or_zero,
        default=0,
        help="index of the replicate (default: 0)",
    )
    parser.add_argument("--to", required=True, type=option_types.path, help="folder to write")
    parser.add_argument(
        "--corpus",
        type=option_types.path,
        help="folder of its corpus (default: in the same results)",
    )


def _find_corpus(given: str) -> Path | Corpus:
    """Folder of a corpus, by path or by name in `results/corpora`, or the record in a file."""
    path = Path(given)
    if path.is_dir():
        return path
    if path.is_file():
        return read_corpus_file(path)
    named = sorted(CORPORA.glob(f"{given}*")) if "/" not in given and given else []
    if len(named) == 1:
        return named[0]
    if named:
        names = ", ".join(each.name for each in named)
        raise UserError(f"--corpus: {given}: several corpora have this name: {names}")
    raise UserError(
        f"--corpus: {given}: no such folder or file, and {CORPORA} has no corpus of this name"
    )


COMMANDS = (
    Command(text, _add_text_options),
    Command(measure, _add_measure_options),
    Command(export, _add_export_options),
)
