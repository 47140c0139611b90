from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.claims import (
    Claim,
    at_least,
    equal,
    more_than_times_lower,
    position,
    times_lower,
)
from knowcap.capacity.laws.definitions import Quantity, Result, Verdict, combine_verdicts, deciding
from knowcap.capacity.laws.estimate import Estimate
from knowcap.capacity.laws.verdicts import holm, judge, verdict_of

FLOOR = at_least(2.0, 0.1, "for this test")
CEILING = more_than_times_lower(2.0)
NEAR = times_lower(1.3)


def estimate(lower: float, upper: float, *, is_log: bool = False) -> Estimate:
    """Estimate with nearly normal errors and a 95 % interval."""
    if is_log:
        lower, upper = math.log(lower), math.log(upper)
    return Estimate((lower + upper) / 2, (upper - lower) / 2 / 1.959964, 1e9, "ok", is_log)


@pytest.mark.parametrize(
    ("claim", "interval", "verdict"),
    [
        (FLOOR, (1.95, 2.05), "reproduced"),
        (FLOOR, (2.5, 9.0), "reproduced"),
        (FLOOR, (1.85, 1.95), "inconclusive"),
        (FLOOR, (1.70, 1.89), "contradicted"),
        (CEILING, (-9.0, 0.54), "reproduced"),
        (CEILING, (0.5, 0.6), "inconclusive"),
        (CEILING, (0.56, 0.6), "contradicted"),
        (NEAR, (0.70, 0.85), "reproduced"),
        (NEAR, (0.80, 0.90), "inconclusive"),
        (NEAR, (0.5, 1.5), "inconclusive"),
        (NEAR, (0.88, 1.02), "contradicted"),
        (NEAR, (0.5, 0.67), "contradicted"),
    ],
)
def test_the_verdict_depends_on_the_position_of_the_interval(
    claim: Claim, interval: tuple[float, float], verdict: Verdict
) -> None:
    for is_log in {False, interval[0] > 0}:
        found = estimate(*interval, is_log=is_log)
        assert (found.lower, found.upper) == pytest.approx(interval)
        assert verdict_of(claim, found) == verdict
        is_inside, is_partly = (
            "inside" in position(claim, found),
            "partly" in position(claim, found),
        )
        assert (is_inside and not is_partly) == (verdict == "reproduced")
        assert is_partly == (verdict == "inconclusive")


def test_an_estimate_without_an_interval_is_inconclusive() -> None:
    assert verdict_of(FLOOR, Estimate.without_interval("one seed", 0.1)) == "inconclusive"
    assert verdict_of(FLOOR, Estimate.without_interval("no data")) == "not run"


CLAIMS = [(law.number, q.name, q.claim) for law in LAWS for q in law.quantities]


@pytest.mark.parametrize(("number", "name", "claim"), CLAIMS)
def test_no_margin_accepts_no_effect_and_twice_the_effect(
    number: int, name: str, claim: Claim
) -> None:
    assert claim.lower <= claim.value <= claim.upper
    assert claim.reason
    if claim.effect == 1:
        return
    assert claim.upper < 1
    if math.isfinite(claim.lower):
        assert claim.lower > 1 / claim.effect**2
        # Twice the effect of a large factor is twice the factor.
        assert claim.effect <= 1.5 or claim.lower > 1 / (2 * claim.effect)


def test_equal_excludes_the_smallest_effect_of_the_paper() -> None:
    assert equal().lower > 1 / 1.3
    assert equal().upper < 1.3
    assert equal().lower == pytest.approx(times_lower(1.3).upper)


def test_an_exponent_becomes_a_factor() -> None:
    found = estimate(-0.5, 0.5).as_factor(4)
    assert (found.lower, found.value, found.upper) == pytest.approx((0.5, 1.0, 2.0))


@pytest.mark.parametrize(
    ("verdicts", "combined"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "contradicted"], "contradicted"),
        (["not testable here", "contradicted"], "contradicted"),
        (["reproduced", "not testable here"], "not testable here"),
        (["inconclusive", "not testable here"], "inconclusive"),
        (["reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "not run"], "inconclusive"),
        (["not testable here", "not run"], "not testable here"),
        (["not run", "not run"], "not run"),
    ],
)
def test_a_law_is_reproduced_if_all_primaries_are(
    verdicts: list[Verdict], combined: Verdict
) -> None:
    assert combine_verdicts(verdicts) == combined
    results = [result(index, verdict) for index, verdict in enumerate(verdicts)]
    decisive = deciding(results)
    assert decisive.verdict == combined or (combined, decisive.verdict) == (
        "inconclusive",
        "not run",
    )


def quantity(name: str, center: float, error: float) -> Quantity:
    """Quantity with a fixed estimate, claimed to be equal to 1."""
    found = Estimate(center, error, 1e9, "ok", is_log=True)
    cells = pd.DataFrame({"value": [1.0]})
    return Quantity(name, "", equal(), lambda _: cells, lambda _: found, "", primary=True)


def result(index: int, verdict: Verdict) -> Result:
    nothing = Estimate.without_interval("no data")
    return Result(quantity(str(index), 0, 1), pd.DataFrame(), nothing, (), verdict)


@pytest.mark.parametrize("num_primaries", [1, 4])
def test_holm_corrects_for_the_number_of_primary_quantities(num_primaries: int) -> None:
    from dataclasses import replace

    # The first lies outside the accepted range with a p-value of 0.03, the others inside it.
    margin, error = math.log(equal().upper), 0.01
    first = quantity("first", margin + 2.17 * error, error)
    others = [quantity(f"other {index}", 0.0, error) for index in range(num_primaries - 1)]
    law = replace(LAWS[0], quantities=(first, *others), facts=())
    found = judge(law, pd.DataFrame())
    assert found[0].verdict == ("contradicted" if num_primaries == 1 else "inconclusive")
    assert found[0].p_contradicted == pytest.approx(0.03 * num_primaries, rel=0.05)


@pytest.mark.parametrize("p_values", [[0.01], [0.04, 0.01, 0.03], [0.5, 0.5, 0.02, 0.9, 0.0]])
def test_adjusted_p_values_are_those_of_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected)


def test_a_law_that_holds_is_rarely_contradicted_by_any_of_its_primaries() -> None:
    from dataclasses import replace

    rng = np.random.default_rng(2)
    edge, error = math.log(equal().upper), 0.01
    contradicted = 0
    for _ in range(200):
        centers = edge + error * rng.standard_normal(5)
        quantities = tuple(quantity(f"{i}", center, error) for i, center in enumerate(centers))
        law = replace(LAWS[0], quantities=quantities, facts=())
        verdicts = [each.verdict for each in judge(law, pd.DataFrame())]
        contradicted += combine_verdicts(verdicts) == "contradicted"
    # Uncorrected, 1 - 0.975^5 = 12 % would be.
    assert contradicted / 200 <= 0.06
