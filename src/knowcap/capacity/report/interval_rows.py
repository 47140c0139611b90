"""Rows of the interactive figure of all quantities of the laws."""

from __future__ import annotations

import math
from typing import Any

import xarray as xr

from knowcap.capacity.laws.laws_dataset import iterate_verdicts
from knowcap.capacity.plots.intervals import LIMITS, TICKS, VERDICT_COLORS
from knowcap.capacity.report.verdict_table import measured_text

ENDS = (
    *("estimate", "lower", "upper", "accepted_lower", "accepted_upper"),
    *("leave_one_out_lower", "leave_one_out_upper"),
)
"""Numbers of a quantity that are divided by the paper's value."""


def interval_rows(laws: xr.Dataset) -> dict[str, Any]:
    """Return the quantities that have an estimate, relative to the paper's values, for JSON."""
    rows = [
        {name: _rounded(getattr(row, name) / row.paper_value) for name in ENDS}
        | {
            "law": verdict.judgement.law,
            "title": f"{verdict.judgement.law}. {verdict.judgement.title}",
            "scale": verdict.judgement.scale,
            "quantity": row.quantity,
            "primary": bool(row.primary),
            "verdict": row.verdict,
            "measured": " ".join([measured_text(row), row.quantity_units]).strip(),
            "accepted": " ".join([row.accepted, row.quantity_units]).strip(),
            "explanation": row.explanation,
        }
        for verdict in iterate_verdicts(laws)
        for row in verdict.rows
        if row.subset == "" and not math.isnan(row.estimate)
    ]
    return {"rows": rows, "limits": LIMITS, "ticks": TICKS, "colors": VERDICT_COLORS}


def _rounded(value: float) -> float | None:
    """Return a number with five digits; None if it is not finite, which JSON cannot write."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
