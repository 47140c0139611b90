"""Full disks, limits and permissions are errors of one line, and leave no half-written file."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.artifacts.storage import StorageError, check_writable, describe, file_errors


@contextmanager
def file_size_limit() -> Iterator[None]:
    """Limit files of this process to 1000 bytes, as `ulimit -f` does.

    Not a fixture: pytest writes its own output after the set-up of a test.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_beyond_the_limit_is_one_line_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with pytest.raises(StorageError) as refused, file_size_limit():
        files.write_text(path, 5000 * "x")
    expected = f"{path}: File too large; 5,000 bytes are needed; a limit (ulimit -f) allows less"
    assert str(refused.value) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_beyond_the_limit_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "losses.nc"
    path.write_text("older")
    with pytest.raises(StorageError, match=r"losses\.nc: File too large"), file_size_limit():
        files.write_dataset(xr.Dataset({"loss": ("person", np.arange(1000.0))}), path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_with_the_bytes_needed_and_free(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    line = describe(error, tmp_path / "run" / "model.pt", 12_345)
    assert line.startswith(
        f"{tmp_path}/run/model.pt: No space left on device; 12,345 bytes are needed; "
    )
    assert line.endswith(" bytes are free; free some space and run the same command again")


def test_an_error_that_torch_wraps_is_found(tmp_path: Path) -> None:
    wrapped = RuntimeError("unexpected pos 704 vs 598")
    wrapped.__context__ = OSError(errno.ENOSPC, "No space left on device")
    path = tmp_path / "model.pt"
    with pytest.raises(StorageError, match=r"model\.pt: No space left"), file_errors(path):
        raise wrapped


def test_other_errors_keep_their_type(tmp_path: Path) -> None:
    for error in (RuntimeError("bug"), FileNotFoundError(errno.ENOENT, "bug"), KeyError("bug")):
        with pytest.raises(type(error)), file_errors(tmp_path):
            raise error


def test_a_folder_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (check_writable, lambda folder: files.write_text(folder / "a.json", "")):
        with pytest.raises(StorageError, match=r"/file.*: (Not a directory|File exists)"):
            write(tmp_path / "file" / "run")


def test_a_check_leaves_no_folder(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def write_until_killed(path: Path) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_text("half")
        signal.pause()


def test_leftovers_of_killed_writers_are_removed_and_those_of_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    writers = [multiprocessing.Process(target=write_until_killed, args=(path,)) for _ in range(2)]
    for number, writer in enumerate(writers):
        writer.start()
        while sum(each.stat().st_size > 0 for each in tmp_path.glob(".value*")) <= number:
            pass
    writers[0].kill()
    writers[0].join()
    assert len(list(tmp_path.glob(".value*"))) == 2
    files.write_json(path, {})
    assert len(list(tmp_path.glob(".value*"))) == 1
    writers[1].kill()
    writers[1].join()
    files.write_json(path, {})
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    with files.atomic_folder(folder) as temporary:
        (temporary / "a.svg").write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_folder(folder) as temporary:
        (temporary / "a.svg").write_text(str(1 / 0))
    assert (folder / "a.svg").read_text() == "old"
    with files.atomic_folder(folder) as temporary:
        (temporary / "b.svg").write_text("new")
    assert [each.name for each in tmp_path.rglob("*")] == ["figures", "b.svg"]


def test_a_command_prints_one_line_for_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "knowcap", "publish", "--stamp", "file/x/.published-0"]
    done = subprocess.run(
        [*command, "file"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "knowcap: file/x: Not a directory (ENOTDIR)\n"
