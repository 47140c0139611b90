"""A study file: YAML to experiments, and experiments to runs.

Every experiment has a base run and a grid. A block of the grid maps dotted fields to a value or
to a list of values; a block stands for the product of its lists, the grid for the union of its
blocks, an absent grid for the base alone. Whatever is wrong is one line that names file, line,
field, value and what is allowed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator

from knowcap.config import Count, Evaluation, Precision, Record, Run
from knowcap.errors import UserError, sentence

LAWS = range(1, 13)
"""The paper's twelve laws."""

_SHARED_FOLDERS = ("corpora", "runs", "scratch", "studies", "logs", "benchmarks", "reference")
_TAGS = ("bioS", "bioS-simple", "bioR", "bioD", "grammar", "LanguageModel")
_EXPERIMENT_KEYS = ("laws", "scale", "precisions", "run", "grid")

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Experiment(Record):
    """A set of runs and the laws they inform."""

    laws: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Numbers of the laws, 1 to 12."""
    scale: str
    """What the report calls this scale; a law is judged within one scale."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    """In which precisions each run is measured."""
    runs: tuple[Run, ...]
    """The expanded grid."""

    @field_validator("laws")
    @classmethod
    def _laws_exist(cls, laws: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := [law for law in laws if law not in LAWS]:
            raise ValueError(f"{unknown[0]} is no law; there are laws 1 to 12")
        return laws

    def measurements(self) -> Iterator[tuple[Run, Precision]]:
        """Every (run, precision)."""
        return itertools.product(self.runs, self.precisions)


class Study(Record):
    """Named experiments and where their results are kept."""

    study: Label
    """Name of the study, and of its folder below `results`."""
    results: str
    """Folder of the results; several studies and checkouts can share one."""
    evaluation: Evaluation
    experiments: Annotated[dict[Label, Experiment], Field(min_length=1)]

    @field_validator("study")
    @classmethod
    def _folder_is_free(cls, study: str) -> str:
        if study in _SHARED_FOLDERS:
            raise ValueError(f"{study!r} is a folder of every study's results, take another name")
        return study

    def runs(self) -> tuple[Run, ...]:
        """Every distinct run, in order of appearance."""
        return tuple(dict.fromkeys(run for e in self.experiments.values() for run in e.runs))

    def measurements(self, law: int | None = None) -> tuple[tuple[Run, Precision], ...]:
        """Every distinct (run, precision), of all laws or of one."""
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
        With one line: file, line number, field, what was given and what is allowed.
    """
    return _Source(path).study()


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""By libyaml where PyYAML has it; it reads a long study in a tenth of the time."""


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    """YAML in which a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for index, key in enumerate(written):
            if key in written[:index]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key}: written twice", problem_mark=node.value[index][0].start_mark
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _Cell(NamedTuple):
    """Where one run of an experiment comes from."""

    experiment: str
    block: int | None
    """Index of the block of the grid; None without a grid."""
    fields: frozenset[str]
    """Dotted fields the block sets."""


class _Source:
    """A study file, remembering the line of everything in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path}: no such study file") from None
        except (UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        try:
            self.root = yaml.compose(text, Loader=_Loader)
            self.values = yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UserError(f"{path}:{line}: {error.problem}") from None
        self._require_mapping(self.values, ())
        self.cells: dict[tuple[str, int], _Cell] = {}

    def study(self) -> Study:
        # Keys that begin with x- hold anchors for the rest of the file.
        values = {k: v for k, v in self.values.items() if not str(k).startswith("x-")}
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
        """Replace `run` and `grid` by the list of runs they stand for."""
        where = ("experiments", name)
        self._require_mapping(experiment, where)
        for key in experiment:
            if key not in _EXPERIMENT_KEYS:
                allowed = ", ".join(_EXPERIMENT_KEYS)
                raise self._error((*where, key), f"unknown, allowed are {allowed}")
        if "run" not in experiment:
            raise self._error((*where, "run"), "missing")
        rest = {key: value for key, value in experiment.items() if key not in ("run", "grid")}
        self._require_mapping(experiment["run"], (*where, "run"))
        grid = experiment.get("grid", [{}])
        if not isinstance(grid, list) or not grid:
            raise self._error((*where, "grid"), "a list of blocks is expected")
        runs: list[dict[str, Any]] = []
        for index, block in enumerate(grid):
            self._require_mapping(block, (*where, "grid", index))
            cell = _Cell(name, index if "grid" in experiment else None, frozenset(map(str, block)))
            for choice in _product(block):
                self.cells[name, len(runs)] = cell
                run = experiment["run"]
                for field, value in choice.items():
                    run = self._with(run, field, value, (*where, "grid", index, field))
                runs.append(run)
        return {**rest, "runs": runs}

    def _with(
        self, run: dict[str, Any], field: str, value: Any, where: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Set a dotted field of a run, whose other fields are shared, not copied."""
        parent, dot, rest = field.partition(".")
        if dot:
            below = run.get(parent, {})
            if not isinstance(below, dict):
                raise self._error(where, f"{parent} has no fields")
            value = self._with(below, rest, value, where)
        return {**run, parent: value}

    def _explain(self, error: ValidationError) -> str:
        """The first mistake, and how many others there are; a mistake in a base run counts once."""
        problems = error.errors()
        places: dict[tuple[int, str], str] = {}
        for problem in problems:
            if not any(_is_below(other["loc"], problem["loc"]) for other in problems):
                loc, line, text = self._locate(_without_tags(problem["loc"]), sentence(problem))
                places.setdefault((line, text), f"{'.'.join(map(str, loc))}: {text}")
        (line, _), first = next(iter(places.items()))
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        return f"{self.path}:{line}: {first}{more}"

    def _error(self, loc: tuple[Any, ...], problem: str) -> UserError:
        """One line for `problem` at `loc`."""
        loc, line, problem = self._locate(loc, problem)
        return UserError(f"{self.path}:{line}: {'.'.join(map(str, loc)) or 'study'}: {problem}")

    def _locate(self, loc: tuple[Any, ...], problem: str) -> tuple[tuple[Any, ...], int, str]:
        """Where in the file a problem is; it may begin with a field below `loc`."""
        field, colon, rest = problem.partition(": ")
        if colon and re.fullmatch(r"[A-Za-z0-9_.-]+", field):
            loc, problem = (*loc, field), rest
        if len(loc) > 3 and loc[0] == "experiments" and loc[2] == "runs":
            loc = self._origin(self.cells[loc[1], loc[3]], ".".join(map(str, loc[4:])))
        return loc, self._line(loc), problem

    def _origin(self, cell: _Cell, field: str) -> tuple[Any, ...]:
        """The place in the file that set a field of a run."""
        experiment = ("experiments", cell.experiment)
        for given in cell.fields:
            if field == given or field.startswith(f"{given}."):
                inside = field.removeprefix(given).split(".")[1:]
                return (*experiment, "grid", cell.block, given, *inside)
        return (*experiment, "run", *field.split("."))

    def _line(self, loc: tuple[Any, ...]) -> int:
        """Line of the deepest part of `loc` that the file has."""
        node, line = self.root, 1
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def _require_mapping(self, value: Any, loc: tuple[Any, ...]) -> None:
        if not isinstance(value, dict):
            raise self._error(loc, f"fields are expected, not {value!r}")


def _product(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every choice of one value from each list of a block."""
    alternatives = [value if isinstance(value, list) else [value] for value in block.values()]
    for values in itertools.product(*alternatives):
        yield dict(zip(map(str, block), values, strict=True))


def _child(node: Any, part: Any) -> tuple[int, Any] | None:
    """Line and node of a key or an index, looked up through YAML's merge keys too."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        child = node.value[part]
        return child.start_mark.line + 1, child
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.value == str(part):
            return key.start_mark.line + 1, value
        if key.tag == "tag:yaml.org,2002:merge":
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
    return next((found for base in merged if (found := _child(base, part))), None)


def _is_below(loc: tuple[Any, ...], above: tuple[Any, ...]) -> bool:
    """Whether `loc` is inside `above`; a list with a bad item also counts as too short."""
    return len(loc) > len(above) and loc[: len(above)] == above


def _without_tags(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out what pydantic adds to say which kind of knowledge it read."""
    if loc[2:] == ("[key]",):  # which is how it says that the name is meant
        return loc[:2]
    # Experiments may be called like that.
    return (*loc[:3], *(part for part in loc[3:] if part not in _TAGS))
