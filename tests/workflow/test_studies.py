"""Dry runs of the repository's own large studies."""

from collections import Counter

import pytest

from tests.workflow.conftest import REPOSITORY, Checkout


@pytest.mark.parametrize(("name", "corpora", "runs"), [("paper", 36, 721), ("single_gpu", 2, 25)])
def test_a_large_study_is_planned_whole(
    checkout: Checkout, name: str, corpora: int, runs: int
) -> None:
    path = f"config/{name}.yaml"
    checkout.write(path, (REPOSITORY / path).read_text())
    assert checkout.planned("--configfile", path) == Counter(
        corpus=corpora, train=runs, evaluate=runs, table=1, laws=1, figures=1, report=1, publish=1
    )
