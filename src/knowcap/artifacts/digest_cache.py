"""Code digests of earlier processes, valid while no file of the package has changed.

Snakemake and every job need the digests, and parsing the package takes half a second.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from knowcap.artifacts import checksums
from knowcap.artifacts.cache_folders import cache_folders
from knowcap.artifacts.files import atomic_write
from knowcap.errors import UserError


def cached_digests(package: Path, compute: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return the digest of each stage, computed only if a file of the package has changed.

    Parameters
    ----------
    package
        Folder of the package.
    compute
        Function that returns the digests. It may read nothing but this folder.
    """
    content = _content(package)
    # One file for each checkout and Python, so that old ones do not pile up.
    place = hashlib.sha256(f"{package}\n{sys.version_info[:2]}".encode()).hexdigest()[:16]
    paths = [folder / f"digests-{place}.json" for folder in cache_folders()]
    for path in paths:
        # A file that is missing, damaged or unreadable is written again.
        with suppress(UserError, OSError, ValueError):
            recorded = json.loads(bytes(checksums.read_verified(path)))
            if recorded["content"] == content:
                digests: dict[str, str] = recorded["digests"]
                return digests
    digests = compute()
    for path in paths:
        with suppress(UserError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps({"content": content, "digests": digests}))
                checksums.append_digest(temporary)
            break
    return digests


def _content(package: Path) -> str:
    """Return the SHA-256 of names and content of all files of a package."""
    hasher = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            content = path.read_bytes()
            hasher.update(f"{path.relative_to(package)}\n{len(content)}\n".encode())
            hasher.update(content)
    return hasher.hexdigest()
