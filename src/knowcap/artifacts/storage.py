"""Errors of the file system as one line: the file, the reason, and the space that is needed."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knowcap.errors import UserError

ERRNOS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
        *(errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ETXTBSY, errno.EAGAIN, errno.ETIMEDOUT),
        *(errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ENOTCONN, errno.EHOSTDOWN),
        *(errno.ENOLCK, errno.EDEADLK, errno.ENOTEMPTY, errno.EEXIST),
    }
)
"""Errors of disks, permissions and limits, which no other code can cause or repair."""


class StorageError(UserError):
    """A file cannot be read or written; the file itself may be whole."""

    is_transient = True


@contextmanager
def file_errors(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn errors of the file system in the block into a StorageError.

    Parameters
    ----------
    path
        The file that the block reads or writes; it is named if the error itself names no other.
    num_bytes
        Size of the file to write, if it is known.

    Raises
    ------
    StorageError
        One line: the file, the reason and, where space is missing, the bytes needed and free.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = _storage_cause(error)
        if cause is None:
            raise
        raise StorageError(describe(cause, path, num_bytes)) from None


def describe(error: OSError, path: Path | None = None, num_bytes: int | None = None) -> str:
    """Return one line: the file, the reason, and for a full disk the bytes needed and free."""
    named = error.filename2 or error.filename
    if isinstance(named, str) and (path is None or not _is_temporary(named, path)):
        path = Path(named)
    needed = [] if num_bytes is None else [f"{num_bytes:,} bytes are needed"]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        parts = [*needed, *_free_space(path), "free some space and run the same command again"]
    elif error.errno == errno.EFBIG:
        parts = [*needed, "a limit (ulimit -f) allows less"]
    else:
        parts = []
    code = f" ({errno.errorcode.get(error.errno or 0, error.errno)})" if not parts else ""
    return "; ".join([f"{f'{path}: ' if path else ''}{error.strerror}{code}", *parts])


def is_storage_error(error: OSError) -> bool:
    """Whether an error is one of disks, permissions or limits."""
    return error.errno in ERRNOS


def check_writable(folder: Path) -> None:
    """Create and delete a file in a folder, so that no work is done for nothing.

    Raises
    ------
    StorageError
        If this process cannot write there.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable."):
                pass
    finally:
        with suppress(OSError):
            for each in missing:
                each.rmdir()


def _storage_cause(error: BaseException) -> OSError | None:
    """Return the error of the file system that caused an exception, such as torch's, or None."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and is_storage_error(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _is_temporary(named: str, path: Path) -> bool:
    """Whether an error names `path` itself or one of its temporary files."""
    return Path(named).name.startswith((path.name, f".{path.name}"))


def _free_space(path: Path | None) -> list[str]:
    """Return the free bytes of the disk of a path, which may not exist."""
    existing = (each for each in path.absolute().parents if each.exists()) if path else iter(())
    return [f"{shutil.disk_usage(each).free:,} bytes are free" for each in [*existing][:1]]
