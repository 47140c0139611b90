"""Two checkouts with one results folder, started together."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from tests.campaign import number
from tests.campaign.killing import Campaign, leftovers
from tests.campaign.test_kills import LONGER
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("attempt", range(number(quick=1, full=5)))
def test_two_checkouts_share_a_results_folder(tmp_path: Path, attempt: int) -> None:
    study = LONGER.replace("results: results", f"results: {tmp_path}/results")
    campaigns = [
        Campaign(Checkout.make(tmp_path / name, study), random.Random(attempt))
        for name in ("first", "second")
    ]
    campaigns[1].published = campaigns[0].published
    processes = [campaign.start() for campaign in campaigns]
    while any(process.poll() is None for process in processes):
        campaigns[0].check_published(tmp_path / "results")
        time.sleep(0.2)
    logs = [campaign.checkout.read("snakemake.log")[-3000:] for campaign in campaigns]
    assert [process.returncode for process in processes] == [0, 0], logs
    campaigns[0].check_published(tmp_path / "results")
    assert len(campaigns[0].published) == 9
    assert leftovers(tmp_path / "results") == []


@pytest.mark.parametrize("name", ["corpus", "evaluate", "laws", "report", "table", "train"])
def test_no_rule_deletes_what_another_checkout_has_made(name: str) -> None:
    """Snakemake deletes outputs before it starts their job, unless they are `kept`."""
    text = (REPOSITORY / "rules" / f"{name}.smk").read_text()
    outputs = re.findall(r"^    output:\n((?: {8}.*\n)+)", text, flags=re.MULTILINE)
    lines = [line for block in outputs for line in block.splitlines()]
    assert lines
    assert [line for line in lines if "kept(" not in line] == []
