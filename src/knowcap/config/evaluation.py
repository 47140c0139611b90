"""Evaluation settings: evaluated people, prompt templates and precisions of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from knowcap.config.base import Record, Seed

EvaluationStage = Literal["evaluate", "quantize"]
"""Workflow stages whose code computes losses."""

QuantizedPrecision = Literal[
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
"""Precisions whose weights are integers.

The method is GPTQ unless the name has `rtn` (round to nearest) or `awq`. The embedding and the
output layer stay in 16 bits unless the name ends in `_embedding`."""

Probe = Literal["without_last_mlp", "without_last_attention", "without_last_layer"]
"""Parts of the last layer that are skipped in float32, to measure what the others store."""
# PAPER 8: dropping the last layer removes much more than its share of the parameters

Precision = Literal["trained", QuantizedPrecision, Probe]
"""Number format of a model's weights during evaluation; `trained` is float32, not quantised."""

PRECISION_STAGES: Mapping[Precision, EvaluationStage] = {
    "trained": "evaluate",
    **dict.fromkeys(get_args(Probe), "evaluate"),
    **dict.fromkeys(get_args(QuantizedPrecision), "quantize"),
}
"""The stage that evaluates each precision. Its code is part of the name of the losses."""


class Evaluation(Record):
    """Which people and prompt templates a trained model is evaluated on."""

    num_people: Annotated[int, Field(ge=1, le=10**9)]
    """Number of evaluated people, the first of the population; all if it has fewer."""
    seed: Seed
    """Chooses the sentence templates of the prompts."""
