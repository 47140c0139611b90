from __future__ import annotations

import math

import pytest

from knowcap.capacity.laws.law import Claim, Estimate, Quantity, Verdict, combine_verdicts

FLOOR = Claim(relation="at least", value=2.0, margin=0.1, reason="for this test")
CEILING = Claim(relation="at most", value=0.5, margin=0.05, reason="for this test")
NEAR = Claim(relation="about", value=1.0, margin=0.25, reason="for this test")


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
        (NEAR, (0.8, 1.2), "reproduced"),
        (NEAR, (0.7, 0.8), "inconclusive"),
        (NEAR, (0.5, 1.5), "inconclusive"),
        (NEAR, (1.26, 1.3), "contradicted"),
        (NEAR, (0.1, 0.7), "contradicted"),
    ],
)
def test_a_verdict_is_the_place_of_the_interval(
    claim: Claim, interval: tuple[float, float], verdict: Verdict
) -> None:
    estimate = Estimate(sum(interval) / 2, *interval, 5, 4, "ok")
    assert claim.verdict(estimate) == verdict


def test_a_bare_number_decides_nothing() -> None:
    far_off = Estimate.without_interval("one seed", 0.1, 5, 1)
    assert FLOOR.verdict(far_off) == "inconclusive"
    assert FLOOR.explain(far_off, "models").startswith(
        "Measured 0.1, but one seed gives no interval"
    )


def test_nothing_measured_is_not_run() -> None:
    nothing = Estimate.without_interval("no data")
    assert FLOOR.verdict(nothing) == "not run"
    assert FLOOR.explain(nothing, "any models") == "Not measured, it needs any models."


def test_the_explanation_names_interval_and_range() -> None:
    explanation = FLOOR.explain(Estimate(1.8, 1.7, 1.89, 5, 4, "ok"), "models")
    assert explanation == (
        "The interval 1.7 to 1.89 lies outside what agrees with the claim, 1.9 or more."
    )


def test_an_increasing_function_maps_value_and_interval() -> None:
    estimate = Estimate(0.0, -1.0, 1.0, 5, 4, "ok").transformed(math.exp)
    assert (estimate.lower, estimate.value, estimate.upper) == (math.exp(-1), 1, math.e)


@pytest.mark.parametrize(
    ("needed", "also", "verdict"),
    [
        ("reproduced", "reproduced", "reproduced"),
        ("reproduced", "not run", "reproduced"),
        ("reproduced", "inconclusive", "inconclusive"),
        ("reproduced", "contradicted", "contradicted"),
        ("not run", "reproduced", "inconclusive"),
        ("not run", "not run", "not run"),
        ("inconclusive", "reproduced", "inconclusive"),
    ],
)
def test_a_law_holds_when_all_that_is_needed_and_all_that_was_run_does(
    needed: Verdict, also: Verdict, verdict: Verdict
) -> None:
    def quantity(*, needed: bool) -> Quantity:
        return Quantity(
            "any", "1", FLOOR, lambda _: Estimate.without_interval("no data"), "", needed
        )

    found = [(quantity(needed=True), needed), (quantity(needed=False), also)]
    assert combine_verdicts(found) == verdict
