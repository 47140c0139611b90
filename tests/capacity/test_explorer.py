"""Data of the interactive figures: models, laws, groups, loss curves and intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowcap.artifacts import files, manifest
from knowcap.capacity.laws import compute_verdicts
from knowcap.capacity.model_list import model_rows
from knowcap.capacity.report.explorer import GROUPINGS, explorer_data
from knowcap.capacity.report.interval_rows import interval_rows
from knowcap.capacity.table import ExperimentLabel, replicates
from tests.capacity.laws.simulated_models import Simulator, table_of
from tests.capacity.laws.synthetic_studies import STUDIES
from tests.capacity.simulated_results import SimulatedResults


def data_of(path: Path, runs: Path | None = None) -> dict[str, Any]:
    table = files.read_dataset(path)
    data = explorer_data(table, model_rows(table), runs)
    return json.loads(json.dumps(data, allow_nan=False))


@pytest.fixture(scope="module")
def two_laws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT2 at two numbers of exposures, and LLaMA, which is compared with one of them."""
    simulation = SimulatedResults(tmp_path_factory.mktemp("two_laws"))
    people: dict[str, Any] = {"num_people": 100_000, "lr": [1e-3, 2e-3]}
    simulation.add([1.9, 2.0, 1.7, 1.8], experiments=["base"], num_metrics=150, **people)
    simulation.add([1.0, 1.1, 0.7, 0.8], experiments=["rare"], exposures=100, **people)
    simulation.add([1.5, 1.6, 1.3, 1.4], experiments=["other"], family="LLaMA", **people)
    return simulation.table(
        base=ExperimentLabel((1,), "paper"),
        rare=ExperimentLabel((4,), "paper"),
        other=ExperimentLabel((5,), "paper"),
    )


@pytest.fixture(scope="module")
def data(two_laws: Path) -> dict[str, Any]:
    """The data of the two laws, without runs."""
    return data_of(two_laws)


def test_a_model_has_its_run_rates_seeds_and_cost(data: dict[str, Any]) -> None:
    model = data["models"][0]
    assert model["run"] == "GPT2-2-2-bioS-N100000-E1000-0"
    assert (model["lr"], model["num_lr"], model["num_seeds"]) == (1e-3, 2, 2)
    assert model["mean"][0] == pytest.approx(1.95, rel=1e-4)
    assert [each[:2] for each in model["replicates"]] == [
        [0, 1e-3], [1, 1e-3], [0, 2e-3], [1, 2e-3],
    ]  # fmt: skip
    assert [each[2] for each in model["replicates"]] == pytest.approx(
        [1.9, 2.0, 1.7, 1.8], rel=1e-4
    )
    assert model["cost"] == "1.0 min for 4 trainings, 4,000,000 tokens"


def test_models_that_a_law_compares_are_shown_with_it(data: dict[str, Any]) -> None:
    laws = {(m["architecture"], m["exposures"]): m["laws"] for m in data["models"]}
    assert laws == {("GPT2", 1000): [1, 5], ("GPT2", 100): [4], ("LLaMA", 1000): [5]}
    assert [number for number, _ in data["laws"]] == [1, 4, 5]


def test_colours_show_what_differs_between_models(data: dict[str, Any]) -> None:
    groupings = data["groupings"]
    assert set(groupings) == {"exposures", "dataset", "architecture"}
    assert groupings["architecture"]["labels"] == ["GPT2", "LLaMA"]
    assert groupings["architecture"]["of"] == [0, 0, 1]


def test_a_study_without_laws_is_coloured_by_what_it_varies(simulation: SimulatedResults) -> None:
    for size in ((2, 2), (4, 2)):
        for number in (10_000, 20_000):
            simulation.add([0.2, 0.21], num_people=number, size=size)
    data = data_of(simulation.table(base=ExperimentLabel((), "my question")))
    assert data["laws"] == []
    assert next(iter(data["groupings"])) == "settings"
    assert data["groupings"]["settings"]["labels"] == ["N = 10,000", "N = 20,000"]


def test_junk_is_named_by_its_kind() -> None:
    sim = Simulator(np.random.default_rng(1))
    models = pd.concat([STUDIES[law][0](sim) for law in (10, 11, 12)])
    labels = GROUPINGS["junk"](replicates(table_of({10: models})))
    assert set(labels) == {
        "no junk", "random junk", "repetitive junk", "random junk, domain token",
    }  # fmt: skip


def test_runs_that_are_there_have_thinned_curves(two_laws: Path) -> None:
    curves = data_of(two_laws, two_laws.parents[1] / "runs")["curves"]
    (name,) = curves
    curve = curves[name]
    assert name == "GPT2-2-2-bioS-N100000-E1000-0"
    assert curve["replicates"] == [[0, 1e-3], [1, 1e-3], [0, 2e-3], [1, 2e-3]]
    assert 30 < len(curve["iterations"]) <= 60
    assert (curve["iterations"][0], curve["iterations"][-1]) == (10, 1500)
    assert [losses[0] for losses in curve["loss_nats"]] == [5, 4.9, 4.8, 4.7]
    assert curve["loss_nats"][0][-1] == 2.02


def test_a_table_without_runs_has_no_curves(two_laws: Path, data: dict[str, Any]) -> None:
    assert data["curves"] == {}
    assert data_of(two_laws, two_laws.parent / "missing")["curves"] == {}


def test_a_loss_that_is_not_finite_has_no_point(simulation: SimulatedResults) -> None:
    measurement = simulation.add([0.2, 0.21], num_people=10_000)
    line = {"iteration": 10, "loss_nats": [None, 3.0]}
    (measurement.run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    manifest.write(measurement.run, ["run.json", "metrics.jsonl"])
    (curve,) = data_of(simulation.table(), simulation.folder / "runs")["curves"].values()
    assert curve["loss_nats"] == [[None], [3.0]]


def test_intervals_are_relative_to_the_papers_value(tmp_path: Path) -> None:
    models = STUDIES[5][0](Simulator(np.random.default_rng(1)))
    laws = compute_verdicts(table_of({5: models}))
    data = json.loads(json.dumps(interval_rows(laws), allow_nan=False))
    row = next(row for row in data["rows"] if row["quantity"].startswith("R of LLaMA"))
    chosen = (laws["quantity"].values == row["quantity"]) & (laws["subset"].values == "")
    measured = float(laws["estimate"].values[chosen][0] / laws["paper_value"].values[chosen][0])
    assert row["estimate"] == pytest.approx(measured, rel=1e-4)
    assert row["lower"] < row["estimate"] < row["upper"]
    assert row["verdict"] in data["colors"]
