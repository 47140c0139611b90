"""Verdicts of a table on the laws behind a forecast, in one line each."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from knowcap.capacity.forecast.log_prediction import Interval
from knowcap.capacity.forecast.number_text import interval_text
from knowcap.capacity.laws import architectures, base_law, quantization, rare_architectures
from knowcap.capacity.laws import rare_knowledge as law_4
from knowcap.capacity.laws.architectures import FAMILY_LABELS
from knowcap.capacity.laws.definitions import Law, combine_verdicts, deciding
from knowcap.capacity.laws.verdicts import judge, models_of
from knowcap.capacity.own_measurements.hidden_checks import check_text, names_not_shown
from knowcap.capacity.table import replicates


def verdict_lines(table: xr.Dataset, scale: str, family: str, precision: str) -> Iterator[str]:
    """Yield the verdict on each law that a forecast uses, with what failed."""
    laws: list[Law] = [base_law.LAW, law_4.LAW]
    if family != "GPT2":
        laws += [architectures.LAW, rare_architectures.LAW]
    if precision != "trained":
        laws.append(quantization.LAW)
    rows, not_shown = replicates(table), names_not_shown(table)
    for law in laws:
        results = [
            each for each in judge(law, models_of(table, rows, law, scale)) if each.quantity.primary
        ]
        verdict = combine_verdicts([each.verdict for each in results])
        used = (f"R of {FAMILY_LABELS.get(family)},", f"R in {precision},")
        own = [each for each in results if each.quantity.name.startswith(used)]
        decisive = own[0] if own else deciding(results)
        text = f"law {law.number} ({law.title.lower()}): {verdict}"
        if decisive.verdict != "not run":
            estimate, claim = decisive.estimate, decisive.quantity.claim
            ends = Interval(estimate.value, estimate.lower, estimate.upper)
            text += f"; {decisive.quantity.name}: {interval_text(ends)}, accepted {claim.accepted}"
        yield "; ".join([text, *(check_text(each, not_shown) for each in decisive.failed)])
