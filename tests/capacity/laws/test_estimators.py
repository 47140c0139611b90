"""Estimators recover the true value, and their intervals cover it with probability 0.95."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from knowcap.capacity.laws.definitions import Estimate
from knowcap.capacity.laws.estimators import (
    best_model_mean,
    mean_ratio_of_peaks,
    paired_ratio,
    ratio_of_peaks,
    retained_fraction,
    size_matched_ratio,
)
from knowcap.capacity.laws.regressions import (
    exposure_asymptote,
    indicator_effect,
    log_log_slope,
    quantile_slope,
)
from tests.capacity.laws.simulated_models import Simulator

PAIR_COLUMNS = ["knowledge", "model", "num_params"]
SIZES = np.geomspace(1e5, 1e7, 7).round()
DEPTHS = np.array([2, 4, 8, 2, 4, 8, 16])


def quantized(sim: Simulator, share: float, rates: tuple[float, ...] = (1.0,)) -> pd.DataFrame:
    """Three models as trained, and quantised with a share of the capacity of each training."""
    trained = sim.models([2.0, 1.8, 1.5], rates=rates)
    noise = 1 + sim.noise * sim.rng.standard_normal(len(trained))
    stored = trained.assign(
        precision="int4",
        measurement=trained["run"] + "/int4",
        capacity_ratio=trained["capacity_ratio"] * share * noise,
    )
    return pd.concat([trained, stored])


def with_indicators(sim: Simulator) -> pd.DataFrame:
    """Two sizes, each with two indicators in three of their four states."""
    states = [(0, 0), (1, 0), (0, 1)] * 2
    sizes = np.repeat([2, 4], 3)
    ratios = [0.7**gate * 1.1**norm * (1 if size == 2 else 0.9)
              for (gate, norm), size in zip(states, sizes, strict=True)]  # fmt: skip
    gates, norms = zip(*states, strict=True)
    return sim.models(ratios, num_layers=sizes, gate=gates, norm=norms)


def by_exposures(sim: Simulator, limit: float) -> pd.DataFrame:
    """One model with increasing exposures."""
    exposures = np.array([30, 100, 300, 1000, 3000, 10000])
    ratios = limit / (1 + (150 / exposures) ** 1.2)
    return sim.models(list(ratios), exposures=exposures, model="GPT2")


CASES: dict[str, tuple[float, Callable[[Simulator], Estimate]]] = {
    "the highest model": (
        2.0,
        lambda sim: best_model_mean(sim.models([1.5, 1.7, 2.0, 1.8]), "capacity_ratio", "highest"),
    ),
    "the highest of equal models": (
        2.0,
        lambda sim: best_model_mean(sim.models([2.0] * 6), "capacity_ratio", "highest"),
    ),
    "the highest of nearly equal models at several learning rates": (
        2.0,
        lambda sim: best_model_mean(
            sim.models([2.0, 1.98, 1.96, 1.9], rates=(0.9, 1.0, 0.99)), "capacity_ratio", "highest"
        ),
    ),
    "the lowest model, each at its best learning rate": (
        0.9,
        lambda sim: best_model_mean(
            sim.models([0.95, 0.9, 0.97], rates=(0.7, 1.0)), "capacity_ratio", "lowest"
        ),
    ),
    "a ratio of peaks": (
        0.5,
        lambda sim: ratio_of_peaks(
            sim.models([0.5, 0.9, 1.0]), sim.models([1.9, 2.0, 1.8]), "capacity_ratio"
        ),
    ),
    "a ratio of paired models": (
        0.5,
        lambda sim: paired_ratio(
            sim.models([0.5, 0.9, 1.0]), sim.models([1.0, 1.8, 2.0]), "capacity_ratio", PAIR_COLUMNS
        ),
    ),
    "an exponent": (
        1.1,
        lambda sim: log_log_slope(
            sim.models(2 * (SIZES / 1e5) ** 0.1, num_params=SIZES, rates=(0.9, 1.0)),
            "bits",
            ["num_params"],
        ),
    ),
    "an effect at equal size": (
        0.05,
        lambda sim: log_log_slope(
            sim.models(
                2 * DEPTHS**0.05, num_params=SIZES, num_layers=DEPTHS,
                max_ratio=2 + np.arange(7) % 3,
            ),
            "capacity_ratio",
            ["num_layers", "num_params", "max_capacity_ratio"],
        ),
    ),
    "the lowest of the highest models of groups": (
        1.7,
        lambda sim: best_model_mean(
            sim.models([2.0, 1.7, 1.5, 1.9], shape=[0, 1, 1, 0], rates=(0.9, 1.0)),
            "capacity_ratio", "lowest", of="shape",
        ),
    ),
    "a mean ratio of peaks": (
        0.4,
        lambda sim: mean_ratio_of_peaks(
            sim.models([0.5, 1.0, 0.6, 0.1], knowledge=["a", "a", "b", "c"]),
            sim.models([2.0, 1.8, 2.0], knowledge=["a", "b", "b"]),
            "capacity_ratio", "knowledge",
        ),
    ),
    "a ratio at equal size": (
        0.8,
        lambda sim: size_matched_ratio(
            sim.models([1.6 * 2**-0.5, 0.2], num_params=[200_000, 9_000_000], rates=(0.7, 1.0)),
            sim.models([2.0, 1.0], num_params=[100_000, 400_000]),
            "capacity_ratio", ["knowledge"],
        ),
    ),
    "a retained fraction": (
        0.4,
        lambda sim: retained_fraction(quantized(sim, 0.4, (0.9, 1.0)), "int4", "capacity_ratio"),
    ),
    "a negative retained fraction": (
        -0.3,
        lambda sim: retained_fraction(quantized(sim, -0.3), "int4", "capacity_ratio"),
    ),
    "an effect of an indicator": (
        0.7,
        lambda sim: indicator_effect(
            with_indicators(sim), "capacity_ratio", "gate", ["gate", "norm"],
            ["knowledge", "num_layers"],
        ),
    ),
    "an asymptote": (
        2.0 / (2.0 / (1 + 0.15**1.2)),
        lambda sim: exposure_asymptote(
            by_exposures(sim, 2.0), "capacity_ratio", 1000, ["knowledge", "model", "num_params"]
        ),
    ),
    "a slope of a quantile": (
        2.0,
        lambda sim: quantile_slope(
            sim.models(
                [2.0, 1.6, 2.0, 1.7, 2.0, 1.5, 2.0, 2.0], num_params=np.geomspace(1e5, 1e6, 8)
            ),
            0.9,
        ),
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize(("truth", "estimate"), CASES.values(), ids=CASES)


@every_case
def test_without_noise_the_true_value_is_recovered(
    sim: Simulator, truth: float, estimate: Callable[[Simulator], Estimate]
) -> None:
    sim.noise = 1e-9
    found = estimate(sim)
    assert found.value == pytest.approx(truth, rel=1e-6)
    assert found.status == "ok"


@pytest.mark.parametrize(
    ("case", "truth", "estimate"), [(name, *case) for name, case in CASES.items()], ids=CASES
)
def test_intervals_cover_the_true_value_with_their_probability(
    sim: Simulator,
    case: str,
    truth: float,
    estimate: Callable[[Simulator], Estimate],
) -> None:
    simulations = [estimate(sim) for _ in range(200)]
    covered = np.mean([found.lower <= truth <= found.upper for found in simulations])
    # The covered share of 200 intervals has a standard deviation of 1.5 %; allow three of them.
    assert covered >= 0.95 - 0.046
    # The interval of a mean over groups is conservative.
    assert covered <= 0.95 + 0.046 or case == "a mean ratio of peaks"


@every_case
def test_one_seed_gives_a_value_and_no_interval(
    sim: Simulator, truth: float, estimate: Callable[[Simulator], Estimate]
) -> None:
    sim.num_seeds, sim.noise = 1, 1e-9
    found = estimate(sim)
    assert found.status == "one seed"
    assert found.value == pytest.approx(truth, rel=1e-6)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)


@every_case
def test_no_models_give_no_value(
    sim: Simulator, truth: float, estimate: Callable[[Simulator], Estimate]
) -> None:
    complete = sim.models
    sim.models = lambda *args, **kwargs: complete(*args, **kwargs).iloc[:0]  # type: ignore[method-assign]
    found = estimate(sim)
    assert found.status == "no data"
    assert math.isnan(found.value)


def test_the_highest_of_equal_models_is_not_biased_by_selection(sim: Simulator) -> None:
    sim.noise = 0.1
    simulations = [
        best_model_mean(sim.models([2.0] * 20), "capacity_ratio", "highest").value
        for _ in range(100)
    ]
    # The plain mean of the highest of 20 would be 2 + 1.87 * 0.1 * 2 / sqrt(4) = 2.19.
    error = np.std(simulations) / math.sqrt(len(simulations))
    assert np.mean(simulations) == pytest.approx(2.0, abs=3 * error)


def test_a_model_with_fewer_seeds_competes(sim: Simulator) -> None:
    models = sim.models([1.5, 2.0])
    models = models[~((models["measurement"] == "m1/trained") & (models["seed"] == 3))]
    found = best_model_mean(models, "capacity_ratio", "highest")
    best = models[models["measurement"] == "m1/trained"]["capacity_ratio"]
    # For the seed that it does not have, the other model is not used in its place.
    assert found.num_seeds == 3
    assert found.value == pytest.approx(best.mean())
    assert found.lower < best.mean() < found.upper


def test_there_is_no_ratio_to_a_negative_capacity(sim: Simulator) -> None:
    low, high = sim.models([-0.5]), sim.models([2.0])
    assert ratio_of_peaks(high, low, "capacity_ratio").status == "not positive"
    assert size_matched_ratio(low, high, "capacity_ratio", ["knowledge"]).status == "not positive"
    assert paired_ratio(low, high, "capacity_ratio", PAIR_COLUMNS).status == "not positive"
    assert log_log_slope(low, "bits", ["num_params"]).status == "not positive"


@pytest.mark.parametrize("peak", [-0.2, 0.0, 0.02])
def test_a_ratio_near_zero_has_an_interval(sim: Simulator, peak: float) -> None:
    covered = []
    for _ in range(200):
        low, high = sim.models([0.0]), sim.models([2.0])
        low["capacity_ratio"] = peak + 0.05 * sim.rng.standard_normal(len(low))
        found = ratio_of_peaks(low, high, "capacity_ratio")
        covered.append(found.lower <= peak / 2 <= found.upper)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.046)


def test_models_of_other_sizes_are_not_compared(sim: Simulator) -> None:
    small, large = (
        sim.models([1.0], num_params=100_000),
        sim.models([1.0], num_params=106_000),
    )
    assert size_matched_ratio(large, small, "capacity_ratio", ["knowledge"]).status == "no data"
    near = sim.models([1.0], num_params=104_000)
    assert size_matched_ratio(near, small, "capacity_ratio", ["knowledge"]).status == "ok"


def test_two_equal_indicators_have_no_separate_effects(sim: Simulator) -> None:
    models = with_indicators(sim).assign(norm=lambda frame: frame["gate"])
    found = indicator_effect(models, "capacity_ratio", "gate", ["gate", "norm"], ["num_layers"])
    assert found.status == "too few models"


def test_three_numbers_of_exposures_have_no_asymptote(sim: Simulator) -> None:
    models = by_exposures(sim, 2.0)
    models = models[models["exposures"].isin([100, 300, 1000])]
    found = exposure_asymptote(models, "capacity_ratio", 1000, ["model"])
    assert found.status == "no data"


def test_equal_sizes_have_no_slope(sim: Simulator) -> None:
    same = sim.models([2.0] * 6, num_params=1_000_000)
    assert log_log_slope(same, "bits", ["num_params"]).status == "too few models"
    assert quantile_slope(same, 0.9).status == "too few models"


def test_collinear_columns_have_no_separate_slopes(sim: Simulator) -> None:
    models = sim.models([2.0] * 7, num_params=SIZES, num_layers=(SIZES / 1e4).astype(int))
    models["num_layers"] = models["num_params"]
    found = log_log_slope(models, "capacity_ratio", ["num_layers", "num_params"])
    assert found.status == "too few models"


def test_models_are_compared_at_their_best_learning_rates(sim: Simulator) -> None:
    sim.noise = 1e-9
    tuned, narrow = sim.models([1.0], rates=(0.3, 1.0, 0.6)), sim.models([2.0])
    found = paired_ratio(tuned, narrow, "capacity_ratio", PAIR_COLUMNS)
    assert found.value == pytest.approx(0.5, rel=1e-6)


def test_models_without_a_pair_are_not_compared(sim: Simulator) -> None:
    one, other = sim.models([1.0]), sim.models([2.0], num_params=2_000_000)
    assert paired_ratio(one, other, "capacity_ratio", PAIR_COLUMNS).status == "no data"


def test_a_model_with_fewer_seeds_can_be_the_highest() -> None:
    rng = np.random.default_rng(0)
    many = Simulator(rng, num_seeds=8).models([1.5, 1.8])
    few = Simulator(rng, num_seeds=4, num_made=2).models([2.0])
    found = best_model_mean(pd.concat([many, few]), "capacity_ratio", "highest")
    assert found.num_seeds == 4
    assert found.value == pytest.approx(few["capacity_ratio"].mean())
    assert 1.9 < found.lower < 2.0 < found.upper


def test_models_with_different_seeds_are_compared_by_their_means() -> None:
    values = {"a": [2.0, 2.1, np.nan, np.nan], "b": [np.nan, np.nan, 2.06, 2.02]}
    rows = [
        {"measurement": name, "lr": 1e-3, "seed": seed, "capacity_ratio": ratio}
        for name, ratios in values.items()
        for seed, ratio in enumerate(ratios)
    ]
    found = best_model_mean(pd.DataFrame(rows), "capacity_ratio", "highest")
    assert 2.0 <= found.value <= 2.1
    assert found.lower < found.value < found.upper
