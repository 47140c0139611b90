"""User errors, and messages for invalid records."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_SHOWN_LENGTH = 60
"""Characters of a value in a message, or of a key in the path of a field; the rest is cut off."""

MAX_SHOWN_ERRORS = 100
"""Errors of one file that are printed; more are counted."""

UNKNOWN_FIELD, INVALID_FIELD = "unknown_field", "invalid_field"
"""Types of the errors that :class:`knowcap.config.base.Record` adds to pydantic's. Their messages
are complete."""


UNION_FIELDS = ("knowledge", "rewriter")
"""Fields of several kinds of records; pydantic inserts the kind after them, such as bioS."""


class UserError(ValueError):
    """Errors in settings or input files, with a message of one line for each.

    A line has the field, its value, the allowed values and where the field is set. The command line
    prints it without a traceback and exits with code 2. Other exceptions are bugs and keep their
    traceback.
    """

    is_transient = False
    """Whether the same command may succeed later or on another machine, without a correction."""

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> UserError:
        """Return the error of several lines, without repetitions."""
        distinct = list(dict.fromkeys(lines))
        hidden = len(distinct) - MAX_SHOWN_ERRORS
        more = [f"{hidden} more errors"] if hidden > 0 else []
        return cls("\n".join([*distinct[:MAX_SHOWN_ERRORS], *more]))


def shown(value: object) -> str:
    """Return a value as in YAML, on one line and shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[: MAX_SHOWN_LENGTH - 3]}..."


class _Repr(reprlib.Repr):
    def repr_tuple(self, x: tuple[Any, ...], level: int) -> str:
        return self.repr_list(list(x), level)  # the list of a file


_SHORT = _Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = MAX_SHOWN_LENGTH


def field_path(location: Iterable[object]) -> str:
    """Return the dotted path of a field, on one line and shortened."""
    return ".".join(map(_shown_key, location))


def _shown_key(key: object) -> str:
    text = str(key)
    plain = text.isprintable() and text and len(text) <= MAX_SHOWN_LENGTH
    return text if plain else shown(text)


def record_errors(error: ValidationError) -> list[str]:
    """Return path and message of every error of a record."""
    lines = []
    for problem in distinct_errors(error):
        path, message = field_path(error_location(problem)), error_message(problem)
        lines.append(f"{path}: {message}" if path else message)
    return list(dict.fromkeys(lines))


def distinct_errors(error: ValidationError) -> list[Any]:
    """Return pydantic's errors without those of fields that contain another one.

    pydantic reports a list with an invalid item also as too short.
    """
    problems = error.errors(include_url=False)
    inner = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    return [problem for problem in problems if problem["loc"] not in inner]


def error_location(problem: Any) -> tuple[Any, ...]:
    """Return the keys of the field of a pydantic error, without the tags of unions."""
    loc = problem["loc"]
    keys = tuple(
        key for index, key in enumerate(loc) if not (index and loc[index - 1] in UNION_FIELDS)
    )
    return (*keys, "kind") if problem["type"].startswith("union_tag") else keys


def error_message(problem: Any, example: str = "[{}]") -> str:
    """Return the message of a pydantic error: the value and the allowed values.

    Parameters
    ----------
    problem
        An item of pydantic's ``ValidationError.errors()``.
    example
        How a value in a list is written at this place of a file.
    """
    kind, context = problem["type"], problem.get("ctx", {})
    given = shown(problem.get("input"))
    match kind:
        case "unknown_field" | "invalid_field":
            return str(problem["msg"])
        case "missing" | "union_tag_not_found":
            return "missing"
        case "value_error":
            return str(context["error"])
        case "union_tag_invalid":
            return f"{shown(context['tag'])} is not one of {context['expected_tags']}"
    return f"{given} is not allowed: {_requirement(problem, given, example)}"


def _requirement(problem: Any, given: str, example: str) -> str:
    """Return what a pydantic error requires of a value."""
    value, context = problem.get("input"), problem.get("ctx", {})
    match problem["type"]:
        case "tuple_type":
            return f"a list is required, such as {example.format(given)}"
        case "string_pattern_mismatch":
            return "a name has letters, digits, - and _"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "a mapping of fields is required"
        case "finite_number":
            return "a finite number is required"
        case "float_type" | "int_type" if isinstance(value, str) and _NUMBER.fullmatch(value):
            is_long = len(value) > MAX_DIGITS
            return f"more than {MAX_DIGITS} digits" if is_long else "a number has no quotes"
        case "int_type" | "int_from_float":
            return "an integer is required"
        case "float_type":
            return "a number is required"
        case "bool_type":
            return "true or false is required"
        case "string_type":
            return "text is required"
        case "greater_than_equal":
            return f"at least {context['ge']:g} is required"
        case "less_than_equal":
            return f"at most {context['le']:g} is required"
        case "greater_than":
            return f"more than {context['gt']:g} is required"
        case "less_than":
            return f"less than {context['lt']:g} is required"
    message = str(problem["msg"])
    return f"{message[0].lower()}{message[1:]}"


MAX_DIGITS = 18
"""Digits of an integer in a file; all such integers have 64 bits."""

_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
