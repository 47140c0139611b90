"""What `make reproduce` says when it cannot go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.workflow.conftest import REPOSITORY, Checkout

INSTALLED = ".venv/.installed"


def reproduce(checkout: Checkout) -> subprocess.Popen[str]:
    """Start `make reproduce` in a checkout, in the environment of these tests."""
    shutil.copy(REPOSITORY / "Makefile", checkout.folder)
    profile = "config/profiles/local/config.yaml"
    checkout.write(profile, (REPOSITORY / profile).read_text())
    for path in ("pyproject.toml", "constraints.txt", INSTALLED):
        checkout.write(path, "")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(checkout.folder / "src"),
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


def test_a_lock_that_a_kill_left_is_said_and_how_to_remove_it(checkout: Checkout) -> None:
    started = reproduce(checkout)
    locks = checkout.folder / ".snakemake" / "locks"
    while not (locks.exists() and any(locks.iterdir())):
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    again = reproduce(checkout)
    output, said = again.communicate()
    assert again.returncode != 0
    assert "the report" not in output
    assert "Directory cannot be locked" in said
    assert ".venv/bin/snakemake --unlock, then make reproduce" in said


def test_a_job_that_fails_is_said_with_its_log_and_other_jobs_are_not(checkout: Checkout) -> None:
    text = checkout.read("config/config.yaml")
    checkout.write("config/config.yaml", text[: text.index("    grid:\n")])  # one run
    checkout.edit("src/knowcap/training/train.py", "def train(", "def train_(")
    started = reproduce(checkout)
    output, said = started.communicate()
    assert started.returncode != 0
    assert "the report" not in output
    assert "Error in rule train:" in said
    assert "ImportError: cannot import name 'train'" in said
    assert list(checkout.folder.glob("results/corpora/*/corpus.json"))
    assert "corpus bioD" not in said
