"""The question: frozen records of what is asked.

A :class:`Run` is one corpus, one architecture, one optimisation and its replicates; a
measurement is a run and a precision. Nothing here computes a number that a result depends on:
the stages see only the resolved record, and the record is in the identity of everything made
from it (:mod:`knowcap.artifacts.identity`). The YAML that runs are read from is :mod:`knowcap.config.study`'s.
"""

from __future__ import annotations

from knowcap.config.architecture import Architecture
from knowcap.config.base import Count, Positive, Record, Seed
from knowcap.config.evaluation import Evaluation, Precision
from knowcap.config.knowledge import (
    COMPACT_NAME_LENGTH,
    NAME_POOL_SIZES,
    BioD,
    BioR,
    BioS,
    Corpus,
    LanguageModel,
    Mixture,
    Population,
)
from knowcap.config.run import Optimization, Replicates, Run

__all__ = [
    "COMPACT_NAME_LENGTH",
    "NAME_POOL_SIZES",
    "Architecture",
    "BioD",
    "BioR",
    "BioS",
    "Corpus",
    "Count",
    "Evaluation",
    "LanguageModel",
    "Mixture",
    "Optimization",
    "Population",
    "Positive",
    "Precision",
    "Record",
    "Replicates",
    "Run",
    "Seed",
]
