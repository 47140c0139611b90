"""Verdicts on whole studies, from files as training and evaluation write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from knowcap.artifacts import files
from knowcap.capacity.laws import compute_verdicts, write_laws
from knowcap.capacity.table import ExperimentLabel
from tests.capacity.simulated_results import SimulatedResults

LABELS = {
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


def verdicts(simulation: SimulatedResults, **labels: ExperimentLabel) -> xr.Dataset:
    return compute_verdicts(files.read_dataset(simulation.table(**(labels or LABELS))))


def verdict(laws: xr.Dataset, law: int, scale: str = "simulated") -> str:
    chosen = (laws["judged_law"] == law) & (laws["judged_scale"] == scale)
    return str(laws["judged_verdict"].values[chosen.values].item())


def row(laws: xr.Dataset, quantity: str, subset: str = "") -> xr.Dataset:
    chosen = (laws["quantity"] == quantity) & (laws["subset"] == subset)
    return laws.isel(row=np.flatnonzero(chosen.values)).squeeze("row")


def add_base_law(simulation: SimulatedResults, peak: float, num_seeds: int = 3) -> None:
    """Models of several sizes that store `peak` bits per parameter, or nearly the whole corpus."""
    rng = np.random.default_rng(5)
    for num_people in (50_000, 100_000, 200_000):
        for size in ((2, 2), (4, 2), (4, 4), (3, 6)):
            max_bits = {50_000: 2.962e6, 100_000: 5.824e6, 200_000: 11.45e6}[num_people]
            ratio = min(peak, 0.97 * max_bits / num_params(size))
            noise = 1 + 0.01 * rng.standard_normal(num_seeds)
            simulation.add(list(ratio * noise), num_people=num_people, size=size)


def num_params(size: tuple[int, int]) -> int:
    layers, width = size[0], 64 * size[1]
    return 3275 * width + layers * (12 * width**2 + 13 * width) + 2 * width


def test_a_study_in_which_the_base_law_holds_reproduces_it(simulation: SimulatedResults) -> None:
    add_base_law(simulation, 2.05)
    laws = verdicts(simulation)
    assert verdict(laws, 1) == "reproduced"
    peak = row(laws, "peak R")
    assert float(peak["lower"]) < 2.05 < float(peak["upper"])
    assert verdict(laws, 4) == "not run"


def test_a_study_in_which_the_base_law_fails_contradicts_it(simulation: SimulatedResults) -> None:
    add_base_law(simulation, 1.5)
    laws = verdicts(simulation)
    assert verdict(laws, 1) == "contradicted"
    assert row(laws, "peak R")["verdict"] == "contradicted"


def test_capacity_that_does_not_grow_with_size_contradicts_the_base_law(
    simulation: SimulatedResults,
) -> None:
    rng = np.random.default_rng(6)
    for size in ((2, 2), (4, 2), (4, 3), (4, 4)):
        ratio = 2.3 * (num_params(size) / 816_000) ** -0.5
        simulation.add(
            list(ratio * (1 + 0.01 * rng.standard_normal(3))), num_people=500_000, size=size
        )
    exponent = row(
        verdicts(simulation), "exponent of bits in P, for models with R_max of at least 2"
    )
    assert exponent["verdict"] == "contradicted"
    assert float(exponent["estimate"]) == pytest.approx(0.5, abs=0.05)


def test_models_with_r_max_below_the_peak_are_not_used_for_the_peak(
    simulation: SimulatedResults,
) -> None:
    for size in ((8, 4), (6, 6)):
        simulation.add([0.2, 0.21, 0.22], num_people=50_000, size=size)
    peak = row(verdicts(simulation), "peak R")
    assert str(peak["verdict"].item()) == "not run"


def test_one_seed_is_inconclusive(simulation: SimulatedResults) -> None:
    add_base_law(simulation, 2.05, num_seeds=1)
    laws = verdicts(simulation)
    assert verdict(laws, 1) == "inconclusive"
    assert set(laws["verdict"].values[(laws["law"] == 1).values]) == {"inconclusive"}


def test_the_points_of_the_papers_figure_agree_with_its_claims(
    simulation: SimulatedResults,
) -> None:
    for num_people, models in PAPERS_POINTS.items():
        for model, megabits in models.items():
            layers, heads = map(int, model.split("-"))
            ratio = megabits * 1e6 / num_params((layers, heads))
            simulation.add([ratio], num_people=num_people, size=(layers, heads))
    laws = verdicts(simulation)
    for subset, value in {"": 2.72, "bioS(50000)": 1.78, "bioS(100000)": 2.16}.items():
        assert float(row(laws, "peak R", subset)["estimate"]) == pytest.approx(value, abs=0.005)
    quantities = laws["quantity"].values[(laws["law"] == 1) & (laws["subset"] == "")]
    estimates = {name: float(row(laws, name)["estimate"]) for name in quantities}
    assert estimates["lowest R / R_max of models with R_max up to 1.8"] > 0.9
    assert estimates["exponent of bits in P, for models with R_max of at least 2"] == pytest.approx(
        1.06, abs=0.005
    )
    assert estimates["slope of the upper edge of bits against P (0.9 quantile)"] > 2
    assert estimates["factor on R when depth doubles"] == pytest.approx(1.025, abs=0.005)
    assert verdict(laws, 1) == "inconclusive"  # one seed each


def test_half_the_capacity_at_100_exposures_reproduces_law_4(
    simulation: SimulatedResults,
) -> None:
    rng = np.random.default_rng(7)
    for exposures, ratio, name in ((1000, 2.1, "base"), (100, 1.05, "rare")):
        for size in ((2, 2), (4, 2), (4, 3)):
            simulation.add(
                list(ratio * (1 + 0.01 * rng.standard_normal(4))), experiments=[name],
                num_people=200_000, size=size, exposures=exposures,
            )  # fmt: skip
    laws = verdicts(simulation)
    assert verdict(laws, 4) == "reproduced"
    relative = row(laws, "peak R at 100 exposures, relative to 1000 exposures")
    assert float(relative["estimate"]) == pytest.approx(0.5, abs=0.02)


def test_equal_capacity_at_100_and_1000_exposures_contradicts_law_4(
    simulation: SimulatedResults,
) -> None:
    for exposures, name in ((1000, "base"), (100, "rare")):
        simulation.add(
            [2.0, 2.01, 2.02], experiments=[name], num_people=200_000, exposures=exposures
        )
    assert verdict(verdicts(simulation), 4) == "contradicted"


def test_every_law_has_a_verdict_for_each_of_its_scales(
    simulation: SimulatedResults,
) -> None:
    add_base_law(simulation, 2.05)
    laws = verdicts(simulation)
    assert laws["judged_law"].values.tolist() == list(range(1, 13))
    run = laws["judged_verdict"].values != "not run"
    assert laws["judged_law"].values[run].tolist() == [1]
    assert set(laws["verdict"].values[(laws["law"] == 7).values]) == {"not run"}


def test_a_law_without_measurements_explains_which_it_needs(simulation: SimulatedResults) -> None:
    simulation.add([0.6, 0.61], exposures=100, experiments=["rare"], num_people=100_000)
    laws = verdicts(simulation, rare=ExperimentLabel(laws=(4, 10), scale="simulated"))
    needs = laws["explanation"].values[(laws["law"] == 10).values][0]
    assert needs.startswith("Not measured: this needs GPT2 at 100 exposures with random junk")


def test_the_explanation_mentions_the_choice_of_the_learning_rate(
    simulation: SimulatedResults,
) -> None:
    simulation.add([2.0, 2.1, 1.0, 1.1], num_people=100_000, lr=[1e-3, 2e-3])
    peak = row(verdicts(simulation), "peak R")
    assert float(peak["estimate"]) == pytest.approx(2.05)
    assert "Every model is used at its best learning rate." in str(peak["explanation"].item())


def test_quantised_models_are_used_by_the_law_on_quantisation_only(
    simulation: SimulatedResults,
) -> None:
    for ratios in ([2.1, 2.11, 2.12], [2.1, 2.11, 2.12]):
        simulation.add(ratios, num_people=100_000)
    table = files.read_dataset(
        simulation.table(base=ExperimentLabel(laws=(1, 8), scale="simulated"))
    )
    table["precision"][1], table["run"][1] = "int8", table["run"][0].item()
    laws = compute_verdicts(table)
    assert int(row(laws, "peak R")["nobs"]) == 1
    assert row(laws, "R in int8, relative to R as trained")["verdict"] == "reproduced"
    assert verdict(laws, 8) == "inconclusive"  # int4 was not measured


def test_the_law_on_quantisation_explains_the_stored_bits_per_parameter(
    simulation: SimulatedResults,
) -> None:
    for bits, share in ((9.5, 0.53), (10.25, 0.44)):
        simulation.add_precision(
            simulation.add([2.1, 2.11], num_people=100_000), "int4", bits, share
        )
    laws = verdicts(simulation, base=ExperimentLabel(laws=(1, 8), scale="simulated"))
    int8, int4 = (
        str(row(laws, f"R in {precision}, relative to R as trained")["explanation"].item())
        for precision in ("int8", "int4")
    )
    assert int4.endswith(
        "In int4 a parameter takes 9.5 to 10.2 bits on average, "
        "because 44 to 53 % of the parameters are integers."
    )
    assert "takes" not in int8


def test_every_scale_has_its_own_verdict(simulation: SimulatedResults) -> None:
    simulation.add([2.1, 2.11, 2.12], experiments=["large"], num_people=100_000)
    simulation.add([1.1, 1.11, 1.12], experiments=["small"], num_people=50_000)
    laws = verdicts(
        simulation,
        large=ExperimentLabel(laws=(1,), scale="paper"),
        small=ExperimentLabel(laws=(1,), scale="scale model"),
    )
    peaks = laws.isel(row=np.flatnonzero(laws["quantity"] == "peak R"))
    assert peaks["scale"].values.tolist() == ["paper", "scale model"]
    np.testing.assert_allclose(peaks["estimate"], [2.11, 1.11])


def test_experiments_of_other_laws_are_not_used(simulation: SimulatedResults) -> None:
    simulation.add([2.1, 2.2], experiments=["junk"], num_people=100_000)
    laws = verdicts(simulation, junk=ExperimentLabel(laws=(10,), scale="paper"))
    assert set(laws["judged_verdict"].values) == {"not run"}


def test_a_law_uses_only_its_own_experiments_exposures_and_precisions(
    simulation: SimulatedResults,
) -> None:
    simulation.add([1.1, 1.11, 1.12], num_people=100_000)
    simulation.add([2.1, 2.11, 2.12], num_people=100_000, experiments=["junk"])
    simulation.add([3.1, 3.11, 3.12], num_people=100_000, exposures=300)
    simulation.add([4.1, 4.11, 4.12], num_people=100_000)
    labels = {
        "base": ExperimentLabel(laws=(1,), scale="simulated"),
        "junk": ExperimentLabel(laws=(10,), scale="simulated"),
    }
    table = files.read_dataset(simulation.table(**labels))
    table["precision"][3] = "int8"
    assert float(row(compute_verdicts(table), "peak R")["estimate"]) == pytest.approx(1.11)


def test_the_files_contain_the_verdicts(simulation: SimulatedResults, tmp_path: Path) -> None:
    add_base_law(simulation, 2.05, num_seeds=2)
    table = simulation.table(**LABELS)
    write_laws(table, tmp_path / "laws.nc", tmp_path / "laws.md")
    laws = files.read_dataset(tmp_path / "laws.nc")
    assert verdict(laws, 1) == "inconclusive"  # two seeds give wide intervals
    assert all("long_name" in variable.attrs for variable in laws.data_vars.values())
    text = (tmp_path / "laws.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["**1. Base law**", "", "", "", "simulated", "**inconclusive**"] in cells
    assert "bioS(50000)" not in text
