"""Reader of the source's PAPER, ASSUME and DEVIATES comments, for the report."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["PAPER", "ASSUME", "DEVIATES"]

TAG = re.compile(rf"#\s*({'|'.join(get_args(Kind))})\b\s*([^:]*?)(?::\s*(.*))?$")


@dataclass(frozen=True)
class SourceTag:
    """A tagged comment and its place."""

    kind: Kind
    section: str
    """Section of the paper, empty if the comment names none."""
    text: str
    file: str
    """Path relative to the searched folder."""
    line: int


def find_source_tags(folder: Path) -> list[SourceTag]:
    """Tagged comments of all Python files below a folder, sorted by file and line.

    A tag's text continues on the comment lines directly below it. Without any text, it is the code
    on the tag's line.
    """
    return [
        tag
        for path in sorted(folder.rglob("*.py"))
        for tag in _tags_of_file(path, path.relative_to(folder).as_posix())
    ]


def _tags_of_file(path: Path, name: str) -> Iterator[SourceTag]:
    """Yield the tagged comments of a file."""
    with path.open("rb") as stream:
        comments = {
            token.start[0]: token
            for token in tokenize.tokenize(stream.readline)
            if token.type == tokenize.COMMENT
        }
    for number, comment in comments.items():
        match = TAG.match(comment.string)
        if match is None:
            continue
        kind, section, text = match.groups(default="")
        parts = [text]
        below = comments.get(number + 1)
        while below is not None and _is_continuation(below, comment):
            parts.append(below.string.lstrip("# "))
            below = comments.get(below.start[0] + 1)
        text = " ".join(" ".join(parts).split())
        code = comment.line[: comment.start[1]].strip()
        yield SourceTag(kind, section, text or code, name, number)  # type: ignore[arg-type]


def _is_continuation(below: tokenize.TokenInfo, comment: tokenize.TokenInfo) -> bool:
    """Whether a comment continues the tagged comment above it."""
    is_alone = not below.line[: below.start[1]].strip()
    return is_alone and below.start[1] == comment.start[1] and TAG.match(below.string) is None
