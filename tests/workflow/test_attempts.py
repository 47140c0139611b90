"""Repeated jobs: a mistake that every attempt would make stops the later ones at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowcap.artifacts.identity import run_name
from knowcap.config.study import load_study
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow


def first_run(checkout: Checkout) -> Path:
    """Return the folder of a run."""
    study = load_study(checkout.folder / "config" / "config.yaml")
    return checkout.folder / "results" / "runs" / run_name(study.runs()[0])


def test_a_refused_training_is_not_repeated(checkout: Checkout) -> None:
    run = first_run(checkout)
    foreign = run / "notes.txt"
    checkout.write(str(foreign.relative_to(checkout.folder)), "mine")
    target = str((run / "DONE").relative_to(checkout.folder))
    done = checkout.snakemake("-c1", "--retries", "2", "--show-failed-logs", target)
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    line = f"{foreign.relative_to(checkout.folder)}: not a file of a run; move it, or choose"
    assert printed.count(f"knowcap: {line}") == 3
    refused = f"results/logs/train/{run.name}.log.refused"
    assert printed.count(f"knowcap: {refused}: this was refused before, not tried again") == 2
    # Only the first attempt has started torch.
    assert not (run.parents[1] / "scratch").exists()

    foreign.unlink()
    again = checkout.snakemake("-c1", "--retries", "2", target)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not (checkout.folder / refused).exists()
