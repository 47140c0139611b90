"""List of runs: selection by conditions, and the columns that are shown."""

from pathlib import Path

import pandas as pd
import pytest

from knowcap.artifacts.files import read_dataset
from knowcap.capacity.run_list import (
    IN_NAME,
    identifying_columns,
    runs_table,
    select_replicates,
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


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], {"run", "precision", "seed", "lr", "population_seed", "domain_token"}),
        (["family=LLaMA", "precision=trained"], {"run", "seed", "lr", "population_seed"}),
        (["precision=int8", "seed=0", "num_people=1020"], {"run", "lr", "population_seed"}),
    ],
)
def test_columns_tell_replicates_apart_and_vary(
    rows: pd.DataFrame, conditions: list[str], expected: set[str]
) -> None:
    selected = select_replicates(rows, conditions)
    names = identifying_columns(selected)
    assert expected <= set(names)
    assert all(selected[name].nunique() > 1 for name in names)
    assert not selected.duplicated(names).any()
    # Settings tell apart what the digest in the run's name does.
    settings = [*IN_NAME, *names[1:]]
    assert not selected.duplicated(settings).any()
    assert {"num_layers", "hidden_size", "knowledge"}.isdisjoint(names)


def test_the_table_is_narrow(rows: pd.DataFrame) -> None:
    selected = select_replicates(rows, ["family=LLaMA", "precision=trained"])
    header, *lines = runs_table(selected).splitlines()
    assert header.split() == [*identifying_columns(selected), "R", "R", "in", "context"]
    assert len(lines) == len(selected)
    assert max(map(len, lines)) <= 115


def test_a_single_replicate_has_its_run_and_r(rows: pd.DataFrame) -> None:
    assert runs_table(rows.head(1)).split()[:5] == ["run", "R", "R", "in", "context"]


def test_columns_that_are_chosen_are_the_only_ones(rows: pd.DataFrame) -> None:
    names = ["device", "run", "capacity_ratio"]
    assert runs_table(rows.head(3), [*names, "run"]).splitlines()[0].split() == names
    with pytest.raises(UserError, match="color: no such column"):
        runs_table(rows, ["color"])
