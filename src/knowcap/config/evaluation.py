"""How it is asked: of how many people, and in which precision of the weights."""

from __future__ import annotations

from typing import Literal

from knowcap.config.base import Count, Record, Seed

Precision = Literal[
    "trained",
    "int8",
    "int4",
    "int8_rtn",
    "int4_rtn",
    "int4_awq",
    "int8_embedding",
    "int4_embedding",
    "int8_rtn_embedding",
    "int4_rtn_embedding",
    "int4_awq_embedding",
]
"""How the weights are stored when a model is measured: as training left them, or as integers.

Quantised by GPTQ unless another method is named, without the embedding unless it is named."""


class Evaluation(Record):
    """How much of a population is asked what it was taught."""

    num_people: Count
    """People asked, the first of the population; all of them if it has fewer."""
    seed: Seed
    """Which templates the questions use."""
