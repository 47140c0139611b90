"""Dry runs of the large studies of the repository."""

from collections import Counter

import pytest

from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("name", "corpora", "rewritten", "runs", "measurements"),
    [("paper", 56, 5, 1211, 1981), ("single_gpu", 18, 1, 74, 152)],
)
def test_a_large_study_is_planned_whole(
    checkout: Checkout, name: str, corpora: int, rewritten: int, runs: int, measurements: int
) -> None:
    path = f"config/{name}.yaml"
    checkout.copy(path)
    assert checkout.planned("--configfile", path) == Counter(
        corpus=corpora, rewritten_corpus=rewritten, train=runs, evaluate=measurements,
        table=1, laws=1, figures=1, report=1, publish=1,
    )  # fmt: skip
