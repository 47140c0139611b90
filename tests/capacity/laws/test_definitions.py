from __future__ import annotations

import math

import pytest

from knowcap.capacity.laws.definitions import Claim, Estimate, Quantity, Verdict, combine_verdicts

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
def test_the_verdict_depends_on_the_position_of_the_interval(
    claim: Claim, interval: tuple[float, float], verdict: Verdict
) -> None:
    estimate = Estimate(sum(interval) / 2, *interval, 5, 4, "ok")
    assert claim.verdict(estimate) == verdict


def test_an_estimate_without_an_interval_is_inconclusive() -> None:
    estimate = Estimate.without_interval("one seed", 0.1, 5, 1)
    assert FLOOR.verdict(estimate) == "inconclusive"
    assert FLOOR.explain(estimate, "models").startswith(
        "Measured 0.1, but an interval needs at least two seeds"
    )


def test_no_data_is_not_run() -> None:
    nothing = Estimate.without_interval("no data")
    assert FLOOR.verdict(nothing) == "not run"
    assert FLOOR.explain(nothing, "any models") == "Not measured: this needs any models."


def test_the_explanation_names_the_interval_and_the_accepted_range() -> None:
    explanation = FLOOR.explain(Estimate(1.8, 1.7, 1.89, 5, 4, "ok"), "models")
    assert explanation == ("The interval 1.7 to 1.89 lies outside the accepted range, 1.9 or more.")


def test_an_increasing_function_transforms_value_and_interval() -> None:
    estimate = Estimate(0.0, -1.0, 1.0, 5, 4, "ok").transform(math.exp)
    assert (estimate.lower, estimate.value, estimate.upper) == (math.exp(-1), 1, math.e)


@pytest.mark.parametrize(
    ("required", "optional", "verdict"),
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
def test_a_law_is_reproduced_if_all_required_and_all_measured_quantities_are(
    required: Verdict, optional: Verdict, verdict: Verdict
) -> None:
    def quantity(*, required: bool) -> Quantity:
        return Quantity(
            "any", "1", FLOOR, lambda _: Estimate.without_interval("no data"), "", required
        )

    found = [(quantity(required=True), required), (quantity(required=False), optional)]
    assert combine_verdicts(found) == verdict
