"""Commit of a file or folder, and whether it has changed since another commit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class GitState(NamedTuple):
    """Commit that is checked out, and whether files differ from it."""

    commit: str
    dirty: bool


def git_state(path: Path) -> GitState | None:
    """Return the commit of a file or folder, and whether it differs; None outside a checkout.

    Files that are not tracked differ.
    """
    folder = path if path.is_dir() else path.parent
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--", str(path.resolve()))
    tracked = _git(folder, "ls-files", "--", str(path.resolve()))
    if commit is None or status is None:
        return None
    return GitState(commit, dirty=bool(status) or not tracked)


def has_changed(paths: Sequence[Path], since: str) -> bool | None:
    """Whether files or folders differ from a commit; None if it is not in their repository."""
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    resolved = [str(path.resolve()) for path in paths]
    names = _git(folder, "diff", "--name-only", since, "--", *resolved)
    return None if names is None else bool(names)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
