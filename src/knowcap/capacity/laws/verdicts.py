"""From a study's table to verdicts on the laws, scale by scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

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
from knowcap.capacity.laws.law import Estimate, Law, Quantity, combine_verdicts
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
"""The paper's laws by number."""

LABELS = {
    "law": "number of the law",
    "quantity": "quantity",
    "subset": "group of models, all where empty",
    "scale": "scale of the models",
    "claim": "what the paper claims of the quantity",
    "paper_value": "the paper's value",
    "margin": "distance from the paper's value that still agrees",
    "margin_reason": "why this margin",
    "estimate": "estimate",
    "lower": "lower end of the 95 % interval",
    "upper": "upper end of the 95 % interval",
    "quantity_units": "unit of the quantity",
    "headline": "whether the quantity stands for its law",
    "nobs": "models",
    "num_seeds": "seeds",
    "status": "status of the estimate",
    "verdict": "verdict",
    "explanation": "reason of the verdict",
    "judged_law": "number of the law",
    "judged_title": "law",
    "judged_claim": "what the paper claims, in our words",
    "judged_scale": "scale of the models",
    "judged_verdict": "verdict on the law",
    "judged_explanation": "reason of the verdict",
}


def write_laws(table_path: Path, laws_path: Path, markdown_path: Path) -> None:
    """Judge the laws by a study's table; write the verdicts as netCDF and as Markdown."""
    laws = compute_verdicts(files.read_dataset(table_path))
    files.write_dataset(laws, laws_path)
    files.write_text(markdown_path, laws_markdown(laws))


def compute_verdicts(table: xr.Dataset) -> xr.Dataset:
    """Estimate every quantity of every law, within every scale that has experiments for it.

    Parameters
    ----------
    table
        What :func:`knowcap.capacity.table.build_table` returns.

    Returns
    -------
    xr.Dataset
        Along ``row``, one for each quantity and scale (and, where ``subset`` is not empty, one
        for each group of models, as detail): ``law``, ``quantity``, ``headline``, ``subset``,
        ``scale``, ``claim``, ``paper_value``, ``margin``, ``margin_reason``, ``estimate``,
        ``lower``, ``upper``, ``quantity_units``, ``nobs``, ``num_seeds``, ``status``,
        ``verdict``, ``explanation``. Along ``judgement``, one for each law and scale, the same with
        ``judged_`` before it: ``law``, ``title``, ``claim``, ``scale``, ``verdict``,
        ``explanation``. A law without experiments has one judgement, `not run`.
    """
    rows: list[dict[str, Any]] = []
    judgements: list[dict[str, Any]] = []
    trainings = replicates(table)
    for law in LAWS:
        for scale in _scales(table, law) or [""]:
            models = trainings[_is_read(trainings, table, law, scale)]
            found = list(_rows(law, scale, models))
            rows += found
            judgements.append(_judgement(law, scale, found))
    dataset = xr.Dataset(
        {name: ("row", _column(rows, name)) for name in rows[0]}
        | {name: ("judgement", _column(judgements, name)) for name in judgements[0]}
    )
    for name, long_name in LABELS.items():
        dataset[name].attrs["long_name"] = long_name
    return dataset.assign_attrs(Conventions="CF-1.11", format=files.FORMAT)


def laws_markdown(laws: xr.Dataset) -> str:
    """Verdicts as a Markdown table: law, claim, measured with interval, scale, verdict."""
    lines = [
        "| law | quantity | paper | measured (95 % interval) | scale | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for judged, rows in iterate_verdicts(laws):
        lines.append(
            f"| **{judged.law}. {judged.title}** | | | | {judged.scale} | **{judged.verdict}** |"
        )
        if judged.verdict != "not run":
            lines += [
                f"| | {row.quantity} | {row.claim} | {format_estimate(row)} | {row.scale} "
                f"| {row.verdict} |"
                for row in rows
                if not row.subset
            ]
    return "\n".join(lines) + "\n"


def iterate_verdicts(laws: xr.Dataset) -> Iterator[tuple[Any, list[Any]]]:
    """Each judgement, without ``judged_`` before its columns, and the rows it rests on."""
    rows, judged = (
        laws[[name for name, variable in laws.data_vars.items() if variable.dims == (dim,)]]
        .to_dataframe()
        .rename(columns=lambda name: name.removeprefix("judged_"))
        for dim in ("row", "judgement")
    )
    for judgement in judged.itertuples():
        own = (rows["law"] == judgement.law) & (rows["scale"] == judgement.scale)
        yield judgement, list(rows[own].itertuples())


def format_estimate(row: Any) -> str:
    """Text of an estimate with its interval, of any object with the columns of `row`."""
    if np.isnan(row.estimate):
        return "-" if row.status == "no data" else f"- ({row.status})"
    if np.isnan(row.lower):
        return f"{row.estimate:.3g} ({row.status})"
    return f"{row.estimate:.3g} ({row.lower:.3g} to {row.upper:.3g})"


def _scales(table: xr.Dataset, law: Law) -> list[str]:
    """Scales with experiments that inform a law, in the order of the study."""
    if law.number not in table["law"].values:
        return []
    informing = table["informs"].sel(law=law.number).values
    return list(dict.fromkeys(table["scale"].values[informing].tolist()))


def _is_read(trainings: pd.DataFrame, table: xr.Dataset, law: Law, scale: str) -> pd.Series[bool]:
    """Which trainings a law reads within a scale."""
    reads = table["informs"].sel(law=table["law"].isin(law.reads)).any("law").values
    experiments = reads & (table["scale"].values == scale)
    members = table["member"].values[experiments].any(axis=0)
    inside = trainings["measurement"].isin(table["measurement"].values[members])
    return inside & (law.reads_quantized | (trainings["precision"] == "trained"))


def _rows(law: Law, scale: str, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Judge the quantities of a law and, for detail, their variants and groups of models."""
    tuned = models.groupby("measurement")["lr"].nunique().max() > 1
    for quantity in law.quantities:
        for subset, estimate in _estimates(quantity, models):
            if subset and estimate.status == "no data":
                continue
            explanation = quantity.claim.explain(estimate, quantity.needs)
            if tuned and estimate.status == "ok":
                explanation += " Each model counts at the learning rate that is best for it."
            if quantity.remark and not subset and (remark := quantity.remark(models)):
                explanation += f" {remark}"
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
    """Estimates by subset: the quantity's own under an empty name, then those for detail."""
    yield "", quantity.estimate(models)
    if quantity.by is not None and models[quantity.by].nunique() > 1:
        for name, group in models.groupby(quantity.by, sort=False):
            yield str(name), quantity.estimate(group)
    for name, estimate in quantity.variants.items():
        yield name, estimate(models)


def _judgement(law: Law, scale: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Judge a law by the rows of its quantities."""
    verdicts = {row["quantity"]: row["verdict"] for row in rows if not row["subset"]}
    verdict = combine_verdicts([(quantity, verdicts[quantity.name]) for quantity in law.quantities])
    parts = [
        f"{kind}: {'; '.join(names)}"
        for kind in ("contradicted", "reproduced", "inconclusive", "not run")
        if (names := [name for name, found in verdicts.items() if found == kind])
    ]
    explanation = ". ".join(part[0].upper() + part[1:] for part in parts) + "."
    if verdict == "not run":
        explanation = "No measurement of this study bears on it."
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
