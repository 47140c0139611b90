"""Law 8, quantisation: eight bits lose nothing, four lose more than half."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.estimators import best_model_mean, retained_fraction
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)

VARIANTS = {
    "": "GPTQ",
    "_embedding": "GPTQ, embedding too",
    "_rtn": "rounded to nearest",
    "_rtn_embedding": "rounded to nearest, embedding too",
    "_awq": "AWQ",
    "_awq_embedding": "AWQ, embedding too",
}
"""Ways to quantise in words, by the ending of the precision; the first is the paper's."""


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))


def _kept(models: pd.DataFrame, precision: str) -> Estimate:
    return retained_fraction(_models(models), precision, "capacity_ratio")


def _stored(models: pd.DataFrame, precision: str) -> str:
    """Say how many bits the models of a precision take, as some weights stay as they are."""
    stored = _models(models)
    stored = stored[(stored["precision"] == precision) & stored["bits_per_param"].notna()]
    if stored.empty:
        return ""
    bits, shares = stored["bits_per_param"], 100 * stored["share_quantised"]
    return (
        f"In {precision} a parameter takes {_span(bits)} bits, "
        f"as {_span(shares)} % of the parameters are integers."
    )


def _span(values: pd.Series[float]) -> str:
    """Write the range of some numbers."""
    ends = list(dict.fromkeys(f"{end:.3g}" for end in (values.min(), values.max())))
    return " to ".join(ends)


def _bits_used(models: pd.DataFrame) -> Estimate:
    """Highest share of the bits of int8 weights that are knowledge."""
    stored = _models(models)
    stored = stored[(stored["precision"] == "int8") & stored["bits_per_param"].notna()]
    share = stored["capacity_ratio"] / stored["bits_per_param"]
    return best_model_mean(stored.assign(share=share), "share", "highest")


def _quantity(precision: str, claim: Claim) -> Quantity:
    needs = "GPT2 with 1000 exposures and R_max of at least 2, as trained and in"
    return Quantity(
        name=f"share of R that {precision} keeps",
        units="1",
        claim=claim,
        estimate=partial(_kept, precision=precision),
        needs=f"{needs} {precision}",
        remark=partial(_stored, precision=precision),
        variants={
            words: partial(_kept, precision=f"{precision}{ending}")
            for ending, words in VARIANTS.items()
            if ending
        },
    )


LAW = Law(
    number=8,
    title="Quantisation",
    claim="In int8 a model keeps all it knows; in int4 it loses more than half.",
    reads=(1, 3, 8),
    reads_quantized=True,
    quantities=(
        _quantity(
            "int8",
            Claim(
                relation="about",
                value=1.0,  # PAPER Result 8: int8 costs nothing.
                margin=0.05,
                # ASSUME: the paper states no tolerance.
                reason="what seeds of one model scatter by",
            ),
        ),
        _quantity(
            "int4",
            Claim(
                relation="at most",
                value=0.5,  # PAPER Result 8: more than 2 times lower.
                margin=0.05,
                reason="a tenth of it, as the paper gives one digit",
            ),
        ),
        Quantity(
            name="highest share of the bits of int8 weights that is knowledge",
            units="1",
            claim=Claim(
                relation="at least",
                value=0.25,  # PAPER Result 8: two of eight bits.
                margin=0.0125,
                reason="a twentieth, as for peak R of the base law",
            ),
            estimate=_bits_used,
            needs="int8 models that note in how many bits a parameter is stored",
            needed=False,
        ),
    ),
)
