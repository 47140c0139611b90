"""Runs: optimisation settings, replicates, and the record of one training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from knowcap.config.architecture import Architecture
from knowcap.config.base import Count, Positive, Record, Seed
from knowcap.config.knowledge import Corpus

WindowKind = Literal["packed", "aligned"]
"""How biographies are divided into training windows."""


class Optimization(Record):
    """AdamW with linear warm-up and cosine decay (paper, appendix A)."""

    exposures: Count
    """E, how often each person's biography is seen in training."""
    seq_length: Annotated[int, Field(ge=2)]
    """Tokens of a training window."""
    windows: WindowKind = "packed"
    """`packed` cuts the concatenated biographies every `seq_length` tokens, as the paper does.
    In `aligned` windows every window begins with a biography, contains as many whole biographies
    as fit if all have the greatest length, and ends with padding."""
    global_batch_size: Count
    """Windows per optimizer step and replicate."""
    lr_warmup_iters: Annotated[int, Field(ge=0)] | None = None
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

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if (self.lr_warmup_iters is None) == (self.lr_warmup_fraction is None):
            raise ValueError(
                "lr_warmup_iters: exactly one of it and lr_warmup_fraction must be given"
            )
        return self


class Replicates(Record):
    """Models that are trained together as one run: every seed with every learning rate."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Each determines the initial weights and the order of the data."""
    lr: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Peak learning rates."""

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        for name, values in (("seeds", self.seeds), ("lr", self.lr)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} contains a value twice")
        return self

    @property
    def pairs(self) -> tuple[tuple[int, float], ...]:
        """(seed, learning rate) of each replicate, in order."""
        return tuple((seed, lr) for lr in self.lr for seed in self.seeds)


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
