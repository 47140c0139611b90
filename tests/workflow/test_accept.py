"""`knowcap accept`: results of older code are kept if golden traces are equal."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.workflow.conftest import Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

OPTIMIZER = "src/knowcap/model/optimizer.py"
HEAD = "from __future__ import annotations\n"
SINCE = ("--since", "HEAD", "--reason", "tidied")


GOLDEN_TRACES = "src/knowcap/stages/golden_traces.py"
ONE_GOLDEN_RUN = '\nGOLDEN_RUNS = {"one": GOLDEN_RUNS["GPT2, float32"]}\n'
"""Line of :data:`GOLDEN_TRACES` for tests in which one differing run is enough."""


def commit(checkout: Checkout) -> None:
    """Commit all files of a checkout."""
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "before")


@pytest.fixture
def committed(checkout: Checkout) -> Checkout:
    """A checkout with one commit."""
    commit(checkout)
    return checkout


def git(checkout: Checkout, *arguments: str) -> None:
    """Run git in a checkout."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=checkout.folder, check=True)


def accept_train(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    """Compare the code of a training with the committed one."""
    return subprocess.run(
        [sys.executable, "-m", "knowcap", "accept", "train", *SINCE],
        cwd=checkout.folder,
        env={**os.environ, "PYTHONPATH": str(checkout.folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def read_decisions(checkout: Checkout) -> list[dict[str, str]]:
    """Return the recorded decisions of a checkout."""
    value: list[dict[str, str]] = json.loads(
        checkout.read("src/knowcap/artifacts/equivalences.json")
    )
    return value


def test_code_with_equal_golden_traces_is_accepted_and_nothing_is_trained(
    committed: Checkout,
) -> None:
    before = read_decisions(committed)
    committed.finish()
    committed.edit(OPTIMIZER, HEAD, f"{HEAD}\nUNUSED = 1\n")
    assert committed.planned()["train"] == 6
    done = accept_train(committed)
    assert done.returncode == 0, done.stderr
    *older, decision = read_decisions(committed)
    assert older == before
    assert decision["reason"] == "tidied"
    assert committed.planned() == {}


def test_code_that_changes_a_weight_is_refused(checkout: Checkout) -> None:
    checkout.write(GOLDEN_TRACES, checkout.read(GOLDEN_TRACES) + ONE_GOLDEN_RUN)
    commit(checkout)
    before = read_decisions(checkout)
    checkout.edit(OPTIMIZER, "progress = ", "progress = 1e-6 + ")
    done = accept_train(checkout)
    assert done.returncode == 2
    assert "train: the golden traces differ from those of HEAD" in done.stderr
    assert read_decisions(checkout) == before
    listed = subprocess.run(
        ["git", "worktree", "list"],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(listed.stdout.splitlines()) == 1  # the worktree of HEAD is removed


def test_the_same_code_needs_no_decision(committed: Checkout) -> None:
    done = accept_train(committed)
    assert done.returncode == 2
    assert "train: the code is the same as in HEAD, nothing to decide" in done.stderr
