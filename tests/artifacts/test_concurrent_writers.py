"""Several processes that write the same file, folder or publication at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knowcap.artifacts import files

NUM_WRITERS = 8
NUM_WRITES = 10


def write_file(folder: Path) -> None:
    files.write_text(folder / "target", "whole")


def write_folder(folder: Path) -> None:
    with files.atomic_folder(folder / "target") as temporary:
        for name in "abc":
            (temporary / name).write_text("whole")


def publish(folder: Path) -> None:
    files.publish([folder / "store" / "figures-1234"], folder / "target" / ".published-1234")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files.write_text(tmp_path / "store" / "figures-1234" / "bits.svg", "whole")
    return tmp_path


@pytest.mark.parametrize("write", [write_file, write_folder, publish])
def test_writers_of_one_target_do_not_disturb_each_other(
    folder: Path, write: Callable[[Path], None]
) -> None:
    start = threading.Barrier(NUM_WRITERS)

    def write_often(_: int) -> None:
        start.wait()
        for _ in range(NUM_WRITES):
            write(folder)

    # Threads, as a lock belongs to an opened file: they exclude each other as processes do.
    with ThreadPoolExecutor(NUM_WRITERS) as executor:
        list(executor.map(write_often, range(NUM_WRITERS)))
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.read_text() for path in written} <= {"whole", ""}
    assert not [*folder.rglob(".target.*"), *folder.rglob(".figures.*")]


def test_a_stamp_never_disappears_while_the_same_version_is_published_again(folder: Path) -> None:
    publish(folder)
    stamp = folder / "target" / ".published-1234"
    is_finished = threading.Event()

    def publish_often() -> None:
        for _ in range(20 * NUM_WRITES):
            publish(folder)
        is_finished.set()

    with ThreadPoolExecutor(1) as executor:
        result = executor.submit(publish_often)
        seen = []
        while not is_finished.is_set():
            seen.append(stamp.exists())
        result.result()
    assert all(seen)
