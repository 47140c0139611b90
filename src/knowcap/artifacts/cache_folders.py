"""Cache folders for compiled code and for digests of code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cache_folders() -> Iterator[Path]:
    """Yield the folders to try: ``~/.cache/knowcap``, and a private one of temporary files."""
    with suppress(RuntimeError):  # no home folder
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowcap"
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"knowcap-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        # Another user could have put a file there.
        if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid():
            yield folder
