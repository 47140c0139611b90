"""The table of precisions: the stage and the logits backend of each.

All code that evaluates models uses this table. Backends are imported when they are
loaded, because the quantisation library takes seconds to import. No stage's code may import this
module: the digest of `evaluate` would then cover the code of every quantiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from knowcap.config import PRECISION_STAGES, EvaluationStage, Precision, Probe

if TYPE_CHECKING:
    from knowcap.evaluation.prepared_model import LogitsBackend


class PrecisionBackend(NamedTuple):
    """How a precision is evaluated."""

    stage: EvaluationStage
    """The stage whose code digest names the losses."""
    load: Callable[[], LogitsBackend]
    """Imports and returns the backend."""


def _load_trained_weights(precision: Precision) -> LogitsBackend:
    from knowcap.evaluation.evaluate import trained_weights, without_last

    if precision == "trained":
        return trained_weights
    return partial(without_last, cast("Probe", precision))


def _load_quantized_weights(precision: Precision) -> LogitsBackend:
    from knowcap.evaluation.quantize import SCHEMES, quantized_weights

    return partial(quantized_weights, SCHEMES[precision])


_LOADERS: Mapping[EvaluationStage, Callable[[Precision], LogitsBackend]] = {
    "evaluate": _load_trained_weights,
    "quantize": _load_quantized_weights,
}

PRECISION_BACKENDS: Mapping[Precision, PrecisionBackend] = {
    precision: PrecisionBackend(stage, partial(_LOADERS[stage], precision))
    for precision, stage in PRECISION_STAGES.items()
}
