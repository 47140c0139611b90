"""Readers and atomic writers of JSON and netCDF files, and publishing of results.

Every reader raises a :class:`~knowcap.errors.UserError` of one line if a file is missing, damaged
or unreadable. Every writer writes a temporary file in the same folder and renames it, so a file
under its final name is always complete. A netCDF file ends with its digest
(:mod:`knowcap.artifacts.checksums`), which is verified before the file is parsed.
"""

from __future__ import annotations

import errno
import fcntl
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowcap.artifacts import checksums
from knowcap.artifacts.checksums import DamagedError
from knowcap.artifacts.storage import file_errors
from knowcap.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the file formats. Readers reject files of another version."""


@contextmanager
def atomic_write(path: Path, num_bytes: int | None = None) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` if the block raises no error.

    Parameters
    ----------
    path
        The file to write. Temporary files of killed processes for the same file are removed.
    num_bytes
        Its size, if it is known; an error on a full disk has it.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with file_errors(path, num_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        handle, temporary = _create_locked(path, _create_file)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed writers of a file or folder have left.

    A live writer holds a lock on its temporary file; the kernel releases it when the process ends.
    """
    if not path.parent.is_dir():
        return
    prefix = f".{path.name}."
    for leftover in [each for each in path.parent.iterdir() if each.name.startswith(prefix)]:
        with suppress(OSError):  # gone by now, or locked, or on a file system without locks
            handle = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            finally:
                os.close(handle)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, and rename it to `folder` if the block raises no error.

    Raises
    ------
    StorageError
        If a file cannot be written. The older folder is then unchanged.
    """
    with file_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        handle, private = _create_locked(folder, _create_folder)
        try:
            temporary = private / "new"  # mkdtemp's own folder is closed to other users
            temporary.mkdir()
            yield temporary
            _move_into_place(temporary, folder, private)
        finally:
            shutil.rmtree(private, ignore_errors=True)
            os.close(handle)


def _move_into_place(temporary: Path, folder: Path, private: Path) -> None:
    """Rename `temporary` to `folder`, whose earlier versions move to `private`."""
    for attempt in itertools.count():
        with suppress(FileNotFoundError):  # there is none, or another writer has moved it away
            folder.rename(private / f"old-{attempt}")
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return  # else another writer was faster, and its folder is replaced


def _create_locked(path: Path, create: Callable[[Path], tuple[int, Path]]) -> tuple[int, Path]:
    """Create a temporary file or folder for `path` and lock it; return its descriptor and path."""
    while True:
        try:
            handle, temporary = create(path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue  # another writer took the folder for a leftover before it was opened
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if temporary.exists():  # else another writer took it for a leftover before it was locked
            return handle, temporary
        os.close(handle)


def _create_file(path: Path) -> tuple[int, Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    return handle, Path(name)


def _create_folder(path: Path) -> tuple[int, Path]:
    folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    return os.open(folder, os.O_RDONLY), Path(folder)


def check_new_folder(folder: Path) -> None:
    """Raise a UserError if an output folder exists and has files.

    Raises
    ------
    UserError
        Also if it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists; choose another output folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    content = text.encode()
    with atomic_write(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        If the file is missing, unreadable, truncated, not an object or of another format.
    """
    if not path.exists():
        raise DamagedError(f"{path}: missing")
    with file_errors(path):
        content = path.read_bytes()
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: damaged, not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path}: a JSON object is expected, not {type(value).__name__}")
    if value.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"{path}: format {value['format']}, this version reads {FORMAT}; delete the file"
        )
    return value


def write_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as compressed netCDF that ends with its digest, atomically."""
    encoding = {
        name: {"zlib": True, "complevel": 4}
        for name, variable in dataset.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiub"
    }
    # In memory first: the HDF5 library reports a full disk without its reason, or crashes.
    content = dataset.to_netcdf(engine="h5netcdf", encoding=encoding)
    with atomic_write(path, len(content)) as temporary:
        temporary.write_bytes(content)
        checksums.append_digest(temporary)


def read_dataset(path: Path, variables: Sequence[str] = ()) -> xr.Dataset:
    """Read a netCDF file into memory, after its digest is verified.

    Parameters
    ----------
    path
        A file written by :func:`write_dataset`.
    variables
        Variables that the file must have, to recognise whole files of another kind.

    Raises
    ------
    UserError
        If the file is missing, damaged, unreadable or of another kind.
    """
    import xarray as xr  # takes half a second, so only commands that read datasets import it

    # From memory: HDF5 would lock the file, and report another reader's lock as damage.
    content = checksums.read_verified(path)
    try:
        with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as opened:
            dataset = opened.load()
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(f"{path}: damaged, not netCDF ({error})") from None
    if missing := [name for name in variables if name not in dataset]:
        raise DamagedError(
            f"{path}: a file of another kind or version, without {', '.join(missing)}"
        )
    return dataset


def publish(sources: Sequence[Path], stamp: Path) -> None:
    """Copy files and folders into the folder of `stamp`, under names without digests.

    The stamp is written last and marks the version of the copies. Stamps of other versions are
    removed first, so that an interrupted copy is repeated. Another process may publish the same
    version at the same time, so its stamp stays.

    Parameters
    ----------
    sources
        Files, which keep their names, and folders `name-{digest}`, which become `name`.
    stamp
        File `.published-{digest}` in the target folder.

    Raises
    ------
    UserError
        If a source is missing.
    """
    folder = stamp.parent
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for other in set(folder.glob(".published-*")) - {stamp}:
            other.unlink(missing_ok=True)
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: missing")
        if source.is_dir():
            with atomic_folder(folder / source.name.rpartition("-")[0]) as temporary:
                shutil.copytree(source, temporary, dirs_exist_ok=True)
        else:
            with atomic_write(folder / source.name, source.stat().st_size) as temporary:
                shutil.copyfile(source, temporary)
    write_text(stamp, "")


def replace_between_markers(path: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- name:begin -->` and `<!-- name:end -->` of a page.

    Raises
    ------
    UserError
        If the page is missing, or does not have each marker exactly once, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if not path.exists():
        raise UserError(f"{path}: missing")
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise UserError(f"{path}: needs {begin} and {end}, once each and in this order")
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
