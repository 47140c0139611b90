"""Rows of the table of verdicts, for the report and for the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tabulate import tabulate

from knowcap.artifacts import files
from knowcap.capacity.laws.laws_dataset import LAWS_VARIABLES, format_estimate, iterate_verdicts


def verdict_table(laws: xr.Dataset) -> str:
    """Markdown table with one row per law and scale, and a sentence on laws without models."""
    rows = [row for row in law_rows(laws) if row["verdict"] != "not run"]
    has_scales = len({row["scale"] for row in rows}) > 1
    cells = [
        {
            "law": f"{row['law']}. {row['title']}" + (f", {row['scale']}" if has_scales else ""),
            "claim of the paper": row["claim"],
            "measured (95 % interval)": (
                f"{row['quantity']}: {row['measured']}; accepted {row['accepted']}"
            ),
            "verdict": f"**{row['verdict']}**",
            "what failed": row["failed"],
        }
        for row in rows
    ]
    table = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
    table = re.sub(r" +\|", " |", re.sub(r"-{3,}", "---", table))  # no padding of long cells
    return f"{table}\n\n{not_run_sentence(laws)}".strip()


def law_rows(laws: xr.Dataset) -> list[dict[str, Any]]:
    """One row per law and scale: claim, deciding quantity, verdict and what failed, in words."""
    rows = []
    for verdict in iterate_verdicts(laws):
        judgement, primary = verdict.judgement, verdict.primary
        primaries = [row for row in verdict.rows if row.primary]
        unit = f" {primary.quantity_units}" if primary.quantity_units else ""
        rows.append(
            {
                "law": judgement.law,
                "title": judgement.title,
                "scale": judgement.scale,
                "claim": judgement.claim,
                "quantity": primary.quantity,
                "num_primaries": len(primaries),
                "measured": measured_text(primary),
                "accepted": f"{primary.accepted}{unit}",
                "verdict": judgement.verdict,
                "failed": "" if judgement.verdict == "reproduced" else primary.explanation,
                "others": "" if len(primaries) == 1 else judgement.explanation,
                "rows": [row._asdict() | {"measured": measured_text(row)} for row in verdict.rows],
                "checks": [check._asdict() for check in verdict.checks],
                "facts": [fact.text for fact in verdict.facts],
            }
        )
    return rows


def measured_text(row: Any) -> str:
    """Text of an estimate in both scorings, such as `1.1 (1 to 1.2); in whole biographies 1.4`."""
    if np.isnan(row.estimate):
        return "not measured"
    text = format_estimate(row)
    if np.isnan(row.estimate_in_context) or row.estimate_in_context == row.estimate:
        return text
    interval = (
        ""
        if np.isnan(row.lower_in_context)
        else (f" ({row.lower_in_context:.3g} to {row.upper_in_context:.3g})")
    )
    return f"{text}; in whole biographies {row.estimate_in_context:.3g}{interval}"


def not_run_sentence(laws: xr.Dataset) -> str:
    """Sentence with the laws that no experiment informs, or informs without a measurement."""
    names = [
        f"{row['law']}. {row['title']}" + (f" ({row['scale']})" if row["scale"] else "")
        for row in law_rows(laws)
        if row["verdict"] == "not run"
    ]
    return f"Without models that inform them: {'; '.join(names)}." if names else ""


def update_readme(laws_path: Path, readme: Path) -> None:
    """Write the table of verdicts between the markers of the README.

    Raises
    ------
    UserError
        If the README is missing or does not have the markers once each and in order.
    """
    laws = files.read_dataset(laws_path, LAWS_VARIABLES)
    files.replace_between_markers(readme, "results", verdict_table(laws))
