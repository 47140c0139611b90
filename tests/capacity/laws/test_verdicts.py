"""Verdicts on whole studies, from files as training and evaluation write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.laws import compute_verdicts, write_laws
from knowcap.capacity.laws.laws_dataset import iterate_verdicts
from knowcap.capacity.laws.laws_labels import LABELS
from knowcap.capacity.table import ExperimentLabel
from tests.capacity.laws.simulated_models import Simulator, table_of, table_of_experiments
from tests.capacity.laws.synthetic_studies import STUDIES, base, grid, quantization, rare
from tests.capacity.simulated_results import SimulatedResults

EXPERIMENTS = {
    "base": ExperimentLabel(laws=(1,), scale="simulated"),
    "rare": ExperimentLabel(laws=(4,), scale="simulated"),
}

PAPERS_POINTS = {
    50_000: {"2-2": 1.40, "4-2": 2.16, "5-2": 2.46, "6-2": 2.69, "8-2": 2.87, "2-4": 2.92},
    100_000: {
        "4-2": 2.59, "6-2": 3.47, "8-2": 3.86, "4-3": 4.61, "5-3": 5.21, "3-4": 5.58, "4-4": 5.70
    },
    200_000: {"4-3": 5.57, "5-3": 6.70, "4-4": 8.58, "5-4": 9.72, "6-4": 10.59, "3-6": 11.16},
    500_000: {"6-4": 15.16, "8-4": 17.86, "5-6": 21.98, "6-6": 24.05, "16-4": 26.70, "8-6": 27.40},
}  # fmt: skip
"""Megabits in figure 1a of the paper, by people and model, digitised by a third party."""

PLATEAU = "R of the largest models"
SHARE = "R / R_max of models with R_max up to 1.8"


def verdict(laws: xr.Dataset, law: int, scale: str = "simulated") -> str:
    chosen = (laws["judged_law"] == law) & (laws["judged_scale"] == scale)
    return str(laws["judged_verdict"].values[chosen.values].item())


def row(laws: xr.Dataset, quantity: str, subset: str = "") -> xr.Dataset:
    chosen = (laws["quantity"] == quantity) & (laws["subset"] == subset)
    return laws.isel(row=np.flatnonzero(chosen.values)).squeeze("row")


def num_params(size: tuple[int, int]) -> int:
    layers, width = size[0], 64 * size[1]
    return 3275 * width + layers * (12 * width**2 + 13 * width) + 2 * width


@pytest.fixture(scope="module")
def laws() -> xr.Dataset:
    """Laws of a study in which the laws 1 and 4 hold."""
    sim = Simulator(np.random.default_rng(4))
    return compute_verdicts(table_of({1: base(sim), 4: rare(sim)}))


def test_every_law_has_a_verdict_for_each_of_its_scales(laws: xr.Dataset) -> None:
    assert laws["judged_law"].values.tolist() == list(range(1, 13))
    run = laws["judged_verdict"].values != "not run"
    assert laws["judged_law"].values[run].tolist() == [1, 4]
    assert verdict(laws, 1) == "reproduced"
    assert verdict(laws, 4) == "reproduced"


def test_the_row_that_decides_has_the_verdict_of_the_law(laws: xr.Dataset) -> None:
    for law in iterate_verdicts(laws):
        assert law.primary.verdict == law.judgement.verdict
        assert law.primary.primary
        assert bool(law.judgement.failed) == (law.judgement.verdict != "reproduced")


def test_rows_have_intervals_scopes_and_preconditions(laws: xr.Dataset) -> None:
    plateau = row(laws, PLATEAU)
    assert float(plateau["lower"]) < 2.05 < float(plateau["upper"])
    assert float(plateau["leave_one_out_lower"]) < float(plateau["leave_one_out_upper"])
    assert str(plateau["scope"].item()) == "2 sizes, 2 populations"
    assert int(plateau["num_cells"]) == 4
    own = laws["check_quantity"].values == PLATEAU
    names = laws["check_name"].values[own].tolist()
    assert names == ["sizes", "plateau", "rate", "steps", "names"]
    assert laws["check_passed"].values[own].all()


def test_a_law_without_measurements_explains_which_it_needs(laws: xr.Dataset) -> None:
    needs = str(row(laws, "factor on R when K is 4 times larger")["explanation"].item())
    assert needs.startswith("Not measured: this needs bioD with several values of K")


def test_the_paper_has_no_intervals_but_agrees_with_its_claims(
    simulation: SimulatedResults,
) -> None:
    for num_people, models in PAPERS_POINTS.items():
        for model, megabits in models.items():
            layers, heads = map(int, model.split("-"))
            ratio = megabits * 1e6 / num_params((layers, heads))
            simulation.add([ratio], num_people=num_people, size=(layers, heads))
    found = compute_verdicts(files.read_dataset(simulation.table(**EXPERIMENTS)))
    assert verdict(found, 1) == "not testable here"  # one learning rate each
    assert float(row(found, PLATEAU)["estimate"]) > 1.9
    assert float(row(found, SHARE)["estimate"]) > 0.9
    exponent = row(found, "exponent of bits in P, at similar R_max")
    assert float(exponent["estimate"]) == pytest.approx(1.0, abs=0.15)


def test_quantised_models_are_used_by_the_law_on_quantisation_only(sim: Simulator) -> None:
    models = {"base": quantization(sim)}
    labels = {"base": ExperimentLabel(laws=(1, 8), scale="simulated")}
    found = compute_verdicts(table_of_experiments(models, labels))
    assert int(row(found, PLATEAU)["num_cells"]) == 4
    assert float(row(found, PLATEAU)["estimate"]) == pytest.approx(2.0, rel=0.03)
    assert verdict(found, 8) == "reproduced"
    (fact,) = found["fact_text"].values[found["fact_law"].values == 8]
    assert "int4 at 1,000,000 parameters: 4 nominal bits, 6.5 stored bits" in fact
    assert "80 % integers" in fact


def test_every_scale_has_its_own_verdict(sim: Simulator) -> None:
    models = {"large": base(sim), "small": base(sim, 0.7)}
    labels = {
        "large": ExperimentLabel(laws=(1,), scale="paper"),
        "small": ExperimentLabel(laws=(1,), scale="scale model"),
    }
    found = compute_verdicts(table_of_experiments(models, labels))
    assert verdict(found, 1, "paper") == "reproduced"
    assert verdict(found, 1, "scale model") == "contradicted"


def test_experiments_of_other_laws_are_not_used(sim: Simulator) -> None:
    found = compute_verdicts(table_of({10: grid(sim, 2.0)}))
    assert set(found["judged_verdict"].values) == {"not run"}


def test_the_files_contain_the_verdicts(sim: Simulator, tmp_path: Path) -> None:
    table = tmp_path / "capacity.nc"
    files.write_dataset(table_of({8: STUDIES[8][0](sim)}), table)
    write_laws(table, tmp_path / "laws.nc", tmp_path / "laws.md")
    found = files.read_dataset(tmp_path / "laws.nc")
    assert verdict(found, 8) == "reproduced"
    named = {name for labels in LABELS.values() for name in labels}
    assert named == set(found.data_vars)
    assert all(variable.attrs["long_name"] for variable in found.data_vars.values())
    text = (tmp_path / "laws.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["**8. Quantisation**", "", "", "", "simulated", "**reproduced**"] in cells
