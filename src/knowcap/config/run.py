"""Runs: optimisation settings, replicates, and the record of one training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from knowcap.config.architecture import Architecture
from knowcap.config.base import Distinct, FieldError, Positive, Record, Seed
from knowcap.config.knowledge import Corpus

WindowKind = Literal["packed", "aligned"]
"""How biographies are divided into training windows."""


class Optimization(Record):
    """Optimizer with linear warm-up and cosine decay (paper, appendix A)."""

    optimizer: Literal["AdamW"] = "AdamW"
    """Optimizer of all parameters."""
    exposures: Annotated[int, Field(ge=1, le=10**7)]
    """E, how often each person's biography is seen in training."""
    seq_length: Annotated[int, Field(ge=2, le=2**15)]
    """Tokens of a training window."""
    windows: WindowKind = "packed"
    """`packed` cuts the concatenated biographies every `seq_length` tokens, as the paper does.
    In `aligned` windows every window begins with a biography, contains as many whole biographies
    as fit if all have the greatest length, and ends with padding."""
    reset_attention_mask: bool = False
    """Whether attention stays within a biography, whose first token is the end of text before it.
    Positions need no reset, as the rotary embedding depends on distances only."""
    global_batch_size: Annotated[int, Field(ge=1, le=2**20)]
    """Windows per optimizer step and replicate."""
    lr_warmup_iters: Annotated[int, Field(ge=0, le=10**12)] | None = None
    """Steps of linear warm-up. Exactly one of this and `lr_warmup_fraction` must be given."""
    lr_warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Steps of linear warm-up as a share of all steps."""
    min_lr_fraction: Annotated[float, Field(ge=0, le=1)]
    """Final learning rate as a share of the peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Weight decay of matrices; biases and norms are not decayed."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of the first moment."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    """Decay rate of the second moment."""
    adam_eps: Positive
    """Term added to the denominator of AdamW."""
    clip_grad: Positive
    """Norm that each replicate's gradient is clipped to."""
    dtype: Literal["float32", "bfloat16"]
    """Data type of forward and backward passes; main weights and moments are float32."""

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        if (self.lr_warmup_iters is None) == (self.lr_warmup_fraction is None):
            yield FieldError(
                "lr_warmup_iters", "exactly one of it and lr_warmup_fraction must be given"
            )


MAX_REPLICATES = 4096
"""Largest number of replicates of a run, which are in memory together."""


class Replicates(Record):
    """Models that are trained together as one run: every seed with every learning rate."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), Distinct]
    """Each determines the initial weights and the order of the data."""
    lr: Annotated[tuple[Positive, ...], Field(min_length=1), Distinct]
    """Peak learning rates."""

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        if len(self.seeds) * len(self.lr) > MAX_REPLICATES:
            yield FieldError(
                "seeds",
                f"{len(self.seeds)} seeds with {len(self.lr)} learning rates are more than "
                f"{MAX_REPLICATES} replicates",
            )

    @property
    def pairs(self) -> tuple[tuple[int, float], ...]:
        """(seed, learning rate) of each replicate, in order."""
        return tuple((seed, lr) for lr in self.lr for seed in self.seeds)


SENSIBLE_RANGES: Mapping[str, tuple[float, float]] = {
    "architecture.init_method_std": (1e-6, 100),
    "optimization.weight_decay": (0, 1000),
    "optimization.adam_eps": (1e-30, 1),
    "optimization.clip_grad": (1e-9, 1e12),
    "replicates.lr": (1e-9, 1e4),
}
"""Values outside these ranges are slips: with them no model learns anything."""

MAX_BIOGRAPHIES = 10**13
"""Largest number of biographies that a replicate reads, a hundred times the paper's."""


MAX_MIXED_BIOGRAPHIES = 2**27
"""Largest number of biographies that are mixed within windows; their tokens are counted."""


class Run(Record):
    """Everything that affects the results of one training, and nothing else."""

    corpus: Corpus
    architecture: Architecture
    optimization: Optimization
    replicates: Replicates

    @property
    def num_biographies_read(self) -> int:
        """Approximate number of biographies that each replicate reads, junk included."""
        num_useful = self.corpus.knowledge.num_people * self.optimization.exposures
        mixture = self.corpus.mixture
        return num_useful if mixture is None else round(num_useful / mixture.useful_share)

    def training_errors(self) -> Iterator[FieldError]:
        """Yield the reasons why the run cannot be trained as its record says.

        They are apart from :meth:`errors`, because steps of any shape can be made without a corpus.
        """
        yield from self._range_errors()
        optimization, seq_length = self.optimization, self.optimization.seq_length
        # Some lengths are known when the corpus is made; then a window must hold a biography.
        longest = self.corpus.longest_biography or seq_length
        if seq_length < longest:
            yield FieldError(
                "optimization.seq_length",
                f"{seq_length} tokens are too few for the longest biography of this corpus, which "
                f"has up to {longest}",
            )
        if self.num_biographies_read > MAX_BIOGRAPHIES:
            yield FieldError(
                "optimization.exposures",
                f"{optimization.exposures} exposures are {self.num_biographies_read:.0e} "
                f"biographies, junk included; at most {MAX_BIOGRAPHIES:.0e} are allowed",
            )
        mixture = self.corpus.mixture
        is_mixed_within = mixture is not None and mixture.unit == "biography"
        if is_mixed_within and self.num_biographies_read > MAX_MIXED_BIOGRAPHIES:
            yield FieldError(
                "corpus.mixture.unit",
                f"'biography' is not allowed with {self.num_biographies_read:.0e} biographies, "
                f"junk included; at most {MAX_MIXED_BIOGRAPHIES:.0e} are counted",
            )
        num_tokens = self.corpus.knowledge.num_people * optimization.exposures * longest
        if seq_length > num_tokens:
            yield FieldError(
                "optimization.seq_length",
                f"{seq_length} is more than the {num_tokens} tokens of all exposures",
            )
        num_windows = math.ceil(num_tokens / seq_length)
        if optimization.windows == "aligned":
            num_biographies = self.corpus.knowledge.num_people * optimization.exposures
            num_windows = math.ceil(num_biographies / max(1, seq_length // longest))
        num_windows = num_windows if mixture is None else round(num_windows / mixture.useful_share)
        if optimization.global_batch_size > num_windows:
            yield FieldError(
                "optimization.global_batch_size",
                f"{optimization.global_batch_size} is more than the {num_windows} windows of the "
                f"whole training",
            )
        train_iters = math.ceil(num_windows / optimization.global_batch_size)
        if (optimization.lr_warmup_iters or 0) > train_iters:
            yield FieldError(
                "optimization.lr_warmup_iters",
                f"{optimization.lr_warmup_iters} is more than the {train_iters} steps of the whole "
                f"training",
            )

    def _range_errors(self) -> Iterator[FieldError]:
        """Yield the values outside of :data:`SENSIBLE_RANGES`."""
        for path, (least, most) in SENSIBLE_RANGES.items():
            section, field = path.split(".")
            value = getattr(getattr(self, section), field)
            for number in value if isinstance(value, tuple) else (value,):
                if not least <= number <= most:
                    allowed = f"from {least:g} to {most:g} is required"
                    yield FieldError(path, f"{number:g} is not allowed: {allowed}")
