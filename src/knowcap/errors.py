"""The one kind of error that is a user's to repair, and the sentence that says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """A mistake that one clear line explains.

    The line names what was given, what is allowed and where it is set. The command line prints
    it without a traceback and exits with code 2. Everything else that goes wrong is a bug and
    keeps its traceback.
    """


def first_error(error: ValidationError) -> str:
    """Field and sentence of the first thing that is wrong with a record."""
    first = error.errors()[0]
    # A check of several fields begins with the one it is about.
    colon = "." if first["type"] == "value_error" else ": "
    return f"{'.'.join(map(str, first['loc']))}{colon}{sentence(first)}"


def sentence(problem: Any) -> str:
    """What is wrong and what is allowed, from one pydantic error."""
    given = problem.get("input")
    match problem["type"]:
        case "value_error":
            return str(problem["ctx"]["error"])
        case "missing":
            return "missing"
        case "union_tag_invalid":
            context = problem["ctx"]
            return f"kind: {context['tag']!r} is none of {context['expected_tags']}"
        case "tuple_type":
            return f"{given!r} is not allowed: a list is expected, such as [{given}]"
        case "string_pattern_mismatch":
            return f"{given!r} is no name: letters, digits, - and _ are allowed"
        case "union_tag_not_found":
            return "kind: missing"
        case "float_type" | "int_type" if isinstance(given, str) and _reads_as_number(given):
            return f"{given!r} is text to YAML, a number needs a point: write {_as_yaml(given)}"
        case _:
            message = str(problem["msg"])
            return f"{given!r} is not allowed: {message[0].lower()}{message[1:]}"


def _reads_as_number(text: str) -> bool:
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
