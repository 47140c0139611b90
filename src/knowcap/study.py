"""A study file: YAML to experiments, and experiments to runs.

Every experiment has a base run and a grid. A block of the grid maps dotted fields to a value or
to a list of values; a block stands for the product of its lists, the grid for the union of its
blocks, an absent grid for the base alone. Whatever is wrong is one line that names file, line,
field, value and what is allowed.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from knowcap.config import Count, Evaluation, Precision, Record, Run
from knowcap.errors import UserError

LAWS = range(1, 13)
"""The paper's twelve laws."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Experiment(Record):
    """A set of runs and the laws they inform."""

    laws: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Numbers of the laws, 1 to 12."""
    scale: str
    """What the report calls this scale; a law is judged within one scale."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    """In which precisions each run is measured."""
    runs: Annotated[tuple[Run, ...], Field(min_length=1)]
    """The expanded grid."""

    @field_validator("laws")
    @classmethod
    def _laws_exist(cls, laws: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := [law for law in laws if law not in LAWS]:
            raise ValueError(f"{unknown[0]} is no law; there are laws 1 to 12")
        return laws


class Study(Record):
    """Named experiments and where their results are kept."""

    study: Label
    """Name of the study, and of its folder below `results`."""
    results: str
    """Folder of the results; several studies and checkouts can share one."""
    evaluation: Evaluation
    experiments: Annotated[dict[Label, Experiment], Field(min_length=1)]

    def runs(self) -> tuple[Run, ...]:
        """Every distinct run, in order of appearance."""
        return tuple(dict.fromkeys(run for e in self.experiments.values() for run in e.runs))

    def measurements(self) -> tuple[tuple[Run, Precision], ...]:
        """Every distinct (run, precision)."""
        return tuple(
            dict.fromkeys(
                (run, precision)
                for experiment in self.experiments.values()
                for run in experiment.runs
                for precision in experiment.precisions
            )
        )
