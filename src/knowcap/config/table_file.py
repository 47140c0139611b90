"""CSV files with facts of one's own: names and values, and all mistakes in them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from knowcap.errors import UserError, shown

RESERVED_TEXTS = ("<|endoftext|>", "<|domain|>", "\u2581")
"""Texts that tokenizers use themselves: special tokens, and sentencepiece's space."""

MAX_CELL_LENGTH = 1000
"""Largest number of characters of a name or value."""


class TableFacts(NamedTuple):
    """Facts of a table."""

    names: tuple[str, ...]
    """Name in each row."""
    values: Mapping[str, tuple[str, ...]]
    """By attribute, its value in each row."""

    def distinct_values(self, column: str) -> tuple[str, ...]:
        """Return the distinct values of an attribute, in the order of the rows."""
        return tuple(dict.fromkeys(self.values[column]))


class TableFile(NamedTuple):
    """A CSV file, and what was found in it."""

    sha256: str
    """Digest of its bytes; empty if it cannot be read."""
    facts: TableFacts | None
    """None after a mistake."""
    mistakes: tuple[str, ...]
    """Each with its line, if it has one."""


def read_table_file(path: Path, name_column: str, columns: Sequence[str]) -> TableFile:
    """Read the name column and the attribute columns of a CSV file with a header.

    Parameters
    ----------
    path
        A file of comma-separated values in UTF-8. Other columns are ignored.
    name_column, columns
        Names of the columns that are read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return TableFile("", None, (f"{path}: cannot be read: {error.strerror}",))
    digest = hashlib.sha256(content).hexdigest()
    mistakes = []
    facts = None
    try:
        rows = list(_rows(content.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        mistakes.append(f"{path}, line {line}: not UTF-8")
    except csv.Error as error:
        mistakes.append(f"{path}: not comma-separated values: {error}")
    else:
        mistakes += [f"{path}{each}" for each in _mistakes(rows, name_column, columns)]
        if not mistakes:
            facts = _facts(rows, name_column, columns)
    return TableFile(digest, facts, tuple(mistakes))


def load_facts(path: Path, name_column: str, columns: Sequence[str], sha256: str) -> TableFacts:
    """Return the facts of a file that was read before.

    Raises
    ------
    UserError
        If the file has changed since then, or has mistakes.
    """
    found = read_table_file(path, name_column, columns)
    if found.facts is None:
        raise UserError.of_lines(found.mistakes)
    if found.sha256 != sha256:
        raise UserError(f"{path}: changed since the study was read; start again")
    return found.facts


class _Row(NamedTuple):
    """A row of a CSV file."""

    line: int
    """Last line of the row in the file."""
    cells: list[str]


def _rows(text: str) -> Iterator[_Row]:
    """Yield the rows that are not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for cells in reader:
        if cells:
            yield _Row(reader.line_num, cells)


def _facts(rows: list[_Row], name_column: str, columns: Sequence[str]) -> TableFacts:
    header, *body = rows
    index = {name: header.cells.index(name) for name in (name_column, *columns)}
    cells = {name: tuple(row.cells[at] for row in body) for name, at in index.items()}
    return TableFacts(cells.pop(name_column), cells)


def _mistakes(rows: list[_Row], name_column: str, columns: Sequence[str]) -> Iterator[str]:
    """Yield all mistakes, each with its line."""
    if not rows:
        yield ": empty; a header and one row for each name are required"
        return
    header, *body = rows
    if missing := [name for name in (name_column, *columns) if name not in header.cells]:
        found = ", ".join(map(shown, header.cells))
        yield from (f", line {header.line}: no column {shown(n)}, only {found}" for n in missing)
    for name in dict.fromkeys(header.cells):
        if header.cells.count(name) > 1 and name in (name_column, *columns):
            yield f", line {header.line}: several columns {shown(name)}"
    if not body:
        yield ": no rows; one row for each name is required"
    used = {n: header.cells.index(n) for n in (name_column, *columns) if n in header.cells}
    first_lines: dict[str, int] = {}
    for line, cells in body:
        if len(cells) != len(header.cells):
            yield f", line {line}: {len(cells)} cells instead of {len(header.cells)}"
            continue
        for column, index in used.items():
            if problem := text_problem(cells[index]):
                yield f", line {line}: {column}: {problem}"
        if name_column in used:
            name = cells[used[name_column]]
            if name in first_lines:
                first = first_lines[name]
                yield f", line {line}: {name_column}: {shown(name)} is in line {first} too"
            first_lines.setdefault(name, line)


def text_problem(text: str) -> str:
    """Return why a name or value cannot be part of a sentence; empty if it can."""
    if not text.strip():
        return "empty"
    if text != text.strip():
        return f"{shown(text)} begins or ends with a space"
    if not text.isprintable():
        return f"{shown(text)} has a character that cannot be printed"
    if reserved := [each for each in RESERVED_TEXTS if each in text]:
        return f"{shown(text)} contains {shown(reserved[0])}, which tokenizers use themselves"
    if not text[-1].isalnum():
        return f"{shown(text)} does not end with a letter or a digit"
    if len(text) > MAX_CELL_LENGTH:
        return f"{shown(text)} has more than {MAX_CELL_LENGTH} characters"
    return ""
