"""SHA-256 of files, and digests at the end of single files.

A netCDF file, a checkpoint or a compiled library ends with a line that holds the digest of
everything before it; readers of HDF5, zip and ELF ignore what follows their own end. The digest is
verified before the file is parsed, so damage is an error that names the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from knowcap.artifacts.storage import file_errors
from knowcap.errors import UserError

_PREFIX = b"\nsha256 "
_LINE_BYTES = len(_PREFIX) + 64 + 1


class DamagedError(UserError):
    """A file is missing, or differs from its digest."""

    is_transient = True  # a network file system can show a node an old state


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_digest(path: Path) -> None:
    """Append the digest of a file to it, as a line of its own."""
    digest = sha256(path)
    with file_errors(path), path.open("ab") as file:
        file.write(_PREFIX + digest.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def verify_file(path: Path) -> None:
    """Compare a file with the digest at its end, without holding it in memory.

    Raises
    ------
    DamagedError
        If the file is missing or differs from its digest, or has none.
    StorageError
        If it cannot be read.
    """
    with _open(path) as file:
        remaining = path.stat().st_size - _LINE_BYTES
        hasher = hashlib.sha256()
        while remaining > 0:
            block = file.read(min(remaining, 2**20))
            if not block:
                break
            hasher.update(block)
            remaining -= len(block)
        _check(path, hasher.hexdigest(), file.read())


def read_verified(path: Path) -> memoryview:
    """Return the content of a file without the digest at its end; errors as :func:`verify_file`."""
    with _open(path) as file:
        content = memoryview(file.read())
    body, line = content[:-_LINE_BYTES], content[-_LINE_BYTES:]
    _check(path, hashlib.sha256(body).hexdigest(), bytes(line))
    return body


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if not path.exists():
        raise DamagedError(f"{path}: missing")
    with file_errors(path), path.open("rb") as file:
        yield file


def _check(path: Path, digest: str, line: bytes) -> None:
    """Raise a DamagedError unless the last line of a file is the digest of the rest."""
    if line != _PREFIX + digest.encode() + b"\n":
        raise DamagedError(
            f"{path}: damaged, the SHA-256 at its end is missing or wrong; delete it to make it "
            "again"
        )
