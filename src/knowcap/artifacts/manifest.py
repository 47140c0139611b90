"""Manifests: ``DONE``, the last file of a run, a corpus or a folder of figures, with all digests.

Readers call :func:`verify` before they open the files of a folder. A call of this module computes
nothing, so digests of code leave it out (:mod:`knowcap.artifacts.normalized_code`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from knowcap.artifacts.checksums import DamagedError, sha256
from knowcap.artifacts.files import FORMAT, write_json
from knowcap.artifacts.storage import file_errors

MANIFEST_FILE = "DONE"


def write(folder: Path, names: Sequence[str]) -> None:
    """Write the size and the digest of some files of a folder to its manifest."""
    write_json(folder / MANIFEST_FILE, content(folder, names))


def content(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the content of the manifest of some files."""
    listed = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in names
    }
    return {"format": FORMAT, "files": listed}


def verify(folder: Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()) -> None:
    """Compare files of a folder with its manifest.

    Parameters
    ----------
    folder
        A folder with the manifest ``DONE``.
    names
        Files to compare; by default all that the manifest lists.
    optional
        Further files, which are compared if the manifest lists them.

    Raises
    ------
    DamagedError
        With the first file that is missing or damaged.
    StorageError
        If a file cannot be read.
    """
    listed = read(folder)
    chosen = listed if names is None else [*names, *(each for each in optional if each in listed)]
    for name in chosen:
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{path}: missing; delete {folder / MANIFEST_FILE} to make it again")
        entry = listed.get(name)
        if entry is None:
            raise DamagedError(f"{folder / MANIFEST_FILE}: damaged, it does not list {name}")
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise DamagedError(
                f"{path}: damaged, its SHA-256 is not that in {MANIFEST_FILE}; "
                f"delete it to make it again"
            )


def read(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return size and digest of the files of a folder, by name.

    Raises
    ------
    DamagedError
        If the manifest is missing or damaged.
    StorageError
        If it cannot be read.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise DamagedError(f"{path}: missing, {folder} is incomplete")
    with file_errors(path):
        text = path.read_bytes()
    try:
        value = json.loads(text)
        listed: dict[str, dict[str, Any]] = value["files"]
        is_whole = (
            bool(listed)
            and value == {"format": FORMAT, "files": listed}
            and all(
                isinstance(entry["bytes"], int) and len(bytes.fromhex(entry["sha256"])) == 32
                for entry in listed.values()
            )
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise DamagedError(f"{path}: damaged; delete it to make {folder} again")
    return listed
