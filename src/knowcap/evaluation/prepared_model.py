"""Interface of the backends that convert a trained model to one precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from knowcap.config import Run
from knowcap.data.corpus import CorpusReader
from knowcap.evaluation.losses import LogitsFunction
from knowcap.model.stacked_model import StackedModel


class PreparedModel(NamedTuple):
    """A model in one precision."""

    logits: LogitsFunction
    attrs: Mapping[str, float]
    """Properties of the stored weights, written into the file of losses."""


LogitsBackend = Callable[[StackedModel, Run, CorpusReader], PreparedModel]
"""Converts a trained model to one precision; :mod:`knowcap.stages.precisions` lists them."""
