"""Bits per parameter that the paper states, by exposures, family and precision.

They are printed beside forecasts from measurements and never used in their place.
"""

from __future__ import annotations

from collections.abc import Mapping

from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    FREQUENT_PEAK_RATIO,
    RARE_EXPOSURES,
    RARE_PEAK_RATIO,
)

PAPER_SIZES = (800_000, 500_000_000)
"""Numbers of parameters of the paper's smallest and largest models, about."""  # PAPER 4.1.

INT4_RATIO = 0.7
"""Bits per parameter in int4, at 1000 exposures."""  # PAPER 1.

PEAK_RATIOS: Mapping[int, float] = {
    RARE_EXPOSURES: RARE_PEAK_RATIO,
    FREQUENT_EXPOSURES: FREQUENT_PEAK_RATIO,
}
"""Bits per parameter of GPT2, by exposures."""  # PAPER 4.1 and 4.2.

RARE_LOSSES: Mapping[str, float] = {"LLaMA": 1.3, "Mistral": 1.3, "GPT2_0": 1.5}
"""Times by which families store less at 100 exposures; GPT2_0 is "more than"."""
# PAPER Result 6. At 1000 exposures all families store the same (Result 5).


def paper_ratio(exposures: float, family: str, precision: str) -> float | None:
    """Bits per parameter that the paper states; None where it states nothing."""
    if exposures not in PEAK_RATIOS:
        return None
    exposures = int(exposures)
    ratio = PEAK_RATIOS[exposures]
    if exposures == RARE_EXPOSURES:
        ratio /= RARE_LOSSES.get(family, 1.0)
    if precision in ("trained", "int8"):  # PAPER Result 8: int8 costs nothing.
        return ratio
    if precision == "int4" and exposures == FREQUENT_EXPOSURES:
        return INT4_RATIO
    return None
