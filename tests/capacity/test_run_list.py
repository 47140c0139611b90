"""List of runs: selection by conditions, and the columns that are shown."""

from pathlib import Path

import pandas as pd
import pytest

from knowcap.artifacts.files import read_dataset
from knowcap.capacity.run_list import (
    SHOWN,
    runs_table,
    select_replicates,
    varying_columns,
)
from knowcap.capacity.table import replicates
from knowcap.errors import UserError

KEPT = Path(__file__).parents[2] / "results" / "reference" / "two-cores" / "capacity.nc"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return replicates(read_dataset(KEPT))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["family=LLaMA"], lambda row: row.family == "LLaMA"),
        (["precision!=trained"], lambda row: row.precision != "trained"),
        (["num_params < 5000"], lambda row: row.num_params < 5000),
        (["exposures<=100", "lr>=4e-3"], lambda row: row.exposures <= 100 and row.lr >= 4e-3),
        (["gated=true"], lambda row: row.gated),
        (["seed=1", "num_people>400"], lambda row: row.seed == 1 and row.num_people > 400),
    ],
)
def test_conditions_select_rows(rows: pd.DataFrame, conditions: list[str], expected) -> None:
    selected = select_replicates(rows, conditions)
    assert set(selected.index) == {row.Index for row in rows.itertuples() if expected(row)}
    assert 0 < len(selected) < len(rows)
    assert selected["capacity_ratio"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("family", "a column, one of"),
        ("brand=LLaMA", "brand: no such column"),
        ("num_params<many", "num_params is a number"),
        ("family<LLaMA", "family is a text"),
        ("gated=1", "gated is true or false"),
    ],
)
def test_a_condition_with_a_mistake_is_refused(
    rows: pd.DataFrame, condition: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        select_replicates(rows, [condition])


def test_settings_in_which_runs_differ_are_shown(rows: pd.DataFrame) -> None:
    selected = select_replicates(rows, ["precision=int8"])
    shown = varying_columns(selected)
    assert shown
    assert all(selected[name].nunique() > 1 for name in shown)
    header = runs_table(selected).splitlines()[0].split()
    assert header == [*SHOWN, *shown]


def test_columns_can_be_chosen(rows: pd.DataFrame) -> None:
    header = runs_table(rows.head(3), ["device"]).splitlines()[0].split()
    assert header == [*SHOWN, "device"]
    with pytest.raises(UserError, match="color: no such column"):
        runs_table(rows, ["color"])
