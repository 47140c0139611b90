"""Quantities that several laws share: ratios to a baseline, with their usual preconditions."""

from __future__ import annotations

from functools import partial

from knowcap.capacity.laws.cell_summaries import mean_over_cells
from knowcap.capacity.laws.claims import LARGEST_FACTOR
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    RARE_EXPOSURES,
    RARE_PEAK_RATIO,
)
from knowcap.capacity.laws.preconditions import (
    BaselineReaches,
    EnoughSteps,
    InteriorRate,
    Precondition,
    SeveralSizes,
)

BASELINE_RATIOS = {
    FREQUENT_EXPOSURES: FREQUENT_PEAK_RATIO / LARGEST_FACTOR,
    RARE_EXPOSURES: RARE_PEAK_RATIO / LARGEST_FACTOR,
}
"""Smallest R of the baseline of a ratio, by exposures."""
# ASSUME: a ratio is comparable to the paper's if the baseline stores what the paper's stores,
# within a factor of 1.5.

log_mean = partial(mean_over_cells, is_log=True)
"""Geometric mean over cells."""

linear_mean = partial(mean_over_cells, is_log=False)
"""Arithmetic mean over cells, for values that can be zero or negative."""


def usual(exposures: int, *others: Precondition, tuned: bool = True) -> tuple[Precondition, ...]:
    """Preconditions of a ratio whose baseline has a number of exposures.

    Parameters
    ----------
    exposures
        Exposures of the baseline.
    others
        Further preconditions.
    tuned
        Whether both sides must have an interior learning rate. The paper uses equal settings on
        both sides where this is not needed.
    """
    found: list[Precondition] = [SeveralSizes(), *others]
    if tuned:
        found.append(InteriorRate())
    return (*found, BaselineReaches(BASELINE_RATIOS[exposures]), EnoughSteps())
