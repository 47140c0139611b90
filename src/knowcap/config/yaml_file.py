"""YAML files with the line number of every key, and without duplicate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from knowcap.errors import UserError

_MERGE_TAG = "tag:yaml.org,2002:merge"

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The libyaml loader if PyYAML has it, which reads a long file ten times faster."""


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    """YAML loader that rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != _MERGE_TAG]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key}: duplicate key", problem_mark=node.value[index][0].start_mark
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class YamlFile:
    """The values of a YAML file and the lines of its keys.

    Raises
    ------
    UserError
        If the file is missing, not readable, not YAML or has a duplicate key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path}: file not found") from None
        except (UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        try:
            self._root = yaml.compose(text, Loader=_Loader)
            self.values: Any = yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UserError(f"{path}:{line}: {error.problem}") from None

    def line(self, loc: tuple[Any, ...]) -> int:
        """Return the line of the deepest of some nested keys and indices that exists."""
        node, line = self._root, 1
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def _child(node: Any, part: Any) -> tuple[int, Any] | None:
    """Return line and node of a key or an index, also in mappings that are merged with `<<`."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        child = node.value[part]
        return child.start_mark.line + 1, child
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.value == str(part):
            return key.start_mark.line + 1, value
        if key.tag == _MERGE_TAG:
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
    return next((found for base in merged if (found := _child(base, part))), None)
