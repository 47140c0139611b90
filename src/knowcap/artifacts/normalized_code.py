"""Code reduced to what it computes: no comments, formatting, annotations or names of files."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE_NAME = "knowcap"

LEFT_OUT = ("_log", "manifest")
"""Logger and module of manifests. Statements that call their functions are left out: they write
text or digests, or raise an error, and compute nothing."""

_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores", "returns"})
_C_TOKEN = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<space>[^\S\n]+)
    |(?P<newline>\n)
    |"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'                  # strings and characters
    |\.?\d(?:[eEpP][+-]|[\w.])*                             # numbers
    |\w+
    |<<=|>>=|\.\.\.|->|\+\+|--|&&|\|\||\#\#|<<|>>|[-+*/%&|^<>=!]=
    |.
    """,
    re.VERBOSE | re.DOTALL,
)


@cache
def normalize_file(path: Path) -> str:
    """Return the text of a file; of C without what does not affect results."""
    text = path.read_text(encoding="utf-8")
    return normalize_c(text) if path.suffix in (".c", ".h") else text


def normalize_c(text: str) -> str:
    """Return the tokens of C, without comments and includes of files in the same folder.

    Tokens are separated by a space. A preprocessor directive keeps a line of its own.
    """
    lines: list[list[str]] = [[]]
    for token in _C_TOKEN.finditer(text.replace("\\\n", " ")):
        if token["newline"]:
            lines.append([])
        elif not token["comment"] and not token["space"]:
            lines[-1].append(token[0])
        elif token["comment"] and "\n" in token[0]:
            lines.append([])
    tokens: list[str] = []
    for line in lines:
        if line[:2] == ["#", "include"] and line[2:3] and line[2].startswith('"'):
            continue
        directive = line[:1] == ["#"]
        tokens += ["\n", *line, "\n"] if directive else line
    return " ".join(tokens)


def normalize_python(
    tree: ast.Module, aliases: Mapping[str, str], file_names: frozenset[str] = frozenset()
) -> str:
    """Return a text of a module's code that is equal for equal code, however it is written.

    `ast.dump` is not used because its text differs between versions of Python.

    Parameters
    ----------
    tree
        The module.
    aliases
        Texts that replace the names of imported modules, so that renaming a module has no effect.
    file_names
        Constants that are names of files; they are replaced for the same reason.
    """
    return _text(tree, aliases, file_names)


def _text(value: Any, aliases: Mapping[str, str], file_names: frozenset[str]) -> str:
    if isinstance(value, list):
        parts = [_text(item, aliases, file_names) for item in value if not _is_left_out(item)]
        return f"[{' '.join(parts)}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.Name) and value.id in aliases:
        return f"<import {aliases[value.id]}>"
    if isinstance(value, ast.Constant):
        return "<file>" if value.value in file_names else repr(value.value)
    if isinstance(value, ast.Raise):
        return f"(Raise {_raised(value)})"
    if isinstance(value, ast.JoinedStr):
        value = ast.JoinedStr(values=_merge_constants(value.values))
    fields = {
        name: _text(field, aliases, file_names)
        for name, field in ast.iter_fields(value)
        if field is not None and not _is_ignored(value, name)
    }
    words = [f"{name}={text}" for name, text in fields.items() if text != "[]"]
    return f"({' '.join([type(value).__name__, *words])})"


def _is_left_out(node: Any) -> bool:
    """Whether a statement is a docstring, a log call, a check or an import of this package."""
    if isinstance(node, ast.ImportFrom):
        return node.module is not None and is_ours(node.module)
    if isinstance(node, ast.Import):
        return all(is_ours(alias.name) for alias in node.names)
    if not isinstance(node, ast.Expr):
        return is_for_type_checkers(node) if isinstance(node, ast.AST) else False
    if isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    function = node.value.func if isinstance(node.value, ast.Call) else None
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in LEFT_OUT
    )


def _is_ignored(node: ast.AST, field: str) -> bool:
    """Whether a field of a node does not affect results."""
    return (
        field in _IGNORED_FIELDS
        or (isinstance(node, ast.arg) and field == "annotation")
        or (isinstance(node, ast.Assert) and field == "msg")
    )


def _raised(node: ast.Raise) -> str:
    """Return the type of a raised exception without its message."""
    exception = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return ast.unparse(exception) if isinstance(exception, ast.Name | ast.Attribute) else ""


def _merge_constants(values: list[ast.expr]) -> list[ast.expr]:
    """Join adjacent texts of an f-string, which versions of Python split differently."""
    merged: list[ast.expr] = []
    for value in values:
        last = merged[-1] if merged else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            merged[-1] = ast.Constant(str(last.value) + str(value.value))
        else:
            merged.append(value)
    return [part for part in merged if not (isinstance(part, ast.Constant) and part.value == "")]


def is_for_type_checkers(node: ast.AST) -> bool:
    """Whether a node is an `if TYPE_CHECKING` block."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def is_ours(module: str) -> bool:
    """Whether a module belongs to this package."""
    return module.split(".", maxsplit=1)[0] == PACKAGE_NAME
