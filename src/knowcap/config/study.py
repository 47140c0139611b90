"""Study files: YAML is read into experiments, and their grids are expanded into runs.

Every experiment has a base run and a grid, which is a list of blocks. A block maps dotted fields
to a value or to a list of values, and expands to all combinations of its lists. Without a grid
there is only the base run. An error is one line with file, line number, field, value and the
allowed values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError

from knowcap.config import Evaluation, Precision, Record, Run
from knowcap.config.base import Distinct, FieldError, field_error
from knowcap.config.results_folder import expand_folder
from knowcap.config.yaml_file import YamlFile
from knowcap.errors import (
    distinct_errors,
    error_location,
    error_message,
    field_path,
    shown,
)

LAWS = range(1, 13)
"""Numbers of the paper's laws."""

_RESERVED_FOLDERS = ("corpora", "runs", "scratch", "studies", "logs", "benchmarks", "reference")
_EXPERIMENT_KEYS = ("laws", "scale", "precisions", "run", "grid")
_MISSING = object()

MAX_RUNS = 100_000
"""Largest number of runs of a study, twice the largest one that was planned (docs/scaling.md)."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]


def _check_reserved(study: str) -> str:
    if study in _RESERVED_FOLDERS:
        reserved = ", ".join(_RESERVED_FOLDERS)
        raise field_error(f"{shown(study)} is not allowed; reserved names are {reserved}")
    return study


Law = Annotated[int, Field(ge=LAWS.start, le=LAWS.stop - 1)]
ScaleName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=64)]


class Experiment(Record):
    """Runs, their precisions, and the laws that are tested with them."""

    laws: Annotated[tuple[Law, ...], Distinct]
    """Numbers of the laws that are tested with the runs, 1 to 12. It may be empty: then the report
    has the bits of all models, and a figure of whatever the grid varies."""
    scale: ScaleName
    """Name of the scale in the report. Each law is tested within one scale."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1), Distinct]
    """Precisions in which each run is evaluated."""
    runs: tuple[Run, ...]
    """All runs of the grid."""

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        probe = "without_last_mlp"
        if probe in self.precisions and any(not r.architecture.mlp_weights for r in self.runs):
            yield FieldError("precisions", f"{probe!r} is not allowed with models without MLPs")

    def measurements(self) -> Iterator[tuple[Run, Precision]]:
        """Return all pairs of run and precision."""
        return itertools.product(self.runs, self.precisions)


class Study(Record):
    """Experiments of a study and the folder of their results."""

    study: Annotated[Label, AfterValidator(_check_reserved)]
    """Name of the study, and of its folder in `results`."""
    results: str
    """Folder of all results. Several studies and checkouts can share it."""
    evaluation: Evaluation
    """Settings of all evaluations."""
    training_order: Literal["longest_first", "listed"] = "longest_first"
    """Order of the trainings: the longest first, so that no core is idle at the end of a study, or
    as listed, so that a study of several days has the most important results first."""
    experiments: Annotated[dict[Label, Experiment], Field(min_length=1)]
    """Experiments by name."""

    @classmethod
    def expand(cls, values: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Expand `~` and environment variables in the folder of results."""
        if not isinstance(values.get("results"), str):
            return values, []
        folder, problem = expand_folder(values["results"])
        return {**values, "results": folder}, [FieldError("results", problem)] if problem else []

    def runs(self) -> tuple[Run, ...]:
        """Return the distinct runs in the order of the file."""
        return tuple(dict.fromkeys(run for e in self.experiments.values() for run in e.runs))

    def measurements(self, law: int | None = None) -> tuple[tuple[Run, Precision], ...]:
        """Return the distinct pairs of run and precision, of all laws or of one."""
        return tuple(
            dict.fromkeys(
                measurement
                for experiment in self.experiments.values()
                if law is None or law in experiment.laws
                for measurement in experiment.measurements()
            )
        )


def load_study(path: Path) -> Study:
    """Read a study file and expand its grids.

    Raises
    ------
    UserError
        If the file is missing or has an error, with its line, field, value and allowed values.
    """
    return _StudyFile(path).parse()


class _RunOrigin(NamedTuple):
    """The experiment and the block of the grid that a run comes from."""

    experiment: str
    block: int | None
    """Index of the block in the grid; None without a grid."""
    fields: frozenset[str]
    """Dotted fields that the block sets."""


class _StudyFile:
    """A study file: expands its grids and locates errors in it."""

    def __init__(self, path: Path) -> None:
        self.file = YamlFile(path)
        self.errors: dict[tuple[int, Any, str], str] = {}
        """Text of each error, by line, key and message: an anchor's error is counted once."""
        self.num_runs = 0
        self.sections: dict[int, tuple[Any, Record]] = {}
        """Valid sections of runs by the id of their values; most runs share most sections."""

    def parse(self) -> Study:
        """Expand the grids and validate the study.

        Raises
        ------
        UserError
            With all errors, one line for each, sorted by their lines in the file.
        """
        study = self._parse()
        errors = [(line, text) for (line, _, _), text in self.errors.items()]
        if study is None or errors or self.file.errors:
            raise self.file.all_errors([*self.file.errors, *errors])
        return study

    def _parse(self) -> Study | None:
        """Return the study, or None after an error."""
        if self.file.values is None:
            self._add((), "the file is empty; a mapping of fields is required")
            return None
        if not self._is_mapping(self.file.values, ()):
            return None
        # Keys that begin with x- hold anchors for the rest of the file.
        values = {k: v for k, v in self.file.values.items() if not k.startswith("x-")}
        experiments = values.get("experiments")
        if isinstance(experiments, dict):
            values["experiments"] = {
                name: self._expand(name, experiment)
                for name, experiment in experiments.items()
                if self._is_mapping(experiment, ("experiments", name))
            }
        try:
            return Study.model_validate(values)
        except ValidationError as error:
            has_invalid_experiments = bool(self.errors)
            for problem in distinct_errors(error):
                loc = problem["loc"]
                if has_invalid_experiments and loc == ("experiments",):
                    continue  # they are left out
                # The location of an invalid name of an experiment ends in "[key]".
                loc = loc[:-1] if loc[-1:] == ("[key]",) else loc
                self._add(loc, error_message(problem))
        return None

    def _expand(self, name: str, experiment: dict[str, Any]) -> dict[str, Any]:
        """Replace `run` and `grid` of an experiment by the list of its valid runs."""
        loc = ("experiments", name)
        for key in experiment:
            if key not in _EXPERIMENT_KEYS:
                self._add((*loc, key), f"unknown, allowed are {', '.join(_EXPERIMENT_KEYS)}")
        rest = {key: experiment[key] for key in _EXPERIMENT_KEYS if key in experiment}
        run, grid = rest.pop("run", _MISSING), rest.pop("grid", _MISSING)
        runs: list[Run] = []
        if run is _MISSING:
            self._add((*loc, "run"), "missing")
        elif not self._is_mapping(run, (*loc, "run")):
            pass
        elif grid is _MISSING:
            runs += self._expand_block(run, {}, _RunOrigin(name, None, frozenset()))
        elif not isinstance(grid, list) or not grid:
            self._add((*loc, "grid"), f"{shown(grid)} is not allowed; a list of blocks is required")
        else:
            for index, block in enumerate(grid):
                if self._is_mapping(block, (*loc, "grid", index)):
                    origin = _RunOrigin(name, index, frozenset(block))
                    runs += self._expand_block(run, block, origin)
        return {**rest, "runs": tuple(runs)}

    def _expand_block(
        self, base: dict[str, Any], block: dict[str, Any], origin: _RunOrigin
    ) -> Iterator[Run]:
        """Yield the valid runs of a block of the grid."""
        loc = ("experiments", origin.experiment, "grid", origin.block)
        alternatives = {
            field: value if isinstance(value, list) else [value] for field, value in block.items()
        }
        for field, values in alternatives.items():
            if not values:
                self._add((*loc, field), "[] is not allowed; a list of values is required")
        self.num_runs += math.prod(map(len, alternatives.values()))
        if self.num_runs > MAX_RUNS:
            self._add(loc, f"with this block the study has more than {MAX_RUNS} runs")
            return
        for combination in itertools.product(*alternatives.values()):
            run = base
            for field, value in zip(alternatives, combination, strict=True):
                run = self._set_field(run, field, value, (*loc, field))
            yield from self._validate_run(run, origin)

    def _set_field(
        self, run: dict[str, Any], field: str, value: Any, loc: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Return a run with another value of a dotted field; other fields are not copied."""
        parent, dot, rest = field.partition(".")
        if dot:
            child = run.get(parent, {})
            if not isinstance(child, dict):
                self._add(loc, f"{field_path([parent])} has no fields")
                return run
            value = self._set_field(child, rest, value, loc)
        return {**run, parent: value}

    def _validate_run(self, values: dict[str, Any], origin: _RunOrigin) -> Iterator[Run]:
        """Yield the run of a combination if it is valid."""
        known = {
            name: self.sections.get(id(section), (None, section))[1]
            for name, section in values.items()
        }
        try:
            run = Run.model_validate(known)
        except ValidationError as error:
            for problem in distinct_errors(error):
                loc = self._field_in_file(origin, error_location(problem))
                # In a block of a grid, a list has the alternatives of a field.
                example = "[[{}]]" if "grid" in loc[:3] and len(loc) == 5 else "[{}]"
                self._add(loc, error_message(problem, example))
            return
        for name in Run.model_fields:
            self.sections[id(values[name])] = values[name], getattr(run, name)
        errors = list(run.training_errors())
        for field, message in errors:
            self._add(self._field_in_file(origin, tuple(field.split("."))), message)
        if not errors:
            yield run

    def _field_in_file(self, origin: _RunOrigin, field: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the keys in the file that set a field of a run."""
        experiment = ("experiments", origin.experiment)
        for depth in range(len(field), 0, -1):
            given = ".".join(map(str, field[:depth]))
            if given in origin.fields:
                return (*experiment, "grid", origin.block, given, *field[depth:])
        return (*experiment, "run", *field)

    def _is_mapping(self, value: Any, loc: tuple[Any, ...]) -> bool:
        """Whether a value is a mapping; if not, add an error."""
        if not isinstance(value, dict):
            self._add(loc, f"{shown(value)} is not allowed; a mapping of fields is required")
        return isinstance(value, dict)

    def _add(self, loc: tuple[Any, ...], message: str) -> None:
        """Add an error of a field of the file."""
        text = f"{field_path(loc) or 'study'}: {message}"
        self.errors.setdefault((self.file.line(loc), loc[-1:], message), text)
