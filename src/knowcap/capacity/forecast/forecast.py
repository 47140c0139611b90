"""Given numbers, forecasts, and the cost of a forecast.

With R bits per parameter, a model of P parameters stores R P bits. Training it for E exposures
takes 6 P D floating-point operations, where D is E times the tokens of one exposure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from knowcap.capacity.forecast.log_prediction import Interval
from knowcap.capacity.forecast.number_text import number_text

FLOPS_PER_PARAM = 6
"""Operations of training per parameter and token: 2 forward, 4 backward."""

UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Given:
    """Numbers that are known; None are to be predicted."""

    tokens_per_bit: float
    """Training tokens of one exposure per bit of knowledge."""
    bits: float | None = None
    """Bits to be stored."""
    num_params: float | None = None
    exposures: float | None = None
    tokens_per_exposure: float | None = None
    """Tokens of one exposure of all knowledge; None is `tokens_per_bit` for each bit."""
    flops_per_hour: float | None = None
    """Speed of a GPU."""
    hours: float | None = None
    """GPU-hours that are available."""

    @property
    def flops(self) -> float | None:
        """Operations that are available."""
        if self.hours is None or self.flops_per_hour is None:
            return None
        return self.hours * self.flops_per_hour


@dataclass(frozen=True)
class Forecast:
    """Numbers of one model, given and predicted; those that are given have no interval."""

    source: str
    """`table` or `paper`."""
    exposures: Interval = UNKNOWN
    num_params: Interval = UNKNOWN
    capacity_ratio: Interval = UNKNOWN
    bits: Interval = UNKNOWN
    tokens: Interval = UNKNOWN
    flops: Interval = UNKNOWN
    gpu_hours: Interval = UNKNOWN
    fit_sizes: tuple[float, float] | None = None
    """Smallest and largest number of parameters of the models behind it."""
    outside_factor: float = math.nan
    """Times by which the parameters lie outside of `fit_sizes`; 1 inside."""
    refused: str = ""
    """Why nothing is predicted; empty if something is."""
    notes: tuple[str, ...] = ()


def exactly(number: float) -> Interval:
    """Interval of a number without error."""
    return Interval(number, number, number)


def with_cost(forecast: Forecast, given: Given) -> Forecast:
    """Forecast with its training tokens, operations and GPU-hours."""
    knowledge = forecast.bits if given.bits is None else exactly(given.bits)
    once = given.tokens_per_exposure
    per_exposure = exactly(once) if once else knowledge.times(given.tokens_per_bit)
    tokens = _multiplied(forecast.exposures, per_exposure)
    flops = _multiplied(forecast.num_params, tokens).times(FLOPS_PER_PARAM)
    hours, notes = UNKNOWN, forecast.notes
    is_known = given.bits is not None or given.num_params is not None
    if given.flops is not None and not is_known:
        flops = exactly(given.flops)
    if given.flops_per_hour is not None:
        hours = flops.times(1 / given.flops_per_hour)
        if given.hours is not None and is_known:
            fits = "fits into" if hours.estimate <= given.hours else "does not fit into"
            notes += (f"Training {fits} {number_text(given.hours)} GPU-hours.",)
    return replace(forecast, tokens=tokens, flops=flops, gpu_hours=hours, notes=notes)


def comparison(given: Given, stored: Interval) -> Iterator[str]:
    """Yield whether a model of given size stores the given bits."""
    if given.bits is None or given.num_params is None:
        return
    end = "" if stored.lower == stored.upper else ", in their whole interval,"
    if stored.lower >= given.bits:
        verdict = f"Enough: the stored bits{end} are at least"
    elif stored.upper < given.bits:
        verdict = f"Too small: the stored bits{end} are fewer than"
    else:
        verdict = "Undecided: the interval of the stored bits contains"
    yield f"{verdict} {number_text(given.bits)} bits."


def _multiplied(left: Interval, right: Interval) -> Interval:
    return Interval(*(a * b for a, b in zip(left, right, strict=True)))
