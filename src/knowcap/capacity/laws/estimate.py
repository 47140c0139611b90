"""Estimates with Student's t intervals, on a linear or a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

ALPHA = 0.05
"""Intervals cover the true value with probability 1 - ALPHA."""

Status = Literal["ok", "one seed", "too few models", "not positive", "no data"]
"""`ok`, or why an estimate has no interval."""


@dataclass(frozen=True)
class Coverage:
    """Numbers of cells, sizes, populations and seeds behind an estimate."""

    num_cells: int = 0
    num_sizes: int = 0
    num_populations: int = 0
    num_replicates: int = 0
    """Trainings, both sides of a comparison together."""
    min_seeds: int = 0
    max_seeds: int = 0

    @property
    def scope(self) -> str:
        """What the interval generalises to: `this cell`, or numbers of sizes and populations."""
        if self.num_cells < 2:
            return "this cell" if self.num_cells else ""
        sizes = "this size" if self.num_sizes == 1 else f"{self.num_sizes} sizes"
        if self.num_populations == 1:
            return f"{sizes}, this population"
        return f"{sizes}, {self.num_populations} populations"


@dataclass(frozen=True)
class Estimate:
    """An estimate whose error follows Student's t distribution on its scale."""

    center: float
    """Estimate on its scale: its logarithm if `is_log`."""
    standard_error: float
    degrees_of_freedom: float
    status: Status
    is_log: bool = False
    coverage: Coverage = field(default_factory=Coverage)
    leave_one_out: tuple[float, float] = (math.nan, math.nan)
    """Lowest and highest estimate when each cell is left out; NaN with one cell."""

    @classmethod
    def without_interval(
        cls, status: Status, value: float = math.nan, coverage: Coverage | None = None
    ) -> Estimate:
        """Return an estimate whose interval is NaN."""
        return cls(value, math.nan, math.nan, status, coverage=coverage or Coverage())

    @property
    def value(self) -> float:
        """The estimate."""
        return self._from_scale(self.center)

    @property
    def lower(self) -> float:
        """Lower end of the 95 % interval; NaN where there is none."""
        return self._from_scale(self.center - self._half_width)

    @property
    def upper(self) -> float:
        """Upper end of the 95 % interval; NaN where there is none."""
        return self._from_scale(self.center + self._half_width)

    @property
    def has_interval(self) -> bool:
        """Whether the estimate has an interval."""
        return math.isfinite(self.standard_error)

    def p_below(self, limit: float) -> float:
        """P-value of the hypothesis that the true value is `limit` or more."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees_of_freedom, self._distance(limit)))

    def p_above(self, limit: float) -> float:
        """P-value of the hypothesis that the true value is `limit` or less."""
        return 1 - self.p_below(limit)

    def as_factor(self, step: float) -> Estimate:
        """Return the factor of an exponent when its variable is `step` times larger."""
        scale = math.log(step)
        ends = sorted(math.exp(end * scale) for end in self.leave_one_out)
        return replace(
            self,
            center=self.center * scale,
            standard_error=self.standard_error * abs(scale),
            is_log=True,
            leave_one_out=(ends[0], ends[1]),
        )

    @property
    def _half_width(self) -> float:
        return float(half_width(self.standard_error, self.degrees_of_freedom))

    @property
    def _from_scale(self) -> Callable[[float], float]:
        return _exp if self.is_log else float

    def _distance(self, limit: float) -> float:
        """Distance of the estimate from `limit` in standard errors, on the scale."""
        if math.isinf(limit):
            return -limit
        if self.is_log:
            limit = math.log(limit) if limit > 0 else -math.inf
        distance = np.subtract(self.center, limit)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nan_to_num(np.divide(distance, self.standard_error), posinf=np.inf))


def half_width(
    standard_error: npt.ArrayLike, degrees_of_freedom: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Half of the width of Student's t intervals."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(degrees_of_freedom, 1 - ALPHA / 2) * np.asarray(standard_error))


def _exp(number: float) -> float:
    """Exponential; infinite where it overflows."""
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf
