"""Cost of a run before it starts: tokens, optimizer steps, FLOPs and disk space.

It follows from the run's record, except for the vocabulary and the length of biographies, which
are measured when a corpus is made and estimated until then.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from knowcap.artifacts import files, identity, manifest
from knowcap.config import (
    NAME_POOL_SIZES,
    Architecture,
    BioD,
    BioS,
    Corpus,
    Evaluation,
    Run,
    Table,
)
from knowcap.config.knowledge import LONGEST_BIOS_BIOGRAPHY
from knowcap.model.num_params import num_params, num_weights
from knowcap.training.metrics_logger import NUM_LINES

FLOAT32_BYTES, FLOAT64_BYTES = 4, 8

NUM_BIOS_ATTRIBUTES = 6

NUM_NAME_WORDS = 1449
"""Distinct words among first, middle and last names."""

CHECKPOINT_COPIES = 10
"""Copies of the weights that a training can have on disk: three checkpoints while the oldest is
being replaced, each with AdamW's two moments, and the weights to be published."""

METRICS_BYTES, METRICS_BYTES_PER_REPLICATE = 130, 65
"""Approximate length of a line of metrics, and its growth with each replicate."""


class TextStatistics(NamedTuple):
    """Vocabulary and length of biographies of a corpus, which its cost depends on."""

    vocab_size: int
    """Number of tokens that the corpus uses, including the end of text."""
    tokens_per_biography: float
    """Mean length, including the end of text."""
    longest_biography: int
    """Upper bound of the length, including the end of text."""
    is_measured: bool
    """Whether they are measured in a corpus; otherwise they are estimates."""


BIOS_TEXT_STATISTICS = {
    "GPT2": TextStatistics(3314, 72.9, LONGEST_BIOS_BIOGRAPHY["GPT2"], is_measured=False),
    "Mistral": TextStatistics(2884, 85.4, LONGEST_BIOS_BIOGRAPHY["Mistral"], is_measured=False),
    "word": TextStatistics(3077, 69.3, LONGEST_BIOS_BIOGRAPHY["word"], is_measured=False),
}
"""Measured for bioS of 10,000 people and more; smaller populations use fewer tokens."""


def text_statistics(corpus: Corpus, results: Path) -> TextStatistics:
    """Return the measured statistics of a corpus, or estimates if it is not made yet."""
    path = results / "corpora" / identity.corpus_name(corpus) / "corpus.json"
    if path.exists():
        manifest.verify(path.parent, [path.name])
        facts = files.read_json(path)
        return TextStatistics(
            vocab_size=facts["vocab_size"],
            tokens_per_biography=facts["tokens_per_biography"],
            longest_biography=facts["longest_biography"],
            is_measured=True,
        )
    return expected_text_statistics(corpus)


def expected_text_statistics(corpus: Corpus) -> TextStatistics:
    """Return estimates of a corpus's statistics."""
    knowledge = corpus.knowledge
    text = (
        _biod_text(knowledge)
        if knowledge.kind == "bioD"
        else _table_text(knowledge)
        if knowledge.kind == "table"
        # ASSUME: another tokenizer has tokens about as long as GPT-2's.
        else BIOS_TEXT_STATISTICS.get(corpus.tokenizer, BIOS_TEXT_STATISTICS["GPT2"])
    )
    if not (corpus.mixture and corpus.mixture.domain_token):
        return text
    return text._replace(
        vocab_size=text.vocab_size + 1,
        tokens_per_biography=text.tokens_per_biography + 1,
        longest_biography=text.longest_biography + 1,
    )


def _table_text(knowledge: Table) -> TextStatistics:
    """Return a guess from the words of the sentences; names and values have two words each."""
    # ASSUME: two words for a name or value, and 1.3 tokens for a word, as in bioS with GPT-2's
    words, vocabulary = 0.0, 2 * knowledge.num_people
    for attribute in knowledge.attributes:
        lengths = [len(sentence.split()) + 3 for sentence in attribute.sentences]
        words += sum(lengths) / len(lengths)
        vocabulary += sum(lengths) + 2 * min(attribute.num_values, knowledge.num_people)
    length = 1 + 1.3 * words
    return TextStatistics(vocabulary, length, 2 * round(length), is_measured=False)


def _biod_text(knowledge: BioD) -> TextStatistics:
    """Return the exact length of biographies, and the expected size of the vocabulary."""
    num_attributes, num_chunks = knowledge.num_attributes, knowledge.num_chunks
    chunk_length, alphabet_size = knowledge.chunk_length, knowledge.alphabet_size
    length = knowledge.tokens_per_biography
    if knowledge.layout == "compact":
        return TextStatistics(1 + num_attributes + alphabet_size, length, length, is_measured=False)
    num_fixed = len(("end", "'s", "Her", "ID", "is", ".")) + (num_chunks > 1) + num_attributes
    drawn_names = sum(_expected_distinct(size, knowledge.num_people) for size in NAME_POOL_SIZES)
    chunks = num_attributes * _expected_distinct(
        knowledge.diversity, knowledge.num_people * num_chunks
    )
    words = min(drawn_names, NUM_NAME_WORDS) + _expected_distinct(
        alphabet_size, chunks * chunk_length
    )
    return TextStatistics(num_fixed + round(words), length, length, is_measured=False)


def _expected_distinct(size: int, draws: float) -> float:
    """Expected number of distinct items when drawing from `size` items with replacement."""
    return -size * math.expm1(draws * math.log1p(-1 / size)) if size > 1 else 1.0


def flops_per_token(architecture: Architecture, vocab_size: int, seq_length: int) -> float:
    """Number of floating-point operations of training on one token.

    Notes
    -----
    A product with a matrix of n entries takes 2 n operations. Position i attends to i + 1 keys,
    (S + 1) / 2 on average, with 4 d operations per key (score and weighted sum) in each layer. The
    backward pass takes twice as many as the forward pass. In total 6 (V d + 12 l d^2) +
    6 l d (S + 1) for GPT2. Norms, activations and softmax are not counted, nor are operations that
    a kernel repeats or discards.
    """
    weights = sum(num_weights(architecture, vocab_size).values())
    attention = architecture.num_layers * architecture.hidden_size * (seq_length + 1)
    return 6.0 * (weights + attention)


def num_windows(run: Run, text: TextStatistics) -> float:
    """Number of training windows of a replicate, padding included."""
    biographies, seq_length = run.num_biographies_read, run.optimization.seq_length
    if run.optimization.windows == "aligned":
        return biographies / max(1, seq_length // text.longest_biography)
    return biographies * text.tokens_per_biography / seq_length


def training_flops(run: Run, text: TextStatistics) -> float:
    """Number of floating-point operations of the training of all replicates."""
    optimization = run.optimization
    tokens = num_windows(run, text) * optimization.seq_length
    per_token = flops_per_token(run.architecture, text.vocab_size, optimization.seq_length)
    return per_token * tokens * len(run.replicates.pairs)


STEP_FLOPS = 5e6
"""FLOPs that take as long as the fixed time of a step, measured for small models."""


def relative_time(run: Run) -> float:
    """Training time of a run relative to other runs on the same machine."""
    expected = expected_text_statistics(run.corpus)
    steps = num_windows(run, expected) / run.optimization.global_batch_size
    return training_flops(run, expected) + STEP_FLOPS * steps


class Cost(NamedTuple):
    """Cost of one run, for all its replicates together."""

    num_models: int
    """Number of replicates."""
    num_tokens: float
    """Training tokens."""
    train_iters: int
    """Optimizer steps."""
    flops: float
    """Floating-point operations of the training."""
    weights_bytes: int
    """Size of the published weights."""
    metrics_bytes: int
    losses_bytes: int
    """Size of the losses of one measurement, uncompressed."""
    scratch_bytes: int
    """Largest size of the scratch folder during training."""


def cost(run: Run, text: TextStatistics, evaluation: Evaluation) -> Cost:
    """Return the cost of a run and of one of its measurements."""
    optimization, num_models = run.optimization, len(run.replicates.pairs)
    tokens = run.num_biographies_read * text.tokens_per_biography
    windows = num_windows(run, text)
    params = num_params(run.architecture, text.vocab_size)["total"]
    weights_bytes = FLOAT32_BYTES * params * num_models
    return Cost(
        num_models=num_models,
        num_tokens=tokens * num_models,
        train_iters=math.ceil(windows / optimization.global_batch_size),
        flops=training_flops(run, text),
        weights_bytes=weights_bytes,
        metrics_bytes=NUM_LINES * (METRICS_BYTES + METRICS_BYTES_PER_REPLICATE * num_models),
        losses_bytes=FLOAT64_BYTES * num_models * _losses_per_model(run, evaluation),
        scratch_bytes=CHECKPOINT_COPIES * weights_bytes,
    )


def _losses_per_model(run: Run, evaluation: Evaluation) -> int:
    """Numbers in ``losses.nc``: four losses per name, and four per value or five for bioD."""
    knowledge = run.corpus.knowledge
    people = min(evaluation.num_people, knowledge.num_people)
    if knowledge.kind == "bioD":
        return people * (4 + 5 * knowledge.num_attributes)
    if knowledge.kind == "table":
        return people * (4 + 4 * len(knowledge.attributes))
    num_extra = len(knowledge.extra_attributes) if isinstance(knowledge, BioS) else 0
    return people * (4 + 4 * (NUM_BIOS_ATTRIBUTES + num_extra))
