"""Verdicts on all laws from the table of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tabulate import tabulate

from knowcap.artifacts import files
from knowcap.capacity.laws import (
    architectures,
    base_law,
    data_shape,
    domain_token,
    formats,
    gated_mlp,
    junk,
    moe,
    quantization,
    rare_architectures,
    rare_knowledge,
    repetitive_junk,
)
from knowcap.capacity.laws.definitions import Estimate, Law, Quantity, combine_verdicts
from knowcap.capacity.table import replicates

LAWS: tuple[Law, ...] = (
    base_law.LAW,
    formats.LAW,
    data_shape.LAW,
    rare_knowledge.LAW,
    architectures.LAW,
    rare_architectures.LAW,
    gated_mlp.LAW,
    quantization.LAW,
    moe.LAW,
    junk.LAW,
    repetitive_junk.LAW,
    domain_token.LAW,
)
"""All laws, by number."""

LABELS = {
    "law": "number of the law",
    "quantity": "quantity",
    "subset": "group of models, empty for all",
    "scale": "scale of the models",
    "claim": "claim of the paper",
    "paper_value": "value claimed by the paper",
    "margin": "accepted distance from the paper's value",
    "margin_reason": "reason of the margin",
    "estimate": "estimate",
    "lower": "lower end of the 95 % interval",
    "upper": "upper end of the 95 % interval",
    "quantity_units": "unit of the quantity",
    "headline": "whether the quantity represents its law in short tables",
    "nobs": "models",
    "num_seeds": "seeds",
    "status": "status of the estimate",
    "verdict": "verdict",
    "explanation": "reason of the verdict",
    "judged_law": "number of the law",
    "judged_title": "law",
    "judged_claim": "claim of the paper, in our words",
    "judged_scale": "scale of the models",
    "judged_verdict": "verdict on the law",
    "judged_explanation": "reason of the verdict",
}


def write_laws(table_path: Path, laws_path: Path, markdown_path: Path) -> None:
    """Write the verdicts on all laws as netCDF and Markdown."""
    laws = compute_verdicts(files.read_dataset(table_path))
    files.write_dataset(laws, laws_path)
    files.write_text(markdown_path, laws_markdown(laws))


def compute_verdicts(table: xr.Dataset) -> xr.Dataset:
    """Estimate the quantities of all laws and compare them with the claims.

    Parameters
    ----------
    table
        As returned by :func:`knowcap.capacity.table.build_table`.

    Returns
    -------
    xr.Dataset
        Along ``row``, for each quantity and scale, and as detail for groups of models (``subset``
        is then not empty): ``law``, ``quantity``, ``headline``, ``subset``,
        ``scale``, ``claim``, ``paper_value``, ``margin``, ``margin_reason``, ``estimate``,
        ``lower``, ``upper``, ``quantity_units``, ``nobs``, ``num_seeds``, ``status``,
        ``verdict``, ``explanation``. Along ``judgement``, for each law and scale, with the prefix
        ``judged_``: ``law``, ``title``, ``claim``, ``scale``, ``verdict``, ``explanation``. A law
        without experiments has one entry, with the verdict `not run`.
    """
    rows: list[dict[str, Any]] = []
    law_verdicts: list[dict[str, Any]] = []
    all_models = replicates(table)
    for law in LAWS:
        for scale in _scales(table, law) or [""]:
            models = all_models[_is_source(all_models, table, law, scale)]
            own_rows = list(_rows(law, scale, models))
            rows += own_rows
            law_verdicts.append(_law_verdict(law, scale, own_rows))
    dataset = xr.Dataset(
        {name: ("row", _column(rows, name)) for name in rows[0]}
        | {name: ("judgement", _column(law_verdicts, name)) for name in law_verdicts[0]}
    )
    for name, long_name in LABELS.items():
        dataset[name].attrs["long_name"] = long_name
    return dataset.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def laws_markdown(laws: xr.Dataset) -> str:
    """Markdown table with the verdicts on all laws and their quantities."""
    header = ["law", "quantity", "paper", "measured (95 % interval)", "scale", "verdict"]
    rows = []
    for verdict, quantities in iterate_verdicts(laws):
        title = f"**{verdict.law}. {verdict.title}**"
        rows.append([title, "", "", "", verdict.scale, f"**{verdict.verdict}**"])
        if verdict.verdict != "not run":
            rows += [
                ["", row.quantity, row.claim, format_estimate(row), row.scale, row.verdict]
                for row in quantities
                if not row.subset
            ]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return f"{table}\n"


def iterate_verdicts(laws: xr.Dataset) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the verdict on each law and scale, and the rows of its quantities."""
    rows, verdicts = (
        laws[[name for name, variable in laws.data_vars.items() if variable.dims == (dim,)]]
        .to_dataframe()
        .rename(columns=lambda name: name.removeprefix("judged_"))
        for dim in ("row", "judgement")
    )
    for verdict in verdicts.itertuples():
        is_own = (rows["law"] == verdict.law) & (rows["scale"] == verdict.scale)
        yield verdict, list(rows[is_own].itertuples())


def format_estimate(row: Any) -> str:
    """Text of an estimate and its interval, such as `2.06 (2.02 to 2.1)`."""
    if np.isnan(row.estimate):
        return "-" if row.status == "no data" else f"- ({row.status})"
    if np.isnan(row.lower):
        return f"{row.estimate:.3g} ({row.status})"
    return f"{row.estimate:.3g} ({row.lower:.3g} to {row.upper:.3g})"


def _scales(table: xr.Dataset, law: Law) -> list[str]:
    """Scales of the experiments that inform a law, in the order of the study."""
    if law.number not in table["law"].values:
        return []
    informing = table["informs"].sel(law=law.number).values
    return list(dict.fromkeys(table["scale"].values[informing].tolist()))


def _is_source(rows: pd.DataFrame, table: xr.Dataset, law: Law, scale: str) -> pd.Series[bool]:
    """Whether a replicate is among the models of a law within a scale."""
    informs = table["informs"].sel(law=table["law"].isin(law.source_laws)).any("law").values
    experiments = informs & (table["scale"].values == scale)
    members = table["member"].values[experiments].any(axis=0)
    is_member = rows["measurement"].isin(table["measurement"].values[members])
    return is_member & (law.includes_quantized | (rows["precision"] == "trained"))


def _rows(law: Law, scale: str, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield a row for each quantity, group of models and variant."""
    tuned = models.groupby("measurement")["lr"].nunique().max() > 1
    for quantity in law.quantities:
        for subset, estimate in _estimates(quantity, models):
            if subset and estimate.status == "no data":
                continue
            explanation = quantity.claim.explain(estimate, quantity.needs)
            if tuned and estimate.status == "ok":
                explanation += " Every model is used at its best learning rate."
            if quantity.note and not subset and (note := quantity.note(models)):
                explanation += f" {note}"
            yield {
                "law": law.number,
                "quantity": quantity.name,
                "headline": quantity is law.quantities[0],
                "subset": subset,
                "scale": scale,
                "claim": str(quantity.claim),
                "paper_value": quantity.claim.value,
                "margin": quantity.claim.margin,
                "margin_reason": quantity.claim.reason,
                "estimate": estimate.value,
                "lower": estimate.lower,
                "upper": estimate.upper,
                "quantity_units": quantity.units,
                "nobs": estimate.nobs,
                "num_seeds": estimate.num_seeds,
                "status": estimate.status,
                "verdict": quantity.claim.verdict(estimate),
                "explanation": explanation,
            }


def _estimates(quantity: Quantity, models: pd.DataFrame) -> Iterator[tuple[str, Estimate]]:
    """Yield subset and estimate: all models (empty name), groups, variants."""
    yield "", quantity.estimate(models)
    if quantity.by is not None and models[quantity.by].nunique() > 1:
        for name, group in models.groupby(quantity.by, sort=False):
            yield str(name), quantity.estimate(group)
    for name, estimate in quantity.variants.items():
        yield name, estimate(models)


def _law_verdict(law: Law, scale: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Verdict on a law from the rows of its quantities."""
    verdicts = {row["quantity"]: row["verdict"] for row in rows if not row["subset"]}
    verdict = combine_verdicts([(quantity, verdicts[quantity.name]) for quantity in law.quantities])
    parts = [
        f"{kind}: {'; '.join(names)}"
        for kind in ("contradicted", "reproduced", "inconclusive", "not run")
        if (names := [name for name, found in verdicts.items() if found == kind])
    ]
    explanation = ". ".join(part[0].upper() + part[1:] for part in parts) + "."
    if verdict == "not run":
        explanation = "This study has no measurements for this law."
    return {
        "judged_law": law.number,
        "judged_title": law.title,
        "judged_claim": law.claim,
        "judged_scale": scale,
        "judged_verdict": verdict,
        "judged_explanation": explanation,
    }


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray[Any, Any]:
    values = [row[name] for row in rows]
    return np.array(values, dtype=object if isinstance(values[0], str) else None)
