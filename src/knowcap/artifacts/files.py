"""Readers and atomic writers of JSON and netCDF files, and publishing of results.

Every reader raises a :class:`~knowcap.errors.UserError` if a file is missing or damaged. Every
writer writes a temporary file in the same folder and renames it, so a file under its final name is
always complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowcap.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the file formats. Readers reject files of another version."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` if the block raises no error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        If the file is missing, truncated, not an object or of another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged, not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a JSON object is expected, not {type(value).__name__}")
    if value.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"{path}: format {value['format']}, this version reads {FORMAT}; delete the file"
        )
    return value


def write_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as compressed netCDF, atomically."""
    encoding = {
        name: {"zlib": True, "complevel": 4}
        for name, variable in dataset.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiub"
    }
    with atomic_write(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)


def read_dataset(path: Path) -> xr.Dataset:
    """Read a netCDF file into memory.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    import xarray as xr  # takes half a second, so only commands that read datasets import it

    if not path.exists():
        raise UserError(f"{path}: missing")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged, not netCDF ({error})") from None


def publish(sources: Sequence[Path], stamp: Path) -> None:
    """Copy files and folders into the folder of `stamp`, under names without digests.

    The stamp is written last and marks the version of the copies. Older stamps are removed first,
    so that an interrupted copy is repeated.

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
    folder.mkdir(parents=True, exist_ok=True)
    for older in folder.glob(".published-*"):
        older.unlink()
    for source in sources:
        if not source.exists():
            raise UserError(f"{source}: missing")
        if source.is_dir():
            target = folder / source.name.rpartition("-")[0]
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        else:
            with atomic_write(folder / source.name) as temporary:
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
