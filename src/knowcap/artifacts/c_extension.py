"""C extensions: compiled on first use, cached by source, compiler and processor, loaded by ctypes.

The cache (:mod:`knowcap.artifacts.cache_folders`) is tried folder by folder, as libraries cannot be
executed from all of them. Machines with different processors that share a home
directory each use a library of their own.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from knowcap.artifacts import checksums
from knowcap.artifacts.cache_folders import cache_folders
from knowcap.artifacts.compiler_flags import FLAGS
from knowcap.artifacts.files import atomic_write
from knowcap.errors import UserError

COMPILERS = ("cc", "gcc", "clang")

_log = logging.getLogger(__name__)


@cache
def load_c_extension(source: Path, definitions: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """Compile and load a C file; return None if there is no compiler or it fails.

    Callers then use slower Python code, which gives the same results. The reason is logged once.

    Parameters
    ----------
    source
        A C file that includes only the standard library and headers in its folder.
    definitions
        Preprocessor definitions, such as ``LANES=4``.
    """
    compiler = _compiler()
    if compiler is None:
        names = ", ".join(COMPILERS)
        _log.info("no C compiler (%s): slower code replaces %s", names, source.name)
        return None
    command = [compiler, *FLAGS, *(f"-D{name}" for name in definitions), "-shared", "-fPIC"]
    name = f"{source.stem}-{_digest(source, command)}.so"
    failures = []
    for folder in cache_folders():
        try:
            path = folder / name
            if not _is_whole(path):
                _compile([*command, str(source), "-lm"], path)
            return ctypes.CDLL(str(path))
        except subprocess.CalledProcessError:
            _log.warning("%s cannot compile %s: slower code replaces it", compiler, source.name)
            return None
        except (OSError, UserError) as error:  # not writable, no space, or mounted with noexec
            failures.append(" ".join(str(error).split()))
    reasons = "; ".join(failures) or "no folder"
    _log.warning("no cache for compiled code (%s): slower code replaces %s", reasons, source.name)
    return None


def _is_whole(path: Path) -> bool:
    """Whether a library is in the cache and undamaged; executing a truncated one ends in SIGBUS."""
    try:
        checksums.verify_file(path)
    except checksums.DamagedError:
        return False
    return True


def _compile(command: list[str], path: Path) -> None:
    """Compile a library and write it to the cache with its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".knowcap-", dir=path.parent) as folder:
        compiled = Path(folder) / path.name
        subprocess.run([*command, "-o", str(compiled)], check=True)
        with atomic_write(path, compiled.stat().st_size) as temporary:
            shutil.copyfile(compiled, temporary)
            checksums.append_digest(temporary)


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """Return the address of an array's data; keep a reference to the array while it is used."""
    return ctypes.c_void_p(array.ctypes.data)


@cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU flags of /proc/cpuinfo, such as `avx512_bf16`; empty if there is none."""
    return frozenset(_processor().split())


def _compiler() -> str | None:
    """Return the compiler that CC names, or the first of :data:`COMPILERS` that is installed."""
    named = os.environ.get("CC")
    return next(filter(None, map(shutil.which, (named,) if named else COMPILERS)), None)


@cache
def _version(compiler: str) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout


def _digest(source: Path, command: list[str]) -> str:
    """Return a digest of sources, compiler command, compiler version and processor."""
    files = sorted([source, *source.parent.glob("*.h")])
    parts = [
        *(path.read_bytes() for path in files),
        " ".join(command).encode(),
        _version(command[0]),
        _processor().encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """Return the name and the flags of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return f"{platform.machine()} {platform.processor()}"
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    return "\n".join(
        sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))})
    )
