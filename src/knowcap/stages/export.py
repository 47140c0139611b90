"""Export of a replicate to a folder that `transformers` loads, with tokenizer and model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from knowcap import __version__
from knowcap.artifacts import files, manifest
from knowcap.artifacts.optional_library import import_transformers
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.capacity.measured_model import summarize_bits
from knowcap.capacity.table_columns import describe_run, describe_training
from knowcap.config import Run
from knowcap.data.corpus import load_corpus
from knowcap.data.corpus_metadata import METADATA_FILE
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.tokenizer_folder import write_tokenizer_folder
from knowcap.errors import UserError
from knowcap.evaluation.trained_run import load_model
from knowcap.model import megatron_core
from knowcap.model.transformers_model import find_counterpart, to_transformers
from knowcap.training.run_dir import FILES, RUN_FILE

CARD_FILE = "README.md"


def export(run_folder: Path, replicate: int, folder: Path, corpus_folder: Path | None) -> str:
    """Write a replicate as a model of `transformers`; return the name of its class.

    Parameters
    ----------
    run_folder
        A finished run.
    replicate
        Index of the replicate.
    folder
        Folder for weights in safetensors, configuration, tokenizer and model card; made whole at
        the end.
    corpus_folder
        Corpus of the run; None is that in the same results.

    Raises
    ------
    UserError
        If the run is missing or damaged, has no such replicate or no counterpart in
        `transformers`, the folder has files, or a library is missing.
    """
    files.check_new_folder(folder)
    import_transformers("export")
    manifest.verify(run_folder, FILES)
    run_file = files.read_json(run_folder / RUN_FILE)
    run = Run.model_validate(run_file["record"])
    pairs = run.replicates.pairs
    if not 0 <= replicate < len(pairs):
        raise UserError(
            f"--replicate: {replicate} is not allowed; {run_folder.name} has 0 to {len(pairs) - 1}"
        )
    find_counterpart(run.architecture)
    if corpus_folder is None:
        corpus_folder = run_folder.parents[1] / "corpora" / run_file["corpus"]
    reader = load_corpus(corpus_folder)
    if reader.corpus != run.corpus:
        raise UserError(f"{corpus_folder}: not the corpus that {run_folder} was trained on")
    device = megatron_core.init_process_groups()
    stacked = load_model(run_folder, run, reader.vocab_size, device)
    state = {name: value.cpu() for name, value in stacked.unstack(replicate).items()}
    model = to_transformers(state, run.architecture, reader.vocab_size, run.optimization.seq_length)
    seed, lr = pairs[replicate]
    card = {
        "name": folder.resolve().name,
        "version": __version__,
        "class_name": type(model).__name__,
        "run": run_folder.resolve().name,
        "replicate": replicate,
        "seed": seed,
        "lr": lr,
        "num_params": run_file["num_params"]["total"],
        "tokens_per_biography": reader.tokens_per_biography,
        "vocab_size": reader.vocab_size,
        "studies": _studies(run_folder),
        "example": reader.example_biography().strip(),
        "settings": run.optimization.model_dump(mode="json", exclude_none=True),
        **describe_run(run),
        **describe_training(run_folder),
        "bits": _bits(run_folder, corpus_folder, replicate, run_file["num_params"]["total"]),
    }
    with files.atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        write_tokenizer_folder(CorpusTexts(reader), temporary)
        files.write_text(temporary / CARD_FILE, _render(card))
    return type(model).__name__


def _bits(
    run_folder: Path, corpus_folder: Path, replicate: int, num_params: int
) -> dict[str, Any] | None:
    """Bits and ratios of a replicate in the newest evaluation of its trained weights."""
    evaluations = sorted(
        run_folder.glob("trained-*/losses.nc"), key=lambda path: path.stat().st_mtime
    )
    if not evaluations:
        return None
    losses = files.read_dataset(evaluations[-1]).isel(replicate=[replicate])
    complexity = bit_complexity(losses, files.read_json(corpus_folder / METADATA_FILE))
    summary = summarize_bits(complexity, {"used": num_params})
    return {**summary, "num_evaluated": losses.sizes["person"]}


def _studies(run_folder: Path) -> list[str]:
    """Names of the finished studies in the same results that have a run."""
    name = run_folder.resolve().name
    return sorted(
        index.parent.name
        for index in run_folder.resolve().parents[1].glob("*/index.csv")
        if f"{name}/" in index.read_text(encoding="utf-8")
    )


def _render(card: dict[str, Any]) -> str:
    """Model card in Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["si"] = lambda number: f"{number:,.4g}"
    return environment.get_template("model_card.md.jinja").render(card)
