"""Knowledge of the kind `table`: facts of one's own from a CSV file, and their sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from knowcap.config.base import Count, Distinct, FieldError, Record, field_error
from knowcap.config.table_file import RESERVED_TEXTS, read_table_file
from knowcap.errors import shown

MAX_ATTRIBUTES = 100
"""Largest number of attribute columns; marks of prompts are 8-bit numbers."""

Column = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]

_SENTENCE = re.compile(r"\{name\}(?P<head>[^{}]*) \{value\}(?P<tail>[^{}]*)")


def _check_sentence(text: str) -> str:
    """Refuse a sentence template whose name and value cannot be located."""
    match = _SENTENCE.fullmatch(text)
    if match is None:
        problem = "required is '{name}', words, a space, '{value}' and the end of the sentence"
    elif not match["head"] or match["head"][0].isalnum() or match["head"][-1].isspace():
        problem = (
            "words are required between '{name}' and ' {value}', after a space or an apostrophe"
        )
    elif not match["tail"] or match["tail"][0].isalnum() or match["tail"][-1].isspace():
        problem = "an end is required after '{value}', such as a full stop"
    elif not text.isprintable() or any(each in text for each in RESERVED_TEXTS):
        problem = "it has a character that cannot be printed, or a text that tokenizers use"
    else:
        return text
    raise field_error(f"{shown(text)} is not allowed: {problem}")


class TableAttribute(Record):
    """A column of values, and the sentences that state them."""

    column: Column
    """Column of the values."""
    sentences: Annotated[
        tuple[Annotated[str, AfterValidator(_check_sentence)], ...],
        Field(min_length=1, max_length=1000),
        Distinct,
    ]
    """Sentence templates, such as `"{name} was born in {value}."`; one is drawn anew in every
    exposure."""
    num_values: Count
    """Number of values from which those of the column were drawn; by default, the number of
    distinct values in the file."""

    def split_sentences(self) -> list[tuple[str, str]]:
        """Return the words before and after the value of each sentence, without the name."""
        matches = map(_SENTENCE.fullmatch, self.sentences)
        return [(match["head"], match["tail"]) for match in matches if match is not None]


class Table(Record):
    """Facts of one's own: a name and attribute values in each row of a CSV file."""

    kind: Literal["table"]
    file: Annotated[str | None, Field(min_length=1, exclude=True)] = None
    """CSV file in UTF-8 with a header, relative to the working directory. Its content is part of
    the names of results, its path is not. A record that is read from a result has no path."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the file; computed if the file is given."""
    name_column: Column
    """Column of the names, all different."""
    num_people: Count
    """N, the number of rows; counted if the file is given."""
    num_names: Count | None = None
    """N0, the number of possible names, of which those of the file are a random choice. None leaves
    the bits of names out, which need it."""
    attributes: Annotated[
        tuple[TableAttribute, ...], Field(min_length=1, max_length=MAX_ATTRIBUTES)
    ]
    """Attribute columns and their sentences."""

    @classmethod
    def expand(cls, values: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Read the file, and count its rows and distinct values."""
        file, name_column = values.get("file"), values.get("name_column")
        attributes = values.get("attributes")
        if not (isinstance(file, str) and isinstance(name_column, str)):
            return values, []
        if not isinstance(attributes, tuple) or not all(isinstance(a, dict) for a in attributes):
            return values, []
        columns = [a["column"] for a in attributes if isinstance(a.get("column"), str)]
        found = read_table_file(Path(file), name_column, columns)
        errors = [FieldError("file", mistake) for mistake in found.mistakes]
        # After a mistake, one row is in place of the file, to check the other fields.
        counted = {
            "num_people": len(found.facts.names) if found.facts else 1,
            "sha256": found.sha256 or "0" * 64,
        }
        for name, value in counted.items():
            if not errors and values.get(name, value) != value:
                errors.append(FieldError(name, f"{shown(values[name])}, but {file} has {value}"))
        expanded = []
        for attribute in attributes:
            column = attribute.get("column")
            distinct = 1
            if found.facts and column in found.facts.values:
                distinct = len(found.facts.distinct_values(column))
            expanded.append({"num_values": distinct, **attribute})
            given = attribute.get("num_values", distinct)
            if isinstance(given, int) and given < distinct:
                message = (
                    f"{column}: num_values: {given} is less than the {distinct} values in {file}"
                )
                errors.append(FieldError("attributes", message))
        return {**values, **counted, "attributes": tuple(expanded)}, errors

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        columns = [attribute.column for attribute in self.attributes]
        for column in dict.fromkeys(columns):
            if columns.count(column) > 1:
                yield FieldError("attributes", f"{shown(column)} is given twice")
            if column in ("name", self.name_column):
                yield FieldError("attributes", f"{shown(column)} is the name, and not an attribute")
        if self.num_names is not None and self.num_names < self.num_people:
            yield FieldError(
                "num_names",
                f"{self.num_names} is less than the {self.num_people} names of the file",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Attribute columns."""
        return tuple(attribute.column for attribute in self.attributes)

    def __eq__(self, other: object) -> bool:
        """Whether the facts and sentences are the same, wherever the file is."""
        return isinstance(other, Table) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())
