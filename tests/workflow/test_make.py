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
