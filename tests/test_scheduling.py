"""How workers share the tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import scheduling

REPOSITORY = Path(__file__).parents[1]
CONFTEST = """\
from tests import scheduling
from tests.scheduling import *

scheduling.LONGEST, scheduling.SPLIT = ("test_c.py",), ("test_a.py",)
scheduling.SLOW = ("test_d.py",)
"""
TEST = """\
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number, request):
    with pathlib.Path("log").open("a") as log:
        print(request.path.stem, os.environ["PYTEST_XDIST_WORKER"], file=log)
    if request.path.stem == "test_a":
        import time; time.sleep(0.5)
"""


def test_a_file_goes_to_one_worker_a_split_file_to_all_and_slow_files_are_marked(
    tmp_path: Path,
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    for name in ("test_a.py", "test_b.py", "test_c.py", "test_d.py"):
        (tmp_path / name).write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n2", "-p", "no:cacheprovider", "-m", "not slow"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    workers = {file: {worker for name, worker in lines if name == file} for file, _ in lines}
    assert [len(workers[f"test_{name}"]) for name in "abc"] == [2, 1, 1]


def test_the_longest_files_come_first_and_other_split_files_last(tmp_path: Path) -> None:
    longest, split = 'LONGEST = ("test_d.py", "test_c.py")', 'SPLIT = ("test_a.py", "test_c.py")'
    text = f"{CONFTEST}\nscheduling.{longest}\nscheduling.{split}\n"
    (tmp_path / "conftest.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    for name in "abcd":
        (tmp_path / f"test_{name}.py").write_text("def test_it(): pass")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"^test_(\w)\.py", done.stdout, re.MULTILINE) == ["d", "c", "b", "a"]


FILES = {*scheduling.LONGEST, *scheduling.SPLIT, *scheduling.SLOW}


@pytest.mark.parametrize("file", sorted(FILES))
def test_every_scheduled_file_exists(file: str) -> None:
    assert (REPOSITORY / file).exists()
