"""The folder of results in a study file: `~`, environment variables and allowed characters."""

from __future__ import annotations

import os
import re
from pathlib import Path

from knowcap.errors import shown

MAX_LENGTH = 1000
"""Characters of the folder; paths of results in it stay below the limit of 4096."""

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\w+))")


def expand_folder(folder: str) -> tuple[str, str]:
    """Return a folder with `~` and variables expanded, and what is wrong with it, if anything.

    Trailing and repeated slashes are removed, as equal folders must give equal paths.
    """
    unset = [
        name
        for name in (braced or plain for braced, plain in _VARIABLE.findall(folder))
        if not os.environ.get(name)
    ]
    if unset:
        return folder, f"{shown(folder)} is not allowed: the variable {shown(unset[0])} is not set"
    expanded = os.path.expanduser(os.path.expandvars(folder))  # noqa: PTH111, Path drops ./ and //
    if not expanded.strip():
        return folder, f"{shown(folder)} is not allowed: a folder is required"
    if expanded.startswith("~"):
        user = expanded.split("/")[0]
        return folder, f"{shown(folder)} is not allowed: there is no home folder of {shown(user)}"
    # Snakemake reads braces in paths as wildcards.
    if not expanded.isprintable() or set(expanded) & set("{}"):
        return folder, f"{shown(folder)} is not allowed: braces and control characters"
    is_long = max(map(len, expanded.split("/"))) > os.pathconf("/", "PC_NAME_MAX")
    if is_long or len(expanded) > MAX_LENGTH:
        return folder, f"{shown(folder)} is not allowed: longer than a path can be"
    path = Path(os.path.normpath(expanded))
    existing = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if os.path.lexists(existing) and not existing.is_dir():
        return folder, f"{shown(folder)} is not allowed: {shown(str(existing))} is not a folder"
    return path.as_posix(), ""
