"""Attributes that a study adds to bioS: their values and sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from knowcap.config.base import Distinct, FieldError, Record, field_error
from knowcap.config.table_file import RESERVED_TEXTS, text_problem
from knowcap.errors import shown

BIOS_ATTRIBUTES = (
    *("name", "birth_date", "birth_city", "university", "major", "employer", "work_city"),
    "gender",
)
"""What the biographies of bioS state already."""

MAX_EXTRA_ATTRIBUTES = 50
"""Largest number of added attributes; marks of prompts are 8-bit numbers."""

SENTENCE = re.compile(r"\{(subject|possessive)\}( [^{}]+) \{value\}([., ][^{}]*)")
"""A sentence template of bioS: its form, head and tail."""


def _check_sentence(text: str) -> str:
    """Refuse a sentence template whose subject and value cannot be located."""
    match = SENTENCE.fullmatch(text)
    if match is None or match[2][-1].isspace() or match[3][-1].isspace():
        problem = (
            "required is '{subject}' or '{possessive}', words, a space, '{value}', and the end of "
            "the sentence from a full stop, a comma or a space on"
        )
    elif not text.isprintable() or any(each in text for each in RESERVED_TEXTS):
        problem = "it has a character that cannot be printed, or a text that tokenizers use"
    else:
        return text
    raise field_error(f"{shown(text)} is not allowed: {problem}")


def _check_value(text: str) -> str:
    """Refuse a value that cannot be part of a sentence."""
    if problem := text_problem(text):
        raise field_error(problem)
    return text


class ExtraAttribute(Record):
    """An attribute of bioS that a study adds, drawn uniformly and independently of all others."""

    shorthands = frozenset({"file"})
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    """Name of the attribute in results."""
    values: Annotated[
        tuple[Annotated[str, AfterValidator(_check_value)], ...],
        Field(min_length=2, max_length=1000),
        Distinct,
    ]
    """Values. In a study, `file` can be given instead, a text file with one value in each line."""
    sentences: Annotated[
        tuple[Annotated[str, AfterValidator(_check_sentence)], ...],
        Field(min_length=1, max_length=1000),
        Distinct,
    ]
    """Sentence templates, such as `"{subject} plays the {value}."` or
    `"{possessive} instrument is the {value}."`; 50 for each of the paper's attributes."""

    @classmethod
    def expand(cls, values: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Replace `file` by the lines of the file."""
        if "file" not in values:
            return values, []
        rest = {key: value for key, value in values.items() if key != "file"}
        if "values" in values:
            return rest, [FieldError("file", "not allowed together with values")]
        try:
            lines = Path(str(values["file"])).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            # After an error, two values are in place of the file, to check the other fields.
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            problem = FieldError("file", f"{shown(values['file'])} cannot be read: {reason}")
            return {**rest, "values": ("a", "b")}, [problem]
        return {**rest, "values": tuple(lines)}, []
