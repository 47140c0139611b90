"""Bit complexity of models whose knowledge, and therefore number of bits, is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from knowcap.capacity.bit_complexity import bit_complexity, capacity_ratio
from knowcap.errors import UserError
from tests.capacity.simulated_results import biod_facts, bios_facts, oracle

CORPORA = {
    "bioS": bios_facts(1000),
    "bioD": biod_facts(300, (3, 4, 10, 5, 20)),
    "bioD with every string a chunk": biod_facts(300),
}
every_corpus = pytest.mark.parametrize("facts", CORPORA.values(), ids=CORPORA)


@every_corpus
def test_a_model_that_knows_everything_stores_the_whole_corpus(facts: dict[str, Any]) -> None:
    known = bit_complexity(oracle(facts), facts)
    np.testing.assert_allclose(known["bits"].sel(scoring="plain"), known["max_bits"], rtol=1e-12)
    np.testing.assert_allclose(
        known["bits_by_term"].sel(scoring="plain", replicate=0), known["max_bits_by_term"],
        rtol=1e-12, atol=1e-6,
    )  # fmt: skip


@every_corpus
def test_a_model_that_guesses_uniformly_stores_nothing(facts: dict[str, Any]) -> None:
    known = bit_complexity(oracle(facts, [0.0]), facts)
    np.testing.assert_allclose(known["bits"].sel(scoring="plain"), 0, atol=1e-6)


@every_corpus
def test_a_model_that_knows_half_of_the_attributes_stores_half_of_the_values(
    facts: dict[str, Any],
) -> None:
    names = [attribute["name"] for attribute in facts["attributes"]]
    half = names[::2]
    everything, nothing = oracle(facts, [1.0]), oracle(facts, [0.0])
    losses = everything.copy()
    losses["value_loss"] = xr.where(
        everything["attribute"].isin(half), everything["value_loss"], nothing["value_loss"]
    )
    known = bit_complexity(losses, facts)
    by_attribute = known["bits_by_attribute"].sel(scoring="plain", replicate=0)
    expected = known["max_bits_by_attribute"].where(known["attribute"].isin(half), 0)
    np.testing.assert_allclose(by_attribute, expected, atol=1e-6)


def test_the_bits_of_bios_are_those_of_the_paper() -> None:
    # All bits of the corpora with N = 10,000, 1,000,000 and 10,000,000.
    for num_people, megabits in [(10_000, 0.616), (1_000_000, 54.91), (10_000_000, 515.9)]:
        facts = bios_facts(num_people)
        max_bits = float(bit_complexity(oracle(facts), facts)["max_bits"])
        assert max_bits / 1e6 == pytest.approx(megabits, rel=1e-3)


def test_the_three_terms_of_biod_are_those_of_theorem_3_2() -> None:
    facts = biod_facts(300, (3, 4, 10, 5, 20))
    losses = oracle(facts)
    p1, p2, p3 = 7.0, 2.5, 1.25
    for name, loss in [("name_loss", p1), ("value_loss", p2), ("first_chunk_loss", p3)]:
        losses[name] = xr.full_like(losses[name], loss)
    terms = bit_complexity(losses, facts)["bits_by_term"].sel(scoring="plain", replicate=0)
    expected = {
        "name": 300 * math.log2(20**3 / math.exp(p1)),
        "value": 300 * 3 * math.log2(10**4 / math.exp(p2)),
        "diversity": 3 * 10 * math.log2(20**5 / (10 * math.exp(p3))),
    }
    for term, bits in expected.items():
        assert float(terms.sel(term=term)) == pytest.approx(bits, rel=1e-12), term


def test_there_is_no_diversity_term_if_every_string_is_a_chunk() -> None:
    facts = biod_facts(300, (4, 2, 11**3, 3, 11))  # 3 log2(11) rounds above log2(11^3)
    wrong = oracle(facts)
    wrong["first_chunk_loss"] = wrong["first_chunk_loss"] + 5
    terms = bit_complexity(wrong, facts)["bits_by_term"]
    assert (terms.sel(term="diversity") == 0).all()


def test_the_number_of_values_may_exceed_the_largest_float() -> None:
    facts = biod_facts(1000, (2, 50, 10_000, 50, 40_000))
    assert facts["attributes"][0]["cardinality"] > 10**199
    facts["attributes"][0]["cardinality"] = facts["attributes"][1]["cardinality"] = 10_000**100
    facts["diversity"]["num_chunks"] = 100
    known = bit_complexity(oracle(facts), facts)
    value = float(known["max_bits_by_term"].sel(term="value"))
    assert value == pytest.approx(1000 * 2 * 100 * math.log2(10_000), rel=1e-12)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(min_value=0, max_value=40), min_size=2, max_size=20))
def test_bits_are_linear_in_losses_and_never_clipped(name_losses: list[float]) -> None:
    facts = bios_facts(1000)
    losses = oracle(facts, num_evaluated=len(name_losses))
    losses["name_loss"] = (("replicate", "person"), [name_losses])
    name_bits = bit_complexity(losses, facts)["bits_by_term"].sel(
        term="name", scoring="plain", replicate=0
    )
    expected = sum(27.253496664211536 - loss / math.log(2) for loss in name_losses)
    assert float(name_bits) == pytest.approx(1000 * expected / len(name_losses), abs=1e-6)


@every_corpus
def test_a_model_worse_than_guessing_has_negative_bits(facts: dict[str, Any]) -> None:
    terms = bit_complexity(oracle(facts, [-1.0]), facts)["bits_by_term"]
    assert (terms.sel(scoring="plain", term=["name", "value"]) < 0).all()


def test_a_sample_of_the_people_represents_all() -> None:
    facts = bios_facts(1000)
    few, many = (oracle(facts, [0.4], num_evaluated=count) for count in (3, 1000))
    np.testing.assert_allclose(
        bit_complexity(few, facts)["bits"], bit_complexity(many, facts)["bits"], rtol=1e-12
    )


def test_each_scoring_has_its_own_bits() -> None:
    facts = bios_facts(1000)
    bits = bit_complexity(oracle(facts, [0.5]), facts)["bits"].sel(replicate=0)
    bits_per_nat = 1 / math.log(2)
    plain = float(bits.sel(scoring="plain"))
    values_nats = 0.5 * sum(math.log(a["cardinality"]) for a in facts["attributes"])
    assert float(bits.sel(scoring="strict")) == pytest.approx(
        plain - 1000 * 7 * 0.01 * bits_per_nat, rel=1e-12
    )
    assert float(bits.sel(scoring="in_context")) == pytest.approx(
        plain + 1000 * 0.1 * values_nats * bits_per_nat, rel=1e-12
    )
    assert float(bits.sel(scoring="chain_rule")) == pytest.approx(
        plain + 1000 * 0.05 * values_nats * bits_per_nat, rel=1e-12
    )
    for scoring, more in (("in_window", 0.02), ("given_useful", 0.03)):
        assert float(bits.sel(scoring=scoring)) == pytest.approx(
            plain - 1000 * more * bits_per_nat, rel=1e-12
        )


def test_twice_the_parameters_halve_the_ratio() -> None:
    facts = bios_facts(1000)
    known = bit_complexity(oracle(facts, [0.3, 0.6]), facts)
    one, two = capacity_ratio(known, 1000), capacity_ratio(known, 2000)
    np.testing.assert_allclose(one["capacity_ratio"], 2 * two["capacity_ratio"], rtol=1e-12)
    assert float(one["max_capacity_ratio"]) == pytest.approx(float(known["max_bits"]) / 1000)


def test_results_carry_their_units() -> None:
    facts = bios_facts(1000)
    known = bit_complexity(oracle(facts), facts)
    ratios = capacity_ratio(known, 10)
    assert {known[name].attrs["units"] for name in known.data_vars} == {"bit"}
    assert {ratios[name].attrs["units"] for name in ratios.data_vars} == {"bit/parameter"}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [(-0.5, "value_loss is -0.5 nat"), (math.nan, "not finite"), (math.inf, "not finite")],
)
def test_impossible_losses_are_errors(value: float, complaint: str) -> None:
    facts = bios_facts(1000)
    losses = oracle(facts)
    losses["value_loss"][0, 1, 2] = value
    with pytest.raises(UserError, match=f"some-run.*{complaint}"):
        bit_complexity(losses, facts)


def test_losses_rounded_below_zero_are_no_error() -> None:
    facts = bios_facts(1000)
    losses = oracle(facts)
    losses["value_loss"] = losses["value_loss"] - 1e-6
    bit_complexity(losses, facts)


def test_missing_losses_are_errors() -> None:
    facts = biod_facts(300, (4, 2, 10, 1, 256))
    with pytest.raises(UserError, match="first_chunk_loss missing"):
        bit_complexity(oracle(facts).drop_vars("first_chunk_loss"), facts)


def test_losses_of_other_attributes_are_errors() -> None:
    with pytest.raises(UserError, match=r"ID 1.*birth_date"):
        bit_complexity(oracle(biod_facts(300)), bios_facts(1000))


def test_a_model_that_knows_everything_attains_what_the_wording_allows() -> None:
    facts = bios_facts(1000) | {"name_floor": 3.0}
    for bits, attribute in enumerate(facts["attributes"]):
        attribute["wording_floor"] = 0.1 * bits
    losses = oracle(facts)
    losses["name_loss"] = losses["name_loss"] + 3 * math.log(2)
    floors = np.array([0.1 * bits for bits in range(6)]) * math.log(2)
    losses["value_loss"] = losses["value_loss"] + floors
    known = bit_complexity(losses, facts)
    attainable = float(known["attainable_bits"])
    np.testing.assert_allclose(known["bits"].sel(scoring="plain"), attainable, rtol=1e-12)
    assert float(known["max_bits"]) - attainable == pytest.approx(1000 * (3 + 1.5))
    ratio = capacity_ratio(known, 500)["attainable_capacity_ratio"]
    assert float(ratio) == pytest.approx(attainable / 500)


def test_facts_without_floors_have_none() -> None:
    facts = bios_facts(1000)
    known = bit_complexity(oracle(facts), facts)
    assert float(known["attainable_bits"]) == float(known["max_bits"])


def test_names_given_useful_are_missing_if_they_were_not_measured() -> None:
    facts = bios_facts(1000)
    losses = oracle(facts).drop_vars("name_loss_given_useful")
    bits = bit_complexity(losses, facts)["bits"]
    assert bits.sel(scoring="given_useful").isnull().all()
    assert bits.sel(scoring="in_window").notnull().all()
    with pytest.raises(UserError, match="name_loss_in_window missing"):
        bit_complexity(losses.drop_vars("name_loss_in_window"), facts)


@every_corpus
def test_a_model_that_knows_half_of_the_people_stores_half_of_the_corpus(
    facts: dict[str, Any],
) -> None:
    everything, nothing = oracle(facts, num_evaluated=6), oracle(facts, [0.0], num_evaluated=6)
    known = bit_complexity(xr.where(everything["person"] < 3, everything, nothing), facts)
    half = known["max_bits"] / 2
    np.testing.assert_allclose(known["bits"].sel(scoring="plain", replicate=0), half, rtol=1e-12)
