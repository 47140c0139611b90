"""The numbers that are missing among bits, parameters, exposures and compute."""

from __future__ import annotations

from knowcap.capacity.forecast.capacity_fit import CapacityFit
from knowcap.capacity.forecast.forecast import Forecast, Given
from knowcap.capacity.forecast.paper_forecasts import paper_exposures, paper_forecasts
from knowcap.capacity.forecast.paper_values import PEAK_RATIOS
from knowcap.capacity.forecast.table_forecasts import from_table, needed_exposures


def forecasts(given: Given, fit: CapacityFit, family: str, precision: str) -> list[Forecast]:
    """Forecast at the given exposures, or at all of the table and the paper.

    If bits and parameters are given, the exposures are predicted. Each forecast from the table is
    followed by the paper's, where it states one.
    """
    if given.exposures is None and given.bits is not None and given.num_params is not None:
        return [needed_exposures(given, fit), *paper_exposures(given, family, precision)]
    levels = {level.exposures for level in fit.levels} | set(PEAK_RATIOS)
    found = []
    for exposures in [given.exposures] if given.exposures else sorted(levels, reverse=True):
        found += [
            from_table(given, fit, exposures),
            *paper_forecasts(given, exposures, family, precision),
        ]
    return found
