"""Study files: YAML is read into experiments, and their grids are expanded into runs.

Every experiment has a base run and a grid, which is a list of blocks. A block maps dotted fields
to a value or to a list of values, and expands to all combinations of its lists. Without a grid
there is only the base run. An error is one line with file, line number, field, value and the
allowed values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from knowcap.config import Count, Evaluation, Precision, Record, Run
from knowcap.config.yaml_file import YamlFile
from knowcap.errors import UserError, error_message

LAWS = range(1, 13)
"""Numbers of the paper's laws."""

_RESERVED_FOLDERS = ("corpora", "runs", "scratch", "studies", "logs", "benchmarks", "reference")
_UNION_TAGS = ("bioS", "bioS-simple", "bioR", "bioD", "grammar", "LanguageModel")
_EXPERIMENT_KEYS = ("laws", "scale", "precisions", "run", "grid")

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Experiment(Record):
    """Runs, their precisions, and the laws that are tested with them."""

    laws: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Numbers of the laws that are tested with the runs, 1 to 12."""
    scale: str
    """Name of the scale in the report. Each law is tested within one scale."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    """Precisions in which each run is evaluated."""
    runs: tuple[Run, ...]
    """All runs of the grid."""

    @field_validator("laws")
    @classmethod
    def _check_laws(cls, laws: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := [law for law in laws if law not in LAWS]:
            raise ValueError(f"{unknown[0]} is not allowed; laws are numbered 1 to 12")
        return laws

    def measurements(self) -> Iterator[tuple[Run, Precision]]:
        """Return all pairs of run and precision."""
        return itertools.product(self.runs, self.precisions)


class Study(Record):
    """Experiments of a study and the folder of their results."""

    study: Label
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

    @field_validator("study")
    @classmethod
    def _check_name(cls, study: str) -> str:
        if study in _RESERVED_FOLDERS:
            raise ValueError(
                f"{study!r} is not allowed; reserved names are {', '.join(_RESERVED_FOLDERS)}"
            )
        return study

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
        self._require_mapping(self.file.values, ())
        self.origins: dict[tuple[str, int], _RunOrigin] = {}
        """By name of the experiment and index of the run."""

    def parse(self) -> Study:
        """Expand the grids and validate the study."""
        # Keys that begin with x- hold anchors for the rest of the file.
        values = {k: v for k, v in self.file.values.items() if not str(k).startswith("x-")}
        experiments = values.get("experiments")
        if experiments is not None:
            self._require_mapping(experiments, ("experiments",))
            values["experiments"] = {
                name: self._expand(str(name), experiment)
                for name, experiment in experiments.items()
            }
        try:
            return Study.model_validate(values)
        except ValidationError as error:
            raise UserError(self._explain(error)) from None

    def _expand(self, name: str, experiment: Any) -> dict[str, Any]:
        """Replace `run` and `grid` of an experiment by the list of its runs."""
        loc = ("experiments", name)
        self._require_mapping(experiment, loc)
        for key in experiment:
            if key not in _EXPERIMENT_KEYS:
                allowed = ", ".join(_EXPERIMENT_KEYS)
                raise self._error((*loc, key), f"unknown, allowed are {allowed}")
        if "run" not in experiment:
            raise self._error((*loc, "run"), "missing")
        rest = {key: value for key, value in experiment.items() if key not in ("run", "grid")}
        self._require_mapping(experiment["run"], (*loc, "run"))
        grid = experiment.get("grid", [{}])
        if not isinstance(grid, list) or not grid:
            raise self._error((*loc, "grid"), "a list of blocks is required")
        runs: list[dict[str, Any]] = []
        for index, block in enumerate(grid):
            self._require_mapping(block, (*loc, "grid", index))
            block_index = index if "grid" in experiment else None
            origin = _RunOrigin(name, block_index, frozenset(map(str, block)))
            for combination in _combinations(block):
                self.origins[name, len(runs)] = origin
                run = experiment["run"]
                for field, value in combination.items():
                    run = self._set_field(run, field, value, (*loc, "grid", index, field))
                runs.append(run)
        return {**rest, "runs": runs}

    def _set_field(
        self, run: dict[str, Any], field: str, value: Any, loc: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Return a run with another value of a dotted field; other fields are not copied."""
        parent, dot, rest = field.partition(".")
        if dot:
            child = run.get(parent, {})
            if not isinstance(child, dict):
                raise self._error(loc, f"{parent} has no fields")
            value = self._set_field(child, rest, value, loc)
        return {**run, parent: value}

    def _explain(self, error: ValidationError) -> str:
        """Return one line with the first error and the number of other errors.

        An error of a base run, which all runs of its grid have, is counted once.
        """
        problems = error.errors()
        messages: dict[tuple[int, str], str] = {}
        for problem in problems:
            if not any(_is_below(other["loc"], problem["loc"]) for other in problems):
                loc, line, text = self._locate(
                    _without_union_tags(problem["loc"]), error_message(problem)
                )
                messages.setdefault((line, text), f"{'.'.join(map(str, loc))}: {text}")
        (line, _), first = next(iter(messages.items()))
        more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
        return f"{self.file.path}:{line}: {first}{more}"

    def _error(self, loc: tuple[Any, ...], problem: str) -> UserError:
        """Return an error with the file, line and field of a problem."""
        loc, line, problem = self._locate(loc, problem)
        return UserError(
            f"{self.file.path}:{line}: {'.'.join(map(str, loc)) or 'study'}: {problem}"
        )

    def _locate(self, loc: tuple[Any, ...], problem: str) -> tuple[tuple[Any, ...], int, str]:
        """Return field, line and text of a problem; the text can begin with a field in `loc`."""
        field, colon, rest = problem.partition(": ")
        if colon and re.fullmatch(r"[A-Za-z0-9_.-]+", field):
            loc, problem = (*loc, field), rest
        if len(loc) > 3 and loc[0] == "experiments" and loc[2] == "runs":
            loc = self._field_in_file(self.origins[loc[1], loc[3]], ".".join(map(str, loc[4:])))
        return loc, self.file.line(loc), problem

    def _field_in_file(self, origin: _RunOrigin, field: str) -> tuple[Any, ...]:
        """Return the keys in the file that set a field of a run."""
        experiment = ("experiments", origin.experiment)
        for given in origin.fields:
            if field == given or field.startswith(f"{given}."):
                inside = field.removeprefix(given).split(".")[1:]
                return (*experiment, "grid", origin.block, given, *inside)
        return (*experiment, "run", *field.split("."))

    def _require_mapping(self, value: Any, loc: tuple[Any, ...]) -> None:
        if not isinstance(value, dict):
            raise self._error(loc, f"{value!r} is not allowed; a mapping of fields is required")


def _combinations(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of the values in the lists of a block."""
    alternatives = [value if isinstance(value, list) else [value] for value in block.values()]
    for values in itertools.product(*alternatives):
        yield dict(zip(map(str, block), values, strict=True))


def _is_below(loc: tuple[Any, ...], above: tuple[Any, ...]) -> bool:
    """Whether `loc` is a field in `above`.

    pydantic reports a list with an invalid item also as too short; that error is left out.
    """
    return len(loc) > len(above) and loc[: len(above)] == above


def _without_union_tags(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a location without the tags of unions, such as bioS, that pydantic inserts."""
    if loc[2:] == ("[key]",):  # the name of an experiment is invalid
        return loc[:2]
    # The first three parts are kept, because an experiment can have the name of a tag.
    return (*loc[:3], *(part for part in loc[3:] if part not in _UNION_TAGS))
