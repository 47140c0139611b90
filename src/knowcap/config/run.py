"""How it is learned: one training, from the corpus that is read to the replicates that read it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from knowcap.config.architecture import Architecture
from knowcap.config.base import Count, Positive, Record, Seed
from knowcap.config.knowledge import Corpus


class Optimization(Record):
    """How a model is trained: AdamW with warm-up and cosine decay (paper, appendix A)."""

    exposures: Count
    """E, how often each person's biography is read."""
    seq_length: Annotated[int, Field(ge=2)]
    """Tokens of a window."""
    global_batch_size: Count
    """Windows of a step, for each replicate."""
    lr_warmup_iters: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up; exactly one of this and `lr_warmup_fraction` is given."""
    lr_warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps that warm up."""
    min_lr_fraction: Annotated[float, Field(ge=0, le=1)]
    """Learning rate at the end, as a share of its peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    """On matrices; biases and norms are not decayed."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    adam_beta2: Annotated[float, Field(ge=0, lt=1)]
    adam_eps: Positive
    clip_grad: Positive
    """Largest norm of a replicate's gradient."""
    dtype: Literal["float32", "bfloat16"]
    """Of the forward and backward pass; main weights and moments are float32."""

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if (self.lr_warmup_iters is None) == (self.lr_warmup_fraction is None):
            raise ValueError("lr_warmup_iters: give it or lr_warmup_fraction, and not both")
        return self


class Replicates(Record):
    """Models trained side by side as one run: every seed with every learning rate."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Each has its own initial weights and its own order of the data."""
    lr: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Peak learning rates."""

    @model_validator(mode="after")
    def _all_distinct(self) -> Self:
        for name, values in (("seeds", self.seeds), ("lr", self.lr)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} names a value twice")
        return self

    @property
    def pairs(self) -> tuple[tuple[int, float], ...]:
        """(seed, learning rate) of each replicate, in order."""
        return tuple((seed, lr) for lr in self.lr for seed in self.seeds)


class Run(Record):
    """One training: everything that moves its numbers and nothing else."""

    corpus: Corpus
    architecture: Architecture
    optimization: Optimization
    replicates: Replicates

    @property
    def num_readings(self) -> int:
        """Biographies each replicate reads: N people times E exposures, and junk, about."""
        num_useful = self.corpus.knowledge.num_people * self.optimization.exposures
        mixture = self.corpus.mixture
        return num_useful if mixture is None else round(num_useful / mixture.useful_share)
