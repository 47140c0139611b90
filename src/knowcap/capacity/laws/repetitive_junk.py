"""Law 11: junk about few people, repeated many times, costs no capacity."""

from __future__ import annotations

import math

import pandas as pd

from knowcap.capacity.laws.claims import equal
from knowcap.capacity.laws.definitions import Fact, Law
from knowcap.capacity.laws.junk import VARIED, is_repetitive, junk_quantity
from knowcap.capacity.laws.model_filters import RARE_EXPOSURES, reference, with_exposures
from knowcap.capacity.laws.preconditions import FewJunkPeople


def _name_bits_lost(models: pd.DataFrame) -> str:
    """Sentence with the bits that names lose because junk has the same beginning."""
    mixed = models[models["useful_share"] < 1]
    mixed = mixed[is_repetitive(mixed) & ~mixed["domain_token"].astype(bool)]
    if mixed.empty:
        return ""
    plain = with_exposures(reference(models), RARE_EXPOSURES)
    baseline = plain.groupby(["knowledge", "model"])["bits"].mean()
    lost = math.log2(1 / mixed["useful_share"].min())
    keys = pd.MultiIndex.from_frame(mixed[["knowledge", "model"]])
    largest = 1 - lost * mixed["num_people"] / baseline.reindex(keys).to_numpy()
    text = (
        f"Junk begins like useful biographies, so each name loses {lost:.2g} bits by arithmetic. "
        "Plain R"
    )
    if largest.notna().any():
        text += f" could be at most {largest.max():.2g} times that without junk, so it"
    return f"{text} is not judged."


_CLAIM = equal(or_more=True)  # PAPER Result 11: no degradation.

LAW = Law(
    number=11,
    title="Repetitive junk",
    claim="Junk about few people, repeated many times, costs no capacity at 100 exposures.",
    source_laws=(4, 11),
    varied=VARIED,
    quantities=tuple(
        junk_quantity(
            100,
            _CLAIM,
            "repetitive",
            column=column,
            primary=column == "capacity_ratio_of_values",
            preconditions=(FewJunkPeople(),),
        )
        for column in ("capacity_ratio_of_values", "capacity_ratio_given_useful")
    ),
    facts=(Fact("bits of names", _name_bits_lost),),
)
