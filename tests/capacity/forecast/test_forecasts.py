"""Fits of a table, forecasts from them and from the paper, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from knowcap.artifacts import files
from knowcap.capacity.forecast.capacity_fit import CapacityFit, LevelFit, fit_capacity, just_full
from knowcap.capacity.forecast.forecast import Given
from knowcap.capacity.forecast.forecast_text import forecasts_text
from knowcap.capacity.forecast.forecasts import forecasts
from knowcap.capacity.forecast.log_prediction import crossing
from knowcap.capacity.forecast.number_text import number_text
from knowcap.capacity.forecast.paper_values import paper_ratio
from knowcap.capacity.forecast.stored_share import QUANTITY, nearly_all
from knowcap.capacity.forecast.table_forecasts import from_table, needed_exposures
from knowcap.capacity.laws import base_law
from knowcap.capacity.laws.model_filters import reference, with_exposures
from knowcap.capacity.laws.verdicts import models_of
from knowcap.capacity.table import replicates
from knowcap.errors import UserError
from tests.capacity.laws.simulated_models import Simulator, table_of
from tests.capacity.laws.synthetic_studies import architectures, base, grid, quantization

TWO_CORES = Path(__file__).parents[3] / "results" / "reference" / "two-cores" / "capacity.nc"


@pytest.fixture(scope="module")
def fit() -> CapacityFit:
    """R = 1 at 100 and 2 at 1000 exposures, from 1 to 4 million parameters, nearly exact."""
    sizes = np.repeat([1e6, 2e6, 4e6], 2)
    noise = 1 + 0.001 * np.array([1, -1, -1, 1, 1, -1])
    levels = [
        LevelFit(exposures, pd.DataFrame({"value": ratio * noise, "num_params": sizes}))
        for exposures, ratio in ((100, 1.0), (1000, 2.0))
    ]
    return CapacityFit("simulated", tuple(levels), ())


def given(**numbers: float) -> Given:
    return Given(tokens_per_bit=1.5, **numbers)


def test_at_1000_exposures_the_cells_are_those_of_law_1_s_exponent() -> None:
    table = files.read_dataset(TWO_CORES)
    rows = replicates(table)
    exponent = next(each for each in base_law.LAW.quantities if "exponent" in each.name)
    expected = exponent.select(models_of(table, rows, base_law.LAW, "scale model"))
    found = just_full(
        with_exposures(reference(rows), 1000).loc[lambda rows: rows["kind"] == "bioD"]
    )
    columns = ["model", "knowledge", "population_seed"]
    assert set(expected[columns].itertuples(index=False)) <= set(
        found[columns].itertuples(index=False)
    )
    (level,) = (
        each for each in fit_capacity(table, "GPT2", "trained").levels if each.exposures == 1000
    )
    pd.testing.assert_frame_equal(
        level.cells.sort_values(columns).reset_index(drop=True),
        expected.sort_values(columns).reset_index(drop=True),
    )


def test_bits_parameters_and_cost_follow_from_r(fit: CapacityFit) -> None:
    found = from_table(given(num_params=2e6), fit, 1000)
    assert found.capacity_ratio.estimate == pytest.approx(2.0, rel=1e-3)
    assert found.bits.estimate == pytest.approx(4e6, rel=1e-3)
    assert found.tokens.estimate == pytest.approx(1000 * 1.5 * 4e6, rel=1e-3)
    assert found.flops.estimate == pytest.approx(6 * 2e6 * 1000 * 1.5 * 4e6, rel=1e-3)
    assert found.outside_factor == 1
    assert found.notes == ()


def test_parameters_for_bits_invert_bits_of_parameters(fit: CapacityFit) -> None:
    size = from_table(given(bits=4e6), fit, 1000).num_params
    assert size.estimate == pytest.approx(2e6, rel=1e-3)
    upper = from_table(given(num_params=size.upper), fit, 1000)
    lower = from_table(given(num_params=size.lower), fit, 1000)
    assert upper.bits.lower == pytest.approx(4e6, rel=1e-4)
    assert lower.bits.upper == pytest.approx(4e6, rel=1e-4)


def test_between_two_numbers_of_exposures_r_is_interpolated(fit: CapacityFit) -> None:
    found = from_table(given(num_params=2e6), fit, math.sqrt(100 * 1000))
    assert found.capacity_ratio.estimate == pytest.approx(math.sqrt(2), rel=1e-3)
    exposures = needed_exposures(given(num_params=2e6, bits=math.sqrt(2) * 2e6), fit).exposures
    assert exposures.estimate == pytest.approx(math.sqrt(100 * 1000), rel=1e-2)
    assert exposures.lower < exposures.estimate < exposures.upper


def test_hours_determine_the_largest_model(fit: CapacityFit) -> None:
    flops = 6 * 2e6 * 1000 * 1.5 * 4e6
    found = from_table(given(hours=10, flops_per_hour=flops / 10), fit, 1000)
    assert found.num_params.estimate == pytest.approx(2e6, rel=1e-3)
    assert found.gpu_hours.estimate == pytest.approx(10)
    paper = forecasts(given(hours=10, flops_per_hour=flops / 10), fit, "GPT2", "trained")[1]
    assert (paper.source, paper.gpu_hours.estimate) == ("paper", pytest.approx(10))
    assert paper.num_params.estimate == pytest.approx(2e6)


def test_hours_are_compared_with_the_cost_if_the_model_is_known(fit: CapacityFit) -> None:
    flops = 6 * 2e6 * 1000 * 1.5 * 4e6
    for hours, verdict in ((11, "fits into 11"), (9, "does not fit into 9")):
        found = from_table(given(num_params=2e6, hours=hours, flops_per_hour=flops / 10), fit, 1000)
        assert verdict in found.notes[-1]


@pytest.mark.parametrize(
    ("bits", "verdict"), [(3e6, "Enough"), (4.5e6, "Too small"), (4.001e6, "Undecided")]
)
def test_given_parameters_and_exposures_are_compared_with_the_bits(
    fit: CapacityFit, bits: float, verdict: str
) -> None:
    found = from_table(given(num_params=2e6, bits=bits), fit, 1000)
    assert found.notes[0].startswith(verdict)


def test_outside_of_the_fit_it_is_said_how_far(fit: CapacityFit) -> None:
    found = from_table(given(num_params=8e6), fit, 1000)
    assert not found.refused
    assert found.outside_factor == pytest.approx(2)
    (note,) = found.notes
    assert note == (
        "Extrapolated: 8,000,000 parameters lie outside of the models of this fit "
        "(1,000,000 to 4,000,000 parameters), 2 times."
    )


@pytest.mark.parametrize(
    ("numbers", "exposures", "message"),
    [
        ({"num_params": 2e7}, 1000, "2e7 parameters are 5 times above the largest of this fit"),
        ({"num_params": 2e5}, 1000, "200,000 parameters are 5 times below the smallest"),
        ({"num_params": 2e6}, 5000, "5,000 exposures are 5 times above the largest of this fit"),
        ({"num_params": 2e6}, 10, "10 exposures are 10 times below the smallest of this fit"),
        ({"bits": 14e9}, 1000, "1.4e10 bits are 438 times above the largest that this fit can"),
        ({"bits": 1e3}, 1000, "1,000 bits are 500 times below the smallest that this fit can"),
    ],
)
def test_far_outside_of_the_fit_nothing_is_predicted(
    fit: CapacityFit, numbers: dict[str, float], exposures: float, message: str
) -> None:
    found = from_table(given(**numbers), fit, exposures)
    assert message in found.refused
    assert math.isnan(found.capacity_ratio.estimate)
    assert "not predicted" in forecasts_text([found], None)


def test_the_paper_s_numbers_stand_beside_and_never_in_place(fit: CapacityFit) -> None:
    found = forecasts(given(bits=14e9), fit, "GPT2", "trained")
    assert [(each.source, each.exposures.estimate) for each in found] == [
        ("table", 1000), ("paper", 1000), ("table", 100), ("paper", 100),
    ]  # fmt: skip
    assert [each.num_params.estimate for each in found[1::2]] == [7e9, 14e9]
    assert all(each.refused for each in found[::2])


def test_where_the_paper_states_nothing_it_has_no_row(fit: CapacityFit) -> None:
    for numbers, precision in (({"exposures": 300.0}, "trained"), ({"exposures": 100.0}, "int4")):
        (only,) = forecasts(given(num_params=2e6, **numbers), fit, "GPT2", precision)
        assert only.source == "table"


def test_exposures_that_neither_reaches_are_refused(fit: CapacityFit) -> None:
    table, paper = forecasts(given(bits=9e6, num_params=2e6), fit, "GPT2", "trained")
    assert "9,000,000 bits are 2.25 times above the largest that this fit can" in table.refused
    assert "4.5 bits per parameter are more than" in paper.refused


def test_the_paper_states_only_some_numbers() -> None:
    assert paper_ratio(1000, "GPT2", "trained") == 2
    assert paper_ratio(1000, "LLaMA", "int8") == 2
    assert paper_ratio(100, "Mistral", "trained") == pytest.approx(1 / 1.3)
    assert paper_ratio(1000, "GPT2", "int4") == 0.7
    assert paper_ratio(100, "GPT2", "int4") is None
    assert paper_ratio(300, "GPT2", "trained") is None
    assert paper_ratio(1000, "GPT2", "int4_rtn") is None


def test_quantised_weights_keep_the_share_of_law_8(sim: Simulator) -> None:
    models = quantization(sim).assign(max_capacity_ratio=2.6)
    table = table_of({1: models[models["precision"] == "trained"], 8: models})
    trained, kept = (fit_capacity(table, "GPT2", name) for name in ("trained", "int4"))
    size = np.asarray(1.5e6)
    ratio = np.exp(kept.log_ratio(size, 1000).mean - trained.log_ratio(size, 1000).mean)
    assert float(ratio) == pytest.approx(0.4, rel=0.02)
    with pytest.raises(UserError, match="R in int4_awq, relative to R as trained, at 1,000"):
        fit_capacity(table, "GPT2", "int4_awq")


def test_a_kept_share_is_that_of_its_exposures_or_else_of_1000(sim: Simulator) -> None:
    frequent, rare = (
        quantization(sim).assign(max_capacity_ratio=2.6, exposures=exposures)
        for exposures in (1000, 100)
    )
    for quantised_rare, measured_at in ((rare, 100), (rare[rare["precision"] == "trained"], 1000)):
        models = pd.concat([frequent, quantised_rare])
        table = table_of({1: models[models["precision"] == "trained"], 8: models})
        level, _ = fit_capacity(table, "GPT2", "int4").levels
        assert (level.exposures, level.factors[0].exposures) == (100, measured_at)


def test_a_family_is_relative_to_gpt2(sim: Simulator) -> None:
    models = architectures(sim).assign(max_capacity_ratio=2.6)
    gpt2 = models[models["family"] == "GPT2"]
    table = table_of({1: pd.concat([gpt2]), 5: models})
    found = fit_capacity(table, "LLaMA", "trained").log_ratio(np.asarray(1.5e6), 1000)
    assert float(np.exp(found.mean)) == pytest.approx(1.9 * 0.97, rel=0.02)
    with pytest.raises(UserError, match="R of LLaMA, relative to GPT2 of equal size, at 1,000"):
        fit_capacity(table_of({1: gpt2}), "LLaMA", "trained")


def test_a_table_without_fits_is_refused(sim: Simulator) -> None:
    one = sim.models([2.0], max_ratio=2.6)
    with pytest.raises(UserError, match="1 of the 2 cells that a prediction needs"):
        fit_capacity(table_of({1: one}), "GPT2", "trained")
    with pytest.raises(UserError, match="no experiment of the table informs law 1 or 4"):
        fit_capacity(table_of({8: one}), "GPT2", "trained")
    worse = grid(sim, -0.1, max_ratio=2.6)
    with pytest.raises(UserError, match="a cell is not positive"):
        fit_capacity(table_of({1: worse}), "GPT2", "trained")


def test_a_scale_is_chosen_by_name(sim: Simulator) -> None:
    table = table_of({1: base(sim)}, scale="large")
    assert fit_capacity(table, "GPT2", "trained", "large").scale == "large"
    with pytest.raises(UserError, match="no scale 'small': the table has 'large'"):
        fit_capacity(table, "GPT2", "trained", "small")


def test_with_two_cells_r_is_equal_at_all_sizes() -> None:
    cells = pd.DataFrame({"value": [1.9, 2.1], "num_params": [1e6, 2e6]})
    level = LevelFit(1000, cells)
    assert not level.has_trend
    small, large = level.log_ratio(np.array([1e6, 2e6])).mean
    assert small == large
    assert level.allowed_sizes == (5e5, 4e6)


def test_nearly_all_of_a_corpus_has_the_share_of_law_1(sim: Simulator) -> None:
    assert QUANTITY in {each.name for each in base_law.LAW.quantities}
    paper, table = nearly_all(table_of({1: base(sim)}), "simulated", 1.8e6)
    assert "models of 1,000,000 parameters (1.8 bits per parameter)" in paper
    assert "share of 0.97" in table
    missing = list(nearly_all(table_of({1: grid(sim, 2.0)}), "simulated", 1.8e6))
    assert missing[1] == "The measurements have too few such models."


def test_crossings_are_interpolated_in_logarithms() -> None:
    grid_, values = [1.0, 10.0, 100.0], [1.0, 10.0, 1000.0]
    assert crossing(grid_, values, 100.0) == pytest.approx(10**1.5)
    assert crossing(grid_, values, 1.0) == 1.0
    assert crossing(grid_, values, 0.5) == 0.0
    assert crossing(grid_, values, 2000.0) == math.inf


@pytest.mark.parametrize(
    ("number", "text"),
    [(2.0567, "2.06"), (33824, "33,800"), (14e9, "1.4e10"), (0.00012, "1.2e-4"), (0.0, "0")],
)
def test_numbers_have_three_digits(number: float, text: str) -> None:
    assert number_text(number) == text
