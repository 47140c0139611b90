"""Progress and errors that `make reproduce` prints, and the list of targets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import REPOSITORY, Checkout

pytestmark = pytest.mark.workflow

INSTALLED = ".venv/.installed"


def test_make_alone_prints_the_targets() -> None:
    done = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    printed = re.findall(r"^make ([a-z-]+) +\S", done.stdout, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert sorted(printed) == sorted(phony[1].split())


def start_reproduce(checkout: Checkout) -> subprocess.Popen[str]:
    """Start `make reproduce` in a checkout, in the environment of these tests."""
    shutil.copy(REPOSITORY / "Makefile", checkout.folder)
    checkout.copy("config/profiles/local/config.yaml")
    for path in ("pyproject.toml", "constraints.txt", INSTALLED):
        checkout.write(path, "")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(checkout.folder / "src"),
        "COLUMNS": "200",
    }
    return subprocess.Popen(
        ["make", f"--old-file={INSTALLED}", "reproduce"],
        cwd=checkout.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_failed_job_is_printed_with_its_log_and_finished_jobs_are_not(
    checkout: Checkout,
) -> None:
    text = checkout.read("config/config.yaml")
    checkout.write("config/config.yaml", text[: text.index("    grid:\n")])  # one run
    checkout.edit("src/knowcap/training/train.py", "def train(", "def train_(")
    started = start_reproduce(checkout)
    output, errors = started.communicate()
    assert started.returncode != 0
    assert "the report" not in output
    assert "Failed train" in errors
    assert "ImportError: cannot import name 'train'" in errors
    assert list(checkout.folder.glob("results/corpora/*/corpus.json"))
    assert "make corpus" not in errors


FAKE_PYTHON = """\
#!{python}
# An interpreter that says it is another version, and makes environments without packages.
import os, stat, sys
from collections import namedtuple
Version = namedtuple("Version", "major minor micro")
if sys.argv[1] == "--version":
    print("Python {major}.{minor}.0")
elif sys.argv[1] == "-c":
    sys.version_info = Version({major}, {minor}, 0)
    exec(sys.argv[2])
elif sys.argv[1:3] == ["-m", "venv"]:
    assert "--clear" in sys.argv
    os.makedirs(sys.argv[-1] + "/bin", exist_ok=True)
    for name, text in (("python", open(__file__).read()), ("pip", "#!/bin/sh\\nenv > pip.txt\\n")):
        path = sys.argv[-1] + "/bin/" + name
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A checkout in a folder with a space, and interpreters of several versions in it."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(REPOSITORY / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    for minor in (10, 11, 12, 13, 14):
        path = folder / f"python3.{minor}"
        path.write_text(
            FAKE_PYTHON.format(python=sys.executable, major=3, minor=minor), encoding="utf-8"
        )
        path.chmod(0o755)
    return folder


def make_environment(folder: Path, *options: str, **variables: str) -> tuple[int, str, str]:
    """Run `make environment`; return its exit code, its output and its errors."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["make", "environment", *options],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("minor", [10, 14])
def test_a_python_that_is_not_supported_is_refused_in_one_line(unpacked: Path, minor: int) -> None:
    code, _, errors = make_environment(unpacked, f"PYTHON=./python3.{minor}")
    assert code == 2
    output = errors + _
    assert "knowcap needs Python 3.11 to 3.13; choose one with PYTHON=..." in output
    assert not (unpacked / ".venv").exists()


def test_another_python_makes_the_environment_again_and_the_same_one_does_not(
    unpacked: Path,
) -> None:
    for minor in (12, 13):
        assert make_environment(unpacked, f"PYTHON=./python3.{minor}")[0] == 0
        assert f"{minor}.0" in (unpacked / ".venv/bin/python").read_text()
    (unpacked / "pip.txt").unlink()
    for options in (["PYTHON=./python3.13"], []):
        assert make_environment(unpacked, *options)[0] == 0
    assert not (unpacked / "pip.txt").exists()


def test_settings_that_put_packages_elsewhere_are_ignored_or_named(unpacked: Path) -> None:
    code, _, errors = make_environment(
        unpacked, "PYTHON=./python3.12", PIP_USER="1", PIP_TARGET="/elsewhere", PYTHONPATH="/old"
    )
    assert code == 0
    assert "PYTHONPATH is set: modules in /old are used before those of .venv" in errors
    seen = (unpacked / "pip.txt").read_text().splitlines()
    assert "PIP_USER=0" in seen
    assert not any(line.startswith("PIP_TARGET=") for line in seen)


def test_a_cache_that_cannot_be_written_is_replaced(unpacked: Path) -> None:
    code, _, errors = make_environment(
        unpacked, "PYTHON=./python3.12", HOME="/proc/nobody", XDG_CACHE_HOME=""
    )
    assert code == 0
    assert f"/proc/nobody/.cache cannot be written: {unpacked}/.cache replaces it" in errors
    assert f"XDG_CACHE_HOME={unpacked}/.cache" in (unpacked / "pip.txt").read_text()
