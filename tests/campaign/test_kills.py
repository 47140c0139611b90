"""Studies end with the results of an uninterrupted one, however often they are killed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaign import number
from tests.campaign.killing import Campaign, assert_same_results, leftovers
from tests.conftest import STUDY
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow

NUM_KILLS = number(quick=4, full=200)
KILLS_OF_A_STUDY = 20
"""Kills until a study is finished and compared; then a fresh one starts."""

LONGER = (
    STUDY.replace("exposures: 20", "exposures: 600")
    .replace("exposures: 2}", "exposures: 60}")
    .replace(", architecture.size: [2-1, 2-2]}", "}")
    .replace("      - {corpus.knowledge.num_people: 40}\n", "")
)
"""Three runs, whose trainings take long enough to be killed between checkpoints."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a study that was never killed."""
    checkout = Checkout.make(tmp_path_factory.mktemp("uninterrupted"), LONGER)
    done = checkout.snakemake("-c2", "--scheduler", "greedy")
    assert done.returncode == 0, done.stderr[-5000:]
    assert leftovers(checkout.folder / "results") == []
    return checkout.folder / "results"


@pytest.mark.parametrize("study", range(-(-NUM_KILLS // KILLS_OF_A_STUDY)))
def test_a_killed_study_ends_with_the_same_results(
    uninterrupted: Path, tmp_path: Path, study: int
) -> None:
    campaign = Campaign(Checkout.make(tmp_path, LONGER), random.Random(study))
    for _ in range(min(KILLS_OF_A_STUDY, NUM_KILLS)):
        if campaign.start_and_kill(longest_s=15):
            break
    campaign.finish()
    print("kills:", dict(sorted(campaign.kills.items())))
    assert_same_results(tmp_path / "results", uninterrupted)
    assert leftovers(tmp_path / "results") == []
