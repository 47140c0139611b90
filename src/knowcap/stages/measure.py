"""Measurement of a model that was trained elsewhere: losses, bits and a row for a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tabulate import tabulate

from knowcap.artifacts import files
from knowcap.capacity.bit_complexity import bit_complexity
from knowcap.capacity.measured_figure import check_figure_path, write_measured_figure
from knowcap.capacity.measured_model import (
    append_measured,
    measured_table,
    scale_of,
    summarize_bits,
    without_window_scorings,
)
from knowcap.capacity.table_columns import describe_corpus
from knowcap.config import Evaluation
from knowcap.data.biography_writer import INDEX_BLOCK_SIZE
from knowcap.data.corpus import CorpusReader, load_corpus
from knowcap.data.corpus_metadata import METADATA_FILE
from knowcap.data.corpus_texts import CorpusTexts
from knowcap.data.retokenized_corpus import RetokenizedCorpus
from knowcap.data.text_folder import find_corpus_folder
from knowcap.data.text_tokenizer import TextTokenizer, own_text_tokenizer
from knowcap.data.tokenizer import DOMAIN_TOKEN
from knowcap.errors import UserError
from knowcap.evaluation.causal_lm import (
    CausalLM,
    ModelDtype,
    NumParams,
    has_tokenizer,
    load_text_tokenizer,
)
from knowcap.evaluation.evaluate import compute_losses

TokenizerChoice = Literal["model", "corpus"]
"""Whose tokenizer splits the prompts."""

LOSSES_FILE, BITS_FILE, TABLE_FILE = "losses.nc", "bits.json", "capacity.nc"

PRECISION = "trained"
"""Precision of a measured model in a table: its weights are not quantised here."""

OWN_SCALE = "measured models"
"""Scale of a measured model in a table of its own."""


class MeasureSettings(NamedTuple):
    """Settings of a measurement."""

    evaluation: Evaluation
    """Evaluated people and prompt templates."""
    tokenizer: TokenizerChoice | None
    """None is the model's tokenizer if its folder has one, else the corpus's."""
    dtype: ModelDtype
    """Dtype of the weights."""
    num_threads: int
    """CPU threads of torch."""
    batch_tokens: int | None
    """Largest number of tokens of a batch; None is chosen by the size of the vocabulary."""
    exposures: int
    """Exposures in training; 0 if unknown."""
    window_biographies: int = 1
    """Biographies of a training window; 1 does not score names after other biographies."""


def measure(
    model_folder: Path,
    corpus_folder: Path,
    output: Path,
    settings: MeasureSettings,
    study_table: Path | None = None,
    figure: Path | None = None,
) -> str:
    """Measure the bits of a model; return a table of them as text.

    Parameters
    ----------
    model_folder
        A causal language model that `transformers` loads.
    corpus_folder
        A corpus, or a text folder that contains one.
    output
        Folder for ``losses.nc``, ``bits.json`` and ``capacity.nc``, made whole at the end.
    settings
        Settings.
    study_table
        Table of a study, to which the row in ``capacity.nc`` is appended.
    figure
        Figure of the model and the study's models, bits against parameters.

    Raises
    ------
    UserError
        If a file is missing or damaged, the output exists, or the model or its tokenizer cannot
        be measured on this corpus.
    """
    files.check_new_folder(output)
    if figure is not None:
        check_figure_path(figure)
        if study_table is None:
            raise UserError("--figure: needs --study-table, whose models it shows")
    if study_table is not None and not settings.exposures:
        raise UserError("--exposures: missing; a row of a study's table needs it")
    study = None if study_table is None else files.read_dataset(study_table)
    corpus_folder = find_corpus_folder(corpus_folder)
    reader = load_corpus(corpus_folder)
    model = CausalLM(model_folder, settings.dtype, settings.num_threads)
    choice = settings.tokenizer or ("model" if has_tokenizer(model_folder) else "corpus")
    corpus = RetokenizedCorpus(reader, _text_tokenizer(choice, model, reader), model.vocab_size)
    used_tokens = corpus.find_used_tokens()
    _check_size(model, corpus, int(used_tokens.max()), settings.window_biographies)
    losses = compute_losses(
        corpus,
        model.logits,
        settings.evaluation,
        settings.batch_tokens or model.batch_tokens,
        settings.window_biographies,
    )
    run = model_folder.resolve().name
    losses = losses.assign_coords(seed=("replicate", [0]), lr=("replicate", [0.0]))
    losses.attrs.update(run=run, precision=PRECISION)
    facts = files.read_json(corpus_folder / METADATA_FILE)
    complexity = bit_complexity(losses, facts)
    if settings.window_biographies == 1:
        complexity = without_window_scorings(complexity)
    num_params = model.num_params(used_tokens.size)
    columns = {
        **describe_corpus(reader.corpus),
        **model.describe(),
        "run": run,
        "precision": PRECISION,
        "corpus": corpus_folder.resolve().name,
        "exposures": settings.exposures,
        "num_params": num_params.used,
        "num_params_embedding": num_params.embedding - num_params.unused,
        "num_params_active": num_params.used - model.num_idle_params(),
        "bits_per_param": np.nan,
        "names_per_person": (facts["num_names"] or np.nan) / facts["num_people"],
        "num_evaluated": losses.sizes["person"],
    }
    scale = OWN_SCALE if study is None else scale_of(study, columns["knowledge"])
    table = measured_table(complexity, columns, scale)
    summary = {
        "format": files.FORMAT,
        "model": str(model_folder),
        "class": model.class_name,
        "corpus": str(corpus_folder),
        "tokenizer": choice,
        "dtype": settings.dtype,
        "num_people": reader.corpus.knowledge.num_people,
        "num_evaluated": losses.sizes["person"],
        "num_used_tokens": used_tokens.size,
        **summarize_bits(complexity, {"used": num_params.used, "all": num_params.total}),
    }
    with files.atomic_folder(output) as folder:
        files.write_dataset(losses, folder / LOSSES_FILE)
        files.write_json(folder / BITS_FILE, summary)
        both = table if study is None else append_measured(study, table)
        files.write_dataset(both, folder / TABLE_FILE)
        if study is not None and figure is not None:
            write_measured_figure(study, table, figure)
    return _format(summary, num_params)


def _text_tokenizer(
    choice: TokenizerChoice, model: CausalLM, corpus_reader: CorpusReader
) -> TextTokenizer:
    """Tokenizer of the model or of the corpus."""
    if choice == "corpus":
        return own_text_tokenizer(corpus_reader)
    if not has_tokenizer(model.folder):
        raise UserError(f"{model.folder}: no tokenizer; give --tokenizer corpus")
    mixture = corpus_reader.corpus.mixture
    has_domain_token = mixture is not None and mixture.domain_token
    name = CorpusTexts(corpus_reader).first_name
    return load_text_tokenizer(model.folder, name, DOMAIN_TOKEN if has_domain_token else None)


def _check_size(
    model: CausalLM, corpus: RetokenizedCorpus, largest_token: int, window_biographies: int
) -> None:
    """Raise a UserError if the model has no row for a token, or too short a context."""
    if largest_token >= model.vocab_size:
        raise UserError(
            f"{model.folder}: the tokenizer has token {largest_token}, the model has only "
            f"{model.vocab_size} tokens; was it trained on another corpus?"
        )
    if not 1 <= window_biographies <= corpus.corpus.knowledge.num_people:
        raise UserError(
            f"--window-biographies: {window_biographies} is not allowed; the corpus has "
            f"{corpus.corpus.knowledge.num_people} people"
        )
    people = np.arange(min(corpus.corpus.knowledge.num_people, INDEX_BLOCK_SIZE))
    prompts = [corpus.biography_prompts(people, seed=0)]
    if window_biographies > 1:
        prompts.append(corpus.later_name_prompts(people, 0, window_biographies))
    # The last token is predicted and not read.
    length = max(each.tokens.shape[1] for each in prompts) - 1
    if model.context_length is not None and length > model.context_length:
        raise UserError(
            f"{model.folder}: prompts have up to {length} tokens, the model's context "
            f"(max_position_embeddings) has {model.context_length}"
        )


def _format(summary: Mapping[str, Any], num_params: NumParams) -> str:
    """Bits, ratios and bits by term and attribute as a table of text."""
    scorings = list(summary["bits"])

    def row(label: str, values: Mapping[str, float], maximum: float) -> list[str]:
        return [label, *(f"{values[scoring]:,.4g}" for scoring in scorings), f"{maximum:,.4g}"]

    def rows(kind: str) -> list[list[str]]:
        largest = summary[f"max_bits_by_{kind}"]
        by_scoring = summary[f"bits_by_{kind}"]
        return [
            row(f"  {name}", {s: by_scoring[s][name] for s in scorings}, largest[name])
            for name in largest
            if largest[name]
        ]

    ratios, bounds = summary["capacity_ratio"], summary["max_capacity_ratio"]
    lines = [
        row("R, bits per used parameter", ratios["used"], bounds["used"]),
        row("R, bits per parameter", ratios["all"], bounds["all"]),
        row("bits", summary["bits"], summary["max_bits"]),
        *rows("term"),
        *rows("attribute"),
    ]
    header = ["", *(name.replace("_", " ") for name in scorings), "maximum"]
    table = tabulate(
        lines,
        header,
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", *["right"] * (len(header) - 1)),
    )
    return (
        f"{summary['class']} in {summary['model']}: {num_params.total:,} parameters, "
        f"{num_params.used:,} without the embeddings of tokens that the corpus does not use; "
        f"{summary['num_evaluated']:,} of {summary['num_people']:,} people, "
        f"tokenizer of the {summary['tokenizer']}\n{table}"
    )
