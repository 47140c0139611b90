"""Reading of files of measurements, with all their mistakes at once."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.own_measurements.columns import (
    ALIASES,
    ALLOWED_TEXTS,
    ALTERNATIVES,
    IGNORED,
    MAY_BE_INFINITE,
    POSITIVE,
    REQUIRED,
    UNKNOWN_IF_ZERO,
    VALUES,
)
from knowcap.capacity.table import replicates
from knowcap.capacity.table_columns import TABLE_VARIABLES
from knowcap.errors import UserError, shown

PAGE = "docs/own-measurements.md"

ROUNDING = 0.01
"""Largest relative difference that rounding of printed numbers explains."""

FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Row(NamedTuple):
    """A row as text."""

    place: str
    """File and line, for messages."""
    texts: Mapping[str, str]
    """Non-empty values by column."""
    labels: Mapping[str, str]
    """Columns as the file writes them, such as P for num_params."""

    def error(self, name: str, text: str) -> str:
        """Return the line of a mistake in a column."""
        return f"{self.place}: {self.labels.get(name, name)}: {text}"


def read_measurements(paths: Sequence[Path]) -> pd.DataFrame:
    """Read files of measurements; return one row for each trained model.

    Parameters
    ----------
    paths
        CSV files, or tables of `knowcap measure`.

    Returns
    -------
    pd.DataFrame
        Columns of :data:`~knowcap.capacity.own_measurements.columns.VALUES` that the files have,
        ``bits``, ``capacity_ratio``, ``max_bits`` and ``max_capacity_ratio``, and ``place``. A
        missing value is NaN or None.

    Raises
    ------
    UserError
        With all mistakes of all files, a line for each.
    """
    rows: list[Row] = []
    errors = [f"{path}: given {paths.count(path)} times" for path in paths if paths.count(path) > 1]
    for index, path in enumerate(paths):
        found, problems = _read_table(path, index) if path.suffix == ".nc" else _read_csv(path)
        rows += found
        errors += problems
    if errors:
        raise UserError.of_lines(errors)
    parsed = []
    for row in rows:
        values, problems = _parse(row)
        parsed.append(values)
        errors += problems
    if errors:
        raise UserError.of_lines(errors)
    return pd.DataFrame(parsed)


def _read_csv(path: Path) -> tuple[list[Row], list[str]]:
    """Rows of a CSV file, and the errors of its header.

    Empty lines and lines that begin with # are left out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        return [], [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError:
        return [], [f"{path}: not a text in UTF-8"]
    kept = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip(" ,") and not line.lstrip().startswith("#")
    ]
    lines = [[cell.strip() for cell in cells] for cells in csv.reader(line for _, line in kept)]
    if len(lines) < 2:
        return [], [f"{path}: a line of column names and lines of measurements are expected"]
    header = [ALIASES.get(name, name) for name in lines[0]]
    errors = [f"{path}: {error}" for error in _header_errors(header, lines[0])]
    rows = []
    labels = dict(zip(header, lines[0], strict=True))
    for (number, _), cells in zip(kept[1:], lines[1:], strict=True):
        place = f"{path}: line {number}"
        if len(cells) != len(header):
            errors.append(f"{place}: {len(cells)} values for {len(header)} columns")
            continue
        rows.append(Row(place, _non_empty(dict(zip(header, cells, strict=True))), labels))
    return rows, errors


def _read_table(path: Path, seed: int) -> tuple[list[Row], list[str]]:
    """Rows of a table of `knowcap measure`; `seed` tells models of equal settings apart."""
    table = files.read_dataset(path, TABLE_VARIABLES)
    if _has_experiments(table):
        text = "a table of a study has experiments, which `knowcap laws` judges; a table of "
        return [], [f"{path}: {text}`knowcap measure` is expected"]
    frame = replicates(table).assign(seed=seed)
    rows = [
        Row(f"{path}: row {index}", _non_empty({str(k): str(v) for k, v in values.items()}), {})
        for index, values in enumerate(frame.to_dict("records"))
    ]
    return rows, []


def _has_experiments(table: xr.Dataset) -> bool:
    return bool(table["informs"].values.any())


def _non_empty(texts: Mapping[str, str]) -> dict[str, str]:
    """Values that are known, of columns that are read."""
    return {
        name: text
        for name, text in texts.items()
        if name in VALUES and text and text.lower() != "nan"
    }


def _header_errors(header: Sequence[str], given: Sequence[str]) -> Iterator[str]:
    """Yield unknown, repeated and missing columns."""
    known = [*VALUES, *ALIASES]
    for name, original in zip(header, given, strict=True):
        if name not in VALUES and name not in IGNORED:
            close = difflib.get_close_matches(original, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; {PAGE} lists the columns"
            yield f"{shown(original)}: no such column{hint}"
        if header.count(name) > 1:
            yield f"{name}: the column is given {header.count(name)} times"
    for name in REQUIRED:
        if name not in header:
            short = next(alias for alias, column in ALIASES.items() if column == name)
            yield f"{name}: missing column (or {short})"
    for names in ALTERNATIVES:
        if not set(names) & set(header):
            yield f"{' or '.join(names)}: missing column"


def _parse(row: Row) -> tuple[dict[str, Any], list[str]]:
    """Values of a row, and its mistakes."""
    values: dict[str, Any] = {"place": row.place}
    errors = []
    for name, text in row.texts.items():
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            errors.append(row.error(name, f"{shown(text)} {error}"))
    needed = [(name,) for name in REQUIRED] + list(ALTERNATIVES)
    errors += [
        row.error(" or ".join(names), "missing value")
        for names in needed
        if not row.texts.keys() & set(names)
    ]
    if not errors:
        errors += [row.error(name, text) for name, text in _complete(values)]
    return values, errors


def _value(name: str, text: str) -> Any:
    """Value of a column; a ValueError says what is allowed."""
    kind = VALUES[name]
    if kind == "text":
        allowed = ALLOWED_TEXTS.get(name)
        if allowed and text not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return text
    if kind == "flag":
        if text.lower() not in FLAGS:
            raise ValueError("is not true or false")
        return FLAGS[text.lower()]
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(number) and name not in MAY_BE_INFINITE:
        raise ValueError("is not a finite number")
    if number == 0 and name in UNKNOWN_IF_ZERO:
        return math.nan
    if kind == "count" and (number < 0 or not number.is_integer()):
        raise ValueError("is not an integer of at least 0")
    if name in POSITIVE and number <= 0:
        raise ValueError("is not above 0")
    if name == "useful_share" and not 0 < number <= 1:
        raise ValueError("is not above 0 and at most 1")
    return int(number) if kind == "count" else number


def _complete(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Add the other one of bits and bits per parameter.

    Yields a column and a text for each number that does not fit the others.
    """
    given = 1 if ALTERNATIVES[0][1] in values else 0
    for total, ratio in ALTERNATIVES:
        if total in values and ratio in values:
            difference = abs(values[total] / values["num_params"] - values[ratio])
            if difference > ROUNDING * abs(values[ratio]):
                quotient = f"{values[total] / values['num_params']:.4g}"
                yield ratio, f"{values[ratio]:g} is not {total} / num_params, {quotient}"
        elif total in values:
            values[ratio] = values[total] / values["num_params"]
        else:
            values[total] = values[ratio] * values["num_params"]
    name, limit = (pair[given] for pair in ALTERNATIVES)
    if values[name] > (1 + ROUNDING) * values[limit]:
        yield name, f"{values[name]:,.7g} is more than {limit}, {values[limit]:,.7g}"
    if values.get("useful_share", 1) < 1 and "num_junk_people" not in values:
        yield "num_junk_people", "missing value; needed if useful_share is below 1"
