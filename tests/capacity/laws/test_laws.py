"""Verdicts on every law for synthetic studies in which it holds and in which it fails."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from knowcap.capacity.laws import LAWS
from knowcap.capacity.laws.definitions import Estimate, Law, Verdict, combine_verdicts
from tests.capacity.laws.simulated_models import Simulator
from tests.capacity.laws.synthetic_studies import STUDIES, TRUE_VALUES

every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"law-{law.number}")


def estimates(law: Law, models: pd.DataFrame) -> dict[str, Estimate]:
    return {quantity.name: quantity.estimate(models) for quantity in law.quantities}


def verdict(law: Law, models: pd.DataFrame) -> Verdict:
    found = estimates(law, models)
    return combine_verdicts([(q, q.claim.verdict(found[q.name])) for q in law.quantities])


def test_there_are_twelve_laws_in_order() -> None:
    assert [law.number for law in LAWS] == list(range(1, 13))
    assert all(law.number in law.source_laws for law in LAWS)


@every_law
def test_without_noise_the_true_values_are_recovered(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    sim.noise = 1e-6
    found = estimates(law, study(sim))
    for name, truth in TRUE_VALUES[law.number].items():
        # The scale of the noise; a curve's asymptote is fitted to the optimiser's tolerance.
        assert found[name].value == pytest.approx(truth, rel=1e-3, abs=1e-4), name
        assert found[name].status == "ok", name


@every_law
def test_intervals_cover_the_true_value(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    name, truth = next(iter(TRUE_VALUES[law.number].items()))
    quantity = next(q for q in law.quantities if q.name == name)
    covered = []
    for _ in range(40):
        found = quantity.estimate(study(sim))
        covered.append(found.lower <= truth <= found.upper)
    # The covered share of 40 intervals has a standard deviation of 3.4 %; allow three of them.
    assert np.mean(covered) >= 0.95 - 0.105


@every_law
def test_a_law_that_holds_is_reproduced(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    assert verdict(law, study(sim)) == "reproduced"


@every_law
def test_a_law_that_fails_is_contradicted(sim: Simulator, law: Law) -> None:
    study, factor = STUDIES[law.number]
    assert verdict(law, study(sim, factor)) == "contradicted"


@every_law
def test_a_law_with_one_seed_is_inconclusive(sim: Simulator, law: Law) -> None:
    study, _ = STUDIES[law.number]
    sim.num_seeds = 1
    models = study(sim)
    assert verdict(law, models) == "inconclusive"
    headline = law.quantities[0].estimate(models)
    assert headline.status == "one seed"
    assert np.isfinite(headline.value)


@every_law
def test_a_law_without_models_is_not_run_and_explains_what_it_needs(
    sim: Simulator, law: Law
) -> None:
    study, _ = STUDIES[law.number]
    assert verdict(law, study(sim).iloc[:0]) == "not run"
    nothing = Estimate.without_interval("no data")
    for quantity in law.quantities:
        assert quantity.claim.explain(nothing, quantity.needs).startswith(
            "Not measured: this needs"
        )


@every_law
def test_a_law_is_not_run_on_experiments_of_other_laws(sim: Simulator, law: Law) -> None:
    if law.number in (1, 3, 4):
        pytest.skip("needs GPT2 only")
    study, _ = STUDIES[1]
    assert verdict(law, study(sim)) == "not run"


def test_only_unmodified_gpt2_informs_the_base_law(sim: Simulator) -> None:
    peak = LAWS[0].quantities[0]
    plain = sim.models([1.5])
    others = [
        {"family": "LLaMA"}, {"variation": "gated"}, {"num_moe_experts": 32},
        {"useful_share": 0.125}, {"kind": "bioR"}, {"num_versions": 1}, {"tokenizer": "Mistral"},
        {"variation": "no-tied"}, {"exposures": 100},
    ]  # fmt: skip
    mixed = pd.concat([plain, *(sim.models([3.0], **columns) for columns in others)])
    assert peak.estimate(mixed).value == pytest.approx(peak.estimate(plain).value)


def test_junk_is_repetitive_if_its_people_have_more_exposures(
    sim: Simulator,
) -> None:
    law = LAWS[10]
    mixture = {"useful_share": 0.125, "exposures": 100}
    plain = sim.models([1.0], exposures=100)
    # Seven times as many biographies as of a thousand useful people.
    for num_junk_people, status in ((6_999, "ok"), (7_001, "no data")):
        models = sim.models([1.0], num_junk_people=num_junk_people, **mixture)
        assert law.quantities[0].estimate(pd.concat([plain, models])).status == status


def test_other_quantisation_methods_are_variants_of_the_papers(sim: Simulator) -> None:
    law = LAWS[7]
    models = STUDIES[8][0](sim)
    models["precision"] = models["precision"].replace("int4", "int4_rtn")
    kept = law.quantities[1]
    assert kept.estimate(models).status == "no data"
    assert kept.variants["round to nearest"](models).value == pytest.approx(0.3, abs=0.02)
