"""The file ``laws.nc``: verdicts, preconditions and facts of a study as a dataset, and as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from tabulate import tabulate

from knowcap.artifacts import files
from knowcap.capacity.laws.claims import position
from knowcap.capacity.laws.definitions import Law, Quantity, Result, combine_verdicts, deciding
from knowcap.capacity.laws.estimate import Estimate
from knowcap.capacity.laws.laws_labels import LABELS, NUMBERS
from knowcap.capacity.laws.verdicts import LAWS, details, judge, models_of, scales_of
from knowcap.capacity.table import replicates
from knowcap.capacity.table_columns import TABLE_VARIABLES

LAWS_VARIABLES = ("judged_law", "estimate")
"""Variables by which ``laws.nc`` is recognised."""


class LawVerdict(NamedTuple):
    """The verdict on one law at one scale, with its quantities, preconditions and facts."""

    judgement: Any
    """Fields of JUDGEMENT_LABELS without the prefix ``judged_``."""
    primary: Any
    """The row that decides."""
    rows: list[Any]
    """All rows, fields of ROW_LABELS."""
    checks: list[Any]
    """Fields of CHECK_LABELS without the prefix ``check_``."""
    facts: list[Any]
    """Fields of FACT_LABELS without the prefix ``fact_``."""


def write_laws(table_path: Path, output: Path, markdown: Path) -> None:
    """Write the verdicts from the table of a study as netCDF and as Markdown."""
    laws = compute_verdicts(files.read_dataset(table_path, TABLE_VARIABLES))
    files.write_dataset(laws, output)
    files.write_text(markdown, laws_markdown(laws))


def compute_verdicts(table: xr.Dataset) -> xr.Dataset:
    """Estimate all quantities of all laws, each within every scale that informs the law.

    Parameters
    ----------
    table
        As built by :func:`knowcap.capacity.table.build_table`.

    Returns
    -------
    xr.Dataset
        Variables of ROW_LABELS along ``row``, for each quantity and scale, and as detail for cells
        and variants (``subset`` is then not empty); of CHECK_LABELS along ``check``; of
        JUDGEMENT_LABELS along ``judgement``, for each law and scale; of FACT_LABELS along ``fact``.
        A law without experiments has one judgement, `not run`, with an empty scale.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LABELS}
    replicates_of_table = replicates(table)
    for law in LAWS:
        for scale in scales_of(table, law) or [""]:
            models = models_of(table, replicates_of_table, law, scale)
            key = {"law": law.number, "scale": scale}
            results = judge(law, models)
            for result in results:
                found["row"].append(key | _row(result) | _in_context(result.quantity, models))
                found["row"] += [
                    key | _detail(result.quantity, name, estimate)
                    for name, estimate in details(result, models)
                ]
                found["check"] += _prefixed("check", [key | check for check in _checks(result)])
            found["judgement"] += _prefixed("judged", [key | _judgement(law, results)])
            texts = {fact.name: fact.describe(models) for fact in law.facts}
            found["fact"] += _prefixed(
                "fact", [key | {"name": name, "text": text} for name, text in texts.items() if text]
            )
    dataset = xr.Dataset(
        {
            name: (dim, _column(found[dim], name), {"long_name": long_name})
            for dim, labels in LABELS.items()
            for name, long_name in labels.items()
        }
    )
    return dataset.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def iterate_verdicts(laws: xr.Dataset) -> Iterator[LawVerdict]:
    """Yield each law and scale with its rows."""
    records = {dim: _records(laws, dim) for dim in LABELS}
    for judgement in records["judgement"]:
        own = {
            dim: [
                each for each in rows if each.law == judgement.law and each.scale == judgement.scale
            ]
            for dim, rows in records.items()
        }
        primary = next(
            row for row in own["row"] if row.quantity == judgement.quantity and not row.subset
        )
        yield LawVerdict(judgement, primary, own["row"], own["check"], own["fact"])


def _records(laws: xr.Dataset, dim: str) -> list[Any]:
    """Named tuples of the variables along a dimension, without their prefix."""
    frame = laws[list(LABELS[dim])].to_dataframe()
    return list(frame.rename(columns=lambda name: _unprefixed(str(name))).itertuples())


def laws_markdown(laws: xr.Dataset) -> str:
    """Markdown tables of the laws, their quantities and the preconditions that are not met."""
    header = ["law", "quantity", "paper", "measured (95 % interval)", "scale", "verdict"]
    rows, notes = [], []
    for verdict in iterate_verdicts(laws):
        judgement = verdict.judgement
        title = f"**{judgement.law}. {judgement.title}**"
        rows.append([title, "", "", "", judgement.scale, f"**{judgement.verdict}**"])
        if judgement.verdict == "not run":
            continue
        for row in verdict.rows:
            if not row.subset:
                name = row.quantity if row.primary else f"*{row.quantity}*"
                measured = format_estimate(row)
                rows.append(["", name, row.claim, measured, row.scale, row.verdict])
        reason = judgement.failed or judgement.explanation
        notes.append(f"- Law {judgement.law}, {judgement.scale}: {reason}")
        notes += [f"  - {fact.text}" for fact in verdict.facts]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    legend = "Quantities in italics are secondary and do not decide on a law."
    return "\n".join([table, "", legend, "", *notes, ""])


def format_estimate(row: Any) -> str:
    """Text of an estimate and its interval, such as `2.06 (2.02 to 2.1)`."""
    if np.isnan(row.estimate):
        return "-" if row.status == "no data" else f"- ({row.status})"
    if np.isnan(row.lower):
        return f"{row.estimate:.3g} ({row.status})"
    return f"{row.estimate:.3g} ({row.lower:.3g} to {row.upper:.3g})"


def _row(result: Result) -> dict[str, Any]:
    """Row of a quantity."""
    return _detail(result.quantity, "", result.estimate) | {
        "p_reproduced": result.p_reproduced,
        "p_contradicted": result.p_contradicted,
        "verdict": result.verdict,
        "failed": _sentences(str(check) for check in result.failed),
        "explanation": _explain(result),
    }


def _detail(quantity: Quantity, subset: str, estimate: Estimate) -> dict[str, Any]:
    """Row of a cell or a variant, which has no verdict."""
    claim, coverage = quantity.claim, estimate.coverage
    return {
        "quantity": quantity.name,
        "primary": quantity.primary and not subset,
        "subset": subset,
        "claim": claim.text,
        "paper_value": claim.value,
        "accepted_lower": claim.lower,
        "accepted_upper": claim.upper,
        "accepted": claim.accepted,
        "margin_reason": claim.reason,
        "estimate": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "estimate_in_context": np.nan,
        "lower_in_context": np.nan,
        "upper_in_context": np.nan,
        "leave_one_out_lower": estimate.leave_one_out[0],
        "leave_one_out_upper": estimate.leave_one_out[1],
        "quantity_units": quantity.units,
        "scope": coverage.scope,
        "num_cells": coverage.num_cells,
        "num_sizes": coverage.num_sizes,
        "num_populations": coverage.num_populations,
        "num_replicates": coverage.num_replicates,
        "min_seeds": coverage.min_seeds,
        "max_seeds": coverage.max_seeds,
        "status": estimate.status,
        "p_reproduced": np.nan,
        "p_contradicted": np.nan,
        "verdict": "",
        "failed": "",
        "explanation": "",
    }


def _in_context(quantity: Quantity, models: pd.DataFrame) -> dict[str, float]:
    """Estimate with attributes scored in whole biographies, for comparison with the paper.

    The paper does not say how it scores attributes. In bioD no value reveals another.
    """
    names = ("estimate_in_context", "lower_in_context", "upper_in_context")
    models = models[models["kind"] != "bioD"]
    if models.empty or "capacity_ratio_in_context" not in models:
        return dict.fromkeys(names, np.nan)
    gain = models["capacity_ratio_in_context"] - models["capacity_ratio"]
    cells = quantity.select(
        models.assign(
            bits=models["bits_in_context"],
            **{
                name: models[name] + gain for name in ("capacity_ratio", "capacity_ratio_of_values")
            },
        )
    )
    if cells.empty:
        return dict.fromkeys(names, np.nan)
    estimate = quantity.estimate(cells)
    return dict(zip(names, (estimate.value, estimate.lower, estimate.upper), strict=True))


def _checks(result: Result) -> Iterator[dict[str, Any]]:
    """Yield the preconditions of a quantity."""
    for check in result.checks:
        yield {
            "quantity": result.quantity.name,
            "name": check.name,
            "value": check.value,
            "relation": check.relation,
            "limit": check.limit,
            "passed": check.passed,
            "text": str(check),
        }


def _judgement(law: Law, results: tuple[Result, ...]) -> dict[str, Any]:
    """Verdict on a law from the results of its primary quantities."""
    primaries = [result for result in results if result.quantity.primary]
    verdicts = [result.verdict for result in primaries]
    verdict = combine_verdicts(verdicts)
    decisive = deciding(primaries)
    failed = "" if verdict == "reproduced" else f"{decisive.quantity.name}: {_explain(decisive)}"
    by_verdict = {
        kind: [result.quantity.name for result in primaries if result.verdict == kind]
        for kind in dict.fromkeys(verdicts)
    }
    explanation = ". ".join(
        f"{kind[0].upper()}{kind[1:]}: {'; '.join(names)}" for kind, names in by_verdict.items()
    )
    return {
        "title": law.title,
        "claim": law.claim,
        "quantity": decisive.quantity.name,
        "verdict": verdict,
        "failed": failed,
        "explanation": f"{explanation}.",
    }


def _explain(result: Result) -> str:
    """Reason of a verdict, in one or two sentences."""
    quantity, estimate = result.quantity, result.estimate
    if result.verdict == "not run":
        return f"Not measured: this needs {quantity.needs}."
    if result.failed:
        return _sentences(str(check) for check in result.failed)
    if not estimate.has_interval:
        reason = {
            "one seed": "an interval needs two cells, or two seeds",
            "too few models": f"{estimate.coverage.num_cells} models are too few for an interval",
            "not positive": "a ratio needs positive capacities",
        }[estimate.status]
        measured = "" if np.isnan(estimate.value) else f"Measured {estimate.value:.3g}, but "
        text = f"{measured}{reason}."
        return text[0].upper() + text[1:]
    where = position(quantity.claim, estimate)
    text = (
        f"The interval {estimate.lower:.3g} to {estimate.upper:.3g} {where}, "
        f"{quantity.claim.accepted} ({estimate.coverage.scope})."
    )
    if result.verdict == "inconclusive" and "partly" not in where:
        text += " With Holm's correction for several quantities this is no verdict."
    return text


def _sentences(texts: Iterator[str]) -> str:
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts)


def _prefixed(prefix: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{f"{prefix}_{name}": value for name, value in row.items()} for row in rows]


def _unprefixed(name: str) -> str:
    return re.sub("^(check|judged|fact)_", "", name)


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray[Any, Any]:
    values = [row[name] for row in rows]
    return np.array(values, dtype=None if name in NUMBERS and values else object)
