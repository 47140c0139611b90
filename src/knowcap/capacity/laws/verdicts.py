"""Verdicts on all laws from the table of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

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
from knowcap.capacity.laws.cell_summaries import iterate_cells
from knowcap.capacity.laws.claims import Claim
from knowcap.capacity.laws.definitions import Law, Quantity, Result, Verdict
from knowcap.capacity.laws.estimate import ALPHA, Estimate
from knowcap.capacity.laws.estimators import Floats
from knowcap.capacity.laws.model_filters import with_adamw
from knowcap.capacity.laws.settings import with_settings

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


def judge(law: Law, models: pd.DataFrame) -> tuple[Result, ...]:
    """Judge all quantities of a law from rows of replicates of one scale."""
    results = [_result(quantity, models) for quantity in law.quantities]
    primaries = _adjust_by_holm([result for result in results if result.quantity.primary])
    others = [result for result in results if not result.quantity.primary]
    by_name = {result.quantity.name: result for result in (*primaries, *others)}
    return tuple(by_name[quantity.name] for quantity in law.quantities)


def verdict_of(claim: Claim, estimate: Estimate) -> Verdict:
    """Verdict of a single estimate whose preconditions are met."""
    return _verdict(estimate, *claim.p_values(estimate))


def details(result: Result, models: pd.DataFrame) -> Iterator[tuple[str, Estimate]]:
    """Yield estimates of each cell, if there are several, and of the quantity's variants."""
    quantity = result.quantity
    if len(result.cells) > 1 and quantity.has_cell_details:
        for label, cell in iterate_cells(result.cells):
            yield label, quantity.estimate(cell)
    for name, select in quantity.details.items():
        chosen = select(models)
        if not chosen.empty:
            yield name, quantity.estimate(chosen)


def models_of(table: xr.Dataset, rows: pd.DataFrame, law: Law, scale: str) -> pd.DataFrame:
    """Rows of replicates of the models that inform a law within a scale, trained with AdamW."""
    informs = table["informs"].sel(law=table["law"].isin(law.source_laws)).any("law").values
    experiments = informs & (table["scale"].values == scale)
    members = table["member"].values[experiments].any(axis=0)
    is_member = rows["measurement"].isin(table["measurement"].values[members])
    is_precise = law.includes_quantized | (rows["precision"] == "trained")
    return with_settings(with_adamw(rows[is_member & is_precise]), table)


def scales_of(table: xr.Dataset, law: Law) -> list[str]:
    """Scales of the experiments that inform a law, in the order of the study."""
    if law.number not in table["law"].values:
        return []
    informing = table["informs"].sel(law=law.number).values
    return list(dict.fromkeys(table["scale"].values[informing].tolist()))


def _result(quantity: Quantity, models: pd.DataFrame) -> Result:
    """Estimate and preconditions of a quantity, with the verdict before Holm's correction."""
    cells = quantity.select(models)
    if cells.empty:
        return Result(quantity, cells, Estimate.without_interval("no data"), (), "not run")
    estimate = quantity.estimate(cells)
    checks = tuple(precondition.check(cells) for precondition in quantity.preconditions)
    p_values = quantity.claim.p_values(estimate)
    verdict = _verdict(estimate, *p_values)
    if verdict != "not run" and not all(check.passed for check in checks):
        verdict = "not testable here"
    return Result(quantity, cells, estimate, checks, verdict, *p_values)


def _verdict(estimate: Estimate, p_reproduced: float, p_contradicted: float) -> Verdict:
    if estimate.status == "no data":
        return "not run"
    if p_reproduced <= ALPHA:
        return "reproduced"
    return "contradicted" if p_contradicted <= ALPHA else "inconclusive"


def holm(p_values: Sequence[float]) -> Floats:
    """P-values adjusted by Holm's step-down method.

    As ``multipletests`` of statsmodels, which collects garbage at every call and takes most of the
    time of all verdicts.
    """
    values = np.asarray(p_values, dtype=float)
    order = values.argsort()
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def _adjust_by_holm(primaries: Sequence[Result]) -> list[Result]:
    """Correct the p-values of the primary quantities of a law that can be tested."""
    tested = [each for each in primaries if each.verdict not in ("not run", "not testable here")]
    if not tested:
        return list(primaries)
    adjusted = np.array(
        [
            holm([getattr(each, name) for each in tested])
            for name in ("p_reproduced", "p_contradicted")
        ]
    ).T
    corrected = {
        each.quantity.name: replace(
            each,
            p_reproduced=float(reproduced),
            p_contradicted=float(contradicted),
            verdict=_verdict(each.estimate, reproduced, contradicted),
        )
        for each, (reproduced, contradicted) in zip(tested, adjusted, strict=True)
    }
    return [corrected.get(each.quantity.name, each) for each in primaries]
