"""Worlds in which a former rule gave a wrong verdict, and the present one does not.

Each world is a fault that was found in the first verdicts on a real study.
"""

from __future__ import annotations

import math

import pandas as pd

from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.claims import equal, times_lower
from knowcap.capacity.laws.definitions import Result, combine_verdicts
from knowcap.capacity.laws.preconditions import LowVarianceInflation
from knowcap.capacity.laws.verdicts import judge
from knowcap.capacity.table_columns import BIOD_SHAPE
from tests.capacity.laws import former_rules
from tests.capacity.laws.simulated_models import VALUE_SHARE, Simulator
from tests.capacity.laws.synthetic_studies import (
    EXPERTS,
    LLAMA,
    SIZES,
    STUDIES,
    architectures,
    base,
    gated_mlp,
    grid,
    mixed,
    quantization,
    rare,
)

EQUAL = (0.85, 1.15)
"""Former accepted range of equality."""


def judged(law: int, models: pd.DataFrame) -> tuple[str, dict[str, Result]]:
    results = judge(LAWS[law - 1], models)
    verdict = combine_verdicts([r.verdict for r in results if r.quantity.primary])
    return verdict, {result.quantity.name: result for result in results}


def failed(results: dict[str, Result], name: str) -> list[str]:
    return [check.name for check in results[name].failed]


def test_a_secondary_quantity_does_not_turn_a_law(sim: Simulator) -> None:
    """Two bits per parameter, but deeper models of equal size store less."""
    deep = grid(sim, 1.4, num_layers=8, model="deep", max_ratio=2.6)
    models = pd.concat([base(sim), deep.assign(num_params=1_050_000)])
    models = models[~((models["model"] == "deep") & (models["hidden_size"] > 128))]
    shallow = models[(models["model"] == "model 0") & (models["max_capacity_ratio"] > 2)]
    peak = former_rules.verdict(former_rules.peak(models), (1.9, math.inf))
    effect = former_rules.ratio(models[models["model"] == "deep"], shallow)
    depth = former_rules.verdict(effect, (0.9, 1.1))
    assert (peak, depth) == ("reproduced", "contradicted")
    assert former_rules.law([peak, depth]) == "contradicted"
    verdict, results = judged(1, models)
    assert verdict == "reproduced"
    depth_name = "R of deeper models, relative to shallower ones of equal P and R_max"
    assert results[depth_name].verdict == "contradicted"


def test_a_bound_of_arithmetic_is_not_a_verdict(sim: Simulator) -> None:
    """Junk costs nothing but the bits of names that arithmetic takes, 16 % of R."""
    models = mixed(sim, {100: 1.1}, 20)
    is_mixed = models["useful_share"] < 1
    models.loc[is_mixed, "capacity_ratio"] *= 0.84
    models["capacity_ratio_of_values"] = VALUE_SHARE * models["capacity_ratio"].where(
        ~is_mixed, models["capacity_ratio"] / 0.84
    )
    interval = former_rules.ratio(models[is_mixed], models[~is_mixed])
    assert former_rules.verdict(interval, (0.9, math.inf)) == "contradicted"
    verdict, _ = judged(11, models)
    assert verdict == "reproduced"
    names = {q.name for law in LAWS for q in law.quantities}
    assert not any("int8 storage" in name or "active for a token" in name for name in names)


def test_a_peak_is_not_read_where_r_rises_with_size(sim: Simulator) -> None:
    rising = [1.41, 1.63, 1.86, 2.06]
    models = pd.concat(
        [
            grid(sim, ratio, (10**6 * 3**index,), model=f"model {index}")
            for index, ratio in enumerate(rising)
        ]
    )
    assert former_rules.verdict(former_rules.peak(models), (1.9, math.inf)) == "reproduced"
    verdict, results = judged(1, models)
    assert verdict == "not testable here"
    assert failed(results, "R of the largest models") == ["plateau"]


def test_a_rate_at_the_end_of_the_range_is_no_evidence(sim: Simulator) -> None:
    """LLaMA stores as much as GPT2, at a learning rate that was not tried."""
    gpt2 = grid(sim, 1.0, exposures=100)
    llama = [
        grid(
            sim, ratio, exposures=100, family=family, rates=(0.55, 0.8, 1.0), **LLAMA, tied=False
        )
        for family, ratio in (("LLaMA", 0.77), ("Mistral", 0.77))
    ]  # fmt: skip
    interval = former_rules.ratio(llama[0], gpt2)
    assert former_rules.verdict(interval, (0.649, 0.889)) == "reproduced"
    verdict, results = judged(6, pd.concat([gpt2, *llama]))
    assert verdict == "not testable here"
    assert failed(results, "R of LLaMA, relative to GPT2 of equal size") == ["rate"]


def test_collinear_shapes_have_no_exponents(sim: Simulator) -> None:
    """R is lower where L is 2 or 3, and D = T^L in all shapes."""
    alphabets = {(64, 1): 1.9, (128, 1): 1.9, (256, 1): 1.9, (512, 1): 1.9, (8, 2): 0.5,
                 (16, 2): 0.9, (8, 3): 0.9}  # fmt: skip
    models = pd.concat(
        [
            grid(
                sim, ratio, kind="bioD", knowledge=f"bioD {alphabet} {length}", num_attributes=4,
                num_chunks=2, diversity=alphabet**length, chunk_length=length,
                alphabet_size=alphabet,
            )
            for (alphabet, length), ratio in alphabets.items()
        ]
    )  # fmt: skip
    varied = ["diversity", "chunk_length", "alphabet_size"]
    former = former_rules.exponents(models, varied)
    for name in ("diversity", "alphabet_size"):
        assert former_rules.verdict(former[name], (-0.05, 0.05)) == "contradicted"
    verdict, results = judged(3, models)
    for letter in "DLT":
        result = results[f"factor on R when {letter} is 4 times larger"]
        assert result.verdict == "not testable here"
        assert "VIF" in [check.name for check in result.failed]
    assert verdict != "contradicted"
    assert LowVarianceInflation("diversity", BIOD_SHAPE[3:]).limit == 10


def test_an_interaction_does_not_hide_the_effect_of_the_gate(sim: Simulator) -> None:
    """The gate costs 1.3 times in LLaMA, as the paper says, and helps with GELU."""
    models = gated_mlp(sim, with_gelu=1.25)
    models = models[models["tokenizer"] == "GPT2"]
    indicators = models.assign(
        gate=models["gated"], silu=models["activation"] == "silu",
        rms=models["normalization"] == "RMSNorm",
    )  # fmt: skip
    interval = former_rules.main_effect(indicators, "gate", ["silu", "rms"])
    assert former_rules.verdict(interval, (0.649, 0.889)) == "contradicted"
    verdict, results = judged(7, models)
    assert verdict == "reproduced"
    interaction = "factor of the gated MLP with SiLU instead of GELU, relative to without"
    assert results[interaction].verdict == "contradicted"


def test_nothing_is_interpolated_across_the_kink(sim: Simulator) -> None:
    """All store 1.9, but the larger GPT2 has a corpus of 1.2 bits per parameter only."""
    small = grid(sim, 1.9, (1_000_000,), max_ratio=2.4)
    large = grid(sim, 1.2, (2_000_000,), max_ratio=1.2, model="large")
    other = grid(sim, 1.9, (1_180_000,), family="LLaMA", max_ratio=2.03, model="other", tied=False)
    pair = [frame[frame["population_seed"] == 0] for frame in (other, small, large)]
    interval = former_rules.interpolated_ratio(pair[0], pd.concat(pair[1:]))
    assert former_rules.verdict(interval, (1 / 1.05, 1.05)) == "contradicted"
    _, results = judged(5, pd.concat([small, large, other]))
    result = results["R of LLaMA, relative to GPT2 of equal size"]
    assert result.verdict == "not testable here"
    assert failed(results, result.quantity.name) == ["sizes", "equal size"]
    assert abs(result.estimate.value - 1) < 0.03


def test_experts_are_compared_with_dense_models_of_their_size(sim: Simulator) -> None:
    """At equal size experts store 1.3 times less; larger dense models store more."""
    dense = pd.concat(
        [
            grid(sim, ratio, (size,), model=f"dense {size}")
            for size, ratio in ((1_000_000, 1.5), (2_000_000, 1.7), (8_000_000, 2.3))
        ]
    )
    experts = pd.concat(
        [
            grid(sim, ratio / 1.3, (size,), model=f"experts {size}", **EXPERTS)
            for size, ratio in ((1_000_000, 1.5), (2_000_000, 1.7))
        ]
    )
    ratio = [
        top / base_
        for top, base_ in zip(
            former_rules.peak(experts), former_rules.peak(dense)[::-1], strict=True
        )
    ]
    assert former_rules.verdict((ratio[0], ratio[1]), (0.619, 0.919)) == "contradicted"
    _, results = judged(9, pd.concat([dense, experts]))
    name = "R of mixtures of experts, relative to dense models of equal size, E = 1000"
    assert results[name].verdict == "reproduced"


def test_experts_without_a_dense_model_of_their_size_are_not_judged(sim: Simulator) -> None:
    dense = grid(sim, 2.0, (1_000_000, 10_000_000))
    experts = grid(sim, 1.0, (3_000_000, 30_000_000), **EXPERTS)
    _, results = judged(9, pd.concat([dense, experts]))
    name = "R of mixtures of experts, relative to dense models of equal size, E = 1000"
    assert results[name].verdict == "not testable here"
    assert "equal size" in failed(results, name)


def test_a_margin_does_not_accept_twice_the_effect(sim: Simulator) -> None:
    """100 exposures store nearly four times less than 1000 exposures, not two times."""
    models = rare(sim, 0.54)
    rarely, often = (models[models["exposures"] == exposures] for exposures in (100, 1000))
    interval = former_rules.ratio(rarely, often)
    assert former_rules.verdict(interval, (0.25, 0.75)) == "reproduced"
    assert judged(4, models)[0] == "contradicted"
    assert times_lower(2).lower > 1 / 4


def test_one_cell_is_no_law(sim: Simulator) -> None:
    """On average over cells there is no effect, but the only cell that was trained has one."""
    sim.noise, sim.num_seeds = 0.005, 8
    one = grid(sim, 1.6, (SIZES[0],), family="GPT2_0")
    gpt2 = grid(sim, 1.9, (SIZES[0],))
    interval = former_rules.ratio(one, gpt2)
    assert former_rules.verdict(interval, EQUAL) == "contradicted"
    name = "R of GPT2 without MLPs, relative to GPT2 of equal size"
    assert judged(5, pd.concat([one, gpt2]))[1][name].verdict == "not testable here"
    other = grid(sim, 2.2, (SIZES[1],), family="GPT2_0", model="larger")
    more = grid(sim, 1.9, (SIZES[1],), model="larger")
    assert judged(5, pd.concat([one, gpt2, other, more]))[1][name].verdict == "inconclusive"


def test_the_best_of_many_rates_is_not_luck(sim: Simulator) -> None:
    """Both families store the same, but one is tried at twenty equal rates, with much noise."""
    sim.noise, sim.num_seeds = 0.25, 8
    sizes = tuple(10**6 * 2**index for index in range(6))
    name = "R of GPT2 without MLPs, relative to GPT2 of equal size"
    many = grid(sim, 1.9, sizes, rates=(1.0,) * 20, family="GPT2_0")
    few = grid(sim, 1.9, sizes, rates=(0.3, 1.0, 0.3))
    interval = former_rules.ratio(many, few)
    assert former_rules.verdict(interval, (0.95, 1.05)) == "contradicted"
    result = judged(5, pd.concat([many, few]))[1][name]
    assert result.verdict != "contradicted"
    assert result.estimate.lower < 1 < result.estimate.upper


def test_replicates_are_not_dropped_where_cells_have_different_numbers(sim: Simulator) -> None:
    """The kept fraction of a model with eight seeds does not depend on another with four."""
    models = quantization(sim)
    is_large = models["num_params"] == SIZES[1]
    unlucky = (models["seed"] >= 2) & ~is_large & (models["precision"] == "int4")
    models.loc[unlucky, "capacity_ratio"] *= 0.9
    models = models[~is_large | (models["seed"] < 2)]
    is_large = models["num_params"] == SIZES[1]
    kept = models["precision"] == "int4"
    first_two = models[kept & ~is_large & (models["seed"] < 2)]["capacity_ratio"].mean()
    all_seeds = models[kept & ~is_large]["capacity_ratio"].mean()
    assert all_seeds < 0.97 * first_two  # what the former rule dropped
    result = judged(8, models)[1]["R in int4, relative to R as trained"]
    assert result.estimate.coverage.min_seeds == 2
    assert result.estimate.value < 0.97 * 0.4 + 0.01


def test_an_average_of_sizes_that_differ_is_no_result(sim: Simulator) -> None:
    models = quantization(sim)
    for size, share in zip(SIZES, (0.6, 0.3), strict=True):
        chosen = (models["num_params"] == size) & (models["precision"] == "int4")
        models.loc[chosen, "capacity_ratio"] *= share / 0.4
    kept, trained = (models[models["precision"] == precision] for precision in ("int4", "trained"))
    lower, upper = former_rules.over_seeds(
        former_rules.seeds_at_best_rate(kept) / former_rules.seeds_at_best_rate(trained)
    )
    assert former_rules.verdict((lower, upper), (-math.inf, 0.55)) == "reproduced"
    verdict, results = judged(8, models)
    assert verdict == "not testable here"
    assert failed(results, "R in int4, relative to R as trained") == ["sizes agree"]


def test_equal_architectures_are_not_called_worse(sim: Simulator) -> None:
    """The claim of 1.3 times is contradicted where there is no effect."""
    models = architectures(sim).assign(exposures=100)
    models["capacity_ratio"] *= 0.6
    assert judged(6, models)[0] == "contradicted"
    assert equal().upper < 1.3
    assert STUDIES[6][1] > 1
