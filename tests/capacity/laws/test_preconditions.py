"""Every precondition computes its number and is met exactly up to its limit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.claims import EQUAL_FACTOR
from knowcap.capacity.laws.preconditions import (
    BaselineReaches,
    EffectToExplain,
    EnoughSteps,
    EnoughTokensPerExpert,
    EqualSize,
    FewJunkPeople,
    InteriorRate,
    LowVarianceInflation,
    ManyNames,
    Plateau,
    Precondition,
    SeveralSizes,
    SeveralWordings,
    SizesAgree,
)

CASES: list[tuple[Precondition, dict[str, Any], float, bool]] = [
    (SeveralSizes(), {"num_params": [1000, 1190]}, 1, False),
    (SeveralSizes(), {"num_params": [1000, 1200]}, 2, True),
    (SeveralSizes(3), {"num_params": [1000, 2000]}, 2, False),
    (SeveralSizes(), {"num_params": [1000, 2000], "num_params_baseline": [900, 900]}, 1, False),
    (Plateau(), {"num_params": [1000, 2000], "value": [2.0, 2.1]}, 1.05, True),
    (Plateau(), {"num_params": [1000, 2000], "value": [1.86, 2.06]}, 1.108, False),
    (Plateau(), {"num_params": [1000, 2000, 2000], "value": [2.0, 2.1, 2.3]}, 1.1, False),
    (Plateau(), {"num_params": [1000], "value": [2.0]}, math.nan, False),
    (BaselineReaches(1.0), {"capacity_ratio_baseline": [0.9, 1.2]}, 1.05, True),
    (BaselineReaches(1.0), {"capacity_ratio_baseline": [0.9, 1.0]}, 0.95, False),
    (InteriorRate(), {"edge_loss": [1.0, 1.1], "num_rates": [3, 3]}, 1.1, True),
    (InteriorRate(), {"edge_loss": [1.0], "edge_loss_baseline": [1.2]}, 1.2, False),
    (InteriorRate(), {"edge_loss": [1.0, math.inf], "num_rates": [3, 1]}, math.inf, False),
    (EqualSize(), {"num_params": [1000, 990], "num_params_baseline": [1000, 900]}, 1.1, True),
    (EqualSize(), {"num_params": [800], "num_params_baseline": [1000]}, 1.25, False),
    (ManyNames(), {"num_names": [10_000], "num_people": [100]}, 100, True),
    (ManyNames(), {"num_names": [512], "num_people": [95]}, 5.389, False),
    (EnoughSteps(), {"num_params": [8e5], "train_iters": [49_999]}, 49_999, False),
    (EnoughSteps(), {"num_params": [8e5], "train_iters": [50_000]}, 50_000, True),
    (EnoughSteps(), {"num_params": [4000], "train_iters": [30_000]}, 30_000, True),
    (
        EnoughSteps(),
        {"num_params": [4000], "train_iters": [40_000], "train_iters_baseline": [6250]},
        6250,
        False,
    ),
    (EnoughTokensPerExpert(), {"tokens_per_step": [4096], "num_moe_experts": [32]}, 128, True),
    (EnoughTokensPerExpert(), {"tokens_per_step": [64], "num_moe_experts": [32]}, 2, False),
    (SeveralWordings(), {"num_wordings": [50, 1]}, 1, False),
    (SeveralWordings(), {"num_wordings": [50]}, 50, True),
    (SizesAgree(), {"num_params": [1000, 3000], "value": [0.40, 0.5]}, 1.25, True),
    (SizesAgree(), {"num_params": [8, 16, 32], "value": [0.57, 0.46, 0.23]}, 2.478, False),
    (SizesAgree(), {"num_params": [1000, 3000], "value": [0.4, -0.1]}, math.inf, False),
    (EffectToExplain("loss"), {"effect_to_explain": [0.77]}, 0.77, True),
    (EffectToExplain("loss"), {"effect_to_explain": [1.2]}, 1.2, False),
    (EffectToExplain("loss"), {"effect_to_explain": [math.nan]}, math.nan, False),
    (FewJunkPeople(), {"num_people": [500], "num_junk_people": [10]}, 50, True),
    (FewJunkPeople(), {"num_people": [125], "num_junk_people": [10]}, 12.5, False),
]


@pytest.mark.parametrize(("precondition", "columns", "value", "passed"), CASES)
def test_a_precondition_compares_its_number_with_its_limit(
    precondition: Precondition, columns: dict[str, Any], value: float, passed: bool
) -> None:
    check = precondition.check(pd.DataFrame(columns))
    assert check.value == pytest.approx(value, rel=1e-3, nan_ok=True)
    assert check.passed == passed
    assert check.name == precondition.name
    assert f"{check.relation} " in str(check)


def test_every_precondition_of_a_law_is_tested_above() -> None:
    used = {
        type(each) for law in LAWS for quantity in law.quantities for each in quantity.preconditions
    }
    tested = {type(precondition) for precondition, *_ in CASES} | {LowVarianceInflation}
    assert used == tested


SHAPE = ("diversity", "chunk_length", "alphabet_size")


def shapes(values: list[tuple[int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=list(SHAPE))


def test_parameters_that_vary_independently_have_low_variance_inflation() -> None:
    crossed = list(itertools.product((16, 64), (2, 4), (32, 128)))
    check = LowVarianceInflation(SHAPE[0], SHAPE[1:]).check(shapes(crossed))
    assert check.value == pytest.approx(1.0)
    assert check.passed


def test_a_diversity_of_all_strings_is_refused_as_collinear() -> None:
    all_strings = [
        (t**length, length, t) for t, length in ((64, 1), (128, 1), (8, 2), (16, 2), (8, 3))
    ]
    for name in SHAPE:
        others = tuple(other for other in SHAPE if other != name)
        check = LowVarianceInflation(name, others).check(shapes(all_strings))
        assert check.value > 10
        assert not check.passed


@pytest.mark.parametrize(
    ("edge_losses", "num_rates", "beginning"),
    [
        ([1.0, 1.0], [3, 3], "the best learning rate of 0 of 2 models lies at an end of the tried"),
        ([1.0, 1.2], [3, 3], "the best learning rate of 1 of 2 models lies at an end of the tried"),
        (
            [1.2],
            [3],
            "the best learning rate of 1 of 1 model lies at an end of the tried range, so",
        ),
        ([math.inf], [1], "may lie outside (only one was tried, so the ratio is infinite); "),
        ([math.inf, math.inf], [1, 1], "(for 2 of them only one was tried, so the ratio is"),
    ],
)
def test_models_whose_best_learning_rate_is_at_an_end_are_counted(
    edge_losses: list[float], num_rates: list[int], beginning: str
) -> None:
    cells = pd.DataFrame({"edge_loss": edge_losses, "num_rates": num_rates})
    text = str(InteriorRate().check(cells))
    assert beginning in text
    assert ("a better one may lie outside" in text) == (max(edge_losses) > 1)
    assert "; largest R at an end of the tried learning rates, relative to R at the next" in text


def test_the_limits_are_the_documented_ones() -> None:
    assert InteriorRate().limit == EQUAL_FACTOR
    assert np.isclose(EffectToExplain("loss").limit, 1 / EQUAL_FACTOR)
