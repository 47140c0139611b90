"""Forecasts from the bits per parameter that the paper states, without intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator

from knowcap.capacity.forecast.forecast import (
    FLOPS_PER_PARAM,
    Forecast,
    Given,
    comparison,
    exactly,
    with_cost,
)
from knowcap.capacity.forecast.paper_values import PEAK_RATIOS, paper_ratio


def paper_forecasts(
    given: Given, exposures: float, family: str, precision: str
) -> Iterator[Forecast]:
    """Yield the paper's numbers, if it states the bits per parameter."""
    ratio = paper_ratio(exposures, family, precision)
    if ratio is None:
        return
    size = given.num_params
    if size is None and given.bits is not None:
        size = given.bits / ratio
    if size is None and given.flops is not None:
        size = _size_within(given, given.flops / exposures, ratio)
    assert size is not None
    stored = exactly(size * ratio)
    notes = tuple(comparison(given, stored))
    numbers = (exactly(exposures), exactly(size), exactly(ratio), stored)
    yield with_cost(Forecast("paper", *numbers, notes=notes), given)


def _size_within(given: Given, flops: float, ratio: float) -> float:
    """Parameters of the model that an exposure of `flops` operations fills."""
    if given.tokens_per_exposure is not None:
        return flops / (FLOPS_PER_PARAM * given.tokens_per_exposure)
    return math.sqrt(flops / (FLOPS_PER_PARAM * given.tokens_per_bit * ratio))


def paper_exposures(given: Given, family: str, precision: str) -> Iterator[Forecast]:
    """Yield the fewest exposures at which the paper's ratio suffices."""
    assert given.bits is not None
    assert given.num_params is not None
    needed = given.bits / given.num_params
    for exposures in sorted(PEAK_RATIOS):
        ratio = paper_ratio(exposures, family, precision)
        if ratio is not None and ratio >= needed:
            yield from paper_forecasts(given, exposures, family, precision)
            return
    yield Forecast(
        "paper", num_params=exactly(given.num_params), bits=exactly(given.bits),
        refused=f"{needed:,.3g} bits per parameter are more than the paper's models store",
    )  # fmt: skip
