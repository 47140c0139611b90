"""Records given as JSON: on the command line, or in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from knowcap.config.base import Record
from knowcap.errors import UserError, field_path, record_errors

MAX_BYTES = 2**20
"""Largest size of a record."""

R = TypeVar("R", bound=Record)


def read_record(kind: type[R], text: str, option: str) -> R:
    """Return the record that an option gives, as JSON or as @FILE.

    Raises
    ------
    UserError
        With all errors of the record.
    """
    if text.startswith("@"):
        text = _read_text(Path(text[1:]), option)
    if len(text) > MAX_BYTES:
        raise UserError(f"{option}: more than {MAX_BYTES} bytes")
    try:
        values = json.loads(text, object_pairs_hook=_mapping, parse_constant=_reject_constant)
    except RecursionError:
        raise UserError(f"{option}: not JSON (nested too deep)") from None
    except ValueError as error:
        raise UserError(f"{option}: not JSON ({error})") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError.of_lines(f"{option}: {line}" for line in record_errors(error)) from None


def _read_text(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{option}: {path}: no such file") from None
    except OSError as error:
        raise UserError(f"{option}: {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{option}: {path}: not UTF-8 text") from None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, in which no key may be repeated."""
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"{field_path([key])}: duplicate key")
        mapping[key] = value
    return mapping


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
