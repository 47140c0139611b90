"""What the source says of itself and the paper: its PAPER, ASSUME and DEVIATES comments."""

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
    """A tagged comment."""

    kind: Kind
    section: str
    """Of the paper, if the comment names one."""
    text: str
    file: str
    """Relative to the folder that was searched."""
    line: int


def find_source_tags(folder: Path) -> list[SourceTag]:
    """Tagged comments of all Python files below a folder, by file and line.

    A comment goes on through the comment lines right below it. One without text of its own
    stands for the code it follows.
    """
    return [
        remark
        for path in sorted(folder.rglob("*.py"))
        for remark in _remarks_of(path, path.relative_to(folder).as_posix())
    ]


def _remarks_of(path: Path, name: str) -> Iterator[SourceTag]:
    """Read the tagged comments of a file."""
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
        while below is not None and _goes_on(below, comment):
            parts.append(below.string.lstrip("# "))
            below = comments.get(below.start[0] + 1)
        words = " ".join(" ".join(parts).split())
        code = comment.line[: comment.start[1]].strip()
        yield SourceTag(kind, section, words or code, name, number)  # type: ignore[arg-type]


def _goes_on(below: tokenize.TokenInfo, comment: tokenize.TokenInfo) -> bool:
    """Whether a comment alone on its line continues one that begins at the same column."""
    alone = not below.line[: below.start[1]].strip()
    return alone and below.start[1] == comment.start[1] and TAG.match(below.string) is None
