"""User errors, and messages for invalid records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """An error in a setting or an input file, with a message of one line.

    The message has the field, its value, the allowed values and where the field is set. The
    command line prints it without a traceback and exits with code 2. Other exceptions are bugs
    and keep their traceback.
    """


def first_error(error: ValidationError) -> str:
    """Return field and message of the first error of a record."""
    first = error.errors()[0]
    # The message of a validator of several fields begins with the name of a field.
    colon = "." if first["type"] == "value_error" else ": "
    return f"{'.'.join(map(str, first['loc']))}{colon}{error_message(first)}"


def error_message(problem: Any) -> str:
    """Return the message of a pydantic error: the value and the allowed values."""
    given = problem.get("input")
    match problem["type"]:
        case "value_error":
            return str(problem["ctx"]["error"])
        case "missing":
            return "missing"
        case "union_tag_invalid":
            context = problem["ctx"]
            return f"kind: {context['tag']!r} is not one of {context['expected_tags']}"
        case "tuple_type":
            return f"{given!r} is not allowed: a list is required, such as [{given}]"
        case "string_pattern_mismatch":
            return f"{given!r} is not allowed: a name has letters, digits, - and _"
        case "union_tag_not_found":
            return "kind: missing"
        case "float_type" | "int_type" if isinstance(given, str) and _is_number(given):
            return (
                f"{given!r} is text in YAML, numbers need a decimal point: write {_as_yaml(given)}"
            )
        case _:
            message = str(problem["msg"])
            return f"{given!r} is not allowed: {message[0].lower()}{message[1:]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_yaml(text: str) -> str:
    mantissa, e, exponent = text.lower().partition("e")
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    sign = exponent if exponent[:1] in ("+", "-") else f"+{exponent}"
    return f"{point}e{sign}" if e else str(float(text))
