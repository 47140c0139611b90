"""Law 2, formats: how knowledge is put into words hardly matters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import pandas as pd

from knowcap.capacity.laws.estimators import mean_ratio_of_peaks, paired_ratio
from knowcap.capacity.laws.law import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    OTHER_TOKENIZER,
    capacity_limited,
    unmodified_gpt2,
    with_exposures,
    without_junk,
)
from knowcap.capacity.table_columns import BIOD_SHAPE

SAME_CELL = [
    *("facts", "num_people", *BIOD_SHAPE),
    *("num_layers", "num_attention_heads", "hidden_size"),
]
"""Columns in which models agree; their vocabularies, and so P, differ a little by format."""

Format = Literal["fresh", "fixed", "rewritten"]

EQUAL = Claim(
    relation="about",
    value=1.0,  # PAPER Result 2: about the same, slightly lower.
    margin=0.15,
    # ASSUME: the paper states no tolerance.
    reason="seeds and sizes scatter by 0.05 in the paper, and it calls the peaks slightly lower",
)


def _models(models: pd.DataFrame, of: Format) -> pd.DataFrame:
    """Choose models by how often the biographies that they read were new to them."""
    chosen = capacity_limited(
        with_exposures(without_junk(unmodified_gpt2(models)), FREQUENT_EXPOSURES)
    )
    versions = chosen["num_versions"]
    is_wanted = {"fresh": versions == 0, "fixed": versions == 1, "rewritten": versions > 1}
    chosen = chosen[is_wanted[of] & (chosen["tokenizer"] != OTHER_TOKENIZER)]
    facts = chosen["kind"].where(chosen["kind"] == "bioD", "bioS")
    shape = chosen[list(BIOD_SHAPE)].fillna(0)
    return chosen.assign(facts=facts, **{name: shape[name] for name in BIOD_SHAPE})


def _matched(models: pd.DataFrame, of: Format, writer: str | None = None) -> Estimate:
    above = _models(models, of)
    if writer is not None:
        written_by = above["rewriter"].where(above["rewriter"].isin(["", "grammar"]), "model")
        above = above[(written_by == writer) & (above["kind"] != "bioD")]
    return paired_ratio(above, _models(models, "fresh"), "capacity_ratio", SAME_CELL)


def _peaks(models: pd.DataFrame, of: Format) -> Estimate:
    return mean_ratio_of_peaks(
        _models(models, of), _models(models, "fresh"), "capacity_ratio", "num_people"
    )


WORDS: Mapping[Format, str] = {
    "fixed": "one fixed biography a person",
    "rewritten": "few biographies a person",
}
"""bioS-simple and bioR, and what is to bioD as they are to bioS."""


def _quantity(of: Format, *, peak: bool) -> Quantity:
    writers = {"bioR by a grammar": "grammar", "bioR by a language model": "model"}
    return Quantity(
        name=f"{'peak ' if peak else ''}R with {WORDS[of]}, relative to fresh ones",
        units="1",
        claim=EQUAL,
        estimate=partial(_peaks if peak else _matched, of=of),
        needs=(
            f"the same GPT2 on fresh biographies and on {WORDS[of]}, "
            "with 1000 exposures and R_max of at least 2"
        ),
        needed=not peak,
        variants={
            label: partial(_matched, of=of, writer=writer)
            for label, writer in writers.items()
            if of == "rewritten" and not peak
        },
    )


LAW = Law(
    number=2,
    title="Formats",
    claim=(
        "One fixed biography a person, or biographies rewritten by a language model, are stored "
        "nearly as well as fresh sentences every time."
    ),
    reads=(1, 2),
    quantities=(
        _quantity("fixed", peak=False),
        _quantity("rewritten", peak=False),
        _quantity("fixed", peak=True),
        _quantity("rewritten", peak=True),
    ),
)
