"""YAML files: values by the core schema of YAML 1.2, and the line of every key.

PyYAML follows YAML 1.1, in which `on` is true, `1:30` is 90, `030` is 24 and `1e-3` is text. Here
numbers are those of JSON, and only `true` and `false` are Boolean. Keys are always text. Anchors
and the merge key `<<` of YAML 1.1 are supported, tags such as `!!int` are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from knowcap.errors import MAX_DIGITS, UserError, field_path, shown

MAX_BYTES = 2**20
"""Largest size of a file."""

MAX_DEPTH = 32
"""Deepest nesting of lists and mappings."""

MAX_NODES = 10**6
"""Largest number of keys and values, each counted as often as its anchor is used."""

_NULL, _BOOL, _INT, _FLOAT, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "merge")
)

_IMPLICIT_TAGS = (
    (_NULL, r"~|null|Null|NULL|", "~nN"),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (_FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (_FLOAT, r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    (_MERGE, r"<<", "<"),
)
"""Tags of plain scalars: the regular expression of a tag, and the characters it can begin with."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""Characters that a file may not have, neither as such nor as escapes."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Parser with the tags of the core schema; libyaml's, if PyYAML has it, is ten times faster."""

    yaml_implicit_resolvers: dict[str | None, list[Any]] = {}  # noqa: RUF012, PyYAML changes it


for _tag, _pattern, _first in _IMPLICIT_TAGS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [*_first])
_Loader.add_implicit_resolver(_NULL, re.compile(r"^$"), [""])


class _Extent(NamedTuple):
    """Nesting and size of a node, with its anchors expanded."""

    depth: int
    num_nodes: int


class YamlFile:
    """The values of a YAML file and the lines of its keys.

    Raises
    ------
    UserError
        If the file is missing, not readable, not YAML, or too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = _read_text(path)
        self.errors = [
            (number, f"character {shown(found[0])} is not allowed")
            for number, line in enumerate(text.split("\n"), 1)
            if (found := _CONTROL.search(line))
        ]
        """Errors that leave the other values readable, such as duplicate keys."""
        self._raise_errors()
        try:
            self._check_events(text)
            self._root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise self.error(line, " ".join(str(error.problem).split())) from None
        self._extents: dict[int, _Extent | None] = {}
        """By id of a node; None while the node is measured."""
        if self._root is not None:
            self._measure(self._root)
        self._values: dict[int, Any] = {}
        self.values: Any = None if self._root is None else self._construct(self._root)

    def _raise_errors(self) -> None:
        """Raise the errors so far, if there are any."""
        if self.errors:
            raise self.all_errors(self.errors)

    def error(self, line: int, message: str) -> UserError:
        """Return the error of a line of the file."""
        return self.all_errors([(line, message)])

    def all_errors(self, errors: Iterable[tuple[int, str]]) -> UserError:
        """Return the errors of several lines, in the order of the file."""
        by_line = sorted(errors, key=lambda error: error[0])
        return UserError.of_lines(f"{self.path}:{line}: {message}" for line, message in by_line)

    def line(self, loc: tuple[Any, ...]) -> int:
        """Return the line of the deepest of some nested keys and indices that exists."""
        return self._find(loc)[0]

    def has(self, loc: tuple[Any, ...]) -> bool:
        """Whether all of some nested keys and indices exist."""
        return self._find(loc)[1]

    def _find(self, loc: tuple[Any, ...]) -> tuple[int, bool]:
        node, line = self._root, 1
        for part in loc:
            found = _child(node, part)
            if found is None:
                return line, False
            line, node = found
        return line, True

    def _check_events(self, text: str) -> None:
        """Check nesting and tags before the file is composed, which is recursive in C."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise self.error(line, f"nested more than {MAX_DEPTH} levels deep")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            tag = getattr(event, "tag", None)
            if tag is not None:
                self.errors.append((line, f"tag {shown(tag)} is not allowed"))
        self._raise_errors()

    def _measure(self, node: yaml.Node) -> _Extent:
        """Return the extent of a node, and collect the errors of its keys and texts."""
        line = node.start_mark.line + 1
        if id(node) in self._extents:
            known = self._extents[id(node)]
            if known is None:
                raise self.error(line, "an anchor is used inside its own value")
            return known
        self._extents[id(node)] = None
        children = [self._measure(child) for child in _children(node)]
        extent = _Extent(
            1 + max((child.depth for child in children), default=0),
            1 + sum(child.num_nodes for child in children),
        )
        if extent.depth > MAX_DEPTH + 1:
            raise self.error(line, f"nested more than {MAX_DEPTH} levels deep")
        if extent.num_nodes > MAX_NODES:
            raise self.error(line, f"more than {MAX_NODES} values, with all anchors expanded")
        self.errors += _node_errors(node)
        self._extents[id(node)] = extent
        return extent

    def _construct(self, node: yaml.Node) -> Any:
        """Return the value of a node; nodes of one anchor have one value."""
        if id(node) not in self._values:
            value: Any
            if isinstance(node, yaml.MappingNode):
                value = self._construct_mapping(node)
            elif isinstance(node, yaml.SequenceNode):
                value = [self._construct(child) for child in node.value]
            else:
                value = _scalar(node)
            self._values[id(node)] = value
        return self._values[id(node)]

    def _construct_mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """Return a mapping; its own values replace merged ones, and the first merged one wins."""
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for base in reversed(_merged_nodes(value)):
                    merged.update(self._construct(base))
        own = {
            key.value: self._construct(value)
            for key, value in node.value
            if key.tag != _MERGE and isinstance(key, yaml.ScalarNode)
        }
        return {**merged, **own}


def _read_text(path: Path) -> str:
    """Return the text of a file.

    Raises
    ------
    UserError
        If it is missing, not a file, not readable, too large or not UTF-8.
    """
    try:
        if path.is_dir() or path.is_fifo():
            kind = "folder" if path.is_dir() else "pipe"
            raise UserError(f"{path}: a {kind}, a file is required")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not UTF-8 text") from None


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the nodes in a node."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _merged_nodes(value: yaml.Node) -> list[yaml.MappingNode]:
    """Return the mappings that the value of `<<` merges."""
    nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
    return [node for node in nodes if isinstance(node, yaml.MappingNode)]


def _node_errors(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and message of the errors of a node itself."""
    if isinstance(node, yaml.ScalarNode) and _CONTROL.search(node.value):
        line = node.start_mark.line + 1
        yield line, f"{shown(node.value)} has a control character, which is not allowed"
    if not isinstance(node, yaml.MappingNode):
        return
    keys = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            yield line, "a key must be text"
        elif key.tag == _MERGE:
            nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
            if len(_merged_nodes(value)) < len(nodes):
                yield line, "<<: a mapping or a list of mappings is required"
        elif key.value in keys:
            yield line, f"{field_path([key.value])}: duplicate key"
        else:
            keys.add(key.value)


def _scalar(node: Any) -> Any:
    """Return the value of a scalar by its tag; an integer with too many digits stays text."""
    text = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if node.tag == _INT and len(text.lstrip("+-0")) <= MAX_DIGITS:
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if node.tag == _FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _child(node: Any, part: Any) -> tuple[int, Any] | None:
    """Return line and node of a key or an index, also in mappings that are merged with `<<`."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        if part >= len(node.value):
            return None
        child = node.value[part]
        return child.start_mark.line + 1, child
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _MERGE:
            merged += _merged_nodes(value)
        elif key.value == str(part):
            return key.start_mark.line + 1, value
    return next((found for base in merged if (found := _child(base, part))), None)
