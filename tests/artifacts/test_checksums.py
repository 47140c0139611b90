"""Files end with their digest, and any change of one is noticed before it is parsed."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import checksums, files, manifest
from knowcap.artifacts.checksums import DamagedError
from knowcap.artifacts.storage import StorageError
from knowcap.errors import UserError


@pytest.fixture
def dataset_file(tmp_path: Path) -> Path:
    """A small netCDF file."""
    path = tmp_path / "losses.nc"
    values = np.random.default_rng(0).normal(size=(2, 30))
    files.write_dataset(xr.Dataset({"loss": (("replicate", "person"), values)}), path)
    return path


def test_every_flipped_bit_of_a_dataset_is_noticed(dataset_file: Path) -> None:
    content = dataset_file.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        dataset_file.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"losses\.nc: damaged"):
            files.read_dataset(dataset_file)
        with pytest.raises(DamagedError, match=r"losses\.nc: damaged"):
            checksums.verify_file(dataset_file)


def test_every_truncation_of_a_dataset_is_noticed(dataset_file: Path) -> None:
    content = dataset_file.read_bytes()
    for length in range(0, len(content), 61):
        dataset_file.write_bytes(content[:length])
        with pytest.raises(DamagedError, match=r"losses\.nc: damaged"):
            files.read_dataset(dataset_file)


def test_a_dataset_that_another_program_rewrote_is_refused(dataset_file: Path) -> None:
    dataset = files.read_dataset(dataset_file)
    dataset.isel(person=slice(10)).to_netcdf(dataset_file, engine="h5netcdf")
    with pytest.raises(DamagedError, match="the SHA-256 at its end is missing or wrong"):
        files.read_dataset(dataset_file)


def test_other_programs_read_a_dataset_with_its_digest(dataset_file: Path) -> None:
    with xr.open_dataset(dataset_file, engine="h5netcdf") as dataset:
        assert dataset.load().identical(files.read_dataset(dataset_file))


def test_a_dataset_that_another_reader_has_locked_is_read(dataset_file: Path) -> None:
    with dataset_file.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert files.read_dataset(dataset_file)["loss"].shape == (2, 30)


def test_an_error_of_the_file_system_is_not_called_damage(
    dataset_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, mode: str) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable", str(self))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StorageError, match=r"unavailable \(EAGAIN\)$"):
        files.read_dataset(dataset_file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files and their manifest."""
    files.write_text(tmp_path / "a.json", "{}")
    files.write_text(tmp_path / "b.json", "[]")
    manifest.write(tmp_path, ["a.json", "b.json"])
    return tmp_path


def test_whole_files_are_verified(folder: Path) -> None:
    manifest.verify(folder)
    (folder / "b.json").write_text("[1]")
    manifest.verify(folder, ["a.json"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("b.json", "[ ", r"b\.json: damaged, its SHA-256 is not that in DONE"),
        ("b.json", "", r"b\.json: damaged"),
        ("b.json", None, r"b\.json: missing"),
        ("DONE", None, "DONE: missing"),
        ("DONE", "", "DONE: damaged"),
        ("DONE", "[]", "DONE: damaged"),
        ("DONE", '{"files": {}}', "DONE: damaged"),
        ("DONE", '{"files": {"a.json": {"bytes": 2, "sha256": "0"}}}', "DONE: damaged"),
        ("DONE", "[" * 100_000, "DONE: damaged"),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    folder: Path, name: str, text: str | None, expected: str
) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(DamagedError, match=expected) as damage:
        manifest.verify(folder)
    assert "\n" not in str(damage.value)
    assert isinstance(damage.value, UserError)


def test_swapped_files_are_noticed(folder: Path) -> None:
    (folder / "a.json").rename(folder / "c.json")
    (folder / "b.json").rename(folder / "a.json")
    (folder / "c.json").rename(folder / "b.json")
    with pytest.raises(DamagedError, match=r"a\.json: damaged"):
        manifest.verify(folder)


def test_a_file_that_the_manifest_does_not_list_is_refused(folder: Path) -> None:
    (folder / "c.json").touch()
    with pytest.raises(DamagedError, match=r"DONE: damaged, it does not list c\.json"):
        manifest.verify(folder, ["c.json"])
