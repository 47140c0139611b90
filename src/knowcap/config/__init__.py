"""Frozen records of what is trained and evaluated, and the defaults of architecture families.

A :class:`Run` is one corpus, one architecture, one optimisation and its replicates. A measurement
is a run and a precision. Results depend on these records alone, and the names of results are
computed from them (:mod:`knowcap.artifacts.identity`). :mod:`knowcap.config.study` reads them from
YAML. No result is computed in this package.
"""

from __future__ import annotations

from knowcap.config.architecture import Architecture
from knowcap.config.base import Count, Positive, Record, Seed
from knowcap.config.evaluation import (
    PRECISION_STAGES,
    Evaluation,
    EvaluationStage,
    Precision,
    Probe,
)
from knowcap.config.extra_attributes import ExtraAttribute
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
from knowcap.config.run import Optimization, Replicates, Run, WindowKind
from knowcap.config.table import Table

__all__ = [
    "COMPACT_NAME_LENGTH",
    "NAME_POOL_SIZES",
    "PRECISION_STAGES",
    "Architecture",
    "BioD",
    "BioR",
    "BioS",
    "Corpus",
    "Count",
    "Evaluation",
    "EvaluationStage",
    "ExtraAttribute",
    "LanguageModel",
    "Mixture",
    "Optimization",
    "Population",
    "Positive",
    "Precision",
    "Probe",
    "Record",
    "Replicates",
    "Run",
    "Seed",
    "Table",
    "WindowKind",
]
