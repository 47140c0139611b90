"""Law 2, formats: how knowledge is put into words hardly matters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from knowcap.capacity.laws.claims import Claim, Estimate, Law, Quantity
from knowcap.capacity.laws.estimators import matched_ratio, mean_ratio_of_peaks
from knowcap.capacity.laws.selection import (
    FREQUENT,
    capacity_limited,
    exposed,
    plain_gpt2,
    without_junk,
)

SAME_CELL = ["num_people", "num_layers", "num_attention_heads", "hidden_size"]
"""Columns in which models agree; their vocabularies, and so P, differ a little by format."""

EQUAL = Claim(
    relation="about",
    value=1.0,  # PAPER Result 2: about the same, slightly lower.
    margin=0.15,
    # ASSUME: the paper states no tolerance.
    reason="seeds and sizes scatter by 0.05 in the paper, and it calls the peaks slightly lower",
)


def _models(models: pd.DataFrame, kind: str) -> pd.DataFrame:
    chosen = exposed(without_junk(plain_gpt2(models)), FREQUENT)
    return capacity_limited(chosen[chosen["kind"] == kind])


def _matched(models: pd.DataFrame, kind: str, rewriter: str | None = None) -> Estimate:
    above = _models(models, kind)
    if rewriter == "grammar":
        above = above[above["rewriter"] == rewriter]
    elif rewriter is not None:
        above = above[above["rewriter"] != "grammar"]
    return matched_ratio(above, _models(models, "bioS"), "capacity_ratio", SAME_CELL)


def _peaks(models: pd.DataFrame, kind: str) -> Estimate:
    return mean_ratio_of_peaks(
        _models(models, kind), _models(models, "bioS"), "capacity_ratio", "num_people"
    )


def _quantity(name: str, kind: str, estimate: Callable[..., Estimate], *, needed: bool) -> Quantity:
    rewriters = {"written by a grammar": "grammar", "written by a language model": "model"}
    return Quantity(
        name=name,
        units="1",
        claim=EQUAL,
        estimate=partial(estimate, kind=kind),
        needs=f"the same GPT2 on bioS and {kind} with 1000 exposures and R_max of at least 2",
        needed=needed,
        variants={
            label: partial(_matched, kind=kind, rewriter=rewriter)
            for label, rewriter in rewriters.items()
            if kind == "bioR" and estimate is _matched
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
        _quantity("R of bioS-simple relative to bioS", "bioS-simple", _matched, needed=True),
        _quantity("R of bioR relative to bioS", "bioR", _matched, needed=True),
        _quantity("peak R of bioS-simple relative to bioS", "bioS-simple", _peaks, needed=False),
        _quantity("peak R of bioR relative to bioS", "bioR", _peaks, needed=False),
    ),
)
