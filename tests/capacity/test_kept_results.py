"""Kept results are read by the present version, and quoted numbers follow from them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from knowcap.artifacts.files import read_dataset
from knowcap.capacity.laws.laws_dataset import LAWS_VARIABLES
from knowcap.capacity.own_measurements.any_table import read_any_table
from knowcap.capacity.run_list import runs_table
from knowcap.capacity.table import replicates

REPOSITORY = Path(__file__).parents[2]
REFERENCE = REPOSITORY / "results" / "reference"
KEPT = sorted(each for each in REFERENCE.rglob("*") if each.suffix in (".nc", ".csv"))
BFLOAT16 = REFERENCE / "two-cores" / "bfloat16.csv"


def test_there_are_kept_results() -> None:
    names = {path.name for path in KEPT}
    assert {"capacity.nc", "laws.nc", "accuracy.nc", "index.csv", "bfloat16.csv"} <= names


@pytest.mark.parametrize("path", KEPT, ids=lambda path: str(path.relative_to(REFERENCE)))
def test_every_kept_file_is_read_by_the_present_version(path: Path) -> None:
    if path.suffix == ".csv" or path.name == "capacity.nc":
        rows = replicates(read_any_table(path))
        assert len(runs_table(rows).splitlines()) == 1 + len(rows)
    elif path.name == "laws.nc":
        assert read_dataset(path, LAWS_VARIABLES).sizes["judgement"] >= 12
    else:
        assert path.name == "accuracy.nc", f"{path}: no reader is known here"
        assert {"memorisable_accuracy", "extractable_accuracy"} <= read_dataset(
            path
        ).data_vars.keys()


def test_the_quoted_capacity_in_bfloat16_follows_from_the_kept_models() -> None:
    rows = pd.read_csv(BFLOAT16, comment="#")
    best = rows.groupby(["variation", "lr"])["R"].mean().groupby("variation").max()
    page = (REPOSITORY / "docs" / "log" / "performance.md").read_text().replace("\n", " ")
    assert f"is {best['float32']:.3f} (" in page
    assert f"in float32 and {best['bfloat16']:.3f} (" in page
