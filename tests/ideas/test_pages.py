"""The pages on ideas of one's own work when they are followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.followed_page import REPOSITORY, FollowedPage

pytestmark = pytest.mark.workflow

EXPECTED = {
    "activation": r"GPT2-2-1x8-relu2",
    "optimizer": r"4 passed",
    "quantizer": r"5 passed(.|\n)* all +2 ",
    "law": r"\*\*13\. Longer training\*\*.*\*\*(reproduced|inconclusive|contradicted)\*\*",
    "figure": r"results/example/figures/learning-rates\.svg",
    "tokenizer": r"1 passed(.|\n)* all +2 ",
    "knowledge": r"1 passed",
    "facts": r"table, N = 32 +GPT2-2-2x8 +as trained",
    "layer": r"4 passed(.|\n)* all +3 ",
}
"""What the commands of each page print."""


def test_every_page_is_followed() -> None:
    pages = {path.stem.removeprefix("own-") for path in (REPOSITORY / "docs").glob("own-*.md")}
    assert pages >= EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_page_works_when_followed_to_the_letter(name: str, tmp_path: Path) -> None:
    printed = FollowedPage(f"own-{name}.md", tmp_path / "copy").follow()
    assert re.search(EXPECTED[name], printed), printed


@pytest.mark.parametrize("name", EXPECTED)
def test_a_page_is_short(name: str) -> None:
    assert len((REPOSITORY / "docs" / f"own-{name}.md").read_text().splitlines()) <= 122
