"""Base class and number types of the configuration records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from knowcap.errors import INVALID_FIELD, UNKNOWN_FIELD, shown

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]


class FieldError(NamedTuple):
    """An error that a record finds itself."""

    field: str
    """Dotted path in the record."""
    message: str
    """The value and what is allowed."""


class Record(BaseModel):
    """A frozen record that rejects unknown fields and values of a wrong type.

    All errors are reported at once. Those of several fields together are found when each of the
    record's fields is valid.
    """

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    shorthands: ClassVar[frozenset[str]] = frozenset()
    """Input keys that are not fields and are expanded into fields, such as `size`."""

    @classmethod
    def expand(cls, values: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """Return the values with shorthands replaced by fields, and errors in shorthands."""
        return values, []

    def errors(self) -> Iterator[FieldError]:
        """Yield the errors of valid fields that do not fit together."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_errors(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return handler(values)
        known = cls.model_fields.keys() | cls.shorthands
        allowed = ", ".join(sorted(known))
        problems = [
            _problem(UNKNOWN_FIELD, (key,), f"unknown, allowed are {allowed}", values[key])
            for key in values
            if key not in known
        ]
        # YAML and JSON have lists, a frozen record has tuples.
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        expanded, errors = cls.expand(given)
        record = None
        try:
            record = handler(expanded)
            errors += record.errors()
        except ValidationError as error:
            problems += map(_copy_problem, error.errors(include_url=False))
        problems += [
            _problem(INVALID_FIELD, tuple(path.split(".")), message) for path, message in errors
        ]
        if problems or record is None:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return record


def field_error(message: str, kind: Any = INVALID_FIELD) -> PydanticCustomError:
    """Return the error that a validator of a field raises; its message is complete."""
    # The message is an argument, because braces in it would be placeholders.
    return PydanticCustomError(kind, "{message}", {"message": message})


def _problem(kind: Any, loc: tuple[str, ...], message: str, value: Any = None) -> InitErrorDetails:
    return InitErrorDetails(type=field_error(message, kind), loc=loc, input=value)


def _copy_problem(problem: Any) -> InitErrorDetails:
    """Return an error of a nested record or of a field, to be raised again."""
    if problem["type"] in (UNKNOWN_FIELD, INVALID_FIELD):
        return _problem(problem["type"], problem["loc"], problem["msg"], problem["input"])
    return InitErrorDetails(
        type=problem["type"],
        loc=problem["loc"],
        input=problem["input"],
        ctx=problem.get("ctx", {}),
    )


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise field_error(f"{shown(list(values))} contains a value twice")
    return values


Distinct = AfterValidator(_check_distinct)
"""Rejects a list with a value twice."""


def num_digits(base: int, exponent: int) -> float:
    """Return the number of decimal digits of a power, without computing it."""
    return exponent * math.log10(base)
