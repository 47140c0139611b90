"""Law 8: int8 weights lose no knowledge, int4 weights lose more than half."""

from __future__ import annotations

from functools import partial

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import best_model_mean, retained_fraction
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    capacity_limited,
    reference,
    with_exposures,
)

METHOD_LABELS = {
    "": "GPTQ",
    "_embedding": "GPTQ, also of the embedding",
    "_rtn": "round to nearest",
    "_rtn_embedding": "round to nearest, also of the embedding",
    "_awq": "AWQ",
    "_awq_embedding": "AWQ, also of the embedding",
}
"""Labels of the methods, by the suffix of the precision; the paper uses the first."""


def _models(models: pd.DataFrame) -> pd.DataFrame:
    return capacity_limited(with_exposures(reference(models), FREQUENT_EXPOSURES))


def _retained(models: pd.DataFrame, precision: str) -> Estimate:
    return retained_fraction(_models(models), precision, "capacity_ratio")


def _storage_note(models: pd.DataFrame, precision: str) -> str:
    """Sentence with the bits per parameter in a precision; some weights are not quantised."""
    stored = _models(models)
    stored = stored[(stored["precision"] == precision) & stored["bits_per_param"].notna()]
    if stored.empty:
        return ""
    bits, shares = stored["bits_per_param"], 100 * stored["share_quantised"]
    return (
        f"In {precision} a parameter takes {_range(bits)} bits on average, "
        f"because {_range(shares)} % of the parameters are integers."
    )


def _range(values: pd.Series[float]) -> str:
    """Text of the range of values."""
    ends = list(dict.fromkeys(f"{end:.3g}" for end in (values.min(), values.max())))
    return " to ".join(ends)


def _knowledge_share(models: pd.DataFrame) -> Estimate:
    """Highest number of knowledge bits per bit of int8 storage."""
    stored = _models(models)
    stored = stored[(stored["precision"] == "int8") & stored["bits_per_param"].notna()]
    share = stored["capacity_ratio"] / stored["bits_per_param"]
    return best_model_mean(stored.assign(share=share), "share", "highest")


def _quantity(precision: str, claim: Claim) -> Quantity:
    needs = "GPT2 with 1000 exposures and R_max of at least 2, as trained and in"
    return Quantity(
        name=f"R in {precision}, relative to R as trained",
        units="1",
        claim=claim,
        estimate=partial(_retained, precision=precision),
        needs=f"{needs} {precision}",
        note=partial(_storage_note, precision=precision),
        variants={
            label: partial(_retained, precision=f"{precision}{suffix}")
            for suffix, label in METHOD_LABELS.items()
            if suffix
        },
    )


LAW = Law(
    number=8,
    title="Quantisation",
    claim="A model keeps all its knowledge in int8 and loses more than half of it in int4.",
    source_laws=(1, 3, 8),
    includes_quantized=True,
    quantities=(
        _quantity(
            "int8",
            Claim(
                relation="about",
                value=1.0,  # PAPER Result 8: int8 costs nothing.
                margin=0.05,
                # ASSUME: the paper states no tolerance for Result 8.
                reason="the scatter between seeds of a model",
            ),
        ),
        _quantity(
            "int4",
            Claim(
                relation="at most",
                value=0.5,  # PAPER Result 8: more than 2 times lower.
                margin=0.05,
                reason="a tenth of the value; the paper gives one digit",
            ),
        ),
        Quantity(
            name="highest number of knowledge bits per bit of int8 storage",
            units="1",
            claim=Claim(
                relation="at least",
                value=0.25,  # PAPER Result 8: two bits of knowledge in eight bits.
                margin=0.0125,
                reason="a twentieth of the value, as for peak R of the base law",
            ),
            estimate=_knowledge_share,
            needs="int8 models with a known number of stored bits per parameter",
            required=False,
        ),
    ),
)
