"""What a run takes, known before it starts: tokens, arithmetic and disk.

All of it follows from the record but the vocabulary and the length of biographies, which are
measured when a corpus is made and estimated until then.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import files, identity
from knowcap.config import (
    COMPACT_NAME_LENGTH,
    NAME_POOL_SIZES,
    Architecture,
    BioD,
    Corpus,
    Evaluation,
    Run,
)
from knowcap.model.num_params import num_params, num_weights

FLOAT32_BYTES, FLOAT64_BYTES = 4, 8

BIOS_ATTRIBUTES = 6

NAME_WORDS = 1449
"""Distinct words among first, middle and last names."""

CHECKPOINT_COPIES = 10
"""Copies of the weights that a training can have on disk: three checkpoints while the oldest is
replaced, each with AdamW's two moments, and the weights to be published."""

METRICS_LINES = 300
"""Of a run; a line has about so many bytes, and more for each replicate."""
METRICS_BYTES, METRICS_BYTES_PER_REPLICATE = 130, 65


class TextStatistics(NamedTuple):
    """How a corpus is written, as far as it costs anything."""

    vocab_size: int
    """Tokens in use, the end of text among them."""
    tokens_per_biography: float
    """Mean, with the end of text."""
    is_measured: bool
    """Whether the corpus is made; otherwise this is what to expect of it."""


BIOS_TEXT_STATISTICS = {
    "GPT2": TextStatistics(3314, 72.9, is_measured=False),
    "Mistral": TextStatistics(2884, 85.4, is_measured=False),
    "word": TextStatistics(3077, 69.3, is_measured=False),
}
"""bioS, as measured of all populations from 10,000 people on; smaller ones use fewer tokens."""


def text_statistics(corpus: Corpus, results: Path) -> TextStatistics:
    """Read the facts of a corpus if it is made, otherwise say what to expect."""
    path = results / "corpora" / identity.corpus_name(corpus) / "corpus.json"
    if path.exists():
        facts = files.read_json(path)
        return TextStatistics(facts["vocab_size"], facts["tokens_per_biography"], is_measured=True)
    return expected_text_statistics(corpus)


def expected_text_statistics(corpus: Corpus) -> TextStatistics:
    """Say what to expect of a corpus."""
    knowledge = corpus.knowledge
    return (
        _biod_text(knowledge)
        if knowledge.kind == "bioD"
        else BIOS_TEXT_STATISTICS[corpus.tokenizer]
    )


def _biod_text(knowledge: BioD) -> TextStatistics:
    """Reckon lengths and, but for words that chance leaves out of sentences, the vocabulary."""
    num_attributes, num_chunks = knowledge.num_attributes, knowledge.num_chunks
    chunk_length, alphabet_size = knowledge.chunk_length, knowledge.alphabet_size
    if knowledge.layout == "compact":
        length = 1 + COMPACT_NAME_LENGTH + num_attributes * (1 + num_chunks * chunk_length)
        return TextStatistics(1 + num_attributes + alphabet_size, length, is_measured=False)
    # " Her ID 7 is" or "'s ID 7 is", and a comma or a full stop behind each chunk
    length = 1 + len(NAME_POOL_SIZES) + num_attributes * (4 + num_chunks * (chunk_length + 1))
    frame = len(("end", "'s", "Her", "ID", "is", ".")) + (num_chunks > 1) + num_attributes
    drawn_names = sum(_distinct(size, knowledge.num_people) for size in NAME_POOL_SIZES)
    chunks = num_attributes * _distinct(knowledge.diversity, knowledge.num_people * num_chunks)
    words = min(drawn_names, NAME_WORDS) + _distinct(alphabet_size, chunks * chunk_length)
    return TextStatistics(frame + round(words), length, is_measured=False)


def _distinct(size: int, draws: float) -> float:
    """Expect so many of `size` things among so many draws."""
    return -size * math.expm1(draws * math.log1p(-1 / size)) if size > 1 else 1.0


def flops_per_token(architecture: Architecture, vocab_size: int, seq_length: int) -> float:
    """Count the floating-point operations that training on one token takes.

    Notes
    -----
    A product with a matrix of n entries takes 2 n; position i attends to i + 1 keys, (S + 1) / 2
    on average, and takes 4 d for each (score and sum) in each layer; the backward pass takes
    twice what the forward pass does. In all 6 (V d + 12 l d^2) + 6 l d (S + 1). Norms, activations,
    softmax and what a kernel computes in vain or anew do not count.
    """
    weights = sum(num_weights(architecture, vocab_size).values())
    attention = architecture.num_layers * architecture.hidden_size * (seq_length + 1)
    return 6.0 * (weights + attention)


STEP_FLOPS = 5e6
"""Operations in the time that any step takes, however small; as measured of small models."""


def relative_time(run: Run) -> float:
    """How long a run trains, relative to others on the same machine."""
    expected = expected_text_statistics(run.corpus)
    tokens = run.num_readings * expected.tokens_per_biography
    optimization = run.optimization
    steps = tokens / (optimization.seq_length * optimization.global_batch_size)
    per_token = flops_per_token(run.architecture, expected.vocab_size, optimization.seq_length)
    return per_token * tokens * len(run.replicates.pairs) + STEP_FLOPS * steps


class Cost(NamedTuple):
    """What one run takes, all its replicates together."""

    num_models: int
    num_tokens: float
    """Read in training."""
    train_iters: int
    flops: float
    """Of the training."""
    weights_bytes: int
    """In the results."""
    metrics_bytes: int
    losses_bytes: int
    """Of one measurement, uncompressed."""
    scratch_bytes: int
    """At most, while it trains."""


def cost(run: Run, text: TextStatistics, evaluation: Evaluation) -> Cost:
    """Reckon what a run and a measurement of it take, on a corpus that is written so."""
    optimization, num_models = run.optimization, len(run.replicates.pairs)
    tokens = run.num_readings * text.tokens_per_biography
    step_tokens = optimization.seq_length * optimization.global_batch_size
    per_token = flops_per_token(run.architecture, text.vocab_size, optimization.seq_length)
    params = num_params(run.architecture, text.vocab_size)["total"]
    weights_bytes = FLOAT32_BYTES * params * num_models
    return Cost(
        num_models=num_models,
        num_tokens=tokens * num_models,
        train_iters=math.ceil(tokens / step_tokens),
        flops=per_token * tokens * num_models,
        weights_bytes=weights_bytes,
        metrics_bytes=METRICS_LINES * (METRICS_BYTES + METRICS_BYTES_PER_REPLICATE * num_models),
        losses_bytes=FLOAT64_BYTES * num_models * _losses_per_model(run, evaluation),
        scratch_bytes=CHECKPOINT_COPIES * weights_bytes,
    )


def _losses_per_model(run: Run, evaluation: Evaluation) -> int:
    """Numbers in ``losses.nc``: two losses of a name, three of a value, bioD's four."""
    knowledge = run.corpus.knowledge
    people = min(evaluation.num_people, knowledge.num_people)
    if knowledge.kind == "bioD":
        return people * (2 + 4 * knowledge.num_attributes)
    return people * (2 + 3 * BIOS_ATTRIBUTES)
