"""The tutorial, followed to the letter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import REPOSITORY, Checkout

pytestmark = pytest.mark.workflow

PAGE = (REPOSITORY / "docs" / "tutorial.md").read_text()
INSTALL, LOOK, RUN, LIST, NOTHING, CHANGED, CURVE = re.findall(r"```console\n(.*?)```", PAGE, re.S)
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the example study has run."""
    example = (REPOSITORY / "config" / "example.yaml").read_text()
    checkout = Checkout.make(tmp_path_factory.mktemp("tutorial"), example)
    checkout.copy("config/example.yaml")
    shell(checkout, RUN)
    return checkout


def shell(checkout: Checkout, commands: str) -> str:
    """Run the lines of a console block that begin with a prompt; return what they print."""
    lines = [line.removeprefix("$ ") for line in commands.splitlines() if line.startswith("$ ")]
    assert lines
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=checkout.folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(checkout.folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_environment_is_made_by_a_target_of_the_makefile() -> None:
    assert INSTALL.startswith("$ make environment ")
    assert "\nenvironment:" in (REPOSITORY / "Makefile").read_text()


def test_the_plan_has_two_runs(checkout: Checkout) -> None:
    assert re.search(r"^ +all +2 +2 +16 ", shell(checkout, LOOK), re.M)


def test_runs_are_listed_by_capacity_ratio(checkout: Checkout) -> None:
    lines = shell(checkout, LIST).splitlines()
    assert lines[0].endswith("  R  R in context")
    assert len(lines) == 1 + 16


def test_only_the_difference_is_computed(checkout: Checkout) -> None:
    assert "Nothing to be done" in shell(checkout, NOTHING)
    (new_sizes,) = re.findall(r"`architecture\.size: (.*?)`", PAGE)
    checkout.edit("config/example.yaml", "size: [2-1, 2-2]", f"size: {new_sizes}")
    plan = shell(checkout, NOTHING)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", plan.partition("Job stats:")[2], re.M))
    assert counts["train"] == "1"
    assert counts["evaluate"] == "2"
    assert "corpus" not in counts
    shell(checkout, CHANGED)
    assert len(list(checkout.folder.glob("results/runs/*/DONE"))) == 3


def test_what_was_learnt_can_be_drawn_and_printed(checkout: Checkout) -> None:
    shell(checkout, CURVE)
    assert (checkout.folder / "curve.svg").read_text().startswith("<?xml")
    done = subprocess.run(
        [sys.executable, "-c", PYTHON],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GPT2-2-1x8" in done.stdout
