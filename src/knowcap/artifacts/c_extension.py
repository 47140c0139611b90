"""C beside the source, compiled for this machine when it is first needed.

A compiled library is kept in the user's cache under a name that covers the source, the compiler
and the processor, so that machines that share a home each have their own.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from knowcap.artifacts.compiler_flags import FLAGS
from knowcap.artifacts.files import replacing

COMPILERS = ("cc", "gcc", "clang")

_log = logging.getLogger(__name__)


@cache
def library(source: Path, definitions: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """Compile and load C; None where that cannot be done, which is said once.

    Parameters
    ----------
    source
        A file that needs nothing but the standard library and headers beside it.
    definitions
        As the compiler's option -D takes them.
    """
    compiler = _compiler()
    if compiler is None:
        among = ", ".join(COMPILERS)
        _log.info("no C compiler (%s): what %s does is slower", among, source.name)
        return None
    command = [compiler, *FLAGS, *(f"-D{each}" for each in definitions), "-shared", "-fPIC"]
    path = _cache_folder() / f"{source.stem}-{_digest(source, command)}.so"
    if not path.exists():
        try:
            with replacing(path) as temporary:
                subprocess.run([*command, str(source), "-o", str(temporary), "-lm"], check=True)
        except subprocess.CalledProcessError:
            _log.warning("%s cannot compile %s: what it does is slower", compiler, source.name)
            return None
    return ctypes.CDLL(str(path))


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """Where an array's numbers are; it must live as long as they are used."""
    return ctypes.c_void_p(array.ctypes.data)


@cache
def abilities() -> frozenset[str]:
    """What the processor can do beside the common, in Linux' words; none where it does not say."""
    return frozenset(_processor().split())


def _compiler() -> str | None:
    """The user's choice, or the first there is."""
    wanted = os.environ.get("CC")
    return next(filter(None, map(shutil.which, (wanted,) if wanted else COMPILERS)), None)


@cache
def _version(compiler: str) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout


def _cache_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "knowcap"


def _digest(source: Path, command: list[str]) -> str:
    """Of all that a compiled library depends on."""
    files = sorted([source, *source.parent.glob("*.h")])
    told = [
        *(path.read_bytes() for path in files),
        " ".join(command).encode(),
        _version(command[0]),
        _processor().encode(),
    ]
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:16]


def _processor() -> str:
    """Name and abilities of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return f"{platform.machine()} {platform.processor()}"
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    return "\n".join(
        sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))})
    )
