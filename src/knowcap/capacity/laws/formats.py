"""Law 2: fixed or rewritten biographies are stored nearly as well as fresh ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import pandas as pd

from knowcap.capacity.laws.cells import compare
from knowcap.capacity.laws.claims import equal
from knowcap.capacity.laws.definitions import Law, Quantity
from knowcap.capacity.laws.model_filters import (
    FREQUENT_EXPOSURES,
    OTHER_TOKENIZER,
    capacity_limited,
    unmodified_gpt2,
    with_exposures,
    without_junk,
)
from knowcap.capacity.laws.preconditions import SeveralWordings
from knowcap.capacity.laws.quantities import log_mean, usual
from knowcap.capacity.table_columns import BIOD_SHAPE

PAIR_COLUMNS = (
    *("facts", "num_people", "population_seed", *BIOD_SHAPE),
    *("num_layers", "num_attention_heads", "hidden_size"),
)
"""Columns that must be equal in a pair. P is not among them: vocabularies differ by format."""

NUM_WORDINGS = {"bioD": 1}
"""Sentence templates of an attribute, by kind of data; BIOS_WORDINGS for others."""

BIOS_WORDINGS = 50  # PAPER 2.2: 50 templates per attribute. A rewriter has at least as many.

VARIED = frozenset(f"corpus.knowledge.{name}" for name in ("kind", "num_versions", "rewriter"))
"""Fields of the formats that are compared."""

MEASURE = "capacity_ratio_chain_rule"
"""R with values scored in whole biographies, by one rule in all formats.

Training on fixed biographies shows no value right after the name but the first one. So the plain
scoring has different prompts for fresh and for fixed biographies.
"""

Format = Literal["fresh", "fixed", "rewritten"]
"""Biographies per person: a new one at each exposure, one in all, or several."""


def _models(models: pd.DataFrame, format_: Format) -> pd.DataFrame:
    """Models of one format, with the columns that pairs are matched by."""
    chosen = with_exposures(without_junk(unmodified_gpt2(models)), FREQUENT_EXPOSURES)
    chosen = capacity_limited(chosen)
    versions = chosen["num_versions"]
    is_format = {"fresh": versions == 0, "fixed": versions == 1, "rewritten": versions > 1}
    chosen = chosen[is_format[format_] & (chosen["tokenizer"] != OTHER_TOKENIZER)]
    facts = chosen["kind"].where(chosen["kind"] == "bioD", "bioS")
    wordings = chosen["kind"].map(NUM_WORDINGS).fillna(BIOS_WORDINGS)
    shape = {name: chosen[name].fillna(0) for name in BIOD_SHAPE}
    return chosen.assign(facts=facts, num_wordings=wordings, **shape)


def _ratio(models: pd.DataFrame, format_: Format, writer: str | None = None) -> pd.DataFrame:
    """Cells with R of a format relative to fresh biographies of the same people."""
    if MEASURE not in models:
        return pd.DataFrame()
    chosen = _models(models, format_)
    if writer is not None:
        writers = chosen["rewriter"].where(chosen["rewriter"].isin(["", "grammar"]), "model")
        chosen = chosen[(writers == writer) & (chosen["kind"] != "bioD")]
    return compare(chosen, _models(models, "fresh"), MEASURE, PAIR_COLUMNS, varied=VARIED)


FORMAT_LABELS: Mapping[Format, str] = {
    "fixed": "one fixed biography per person",
    "rewritten": "several fixed biographies per person",
}
"""Labels of bioS-simple and of bioR, and of bioD with a fixed number of versions."""


def _quantity(format_: Format) -> Quantity:
    writers = {"bioR by a grammar": "grammar", "bioR by a language model": "model"}
    return Quantity(
        name=f"R with {FORMAT_LABELS[format_]}, relative to fresh ones",
        units="",
        # PAPER Result 2: about the same or slightly lower.
        claim=equal(),
        select=partial(_ratio, format_=format_),
        estimate=log_mean,
        needs=(
            f"the same GPT2 with fresh biographies and with {FORMAT_LABELS[format_]}, "
            "with 1000 exposures and R_max of at least 2"
        ),
        primary=True,
        # PAPER, Parameter 4: bioS-simple and bioR have the learning rates of bioS.
        preconditions=usual(FREQUENT_EXPOSURES, SeveralWordings(), tuned=False),
        details={
            label: partial(_ratio, format_=format_, writer=writer)
            for label, writer in writers.items()
            if format_ == "rewritten"
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
    varied=VARIED,
    quantities=(_quantity("fixed"), _quantity("rewritten")),
)
