"""Law 2: fixed or rewritten biographies are stored nearly as well as fresh ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import pandas as pd

from knowcap.capacity.laws.definitions import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import mean_ratio_of_peaks, paired_ratio
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    OTHER_TOKENIZER,
    capacity_limited,
    unmodified_gpt2,
    with_exposures,
    without_junk,
)
from knowcap.capacity.table_columns import BIOD_SHAPE

PAIR_COLUMNS = [
    *("facts", "num_people", *BIOD_SHAPE),
    *("num_layers", "num_attention_heads", "hidden_size"),
]
"""Columns that must be equal in a pair. P is not among them: vocabularies differ by format."""

Format = Literal["fresh", "fixed", "rewritten"]
"""Biographies per person: a new one at each exposure, one in all, or several."""

EQUAL = Claim(
    relation="about",
    value=1.0,  # PAPER Result 2: about the same or slightly lower.
    margin=0.15,
    # ASSUME: the paper states no tolerance for Result 2.
    reason="the paper's seeds and sizes scatter by 0.05; it calls some peaks slightly lower",
)


def _models(models: pd.DataFrame, format_: Format) -> pd.DataFrame:
    """Models of one format, with the columns that pairs are matched by."""
    chosen = with_exposures(without_junk(unmodified_gpt2(models)), FREQUENT_EXPOSURES)
    chosen = capacity_limited(chosen)
    versions = chosen["num_versions"]
    is_format = {"fresh": versions == 0, "fixed": versions == 1, "rewritten": versions > 1}
    chosen = chosen[is_format[format_] & (chosen["tokenizer"] != OTHER_TOKENIZER)]
    facts = chosen["kind"].where(chosen["kind"] == "bioD", "bioS")
    shape = chosen[list(BIOD_SHAPE)].fillna(0)
    return chosen.assign(facts=facts, **{name: shape[name] for name in BIOD_SHAPE})


def _paired_ratio(models: pd.DataFrame, format_: Format, writer: str | None = None) -> Estimate:
    chosen = _models(models, format_)
    if writer is not None:
        writers = chosen["rewriter"].where(chosen["rewriter"].isin(["", "grammar"]), "model")
        chosen = chosen[(writers == writer) & (chosen["kind"] != "bioD")]
    return paired_ratio(chosen, _models(models, "fresh"), "capacity_ratio", PAIR_COLUMNS)


def _peak_ratio(models: pd.DataFrame, format_: Format) -> Estimate:
    return mean_ratio_of_peaks(
        _models(models, format_), _models(models, "fresh"), "capacity_ratio", "num_people"
    )


FORMAT_LABELS: Mapping[Format, str] = {
    "fixed": "one fixed biography per person",
    "rewritten": "several fixed biographies per person",
}
"""Labels of bioS-simple and of bioR, and of bioD with a fixed number of versions."""


def _quantity(format_: Format, *, peak: bool) -> Quantity:
    writers = {"bioR by a grammar": "grammar", "bioR by a language model": "model"}
    return Quantity(
        name=f"{'peak ' if peak else ''}R with {FORMAT_LABELS[format_]}, relative to fresh ones",
        units="1",
        claim=EQUAL,
        estimate=partial(_peak_ratio if peak else _paired_ratio, format_=format_),
        needs=(
            f"the same GPT2 with fresh biographies and with {FORMAT_LABELS[format_]}, "
            "with 1000 exposures and R_max of at least 2"
        ),
        required=not peak,
        variants={
            label: partial(_paired_ratio, format_=format_, writer=writer)
            for label, writer in writers.items()
            if format_ == "rewritten" and not peak
        },
    )


LAW = Law(
    number=2,
    title="Formats of biographies",
    claim=(
        "One fixed biography per person, or biographies rewritten by a language model, are stored "
        "nearly as well as biographies with fresh sentences at every exposure."
    ),
    source_laws=(1, 2),
    quantities=(
        _quantity("fixed", peak=False),
        _quantity("rewritten", peak=False),
        _quantity("fixed", peak=True),
        _quantity("rewritten", peak=True),
    ),
)
