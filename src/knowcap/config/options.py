"""Options of a record that a part of the program does not implement.

A part that reads options lists what it implements. Any other option, and any other value, is
declined instead of computed as something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from knowcap.config.base import FieldError, Record
from knowcap.errors import UserError, shown

Options = Mapping[str, frozenset[Any] | None]
"""Implemented values by dotted field; None stands for all values that the record allows."""


def unimplemented(record: Record, implemented: Options, prefix: str = "") -> Iterator[FieldError]:
    """Yield the options of a record that are not implemented.

    Parameters
    ----------
    record
        The record; its nested records are checked, too.
    implemented
        The implemented options. Other fields may only have their default, which changes nothing.
    prefix
        Path of the record, such as ``architecture.``.
    """
    for name, field in type(record).model_fields.items():
        path, value = f"{prefix}{name}", getattr(record, name)
        if isinstance(value, Record):
            yield from unimplemented(value, implemented, f"{path}.")
        elif path not in implemented:
            if value != field.get_default():
                yield FieldError(path, "not implemented")
        elif (values := implemented[path]) is not None and value not in values:
            yield FieldError(path, f"{shown(value)} is not implemented")


def any_value(section: str, *fields: str) -> Options:
    """Return fields of a section of which all values are implemented."""
    return {f"{section}.{field}": None for field in fields}


def refuse(errors: Iterable[FieldError], implementation: str = "") -> None:
    """Raise a UserError with all options that are not implemented, if there are any.

    Parameters
    ----------
    errors
        As :func:`unimplemented` yields them.
    implementation
        What does not implement them, such as ``by Megatron's layers``; empty for no part at all.
    """
    suffix = f" {implementation}" if implementation else ""
    if lines := [f"{error.field}: {error.message}{suffix}" for error in errors]:
        raise UserError.of_lines(lines)
