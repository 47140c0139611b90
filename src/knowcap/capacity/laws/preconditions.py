"""Preconditions of a verdict: each computes a number from cells and compares it with a limit.

A quantity whose precondition fails is `not testable here`, and the number is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from knowcap.capacity.laws.cell_summaries import distinct_sizes, sizes_of
from knowcap.capacity.laws.claims import EQUAL_FACTOR

PAPER_MIN_PARAMS = 700_000
"""Models with fewer parameters are scale models."""
# PAPER 4.1: the smallest model has 816,000 parameters; other vocabularies may be a little smaller.


@dataclass(frozen=True)
class Check:
    """The number of a precondition, and whether it is within its limit."""

    name: str
    value: float
    relation: Literal["at least", "at most"]
    limit: float
    description: str
    """What the number is, such as `fewest training steps`."""

    @property
    def passed(self) -> bool:
        """Whether the number is within the limit; NaN is not."""
        if self.relation == "at least":
            return self.value >= self.limit
        return self.value <= self.limit

    def __str__(self) -> str:
        return (
            f"{self.description}: {_text(self.value)}, {self.relation} {_text(self.limit)} needed"
        )


class Precondition(Protocol):
    """A named test of cells that have at least one row."""

    @property
    def name(self) -> str:
        """Name, as in docs/verdicts.md."""

    def check(self, cells: pd.DataFrame) -> Check:
        """Compute the number and compare it."""


@dataclass(frozen=True)
class SeveralSizes:
    """Two model sizes or more: one size says `this size`."""

    limit: int = 2
    name: str = "sizes"

    def check(self, cells: pd.DataFrame) -> Check:
        """Count the sizes."""
        value = len(distinct_sizes(sizes_of(cells)))
        return Check(self.name, value, "at least", self.limit, "model sizes compared")


@dataclass(frozen=True)
class Plateau:
    """R no longer rises with size at fixed R_max, so that a peak can be read."""

    limit: float = 1.05
    # ASSUME: a twentieth, the margin of the claim "at least 2 bit/parameter".
    name: str = "plateau"

    def check(self, cells: pd.DataFrame) -> Check:
        """Divide R of the largest size by R of the next smaller one."""
        sizes = distinct_sizes(sizes_of(cells))
        value = math.nan
        description = "R of the largest size, relative to the next size with similar R_max"
        if len(sizes) > 1:
            is_largest = sizes_of(cells) >= sizes[-1]
            is_next = (sizes_of(cells) >= sizes[-2]) & ~is_largest
            large, small = (cells["value"][chosen].mean() for chosen in (is_largest, is_next))
            value = large / small if small > 0 else math.inf
            description += f" ({sizes[-1]:,.0f} and {sizes[-2]:,.0f} parameters)"
        return Check(self.name, value, "at most", self.limit, description)


@dataclass(frozen=True)
class BaselineReaches:
    """The baseline stores what the claim presupposes, in this very study."""

    limit: float
    name: str = "baseline"

    def check(self, cells: pd.DataFrame) -> Check:
        """Average R of the baseline over cells."""
        value = float(cells["capacity_ratio_baseline"].mean())
        return Check(self.name, value, "at least", self.limit, "mean R of the baseline")


RATE_SEPARATOR = "; "
"""Between the number of models whose best learning rate is at an end, and the ratio."""

RATE_RATIO = "largest R at an end of the tried learning rates, relative to R at the next rate"
"""What the number of :class:`InteriorRate` is."""


@dataclass(frozen=True)
class InteriorRate:
    """The best learning rate is inside the range tried, or the next one is nearly as good."""

    limit: float = EQUAL_FACTOR
    name: str = "rate"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the largest ratio to the next rate where the best is the first or last one."""
        losses = cells.filter(regex="^edge_loss").to_numpy(dtype=float)
        num_single = int((cells.filter(regex="^num_rates").to_numpy() == 1).sum())
        num_edge = int((losses > 1).sum())
        models = f"{num_edge} of {losses.size} model{'s' if losses.size > 1 else ''}"
        description = f"the best learning rate of {models} lies at an end of the tried range"
        if num_edge:
            description += ", so a better one may lie outside"
        if num_single:
            single = "" if num_edge == 1 else f"for {num_single} of them "
            description += f" ({single}only one was tried, so the ratio is infinite)"
        description += f"{RATE_SEPARATOR}{RATE_RATIO}"
        return Check(self.name, float(losses.max()), "at most", self.limit, description)


@dataclass(frozen=True)
class LowVarianceInflation:
    """The parameter is not collinear with the other parameters of the shape."""

    column: str
    others: tuple[str, ...]
    limit: float = 10.0
    name: str = "VIF"

    def check(self, cells: pd.DataFrame) -> Check:
        """Compute the variance inflation factor of the logarithm among those that vary."""
        from statsmodels.stats.outliers_influence import variance_inflation_factor

        columns = [self.column, *self.others]
        logs = np.log(cells[columns].drop_duplicates().to_numpy(dtype=float))
        varying = logs[:, [0, *(i for i in range(1, logs.shape[1]) if np.ptp(logs[:, i]) > 0)]]
        exog = np.column_stack([varying, np.ones(len(varying))])
        value = math.inf
        if np.ptp(logs[:, 0]) > 0:
            with np.errstate(divide="ignore"):
                value = float(variance_inflation_factor(exog, 0))
        return Check(self.name, value, "at most", self.limit, "variance inflation factor")


@dataclass(frozen=True)
class EqualSize:
    """Both sides of the comparison have equally many parameters."""

    limit: float = 1.1
    # ASSUME: R changes by 2 % or less over such a difference (exponent of R in P up to 0.2).
    name: str = "equal size"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the largest ratio of parameters, the larger side over the smaller one."""
        ratio = (cells["num_params"] / cells["num_params_baseline"]).to_numpy(dtype=float)
        value = float(np.exp(np.abs(np.log(ratio)).max()))
        return Check(
            self.name, value, "at most", self.limit, "largest ratio of P between the two sides"
        )


@dataclass(frozen=True)
class ManyNames:
    """There are far more possible names than people, as Theorem 3.2 demands."""

    limit: float = 100.0
    name: str = "names"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the smallest N0 / N."""
        value = float((cells["num_names"] / cells["num_people"]).min())
        return Check(self.name, value, "at least", self.limit, "possible names per person, N0 / N")


@dataclass(frozen=True)
class EnoughSteps:
    """Models are trained for enough optimizer steps."""

    paper_limit: int = 50_000  # PAPER 4.1: at least 50K steps at any batch size.
    scale_model_limit: int = 30_000
    # ASSUME: for scale models. There 35,000 steps in place of 140,000 cost a quarter of R, and
    # 4,400 steps four fifths (docs/log/scale-model.md).
    name: str = "steps"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the smallest number of steps."""
        is_scale_model = cells["num_params"].min() < PAPER_MIN_PARAMS
        limit = self.scale_model_limit if is_scale_model else self.paper_limit
        value = float(cells.filter(regex="^train_iters").to_numpy().min())
        return Check(self.name, value, "at least", limit, "fewest training steps")


@dataclass(frozen=True)
class EnoughTokensPerExpert:
    """Every step has enough tokens for each expert."""

    limit: float = 128.0  # PAPER 9, appendix D: 4096 tokens a step or more for 32 experts.
    name: str = "tokens a step"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the smallest number of tokens per step and expert."""
        value = float((cells["tokens_per_step"] / cells["num_moe_experts"]).min())
        return Check(self.name, value, "at least", self.limit, "fewest tokens per step and expert")


@dataclass(frozen=True)
class SeveralWordings:
    """Biographies of a person differ in wording, not only in the order of sentences."""

    limit: int = 2
    name: str = "wordings"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the smallest number of sentence templates of an attribute."""
        value = float(cells["num_wordings"].min())
        return Check(self.name, value, "at least", self.limit, "sentence templates of an attribute")


@dataclass(frozen=True)
class SizesAgree:
    """The effect is the same at all sizes, so that its average means something."""

    limit: float = 1.25
    # ASSUME: half of the effect "2 times lower" is 1.41; sizes may differ by about half of that.
    name: str = "sizes agree"

    def check(self, cells: pd.DataFrame) -> Check:
        """Divide the largest by the smallest mean value among sizes."""
        sizes = distinct_sizes(sizes_of(cells))
        group = np.searchsorted(sizes, sizes_of(cells), side="right")
        means = cells["value"].groupby(group).mean()
        value = float(means.max() / means.min()) if means.min() > 0 else math.inf
        values = ", ".join(
            f"{mean:.3g} at {size:,.0f}" for mean, size in zip(means, sizes, strict=True)
        )
        description = f"largest effect among sizes, relative to the smallest ({values} parameters)"
        return Check(self.name, value, "at most", self.limit, description)


@dataclass(frozen=True)
class EffectToExplain:
    """The effect whose cause the claim names exists in this study."""

    description: str
    limit: float = 1 / EQUAL_FACTOR
    name: str = "effect to explain"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the effect, the column ``effect_to_explain``; NaN if it was not measured."""
        value = float(cells["effect_to_explain"].mean())
        return Check(self.name, value, "at most", self.limit, self.description)


@dataclass(frozen=True)
class FewJunkPeople:
    """The people of repetitive junk are few beside the useful people."""

    limit: float = 50.0  # PAPER Result 11: 1000 junk people; N is 50,000 or more.
    name: str = "few junk people"

    def check(self, cells: pd.DataFrame) -> Check:
        """Return the smallest N / N'."""
        value = float((cells["num_people"] / cells["num_junk_people"]).min())
        return Check(self.name, value, "at least", self.limit, "useful people per junk person")


def _text(number: float) -> str:
    """Text of a number: whole if it is large."""
    if math.isnan(number):
        return "none"
    if math.isinf(number):
        return "infinite"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
